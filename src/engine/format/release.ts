/**
 * The release of a suspect checkpoint: a person says that what looked like a loss was meant. It counts for the one record whose
 * digest it names. docs/format.md, "Releases".
 */
import { ByteReader, ByteWriter, concatBytes, fromHex, toHex } from '../model/bytes.ts';
import { HoldfastError, invariant } from '../model/errors.ts';
import { type LineageName, type Slot, slotMax, toSlot } from '../model/ids.ts';
import { envelopeOf, parseEnvelope, refuseNewer } from './envelope.ts';
import { signMessage, verifySignature } from './keys.ts';
import { objectType } from './versions.ts';

/** As stored. */
export const releaseBytesMax: number = 4096;
/** Bytes of UTF-8 of who and why. */
export const releaseTextMax = 1024;

const repositoryIdBytes = 16;
const digestBytes = 32;

export interface Release {
  readonly slot: Slot;
  /** Of the record that is released. */
  readonly digest: Uint8Array;
  /** Wall clock of whoever released it, ms since 1970. */
  readonly timeMs: number;
  readonly by: string;
  readonly reason: string;
}

interface ReleaseAddress {
  readonly repository: string;
  readonly domain: string;
  readonly lineage: LineageName;
}

/** E_LIMIT when who and why are longer than readers accept. */
export function encodeRelease(address: ReleaseAddress, release: Release, signingSeed: Uint8Array): Uint8Array {
  const w = new ByteWriter(256);
  const repository = fromHex(address.repository);
  invariant(repository?.length === repositoryIdBytes, 'a repository id is 16 bytes in hexadecimal');
  invariant(release.digest.length === digestBytes, 'a record has a digest of 32 bytes');
  w.raw(repository);
  w.text(address.domain);
  w.text(address.lineage);
  w.varint(release.slot);
  w.raw(release.digest);
  w.varint(release.timeMs);
  w.text(release.by);
  w.text(release.reason);
  const sealed = envelopeOf(objectType.release, w.view());
  const bytes = concatBytes([sealed, signMessage(signingSeed, sealed)]);
  if (bytes.length > releaseBytesMax) {
    throw new HoldfastError('E_LIMIT', `a release of ${bytes.length} bytes, more than a reader accepts`);
  }
  return bytes;
}

/** E_DAMAGED for anything but a release that this domain signed for this lineage; E_FORMAT_NEWER. */
export function openRelease(bytes: Uint8Array, address: ReleaseAddress & { readonly publicKey: Uint8Array }): Release {
  const what = `a release in ${address.lineage}`;
  const envelope = parseEnvelope(bytes, objectType.release, what);
  const r = new ByteReader(envelope.payload, what);
  if (!verifySignature(address.publicKey, envelope.sealed, envelope.seal)) r.fail('was not signed by this domain');
  refuseNewer(envelope, objectType.release, what);
  const here = toHex(r.raw(repositoryIdBytes)) === address.repository && r.text(512) === address.domain;
  if (!here || r.text(512) !== address.lineage) r.fail('belongs to another lineage');
  const slot = toSlot(r.varint(slotMax));
  const digest = r.raw(digestBytes).slice();
  const timeMs = r.varint();
  const by = r.text(releaseTextMax);
  const reason = r.text(releaseTextMax);
  r.end();
  if (envelope.bytes !== bytes.length) r.fail('bytes after its end');
  return { slot, digest, timeMs, by, reason };
}
