import type { Clock } from '../../../engine/ports/clock.ts';

const tokensMax = 64;
const tokensPerSecond = 4;
const tokensPerSuccess = 0.2;

/**
 * Keeps retries from becoming a storm: all requests of a store share tokens, each retry takes one, time and successes bring
 * them back. Without tokens a retry waits; it is not given up, because a cut of a minute must not end a long upload.
 */
export class RetryBudget {
  readonly #clock: Clock;
  #tokens = tokensMax;
  #atMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#atMs = clock.monotonicMs();
  }

  /** A request has succeeded. */
  succeeded(): void {
    this.#refill(tokensPerSuccess);
  }

  /** Takes a token, also one that is not there yet; the ms to wait for it. */
  take(): number {
    this.#refill(0);
    this.#tokens -= 1;
    return this.#tokens >= 0 ? 0 : (-this.#tokens / tokensPerSecond) * 1000;
  }

  #refill(extra: number): void {
    const nowMs = this.#clock.monotonicMs();
    this.#tokens = Math.min(tokensMax, this.#tokens + ((nowMs - this.#atMs) / 1000) * tokensPerSecond + extra);
    this.#atMs = nowMs;
  }
}
