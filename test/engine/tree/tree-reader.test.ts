import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { LeafItem } from '../../../src/engine/format/tree-node.ts';
import { compareBytes } from '../../../src/engine/model/bytes.ts';
import { emptyTree } from '../../../src/engine/tree/node-access.ts';
import { getEntry, scanTree, TreeReader } from '../../../src/engine/tree/tree-reader.ts';
import { entryNumbers, itemOf, keyOf, keyStyle, range, runs } from '../../support/arbitraries.ts';
import { buildTree, MemoryNodes, scanAll, testKeys, TreeModel } from '../../support/tree-model.ts';

const answers = fc.constantFrom('at once' as const, 'later' as const);
const bound = fc.option(fc.nat(2100), { nil: undefined });

describe('a scan', () => {
  it('gives the entries of a range in order', async () => {
    await fc.assert(
      fc.asyncProperty(keyStyle, entryNumbers, bound, bound, answers, async (style, numbers, low, high, answer) => {
        const nodes = new MemoryNodes();
        nodes.answers = answer;
        const model = TreeModel.of(numbers.map((n) => itemOf(style, n)));
        const root = await buildTree(model.sorted(), nodes);
        const from = low === undefined ? undefined : keyOf(style, low);
        const to = high === undefined ? undefined : keyOf(style, high);
        expect(await scanAll(root, nodes, from, to)).toEqual(model.sorted(from, to));
      }),
      runs(120),
    );
  });

  it('of a short range reads one path, not the tree', async () => {
    const nodes = new MemoryNodes();
    const root = await buildTree(numbered(3000), nodes);
    nodes.resetCounts();
    expect(await scanAll(root, nodes, keyOf('long', 1500), keyOf('long', 1510))).toHaveLength(10);
    // Up to one more leaf by reading ahead, and one where the range meets an edge.
    expect(nodes.loads).toBeLessThanOrEqual(root.level + 4);
  });

  it('loads each node once, the next leaf before this one is used up', async () => {
    const nodes = new MemoryNodes();
    nodes.answers = 'later';
    const root = await buildTree(numbered(1000), nodes);
    const stored = nodes.stores;
    nodes.resetCounts();
    const scan = scanTree(root, nodes, testKeys);
    await scan.next();
    // One path, and the leaf after its leaf.
    expect(nodes.loads).toBe(root.level + 2);
    for await (const _ of scan);
    expect(nodes.loads).toBe(stored);
  });

  it('fails where a node that it reads ahead is missing, and not before', async () => {
    const nodes = new MemoryNodes();
    const root = await buildTree(numbered(200), nodes);
    let loads = 0;
    const source = {
      load: (place: Parameters<MemoryNodes['load']>[0]) =>
        ++loads === 3 + root.level ? Promise.reject(new Error('gone')) : Promise.resolve(nodes.load(place)),
    };
    const scan = scanTree(root, source, testKeys);
    expect((await scan.next()).done).toBe(false);
    expect((await scan.next()).done).toBe(false);
    await new Promise((resolve) => setImmediate(resolve));
    await expect(scan.next()).rejects.toThrow('gone');
  });

  it('of the empty tree gives nothing', async () => {
    expect(await scanAll(emptyTree(testKeys), new MemoryNodes())).toEqual([]);
  });
});

describe('a reader', () => {
  it('steps and seeks forwards like a sorted array', async () => {
    const step = fc.option(fc.nat(2100), { nil: undefined });
    await fc.assert(
      fc.asyncProperty(
        keyStyle,
        entryNumbers,
        fc.array(step, { maxLength: 40 }),
        answers,
        fc.boolean(),
        async (style, numbers, steps, answer, readAhead) => {
          const nodes = new MemoryNodes();
          nodes.answers = answer;
          const items = TreeModel.of(numbers.map((n) => itemOf(style, n))).sorted();
          const root = await buildTree(items, nodes);
          const reader = new TreeReader({ root, source: nodes, keys: testKeys, readAhead });
          let at = -1;
          for (const number of steps) {
            if (number === undefined) {
              at++;
              expect(await reader.next()).toBe(at < items.length);
            } else {
              const key = keyOf(style, number);
              at = Math.max(at, 0);
              while (at < items.length && compareBytes((items[at] as LeafItem).key, key) < 0) at++;
              expect(await reader.seek(key)).toBe(at < items.length);
            }
            expect(reader.atEntry).toBe(at < items.length);
            if (at >= items.length) return;
            expect(reader.item).toEqual(items[at]);
            expect(reader.compareKey((items[at] as LeafItem).key)).toBe(0);
          }
        },
      ),
      runs(120),
    );
  });

  it('answers at once inside a leaf, whatever the source', async () => {
    const nodes = new MemoryNodes();
    nodes.answers = 'later';
    const items = numbered(300);
    const reader = new TreeReader({ root: await buildTree(items, nodes), source: nodes, keys: testKeys });
    let waits = 0;
    for (let i = 0; i < items.length; i++) {
      const stepped = reader.next();
      if (stepped instanceof Promise) waits++;
      expect(await stepped).toBe(true);
    }
    expect(waits).toBeGreaterThan(5);
    expect(waits).toBeLessThan(60);
  });

  it('stays where it is when it seeks backwards', async () => {
    const nodes = new MemoryNodes();
    const reader = new TreeReader({ root: await buildTree(numbered(300), nodes), source: nodes, keys: testKeys });
    await reader.seek(keyOf('long', 200));
    await reader.seek(keyOf('long', 100));
    expect(reader.key).toEqual(keyOf('long', 200));
  });
});

describe('one entry', () => {
  it('is found by one path of nodes, or is not there', async () => {
    await fc.assert(
      fc.asyncProperty(keyStyle, entryNumbers, fc.nat(2100), async (style, numbers, wanted) => {
        const nodes = new MemoryNodes();
        const model = TreeModel.of(numbers.map((n) => itemOf(style, n, n % 3)));
        const root = await buildTree(model.sorted(), nodes);
        nodes.resetCounts();
        const key = keyOf(style, wanted);
        expect(await getEntry(root, key, nodes, testKeys)).toEqual(model.get(key));
        expect(nodes.loads).toBe(numbers.length === 0 ? 0 : root.level + 1);
      }),
      runs(100),
    );
  });
});

function numbered(count: number): LeafItem[] {
  return range(0, count).map((n) => itemOf('long', n));
}
