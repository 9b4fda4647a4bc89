import { expect, it } from 'vitest';
import { HoldfastError } from '../../../src/engine/model/errors.ts';
import { loadPaths } from '../../../src/engine/tree/load-paths.ts';
import { emptyTree } from '../../../src/engine/tree/node-access.ts';
import { getEntry } from '../../../src/engine/tree/tree-reader.ts';
import type { Place } from '../../../src/engine/model/entry.ts';
import { itemOf, keyOf, range } from '../../support/arbitraries.ts';
import { buildTree, MemoryNodes, testKeys } from '../../support/tree-model.ts';

const wanted = [3, 700, 701, 1500, 2999].map((n) => keyOf('long', n));

async function tree() {
  const nodes = new MemoryNodes();
  const root = await buildTree(
    range(0, 3000).map((n) => itemOf('long', n)),
    nodes,
  );
  nodes.answers = 'later';
  nodes.resetCounts();
  return { nodes, root };
}

it('loads the nodes on the paths, each once, one level after the other', async () => {
  const { nodes, root } = await tree();
  const asked: Place[] = [];
  let waits = 0;
  let underway = 0;
  const source = {
    async load(place: Place): Promise<Uint8Array> {
      if (underway++ === 0) waits++;
      asked.push(place);
      await new Promise((resolve) => setImmediate(resolve));
      underway--;
      return nodes.at(place);
    },
  };
  await loadPaths(root, wanted, source, testKeys);
  expect(waits).toBe(root.level + 1);
  expect(new Set(asked.map((place) => JSON.stringify(place))).size).toBe(asked.length);
  const known = new Set(asked.map((place) => JSON.stringify(place)));
  for (const key of wanted) {
    const onlyKnown = {
      load: (place: Place) => {
        expect(known).toContain(JSON.stringify(place));
        return nodes.at(place);
      },
    };
    expect(await getEntry(root, key, onlyKnown, testKeys)).toBeDefined();
  }
});

it('leaves nodes that cannot be read to whoever needs them, and asks nothing of an empty tree', async () => {
  const { nodes, root } = await tree();
  const failing = {
    load: async (): Promise<Uint8Array> => {
      throw new HoldfastError('E_STORE_UNREACHABLE', 'no answer');
    },
  };
  await loadPaths(root, wanted, failing, testKeys);
  await loadPaths(emptyTree(testKeys), wanted, failing, testKeys);
  await loadPaths(root, [], nodes, testKeys);
  expect(nodes.loads).toBe(0);
});
