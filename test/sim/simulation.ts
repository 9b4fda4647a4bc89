/**
 * A small world in which everything goes wrong, from one seed: machines with applications on them, processes of Holdfast that run the
 * real engine and die at any moment, a store that loses, doubles and delays requests, clocks that jump, a collector, and a person.
 * Whatever happens, the promises that World and Oracle check hold at every moment; in the end the faults stop, and every machine
 * must be able to go on without any repair.
 */
import { chooseCompressor } from '../../src/edge/host/choose-compressor.ts';
import { capture } from '../../src/engine/capture/capture.ts';
import type { CaptureOutcome } from '../../src/engine/capture/capture-outcome.ts';
import type { CaptureSettings } from '../../src/engine/capture/capture-request.ts';
import { KeptNodes } from '../../src/engine/capture/kept-nodes.ts';
import { createCaptureLane } from '../../src/engine/capture/capture-lane.ts';
import { makeSelection } from '../../src/engine/capture/select.ts';
import { WatchedVolume } from '../../src/engine/capture/watched-volume.ts';
import { deriveDomainKeys, publicKeyOf, toDataKey } from '../../src/engine/format/keys.ts';
import { logKey } from '../../src/engine/format/object-keys.ts';
import { claimLineage, noteRestored } from '../../src/engine/lineage/claim.ts';
import type { CommitBase, LineageWriter } from '../../src/engine/lineage/lineage-writer.ts';
import { domainOf } from '../../src/engine/lineage/repository.ts';
import { LineageLog } from '../../src/engine/lineage/log.ts';
import { type CheckpointSelector, resolveCheckpoint } from '../../src/engine/lineage/resolve.ts';
import { equalBytes, toHex, utf8Bytes } from '../../src/engine/model/bytes.ts';
import { HoldfastError, isHoldfastError } from '../../src/engine/model/errors.ts';
import { type HolderId, nextSlot, toEpoch, toLineageName, toSlot, toVolumeName } from '../../src/engine/model/ids.ts';
import type { Compressor } from '../../src/engine/ports/compressor.ts';
import type { LaneStarter } from '../../src/engine/ports/lanes.ts';
import type { ObjectWriter } from '../../src/engine/ports/object-store.ts';
import { rehydrate } from '../../src/engine/rehydrate/rehydrate.ts';
import { restoreDefaults } from '../../src/engine/rehydrate/rehydrate-request.ts';
import { findCheckpoint, type RestoreSource } from '../../src/engine/rehydrate/restore-source.ts';
import type { FaultRates } from '../support/faulty-store.ts';
import { MemoryChangeSource } from '../support/memory-change-source.ts';
import { MemoryFileTree } from '../support/memory-file-tree.ts';
import { AgentStore, openFaultyStore } from './agent-store.ts';
import {
  type Break,
  bucketBreaks,
  withLostChanges,
  withoutFlush,
  withStaleBinding,
  withWrongPlaces,
} from './breaks.ts';
import { Bucket } from './bucket.ts';
import { Chance } from './chance.ts';
import { collect } from './collector.ts';
import { Machine } from './machine.ts';
import type { Network } from './network.ts';
import { describeDisk, differences, Violation } from './oracle.ts';
import { Process } from './process.ts';
import { openSimulatedS3, type S3Profile, s3ProfileOf } from './s3-client.ts';
import { Crash, Scheduler } from './scheduler.ts';
import { World } from './world.ts';

/** `port`: faults of any store, at the port. `bucket`: the real S3 adapter, over a network with the faults of one. */
export type StoreKind = 'port' | 'bucket';

export interface SimulationOptions {
  readonly seed: number;
  readonly broken?: ReadonlySet<Break>;
  /** Default: by chance, a bucket in two of five worlds. */
  readonly store?: StoreKind;
  /** Claims at a snail's pace; default by chance, in one of four worlds. */
  readonly slowClaims?: true;
  readonly onLine?: (line: string) => void;
}

export interface SimulationResult {
  readonly seed: number;
  readonly violation: unknown;
  readonly steps: number;
  /** Over every step and event: equal for equal seeds. */
  readonly digest: string;
  /** The last of the trace. */
  readonly lines: readonly string[];
  /** What was met how often. */
  readonly counts: ReadonlyMap<string, number>;
}

/** How a world of one seed is. */
interface Profile {
  readonly machines: number;
  readonly encrypted: boolean;
  readonly policy: 'pod' | 'person';
  readonly steps: number;
  readonly rates: FaultRates;
  readonly s3: S3Profile;
  readonly crashPoints: number;
  readonly fileError: number;
  readonly stateError: number;
  /** A claimant sleeps between its look at the log and its claim. */
  readonly slowClaims: boolean;
  readonly jumps: boolean;
  readonly wide: boolean;
  readonly files: number;
  readonly editsPerCall: number;
  readonly collects: boolean;
  readonly replaces: boolean;
  /** Its processes watch their volume, and look only where something was told of. */
  readonly watches: boolean;
  readonly settings: Omit<CaptureSettings, 'volumes'>;
}

const compressor: Compressor = await chooseCompressor('zlib');
const lineage = toLineageName('team/app/0');
const volumeName = toVolumeName('data');

