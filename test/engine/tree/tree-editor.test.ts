import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { InteriorNode, LeafItem } from '../../../src/engine/format/tree-node.ts';
import { compareBytes, concatBytes, emptyBytes, utf8Bytes } from '../../../src/engine/model/bytes.ts';
import type { TreeRoot } from '../../../src/engine/model/checkpoint.ts';
import type { Place } from '../../../src/engine/model/entry.ts';
import { toContentId } from '../../../src/engine/model/ids.ts';
import { emptyTree } from '../../../src/engine/tree/node-access.ts';
import { TreeEditor } from '../../../src/engine/tree/tree-editor.ts';
import {
  type EdgeKey,
  type Edit,
  type EditPlan,
  editPlan,
  entryNumbers,
  itemOf,
  keyOf,
  keyOfEdit,
  keyStyle,
  type KeyStyle,
  planEdits,
  range,
  runs,
} from '../../support/arbitraries.ts';
import {
  buildTree,
  encoded,
  leafEdges,
  MemoryNodes,
  scanAll,
  smallValue,
  testKeys,
  TreeModel,
  visitNodes,
} from '../../support/tree-model.ts';

function editorOf(base: TreeRoot, nodes: MemoryNodes): TreeEditor {
  return new TreeEditor({ base, source: nodes, sink: nodes, keys: testKeys });
}

async function apply(editor: TreeEditor, edits: readonly Edit[]): Promise<void> {
  for (const edit of edits) {
    if (edit.kind === 'put') await editor.put(edit.item.key, edit.item.value, edit.item.placement);
    else if (edit.kind === 'delete') await editor.delete(edit.key);
    else await editor.deleteRange(edit.key, edit.to);
  }
}

function applyToModel(model: TreeModel, edits: readonly Edit[]): void {
  for (const edit of edits) {
    if (edit.kind === 'put') model.put(edit.item);
    else if (edit.kind === 'delete') model.delete(edit.key);
    else model.deleteRange(edit.key, edit.to);
  }
}

/** All of a root that follows from the content; places and so node sizes do not. */
function canonical(root: TreeRoot): unknown {
  return { id: Buffer.from(root.id).toString('hex'), level: root.level, sums: root.sums };
}

function itemsOf(style: KeyStyle, numbers: readonly number[]): LeafItem[] {
  return TreeModel.of(numbers.map((number) => itemOf(style, number))).sorted();
}

/** Paths of 4,000 bytes and more that differ in their last name. */
function deepItems(count: number): LeafItem[] {
  const directory = `${'x'.repeat(249)}\0`.repeat(16);
  return range(0, count).map((i) => ({
    key: utf8Bytes(`${directory}${String(i).padStart(20, '0')}`),
    value: smallValue(0),
    placement: emptyBytes,
  }));
}

async function expectSameAsFresh(root: TreeRoot, model: TreeModel): Promise<void> {
  expect(canonical(root)).toEqual(canonical(await buildTree(model.sorted(), new MemoryNodes())));
}

