/** What a capture must say and do when names cannot be read, are left out, or were written a moment ago. */
import { describe, expect, test } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { toHex } from '../../../src/engine/model/bytes.ts';
import { displayPath } from '../../../src/engine/model/rel-path.ts';
import { FileTreeError } from '../../../src/engine/ports/file-tree.ts';
import { scanTree } from '../../../src/engine/tree/tree-reader.ts';
import { ManualClock, Pod, seededRandom } from '../../support/capture-fixture.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';

async function onDisk(options: { readonly privileged?: boolean; readonly type?: string } = {}): Promise<{
  clock: ManualClock;
  disk: MemoryFileSystem;
  files: MemoryFileTree;
  pod: Pod;
}> {
  const clock = new ManualClock();
  const disk = new MemoryFileSystem({ clock, ...options });
  const files = new MemoryFileTree(disk);
  const pod = await Pod.start({ files, clock, store: new MemoryStore() });
  for (const directory of ['a', 'b', 'c']) {
    disk.mkdir(directory);
    disk.writeFile(`${directory}/one`, `${directory} one`);
    disk.writeFile(`${directory}/two`, `${directory} two`);
  }
  clock.ms += 60_000;
  return { clock, disk, files, pod };
}

/** The root that a reader without any history gives to what is on the disk now. */
async function freshRoot(pod: Pod, disk: MemoryFileSystem, settings: Parameters<Pod['capture']>[0]): Promise<string> {
  const files = new MemoryFileTree(disk);
  const other = await Pod.start({ files, clock: pod.clock, access: pod.access, holder: 'fresh', cache: undefined });
  return toHex((await other.capture(settings)).root);
}

/** Of the newest checkpoint. */
async function pathsOf(pod: Pod): Promise<string[]> {
  const { base } = await pod.writer();
  const root = base?.volumes[0]?.root;
  if (root === undefined) return [];
  const paths: string[] = [];
  for await (const items of scanTree(root, pod.sourceOf(base), pod.access.keys)) {
    for (const { key } of items) paths.push(displayPath(key));
  }
  return paths;
}

describe('after a directory that was not walked, its neighbours', () => {
  test.each([
    { name: 'excluded', settings: { exclude: ['a'] }, privileged: true },
    { name: 'unreadable', settings: {}, privileged: false },
  ])('are still compared with what they were: $name', async ({ settings, privileged }) => {
    const { clock, disk, pod } = await onDisk({ privileged });
    if (!privileged) disk.chmod('a', 0);
    clock.ms += 60_000;
    await pod.capture(settings);
    disk.remove('b/one');
    disk.remove('c/two');
    clock.ms += 60_000;
    const second = await pod.capture(settings);
    expect(second.volumes[0]?.scan).toBe('cached');
    expect(toHex(second.root)).toBe(await freshRoot(pod, disk, settings));
  });

  test('do not make a volume at rest look as if it moved', async () => {
    const { clock, pod } = await onDisk();
    await pod.capture({ exclude: ['a'] });
    clock.ms += 60_000;
    const second = await pod.capture({ exclude: ['a'] });
    expect([second.consistency, second.passes]).toEqual(['converged', 2]);
    expect(second.newBytes).toBe(0);
  });
});

describe('a volume at rest converges', () => {
  test('with a socket made a moment ago', async () => {
    const { disk, pod } = await onDisk();
    disk.socket('a/socket');
    const outcome = await pod.capture();
    expect([outcome.consistency, outcome.passes]).toEqual(['converged', 2]);
  });

  test('with a file that cannot be read, and says that it is incomplete', async () => {
    const { disk, pod } = await onDisk({ privileged: false });
    disk.chmod('b/one', 0);
    const outcome = await pod.capture();
    expect([outcome.consistency, outcome.incomplete]).toEqual(['converged', true]);
    expect(outcome.volumes[0]?.skipped).toEqual([{ reason: 'unreadable', count: 1, names: ['b/one'] }]);
  });
});

