/** What ends the sleep of the agent's loop before its time. Marks only: the loop does the work. */
import type { Clock } from '../engine/ports/clock.ts';

export class Wake {
  readonly #clock: Clock;
  #pending = false;
  #sleeper: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Ends the sleep that is under way, or the next one before it begins. */
  call(): void {
    this.#pending = true;
    this.#sleeper?.();
  }

  /** Sleeps for so long, or until called. */
  async sleep(ms: number): Promise<void> {
    if (!this.#pending && ms > 0) {
      const ending = new AbortController();
      this.#sleeper = () => ending.abort();
      try {
        // Timers take 2^31 - 1 ms at most.
        await this.#clock.wait(Math.min(ms, 2 ** 31 - 1), { signal: ending.signal });
      } catch {
        // Called.
      } finally {
        this.#sleeper = undefined;
      }
    }
    this.#pending = false;
  }
}