describe('an edited tree has the root of a fresh build', () => {
  const cases = fc.record({
    style: keyStyle,
    numbers: entryNumbers,
    plan: fc.array(editPlan, { minLength: 1, maxLength: 12 }),
    answers: fc.constantFrom('at once' as const, 'later' as const),
  });

  it('after random edits, at node boundaries above all', async () => {
    await fc.assert(
      fc.asyncProperty(cases, async ({ style, numbers, plan, answers }) => {
        const nodes = new MemoryNodes();
        nodes.answers = answers;
        const items = itemsOf(style, numbers);
        const base = await buildTree(items, nodes);
        const edits = planEdits(style, plan, leafEdges(base, nodes));
        const editor = editorOf(base, nodes);
        await apply(editor, edits);
        const root = await editor.finish();
        const model = TreeModel.of(items);
        applyToModel(model, edits);
        await expectSameAsFresh(root, model);
        expect(await scanAll(root, nodes)).toEqual(model.sorted());
        // The tree it started from is as it was.
        expect(await scanAll(base, nodes)).toEqual(items);
      }),
      runs(250),
    );
  });

  it('through a chain of editors, growing from nothing and shrinking to nothing', async () => {
    await fc.assert(
      fc.asyncProperty(
        keyStyle,
        fc.array(fc.array(editPlan, { maxLength: 6 }), { minLength: 2, maxLength: 6 }),
        async (style, plans) => {
          const nodes = new MemoryNodes();
          const model = new TreeModel();
          let root = emptyTree(testKeys);
          for (const plan of plans) {
            const more = plan.flatMap((step) => ('number' in step ? range(step.number, step.number + 40) : []));
            const grown = editorOf(root, nodes);
            for (const item of itemsOf(style, more)) {
              await grown.put(item.key, item.value, item.placement);
              model.put(item);
            }
            root = await grown.finish();
            const edits = planEdits(style, plan, leafEdges(root, nodes));
            const edited = editorOf(root, nodes);
            await apply(edited, edits);
            applyToModel(model, edits);
            root = await edited.finish();
            await expectSameAsFresh(root, model);
          }
          // To nothing, half of it one by one.
          const items = model.sorted();
          const emptied = editorOf(root, nodes);
          const half = items.slice(0, items.length >> 1);
          for (const { key } of half) await emptied.delete(key);
          const next = items[half.length];
          if (next !== undefined) await emptied.deleteRange(next.key, undefined);
          expect(await emptied.finish()).toEqual(emptyTree(testKeys));
        },
      ),
      runs(60),
    );
  });

  it('whatever parts it is built in', async () => {
    await fc.assert(
      fc.asyncProperty(keyStyle, fc.array(fc.nat(3), { minLength: 50, maxLength: 400 }), async (style, parts) => {
        const nodes = new MemoryNodes();
        let root = emptyTree(testKeys);
        for (const part of [2, 0, 3, 1]) {
          const editor = editorOf(root, nodes);
          const numbers = range(0, parts.length).filter((i) => parts[i] === part);
          for (const { key, value, placement } of itemsOf(style, numbers)) await editor.put(key, value, placement);
          root = await editor.finish();
        }
        await expectSameAsFresh(root, TreeModel.of(itemsOf(style, range(0, parts.length))));
      }),
      runs(50),
    );
  });

  it('when single entries at every leaf edge go or come', async () => {
    const nodes = new MemoryNodes();
    const items = itemsOf('huge', range(0, 200));
    const base = await buildTree(items, nodes);
    const edges = leafEdges(base, nodes);
    expect(base.level).toBeGreaterThanOrEqual(3);
    for (const share of edges.map((_, i) => (i + 0.5) / edges.length)) {
      const at = (kind: 'put' | 'delete', edge: EdgeKey): EditPlan => ({ kind, edge, share, version: 1 });
      for (const plan of [
        [at('delete', 'first')],
        [at('delete', 'last')],
        [at('put', 'first')],
        [at('put', 'last')],
        [at('put', 'before')],
        [at('put', 'after')],
        [at('put', 'prefix of first')],
        [at('delete', 'prefix of first'), at('put', 'after')],
        [{ kind: 'deleteLeaf', share, exact: false }],
        [{ kind: 'deleteLeaf', share, exact: true }],
      ] as EditPlan[][]) {
        const edits = planEdits('huge', plan, edges);
        const editor = editorOf(base, nodes);
        await apply(editor, edits);
        const model = TreeModel.of(items);
        applyToModel(model, edits);
        await expectSameAsFresh(await editor.finish(), model);
      }
    }
  });
});

