/** What the volume's own directory, long settings and threads that never come up must not spoil. */
import { describe, expect, test } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { utf8Bytes } from '../../../src/engine/model/bytes.ts';
import { ReadLanes } from '../../../src/engine/capture/read-lanes.ts';
import { laneJobKind } from '../../../src/engine/capture/lane-job.ts';
import { ManualClock, Pod } from '../../support/capture-fixture.ts';
import { MemoryCache } from '../../support/memory-cache.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';
import { restore } from '../../support/restore-fixture.ts';

async function onDisk(
  options: { readonly timeStepNs?: number; readonly type?: string } = {},
): Promise<{ clock: ManualClock; disk: MemoryFileSystem; pod: Pod; store: MemoryStore }> {
  const clock = new ManualClock();
  const disk = new MemoryFileSystem({ clock, ...options });
  const store = new MemoryStore();
  const pod = await Pod.start({ files: new MemoryFileTree(disk), clock, store });
  disk.writeFile('one', 'one');
  clock.ms += 60_000;
  return { clock, disk, pod, store };
}

function xattrsOfRoot(disk: MemoryFileSystem, path: string): Record<string, string> {
  const files = new MemoryFileTree(disk);
  const root = files.openRoot(path);
  const found = files
    .xattrs(root)
    .map(({ name, value }) => [Buffer.from(name).toString(), Buffer.from(value).toString()]);
  files.close(root);
  return Object.fromEntries(found) as Record<string, string>;
}

describe('xattrs of the directory of the volume', () => {
  test('that belong to the machine are left out, and large ones are kept', async () => {
    const { clock, disk, pod, store } = await onDisk();
    disk.setXattr('', 'security.selinux', 'system_u:object_r:container_file_t:s0');
    disk.setXattr('', 'user.large', 'x'.repeat(300));
    disk.setXattr('', 'user.small', 'small');
    await pod.capture();
    const target = new MemoryFileSystem({ clock });
    await restore({ store, lineage: pod.lineage, access: pod.access, files: new MemoryFileTree(target) });
    expect(xattrsOfRoot(target, 'restored')).toEqual({ 'user.large': 'x'.repeat(300), 'user.small': 'small' });
  });

  test('are not stored again', async () => {
    const { clock, disk, pod } = await onDisk();
    disk.setXattr('', 'user.large', 'x'.repeat(300));
    expect((await pod.capture()).newBytes).toBe(303);
    clock.ms += 60_000;
    expect((await pod.capture()).newBytes).toBe(0);
  });

  test('that change between two passes are a change', async () => {
    const { disk, pod } = await onDisk();
    let passes = 0;
    const files = pod.files as MemoryFileTree;
    files.beforeCall = ({ operation }) => {
      if (operation === 'list' && ++passes === 1) disk.setXattr('', 'user.small', 'small');
    };
    expect((await pod.capture()).passes).toBe(3);
  });
});

test('a mount in a restored directory does not hide what was deleted since', async () => {
  const { clock, disk, pod, store } = await onDisk();
  disk.mkdir('a');
  for (const directory of ['b', 'c']) {
    disk.mkdir(directory);
    disk.writeFile(`${directory}/one`, 'one');
    disk.writeFile(`${directory}/two`, 'two');
  }
  clock.ms += 60_000;
  await pod.capture();
  await (await pod.writer()).seal();
  const target = new MemoryFileSystem({ clock });
  const files = new MemoryFileTree(target);
  target.mkdir('restored');
  target.mkdir('restored/a', { device: 99n });
  const cache = new MemoryCache();
  const { lineage, access } = pod;
  await restore({ store, lineage, access, files, cache, clock, onExisting: 'replace' });
  target.remove('restored/b/one');
  target.remove('restored/c/one');
  clock.ms += 60_000;
  const after = await Pod.start({ files, clock, store, access, cache, holder: 'after' });
  const fresh = await Pod.start({ files, clock, access, cache: undefined, holder: 'fresh' });
  const captured = await after.capture({ path: 'restored' });
  expect(captured.root).toEqual((await fresh.capture({ path: 'restored' })).root);
});

test('a large xattr of a file that is read again is not stored again', async () => {
  const { clock, disk, pod } = await onDisk({ type: 'tmpfs' });
  disk.setXattr('one', 'user.large', 'x'.repeat(300));
  clock.ms += 60_000;
  expect((await pod.capture()).newBytes).toBe(303);
  clock.ms += 60_000;
  expect((await pod.capture()).newBytes).toBe(0);
});

test('a write within the second of the last is seen where stamps are whole seconds', async () => {
  const { clock, disk, pod } = await onDisk({ timeStepNs: 1e9 });
  disk.writeFile('one', 'first');
  clock.ms += 150;
  const first = await pod.capture();
  clock.ms += 150;
  disk.writeAt('one', 0, 'later');
  clock.ms += 60_000;
  const later = await pod.capture();
  expect([later.newBytes, later.consistency]).toEqual([5, 'converged']);
  expect(later.root).not.toEqual(first.root);
  clock.ms += 60_000;
  const files = pod.files as MemoryFileTree;
  const opened = files.callCount('openFile');
  await pod.capture();
  expect(files.callCount('openFile')).toBe(opened);
});

test('patterns of any length do not stop a checkpoint, and their cache is used again', async () => {
  const { clock, pod } = await onDisk();
  const exclude = Array.from({ length: 100 }, (_, i) => `${'deep/'.repeat(12)}${i}`);
  await pod.capture({ exclude });
  clock.ms += 60_000;
  expect((await pod.capture({ exclude })).volumes[0]?.scan).toBe('cached');
});

test('lanes that never came up fail the read that wanted them, and closing them fails nothing', async () => {
  const { pod } = await onDisk();
  const lanes = new ReadLanes(
    {
      files: pod.files,
      keys: pod.access.keys,
      starter: { start: () => Promise.reject(new Error('no room for a thread')) },
      lanes: 2,
      packs: {} as never,
      own: () => {
        throw new Error('nothing is read by the calling thread');
      },
      firstPack: 4096,
      onPackPart: async () => undefined,
    },
    1,
  );
  const job = utf8Bytes(String.fromCharCode(laneJobKind.read, 0));
  await expect(lanes.read(job, 2 ** 30)).rejects.toThrow('no room for a thread');
  await lanes.close();
});

describe('a sparse file', () => {
  test('of more bytes than a number holds exactly is a limit, and is named', async () => {
    const { clock, disk, pod, store } = await onDisk();
    disk.writeFile('huge', '');
    disk.resize('huge', 2 ** 53);
    clock.ms += 60_000;
    const before = [...store.snapshot().keys()];
    const error = await pod.capture().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'E_LIMIT', details: { path: 'huge' } });
    expect([...store.snapshot().keys()].filter((key) => !before.includes(key) && !key.includes('/log/'))).toEqual([]);
    disk.resize('huge', 2 ** 53 - 1);
    clock.ms += 60_000;
    const { volumes } = await pod.capture();
    expect(volumes[0]).toMatchObject({ files: 2, bytes: Number.MAX_SAFE_INTEGER });
    // A second such file makes the sums stop where numbers do.
    disk.writeFile('other', '');
    disk.resize('other', 2 ** 53 - 1);
    clock.ms += 60_000;
    expect((await pod.capture()).volumes[0]).toMatchObject({ files: 3 });
  });
});
