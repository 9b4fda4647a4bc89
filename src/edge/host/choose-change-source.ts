/** Picks the watcher for a volume by what a walk has counted, and another when the tree grows or the watcher fails. */
import { statfsSync } from 'node:fs';
import { type ChangeCount, ChangeLog, type Changes } from '../../engine/model/changes.ts';
import type { ChangeSource, ChangeSourceKind, TreeSize } from '../../engine/ports/change-source.ts';
import { ChokidarSource } from './chokidar-source.ts';
import { fileSystemOfType } from './file-system-type.ts';
import { InotifySource } from './inotify-source.ts';
import { WatchError } from './inotify-tree.ts';
import { loadLinuxCalls } from './linux-calls.ts';
import { ScanOnlySource } from './scan-only-source.ts';

export interface ChangeSourceLimits {
  /** A tree with more of either is watched by inotify. */
  readonly smallDirectoriesMax: number;
  readonly smallEntriesMax: number;
}

export const changeSourceLimits: ChangeSourceLimits = { smallDirectoriesMax: 2000, smallEntriesMax: 20_000 };
/** Walks after which a watcher that could not be had is tried again: others may have let go of their watches. */
const walksBeforeRetry = 20;

export interface ChangeSourceWish {
  readonly limits?: ChangeSourceLimits;
  /** When another watcher has taken over, or the one there was is gone. */
  readonly onSwitch?: (kind: ChangeSourceKind, why: string | undefined) => void;
}

/** Which watcher suits a tree of this size; `native`: system calls can be made here. */
export function kindFor(size: TreeSize, native: boolean, limits: ChangeSourceLimits): ChangeSourceKind {
  const { directories, entries } = size;
  if (directories <= limits.smallDirectoriesMax && entries <= limits.smallEntriesMax) return 'chokidar';
  return native ? 'inotify' : 'scan';
}

/**
 * A source for the volume at `path`, which begins without a watcher: the first walk tells how large the tree is. Each watcher begins with
 * "everything", so nothing is missed between two of them.
 */
export function chooseChangeSource(path: string, wish: ChangeSourceWish = {}): ChangeSource {
  try {
    const { type, writeback } = fileSystemOfType(statfsSync(path).type);
    // Every capture walks there: decision 0045.
    if (!writeback) return new ScanOnlySource(`writes through a mapping leave no trace on ${type}`);
  } catch (error) {
    return new ScanOnlySource(String(error));
  }
  return new ChosenSource(path, wish);
}

class ChosenSource implements ChangeSource {
  readonly #path: string;
  readonly #wish: ChangeSourceWish;
  readonly #log: ChangeLog = new ChangeLog({ everything: 'started' });
  readonly #native: boolean = loadLinuxCalls().calls !== undefined;
  #current: ChangeSource = new ScanOnlySource('the tree has not been walked yet');
  #switching: Promise<void> | undefined;
  #walksToWait = 0;
  #closed = false;

  constructor(path: string, wish: ChangeSourceWish) {
    this.#path = path;
    this.#wish = wish;
  }

  get kind(): ChangeSourceKind {
    return this.#current.kind;
  }

  get why(): string | undefined {
    return this.#current.why;
  }

  get prompt(): boolean {
    return this.#current.prompt;
  }

  async count(): Promise<ChangeCount> {
    const own = this.#log.count();
    if (own.kind === 'everything') return own;
    const current = await this.#current.count();
    return current.kind === 'everything' ? current : { kind: 'names', count: current.count + own.count };
  }

  async take(): Promise<Changes> {
    const source = this.#current;
    const changes = await source.take();
    if (changes.kind === 'everything' && changes.reason === 'lost') await this.#giveUp(source);
    this.#log.putBack(changes);
    return this.#log.take();
  }

  putBack(changes: Changes): void {
    this.#log.putBack(changes);
  }

  scanned(size: TreeSize): void {
    if (this.#closed || this.#switching !== undefined) return;
    const kind = kindFor(size, this.#native, this.#wish.limits ?? changeSourceLimits);
    // A tree that has become small stays with what it has.
    if (kind === this.kind || (this.kind === 'inotify' && kind === 'chokidar')) return;
    if (this.#walksToWait > 0) {
      this.#walksToWait--;
      return;
    }
    this.#switching = this.#switchTo(kind).finally(() => {
      this.#switching = undefined;
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#switching;
    await this.#current.close();
    this.#log.everything('lost');
  }

  async #switchTo(kind: ChangeSourceKind): Promise<void> {
    try {
      if (kind === 'inotify') await this.#use(await InotifySource.start(this.#path));
      else if (kind === 'chokidar') await this.#use(await ChokidarSource.start(this.#path));
      else await this.#use(new ScanOnlySource('the tree is too large for a watcher without system calls'));
    } catch (error) {
      await this.#use(new ScanOnlySource(reasonOf(error)));
      this.#walksToWait = walksBeforeRetry;
    }
  }

  async #use(next: ChangeSource): Promise<void> {
    const before = this.#current;
    this.#current = next;
    this.#log.everything('switched');
    await before.close();
    this.#wish.onSwitch?.(next.kind, next.why);
  }

  async #giveUp(source: ChangeSource): Promise<void> {
    if (this.#closed || this.#current !== source || source.kind === 'scan' || source.why === undefined) return;
    this.#walksToWait = walksBeforeRetry;
    await this.#use(new ScanOnlySource(source.why));
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof WatchError && error.errno === 'ENOSPC') {
    return 'this user has no inotify watches left (fs.inotify.max_user_watches)';
  }
  if (error instanceof WatchError && error.errno === 'EMFILE') {
    return 'this user has no inotify instances left (fs.inotify.max_user_instances)';
  }
  return error instanceof Error ? error.message : String(error);
}
