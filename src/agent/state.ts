/** What an agent knows of itself, in one place: the loop writes it, the API and the metrics read it. */
import type {
  AgentHealth,
  AgentPhase,
  AgentProblem,
  AgentStatus,
  AgentWarningCode,
  CaptureState,
  CheckpointReason,
  CheckpointState,
  UnsavedState,
} from '../contract/agent-api.ts';
import { agentWarnings } from '../contract/agent-api.ts';
import type { CaptureOutcome, CaptureProgress } from '../engine/capture/capture-outcome.ts';
import type { Unsaved } from '../engine/capture/measure-unsaved.ts';
import type { CommitBase } from '../engine/lineage/lineage-writer.ts';
import { toHex } from '../engine/model/bytes.ts';
import type { Consistency } from '../engine/model/checkpoint.ts';
import { type HoldfastError, isHoldfastError } from '../engine/model/errors.ts';
import { recordIdText, type VolumeName } from '../engine/model/ids.ts';
import type { Clock } from '../engine/ports/clock.ts';
import { UploadRate } from './upload-rate.ts';
import { type AgentSettings, type AgentVolume, defaultObjectiveMs } from './settings.ts';

interface Newest {
  readonly slot: number;
  readonly id: string;
  readonly digest: string;
  /** Wall clock, as its record has it. */
  readonly timeMs: number;
  /** Monotonic. */
  readonly atMs: number;
  readonly consistency: Consistency;
  readonly files: number;
  readonly bytes: number;
}

/** Where a problem comes from: the next success of the same thing ends it. */
export type ProblemSource =
  | 'store'
  | 'lineage'
  | 'restore'
  | 'checkpoint'
  | 'cache'
  | 'consistency'
  | 'files'
  | 'suspect'
  | 'fill'
  | 'hook'
  | 'post-restore';

/** Of a volume's size limit: beyond the limit the pod is evicted, with a second to live. */
export const fillShareMax = 0.8;

export class AgentState {
  readonly settings: AgentSettings;
  readonly #clock: Clock;
  readonly #startedMs: number;
  readonly #problems = new Map<ProblemSource, AgentProblem>();
  #phase: AgentPhase = 'starting';
  #newest: Newest | undefined;
  /** By volume, monotonic: everything up to then is durable. */
  readonly #savedUpToMs = new Map<VolumeName, number>();
  /** Sum of the sizes of a volume's files, as counted last. */
  readonly #volumeBytes = new Map<VolumeName, number>();
  #unsaved: { readonly measured: Pick<Unsaved, 'bytes' | 'files'>; readonly atMs: number } | undefined;
  #capture:
    | { readonly reason: CheckpointReason; readonly startedMs: number; readonly progress: CaptureProgress | undefined }
    | undefined;
  fenced = false;
  /** False until the store has answered, and from a failed attempt to the next one that succeeds. */
  storeReachable = false;
  /** No scheduled checkpoints until then, by the monotonic clock. */
  pausedUntilMs = 0;
  /** When the end of the pod was announced last, by the monotonic clock. */
  notifiedMs: number | undefined;
  readonly rate: UploadRate = new UploadRate();
  nextInMs: (() => number) | undefined;
  watcherOf: ((volume: AgentVolume) => { readonly kind: string; readonly why: string | null } | undefined) | undefined;
  receipt: unknown = null;
  readonly counts = {
    committed: 0,
    unchanged: 0,
    failed: 0,
    newBytes: 0,
    storedBytes: 0,
    captureSeconds: 0,
    heldBackSeconds: 0,
    fenced: 0,
    notified: 0,
    watcherMissed: 0,
  };

  constructor(settings: AgentSettings, clock: Clock) {
    this.settings = settings;
    this.#clock = clock;
    this.#startedMs = clock.monotonicMs();
  }

  get phase(): AgentPhase {
    return this.#phase;
  }

  enter(phase: AgentPhase): void {
    this.#phase = phase;
  }

  get paused(): boolean {
    return this.#clock.monotonicMs() < this.pausedUntilMs;
  }

  /** The writer's base as the newest checkpoint: what there was when the lineage was claimed. */
  found(base: CommitBase | undefined): void {
    const record = base?.checkpoint?.record;
    if (record === undefined) return;
    const { header, digest } = record;
    const age = Math.max(0, this.#clock.nowMs() - header.timeMs);
    const atMs = this.#clock.monotonicMs() - age;
    this.#newest = {
      slot: header.slot,
      id: recordIdText(header.id),
      digest: toHex(digest),
      timeMs: header.timeMs,
      atMs,
      consistency: header.consistency ?? 'fuzzy',
      files: header.totals.files,
      bytes: header.totals.bytes,
    };
    for (const { name } of base?.volumes ?? []) this.#savedUpToMs.set(name, atMs);
  }