describe('whole subtrees are taken over', () => {
  const items = itemsOf('long', range(0, 1500));

  it('not when they are the last of their level and something follows now', async () => {
    // Numbers are cut off at many places, so that the last nodes of several levels ended because the tree did.
    for (let count = 1; count < 200; count++) {
      const nodes = new MemoryNodes();
      const base = await buildTree(items.slice(0, count), nodes);
      const editor = editorOf(base, nodes);
      const more = itemOf('long', 9999);
      await editor.put(more.key, more.value, more.placement);
      await expectSameAsFresh(await editor.finish(), TreeModel.of([...items.slice(0, count), more]));
    }
  });

  it('not when another key stands before them, which would change their separator', async () => {
    const nodes = new MemoryNodes();
    const huge = itemsOf('huge', range(0, 400));
    const base = await buildTree(huge, nodes);
    const edges = leafEdges(base, nodes);
    for (const [i, { lower, first, last }] of edges.entries()) {
      const next = edges[i + 1]?.lower;
      const afterFirst = concatBytes([first, Uint8Array.of(0)]);
      const gone: Edit[][] = [
        [{ kind: 'deleteRange', key: lower.length > 0 ? lower : first, to: next }],
        [
          { kind: 'delete', key: first },
          { kind: 'deleteRange', key: afterFirst, to: next },
        ],
        [{ kind: 'delete', key: last }],
      ];
      for (const edits of gone) {
        const editor = editorOf(base, nodes);
        await apply(editor, edits);
        const model = TreeModel.of(huge);
        applyToModel(model, edits);
        await expectSameAsFresh(await editor.finish(), model);
      }
    }
  });

  it('not when a key came right before their first one, after the leaf had been opened for another reason', async () => {
    const nodes = new MemoryNodes();
    // Keys so long that most leaves end after their first one.
    const deep = deepItems(300);
    const base = await buildTree(deep, nodes);
    let tried = 0;
    const edges = leafEdges(base, nodes);
    for (const [i, { lower, first }] of edges.entries()) {
      // Both keys sort between the leaf's separator and its first key.
      const absent = first.subarray(0, -1);
      if (lower.length === 0 || compareBytes(lower, absent) > 0) continue;
      tried++;
      const item = { key: concatBytes([absent, Uint8Array.of(1)]), value: smallValue(1), placement: emptyBytes };
      // The leaf before is taken over whole, or was written anew.
      const before = { ...item, key: edges[i - 1]?.last as Uint8Array };
      const opened: Edit[] = [
        { kind: 'delete', key: absent },
        { kind: 'put', item },
      ];
      for (const edits of [opened, [{ kind: 'put', item: before } as const, ...opened]]) {
        const editor = editorOf(base, nodes);
        await apply(editor, edits);
        const model = TreeModel.of(deep);
        applyToModel(model, edits);
        await expectSameAsFresh(await editor.finish(), model);
      }
    }
    expect(tried).toBeGreaterThan(5);
  });

  it('without being read: edits touch O(log N) nodes each', async () => {
    const nodes = new MemoryNodes();
    const many = itemsOf('long', range(0, 20_000));
    const base = await buildTree(many, nodes);
    const perEdit = base.level + 1;
    expect(base.level).toBeGreaterThanOrEqual(3);
    expect(nodes.stores).toBeGreaterThan(1000);
    for (const edits of [1, 10, 40]) {
      nodes.resetCounts();
      const editor = editorOf(base, nodes);
      for (let i = 0; i < edits; i++) {
        await editor.put(keyOf('long', Math.floor((i + 0.4) * (20_000 / edits))), smallValue(7), emptyBytes);
      }
      await editor.finish();
      expect(nodes.loads).toBeLessThanOrEqual(edits * perEdit);
      expect(nodes.stores).toBeLessThanOrEqual(edits * perEdit);
      // New and removed names may move boundaries, up to the next boundary that stays.
      nodes.resetCounts();
      const mover = editorOf(base, nodes);
      for (let i = 0; i < edits; i++) {
        await mover.delete(keyOf('long', Math.floor((i + 0.4) * (20_000 / edits))));
        await mover.put(
          concatBytes([keyOf('long', Math.floor((i + 0.6) * (20_000 / edits))), Uint8Array.of(1)]),
          smallValue(7),
          emptyBytes,
        );
      }
      await mover.finish();
      expect(nodes.loads).toBeLessThanOrEqual(edits * perEdit * 4);
      expect(nodes.stores).toBeLessThanOrEqual(edits * perEdit * 4);
    }
  });

  it('so that an editor without edits loads and stores nothing', async () => {
    const nodes = new MemoryNodes();
    const base = await buildTree(items, nodes);
    nodes.resetCounts();
    expect(await editorOf(base, nodes).finish()).toEqual(base);
    expect([nodes.loads, nodes.stores]).toEqual([0, 0]);
  });
});

