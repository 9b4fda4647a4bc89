import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nodeId } from '../../../src/engine/format/keys.ts';
import { decodeListNode, NodeWriter } from '../../../src/engine/format/tree-node.ts';
import { type Content, type ContentItem, zeroBlockBytes } from '../../../src/engine/model/entry.ts';
import { HoldfastError } from '../../../src/engine/model/errors.ts';
import { toContentId } from '../../../src/engine/model/ids.ts';
import { idText, ListBuilder, listNodes, readList, type StoredListNode } from '../../../src/engine/tree/list.ts';
import { contentItems, mutated, range, runs, sizeOf } from '../../support/arbitraries.ts';
import { MemoryNodes, testKeys } from '../../support/tree-model.ts';

type List = Content & { readonly kind: 'list' };

function build(
  items: readonly ContentItem[],
  nodes: MemoryNodes,
  known?: ReadonlyMap<string, StoredListNode>,
): Content {
  const builder = new ListBuilder({ sink: nodes, keys: testKeys, ...(known === undefined ? {} : { known }) });
  for (const item of items) builder.add(item);
  return builder.finish();
}

async function read(content: Content, nodes: MemoryNodes, size?: number): Promise<ContentItem[]> {
  const items: ContentItem[] = [];
  for await (const part of readList(content, nodes, testKeys, size)) items.push(...part);
  return items;
}

async function knownNodes(content: Content, nodes: MemoryNodes): Promise<Map<string, StoredListNode>> {
  const known = new Map<string, StoredListNode>();
  for await (const node of listNodes(content, nodes, testKeys)) known.set(idText(node.id), node);
  return known;
}

/** Chunk number `n` of an ordinary file: ids are digests, hence evenly spread. */
function chunk(n: number, bytes = 1000): ContentItem {
  const id = toContentId(nodeId(testKeys, Uint8Array.of(n & 0xff, n >> 8, n >> 16)));
  return { kind: 'chunk', bytes, id, place: { origin: 0, slot: 1, pack: 0, segment: n >> 4, offset: n & 15 } };
}

const zeros = (blocks: number): ContentItem => ({ kind: 'zero', bytes: blocks * zeroBlockBytes });
const manyItems = fc.oneof(
  contentItems({ maxLength: 20 }),
  fc
    .tuple(fc.nat(1000), fc.integer({ min: 0, max: 1500 }))
    .map(([from, count]) => range(from, from + count).map((n) => chunk(n))),
);

describe('the content of a file', () => {
  it('stands in the entry up to eight items', () => {
    const nodes = new MemoryNodes();
    const eight = range(0, 8).map((n) => chunk(n));
    expect(build(eight, nodes)).toEqual({ kind: 'inline', items: eight });
    expect(build([], nodes)).toEqual({ kind: 'inline', items: [] });
    expect(nodes.stores).toBe(0);
    expect(build([...eight, chunk(8)], nodes).kind).toBe('list');
  });

  it('is read back as it was given', async () => {
    await fc.assert(
      fc.asyncProperty(manyItems, fc.constantFrom('at once' as const, 'later' as const), async (items, answers) => {
        const nodes = new MemoryNodes();
        nodes.answers = answers;
        const content = build(items, nodes);
        expect(await read(content, nodes, sizeOf(items))).toEqual(items);
        expect(build(items, new MemoryNodes())).toEqual(content);
      }),
      runs(100),
    );
  });

  it('holds runs of zeros that met as one, however they were given', async () => {
    const nodes = new MemoryNodes();
    const block = chunk(1, zeroBlockBytes);
    const content = build([zeros(1), zeros(2), block, zeros(3), zeros(1)], nodes);
    expect(content).toEqual({ kind: 'inline', items: [zeros(3), block, zeros(4)] });
    // A sparse file of 4 TiB in a million runs is one item.
    const builder = new ListBuilder({ sink: nodes, keys: testKeys });
    for (let i = 0; i < 1_000_000; i++) builder.add(zeros(64));
    expect(builder.finish()).toEqual({ kind: 'inline', items: [zeros(64_000_000)] });
  });

  it('takes no run of zeros that is not aligned', () => {
    const builder = new ListBuilder({ sink: undefined, keys: testKeys });
    builder.add(chunk(0));
    expect(() => builder.add(zeros(1))).toThrow(/not aligned/);
    expect(() => builder.add({ kind: 'zero', bytes: 4096 })).toThrow(/not aligned/);
  });
});