  captureBegins(reason: CheckpointReason): void {
    this.#capture = { reason, startedMs: this.#clock.monotonicMs(), progress: undefined };
  }

  captureGoesOn(progress: CaptureProgress): void {
    if (this.#capture !== undefined) this.#capture = { ...this.#capture, progress };
  }

  /** Seconds that it took. `base`: what it left as the newest checkpoint. */
  captureEnds(outcome: CaptureOutcome | undefined, base: CommitBase | undefined): number {
    const { startedMs = 0 } = this.#capture ?? {};
    this.#capture = undefined;
    const nowMs = this.#clock.monotonicMs();
    const seconds = (nowMs - startedMs) / 1000;
    this.counts.captureSeconds += seconds;
    if (outcome === undefined) {
      this.counts.failed++;
      return seconds;
    }
    this.storeReachable = true;
    this.resolve('store');
    this.resolve('checkpoint');
    const { committed } = outcome;
    this.rate.note(outcome.newBytes, seconds);
    if (committed === undefined) {
      this.counts.unchanged++;
    } else {
      this.counts.committed++;
      this.counts.newBytes += outcome.newBytes;
      this.counts.storedBytes += outcome.storedBytes;
      const header = base?.record.header;
      this.#newest = {
        slot: committed.slot,
        id: recordIdText(committed.id),
        digest: toHex(committed.digest),
        timeMs: header?.timeMs ?? this.#clock.nowMs(),
        atMs: nowMs,
        consistency: outcome.consistency,
        files: header?.totals.files ?? 0,
        bytes: header?.totals.bytes ?? 0,
      };
    }
    // What was written after a name was looked at is not in it: it holds everything up to its start.
    for (const { name, bytes } of outcome.volumes) {
      this.#savedUpToMs.set(name, startedMs);
      this.#volumeBytes.set(name, bytes);
    }
    this.#noteFill();
    const all = outcome.volumes.length === this.settings.volumes.length;
    this.#unsaved = all ? { measured: { bytes: 0, files: 0 }, atMs: nowMs } : undefined;
    return seconds;
  }

  /** What a look at the volumes has counted. */
  measured(unsaved: Unsaved): void {
    const { bytes, files, volumeBytes } = unsaved;
    this.#unsaved = { measured: { bytes, files }, atMs: this.#clock.monotonicMs() };
    for (const [name, of] of volumeBytes) this.#volumeBytes.set(name, of);
    this.#noteFill();
  }

  /** Volumes that have a limit, and what is in them as far as it was counted. */
  get fills(): readonly { readonly name: string; readonly bytes: number; readonly limitBytes: number }[] {
    return this.volumes.flatMap(({ name, bytes, limitBytes }) =>
      bytes === null || limitBytes === null ? [] : [{ name, bytes, limitBytes }],
    );
  }

  get volumes(): AgentStatus['volumes'] {
    return this.settings.volumes.map((volume) => {
      const {
        source: { name, path },
        bytesMax,
      } = volume;
      return {
        name,
        path,
        bytes: this.#volumeBytes.get(name) ?? null,
        limitBytes: bytesMax ?? null,
        watcher: this.watcherOf?.(volume) ?? null,
      };
    });
  }