describe('nodes that come out as they were', () => {
  const items = itemsOf('long', range(0, 800));

  it('keep their places when all entries are put again', async () => {
    const nodes = new MemoryNodes();
    const base = await buildTree(items, nodes);
    nodes.resetCounts();
    const editor = editorOf(base, nodes);
    for (const { key, value, placement } of items) await editor.put(key, value, placement);
    expect(await editor.finish()).toEqual(base);
    expect(nodes.stores).toBe(0);
  });

  it('are stored again when their contents moved, without changing the root', async () => {
    const nodes = new MemoryNodes();
    const file = (slot: number): LeafItem => {
      const place: Place = { origin: 0, slot, pack: 0, segment: 0, offset: 0 };
      const id = toContentId(new Uint8Array(32).fill(1));
      const entry = { mode: 0o644, uid: 0, gid: 0, mtimeSec: 0, mtimeNsec: 0, xattrs: [], holes: [] };
      const content = { kind: 'inline', items: [{ kind: 'chunk', bytes: 5, id, place }] } as const;
      return { key: keyOf('long', 400), ...encoded({ type: 'file', size: 5, content, ...entry }) };
    };
    const model = TreeModel.of(items);
    model.put(file(3));
    const base = await buildTree(model.sorted(), nodes);
    nodes.resetCounts();
    const editor = editorOf(base, nodes);
    await editor.put(file(70_000).key, file(70_000).value, file(70_000).placement);
    const moved = await editor.finish();
    expect(canonical(moved)).toEqual(canonical(base));
    expect(nodes.stores).toBe(base.level + 1);
    expect((await scanAll(moved, nodes)).find(({ placement }) => placement.length > 0)?.placement).toEqual(
      file(70_000).placement,
    );
    expect((await scanAll(base, nodes)).find(({ placement }) => placement.length > 0)?.placement).toEqual(
      file(3).placement,
    );
  });
});

describe('a snapshot', () => {
  it('is the tree up to the last key, and the editor goes on', async () => {
    await fc.assert(
      fc.asyncProperty(
        keyStyle,
        entryNumbers,
        fc.array(editPlan, { minLength: 2, maxLength: 12 }),
        async (style, numbers, plan) => {
          const nodes = new MemoryNodes();
          const items = itemsOf(style, numbers);
          const base = await buildTree(items, nodes);
          const edits = planEdits(style, plan, leafEdges(base, nodes));
          const editor = editorOf(base, nodes);
          const model = TreeModel.of(items);
          for (const edit of edits) {
            await apply(editor, [edit]);
            applyToModel(model, [edit]);
            const key = keyOfEdit(edit);
            const end = edit.kind === 'deleteRange' ? key : concatBytes([key, Uint8Array.of(0)]);
            const prefix = TreeModel.of(model.sorted(undefined, end));
            const snapshot = await editor.snapshot();
            await expectSameAsFresh(snapshot, prefix);
            expect(await scanAll(snapshot, nodes)).toEqual(prefix.sorted());
          }
          await expectSameAsFresh(await editor.finish(), model);
        },
      ),
      runs(60),
    );
  });

  it('of nothing is the empty tree', async () => {
    const nodes = new MemoryNodes();
    const base = await buildTree(itemsOf('short', range(0, 300)), nodes);
    expect(await editorOf(base, nodes).snapshot()).toEqual(emptyTree(testKeys));
  });
});

describe('a dry run', () => {
  it('gives the root and stores nothing', async () => {
    const nodes = new MemoryNodes();
    const items = itemsOf('long', range(0, 500));
    const base = await buildTree(items, nodes);
    nodes.resetCounts();
    for (const from of [base, emptyTree(testKeys)]) {
      const editor = new TreeEditor({ base: from, source: nodes, sink: undefined, keys: testKeys });
      for (const { key, value, placement } of items) await editor.put(key, value, placement);
      const more = itemOf('long', 501);
      await editor.put(more.key, more.value, more.placement);
      const root = await editor.finish();
      expect(root.place).toBeUndefined();
      await expectSameAsFresh(root, TreeModel.of([...items, more]));
    }
    expect(nodes.stores).toBe(0);
  });
});

