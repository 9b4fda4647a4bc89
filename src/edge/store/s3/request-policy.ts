import { HoldfastError } from '../../../engine/model/errors.ts';
import type { Clock } from '../../../engine/ports/clock.ts';
import type { RandomSource } from '../../../engine/ports/random.ts';
import { type StoreIntent, throwIfAborted } from '../store-error.ts';
import { ConcurrencyWindow } from './concurrency-window.ts';
import { RequestPace } from './request-pace.ts';
import { RetryBudget } from './retry-budget.ts';
import { failureOf, toS3Error } from './s3-error.ts';

const delayMsFirst = 100;
const delayMsMax = 20_000;
/** A store that has not answered once in this process is likely a wrong address: nobody wants to wait minutes for that. */
const firstPatienceMsMax = 10_000;
/** How often one request asks for newer credentials: a token may be replaced a moment after it was refused, not minutes. */
const renewalsMax = 4;

/** What a request tells about its earlier attempts. */
export interface Attempt {
  /** An earlier attempt of this request ended without a clear answer: it may have had its effect, now or later. */
  readonly unclear: boolean;
  /** An earlier attempt may have been refused for this machine's clock; this one is signed with the store's time. */
  readonly corrected: boolean;
  /** An earlier attempt has failed, and this one may: ask before sending much (ask-first.ts). */
  readonly again: boolean;
}

/** A request that is about to be tried again. */
export interface RetryNotice {
  readonly doing: string;
  /** The store's code or the errno. */
  readonly reason: string;
  /** How long this request has been failing, and until when it waits now, in ms. */
  readonly failingMs: number;
  readonly delayMs: number;
}

export interface RequestPolicyOptions {
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly requestsMax: number;
  /** Attempts a second, at most; undefined sets no bound. */
  readonly requestsPerSecond?: number | undefined;
  readonly patienceMs: number;
  /** Gets newer credentials from where they come from, for the attempts that follow. */
  readonly renewCredentials?: (() => Promise<unknown>) | undefined;
  /** Called before each wait for another attempt. */
  readonly onRetry?: ((notice: RetryNotice) => void) | undefined;
  readonly ending?: Ending | undefined;
}

/** From when the signal fires on, the process has so long to live: waits that are under way end, and those that follow are short. */
export interface Ending {
  readonly signal: AbortSignal;
  readonly msMax: number;
}

export interface Request {
  /** Completes "the store failed while …". */
  readonly doing: string;
  readonly intent: StoreIntent;
  readonly signal?: AbortSignal | undefined;
  readonly details?: Readonly<Record<string, unknown>>;
}

/**
 * How all requests to one store are made: so many at a time as the store takes, each tried again with full jitter until it
 * succeeds, fails for good, or has failed for longer than the patience that was asked for. Refused credentials are renewed,
 * once for all requests that they were refused to.
 */
export class RequestPolicy {
  readonly window: ConcurrencyWindow;
  readonly #options: RequestPolicyOptions;
  readonly #budget: RetryBudget;
  readonly #pace: RequestPace;
  /** The store has answered, in whatever way. */
  #heard = false;
  /** A request was given up and none has succeeded since: the patience is for the store, not for each request anew. */
  #exhausted = false;
  /** Counts renewals of the credentials. */
  #generation = 0;
  #renewing: Promise<void> | undefined;

  constructor(options: RequestPolicyOptions) {
    this.#options = options;
    this.window = new ConcurrencyWindow(options.clock, options.requestsMax);
    this.#budget = new RetryBudget(options.clock);
    this.#pace = new RequestPace(options.clock, options.requestsPerSecond);
  }

