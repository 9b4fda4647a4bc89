import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { canMount, canTrace, lacking, withFaults, withMounts } from '../store/child-process.ts';

let place: string;

beforeEach(() => {
  place = mkdtempSync(join(tmpdir(), 'holdfast-choose-'));
});
afterEach(() => rmSync(place, { recursive: true }));

const module = fileURLToPath(new URL('../../../src/edge/host/choose-file-tree.ts', import.meta.url));
const program = `
  import { chooseFileTree } from ${JSON.stringify(module)};
  const { name, why } = chooseFileTree({ temporary: process.argv[1] });
  console.log(JSON.stringify({ name, why }));`;

function choiceUnder(under: readonly string[]): unknown {
  const [command = '', ...args] = [...under, process.execPath, '--input-type=module', '--eval', program, place];
  return JSON.parse(execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
}

test.skipIf(lacking(canMount))('a place for temporary files without room does not cost the system calls', () => {
  for (const inodes of [1, 2, 3]) {
    const mount = `mount -t tmpfs -o size=64k,nr_inodes=${inodes} tmpfs "$store"`;
    expect(choiceUnder(withMounts(place, mount)), `${inodes} inodes`).toEqual({ name: 'native' });
  }
  expect(choiceUnder(withMounts(place, 'mount -t tmpfs -o ro tmpfs "$store"'))).toEqual({ name: 'native' });
});

test.skipIf(lacking(canTrace))('nor does a disk that fails in the trial, or a leftover of it', () => {
  for (const fault of [
    'linkat:error=EIO:when=1',
    'pwrite64:error=ENOSPC:when=1',
    'unlink:error=EIO',
    'rmdir:error=EBUSY',
  ]) {
    expect(choiceUnder(withFaults(fault).under ?? []), fault).toEqual({ name: 'native' });
  }
});

test.skipIf(lacking(canTrace))('calls that the machine does not have do', () => {
  for (const fault of ['linkat:error=ENOSYS', 'utimensat:error=EPERM']) {
    expect(choiceUnder(withFaults(fault).under ?? []), fault).toMatchObject({ name: 'node', why: expect.anything() });
  }
});

test.skipIf(process.platform !== 'linux')('takes away what trials of killed processes left, and nothing else', () => {
  const old = new Date(Date.now() - 3_600_000);
  const directory = (name: string, { files = [] as string[], mode = 0o700, age = old } = {}): void => {
    const path = join(place, `holdfast-probe-${name}`);
    mkdirSync(path, { mode });
    for (const file of files) writeFileSync(join(path, file), '');
    utimesSync(path, age, age);
  };
  directory('empty');
  directory('killed', { files: ['probe'] });
  directory('running', { files: ['probe'], age: new Date() });
  directory('others', { files: ['probe', 'other'] });
  directory('shared', { mode: 0o755 });
  mkdirSync(join(place, 'elsewhere'), { mode: 0o700 });
  utimesSync(join(place, 'elsewhere'), old, old);
  symlinkSync('elsewhere', join(place, 'holdfast-probe-link'));
  expect(choiceUnder([])).toEqual({ name: 'native' });
  const left = ['elsewhere', ...['link', 'others', 'running', 'shared'].map((name) => `holdfast-probe-${name}`)];
  expect(readdirSync(place).sort()).toEqual(left);
});
