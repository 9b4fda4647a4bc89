import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Command, CommandFailed, runMeasured } from '../../bench/measure.ts';

let directory: string;
let outputPath: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'holdfast-measure-'));
  outputPath = join(directory, 'output');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function shell(script: string, env: Record<string, string> = {}): Command {
  return {
    argv: ['bash', '-c', script],
    cwd: directory,
    env: { PATH: process.env['PATH'] ?? '', NODE: process.execPath, ...env },
  };
}

it('sees the memory and the CPU time of grandchildren, added up', async () => {
  const script = `
    const block = Buffer.alloc(120 << 20, 1);
    // By CPU time and by the clock: on a busy machine the two children still overlap, and still have used what is expected.
    const end = performance.now() + 1500;
    while (performance.now() < end || process.cpuUsage().user < 400_000) block[0] += 1;
  `;
  const measured = await runMeasured(shell('"$NODE" -e "$SCRIPT" & "$NODE" -e "$SCRIPT"; wait', { SCRIPT: script }), {
    outputPath,
  });
  expect(measured.peakBytes).toBeGreaterThan(2 * (120 << 20));
  expect(measured.peakBytes).toBeLessThan(800 * 2 ** 20);
  expect(measured.cpuSeconds).toBeGreaterThan(0.5);
  expect(measured.wallSeconds).toBeGreaterThan(0.5);
});

it('counts each run for itself', async () => {
  await runMeasured(shell('for ((i = 0; i < 200000; i++)); do :; done'), { outputPath });
  const idle = await runMeasured(shell('read -t 0.3 < <(sleep 1); true'), { outputPath });
  expect(idle.cpuSeconds).toBeLessThan(0.2);
  expect(idle.wallSeconds).toBeGreaterThan(0.25);
});

it('counts what others use meanwhile apart', async () => {
  const end = Date.now() + 600;
  const run = runMeasured(shell('read -t 0.6 < <(sleep 1); true'), { outputPath });
  // This process is one of the others; it yields to its timers so that the run can be seen to end.
  while (Date.now() < end) await new Promise((resolve) => setImmediate(resolve));
  const { otherCpuSeconds, cpuSeconds } = await run;
  expect(otherCpuSeconds).toBeGreaterThan(0.3);
  expect(cpuSeconds).toBeLessThan(0.2);
});

it('reports a status other than 0 with the end of the output', async () => {
  const run = runMeasured(shell('echo spoiled >&2; exit 7'), { outputPath });
  await expect(run).rejects.toThrow(CommandFailed);
  await expect(run).rejects.toMatchObject({ status: 7, message: expect.stringContaining('spoiled') });
});

it('gives the program only the environment of the command', async () => {
  await runMeasured(shell('env', { ONLY: 'this' }), { outputPath });
  const names = readFileSync(outputPath, 'utf8').match(/^\w+(?==)/gm);
  expect(names).toEqual(expect.arrayContaining(['ONLY', 'PATH']));
  expect(names).not.toContain('HOME');
});

it('ends the whole tree when it is interrupted', async () => {
  const interrupted = new AbortController();
  const run = runMeasured(shell('sleep 60 & echo $!; wait'), { outputPath, signal: interrupted.signal });
  await expect.poll(() => readFileSync(outputPath, 'utf8'), { timeout: 10_000 }).toMatch(/\d+\n/);
  const grandchild = Number(readFileSync(outputPath, 'utf8'));
  interrupted.abort(new Error('enough'));
  await expect(run).rejects.toThrow('enough');
  await expect.poll(() => isRunning(grandchild), { timeout: 10_000 }).toBe(false);
});

function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
