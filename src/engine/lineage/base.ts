import { comparePacks, type PackEntry } from '../format/pack-entry.ts';
import { isCommitted, type LogRecord } from '../format/record.ts';
import type { VolumeCheckpoint } from '../model/checkpoint.ts';
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
  return base === undefined ? undefined : await withGood(log, base, options);
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
