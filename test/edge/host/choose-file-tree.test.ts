import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
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
