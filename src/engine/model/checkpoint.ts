/** What a record of a lineage's log says. */
import type { NodeId, VolumeName } from './ids.ts';
import type { EntryMeta, Place } from './entry.ts';

export type RecordKind = 'CLAIM' | 'CHECKPOINT' | 'PARTIAL' | 'SEAL';

/**
 * quiesced: the app had stopped and that was checked, or a hook had paused it. converged: a point in time, proven by
 * equal stats before and after. fuzzy: files moved while they were read; they are named.
 */
export type Consistency = 'quiesced' | 'converged' | 'fuzzy';

const consistencyOrder: readonly Consistency[] = ['fuzzy', 'converged', 'quiesced'];

/** Whether `a` says as much as `b`, or more. */
export function atLeast(a: Consistency, b: Consistency): boolean {
  return consistencyOrder.indexOf(a) >= consistencyOrder.indexOf(b);
}

export interface TreeSums {
  /** Entries that are files, hardlinks counted once per name. */
  readonly files: number;
  /** All entries. */
  readonly entries: number;
  /** Sum of the sizes of regular files. */
  readonly bytes: number;
}

/** The root of one volume's tree; an empty volume has the id of the empty leaf and no place. */
export interface TreeRoot {
  readonly id: NodeId;
  readonly level: number;
  /** Plain bytes of the root node; 0 for the empty tree, which is stored nowhere. */
  readonly nodeBytes: number;
  readonly place: Place | undefined;
  readonly sums: TreeSums;
}

export interface VolumeCheckpoint {
  readonly name: VolumeName;
  readonly root: TreeRoot;
  /** The volume root's own owner, mode, mtime and xattrs: beside the root, since the kubelet sets them. */
  readonly rootMeta: EntryMeta;
  /** Names that moved while they were read: count, and the first of them as display text. */
  readonly fuzzyCount: number;
  readonly fuzzyNames: readonly string[];
  /** Names whose content is stored as it was read, at whatever moment, and means nothing in a copy: wal-indexes of SQLite. */
  readonly volatileCount: number;
  readonly volatileNames: readonly string[];
  /** Names that could not be stored or read, by reason. */
  readonly skipped: readonly SkippedCount[];
  readonly incomplete: boolean;
}

export interface SkippedCount {
  readonly reason: SkipReason;
  readonly count: number;
  /** The first names, as display text. */
  readonly names: readonly string[];
}

export type SkipReason = 'socket' | 'device' | 'other-filesystem' | 'unreadable' | 'excluded' | 'vanished';
