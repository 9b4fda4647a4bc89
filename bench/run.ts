import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { Bench, removeTrees, say } from './bench.ts';
import { borg, type Contender, type ContenderName, holdfast, type PeerName, restic, tar } from './contenders.ts';
import { NotAvailable } from './debian-program.ts';
import { judgeAll, newestSamples, placeReport, type Run, type RunFacts, renderReport } from './report.ts';
import { blocksGate, delayMs, type Row } from './rows.ts';
import { S3Site } from './s3-site.ts';
import { parseSettings, type Settings, UsageError, usage } from './settings.ts';

/**
 * `npm run bench`: makes the data sets, runs Holdfast and its peers in alternating pairs, judges the ratios.
 */

const root = dirname(import.meta.dirname);
const documentPath = join(root, 'docs/benchmarks.md');

const exitStatus = { good: 0, gate: 1, usage: 2, failed: 3 } as const;

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

function report(settings: Settings, runs: readonly Run[]): number {
  const samples = newestSamples(runs);
  const measured = new Set(samples.map(({ set, network, phase }) => `${set} ${network} ${phase}`));
  const wanted = (row: Row): boolean => {
    if (measured.has(`${row.set} ${row.network} ${row.phase}`)) return true;
    const asked = row.set === 'sqlite' || settings.sets.includes(row.set);
    return !settings.reportOnly && asked && settings.phases.includes(row.phase);
  };
  const judged = judgeAll(settings.store, samples, wanted);
  const markdown = renderReport(runs, judged);
  process.stdout.write(`${markdown}\n`);
  if (settings.write) {
    writeFileSync(documentPath, placeReport(settings.store, readFileSync(documentPath, 'utf8'), markdown));
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
  mkdirSync(directory, { recursive: true });
  await using site = settings.store === 's3' ? await S3Site.start(directory) : undefined;
  const bench = new Bench(settings, { contenders, directory, site, signal: interrupted.signal });
  const sets = [...settings.sets.filter(() => settings.phases.some((phase) => phase !== 'sqlite'))];
  try {
    // The million files come last: what is deleted at the end slows nobody.
    for (const name of sets) await bench.measureSet(bench.dataSet(name));
    if (settings.phases.includes('sqlite')) await bench.measureDatabase(bench.dataSet('sqlite'));
  } finally {
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
  }
  if (site !== undefined) {
    notes.push(
      `server: ${site.version}, on loopback and a directory of its own; the delay is ${delayMs} ms before each request`,
    );
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
    ['holdfast', true, () => holdfast(settings.program, { store: settings.store })],
    ['restic', settings.peers.includes('restic'), () => restic(source('restic'))],
    ['holdfast-level-3', settings.phases.includes('level3'), () => holdfast(settings.program, { level: 3 })],
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
    // A program that is missing is no defect: one line that says how to get it.
    if (error instanceof NotAvailable) say(`*** NOTHING WAS MEASURED: ${error.message}`);
    else say(error instanceof Error ? (error.stack ?? error.message) : String(error));
    process.exitCode = exitStatus.failed;
  }
}
