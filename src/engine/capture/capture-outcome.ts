/** What a capture says of itself: on the way, and when it is done. */
import type { Committed } from '../lineage/lineage-writer.ts';
import type { Consistency, SkipReason } from '../model/checkpoint.ts';
import type { VolumeName } from '../model/ids.ts';

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
  /** Stored as read and no part of the consistency: wal-indexes of SQLite that changed since the last checkpoint. */
  readonly volatileNames: readonly string[];
  readonly incomplete: boolean;
  /** How the scan found what changed: compared with its cache, or by reading everything. */
  readonly scan: 'cached' | 'full';
}

export interface CaptureOutcome {
  readonly root: Uint8Array;
  readonly committed: Committed | undefined;
  readonly consistency: Consistency;
  readonly passes: number;
  readonly volumes: readonly VolumeOutcome[];
  readonly newBytes: number;
  readonly storedBytes: number;
  readonly incomplete: boolean;
  readonly suspect: boolean;
  /** PARTIAL records written on the way. */
  readonly partials: number;
}
