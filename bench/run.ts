import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import {
  type Contender,
  type ContenderName,
  borg,
  holdfast,
  type PeerName,
  type Place,
  restic,
  tar,
} from './contenders.ts';
import { type DataSet, ensureDataSet } from './data-sets.ts';
import { NotAvailable } from './debian-program.ts';
import { applyEdits, revertEdits } from './edits.ts';
import { type Command, CommandFailed, runMeasured } from './measure.ts';
import { judgeAll, newestSamples, placeReport, type Run, type RunFacts, renderReport } from './report.ts';
import { blocksGate, type Figures, type Row, type Sample } from './rows.ts';
import { parseSettings, type Phase, type Settings, UsageError, usage } from './settings.ts';
import { differences, freeBytes, readWholeTree, type TreeSize, treeSize } from './trees.ts';

/**
 * `npm run bench`: makes the data sets, runs Holdfast and its peers in alternating pairs, judges the ratios.
 *
 * What keeps the figures honest:
 * - everything that a run reads is read right before it, and all dirty pages are written: the page cache is reclaimed
 *   within seconds on a busy machine;
 * - restores go into fresh directories, and nothing is deleted until the end: creating files after deleting many is 2 to 10
 *   times slower for minutes;
 * - every first save goes into a fresh repository, and the order of the contenders turns round with each round;
 * - what Holdfast restored is compared with the source, file by file, outside the timed part.
 */

const root = dirname(import.meta.dirname);
const documentPath = join(root, 'docs/benchmarks.md');
/** Stays free while repositories and restored trees pile up. */
const freeBytesMin = 6e9;
/** A small file takes a block and an inode whatever its length. */
const bytesPerFile = 4500;
/** How long creating files stays slow after a mass deletion. */
const settleMs = 5 * 60_000;
const quickScale = 0.01;

const exitStatus = { good: 0, gate: 1, usage: 2, failed: 3 } as const;

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

async function main(): Promise<number> {
  const args = process.argv.slice(2);
  if (args.includes('--help')) {
    process.stdout.write(usage);
    return exitStatus.good;
  }
  const settings = parseSettings(args, { root, env: process.env });
  const resultsPath = settings.resultsPath ?? join(settings.cacheDir, 'results', `${stamp()}.json`);
  const runs: Run[] = existsSync(resultsPath) ? JSON.parse(readFileSync(resultsPath, 'utf8')) : [];
  if (settings.reportOnly) return report(settings, runs);
  const directory = join(settings.cacheDir, 'runs', stamp());
  try {
    runs.push(await measureAll(settings, args, directory));
    mkdirSync(dirname(resultsPath), { recursive: true });
    writeFileSync(resultsPath, `${JSON.stringify(runs, undefined, 1)}\n`);
    say(`raw figures: ${resultsPath}`);
    return report(settings, runs);
  } finally {
    if (settings.keep) say(`left for a look: ${directory}`);
    else removeTrees([directory]);
  }
}

/** Deletes what runs left. Millions of files can take many minutes on a cold disk: said, so that nobody takes it for a hang. */
function removeTrees(paths: readonly string[]): void {
  say(`deleting ${paths.length === 1 ? paths[0] : `${paths.length} trees`} …`);
  execFileSync('rm', ['-rf', '--', ...paths]);
}

function report(settings: Settings, runs: readonly Run[]): number {
  const samples = newestSamples(runs);
  const measured = new Set(samples.map(({ set, phase }) => `${set} ${phase}`));
  const wanted = (row: Row): boolean => {
    if (measured.has(`${row.set} ${row.phase}`)) return true;
    const asked = row.set === 'sqlite' || settings.sets.includes(row.set);
    return !settings.reportOnly && asked && settings.phases.includes(row.phase);
  };
  const judged = judgeAll(samples, wanted);
  const markdown = renderReport(runs, judged);
  process.stdout.write(`${markdown}\n`);
  if (settings.write) {
    writeFileSync(documentPath, placeReport(readFileSync(documentPath, 'utf8'), markdown));
    say(`wrote ${documentPath}`);
  }
  const failures = samples.filter(({ failed }) => failed !== undefined);
  for (const { set, phase, contender, failed } of failures) say(`FAILED: ${contender}, ${phase} (${set}): ${failed}`);
  if (failures.some(({ contender }) => contender.startsWith('holdfast'))) return exitStatus.failed;
  const blocking = judged.filter(blocksGate);
  if (settings.gate && blocking.length > 0) {
    say(`gate: ${blocking.length} rows miss their floor or were not measured`);
    return exitStatus.gate;
  }
  return exitStatus.good;
}

