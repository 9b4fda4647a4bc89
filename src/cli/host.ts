/** What the command line needs of the machine; main.ts builds it, tests build another. */
import type { Route } from '../contract/agent-api.ts';
import type { ClaimOptions } from '../engine/lineage/claim.ts';
import type { Anchors } from '../engine/ports/anchors.ts';
import type { ChangeSource, ChangeSourceKind } from '../engine/ports/change-source.ts';
import type { Clock } from '../engine/ports/clock.ts';
import type { Compressor } from '../engine/ports/compressor.ts';
import type { FileTreeWriter } from '../engine/ports/file-tree.ts';
import type { HookCaller } from '../engine/ports/hook-caller.ts';
import type { KeyRing } from '../engine/ports/key-ring.ts';
import type { LaneStarter } from '../engine/ports/lanes.ts';
import type { Liveness } from '../engine/ports/liveness.ts';
import type { LocalCache } from '../engine/ports/local-cache.ts';
import type { ObjectReader, ObjectWriter } from '../engine/ports/object-store.ts';
import type { PrivateFiles } from '../engine/ports/private-files.ts';
import type { RandomSource } from '../engine/ports/random.ts';
import type { RangeLocks } from '../engine/ports/range-locks.ts';
import type { StoreInspector } from '../engine/ports/store-inspector.ts';
import type { VolumeUsers } from '../engine/ports/volume-users.ts';
import type { RestoreMark, RestoreMarker } from '../engine/ports/restore-marker.ts';
import type { HoldfastError } from '../engine/model/errors.ts';
import type { HolderId, LineageName, Slot } from '../engine/model/ids.ts';
import type { Limits } from './within-limits.ts';
import type { CertificateTools } from '../webhook/certificate-keeper.ts';
import type { KubeApi } from '../webhook/kube-api.ts';

export interface Output {
  readonly isTerminal: boolean;
  readonly columns: number;
  readonly colours: boolean;
  /** Resolves when more may be written: for much output, to be awaited. */
  write(text: string | Uint8Array): Promise<void> | undefined;
}

export type RequestCounts = Readonly<Record<string, number>>;

/** How many bytes a second a store is asked for, or sent, at most; undefined sets no bound. */
export interface Bandwidth {
  readonly uploadBytesPerSecond?: number | undefined;
  readonly downloadBytesPerSecond?: number | undefined;
  /** From when it fires on there is no bound. */
  readonly lifted?: AbortSignal;
  /** Told how long something was held back. */
  readonly onWaited?: (ms: number) => void;
}

/** A store whose requests are counted. */
export type Counted<S extends ObjectReader> = S &
  AsyncDisposable & {
    readonly requests: () => RequestCounts;
    readonly bytesRead: () => number;
  };

export interface HostFileTree {
  readonly tree: FileTreeWriter;
  readonly name: string;
  /** Undefined where this host has no locks of files. */
  readonly locks: RangeLocks | undefined;
  /** False where worker threads cannot share descriptors: everything then runs in one thread. */
  readonly sharedDescriptors: boolean;
}

export interface HostMarker extends RestoreMarker {
  /** The mark, and the slot of the checkpoint that it is about. */
  loadWithSlot(): Promise<{ readonly mark: RestoreMark; readonly slot: Slot } | undefined>;
}

/** Of Holdfast's service in the cluster, and with what it is asked. */
export interface ServiceAddress {
  readonly address: string;
  readonly tokenFile: string | undefined;
  readonly caFile: string | undefined;
  /** PEM. */
  readonly ca: string | undefined;
}

