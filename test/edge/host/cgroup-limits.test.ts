import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { cgroupLimits } from '../../../src/edge/host/cgroup-limits.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'holdfast-cgroup-'));
});
afterEach(() => rmSync(root, { recursive: true }));

function write(files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), `${text}\n`);
  }
}

test.each([
  [
    { 'cpu.max': '50000 100000', 'memory.max': '268435456' },
    { cpus: 0.5, memoryBytes: 268_435_456 },
  ],
  [
    { 'cpu.max': 'max 100000', 'memory.max': 'max' },
    { cpus: undefined, memoryBytes: undefined },
  ],
  [
    {
      'cpu/cpu.cfs_quota_us': '200000',
      'cpu/cpu.cfs_period_us': '100000',
      'memory/memory.limit_in_bytes': '134217728',
    },
    { cpus: 2, memoryBytes: 134_217_728 },
  ],
  [
    {
      'cpu/cpu.cfs_quota_us': '-1',
      'cpu/cpu.cfs_period_us': '100000',
      'memory/memory.limit_in_bytes': '9223372036854771712',
    },
    { cpus: undefined, memoryBytes: undefined },
  ],
  [{}, { cpus: undefined, memoryBytes: undefined }],
])('the limits of %j', (files, limits) => {
  write(files as Readonly<Record<string, string>>);
  expect(cgroupLimits(root)).toEqual(limits);
});

test('being nice holds for this thread and those that come: processors later, disks last', () => {
  const program = `
    import { beNice } from ${JSON.stringify(new URL('../../../src/edge/host/be-nice.ts', import.meta.url).pathname)};
    import { getPriority } from 'node:os';
    beNice();
    console.log(getPriority(), process.pid);`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
  expect(stderr).toBe('');
  expect(stdout.split(' ')[0]).toBe('15');
});