async function measureAll(settings: Settings, args: readonly string[], directory: string): Promise<Run> {
  const notes: string[] = [];
  const contenders = chooseContenders(settings, notes);
  const interrupted = new AbortController();
  const interrupt = (): void => interrupted.abort(new Error('interrupted'));
  process.once('SIGINT', interrupt);
  process.once('SIGTERM', interrupt);
  const bench = new Bench(settings, contenders, directory, interrupted.signal);
  const sets = [...settings.sets.filter(() => settings.phases.some((phase) => phase !== 'sqlite'))];
  try {
    // The million files come last: what is deleted at the end slows nobody.
    for (const name of sets) await bench.measureSet(bench.dataSet(name));
    if (settings.phases.includes('sqlite')) await bench.measureDatabase(bench.dataSet('sqlite'));
  } finally {
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
  }
  const facts: RunFacts = {
    date: new Date().toISOString().slice(0, 10),
    commit: commit(),
    command: [
      'npm run bench',
      ...(args.length === 0 ? [] : ['--']),
      ...withoutPaths(args).map((arg) => arg || "''"),
    ].join(' '),
    machine: machine(settings.cacheDir),
    node: process.version,
    contenders: [...contenders.map(({ name, version, settings: how }) => `${name} (${version}): ${how}`), ...notes],
    rounds: settings.rounds,
    quick: settings.quick,
  };
  return { facts, samples: bench.samples };
}

/** Starts every program that was asked for; one that cannot be had is a loud line and a note in the report. */
function chooseContenders(settings: Settings, notes: string[]): Contender[] {
  const source = (peer: PeerName): Parameters<typeof restic>[0] => ({
    program: settings.peerPrograms[peer],
    cacheDir: settings.cacheDir,
    say,
  });
  const makers: readonly [ContenderName, boolean, () => Contender][] = [
    ['holdfast', true, () => holdfast(settings.program)],
    ['restic', settings.peers.includes('restic'), () => restic(source('restic'))],
    ['holdfast-level-3', settings.phases.includes('level3'), () => holdfast(settings.program, 3)],
    ['tar', settings.peers.includes('tar'), tar],
    ['borg', settings.peers.includes('borg'), () => borg(source('borg'))],
  ];
  const chosen: Contender[] = [];
  for (const [name, wanted, make] of makers) {
    if (!wanted) continue;
    try {
      chosen.push(make());
    } catch (error) {
      if (!(error instanceof NotAvailable)) throw error;
      say(`*** ${name} IS NOT AVAILABLE: ${error.message}`);
      notes.push(`${name}: not available`);
    }
  }
  return chosen;
}

/** One run of the benchmark: its directory, its samples, its contenders. */
class Bench {
  readonly samples: Sample[] = [];
  readonly #settings: Settings;
  readonly #contenders: readonly Contender[];
  readonly #directory: string;
  readonly #signal: AbortSignal;
  /** Restored trees, oldest first; they go at the end, or when the disk runs short. */
  #restored: string[] = [];

  constructor(settings: Settings, contenders: readonly Contender[], directory: string, signal: AbortSignal) {
    this.#settings = settings;
    this.#contenders = contenders;
    this.#directory = directory;
    this.#signal = signal;
  }

  dataSet(name: DataSet['name']): DataSet {
    const { cacheDir, seed, quick } = this.#settings;
    const set = ensureDataSet(name, { cacheDir, seed, scale: quick ? quickScale : 1, say });
    revertEdits(set);
    return set;
  }

