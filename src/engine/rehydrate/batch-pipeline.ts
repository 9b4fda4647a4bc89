/**
 * fetch → lane → reply for many batches at once. Memory is bounded: no more ciphertext is on its way or waiting for a lane than
 * the budget says, whatever the store's latency, and no more batches than the window.
 */
import type { ObjectReader } from '../ports/object-store.ts';
import type { Batch, BatchItem } from './batch.ts';
import { fetchSegments } from './fetch-segments.ts';
import { type JobReply, readReply } from './restore-job.ts';
import type { RestoreLanes } from './restore-lanes.ts';

export interface PipelineOptions<Item extends BatchItem> {
  readonly store: ObjectReader;
  readonly lanes: RestoreLanes;
  /** Ciphertext that may be in memory; a batch larger than this goes alone. */
  readonly bytesMax: number;
  readonly batchesMax: number;
  readonly tempPrefix: Uint8Array;
  readonly signal: AbortSignal | undefined;
  /** A batch is done; what it throws fails the pipeline. */
  readonly onReply: (batch: Batch<Item>, reply: JobReply) => void;
}

export class BatchPipeline<Item extends BatchItem> {
  readonly #options: PipelineOptions<Item>;
  readonly #running = new Set<Promise<void>>();
  #bytes = 0;
  #temps = 0;
  #failed: { readonly error: unknown } | undefined;

  constructor(options: PipelineOptions<Item>) {
    this.#options = options;
  }

  /** Resolves when the batch is under way; rejects with the first failure of any batch. The batch is released in any case. */
  async submit(batch: Batch<Item>, kind: number): Promise<void> {
    try {
      const plan = batch.plan();
      const { bytesMax, batchesMax, signal } = this.#options;
      while (this.#running.size >= batchesMax || (this.#running.size > 0 && this.#bytes + plan.bytes > bytesMax)) {
        await Promise.race(this.#running);
      }
      this.#throwIfFailed();
      signal?.throwIfAborted();
      this.#bytes += plan.bytes;
      const temps = { prefix: this.#options.tempPrefix, first: this.#temps };
      this.#temps += batch.count;
      const running = this.#run(batch, kind, plan, temps).finally(() => {
        this.#bytes -= plan.bytes;
        this.#running.delete(running);
      });
      this.#running.add(running);
    } catch (error) {
      batch.release();
      throw error;
    }
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
    plan: Parameters<typeof fetchSegments>[0],
    temps: { readonly prefix: Uint8Array; readonly first: number },
  ): Promise<void> {
    try {
      const { store, lanes, signal, onReply } = this.#options;
      const fetched = await fetchSegments(plan, store, signal);
      if (this.#failed !== undefined) return;
      const job = batch.encode(kind, fetched.segments, temps);
      const reply = lanes.run(job, fetched.buffers, plan.bytes + batch.plainBytes + batch.count * 8192);
      onReply(batch, readReply(reply instanceof Uint8Array ? reply : await reply));
    } catch (error) {
      this.#failed ??= { error };
    } finally {
      batch.release();
    }
  }

  #throwIfFailed(): void {
    if (this.#failed !== undefined) throw this.#failed.error;
  }
}