describe('a chunk list', () => {
  const items = range(0, 20_000).map((n) => chunk(n));

  it('has nodes of 4 to 256 items, about 64 on average, and no root with a single child', () => {
    const nodes = new MemoryNodes();
    const root = build(items, nodes) as List;
    expect(root.level).toBe(2);
    const counts = nodes.nodes.map((bytes) => {
      const node = decodeListNode(bytes);
      return node.level === 0 ? node.items.length : 0;
    });
    const leaves = counts.filter((count) => count > 0);
    expect(Math.min(...leaves.slice(0, -1))).toBeGreaterThanOrEqual(4);
    expect(Math.max(...leaves)).toBeLessThanOrEqual(256);
    const mean = items.length / leaves.length;
    expect(mean).toBeGreaterThan(50);
    expect(mean).toBeLessThan(80);
  });

  it('of one chunk repeated is bounded all the same', async () => {
    for (const n of range(0, 80)) {
      const nodes = new MemoryNodes();
      const content = build(
        range(0, 1000).map(() => chunk(n)),
        nodes,
      ) as List;
      expect(content.level).toBeLessThanOrEqual(5);
      expect(await read(content, nodes, 1_000_000)).toHaveLength(1000);
    }
  });

  it('changes around a change only, and keeps the places of nodes that are known', async () => {
    const nodes = new MemoryNodes();
    const base = build(items, nodes);
    const known = await knownNodes(base, nodes);
    expect(known.size).toBe(nodes.stores);
    nodes.resetCounts();
    expect(build(items, nodes, known)).toEqual(base);
    expect(nodes.stores).toBe(0);
    // A chunk in the middle becomes two.
    const edited = [...items.slice(0, 9000), chunk(30_000), chunk(30_001), ...items.slice(9001)];
    const content = build(edited, nodes, known) as List;
    expect(nodes.stores).toBeLessThanOrEqual(6);
    expect(await read(content, nodes, sizeOf(edited))).toEqual(edited);
    expect(content.id).toEqual((build(edited, new MemoryNodes()) as List).id);
  });

  it('has an id that does not depend on where chunks lie', () => {
    const nodes = new MemoryNodes();
    const moved = items.map((item) => ({
      ...item,
      place: { origin: 3, slot: 99_999, pack: 7, segment: 1, offset: 77 },
    }));
    const [a, b] = [build(items, nodes) as List, build(moved, nodes) as List];
    expect(b.id).toEqual(a.id);
    expect(b.place).not.toEqual(a.place);
  });

  it('names its leaves without loading them', async () => {
    const nodes = new MemoryNodes();
    const content = build(items, nodes);
    const stored = nodes.stores;
    nodes.resetCounts();
    expect((await knownNodes(content, nodes)).size).toBe(stored);
    expect(nodes.loads).toBeLessThan(stored / 20);
  });

  it('in a dry run has the same id and stores nothing', () => {
    const builder = new ListBuilder({ sink: undefined, keys: testKeys });
    for (const item of items) builder.add(item);
    expect((builder.finish() as List).id).toEqual((build(items, new MemoryNodes()) as List).id);
  });
});