describe('a checkpoint that did not converge', () => {
  test('names what was written within the tick of the clock in which it was read', async () => {
    const { clock, disk, files, pod } = await onDisk();
    disk.writeFile('torn', seededRandom('torn').bytes(8192));
    files.readBytesMax = 4096;
    let reads = 0;
    files.beforeCall = ({ operation, path }) => {
      // Between two reads, and no clock moves: stamps are the same before and after.
      if (operation === 'read' && path === 'torn' && ++reads === 2) disk.writeAt('torn', 0, 'other');
    };
    const outcome = await pod.capture({ extraPassesMax: 0 });
    expect(outcome.consistency).toBe('fuzzy');
    expect(outcome.volumes[0]?.fuzzyNames).toContain('torn');
    files.beforeCall = undefined;
    clock.ms += 60_000;
    const settled = await pod.capture();
    expect([settled.consistency, settled.volumes[0]?.fuzzyCount]).toEqual(['converged', 0]);
    expect(toHex(settled.root)).toBe(await freshRoot(pod, disk, {}));
  });
});

describe('what is looked at by name only', () => {
  test('is never put together of two that had that name', async () => {
    const { clock, disk, files, pod } = await onDisk();
    disk.setXattr('b', 'user.note', 'of the directory');
    clock.ms += 60_000;
    let calls = 0;
    files.beforeCall = ({ operation, path }) => {
      // After its stat, and before its xattrs are read.
      if (operation !== 'xattrsOfName' || path !== 'b' || ++calls > 1) return;
      disk.rename('b', 'moved');
      disk.symlink('b', 'elsewhere');
    };
    const outcome = await pod.capture({ extraPassesMax: 0 });
    expect(calls).toBe(1);
    expect(outcome.volumes[0]?.skipped).toEqual([{ reason: 'vanished', count: 1, names: ['b'] }]);
    files.beforeCall = undefined;
    clock.ms += 60_000;
    expect(toHex((await pod.capture()).root)).toBe(await freshRoot(pod, disk, {}));
  });

  test('is named when it does not hold still, and read again when it does', async () => {
    for (const [restless, named] of [
      [1, false],
      [Number.POSITIVE_INFINITY, true],
    ] as const) {
      const { clock, disk, files, pod } = await onDisk();
      let calls = 0;
      files.beforeCall = ({ operation, path }) => {
        if (operation !== 'xattrsOfName' || path !== 'b' || ++calls > restless) return;
        clock.ms += 1000;
        disk.setXattr('b', 'user.count', String(calls));
      };
      const outcome = await pod.capture({ extraPassesMax: 0 });
      expect(calls).toBe(named ? 3 : 2);
      expect(outcome.volumes[0]?.fuzzyNames.includes('b')).toBe(true);
      files.beforeCall = undefined;
      clock.ms += 60_000;
      expect(toHex((await pod.capture()).root)).toBe(await freshRoot(pod, disk, {}));
    }
  });
});

describe('a directory that could be listed only in the last pass', () => {
  test.each([
    ['emptied', ['c/one', 'c/two']],
    ['changed', ['c/two']],
  ])('is in doubt when it was %s meanwhile', async (_, gone) => {
    const { clock, disk, files, pod } = await onDisk();
    files.failCall('list', 'EIO', { path: 'c' });
    let listed = 0;
    files.beforeCall = ({ operation, path }) => {
      // After the listing of the directory above, which has its stat.
      if (operation !== 'list' || path !== 'c' || ++listed !== 2) return;
      clock.ms += 1000;
      for (const name of gone) disk.remove(name);
    };
    const outcome = await pod.capture({ extraPassesMax: 1 });
    expect([outcome.consistency, outcome.incomplete]).toEqual(['fuzzy', false]);
    expect(outcome.volumes[0]?.fuzzyNames).toContain('c');
    files.beforeCall = undefined;
    clock.ms += 60_000;
    const settled = await pod.capture();
    expect([settled.consistency, settled.volumes[0]?.fuzzyCount]).toEqual(['converged', 0]);
    expect(toHex(settled.root)).toBe(await freshRoot(pod, disk, {}));
  });
});

