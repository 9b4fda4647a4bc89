// Runs commands one after the other and sums what they count. Plain JavaScript without packages, because it runs before
// any are installed.

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * @typedef {object} Phase
 * @property {string} name
 * @property {string[]} command
 * @property {boolean} [counted] it runs tests and says how many: in the file that HOLDFAST_COUNTS_FILE names, one JSON line
 *   `{"passed": n, "failed": n}` for each runner, or else on stdout as a last such line or as `N passed, N failed`. A
 *   phase that is not counted is one check, passed or failed.
 * @property {number} [minutesMax] after which it is killed and has failed
 * @property {string} [startsWith] name of an earlier phase together with which it starts, at the lowest priority; it is
 *   waited for, and what it printed shown, when its own turn has come
 */

const SUMMARY = /^(\d+) passed, (\d+) failed$/;

/**
 * Runs all phases, also after one has failed, and ends with the one line `N passed, N failed` of them all.
 *
 * @param {Phase[]} phases
 * @param {{ cwd: string }} options
 * @returns {Promise<number>} the exit code: 0 if nothing failed
 */
export async function runPhases(phases, { cwd }) {
  const results = [];
  const startedMs = performance.now();
  /** @type {Map<Phase, { output: Output, result: ReturnType<typeof runPhase> }>} */
  const started = new Map();
  for (const phase of phases) {
    for (const other of phases) {
      if (other.startsWith !== phase.name) continue;
      const output = new Output();
      const command = ['nice', '-n', '19', ...other.command];
      started.set(other, { output, result: runPhase({ ...other, command }, cwd, output) });
    }
    process.stdout.write(`\n==== ${phase.name}: ${phase.command.join(' ')}\n`);
    const running = started.get(phase);
    running?.output.show();
    results.push(await (running?.result ?? runPhase(phase, cwd)));
  }
  const sum = (field) => results.reduce((total, result) => total + result[field], 0);
  process.stdout.write('\n==== phases\n');
  for (const { name, seconds, passed, failed, remark } of results) {
    process.stdout.write(
      `${name.padEnd(16)} ${seconds.toFixed(1).padStart(7)} s  passed ${String(passed).padStart(6)}` +
        `  failed ${String(failed).padStart(4)}${remark === undefined ? '' : `  (${remark})`}\n`,
    );
  }
  const seconds = (performance.now() - startedMs) / 1000;
  process.stdout.write(`${'all'.padEnd(16)} ${seconds.toFixed(1).padStart(7)} s\n`);
  process.stdout.write(`${sum('passed')} passed, ${sum('failed')} failed\n`);
  return sum('failed') === 0 && results.length > 0 ? 0 : 1;
}

/** What a phase prints: shown as it comes, or kept until its turn. */
class Output {
  #kept = [];
  #shown = false;

  show() {
    this.#shown = true;
    for (const [stream, text] of this.#kept.splice(0)) stream.write(text);
  }

  /**
   * @param {NodeJS.WriteStream} stream
   * @param {string | Buffer} text
   */
  write(stream, text) {
    if (this.#shown) stream.write(text);
    else this.#kept.push([stream, text]);
  }
}

function shownAtOnce() {
  const output = new Output();
  output.show();
  return output;
}

/** @returns {Promise<{ name: string, seconds: number, passed: number, failed: number, remark?: string }>} */
async function runPhase({ name, command, counted = false, minutesMax = 10 }, cwd, output = shownAtOnce()) {
  const scratch = mkdtempSync(join(tmpdir(), 'holdfast-phase-'));
  const countsFile = join(scratch, 'counts');
  const startedMs = performance.now();
  try {
    const { ending, counts: printed } = await runCommand(command, {
      cwd,
      env: { ...process.env, CI: process.env['CI'] || 'true', HOLDFAST_COUNTS_FILE: countsFile },
      name,
      minutesMax,
      output,
    });
    const seconds = (performance.now() - startedMs) / 1000;
    if (!counted) {
      const failed = ending === 'ok' ? 0 : 1;
      return { name, seconds, passed: 1 - failed, failed, ...(failed ? { remark: ending } : {}) };
    }
    const counts = existsSync(countsFile) ? sumOf(readFileSync(countsFile, 'utf8')) : printed;
    let { passed, failed } = counts ?? { passed: 0, failed: 0 };
    let remark = ending === 'ok' ? undefined : ending;
    // A command that fails without naming a failed test, or that ran no test at all, has not shown anything.
    if (ending !== 'ok' && failed === 0) failed = 1;
    if (passed + failed === 0) {
      failed = 1;
      remark = counts === undefined ? 'says nothing of its tests' : 'ran no test';
    }
    return { name, seconds, passed, failed, ...(remark === undefined ? {} : { remark }) };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Each ends a command that is running. */
const abandons = new Set();

function stopAll(signal) {
  for (const abandon of abandons) abandon();
  process.exit(signal === 'SIGINT' ? 130 : 143);
}

/**
 * Runs a command in a process group of its own and passes on what it prints. Its own `N passed, N failed` is passed on in
 * other words, so that the line of the whole run is the only one of its form.
 */
function runCommand([command, ...args], { cwd, env, name, minutesMax, output }) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    let counts;
    let ending;
    const killGroup = (signal) => {
      try {
        process.kill(-child.pid, signal);
      } catch (error) {
        if (error.code !== 'ESRCH') throw error;
      }
    };
    const timer = setTimeout(() => {
      ending = `killed after ${minutesMax} minutes`;
      killGroup('SIGKILL');
    }, minutesMax * 60_000);
    const abandon = () => killGroup('SIGKILL');
    if (abandons.size === 0) process.on('SIGINT', stopAll).on('SIGTERM', stopAll);
    abandons.add(abandon);

    eachLine(child.stdout, (line, end) => {
      const found = SUMMARY.exec(line);
      counts = (found ? { passed: Number(found[1]), failed: Number(found[2]) } : countsIn(line)) ?? counts;
      const shown = found ? `${name}: ${found[1]} have passed and ${found[2]} failed${end}` : line + end;
      output.write(process.stdout, shown);
    });
    child.stderr.on('data', (text) => output.write(process.stderr, text));

    child.on('error', (error) => {
      ending = error.message;
      finish();
    });
    child.on('exit', (code, signal) => {
      ending ??= signal !== null ? `killed by ${signal}` : code === 0 ? 'ok' : `exit code ${code}`;
      // Whatever it left running would disturb the next phase, and would hold the pipes open.
      killGroup('SIGKILL');
    });
    child.on('close', finish);

    function finish() {
      clearTimeout(timer);
      abandons.delete(abandon);
      if (abandons.size === 0) process.off('SIGINT', stopAll).off('SIGTERM', stopAll);
      resolve({ ending, counts });
    }
  });
}

function eachLine(stream, use) {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) use(line, '\n');
  });
  stream.on('end', () => {
    if (rest !== '') use(rest, '\n');
  });
}

function countsIn(line) {
  if (!line.startsWith('{')) return undefined;
  try {
    const { passed, failed } = JSON.parse(line);
    return Number.isInteger(passed) && Number.isInteger(failed) ? { passed, failed } : undefined;
  } catch {
    return undefined;
  }
}

function sumOf(text) {
  const all = text
    .split('\n')
    .map(countsIn)
    .filter((counts) => counts !== undefined);
  if (all.length === 0) return undefined;
  return {
    passed: all.reduce((total, counts) => total + counts.passed, 0),
    failed: all.reduce((total, counts) => total + counts.failed, 0),
  };
}
