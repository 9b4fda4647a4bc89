import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createNativeRangeLocks, type NativeRangeLocks } from '../../../src/edge/host/native-range-locks.ts';
import type { Descriptor } from '../../../src/engine/ports/file-tree.ts';
import { SqliteProcess } from '../../support/sqlite-process.ts';

const reserved = 0x4000_0001;
const sharedFirst = 0x4000_0002;

let folder: string;
const open: number[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-locks-'));
});
afterEach(() => {
  for (const descriptor of open.splice(0)) closeSync(descriptor);
  rmSync(folder, { recursive: true });
});

function reading(path: string): Descriptor {
  const descriptor = openSync(path, 'r');
  open.push(descriptor);
  return descriptor as Descriptor;
}

describe.runIf(process.platform === 'linux')('range locks by the kernel', () => {
  const locks = createNativeRangeLocks() as NativeRangeLocks;

  test('see and respect the locks of another process', async () => {
    const path = join(folder, 'app.db');
    await using sqlite = new SqliteProcess(path);
    await sqlite.run('CREATE TABLE t (a)');
    const file = reading(path);
    expect(locks.isExclusive(file, reserved, 1)).toBe(false);
    await sqlite.run('BEGIN IMMEDIATE');
    expect(locks.isExclusive(file, reserved, 1)).toBe(true);
    expect(locks.share(file, reserved, 1)).toBe(false);
    // Its own SHARED lock is in nobody's way.
    expect(locks.isExclusive(file, sharedFirst, 510)).toBe(false);
    await sqlite.run('COMMIT');
    expect(locks.share(file, reserved, 1)).toBe(true);
    await expect(sqlite.run('BEGIN IMMEDIATE')).rejects.toThrow('locked');
    locks.release(file, reserved, 1);
    await sqlite.run('BEGIN IMMEDIATE');
  });

  test('stay until their own descriptor is closed, whatever others of the file are', async () => {
    const path = join(folder, 'app.db');
    await using sqlite = new SqliteProcess(path);
    await sqlite.run('CREATE TABLE t (a)');
    const file = openSync(path, 'r');
    expect(locks.share(file as Descriptor, reserved, 1)).toBe(true);
    closeSync(openSync(path, 'r'));
    await expect(sqlite.run('BEGIN IMMEDIATE')).rejects.toThrow('locked');
    closeSync(file);
    await sqlite.run('BEGIN IMMEDIATE');
  });

  test('fail with an error of the file tree', () => {
    writeFileSync(join(folder, 'file'), '');
    const file = openSync(join(folder, 'file'), 'r');
    closeSync(file);
    const call = expect.objectContaining({ name: 'FileTreeError', errno: 'EBADF' });
    expect(() => locks.share(file as Descriptor, 0, 1)).toThrow(call);
    expect(() => locks.isExclusive(file as Descriptor, 0, 1)).toThrow(call);
    expect(() => locks.release(file as Descriptor, 0, 1)).toThrow(call);
  });
});