describe('whatever moves during a capture, its tree stays one that can be restored', () => {
  test('a directory that is gone before its own entry is read still stands above what was read in it', async () => {
    const { disk, files, pod } = await onDisk();
    files.beforeCall = ({ operation, path }) => {
      if (operation === 'statNameInto' && path === 'b' && disk.exists('b')) disk.rename('b', 'moved');
    };
    const outcome = await pod.capture({ extraPassesMax: 0 });
    expect(await pathsOf(pod)).toEqual(['a', 'a/one', 'a/two', 'b', 'b/one', 'b/two', 'c', 'c/one', 'c/two']);
    expect(outcome.volumes[0]?.skipped).toEqual([{ reason: 'vanished', count: 1, names: ['b'] }]);
    expect(toHex((await pod.capture()).root)).toBe(await freshRoot(pod, disk, {}));
  });

  test('nothing stays below a directory that became a further name of a file', async () => {
    const { clock, disk, pod } = await onDisk();
    await pod.capture();
    disk.remove('b');
    disk.link('a/one', 'b');
    disk.remove('c/one');
    clock.ms += 60_000;
    const outcome = await pod.capture();
    expect(await pathsOf(pod)).toEqual(['a', 'a/one', 'a/two', 'b', 'c', 'c/two']);
    expect(toHex(outcome.root)).toBe(await freshRoot(pod, disk, {}));
  });

  test('no name stays of a file whose first name was gone when it was read', async () => {
    const { clock, disk, files, pod } = await onDisk({ type: 'tmpfs' });
    disk.link('a/one', 'c/link');
    clock.ms += 60_000;
    await pod.capture();
    files.beforeCall = ({ operation, path }) => {
      if (operation === 'openFile' && path === 'a/one' && disk.exists(path)) disk.remove(path);
    };
    const outcome = await pod.capture({ extraPassesMax: 0 });
    expect(outcome.volumes[0]?.skipped).toEqual([
      { reason: 'vanished', count: 1, names: ['a/one'] },
      { reason: 'unreadable', count: 1, names: ['c/link'] },
    ]);
    expect(await pathsOf(pod)).not.toContain('c/link');
    expect(toHex((await pod.capture()).root)).toBe(await freshRoot(pod, disk, {}));
  });
});

describe('a capture that fails leaves no descriptor open', () => {
  test.each(['stat', 'openDirectory', 'list'])('at each call of %s', async (operation) => {
    for (let nth = 1; nth < 12; nth++) {
      const { files, pod } = await onDisk();
      let calls = 0;
      files.beforeCall = (call) => {
        if (call.operation === operation && ++calls === nth) throw new FileTreeError('EMFILE', operation);
      };
      await pod.capture().catch(() => undefined);
      expect(files.openDescriptors).toEqual([]);
    }
  });

  test('when it is interrupted', async () => {
    for (let reports = 1; reports < 8; reports++) {
      const { files, pod } = await onDisk();
      const aborting = new AbortController();
      let left = reports;
      files.beforeCall = ({ operation }) => {
        if (operation === 'list' && --left === 0) aborting.abort();
      };
      await pod.capture({ signal: aborting.signal }).catch(() => undefined);
      expect(files.openDescriptors).toEqual([]);
    }
  });

  test('at each answer of the store', async () => {
    for (const failing of ['get', 'getRange'] as const) {
      const { clock, disk, files, pod } = await onDisk();
      await pod.capture({ inlineBytesMax: failing === 'get' ? 262_144 : 0 });
      clock.ms += 60_000;
      pod.forgetNodes();
      for (const directory of ['a', 'b', 'c']) disk.writeFile(`${directory}/one`, 'again');
      pod.store[failing] = () => Promise.reject(new Error('the store fails'));
      await expect(pod.capture()).rejects.toThrow('the store fails');
      expect(files.openDescriptors).toEqual([]);
    }
  });
});
