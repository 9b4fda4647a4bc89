import { comparePacks, type PackEntry } from '../format/pack-entry.ts';
import { isCommitted, type LogRecord } from '../format/record.ts';
import { equalBytes } from '../model/bytes.ts';
import type { VolumeCheckpoint } from '../model/checkpoint.ts';
import { type Slot, toSlot } from '../model/ids.ts';
import type { CommitBase } from './lineage-writer.ts';
import type { LineageLog, ListedPacks } from './log.ts';

interface Waiting {
  readonly signal?: AbortSignal | undefined;
}

/** The base that the log gives below and with `head`: its newest CHECKPOINT and the PARTIALs above it, suspect ones included. */
export async function readBase(
  log: LineageLog,
  head: LogRecord | undefined,
  options: Waiting = {},
): Promise<CommitBase | undefined> {
  const found: LogRecord[] = [];
  for (let record = head; record !== undefined; record = await log.before(record, options)) {
    if (isCommitted(record.header.kind)) found.push(record);
    if (record.header.kind === 'CHECKPOINT') break;
  }
  let base: CommitBase | undefined;
  for (const record of found.reverse()) {
    base = addToBase(base, record, log.body(record).volumes, await log.packs(record, options));
  }
  if (base === undefined) return undefined;
  return (await withChosen(log, head, base, options)) ?? (await withGood(log, base, options));
}

/**
 * While an epoch holds no good CHECKPOINT, its volumes come from what its CLAIM names, and a loss is told by that: after a rollback the
 * next checkpoint is not suspect because it lacks what was rolled back. Undefined where nothing but the newest good one was named.
 */
async function withChosen(
  log: LineageLog,
  head: LogRecord | undefined,
  base: CommitBase,
  options: Waiting,
): Promise<CommitBase | undefined> {
  if (head === undefined) return undefined;
  const { epoch } = head.header;
  let newest = base.checkpoint?.record;
  while (newest !== undefined && newest.header.slot > epoch) {
    if (newest.header.kind === 'CHECKPOINT' && (await log.isGood(newest, options))) return undefined;
    newest = await log.before(newest, options);
  }
  while (newest !== undefined && newest.header.kind !== 'CHECKPOINT') newest = await log.before(newest, options);
  if (newest === undefined) return undefined;
  const claim = head.header.kind === 'CLAIM' ? head : await validAt(log, toSlot(epoch), options);
  const named = claim?.header.kind === 'CLAIM' ? claim.header.base : undefined;
  if (named === undefined || named.slot === newest.header.slot) return undefined;
  const record = await validAt(log, named.slot, options);
  if (record?.header.kind !== 'CHECKPOINT' || !equalBytes(record.digest, named.digest)) return undefined;
  const { volumes, setRoot } = log.body(record);
  // The same content: what is unchanged then is the newest one.
  if (equalBytes(setRoot, log.body(newest).setRoot)) return undefined;
  const { packs } = await log.packs(record, options);
  return { ...base, good: { record, volumes, packs } };
}

async function validAt(log: LineageLog, slot: Slot, options: Waiting): Promise<LogRecord | undefined> {
  const reading = await log.read(slot, options);
  return reading?.valid ? reading.record : undefined;
}

/** The base with what a suspect checkpoint is compared with: itself once it was released, else the newest good one below. */
export async function withGood(log: LineageLog, base: CommitBase, options: Waiting = {}): Promise<CommitBase> {
  const { checkpoint } = base;
  if (checkpoint === undefined || !checkpoint.record.header.suspect) return base;
  const record = await newestGood(log, checkpoint.record, options);
  if (record === undefined) return { ...base, good: undefined };
  const { packs } = await log.packs(record, options);
  return { ...base, good: { record, volumes: log.body(record).volumes, packs } };
}

/** The newest CHECKPOINT at or below `head` that is not suspect, or was released: the default restore point. */
export async function newestGood(
  log: LineageLog,
  head: LogRecord | undefined,
  options: Waiting = {},
): Promise<LogRecord | undefined> {
  let record = head;
  while (record !== undefined && !(await log.isGood(record, options))) record = await log.before(record, options);
  return record;
}

/** The base after one more record was committed on it. */
export function addToBase(
  base: CommitBase | undefined,
  record: LogRecord,
  volumes: readonly VolumeCheckpoint[],
  { packs, table }: ListedPacks,
): CommitBase {
  if (record.header.kind === 'CHECKPOINT') {
    const checkpoint = { record, volumes };
    const good = record.header.suspect ? base?.good : { ...checkpoint, packs };
    return { record, volumes, checkpoint, good, packs, table };
  }
  const { checkpoint, good } = base ?? {};
  return { record, volumes, checkpoint, good, packs: mergePacks(base?.packs ?? [], packs), table };
}

/** The union of two pack lists, sorted; of a pack in both, the entry of `b`. */
export function mergePacks(a: readonly PackEntry[], b: readonly PackEntry[]): readonly PackEntry[] {
  const merged = [...b, ...a].sort(comparePacks);
  return merged.filter((entry, i) => i === 0 || comparePacks(merged[i - 1] as PackEntry, entry) !== 0);
}
