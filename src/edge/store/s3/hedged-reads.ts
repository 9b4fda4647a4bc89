import type { Clock } from '../../../engine/ports/clock.ts';

/** Reads of about one size take about one time; these are the upper bounds of the sizes, in bytes. */
const classBounds: readonly number[] = [64 * 1024, 512 * 1024, Number.POSITIVE_INFINITY];
const durationsKept = 32;
/** With fewer nobody knows what is slow. */
const durationsMin = 8;
const slowFactor = 3;
const delayMsMin = 100;
/** Of all reads so many may be asked for twice: where all are slow, asking twice makes it worse. */
const shareMax = 0.05;
const tokensMax = 4;
/** A second answer takes memory that nobody planned. */
const twiceAtOnceMax = 2;

/**
 * Asks a second time for what takes three times as long as such reads usually do, and takes the answer that comes first. One slow
 * connection or server so does not hold up a restore whose other parts are there.
 */
export class HedgedReads {
  readonly #clock: Clock;
  readonly #durations: readonly number[][] = classBounds.map(() => []);
  #tokens = tokensMax;
  #twice = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Runs `read`, perhaps twice, the second time with `again`; `bytes` is what it reads. The signal that `read` is given fires
   * when its answer is not needed any more, or when `signal` fires; both have ended when this does. Throws what the read throws that fails last.
   */
  async run<T>(
    bytes: number,
    signal: AbortSignal | undefined,
    read: (signal: AbortSignal | undefined, again: boolean) => Promise<T>,
  ): Promise<T> {
    const durations = this.#durations[classBounds.findIndex((bound) => bytes <= bound)] as number[];
    this.#tokens = Math.min(tokensMax, this.#tokens + shareMax);
    const startMs = this.#clock.monotonicMs();
    const delayMs = slowAfterMs(durations);
    const value = delayMs === undefined ? await read(signal, false) : await this.#hedged(delayMs, signal, read);
    durations.push(this.#clock.monotonicMs() - startMs);
    if (durations.length > durationsKept) durations.shift();
    return value;
  }

  async #hedged<T>(
    delayMs: number,
    signal: AbortSignal | undefined,
    read: (signal: AbortSignal, again: boolean) => Promise<T>,
  ): Promise<T> {
    const ended = new AbortController();
    const within = signal === undefined ? ended.signal : AbortSignal.any([signal, ended.signal]);
    const early = new AbortController();
    const first = settled(read(within, false)).then((result) => {
      early.abort(answered);
      return result;
    });
    const slow = this.#clock.wait(delayMs, { signal: early.signal }).then(
      () => undefined,
      () => undefined,
    );
    const result = await Promise.race([first, slow]);
    if (result !== undefined || within.aborted || !this.#mayAskTwice()) return open(result ?? (await first));
    this.#twice += 1;
    this.#tokens -= 1;
    const second = settled(read(within, true));
    try {
      const winner = await Promise.race([first, second]);
      if (winner.ok) return winner.value;
      const [a, b] = await Promise.all([first, second]);
      return open(a.ok ? a : b);
    } finally {
      ended.abort(answered);
      // Nobody writes to the memory of an answer that was given.
      await Promise.all([first, second]);
      this.#twice -= 1;
    }
  }

  #mayAskTwice(): boolean {
    return this.#tokens >= 1 && this.#twice < twiceAtOnceMax;
  }
}

/** Made once: an error for each read costs more than the rest of this. */
const answered = new Error('the answer is there');

/** After how long a read is slow; undefined while nobody knows. */
function slowAfterMs(durations: readonly number[]): number | undefined {
  if (durations.length < durationsMin) return undefined;
  const sorted = durations.toSorted((a, b) => a - b);
  return Math.max(delayMsMin, slowFactor * (sorted[sorted.length >> 1] as number));
}

type Settled<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: unknown };

async function settled<T>(running: Promise<T>): Promise<Settled<T>> {
  return running.then(
    (value): Settled<T> => ({ ok: true, value }),
    (error: unknown): Settled<T> => ({ ok: false, error }),
  );
}

function open<T>(result: Settled<T>): T {
  if (result.ok) return result.value;
  throw result.error;
}
