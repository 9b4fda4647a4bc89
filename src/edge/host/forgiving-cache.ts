/**
 * A local cache that gives up instead of failing: what it holds can be made again, and a full or broken state directory is no reason
 * to go without a checkpoint. After the first failure everything reads as absent and what is written is dropped, until `tryAgain`;
 * what was half written is removed, which leaves the room to what must be kept.
 */
import { HoldfastError, invariant } from '../../engine/model/errors.ts';
import type { CacheReader, CacheWriter, LocalCache, ScratchFile } from '../../engine/ports/local-cache.ts';

export class ForgivingCache implements LocalCache {
  readonly #inner: LocalCache;
  readonly #onFailure: (error: HoldfastError) => void;
  #failed = false;

  /** `onFailure` is called with the E_STATE_DIR that made it give up. */
  constructor(inner: LocalCache, onFailure: (error: HoldfastError) => void) {
    this.#inner = inner;
    this.#onFailure = onFailure;
  }

  /** Between two runs, of which none reads what another wrote half: there may be room again. Answers whether it had given up. */
  tryAgain(): boolean {
    const had = this.#failed;
    this.#failed = false;
    return had;
  }

  open(name: string): CacheReader | undefined {
    return this.#attempt(
      () => this.#inner.open(name),
      () => undefined,
    );
  }

  create(name: string): CacheWriter {
    const writer = this.#attempt(
      () => this.#inner.create(name),
      () => undefined,
    );
    if (writer === undefined) return droppingWriter;
    const attempt = (work: () => void): void =>
      this.#attempt(work, () => {
        writer.abort();
      });
    return {
      append: (bytes) => attempt(() => writer.append(bytes)),
      commit: (tail) => attempt(() => writer.commit(tail)),
      abort: () => writer.abort(),
    };
  }

  remove(name: string): void {
    this.#attempt(
      () => this.#inner.remove(name),
      () => undefined,
    );
  }

  names(): readonly string[] {
    return this.#attempt(
      () => this.#inner.names(),
      () => [],
    );
  }

  /** Goes on in memory: scratch data of a run is needed by that run. */
  scratch(): ScratchFile {
    const file = this.#attempt<ScratchFile | undefined>(
      () => this.#inner.scratch(),
      () => undefined,
    );
    const inMemory = new Map<number, Uint8Array>();
    let end = 0;
    return {
      append: (bytes) => {
        const start = end;
        const written = this.#attempt(
          () => file?.append(bytes),
          () => undefined,
        );
        if (written === undefined) inMemory.set(start, bytes.slice());
        end += bytes.length;
        return start;
      },
      read: (position, into) => {
        const kept = inMemory.get(position);
        if (kept !== undefined) {
          into.set(kept.subarray(0, into.length));
          return;
        }
        invariant(file !== undefined, 'what was appended is read at its position');
        file.read(position, into);
      },
      close: () => file?.close(),
    };
  }

  #attempt<T>(work: () => T, otherwise: () => T): T {
    if (this.#failed) return otherwise();
    try {
      return work();
    } catch (error) {
      if (!(error instanceof HoldfastError) || error.code !== 'E_STATE_DIR') throw error;
      this.#failed = true;
      this.#onFailure(error);
      return otherwise();
    }
  }
}

const droppingWriter: CacheWriter = {
  append: () => undefined,
  commit: () => undefined,
  abort: () => undefined,
};
