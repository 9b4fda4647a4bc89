/** A place as bytes: five varints. docs/format/tree.md, "Places". */
import type { ByteReader, ByteWriter } from '../model/bytes.ts';
import type { Place } from '../model/entry.ts';
import { slotMax } from '../model/ids.ts';

/** More other lineages than a record's table can hold. */
const originMax = 0xffff;
const numberMax = 0xffff_ffff;
/** A segment's plaintext has at most 1 MiB, so nothing begins further in. */
const offsetMax: number = 1024 * 1024;

/** Stands where nothing was stored: in a dry run, and in an entry decoded without its placement. */
export const nowhere: Place = Object.freeze({ origin: 0, slot: 0, pack: 0, segment: 0, offset: 0 });

export function writePlace(writer: ByteWriter, place: Place): void {
  writer.varint(place.origin);
  writer.varint(place.slot);
  writer.varint(place.pack);
  writer.varint(place.segment);
  writer.varint(place.offset);
}

/** E_DAMAGED when a number is out of range. */
export function readPlace(reader: ByteReader): Place {
  const origin = reader.varint(originMax);
  const slot = reader.varint(slotMax);
  const pack = reader.varint(numberMax);
  const segment = reader.varint(numberMax);
  const offset = reader.varint(offsetMax);
  return { origin, slot, pack, segment, offset };
}