describe('an untrusted chunk list', () => {
  const nodes = new MemoryNodes();
  const refused = async (content: Content, size?: number): Promise<string> => {
    try {
      await read(content, nodes, size);
      return 'none';
    } catch (error) {
      if (error instanceof HoldfastError) return error.code;
      throw error;
    }
  };
  const forgeLeaf = (items: readonly ContentItem[]): List => {
    const node = new NodeWriter().listLeaf(items);
    const id = nodeId(testKeys, node.logical);
    return { kind: 'list', id, place: nodes.store(node.bytes), nodeBytes: node.bytes.length, level: 0 };
  };
  const forgeAbove = (level: number, below: readonly List[], items: number, bytes: number): List => {
    const node = new NodeWriter().listInterior(
      level,
      below.map(({ id, place, nodeBytes }) => ({ id, place, nodeBytes, items, bytes })),
    );
    const id = nodeId(testKeys, node.logical);
    return { kind: 'list', id, place: nodes.store(node.bytes), nodeBytes: node.bytes.length, level };
  };
  const twelve = range(0, 12).map((n) => chunk(n));

  it('is refused when it does not fill the file', async () => {
    expect(await refused(forgeLeaf(twelve), 12_000)).toBe('none');
    expect(await refused(forgeLeaf(twelve), 11_999)).toBe('E_HOSTILE');
    expect(await refused(forgeLeaf(twelve), 12_001)).toBe('E_HOSTILE');
  });

  it('is refused when it is not canonical', async () => {
    expect(await refused(forgeLeaf(twelve.slice(0, 8)))).toBe('E_HOSTILE');
    expect(await refused(forgeLeaf([...twelve, zeros(1)]))).toBe('E_HOSTILE');
    expect(await refused(forgeLeaf([zeros(1), zeros(1), ...twelve]))).toBe('E_HOSTILE');
    expect(await refused(forgeLeaf([chunk(1, 2 ** 21), ...twelve]))).toBe('E_HOSTILE');
    expect(await refused(forgeLeaf([{ kind: 'zero', bytes: 0 }, ...twelve]))).toBe('E_HOSTILE');
    expect(await refused(forgeAbove(1, [forgeLeaf(twelve)], 12, 12_000))).toBe('E_HOSTILE');
  });

  it('is refused when its sums or levels are wrong', async () => {
    const parts = [forgeLeaf(twelve), forgeLeaf(twelve)];
    expect(await refused(forgeAbove(1, parts, 12, 12_000), 24_000)).toBe('none');
    expect(await refused(forgeAbove(1, parts, 13, 12_000))).toBe('E_HOSTILE');
    expect(await refused(forgeAbove(1, parts, 12, 12_001))).toBe('E_HOSTILE');
    expect(await refused(forgeAbove(1, parts, 12, Number.MAX_SAFE_INTEGER))).toBe('E_HOSTILE');
    expect(await refused(forgeAbove(2, parts, 12, 12_000))).toBe('E_HOSTILE');
    expect(await refused({ ...forgeLeaf(twelve), level: 1 })).toBe('E_HOSTILE');
  });

  it('that unfolds without end is stopped at the size of the file', async () => {
    // Twelve levels of eight times the same child: 800 TB from a few kilobytes.
    let list = forgeLeaf(twelve);
    let bytes = 12_000;
    let items = 12;
    for (let level = 1; level <= 12; level++) {
      list = forgeAbove(level, [list, list, list, list, list, list, list, list], items, bytes);
      bytes *= 8;
      items *= 8;
    }
    expect(await refused(list, 100_000)).toBe('E_HOSTILE');
  });

  it('is refused when a node is another one than its parent says, or has another length', async () => {
    const content = forgeLeaf(twelve);
    const other = forgeLeaf(range(20, 32).map((n) => chunk(n)));
    expect(await refused({ ...content, id: other.id }, 12_000)).toBe('E_DAMAGED');
    expect(await refused({ ...content, place: other.place }, 12_000)).toBe('E_DAMAGED');
    expect(await refused({ ...content, nodeBytes: content.nodeBytes + 1 }, 12_000)).toBe('E_DAMAGED');
  });

  it('is refused when it has more bytes than a file can have', async () => {
    const most = { kind: 'zero', bytes: 2 ** 53 - zeroBlockBytes } as const;
    expect(await refused(forgeLeaf([most, ...range(0, 65).map((n) => chunk(n))]))).toBe('none');
    expect(await refused(forgeLeaf([most, ...range(0, 66).map((n) => chunk(n))]))).toBe('E_HOSTILE');
  });

  it('that is damaged ends with a typed error', async () => {
    const content = build(
      range(0, 1000).map((n) => chunk(n)),
      nodes,
    ) as List;
    const from = nodes.nodes.length;
    const root = nodes.at(content.place);
    const at = nodes.nodes.indexOf(root);
    expect(at).toBeLessThan(from);
    await fc.assert(
      fc.asyncProperty(mutated(root), async (bytes) => {
        nodes.nodes[at] = bytes;
        expect(['none', 'E_DAMAGED', 'E_HOSTILE', 'E_FORMAT_NEWER']).toContain(await refused(content, 1_000_000));
      }),
      runs(200),
    );
    nodes.nodes[at] = root;
    expect(await refused(content, 1_000_000)).toBe('none');
  });
});
