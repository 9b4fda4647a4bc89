/**
 * The pack list of a record when it is long: a table that stands in the store as an object of its own, and in the record's
 * header what differs from it. docs/format.md, "Pack tables".
 *
 * The header pins the table's bytes by their digest and is signed, and nothing of it is encrypted: a collector without any
 * secret reads which packs a record lists.
 */
import { hash } from 'node:crypto';
import { ByteReader, ByteWriter, concatBytes, equalBytes, fromHex, toHex } from '../model/bytes.ts';
import { HoldfastError, invariant } from '../model/errors.ts';
import { type LineageName, slotMax, toLineageName } from '../model/ids.ts';
import { envelopeOf, parseEnvelope, refuseNewer } from './envelope.ts';
import { signMessage, verifySignature } from './keys.ts';
import { toPackName } from './object-keys.ts';
import {
  brokenPack,
  comparePacks,
  equalPacks,
  findPack,
  originsMax,
  type PackEntry,
  type PackReference,
  packNumberMax,
  packsMax,
  readPacks,
  readStep,
  writePacks,
  writeStep,
} from './pack-entry.ts';
import { objectType } from './versions.ts';

/** A table as stored: 65,536 packs of other lineages at their longest. */
export const packTableBytesMax: number = 4 * 1024 * 1024;
/** Entries and drops beside a table, as bytes; with more, the next record gets a table of its own. */
export const listDeltaBytesMax = 4096;

const tableNumber = packNumberMax + 1;
const repositoryIdBytes = 16;

/** Points at a table and pins its bytes. */
export interface PackTableLink {
  /** The record for which it was made. */
  readonly slot: number;
  readonly epoch: number;
  readonly bytes: number;
  /** SHA-256 of the whole object. */
  readonly digest: Uint8Array;
}

/** What a header says of a record's packs. */
export interface PackList {
  readonly table: PackTableLink | undefined;
  /** Entries of the table that the record does not list. Ascending. */
  readonly dropped: readonly PackReference[];
  /** Entries that are not in the table, or otherwise there. Ascending. */
  readonly entries: readonly PackEntry[];
}

/** A table whose bytes were verified. */
export interface PackTable {
  readonly link: PackTableLink;
  readonly packs: readonly PackEntry[];
}

export const emptyPackList: PackList = { table: undefined, dropped: [], entries: [] };

/** A list without a table. */
export function listWrittenOut(entries: readonly PackEntry[]): PackList {
  return { ...emptyPackList, entries };
}

/** Name of the table's object below `pk/`: that of a pack, with a number which no pack has. */
export function packTableName({ slot, epoch, digest }: PackTableLink): string {
  return toPackName({ slot, epoch, pack: tableNumber, salt8: toHex(digest.subarray(0, 4)) });
}

interface TableAddress {
  readonly repository: string;
  readonly domain: string;
  readonly lineage: LineageName;
  readonly slot: number;
  readonly epoch: number;
  readonly origins: readonly LineageName[];
}

/** A table for the record at that address. E_LIMIT when it gets larger than readers accept. */
export function encodePackTable(
  address: TableAddress,
  packs: readonly PackEntry[],
  signingSeed: Uint8Array,
): { readonly bytes: Uint8Array; readonly table: PackTable } {
  const w = new ByteWriter(64 + 20 * packs.length);
  const repository = fromHex(address.repository);
  invariant(repository?.length === repositoryIdBytes, 'a repository id is 16 bytes in hexadecimal');
  w.raw(repository);
  w.text(address.domain);
  w.text(address.lineage);
  w.varint(address.slot);
  w.varint(address.epoch);
  w.varint(address.origins.length);
  for (const origin of address.origins) w.text(origin);
  writePacks(w, packs);
  const sealed = envelopeOf(objectType.packTable, w.view());
  const bytes = concatBytes([sealed, signMessage(signingSeed, sealed)]);
  if (bytes.length > packTableBytesMax) {
    throw new HoldfastError('E_LIMIT', `a pack table of ${bytes.length} bytes, more than a reader accepts`);
  }
  const link = { slot: address.slot, epoch: address.epoch, bytes: bytes.length, digest: digestOf(bytes) };
  return { bytes, table: { link, packs } };
}

function digestOf(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(hash('sha256', bytes, 'buffer'));
}

/**
 * Reads a table that a record of that address links to. E_DAMAGED for other bytes than the link pins, or a table of another
 * place; E_FORMAT_NEWER.
 */
