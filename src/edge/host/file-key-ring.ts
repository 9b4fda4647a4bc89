/**
 * The repository key in a file.
 *
 * Invariants: a key file is never overwritten, it is there whole or not at all, and only its owner may read it; a key that was
 * mistyped or cut is told from a key that belongs to another repository. docs/format/packs.md, "Key file".
 */
import { createCipheriv, createDecipheriv, hash } from 'node:crypto';
import { type FileHandle, link, open, realpath, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { isKeyGrant, type KeyGrant, parseKeyGrant } from '../../engine/format/key-grant.ts';
import { deriveKey, publicKeyOf, secretBytes, signMessage } from '../../engine/format/keys.ts';
import { ByteWriter, concatBytes, emptyBytes, equalBytes, toHex, utf8Bytes } from '../../engine/model/bytes.ts';
import { HoldfastError, invariant } from '../../engine/model/errors.ts';
import type { KeyRing } from '../../engine/ports/key-ring.ts';
import type { RandomSource } from '../../engine/ports/random.ts';

export interface OpenKeyOptions {
  /**
   * Called, with what to tell the user, when the group or others may read the file. Without it such a file is refused. Not said of
   * a Secret that Kubernetes mounts.
   */
  readonly onExposed?: (message: string) => void;
}

/** A grant holds a secret for each generation of data keys. */
const fileBytesMax = 64 * 1024;
const comment = `# The key of a Holdfast repository. Who has it can read everything in the repository; without it
# nobody can. Keep a copy in another place.
`;
const keyLine = /^holdfast-key-([1-9]\d{0,3}) ([A-Za-z0-9_-]+) ([0-9a-f]{8})$/;

/**
 * Makes a new key and its file, mode 0600, durable when this resolves. E_USAGE when something stands at `path` already, or
 * when no file can be made there.
 */
export async function createKeyFile(path: string, random: RandomSource): Promise<KeyRing> {
  const key = random.bytes(secretBytes);
  const text = `${comment}holdfast-key-1 ${Buffer.from(key).toString('base64url')} ${checksum(key)}\n`;
  const temporary = join(dirname(path), `.${basename(path)}.${toHex(random.bytes(8))}`);
  try {
    await writeNewFile(temporary, text);
    try {
      // Unlike a rename, a link refuses to replace what is there.
      await link(temporary, path);
    } finally {
      await unlink(temporary);
    }
    await syncDirectory(dirname(path));
  } catch (cause) {
    throw cannotCreate(path, cause);
  }
  return new FileKeyRing(key, random);
}

function cannotCreate(path: string, cause: unknown): HoldfastError {
  const errno = errnoOf(cause);
  if (errno === 'EEXIST') {
    return new HoldfastError('E_USAGE', `${path} exists already, and a key is never overwritten`, {
      cause,
      remedy: 'Choose another --key-file for the new repository.',
    });
  }
  return new HoldfastError('E_USAGE', `no key file can be made at ${path}: ${errno}`, {
    cause,
    remedy: 'Give --key-file a place that this user may write to, on a file system with permissions and hard links.',
  });
}

async function writeNewFile(path: string, text: string): Promise<void> {
  await using file = await open(path, 'wx', 0o600);
  try {
    await file.chmod(0o600);
    await file.writeFile(text);
    await file.sync();
  } catch (error) {
    await unlink(path);
    throw error;
  }
}

async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, 'r');
  await directory.sync();
}

/**
 * Opens a key file. E_KEY_MISSING when there is none, it cannot be read, or others may read it; E_KEY_WRONG when it does not
 * hold a whole key; E_FORMAT_NEWER when a newer Holdfast made it.
 */
export async function openKeyFile(path: string, random: RandomSource, options: OpenKeyOptions = {}): Promise<KeyRing> {
  let text: string;
  try {
    await using file = await open(path, 'r');
    await checkExposure(file, path, options);
    text = await readBounded(file);
  } catch (cause) {
    if (cause instanceof HoldfastError) throw cause;
    const errno = errnoOf(cause);
    throw new HoldfastError('E_KEY_MISSING', `key file ${path} cannot be read: ${errno}`, { cause });
  }
  return keyRingFromText(text, random, `key file ${path}`);
}

