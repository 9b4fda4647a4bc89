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
  return base;
}

/** The newest CHECKPOINT at or below `head` that is not suspect: the default restore point. */
export async function newestGood(
  log: LineageLog,
  head: LogRecord | undefined,
  options: Waiting = {},
): Promise<LogRecord | undefined> {
  let record = head;
  while (record !== undefined && !isGood(record)) record = await log.before(record, options);
  return record;
}

export function isGood(record: LogRecord): boolean {
  return record.header.kind === 'CHECKPOINT' && !record.header.suspect;
}

/** The base after one more record was committed on it. */
export function addToBase(
  base: CommitBase | undefined,
  record: LogRecord,
  volumes: readonly VolumeCheckpoint[],
  { packs, table }: ListedPacks,
): CommitBase {
  if (record.header.kind === 'CHECKPOINT') {
    return { record, volumes, checkpoint: { record, volumes }, packs, table };
  }
  return { record, volumes, checkpoint: base?.checkpoint, packs: mergePacks(base?.packs ?? [], packs), table };
}

/** The union of two pack lists, sorted; of a pack in both, the entry of `b`. */
export function mergePacks(a: readonly PackEntry[], b: readonly PackEntry[]): readonly PackEntry[] {
  const merged = [...b, ...a].sort(comparePacks);
  return merged.filter((entry, i) => i === 0 || comparePacks(merged[i - 1] as PackEntry, entry) !== 0);
}
