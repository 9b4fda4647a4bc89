/**
 * Keys and ids. One secret per key domain gives, by HKDF-SHA-256 under distinct labels, every key the domain needs; each
 * kind of id has a key of its own, so an id of one kind says nothing about any other, and nothing here is an unkeyed
 * digest of user data. docs/format/packs.md has the table of labels.
 *
 * What is derived is plain bytes and can be cloned to another thread. Nobody writes into these arrays after they were
 * made: prepared hashes are remembered by the identity of the key's array.
 */
import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  hash,
  hkdfSync,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto';
import { ByteWriter, compareBytes, emptyBytes, utf8Bytes } from '../model/bytes.ts';
import { HoldfastError, invariant } from '../model/errors.ts';
import { type ContentId, type NodeId, toContentId, toNodeId, type VolumeName } from '../model/ids.ts';

/** What one key domain hashes, cuts and signs with; see the file's comment. */
export interface DomainKeys {
  /** 32 bytes, for `contentId`. */
  readonly contentIdKey: Uint8Array;
  /** 32 bytes, for `nodeId`. */
  readonly nodeIdKey: Uint8Array;
  /** 32 bytes, for `setRoot`. */
  readonly setIdKey: Uint8Array;
  /** 16 bytes, SipHash key of the tree's node boundaries. */
  readonly boundaryKey: Uint8Array;
  /** 256 words, one per byte value, of the chunker. */
  readonly gearTable: Uint32Array;
  /** 32 bytes, Ed25519 seed of the domain's signatures on records. */
  readonly signingSeed: Uint8Array;
  /** 32 bytes, for the tags that stand where ciphertext tags would, in a repository without encryption. */
  readonly plainTagKey: Uint8Array;
}

/** One generation of the key that encrypts packs and records. */
export interface DataKey {
  /** 1 and up; stands in every pack header and in the additional data. */
  readonly generation: number;
  /** 32 bytes, or undefined with encryption `none`. */
  readonly key: Uint8Array | undefined;
  /** The domain's key for tags without encryption; needed when `key` is undefined. */
  readonly plainTagKey: Uint8Array;
}

export const secretBytes = 32;

/** Derives the keys of a domain from its 32-byte secret. */
export function deriveDomainKeys(domainSecret: Uint8Array): DomainKeys {
  invariant(domainSecret.length === secretBytes, 'a domain secret has 32 bytes');
  const derive = (label: string, bytes: number): Uint8Array =>
    deriveKey(domainSecret, emptyBytes, utf8Bytes(label), bytes);
  return {
    contentIdKey: derive('holdfast/1/content-id', 32),
    nodeIdKey: derive('holdfast/1/node-id', 32),
    setIdKey: derive('holdfast/1/set-id', 32),
    boundaryKey: derive('holdfast/1/boundary', 16),
    gearTable: littleEndianWords(derive('holdfast/1/chunker', 1024)),
    signingSeed: derive('holdfast/1/signing', 32),
    plainTagKey: derive('holdfast/1/plain-tag', 32),
  };
}

/** HKDF-SHA-256 (RFC 5869), extract and expand; at most 8160 bytes. */
export function deriveKey(secret: Uint8Array, salt: Uint8Array, info: Uint8Array, bytes: number): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', secret, salt, info, bytes));
}

function littleEndianWords(bytes: Uint8Array): Uint32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Uint32Array.from({ length: bytes.length / 4 }, (_, i) => view.getUint32(4 * i, true));
}

/** Id of a chunk: HMAC-SHA-256 of `bytes` from `start` up to `end` under the content-id key. */
export function contentId(keys: DomainKeys, bytes: Uint8Array, start: number, end: number): ContentId {
  return toContentId(hmac256(keys.contentIdKey, bytes, start, end));
}

/** Id of a tree node: HMAC-SHA-256 of its logical part under the node-id key. */
export function nodeId(keys: DomainKeys, logical: Uint8Array): NodeId {
  return toNodeId(hmac256(keys.nodeIdKey, logical, 0, logical.length));
}

/**
 * Root of a set, 32 bytes: HMAC-SHA-256, under the set-id key, of a varint count and, sorted by name, each volume's name as
 * a blob and the 32-byte id of its tree's root. A name may stand there once only.
 */
export function setRoot(
  keys: DomainKeys,
  volumes: readonly { readonly name: VolumeName; readonly id: NodeId }[],
): Uint8Array {
  const sorted = volumes.map(({ name, id }) => ({ name: utf8Bytes(name), id }));
  sorted.sort((a, b) => compareBytes(a.name, b.name));
  const list = new ByteWriter();
  list.varint(sorted.length);
  for (const [i, { name, id }] of sorted.entries()) {
    const before = sorted[i - 1];
    invariant(before === undefined || compareBytes(before.name, name) < 0, 'a volume stands once in a set');
    list.blob(name);
    list.raw(id);
  }
  return hmac256(keys.setIdKey, list.view(), 0, list.length);
}

