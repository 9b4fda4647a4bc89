import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { LeafItem } from '../../../src/engine/format/tree-node.ts';
import { compareBytes, emptyBytes, equalBytes } from '../../../src/engine/model/bytes.ts';
import type { TreeRoot } from '../../../src/engine/model/checkpoint.ts';
import { emptyTree } from '../../../src/engine/tree/node-access.ts';
import { diffTrees, type TreeChange } from '../../../src/engine/tree/tree-diff.ts';
import { editPlan, entryNumbers, itemOf, keyOf, keyStyle, planEdits, range, runs } from '../../support/arbitraries.ts';
import { buildTree, leafEdges, MemoryNodes, smallValue, testKeys, TreeModel } from '../../support/tree-model.ts';

async function diffAll(before: TreeRoot, after: TreeRoot, nodes: MemoryNodes): Promise<TreeChange[]> {
  const changes: TreeChange[] = [];
  for await (const change of diffTrees(before, after, nodes, testKeys)) changes.push(change);
  return changes;
}

/** The same from two sorted maps. */
function diffModels(before: TreeModel, after: TreeModel): TreeChange[] {
  const changes: TreeChange[] = [];
  for (const item of before.sorted()) {
    const other = after.get(item.key);
    if (other === undefined) changes.push({ key: item.key, before: item });
    else if (!equalBytes(other.value, item.value)) changes.push({ key: item.key, before: item, after: other });
  }
  for (const item of after.sorted()) {
    if (before.get(item.key) === undefined) changes.push({ key: item.key, after: item });
  }
  return changes.sort((a, b) => compareBytes(a.key, b.key));
}

describe('the difference of two trees', () => {
  it('is the difference of their maps', async () => {
    await fc.assert(
      fc.asyncProperty(
        keyStyle,
        entryNumbers,
        fc.oneof(
          { weight: 3, arbitrary: fc.array(editPlan, { maxLength: 10 }).map((plan) => ({ plan })) },
          { weight: 1, arbitrary: entryNumbers.map((numbers) => ({ numbers })) },
        ),
        async (style, numbers, other) => {
          const nodes = new MemoryNodes();
          const before = TreeModel.of(numbers.map((n) => itemOf(style, n)));
          const root = await buildTree(before.sorted(), nodes);
          let after: TreeModel;
          if ('numbers' in other) after = TreeModel.of(other.numbers.map((n) => itemOf(style, n, n % 2)));
          else {
            after = before.copy();
            for (const edit of planEdits(style, other.plan, leafEdges(root, nodes))) {
              if (edit.kind === 'put') after.put(edit.item);
              else if (edit.kind === 'delete') after.delete(edit.key);
              else after.deleteRange(edit.key, edit.to);
            }
          }
          const otherRoot = await buildTree(after.sorted(), nodes);
          expect(await diffAll(root, otherRoot, nodes)).toEqual(diffModels(before, after));
        },
      ),
      runs(100),
    );
  });

  it('costs what changed, not what is there', async () => {
    const nodes = new MemoryNodes();
    const model = TreeModel.of(range(0, 20_000).map((n) => itemOf('long', n)));
    const before = await buildTree(model.sorted(), nodes);
    nodes.resetCounts();
    expect(await diffAll(before, before, nodes)).toEqual([]);
    expect(nodes.loads).toBe(0);
    const changed = model.copy();
    for (const n of [3, 7000, 7001, 19_999]) changed.put(itemOf('long', n, 1));
    changed.delete(keyOf('long', 12_345));
    const after = await buildTree(changed.sorted(), nodes);
    nodes.resetCounts();
    expect(await diffAll(before, after, nodes)).toHaveLength(5);
    // Five paths in two trees, and some neighbours where a boundary moved.
    expect(nodes.loads).toBeLessThan(2 * 5 * (before.level + 1) * 2);
  });

  it('passes over a part that is in one tree only, subtree by subtree of the other', async () => {
    const nodes = new MemoryNodes();
    const model = TreeModel.of(range(0, 8000).map((n) => itemOf('long', n)));
    const before = await buildTree(model.sorted(), nodes);
    const cut = model.copy();
    cut.deleteRange(keyOf('long', 1000), keyOf('long', 1200));
    const after = await buildTree(cut.sorted(), nodes);
    nodes.resetCounts();
    const changes = await diffAll(before, after, nodes);
    expect(changes).toHaveLength(200);
    expect(changes.every((change) => change.after === undefined)).toBe(true);
    expect(nodes.loads).toBeLessThan(80);
  });

  it('does not see where contents lie', async () => {
    const nodes = new MemoryNodes();
    const items = range(0, 100).map((n) => itemOf('long', n));
    const moved: LeafItem[] = items.map((item) => ({ ...item, placement: Uint8Array.of(1) }));
    const roots = [await buildTree(items, nodes), await buildTree(moved, nodes)] as const;
    expect(await diffAll(...roots, nodes)).toEqual([]);
  });

  it('to and from nothing is everything', async () => {
    const nodes = new MemoryNodes();
    const items = range(0, 100).map((n) => ({ key: keyOf('long', n), value: smallValue(n), placement: emptyBytes }));
    const root = await buildTree(items, nodes);
    const nothing = emptyTree(testKeys);
    expect(await diffAll(nothing, root, nodes)).toEqual(items.map((item) => ({ key: item.key, after: item })));
    expect(await diffAll(root, nothing, nodes)).toEqual(items.map((item) => ({ key: item.key, before: item })));
    expect(await diffAll(nothing, nothing, nodes)).toEqual([]);
  });
});
