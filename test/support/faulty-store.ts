import { type ErrorCode, HoldfastError, invariant } from '../../src/engine/model/errors.ts';
import type {
  CreateOutcome,
  ListOptions,
  ObjectInfo,
  ObjectReader,
  ObjectSweeper,
  ObjectUpload,
  ObjectWriter,
  UnfinishedUpload,
  RangeOptions,
  WaitOptions,
} from '../../src/engine/ports/object-store.ts';
import type { RandomSource } from '../../src/engine/ports/random.ts';
import { throwIfAborted } from '../../src/edge/store/store-error.ts';

/*
 * A store whose requests get lost, doubled, late or torn, as those of a network do, for the simulator.
 *
 *   const faults = new Faults({ random, scheduler, rates: { lostReply: 0.05, delayed: 0.02, slow: 0.2 }, hook });
 *   const store = new FaultyWriter(new MemoryStore(), faults);     // give this to the engine
 *   …
 *   faults.rates = {};                                             // a store that works again, for the final checks
 *
 * Everything replays from a seed: each request draws the same number of bytes from `random`, at the moment it is made,
 * before anything is awaited. So the faults follow from the order in which requests are made, and from nothing else; that
 * order is the simulator's, together with its scheduler. One `Faults` may serve several stores (one sequence of numbers
 * for all), or each agent gets its own (then one agent's requests do not change another's faults).
 *
 * A request goes through these points, in this order:
 *   1. `hook` with phase `before`: nothing has happened yet;
 *   2. the wait of a slow request, by `scheduler.wait`; a request whose signal has fired ends here with E_ABORTED;
 *   3. the effect on the wrapped store, or what the fault makes of it;
 *   4. `hook` with phase `after`: says what has really happened, which the caller may never learn;
 *   5. the reply or the error reaches the caller.
 * A crash of the caller is a hook that throws an error of the simulator's own or, as in a real crash no line of the
 * caller runs any more, returns a promise that never settles. Crash at every point = count the points of a run without
 * crashes, then run again with the hook striking at point 1, 2, 3, …
 */

/** What can happen to a request. Which of them apply to which request stands in `applicable` below. */
export type FaultKind =
  /** The request never arrives: no effect, E_STORE_UNREACHABLE. Of an abort: the upload stays as it is, and no error. */
  | 'lostRequest'
  /** The effect happens, the reply is lost: E_STORE_UNREACHABLE. */
  | 'lostReply'
  /** The request arrives twice, and the caller gets the second reply: `exists` for an object of its own. */
  | 'doubled'
  /** The request arrives now, with its reply, and once more when the scheduler says. */
  | 'echoed'
  /** E_STORE_UNREACHABLE now, the effect when the scheduler says, perhaps never. */
  | 'delayed'
  /** Of an append: a part of the bytes arrives, then E_STORE_IO. The unfinished object stays in the wrapped store. */
  | 'torn'
  /** No effect, E_STORE_FULL. */
  | 'full'
  /** No effect, E_STORE_IO. */
  | 'failed';

/** Chance of each fault per request it applies to, 0 to 1, together at most 1. `slow` comes on top of any of them. */
export type FaultRates = Readonly<Partial<Record<FaultKind | 'slow', number>>>;

export type StoreOperation =
  | 'get'
  | 'getRange'
  | 'stat'
  | 'list'
  | 'create'
  | 'beginUpload'
  | 'append'
  | 'commit'
  | 'abort'
  | 'delete';

/** An effect that is still under way. The simulator runs it once, at any later moment, or drops it. */
export interface PendingEffect {
  /** Number of the request it belongs to. */
  readonly request: number;
  readonly operation: StoreOperation;
  readonly key: string;
  /** Lets the effect happen, by the rules of the wrapped store: a late create finds the key taken. Never rejects; what came of it. */
  run(): Promise<string>;
}

/** The simulator's hand on time. */
export interface FaultScheduler {
  /** Ends after `ms` of the simulator's time, or rejects with E_ABORTED when the signal fires. `Clock.wait` fits. */
  wait(ms: number, options?: WaitOptions): Promise<void>;
  /** Takes an effect that is to happen later. */
  later(effect: PendingEffect): void;
}

