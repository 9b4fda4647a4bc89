/** Digest of a file's content for comparing trees: over the blocks that are not all zero, so that holes cost nothing. */
import { createHash, type Hash } from 'node:crypto';

export const digestBlockBytes = 4096;

const zeros = new Uint8Array(digestBlockBytes);

export class TreeDigest {
  readonly #hash: Hash = createHash('sha256');

  /** Blocks come in order; the last of a file is filled up with zeros. */
  add(index: number, block: Uint8Array): void {
    if (Buffer.compare(block, zeros) === 0) return;
    this.#hash.update(`${index}:`).update(block);
  }

  text(size: number): string {
    return this.#hash.update(`=${size}`).digest('hex').slice(0, 24);
  }
}

/** Bytes as printable ASCII, everything else and backslashes as \xNN. */
export function printable(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) {
    const plain = byte >= 0x20 && byte < 0x7f && byte !== 0x5c;
    text += plain ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`;
  }
  return text;
}

/** One line of a description of a tree. */
export function treeLine(entry: {
  readonly path: string;
  readonly mode: number;
  readonly owner: string | undefined;
  readonly mtimeNs: bigint;
  readonly xattrs: readonly (readonly [Uint8Array, Uint8Array])[];
  readonly content: string;
}): string {
  const { path, mode, owner, mtimeNs, xattrs, content } = entry;
  const attributes = [...xattrs]
    .sort(([a], [b]) => Buffer.compare(a, b))
    .map(([name, value]) => `${printable(name)}=${printable(value)}`);
  return [path, mode.toString(8), owner, `@${mtimeNs}`, ...attributes, content]
    .filter((part) => part !== undefined && part !== '')
    .join(' ');
}
