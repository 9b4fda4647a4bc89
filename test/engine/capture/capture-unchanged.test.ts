import { describe, expect, test } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import type { CaptureSettings } from '../../../src/engine/capture/capture-request.ts';
import { makeSelection } from '../../../src/engine/capture/select.ts';
import { toVolumeName } from '../../../src/engine/model/ids.ts';
import { ManualClock, Pod } from '../../support/capture-fixture.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';

async function onDisk(): Promise<{ clock: ManualClock; disk: MemoryFileSystem; files: MemoryFileTree; pod: Pod }> {
  const clock = new ManualClock();
  const disk = new MemoryFileSystem({ clock });
  const files = new MemoryFileTree(disk);
  const pod = await Pod.start({ files, clock, store: new MemoryStore() });
  disk.mkdir('data');
  disk.mkdir('logs');
  disk.writeFile('data/file', 'content');
  disk.writeFile('logs/log', 'line\n');
  clock.ms += 60_000;
  return { clock, disk, files, pod };
}

const volume = (name: string): CaptureSettings['volumes'][number] => ({
  name: toVolumeName(name),
  path: name,
  selection: makeSelection([], []),
});
const both = { volumes: [volume('data'), volume('logs')] };

describe('a capture that is to commit changes only', () => {
  test('makes no checkpoint and asks the store for nothing while nothing changes, and makes one when something does', async () => {
    const { clock, disk, files, pod } = await onDisk();
    const first = await pod.capture({ ...both, commitUnchanged: false });
    expect(first.committed).toBeDefined();
    const requests = { ...pod.traffic.requests };
    for (let again = 0; again < 3; again++) {
      clock.ms += 10_000;
      const outcome = await pod.capture({ ...both, commitUnchanged: false });
      expect(outcome).toMatchObject({ committed: undefined, passes: 1, consistency: 'converged', storedBytes: 0 });
      expect(outcome.root).toEqual(first.root);
      expect(outcome.volumes.map(({ scan, files: count }) => [scan, count])).toEqual([
        ['cached', 1],
        ['cached', 1],
      ]);
    }
    expect(pod.traffic.requests).toEqual(requests);
    disk.writeFile('logs/log', 'another line\n');
    clock.ms += 10_000;
    const changed = await pod.capture({ ...both, commitUnchanged: false });
    expect(changed.committed?.slot).toBe((first.committed?.slot ?? 0) + 1);
    expect(files.openDescriptors).toEqual([]);
  });

  test("takes a change of a volume's own directory for one", async () => {
    const { clock, disk, pod } = await onDisk();
    await pod.capture({ ...both, commitUnchanged: false });
    disk.chmod('data', 0o700);
    clock.ms += 10_000;
    expect((await pod.capture({ ...both, commitUnchanged: false })).committed).toBeDefined();
  });

  test('commits once more when the same can be said with more certainty', async () => {
    const { clock, disk, files, pod } = await onDisk();
    let count = 0;
    files.beforeCall = (call) => {
      if (call.operation === 'list' && call.path === 'data') disk.writeFile('data/file', `content ${count++}`);
    };
    const fuzzy = await pod.capture({ ...both, commitUnchanged: false });
    expect(fuzzy).toMatchObject({ consistency: 'fuzzy' });
    files.beforeCall = undefined;
    clock.ms += 10_000;
    const settled = await pod.capture({ ...both, commitUnchanged: false });
    expect(settled).toMatchObject({ consistency: 'converged' });
    expect(settled.committed).toBeDefined();
    const stopped = await pod.capture({ ...both, commitUnchanged: false, quiesced: true });
    expect(stopped).toMatchObject({ consistency: 'quiesced', refuted: [] });
    expect(stopped.committed).toBeDefined();
    const again = await pod.capture({ ...both, commitUnchanged: false, quiesced: true });
    expect(again).toMatchObject({ consistency: 'quiesced', committed: undefined });
  });

  test('still commits without being asked to leave that out', async () => {
    const { pod } = await onDisk();
    const first = await pod.capture(both);
    const second = await pod.capture(both);
    expect(second.committed?.slot).toBe((first.committed?.slot ?? 0) + 1);
  });
});

describe('a volume that is carried forward', () => {
  test('is in the next checkpoint as it was in the one before, unseen, and its cache stays good', async () => {
    const { clock, disk, files, pod } = await onDisk();
    const first = await pod.capture(both);
    disk.writeFile('data/file', 'new content');
    disk.writeFile('logs/log', 'new line\n');
    clock.ms += 10_000;
    const looked: string[] = [];
    files.beforeCall = (call) => void looked.push(call.path ?? '');
    const second = await pod.capture({ volumes: [volume('data')], carried: [toVolumeName('logs')] });
    files.beforeCall = undefined;
    expect(looked.filter((path) => path.startsWith('logs'))).toEqual([]);
    const record = (await pod.writer()).base;
    expect(record?.volumes.map(({ name }) => name)).toEqual(['data', 'logs']);
    expect(record?.volumes[1]?.root.id).toEqual(first.volumes[1]?.root);
    expect(record?.volumes[0]?.root.id).not.toEqual(first.volumes[0]?.root);
    expect(second.root).not.toEqual(first.root);
    clock.ms += 10_000;
    const third = await pod.capture(both);
    expect(third.volumes.map(({ scan }) => scan)).toEqual(['cached', 'cached']);
    expect(third.volumes[1]?.root).not.toEqual(first.volumes[1]?.root);
  });

  test('is no reason for a checkpoint', async () => {
    const { clock, disk, pod } = await onDisk();
    await pod.capture(both);
    disk.writeFile('logs/log', 'new line\n');
    clock.ms += 10_000;
    const outcome = await pod.capture({
      volumes: [volume('data')],
      carried: [toVolumeName('logs')],
      commitUnchanged: false,
    });
    expect(outcome.committed).toBeUndefined();
  });
});
