/** What a record says of a pack, and lists of such entries as bytes. docs/format.md, "Packs". */
import { type ByteReader, type ByteWriter, fromHex, toHex } from '../model/bytes.ts';
import { HoldfastError, invariant } from '../model/errors.ts';
import { slotMax } from '../model/ids.ts';
import { parsePackName, toPackName } from './object-keys.ts';

export const packsMax = 65_536;
export const originsMax = 256;
const packBytesMax: number = 2 ** 40;
/** The number above names the pack table of a slot. */
export const packNumberMax = 0xffff_fffe;

/** A pack that a record's trees may refer to. (origin, slot, pack) is what a place names. */
export interface PackEntry {
  /** 0: this lineage; else 1 + index into the header's `origins`. */
  readonly origin: number;
  readonly slot: number;
  readonly epoch: number;
  readonly pack: number;
  readonly salt8: string;
  readonly bytes: number;
  readonly footerBytes: number;
  /** True when it lies inside the record of its slot instead of below `pk/`. */
  readonly inlined: boolean;
  /** Plain bytes of its chunks and nodes. */
  readonly plainBytes: number;
  /**
   * Plain bytes that the record's trees refer to, as its writer counted them: a chunk with two names counts twice. They
   * say which packs may be worth compacting, and prove nothing.
   */
  readonly liveBytes: number;
}

/** What a place names. */
export type PackReference = Pick<PackEntry, 'origin' | 'slot' | 'pack'>;

const packFlag = { epoch: 1, inlined: 2, live: 4 } as const;
const packFlags: number = packFlag.epoch | packFlag.inlined | packFlag.live;

/** `<slot>-<epoch>-<pack>-<salt8>`, the pack's name below `pk/` and in its own header. */
export function packEntryName(entry: PackEntry): string {
  return toPackName(entry);
}

/** The entry of a pack that was just made; its name says slot, epoch, number and salt. All of it counts as live. */
export function toPackEntry(
  pack: {
    readonly name: string;
    readonly bytes: number;
    readonly footerBytes: number;
    readonly dataPlainBytes: number;
    readonly metaPlainBytes: number;
  },
  inlined: boolean,
): PackEntry {
  const parts = parsePackName(pack.name);
  invariant(parts !== undefined, 'a pack has a well-formed name');
  const plainBytes = pack.dataPlainBytes + pack.metaPlainBytes;
  const { bytes, footerBytes } = pack;
  return { origin: 0, ...parts, bytes, footerBytes, inlined, plainBytes, liveBytes: plainBytes };
}

/** Order of a pack list. */
export function comparePacks(a: PackReference, b: PackReference): number {
  return a.origin - b.origin || a.slot - b.slot || a.pack - b.pack;
}

/** Whether both are the same pack, whatever is alive in it. */
export function equalPacks(a: PackEntry, b: PackEntry): boolean {
  return (
    comparePacks(a, b) === 0 &&
    a.epoch === b.epoch &&
    a.salt8 === b.salt8 &&
    a.bytes === b.bytes &&
    a.footerBytes === b.footerBytes &&
    a.plainBytes === b.plainBytes &&
    a.inlined === b.inlined
  );
}

/** The entry that a place names, in a sorted list. */
export function findPack(list: readonly PackEntry[], reference: PackReference): PackEntry | undefined {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const entry = list[middle] as PackEntry;
    const order = comparePacks(entry, reference);
    if (order === 0) return entry;
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return undefined;
}

