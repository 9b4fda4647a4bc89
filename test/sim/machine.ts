/** A pod's machine: its disk with the application on it, its clock, and what it keeps privately between processes. */
import { toHolderId, toSlot } from '../../src/engine/model/ids.ts';
import type { HolderState } from '../../src/engine/ports/holder-store.ts';
import type { RestoreMark, RestoreMarker } from '../../src/engine/ports/restore-marker.ts';
import { MemoryCache } from '../support/memory-cache.ts';
import { MemoryFileSystem } from '../support/memory-file-tree.ts';
import { Application } from './application.ts';
import type { Chance } from './chance.ts';
import { type Description, describeDisk } from './oracle.ts';
import type { Process } from './process.ts';
import type { Scheduler } from './scheduler.ts';

export interface MachineProfile {
  readonly type: 'ext4' | 'tmpfs';
  readonly privileged: boolean;
  readonly clockStepMs: number;
  /** Chance of a change of the application per call of a capture. */
  readonly editsPerCall: number;
  /** Files are mapped at any time, not from the start alone. */
  readonly mapsLate: boolean;
}

const epochMs: number = Date.UTC(2026, 0, 1);

export class Machine {
  readonly name: string;
  readonly disk: MemoryFileSystem;
  readonly application: Application;
  readonly profile: MachineProfile;
  cache: MemoryCache = new MemoryCache();
  state: HolderState;
  process: Process | undefined;
  processes = 0;
  /** Difference of its wall clock to the true time. */
  offsetMs = 0;
  /** While true the application makes no change. */
  quiet = false;
  /** A new pod's: its volume is empty and has to be restored before its application starts. */
  awaitsRestore = false;
  /** Its pod was deleted; a process of it may still run. */
  retired = false;
  /** The checkpoint that its restore began with is gone. */
  abandonsMark = false;
  /** What is remembered of its restore. */
  mark: RestoreMark | undefined;
  /** States of the disk since the watching capture began. */
  readonly versions: Description[] = [];
  #watching = false;
  readonly #scheduler: Scheduler;
  readonly #chance: Chance;
  #cacheBackup: MemoryCache['files'] | undefined;

  constructor(name: string, profile: MachineProfile, scheduler: Scheduler, chance: Chance) {
    this.name = name;
    this.profile = profile;
    this.#scheduler = scheduler;
    this.#chance = chance;
    const { type, privileged, clockStepMs } = profile;
    this.disk = new MemoryFileSystem({ clock: { nowMs: () => this.nowMs() }, type, privileged, clockStepMs });
    this.application = new Application(this.disk, chance.of('application'), profile);
    this.state = { holder: toHolderId(`holder-${name}`), claims: [], last: undefined, includes: toSlot(0) };
  }

  nowMs(): number {
    return epochMs + this.#scheduler.nowMs + this.offsetMs;
  }

  /** From now on every state of the disk is kept. */
  watch(): void {
    this.versions.splice(0, this.versions.length, describeDisk(this.disk));
    this.#watching = true;
  }

  unwatch(): void {
    this.#watching = false;
  }

  edit(): void {
    if (this.quiet) return;
    const done = this.application.edit();
    this.#scheduler.note(`${this.name}: app: ${done}`);
    if (this.#watching) this.versions.push(describeDisk(this.disk));
  }

  /** Called in the middle of a capture, before each call of the file system. */
  duringCall(): void {
    if (!this.#chance.happens(this.profile.editsPerCall)) return;
    // Time passes too, or does not: several changes in one tick of the coarse clock must not be missed.
    this.#scheduler.nowMs += this.#chance.pick([0, 0, 1, 3, 20]);
    this.edit();
    if (this.#chance.happens(0.3)) this.edit();
  }

  processEnded(process: Process, killed: boolean): void {
    for (const end of process.atEnd.splice(0)) end();
    if (this.process === process) this.process = undefined;
    if (!killed) return;
    const roll = this.#chance.below(100);
    if (roll < 8) this.cache.files.clear();
    else if (roll < 16) this.#tearOne();
    else if (roll < 24 && this.#cacheBackup !== undefined) {
      // Somebody put an old copy of the directory back.
      this.cache.files.clear();
      for (const [name, file] of this.#cacheBackup) this.cache.files.set(name, file);
      this.#scheduler.note(`${this.name}: an old cache is back`);
    }
  }

  markerFor(process: Process): RestoreMarker {
    return {
      load: async () => {
        await process.point('marker load');
        return this.mark;
      },
      save: async (mark) => {
        await process.point('marker save');
        this.mark = { ...mark };
        await process.point('marker saved');
      },
    };
  }

  backUpCache(): void {
    this.#cacheBackup = new Map(this.cache.files);
  }

  /** A torn file is proven torn by its checksum and reads as absent. */
  #tearOne(): void {
    const names = this.cache.names();
    if (names.length === 0) return;
    const name = this.#chance.pick(names);
    this.cache.files.delete(name);
    this.#scheduler.note(`${this.name}: torn ${name}`);
  }

  /** The private state is gone: the same pod, which does not know its claims any more. */
  loseState(): void {
    this.state = { ...this.state, claims: [], last: undefined, includes: toSlot(0) };
    this.#scheduler.note(`${this.name}: its private state is lost`);
  }
}
