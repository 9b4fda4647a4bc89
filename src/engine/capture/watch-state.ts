/**
 * What one capture has to do with the watcher of a volume: it takes what is known at the beginning of each pass, puts all of it back
 * when the capture comes to nothing, and holds what a walk finds against what was told.
 */
import { type Changes, mayHaveChanged } from '../model/changes.ts';
import { NameTally } from '../model/name-tally.ts';
import { keyText } from '../model/rel-path.ts';
import type { VolumeMemory } from './volume-memory.ts';
import type { WatchedVolume } from './watched-volume.ts';

/** Of changes that were not told; a watcher that misses more than this is of no use anyway. */
const untoldMax = 10_000;

export class WatchState {
  readonly watched: WatchedVolume;
  /** Key texts of what the passes of this capture have looked at: the next one looks at them again. */
  readonly lookedAt: Set<string> = new Set();
  /** A pass has walked all of the volume: so do those after it. */
  walked = false;
  /** Names that changed without being told; undefined when nothing was held against the watcher. */
  missed: NameTally | undefined;
  readonly #taken: Changes[] = [];
  #untold: Map<string, Uint8Array> | undefined;

  constructor(watched: WatchedVolume) {
    this.watched = watched;
  }

  async take(): Promise<Changes> {
    const changes = await this.watched.source.take();
    this.#taken.push(changes);
    return changes;
  }

  /** Nothing but the watcher's word says so far that nothing else moved, and that may come too late. */
  get mayBeLate(): boolean {
    return !this.walked && !this.watched.source.prompt;
  }

  /** After a capture that came to nothing. */
  putBack(): void {
    for (const changes of this.#taken.splice(0)) this.watched.source.putBack(changes);
  }

  /** The record is there, or none is needed: nothing of what was taken is told again. */
  committed(): void {
    this.#taken.length = 0;
  }

  /**
   * Before a walk of what was seen before, as `memory` has it: what to call for each name that differs. Undefined where nothing can be
   * said. Of a file with several names no watcher tells them all; and what is looked at in any case, such as a file that somebody has
   * mapped, need not be told.
   */
  listen(memory: VolumeMemory | undefined): ((key: Uint8Array) => void) | undefined {
    if (memory === undefined || this.#taken.some(({ kind }) => kind === 'everything')) return undefined;
    this.#untold ??= new Map();
    const untold = this.#untold;
    return (key) => {
      if (untold.size >= untoldMax || isTold(this.#taken, key)) return;
      const name = keyText(key);
      if (memory.groupOf(name) === undefined && !memory.isAlwaysLookedAt(name)) untold.set(name, key);
    };
  }

  /** After the last pass: what walks have met and nobody tells of is counted. What changed meanwhile is told only now. */
  async judge(): Promise<void> {
    if (this.#untold === undefined) return;
    this.missed = new NameTally();
    if (this.#untold.size === 0) return;
    const since = await this.watched.source.take();
    this.watched.source.putBack(since);
    for (const key of this.#untold.values()) {
      if (!isTold(this.#taken, key) && !isTold([since], key)) this.missed.add(key);
    }
  }
}

function isTold(taken: readonly Changes[], key: Uint8Array): boolean {
  return taken.some((changes) => mayHaveChanged(changes, key));
}