/** A moment at which the caller may crash, and at which the simulator may look at everything. */
export interface RequestPoint {
  readonly phase: 'before' | 'after';
  /** Counts the requests of one `Faults`, from 1. */
  readonly request: number;
  readonly operation: StoreOperation;
  /** Of a list: its prefix. */
  readonly key: string;
  /** What has been drawn for this request. */
  readonly fault: FaultKind | undefined;
  /** After: what has happened in the wrapped store by now; `pending` when it may happen later. Before: `none`. */
  readonly effect: 'none' | 'done' | 'pending';
  /** After, of create and commit: what the wrapped store answered, whether or not the caller learns it. */
  readonly outcome?: CreateOutcome;
}

export interface FaultSettings {
  readonly random: RandomSource;
  readonly scheduler: FaultScheduler;
  readonly rates?: FaultRates;
  /** Longest wait of a slow request, in ms of the simulator's time; default 1000. */
  readonly slowMsMax?: number;
  readonly hook?: (point: RequestPoint) => void | Promise<void>;
}

const readFaults: readonly FaultKind[] = ['lostRequest', 'lostReply', 'failed'];

/** In the order in which one number decides among them: a change here changes what every seed means. */
const applicable: Readonly<Record<StoreOperation, readonly FaultKind[]>> = {
  get: readFaults,
  getRange: readFaults,
  stat: readFaults,
  list: readFaults,
  create: ['lostRequest', 'lostReply', 'doubled', 'echoed', 'delayed', 'full', 'failed'],
  beginUpload: ['lostRequest', 'lostReply', 'full', 'failed'],
  append: ['lostRequest', 'torn', 'full', 'failed'],
  commit: ['lostRequest', 'lostReply', 'doubled', 'delayed', 'full', 'failed'],
  abort: ['lostRequest'],
  delete: ['lostRequest', 'lostReply', 'doubled', 'echoed', 'delayed', 'failed'],
};

const errorOf: Readonly<Partial<Record<FaultKind, ErrorCode>>> = {
  lostRequest: 'E_STORE_UNREACHABLE',
  lostReply: 'E_STORE_UNREACHABLE',
  delayed: 'E_STORE_UNREACHABLE',
  torn: 'E_STORE_IO',
  full: 'E_STORE_FULL',
  failed: 'E_STORE_IO',
};

interface Draw {
  readonly request: number;
  readonly fault: FaultKind | undefined;
  readonly slowMs: number;
  /** 0 to 1: how much of a torn append arrives. */
  readonly share: number;
}

interface Request<T> {
  readonly operation: StoreOperation;
  readonly key: string;
  readonly signal: AbortSignal | undefined;
  /** The effect on the wrapped store. */
  readonly effect: () => Promise<T>;
  /** The reply to the second arrival of the same request; the effect once more where that is left out. */
  readonly again?: (first: T) => Promise<T>;
  /** What a torn request does; `share` 0 to 1. */
  readonly tear?: (share: number) => Promise<void>;
  /** Called when the effect has been put off. */
  readonly onDelay?: () => void;
  /** The reply where a lost request gives no error. */
  readonly unheard?: T;
}

/** Decides what happens to each request, and asks the hook at each point. */
export class Faults {
  /** May be changed at any time, for the requests made from then on. */
  rates: FaultRates;
  /** While true, nothing new fits into the store: create, beginUpload, append and commit give E_STORE_FULL. */
  full = false;
  readonly #random: RandomSource;
  readonly #scheduler: FaultScheduler;
  readonly #slowMsMax: number;
  readonly #hook: (point: RequestPoint) => void | Promise<void>;
  readonly #injected = new Map<FaultKind | 'slow', number>();
  #requests = 0;
  #leftovers = 0;

  constructor(settings: FaultSettings) {
    this.rates = settings.rates ?? {};
    this.#random = settings.random;
    this.#scheduler = settings.scheduler;
    this.#slowMsMax = settings.slowMsMax ?? 1000;
    this.#hook = settings.hook ?? (() => {});
  }

  /** How many requests met each fault, so that a run can be shown to have met what it was to meet. */
  get injected(): ReadonlyMap<FaultKind | 'slow', number> {
    return this.#injected;
  }

  /** Requests made so far; each has two points. */
  get requests(): number {
    return this.#requests;
  }

  /** Uploads left unfinished in the wrapped store by torn appends and lost aborts. */
  get leftovers(): number {
    return this.#leftovers;
  }

  /** For the stores of this file. */
  countLeftover(): void {
    this.#leftovers += 1;
  }

  /** For the stores of this file: takes one request through its points. */
  request<T>(request: Request<T>): Promise<T> {
    // Drawn before the first await, so that the order of requests alone decides.
    return this.#run(request, this.#draw(request.operation));
  }