function profileOf(chance: Chance, { slowClaims: isSlow }: Pick<SimulationOptions, 'slowClaims'>): Profile {
  const level = chance.pick(['none', 'light', 'light', 'heavy'] as const);
  const scale = { none: 0, light: 0.01, heavy: 0.05 }[level];
  const wide = chance.happens(0.06) && isSlow !== true;
  // Claims at a snail's pace beside a writer and a collector: what lay above the log's head may be trimmed by then.
  const slowClaims = !wide && (chance.happens(0.25) || isSlow === true);
  return {
    machines: slowClaims ? chance.pick([2, 3]) : chance.pick([1, 2, 2, 2, 3]),
    encrypted: chance.happens(0.3),
    policy: chance.pick(['pod', 'person', 'person']),
    steps: wide ? 150 : chance.between(150, 700),
    rates: {
      lostRequest: scale,
      lostReply: scale * 2,
      doubled: scale,
      echoed: scale,
      delayed: scale,
      torn: scale,
      full: scale / 2,
      failed: scale,
      slow: chance.pick([0, 0.05, 0.2]),
    },
    s3: s3ProfileOf(chance.of('s3'), scale),
    crashPoints: chance.pick([0, 150, 600, 2000]),
    fileError: chance.pick([0, 0, 0, 0.0005, 0.003]),
    stateError: chance.pick([0, 0, 0.02]),
    slowClaims,
    jumps: chance.happens(0.3),
    wide,
    files: wide ? 0 : chance.pick([0, 3, 12, 30]),
    editsPerCall: wide ? 0.0005 : chance.pick([0, 0.002, 0.01, 0.03, 0.1]),
    collects: slowClaims || chance.happens(0.5),
    replaces: chance.happens(0.5),
    watches: chance.of('watches').happens(0.5),
    settings: {
      laneCount: chance.pick([0, 2]),
      level: 1,
      dataSegmentBytes: chance.pick([4096, 32_768, 262_144]),
      metaSegmentBytes: chance.pick([2048, 16_384]),
      packBytesTarget: chance.pick([8192, 65_536, 1_000_000]),
      isolated: false,
      // A record with an inlined pack is never trimmed while that is needed.
      inlineBytesMax: slowClaims ? 0 : chance.pick([0, 2000, 60_000, 262_144]),
      extraPassesMax: chance.pick([0, 1, 3, 3, 6]),
      convergeMsMax: 60_000,
      partialBytes: chance.pick([5000, 40_000, Number.MAX_SAFE_INTEGER]),
      final: false,
      quiesced: false,
      trustCache: true,
      compaction: chance.pick([
        undefined,
        undefined,
        { movedBytesMax: 20_000, walkedBytesMax: 40_000, durationMsMax: 60_000 },
        { movedBytesMax: 4_000_000, walkedBytesMax: 4_000_000, durationMsMax: 60_000 },
      ]),
    },
  };
}

/** Runs the world of one seed to its end or to its first violation. */
export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const simulation = new Simulation(options);
  return await simulation.run();
}

const expectedCodes = [
  'E_STORE_UNREACHABLE',
  'E_STORE_IO',
  'E_STORE_FULL',
  'E_FENCED',
  'E_LINEAGE_HELD',
  'E_DIVERGED',
  'E_STATE_DIR',
  'E_SOURCE_UNREADABLE',
  'E_TARGET_IO',
  'E_ABORTED',
] as const;

class Simulation {
  readonly #seed: number;
  readonly #chance: Chance;
  readonly #profile: Profile;
  readonly #scheduler: Scheduler;
  readonly #world: World;
  /** The pods that are meant to be. */
  readonly #machines: Machine[] = [];
  readonly #retired: Machine[] = [];
  readonly #network: Network = { underWay: [] };
  readonly #gone = new Set<HolderId>();
  /** Where the world has one. */
  readonly #bucket: Bucket | undefined;
  #failure: { readonly error: unknown } | undefined;
  #stopping = false;
  #processes = 0;

