/** What the init container works with and is asked for. */
import type { Repository } from '../../engine/lineage/repository.ts';
import type { Anchor } from '../../engine/model/anchor.ts';
import type { HolderId, LineageName, Slot, VolumeName } from '../../engine/model/ids.ts';
import type { Anchors } from '../../engine/ports/anchors.ts';
import type { Clock } from '../../engine/ports/clock.ts';
import type { Compressor } from '../../engine/ports/compressor.ts';
import type { FileTreeWriter } from '../../engine/ports/file-tree.ts';
import type { HolderStore } from '../../engine/ports/holder-store.ts';
import type { LaneStarter } from '../../engine/ports/lanes.ts';
import type { Liveness } from '../../engine/ports/liveness.ts';
import type { LocalCache } from '../../engine/ports/local-cache.ts';
import type { ObjectWriter } from '../../engine/ports/object-store.ts';
import type { PrivateFiles } from '../../engine/ports/private-files.ts';
import type { RandomSource } from '../../engine/ports/random.ts';
import type { RestoreMarker } from '../../engine/ports/restore-marker.ts';
import type { RestoreProgress } from '../../engine/rehydrate/rehydrate-outcome.ts';
import type { DataPolicies } from './data-policy.ts';
import type { SlotSettings } from './replica-slots.ts';
import type { RestoreAt } from './restore-at.ts';

export interface ContainerVolume {
  readonly name: VolumeName;
  /** With symlinks resolved. */
  readonly path: string;
  /** Its `sizeLimit`: beyond it the pod is evicted. */
  readonly bytesMax: number | undefined;
}

export interface ContainerSettings {
  /** Of a workload with replica slots, what stands before their numbers. */
  readonly lineage: LineageName;
  readonly slots: SlotSettings | undefined;
  /** Address of the store, for the receipt. */
  readonly store: string;
  readonly volumes: readonly ContainerVolume[];
  readonly podUid: HolderId;
  readonly podName: string;
  /** A record that must be there, known outside of the store. */
  readonly expect: Anchor | undefined;
  /** The checkpoint to go back to; undefined: the newest good one. */
  readonly restoreAt: RestoreAt | undefined;
  readonly policies: DataPolicies;
  /** How long to wait for the predecessor's SEAL. */
  readonly handoffMsMax: number;
  /** How long to wait for somebody who took the lineage from this pod, and may still be alive. */
  readonly claimMsMax: number;
  /** Globs of what is restored first. */
  readonly first: readonly string[];
  readonly laneCount: number;
  /** What of the checkpoint may be in memory at once. */
  readonly inFlightBytes: number;
}

/** Something a person or a log reader may want to know on the way. */
export interface RehydrateEvent {
  readonly event:
    | 'rehydrate.live'
    | 'rehydrate.handoff'
    | 'rehydrate.slot'
    | 'rehydrate.restore'
    | 'rehydrate.moved'
    | 'rehydrate.rollback'
    | 'rehydrate.no-data'
    | 'rehydrate.held'
    | 'rehydrate.claimed'
    | 'rehydrate.superseded'
    | 'rehydrate.warning';
  readonly message: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

export interface ContainerPorts {
  readonly files: FileTreeWriter;
  readonly state: PrivateFiles;
  /** E_STORE_* when it cannot be opened. */
  openStore(): Promise<ObjectWriter & AsyncDisposable>;
  openRepository(store: ObjectWriter, signal: AbortSignal): Promise<Repository>;
  openHolder(repository: string, lineage: LineageName): Promise<HolderStore & AsyncDisposable>;
  openMarker(repository: string, lineage: LineageName, path: string, slot: Slot): Promise<RestoreMarker>;
  openCache(repository: string, lineage: LineageName): Promise<LocalCache | undefined>;
  readonly compressor: Compressor;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly lanes: LaneStarter;
  readonly liveness: Liveness;
  /** What is known outside of the store, where nobody said it; undefined: nothing is. */
  readonly anchors: Anchors | undefined;
  readonly bootId: string;
  /** Of the file system at that path; undefined where that is not known. */
  freeBytes(path: string): number | undefined;
  readonly onEvent: (event: RehydrateEvent) => void;
  readonly onProgress: (progress: RestoreProgress) => void;
}
