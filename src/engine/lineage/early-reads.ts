/**
 * Reads of a command that are asked for before it knows what it will need. None of them depends on another, so that they cost one
 * wait together in place of one each.
 *
 * Only what may be as old as the beginning of the command is read so: the repository object and wrapped keys never change, and keys
 * that come later are no business of a command that has begun. The log of a lineage is none of this; see `lookFirst` in claim.ts.
 */
import { domainKeyKey, domainKeyPrefix, repositoryObjectKey } from '../format/object-keys.ts';
import { domainKeyObjectBytesMax, repositoryObjectBytesMax } from '../format/repository.ts';
import { isHoldfastError } from '../model/errors.ts';
import type { LineageName } from '../model/ids.ts';
import type { ListOptions, ObjectInfo, ObjectReader, WaitOptions } from '../ports/object-store.ts';
import { domainOf } from './repository.ts';

/** Most domains have one generation of keys. */
const firstGeneration = 1;

/**
 * Asks for what `openRepository` and `openDomain` read first. To be given to them in place of the store, and to be disposed of when
 * the command ends: what nobody asked for by then is given up.
 */
export function readEarly(
  store: ObjectReader,
  lineage: LineageName,
  options: { readonly signal?: AbortSignal } = {},
): EarlyReads {
  const early = new EarlyReads(store, options.signal);
  const domain = domainOf(lineage);
  early.beginGet(repositoryObjectKey, repositoryObjectBytesMax);
  early.beginList(domainKeyPrefix(domain));
  early.beginGet(domainKeyKey(domain, firstGeneration), domainKeyObjectBytesMax);
  return early;
}

/** A store of which some reads have begun. Each answers the first request that is equal to it, all others reach the store. */
export class EarlyReads implements ObjectReader, Disposable {
  readonly #store: ObjectReader;
  readonly #ended = new AbortController();
  /** Fires when the command ends, or is ended. */
  readonly signal: AbortSignal;
  readonly #gets = new Map<string, Promise<Uint8Array | undefined>>();
  readonly #lists = new Map<string, Promise<readonly ObjectInfo[]>>();

  constructor(store: ObjectReader, signal: AbortSignal | undefined) {
    this.#store = store;
    this.signal = signal === undefined ? this.#ended.signal : AbortSignal.any([signal, this.#ended.signal]);
  }

  /** Asks for an object of at most so many bytes. */
  beginGet(key: string, bytesMax: number): void {
    this.#gets.set(key, unheard(this.#store.get(key, { bytesMax, signal: this.signal })));
  }

  /** Asks for a whole list. */
  beginList(prefix: string): void {
    this.#lists.set(prefix, unheard(this.#store.list(prefix, { signal: this.signal })));
  }

  get(key: string, options: WaitOptions & { readonly bytesMax: number }): Promise<Uint8Array | undefined> {
    return orAgain(taken(this.#gets, key), () => this.#store.get(key, options));
  }

  list(prefix: string, options: ListOptions = {}): Promise<readonly ObjectInfo[]> {
    const whole = options.after === undefined && options.limit === undefined;
    return orAgain(whole ? taken(this.#lists, prefix) : undefined, () => this.#store.list(prefix, options));
  }

  getRange(key: string, start: number, length: number, options?: WaitOptions): Promise<Uint8Array> {
    return this.#store.getRange(key, start, length, options);
  }

  stat(key: string, options?: WaitOptions): Promise<ObjectInfo | undefined> {
    return this.#store.stat(key, options);
  }

  [Symbol.dispose](): void {
    this.#ended.abort();
    // Whoever kept this in place of the store asks the store from here on.
    this.#gets.clear();
    this.#lists.clear();
  }
}

/** Whether anybody asks is not known yet, and a failure counts only then. */
function unheard<Value>(reading: Promise<Value>): Promise<Value> {
  reading.catch(() => undefined);
  return reading;
}

function taken<Value>(begun: Map<string, Promise<Value>>, name: string): Promise<Value> | undefined {
  const found = begun.get(name);
  begun.delete(name);
  return found;
}

/**
 * A store that cannot be reached has been waited for already. Any other failure may come from having asked too early: of an object
 * that does not exist, AWS says "denied" to whoever may not list it.
 */
async function orAgain<Value>(early: Promise<Value> | undefined, ask: () => Promise<Value>): Promise<Value> {
  if (early === undefined) return await ask();
  try {
    return await early;
  } catch (error) {
    if (!isHoldfastError(error) || error.kind === 'retry' || error.code === 'E_ABORTED') throw error;
    return await ask();
  }
}
