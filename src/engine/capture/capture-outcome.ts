/** What a capture says of itself: on the way, and when it is done. */
import type { Committed } from '../lineage/lineage-writer.ts';
import type { CompactionOutcome } from './compact.ts';
import type { Suspicion } from './poison-guard.ts';
import type { Consistency, SkipReason } from '../model/checkpoint.ts';
import type { VolumeName } from '../model/ids.ts';
import type { NameCount } from '../model/name-tally.ts';

export interface CaptureProgress {
  readonly phase: 'scan' | 'read' | 'converge' | 'store' | 'commit';
  readonly pass: number;
  readonly entries: number;
  readonly files: number;
  readonly bytes: number;
  readonly readBytes: number;
  readonly newBytes: number;
  readonly storedBytes: number;
}

export type ScanKind = 'known' | 'cached' | 'full';

/**
 * busy: a writer did not end its transaction in time. new: it came during the last pass. moved: it was written to, or replaced, past
 * the locks. hot-journal: an interrupted transaction waits to be rolled back, and a lock would hide that from readers.
 * several-names: hardlinks, so which journal is its own cannot be told. unsupported: host or file system keep no locks.
 */
export type UnlockedReason =
  | 'busy'
  | 'new'
  | 'moved'
  | 'hot-journal'
  | 'several-names'
  | 'too-many'
  | 'unreadable'
  | 'unsupported';

/** A database of SQLite in a capture that was asked to hold them still. */
export interface DatabaseOutcome {
  /** As display text. */
  readonly path: string;
  readonly mode: 'rollback' | 'wal';
  /** It and its journal or WAL are stored as they stood at one moment, whatever else moved. */
  readonly locked: boolean;
  /** Why not. */
  readonly reason?: UnlockedReason;
}

export interface VolumeOutcome {
  readonly name: VolumeName;
  readonly root: Uint8Array;
  readonly files: number;
  readonly entries: number;
  readonly bytes: number;
  readonly newBytes: number;
  readonly skipped: readonly {
    readonly reason: SkipReason;
    readonly count: number;
    readonly names: readonly string[];
  }[];
  readonly fuzzyCount: number;
  readonly fuzzyNames: readonly string[];
  /** Stored as read and no part of the consistency: the wal-indexes of SQLite. */
  readonly volatileCount: number;
  readonly volatileNames: readonly string[];
  /** Sorted by path; empty unless locks were asked for. */
  readonly databases: readonly DatabaseOutcome[];
  readonly incomplete: boolean;
  /** How the first pass found what changed: where a watcher told it to look, by a walk compared with its cache, or by reading everything. */
  readonly scan: ScanKind;
  /** What a walk found changed of which the watcher had not told; undefined unless one was held against the other. */
  readonly missed?: NameCount;
}

export interface CaptureOutcome {
  readonly root: Uint8Array;
  /** Undefined for a dry run, and where nothing had changed and only changes were to be committed. */
  readonly committed: Committed | undefined;
  readonly consistency: Consistency;
  readonly passes: number;
  readonly volumes: readonly VolumeOutcome[];
  readonly newBytes: number;
  readonly storedBytes: number;
  readonly incomplete: boolean;
  /** It is not the default restore point until somebody releases it, or a later one is good again. */
  readonly suspect: boolean;
  /** What the guard found, compared with the last good checkpoint. */
  readonly suspicions: readonly Suspicion[];
  /** What was moved out of old packs, when that was due. */
  readonly compacted?: CompactionOutcome | undefined;
  /** PARTIAL records written on the way. */
  readonly partials: number;
  /** How long writers of databases were kept waiting, in ms; undefined unless locks were asked for. */
  readonly databaseLockMs: number | undefined;
  /** What speaks against the statement that the application had stopped; undefined when there was no such statement. */
  readonly refuted: readonly Refutation[] | undefined;
}

/** changed: the volume was not the same in two passes. writer: an open file for which a writer cannot be ruled out. */
export interface Refutation {
  readonly volume: VolumeName;
  readonly reason: 'changed' | 'writer';
  readonly count: number;
  /** The first of them, as display text; `.` for the volume's own directory. */
  readonly names: readonly string[];
}
