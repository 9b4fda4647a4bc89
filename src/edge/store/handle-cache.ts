import { HoldfastError } from '../../engine/model/errors.ts';

/** What a cache holds: something that is opened once, used by several at a time, and closed when nobody needs it. */
export interface Closable {
  close(): Promise<void>;
}

interface Held<T> {
  readonly opened: Promise<T>;
  users: number;
  /** Left the cache while somebody still used it; the last user closes it. */
  dropped: boolean;
}

/**
 * Keeps the `sizeMax` most recently used handles open. Handles in use are never closed, so more than `sizeMax` are open
 * when more than that are in use at once: the callers' own concurrency is the bound.
 */
export class HandleCache<T extends Closable> {
  readonly #sizeMax: number;
  // Least recently used first.
  readonly #held = new Map<string, Held<T>>();
  #closed = false;

  constructor(sizeMax: number) {
    this.#sizeMax = sizeMax;
  }

  /** Runs `work` with the handle of `key`, opening it by `open` when it is not held. */
  async use<R>(key: string, open: () => Promise<T>, work: (handle: T) => Promise<R>): Promise<R> {
    if (this.#closed) throw new HoldfastError('E_INTERNAL', 'the store was used after it had been closed');
    let held = this.#held.get(key);
    if (held === undefined) {
      held = { opened: open(), users: 0, dropped: false };
    } else {
      this.#held.delete(key);
    }
    this.#held.set(key, held);
    held.users += 1;
    try {
      let handle: T;
      try {
        handle = await held.opened;
      } catch (error) {
        // What could not be opened is not held: the next caller tries again.
        if (this.#held.get(key) === held) this.#held.delete(key);
        throw error;
      }
      return await work(handle);
    } finally {
      held.users -= 1;
      if (held.users === 0 && held.dropped) await closeQuietly(held.opened);
      await this.#trim(this.#sizeMax);
    }
  }

  /** Forgets the handle of `key`, at once or after its last use. */
  async drop(key: string): Promise<void> {
    const held = this.#held.get(key);
    if (held === undefined) return;
    this.#held.delete(key);
    if (held.users > 0) held.dropped = true;
    else await closeQuietly(held.opened);
  }

  /** Closes every handle that is not in use; the number closed. For when the process runs out of file descriptors. */
  async closeIdle(): Promise<number> {
    return this.#trim(0);
  }

  /** Closes all handles, those in use after their last use. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const key of [...this.#held.keys()]) await this.drop(key);
  }

  async #trim(sizeMax: number): Promise<number> {
    const idle: Held<T>[] = [];
    for (const [key, held] of this.#held) {
      if (this.#held.size <= sizeMax) break;
      if (held.users > 0) continue;
      this.#held.delete(key);
      idle.push(held);
    }
    for (const held of idle) await closeQuietly(held.opened);
    return idle.length;
  }
}

/** Only handles for reading are kept here, so an error of close() tells nothing. */
async function closeQuietly(opened: Promise<Closable>): Promise<void> {
  try {
    await (await opened).close();
  } catch {}
}
