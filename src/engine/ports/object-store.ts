/**
 * What the engine asks of a store. Small interfaces that grow by power: a restore is given a reader and so cannot write,
 * an agent is given a writer and so cannot delete. Keys are ASCII, slash-separated, as made by format/object-keys.ts.
 *
 * Errors of every method: HoldfastError with E_STORE_UNREACHABLE, E_STORE_IO, E_STORE_FULL, E_STORE_READ_ONLY, E_LIMIT, E_ABORTED.
 */

export interface WaitOptions {
  readonly signal?: AbortSignal;
}

export interface RangeOptions extends WaitOptions {
  /** Memory of the caller of just the range's length. The store may read into it, and does nothing to it once it has answered. */
  readonly into?: Uint8Array;
}

export interface ObjectInfo {
  readonly key: string;
  readonly bytes: number;
  /** The store's own time of last change, ms since 1970. */
  readonly modifiedMs: number;
}

export interface ListOptions extends WaitOptions {
  /** Only keys after this one, exclusive. */
  readonly after?: string;
  /** At most this many, default all. */
  readonly limit?: number;
}

export interface ObjectReader {
  /** The whole object, or undefined when there is none. Refuses with E_DAMAGED above `bytesMax`, before allocating. */
  get(key: string, options: WaitOptions & { readonly bytesMax: number }): Promise<Uint8Array | undefined>;
  /** Exactly `length` bytes, in `into` or not; E_DAMAGED when the object is missing or shorter. The buffer belongs to the caller. */
  getRange(key: string, start: number, length: number, options?: RangeOptions): Promise<Uint8Array>;
  stat(key: string, options?: WaitOptions): Promise<ObjectInfo | undefined>;
  /** Objects whose key starts with `prefix` (which ends with a slash), in ascending order of keys; sees every completed write. */
  list(prefix: string, options?: ListOptions): Promise<readonly ObjectInfo[]>;
}

/** exists: an object stands at that key already, perhaps our own after a lost reply; it is left as it is. */
export type CreateOutcome = 'created' | 'exists';

export interface ObjectUpload {
  /** Resolves when the upload wants more: back-pressure. The bytes may be reused only after it has resolved. */
  append(bytes: Uint8Array): Promise<void>;
  /** Makes the object durable and visible at once, or not at all. */
  commit(): Promise<CreateOutcome>;
  /** Drops what was sent; safe to call at any time, also after commit, then without effect. */
  abort(): Promise<void>;
}

/** An upload that some process has begun and neither committed nor given up. */
export interface UnfinishedUpload {
  readonly key: string;
  /** Drops it; whoever still sends to it fails. */
  end(): Promise<void>;
}

export interface ObjectWriter extends ObjectReader {
  /** Creates the object whole and durable, never overwriting. A thrown error leaves open whether it was created. */
  create(key: string, bytes: Uint8Array, options?: WaitOptions): Promise<CreateOutcome>;
  /** Begins an object whose bytes come one after the other. Nothing is visible before commit. */
  beginUpload(key: string, options?: WaitOptions): Promise<ObjectUpload>;
  /**
   * Unfinished uploads of keys below `prefix`, as far as the store tells them in a few seconds; none where the store tidies up by
   * itself. For tidying up only: an upload that has just begun may be missing.
   */
  unfinished(prefix: string, options?: WaitOptions): Promise<readonly UnfinishedUpload[]>;
}

export interface ObjectSweeper extends ObjectReader {
  /** True when an object was there. */
  delete(key: string, options?: WaitOptions): Promise<boolean>;
}
