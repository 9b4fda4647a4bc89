/** A directory with much in it, a repository, and real processes of bin/holdfast that are killed while they work on them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { expect } from 'vitest';
import { chooseFileTree } from '../../src/edge/host/choose-file-tree.ts';
import { type JsonObject, type Ran, Workplace } from '../cli/run-cli.ts';
import { applyEdits, buildTree, editArbitrary, runContent, sampleTree } from '../support/tree-spec.ts';
import { snapshotTree } from '../support/tree-snapshot.ts';

export interface Acknowledged {
  readonly lineage: string;
  readonly slot: number;
  readonly id: string;
  readonly root: string;
  /** Every name of the source as it was then. */
  readonly lines: readonly string[];
}

export interface KilledRun extends Ran {
  /** False where the process had ended by itself before. */
  readonly killed: boolean;
  readonly delayMs: number;
}

export interface WorldOptions {
  readonly seed: number;
  /** Files of 20 to 60 kB beside the small tree. */
  readonly bulkFiles: number;
  /** A real application writes into the directory whenever nothing is compared. */
  readonly application: boolean;
  /** Default: a directory. */
  readonly store?: WorldStore;
  /** Bytes of one more file, and what a first capture may read before its next PARTIAL. */
  readonly largeBytes?: number;
  readonly partialBytes?: string;
}

/** A store that is not a directory of the world's own. */
export interface WorldStore {
  /** What the command line needs to find it. */
  readonly env: Readonly<Record<string, string>>;
  /** The same store, asked so slowly that what reads it can be met half-way. */
  readonly slowEnv: Readonly<Record<string, string>>;
  /** Uploads that nobody has ended, of one lineage or of all. */
  leftovers(lineage?: string): Promise<number>;
  /** Parts of uploads that have come so far. */
  partsSeen(): number;
  /** Becomes true when a record comes that lists a pack which was sent in parts after this call. */
  anchoring(): () => boolean;
  /** A run that is killed goes over a bad network; afterwards nothing of it is under way any more. */
  overBadNetwork<Result>(run: () => Promise<Result>): Promise<Result>;
}

/** Small numbers from a seed (mulberry32), for delays and choices. */
export class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** 0 to 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  }

  below(count: number): number {
    return Math.floor(this.next() * count);
  }
}

const soonMsMax = 20;

/** What SQLite writes through a mapping only: its mtime may move while nothing happens. */
const volatile = /-shm /;

export class World implements AsyncDisposable {
  readonly place: Workplace;
  readonly partialBytes: string;
  readonly #store: WorldStore | undefined;
  readonly source: string;
  readonly chance: Chance;
  readonly #seed: number;
  /** How long each kind of run takes, ms; runs that end by themselves teach it. */
  readonly #durations = new Map<string, number>();
  #application: ChildProcess | undefined;
  #ended: Promise<void> | undefined;
  #edits = 0;
  #largeBytes = 0;

  private constructor({ seed, store, partialBytes = '300KiB' }: WorldOptions) {
    // Edits take away as much as they like.
    this.place = new Workplace({ HOLDFAST_GUARD: 'off', ...store?.env });
    this.partialBytes = partialBytes;
    this.#store = store;
    this.#seed = seed;
    this.chance = new Chance(seed);
    this.source = this.place.at('source');
    mkdirSync(this.source);
  }

  static async create(options: WorldOptions): Promise<World> {
    const world = new World(options);
    const { tree } = chooseFileTree({ only: 'native' });
    const root = tree.openRoot(world.source);
    buildTree(tree, root, sampleTree(options.seed, { owners: process.getuid?.() === 0 }));
    tree.close(root);
    mkdirSync(join(world.source, 'bulk'));
    for (let i = 0; i < options.bulkFiles; i++) {
      const bytes = 20_000 + world.chance.below(40_000);
      writeFileSync(join(world.source, 'bulk', String(i)), runContent({ at: 0, bytes, seed: 2 * i + 2 }));
    }
    if (options.largeBytes !== undefined) {
      world.#largeBytes = options.largeBytes;
      world.#writeLarge();
    }
    await world.json(['init']);
    if (options.application) await world.#startApplication();
    return world;
  }

