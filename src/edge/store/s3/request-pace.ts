import type { Clock } from '../../../engine/ports/clock.ts';

/**
 * So many requests a second, attempts of the same one included: whoever pays for each, or shares a server, may want a bound. What was
 * not used is kept for one second, so that a short rush does not wait.
 */
export class RequestPace {
  readonly #clock: Clock;
  readonly #perSecond: number | undefined;
  #allowed: number;
  #atMs: number;

  /** Undefined sets no bound. */
  constructor(clock: Clock, perSecond: number | undefined) {
    this.#clock = clock;
    this.#perSecond = perSecond;
    this.#allowed = perSecond ?? 0;
    this.#atMs = clock.monotonicMs();
  }

  /** Takes the next turn, and tells the ms until it comes. */
  take(): number {
    const perSecond = this.#perSecond;
    if (perSecond === undefined) return 0;
    const nowMs = this.#clock.monotonicMs();
    this.#allowed = Math.min(perSecond, this.#allowed + ((nowMs - this.#atMs) / 1000) * perSecond);
    this.#atMs = nowMs;
    this.#allowed -= 1;
    return this.#allowed >= 0 ? 0 : (-this.#allowed / perSecond) * 1000;
  }
}
