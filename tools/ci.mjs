// All checks, in phases: `npm test` as a newcomer would type it, then everything that it leaves out. `.ci/run` starts this.
// Names of phases as arguments run those alone.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './bootstrap.mjs';
import { runPhases } from './phases.mjs';

/** Folders whose slow suites run in one process. */
const oneCore = new Set(['hostile', 'sim']);

/** @type {import('./phases.mjs').Phase[]} */
const phases = [
  { name: 'programs', command: ['node', 'tools/ci-programs.mjs'], minutesMax: 10 },
  { name: 'test', command: ['npm', 'test'], counted: true, minutesMax: 10 },
  task('format', ['format', '--check']),
  task('lint', ['lint']),
  task('layers', ['layers']),
  task('types', ['types']),
  // What keeps one core busy and measures no time goes side by side.
  { ...task('models', ['models']), counted: true },
  { ...task('sim', ['sim', '--seeds', '300']), counted: true, startsWith: 'models' },
  ...slowSuites(),
  // Two of the servers are compiled, which takes minutes: beside the phases after the first tests.
  { ...task('servers', ['servers']), startsWith: 'format', minutesMax: 30 },
  s3Suites(),
  // Kubernetes is compiled, which takes minutes: from the first second on. MinIO comes with the other servers.
  {
    ...task('cluster-prepare', ['cluster', 'prepare', 'kubernetes', 'helm', 'debian']),
    startsWith: 'programs',
    minutesMax: 45,
  },
  { ...task('cluster', ['test:cluster']), counted: true, minutesMax: 18 },
  task('demo', ['demo']),
  // Small sets and no other program: that what measures still works, and that every restore it makes is equal.
  task('bench', ['bench', '--quick', '--peers', '']),
  task('bench-s3', ['bench', '--store', 's3', '--quick', '--peers', '']),
];

function task(name, args) {
  return { name, command: ['node', 'tools/run.mjs', ...args], minutesMax: 10 };
}

/** One phase for each folder of `test/` that holds slow suites, so that a new one cannot be forgotten here. */
function slowSuites() {
  const paths = readdirSync(join(ROOT, 'test'), { recursive: true }).filter((path) => path.endsWith('.slow.ts'));
  // Those of S3 need the servers: s3Suites.
  const folders = new Set(paths.map((path) => path.split(/[/\\]/)[0]).filter((folder) => folder !== 's3'));
  return [...folders].sort().map((folder) => {
    const suites = paths.filter((path) => path.split(/[/\\]/)[0] === folder).map((path) => join('test', path));
    const phase = task(folder, ['test', '--project', 'slow', ...suites.sort()]);
    return { ...phase, counted: true, minutesMax: 15, ...(oneCore.has(folder) ? { startsWith: 'models' } : {}) };
  });
}

/** What `npm test` runs on the one S3 server that it finds, and the slow suites, on all of them; one that is missing is a failure. */
function s3Suites() {
  const tests = readdirSync(join(ROOT, 'test'), { recursive: true }).filter((path) => path.endsWith('.test.ts'));
  // Known by what they import, so that a new one cannot be forgotten here.
  const onServers = tests.filter((path) => /\/s3-server\.ts'/.test(readFileSync(join(ROOT, 'test', path), 'utf8')));
  const paths = ['test/s3', ...onServers.map((path) => join('test', path)).sort()];
  // More at a time than there are cores: servers that start, cuts and stalls are waited for most of the time.
  const test = ['node', 'tools/run.mjs', 'test', '--project', 'fast', '--project', 'slow', '--maxWorkers=3', ...paths];
  return { name: 's3', command: ['env', 'HOLDFAST_TEST_SERVERS=required', ...test], counted: true, minutesMax: 25 };
}

const chosen = process.argv.slice(2);
const unknown = chosen.filter((name) => !phases.some((phase) => phase.name === name));
if (unknown.length > 0) {
  process.stderr.write(`No phase ${unknown.join(', ')}. There are: ${phases.map((phase) => phase.name).join(', ')}\n`);
  process.exitCode = 2;
} else {
  const wanted = phases.filter((phase) => chosen.length === 0 || chosen.includes(phase.name));
  process.exitCode = await runPhases(wanted, { cwd: ROOT });
}
