/** What a run of rehydrate knows and has decided, and its mark beside the volumes. The steps, each in a file of its own, read and change it. */
import type { ReceiptHandoff, RestoreReceipt } from '../../contract/receipt.ts';
import {
  type MarkedVolume,
  markerFile,
  parseMarker,
  printMarker,
  type RehydrateMarker,
  type VolumeOrigin,
} from '../../contract/state-directory.ts';
import type { LogRecord } from '../../engine/format/record.ts';
import type { LineageLog } from '../../engine/lineage/log.ts';
import { type DomainAccess, domainOf, type Repository } from '../../engine/lineage/repository.ts';
import type { Anchor } from '../../engine/model/anchor.ts';
import type { LineageName, Slot, VolumeName } from '../../engine/model/ids.ts';
import type { ObjectWriter } from '../../engine/ports/object-store.ts';
import type { RestoredVolume } from '../../engine/rehydrate/rehydrate-outcome.ts';
import type { RestoreSource } from '../../engine/rehydrate/restore-source.ts';
import type { NoDataAnswer } from './data-policy.ts';
import type { ContainerPorts, ContainerSettings } from './rehydrate-ports.ts';
import { type PickedSlot, slotLineage } from './replica-slots.ts';
import { type SurveyedVolume, surveyVolumes } from './survey.ts';

/** What the volumes are to begin with. */
export type Plan =
  | { readonly kind: 'newest' }
  | { readonly kind: 'older'; readonly ageMsMax: number; readonly why: NoDataAnswer }
  | { readonly kind: 'empty'; readonly why: NoDataAnswer };

/** A log that was opened; without keys nothing was ever stored in its domain. */
export interface OpenedLog {
  readonly store: ObjectWriter;
  readonly repository: Repository;
  readonly access: DomainAccess | undefined;
  readonly log: LineageLog | undefined;
}

/** What was chosen to begin with. */
export interface Basis {
  readonly source: RestoreSource | undefined;
  /** The newest record that the choice knew of: a good checkpoint above it is news. */
  readonly known: Slot;
  /** The checkpoint is not the newest good one, by choice. */
  readonly chosen: boolean;
  /** It was asked for: what is newer is left behind on purpose. */
  readonly goesBack?: true;
}

export interface RunOptions {
  readonly signal: AbortSignal;
  readonly onReceipt: (receipt: RestoreReceipt) => Promise<void>;
}

export class RehydrateRun implements AsyncDisposable {
  readonly ports: ContainerPorts;
  readonly settings: ContainerSettings;
  readonly options: RunOptions;
  readonly survey: readonly SurveyedVolume[];
  readonly startedMs: number;
  readonly startedAtMs: number;
  #marker: RehydrateMarker;
  /** Of replica slots, the one that was picked. */
  lineage: LineageName;
  picked: PickedSlot | undefined;
  /** The slot that a fork would begin. */
  fork: LineageName | undefined;
  /** When the store was last asked for the log. */
  openedMs = 0;
  store: (ObjectWriter & AsyncDisposable) | undefined;
  repository: Repository | undefined;
  access: DomainAccess | undefined;
  /** What this run has decided of each volume that is not live. */
  readonly origins: Map<VolumeName, VolumeOrigin> = new Map();
  readonly restored: Map<VolumeName, RestoredVolume> = new Map();
  source: RestoreSource | undefined;
  /** The checkpoint that was tried last. */
  attempted: LogRecord | undefined;
  /** Ids of checkpoints that could not be restored. */
  readonly unusable: Set<string> = new Set();
  /** Since when there was no data, by answer. */
  readonly sinceMs: Map<NoDataAnswer, number> = new Map();
  /** Told of once. */
  readonly said: Set<NoDataAnswer> = new Set();
  olderTried = false;
  /** What has to be there, of what is known outside of the store. */
  expect: Anchor | undefined;
  /** At which look at which lineage that was asked for. */
  askedForAnchor = '';
  /** An older checkpoint was asked for, and is the one that is tried. */
  goesBack = false;
  restoreAt: RestoreReceipt['restoreAt'];
  /** Of the CLAIM to come. */
  claimLabels: Readonly<Record<string, string>> = {};
  handoff: ReceiptHandoff | undefined;
  handoffDone = false;
  epoch: number | undefined;
  moved = 0;
  suspect = false;
  policy: RestoreReceipt['policy'] = { answer: 'data', applied: null, why: 'a good checkpoint was found' };
  readonly warnings: string[] = [];

