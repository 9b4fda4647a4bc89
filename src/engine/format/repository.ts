/**
 * The two objects that everything else hangs on: the repository object, and the wrapped keys of a domain.
 * docs/format.md, "Repository object" and "Domain keys". Reading and writing them in a store is lineage/repository.ts.
 */
import { hash } from 'node:crypto';
import { ByteReader, ByteWriter, concatBytes, equalBytes, fromHex, toHex } from '../model/bytes.ts';
import { HoldfastError, invariant } from '../model/errors.ts';
import { type Envelope, envelopeOf, parseEnvelope, refuseNewer } from './envelope.ts';
import { publicKeyBytes, verifySignature } from './keys.ts';
import { formatVersion, objectType } from './versions.ts';

export type Encryption = 'aes-256-gcm' | 'none';

export const repositoryObjectBytesMax = 4096;
export const domainKeyObjectBytesMax = 8192;
const keyIdTextMax = 256;
const wrappedBytesMax = 2048;

export interface RepositoryObject {
  /** 16 random bytes, in hexadecimal. */
  readonly id: string;
  readonly formatVersion: number;
  readonly encryption: Encryption;
  readonly createdMs: number;
  /** Which repository key, and its public half; empty without encryption. */
  readonly keyId: string;
  readonly publicKey: Uint8Array;
  /** Whether the store was seen to refuse overwriting when the repository was made; false: it was used in spite of that. */
  readonly createOnly: boolean;
}

/** One generation of a domain's keys. */
export interface DomainKeyObject {
  readonly repository: string;
  readonly domain: string;
  /** 1 and up; the newest encrypts, all of them decrypt. */
  readonly generation: number;
  readonly createdMs: number;
  /** Ed25519 public key of the domain; the same in every generation. */
  readonly publicKey: Uint8Array;
  /** Wrapped by the repository key; in clear without encryption. The same secret in every generation. */
  readonly domainSecret: Uint8Array;
  /** Wrapped by the repository key; empty without encryption. */
  readonly dataKey: Uint8Array;
}

const encryptionCode: Readonly<Record<Encryption, number>> = { 'aes-256-gcm': 1, none: 2 };
const createOnlyCode = 1;
const unfencedCode = 2;
const encryptions: readonly (Encryption | undefined)[] = [undefined, 'aes-256-gcm', 'none'];

/** What the repository's signature covers; the object is this followed by the seal. */
export function repositoryObjectToSeal(repository: RepositoryObject): Uint8Array {
  const w = new ByteWriter();
  const id = fromHex(repository.id);
  invariant(id?.length === 16, 'a repository id is 16 bytes in hexadecimal');
  w.raw(id);
  w.varint(repository.formatVersion);
  w.u8(encryptionCode[repository.encryption]);
  w.signed(repository.createdMs);
  w.text(repository.keyId);
  w.blob(repository.publicKey);
  w.u8(repository.createOnly ? createOnlyCode : unfencedCode);
  return envelopeOf(objectType.repository, w.view());
}

/** E_DAMAGED when it is not a repository object or was changed; E_FORMAT_NEWER when this code cannot use the repository. */
export function readRepositoryObject(bytes: Uint8Array): RepositoryObject {
  const what = 'repository object';
  const envelope = parseEnvelope(bytes, objectType.repository, what);
  if (envelope.bytes !== bytes.length) throw new HoldfastError('E_DAMAGED', `${what}: bytes after its end`);
  refuseNewer(envelope, objectType.repository, what);
  const r = new ByteReader(envelope.payload, what);
  const id = toHex(r.raw(16));
  const version = r.varint();
  const encryption = encryptions[r.u8()];
  // What follows may look otherwise in a format that is not known here.
  if (version > formatVersion || encryption === undefined) {
    throw new HoldfastError(
      'E_FORMAT_NEWER',
      `the repository has format ${version}; this Holdfast knows ${formatVersion}`,
    );
  }
  const createdMs = r.signed();
  const keyId = r.text(keyIdTextMax);
  const publicKey = r.blob(publicKeyBytes).slice();
  const verdict = r.u8();
  r.end();
  const encrypted = encryption !== 'none';
  if (version < 1 || encrypted !== keyId.length > 0 || publicKey.length !== (encrypted ? publicKeyBytes : 0)) {
    throw new HoldfastError('E_DAMAGED', `${what}: its fields contradict each other`);
  }
  if (verdict !== createOnlyCode && verdict !== unfencedCode) {
    throw new HoldfastError('E_DAMAGED', `${what}: it has no verdict on its store`);
  }
  checkSeal(envelope, publicKey, what);
  return {
    id,
    formatVersion: version,
    encryption,
    createdMs,
    keyId,
    publicKey,
    createOnly: verdict === createOnlyCode,
  };
}

export function domainKeyObjectToSeal(key: DomainKeyObject): Uint8Array {
  const w = new ByteWriter();
  const id = fromHex(key.repository);
  invariant(id?.length === 16, 'a repository id is 16 bytes in hexadecimal');
  w.raw(id);
  w.text(key.domain);
  w.varint(key.generation);
  w.signed(key.createdMs);
  w.raw(key.publicKey);
  w.blob(key.domainSecret);
  w.blob(key.dataKey);
  return envelopeOf(objectType.domainKey, w.view());
}

/** E_DAMAGED unless it is a genuine key object of that repository, domain and generation; E_FORMAT_NEWER as above. */
export function readDomainKeyObject(
  bytes: Uint8Array,
  expected: { readonly repository: RepositoryObject; readonly domain: string; readonly generation: number },
): DomainKeyObject {
  const what = `key ${expected.generation} of domain ${expected.domain}`;
  const envelope = parseEnvelope(bytes, objectType.domainKey, what);
  if (envelope.bytes !== bytes.length) throw new HoldfastError('E_DAMAGED', `${what}: bytes after its end`);
  checkSeal(envelope, expected.repository.publicKey, what);
  refuseNewer(envelope, objectType.domainKey, what);
  const r = new ByteReader(envelope.payload, what);
  const repository = toHex(r.raw(16));
  const domain = r.text(512);
  const generation = r.varint(0xffff_ffff);
  if (repository !== expected.repository.id || domain !== expected.domain || generation !== expected.generation) {
    throw new HoldfastError('E_DAMAGED', `${what}: it belongs to key ${generation} of domain ${domain}`);
  }
  const createdMs = r.signed();
  const publicKey = r.raw(publicKeyBytes).slice();
  const domainSecret = r.blob(wrappedBytesMax).slice();
  const dataKey = r.blob(wrappedBytesMax).slice();
  r.end();
  return { repository, domain, generation, createdMs, publicKey, domainSecret, dataKey };
}

/** The seal of a repository without encryption: SHA-512, which finds damage and proves nothing. */
export function plainSeal(sealed: Uint8Array): Uint8Array {
  return new Uint8Array(hash('sha512', sealed, 'buffer'));
}

export function withSeal(sealed: Uint8Array, seal: Uint8Array): Uint8Array {
  return concatBytes([sealed, seal]);
}

function checkSeal(envelope: Envelope, publicKey: Uint8Array, what: string): void {
  const genuine =
    publicKey.length > 0
      ? verifySignature(publicKey, envelope.sealed, envelope.seal)
      : equalBytes(plainSeal(envelope.sealed), envelope.seal);
  if (!genuine) throw new HoldfastError('E_DAMAGED', `${what}: its seal does not match`);
}
