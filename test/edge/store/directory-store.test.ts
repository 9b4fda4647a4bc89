import { spawn } from 'node:child_process';
import {
  link,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type DirectoryWriter,
  openDirectoryReader,
  openDirectorySweeper,
  openDirectoryWriter,
} from '../../../src/edge/store/directory-store.ts';
import { newTempName, type TempOwner, tempOwner } from '../../../src/edge/store/temp-names.ts';

const dayMs = 24 * 60 * 60 * 1000;
const text = (content: string): Uint8Array => new TextEncoder().encode(content);

let parent: string;
let root: string;
let writer: DirectoryWriter;

beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'holdfast-directory-'));
  root = join(parent, 'store');
  writer = await openDirectoryWriter(root, { create: true });
});
afterEach(async () => {
  await writer.close();
  await rm(parent, { recursive: true });
});

const temps = (): Promise<string[]> => readdir(join(root, 'tmp'));

describe('opening', () => {
  test('a missing store is an error for every power, and is not made', async () => {
    const missing = join(parent, 'missing', 'store');
    for (const open of [openDirectoryReader, openDirectoryWriter, openDirectorySweeper]) {
      await expect(open(missing)).rejects.toMatchObject({ code: 'E_STORE_UNREACHABLE', details: { store: missing } });
    }
    expect(await readdir(parent)).toEqual(['store']);
  });

  test('a file in place of the store is an error', async () => {
    await writeFile(join(parent, 'file'), '');
    await expect(openDirectoryWriter(join(parent, 'file'))).rejects.toMatchObject({ code: 'E_STORE_UNREACHABLE' });
    await expect(openDirectoryWriter(join(parent, 'file', 'below'))).rejects.toMatchObject({
      code: 'E_STORE_UNREACHABLE',
    });
  });

  test('makes a new store with its parents when asked, for its owner alone', async () => {
    const made = join(parent, 'a', 'b', 'store');
    await using store = await openDirectoryWriter(made, { create: true });
    await store.create('v1/l/x', text('x'));
    await store.create('v1/l/y', text('y'));
    for (const directory of ['a', 'a/b', 'a/b/store', 'a/b/store/tmp', 'a/b/store/v1', 'a/b/store/v1/l']) {
      expect((await lstat(join(parent, directory))).mode & 0o7777).toBe(0o700);
    }
    for (const key of ['v1/l/x', 'v1/l/y']) expect((await lstat(join(made, key))).mode & 0o7777).toBe(0o600);
  });

  test('a reader cannot write, and nobody but a sweeper can delete', async () => {
    await using reader = await openDirectoryReader(root);
    await using sweeper = await openDirectorySweeper(root);
    for (const power of ['create', 'beginUpload', 'delete']) expect(power in reader).toBe(false);
    expect('delete' in writer).toBe(false);
    expect('create' in sweeper).toBe(false);
  });
});

describe('a store that vanishes', () => {
  beforeEach(async () => {
    await writer.create('v1/repo', text('repository'));
  });

  const requests = (): readonly (() => Promise<unknown>)[] => [
    () => writer.get('v1/repo', { bytesMax: 100 }),
    () => writer.stat('v1/repo'),
    () => writer.list('v1/'),
    () => writer.list('v1/l/'),
    () => writer.getRange('v1/repo', 0, 1),
    () => writer.create('v1/new', text('x')),
    () => writer.beginUpload('v1/new'),
  ];

  test('is unreachable, not empty', async () => {
    await rename(root, `${root}-gone`);
    for (const request of requests()) await expect(request()).rejects.toMatchObject({ code: 'E_STORE_UNREACHABLE' });
    expect(await readdir(parent)).toEqual(['store-gone']);
    await rename(`${root}-gone`, root);
    expect(await writer.get('v1/repo', { bytesMax: 100 })).toEqual(text('repository'));
  });

  test('is unreachable also when it leaves an empty directory behind, as an unmounted file system does', async () => {
    await rename(root, `${root}-gone`);
    await mkdir(root);
    for (const request of requests()) await expect(request()).rejects.toMatchObject({ code: 'E_STORE_UNREACHABLE' });
    expect(await readdir(root)).toEqual([]);
  });

  test('a directory that is not there yet is merely empty', async () => {
    expect(await writer.list('v1/l/ab/')).toEqual([]);
    expect(await writer.get('v2/repo', { bytesMax: 100 })).toBeUndefined();
  });
});

