/**
 * What a process remembers of a volume from one capture to the next, beside its scan cache: which names must be looked at again whatever a
 * watcher says, and what was left out. With it a capture need only look where something may have changed.
 *
 * Invariant: it describes, together with its scan cache and delta, one committed tree; a capture works on a copy, which
 * takes the place of the original when its tree is committed.
 */
import type { SkipReason } from '../model/checkpoint.ts';
import { keyText } from '../model/rel-path.ts';
import { ScanDelta } from '../tree/scan-delta.ts';

const namesMax = 65_536;
/** Files in use. Where no lease can be had every file may be: then these are some of them, and walks find the rest. */
const heldMax = 4096;

/** A file with several names. */
export interface LinkGroup {
  readonly names: Set<string>;
  /** As its stat says. More than the names known: some are outside of the volume, and writes through them raise no event here. */
  nlink: number;
}

/** Names are the texts of keys. */
export class VolumeMemory {
  /** The scan cache under the delta; undefined until the pass that writes it is complete. */
  cacheFile: string | undefined;
  readonly delta: ScanDelta;
  /** Names whose stat must not be trusted. */
  readonly dirty: Set<string>;
  readonly skipped: Map<string, SkipReason>;
  /** Wal-indexes. */
  readonly volatile: Set<string>;
  /** Files that may have had a writer when they were read: a mapping writes without an event, and moves the stat. */
  readonly held: Set<string>;
  readonly groups: Map<string, LinkGroup>;
  readonly #groupOf: Map<string, string>;

  constructor(from?: VolumeMemory) {
    this.cacheFile = from?.cacheFile;
    this.delta = new ScanDelta(from?.delta.entries);
    this.dirty = new Set(from?.dirty);
    this.skipped = new Map(from?.skipped);
    this.volatile = new Set(from?.volatile);
    this.held = new Set(from?.held);
    this.groups = new Map();
    for (const [id, { names, nlink }] of from?.groups ?? []) this.groups.set(id, { names: new Set(names), nlink });
    this.#groupOf = new Map(from === undefined ? [] : from.#groupOf);
  }

  /** False when more would have to be remembered than is: then only a complete walk knows where to look. */
  get complete(): boolean {
    return this.dirty.size + this.skipped.size + this.volatile.size + this.#groupOf.size <= namesMax;
  }

  markDirty(key: Uint8Array): void {
    if (this.dirty.size <= namesMax) this.dirty.add(keyText(key));
  }

  skip(key: Uint8Array, reason: SkipReason): void {
    // What vanished is told by an event, or was dirty.
    if (reason !== 'vanished' && this.skipped.size <= namesMax) this.skipped.set(keyText(key), reason);
  }

  markVolatile(key: Uint8Array): void {
    if (this.volatile.size <= namesMax) this.volatile.add(keyText(key));
  }

  /** After a file was read: whether it may have a writer. */
  hold(key: Uint8Array, mayHaveWriter: boolean): void {
    if (!mayHaveWriter) this.held.delete(keyText(key));
    else if (this.held.size < heldMax) this.held.add(keyText(key));
  }

  link(key: Uint8Array | string, id: string, nlink: number): void {
    if (this.#groupOf.size > namesMax) return;
    const name = typeof key === 'string' ? key : keyText(key);
    this.#unlink(name);
    const group = this.groups.get(id);
    if (group === undefined) this.groups.set(id, { names: new Set([name]), nlink });
    else {
      group.names.add(name);
      group.nlink = nlink;
    }
    this.#groupOf.set(name, id);
  }

  groupOf(name: string): string | undefined {
    return this.#groupOf.get(name);
  }

  /** All names of files with several. */
  linkedNames(): Iterable<string> {
    return this.#groupOf.keys();
  }

  /** Nothing is known of the name but what the delta has. */
  forget(name: string): void {
    this.dirty.delete(name);
    this.skipped.delete(name);
    this.volatile.delete(name);
    this.held.delete(name);
    this.#unlink(name);
  }

  /** Nothing is known of what is below these directories. */
  forgetBelow(directories: ReadonlySet<string>): void {
    if (directories.size === 0) return;
    for (const names of [this.dirty, this.skipped, this.volatile, this.held, this.#groupOf]) {
      for (const name of names.keys()) if (isBelowOne(name, directories)) this.forget(name);
    }
    const { entries } = this.delta;
    for (const name of entries.keys()) if (isBelowOne(name, directories)) entries.delete(name);
  }

  /** Whether every capture looks at the name, of files with one name. */
  isAlwaysLookedAt(name: string): boolean {
    return this.dirty.has(name) || this.volatile.has(name) || this.held.has(name);
  }

  /** Names that are looked at by every capture. */
  *always(): Generator<string> {
    yield* this.dirty;
    yield* this.volatile;
    yield* this.held;
    for (const { names, nlink } of this.groups.values()) if (names.size < nlink) yield* names;
  }

  #unlink(name: string): void {
    const id = this.#groupOf.get(name);
    if (id === undefined) return;
    this.#groupOf.delete(name);
    const group = this.groups.get(id) as LinkGroup;
    group.names.delete(name);
    if (group.names.size === 0) this.groups.delete(id);
  }
}

/** True when one of the directories is above the name. */
export function isBelowOne(name: string, directories: ReadonlySet<string>): boolean {
  if (directories.size === 0) return false;
  for (let at = name.indexOf('\0'); at >= 0; at = name.indexOf('\0', at + 1)) {
    if (directories.has(name.slice(0, at))) return true;
  }
  return false;
}
