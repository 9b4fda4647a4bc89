/**
 * Lanes as worker threads, or one lane in the calling thread.
 *
 * Invariants: replies of a lane come in the order of its jobs; parts of a lane reach the consumer in the order in which they
 * were made, those of a job before its reply; a slot is not written again before its consumer is done with it. A thread
 * that dies, or a consumer that fails, fails everything that waits and all that comes after.
 */
import { Worker } from 'node:worker_threads';
import { emptyBytes } from '../../engine/model/bytes.ts';
import { HoldfastError, isHoldfastError } from '../../engine/model/errors.ts';
import type { LaneHooks, LaneJob, LanePool, LaneReply, LaneStarter } from '../../engine/ports/lanes.ts';
import type { CreatePipeline, LanePipeline } from './lane-endpoint.ts';
import {
  controlIndex,
  createLaneMemory,
  detached,
  fromLaneFailure,
  type LaneMemory,
  type LaneMessage,
  type LaneOrder,
  slotState,
} from './lane-protocol.ts';

export interface WorkerLanesOptions {
  /** Module that a worker thread runs; it must call serveLane. Its `workerData` is `{ kind }`, as given to `start`. */
  readonly entry: URL;
  /** Pipelines for `lanes` 0. */
  readonly createPipeline: CreatePipeline;
  /** Parts that one lane may be ahead, default 4. */
  readonly slotCount?: number;
  /** Larger parts are split, default 256 KiB. */
  readonly slotBytes?: number;
  /**
   * Memory of new objects in each thread, default 6 MiB (semi-spaces of 2 MiB). The pipelines make few objects, and a
   * large nursery would only be touched once and stay resident.
   */
  readonly youngGenerationMib?: number;
  /** A thread that has not ended this long after close is terminated, default 10 s. */
  readonly endMsMax?: number;
}

type Settings = Required<Omit<WorkerLanesOptions, 'createPipeline'>>;

export function createLaneStarter(options: WorkerLanesOptions): LaneStarter {
  const settings: Settings = {
    entry: options.entry,
    slotCount: options.slotCount ?? 4,
    slotBytes: options.slotBytes ?? 256 * 1024,
    youngGenerationMib: options.youngGenerationMib ?? 6,
    endMsMax: options.endMsMax ?? 10_000,
  };
  return {
    async start(kind, lanes, laneSettings, hooks) {
      if (lanes === 0) {
        return new CallingThreadPool(
          (emit) => options.createPipeline({ kind, lane: 0, lanes: 1, settings: laneSettings }, emit),
          hooks,
        );
      }
      return new WorkerPool(kind, lanes, laneSettings, hooks, settings);
    },
  };
}

type LaneKind = Parameters<LaneStarter['start']>[0];

interface Waiting {
  readonly resolve: (reply: LaneReply) => void;
  readonly reject: (error: unknown) => void;
}

interface Lane {
  readonly worker: Worker;
  readonly memory: LaneMemory;
  readonly control: Int32Array;
  readonly waiting: Waiting[];
  readonly ended: Promise<void>;
}

class WorkerPool implements LanePool {
  readonly #lanes: readonly Lane[];
  readonly #hooks: LaneHooks;
  readonly #endMsMax: number;
  #failure: HoldfastError | undefined;
  #closing: Promise<void> | undefined;

  constructor(
    kind: 'capture' | 'rehydrate',
    lanes: number,
    laneSettings: unknown,
    hooks: LaneHooks,
    settings: Settings,
  ) {
    this.#hooks = hooks;
    this.#endMsMax = settings.endMsMax;
    const opened: Lane[] = [];
    this.#lanes = opened;
    try {
      for (let lane = 0; lane < lanes; lane++) {
        const { memory, worker } = this.#open(kind, lane, settings, opened);
        const start: LaneOrder = { type: 'start', kind, lane, lanes, settings: laneSettings, memory };
        worker.postMessage(start);
      }
    } catch (error) {
      // Settings that cannot be cloned, or no room for another thread.
      for (const { worker } of opened) void worker.terminate();
      throw error;
    }
  }

  get size(): number {
    return this.#lanes.length;
  }

