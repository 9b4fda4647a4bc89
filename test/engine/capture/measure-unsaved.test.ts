import { describe, expect, test } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { measureUnsaved, type Unsaved } from '../../../src/engine/capture/measure-unsaved.ts';
import { makeSelection } from '../../../src/engine/capture/select.ts';
import { toVolumeName } from '../../../src/engine/model/ids.ts';
import { MemoryCache } from '../../support/memory-cache.ts';
import { ManualClock, Pod } from '../../support/capture-fixture.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';

async function onDisk(): Promise<{
  clock: ManualClock;
  disk: MemoryFileSystem;
  files: MemoryFileTree;
  pod: Pod;
  measure: (cache?: MemoryCache) => Promise<Unsaved | undefined>;
}> {
  const clock = new ManualClock();
  const disk = new MemoryFileSystem({ clock });
  const files = new MemoryFileTree(disk);
  const pod = await Pod.start({ files, clock, store: new MemoryStore() });
  disk.mkdir('sub');
  disk.writeFile('sub/one', '12345');
  disk.writeFile('two', '123');
  clock.ms += 60_000;
  const measure = async (cache = pod.cache as MemoryCache): Promise<Unsaved | undefined> =>
    await measureUnsaved({
      ports: { files, cache, clock },
      lineage: pod.lineage,
      volumes: [{ name: toVolumeName('data'), path: '', selection: makeSelection([], []) }],
      base: (await pod.writer()).base,
    });
  return { clock, disk, files, pod, measure };
}

describe('what is unsaved', () => {
  test('is everything before the first checkpoint, nothing after it, and then what changed, grew or went', async () => {
    const { clock, disk, files, pod, measure } = await onDisk();
    expect(await measure()).toEqual({ bytes: 8, files: 3, volumeBytes: new Map([['data', 8]]) });
    await pod.capture();
    expect(await measure()).toMatchObject({ bytes: 0, files: 0 });
    clock.ms += 1000;
    disk.writeFile('two', '123456789');
    disk.writeFile('sub/new', '1234');
    disk.remove('sub/one');
    // The directory has another time, and counts as a name that differs.
    expect(await measure()).toEqual({ bytes: 13, files: 4, volumeBytes: new Map([['data', 13]]) });
    await pod.capture();
    expect(await measure()).toMatchObject({ bytes: 0, files: 0 });
    expect(files.openDescriptors).toEqual([]);
  });

  test('reads no content and leaves no trace', async () => {
    const { clock, disk, files, pod, measure } = await onDisk();
    await pod.capture();
    clock.ms += 1000;
    disk.writeFile('two', '123456789');
    const names = [...(pod.cache as MemoryCache).names()];
    const requests = { ...pod.traffic.requests };
    const opened: string[] = [];
    files.beforeCall = (call) => {
      if (call.operation === 'openFile') opened.push(call.path ?? '');
    };
    await measure();
    expect(opened).toEqual([]);
    expect([...(pod.cache as MemoryCache).names()]).toEqual(names);
    expect(pod.traffic.requests).toEqual(requests);
  });

  test('cannot be told when the cache of the checkpoint is gone', async () => {
    const { pod, measure } = await onDisk();
    await pod.capture();
    expect(await measure(new MemoryCache())).toBeUndefined();
  });
});