  async #run<T>(request: Request<T>, draw: Draw): Promise<T> {
    const { operation, key, signal } = request;
    const at = { request: draw.request, operation, key, fault: draw.fault } as const;
    await this.#hook({ ...at, phase: 'before', effect: 'none' });
    if (draw.slowMs > 0) await this.#scheduler.wait(draw.slowMs, signal === undefined ? {} : { signal });
    throwIfAborted(signal, `${operation} ${key}`);
    const after = async (effect: 'none' | 'done' | 'pending', reply?: unknown): Promise<void> => {
      const outcome = reply === 'created' || reply === 'exists' ? { outcome: reply as CreateOutcome } : {};
      await this.#hook({ ...at, phase: 'after', effect, ...outcome });
    };
    switch (draw.fault) {
      case undefined: {
        const reply = await request.effect();
        await after('done', reply);
        return reply;
      }
      case 'doubled': {
        const first = await request.effect();
        const second = await (request.again === undefined ? request.effect() : request.again(first));
        await after('done', first);
        return second;
      }
      case 'echoed': {
        const reply = await request.effect();
        this.#later(request, draw);
        await after('done', reply);
        return reply;
      }
      case 'lostReply': {
        await after('done', await request.effect());
        throw faultOf(draw.fault, operation, key);
      }
      case 'delayed':
        this.#later(request, draw);
        request.onDelay?.();
        await after('pending');
        throw faultOf(draw.fault, operation, key);
      case 'torn':
        await request.tear?.(draw.share);
        await after('none');
        throw faultOf(draw.fault, operation, key);
      case 'lostRequest':
      case 'full':
      case 'failed':
        await after('none');
        if (request.unheard !== undefined) return request.unheard;
        throw faultOf(draw.fault, operation, key);
    }
  }

  #later<T>(request: Request<T>, draw: Draw): void {
    let done = false;
    this.#scheduler.later({
      request: draw.request,
      operation: request.operation,
      key: request.key,
      run: async () => {
        invariant(!done, 'an effect happens once');
        done = true;
        try {
          return String(await request.effect());
        } catch (error) {
          return error instanceof HoldfastError ? error.code : String(error);
        }
      },
    });
  }

  #draw(operation: StoreOperation): Draw {
    this.#requests += 1;
    const drawn = this.#random.bytes(12);
    const numbers = new DataView(drawn.buffer, drawn.byteOffset, drawn.byteLength);
    const chance = (at: number): number => numbers.getUint32(at, true) / 2 ** 32;
    const isSlow = chance(4) < (this.rates.slow ?? 0);
    // The same number says whether and how long: below the rate it is even in 0 to rate.
    const slowMs = isSlow ? 1 + Math.floor((chance(4) / this.rates.slow!) * this.#slowMsMax) : 0;
    const fault = this.#choose(operation, chance(0));
    if (isSlow) this.#injected.set('slow', (this.#injected.get('slow') ?? 0) + 1);
    if (fault !== undefined) this.#injected.set(fault, (this.#injected.get(fault) ?? 0) + 1);
    return { request: this.#requests, fault, slowMs, share: chance(8) };
  }

  #choose(operation: StoreOperation, chance: number): FaultKind | undefined {
    const kinds = applicable[operation];
    if (this.full && kinds.includes('full')) return 'full';
    let reached = 0;
    let chosen: FaultKind | undefined;
    for (const kind of kinds) {
      reached += this.rates[kind] ?? 0;
      if (chance < reached) chosen ??= kind;
    }
    invariant(reached <= 1, `the rates of faults of ${operation} add up to ${reached}`);
    return chosen;
  }
}

/** A reader whose requests meet faults. */
export class FaultyReader<S extends ObjectReader = ObjectReader> implements ObjectReader {
  protected readonly store: S;
  protected readonly faults: Faults;

  constructor(store: S, faults: Faults) {
    this.store = store;
    this.faults = faults;
  }

  get(key: string, options: WaitOptions & { readonly bytesMax: number }): Promise<Uint8Array | undefined> {
    const effect = () => this.store.get(key, options);
    return this.faults.request({ operation: 'get', key, signal: options.signal, effect });
  }

  getRange(key: string, start: number, length: number, options: RangeOptions = {}): Promise<Uint8Array> {
    const effect = () => this.store.getRange(key, start, length, options);
    return this.faults.request({ operation: 'getRange', key, signal: options.signal, effect });
  }