const blockBytes = 64;
/** Above this the copy costs as much as the set-up of an HMAC object saves. */
const oneShotBytesMax = 16 * 1024;
/** Inner message of an HMAC: the key's block, then the input. Shared, since every hash here is synchronous. */
const inner = new Uint8Array(blockBytes + oneShotBytesMax);

interface PreparedHmac {
  readonly innerBlock: Uint8Array;
  /** The key's outer block, then room for the inner digest. */
  readonly outer: Uint8Array;
}

const prepared = new WeakMap<Uint8Array, PreparedHmac>();

/**
 * HMAC-SHA-256 with a 32-byte key. A million small files are hashed one by one: two one-shot hashes of ready blocks take
 * 0.85 us for 200 bytes, where an HMAC object takes 2.2 us. Digests are taken as Latin-1 text, because a 32-character
 * string is made faster than a buffer with memory of its own.
 */
export function hmac256(key: Uint8Array, bytes: Uint8Array, start: number, end: number): Uint8Array {
  const length = end - start;
  invariant(start >= 0 && length >= 0 && end <= bytes.length, 'range to hash lies inside its buffer');
  if (length > oneShotBytesMax) {
    return new Uint8Array(createHmac('sha256', key).update(bytes.subarray(start, end)).digest());
  }
  let blocks = prepared.get(key);
  if (blocks === undefined) {
    blocks = prepareHmac(key);
    prepared.set(key, blocks);
  }
  inner.set(blocks.innerBlock, 0);
  inner.set(bytes.subarray(start, end), blockBytes);
  const innerDigest = hash('sha256', inner.subarray(0, blockBytes + length), 'latin1');
  for (let i = 0; i < 32; i++) blocks.outer[blockBytes + i] = innerDigest.charCodeAt(i);
  const digest = hash('sha256', blocks.outer, 'latin1');
  const id = new Uint8Array(32);
  for (let i = 0; i < 32; i++) id[i] = digest.charCodeAt(i);
  return id;
}

function prepareHmac(key: Uint8Array): PreparedHmac {
  invariant(key.length === 32, 'an HMAC key has 32 bytes');
  const innerBlock = new Uint8Array(blockBytes).fill(0x36);
  const outer = new Uint8Array(blockBytes + 32).fill(0x5c);
  for (const [i, byte] of key.entries()) {
    innerBlock[i] = 0x36 ^ byte;
    outer[i] = 0x5c ^ byte;
  }
  return { innerBlock, outer };
}

export const publicKeyBytes = 32;
export const signatureBytes = 64;

/** RFC 8410: an Ed25519 private key in PKCS #8 is this prefix and the seed; a public one in SPKI likewise. */
const pkcs8Prefix = Uint8Array.of(0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20);
const spkiPrefix = Uint8Array.of(0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0);

const privateKeys = new WeakMap<Uint8Array, KeyObject>();

function privateKeyOf(seed: Uint8Array): KeyObject {
  let key = privateKeys.get(seed);
  if (key === undefined) {
    invariant(seed.length === 32, 'an Ed25519 seed has 32 bytes');
    key = createPrivateKey({ key: joined(pkcs8Prefix, seed), format: 'der', type: 'pkcs8' });
    privateKeys.set(seed, key);
  }
  return key;
}

/** The raw 32-byte public key that belongs to an Ed25519 seed. */
export function publicKeyOf(seed: Uint8Array): Uint8Array {
  const spki = createPublicKey(privateKeyOf(seed)).export({ format: 'der', type: 'spki' });
  return new Uint8Array(spki.subarray(spki.length - publicKeyBytes));
}

/** Ed25519 signature, 64 bytes. */
export function signMessage(seed: Uint8Array, message: Uint8Array): Uint8Array {
  return new Uint8Array(sign(null, message, privateKeyOf(seed)));
}

/** False for a wrong signature and for one, or a public key, that is not well-formed; never throws on untrusted bytes. */
export function verifySignature(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== publicKeyBytes || signature.length !== signatureBytes) return false;
  try {
    const key = createPublicKey({ key: joined(spkiPrefix, publicKey), format: 'der', type: 'spki' });
    return verify(null, message, key, signature);
  } catch {
    return false;
  }
}

/** The same as one Buffer, which is what createPrivateKey takes. */
function joined(prefix: Uint8Array, rest: Uint8Array): Buffer {
  return Buffer.concat([prefix, rest]);
}

/** Checks what a repository or its key gave before it is used as a data key. */
export function toDataKey(generation: number, key: Uint8Array | undefined, plainTagKey: Uint8Array): DataKey {
  if (!Number.isSafeInteger(generation) || generation < 1 || generation > 0xffff_ffff) {
    throw new HoldfastError('E_DAMAGED', `data key generation ${generation} is out of range`);
  }
  if (key !== undefined && key.length !== secretBytes)
    throw new HoldfastError('E_DAMAGED', 'data key has not 32 bytes');
  return { generation, key, plainTagKey };
}
