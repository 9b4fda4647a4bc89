/**
 * What is remembered of a restore outside of its target, so that a killed one resumes and a finished one is never taken for an
 * unfinished one. One marker belongs to one target directory; it lies on the local disk.
 */
import type { VolumeName } from '../model/ids.ts';

export interface RestoreMark {
  /**
   * started: something may have been written, the target is not whole. damaged: all was restored but what the store has lost.
   * done: it was whole and durable once.
   */
  readonly state: 'started' | 'damaged' | 'done';
  /** Record id of the checkpoint, in hexadecimal. */
  readonly checkpoint: string;
  readonly volume: VolumeName;
  /** Device and inode of the target's directory: another directory at the same path is another target. */
  readonly target: string;
  /** Which part of the volume; empty for all of it. */
  readonly selection: string;
  /** What it was told to do with what stood there; a resumed run goes on with that. */
  readonly onExisting: 'refuse' | 'keep' | 'replace';
  /** Names in the target that begin like this are leftovers of this restore, and nobody else's. */
  readonly tempPrefix: string;
}

export interface RestoreMarker {
  /** The mark saved last; undefined when there is none or it cannot be read back whole. E_STATE_DIR on failure. */
  load(): Promise<RestoreMark | undefined>;
  /** Durable when it resolves: it survives a power cut. E_STATE_DIR when that fails. */
  save(mark: RestoreMark): Promise<void>;
}
