/** What a capture is given: volumes, ports, settings, and the lineage it commits to. */
import type { CaptureProgress } from './capture-outcome.ts';
import type { PackSettings } from './capture-lane.ts';
import type { CompactionLimits } from './compaction-plan.ts';
import type { Selection } from './select.ts';
import type { CommitBase, LineageWriter } from '../lineage/lineage-writer.ts';
import type { LineageName, VolumeName } from '../model/ids.ts';
import type { DomainKeys } from '../format/keys.ts';
import type { Clock } from '../ports/clock.ts';
import type { Compressor } from '../ports/compressor.ts';
import type { FileTreeReader } from '../ports/file-tree.ts';
import type { LaneStarter } from '../ports/lanes.ts';
import type { LocalCache } from '../ports/local-cache.ts';
import type { ObjectWriter } from '../ports/object-store.ts';
import type { RandomSource } from '../ports/random.ts';
import type { RangeLocks } from '../ports/range-locks.ts';
import type { KeptNodes } from './kept-nodes.ts';
import type { GuardRule } from './poison-guard.ts';
import type { NodeSource } from '../tree/node-access.ts';
import type { WatchedVolume } from './watched-volume.ts';

export interface VolumeSource {
  readonly name: VolumeName;
  /** Path of its directory as the user gave it. */
  readonly path: string;
  readonly selection: Selection;
  /** Of a process that captures the volume again and again: where to look. Undefined: every capture walks all of it. */
  readonly watched?: WatchedVolume | undefined;
}

export interface CapturePorts {
  readonly files: FileTreeReader;
  readonly store: ObjectWriter;
  readonly compressor: Compressor;
  readonly clock: Clock;
  readonly random: RandomSource;
  /** Undefined: no cache, every capture reads everything. */
  readonly cache: LocalCache | undefined;
  readonly lanes: LaneStarter;
  /** Undefined where this host has no locks of files. */
  readonly locks?: RangeLocks | undefined;
}

export interface CaptureSettings {
  readonly volumes: readonly VolumeSource[];
  /** Worker lanes for large captures; 0 keeps all in the calling thread. */
  readonly laneCount: number;
  readonly level: number;
  readonly dataSegmentBytes: number;
  readonly metaSegmentBytes: number;
  readonly packBytesTarget: number;
  /** Each chunk gets a frame of its own, so that what an attacker writes into the volume is never compressed with a secret. */
  readonly isolated: boolean;
  /** All new bytes up to this travel inside the record. */
  readonly inlineBytesMax: number;
  /** Passes after the first that may look for a moment without change. */
  readonly extraPassesMax: number;
  /** No further pass begins after this. */
  readonly convergeMsMax: number;
  /** A PARTIAL anchors a first capture each time this much has been stored since the last anchor. */
  readonly partialBytes: number;
  /** The final capture of a holder: not inlined. */
  readonly final: boolean;
  /**
   * Somebody states that the application has stopped. The checkpoint is `quiesced` when nothing speaks against it: the second
   * pass meets no change, and no file can have a writer.
   */
  readonly quiesced: boolean;
  /** Holds the databases of SQLite still by their own locks in all passes after the first. */
  readonly databaseLocks?: { readonly waitMs: number } | undefined;
  /** False reads everything, whatever the scan cache says. */
  readonly trustCache: boolean;
  /** Walks all of each volume, whatever its watcher says, and counts what the watcher should have told of and did not. */
  readonly audit?: boolean;
  /** Mixed into the salt of the packs: what another machine, process or run does not share, such as boot id and holder. */
  readonly saltContext?: readonly (string | number)[];
  readonly labels?: Readonly<Record<string, string>>;
  /**
   * False: where the newest CHECKPOINT shows the same already, and as consistently, none is made, and the capture ends after the
   * pass that saw it. Default true.
   */
  readonly commitUnchanged?: boolean;
  /** Volumes of the base that are not looked at now: the checkpoint has them as the base has them. */
  readonly carried?: readonly VolumeName[];
  /** What makes a checkpoint suspect: see poison-guard.ts. Undefined or empty: nothing. */
  readonly guard?: readonly GuardRule[] | undefined;
  /** The caller has a reason of its own to mark this one as suspect, such as volumes that may be half restored. */
  readonly suspect?: boolean | undefined;
  /** Merges small packs and rewrites those that are mostly dead, where that is due; undefined: never. */
  readonly compaction?: CompactionLimits | undefined;
}

export interface CaptureTarget {
  readonly lineage: LineageName;
  readonly keys: DomainKeys;
  readonly packs: Omit<
    PackSettings,
    'level' | 'dataSegmentBytes' | 'metaSegmentBytes' | 'packBytesTarget' | 'isolated' | 'runSalt'
  >;
  /** Undefined for a dry run: roots are computed and nothing is stored. */
  readonly writer: LineageWriter | undefined;
  /** What a dry run compares with; the writer's base else. */
  readonly base: CommitBase | undefined;
  /** Nodes of the base, or of another checkpoint; made anew for each. */
  readonly sourceOf: (base: Pick<CommitBase, 'record' | 'packs'> | undefined) => NodeSource;
  /** Of a process that captures the same lineage again and again. */
  readonly kept?: KeptNodes | undefined;
}

/** A way to have the application hold still while the passes after the first are made. */
export interface ApplicationPause {
  /** Before the second pass. True: the application has said that it holds still and that its files are consistent. */
  pause(): Promise<boolean>;
  /** After the last pass, before anything is committed; also when the capture fails, and when `pause` did. */
  resume(): Promise<void>;
}

export interface CaptureOptions {
  /**
   * Where nothing has changed since the newest checkpoint, it is not asked for. A checkpoint that converged meanwhile is `quiesced`: open
   * files say nothing against an application that holds still by itself.
   */
  readonly application?: ApplicationPause | undefined;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: CaptureProgress) => void;
}
