/** The steps of run-rehydrate.ts, and what they leave behind: the marker of the volumes, and the receipt. */
import type { ReceiptHandoff, ReceiptVolume, RestoreReceipt } from '../../contract/receipt.ts';
import { printReceipt, receiptVersion } from '../../contract/receipt.ts';
import {
  type MarkedVolume,
  markerFile,
  parseMarker,
  printMarker,
  receiptFile,
  type RehydrateMarker,
  type VolumeOrigin,
} from '../../contract/state-directory.ts';
import type { LogRecord } from '../../engine/format/record.ts';
import { newestGood } from '../../engine/lineage/base.ts';
import { claimLineage, noteRestored } from '../../engine/lineage/claim.ts';
import { readEpochs } from '../../engine/lineage/epochs.ts';
import type { LineageWriter } from '../../engine/lineage/lineage-writer.ts';
import { LineageLog } from '../../engine/lineage/log.ts';
import { openLog } from '../../engine/lineage/open-log.ts';
import { storeReceipt } from '../../engine/lineage/receipts.ts';
import { type DomainAccess, domainOf, type Repository } from '../../engine/lineage/repository.ts';
import { resolveCheckpoint } from '../../engine/lineage/resolve.ts';
import { equalBytes, toHex } from '../../engine/model/bytes.ts';
import { HoldfastError, isHoldfastError } from '../../engine/model/errors.ts';
import { type LineageName, recordIdText, type Slot, toSlot, type VolumeName } from '../../engine/model/ids.ts';
import { FileTreeError } from '../../engine/ports/file-tree.ts';
import type { HolderStore } from '../../engine/ports/holder-store.ts';
import type { ObjectWriter } from '../../engine/ports/object-store.ts';
import { rehydrate } from '../../engine/rehydrate/rehydrate.ts';
import type { RestoredVolume } from '../../engine/rehydrate/rehydrate-outcome.ts';
import { restoreDefaults } from '../../engine/rehydrate/rehydrate-request.ts';
import type { RestoreSource } from '../../engine/rehydrate/restore-source.ts';
import { clearContent } from '../../engine/rehydrate/target-content.ts';
import { targetError } from '../../engine/rehydrate/target-error.ts';
import { answerOf, blocked, describeAnswer, nextStep, type NoDataAnswer } from './data-policy.ts';
import { waitForSeal, waitForSlot } from './handoff.ts';
import type { ContainerPorts, ContainerSettings } from './rehydrate-ports.ts';
import { type PickedSlot, pickSlot, slotLineage } from './replica-slots.ts';
import { assertRoom } from './room.ts';
import { type SurveyedVolume, surveyVolumes } from './survey.ts';
import { within } from './within.ts';

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
}

export interface Claim extends AsyncDisposable {
  readonly writer: LineageWriter;
  readonly access: DomainAccess;
  readonly holder: HolderStore;
}

interface RunOptions {
  readonly signal: AbortSignal;
  readonly onReceipt: (receipt: RestoreReceipt) => Promise<void>;
}

const receiptMsMax = 5000;
const supersededMs = 200;
const claimLookMsMin = 500;
const claimLookMsMax = 5000;

/** The replica slot that was picked is another pod's by now. */
export class SlotLost extends Error {
  override readonly name = 'SlotLost';

  constructor(cause: HoldfastError) {
    super(`another pod was faster: ${cause.message}`, { cause });
  }
}

export class RehydrateRun implements AsyncDisposable {
  readonly #ports: ContainerPorts;
  readonly #settings: ContainerSettings;
  readonly #options: RunOptions;
  readonly #survey: readonly SurveyedVolume[];
  readonly #startedMs: number;
  readonly #startedAtMs: number;
  #marker: RehydrateMarker;
  /** Of replica slots, the one that was picked. */
  #lineage: LineageName;
  #picked: PickedSlot | undefined;
  /** When the store was last asked for the log. */
  #openedMs = 0;
  #store: (ObjectWriter & AsyncDisposable) | undefined;
  #repository: Repository | undefined;
  #access: DomainAccess | undefined;
  /** What this run has decided of each volume that is not live. */
  readonly #origins = new Map<VolumeName, VolumeOrigin>();
  readonly #restored = new Map<VolumeName, RestoredVolume>();
  #source: RestoreSource | undefined;
  #attempted: LogRecord | undefined;
  readonly #unusable = new Set<string>();
  readonly #sinceMs = new Map<NoDataAnswer, number>();
  /** Told of once. */
  readonly #said = new Set<NoDataAnswer>();
  #olderTried = false;
  #handoff: ReceiptHandoff | undefined;
  #handoffDone = false;
  #epoch: number | undefined;
  #moved = 0;
  #suspect = false;
  #policy: RestoreReceipt['policy'] = { answer: 'data', applied: null, why: 'a good checkpoint was found' };
  readonly #warnings: string[] = [];

