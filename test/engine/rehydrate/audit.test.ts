import { expect, test } from 'vitest';
import { ManualClock, Pod } from '../../support/capture-fixture.ts';
import { MemoryCache } from '../../support/memory-cache.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';
import { restore } from '../../support/restore-fixture.ts';

const old = 1_600_000_000;

/** A restored file that is written again soon after, and given back the mtime that it had. */
async function writtenAfterRestore(timeStepNs: number): Promise<{ readonly scan: string; readonly newBytes: number }> {
  const clock = new ManualClock(Date.UTC(2026, 0, 1, 0, 0, 0, 100));
  const source = new MemoryFileSystem({ clock });
  source.mkdir('src');
  source.writeFile('src/file', 'first');
  source.setMtime('src/file', old);
  clock.ms += 60_000;
  const pod = await Pod.start({ files: new MemoryFileTree(source), clock });
  await pod.capture({ path: 'src' });

  const disk = new MemoryFileSystem({ clock, timeStepNs });
  const files = new MemoryFileTree(disk);
  const cache = new MemoryCache();
  const { store, access, lineage } = pod;
  const { volumes } = await restore({ store, access, lineage, files, clock, path: 'out', cache });
  expect(volumes[0]?.primed).toBe(true);
  clock.ms += 300;
  disk.writeAt('out/file', 0, 'later');
  disk.setMtime('out/file', old);

  clock.ms += 60_000;
  const after = await Pod.start({ files, clock, store, access, cache });
  const { volumes: captured, newBytes } = await after.capture({ path: 'out' });
  return { scan: captured[0]?.scan ?? 'none', newBytes };
}

test('a write that ctime alone could tell is seen by the first capture after a restore', async () => {
  expect(await writtenAfterRestore(1)).toEqual({ scan: 'cached', newBytes: 5 });
});

test('a write within the second of the restore is seen where stamps are whole seconds', async () => {
  expect(await writtenAfterRestore(1e9)).toEqual({ scan: 'cached', newBytes: 5 });
});

test('what whole seconds could not keep is no change to the first capture after a restore', async () => {
  const clock = new ManualClock();
  const source = new MemoryFileSystem({ clock });
  source.mkdir('src');
  source.writeFile('src/file', 'content');
  source.setMtime('src/file', old, 123_456_789);
  clock.ms += 60_000;
  const pod = await Pod.start({ files: new MemoryFileTree(source), clock });
  const { root } = await pod.capture({ path: 'src' });

  const files = new MemoryFileTree(new MemoryFileSystem({ clock, timeStepNs: 1e9 }));
  const cache = new MemoryCache();
  const { store, access, lineage } = pod;
  await restore({ store, access, lineage, files, clock, path: 'out', cache });
  clock.ms += 60_000;
  // Stamps that were doubted for being new would be read again, and then be another file's.
  const after = await Pod.start({ files, clock, store, access, cache });
  expect((await after.capture({ path: 'out' })).root).toEqual(root);
});
