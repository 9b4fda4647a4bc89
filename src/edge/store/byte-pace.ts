import { HoldfastError, invariant } from '../../engine/model/errors.ts';
import type { Clock } from '../../engine/ports/clock.ts';

export interface BytePaceOptions {
  readonly clock: Clock;
  readonly bytesPerSecond: number;
  /** From when it fires on nothing is held back any more. */
  readonly lifted?: AbortSignal | undefined;
  /** Told how long somebody has waited. */
  readonly onWaited?: ((ms: number) => void) | undefined;
}

/**
 * So many bytes a second, on the average: a token bucket that holds the bytes of one second. What is larger than that is waited for as
 * a whole; who comes later waits behind it.
 */
export class BytePace {
  readonly #options: BytePaceOptions;
  #allowed: number;
  #atMs: number;

  constructor(options: BytePaceOptions) {
    invariant(options.bytesPerSecond > 0, 'a limit lets something through');
    this.#options = options;
    this.#allowed = options.bytesPerSecond;
    this.#atMs = options.clock.monotonicMs();
  }

  /** What is worth sending at once: a quarter of a second. */
  get bytesAtOnce(): number {
    return Math.max(64 * 1024, Math.ceil(this.#options.bytesPerSecond / 4));
  }

  get isLifted(): boolean {
    return this.#options.lifted?.aborted === true;
  }

  /** So many have passed: whoever comes next waits for it. */
  owe(bytes: number): void {
    const { clock, bytesPerSecond } = this.#options;
    const nowMs = clock.monotonicMs();
    this.#allowed = Math.min(bytesPerSecond, this.#allowed + ((nowMs - this.#atMs) / 1000) * bytesPerSecond) - bytes;
    this.#atMs = nowMs;
  }

  /** Resolves when so many bytes may pass. E_ABORTED when the signal fires first. */
  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    if (this.isLifted) return;
    const { clock, bytesPerSecond, lifted, onWaited } = this.#options;
    this.owe(bytes);
    if (this.#allowed >= 0) return;
    const nowMs = this.#atMs;
    const signals = [signal, lifted].filter((each) => each !== undefined);
    try {
      await clock.wait((-this.#allowed / bytesPerSecond) * 1000, { signal: AbortSignal.any(signals) });
    } catch (cause) {
      if (signal?.aborted === true) {
        // It was not sent.
        this.#allowed += bytes;
        throw new HoldfastError('E_ABORTED', 'interrupted while waiting for the bandwidth limit', { cause });
      }
      if (!this.isLifted) throw cause;
    } finally {
      onWaited?.(clock.monotonicMs() - nowMs);
    }
  }
}
