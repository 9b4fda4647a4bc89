/**
 * A record of a lineage's log: CLAIM, CHECKPOINT, PARTIAL or SEAL. docs/format.md, "Records".
 *
 * What collection, retention and catalogue need is in clear and signed; roots, places and names are encrypted. Whether a
 * record is valid depends on no secret: the agent with its keys and a collector without any always agree on which records
 * count. A record that is not valid is void: it fences nobody and is never counted.
 */
import { createCipheriv, createDecipheriv, hash } from 'node:crypto';
import {
  ByteReader,
  ByteWriter,
  compareBytes,
  concatBytes,
  emptyBytes,
  equalBytes,
  fromHex,
  toHex,
  utf8Bytes,
} from '../model/bytes.ts';
import type {
  Consistency,
  RecordKind,
  SkippedCount,
  SkipReason,
  TreeRoot,
  VolumeCheckpoint,
} from '../model/checkpoint.ts';
import { HoldfastError, invariant, isHoldfastError } from '../model/errors.ts';
import {
  type Epoch,
  type HolderId,
  type LineageName,
  type RecordId,
  recordIdText,
  type Slot,
  slotMax,
  toEpoch,
  toHolderId,
  toLineageName,
  toNodeId,
  toRecordId,
  toSlot,
  toVolumeName,
  type VolumeName,
} from '../model/ids.ts';
import { decodeEntry, encodeEntry, nodeBytesMax, nodeLevelMax } from './entry-codec.ts';
import { envelopeHeadBytes, envelopeOf, parseEnvelope, refuseNewer, sealBytes } from './envelope.ts';
import { type DataKey, deriveKey, signMessage, verifySignature } from './keys.ts';
import { brokenPack, originsMax, type PackEntry, packEntryName } from './pack-entry.ts';
import { type PackList, readPackList, writePackList } from './pack-table.ts';
import { paddedBytes } from './padding.ts';
import { readPlace, writePlace } from './place-codec.ts';
import { objectType } from './versions.ts';

/** A record as stored, inlined packs included. */
export const recordBytesMax: number = 2 * 1024 * 1024;
/** All inlined packs of a record together. */
export const inlinedBytesMax: number = 512 * 1024;
export const volumesMax = 64;
export const labelsMax = 64;
const payloadBytesMax: number = 1024 * 1024;
const bodyBytesMax: number = 448 * 1024;
const inlinedPacksMax = 16;
const holderNameMax = 253;
/** Bytes of UTF-8 of a label's name or value. */
const labelTextMax = 256;
/** Names of moved, volatile and skipped files: of one list, of one name, and of a whole record, in bytes of UTF-8. */
const namesPerListMax = 100;
const nameTextMax = 1024;
const namesBytesMax: number = 64 * 1024;
const skipKindsMax = 16;

/** Points at a record and pins its bytes. */
export interface RecordLink {
  readonly slot: Slot;
  readonly digest: Uint8Array;
}

export interface RecordTotals {
  readonly files: number;
  readonly entries: number;
  readonly bytes: number;
  /** Plain bytes that this record's capture added. */
  readonly newBytes: number;
  /** Bytes of the packs that this record introduces. */
  readonly storedBytes: number;
}

export interface Label {
  readonly name: string;
  readonly value: string;
}

/** The part in clear. */
export interface RecordHeader {
  readonly repository: string;
  readonly domain: string;
  readonly lineage: LineageName;
  readonly slot: Slot;
  readonly kind: RecordKind;
  readonly id: RecordId;
  readonly epoch: Epoch;
  /** Generation of the data key that encrypts the body. */
  readonly generation: number;
  readonly holder: HolderId;
  /** Pod or host name, for people. */
  readonly holderName: string;
  /** Slot of the CLAIM before that of this epoch; 0: it was the first. */
  readonly previousClaim: Slot;
  /** Of a CLAIM: the checkpoint it starts from. */
  readonly base: RecordLink | undefined;
  /** The newest valid record below, when this one was made. */
  readonly predecessor: RecordLink | undefined;
  /** Wall clock of the writer, ms since 1970. */
  readonly timeMs: number;
  readonly suspect: boolean;
  /** Of a CHECKPOINT or PARTIAL. */
  readonly consistency: Consistency | undefined;
  /** Sorted by the bytes of their names, each once. */
  readonly labels: readonly Label[];
  readonly totals: RecordTotals;
  /** Other lineages whose packs are listed. */
  readonly origins: readonly LineageName[];
  /** Which packs it lists: read with its table by `LineageLog.packs`. */
  readonly packList: PackList;
}

