import { expect, test } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { ManualClock, Pod, seededRandom } from '../../support/capture-fixture.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';
import { restore } from '../../support/restore-fixture.ts';

test('a record that holds several packs gives back the files of all of them', async () => {
  const clock = new ManualClock();
  const source = new MemoryFileSystem({ clock });
  for (let i = 0; i < 12; i++) source.writeFile(`f${i}`, seededRandom(`f${i}`).bytes(6000));
  clock.ms += 60_000;
  const store = new MemoryStore();
  const pod = await Pod.start({ files: new MemoryFileTree(source), clock, store });
  const { root } = await pod.capture({ packBytesTarget: 8192, dataSegmentBytes: 4096, metaSegmentBytes: 2048 });
  const packs = (await pod.writer()).base?.packs ?? [];
  expect(packs.filter(({ inlined }) => inlined).length).toBeGreaterThan(2);
  const target = new MemoryFileSystem();
  const { access, lineage } = pod;
  const outcome = await restore({ store, access, lineage, files: new MemoryFileTree(target) });
  expect(outcome.rootGot).toEqual(root);
  expect(target.describe('restored')).toEqual(source.describe());
});
