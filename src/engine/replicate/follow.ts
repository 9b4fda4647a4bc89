/** Keeps a second store close behind the first, for as long as it is wanted, over outages of either. */
import { type HoldfastError, isHoldfastError } from '../model/errors.ts';
import type { Clock } from '../ports/clock.ts';
import { isOutage, type RepositoryCopy } from './copy-repository.ts';

export interface FollowSettings {
  /** From the end of a round to the next, ms. */
  readonly everyMs: number;
  readonly signal: AbortSignal;
}

export interface FollowEvents {
  /** After a round that changed something, and once a minute. */
  onStatus(): void;
  /** A store does not answer, or refuses. `retryMs`: when the next round is. */
  onOutage(error: HoldfastError, retryMs: number): void;
  /** It works again. */
  onRecovered(): void;
}

const statusMs = 60_000;
const retryMsMin = 1000;
const retryMsMax = 60_000;

/**
 * Rounds until the signal fires, or until no lineage can go on. Each asks every lineage for its head, by one LIST; lineages that have begun,
 * and what lies beside the logs, are looked for once a minute. Thrown is only what is a defect.
 */
export async function follow(
  copy: RepositoryCopy,
  clock: Clock,
  { everyMs, signal }: FollowSettings,
  events: FollowEvents,
): Promise<void> {
  let saidMs = Number.NEGATIVE_INFINITY;
  let widelyMs = Number.NEGATIVE_INFINITY;
  let failures = 0;
  let before = '';
  while (!signal.aborted) {
    const startedMs = clock.monotonicMs();
    const widely = startedMs - widelyMs >= statusMs;
    const error = await round(copy, widely, signal);
    if (signal.aborted) break;
    if (error === undefined) {
      if (failures > 0) events.onRecovered();
      failures = 0;
      if (widely) widelyMs = startedMs;
    } else failures += 1;
    const now = stateOf(copy);
    if (now !== before || clock.monotonicMs() - saidMs >= statusMs) {
      saidMs = clock.monotonicMs();
      before = now;
      events.onStatus();
    }
    const lineages = [...copy.lineages.values()];
    if (lineages.length > 0 && lineages.every(({ stopped }) => stopped)) return;
    const retryMs = Math.min(retryMsMax, retryMsMin * 2 ** Math.min(failures - 1, 10));
    if (error !== undefined) events.onOutage(error, retryMs);
    try {
      await clock.wait(error === undefined ? everyMs : retryMs, { signal });
    } catch (failure) {
      if (!isHoldfastError(failure, 'E_ABORTED')) throw failure;
    }
  }
}

/** The outage that kept a round from being whole. */
async function round(copy: RepositoryCopy, widely: boolean, signal: AbortSignal): Promise<HoldfastError | undefined> {
  try {
    if (widely) await copy.discover({ signal });
    await copy.round({ notes: widely }, { signal });
  } catch (error) {
    if (signal.aborted && isHoldfastError(error)) return undefined;
    if (isHoldfastError(error) && isOutage(error)) return error;
    throw error;
  }
  return [...copy.lineages.values()].find(({ error, stopped }) => error !== undefined && !stopped)?.error;
}

function stateOf({ lineages }: RepositoryCopy): string {
  return [...lineages.values()]
    .map(({ name, copy, error }) => `${name} ${copy?.head.slot} ${copy?.lag?.records} ${error?.code}`)
    .join('\n');
}
