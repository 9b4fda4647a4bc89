/**
 * Which names of a volume may differ from what the last capture saw: a bounded set, or "everything" and why.
 *
 * Invariants: a set only grows until it is taken; what is taken is either committed or put back; a set that would pass its bound
 * becomes "everything", never a smaller one.
 */
import { keyOfText, keyText } from './rel-path.ts';

/**
 * started: watching has just begun. overflow: the kernel dropped events. burst: more than is remembered. switched: another watcher
 * took over. lost: the watcher has ended or failed. unwatched: nobody watches.
 */
export type UnknownReason = 'started' | 'overflow' | 'burst' | 'switched' | 'lost' | 'unwatched';

export type Changes =
  | { readonly kind: 'names'; readonly names: ChangedNames }
  | { readonly kind: 'everything'; readonly reason: UnknownReason };

export type ChangeCount =
  | { readonly kind: 'names'; readonly count: number }
  | { readonly kind: 'everything'; readonly reason: UnknownReason };

export const changedNamesMax = 65_536;
const textBytesMax: number = 16 * 1024 * 1024;

/** Names by their keys. `whole`: a directory that came to this name with all that is below it. */
export class ChangedNames {
  readonly #names = new Map<string, boolean>();
  /** Directories of the names: their times move when a name comes or goes. */
  readonly #parents = new Set<string>();
  readonly #namesMax: number;
  #textBytes = 0;

  constructor(namesMax: number = changedNamesMax) {
    this.#namesMax = namesMax;
  }

  get count(): number {
    return this.#names.size;
  }

  /** False when there is no room: the set is then as it was. */
  add(key: Uint8Array | string, whole = false): boolean {
    const text = typeof key === 'string' ? key : keyText(key);
    const known = this.#names.get(text);
    if (known === undefined) {
      if (this.#names.size >= this.#namesMax || this.#textBytes + text.length > textBytesMax) return false;
      this.#textBytes += text.length;
    }
    this.#names.set(text, whole || known === true);
    const at = text.lastIndexOf('\0');
    if (at > 0) this.#parents.add(text.slice(0, at));
    return true;
  }

  /** True when the name itself, one in it, or a directory above it as a whole, is among them. */
  covers(key: Uint8Array): boolean {
    const text = keyText(key);
    if (this.#names.has(text) || this.#parents.has(text)) return true;
    for (let at = text.indexOf('\0'); at >= 0; at = text.indexOf('\0', at + 1)) {
      if (this.#names.get(text.slice(0, at)) === true) return true;
    }
    return false;
  }

  /** Key text and `whole` of each, in no order. */
  entries(): Iterable<readonly [string, boolean]> {
    return this.#names;
  }

  /** In the order of their keys. */
  keys(): Uint8Array[] {
    return [...this.#names.keys()].sort((a, b) => (a < b ? -1 : 1)).map(keyOfText);
  }
}

/** True when the name may have changed, as far as is known. */
export function mayHaveChanged(changes: Changes, key: Uint8Array): boolean {
  return changes.kind === 'everything' || changes.names.covers(key);
}

/** Collects changes between one taking and the next. */
export class ChangeLog {
  readonly #namesMax: number;
  #names: ChangedNames;
  #everything: UnknownReason | undefined;

  /** `everything`: what the first taking says, whatever comes until then. */
  constructor({ namesMax = changedNamesMax, everything }: ChangeLogOptions = {}) {
    this.#namesMax = namesMax;
    this.#names = new ChangedNames(namesMax);
    this.#everything = everything;
  }

  add(key: Uint8Array | string, whole = false): void {
    if (this.#everything === undefined && !this.#names.add(key, whole)) this.everything('burst');
  }

  /** The reason that came first stands. */
  everything(reason: UnknownReason): void {
    if (this.#everything !== undefined) return;
    this.#everything = reason;
    this.#names = new ChangedNames(this.#namesMax);
  }

  count(): ChangeCount {
    if (this.#everything !== undefined) return { kind: 'everything', reason: this.#everything };
    return { kind: 'names', count: this.#names.count };
  }

  /** All there is; from here on collecting begins anew. */
  take(): Changes {
    const reason = this.#everything;
    const names = this.#names;
    this.#everything = undefined;
    this.#names = new ChangedNames(this.#namesMax);
    return reason === undefined ? { kind: 'names', names } : { kind: 'everything', reason };
  }

  /** What was taken has come to nothing: it is told again, together with what has come since. */
  putBack(changes: Changes): void {
    if (changes.kind === 'everything') {
      this.everything(changes.reason);
      return;
    }
    for (const [key, whole] of changes.names.entries()) this.add(key, whole);
  }
}

export interface ChangeLogOptions {
  readonly namesMax?: number;
  readonly everything?: UnknownReason;
}
