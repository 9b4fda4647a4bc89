/**
 * The keys of one workload as text: what a pod of it needs to read and continue its checkpoints, and nothing that opens another's.
 * docs/format/packs.md, "Grant".
 */
import { hash } from 'node:crypto';
import { concatBytes, fromHex, toHex, utf8Bytes } from '../model/bytes.ts';
import { HoldfastError } from '../model/errors.ts';

export interface KeyGrant {
  /** Those of the repository key that it was made with. */
  readonly keyId: string;
  readonly publicKey: Uint8Array;
  readonly domain: string;
  /** What the repository key unwraps for this domain, by the context that it was wrapped for. */
  readonly secrets: ReadonlyMap<string, Uint8Array>;
}

const grantLine = /^holdfast-grant-([1-9]\d{0,3}) ([0-9a-f]+) ([0-9a-f]{8})$/;

export function isKeyGrant(line: string): boolean {
  return line.startsWith('holdfast-grant-');
}

/** With a comment that says what it is. */
export function printKeyGrant({ keyId, publicKey, domain, secrets }: KeyGrant): string {
  const content = utf8Bytes(
    JSON.stringify({
      keyId,
      publicKey: toHex(publicKey),
      domain,
      secrets: Object.fromEntries([...secrets].map(([context, secret]) => [context, toHex(secret)])),
    }),
  );
  return `# The keys of ${domain} in a Holdfast repository. Who has them can read and continue its checkpoints, and no others.
holdfast-grant-1 ${toHex(content)} ${checksum(content)}
`;
}

/** `what` names it in errors. E_KEY_WRONG when it is not whole, E_FORMAT_NEWER when a newer Holdfast made it. */
export function parseKeyGrant(line: string, what: string): KeyGrant {
  const [, version, hex, digits] = grantLine.exec(line) ?? [];
  if (version !== undefined && version !== '1') {
    throw new HoldfastError(
      'E_FORMAT_NEWER',
      `${what}: the grant has version ${version}, this Holdfast knows version 1`,
    );
  }
  const content = fromHex(hex ?? '');
  if (content === undefined || content.length === 0 || checksum(content) !== digits) throw damaged(what);
  try {
    const { keyId, publicKey, domain, secrets } = JSON.parse(new TextDecoder().decode(content)) as Record<
      string,
      unknown
    >;
    return {
      keyId: textOf(keyId),
      publicKey: bytesOf(publicKey),
      domain: textOf(domain),
      secrets: new Map(Object.entries(secrets as object).map(([context, secret]) => [context, bytesOf(secret)])),
    };
  } catch {
    throw damaged(what);
  }
}

function textOf(value: unknown): string {
  if (typeof value !== 'string' || value === '') throw new TypeError('not a text');
  return value;
}

function bytesOf(value: unknown): Uint8Array {
  const bytes = fromHex(textOf(value));
  if (bytes === undefined) throw new TypeError('not bytes');
  return bytes;
}

function damaged(what: string): HoldfastError {
  return new HoldfastError('E_KEY_WRONG', `${what}: does not hold one whole grant`, {
    remedy: 'The grant was cut or changed; make it anew with: holdfast keys grant.',
  });
}

/** Finds what was cut or mistyped; says nothing that the keys beside it do not. */
function checksum(content: Uint8Array): string {
  return hash('sha256', concatBytes([utf8Bytes('holdfast/1/key-grant'), content]), 'hex').slice(0, 8);
}