  private constructor(
    ports: ContainerPorts,
    settings: ContainerSettings,
    options: RunOptions,
    marker: RehydrateMarker | undefined,
  ) {
    this.#ports = ports;
    this.#settings = settings;
    this.#options = options;
    this.#startedMs = ports.clock.monotonicMs();
    this.#startedAtMs = ports.clock.nowMs();
    this.#survey = surveyVolumes(ports, settings.volumes, marker);
    this.#suspect = marker?.suspect ?? false;
    const { slots, lineage } = settings;
    this.#lineage = marker?.lineage ?? (slots === undefined ? lineage : slotLineage(lineage, 0));
    this.#marker = marker ?? {
      podUid: settings.podUid,
      lineage: this.#lineage,
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

  /** Whether this pod is to write the lineage that it begins from. */
  get writes(): boolean {
    return this.#marker.writes;
  }

  get everythingLives(): boolean {
    return this.#marker.phase === 'done' && this.#survey.every(({ state }) => state === 'live');
  }

  /** The container runs again in a pod whose application has its data: no store is asked, and nothing is written. */
  async leaveAlone(): Promise<RestoreReceipt> {
    this.#ports.onEvent({
      event: 'rehydrate.live',
      message: 'the volumes are in use already and stay as they are',
      details: { volumes: this.#survey.map(({ name }) => name) },
    });
    this.#policy = { answer: 'live', applied: null, why: 'this pod was restored before, and its data survived' };
    // The receipt of the restore stays where it is.
    return this.#receipt('kept', undefined);
  }