  run(lane: number, job: LaneJob): Promise<LaneReply> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const { worker, waiting } = this.#lanes[lane] as Lane;
    const moved = new Set<ArrayBuffer>();
    const buffers = (job.buffers ?? []).map((bytes) => {
      if (bytes.buffer instanceof SharedArrayBuffer) return bytes;
      const own = detached(bytes);
      moved.add(own.buffer);
      return own;
    });
    const order: LaneOrder = { type: 'job', bytes: sized(job.bytes), buffers };
    return new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      worker.postMessage(order, [...moved]);
    });
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#fail(new HoldfastError('E_ABORTED', 'the lanes were closed'));
    await Promise.all(
      this.#lanes.map(async ({ worker, control, ended }) => {
        // Wakes a lane that waits for a slot; it gives up its job and so closes what it has open.
        Atomics.store(control, controlIndex.stop, 1);
        for (let i = controlIndex.firstSlot; i < control.length; i++) Atomics.notify(control, i);
        const end: LaneOrder = { type: 'end' };
        worker.postMessage(end);
        const timer = setTimeout(() => void worker.terminate(), this.#endMsMax);
        await ended;
        clearTimeout(timer);
      }),
    );
  }

  #open(kind: LaneKind, lane: number, settings: Settings, lanes: Lane[]): Lane {
    const { entry, slotCount, slotBytes, youngGenerationMib } = settings;
    const memory = createLaneMemory(slotCount, slotBytes);
    const worker = new Worker(entry, {
      name: `lane-${lane}`,
      workerData: { kind },
      resourceLimits: { maxYoungGenerationSizeMb: youngGenerationMib },
      // Descriptors pass between threads: none belongs to the thread that opened it.
      trackUnmanagedFds: false,
    });
    const opened: Lane = {
      worker,
      memory,
      control: new Int32Array(memory.control),
      waiting: [],
      ended: new Promise((resolve) => {
        worker.once('exit', (code) => {
          if (this.#closing === undefined) this.#fail(lost(`a lane ended with exit code ${code}`));
          resolve();
        });
      }),
    };
    lanes.push(opened);
    worker.on('message', (message: LaneMessage) => this.#receive(lane, opened, message));
    worker.on('messageerror', (cause) => this.#fail(lost('a message of a lane cannot be read', cause)));
    worker.on('error', (cause: NodeJS.ErrnoException) =>
      this.#fail(
        cause.code === 'ERR_WORKER_INIT_FAILED'
          ? new HoldfastError('E_LIMIT', `a lane cannot start: ${cause.message}`, { cause })
          : lost('a lane died', cause),
      ),
    );
    return opened;
  }

  #receive(lane: number, { memory, control, waiting }: Lane, message: LaneMessage): void {
    if (message.type === 'part') {
      const { pack, slot, length, end } = message;
      const bytes = slot === undefined ? emptyBytes : new Uint8Array(memory.slots, slot * memory.slotBytes, length);
      void this.#consume({ lane, pack, bytes, end }).finally(() => {
        if (slot === undefined) return;
        Atomics.store(control, controlIndex.firstSlot + slot, slotState.free);
        Atomics.notify(control, controlIndex.firstSlot + slot);
      });
      return;
    }
    const first = waiting.shift();
    if (message.type === 'reply') first?.resolve({ bytes: message.bytes });
    else first?.reject(fromLaneFailure(message.failure));
  }

  async #consume(part: Parameters<LaneHooks['onPackPart']>[0]): Promise<void> {
    // After a failure parts are dropped, so that no lane waits for ever.
    if (this.#failure !== undefined) return;
    try {
      await this.#hooks.onPackPart(part);
    } catch (error) {
      this.#fail(isHoldfastError(error) ? error : lost('the consumer of pack parts failed', error));
    }
  }

  /** The first failure stays. */
  #fail(error: HoldfastError): void {
    this.#failure ??= error;
    for (const { waiting } of this.#lanes) {
      for (const { reject } of waiting.splice(0)) reject(this.#failure);
    }
  }
}

/** One lane in the calling thread: what it emits waits in copies until its consumer has taken it, job by job. */
class CallingThreadPool implements LanePool {
  readonly size = 1;
  readonly #pipeline: LanePipeline;
  #last: Promise<unknown> = Promise.resolve();
  #taken: Promise<void>[] = [];
  #failure: unknown;
  #closed = false;

  constructor(
    create: (emit: (pack: number, bytes: Uint8Array, end: boolean) => void) => LanePipeline,
    hooks: LaneHooks,
  ) {
    this.#pipeline = create((pack, bytes, end) => {
      if (bytes.length === 0 && !end) return;
      this.#taken.push(hooks.onPackPart({ lane: 0, pack, bytes: bytes.slice(), end }));
    });
  }

  run(_lane: number, job: LaneJob): Promise<LaneReply> {
    const reply = this.#last.then(async () => {
      if (this.#closed) throw new HoldfastError('E_ABORTED', 'the lanes were closed');
      if (this.#failure !== undefined) throw this.#failure;
      try {
        return this.#pipeline.run(job);
      } finally {
        await this.#settle();
      }
    });
    this.#last = reply.catch(() => undefined);
    return reply;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#last;
  }

  async #settle(): Promise<void> {
    const taken = this.#taken;
    this.#taken = [];
    for (const outcome of await Promise.allSettled(taken)) {
      if (outcome.status === 'rejected') this.#failure ??= outcome.reason;
    }
    if (this.#failure !== undefined) throw this.#failure;
  }
}

function lost(message: string, cause?: unknown): HoldfastError {
  return new HoldfastError('E_INTERNAL', cause instanceof Error ? `${message}: ${cause.message}` : message, { cause });
}

/** Cloning a view clones all of its buffer: a small view of a large one is cut out first. */
function sized(bytes: Uint8Array): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : bytes.slice();
}