/** The encrypted part. */
export interface RecordBody {
  readonly setRoot: Uint8Array;
  /** Sorted by name. */
  readonly volumes: readonly VolumeCheckpoint[];
}

export interface InlinedPack {
  readonly entry: PackEntry;
  readonly bytes: Uint8Array;
}

/** A record that was verified. Views into the bytes it was read from. */
export interface LogRecord {
  readonly header: RecordHeader;
  readonly digest: Uint8Array;
  /** Size as stored. */
  readonly bytes: number;
  /** As stored; open it with `openBody`. Empty for CLAIM and SEAL. */
  readonly sealedBody: Uint8Array;
  /** What the body's encryption is bound to. */
  readonly bodyContext: Uint8Array;
  readonly inlined: readonly InlinedPack[];
}

/** Which record is expected at a place of the log. */
export interface ExpectedRecord {
  readonly repository: string;
  readonly domain: string;
  readonly lineage: LineageName;
  readonly slot: Slot;
  /** The domain's public key. */
  readonly publicKey: Uint8Array;
}

/**
 * too-large, not-a-record: cannot be read as one. signature: not of this domain. moved: a genuine record of another
 * repository, domain, lineage or slot. malformed: signed, but says what no record may say. tail: the part after the signature
 * is not what was signed. replaced: genuine, but its successor names another record at this slot.
 */
export type VoidReason = 'too-large' | 'not-a-record' | 'signature' | 'moved' | 'malformed' | 'tail' | 'replaced';

export type RecordReading =
  | { readonly valid: true; readonly record: LogRecord }
  | { readonly valid: false; readonly reason: VoidReason; readonly detail: string };

const kindCode: Readonly<Record<RecordKind, number>> = { CLAIM: 1, CHECKPOINT: 2, PARTIAL: 3, SEAL: 4 };
const kinds: readonly (RecordKind | undefined)[] = [undefined, 'CLAIM', 'CHECKPOINT', 'PARTIAL', 'SEAL'];
const consistencyCode: Readonly<Record<Consistency, number>> = { quiesced: 1, converged: 2, fuzzy: 3 };
const consistencies: readonly (Consistency | undefined)[] = [undefined, 'quiesced', 'converged', 'fuzzy'];
const skipReasons: readonly SkipReason[] = [
  'socket',
  'device',
  'other-filesystem',
  'unreadable',
  'excluded',
  'vanished',
];

const flagSuspect = 1;

export function isCommitted(kind: RecordKind): kind is 'CHECKPOINT' | 'PARTIAL' {
  return kind === 'CHECKPOINT' || kind === 'PARTIAL';
}

export interface EncodedRecord {
  readonly bytes: Uint8Array;
  /** The same as any reader gets it. */
  readonly record: LogRecord;
}

/**
 * Bytes of a record, and proof that they read back: what was encoded is decoded again before it is returned. E_LIMIT when
 * the record would be larger than readers accept. `inlined` are the bytes of the packs that the header lists as inlined at
 * this slot, in that order.
 */
export function encodeRecord(
  header: RecordHeader,
  body: RecordBody | undefined,
  inlined: readonly InlinedPack[],
  keys: { readonly dataKey: DataKey; readonly signingSeed: Uint8Array; readonly publicKey: Uint8Array },
): EncodedRecord {
  invariant(keys.dataKey.generation === header.generation, 'a record names the generation of its key');
  const plainBody = body === undefined ? undefined : encodeBody(body, keys.dataKey.key !== undefined);
  const fields = new ByteWriter(1024);
  writeFields(fields, header);
  const context = bodyContextOf(fields.view());
  const sealedBody = plainBody === undefined ? emptyBytes : sealBody(plainBody, keys.dataKey, header.id, context);
  writeTail(fields, inlined, sealedBody);
  limit(fields.length <= payloadBytesMax, `the header of record ${header.slot} has ${fields.length} bytes`);
  const sealed = envelopeOf(objectType.record, fields.view());
  const bytes = concatBytes([
    sealed,
    signMessage(keys.signingSeed, sealed),
    sealedBody,
    ...inlined.map((pack) => pack.bytes),
  ]);
  limit(bytes.length <= recordBytesMax, `record ${header.slot} has ${bytes.length} bytes`);

  const reading = readRecord(bytes, { ...header, publicKey: keys.publicKey });
  invariant(reading.valid, `a record reads back${reading.valid ? '' : `: ${reading.reason}, ${reading.detail}`}`);
  if (body !== undefined) {
    const again = openBody(reading.record, keys.dataKey);
    invariant(equalBytes(again.setRoot, body.setRoot), 'the body of a record reads back');
    invariant(again.volumes.length === body.volumes.length, 'the body of a record reads back');
  }
  return { bytes, record: reading.record };
}

