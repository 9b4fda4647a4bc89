/**
 * One process of Holdfast: the ports that its engine gets. Every use of one is a moment at which the process may die; with it die
 * its memory and its descriptors, and what it had asked of the store may still arrive.
 */
import type { FileTreeWriter } from '../../src/engine/ports/file-tree.ts';
import { FileTreeError } from '../../src/engine/ports/file-tree.ts';
import { HoldfastError } from '../../src/engine/model/errors.ts';
import type { Clock } from '../../src/engine/ports/clock.ts';
import type { HolderState, HolderStore } from '../../src/engine/ports/holder-store.ts';
import type { CacheWriter, LocalCache } from '../../src/engine/ports/local-cache.ts';
import { MemoryFileTree } from '../support/memory-file-tree.ts';
import type { Chance } from './chance.ts';
import type { Machine } from './machine.ts';
import { Crash, type Owner, type Scheduler } from './scheduler.ts';

/** How often the local world goes wrong, per call. */
export interface LocalFaults {
  readonly fileError: number;
  readonly stateError: number;
  /** Of a claimant between its look at the log and its claim: until this says that the slot was taken and is free again. */
  readonly hesitatesUntil: ((slot: number) => boolean) | undefined;
}

const failing: ReadonlySet<string> = new Set([
  'openFile',
  'openDirectory',
  'list',
  'listName',
  'read',
  'stat',
  'statInto',
  'statNameInto',
  'readLink',
  'xattrs',
  'nextData',
]);

export class Process implements Owner {
  readonly name: string;
  readonly machine: Machine;
  readonly files: FileTreeWriter;
  readonly tree: MemoryFileTree;
  readonly clock: Clock;
  readonly cache: LocalCache;
  readonly holder: HolderStore;
  dead = false;
  paused = false;
  /** Uses of ports until it dies. */
  pointsLeft: number;
  points = 0;
  faults: LocalFaults;
  /** What ends with it, however it ends. */
  readonly atEnd: (() => void)[] = [];
  readonly #scheduler: Scheduler;
  readonly #chance: Chance;

  constructor(
    name: string,
    machine: Machine,
    scheduler: Scheduler,
    chance: Chance,
    options: { readonly diesAfter: number; readonly faults: LocalFaults },
  ) {
    this.name = name;
    this.machine = machine;
    this.#scheduler = scheduler;
    this.#chance = chance;
    this.pointsLeft = options.diesAfter;
    this.faults = options.faults;
    this.tree = new MemoryFileTree(machine.disk);
    if (chance.happens(0.2)) this.tree.readBytesMax = 700;
    this.tree.beforeCall = ({ operation, path }) => {
      this.syncPoint(operation);
      machine.duringCall();
      if (failing.has(operation) && chance.happens(this.faults.fileError)) {
        scheduler.note(`${name}: EIO ${operation} ${path}`);
        throw new FileTreeError('EIO', operation);
      }
    };
    this.files = guarded(this.tree, () => this.#checkAlive());
    this.clock = {
      nowMs: () => machine.nowMs(),
      monotonicMs: () => scheduler.nowMs,
      wait: (ms) => this.point('clock', ms),
    };
    this.cache = this.#cacheOf(machine.cache);
    this.holder = this.#holderOf();
  }

  /** A moment between two steps of asynchronous work. */
  async point(label: string, ms = 0): Promise<void> {
    this.#checkAlive();
    await this.#scheduler.wait(this, label, ms);
    if (this.#mustDie()) {
      this.kill(label);
      await new Promise<never>(() => {});
    }
  }

  /** A moment in the middle of synchronous work. */
  syncPoint(label: string): void {
    this.#checkAlive();
    if (!this.#mustDie()) return;
    this.kill(label);
    throw new Crash();
  }

  kill(at: string): void {
    if (this.dead) return;
    this.#scheduler.note(`${this.name}: DIES at ${at}`);
    this.dead = true;
    this.tree.crash();
    this.machine.processEnded(this, true);
  }

  #mustDie(): boolean {
    this.points++;
    return --this.pointsLeft <= 0;
  }

  #checkAlive(): void {
    if (this.dead) throw new Crash();
  }

  async #hesitate(slot: number): Promise<void> {
    const until = this.faults.hesitatesUntil;
    if (until === undefined || this.#chance.happens(0.3)) return;
    for (let i = 0; i < 40 && !until(slot); i++) await this.point('hesitates', 3000);
  }

  #holderOf(): HolderStore {
    const { machine } = this;
    const maybeFail = (what: string): void => {
      if (!this.#chance.happens(this.faults.stateError)) return;
      this.#scheduler.note(`${this.name}: state fails at ${what}`);
      throw new HoldfastError('E_STATE_DIR', `the private state cannot be used: ${what}`);
    };
    return {
      load: async (): Promise<HolderState> => {
        await this.point('state load');
        maybeFail('load');
        return structuredClone(machine.state);
      },
      save: async (state) => {
        const claim = state.claims.at(-1)?.slot;
        await this.point('state save');
        if (claim !== undefined && claim !== machine.state.claims.at(-1)?.slot) await this.#hesitate(claim);
        maybeFail('save');
        machine.state = structuredClone(state);
        await this.point('state saved');
      },
    };
  }

  #cacheOf(memory: LocalCache): LocalCache {
    const check = (): void => this.#checkAlive();
    return {
      open: (name) => {
        check();
        return memory.open(name);
      },
      create: (name): CacheWriter => {
        this.syncPoint('cache create');
        const writer = memory.create(name);
        return {
          append: (bytes) => {
            check();
            writer.append(bytes);
          },
          commit: (tail) => {
            this.syncPoint('cache commit');
            writer.commit(tail);
            this.syncPoint('cache committed');
          },
          abort: () => {
            check();
            writer.abort();
          },
        };
      },
      remove: (name) => {
        this.syncPoint('cache remove');
        memory.remove(name);
      },
      names: () => {
        check();
        return memory.names();
      },
      scratch: () => {
        check();
        return memory.scratch();
      },
    };
  }
}

/** The same object, every method of which asks first. */
export function guarded<Target extends object>(target: Target, check: () => void): Target {
  const bound = new Map<PropertyKey, unknown>();
  return new Proxy(target, {
    get(_, name) {
      const known = bound.get(name);
      if (known !== undefined) return known;
      const value = Reflect.get(target, name, target) as unknown;
      if (typeof value !== 'function') return value;
      const method = (...given: unknown[]): unknown => {
        check();
        return (value as (...all: unknown[]) => unknown).apply(target, given);
      };
      bound.set(name, method);
      return method;
    },
  });
}