  stat(key: string, options: WaitOptions = {}): Promise<ObjectInfo | undefined> {
    const effect = () => this.store.stat(key, options);
    return this.faults.request({ operation: 'stat', key, signal: options.signal, effect });
  }

  list(prefix: string, options: ListOptions = {}): Promise<readonly ObjectInfo[]> {
    const effect = () => this.store.list(prefix, options);
    return this.faults.request({ operation: 'list', key: prefix, signal: options.signal, effect });
  }
}

/** A writer whose requests meet faults. An upload that has met one ends: only abort() may follow. */
export class FaultyWriter extends FaultyReader<ObjectWriter> implements ObjectWriter {
  create(key: string, bytes: Uint8Array, options: WaitOptions = {}): Promise<CreateOutcome> {
    // A copy, and no signal: the effect may come when the caller has long used its buffer again, or is gone.
    const sent = new Uint8Array(bytes);
    const effect = () => this.store.create(key, sent);
    return this.faults.request({ operation: 'create', key, signal: options.signal, effect });
  }

  async beginUpload(key: string, options: WaitOptions = {}): Promise<ObjectUpload> {
    let begun: ObjectUpload | undefined;
    const effect = async () => {
      begun = await this.store.beginUpload(key);
      return begun;
    };
    try {
      const upload = await this.faults.request({ operation: 'beginUpload', key, signal: options.signal, effect });
      return new FaultyUpload(upload, this.faults, key, options.signal);
    } catch (error) {
      // The reply was lost: nobody knows of that upload, and it stays.
      if (begun !== undefined) this.faults.countLeftover();
      throw error;
    }
  }

  unfinished(prefix: string, options?: WaitOptions): Promise<readonly UnfinishedUpload[]> {
    return this.store.unfinished(prefix, options);
  }
}

/** A sweeper whose requests meet faults. */
export class FaultySweeper extends FaultyReader<ObjectSweeper> implements ObjectSweeper {
  delete(key: string, options: WaitOptions = {}): Promise<boolean> {
    const effect = () => this.store.delete(key);
    return this.faults.request({ operation: 'delete', key, signal: options.signal, effect });
  }
}

class FaultyUpload implements ObjectUpload {
  readonly #upload: ObjectUpload;
  readonly #faults: Faults;
  readonly #key: string;
  readonly #signal: AbortSignal | undefined;
  #state: 'open' | 'ended' | 'left' = 'open';

  constructor(upload: ObjectUpload, faults: Faults, key: string, signal: AbortSignal | undefined) {
    this.#upload = upload;
    this.#faults = faults;
    this.#key = key;
    this.#signal = signal;
  }

  append(bytes: Uint8Array): Promise<void> {
    const sent = new Uint8Array(bytes);
    return this.#step({
      operation: 'append',
      key: this.#key,
      signal: this.#signal,
      effect: () => this.#upload.append(sent),
      tear: async (share) => {
        await this.#upload.append(sent.subarray(0, Math.floor(share * sent.length)));
        this.#leave();
      },
    });
  }

  commit(): Promise<CreateOutcome> {
    // The object may exist from then on, or later when the effect is put off: no abort takes it back.
    const leave = () => {
      this.#state = 'left';
    };
    return this.#step<CreateOutcome>({
      operation: 'commit',
      key: this.#key,
      signal: this.#signal,
      effect: () => {
        leave();
        return this.#upload.commit();
      },
      again: async () => 'exists',
      onDelay: leave,
    });
  }

  async abort(): Promise<void> {
    const done = await this.#faults.request({
      operation: 'abort',
      key: this.#key,
      signal: undefined,
      effect: async () => {
        if (this.#state !== 'left') await this.#upload.abort();
        return true;
      },
      unheard: false,
    });
    if (!done && this.#state !== 'left') this.#leave();
    this.#state = 'left';
  }

  async #step<T>(request: Request<T>): Promise<T> {
    if (this.#state !== 'open') throw new HoldfastError('E_ABORTED', `the upload of ${this.#key} was given up`);
    try {
      return await this.#faults.request(request);
    } catch (error) {
      if (this.#state === 'open') this.#state = 'ended';
      throw error;
    }
  }

  #leave(): void {
    this.#state = 'left';
    this.#faults.countLeftover();
  }
}

function faultOf(fault: FaultKind, operation: StoreOperation, key: string): HoldfastError {
  const code = errorOf[fault];
  invariant(code !== undefined, `the fault ${fault} gives no error`);
  return new HoldfastError(code, `${operation} ${key}: ${fault}`, { details: { operation, key, fault } });
}
