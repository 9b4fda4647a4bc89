/** What a restore is asked for, and with. */
import type { VolumeName } from '../model/ids.ts';
import type { Clock } from '../ports/clock.ts';
import type { Compressor } from '../ports/compressor.ts';
import type { FileTreeWriter } from '../ports/file-tree.ts';
import type { LaneStarter } from '../ports/lanes.ts';
import type { LocalCache } from '../ports/local-cache.ts';
import type { ObjectReader } from '../ports/object-store.ts';
import type { RandomSource } from '../ports/random.ts';
import type { RestoreMarker } from '../ports/restore-marker.ts';
import type { FirstComplete, RestoreProgress } from './rehydrate-outcome.ts';

export interface RehydratePorts {
  readonly files: FileTreeWriter;
  readonly store: ObjectReader;
  readonly compressor: Compressor;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly lanes: LaneStarter;
  /** Where the first capture after the restore looks for its scan cache; undefined: it will read everything. */
  readonly cache: LocalCache | undefined;
}

export interface RestoreTarget {
  readonly volume: VolumeName;
  /** Directory to restore into; made when it is missing. */
  readonly path: string;
  readonly marker: RestoreMarker;
}

export interface RehydrateSettings {
  /** Volumes that are not named here are left out. */
  readonly targets: readonly RestoreTarget[];
  /** Globs of what to restore, with everything below; none: everything. */
  readonly only: readonly string[];
  /** Globs of what to restore before the rest begins. */
  readonly first: readonly string[];
  /** What becomes of a target that is not empty, unless an unfinished restore is resumed. */
  readonly onExisting: 'refuse' | 'keep' | 'replace';
  /** False leaves owner, mode, times and xattrs of the target's own directory as they are. */
  readonly rootMeta: boolean;
  /** Worker lanes for large restores; 0 keeps all in the calling thread. */
  readonly laneCount: number;
  /** Ciphertext in memory at once. */
  readonly inFlightBytes: number;
  /** Ends well although files are lost; they are reported. */
  readonly continueOnDamage: boolean;
  /** Of the selection that the next capture will have, so that its scan cache can be prepared; empty for everything. */
  readonly nextSelection: string;
}

export const restoreDefaults: Omit<RehydrateSettings, 'targets' | 'laneCount'> = {
  only: [],
  first: [],
  onExisting: 'refuse',
  rootMeta: true,
  inFlightBytes: 32 * 1024 * 1024,
  continueOnDamage: false,
  nextSelection: '',
};

export interface RehydrateOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: RestoreProgress) => void;
  readonly onFirstComplete?: (event: FirstComplete) => void;
}