  /**
   * Runs `attempt` until it succeeds. It throws what the SDK throws to be judged and perhaps tried again, or a HoldfastError
   * to end the request. Throws HoldfastErrors only.
   */
  async run<T>(request: Request, attempt: (attempt: Attempt) => Promise<T>): Promise<T> {
    const { doing, intent, signal, details } = request;
    const { clock, onRetry } = this.#options;
    let unclear = false;
    let failingSinceMs: number | undefined;
    let renewals = 0;
    let corrected = false;
    for (let failures = 0; ; failures += 1) {
      throwIfAborted(signal, doing);
      let generation = this.#generation;
      try {
        const value = await this.window.use(signal, async () => {
          const turnMs = this.#pace.take();
          if (turnMs > 0) await clock.wait(turnMs, signal === undefined ? {} : { signal });
          throwIfAborted(signal, doing);
          generation = this.#generation;
          const result = await attempt({ unclear, corrected, again: failures > 0 });
          this.window.grow();
          return result;
        });
        this.#heard = true;
        this.#exhausted = false;
        this.#budget.succeeded();
        return value;
      } catch (error) {
        if (error instanceof HoldfastError) throw error;
        throwIfAborted(signal, doing);
        const { retry, reason, status } = failureOf(error);
        if (status !== undefined) this.#heard = true;
        // Signed with the store's own time, and refused as before: time was not the reason.
        if (retry === 'final' || (retry === 'skewed' && corrected)) throw toS3Error(error, doing, intent, details);
        const nowMs = clock.monotonicMs();
        failingSinceMs ??= nowMs;
        if (retry === 'expired') {
          if (renewals === renewalsMax) throw toS3Error(error, doing, intent, { ...details, renewals });
          renewals += 1;
          await this.#renew(generation);
        } else if (retry === 'skewed') {
          corrected = true;
        } else {
          unclear = true;
          if (retry === 'throttled') this.window.shrink();
        }
        const failingMs = nowMs - failingSinceMs;
        if (failingMs >= this.#patienceMs()) {
          this.#exhausted = true;
          throw toS3Error(error, doing, intent, { ...details, failingMs });
        }
        const delayMs = this.#jittered(failures) + this.#budget.take();
        onRetry?.({ doing, reason, failingMs, delayMs });
        await this.#wait(delayMs, signal);
      }
    }
  }

  /** Between two attempts. The end of the process is no time to wait for: the store may be back. */
  async #wait(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
    const { clock, ending } = this.#options;
    const waked = ending === undefined || ending.signal.aborted ? undefined : ending.signal;
    const signals = [signal, waked].filter((each) => each !== undefined);
    try {
      await clock.wait(delayMs, signals.length === 0 ? {} : { signal: AbortSignal.any(signals) });
    } catch (error) {
      if (signal?.aborted === true || waked?.aborted !== true) throw error;
    }
  }

  /** Gets credentials newer than those of a generation. Where none can be had, the next attempt is refused again and says so. */
  async #renew(generation: number): Promise<void> {
    const { renewCredentials } = this.#options;
    if (generation !== this.#generation || renewCredentials === undefined) return;
    this.#renewing ??= renewCredentials()
      .then(
        () => {
          this.#generation += 1;
        },
        () => {},
      )
      .finally(() => {
        this.#renewing = undefined;
      });
    await this.#renewing;
  }

  #patienceMs(): number {
    const { ending } = this.#options;
    const patienceMs = Math.min(this.#options.patienceMs, ending?.signal.aborted === true ? ending.msMax : Infinity);
    return this.#heard && !this.#exhausted ? patienceMs : Math.min(patienceMs, firstPatienceMsMax);
  }

  /** Anything from nothing to a bound that doubles: whoever failed together does not come back together. */
  #jittered(failures: number): number {
    const { ending } = this.#options;
    const longestMs = ending?.signal.aborted === true ? Math.min(delayMsMax, ending.msMax / 20) : delayMsMax;
    const boundMs = Math.min(longestMs, delayMsFirst * 2 ** Math.min(failures, 30));
    const [a = 0, b = 0, c = 0] = this.#options.random.bytes(3);
    return (boundMs * ((a << 16) | (b << 8) | c)) / 0x1000000;
  }
}
