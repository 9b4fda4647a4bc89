import { HoldfastError, invariant } from '../../engine/model/errors.ts';
import type {
  CreateOutcome,
  ListOptions,
  ObjectInfo,
  ObjectSweeper,
  ObjectUpload,
  ObjectWriter,
  UnfinishedUpload,
  WaitOptions,
} from '../../engine/ports/object-store.ts';
import { checkKeyPrefix, checkObjectKey } from './object-key.ts';
import { notAnObject, throwIfAborted } from './store-error.ts';

interface StoredObject {
  readonly bytes: Uint8Array;
  readonly modifiedMs: number;
}

/** The whole content of a memory store at one moment; unaffected by what the store does afterwards. */
export type MemorySnapshot = ReadonlyMap<string, StoredObject>;

export interface MemoryStoreOptions {
  /** Wall clock, ms since 1970. The default counts the objects made, so that equal runs give equal stores. */
  readonly nowMs?: () => number;
}

/**
 * A store that lives and ends with its process, for tests and the simulator. It does everything at once and in the order
 * asked, so it behaves the same in every run. Bytes are copied on the way in and out. Like the directory store it refuses
 * a key below an object, and an object above a key.
 */
export class MemoryStore implements ObjectWriter, ObjectSweeper {
  readonly #objects = new Map<string, StoredObject>();
  /** How many objects lie below each directory that has any. */
  readonly #directories = new Map<string, number>();
  readonly #nowMs: () => number;
  #made = 0;

  constructor(options: MemoryStoreOptions = {}) {
    this.#nowMs = options.nowMs ?? (() => this.#made);
  }

  async get(key: string, options: WaitOptions & { readonly bytesMax: number }): Promise<Uint8Array | undefined> {
    checkObjectKey(key);
    throwIfAborted(options.signal, `reading ${key}`);
    const object = this.#objects.get(key);
    if (object === undefined) return undefined;
    const bytes = object.bytes.length;
    if (bytes > options.bytesMax) {
      throw new HoldfastError('E_DAMAGED', `${key} has ${bytes} bytes, at most ${options.bytesMax} can be`, {
        details: { key, bytes, bytesMax: options.bytesMax },
      });
    }
    return copyOf(object.bytes);
  }

  async getRange(key: string, start: number, length: number, options: WaitOptions = {}): Promise<Uint8Array> {
    invariant(
      Number.isSafeInteger(start) && start >= 0 && Number.isSafeInteger(length) && length >= 0,
      'a range is two whole numbers that are not negative',
    );
    checkObjectKey(key);
    throwIfAborted(options.signal, `reading ${length} bytes of ${key}`);
    const object = this.#objects.get(key);
    if (object === undefined)
      throw new HoldfastError('E_DAMAGED', `${key} is missing in the store`, { details: { key } });
    if (start + length > object.bytes.length) {
      throw new HoldfastError(
        'E_DAMAGED',
        `${key} ends at byte ${object.bytes.length}, ${start + length} were expected`,
        { details: { key, start, length, bytes: object.bytes.length } },
      );
    }
    return copyOf(object.bytes.subarray(start, start + length));
  }

  async stat(key: string, options: WaitOptions = {}): Promise<ObjectInfo | undefined> {
    checkObjectKey(key);
    throwIfAborted(options.signal, `looking at ${key}`);
    const object = this.#objects.get(key);
    return object === undefined ? undefined : objectInfo(key, object);
  }

