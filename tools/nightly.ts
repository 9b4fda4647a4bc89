/**
 * `npm run nightly`: what takes too long for every change. Each part is a check of its own with larger numbers; names of parts as
 * arguments run those alone. Ends like `.ci/run`, with one line `N passed, N failed`.
 */
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** As tools/phases.mjs says it; that file is plain JavaScript, because it runs before any package is installed. */
interface Part {
  readonly name: string;
  readonly command: readonly string[];
  readonly minutesMax: number;
  readonly counted?: true;
}

interface Phases {
  runPhases(phases: readonly Part[], options: { readonly cwd: string }): Promise<number>;
}

const { runPhases } = (await import(new URL('phases.mjs', import.meta.url).href)) as Phases;
const root: string = dirname(dirname(fileURLToPath(import.meta.url)));
const node: string = process.execPath;
const slow = (path: string): string[] => [node, 'tools/run.mjs', 'test', '--project', 'slow', path];

const parts: readonly Part[] = [
  { name: 'kills', command: slow('test/process/kills.slow.ts'), counted: true, minutesMax: 90 },
  { name: 'servers', command: [node, 'tools/run.mjs', 'servers'], minutesMax: 30 },
  {
    name: 's3-kills',
    command: ['env', 'HOLDFAST_TEST_SERVERS=required', ...slow('test/s3/kills'), '--maxWorkers=3'],
    counted: true,
    minutesMax: 120,
  },
  { name: 'soak', command: ['env', 'SOAK_SECONDS=3600', ...slow('test/soak')], counted: true, minutesMax: 75 },
  { name: 'models', command: [node, 'test/model/run.ts', '--nightly'], counted: true, minutesMax: 240 },
  { name: 'sim', command: [node, 'tools/run.mjs', 'sim', '--seeds', '20000'], counted: true, minutesMax: 180 },
];

const chosen = process.argv.slice(2);
const unknown = chosen.filter((name) => !parts.some((part) => part.name === name));
if (unknown.length > 0) {
  process.stderr.write(`No part ${unknown.join(', ')}. There are: ${parts.map(({ name }) => name).join(', ')}\n`);
  process.exitCode = 2;
} else {
  const wanted = parts.filter(({ name }) => chosen.length === 0 || chosen.includes(name));
  process.env['KILLS'] ??= '2000';
  process.exitCode = await runPhases(wanted, { cwd: root });
}
