// The npm scripts: `node tools/run.mjs <task> [arguments]` prepares the checkout (tools/bootstrap.mjs) and runs the task.
// A script of its own and no `pre` hook, because hooks do not run under `ignore-scripts`.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { BootstrapError, prepare, ROOT } from './bootstrap.mjs';

const BIOME = 'node_modules/@biomejs/biome/bin/biome';
const TSC = 'node_modules/typescript/bin/tsc';
const VITEST = 'node_modules/vitest/vitest.mjs';

/**
 * What each npm script runs: `file` under Node with `args` before the caller's own. `build: false` leaves `dist/` alone.
 * @type {Record<string, { file?: string, args?: string[] | ((given: string[]) => string[]), build?: false, steps?: string[][] }>}
 */
const TASKS = {
  bench: { file: 'bench/run.ts' },
  build: {},
  check: {
    steps: [['format', '--check'], ['lint'], ['layers'], ['types'], ['test'], ['sim', '--seeds', '50']],
  },
  // Kubernetes clusters of real parts: prepare, up, down. What they are made of goes into a cache outside of the checkout.
  cluster: { file: 'test/cluster/main.ts' },
  demo: { file: 'tools/demo/demo.ts' },
  // Formats; with --check it only says what it would change.
  format: {
    file: BIOME,
    args: (given) => (given.includes('--check') ? ['format'] : ['format', '--write']),
    build: false,
  },
  golden: { file: 'test/golden/write.ts' },
  layers: { file: 'tools/layers.ts', build: false },
  lint: { file: BIOME, args: ['lint', '--error-on-warnings'], build: false },
  // The exhaustive models of the protocol; --nightly for the larger bounds.
  models: { file: 'test/model/run.ts', build: false },
  nightly: { file: 'tools/nightly.ts' },
  // The S3 servers that the tests run on, into a cache outside of the checkout.
  servers: { file: 'test/servers/install.ts', build: false },
  sim: { file: 'test/sim/run.ts' },
  // The fast suites, unless the caller names the project: `npm test -- --project slow test/process`.
  test: { file: VITEST, args: (given) => ['run', ...(given.includes('--project') ? [] : ['--project', 'fast'])] },
  'test:cluster': { file: 'test/cluster/main.ts', args: ['test'] },
  types: { file: TSC, args: ['-p', 'tsconfig.json'], build: false },
};

async function main([name, ...given]) {
  const task = TASKS[name ?? ''];
  if (task === undefined) {
    throw new BootstrapError(`Usage: node tools/run.mjs <task> [arguments]\nTasks: ${Object.keys(TASKS).join(', ')}`);
  }
  const context = await prepare({ build: task.build ?? true });
  if (task.steps !== undefined) return runAll(context, task.steps);
  if (task.file === undefined) return 0;
  return runTask(context, name, given);
}

/** Runs every task, also after one has failed, and names those that did. */
async function runAll(context, tasks) {
  const failed = [];
  for (const [name, ...given] of tasks) {
    const heading = [name, ...given].join(' ');
    process.stderr.write(`\n== ${heading}\n`);
    if ((await runTask(context, name, given)) !== 0) failed.push(name);
  }
  process.stderr.write(failed.length === 0 ? '\nAll checks passed.\n' : `\nFailed: ${failed.join(', ')}\n`);
  return failed.length === 0 ? 0 : 1;
}

async function runTask({ node, env }, name, given) {
  const { file, args = [] } = TASKS[name];
  if (!existsSync(join(ROOT, file))) throw new BootstrapError(`The task ${name} needs ${file}, which is not there.`);
  const before = typeof args === 'function' ? args(given) : args;
  const after = given.filter((argument) => !(name === 'format' && argument === '--check'));
  return passThrough(node, [join(ROOT, file), ...before, ...after], env);
}

/** Runs a command in the foreground; signals reach it, and how it ends is how we end. */
function passThrough(command, args, env) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: ROOT, env, stdio: 'inherit' });
    const forward = (signal) => child.kill(signal);
    // A terminal sends its interrupt to the child as well; sent on, it would arrive twice, and many tools take the second
    // for "stop at once". So this process only outlives it.
    const outlive = () => {};
    process.on('SIGINT', outlive).on('SIGTERM', forward).on('SIGHUP', forward);
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      process.off('SIGINT', outlive).off('SIGTERM', forward).off('SIGHUP', forward);
      if (signal !== null) process.kill(process.pid, signal);
      resolve(code ?? 1);
    });
  });
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof BootstrapError)) throw error;
  process.stderr.write(`holdfast: ${error.message}\n`);
  process.exitCode = 1;
}