/**
 * A file of a Secret that Kubernetes mounts: the kubelet writes into a directory named for the time, to which `..data` leads. It belongs
 * to root, so the user of a container can only read it by its mode; who reads it is decided by who mounts it.
 */
const mountedSecret = /\/\.\.\d{4}(?:_\d\d){5}\.\d+\/[^/]+$/;

async function checkExposure(file: FileHandle, path: string, { onExposed }: OpenKeyOptions): Promise<void> {
  const stat = await file.stat();
  const mode = stat.mode & 0o777;
  if (!stat.isFile() || (mode & 0o077) === 0) return;
  if ((mode & 0o022) === 0 && mountedSecret.test(await realpath(path))) return;
  const message = `key file ${path} is open to others (mode ${mode.toString(8).padStart(4, '0')})`;
  if (onExposed === undefined) {
    throw new HoldfastError('E_KEY_MISSING', message, {
      remedy: `Keep it to its owner: chmod 600 ${path}. If it may have been read, copy to a new repository with a new key.`,
    });
  }
  onExposed(message);
}

/** Works for a pipe as well; a file that is too large is cut and then is no key. */
async function readBounded(file: FileHandle): Promise<string> {
  const buffer = Buffer.alloc(fileBytesMax);
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length, null);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return buffer.toString('latin1', 0, length);
}

/** The key, or the grant, in the text of a key file, wherever that came from; `what` names it in errors, which are those of `openKeyFile`. */
export function keyRingFromText(text: string, random: RandomSource, what: string): KeyRing {
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  const found = lines.filter((line) => line !== '' && !line.startsWith('#'));
  const [first] = found;
  if (first !== undefined && found.length === 1 && isKeyGrant(first))
    return new GrantKeyRing(parseKeyGrant(first, what));
  const match = keyLine.exec(first ?? '');
  const mistyped = (why: string) =>
    new HoldfastError('E_KEY_WRONG', `${what}: ${why}`, {
      remedy: 'The key was mistyped, cut or changed; take it from a copy. A whole key looks like: holdfast-key-1 … ….',
    });
  if (match === null || found.length > 1) throw mistyped('does not hold one whole key');
  if (match[1] !== '1') {
    throw new HoldfastError(
      'E_FORMAT_NEWER',
      `${what}: the key has version ${match[1]}, this Holdfast knows version 1`,
    );
  }
  const key = new Uint8Array(Buffer.from(match[2] as string, 'base64url'));
  // Base64 has spellings that decode alike; only the one that was written counts.
  const canonical = Buffer.from(key).toString('base64url') === match[2];
  if (key.length !== secretBytes || !canonical || checksum(key) !== match[3])
    throw mistyped('its check digits do not fit');
  return new FileKeyRing(key, random);
}

/** Finds typing mistakes; says nothing that the key beside it does not. */
function checksum(key: Uint8Array): string {
  return hash('sha256', concatBytes([utf8Bytes('holdfast/1/key-file'), key]), 'hex').slice(0, 8);
}

function errnoOf(error: unknown): string {
  return (error as NodeJS.ErrnoException)?.code ?? String(error);
}

const wrapVersion = 1;
const keyIdBytes = 8;
const wrapHeadBytes: number = 1 + keyIdBytes + 32;
const tagBytes = 16;
const wrappedBytesMax = 64 * 1024;

/**
 * Wraps with a key of its own per secret, so that no nonce is ever used twice:
 * u8 version, 8 B key id, 32 B random salt, AES-256-GCM ciphertext, 16 B tag.
 */
class FileKeyRing implements KeyRing {
  readonly keyId: string;
  readonly publicKey: Uint8Array;
  readonly #key: Uint8Array;
  readonly #keyIdBytes: Uint8Array;
  readonly #signingSeed: Uint8Array;
  readonly #random: RandomSource;