function limit(held: boolean, what: string): void {
  if (!held) throw new HoldfastError('E_LIMIT', `${what}, more than a reader accepts`);
}

/** SHA-256 of head and signature, which bind the rest: what a successor names, and what an anchor outside the store keeps. */
export function digestOf(bytes: Uint8Array): Uint8Array {
  const envelope = parseEnvelope(bytes, objectType.record, 'record');
  return sha256(bytes.subarray(0, envelope.bytes));
}

function sha256(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(hash('sha256', bytes, 'buffer'));
}

/**
 * Reads and verifies a whole record. Junk of any kind is a reading that is not valid, never an error. E_FORMAT_NEWER for a
 * genuine record at its own place that a newer Holdfast wrote: it counts, so it must not be skipped.
 */
export function readRecord(bytes: Uint8Array, expected: ExpectedRecord): RecordReading {
  if (bytes.length > recordBytesMax) return voided('too-large', `${bytes.length} bytes`);
  try {
    return readChecked(bytes, expected);
  } catch (error) {
    if (error instanceof VoidRecord) return voided(error.reason, error.message);
    throw error;
  }
}

function voided(reason: VoidReason, detail: string): RecordReading {
  return { valid: false, reason, detail };
}

/** Carries the reason out of the reading; never leaves this file. */
class VoidRecord extends Error {
  readonly reason: VoidReason;

  constructor(reason: VoidReason, detail: string) {
    super(detail);
    this.reason = reason;
  }
}

/** What goes wrong inside means that the record is void for that reason. */
function orVoid<Result>(reason: VoidReason, read: () => Result): Result {
  try {
    return read();
  } catch (error) {
    if (isHoldfastError(error, 'E_DAMAGED', 'E_HOSTILE', 'E_USAGE')) throw new VoidRecord(reason, error.message);
    throw error;
  }
}

function readChecked(bytes: Uint8Array, expected: ExpectedRecord): RecordReading {
  const what = `record ${expected.slot}`;
  const envelope = orVoid('not-a-record', () => parseEnvelope(bytes, objectType.record, what));
  if (envelope.payload.length > payloadBytesMax) return voided('not-a-record', 'its header is too large');
  if (!verifySignature(expected.publicKey, envelope.sealed, envelope.seal)) {
    return voided('signature', 'it was not signed by this domain');
  }
  // From here on the bytes were made by somebody who holds the domain's keys. The address stands first in every version.
  const reader = new ByteReader(envelope.payload, what);
  const address = orVoid('malformed', () => readAddress(reader));
  if (
    address.repository !== expected.repository ||
    address.domain !== expected.domain ||
    address.lineage !== expected.lineage ||
    address.slot !== expected.slot
  ) {
    return voided('moved', `it belongs to ${address.lineage} slot ${address.slot} in domain ${address.domain}`);
  }
  orVoid('malformed', () => {
    refuseNewer(envelope, objectType.record, what);
  });
  const fields = orVoid('malformed', () => readFields(reader));
  const contextEnd = reader.position;
  const tail = orVoid('malformed', () => readTail(reader));
  const header: RecordHeader = { ...address, ...fields };
  const wrong = brokenRule(header, tail);
  if (wrong !== undefined) return voided('malformed', wrong);
  const { sealedBody, inlined } = orVoid('tail', () => checkTail(bytes, envelope.bytes, header, tail));
  const record: LogRecord = {
    header,
    digest: sha256(bytes.subarray(0, envelope.bytes)),
    bytes: bytes.length,
    sealedBody,
    bodyContext: bodyContextOf(envelope.payload.subarray(0, contextEnd)),
    inlined,
  };
  return { valid: true, record };
}

/** Additional data of the body: the first eight bytes of the envelope and every field of the header before the tail table. */
function bodyContextOf(fields: Uint8Array): Uint8Array {
  return concatBytes([envelopeOf(objectType.record, emptyBytes).subarray(0, 8), fields]);
}

