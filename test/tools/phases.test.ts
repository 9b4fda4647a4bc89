import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';

const checkout = join(import.meta.dirname, '../..');

interface PlantedPhase {
  readonly name: string;
  /** A program for `node -e`. */
  readonly script: string;
  readonly counted?: boolean;
  readonly minutesMax?: number;
  readonly startsWith?: string;
}

function programOf(planted: readonly PlantedPhase[]): string {
  const phases = planted.map(({ script, ...phase }) => ({ ...phase, command: [process.execPath, '-e', script] }));
  return (
    `const { runPhases } = await import(${JSON.stringify(join(checkout, 'tools/phases.mjs'))});` +
    `process.exitCode = await runPhases(${JSON.stringify(phases)}, { cwd: ${JSON.stringify(checkout)} });`
  );
}

function run(...planted: PlantedPhase[]): { code: number | null; lines: string[] } {
  const program = programOf(planted);
  const { status, stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
  return { code: status, lines: stdout.trimEnd().split('\n') };
}

const counting = (passed: number, failed: number): string =>
  `require('node:fs').appendFileSync(process.env.HOLDFAST_COUNTS_FILE, '{"passed":${passed},"failed":${failed}}\\n');`;

describe('the last line', () => {
  const cases: Record<string, [phases: PlantedPhase[], last: string]> = {
    'a check that is not counted is one': [[{ name: 'lint', script: '' }], '1 passed, 0 failed'],
    'a failed check is one as well': [[{ name: 'lint', script: 'process.exit(3)' }], '0 passed, 1 failed'],
    'counts of all runners in a phase are summed': [
      [{ name: 'test', script: counting(5, 0) + counting(2, 0), counted: true }],
      '7 passed, 0 failed',
    ],
    'counts are read from a summary line': [
      [{ name: 'sim', script: "console.log('300 passed, 2 failed'); process.exit(1)", counted: true }],
      '300 passed, 2 failed',
    ],
    'counts are read from a line of JSON': [
      [{ name: 'sim', script: `console.log('{"seeds":[1],"passed":30,"failed":0}')`, counted: true }],
      '30 passed, 0 failed',
    ],
    'an exit code is a failure even if no test failed': [
      [{ name: 'test', script: `${counting(5, 0)} process.exit(1)`, counted: true }],
      '5 passed, 1 failed',
    ],
    'a phase that ran no test has failed': [
      [{ name: 'test', script: counting(0, 0), counted: true }],
      '0 passed, 1 failed',
    ],
    'a phase that says nothing of its tests has failed': [
      [{ name: 'test', script: "console.log('fine')", counted: true }],
      '0 passed, 1 failed',
    ],
    'a phase that is killed has failed': [
      [{ name: 'test', script: `${counting(5, 0)} process.kill(process.pid, 'SIGKILL')`, counted: true }],
      '5 passed, 1 failed',
    ],
    'a phase that hangs is killed and has failed': [
      [{ name: 'test', script: 'setInterval(() => {}, 1e6)', counted: true, minutesMax: 0.005 }],
      '0 passed, 1 failed',
    ],
    'phases go on after a failure, and all are summed': [
      [
        { name: 'lint', script: 'process.exit(1)' },
        { name: 'test', script: counting(10, 0), counted: true },
        { name: 'types', script: '' },
      ],
      '11 passed, 1 failed',
    ],
  };
  it.each(Object.entries(cases))('%s', (_, [phases, last]) => {
    const { code, lines } = run(...phases);
    expect(lines.at(-1)).toBe(last);
    expect(code).toBe(last.endsWith(' 0 failed') ? 0 : 1);
  });

  it('is the only one of its form', () => {
    const { lines } = run({ name: 'sim', script: "console.log('300 passed, 0 failed')", counted: true });
    expect(lines.filter((line) => /^\d+ passed, \d+ failed$/.test(line))).toEqual(['300 passed, 0 failed']);
    expect(lines).toContain('sim: 300 have passed and 0 failed');
  });

  it('comes although a phase leaves a process behind that holds its output open', () => {
    const script =
      "const left = require('node:child_process').spawn('sleep', ['600'], { stdio: 'inherit' }); left.unref();";
    expect(run({ name: 'lint', script }).lines.at(-1)).toBe('1 passed, 0 failed');
  });
});

it('a run without any phase has shown nothing', () => {
  expect(run().code).toBe(1);
});

describe('a phase that starts with an earlier one', () => {
  it('runs beside it, and is waited for and shown at its own place', () => {
    const directory = mkdtempSync(join(tmpdir(), 'holdfast-phases-'));
    try {
      const mark = JSON.stringify(join(directory, 'mark'));
      const { code, lines } = run(
        {
          name: 'test',
          // Ends well only when the other one has run meanwhile.
          script: `const { existsSync } = require('node:fs'); const end = Date.now() + 20000;
            while (!existsSync(${mark})) if (Date.now() > end) process.exit(1);
            console.log('test is done')`,
        },
        { name: 'lint', script: "console.log('lint is done')" },
        {
          name: 'servers',
          script: `console.log('servers are done'); require('node:fs').writeFileSync(${mark}, '')`,
          startsWith: 'test',
        },
      );
      expect(code).toBe(0);
      const places = ['test is done', 'lint is done', '==== servers:', 'servers are done', '==== phases'];
      const at = places.map((place) => lines.findIndex((line) => line.startsWith(place)));
      expect(at).toEqual(at.toSorted((a, b) => a - b));
      expect(at).not.toContain(-1);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it.skipIf(process.platform !== 'linux')('ends with it when the run is interrupted', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'holdfast-phases-'));
    const names = ['test', 'servers'];
    const telling = (name: string): string => {
      const file = join(directory, name);
      return `const fs = require('node:fs'); fs.writeFileSync('${file}.new', String(process.pid));
        fs.renameSync('${file}.new', '${file}'); setInterval(() => {}, 1e6)`;
    };
    const program = programOf([
      { name: 'test', script: telling('test') },
      { name: 'servers', script: telling('servers'), startsWith: 'test' },
    ]);
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: 'ignore' });
    let pids: number[] = [];
    const lives = (pid: number): boolean => {
      const stat = `/proc/${pid}/stat`;
      return existsSync(stat) && !/\) [ZX] /.test(readFileSync(stat, 'latin1'));
    };
    try {
      const ended = once(child, 'exit');
      await vi.waitUntil(() => names.every((name) => existsSync(join(directory, name))), { timeout: 30_000 });
      pids = names.map((name) => Number(readFileSync(join(directory, name), 'utf8')));
      child.kill('SIGTERM');
      expect(await ended).toEqual([143, null]);
      await vi.waitUntil(() => !pids.some(lives), { timeout: 10_000 });
    } finally {
      child.kill('SIGKILL');
      for (const pid of pids.filter(lives)) process.kill(pid, 'SIGKILL');
      rmSync(directory, { recursive: true });
    }
  });

  it('runs at its own place when the other one is not wanted, and fails like any other', () => {
    const { code, lines } = run({ name: 'servers', script: 'process.exit(3)', startsWith: 'test' });
    expect(code).toBe(1);
    expect(lines.at(-1)).toBe('0 passed, 1 failed');
  });
});
