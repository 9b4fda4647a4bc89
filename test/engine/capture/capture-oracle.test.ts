import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { toHex } from '../../../src/engine/model/bytes.ts';
import { ManualClock, Pod } from '../../support/capture-fixture.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';
import { applyEdits, buildTree, editArbitrary, treeArbitrary } from '../../support/tree-spec.ts';

const sizes = { fileBytesMax: 150_000, owners: true } as const;

// "Random edits, then a fresh build: equal root."
test('a checkpoint made from edits has the root of one made from nothing', async () => {
  await fc.assert(
    fc.asyncProperty(
      treeArbitrary(sizes),
      fc.array(fc.array(editArbitrary(sizes), { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 4 }),
      fc.constantFrom('ext4', 'tmpfs'),
      async (tree, rounds, type) => {
        const clock = new ManualClock();
        const disk = new MemoryFileSystem({ clock, type });
        const files = new MemoryFileTree(disk);
        const work = new MemoryFileTree(disk);
        const root = work.makeRoot('volume');
        buildTree(work, root, tree);
        const pod = await Pod.start({ files, clock, store: new MemoryStore() });
        for (const edits of [[], ...rounds]) {
          applyEdits(work, root, edits);
          clock.ms += 60_000;
          const outcome = await pod.capture({ path: 'volume' });
          expect(outcome.consistency).toBe('converged');
          const fresh = await Pod.start({
            files: new MemoryFileTree(disk),
            clock,
            store: new MemoryStore(),
            access: pod.access,
            holder: 'fresh',
            cache: undefined,
          });
          expect(toHex(outcome.root)).toBe(toHex((await fresh.capture({ path: 'volume' })).root));
          expect(files.openDescriptors).toEqual([]);
        }
      },
    ),
    { numRuns: 30 },
  );
}, 60_000);