describe('sums', () => {
  it('count files, entries and bytes below', async () => {
    const nodes = new MemoryNodes();
    const file = (n: number, size: number): LeafItem => ({ key: keyOf('long', n), ...sparseFile(size) });
    const root = await buildTree([...range(0, 300).map((n) => file(n, n * 65_536)), itemOf('long', 300)], nodes);
    expect(root.sums).toEqual({ files: 300, entries: 301, bytes: 65_536 * 44_850 });
    expect(await scanAll(root, nodes)).toHaveLength(301);
  });

  it('end at 2^53 - 1, so that a few sparse files of extreme size do not stop a checkpoint', async () => {
    const nodes = new MemoryNodes();
    const items = range(0, 300).map((n) => ({ key: keyOf('long', n), ...sparseFile(2 ** 52) }));
    const root = await buildTree(items, nodes);
    expect(root.sums).toEqual({ files: 300, entries: 300, bytes: Number.MAX_SAFE_INTEGER });
    expect(await scanAll(root, nodes)).toEqual(items);
    const editor = editorOf(root, nodes);
    await editor.deleteRange(keyOf('long', 1), undefined);
    expect((await editor.finish()).sums).toEqual({ files: 1, entries: 1, bytes: 2 ** 52 });
  });
});

describe('the shape of a tree', () => {
  const trees: readonly (readonly [string, LeafItem[]])[] = [
    ['short keys', itemsOf('short', range(0, 3000))],
    ['long keys', itemsOf('long', range(0, 3000))],
    ['keys of a thousand bytes', itemsOf('huge', range(0, 1500))],
    ['mixed keys', itemsOf('mixed', range(0, 3000))],
  ];

  it.each(trees)('every interior node has at least 4 children, but the last of its level: %s', async (_, items) => {
    const nodes = new MemoryNodes();
    const root = await buildTree(items, nodes);
    const interior = visitNodes(root, nodes).filter(({ node }) => 'children' in node);
    expect(interior.length).toBeGreaterThan(0);
    for (const { node, last } of interior) {
      const { length } = (node as InteriorNode).children;
      expect(length).toBeGreaterThanOrEqual(last ? 1 : 4);
    }
    const [top] = visitNodes(root, nodes).map(({ node }) => node as InteriorNode);
    expect(top?.children.length).toBeGreaterThan(1);
  });

  it.each(trees)('no node goes on beyond 16 KiB of keys once it has four items: %s', async (_, items) => {
    const nodes = new MemoryNodes();
    for (const { node } of visitNodes(await buildTree(items, nodes), nodes)) {
      const keys =
        'children' in node ? node.children.map((c) => c.separator) : range(0, node.count).map((i) => node.key(i));
      const before = keys.slice(0, -1).reduce((bytes, key) => bytes + key.length + 48, 0);
      expect(keys.length <= 4 || before < 16_384).toBe(true);
    }
  });

  it('paths of 4,000 bytes give a tree that gets narrower from level to level', async () => {
    const nodes = new MemoryNodes();
    const items = deepItems(2000);
    const root = await buildTree(items, nodes);
    const perLevel: number[] = [];
    for (const { node } of visitNodes(root, nodes)) perLevel[node.level] = (perLevel[node.level] ?? 0) + 1;
    for (let level = 1; level <= root.level; level++) {
      expect(perLevel[level]).toBeLessThanOrEqual(Math.ceil((perLevel[level - 1] as number) / 4));
    }
    expect(perLevel[root.level]).toBe(1);
    expect(root.level).toBeLessThanOrEqual(6);
  });

  it('values and placement move no boundary', async () => {
    const nodes = new MemoryNodes();
    const items = itemsOf('long', range(0, 1000));
    const edges = leafEdges(await buildTree(items, nodes), nodes);
    const others = items.map(({ key }, i) => ({
      key,
      value: encoded({ type: 'symlink', target: new Uint8Array(1 + (i % 900)).fill(65), ...plainMeta }).value,
      placement: new Uint8Array(i % 500),
    }));
    expect(leafEdges(await buildTree(others, nodes), nodes)).toEqual(edges);
  });

  it('a root with a single child collapses', async () => {
    const nodes = new MemoryNodes();
    const items = itemsOf('long', range(0, 2000));
    const base = await buildTree(items, nodes);
    const edges = leafEdges(base, nodes);
    // Whatever single leaf is left, it is the root, also where its old parents had one child.
    for (const { first, last } of [edges[0], edges[edges.length >> 1], edges[edges.length - 1]] as typeof edges) {
      const editor = editorOf(base, nodes);
      if (first !== edges[0]?.first) await editor.deleteRange(items[0]?.key as Uint8Array, first);
      await editor.deleteRange(concatBytes([last, Uint8Array.of(0)]), undefined);
      const root = await editor.finish();
      expect(root.level).toBe(0);
      await expectSameAsFresh(
        root,
        TreeModel.of(TreeModel.of(items).sorted(first, concatBytes([last, Uint8Array.of(0)]))),
      );
    }
  });

  it('node sizes are near 4 KiB, few are tiny and none is large', async () => {
    const nodes = new MemoryNodes();
    const root = await buildTree(itemsOf('short', range(0, 60_000)), nodes);
    const measures = visitNodes(root, nodes).flatMap(({ node }) =>
      'children' in node ? [] : [range(0, node.count).reduce((sum, i) => sum + node.key(i).length + 48, 0)],
    );
    const mean = measures.reduce((sum, m) => sum + m, 0) / measures.length;
    expect(mean).toBeGreaterThan(3800);
    expect(mean).toBeLessThan(4400);
    expect(measures.filter((m) => m < 800).length / measures.length).toBeLessThan(0.06);
    expect(Math.max(...measures)).toBeLessThan(16_384);
  });
});