  private constructor(
    ports: ContainerPorts,
    settings: ContainerSettings,
    options: RunOptions,
    marker: RehydrateMarker | undefined,
  ) {
    this.ports = ports;
    this.settings = settings;
    this.options = options;
    this.startedMs = ports.clock.monotonicMs();
    this.startedAtMs = ports.clock.nowMs();
    this.survey = surveyVolumes(ports, settings.volumes, marker);
    this.suspect = marker?.suspect ?? false;
    this.expect = settings.expect;
    const { restoreAt } = settings;
    this.restoreAt = restoreAt === undefined ? null : { value: restoreAt.text, outcome: 'not-applied' };
    const { slots, lineage } = settings;
    this.lineage = marker?.lineage ?? (slots === undefined ? lineage : slotLineage(lineage, 0));
    this.#marker = marker ?? {
      podUid: settings.podUid,
      lineage: this.lineage,
      writes: slots?.mode !== 'seed',
      suspect: false,
      phase: 'started',
      volumes: new Map(),
    };
  }

  /** E_STATE_DIR, E_FORMAT_NEWER, E_TARGET_*. */
  static async begin(ports: ContainerPorts, settings: ContainerSettings, options: RunOptions): Promise<RehydrateRun> {
    const text = await ports.state.read(markerFile);
    const marker = text === undefined ? undefined : parseMarker(text);
    // A directory that outlived its pod, or serves another lineage, says nothing about this one.
    const { lineage, slots } = settings;
    const serves = (name: string): boolean =>
      slots === undefined ? name === lineage : domainOf(name as LineageName) === lineage;
    const own = marker?.podUid === settings.podUid && serves(marker.lineage) ? marker : undefined;
    return new RehydrateRun(ports, settings, options, own);
  }

  get signal(): AbortSignal {
    return this.options.signal;
  }

  /** Whose checkpoints the volumes begin with: of a fork, those of another slot. */
  get origin(): LineageName {
    return this.picked?.origin ?? this.lineage;
  }

  /** Whether this pod is to write the lineage that it begins from. */
  get writes(): boolean {
    return this.#marker.writes;
  }

  /** What is marked, by this run or by one before it. */
  get marked(): RehydrateMarker['volumes'] {
    return this.#marker.volumes;
  }

  get everythingLives(): boolean {
    return this.#marker.phase === 'done' && this.survey.every(({ state }) => state === 'live');
  }

  /** An application may have run on some volume. */
  get used(): boolean {
    return this.survey.some(({ name, state }) => state === 'live' || this.origins.get(name)?.kind === 'kept');
  }

  /** Volumes that may be written: neither live nor kept. */
  get targets(): readonly SurveyedVolume[] {
    return this.survey.filter(({ name, state }) => state !== 'live' && this.origins.get(name)?.kind !== 'kept');
  }

  /** The checkpoint, as something to restore from; it is the one that is tried now. */
  async sourceOf(log: LineageLog, access: DomainAccess, record: LogRecord): Promise<RestoreSource> {
    this.attempted = record;
    const { packs } = await log.packs(record, { signal: this.signal });
    return { lineage: log.lineage, access, record, body: log.body(record), packs };
  }

  /** Told once, and in the receipt. */
  warn(message: string): void {
    if (this.warnings.includes(message)) return;
    this.warnings.push(message);
    this.ports.onEvent({ event: 'rehydrate.warning', message });
  }

  /** Volumes that are live stay as they are marked. */
  async mark(phase: 'started' | 'done'): Promise<void> {
    const volumes = new Map(this.#marker.volumes);
    for (const { name, state, memory } of this.survey) {
      const from = this.origins.get(name);
      if (state === 'live' || from === undefined) continue;
      const marked: MarkedVolume = { phase, memory, bootId: this.ports.bootId, from };
      volumes.set(name, marked);
    }
    this.#marker = { ...this.#marker, lineage: this.lineage, suspect: this.suspect, phase, volumes };
    await this.ports.state.replace(markerFile, printMarker(this.#marker));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store?.[Symbol.asyncDispose]();
  }
}
