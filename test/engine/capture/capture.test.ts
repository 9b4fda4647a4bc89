import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { concatBytes, toHex, utf8Bytes } from '../../../src/engine/model/bytes.ts';
import { HoldfastError } from '../../../src/engine/model/errors.ts';
import { ManualClock, Pod, seededRandom } from '../../support/capture-fixture.ts';
import { MemoryCache } from '../../support/memory-cache.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';

function noise(bytes: number, seed: string): Uint8Array {
  return seededRandom(seed).bytes(bytes);
}

async function onDisk(options: { readonly type?: string } = {}): Promise<{
  clock: ManualClock;
  disk: MemoryFileSystem;
  files: MemoryFileTree;
  pod: Pod;
  store: MemoryStore;
}> {
  const clock = new ManualClock();
  const disk = new MemoryFileSystem({ clock, ...options });
  const files = new MemoryFileTree(disk);
  const store = new MemoryStore();
  const pod = await Pod.start({ files, clock, store });
  disk.writeFile('a.txt', 'alpha');
  disk.mkdir('logs');
  disk.writeFile('logs/1.log', 'first line\n');
  disk.writeFile('big.bin', noise(700_000, 'big'));
  disk.symlink('link', 'a.txt');
  disk.fifo('pipe');
  disk.mkdir('empty');
  clock.ms += 60_000;
  return { clock, disk, files, pod, store };
}

/** The root that a reader without any history gives to what is on the disk now. */
async function freshRoot(
  pod: Pod,
  disk: MemoryFileSystem,
  settings: Parameters<Pod['capture']>[0] = {},
): Promise<string> {
  const other = await Pod.start({
    files: new MemoryFileTree(disk),
    clock: pod.clock,
    store: new MemoryStore(),
    access: pod.access,
    holder: 'fresh',
    cache: undefined,
  });
  return toHex((await other.capture(settings)).root);
}

