import { isCommitted, type LogRecord } from '../format/record.ts';
import { type HolderId, type Slot, toSlot } from '../model/ids.ts';
import type { EpochFacts } from './claim-rule.ts';
import type { LineageLog } from './log.ts';

/**
 * The epochs of a log from the head down to the newest one of `me`, or to `lowest` when it has none above that. Two or three
 * reads an epoch, however many checkpoints lie in it: each record names its predecessor, and collection never trims a CLAIM or
 * the last record of an epoch.
 */
export async function readEpochs(
  log: LineageLog,
  head: LogRecord | undefined,
  until: { readonly me: HolderId; readonly lowest: Slot },
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<readonly EpochFacts[]> {
  const epochs: EpochFacts[] = [];
  let last = head;
  while (last !== undefined) {
    const { epoch, holder, holderName, kind } = last.header;
    let record: LogRecord | undefined = last;
    let committed = toSlot(0);
    while (record !== undefined && record.header.epoch === epoch && committed === 0 && record.header.kind !== 'CLAIM') {
      if (isCommitted(record.header.kind)) committed = record.header.slot;
      else record = await log.before(record, options);
    }
    epochs.push({ epoch, holder, holderName, sealed: kind === 'SEAL', committed });
    if (holder === until.me || epoch <= until.lowest) break;
    last = await lastBelow(log, last, options);
  }
  return epochs;
}

/** The newest valid record below the CLAIM of that record's epoch. */
async function lastBelow(
  log: LineageLog,
  record: LogRecord,
  options: { readonly signal?: AbortSignal | undefined },
): Promise<LogRecord | undefined> {
  const slot = toSlot(record.header.epoch);
  if (record.header.kind === 'CLAIM') return await log.before(record, options);
  const claim = await log.read(slot, options);
  if (claim?.valid && claim.record.header.kind === 'CLAIM') return await log.before(claim.record, options);
  return await log.newest({ ...options, below: slot });
}