// ---- fields in clear

const repositoryIdBytes = 16;

interface Address {
  readonly repository: string;
  readonly domain: string;
  readonly lineage: LineageName;
  readonly slot: Slot;
}

type Fields = Omit<RecordHeader, keyof Address>;

function writeFields(w: ByteWriter, h: RecordHeader): void {
  const repository = fromHex(h.repository);
  invariant(repository?.length === repositoryIdBytes, 'a repository id is 16 bytes in hexadecimal');
  w.raw(repository);
  w.text(h.domain);
  w.text(h.lineage);
  w.varint(h.slot);
  w.u8(kindCode[h.kind]);
  w.raw(h.id);
  w.varint(h.epoch);
  w.varint(h.generation);
  w.text(h.holder);
  w.text(h.holderName);
  w.varint(h.previousClaim);
  writeLink(w, h.base);
  writeLink(w, h.predecessor);
  w.signed(h.timeMs);
  w.u8(h.suspect ? flagSuspect : 0);
  w.u8(h.consistency === undefined ? 0 : consistencyCode[h.consistency]);
  limit(h.labels.length <= labelsMax, `record ${h.slot} has ${h.labels.length} labels`);
  w.varint(h.labels.length);
  for (const { name, value } of h.labels) {
    limit(fitsLabel(name) && fitsLabel(value), `label ${JSON.stringify(name.slice(0, 100))} is too long`);
    w.text(name);
    w.text(value);
  }
  w.varint(h.totals.files);
  w.varint(h.totals.entries);
  w.varint(h.totals.bytes);
  w.varint(h.totals.newBytes);
  w.varint(h.totals.storedBytes);
  w.varint(h.origins.length);
  for (const origin of h.origins) w.text(origin);
  writePackList(w, h.packList);
}

function fitsLabel(text: string): boolean {
  return utf8Bytes(text).length <= labelTextMax;
}

function readAddress(r: ByteReader): Address {
  const repository = toHex(r.raw(repositoryIdBytes));
  const domain = toLineageName(r.text(512));
  const lineage = toLineageName(r.text(512));
  const slot = toSlot(r.varint(slotMax));
  return { repository, domain, lineage, slot };
}

function readFields(r: ByteReader): Fields {
  const code = r.u8();
  const kind = kinds[code];
  if (kind === undefined) throw newer(`a record of kind ${code}`);
  const id = toRecordId(r.raw(32).slice());
  const epoch = toEpoch(r.varint(slotMax));
  const generation = r.varint(0xffff_ffff);
  const holder = toHolderId(r.text(64));
  const holderName = r.text(holderNameMax);
  const previousClaim = toSlot(r.varint(slotMax));
  const base = readLink(r);
  const predecessor = readLink(r);
  const timeMs = r.signed();
  const flags = r.u8();
  if ((flags & ~flagSuspect) !== 0) throw newer(`a record with flags ${flags}`);
  const consistencyByte = r.u8();
  if (consistencyByte >= consistencies.length) throw newer(`a record of consistency ${consistencyByte}`);
  const labels: Label[] = [];
  for (let left = r.varint(labelsMax); left > 0; left--) {
    labels.push({ name: r.text(labelTextMax), value: r.text(labelTextMax) });
  }
  const totals: RecordTotals = {
    files: r.varint(),
    entries: r.varint(),
    bytes: r.varint(),
    newBytes: r.varint(),
    storedBytes: r.varint(),
  };
  const origins: LineageName[] = [];
  for (let left = r.varint(originsMax); left > 0; left--) origins.push(toLineageName(r.text(512)));
  const packList = readPackList(r);
  return {
    kind,
    id,
    epoch,
    generation,
    holder,
    holderName,
    previousClaim,
    base,
    predecessor,
    timeMs,
    suspect: (flags & flagSuspect) !== 0,
    consistency: consistencies[consistencyByte],
    labels,
    totals,
    origins,
    packList,
  };
}

function newer(what: string): HoldfastError {
  return new HoldfastError('E_FORMAT_NEWER', `${what}, which this Holdfast does not know`);
}

function writeLink(w: ByteWriter, link: RecordLink | undefined): void {
  w.u8(link === undefined ? 0 : 1);
  if (link === undefined) return;
  w.varint(link.slot);
  w.raw(link.digest);
}