  #noteFill(): void {
    const near = this.fills.filter(({ bytes, limitBytes }) => bytes > limitBytes * fillShareMax);
    if (near.length === 0) {
      this.resolve('fill');
      return;
    }
    const message = near
      .map(({ name, bytes, limitBytes }) => `${name} holds ${bytes} bytes of ${limitBytes}`)
      .join(', ');
    this.problem('fill', { code: 'W_FILL', message });
  }

  /** Until a share of the objective is over for some volume, ms; below 0 since. */
  untilObjectiveMs(share: number): number {
    return Math.min(...this.settings.volumes.map((volume) => this.#objectiveMs(volume) * share - this.#ageMs(volume)));
  }

  get capturing(): boolean {
    return this.#capture !== undefined;
  }

  /** A condition that holds from now on, until `resolve`. */
  problem(
    source: ProblemSource,
    error: HoldfastError | { readonly code: AgentWarningCode; readonly message: string },
  ): void {
    const before = this.#problems.get(source);
    const since = before?.code === error.code ? before.since : new Date(this.#clock.nowMs()).toISOString();
    const remedy = isHoldfastError(error) ? error.remedy : agentWarnings[(error as { code: AgentWarningCode }).code];
    this.#problems.set(source, { code: error.code, message: error.message, remedy, since });
  }

  resolve(source: ProblemSource): void {
    this.#problems.delete(source);
  }

  /** Seconds since the moment up to which everything is durable; since the start where nothing ever was. */
  get unsavedSeconds(): number {
    return Math.max(...this.settings.volumes.map((volume) => this.#ageMs(volume))) / 1000;
  }

  /** Whether each volume's newest durable state is younger than its objective; false before there is one. */
  get objectiveMet(): boolean {
    return this.settings.volumes.every(
      (volume) => this.#savedUpToMs.has(volume.source.name) && this.#ageMs(volume) <= this.#objectiveMs(volume),
    );
  }

  #ageMs({ source }: AgentVolume): number {
    return Math.max(0, this.#clock.monotonicMs() - (this.#savedUpToMs.get(source.name) ?? this.#startedMs));
  }

  /** A volume that is looked at less often cannot be younger. */
  #objectiveMs({ schedule }: AgentVolume): number {
    const { objectiveMs } = this.settings;
    return schedule === undefined ? objectiveMs : Math.max(objectiveMs, defaultObjectiveMs(schedule));
  }

  get newest(): CheckpointState | undefined {
    const newest = this.#newest;
    if (newest === undefined) return undefined;
    const { atMs, timeMs, ...rest } = newest;
    return {
      ...rest,
      time: new Date(timeMs).toISOString(),
      ageSeconds: round((this.#clock.monotonicMs() - atMs) / 1000),
    };
  }

  get capture(): CaptureState | undefined {
    if (this.#capture === undefined) return undefined;
    const { reason, startedMs, progress } = this.#capture;
    return {
      reason,
      phase: progress?.phase ?? 'scan',
      pass: progress?.pass ?? 1,
      files: progress?.files ?? 0,
      readBytes: progress?.readBytes ?? 0,
      newBytes: progress?.newBytes ?? 0,
      storedBytes: progress?.storedBytes ?? 0,
      seconds: round((this.#clock.monotonicMs() - startedMs) / 1000),
    };
  }

  get unsaved(): UnsavedState | undefined {
    if (this.#unsaved === undefined) return undefined;
    const { measured, atMs } = this.#unsaved;
    return {
      ...measured,
      ageSeconds: round(this.unsavedSeconds),
      measuredSecondsAgo: round((this.#clock.monotonicMs() - atMs) / 1000),
    };
  }

  get problems(): readonly AgentProblem[] {
    return [...this.#problems.values()];
  }

  /** As others are told: paused is not another way to run, but another answer to when. */
  get shownPhase(): AgentPhase {
    return this.#phase === 'running' && this.paused ? 'paused' : this.#phase;
  }

  health(): AgentHealth {
    return {
      healthy: this.objectiveMet,
      durableAgeSeconds: round(this.unsavedSeconds),
      objectiveSeconds: this.settings.objectiveMs / 1000,
      problems: this.#objectiveProblem(),
    };
  }

  status(): AgentStatus {
    const { settings, counts } = this;
    const scheduled = (this.#phase === 'running' || this.#phase === 'draining') && !this.paused;
    return {
      version: 1,
      agent: settings.version,
      phase: this.shownPhase,
      lineage: settings.lineage,
      podUid: settings.podUid,
      fenced: this.fenced,
      newest: this.newest ?? null,
      unsaved: this.unsaved ?? null,
      objective: { seconds: settings.objectiveMs / 1000, met: this.objectiveMet },
      storeReachable: this.storeReachable,
      uploadLimitBytesPerSecond: settings.uploadBytesPerSecond ?? null,
      problems: this.#objectiveProblem(),
      checkpoints: { committed: counts.committed, unchanged: counts.unchanged, failed: counts.failed },
      nextSeconds: scheduled && this.nextInMs !== undefined ? round(this.nextInMs() / 1000) : null,
      capture: this.capture ?? null,
      volumes: this.volumes,
      receipt: this.receipt,
    };
  }

  #objectiveProblem(): readonly AgentProblem[] {
    if (this.objectiveMet || this.#savedUpToMs.size === 0) return this.problems;
    const overMs = Math.max(...this.settings.volumes.map((volume) => this.#ageMs(volume) - this.#objectiveMs(volume)));
    const code = 'W_OBJECTIVE_MISSED';
    return [
      ...this.problems,
      {
        code,
        message: `the newest durable state is ${Math.round(this.unsavedSeconds)} s old, ${Math.round(overMs / 1000)} s more than the objective`,
        remedy: agentWarnings[code],
        since: new Date(this.#clock.nowMs() - overMs).toISOString(),
      },
    ];
  }
}

/** To milliseconds. */
function round(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
