/** What an agent works with: the outside, handed in by the process that builds it. */
import type { CapturePorts, CaptureTarget } from '../engine/capture/capture-request.ts';
import type { DomainAccess } from '../engine/lineage/repository.ts';
import type { HoldfastError } from '../engine/model/errors.ts';
import type { Slot } from '../engine/model/ids.ts';
import type { Anchors } from '../engine/ports/anchors.ts';
import type { ChangeSource, ChangeSourceKind } from '../engine/ports/change-source.ts';
import type { Clock } from '../engine/ports/clock.ts';
import type { HolderStore } from '../engine/ports/holder-store.ts';
import type { HookCaller } from '../engine/ports/hook-caller.ts';
import type { Liveness } from '../engine/ports/liveness.ts';
import type { PrivateFiles } from '../engine/ports/private-files.ts';
import type { RandomSource } from '../engine/ports/random.ts';
import type { VolumeUsers } from '../engine/ports/volume-users.ts';

/** An opened repository with the keys of the lineage's domain, the holder's lock, and what captures need. Held until disposed of. */
export interface Connection extends AsyncDisposable {
  readonly capture: CapturePorts;
  readonly access: DomainAccess;
  readonly holder: HolderStore;
  /** True where the repository was made in a store that overwrites: nothing is proven there. */
  readonly unfenced: boolean;
  /** The volumes contain what was committed up to here, because they were restored from there; 0: they were not. */
  readonly restoredSlot: Slot;
  readonly sourceOf: CaptureTarget['sourceOf'];
  /** Between two captures; answers whether the cache had failed. Without one no pass can tell that nothing has changed. */
  tryCacheAgain(): boolean;
}

export interface ConnectOptions {
  readonly signal: AbortSignal;
  /** The store is waited for. */
  readonly onWaiting: (notice: { readonly reason: string; readonly failingMs: number }) => void;
  /** Something was held back for so long, so that the limit of bandwidth holds. */
  readonly onHeldBack: (ms: number) => void;
  /** The scan cache cannot be used from now on. */
  readonly onCacheFailure: (error: HoldfastError) => void;
}

export interface AgentParts {
  readonly clock: Clock;
  readonly random: RandomSource;
  /** Fires when the process is told to stop; the agent decides when it does. */
  readonly terminated: AbortSignal;
  /** E_STORE_*, E_REPOSITORY_MISSING and the like while there is nothing to connect to; errors of settings, which stay. */
  connect(options: ConnectOptions): Promise<Connection>;
  /** Who knows of other pods; `onSilent` is told why there is no answer, and that those who are asked about count as alive. */
  openLiveness(onSilent: (message: string) => void): Promise<Liveness>;
  /** What keeps the newest checkpoint outside of the store; undefined: nothing does. */
  readonly anchors: Anchors | undefined;
  readonly files: PrivateFiles;
  readonly users: VolumeUsers;
  readonly hooks: HookCaller;
  /** A watcher of the directory; `onSwitch` when another takes its place. */
  watch(path: string, onSwitch: (kind: ChangeSourceKind, why: string | undefined) => void): Promise<ChangeSource>;
  /** Other processes of the same user cannot read this one's memory. */
  readonly memoryClosed: boolean;
  /** Pod or host name, for people. */
  readonly holderName: string;
  /** Where the reason of an end is left for the kubelet; nothing where there is no such place. */
  writeTerminationMessage(text: string): unknown;
  /** What those have to give who ask at the port; undefined where it cannot be read, and then nobody may. */
  token(): Promise<string | undefined>;
  /** Resident memory of this process. */
  residentBytes(): number;
  /** One line of the log. */
  writeLog(line: string): void;
}
