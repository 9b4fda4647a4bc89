/**
 * Going back to an older checkpoint, once. Pods of a workload start with the same request again and again, so it has to be known which of
 * them has carried it out: the CLAIM names the value that its volumes were restored by, and the value counts as honoured as soon as the pod
 * of that CLAIM has stored a good checkpoint. Before that the next pod goes back once more, or a pod that dies early would bring
 * back what was to be left behind.
 *
 * A CLAIM that went on past an honoured value says so as well: the next pod then need not look any further.
 */
import { claimLabels } from '../../contract/claim-labels.ts';
import type { LogRecord } from '../../engine/format/record.ts';
import { newestGood } from '../../engine/lineage/base.ts';
import type { LineageLog } from '../../engine/lineage/log.ts';
import { type CheckpointSelector, resolveCheckpoint } from '../../engine/lineage/resolve.ts';
import { HoldfastError, isHoldfastError } from '../../engine/model/errors.ts';
import { type HolderId, type Slot, toSlot } from '../../engine/model/ids.ts';
import type { RehydrateRun } from './rehydrate-run.ts';

export interface RestoreAt {
  /** As it was given: by this it is told apart from another request. */
  readonly text: string;
  readonly at: Extract<CheckpointSelector, { by: 'id' | 'time' }>;
}

/** Of the clocks of two nodes. */
const clockMsMax = 300_000;
/** No pod went back to a time that was not over, as far as clocks agree: claims from long before it need no look. */
const marginMs = 86_400_000;

/**
 * The checkpoint to go back to; undefined where nothing was asked for, where it was done before, or where there is nothing to go back from. E_BLOCKED
 * where nothing is what was asked for: no policy says what to start with instead. E_USAGE for a time that is not over. E_STORE_*.
 */
export async function checkpointToGoBackTo(
  run: RehydrateRun,
  log: LineageLog,
  head: LogRecord | undefined,
): Promise<LogRecord | undefined> {
  const { restoreAt, slots } = run.settings;
  forgetGoingBack(run);
  if (restoreAt === undefined) return undefined;
  const { text, at } = restoreAt;
  const { signal } = run;
  if (at.by === 'time' && at.timeMs > run.ports.clock.nowMs() + clockMsMax) {
    throw new HoldfastError(
      'E_USAGE',
      `--restore-at ${text} is not over yet: what will be stored until then is not known`,
      {
        remedy: 'Give a time that is over, or the id of a checkpoint; a day alone means its end.',
      },
    );
  }
  // Who writes nothing has nothing to go on from, and begins from there each time.
  const honoured = slots?.mode === 'seed' ? undefined : await honouredBy(run, log, head, restoreAt);
  if (honoured !== undefined) {
    run.restoreAt = { value: text, outcome: 'honoured-before' };
    run.claimLabels = { [claimLabels.restoreAtHonoured]: text };
    return undefined;
  }
  const newest = await newestGood(log, head, { signal });
  // Whether that is a first boot, or all that there was is lost, is judged as always.
  if (newest === undefined) return undefined;
  const record = await resolved(run, log, restoreAt);
  run.restoreAt = { value: text, outcome: 'restored' };
  run.claimLabels = { [claimLabels.restoreAt]: text };
  run.ports.onEvent({
    event: 'rehydrate.rollback',
    message: `going back to checkpoint ${record.header.slot}, by --restore-at ${text}; those above it stay in the log`,
    details: { slot: record.header.slot, newest: newest.header.slot },
  });
  return record;
}

/** What an attempt has found to go back to is no longer what the volumes begin with: neither receipt nor CLAIM may say so. */
export function forgetGoingBack(run: RehydrateRun): void {
  const { restoreAt } = run.settings;
  run.goesBack = false;
  run.claimLabels = {};
  run.restoreAt = restoreAt === undefined ? null : { value: restoreAt.text, outcome: 'not-applied' };
}

async function resolved(run: RehydrateRun, log: LineageLog, { text, at }: RestoreAt): Promise<LogRecord> {
  try {
    return await resolveCheckpoint(log, at, { expect: run.expect, signal: run.signal });
  } catch (error) {
    if (!isHoldfastError(error, 'E_NOT_FOUND')) throw error;
    throw new HoldfastError('E_BLOCKED', `--restore-at ${text} names nothing to go back to: ${error.message}`, {
      cause: error,
      details: { lineage: log.lineage, restoreAt: text },
      remedy:
        'Look up what there is with holdfast ls, and correct the annotation holdfast.dev/restore-at, or take it away to start from the newest checkpoint.',
    });
  }
}

/** The CLAIM that shows that it was done; undefined when none does. */
async function honouredBy(
  { signal }: RehydrateRun,
  log: LineageLog,
  head: LogRecord | undefined,
  { text, at }: RestoreAt,
): Promise<Slot | undefined> {
  const waiting = { signal };
  const oldestMs = at.by === 'time' ? at.timeMs - marginMs : Number.NEGATIVE_INFINITY;
  /** Who has stored a good checkpoint, in an epoch that was looked at. */
  const stored = new Set<HolderId>();
  for (let last = head; last !== undefined; ) {
    const { epoch, holder } = last.header;
    if (!stored.has(holder) && (await holdsGood(log, last, waiting))) stored.add(holder);
    const slot = toSlot(epoch);
    const claim = last.header.kind === 'CLAIM' ? last : await validAt(log, slot, waiting);
    const has = (name: string): boolean =>
      claim?.header.labels.some((label) => label.name === name && label.value === text) === true;
    if (has(claimLabels.restoreAtHonoured) || (has(claimLabels.restoreAt) && stored.has(holder))) return slot;
    if (claim !== undefined && claim.header.timeMs < oldestMs) return undefined;
    last = claim === undefined ? await log.newest({ ...waiting, below: slot }) : await log.before(claim, waiting);
  }
  return undefined;
}

/** Whether the epoch of that record, its newest one, has a good CHECKPOINT. */
async function holdsGood(
  log: LineageLog,
  last: LogRecord,
  waiting: { readonly signal: AbortSignal },
): Promise<boolean> {
  const { epoch } = last.header;
  let record: LogRecord | undefined = last;
  while (record !== undefined && record.header.epoch === epoch && record.header.kind !== 'CLAIM') {
    if (await log.isGood(record, waiting)) return true;
    record = await log.before(record, waiting);
  }
  return false;
}

async function validAt(
  log: LineageLog,
  slot: Slot,
  waiting: { readonly signal: AbortSignal },
): Promise<LogRecord | undefined> {
  const reading = await log.read(slot, waiting);
  return reading?.valid && reading.record.header.kind === 'CLAIM' ? reading.record : undefined;
}
