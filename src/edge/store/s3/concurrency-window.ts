import { HoldfastError } from '../../../engine/model/errors.ts';
import type { Clock } from '../../../engine/ports/clock.ts';

/** A refusal for being too fast concerns all requests under way when it came; within so long it counts once. */
const shrinkAgainMs = 1000;

/**
 * How many requests may be under way, by additive increase and multiplicative decrease: one more for each window of
 * successes while the window is in use, half as many when the store says that it is too much.
 */
export class ConcurrencyWindow {
  readonly #clock: Clock;
  readonly #max: number;
  #limit: number;
  #active = 0;
  #shrunkMs = Number.NEGATIVE_INFINITY;
  readonly #waiting: (() => void)[] = [];

  /** `max` requests at most; begins with `first`, a quarter of them by default. */
  constructor(clock: Clock, max: number, first: number = Math.ceil(max / 4)) {
    this.#clock = clock;
    this.#max = max;
    this.#limit = Math.max(1, first);
  }

  /** Requests that may be under way now. */
  get limit(): number {
    return Math.floor(this.#limit);
  }

  /** Runs `work` when there is room. E_ABORTED when the signal fires while it waits. */
  async use<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    await this.#enter(signal);
    try {
      return await work();
    } finally {
      this.#active -= 1;
      this.#admit();
    }
  }

  /** A request has succeeded. */
  grow(): void {
    // A window that is not in use says nothing about what the store can take.
    if (this.#active * 2 >= this.#limit) this.#limit = Math.min(this.#max, this.#limit + 1 / this.#limit);
    this.#admit();
  }

  /** The store has refused a request for being too fast. */
  shrink(): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#shrunkMs < shrinkAgainMs) return;
    this.#shrunkMs = nowMs;
    this.#limit = Math.max(1, this.#limit / 2);
  }

  #enter(signal: AbortSignal | undefined): Promise<void> {
    if (this.#active < this.limit) {
      this.#active += 1;
      return Promise.resolve();
    }
    // Its event has passed already.
    if (signal?.aborted) return Promise.reject(interrupted(signal));
    return new Promise((resolve, reject) => {
      const admitted = (): void => {
        signal?.removeEventListener('abort', aborted);
        resolve();
      };
      const aborted = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(admitted), 1);
        reject(interrupted(signal));
      };
      this.#waiting.push(admitted);
      signal?.addEventListener('abort', aborted, { once: true });
    });
  }

  #admit(): void {
    while (this.#active < this.limit) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      this.#active += 1;
      next();
    }
  }
}

function interrupted(signal: AbortSignal | undefined): HoldfastError {
  return new HoldfastError('E_ABORTED', 'interrupted while waiting to ask the store', { cause: signal?.reason });
}
