import { equalBytes } from '../model/bytes.ts';
import type { ChangeSource } from '../ports/change-source.ts';
import type { VolumeMemory } from './volume-memory.ts';

/** A volume that one process captures again and again while a watcher tells it where to look. */
export class WatchedVolume {
  readonly source: ChangeSource;
  #tree: Uint8Array | undefined;
  #identity = '';
  #memory: VolumeMemory | undefined;

  constructor(source: ChangeSource) {
    this.source = source;
  }

  /** What is remembered of the volume as the tree with this id has it; `identity` says of which directory and selection. */
  recall(tree: Uint8Array, identity: string): VolumeMemory | undefined {
    const same = this.#tree !== undefined && equalBytes(this.#tree, tree) && this.#identity === identity;
    return same ? this.#memory : undefined;
  }

  /** After a record with this tree was committed. */
  remember(tree: Uint8Array, identity: string, memory: VolumeMemory): void {
    this.#tree = tree;
    this.#identity = identity;
    this.#memory = memory;
  }
}
