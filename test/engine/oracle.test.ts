/**
 * The oracle for everything: restore, capture again: equal root; and a comparison of the trees that shares no code with the
 * engine. Random trees and edits, on a real disk through the native file tree.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemoryStore } from '../../src/edge/store/memory-store.ts';
import { chooseFileTree } from '../../src/edge/host/choose-file-tree.ts';
import { systemClock } from '../../src/edge/host/system-clock.ts';
import { toHex } from '../../src/engine/model/bytes.ts';
import { Pod } from '../support/capture-fixture.ts';
import { restore } from '../support/restore-fixture.ts';
import { snapshotTree } from '../support/tree-snapshot.ts';
import { applyEdits, buildTree, editArbitrary, treeArbitrary } from '../support/tree-spec.ts';

const privileged = process.getuid?.() === 0;
const sizes = { fileBytesMax: 200_000, owners: privileged } as const;

test('a restored tree is equal, and captured again it has the equal root', async () => {
  const { tree: files } = chooseFileTree();
  await fc.assert(
    fc.asyncProperty(
      treeArbitrary(sizes),
      fc.array(fc.array(editArbitrary(sizes), { minLength: 1, maxLength: 6 }), { maxLength: 2 }),
      async (tree, rounds) => {
        const scratch = mkdtempSync(join(tmpdir(), 'holdfast-oracle-'));
        try {
          const source = join(scratch, 'source');
          const root = files.makeRoot(source);
          buildTree(files, root, tree);
          const pod = await Pod.start({ files, clock: systemClock, store: new MemoryStore() });
          for (const [round, edits] of [[], ...rounds].entries()) {
            applyEdits(files, root, edits);
            const captured = await pod.capture({ path: source });
            const target = join(scratch, `target-${round}`);
            const restored = await restore({ ...pod, files, path: target });
            expect(restored.rootGot).toEqual(captured.root);
            expect(snapshotTree(target)).toEqual(snapshotTree(source));
            const again = await pod.capture({ path: target, dryRun: true });
            expect(toHex(again.root)).toBe(toHex(captured.root));
          }
          files.close(root);
        } finally {
          rmSync(scratch, { recursive: true, force: true });
        }
      },
    ),
    { numRuns: 25 },
  );
}, 120_000);