  constructor(key: Uint8Array, random: RandomSource) {
    this.#key = key;
    this.#random = random;
    this.#keyIdBytes = deriveKey(key, emptyBytes, utf8Bytes('holdfast/1/key-id'), keyIdBytes);
    this.keyId = toHex(this.#keyIdBytes);
    this.#signingSeed = deriveKey(key, emptyBytes, utf8Bytes('holdfast/1/repository-signing'), 32);
    this.publicKey = publicKeyOf(this.#signingSeed);
  }

  async wrap(secret: Uint8Array, context: string): Promise<Uint8Array> {
    invariant(secret.length <= wrappedBytesMax, 'what is wrapped is small');
    const head = concatBytes([Uint8Array.of(wrapVersion), this.#keyIdBytes, this.#random.bytes(32)]);
    const cipher = createCipheriv('aes-256-gcm', this.#wrappingKey(head), new Uint8Array(12), {
      authTagLength: tagBytes,
    });
    cipher.setAAD(additionalData(head, context));
    const sealed = cipher.update(secret);
    cipher.final();
    return concatBytes([head, sealed, cipher.getAuthTag()]);
  }

  async unwrap(wrapped: Uint8Array, context: string): Promise<Uint8Array> {
    if (wrapped.length < wrapHeadBytes + tagBytes || wrapped.length > wrapHeadBytes + wrappedBytesMax + tagBytes) {
      throw new HoldfastError('E_DAMAGED', `wrapped key (${context}) has ${wrapped.length} bytes`);
    }
    if (wrapped[0] !== wrapVersion)
      throw new HoldfastError('E_DAMAGED', `wrapped key (${context}) has version ${wrapped[0]}`);
    const named = wrapped.subarray(1, 1 + keyIdBytes);
    // Tried with this key's own id in any case: when it opens then, only the id was damaged.
    const secret = this.#open(wrapped, context);
    if (equalBytes(named, this.#keyIdBytes)) {
      if (secret === undefined) throw new HoldfastError('E_DAMAGED', `wrapped key (${context}) was changed`);
      return secret;
    }
    if (secret !== undefined) throw new HoldfastError('E_DAMAGED', `wrapped key (${context}) names another key`);
    throw new HoldfastError(
      'E_KEY_WRONG',
      `key ${toHex(named)} wrapped the secret of ${context}, this is ${this.keyId}`,
    );
  }

  async sign(message: Uint8Array): Promise<Uint8Array> {
    return signMessage(this.#signingSeed, message);
  }

  #open(wrapped: Uint8Array, context: string): Uint8Array | undefined {
    const head = wrapped.slice(0, wrapHeadBytes);
    head.set(this.#keyIdBytes, 1);
    const decipher = createDecipheriv('aes-256-gcm', this.#wrappingKey(head), new Uint8Array(12), {
      authTagLength: tagBytes,
    });
    decipher.setAAD(additionalData(head, context));
    decipher.setAuthTag(wrapped.subarray(wrapped.length - tagBytes));
    const secret = decipher.update(wrapped.subarray(wrapHeadBytes, wrapped.length - tagBytes));
    try {
      decipher.final();
    } catch {
      return undefined;
    }
    return new Uint8Array(secret);
  }

  #wrappingKey(head: Uint8Array): Uint8Array {
    return deriveKey(this.#key, head.subarray(1 + keyIdBytes), utf8Bytes('holdfast/1/wrap'), 32);
  }
}

/** The keys of one workload, without the repository key: they open what they were made for, and nothing else can be asked of them. */
class GrantKeyRing implements KeyRing {
  readonly keyId: string;
  readonly publicKey: Uint8Array;
  readonly #grant: KeyGrant;

  constructor(grant: KeyGrant) {
    this.keyId = grant.keyId;
    this.publicKey = grant.publicKey;
    this.#grant = grant;
  }

  async wrap(_secret: Uint8Array, context: string): Promise<Uint8Array> {
    throw this.#beyond(`make ${context}`);
  }

  async unwrap(_wrapped: Uint8Array, context: string): Promise<Uint8Array> {
    const secret = this.#grant.secrets.get(context);
    if (secret === undefined) throw this.#beyond(`open ${context}`);
    return secret;
  }

  async sign(_message: Uint8Array): Promise<Uint8Array> {
    throw this.#beyond('sign for the repository');
  }

  #beyond(what: string): HoldfastError {
    return new HoldfastError('E_KEY_WRONG', `these are the keys of ${this.#grant.domain} alone, which cannot ${what}`, {
      remedy: `Where its data keys were rotated since, make the grant anew: holdfast keys grant. For everything else use the repository key.`,
    });
  }
}

function additionalData(head: Uint8Array, context: string): Uint8Array {
  const writer = new ByteWriter();
  writer.text('holdfast/1/wrapped-key');
  writer.raw(head);
  writer.text(context);
  return writer.take();
}