describe('unfinished objects', () => {
  test('lie outside of what can be listed, and are gone afterwards', async () => {
    const upload = await writer.beginUpload('v1/a');
    await upload.append(text('x'));
    expect(await temps()).toHaveLength(1);
    expect(await writer.list('v1/')).toEqual([]);
    await upload.commit();
    expect(await temps()).toEqual([]);

    await (await writer.beginUpload('v1/b')).abort();
    await writer.create('v1/a', text('exists already'));
    await expect(writer.create('v1/a/b', text('blocked'))).rejects.toMatchObject({ code: 'E_DAMAGED' });
    const given = new AbortController();
    const aborted = await writer.beginUpload('v1/c', { signal: given.signal });
    given.abort();
    await expect(aborted.commit()).rejects.toMatchObject({ code: 'E_ABORTED' });
    expect(await temps()).toEqual([]);
  });

  const plant = async (owner: TempOwner, ageMs: number, suffix = ''): Promise<string> => {
    await mkdir(join(root, 'tmp'), { recursive: true });
    const name = `${newTempName(owner)}${suffix}`;
    const path = join(root, 'tmp', name);
    await writeFile(path, 'left over');
    const time = new Date(Date.now() - ageMs);
    await utimes(path, time, time);
    return name;
  };

  test('of processes that have ended are removed by the next writer, those that may live stay', async () => {
    const own = tempOwner();
    const ended = spawn('true');
    await new Promise((resolve) => ended.on('exit', resolve));
    const kept = [
      await plant(own, 0),
      await plant(
        { ...own, pid: process.ppid, start: startOf(await readFile(`/proc/${process.ppid}/stat`, 'latin1')) },
        0,
      ),
      // Nobody can tell from here whether a process of another machine or another container lives.
      await plant({ host: '0'.repeat(16), pid: ended.pid!, start: '1' }, dayMs / 2),
      await plant(own, 0, '.other'),
    ];
    const removed = [
      await plant({ ...own, pid: ended.pid!, start: '1' }, 0),
      await plant({ ...own, pid: ended.pid!, start: '1' }, 0, '.probe'),
      // The same pid, given to another process since.
      await plant({ ...own, start: 'abc' }, 0),
      await plant({ host: '0'.repeat(16), pid: 1, start: '1' }, 1.1 * dayMs),
    ];
    await using next = await openDirectoryWriter(root);
    await next.create('v1/a', text('x'));
    expect((await temps()).sort()).toEqual(kept.sort());
    expect(removed).toHaveLength(4);
  });

  test('are judged once by a writer, before its first object', async () => {
    await writer.create('v1/a', text('x'));
    const late = await plant({ host: '0'.repeat(16), pid: 1, start: '1' }, 2 * dayMs);
    await writer.create('v1/b', text('x'));
    expect(await temps()).toEqual([late]);
  });
});

test('a link whose reply was lost counts as made: the object is our own file', async () => {
  const upload = await writer.beginUpload('v1/a');
  await upload.append(text('mine'));
  const [temp] = await temps();
  await mkdir(join(root, 'v1'));
  await link(join(root, 'tmp', temp!), join(root, 'v1/a'));
  expect(await upload.commit()).toBe('created');
  expect(await temps()).toEqual([]);
  expect(await writer.get('v1/a', { bytesMax: 10 })).toEqual(text('mine'));
});

test('an upload whose unfinished file somebody removed fails, and nothing appears', async () => {
  const upload = await writer.beginUpload('v1/a');
  await upload.append(text('x'));
  for (const temp of await temps()) await unlink(join(root, 'tmp', temp));
  await expect(upload.commit()).rejects.toMatchObject({ code: 'E_STORE_IO' });
  expect(await writer.list('v1/')).toEqual([]);
});