  constructor({ seed, broken = new Set(), store, onLine, ...wanted }: SimulationOptions) {
    this.#seed = seed;
    this.#chance = new Chance(`seed ${seed}`);
    this.#profile = profileOf(this.#chance.of('profile'), wanted);
    this.#scheduler = new Scheduler(this.#chance.of('scheduler'));
    this.#scheduler.onLine = onLine;
    const keys = deriveDomainKeys(this.#chance.of('secret').bytes(32));
    const dataKey = toDataKey(
      1,
      this.#profile.encrypted ? this.#chance.of('data key').bytes(32) : undefined,
      keys.plainTagKey,
    );
    const access = {
      repository: toHex(this.#chance.of('repository').bytes(16)),
      domain: domainOf(lineage),
      keys,
      dataKey,
      dataKeys: [dataKey],
      publicKey: publicKeyOf(keys.signingSeed),
    };
    this.#world = new World(access, lineage, compressor, this.#scheduler, broken);
    const inBucket = [...broken].some((rule) => bucketBreaks.has(rule)) || this.#chance.of('store').happens(0.4);
    if (store === 'bucket' || (store === undefined && inBucket)) {
      this.#bucket = new Bucket(this.#world, this.#chance.of('bucket'));
      this.#world.count('worlds with a bucket');
    }
    // What compaction moves looks as if it had been read again.
    this.#world.judgesRereads = this.#profile.fileError === 0 && this.#profile.settings.compaction === undefined;
  }

  async run(): Promise<SimulationResult> {
    const { machines, wide, files, collects, steps } = this.#profile;
    for (let i = 0; i < machines; i++) this.#machines.push(this.#makeMachine('ABC'[i] as string));
    for (const machine of this.#machines) {
      if (wide) for (let i = 0; i < 225; i++) machine.disk.mkdir(`d${i}/x`);
      machine.application.populate(files);
      this.#bringUp(machine);
    }
    this.#spawn(() => this.#deliver());
    this.#spawn(() => this.#look());
    if (collects) this.#spawn(() => this.#collect());
    for (let i = 0; i < steps && this.#failure === undefined; i++) await this.#step();
    this.#stopping = true;
    if (this.#failure === undefined) await this.#end();
    return {
      seed: this.#seed,
      violation: this.#failure?.error,
      steps: this.#scheduler.steps,
      digest: this.#scheduler.digest(),
      lines: this.#scheduler.lines,
      counts: this.#world.counts,
    };
  }

  get stopping(): boolean {
    return this.#stopping;
  }

  fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = { error };
    this.#scheduler.note(`VIOLATION ${error instanceof Error ? error.message : String(error)}`);
  }

  async #step(): Promise<boolean> {
    const went = await this.#scheduler.step();
    try {
      await this.#world.judge();
    } catch (error) {
      this.fail(error);
    }
    return went;
  }

  /** Work of the world itself: nothing it does may go wrong. */
  #spawn(work: () => Promise<void>): void {
    work().catch((error: unknown) => this.fail(error));
  }

  #bringUp(machine: Machine): void {
    this.#spawn(() => this.#operate(machine));
    this.#spawn(() => this.#runApplication(machine));
    if (this.#profile.jumps) this.#spawn(() => this.#jump(machine));
  }

  /** The pod is deleted, though its process may run on; another one takes its place, on an empty volume. */
  #replace(machine: Machine): void {
    const fresh = this.#makeMachine(`${machine.name}r`, true);
    fresh.awaitsRestore = true;
    fresh.quiet = true;
    machine.retired = true;
    this.#retired.push(machine);
    this.#gone.add(machine.state.holder);
    this.#machines.splice(this.#machines.indexOf(machine), 1, fresh);
    this.#scheduler.note(`${machine.name}: is replaced by ${fresh.name}`);
    this.#world.count('pods replaced');
    this.#bringUp(fresh);
  }

