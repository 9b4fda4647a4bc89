/** What a restore says of itself: on the way, and when it is done. */
import type { RecordId, Slot, VolumeName } from '../model/ids.ts';
import type { NameCount } from '../model/name-tally.ts';
import type { DamageReport } from './damage.ts';
import type { ExistingPolicy } from './existing.ts';

export interface RestoreProgress {
  readonly phase: 'first' | 'restore' | 'audit' | 'sync';
  readonly volume: VolumeName;
  /** Done so far, in this volume. */
  readonly entries: number;
  readonly files: number;
  readonly bytes: number;
  /** All that the volume has; with `only`, more than will be restored. */
  readonly entriesTotal: number;
  readonly filesTotal: number;
  readonly bytesTotal: number;
}

/** Everything that the `first` globs match is there, with its content; the rest begins. */
export interface FirstComplete {
  readonly volume: VolumeName;
  readonly files: number;
  readonly bytes: number;
  /** Since the restore began. */
  readonly seconds: number;
}

export interface Degraded extends NameCount {
  /** `owner EPERM`: could not be set. `times not kept`: the file system has others. `missing`, `changed`: not as it was left. */
  readonly reason: string;
}

export interface RestoredVolume {
  readonly name: VolumeName;
  readonly path: string;
  /** What of the checkpoint is there now, whoever wrote it: hardlinks count once per name, their bytes once. */
  readonly files: number;
  readonly entries: number;
  readonly bytes: number;
  /** Files whose content was written by this run, and their sizes. */
  readonly newFiles: number;
  readonly newBytes: number;
  /** How existing names were met. complete: it was restored before, stands there as it was left, and nothing was written. */
  readonly existing: ExistingPolicy | 'complete';
  /** Paths that were left as they were (`keep`). */
  readonly kept: NameCount;
  /** Paths that were removed (`replace`). */
  readonly removed: NameCount;
  readonly degraded: readonly Degraded[];
  readonly damage: DamageReport | undefined;
  readonly firstComplete: FirstComplete | undefined;
  /** Id of the tree in the checkpoint. */
  readonly rootExpected: Uint8Array;
  /** What a capture of the target would give; undefined for a part of a volume, and beside what was kept. */
  readonly rootGot: Uint8Array | undefined;
  /** The scan cache of the next capture is ready. */
  readonly primed: boolean;
}

export interface RehydrateOutcome {
  readonly slot: Slot;
  readonly id: RecordId;
  /** Root of the set, as the record has it. */
  readonly rootExpected: Uint8Array;
  /** Of what was restored; undefined unless every volume was restored whole. */
  readonly rootGot: Uint8Array | undefined;
  readonly volumes: readonly RestoredVolume[];
  readonly files: number;
  readonly entries: number;
  readonly bytes: number;
  readonly newFiles: number;
  readonly newBytes: number;
  readonly seconds: number;
  /** Files are missing: there was damage and `continueOnDamage`. */
  readonly incomplete: boolean;
  /** Globs that match no name of any volume that was restored. */
  readonly unmatched: { readonly only: readonly string[]; readonly first: readonly string[] };
}
