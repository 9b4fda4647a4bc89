/** The real clock. */
import { setTimeout as sleep } from 'node:timers/promises';
import { HoldfastError } from '../../engine/model/errors.ts';
import type { Clock } from '../../engine/ports/clock.ts';

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  async wait(ms, { signal } = {}) {
    try {
      await sleep(ms, undefined, signal === undefined ? {} : { signal });
    } catch (cause) {
      throw new HoldfastError('E_ABORTED', 'a wait was ended by its signal', { cause });
    }
  },
};