test('a signal that fires while the object is being synced still ends the commit, and nothing appears', async () => {
  const controller = new AbortController();
  const upload = await writer.beginUpload('v1/a', { signal: controller.signal });
  await upload.append(text('x'));
  const committed = upload.commit();
  controller.abort();
  await expect(committed).rejects.toMatchObject({ code: 'E_ABORTED' });
  expect(await writer.list('v1/')).toEqual([]);
  expect(await temps()).toEqual([]);
});

test('append resolves when its bytes are in the file: what waits in memory is what the caller holds', async () => {
  const upload = await writer.beginUpload('v1/a');
  for (let parts = 1; parts <= 5; parts += 1) {
    await upload.append(new Uint8Array(3_000_000));
    const [temp] = await temps();
    expect((await lstat(join(root, 'tmp', temp!))).size).toBe(parts * 3_000_000);
  }
  await upload.abort();
});

describe('things in the store that are no objects', () => {
  test('are not listed', async () => {
    await writer.create('v1/a/object', text('x'));
    await writeFile(join(root, 'v1/a/.nfs 0001'), 'a name that no key has');
    await writeFile(join(root, 'v1/a/größe'), 'nor this');
    await symlink('object', join(root, 'v1/a/link'));
    await symlink('/', join(root, 'v1/root'));
    await makeFifo(join(root, 'v1/a/pipe'));
    expect((await writer.list('v1/')).map(({ key }) => key)).toEqual(['v1/a/object']);
  });

  test('are damage when they stand at the key of an object, and nothing waits for them', async () => {
    await writer.create('v1/a', text('x'));
    await symlink('a', join(root, 'v1/link'));
    await symlink('nowhere', join(root, 'v1/dangling'));
    await makeFifo(join(root, 'v1/pipe'));
    const server = createServer().listen(join(root, 'v1/socket'));
    await new Promise((resolve) => server.on('listening', resolve));
    try {
      for (const key of ['v1/link', 'v1/dangling', 'v1/pipe', 'v1/socket']) {
        await expect(writer.get(key, { bytesMax: 10 })).rejects.toMatchObject({ code: 'E_DAMAGED', details: { key } });
        await expect(writer.getRange(key, 0, 1)).rejects.toMatchObject({ code: 'E_DAMAGED' });
        await expect(writer.stat(key)).rejects.toMatchObject({ code: 'E_DAMAGED' });
        await expect(writer.create(key, text('x'))).rejects.toMatchObject({ code: 'E_DAMAGED' });
      }
    } finally {
      server.close();
    }
    expect(await readlink(join(root, 'v1/dangling'))).toBe('nowhere');
  });
});

test('an object that was cut short is damage, also while it is held open', async () => {
  await writer.create('v1/a', new Uint8Array(1000));
  await writer.getRange('v1/a', 900, 100);
  await writeFile(join(root, 'v1/a'), 'short');
  await expect(writer.getRange('v1/a', 900, 100)).rejects.toMatchObject({
    code: 'E_DAMAGED',
    details: { key: 'v1/a', bytes: 900 },
  });
});

test.skipIf(process.platform !== 'linux')('few descriptors stay open for ranged reads, none after close', async () => {
  const open = async (): Promise<number> => {
    const links = await Promise.all(
      (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
    );
    return links.filter((path) => path.startsWith(root)).length;
  };
  const keys = Array.from({ length: 60 }, (_, at) => `v1/p/${at}`);
  await Promise.all(keys.map((key) => writer.create(key, text(key))));
  expect(await open()).toBe(0);
  for (const key of keys) await writer.getRange(key, 0, 1);
  expect(await open()).toBe(16);
  await Promise.all(keys.map((key) => writer.getRange(key, 0, 1)));
  expect(await open()).toBe(16);
  await writer.list('v1/');
  await writer.get('v1/p/1', { bytesMax: 100 });
  expect(await open()).toBe(16);
  await writer.close();
  expect(await open()).toBe(0);
  await expect(writer.getRange('v1/p/1', 0, 1)).rejects.toMatchObject({ code: 'E_INTERNAL' });
});

/** Start time of a process from its line in /proc. */
function startOf(stat: string): string {
  return BigInt(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]!).toString(16);
}

async function makeFifo(path: string): Promise<void> {
  const made = spawn('mkfifo', [path]);
  expect(await new Promise((resolve) => made.on('exit', resolve))).toBe(0);
}