  #makeMachine(name: string, privileged?: boolean): Machine {
    const chance = this.#chance.of(`machine ${name}`);
    const { editsPerCall } = this.#profile;
    return new Machine(
      name,
      {
        type: chance.happens(0.3) ? 'tmpfs' : 'ext4',
        // What is restored without privilege may differ from the checkpoint, and says so.
        privileged: privileged ?? chance.happens(0.7),
        clockStepMs: chance.pick([1, 4, 10]),
        editsPerCall,
        // What is mapped after it was read, and written by nothing else, is seen by the next walk: no watcher tells of that.
        mapsLate: !this.#profile.watches,
      },
      this.#scheduler,
      chance,
    );
  }

  // The world around the processes.

  async #runApplication(machine: Machine): Promise<void> {
    const chance = this.#chance.of(`schedule of ${machine.name}`);
    while (!this.#stopping) {
      await this.#scheduler.wait(undefined, `app of ${machine.name}`, chance.pick([0, 5, 300, 5000, 60_000]));
      for (let edits = chance.below(4); edits > 0; edits--) machine.edit();
    }
  }

  async #jump(machine: Machine): Promise<void> {
    const chance = this.#chance.of(`clock of ${machine.name}`);
    while (!this.#stopping) {
      await this.#scheduler.wait(undefined, `clock of ${machine.name} jumps`, 1000 + chance.below(60_000));
      machine.offsetMs += chance.pick([-3_600_000, -5000, -7, 9, 5000, 86_400_000]) + chance.below(1000);
    }
  }

  async #deliver(): Promise<void> {
    const chance = this.#chance.of('network');
    while (!this.#stopping) {
      await this.#scheduler.wait(undefined, 'network', chance.pick([0, 100, 3000]));
      await this.#deliverOne(chance);
    }
  }

  async #deliverOne(chance: Chance): Promise<void> {
    const { underWay } = this.#network;
    if (underWay.length === 0) return;
    const [effect] = underWay.splice(chance.below(underWay.length), 1);
    if (effect === undefined) return;
    const came = chance.happens(0.25) ? 'lost' : await effect.run();
    this.#scheduler.note(`late ${effect.operation} of ${effect.key.split('/').at(-1)}: ${came}`);
    this.#world.count(`late ${came}`);
  }

  async #collect(): Promise<void> {
    const chance = this.#chance.of('collector');
    while (!this.#stopping) {
      await this.#scheduler.wait(undefined, 'collector begins', chance.below(2000));
      await collect(this.#world, this.#scheduler, chance);
    }
  }

  /** Somebody restores at random, and puts junk into the log now and then. */
  async #look(): Promise<void> {
    const chance = this.#chance.of('person');
    while (!this.#stopping) {
      await this.#scheduler.wait(undefined, 'person', chance.below(60_000));
      const known = this.#world.acknowledged.filter(
        ({ slot, kind }) => kind === 'CHECKPOINT' && !this.#world.expired.has(slot),
      );
      if (known.length === 0) continue;
      await this.#find(chance.pick(known).slot);
      if (chance.happens(0.1)) {
        const { empty } = await this.#world.log.head();
        await this.#world.create(logKey(lineage, chance.happens(0.5) ? empty : nextSlot(empty)), utf8Bytes('junk'));
      }
    }
  }

  async #find(slot: number): Promise<void> {
    let record: Awaited<ReturnType<typeof resolveCheckpoint>>;
    try {
      record = await resolveCheckpoint(this.#world.log, { by: 'slot', slot: toSlot(slot) });
    } catch (error) {
      throw new Violation(`CHECKPOINT ${slot} was acknowledged and is not found: ${String(error)}`);
    }
    const known = this.#world.records.get(slot)?.record.header.id;
    if (known === undefined || !equalBytes(record.header.id, known))
      throw new Violation(`slot ${slot} shows another record`);
    await this.#world.compareAgain(slot);
  }

  /** Starts, stops, pauses and kills the processes of one machine. */
  async #operate(machine: Machine): Promise<void> {
    const chance = this.#chance.of(`operator of ${machine.name}`);
    const { crashPoints, machines, policy, replaces } = this.#profile;
    while (!this.#stopping && !(machine.retired && machine.process === undefined)) {
      await this.#scheduler.wait(undefined, `operator of ${machine.name}`, chance.pick([0, 100, 2000, 30_000]));
      if (this.#stopping) return;
      const { process } = machine;
      if (replaces && !machine.retired && chance.happens(0.04)) {
        this.#replace(machine);
        if (chance.happens(0.5)) process?.kill('its pod is deleted');
      } else if (process === undefined) {
        if (machine.retired) return;
        if (chance.happens(0.03)) machine.loseState();
        if (chance.happens(0.1)) machine.backUpCache();
        const diesAfter =
          crashPoints === 0 || chance.happens(0.3) ? Number.POSITIVE_INFINITY : 1 + chance.below(crashPoints);
        const take = policy === 'person' && chance.happens(machines === 1 ? 1 : 0.5);
        if (policy === 'pod') this.#askAboutOthers(machine, chance);
        this.#start(machine, diesAfter, take);
      } else if (process.paused) {
        if (chance.happens(0.3)) process.paused = false;
      } else if (chance.happens(0.12)) {
        process.paused = true;
        this.#scheduler.note(`${process.name}: is paused`);
      } else if (crashPoints > 0 && chance.happens(0.05)) {
        process.kill('its operator');
      }
    }
  }

  /** Pods that were deleted are known to be gone, though they may run on. */
  #askAboutOthers(machine: Machine, chance: Chance): void {
    for (const other of this.#machines) {
      if (other === machine) continue;
      if (chance.happens(0.5)) this.#gone.add(other.state.holder);
      else this.#gone.delete(other.state.holder);
    }
  }

  #start(machine: Machine, diesAfter: number, take: boolean): Process {
    const name = `${machine.name}${++machine.processes}`;
    const { fileError, stateError, slowClaims } = this.#profile;
    const hesitatesUntil = slowClaims ? (slot: number) => this.#world.trimmed.has(slot) : undefined;
    const chance = this.#chance.of(`process ${++this.#processes}`);
    const faults = this.#stopping ? noLocalFaults : { fileError, stateError, hesitatesUntil };
    const process = new Process(name, machine, this.#scheduler, chance, { diesAfter, faults });
    machine.process = process;
    this.#scheduler.note(`${name}: starts${take ? ', takes' : ''}`);
    this.#world.count('processes');
    const store = new AgentStore(this.#world, process, this.#openStore(process, chance, !this.#stopping));
    const agent = new Agent(this, this.#world, process, store, chance, this.#profile, this.#gone);
    const life = machine.awaitsRestore ? agent.restore() : agent.live(take);
    life
      .catch((error: unknown) => {
        if (!(error instanceof Crash)) this.fail(error);
      })
      .finally(() => {
        if (!process.dead) machine.processEnded(process, false);
      });
    return process;
  }

  #openStore(process: Process, chance: Chance, faulty: boolean): ObjectWriter {
    const { rates, s3 } = this.#profile;
    const bucket = this.#bucket;
    const network = this.#network;
    if (bucket === undefined) return openFaultyStore(this.#world, process, network, chance, faulty ? rates : {});
    const profile = faulty ? s3 : { ...s3, fault: 0, slow: 0 };
    return openSimulatedS3({ bucket, world: this.#world, process, network, chance, profile });
  }

  // The end.

  async #end(): Promise<void> {
    const chance = this.#chance.of('end');
    try {
      for (const machine of [...this.#machines, ...this.#retired]) {
        if (machine.process !== undefined) machine.process.kill('the end');
        machine.quiet = true;
      }
      while (this.#network.underWay.length > 0) await this.#deliverOne(chance);
      await this.#world.judge();
      for (const machine of this.#machines) await this.#finish(machine);
      if (this.#failure === undefined) this.#checkUploads();
      await this.#checkLog();
    } catch (error) {
      this.fail(error);
    }
  }

  /** Without faults and without repair the machine's next capture succeeds, and is what a fresh look at its disk gives. */
  async #finish(machine: Machine): Promise<void> {
    machine.application.stop();
    this.#scheduler.nowMs += 1000;
    const process = new Process(
      `${machine.name}-last`,
      machine,
      this.#scheduler,
      this.#chance.of(`last ${machine.name}`),
      {
        diesAfter: Number.POSITIVE_INFINITY,
        faults: noLocalFaults,
      },
    );
    this.#scheduler.note(`${process.name}: the last process starts`);
    const store = new AgentStore(this.#world, process, this.#openStore(process, this.#chance.of('last'), false));
    const agent = new Agent(this, this.#world, process, store, this.#chance.of('last'), this.#profile, this.#gone);
    let outcome: CaptureOutcome | undefined;
    let failure: unknown;
    let ended = false;
    agent
      .finish()
      .then((result) => {
        outcome = result;
      })
      .catch((error: unknown) => {
        failure = error;
      })
      .finally(() => {
        ended = true;
      });
    for (let steps = 0; !ended && steps < 5000 && this.#failure === undefined; steps++) {
      if (!(await this.#step())) break;
    }
    if (this.#failure !== undefined) return;
    if (failure !== undefined) {
      if (failure instanceof Violation) throw failure;
      throw new Violation(`the last capture of ${machine.name} needs a repair: ${String(failure)}`, { cause: failure });
    }
    if (!ended || outcome === undefined) throw new Violation(`the last capture of ${machine.name} never ends`);
    if (outcome.consistency !== 'converged') {
      const { fuzzyCount, fuzzyNames } = outcome.volumes[0] as CaptureOutcome['volumes'][number];
      const named = `${outcome.passes} passes, ${fuzzyCount} names, ${fuzzyNames.join(', ')}`;
      throw new Violation(`a quiet disk of ${machine.name} gives ${outcome.consistency}: ${named}`);
    }
    const fresh = await this.freshRoot(machine);
    if (!equalBytes(fresh, outcome.root)) {
      throw new Violation(`the last capture of ${machine.name} has another root than a fresh look at its disk`);
    }
    await this.#find(outcome.committed?.slot ?? 0);
  }

  /** The root that somebody without any history gives to a disk. */
  async freshRoot(machine: Machine): Promise<Uint8Array> {
    const outcome = await capture(
      {
        files: new MemoryFileTree(machine.disk),
        store: this.#world,
        compressor,
        clock: { nowMs: () => machine.nowMs(), monotonicMs: () => this.#scheduler.nowMs, wait: async () => {} },
        random: this.#chance.of('fresh'),
        cache: undefined,
        lanes: noLanes,
      },
      { ...this.#profile.settings, laneCount: 0, extraPassesMax: 0, volumes: [volume] },
      {
        lineage,
        keys: this.#world.access.keys,
        packs: {
          identity: { ...identityOf(this.#world), epoch: toEpoch(0) },
          dataKey: this.#world.access.dataKey,
        },
        writer: undefined,
        base: undefined,
        sourceOf: () => this.#world.sourceOf([]),
      },
    );
    return outcome.root;
  }

  /** Each machine has claimed once more, when nothing of what was killed was under way any more. */
  #checkUploads(): void {
    const [left] = this.#bucket?.uploads.values() ?? [];
    if (left !== undefined) throw new Violation(`the upload of ${left.key} stays after the next run`);
  }

  /** The log as a reader finds it is the log as it came to be. */
  async #checkLog(): Promise<void> {
    this.#world.checkAcknowledged();
    const expected = [...this.#world.records]
      .filter(([slot, { counts }]) => counts && !this.#world.trimmed.has(slot))
      .map(([slot]) => slot)
      .sort((a, b) => b - a);
    const found: number[] = [];
    for await (const { header } of this.#world.log.records()) found.push(header.slot);
    if (found.join() !== expected.join()) {
      throw new Violation(`the log shows records ${found.join()}, there are ${expected.join()}`);
    }
    const restorable = this.#world.acknowledged.filter(
      ({ slot, kind }) => kind === 'CHECKPOINT' && !this.#world.expired.has(slot),
    );
    for (const { slot } of restorable.slice(-2)) await this.#find(slot);
  }
}

const noLocalFaults = { fileError: 0, stateError: 0, hesitatesUntil: undefined } as const;
const volume = { name: volumeName, path: '', selection: makeSelection([], []) } as const;

function identityOf(world: World): { repository: string; domain: string; lineage: typeof lineage } {
  return { repository: world.access.repository, domain: world.access.domain, lineage };
}

const noLanes: LaneStarter = {
  start: () => Promise.reject(new Error('this capture stays in one thread')),
};

/** What one process does from its start to its end. */
class Agent {
  readonly #simulation: Simulation;
  readonly #world: World;
  readonly #process: Process;
  readonly #store: AgentStore;
  readonly #chance: Chance;
  readonly #profile: Profile;
  readonly #gone: ReadonlySet<HolderId>;
  #base: string | undefined;
  readonly #kept: KeptNodes = new KeptNodes(50_000);
  readonly #watcher: MemoryChangeSource | undefined;
  readonly #watching: WatchedVolume | undefined;

  constructor(
    simulation: Simulation,
    world: World,
    process: Process,
    store: AgentStore,
    chance: Chance,
    profile: Profile,
    gone: ReadonlySet<HolderId>,
  ) {
    this.#simulation = simulation;
    this.#world = world;
    this.#process = process;
    this.#store = store;
    this.#chance = chance;
    this.#profile = profile;
    this.#gone = gone;
    if (!profile.watches) return;
    const watcher = new MemoryChangeSource(process.machine.disk, { prompt: chance.of('watcher').happens(0.7) });
    process.atEnd.push(() => watcher.end());
    this.#watcher = watcher;
    this.#watching = new WatchedVolume(world.broken.has('watcher') ? withLostChanges(watcher) : watcher);
  }

  async live(take: boolean): Promise<void> {
    let writer: LineageWriter;
    try {
      writer = await this.#claim(take, this.#profile.policy);
    } catch (error) {
      if (isHoldfastError(error, 'E_DIVERGED')) await this.#giveIn();
      else this.#expect(error);
      return;
    }
    for (let left = this.#chance.below(6); left >= 0; left--) {
      await this.#process.point('idle', this.#chance.pick([0, 10, 1000, 30_000]));
      const settings = this.#vary();
      try {
        await this.#capture(writer, settings);
        if (settings.final || this.#chance.happens(0.1)) {
          const acknowledged = this.#world.newestAcknowledged;
          this.#world.acknowledge(this.#process.name, 'SEAL', await this.#sealed(writer), acknowledged);
        }
      } catch (error) {
        this.#expect(error, writer);
        if (isHoldfastError(error, 'E_FENCED')) await this.#stayFenced(writer);
        if (!(error instanceof HoldfastError) || error.code === 'E_FENCED' || this.#chance.happens(0.3)) return;
      }
    }
  }

  /** Of a new pod: brings its volume back, or goes on where the process before died. */
  async restore(): Promise<void> {
    const { machine } = this.#process;
    let source: RestoreSource | undefined;
    const isKnown = (): boolean => this.#world.acknowledged.some(({ kind }) => kind === 'CHECKPOINT');
    const known = isKnown();
    try {
      if (machine.mark?.state !== 'done') {
        const log = new LineageLog(this.#store, this.#world.access, lineage);
        source = await findCheckpoint(log, this.#world.access, this.#restorePoint());
        await this.#rehydrate(source);
      }
      const restored = [...this.#world.records.values()].find(
        ({ record }) => toHex(record.header.id) === machine.mark?.checkpoint,
      );
      machine.awaitsRestore = false;
      machine.quiet = this.#simulation.stopping;
      await noteRestored(this.#process.holder, restored?.record.header.slot ?? toSlot(0));
    } catch (error) {
      if (isHoldfastError(error, 'E_NOT_FOUND', 'E_EXPECTED_MISSING')) {
        if (known && machine.mark === undefined)
          throw new Violation(`${this.#process.name} finds no checkpoint: ${String(error)}`);
        // The first one came while this one looked: it looks again.
        if (isKnown() && machine.mark === undefined) return;
        // A first boot, or the checkpoint that it began with has expired.
        if (machine.mark === undefined) machine.awaitsRestore = false;
        if (machine.mark === undefined) machine.quiet = this.#simulation.stopping;
        machine.abandonsMark = true;
        return;
      }
      const expired = source !== undefined && this.#world.expired.has(source.record.header.slot);
      if (expired && isHoldfastError(error, 'E_DAMAGED')) {
        machine.abandonsMark = true;
        this.#world.count('expired during a restore');
        return;
      }
      this.#expect(error);
    }
  }

  /** Mostly the one that was begun with. */
  #restorePoint(): CheckpointSelector {
    const { mark, abandonsMark } = this.#process.machine;
    if (mark?.state !== 'started' || abandonsMark || this.#chance.happens(0.3)) return { by: 'latest', back: 0 };
    return { by: 'id', prefix: mark.checkpoint };
  }

  async #rehydrate(source: RestoreSource): Promise<void> {
    const { process } = this;
    const { machine } = process;
    const { slot, id } = source.record.header;
    const other = machine.mark !== undefined && machine.mark.checkpoint !== toHex(id);
    const name = `the restore of ${slot} by ${process.name}`;
    this.#world.scheduler.note(`${process.name}: restores ${slot}${machine.mark === undefined ? '' : ', resumes'}`);
    try {
      const outcome = await rehydrate(
        {
          files: process.files,
          store: this.#store,
          compressor,
          clock: process.clock,
          random: this.#chance.of('restore'),
          lanes: noLanes,
          cache: process.cache,
        },
        source,
        {
          ...restoreDefaults,
          targets: [{ volume: volumeName, path: '', marker: machine.markerFor(process) }],
          onExisting: other ? 'replace' : 'refuse',
          laneCount: 0,
          inFlightBytes: this.#chance.pick([1, 20_000, 1_000_000]),
          first: this.#chance.happens(0.3) ? ['a*'] : [],
        },
      );
      this.#world.count(machine.mark === undefined ? 'restored' : 'restored, perhaps resumed');
      const content = this.#world.records.get(slot)?.content;
      const wrong =
        content === undefined ? ['nobody knows it'] : differences(content.description, describeDisk(machine.disk));
      if (wrong.length > 0) throw new Violation(`${name} gave something else: ${wrong.slice(0, 3).join('; ')}`);
      // Where its last look at the target fails it cannot tell a root, and tells none.
      const untold = outcome.rootGot === undefined && this.#process.faults.fileError > 0;
      if (!untold && (outcome.rootGot === undefined || !equalBytes(outcome.rootGot, source.body.setRoot))) {
        throw new Violation(`${name} tells another root than its record`);
      }
      if (!equalBytes(await this.#simulation.freshRoot(machine), source.body.setRoot)) {
        throw new Violation(`${name} has another root than its record when it is captured again`);
      }
    } finally {
      if (!process.dead) this.#checkDescriptors();
    }
  }

  /** A watcher that loses nothing is never said to have lost something. */
  #checkWatched({ volumes }: CaptureOutcome): void {
    for (const { scan, missed } of volumes) {
      this.#world.count(`scan ${scan}`);
      if (missed === undefined) continue;
      this.#world.count('audited');
      // What could not be read has changed for an audit.
      if (missed.count > 0 && this.#process.faults.fileError === 0) {
        throw new Violation(`${this.#process.name}: its watcher is said to have missed ${missed.names.join(', ')}`);
      }
    }
  }

  #checkDescriptors(): void {
    this.#guard(() => {
      const open = this.#process.tree.openDescriptors;
      if (open.length > 0) throw new Violation(`${this.#process.name} leaves open: ${open.join(', ')}`);
    });
  }

  /** The next process of the machine, when nothing goes wrong any more. */
  async finish(): Promise<CaptureOutcome> {
    for (let attempts = 0; this.#process.machine.awaitsRestore; attempts++) {
      if (attempts > 3) throw new Error('its restore never succeeds');
      await this.restore();
    }
    for (let attempt = 0; ; attempt++) {
      try {
        const writer = await this.#claim(true, 'person');
        const settings = {
          ...this.#profile.settings,
          extraPassesMax: Math.max(1, this.#profile.settings.extraPassesMax),
        };
        return await this.#capture(writer, settings, 0);
      } catch (error) {
        if (!isHoldfastError(error, 'E_DIVERGED') || attempt > 0) throw error;
        await this.#giveIn();
      }
    }
  }

  async #claim(take: boolean, policy: 'pod' | 'person'): Promise<LineageWriter> {
    const { process } = this;
    const writer = await claimLineage({
      store: this.#store,
      access: this.#world.access,
      lineage,
      holder: process.holder,
      holderName: `pod ${process.machine.name}`,
      clock: process.clock,
      random: this.#chance.of('claim'),
      liveness: {
        isGone: async (holder) => {
          await process.point('liveness');
          // Others count as deleted though they run; of itself a process learns only what is so.
          const gone = holder === process.machine.state.holder ? process.machine.retired : this.#gone.has(holder);
          return gone ? 'gone' : 'unknown';
        },
      },
      policy,
      take,
    });
    this.#guard(() => this.#world.claimed(process.name, writer.epoch));
    this.#world.count('claimed');
    return this.#watched(writer);
  }

  get process(): Process {
    return this.#process;
  }

  /** Somebody decided for the other history. */
  async #giveIn(): Promise<void> {
    this.#world.count('diverged');
    try {
      await noteRestored(this.#process.holder, this.#world.head?.header.slot ?? toSlot(0));
    } catch (error) {
      this.#expect(error);
    }
  }

  #vary(): Omit<CaptureSettings, 'volumes'> {
    const { settings } = this.#profile;
    const varied = { ...settings, final: this.#chance.happens(0.1), trustCache: !this.#chance.happens(0.05) };
    if (this.#watcher === undefined) return varied;
    if (this.#chance.happens(0.1)) this.#watcher.fail(this.#chance.pick(['overflow', 'burst', 'switched', 'lost']));
    return { ...varied, audit: this.#chance.happens(0.15) };
  }

  async #sealed(writer: LineageWriter): ReturnType<LineageWriter['seal']> {
    this.#store.committing = true;
    try {
      return await writer.seal();
    } finally {
      this.#store.committing = false;
    }
  }

  /** The writer, with every acknowledgement noted the moment it is given. */
  #watched(writer: LineageWriter): LineageWriter {
    const agent = this;
    return {
      epoch: writer.epoch,
      get slot() {
        return writer.slot;
      },
      get base() {
        const { base } = writer;
        agent.#base = base === undefined ? undefined : toHex(base.record.header.id);
        return base;
      },
      get newest() {
        return writer.newest;
      },
      get sealed() {
        return writer.sealed;
      },
      get restorePending() {
        return writer.restorePending;
      },
      restoreCompleted: () => writer.restoreCompleted(),
      confirm: (options) => writer.confirm(options),
      lookForReleases: (options) => writer.lookForReleases(options),
      seal: (options) => writer.seal(options),
      async commit(request) {
        const acknowledged = agent.#world.newestAcknowledged;
        agent.#store.committing = true;
        try {
          const committed = await writer.commit(request);
          agent.#guard(() => agent.#world.acknowledge(agent.#process.name, request.kind, committed, acknowledged));
          return committed;
        } finally {
          agent.#store.committing = false;
        }
      },
    };
  }

  #guard(check: () => void): void {
    try {
      check();
    } catch (error) {
      this.#simulation.fail(error);
      throw error;
    }
  }

  async #capture(
    writer: LineageWriter,
    settings: Omit<CaptureSettings, 'volumes'>,
    interrupted = 0.04,
  ): Promise<CaptureOutcome> {
    const { process } = this;
    const { machine } = process;
    const world = this.#world;
    const aborting = new AbortController();
    const abort = this.#chance.happens(interrupted) ? this.#chance.below(60) : -1;
    const broken = world.broken;
    machine.watch();
    this.#store.passes = 0;
    let reports = 0;
    try {
      const outcome = await capture(
        {
          files: broken.has('flush') ? withoutFlush(process.files) : process.files,
          store: this.#store,
          compressor,
          clock: broken.has('fresh')
            ? { ...process.clock, nowMs: () => process.clock.nowMs() + 3_600_000 }
            : process.clock,
          random: this.#chance.of(`capture ${world.scheduler.steps}`),
          cache: broken.has('stale-cache') ? withStaleBinding(process.cache, () => this.#base) : process.cache,
          lanes: this.#lanes(),
        },
        { ...settings, volumes: [{ ...volume, watched: this.#watching }] },
        {
          lineage,
          keys: world.access.keys,
          packs: { identity: { ...identityOf(world), epoch: writer.epoch }, dataKey: world.access.dataKey },
          writer,
          base: writer.base,
          kept: this.#kept,
          sourceOf: (base: Pick<CommitBase, 'packs'> | undefined) => {
            const source = world.sourceOf(base?.packs ?? [], this.#store);
            return broken.has('dedup-places') ? withWrongPlaces(source) : source;
          },
        },
        {
          signal: aborting.signal,
          onProgress: ({ pass }) => {
            this.#store.passes = pass;
            if (reports++ === abort) aborting.abort();
          },
        },
      );
      this.#world.count('captured');
      if (this.#watcher !== undefined) this.#checkWatched(outcome);
      if (outcome.compacted !== undefined) {
        const { dropped, stopped } = outcome.compacted;
        this.#world.count(stopped === undefined ? 'compacted' : `compaction stopped: ${stopped}`);
        if (dropped > 0) this.#world.count('dropped packs');
      }
      return outcome;
    } finally {
      if (!process.dead) {
        machine.unwatch();
        this.#checkDescriptors();
      }
    }
  }

  /** Lanes in the same thread, whose replies come when the scheduler says. */
  #lanes(): LaneStarter {
    const { process } = this;
    return {
      start: async (_kind, lanes, settings, hooks) => {
        await process.point('lanes start');
        const pipelines = Array.from({ length: lanes }, (_, lane) => {
          const given = settings as Parameters<typeof createCaptureLane>[1];
          return createCaptureLane(
            { files: process.files, compressor },
            { ...given, firstPack: given.firstPack + lane },
            (pack, bytes, end) => {
              hooks.onPackPart({ lane, pack, bytes: bytes.slice(), end }).catch(() => undefined);
            },
          );
        });
        let last: Promise<unknown>[] = pipelines.map(() => Promise.resolve());
        return {
          size: lanes,
          run: (lane, job) => {
            const before = last[lane] as Promise<unknown>;
            const reply = before
              .catch(() => undefined)
              .then(async () => {
                await process.point(`lane ${lane}`);
                this.#world.count('lane jobs');
                const result = pipelines[lane]?.run(job);
                await process.point(`lane ${lane} replies`);
                return result as { readonly bytes: Uint8Array };
              });
            last[lane] = reply;
            return reply;
          },
          close: async () => {
            await process.point('lanes close');
            await Promise.allSettled(last);
            last = [];
          },
        };
      },
    };
  }

  #expect(error: unknown, writer?: LineageWriter): void {
    if (error instanceof Crash) throw error;
    const deleted = isHoldfastError(error, 'E_POD_GONE') && this.#process.machine.retired;
    if (deleted || isHoldfastError(error, ...expectedCodes)) {
      this.#world.scheduler.note(`${this.#process.name}: ${error.code} ${error.message}`);
      this.#world.count(error.code);
      return;
    }
    // What a writer was built on may be collected once it has a successor.
    const superseded = writer !== undefined && (this.#world.head?.header.epoch ?? 0) > writer.epoch;
    if (superseded && isHoldfastError(error, 'E_DAMAGED')) {
      this.#world.count('E_DAMAGED of a superseded writer');
      return;
    }
    if (error instanceof Violation) throw error;
    throw new Violation(`${this.#process.name} met an error that nobody announced: ${String(error)}`, { cause: error });
  }

  /** Fenced is fenced, whatever is tried. */
  async #stayFenced(writer: LineageWriter): Promise<void> {
    try {
      await writer.seal();
    } catch (error) {
      if (isHoldfastError(error, 'E_FENCED')) return;
      throw error;
    }
    throw new Violation(`${this.#process.name} was fenced and went on`);
  }
}
