/**
 * fetch → lane → reply for many batches at once. Memory is bounded: no more ciphertext is held than the window allows. The
 * window is small at first and grows, up to the budget, only when lanes run out of work while bytes are still on their way:
 * so a slow store gets many requests at once, and a fast one costs no more memory than the lanes can use.
 */
import type { ObjectReader } from '../ports/object-store.ts';
import type { Batch, BatchItem } from './batch.ts';
import { type JobReply, noteKind, readReply } from './restore-job.ts';
import type { RestoreLanes } from './restore-lanes.ts';
import { type FetchedSegments, rangeBytesMax, type SegmentClaim, SegmentRanges } from './segment-ranges.ts';

export interface PipelineOptions<Item extends BatchItem> {
  readonly store: ObjectReader;
  readonly lanes: RestoreLanes;
  /** Ciphertext that may be on its way or held; a batch larger than this goes alone. */
  readonly bytesMax: number;
  readonly tempPrefix: Uint8Array;
  readonly signal: AbortSignal | undefined;
  /** A batch is done; what it throws fails the pipeline. */
  readonly onReply: (batch: Batch<Item>, reply: JobReply) => void;
}

/** What the window begins with, for each lane: the range it works on and half of the next one. */
const windowBytesPerLane: number = 1.5 * rangeBytesMax;
const batchesMax = 64;

export class BatchPipeline<Item extends BatchItem> {
  readonly #options: PipelineOptions<Item>;
  readonly #running = new Set<Promise<void>>();
  readonly #ranges: SegmentRanges;
  #window: number;
  /** Jobs that lanes have. */
  #jobs = 0;
  #temps = 0;
  #failed: { readonly error: unknown } | undefined;

  constructor(options: PipelineOptions<Item>) {
    this.#options = options;
    const { store, lanes, signal } = options;
    this.#ranges = new SegmentRanges({ store, memory: lanes.memory, signal });
    this.#window = firstWindow(options);
  }

  /** Resolves when the batch is under way; rejects with the first failure of any batch. The batch is released in any case. */
  async submit(batch: Batch<Item>, kind: number): Promise<void> {
    const ranges = this.#ranges;
    const claim = ranges.claim(batch.segments);
    try {
      const { signal } = this.#options;
      while (this.#isFull(claim) && this.#running.size > 0) await Promise.race(this.#running);
      this.#throwIfFailed();
      signal?.throwIfAborted();
      ranges.read(claim, this.#window);
      const temps = { prefix: this.#options.tempPrefix, first: this.#temps };
      this.#temps += batch.count;
      const running = this.#run(batch, kind, claim, temps).finally(() => this.#running.delete(running));
      this.#running.add(running);
    } catch (error) {
      ranges.release(claim);
      batch.release();
      throw error;
    }
  }

  /** After a job: more in flight when a lane has no work although bytes are on their way, less when jobs pile up: one for each lane may wait. */
  #adapt(): void {
    const { bytesMax, lanes } = this.#options;
    // The batch that has just ended still counts as running.
    const fetching = this.#running.size - 1 - this.#jobs;
    if (fetching > 0 && this.#jobs < Math.max(1, lanes.count)) this.#window = Math.min(bytesMax, 1.25 * this.#window);
    else if (this.#jobs > 2 * lanes.count) this.#window = Math.max(firstWindow(this.#options), 0.9 * this.#window);
  }

  /** While every lane has its next job, a large range later is better than a small one now. */
  #isFull({ bytes, bytesWished }: SegmentClaim): boolean {
    const busy = this.#jobs > this.#options.lanes.count;
    return this.#running.size >= batchesMax || !this.#ranges.makeRoom(busy ? bytesWished : bytes, this.#window);
  }

  /** Number that no temporary name of a batch has. */
  nextTemp(): number {
    return this.#temps++;
  }

  /** Waits until one batch more is done, if any runs. */
  async step(): Promise<void> {
    if (this.#running.size > 0) await Promise.race(this.#running);
    this.#throwIfFailed();
  }

  get idle(): boolean {
    return this.#running.size === 0;
  }

  /** What is under way now; never rejects. */
  async settled(): Promise<void> {
    await Promise.all(this.#running);
  }

  /** Waits for all. */
  async drain(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
    this.#throwIfFailed();
  }

  /** Never rejects: a failure is kept for the next call. */
  async #run(
    batch: Batch<Item>,
    kind: number,
    claim: SegmentClaim,
    temps: { readonly prefix: Uint8Array; readonly first: number },
  ): Promise<void> {
    try {
      const fetched = await this.#ranges.segments(claim);
      if (this.#failed !== undefined) return;
      const bytes = batch.storedBytes + batch.plainBytes + batch.count * 8192;
      const first = await this.#job(batch.encode(kind, fetched.segments, temps), fetched, bytes);
      const damaged = damagedItems(first);
      if (damaged.length === 0) {
        this.#options.onReply(batch, first);
        return;
      }
      // Bits change on their way too: what is damaged is read once more before that is believed.
      const again = await this.#ranges.again(claim);
      const second = await this.#job(batch.encodeOnly(damaged, kind, again.segments, temps), again, bytes);
      this.#options.onReply(batch, {
        bytes: first.bytes + second.bytes,
        done: first.done + second.done,
        notes: [
          ...first.notes.filter((note) => note.kind !== noteKind.damaged),
          ...second.notes.map((note) => ({ ...note, item: damaged[note.item] as number })),
        ],
      });
    } catch (error) {
      this.#failed ??= { error };
    } finally {
      this.#ranges.release(claim);
      batch.release();
    }
  }

  async #job(job: Uint8Array, { buffers }: FetchedSegments, bytes: number): Promise<JobReply> {
    this.#jobs++;
    try {
      const reply = this.#options.lanes.run(job, buffers, bytes);
      return readReply(reply instanceof Uint8Array ? reply : await reply);
    } finally {
      this.#jobs--;
      this.#adapt();
    }
  }

  #throwIfFailed(): void {
    if (this.#failed !== undefined) throw this.#failed.error;
  }
}

/** The numbers of items that could not be done for what was read. */
function damagedItems({ notes }: JobReply): number[] {
  const numbers = notes.filter(({ kind }) => kind === noteKind.damaged).map(({ item }) => item);
  return [...new Set(numbers)].sort((a, b) => a - b);
}

function firstWindow({ bytesMax, lanes }: Pick<PipelineOptions<BatchItem>, 'bytesMax' | 'lanes'>): number {
  return Math.min(bytesMax, windowBytesPerLane * Math.max(1, lanes.count));
}