describe('a checkpoint', () => {
  test('of an unchanged volume reads no content and has the same root', async () => {
    const { clock, files, pod } = await onDisk();
    const first = await pod.capture();
    expect(first.consistency).toBe('converged');
    clock.ms += 60_000;
    const opened = files.callCount('openFile');
    const second = await pod.capture();
    expect(files.callCount('openFile')).toBe(opened);
    expect(second.root).toEqual(first.root);
    expect(second.newBytes).toBe(0);
    expect(second.volumes[0]?.scan).toBe('cached');
    expect(files.openDescriptors).toEqual([]);
  });

  test('compresses one file with another, unless it is isolated', async () => {
    const secret = noise(200_000, 'secret').subarray(0, 10_000);
    const stored = async (isolated: boolean): Promise<number> => {
      const { disk, pod } = await onDisk();
      disk.writeFile('secret', secret);
      // No chunk is equal, and nearly all of it is.
      disk.writeFile('theirs', concatBytes([utf8Bytes('guess'), secret]));
      const { root, storedBytes } = await pod.capture({ isolated });
      expect(toHex(root)).toBe(await freshRoot(pod, disk));
      return storedBytes;
    };
    expect(await stored(true)).toBeGreaterThan((await stored(false)) + 9000);
  });

  test('with few new bytes is one request, with more it is two', async () => {
    const { clock, disk, pod } = await onDisk();
    await pod.capture();
    clock.ms += 60_000;
    disk.writeFile('a.txt', 'beta');
    clock.ms += 60_000;
    let before = pod.traffic.requests;
    await pod.capture();
    const small = pod.traffic.requests;
    expect(small.create - before.create).toBe(1);
    expect(small.upload - before.upload).toBe(0);
    expect(small.list - before.list).toBe(0);
    disk.writeFile('big.bin', noise(900_000, 'other'));
    clock.ms += 60_000;
    before = pod.traffic.requests;
    await pod.capture();
    expect(pod.traffic.requests.create - before.create).toBe(1);
    expect(pod.traffic.requests.upload - before.upload).toBe(1);
    expect(pod.traffic.requests.list - before.list).toBe(0);
  });

  test('after edits has the root of a fresh capture of the same volume', async () => {
    const { clock, disk, pod } = await onDisk();
    await pod.capture();
    clock.ms += 60_000;
    disk.writeFile('a.txt', 'beta');
    disk.remove('logs/1.log');
    disk.writeFile('logs/2.log', 'second');
    disk.rename('empty', 'full');
    disk.writeFile('full/x', 'x');
    disk.remove('link');
    disk.mkdir('link');
    clock.ms += 60_000;
    const edited = await pod.capture();
    expect(edited.consistency).toBe('converged');
    expect(toHex(edited.root)).toBe(await freshRoot(pod, disk));
  });

  test('does not need its scan cache to be right, only to be quick', async () => {
    const { clock, disk, pod } = await onDisk();
    await pod.capture();
    disk.writeFile('a.txt', 'beta');
    disk.remove('logs/1.log');
    disk.remove('logs');
    clock.ms += 60_000;
    pod.cache = new MemoryCache();
    const stored = await pod.capture();
    expect(stored.volumes[0]?.scan).toBe('full');
    expect(toHex(stored.root)).toBe(await freshRoot(pod, disk));
    expect(stored.newBytes).toBeLessThan(1000);
  });

  test('of a large file with one edit stores the edit, not the file', async () => {
    const { clock, disk, pod } = await onDisk();
    disk.writeFile('large', noise(6_000_000, 'large'));
    clock.ms += 60_000;
    await pod.capture();
    disk.writeAt('large', 3_000_000, 'edited');
    clock.ms += 60_000;
    const edited = await pod.capture();
    expect(edited.newBytes).toBeGreaterThan(0);
    expect(edited.newBytes).toBeLessThan(400_000);
    expect(toHex(edited.root)).toBe(await freshRoot(pod, disk));
  });

  test('dry run stores nothing and gives the same root', async () => {
    const { pod, store } = await onDisk();
    await pod.writer();
    const before = store.snapshot().size;
    const dry = await pod.capture({ dryRun: true });
    expect(store.snapshot().size).toBe(before);
    const real = await pod.capture();
    expect(dry.root).toEqual(real.root);
  });

  test('makes no more passes over what is large and moves all over, unless it is the last or the application holds still', async () => {
    const { clock, disk, files, pod } = await onDisk();
    disk.writeFile('large', new Uint8Array(66 * 1024 * 1024).fill(7));
    let written = 0;
    let held = false;
    const move = (all: boolean): void => {
      files.beforeCall = ({ operation, path }) => {
        if (held || !path.endsWith('large')) return;
        clock.ms += 20;
        if (operation === 'openFile' && all) disk.writeAt('large', 4096, randomBytes(20 * 1024 * 1024));
        if (operation === 'read') disk.writeAt('large', 0, `${written++}`);
      };
    };
    move(true);
    expect(await pod.capture({ extraPassesMax: 2 })).toMatchObject({ consistency: 'fuzzy', passes: 2 });
    expect(await pod.capture({ extraPassesMax: 2, final: true })).toMatchObject({ consistency: 'fuzzy', passes: 3 });
    // What is large and moves in one place: read in each pass, as all is on tmpfs, and hardly any of it new.
    move(false);
    expect(await pod.capture({ extraPassesMax: 2 })).toMatchObject({ consistency: 'fuzzy', passes: 3 });
    move(true);
    const application = {
      pause: async () => {
        disk.writeAt('large', 4096, randomBytes(20 * 1024 * 1024));
        clock.ms += 1000;
        held = true;
        return true;
      },
      resume: async () => undefined,
    };
    disk.writeAt('large', 0, 'changed');
    clock.ms += 1000;
    expect(await pod.capture({ application })).toMatchObject({ consistency: 'quiesced', passes: 3 });
  });

  test('is fuzzy and names the files that never hold still', async () => {
    const { clock, disk, files, pod } = await onDisk();
    let written = 0;
    files.beforeCall = (call) => {
      if (call.operation === 'read' && call.path.endsWith('1.log')) {
        clock.ms += 20;
        disk.writeAt('logs/1.log', 0, `line ${written++}\n`);
      }
    };
    const outcome = await pod.capture();
    expect(outcome.consistency).toBe('fuzzy');
    expect(outcome.volumes[0]?.fuzzyNames).toContain('logs/1.log');
    files.beforeCall = undefined;
    clock.ms += 60_000;
    const calm = await pod.capture();
    expect(calm.consistency).toBe('converged');
    expect(toHex(calm.root)).toBe(await freshRoot(pod, disk));
  });

  test('begins no further pass once its time is over', async () => {
    const { clock, disk, files, pod } = await onDisk();
    let reads = 0;
    files.beforeCall = (call) => {
      if (call.operation !== 'read' || !call.path.endsWith('1.log')) return;
      clock.ms += 400;
      disk.writeAt('logs/1.log', 0, `line ${reads++}\n`);
    };
    const inTime = await pod.capture({ extraPassesMax: 1000, convergeMsMax: 0 });
    expect([inTime.consistency, inTime.passes]).toEqual(['fuzzy', 1]);
    const started = clock.ms;
    const late = await pod.capture({ extraPassesMax: 1000, convergeMsMax: 10_000 });
    expect(late.consistency).toBe('fuzzy');
    expect(late.passes).toBeGreaterThan(2);
    expect(late.passes).toBeLessThan(20);
    expect(clock.ms - started).toBeGreaterThan(10_000);
  });

  test('converges in the pass that meets no change', async () => {
    const { clock, disk, files, pod } = await onDisk();
    let edits = 2;
    files.beforeCall = (call) => {
      if (call.operation === 'openDirectory' && edits > 0) {
        edits--;
        clock.ms += 50;
        disk.writeFile('a.txt', `edit ${edits}`);
      }
    };
    const outcome = await pod.capture();
    expect(outcome.consistency).toBe('converged');
    expect(outcome.passes).toBeGreaterThan(1);
    expect(toHex(outcome.root)).toBe(await freshRoot(pod, disk));
  });

  // "An entry whose mtime or ctime is not older than the capture's start by 10 ms stays dirty."
  test('finds an edit that left the stamps of a coarse clock as they were', async () => {
    const { clock, disk, pod } = await onDisk();
    disk.writeFile('a.txt', 'gamma');
    // Late in a tick: the stamps of both edits lie before the capture's start, and are equal.
    clock.ms += 3;
    await pod.capture({ extraPassesMax: 0 });
    disk.writeFile('a.txt', 'delta');
    clock.ms += 60_000;
    const outcome = await pod.capture();
    expect(toHex(outcome.root)).toBe(await freshRoot(pod, disk));
  });

  test('reads everything when its cache is not to be trusted', async () => {
    const { clock, disk, pod } = await onDisk();
    const written = clock.ms;
    disk.writeFile('a.txt', 'gamma');
    clock.ms += 60_000;
    await pod.capture();
    // A clock that was set back: the stamps of another content are those of the first.
    const now = clock.ms;
    clock.ms = written;
    disk.writeFile('a.txt', 'delta');
    clock.ms = now + 60_000;
    const trusted = await pod.capture();
    expect([trusted.volumes[0]?.scan, trusted.newBytes]).toEqual(['cached', 0]);
    const outcome = await pod.capture({ trustCache: false });
    expect(outcome.volumes[0]?.scan).toBe('full');
    expect(toHex(outcome.root)).toBe(await freshRoot(pod, disk));
  });

  // "Stat and events do not see writes through a mapping."
  for (const type of ['ext4', 'tmpfs']) {
    test(`does not miss a write through a mapping on ${type}`, async () => {
      const { clock, disk, pod } = await onDisk({ type });
      disk.writeFile('mapped.db', noise(20_000, 'pages'));
      const mapping = disk.openMapping('mapped.db');
      mapping.write(100, 'dirtied before');
      clock.ms += 60_000;
      await pod.capture();
      clock.ms += 60_000;
      mapping.write(100, 'stored through the mapping');
      clock.ms += 60_000;
      const seen = await pod.capture();
      expect(toHex(seen.root)).toBe(await freshRoot(pod, disk));
      mapping.write(200, 'and once more');
      mapping.close();
      clock.ms += 60_000;
      expect(toHex((await pod.capture()).root)).toBe(await freshRoot(pod, disk));
    });
  }

  test('reads again what may have a writer where flushing fails', async () => {
    const { clock, disk, files, pod } = await onDisk();
    disk.writeFile('mapped.db', noise(20_000, 'pages'));
    const mapping = disk.openMapping('mapped.db');
    mapping.write(100, 'dirtied before');
    clock.ms += 60_000;
    files.flush = () => false;
    expect((await pod.capture()).consistency).toBe('converged');
    clock.ms += 60_000;
    const before = disk.stat('mapped.db');
    mapping.write(100, 'stored into a page that was never flushed');
    expect(disk.stat('mapped.db')).toEqual(before);
    const seen = await pod.capture();
    mapping.close();
    expect(toHex(seen.root)).toBe(await freshRoot(pod, disk));
  });

  test('does not call converged on tmpfs what a mapping changed between its passes', async () => {
    const { clock, disk, files, pod } = await onDisk({ type: 'tmpfs' });
    disk.writeFile('mapped.db', noise(20_000, 'pages'));
    clock.ms += 60_000;
    let lists = 0;
    files.beforeCall = (call) => {
      // The second pass begins: everything was read, and no writer is left to be asked for a lease.
      if (call.operation !== 'list' || call.path !== '' || ++lists !== 2) return;
      const mapping = disk.openMapping('mapped.db');
      mapping.touch(100);
      mapping.write(100, 'written between two passes');
      mapping.close();
    };
    const seen = await pod.capture();
    expect(lists).toBe(3);
    expect(seen.consistency).toBe('converged');
    files.beforeCall = undefined;
    expect(toHex(seen.root)).toBe(await freshRoot(pod, disk));
  });

  // "-shm is written only through a mapping: it is stored as read, marked volatile, and takes no part in convergence."
  test('of a database in use does not wait for its wal-index to hold still', async () => {
    const { clock, disk, files, pod } = await onDisk();
    for (const suffix of ['', '-wal', '-shm']) disk.writeFile(`app.db${suffix}`, `state ${suffix}`);
    disk.writeFile('other-shm', 'an ordinary file');
    clock.ms += 60_000;
    let lists = 0;
    files.beforeCall = (call) => {
      if (call.operation === 'list' && call.path === '') disk.writeFile('app.db-shm', `lock ${++lists}`);
    };
    const first = await pod.capture();
    expect(lists).toBeGreaterThan(1);
    expect(first.consistency).toBe('converged');
    expect(first.volumes[0]?.volatileNames).toEqual(['app.db-shm']);
    files.beforeCall = (call) => {
      if (call.operation === 'list' && call.path === '') disk.writeFile('other-shm', `edit ${++lists}`);
    };
    expect((await pod.capture()).consistency).toBe('fuzzy');
    files.beforeCall = undefined;
    clock.ms += 60_000;
    // The next checkpoint reads the index again.
    expect(toHex((await pod.capture()).root)).toBe(await freshRoot(pod, disk));
  });

  test('reads a wal-index again in the next capture, though nothing of it has changed since', async () => {
    const { clock, disk, files, pod } = await onDisk();
    for (const suffix of ['', '-wal', '-shm']) disk.writeFile(`app.db${suffix}`, `state ${suffix}`);
    disk.writeFile('last', 'x');
    clock.ms += 60_000;
    let written = false;
    files.beforeCall = (call) => {
      // The index has been read; long before the second pass lists it, and never again.
      if (written || call.operation !== 'openFile' || call.path !== 'last') return;
      written = true;
      disk.writeFile('app.db-shm', 'locked since');
      clock.ms += 1000;
    };
    const first = await pod.capture();
    expect([written, first.consistency, first.passes]).toEqual([true, 'converged', 2]);
    clock.ms += 60_000;
    expect(toHex((await pod.capture()).root)).toBe(await freshRoot(pod, disk));
  });

  test('names a wal-index among what is volatile, never among what moved', async () => {
    const { clock, disk, files, pod } = await onDisk();
    disk.writeFile('app.db', 'rows');
    clock.ms += 60_000;
    const open = (): void => {
      for (const suffix of ['-wal', '-shm']) disk.writeFile(`app.db${suffix}`, `opened ${suffix}`);
    };
    const doubted = async (extraPassesMax: number): Promise<object> => {
      const { consistency, volumes } = await pod.capture({ extraPassesMax });
      const { fuzzyNames = [], volatileNames = [] } = volumes[0] ?? {};
      return { consistency, fuzzy: fuzzyNames.filter((name) => name.startsWith('app')), volatile: volatileNames };
    };
    let lists = 0;
    files.beforeCall = (call) => {
      // The database is opened when everything was read once.
      if (call.operation === 'list' && call.path === '' && ++lists === 2) open();
    };
    const opened = { consistency: 'fuzzy', fuzzy: ['app.db-wal'], volatile: ['app.db-shm'] };
    expect(await doubted(1)).toEqual(opened);
    // Written so shortly before that stamps say nothing.
    open();
    expect(await doubted(0)).toEqual(opened);
  });

  test('reads a wal-index again that was something else in between', async () => {
    const { clock, disk, files, pod } = await onDisk();
    for (const suffix of ['', '-wal', '-shm']) disk.writeFile(`app.db${suffix}`, `state ${suffix}`);
    clock.ms += 60_000;
    let lists = 0;
    files.beforeCall = (call) => {
      if (call.operation !== 'list' || call.path !== '' || ++lists > 3 || lists === 1) return;
      disk.remove('app.db-shm');
      if (lists === 2) disk.mkdir('app.db-shm');
      else disk.writeFile('app.db-shm', 'state again');
      clock.ms += 1000;
    };
    const seen = await pod.capture({ extraPassesMax: 6 });
    expect(seen.consistency).toBe('converged');
    expect(toHex(seen.root)).toBe(await freshRoot(pod, disk));
  });

  // "An event on a file with several names re-stats its whole hardlink group."
  test('keeps hardlinks right when the directory of the first name moves', async () => {
    const { clock, disk, pod } = await onDisk();
    disk.mkdir('m');
    disk.mkdir('n');
    disk.writeFile('m/file', 'shared');
    disk.link('m/file', 'n/file');
    clock.ms += 60_000;
    await pod.capture();
    disk.rename('m', 'z');
    clock.ms += 60_000;
    const moved = await pod.capture();
    expect(moved.consistency).toBe('converged');
    expect(toHex(moved.root)).toBe(await freshRoot(pod, disk));
    disk.remove('n/file');
    clock.ms += 60_000;
    expect(toHex((await pod.capture()).root)).toBe(await freshRoot(pod, disk));
  });

  test('names what it could not read, and is incomplete', async () => {
    const { disk, files, pod } = await onDisk();
    disk.mkdir('locked');
    disk.writeFile('locked/in', 'x');
    files.failCall('openFile', 'EACCES', { path: 'a.txt' });
    files.failCall('list', 'EACCES', { path: 'locked' });
    const outcome = await pod.capture({ extraPassesMax: 0 });
    expect(outcome.incomplete).toBe(true);
    const skipped = outcome.volumes[0]?.skipped.find(({ reason }) => reason === 'unreadable');
    expect(skipped?.names).toEqual(expect.arrayContaining(['a.txt', 'locked']));
    expect(files.openDescriptors).toEqual([]);
  });

  test('names a file whose stat fails, also when nothing else changed', async () => {
    const { clock, files, pod } = await onDisk();
    files.failCall('listName', 'EIO', { path: 'a.txt' });
    const first = await pod.capture({ extraPassesMax: 0 });
    expect(first.incomplete).toBe(true);
    clock.ms += 60_000;
    files.failCall('listName', 'EIO', { path: 'a.txt' });
    const second = await pod.capture({ extraPassesMax: 0 });
    expect(second.volumes[0]?.skipped).toEqual([{ reason: 'unreadable', count: 1, names: ['a.txt'] }]);
  });

  test('says that the process has too few descriptors', async () => {
    const { files, pod } = await onDisk();
    files.openFilesMax = 2;
    await expect(pod.capture()).rejects.toMatchObject({ code: 'E_LIMIT' });
    expect(files.openDescriptors).toEqual([]);
  });

  test('counts sockets and devices with a reason and passes over no name', async () => {
    const { clock, disk, pod } = await onDisk();
    disk.socket('sock');
    disk.device('null');
    disk.mkdir('mount', { device: 77n });
    clock.ms += 60_000;
    const outcome = await pod.capture();
    const reasons = outcome.volumes[0]?.skipped.map(({ reason, count }) => `${reason} ${count}`).sort();
    expect(reasons).toEqual(['device 1', 'other-filesystem 1', 'socket 1']);
    expect(outcome.incomplete).toBe(false);
  });

  test('leaves out what is excluded, and takes it in when it no longer is', async () => {
    const { clock, disk, pod } = await onDisk();
    const without = await pod.capture({ exclude: ['*.log', '/big.bin'] });
    expect(without.volumes[0]?.files).toBe(1);
    clock.ms += 60_000;
    const all = await pod.capture();
    expect(toHex(all.root)).toBe(await freshRoot(pod, disk));
    clock.ms += 60_000;
    const again = await pod.capture({ exclude: ['*.log', '/big.bin'] });
    expect(again.root).toEqual(without.root);
  });

  test('that was cut short resumes from its PARTIAL without storing again', async () => {
    const { clock, disk, files, pod } = await onDisk();
    disk.mkdir('parts');
    for (let i = 0; i < 20; i++) disk.writeFile(`parts/${i}`, noise(600_000, `part ${i}`));
    clock.ms += 60_000;
    const abort = new AbortController();
    let reads = 0;
    files.beforeCall = (call) => {
      if (call.operation === 'openFile' && ++reads === 18) abort.abort();
    };
    await expect(pod.capture({ partialBytes: 2_000_000, signal: abort.signal })).rejects.toMatchObject({
      code: 'E_ABORTED',
    });
    files.beforeCall = undefined;
    pod.restart();
    const before = pod.traffic.bytesWritten;
    const resumed = await pod.capture({ partialBytes: 2_000_000 });
    // What is still to come is long too, and anchored as well.
    expect(resumed.partials).toBeGreaterThan(0);
    expect(pod.traffic.bytesWritten - before).toBeLessThan(9_000_000);
    expect(resumed.volumes[0]?.files).toBe(23);
    expect(toHex(resumed.root)).toBe(await freshRoot(pod, disk));
    expect(files.openDescriptors).toEqual([]);
  });

  test('makes durable what a first pass has read while the second looks, and what that finds after it', async () => {
    const { clock, disk, pod, store } = await onDisk();
    const packs = (): number => [...store.snapshot().keys()].filter((key) => key.includes('/pk/')).length;
    let ahead = 0;
    const outcome = await pod.capture({
      inlineBytesMax: 0,
      onProgress: ({ phase }) => {
        if (phase === 'store') ahead = packs();
        // The walk has passed by already.
        if (phase !== 'read' || disk.exists('late')) return;
        disk.writeFile('late', noise(50_000, 'late'));
        clock.ms += 60_000;
      },
    });
    expect(ahead).toBe(1);
    expect(packs()).toBe(2);
    expect(toHex(outcome.root)).toBe(await freshRoot(pod, disk));
  });

  test('leaves nothing open and nothing visible when the store fails', async () => {
    const { disk, files, pod, store } = await onDisk();
    disk.writeFile('more', noise(2_000_000, 'more'));
    await pod.writer();
    const before = [...store.snapshot().keys()];
    const failing = pod.store as { beginUpload: unknown };
    failing.beginUpload = async () => {
      throw new Error('the store is gone');
    };
    await expect(pod.capture()).rejects.toThrow('the store is gone');
    expect([...store.snapshot().keys()]).toEqual(before);
    expect(files.openDescriptors).toEqual([]);
  });

  test('over what was collected meanwhile is fenced when another took the lineage, else damaged', async () => {
    for (const taken of [true, false]) {
      const { clock, disk, files, pod, store } = await onDisk();
      pod.cache = undefined;
      await pod.capture({ inlineBytesMax: 0 });
      const base = [...store.snapshot().keys()].filter((key) => key.includes('/pk/'));
      expect(base.length).toBeGreaterThan(0);
      await (await pod.writer()).seal();
      if (taken) {
        const other = await Pod.start({ files, clock, store, access: pod.access, holder: 'successor' });
        await other.capture({ inlineBytesMax: 0 });
      }
      for (const key of base) await store.delete(key);
      disk.writeFile('logs/2.log', 'changed');
      clock.ms += 60_000;
      await expect(pod.capture()).rejects.toMatchObject({ code: taken ? 'E_FENCED' : 'E_DAMAGED' });
      expect(files.openDescriptors).toEqual([]);
    }
  });

  test('whose upload another has ended is fenced when that took the lineage, else the store has failed', async () => {
    for (const taken of [true, false]) {
      const { clock, disk, files, pod, store } = await onDisk();
      await pod.capture();
      await (await pod.writer()).seal();
      if (taken) {
        const other = await Pod.start({ files, clock, store, access: pod.access, holder: 'successor' });
        await other.capture();
      }
      disk.writeFile('more', noise(2_000_000, 'more'));
      clock.ms += 60_000;
      const failing = pod.store as { beginUpload: unknown };
      failing.beginUpload = async () => {
        throw new HoldfastError('E_STORE_IO', 'no such upload');
      };
      await expect(pod.capture()).rejects.toMatchObject({ code: taken ? 'E_FENCED' : 'E_STORE_IO' });
    }
  });
});