  /** First saves, saves after edits, restores of one set, round by round. */
  async measureSet(set: DataSet): Promise<void> {
    const { phases } = this.#settings;
    const wants = (phase: Phase): boolean => phases.includes(phase);
    for (let round = 0; round < this.#rounds(set); round += 1) {
      const order = this.#order(round);
      const places = new Map(order.map((contender) => [contender, this.#place(set, round, contender)]));
      const good = new Set<Contender>();
      for (const [contender, place] of places) {
        const level3 = contender.name === 'holdfast-level-3';
        if (level3 && !wants('level3')) continue;
        contender.init(place);
        const phase = level3 ? 'level3' : 'first';
        const saved = await this.#save(set, phase, round, contender, place, wants(phase));
        if (saved && !level3) good.add(contender);
      }
      try {
        if (wants('incremental')) {
          applyEdits(set, round);
          for (const [contender, place] of places) {
            if (!contender.incremental || !good.has(contender)) continue;
            if (!(await this.#save(set, 'incremental', round, contender, place, true))) good.delete(contender);
          }
        }
        if (wants('restore')) {
          for (const [contender, place] of places) {
            if (good.has(contender) && !this.#skipsRestore(set, contender)) {
              await this.#restore(set, round, contender, place);
            }
          }
        }
      } finally {
        revertEdits(set);
      }
    }
  }

  /** Bytes that the edits of a database cost. */
  async measureDatabase(set: DataSet): Promise<void> {
    for (let round = 0; round < this.#settings.rounds; round += 1) {
      const places = new Map(
        this.#order(round)
          .filter(({ name, incremental }) => incremental && name !== 'holdfast-level-3')
          .map((contender) => [contender, this.#place(set, round, contender)]),
      );
      try {
        for (const [contender, place] of places) {
          contender.init(place);
          if (!(await this.#save(set, 'first', round, contender, place, false))) places.delete(contender);
        }
        applyEdits(set, round);
        for (const [contender, place] of places) await this.#save(set, 'sqlite', round, contender, place, true);
      } finally {
        revertEdits(set);
      }
    }
  }

  /** Two pairs are enough for the million files unless more were asked for: each costs 10 GB and many minutes. */
  #rounds({ name }: DataSet): number {
    const { rounds, roundsGiven } = this.#settings;
    return name === 'c' && !roundsGiven ? Math.min(rounds, 2) : rounds;
  }

  /** A million files more, for a figure that nothing is judged by, are not worth their time and disk. */
  #skipsRestore(set: DataSet, { name }: Contender): boolean {
    return set.name === 'c' && !isJudged(name);
  }

  /** Holdfast and restic stand side by side and swap places every round; the rest follows, in its few rounds. */
  #order(round: number): Contender[] {
    const taking = this.#contenders.filter(({ name }) => isJudged(name) || round < this.#settings.referenceRounds);
    return round % 2 === 0 ? taking : taking.reverse();
  }

  #place(set: DataSet, round: number, { name }: Contender): Place {
    const base = join(this.#directory, `${set.name}-${round}-${name}`);
    mkdirSync(base, { recursive: true });
    return { base };
  }

  /** @returns whether it went well; what went wrong is said, and kept as a sample when the phase is judged */
  async #save(
    set: DataSet,
    phase: Phase,
    round: number,
    contender: Contender,
    place: Place,
    keep: boolean,
  ): Promise<boolean> {
    const repository = contender.repository(place);
    const before = treeSize(repository).bytes;
    this.#warm(set.path, ...(phase === 'first' || phase === 'level3' ? [] : [repository]));
    const key = { set: set.name, phase, round, contender: contender.name };
    const outcome = await this.#run(contender.save(place, set.path), place, key);
    if ('failed' in outcome) {
      this.samples.push({ ...key, failed: outcome.failed });
      return false;
    }
    const storedBytes = treeSize(repository).bytes;
    const figures: Figures = { ...outcome, storedBytes, newBytes: storedBytes - before };
    if (keep) this.samples.push({ ...key, figures });
    say(describe(key, figures));
    return true;
  }

  async #restore(set: DataSet, round: number, contender: Contender, place: Place): Promise<void> {
    await this.#makeRoom(set.bytes + set.files * bytesPerFile);
    const target = join(place.base, 'restored');
    this.#restored.push(target);
    this.#warm(contender.repository(place));
    const key = { set: set.name, phase: 'restore', round, contender: contender.name } as const;
    const outcome = await this.#run(contender.restore(place, target), place, key);
    if ('failed' in outcome) {
      this.samples.push({ ...key, failed: outcome.failed });
      return;
    }
    say(describe(key, outcome));
    const wrong =
      contender.name === 'holdfast'
        ? differences(set.path, target)
        : countsDiffer(
            // Without a second save, the tree comes back as it was before the edits.
            contender.incremental ? treeSize(set.path) : set,
            treeSize(target),
          );
    if (wrong.length === 0) this.samples.push({ ...key, figures: outcome });
    else this.samples.push({ ...key, failed: `the restored tree differs: ${wrong.join('; ')}` });
  }

  async #run(command: Command, place: Place, key: Omit<Sample, 'figures'>): Promise<Figures | { failed: string }> {
    try {
      return await runMeasured(command, { outputPath: join(place.base, `${key.phase}.output`), signal: this.#signal });
    } catch (error) {
      if (!(error instanceof CommandFailed)) throw error;
      say(`*** FAILED: ${key.contender}, ${key.phase} (${key.set}): ${error.message}`);
      return { failed: error.message.split('\n').slice(0, 3).join(' ') };
    }
  }

  #warm(...paths: string[]): void {
    this.#signal.throwIfAborted();
    execFileSync('sync');
    for (const path of paths) readWholeTree(path);
  }

  /** Nothing is deleted between timed runs, unless the disk would fill; then the file system gets time to settle. */
  async #makeRoom(bytes: number): Promise<void> {
    if (freeBytes(this.#directory) > bytes + freeBytesMin) return;
    const doomed = this.#restored;
    this.#restored = [];
    say(`*** the disk runs short: deleting ${doomed.length} restored trees, then waiting ${settleMs / 1000} s`);
    removeTrees(doomed);
    execFileSync('sync');
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(resolve, settleMs);
      this.#signal.addEventListener('abort', () => {
        clearTimeout(timer);
        reject(this.#signal.reason);
      });
    });
    if (freeBytes(this.#directory) < bytes) throw new Error(`too little room for ${(bytes / 1e9).toFixed(1)} GB`);
  }
}

/** Rows are ratios of Holdfast to restic; the other programs stand beside them. */
function isJudged(name: ContenderName): boolean {
  return name.startsWith('holdfast') || name === 'restic';
}

/** A peer's restore need not keep all that Holdfast keeps; but all files must be there with all their bytes. */
function countsDiffer(wanted: TreeSize, got: TreeSize): string[] {
  if (wanted.files === got.files && wanted.bytes === got.bytes) return [];
  return [`${got.files} files, ${got.bytes} bytes instead of ${wanted.files} files, ${wanted.bytes} bytes`];
}

function describe({ set, phase, round, contender }: Omit<Sample, 'figures'>, figures: Figures): string {
  const { wallSeconds, cpuSeconds, peakBytes, storedBytes, newBytes } = figures;
  const stored =
    storedBytes === undefined ? '' : `, stored ${(storedBytes / 1e6).toFixed(1)} MB, new ${newBytes} bytes`;
  const cost = `${wallSeconds.toFixed(2)} s wall, ${cpuSeconds.toFixed(2)} s CPU, ${(peakBytes / 2 ** 20).toFixed(0)} MiB`;
  return `${set} ${phase} round ${round + 1} ${contender}: ${cost}${stored}`;
}

function stamp(): string {
  return new Date().toISOString().replace(/[:.]/g, '-');
}

function commit(): string {
  const git = (...args: string[]): string => execFileSync('git', ['-C', root, ...args], { encoding: 'utf8' }).trim();
  try {
    return git('rev-parse', '--short=12', 'HEAD') + (git('status', '--porcelain', 'src') === '' ? '' : ' with changes');
  } catch {
    return 'unknown';
  }
}

/** Paths tell of one machine and help nobody to repeat the run. */
function withoutPaths(args: readonly string[]): string[] {
  const pathFlags = ['--work', '--results', '--program', '--restic', '--borg'];
  return args.filter((arg, index) => {
    const before = args[index - 1];
    return !pathFlags.some((flag) => arg === flag || arg.startsWith(`${flag}=`) || before === flag);
  });
}

function machine(directory: string): string {
  const model = cpus()[0]?.model.trim() ?? 'unknown CPU';
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '));
  const under = mounts.filter(
    ([, point]) => point !== undefined && `${directory}/`.startsWith(point === '/' ? '/' : `${point}/`),
  );
  const type =
    under.sort((one, other) => (other[1]?.length ?? 0) - (one[1]?.length ?? 0))[0]?.[2] ?? 'unknown file system';
  return `${cpus().length} cores (${model}), ${(totalmem() / 2 ** 30).toFixed(0)} GiB, ${type}, Linux ${release()}`;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (error instanceof UsageError) {
    say(`${error.message}\n\n${usage}`);
    process.exitCode = exitStatus.usage;
  } else {
    say(error instanceof Error ? (error.stack ?? error.message) : String(error));
    process.exitCode = exitStatus.failed;
  }
}
