/**
 * How far a second store has got with one lineage, and whether what it holds is a copy at all. It is asked for once, when a copy begins:
 * there is no other state.
 */
import { logKey, logPrefix, packPrefix, parseLogKey } from '../format/object-keys.ts';
import type { LogRecord } from '../format/record.ts';
import { contradiction, type LineageLog } from '../lineage/log.ts';
import { equalBytes } from '../model/bytes.ts';
import { HoldfastError } from '../model/errors.ts';
import { type LineageName, type Slot, toSlot } from '../model/ids.ts';
import type { CopyParts, Waiting } from './copy-parts.ts';
import { readNewRecords } from './new-records.ts';

export interface TargetState {
  /** The newest valid record; slot 0: none. */
  readonly head: Slot;
  readonly record: LogRecord | undefined;
  /** Packs and records that are there, with their sizes. */
  readonly known: Map<string, number>;
}

/**
 * Looks at the target of a lineage. Records name the digest of their predecessor: where the newest record of the target is a record
 * of the source, all below it are. E_DIVERGED when it is not.
 */
export async function readTarget(
  { source, target }: Pick<CopyParts, 'source' | 'target'>,
  sourceLog: LineageLog,
  targetLog: LineageLog,
  options: Waiting,
): Promise<TargetState> {
  const { lineage } = sourceLog;
  const record = await targetLog.newest(options);
  const head = record?.header.slot ?? toSlot(0);
  const known = new Map<string, number>();
  for (const { key, bytes } of await target.list(packPrefix(lineage), options)) known.set(key, bytes);
  // What stands above the head is no record.
  for (const { key, bytes } of await target.list(logPrefix(lineage), options)) {
    const slot = parseLogKey(lineage, key);
    if (slot !== undefined && slot <= head) known.set(key, bytes);
  }
  if (record === undefined) return { head, record, known };
  const standing = await sourceLog.read(head, options);
  if (standing?.valid) {
    if (!equalBytes(standing.record.digest, record.digest)) throw await ownHistory(sourceLog, targetLog, options);
    return { head, record, known };
  }
  // Trimmed or damaged in the source, if the records above it agree; else it was never there.
  const { lowest } = await readNewRecords(source, sourceLog, head, () => undefined, options);
  const contradicted = lowest !== undefined && contradiction(record, lowest) !== undefined;
  const { kind } = record.header;
  const neverTrimmed = lowest === undefined || kind === 'CLAIM' || kind === 'SEAL';
  if (contradicted || (standing === undefined && neverTrimmed)) throw await ownHistory(sourceLog, targetLog, options);
  return { head, record, known };
}

/** E_DIVERGED with the first slot of the target that the source does not share. */
async function ownHistory(sourceLog: LineageLog, targetLog: LineageLog, options: Waiting): Promise<HoldfastError> {
  let from: Slot | undefined;
  for await (const { header, digest } of targetLog.records(options)) {
    const standing = await sourceLog.read(header.slot, options);
    if (standing?.valid && equalBytes(standing.record.digest, digest)) break;
    from = header.slot;
  }
  return diverged(sourceLog.lineage, from ?? toSlot(0));
}

export function diverged(lineage: LineageName, from: Slot): HoldfastError {
  return new HoldfastError(
    'E_DIVERGED',
    `the second store has a history of its own of ${lineage}, from slot ${from} on`,
    {
      details: { lineage, slot: from, key: logKey(lineage, from), store: 'target' },
      remedy:
        'Somebody went on there, as after a fail-over; nothing was written over it. To come back, stop that writer and copy the other way into an empty store, or keep both histories by another --lineage.',
    },
  );
}
