/** What a log holds above a slot that was looked at before, from LISTs that begin at its head. */
import { logKey, logPrefix, parseLogKey } from '../format/object-keys.ts';
import { type LogRecord, type RecordReading, recordBytesMax } from '../format/record.ts';
import { contradiction, type LineageLog } from '../lineage/log.ts';
import type { RecordKind } from '../model/checkpoint.ts';
import { isHoldfastError } from '../model/errors.ts';
import type { Slot } from '../model/ids.ts';
import type { ObjectReader } from '../ports/object-store.ts';
import type { Waiting } from './copy-parts.ts';
import { type ListedObject, listedObjects } from './listed-objects.ts';

/** A valid record that is to be copied. */
export interface NewRecord {
  readonly slot: Slot;
  readonly kind: RecordKind;
  readonly timeMs: number;
  /** As stored, while they fit into the memory that is set aside for them. */
  bytes: Uint8Array | undefined;
}

export interface VoidSlot {
  readonly slot: Slot;
  readonly detail: string;
  /** The record above names a record here: it was one, and was changed. Else it never counted. */
  readonly wasRecord: boolean;
}

export interface NewRecords {
  /** Ascending. */
  readonly records: readonly NewRecord[];
  readonly voids: readonly VoidSlot[];
  /** The lowest of them. */
  readonly lowest: LogRecord | undefined;
  /** The highest slot that holds anything. */
  readonly seen: Slot;
}

/** The head is asked for with few keys first: nearly always there is nothing new, or one record. */
const pageSizes: readonly number[] = [8, 64, 512];
const parallelReads = 8;
const keptBytesMax: number = 4 * 1024 * 1024;

/**
 * Reads and verifies everything above slot `above`. A record counts unless one above it contradicts it, which is why they are read from
 * the head down although they are copied upwards. `onListed` hears what each record lists, for totals.
 */
export async function readNewRecords(
  store: ObjectReader,
  log: LineageLog,
  above: Slot,
  onListed: (objects: readonly ListedObject[], recordBytes: number) => void,
  options: Waiting = {},
): Promise<NewRecords> {
  const records: NewRecord[] = [];
  const voids: VoidSlot[] = [];
  let lowest: LogRecord | undefined;
  let seen = above;
  let keptBytes = 0;
  for await (const slots of newSlots(store, log, above, options)) {
    for (let at = 0; at < slots.length; at += parallelReads) {
      const batch = slots.slice(at, at + parallelReads);
      const found = await Promise.all(batch.map((slot) => readBytes(store, log, slot, options)));
      for (const [i, slot] of batch.entries()) {
        if (slot > seen) seen = slot;
        const read = found[i];
        if (read === undefined) continue;
        const reading = heldAgainst(read.reading, lowest);
        if (!reading.valid) {
          const wasRecord = read.reading.valid === false && lowest?.header.predecessor?.slot === slot;
          voids.unshift({ slot, detail: reading.detail, wasRecord });
          continue;
        }
        const { record } = reading;
        lowest = record;
        onListed(await listedOrNone(log, record, options), record.bytes);
        const kept = keptBytes + record.bytes <= keptBytesMax;
        if (kept) keptBytes += record.bytes;
        const { kind, timeMs } = record.header;
        records.push({ slot, kind, timeMs, bytes: kept ? read.bytes : undefined });
      }
    }
  }
  return { records: records.reverse(), voids, lowest, seen };
}

/** For totals: what is wrong with a table shows when its record is copied. */
async function listedOrNone(log: LineageLog, record: LogRecord, options: Waiting): Promise<readonly ListedObject[]> {
  try {
    return await listedObjects(log, record, options);
  } catch (error) {
    if (isHoldfastError(error, 'E_DAMAGED')) return [];
    throw error;
  }
}

/** Slots above, page by page, newest first. */
async function* newSlots(
  store: ObjectReader,
  log: LineageLog,
  above: Slot,
  options: Waiting,
): AsyncGenerator<readonly Slot[]> {
  let after: string | undefined;
  for (let page = 0; ; page++) {
    const limit = pageSizes[Math.min(page, pageSizes.length - 1)] as number;
    const listed = await store.list(logPrefix(log.lineage), {
      ...options,
      limit,
      ...(after === undefined ? {} : { after }),
    });
    const slots = listed.flatMap(({ key }) => parseLogKey(log.lineage, key) ?? []);
    yield slots.filter((slot) => slot > above);
    if (listed.length < limit || slots.some((slot) => slot <= above)) return;
    after = listed.at(-1)?.key;
  }
}

interface ReadObject {
  readonly reading: RecordReading;
  readonly bytes: Uint8Array | undefined;
}

/** Undefined when it was trimmed meanwhile. */
async function readBytes(
  store: ObjectReader,
  log: LineageLog,
  slot: Slot,
  options: Waiting,
): Promise<ReadObject | undefined> {
  const bytes = await getRecord(store, log, slot, options);
  if (bytes === 'too-large') {
    return { reading: { valid: false, reason: 'too-large', detail: 'too large for a record' }, bytes: undefined };
  }
  return bytes === undefined ? undefined : { reading: log.readBytes(slot, bytes), bytes };
}

/** The bytes at a slot, valid or not. */
export async function getRecord(
  store: ObjectReader,
  log: LineageLog,
  slot: Slot,
  options: Waiting,
): Promise<Uint8Array | 'too-large' | undefined> {
  try {
    return await store.get(logKey(log.lineage, slot), { ...options, bytesMax: recordBytesMax });
  } catch (error) {
    if (isHoldfastError(error, 'E_DAMAGED')) return 'too-large';
    throw error;
  }
}

function heldAgainst(reading: RecordReading, above: LogRecord | undefined): RecordReading {
  const wrong = reading.valid && above !== undefined ? contradiction(reading.record, above) : undefined;
  return wrong === undefined ? reading : { valid: false, reason: 'replaced', detail: wrong };
}