  async json(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<JsonObject> {
    const ran = await this.run([...args, '--output', 'json'], env);
    expect(ran, args.join(' ')).toMatchObject({ code: 0, stderr: '' });
    return JSON.parse(ran.stdout) as JsonObject;
  }

  /** Runs a command; that a store in the network is waited for is not counted among what it says. */
  async run(
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
    onStart?: (child: ChildProcess) => void,
  ): Promise<Ran> {
    const ran = await this.place.run(args, { env, ...(onStart === undefined ? {} : { onStart }) });
    return { ...ran, stderr: ran.stderr.replaceAll(/^holdfast: waiting for the store .*\n/gm, '') };
  }

  async #startApplication(): Promise<void> {
    mkdirSync(join(this.source, 'app'));
    const program = fileURLToPath(new URL('children/application.ts', import.meta.url));
    const child = spawn(process.execPath, [program, join(this.source, 'app')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#application = child;
    this.#ended = new Promise((resolve) => child.once('exit', () => resolve()));
    await new Promise<void>((resolve, reject) => {
      child.stdout?.once('data', () => resolve());
      child.once('exit', (code) => reject(new Error(`the application ended with ${code}`)));
    });
  }

  /** Stops the application, so that the directory stands still, until `goOn`. */
  async standStill(): Promise<void> {
    const pid = this.#application?.pid;
    if (pid === undefined) return;
    this.#application?.kill('SIGSTOP');
    const tasks = `/proc/${pid}/task`;
    const running = (): boolean =>
      readdirSync(tasks).some((task) => !/\) [Tt] /.test(readFileSync(`${tasks}/${task}/stat`, 'latin1')));
    while (running()) await new Promise((resolve) => setImmediate(resolve));
  }

  goOn(): void {
    this.#application?.kill('SIGCONT');
  }

  /** What a person does between two checkpoints: some edits anywhere, and some new content. */
  edit(): void {
    this.#edits++;
    const { tree } = chooseFileTree({ only: 'native' });
    const root = tree.openRoot(this.source);
    const edits = fc.sample(editArbitrary({ depthMax: 1, fileBytesMax: 60_000 }), {
      seed: this.#seed * 1000 + this.#edits,
      numRuns: 6,
    });
    // What the application holds open stays where it is.
    if (this.#application === undefined) applyEdits(tree, root, edits);
    tree.close(root);
    for (let i = 0; i < 12; i++) {
      const bytes = 20_000 + this.chance.below(60_000);
      const content = runContent({ at: 0, bytes, seed: 2 * (this.#edits * 100 + i) });
      writeFileSync(join(this.source, `new-${this.chance.below(60)}`), content);
    }
    if (this.#edits % 3 === 0 && this.#largeBytes > 0) this.#writeLarge();
  }

  #writeLarge(): void {
    writeFileSync(join(this.source, 'large'), randomBytes(this.#largeBytes));
  }

  snapshot(path: string = this.source): string[] {
    return snapshotTree(path).filter((line) => !volatile.test(line));
  }

  /** Runs a command to its end and learns how long this kind of run takes. */
  async measured(
    kind: string,
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<JsonObject> {
    const began = performance.now();
    const result = await this.json(args, env);
    this.#durations.set(kind, performance.now() - began);
    return result;
  }

  /**
   * Runs a command and kills it at a moment of chance, uniform over the time that such a run takes. With `once` the moment is soon
   * after that came true: most of a short run is the start of a process, and what is wanted half done is done within few ms.
   */
  async killed(
    kind: string,
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
    once?: () => boolean,
  ): Promise<KilledRun> {
    const duration = this.#durations.get(kind);
    if (duration === undefined) throw new Error(`no ${kind} has been measured`);
    // A little beyond the end: runs that come to it say how long they take by now.
    const delayMs = this.chance.next() * (once === undefined ? duration * 1.1 : soonMsMax);
    let timer: NodeJS.Timeout | undefined;
    let watch: NodeJS.Timeout | undefined;
    const began = performance.now();
    const run = (): Promise<Ran> =>
      // What a killed process leaves behind goes with the world.
      this.run([...args, '--output', 'json'], { TMPDIR: this.place.path, ...env }, (child) => {
        const strike = (): void => {
          timer = setTimeout(() => child.kill('SIGKILL'), delayMs);
        };
        if (once === undefined) return strike();
        watch = setInterval(() => {
          if (!once()) return;
          clearInterval(watch);
          strike();
        }, 1);
      });
    const ran = await (this.#store === undefined ? run() : this.#store.overBadNetwork(run));
    clearInterval(watch);
    clearTimeout(timer);
    const killed = ran.signal === 'SIGKILL';
    if (!killed) {
      expect(ran, `${kind} that was not killed`).toMatchObject({ code: 0, stderr: '' });
      this.#durations.set(kind, performance.now() - began);
    }
    return { ...ran, killed, delayMs };
  }

  /** For a restore that is to be killed when its first files have come: on a fast store the others come in the same moment. */
  get slowEnv(): Readonly<Record<string, string>> {
    return this.#store?.slowEnv ?? {};
  }

  /** Becomes true when more of an object than there is now has come to the store, and not yet the whole. */
  uploading(): () => boolean {
    const store = this.#store;
    if (store !== undefined) {
      const before = store.partsSeen();
      return () => store.partsSeen() > before;
    }
    const before = this.#unfinishedFiles();
    return () => this.#unfinishedFiles() > before;
  }

  /** Becomes true when a first capture sends its PARTIAL; undefined where that is met often enough by chance. */
  anchoring(): (() => boolean) | undefined {
    return this.#store?.anchoring();
  }

  #unfinishedFiles(): number {
    try {
      return readdirSync(this.place.at('store', 'tmp')).length;
    } catch {
      return 0;
    }
  }

  /** What kills have left in the store is gone after the next run of their lineage, not only after a while. */
  get tidiedByNext(): boolean {
    return this.#store !== undefined;
  }

  /** Half-written files of a directory, unfinished uploads of one lineage of a bucket or of all: what kills leave behind. */
  async leftovers(lineage?: string): Promise<number> {
    return this.#store === undefined ? this.#unfinishedFiles() : await this.#store.leftovers(lineage);
  }

  remove(path: string): void {
    rmSync(path, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#application?.kill('SIGKILL');
    await this.#ended;
    this.place[Symbol.dispose]();
  }
}