  async list(prefix: string, options: ListOptions = {}): Promise<readonly ObjectInfo[]> {
    checkKeyPrefix(prefix);
    const { after = '', limit = Number.POSITIVE_INFINITY, signal } = options;
    invariant(limit >= 0, 'the limit of a list is not negative');
    throwIfAborted(signal, `listing ${prefix}`);
    return [...this.#objects]
      .filter(([key]) => key.startsWith(prefix) && key > after)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .slice(0, limit)
      .map(([key, object]) => objectInfo(key, object));
  }

  async create(key: string, bytes: Uint8Array, options: WaitOptions = {}): Promise<CreateOutcome> {
    checkObjectKey(key);
    throwIfAborted(options.signal, `creating ${key}`);
    return this.#add(key, copyOf(bytes));
  }

  async beginUpload(key: string, options: WaitOptions = {}): Promise<ObjectUpload> {
    checkObjectKey(key);
    throwIfAborted(options.signal, `creating ${key}`);
    return new MemoryUpload(key, options.signal, (bytes) => this.#add(key, bytes));
  }

  async unfinished(): Promise<readonly UnfinishedUpload[]> {
    return [];
  }

  async delete(key: string, options: WaitOptions = {}): Promise<boolean> {
    checkObjectKey(key);
    throwIfAborted(options.signal, `deleting ${key}`);
    return this.#remove(key);
  }

  /** Everything that is in the store now. */
  snapshot(): MemorySnapshot {
    return new Map(this.#objects);
  }

  /** Makes the store hold exactly what a snapshot holds. */
  restore(snapshot: MemorySnapshot): void {
    for (const key of [...this.#objects.keys()]) this.#remove(key);
    for (const [key, object] of snapshot) this.#put(key, object);
  }

  /** Puts other bytes in the place of an object, or removes it: damage, which no store does by itself. */
  damage(key: string, bytes: Uint8Array | undefined): void {
    const object = this.#objects.get(key);
    invariant(object !== undefined, `there is no object ${key} to damage`);
    if (bytes === undefined) this.#remove(key);
    else this.#objects.set(key, { bytes: copyOf(bytes), modifiedMs: object.modifiedMs });
  }

  #add(key: string, bytes: Uint8Array): CreateOutcome {
    if (this.#objects.has(key)) return 'exists';
    if (this.#directories.has(key) || parentsOf(key).some((parent) => this.#objects.has(parent))) {
      throw notAnObject(key);
    }
    this.#made += 1;
    this.#put(key, { bytes, modifiedMs: this.#nowMs() });
    return 'created';
  }

  #put(key: string, object: StoredObject): void {
    this.#objects.set(key, object);
    for (const parent of parentsOf(key)) this.#directories.set(parent, (this.#directories.get(parent) ?? 0) + 1);
  }

  #remove(key: string): boolean {
    if (!this.#objects.delete(key)) return false;
    for (const parent of parentsOf(key)) {
      const left = this.#directories.get(parent)! - 1;
      if (left > 0) this.#directories.set(parent, left);
      else this.#directories.delete(parent);
    }
    return true;
  }
}

class MemoryUpload implements ObjectUpload {
  readonly #key: string;
  readonly #signal: AbortSignal | undefined;
  readonly #add: (bytes: Uint8Array) => CreateOutcome;
  #parts: Uint8Array[] = [];
  #state: 'open' | 'committed' | 'ended' = 'open';

  constructor(key: string, signal: AbortSignal | undefined, add: (bytes: Uint8Array) => CreateOutcome) {
    this.#key = key;
    this.#signal = signal;
    this.#add = add;
  }

  async append(bytes: Uint8Array): Promise<void> {
    this.#check(`writing ${this.#key}`);
    this.#parts.push(copyOf(bytes));
  }

  async commit(): Promise<CreateOutcome> {
    this.#check(`creating ${this.#key}`);
    this.#state = 'ended';
    const outcome = this.#add(Buffer.concat(this.#parts));
    this.#state = 'committed';
    this.#parts = [];
    return outcome;
  }

  async abort(): Promise<void> {
    if (this.#state !== 'committed') this.#state = 'ended';
    this.#parts = [];
  }

  #check(doing: string): void {
    if (this.#signal?.aborted) this.#state = 'ended';
    throwIfAborted(this.#signal, doing);
    if (this.#state === 'ended') throw new HoldfastError('E_ABORTED', `the upload of ${this.#key} was given up`);
    invariant(this.#state === 'open', `steps of an upload come one after the other: ${this.#state}, then ${doing}`);
  }
}

/** In an array of its own: slice() of a Buffer would share its memory. */
function copyOf(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}

function objectInfo(key: string, object: StoredObject): ObjectInfo {
  return { key, bytes: object.bytes.length, modifiedMs: object.modifiedMs };
}

/** `a` and `a/b` for `a/b/c`. */
function parentsOf(key: string): string[] {
  const parents: string[] = [];
  for (let at = key.indexOf('/'); at !== -1; at = key.indexOf('/', at + 1)) parents.push(key.slice(0, at));
  return parents;
}