  /** Store, repository, keys and log. E_STORE_*, E_REPOSITORY_MISSING, E_KEY_*; E_EXPECTED_MISSING without the keys of records. */
  async open(): Promise<OpenedLog> {
    const { clock } = this.#ports;
    const policy = this.#settings.policies.unreachable;
    const deadlineMs = policy.act === 'block' ? policy.deadlineMs : undefined;
    this.#openedMs = clock.monotonicMs();
    const since = this.#sinceMs.get('unreachable') ?? this.#openedMs;
    return await within(
      clock,
      deadlineMs === undefined ? undefined : deadlineMs - (this.#openedMs - since),
      this.#options.signal,
      (signal) => this.#open(signal),
    );
  }

  async #open(signal: AbortSignal): Promise<OpenedLog> {
    this.#store ??= await this.#ports.openStore();
    const store = this.#store;
    this.#repository ??= await this.#ports.openRepository(store, signal);
    const repository = this.#repository;
    if (repository.unfenced) {
      this.#warn('UNFENCED: this store does not refuse to overwrite, so two pods are not told apart');
    }
    try {
      await this.#pick(store, repository, signal);
      const opened = await openLog(store, repository, this.#lineage, { signal });
      this.#access = opened.access;
      return { store, repository, ...opened };
    } catch (error) {
      if (!isHoldfastError(error, 'E_NOT_FOUND')) throw error;
      return { store, repository, access: undefined, log: undefined };
    }
  }

  /** Of numbered replica slots, which one; a pod whose application has data stays with the one that it had. */
  async #pick(store: ObjectWriter, repository: Repository, signal: AbortSignal): Promise<void> {
    const { slots, lineage: workload, podUid: me } = this.#settings;
    if (slots?.mode !== 'claim' || this.#used) return;
    const access = await repository.openDomain(workload, { signal });
    const preferred = this.#marker.volumes.size > 0 || this.#picked !== undefined ? this.#lineage : undefined;
    const { liveness } = this.#ports;
    const { replicas } = slots;
    const picked = await pickSlot({ store, access, workload, replicas, me, preferred, liveness, signal });
    if (picked.lineage !== this.#lineage || this.#picked === undefined) {
      this.#ports.onEvent({
        event: 'rehydrate.slot',
        message:
          picked.holder === undefined
            ? `replica slot ${picked.lineage} is free`
            : `all ${replicas} replica slots are held; ${picked.lineage} is to be taken from ${picked.holder.name}`,
        details: { lineage: picked.lineage, holder: picked.holder?.id ?? null },
      });
    }
    this.#picked = picked;
    this.#lineage = picked.lineage;
  }

  /** An application may have run on some volume. */
  get #used(): boolean {
    return this.#survey.some(({ name, state }) => state === 'live' || this.#origins.get(name)?.kind === 'kept');
  }

  /** The log, perhaps of another replica slot, since one may get free meanwhile. */
  async waitForHandoff(opened: OpenedLog): Promise<OpenedLog> {
    if (this.#handoffDone || opened.log === undefined || this.#settings.slots?.mode === 'seed') return opened;
    const { liveness, clock, onEvent } = this.#ports;
    const { podUid: me, handoffMsMax: waitMsMax } = this.#settings;
    const { signal } = this.#options;
    let found = opened;
    if (this.#settings.slots?.mode === 'claim') {
      this.#handoff = await waitForSlot({
        waitMsMax,
        clock,
        onEvent,
        signal,
        holder: () => this.#picked?.holder?.name,
        look: async () => {
          found = await this.#open(signal);
        },
      });
    } else {
      this.#handoff = await waitForSeal({ log: opened.log, me, waitMsMax, liveness, clock, onEvent, signal });
    }
    // Once: who is here after that is met by the rule for claims.
    this.#handoffDone = true;
    if (this.#handoff?.outcome === 'timeout') {
      this.#warn(`${this.#handoff.predecessor} did not seal; its newest checkpoint is taken as it stands`);
    }
    return found;
  }

  /** What to restore. E_NOT_FOUND: nothing was ever stored. E_EXPECTED_MISSING, E_DAMAGED; E_TARGET_NOT_EMPTY. */
  async choose({ log, access }: OpenedLog, plan: Plan): Promise<Basis> {
    const { signal } = this.#options;
    const head = (await log?.head({ signal }))?.record;
    const known = head?.header.slot ?? toSlot(0);
    await this.#judgeFound(log, head);
    if (this.#targets.length === 0 || plan.kind === 'empty' || log === undefined || access === undefined) {
      if (plan.kind !== 'empty' && this.#targets.length > 0) throw this.#nothingStored();
      return { source: undefined, known, chosen: plan.kind === 'empty' };
    }
    const record = plan.kind === 'older' ? await this.#olderThan(log, plan) : await this.#newest(log, head);
    const source = await this.#sourceOf(log, access, record);
    return plan.kind === 'older'
      ? { source, known, chosen: true }
      : { source, known: record.header.slot, chosen: false };
  }

  #nothingStored(): HoldfastError {
    const { expect } = this.#settings;
    const lineage = this.#lineage;
    return expect === undefined
      ? new HoldfastError('E_NOT_FOUND', `nothing was ever stored under ${lineage}`)
      : new HoldfastError(
          'E_EXPECTED_MISSING',
          `${lineage}: record ${expect.slot} was committed, the store shows nothing`,
        );
  }

  async #newest(log: LineageLog, head: LogRecord | undefined): Promise<LogRecord> {
    const { signal } = this.#options;
    const { expect, podUid } = this.#settings;
    try {
      return await resolveCheckpoint(
        log,
        { by: 'latest', back: 0 },
        {
          expect,
          signal,
          onPassed: ({ slot, reason, detail }) => this.#warn(`record ${slot} does not count: ${reason}: ${detail}`),
        },
      );
    } catch (error) {
      // A first boot that was interrupted after its claim is still one.
      const decided = [...this.#marker.volumes.values()].some(
        ({ from }) => from.kind === 'empty' && from.why === 'first-boot',
      );
      if (!isHoldfastError(error, 'E_EXPECTED_MISSING') || !decided || expect !== undefined) throw error;
      const epochs = await readEpochs(log, head, { me: podUid, lowest: toSlot(0) }, { signal });
      const [mine] = epochs;
      const first = (await log.newest({ signal, wanted: ({ header }) => header.holder !== podUid })) === undefined;
      if (!first || mine?.holder !== podUid || mine.committed > 0) throw error;
      throw new HoldfastError('E_NOT_FOUND', `nothing but this pod's own claim was ever stored under ${log.lineage}`);
    }
  }

  async #olderThan(log: LineageLog, plan: Extract<Plan, { kind: 'older' }>): Promise<LogRecord> {
    const oldestMs = this.#startedAtMs - plan.ageMsMax;
    const waiting = { signal: this.#options.signal };
    let found: LogRecord | undefined;
    for await (const record of log.records(waiting)) {
      if (this.#unusable.has(recordIdText(record.header.id)) || !(await log.isGood(record, waiting))) continue;
      found = record;
      break;
    }
    if (found === undefined || found.header.timeMs < oldestMs) {
      this.#olderTried = true;
      throw new HoldfastError('E_EXPECTED_MISSING', `${log.lineage} has no older checkpoint that the policy allows`);
    }
    return found;
  }

  async #sourceOf(log: LineageLog, access: DomainAccess, record: LogRecord): Promise<RestoreSource> {
    this.#attempted = record;
    const { packs } = await log.packs(record, { signal: this.#options.signal });
    return { lineage: log.lineage, access, record, body: log.body(record), packs };
  }

  /**
   * What stands in a volume without a marker. Of a pod that has claimed, it is its data, perhaps half restored: it is kept, and its first
   * checkpoint is suspect. Where nothing was ever stored, somebody has prepared it. Else nobody knows whose it is.
   */
  async #judgeFound(log: LineageLog | undefined, head: LogRecord | undefined): Promise<void> {
    const found = this.#survey.filter(({ name, state }) => state === 'found' && !this.#origins.has(name));
    if (found.length === 0) return;
    const { podUid } = this.#settings;
    const options = { signal: this.#options.signal };
    const epochs = log === undefined ? [] : await readEpochs(log, head, { me: podUid, lowest: toSlot(0) }, options);
    const mine = epochs.some(({ holder }) => holder === podUid);
    if (!mine && epochs.length > 0) {
      const [{ name, path } = { name: '', path: '' }] = found;
      throw new HoldfastError('E_TARGET_NOT_EMPTY', `volume ${name} (${path}) holds data that no marker tells of`, {
        details: { volume: name, path },
        remedy: 'Nothing was written over it. Empty the volume, or let the pod begin anew with an empty one.',
      });
    }
    for (const { name } of found) this.#origins.set(name, { kind: 'kept' });
    if (!mine) return;
    this.#suspect = true;
    this.#warn('the marker is gone and the volumes are not empty: they are kept, and the first checkpoint is suspect');
  }

  /** Volumes that may be written: neither live nor kept. */
  get #targets(): readonly SurveyedVolume[] {
    return this.#survey.filter(({ name, state }) => state !== 'live' && this.#origins.get(name)?.kind !== 'kept');
  }

  /** Without a claim. Before the first byte: does it fit, and the marker. */
  async restore({ store, repository }: OpenedLog, { source }: Basis): Promise<void> {
    const { signal } = this.#options;
    const ports = this.#ports;
    const names = source?.body.volumes.map(({ name }) => name) ?? [];
    const why = this.#policy.answer === 'data' || this.#policy.answer === 'live' ? 'first-boot' : this.#policy.answer;
    for (const volume of this.#targets) {
      const checkpoint = source?.body.volumes.find(({ name }) => name === volume.name);
      if (source !== undefined && checkpoint !== undefined) {
        const stored = source.packs.reduce((sum, { plainBytes }) => sum + plainBytes, 0);
        const written = this.#origins.has(volume.name) || volume.state === 'unfinished';
        if (!assertRoom(volume, checkpoint, stored, written ? undefined : ports.freeBytes(volume.path))) {
          this.#warn(`volume ${volume.name} may not fit: its files are larger than its limit, and mostly holes`);
        }
      }
    }
    const before = new Map(this.#origins);
    for (const volume of this.#targets) {
      const restored = names.includes(volume.name) && source !== undefined;
      this.#origins.set(
        volume.name,
        restored
          ? { kind: 'checkpoint', slot: source.record.header.slot, id: recordIdText(source.record.header.id) }
          : { kind: 'empty', why },
      );
      if (source !== undefined && !restored) {
        this.#warn(`checkpoint ${source.record.header.slot} has no volume ${volume.name}: it begins empty`);
      }
    }
    await this.#mark('started');
    for (const volume of this.#targets) {
      const mine = before.has(volume.name) || volume.state === 'unfinished';
      if (mine && this.#origins.get(volume.name)?.kind === 'empty') this.#clear(volume);
    }
    this.#source = source;
    this.#restored.clear();
    const targets = this.#targets.filter(({ name }) => names.includes(name));
    if (source === undefined || targets.length === 0) return;
    const { slot, timeMs } = source.record.header;
    ports.onEvent({
      event: 'rehydrate.restore',
      message: `restoring checkpoint ${slot} of ${source.lineage}`,
      details: { slot, ageSeconds: Math.round((this.#startedAtMs - timeMs) / 1000) },
    });
    const lineage = this.#lineage;
    const run = async (onExisting: 'refuse' | 'replace'): Promise<void> => {
      const outcome = await rehydrate(
        {
          files: ports.files,
          store,
          compressor: ports.compressor,
          clock: ports.clock,
          random: ports.random,
          lanes: ports.lanes,
          cache: await ports.openCache(repository.id, lineage),
        },
        source,
        {
          ...restoreDefaults,
          targets: await Promise.all(
            targets.map(async ({ name, path }) => ({
              volume: name,
              path,
              marker: await ports.openMarker(repository.id, lineage, path, slot),
            })),
          ),
          first: this.#settings.first,
          onExisting,
          laneCount: this.#settings.laneCount,
        },
        { signal, onProgress: ports.onProgress },
      );
      for (const volume of outcome.volumes) this.#restored.set(volume.name, volume);
    };
    try {
      await run('refuse');
    } catch (error) {
      // No application has seen what an earlier attempt of this pod has left, so it may go.
      if (!isHoldfastError(error, 'E_TARGET_NOT_EMPTY')) throw error;
      const foreign = targets.some(({ name, state }) => state !== 'unfinished' && !before.has(name));
      if (foreign) throw error;
      await run('replace');
    }
    // The store has given all of it: a later outage is another one.
    this.#sinceMs.delete('unreachable');
  }

  #clear({ path }: SurveyedVolume): void {
    const { files } = this.#ports;
    try {
      const root = files.makeRoot(path);
      try {
        clearContent(files, root);
      } finally {
        files.close(root);
      }
    } catch (error) {
      throw error instanceof FileTreeError ? targetError(error, undefined) : error;
    }
  }

  /** E_LINEAGE_HELD after `claimMsMax`, E_DIVERGED, E_STORE_*, E_STATE_DIR. */
  async claim({ store, repository }: OpenedLog, { source, chosen }: Basis): Promise<Claim> {
    const { clock, random, liveness, onEvent } = this.#ports;
    const { podName, podUid, claimMsMax, slots } = this.#settings;
    const lineage = this.#lineage;
    const { signal } = this.#options;
    const access = await repository.openOrMakeDomain(domainOf(lineage), { store, clock, random, signal });
    this.#access = access;
    const holder = await this.#ports.openHolder(repository.id, lineage);
    const log = new LineageLog(store, access, lineage);
    const startedMs = clock.monotonicMs();
    try {
      for (let round = 0; ; round++) {
        try {
          const writer = await claimLineage({
            store,
            access,
            lineage,
            holder,
            holderName: podName,
            clock,
            random,
            liveness,
            policy: await this.#claimPolicy(log),
            used: this.#used,
            ...(this.#picked?.holder === undefined ? {} : { take: new Set([this.#picked.holder.id]) }),
            restorePending: true,
            ...(chosen && source !== undefined ? { base: source.record } : {}),
            signal,
          });
          this.#epoch = writer.epoch;
          onEvent({
            event: 'rehydrate.claimed',
            message: `${podName || podUid} holds ${lineage} since record ${writer.epoch}`,
            details: { epoch: writer.epoch },
          });
          return { writer, access, holder, [Symbol.asyncDispose]: () => holder[Symbol.asyncDispose]() };
        } catch (error) {
          if (!isHoldfastError(error, 'E_LINEAGE_HELD')) throw error;
          // Somebody was faster: another replica slot may be free.
          if (slots?.mode === 'claim' && !this.#used) throw new SlotLost(error);
          const waitedMs = clock.monotonicMs() - startedMs;
          if (waitedMs >= claimMsMax) throw held(error);
          if (round === 0)
            await this.#sayWaiting('rehydrate.held', `${error.message}; waiting until that pod is known to be gone`);
          const ms = Math.min(claimLookMsMin * 1.5 ** round, claimLookMsMax, claimMsMax - waitedMs);
          await clock.wait(ms, { signal });
        }
      }
    } catch (error) {
      await holder[Symbol.asyncDispose]();
      throw error;
    }
  }

  /**
   * A pod identity has one successor at a time, who may claim at once. A replica slot or the only slot of a workload is claimed by whoever comes, and so
   * only when it is free; a pod that has claimed it before goes by the rule for pods.
   */
  async #claimPolicy(log: LineageLog): Promise<'pod' | 'person'> {
    const { slots, podUid: me } = this.#settings;
    if (slots === undefined) return 'pod';
    const options = { signal: this.#options.signal };
    const { record } = await log.head(options);
    const epochs = await readEpochs(log, record, { me, lowest: toSlot(0) }, options);
    return epochs.some(({ holder }) => holder === me) ? 'pod' : 'person';
  }

  /** A good checkpoint came between the choice and the claim: nobody can commit another one now. */
  async applyDifference(opened: OpenedLog, basis: Basis, { access, holder }: Claim): Promise<void> {
    const { store } = opened;
    const { signal } = this.#options;
    const log = new LineageLog(store, access, this.#lineage);
    const newest = await newestGood(log, (await log.head({ signal })).record, { signal });
    if (newest !== undefined && newest.header.slot > basis.known && this.#targets.length > 0) {
      const { slot } = newest.header;
      this.#moved++;
      this.#ports.onEvent({
        event: 'rehydrate.moved',
        message: `checkpoint ${slot} came meanwhile; applying the difference`,
        details: { slot, from: basis.source?.record.header.slot ?? null },
      });
      this.#policy = { answer: 'data', applied: null, why: 'a good checkpoint was found' };
      await this.restore(opened, { source: await this.#sourceOf(log, access, newest), known: slot, chosen: false });
    }
    const whole = this.#survey.every(({ name }) => this.#restored.has(name));
    if (whole && this.#source !== undefined) await noteRestored(holder, this.#source.record.header.slot);
  }

  /** E_FENCED when another pod has claimed meanwhile. */
  async lookOnceMore({ writer }: Claim): Promise<void> {
    await writer.confirm({ signal: this.#options.signal });
  }

  /** Another pod was faster; the next attempt begins a moment later. */
  async noteSuperseded(error: HoldfastError | SlotLost): Promise<void> {
    this.#epoch = undefined;
    this.#ports.onEvent({ event: 'rehydrate.superseded', message: error.message });
    await this.#ports.clock.wait(supersededMs, { signal: this.#options.signal });
  }

  /** The store cannot be reached, and a policy says to begin all the same; the agent claims when it can. */
  async beginUnclaimed(): Promise<void> {
    const whole = this.#source !== undefined && this.#targets.every(({ name }) => this.#restored.has(name));
    // What is there then may be less than what was stored.
    this.#suspect = true;
    if (whole) {
      this.#warn('restored, and not claimed: the store cannot be reached any more');
      return;
    }
    for (const volume of this.#targets) {
      if (volume.state === 'found') this.#origins.set(volume.name, { kind: 'kept' });
      else this.#origins.set(volume.name, { kind: 'empty', why: 'unreachable' });
    }
    await this.#mark('started');
    for (const volume of this.#targets) this.#clear(volume);
    this.#source = undefined;
    this.#restored.clear();
  }

  /** What follows an error of an attempt: waits as its policy says, and answers what to try next; throws what no policy lets pass. */
  async meet(error: unknown, plan: Plan): Promise<Plan> {
    const { clock } = this.#ports;
    const { signal } = this.#options;
    const answer = answerOf(error);
    if (answer === undefined || signal.aborted) throw error;
    const failure = error as HoldfastError;
    if (isHoldfastError(error, 'E_DAMAGED', 'E_HOSTILE') && (await this.#baseMoved())) {
      this.#moved++;
      return { kind: 'newest' };
    }
    if (this.#attempted !== undefined) this.#unusable.add(recordIdText(this.#attempted.header.id));
    if (plan.kind === 'older' && this.#attempted === undefined) this.#olderTried = true;
    const hadCandidate = plan.kind === 'older' && this.#attempted !== undefined;
    this.#attempted = undefined;
    const policy = this.#settings.policies[answer];
    const nowMs = clock.monotonicMs();
    const sinceMs = this.#sinceMs.get(answer) ?? (answer === 'unreachable' ? this.#openedMs : nowMs);
    this.#sinceMs.set(answer, sinceMs);
    const next = nextStep(policy, nowMs - sinceMs, this.#olderTried && !hadCandidate);
    const why = `${describeAnswer(answer)} (${failure.code}: ${failure.message})`;
    this.#policy = { answer, applied: policy.text, why };
    if (next.step === 'give-up') throw blocked(answer, policy, this.#lineage, failure);
    if (next.step === 'empty') {
      this.#warn(`${why}; --on-${answer} ${policy.text}`);
      if (answer === 'missing') this.#suspect = true;
      return { kind: 'empty', why: answer };
    }
    if (next.step === 'older' && policy.act === 'older') {
      return { kind: 'older', ageMsMax: policy.ageMsMax, why: answer };
    }
    if (!this.#said.has(answer)) {
      this.#said.add(answer);
      await this.#sayWaiting('rehydrate.no-data', `${why}; nothing starts until that has changed (${policy.text})`);
    }
    await clock.wait(next.step === 'wait' ? next.ms : 0, { signal });
    return { kind: 'newest' };
  }

  /** An object may be gone because a newer checkpoint has come and the older one was collected. */
  async #baseMoved(): Promise<boolean> {
    const tried = this.#attempted;
    if (tried === undefined) return false;
    try {
      const { log } = await this.open();
      const waiting = { signal: this.#options.signal };
      const newest = log && (await newestGood(log, (await log.head(waiting)).record, waiting));
      return newest !== undefined && newest.header.slot > tried.header.slot;
    } catch {
      return false;
    }
  }

  async finish(): Promise<RestoreReceipt> {
    await this.#mark('done');
    const kinds = [...this.#origins.values()].map(({ kind }) => kind);
    const outcome = kinds.includes('checkpoint') ? 'restored' : kinds.includes('empty') ? 'empty' : 'kept';
    await this.#storeReceipt(this.#receipt(outcome, undefined));
    return await this.#keepReceipt(this.#receipt(outcome, undefined));
  }

  /** The error to end with, once the receipt tells of it. */
  async fail(error: unknown): Promise<unknown> {
    const aborted = this.#options.signal.aborted && !isHoldfastError(error);
    const failure = aborted ? new HoldfastError('E_ABORTED', 'the restore was interrupted', { cause: error }) : error;
    if (isHoldfastError(failure)) {
      await this.#storeReceipt(this.#receipt('failed', failure));
      try {
        await this.#keepReceipt(this.#receipt('failed', failure));
      } catch {
        // The error that is on its way says more than that it could not be written down.
      }
    }
    return failure;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store?.[Symbol.asyncDispose]();
  }

  #warn(message: string): void {
    if (this.#warnings.includes(message)) return;
    this.#warnings.push(message);
    this.#ports.onEvent({ event: 'rehydrate.warning', message });
  }

  async #sayWaiting(event: 'rehydrate.held' | 'rehydrate.no-data', message: string): Promise<void> {
    this.#ports.onEvent({ event, message });
    await this.#ports.state.replace(
      receiptFile,
      printReceipt({ ...this.#receipt('waiting', undefined), waitsFor: message }),
    );
  }

  /** Volumes that are live stay as they are marked. */
  async #mark(phase: 'started' | 'done'): Promise<void> {
    const volumes = new Map(this.#marker.volumes);
    for (const { name, state, memory } of this.#survey) {
      const from = this.#origins.get(name);
      if (state === 'live' || from === undefined) continue;
      const marked: MarkedVolume = { phase, memory, bootId: this.#ports.bootId, from };
      volumes.set(name, marked);
    }
    this.#marker = { ...this.#marker, lineage: this.#lineage, suspect: this.#suspect, phase, volumes };
    await this.#ports.state.replace(markerFile, printMarker(this.#marker));
  }

  /** For those who look at the store. The application does not wait for it for long. */
  async #storeReceipt(receipt: RestoreReceipt): Promise<void> {
    const { clock, random } = this.#ports;
    const store = this.#store;
    const access = this.#access;
    if (store === undefined || access === undefined || this.#options.signal.aborted) return;
    const text = printReceipt(receipt);
    const slot = toSlot(this.#epoch ?? 0);
    try {
      await within(clock, receiptMsMax, this.#options.signal, (signal) =>
        storeReceipt({ store, access, clock, random }, this.#lineage, { slot, text, signal }),
      );
    } catch (error) {
      if (!isHoldfastError(error)) throw error;
      this.#warn(`the receipt is not in the store: ${error.message}`);
    }
  }

  async #keepReceipt(receipt: RestoreReceipt): Promise<RestoreReceipt> {
    await this.#ports.state.replace(receiptFile, printReceipt(receipt));
    await this.#options.onReceipt(receipt);
    return receipt;
  }

  #receipt(outcome: RestoreReceipt['outcome'], error: HoldfastError | undefined): RestoreReceipt {
    const { clock } = this.#ports;
    const { podUid, podName, store } = this.#settings;
    const lineage = this.#lineage;
    const endedMs = clock.nowMs();
    const source = this.#source;
    const volumes = Object.fromEntries(this.#survey.map((volume) => [volume.name, this.#volumeReceipt(volume)]));
    const restored = Object.values(volumes).filter((volume) => volume.outcome === 'restored');
    return {
      version: receiptVersion,
      outcome,
      podUid,
      podName,
      lineage,
      store,
      startedAt: new Date(this.#startedAtMs).toISOString(),
      endedAt: new Date(endedMs).toISOString(),
      seconds: Math.round(clock.monotonicMs() - this.#startedMs) / 1000,
      from:
        source === undefined
          ? null
          : {
              lineage: source.lineage,
              slot: source.record.header.slot,
              id: recordIdText(source.record.header.id),
              digest: toHex(source.record.digest),
              root: toHex(source.body.setRoot),
              time: new Date(source.record.header.timeMs).toISOString(),
              ageSeconds: Math.max(0, Math.round((this.#startedAtMs - source.record.header.timeMs) / 1000)),
              consistency: source.record.header.consistency ?? 'fuzzy',
            },
      epoch: this.#epoch ?? null,
      handoff: this.#handoff ?? null,
      policy: this.#policy,
      verified: restored.length > 0 && restored.every(({ verified }) => verified),
      moved: this.#moved,
      suspect: this.#suspect,
      volumes,
      waitsFor: null,
      error: error === undefined ? null : pick(error),
      warnings: this.#warnings,
    };
  }

  #volumeReceipt({ name, path, state }: SurveyedVolume): ReceiptVolume {
    const restored = this.#restored.get(name);
    if (restored !== undefined) {
      const { rootExpected, rootGot, files, bytes, newBytes, degraded } = restored;
      return {
        path,
        outcome: 'restored',
        root: toHex(rootExpected),
        verified: rootGot !== undefined && equalBytes(rootGot, rootExpected),
        files,
        bytes,
        newBytes,
        degraded: Object.fromEntries(degraded.map(({ reason, count }) => [reason, count])),
      };
    }
    const kept = state === 'live' || this.#origins.get(name)?.kind === 'kept';
    return {
      path,
      outcome: kept ? 'kept' : 'empty',
      root: null,
      verified: false,
      files: 0,
      bytes: 0,
      newBytes: 0,
      degraded: {},
    };
  }
}

function pick({ code, exit, message, remedy }: HoldfastError): RestoreReceipt['error'] {
  return { code, exit, message, remedy };
}

function held(error: HoldfastError): HoldfastError {
  return new HoldfastError('E_LINEAGE_HELD', error.message, {
    details: error.details,
    cause: error,
    remedy:
      'That pod has not sealed the lineage and may still be alive. Delete whichever of the two should go; ' +
      'with --service it is known at once that it is gone. The next run of this container looks again.',
  });
}