/** Each entry is a difference to the one before: 14 to 20 bytes a pack. */
export function writePacks(w: ByteWriter, packs: readonly PackEntry[]): void {
  if (packs.length > packsMax) {
    throw new HoldfastError('E_LIMIT', `a list of ${packs.length} packs, more than a reader accepts`);
  }
  w.varint(packs.length);
  let before: PackEntry | undefined;
  for (const entry of packs) {
    const salt = fromHex(entry.salt8);
    invariant(salt?.length === 4, 'salt8 is 8 hexadecimal digits');
    invariant(before === undefined || comparePacks(before, entry) < 0, 'a pack list is sorted');
    const changed = before?.epoch !== entry.epoch;
    const partly = entry.liveBytes !== entry.plainBytes;
    w.u8((changed ? packFlag.epoch : 0) | (entry.inlined ? packFlag.inlined : 0) | (partly ? packFlag.live : 0));
    writeStep(w, before, entry);
    if (changed) w.varint(entry.epoch);
    w.varint(entry.pack);
    w.raw(salt);
    w.varint(entry.bytes);
    w.varint(entry.footerBytes);
    w.varint(entry.plainBytes);
    if (partly) w.varint(entry.liveBytes);
    before = entry;
  }
}

/** Inverse of `writePacks`. E_DAMAGED; E_FORMAT_NEWER for flags that are not known. */
export function readPacks(r: ByteReader): PackEntry[] {
  const count = r.varint(packsMax);
  const packs: PackEntry[] = [];
  let before: PackEntry | undefined;
  for (let i = 0; i < count; i++) {
    const flags = r.u8();
    if ((flags & ~packFlags) !== 0) {
      throw new HoldfastError('E_FORMAT_NEWER', `a pack with flags ${flags}, which this Holdfast does not know`);
    }
    const { origin, slot } = readStep(r, before);
    const epoch: number | undefined = (flags & packFlag.epoch) !== 0 ? r.varint(slotMax) : before?.epoch;
    if (epoch === undefined) r.fail('a first pack without an epoch');
    const pack = r.varint(packNumberMax);
    const salt8 = toHex(r.raw(4));
    const bytes = r.varint(packBytesMax);
    const footerBytes = r.varint(packBytesMax);
    const plainBytes = r.varint();
    const liveBytes = (flags & packFlag.live) !== 0 ? r.varint() : plainBytes;
    const inlined = (flags & packFlag.inlined) !== 0;
    const entry: PackEntry = { origin, slot, epoch, pack, salt8, bytes, footerBytes, inlined, plainBytes, liveBytes };
    if (before !== undefined && comparePacks(before, entry) >= 0) r.fail('a pack list that is not sorted');
    if (before !== undefined && (flags & packFlag.epoch) !== 0 && before.epoch === epoch)
      r.fail('an epoch given twice');
    if ((flags & packFlag.live) !== 0 && liveBytes === plainBytes) r.fail('live bytes given for nothing');
    packs.push(entry);
    before = entry;
  }
  return packs;
}

/** Origin and slot, relative to those of the entry before. */
export function writeStep(w: ByteWriter, before: PackReference | undefined, entry: PackReference): void {
  w.varint(entry.origin - (before?.origin ?? 0));
  w.varint(entry.slot - (before?.origin === entry.origin ? before.slot : 0));
}

export function readStep(r: ByteReader, before: PackReference | undefined): { origin: number; slot: number } {
  const step = r.varint(originsMax);
  const origin = (before?.origin ?? 0) + step;
  const slot = r.varint(slotMax) + (before !== undefined && step === 0 ? before.slot : 0);
  if (slot > slotMax) r.fail('a pack of a slot that cannot be');
  return { origin, slot };
}

/** What no entry may say in a record of that slot and epoch. */
export function brokenPack(
  pack: PackEntry,
  record: { readonly slot: number; readonly epoch: number; readonly origins: readonly unknown[] },
): string | undefined {
  if (pack.origin > record.origins.length) return 'a pack of an origin that is not named';
  if (pack.slot < 1 || pack.epoch < 1 || pack.epoch >= pack.slot) return `pack ${packEntryName(pack)}`;
  if (pack.footerBytes > pack.bytes) return `the footer of pack ${packEntryName(pack)}`;
  if (pack.origin !== 0) return undefined;
  if (pack.slot > record.slot || (pack.slot === record.slot && pack.epoch !== record.epoch)) {
    return `pack ${packEntryName(pack)}`;
  }
  return undefined;
}
