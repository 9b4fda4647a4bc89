/**
 * The frame of every signed object: repository, domain key, record. It is the same in all versions, so that a signature can
 * be checked before anything else is believed, the version included. docs/format.md, "Envelope".
 *
 *   0  4 B  "HFST"
 *   4  u8   object type
 *   5  u8   version of the payload
 *   6  u8   flags that a reader has to know, else it refuses
 *   7  u8   flags that a reader may ignore
 *   8  u32  bytes of the payload
 *  12       payload
 *      64 B  seal over everything before it
 *           tail (records only), bound by digests in the payload
 */
import { ByteReader, ByteWriter } from '../model/bytes.ts';
import { HoldfastError, invariant } from '../model/errors.ts';
import { type ObjectType, objectVersion } from './versions.ts';

export const envelopeHeadBytes = 12;
export const sealBytes = 64;

const magic = Uint8Array.of(0x48, 0x46, 0x53, 0x54);

export interface Envelope {
  readonly version: number;
  readonly mustKnow: number;
  readonly payload: Uint8Array;
  /** Everything that the seal covers. */
  readonly sealed: Uint8Array;
  readonly seal: Uint8Array;
  /** Head, payload and seal together. */
  readonly bytes: number;
}

/** Head and payload: what the seal is made over. */
export function envelopeOf(type: ObjectType, payload: Uint8Array): Uint8Array {
  const writer = new ByteWriter(envelopeHeadBytes + payload.length);
  writer.raw(magic);
  writer.u8(type);
  writer.u8(objectVersion[type]);
  writer.u8(0);
  writer.u8(0);
  writer.u32(payload.length);
  writer.raw(payload);
  return writer.take();
}

/** E_DAMAGED unless `bytes` begin with a whole envelope of that type. The result views into `bytes`. */
export function parseEnvelope(bytes: Uint8Array, type: ObjectType, what: string): Envelope {
  const reader = new ByteReader(bytes, what);
  for (const byte of magic) if (reader.u8() !== byte) reader.fail('does not begin with HFST');
  if (reader.u8() !== type) reader.fail('is an object of another type');
  const version = reader.u8();
  const mustKnow = reader.u8();
  reader.u8();
  const payload = reader.raw(reader.u32());
  const sealed = bytes.subarray(0, reader.position);
  const seal = reader.raw(sealBytes);
  return { version, mustKnow, payload, sealed, seal, bytes: reader.position };
}

/** E_FORMAT_NEWER when this code cannot know what the payload means. Only for an envelope whose seal was checked. */
export function refuseNewer(envelope: Envelope, type: ObjectType, what: string): void {
  const known = objectVersion[type];
  invariant(known >= 1, 'every object type has a version');
  if (envelope.version === 0) throw new HoldfastError('E_DAMAGED', `${what}: version 0`);
  if (envelope.version <= known && envelope.mustKnow === 0) return;
  throw new HoldfastError(
    'E_FORMAT_NEWER',
    `${what} has version ${envelope.version} and flags ${envelope.mustKnow}; this Holdfast knows version ${known} without flags`,
  );
}
