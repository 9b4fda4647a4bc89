/**
 * What a watcher of one volume tells a capture. It is a hint of where to look and never proof that nothing else changed: doubt is
 * told as "everything", and from time to time a full walk counts what was not told.
 */
import type { ChangeCount, Changes } from '../model/changes.ts';

export type ChangeSourceKind = 'inotify' | 'chokidar' | 'scan';

/** What a complete walk has counted. */
export interface TreeSize {
  readonly entries: number;
  readonly directories: number;
}

export interface ChangeSource {
  /** Which watcher it is now; it may change as the tree grows. */
  readonly kind: ChangeSourceKind;
  /** Why it is not a better one; undefined where it is the one for a tree of this size. */
  readonly why: string | undefined;
  /**
   * True when every change that was complete before `take` was called is in what it gives, as far as the system tells. Else events
   * may be late or lost without notice, and only another look at every name shows that nothing moved.
   */
  readonly prompt: boolean;
  /** How much a `take` would give now. Takes nothing. */
  count(): Promise<ChangeCount>;
  /**
   * All changes since the last taking. Atomic: what happens meanwhile is in this one or in the next. After an error of the watcher,
   * and when it was closed: everything.
   */
  take(): Promise<Changes>;
  /** What was taken has come to nothing: it is told again. */
  putBack(changes: Changes): void;
  /** A complete walk has just ended: the choice of the watcher may follow the size of the tree. */
  scanned(size: TreeSize): void;
  close(): Promise<void>;
}