describe('an editor refuses', () => {
  const nodes = new MemoryNodes();
  const fresh = (): TreeEditor => editorOf(emptyTree(testKeys), nodes);
  const put = (editor: TreeEditor, name: string) => editor.put(utf8Bytes(name), smallValue(0), emptyBytes);

  it('keys that do not ascend', () => {
    const editor = fresh();
    put(editor, 'b');
    expect(() => put(editor, 'b')).toThrow(/keys ascend/);
    expect(() => put(editor, 'a')).toThrow(/keys ascend/);
    expect(() => editor.delete(utf8Bytes('b'))).toThrow(/keys ascend/);
    put(editor, 'bb');
  });

  it('keys inside a range that was removed, and empty ranges', () => {
    const editor = fresh();
    editor.deleteRange(utf8Bytes('c'), utf8Bytes('e'));
    expect(() => put(editor, 'd')).toThrow(/keys ascend/);
    put(editor, 'e');
    expect(() => editor.deleteRange(utf8Bytes('f'), utf8Bytes('f'))).toThrow(/range/);
    const other = fresh();
    other.deleteRange(utf8Bytes('c'), undefined);
    expect(() => put(other, 'zzz')).toThrow(/keys ascend/);
  });

  it('a path that no reader would accept, by a limit and not as a defect', () => {
    const long = utf8Bytes(`${'d'.repeat(255)}\0`.repeat(4096));
    expect(() => fresh().put(long, smallValue(0), emptyBytes)).not.toThrow();
    expect(() => fresh().put(concatBytes([long, utf8Bytes('x')]), smallValue(0), emptyBytes)).toThrow(
      /longer than 1048576/,
    );
  });

  it('a call before the one before has ended', async () => {
    const later = new MemoryNodes();
    const base = await buildTree(itemsOf('short', range(0, 200)), later);
    later.answers = 'later';
    const editor = editorOf(base, later);
    const first = editor.put(keyOf('short', 5), smallValue(1), emptyBytes);
    expect(first).toBeInstanceOf(Promise);
    expect(() => editor.put(keyOf('short', 6), smallValue(1), emptyBytes)).toThrow(/follow each other/);
    await first;
    // Within the loaded leaf, at once.
    expect(editor.put(keyOf('short', 7), smallValue(1), emptyBytes)).toBeUndefined();
  });

  it('to go on after a failed load', async () => {
    const failing = new MemoryNodes();
    const base = await buildTree(itemsOf('short', range(0, 200)), failing);
    const editor = new TreeEditor({
      base,
      source: { load: () => Promise.reject(new Error('gone')) },
      sink: failing,
      keys: testKeys,
    });
    await expect(editor.put(keyOf('short', 5), smallValue(1), emptyBytes)).rejects.toThrow('gone');
    await expect(editor.finish()).rejects.toThrow(/between calls/);
  });
});

/** All of it a run of zeros; `size` is a multiple of 64 KiB. */
function sparseFile(size: number): { value: Uint8Array; placement: Uint8Array } {
  const items = size === 0 ? [] : [{ kind: 'zero' as const, bytes: size }];
  return encoded({ type: 'file', size, content: { kind: 'inline', items }, holes: [], ...plainMeta });
}

const plainMeta = { mode: 0o644, uid: 0, gid: 0, mtimeSec: 0, mtimeNsec: 0, xattrs: [] };
