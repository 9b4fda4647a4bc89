import { HoldfastError } from '../../engine/model/errors.ts';
import type { Clock } from '../../engine/ports/clock.ts';

/**
 * Work that is given up after `ms`, undefined for never; its signal fires then, or when `signal` does. E_STORE_UNREACHABLE after the time, else what the work
 * throws.
 */
export async function within<Result>(
  clock: Clock,
  ms: number | undefined,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  if (ms === undefined) return await work(signal);
  const late = new AbortController();
  const over = new AbortController();
  const both = AbortSignal.any([signal, late.signal]);
  const wait = clock.wait(Math.max(ms, 0), { signal: AbortSignal.any([signal, over.signal]) }).then(
    () => late.abort(new HoldfastError('E_STORE_UNREACHABLE', 'the store did not answer in time')),
    () => undefined,
  );
  try {
    return await work(both);
  } catch (error) {
    throw late.signal.aborted && !signal.aborted ? late.signal.reason : error;
  } finally {
    over.abort();
    await wait;
  }
}