function readLink(r: ByteReader): RecordLink | undefined {
  const present = r.u8();
  if (present > 1) r.fail('neither a link nor none');
  if (present === 0) return undefined;
  return { slot: toSlot(r.varint(slotMax)), digest: r.raw(32).slice() };
}

// ---- what follows the signature

interface TailTable {
  readonly inlined: readonly { readonly index: number; readonly digest: Uint8Array }[];
  readonly bodyBytes: number;
  readonly bodyDigest: Uint8Array;
}

function writeTail(w: ByteWriter, inlined: readonly InlinedPack[], sealedBody: Uint8Array): void {
  w.varint(sealedBody.length);
  if (sealedBody.length > 0) w.raw(sha256(sealedBody));
  w.varint(inlined.length);
  for (const pack of inlined) w.raw(sha256(pack.bytes));
}

function readTail(r: ByteReader): TailTable {
  const bodyBytes = r.varint(bodyBytesMax);
  const bodyDigest = bodyBytes > 0 ? r.raw(32) : emptyBytes;
  const inlined: { index: number; digest: Uint8Array }[] = [];
  const count = r.varint(inlinedPacksMax);
  for (let index = 0; index < count; index++) inlined.push({ index, digest: r.raw(32) });
  r.end();
  return { inlined, bodyBytes, bodyDigest };
}

/** Inlined packs of the record's own slot, in the order of the list: whose bytes stand in the tail. */
function ownInlined(header: Pick<RecordHeader, 'slot' | 'packList'>): PackEntry[] {
  return header.packList.entries.filter((entry) => entry.inlined && entry.origin === 0 && entry.slot === header.slot);
}

function checkTail(
  bytes: Uint8Array,
  start: number,
  header: RecordHeader,
  tail: TailTable,
): { readonly sealedBody: Uint8Array; readonly inlined: readonly InlinedPack[] } {
  const reader = new ByteReader(bytes, `tail of record ${header.slot}`, start);
  const sealedBody = reader.raw(tail.bodyBytes);
  if (tail.bodyBytes > 0 && !equalBytes(sha256(sealedBody), tail.bodyDigest)) reader.fail('the body was changed');
  const inlined = ownInlined(header).map((entry, i): InlinedPack => {
    const pack = reader.raw(entry.bytes);
    const digest = tail.inlined[i]?.digest ?? emptyBytes;
    if (!equalBytes(sha256(pack), digest)) reader.fail(`inlined pack ${packEntryName(entry)} was changed`);
    return { entry, bytes: pack };
  });
  reader.end();
  return { sealedBody, inlined };
}

/** What no record may say, whoever signed it. */
function brokenRule(h: RecordHeader, tail: TailTable): string | undefined {
  const committed = isCommitted(h.kind);
  if (h.slot < 1) return 'slot 0';
  if (h.generation < 1) return 'key generation 0';
  if (h.kind === 'CLAIM' ? Number(h.epoch) !== h.slot : h.epoch < 1 || Number(h.epoch) >= h.slot)
    return `epoch ${h.epoch}`;
  if (Number(h.previousClaim) >= h.epoch) return 'a previous claim that is not below';
  if (h.predecessor !== undefined && (h.predecessor.slot < 1 || h.predecessor.slot >= h.slot)) return 'its predecessor';
  if (h.predecessor === undefined && h.kind !== 'CLAIM') return 'no predecessor';
  if (h.base !== undefined && (h.kind !== 'CLAIM' || h.base.slot < 1 || h.base.slot >= h.slot)) return 'its base';
  if (committed !== (h.consistency !== undefined)) return 'its consistency';
  if (committed !== tail.bodyBytes > 0) return 'its body';
  const { table, entries } = h.packList;
  if (!committed && (entries.length > 0 || table !== undefined || h.origins.length > 0 || h.suspect)) {
    return 'packs without a checkpoint';
  }
  if (new Set(h.origins).size !== h.origins.length || h.origins.includes(h.lineage)) return 'its origins';
  for (const [i, { name }] of h.labels.entries()) {
    const before = h.labels[i - 1];
    if (before !== undefined && compareBytes(utf8Bytes(before.name), utf8Bytes(name)) >= 0)
      return 'labels that are not sorted';
  }
  for (const pack of entries) {
    const wrong = brokenPack(pack, h);
    if (wrong !== undefined) return wrong;
  }
  if (table !== undefined) {
    if (table.epoch < 1 || table.epoch >= table.slot || table.slot > h.slot) return 'its pack table';
    if (table.slot === h.slot && table.epoch !== h.epoch) return 'its pack table';
  }
  const own = ownInlined(h);
  if (own.length !== tail.inlined.length) return 'its inlined packs';
  if (own.reduce((sum, pack) => sum + pack.bytes, 0) > inlinedBytesMax) return 'too many inlined bytes';
  return undefined;
}