export interface Host {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly workingDirectory: string;
  readonly hostName: string;
  readonly version: string;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly clock: Clock;
  readonly random: RandomSource;
  /** Processors that this process may use. */
  readonly parallelism: number;
  /** Fires at SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
  /** Absolute path of an existing directory with symlinks resolved; the path made absolute when it does not exist. */
  realPath(path: string): string;
  exists(path: string): boolean;
  openReader(address: string, options?: { readonly bandwidth?: Bandwidth }): Promise<Counted<ObjectReader>>;
  /** `onRetry`: told each time that a store in the network is asked again; a person at the terminal is told where it is left out. */
  openWriter(
    address: string,
    options: {
      readonly create: boolean;
      readonly onRetry?: (notice: { readonly reason: string; readonly failingMs: number }) => void;
      readonly bandwidth?: Bandwidth;
      /** From when the signal fires on the process has so long to live, and no request is waited for longer. */
      readonly ending?: { readonly signal: AbortSignal; readonly msMax: number };
    },
  ): Promise<Counted<ObjectWriter>>;
  /** What looks at a store from outside. */
  openInspector(address: string): Promise<StoreInspector & AsyncDisposable>;
  /** The directory of a `file:` store, to keep it out of what it stores. */
  storePath(address: string): Promise<string | undefined>;
  openKey(path: string): Promise<KeyRing>;
  createKey(path: string): Promise<KeyRing>;
  fileTree(): Promise<HostFileTree>;
  compressor(): Promise<Compressor & Disposable>;
  lanes(): LaneStarter;
  openHolder(options: {
    readonly stateDirectory: string;
    readonly repository: string;
    readonly lineage: LineageName;
    /** A pod's UID; undefined outside of a pod. */
    readonly holder?: HolderId;
  }): Promise<ClaimOptions['holder'] & AsyncDisposable & { readonly path: string }>;
  /**
   * The scan caches of a set of directories. `own`: nobody else uses them now, since the holder's lock is held. When it cannot be
   * used, now or later, `onFailure` is told and the run goes on without.
   */
  openCache(options: {
    readonly stateDirectory: string;
    readonly repository: string;
    readonly lineage: LineageName;
    readonly volumes: readonly { readonly name: string; readonly path: string }[];
    readonly own: boolean;
    readonly onFailure: (error: HoldfastError) => void;
  }): Promise<(LocalCache & { /** See forgiving-cache.ts. */ tryAgain?(): boolean }) | undefined>;
  /** What is known of restores of the lineage into the directory at `path`. */
  openMarker(options: {
    readonly stateDirectory: string;
    readonly repository: string;
    readonly lineage: LineageName;
    readonly path: string;
    /** Of the checkpoint that is restored; 0 to look at what was. */
    readonly slot: Slot;
  }): Promise<HostMarker>;
  /** A cache below `stateDirectory` that is gone when it is disposed of; `onFailure` as above. */
  temporaryCache(
    stateDirectory: string,
    onFailure: (error: HoldfastError) => void,
  ): Promise<(LocalCache & Disposable) | undefined>;
  /** What knows of other pods whether they are gone. E_USAGE when the address is none. */
  openGoneService(options: ServiceAddress & { readonly onSilent: (reason: string) => void }): Promise<Liveness>;
  /** What keeps anchors outside of the store. E_USAGE when the address is none. */
  openAnchorService(options: ServiceAddress & { readonly onSilent: (reason: string) => void }): Promise<Anchors>;
  /** Files of a private directory. */
  openState(stateDirectory: string): Promise<PrivateFiles>;
  /** What a user may still write below that path, in bytes; undefined where that is not known. */
  freeBytes(path: string): number | undefined;
  /** Writes a file that others only look at; false where that fails. */
  writeNote(path: string, text: string): boolean;
  /** Steps back behind the application: lower priority for processors, and the disk when nobody else wants it. */
  beNice(): Promise<void>;
  /** Closes this process's memory and environment to others of the same user; false where this machine cannot. */
  closeMemory(): Promise<boolean>;
  hookCaller(): Promise<HookCaller>;
  /** A watcher of the directory at `path`; `onSwitch` when another takes its place. */
  watch(path: string, onSwitch: (kind: ChangeSourceKind, why: string | undefined) => void): Promise<ChangeSource>;
  /** Of this process's container; undefined: none. */
  limits(): Promise<Limits>;
  /** Resident memory of this process. */
  residentBytes(): number;
  /** SIGINT and SIGTERM fire `signal` once, and end the process only when it is done. */
  outliveSignals(): void;
  volumeUsers(): VolumeUsers;
  /** Makes the place of an agent's socket free, and what this process makes private. E_STATE_DIR. */
  prepareSocket(path: string): Promise<void>;
  /** Asks the agent at a socket. E_STATE_DIR where none answers, E_ABORTED when it takes too long. */
  askAgent(
    socketPath: string,
    route: Route,
    options: { readonly waitMs: number; readonly body?: string },
  ): Promise<{ readonly code: number; readonly body: string }>;
  /** The text of a settings file; E_USAGE when it cannot be read. */
  readSettings(path: string): Promise<string>;
  /** A certificate and the key that belongs to it, as PEM, and when it ends; E_USAGE when they cannot be used. */
  readTlsFiles(paths: { readonly cert: string; readonly key: string }): Promise<{
    readonly cert: string;
    readonly key: string;
    readonly validUntilMs: number;
  }>;
  /** The API server of the cluster that this process runs in. E_USAGE outside of a pod. */
  openKubeApi(): Promise<KubeApi & Disposable>;
  certificateTools(): Promise<CertificateTools>;
  /** Certificates as PEM; E_USAGE when the file cannot be read or holds none. */
  readAuthorities(path: string): Promise<string>;
  /** Changes with each boot of the machine; empty where that is not known. */
  bootId(): string;
}