export function openPackTable(
  bytes: Uint8Array,
  link: PackTableLink,
  record: Omit<TableAddress, 'epoch'> & { readonly publicKey: Uint8Array },
): PackTable {
  const what = `pack table ${packTableName(link)}`;
  if (bytes.length !== link.bytes || !equalBytes(digestOf(bytes), link.digest)) {
    throw new HoldfastError('E_DAMAGED', `${what} is not what record ${record.slot} links to`);
  }
  const envelope = parseEnvelope(bytes, objectType.packTable, what);
  const r = new ByteReader(envelope.payload, what);
  if (!verifySignature(record.publicKey, envelope.sealed, envelope.seal)) r.fail('was not signed by this domain');
  refuseNewer(envelope, objectType.packTable, what);
  const here = toHex(r.raw(repositoryIdBytes)) === record.repository && r.text(512) === record.domain;
  if (!here || r.text(512) !== record.lineage) r.fail('belongs to another lineage');
  if (r.varint(slotMax) !== link.slot || r.varint(slotMax) !== link.epoch) r.fail('was made for another record');
  const origins: LineageName[] = [];
  for (let left = r.varint(originsMax); left > 0; left--) origins.push(toLineageName(r.text(512)));
  if (origins.some((origin, i) => record.origins[i] !== origin)) r.fail('has other origins than its record');
  const packs = readPacks(r);
  r.end();
  if (envelope.bytes !== bytes.length) r.fail('bytes after its end');
  for (const pack of packs) {
    const wrong = brokenPack(pack, { slot: link.slot, epoch: link.epoch, origins });
    if (wrong !== undefined) r.fail(wrong);
  }
  return { link, packs };
}

/** The packs that a list means. E_DAMAGED when list and table contradict each other. */
export function listedPacks(list: PackList, table: PackTable | undefined, what: string): readonly PackEntry[] {
  invariant((list.table === undefined) === (table === undefined), 'a list is read with its table');
  if (table === undefined) return list.entries;
  const wrong = (why: string): never => {
    throw new HoldfastError('E_DAMAGED', `${what}: ${why}`);
  };
  const gone = new Set<PackEntry>();
  for (const reference of list.dropped) {
    gone.add(findPack(table.packs, reference) ?? wrong('drops a pack that its table does not list'));
  }
  for (const entry of list.entries) {
    const before = findPack(table.packs, entry);
    if (before === undefined) continue;
    if (gone.has(before)) wrong('both drops and lists a pack');
    if (!equalPacks(before, entry)) wrong('makes another pack of one that its table lists');
    gone.add(before);
  }
  const packs = [...table.packs.filter((entry) => !gone.has(entry)), ...list.entries].sort(comparePacks);
  if (packs.length > packsMax) wrong(`lists ${packs.length} packs`);
  return packs;
}

/**
 * The list of a record at `slot` that means these packs: written out while that is short, else as what differs from the
 * base's table. `needsTable` when that is long too: then a table is made of the packs of lower slots, and the list asked for again.
 */
export function packListFrom(
  packs: readonly PackEntry[],
  table: PackTable | undefined,
  slot: number,
): PackList | 'needsTable' {
  const old = packs.filter((entry) => entry.origin !== 0 || entry.slot < slot);
  if (sizeOf(old, []) <= listDeltaBytesMax) return listWrittenOut(packs);
  if (table === undefined) return 'needsTable';
  const listed = (entry: PackEntry): boolean => findPack(packs, entry) !== undefined;
  const dropped = table.packs
    .filter((entry) => !listed(entry))
    .map(({ origin, slot, pack }) => ({ origin, slot, pack }));
  const isNews = (entry: PackEntry): boolean => {
    const before = findPack(table.packs, entry);
    return before === undefined || before.liveBytes !== entry.liveBytes;
  };
  if (sizeOf(old.filter(isNews), dropped) > listDeltaBytesMax) return 'needsTable';
  return { table: table.link, dropped, entries: packs.filter(isNews) };
}

function sizeOf(entries: readonly PackEntry[], dropped: readonly PackReference[]): number {
  const w = new ByteWriter(1024);
  writePacks(w, entries);
  writeDropped(w, dropped);
  return w.length;
}

function writeDropped(w: ByteWriter, dropped: readonly PackReference[]): void {
  w.varint(dropped.length);
  let before: PackReference | undefined;
  for (const reference of dropped) {
    writeStep(w, before, reference);
    w.varint(reference.pack);
    before = reference;
  }
}

/** Entries, then the link to the table, then what is dropped of it. */
export function writePackList(w: ByteWriter, list: PackList): void {
  writePacks(w, list.entries);
  const { table, dropped } = list;
  w.u8(table === undefined ? 0 : 1);
  if (table === undefined) return;
  w.varint(table.slot);
  w.varint(table.epoch);
  w.varint(table.bytes);
  w.raw(table.digest);
  writeDropped(w, dropped);
}

export function readPackList(r: ByteReader): PackList {
  const entries = readPacks(r);
  const present = r.u8();
  if (present > 1) r.fail('neither a table nor none');
  if (present === 0) return { table: undefined, dropped: [], entries };
  const slot = r.varint(slotMax);
  const epoch = r.varint(slotMax);
  const bytes = r.varint(packTableBytesMax);
  const table = { slot, epoch, bytes, digest: r.raw(32).slice() };
  const dropped: PackReference[] = [];
  const count = r.varint(packsMax);
  for (let i = 0; i < count; i++) {
    const before = dropped[i - 1];
    const reference = { ...readStep(r, before), pack: r.varint(packNumberMax) };
    if (before !== undefined && comparePacks(before, reference) >= 0) r.fail('dropped packs that are not sorted');
    dropped.push(reference);
  }
  return { table, dropped, entries };
}