// ---- body

const gcmTagBytes = 16;
/** A key is used for one message only, so the nonce need not vary. */
const bodyNonce = new Uint8Array(12);

function bodyKey(dataKey: Uint8Array, id: RecordId): Uint8Array {
  return deriveKey(dataKey, id, utf8Bytes('holdfast/1/record-body'), 32);
}

function sealBody(plain: Uint8Array, dataKey: DataKey, id: RecordId, context: Uint8Array): Uint8Array {
  if (dataKey.key === undefined) return plain;
  const cipher = createCipheriv('aes-256-gcm', bodyKey(dataKey.key, id), bodyNonce);
  cipher.setAAD(context);
  return concatBytes([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

/**
 * Roots and names of a CHECKPOINT or PARTIAL. E_DAMAGED when the key does not open it or its bytes make no sense: the record is
 * genuine then and counts, but its writer was broken. E_FORMAT_NEWER when it uses what this code does not know.
 */
export function openBody(record: LogRecord, dataKey: DataKey): RecordBody {
  const { header } = record;
  const what = `body of record ${header.slot} (${recordIdText(header.id).slice(0, 12)})`;
  invariant(isCommitted(header.kind), 'only a CHECKPOINT or PARTIAL has a body');
  invariant(dataKey.generation === header.generation, 'the body is opened with the key of its generation');
  return decodeBody(unsealBody(record, dataKey, what), what, dataKey.key !== undefined);
}

function unsealBody(record: LogRecord, dataKey: DataKey, what: string): Uint8Array {
  const sealed = record.sealedBody;
  if (dataKey.key === undefined) return sealed;
  if (sealed.length < gcmTagBytes) throw new HoldfastError('E_DAMAGED', `${what} is too short`);
  const end = sealed.length - gcmTagBytes;
  const decipher = createDecipheriv('aes-256-gcm', bodyKey(dataKey.key, record.header.id), bodyNonce);
  decipher.setAAD(record.bodyContext);
  decipher.setAuthTag(sealed.subarray(end));
  try {
    return concatBytes([decipher.update(sealed.subarray(0, end)), decipher.final()]);
  } catch (cause) {
    throw new HoldfastError('E_DAMAGED', `${what} cannot be decrypted`, { cause });
  }
}

function encodeBody(body: RecordBody, padded: boolean): Uint8Array {
  limit(body.volumes.length <= volumesMax, `a set of ${body.volumes.length} volumes`);
  const w = new ByteWriter(1024);
  const names = { left: namesBytesMax };
  invariant(body.setRoot.length === 32, 'a set root has 32 bytes');
  w.raw(body.setRoot);
  w.varint(body.volumes.length);
  for (const [i, volume] of body.volumes.entries()) {
    const before = body.volumes[i - 1];
    invariant(before === undefined || before.name < volume.name, 'volumes are sorted');
    writeVolume(w, volume, names);
  }
  w.varint(0); // hot ranges: none
  const whole = new ByteWriter(w.length + 8);
  whole.blob(w.view());
  const bytes = whole.take();
  const size = padded ? paddedBytes(bytes.length) : bytes.length;
  limit(size + gcmTagBytes <= bodyBytesMax, `the body of a record has ${size} bytes`);
  if (size === bytes.length) return bytes;
  const plain = new Uint8Array(size);
  plain.set(bytes);
  return plain;
}

function decodeBody(plain: Uint8Array, what: string, padded: boolean): RecordBody {
  const whole = new ByteReader(plain, what);
  const r = new ByteReader(whole.blob(), what);
  const rest = whole.raw(whole.left);
  if (rest.some((byte) => byte !== 0) || (!padded && rest.length > 0)) whole.fail('bytes after its end');
  const setRoot = r.raw(32).slice();
  const volumes: VolumeCheckpoint[] = [];
  const count = r.varint(volumesMax);
  for (let i = 0; i < count; i++) {
    const volume = readVolume(r);
    const before = volumes[i - 1];
    if (before !== undefined && before.name >= volume.name) r.fail('volumes that are not sorted');
    volumes.push(volume);
  }
  if (r.varint() !== 0) throw newer(`${what} has hot ranges`);
  r.end();
  return { setRoot, volumes };
}

function writeVolume(w: ByteWriter, volume: VolumeCheckpoint, names: { left: number }): void {
  w.text(volume.name);
  writeRoot(w, volume.root);
  const value = new ByteWriter();
  const placement = new ByteWriter();
  encodeEntry({ type: 'directory', ...volume.rootMeta }, value, placement);
  w.blob(value.view());
  w.blob(placement.view());
  w.varint(0); // overlay: none
  w.varint(volume.fuzzyCount);
  writeNames(w, volume.fuzzyNames, names);
  w.varint(volume.skipped.length);
  for (const skipped of volume.skipped) {
    w.u8(skipReasons.indexOf(skipped.reason));
    w.varint(skipped.count);
    writeNames(w, skipped.names, names);
  }
  w.varint(volume.volatileCount);
  writeNames(w, volume.volatileNames, names);
  w.u8(volume.incomplete ? 1 : 0);
}

function readVolume(r: ByteReader): VolumeCheckpoint {
  const name = readVolumeName(r);
  const root = readRoot(r);
  const entry = decodeEntry(r.blob().slice(), r.blob().slice());
  if (entry.type !== 'directory') r.fail('the root of a volume is no directory');
  const { type: _, ...rootMeta } = entry;
  if (r.varint() !== 0) throw newer(`volume ${name} with an overlay`);
  const fuzzyCount = r.varint();
  const fuzzyNames = readNames(r);
  const skipped: SkippedCount[] = [];
  for (let left = r.varint(skipKindsMax); left > 0; left--) {
    const code = r.u8();
    const reason = skipReasons[code];
    if (reason === undefined) throw newer(`names skipped for reason ${code}`);
    skipped.push({ reason, count: r.varint(), names: readNames(r) });
  }
  const volatileCount = r.varint();
  const volatileNames = readNames(r);
  const incomplete = r.u8();
  if (incomplete > 1) r.fail('neither complete nor incomplete');
  return {
    name,
    root,
    rootMeta,
    fuzzyCount,
    fuzzyNames,
    volatileCount,
    volatileNames,
    skipped,
    incomplete: incomplete === 1,
  };
}

function readVolumeName(r: ByteReader): VolumeName {
  const text = r.text(63);
  try {
    return toVolumeName(text);
  } catch (cause) {
    throw new HoldfastError('E_HOSTILE', 'a record with a volume whose name no volume can have', { cause });
  }
}

function writeRoot(w: ByteWriter, root: TreeRoot): void {
  invariant(root.nodeBytes > 0 === (root.place !== undefined), 'a root is either empty or somewhere');
  w.raw(root.id);
  w.varint(root.level);
  w.varint(root.nodeBytes);
  if (root.place !== undefined) writePlace(w, root.place);
  w.varint(root.sums.files);
  w.varint(root.sums.entries);
  w.varint(root.sums.bytes);
}

function readRoot(r: ByteReader): TreeRoot {
  const id = toNodeId(r.raw(32).slice());
  const level = r.varint(nodeLevelMax);
  const nodeBytes = r.varint(nodeBytesMax);
  const place = nodeBytes > 0 ? readPlace(r) : undefined;
  return { id, level, nodeBytes, place, sums: { files: r.varint(), entries: r.varint(), bytes: r.varint() } };
}

/** The first names, as many as there is room for: the count beside them is what is exact. */
function writeNames(w: ByteWriter, names: readonly string[], budget: { left: number }): void {
  const kept: Uint8Array[] = [];
  for (const name of names) {
    const bytes = utf8Bytes(name);
    if (kept.length >= namesPerListMax || bytes.length > budget.left) break;
    if (bytes.length > nameTextMax) continue;
    budget.left -= bytes.length;
    kept.push(bytes);
  }
  w.varint(kept.length);
  for (const bytes of kept) w.blob(bytes);
}

function readNames(r: ByteReader): string[] {
  const names: string[] = [];
  for (let left = r.varint(namesPerListMax); left > 0; left--) names.push(r.text(nameTextMax));
  return names;
}

/** The least that must be fetched to read the head of a record; see docs/format.md. */
export const recordHeadBytesMin: number = envelopeHeadBytes + sealBytes;
