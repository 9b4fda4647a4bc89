import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nodeId } from '../../../src/engine/format/keys.ts';
import {
  type EncodedNode,
  type LeafItem,
  LeafWriter,
  type NodeChild,
  NodeWriter,
} from '../../../src/engine/format/tree-node.ts';
import { emptyBytes, utf8Bytes } from '../../../src/engine/model/bytes.ts';
import type { TreeRoot } from '../../../src/engine/model/checkpoint.ts';
import { type ErrorCode, HoldfastError } from '../../../src/engine/model/errors.ts';
import { toNodeId } from '../../../src/engine/model/ids.ts';
import { diffTrees } from '../../../src/engine/tree/tree-diff.ts';
import { TreeEditor } from '../../../src/engine/tree/tree-editor.ts';
import { getEntry } from '../../../src/engine/tree/tree-reader.ts';
import { itemOf, keyOf, mutated, range, runs } from '../../support/arbitraries.ts';
import { buildTree, MemoryNodes, scanAll, smallValue, testKeys } from '../../support/tree-model.ts';

/** A child that is stored as somebody with the keys could store it, whatever it says. */
function forge(nodes: MemoryNodes, node: EncodedNode, claim: Partial<NodeChild> & Pick<NodeChild, 'sums'>): NodeChild {
  const id = nodeId(testKeys, node.logical);
  return { separator: emptyBytes, id, nodeBytes: node.bytes.length, place: nodes.store(node.bytes), ...claim };
}

function rootOf(child: NodeChild, level: number): TreeRoot {
  return { id: child.id, level, nodeBytes: child.nodeBytes, place: child.place, sums: child.sums };
}

function leafOf(names: readonly string[]): EncodedNode {
  const writer = new LeafWriter();
  for (const name of names) writer.add(utf8Bytes(name), smallValue(0), emptyBytes);
  return writer.encode();
}

const sums = (entries: number) => ({ files: 0, entries, bytes: 0 });

async function failureOf(work: Promise<unknown>): Promise<ErrorCode | 'none'> {
  try {
    await work;
    return 'none';
  } catch (error) {
    if (error instanceof HoldfastError) return error.code;
    throw error;
  }
}

describe('a forged tree is refused', () => {
  const nodes = new MemoryNodes();
  const scan = (root: TreeRoot): Promise<ErrorCode | 'none'> => failureOf(scanAll(root, nodes));
  const leaf = (names: readonly string[], claim: Partial<NodeChild> = {}): NodeChild =>
    forge(nodes, leafOf(names), { sums: sums(names.length), ...claim });
  const above = (level: number, children: readonly NodeChild[], claim: Partial<NodeChild> = {}): NodeChild =>
    forge(nodes, new NodeWriter().interior(level, children), {
      sums: sums(children.reduce((total, child) => total + child.sums.entries, 0)),
      ...claim,
    });

  it('but not one that is right', async () => {
    const parts = [leaf(['a', 'b']), leaf(['c'], { separator: utf8Bytes('c') })];
    expect(await scan(rootOf(above(1, parts), 1))).toBe('none');
  });

  it('with a node that does not match its id', async () => {
    const child = leaf(['a', 'b']);
    const wrongId = { ...child, id: toNodeId(child.id.map((byte, i) => (i === 31 ? byte ^ 1 : byte))) };
    expect(await scan(rootOf(wrongId, 0))).toBe('E_DAMAGED');
  });

  it('with a node of another length', async () => {
    const child = leaf(['a', 'b']);
    expect(await scan(rootOf({ ...child, nodeBytes: child.nodeBytes + 1 }, 0))).toBe('E_DAMAGED');
  });

  it('with names that lead elsewhere', async () => {
    for (const name of ['..', '.', '/etc/passwd', 'a/b', 'a\0..\0b', '\0a', 'a\0\0b', 'a\0', 'x'.repeat(256)]) {
      expect(await scan(rootOf(leaf([name]), 0))).toBe('E_HOSTILE');
    }
  });

  it('with keys that do not ascend or stand twice', async () => {
    expect(await scan(rootOf(leaf(['b', 'a']), 0))).toBe('E_DAMAGED');
    expect(await scan(rootOf(leaf(['a', 'a']), 0))).toBe('E_DAMAGED');
  });

  it('with sums that do not add up', async () => {
    expect(await scan(rootOf(leaf(['a', 'b'], { sums: sums(3) }), 0))).toBe('E_HOSTILE');
    expect(await scan(rootOf(leaf(['a', 'b'], { sums: { files: 1, entries: 2, bytes: 0 } }), 0))).toBe('E_HOSTILE');
    expect(await scan(rootOf(leaf(['a', 'b'], { sums: { files: 0, entries: 2, bytes: 1 } }), 0))).toBe('E_HOSTILE');
    const parts = [leaf(['a', 'b']), leaf(['c'], { separator: utf8Bytes('c') })];
    expect(await scan(rootOf(above(1, parts, { sums: sums(4) }), 1))).toBe('E_HOSTILE');
    const huge = { files: 0, entries: Number.MAX_SAFE_INTEGER, bytes: 0 };
    const heavy = [leaf(['a'], { sums: huge }), leaf(['c'], { separator: utf8Bytes('c'), sums: huge })];
    expect(await scan(rootOf(above(1, heavy, { sums: huge }), 1))).toBe('E_HOSTILE');
  });

  it('with keys outside the range of their node', async () => {
    const below = [leaf(['a', 'b']), leaf(['b5'], { separator: utf8Bytes('c') })];
    expect(await scan(rootOf(above(1, below), 1))).toBe('E_HOSTILE');
    const beyond = [leaf(['a', 'c']), leaf(['c5'], { separator: utf8Bytes('c') })];
    expect(await scan(rootOf(above(1, beyond), 1))).toBe('E_HOSTILE');
  });

  it('with the same subtree twice, so that it cannot unfold into more than is stored', async () => {
    const part = leaf(['a', 'b']);
    const twice = [part, { ...part, separator: utf8Bytes('a1') }];
    expect(await scan(rootOf(above(1, twice), 1))).toBe('E_HOSTILE');
  });

  it('with a level that does not descend by one', async () => {
    const parts = [leaf(['a', 'b']), leaf(['c'], { separator: utf8Bytes('c') })];
    expect(await scan(rootOf(above(2, parts), 2))).toBe('E_HOSTILE');
    expect(await scan(rootOf(above(1, parts), 2))).toBe('E_HOSTILE');
    expect(await scan(rootOf(leaf(['a']), 1))).toBe('E_HOSTILE');
    expect(await scan(rootOf(above(25, parts), 25))).toBe('E_DAMAGED');
  });

  it('with a node that begins elsewhere than its parent says', async () => {
    const inner = above(1, [leaf(['c'], { separator: utf8Bytes('c') })], { separator: utf8Bytes('b') });
    const first = above(
      1,
      'abcd'.split('').map((_, i) => leaf([`a${i}`], { separator: i === 0 ? emptyBytes : utf8Bytes(`a${i}`) })),
    );
    expect(await scan(rootOf(above(2, [first, inner]), 2))).toBe('E_HOSTILE');
  });

  it('with a root of a single child, or too few children in a node that is not the last', async () => {
    expect(await scan(rootOf(above(1, [leaf(['a'])]), 1))).toBe('E_HOSTILE');
    const thin = above(1, [leaf(['a']), leaf(['b'], { separator: utf8Bytes('b') })]);
    const last = above(1, [leaf(['c'], { separator: utf8Bytes('c') })], { separator: utf8Bytes('c') });
    expect(await scan(rootOf(above(2, [thin, last]), 2))).toBe('E_HOSTILE');
  });

  it('with a root of nothing that claims something', async () => {
    const child = leaf(['a']);
    expect(await scan({ ...rootOf(child, 0), nodeBytes: 0, place: undefined })).toBe('E_DAMAGED');
  });

  it('with entries whose size is no number', async () => {
    const writer = new LeafWriter();
    writer.add(utf8Bytes('a'), Uint8Array.of(1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f), emptyBytes);
    expect(await scan(rootOf(forge(nodes, writer.encode(), { sums: sums(1) }), 0))).toBe('E_DAMAGED');
    writer.reset();
    writer.add(utf8Bytes('a'), Uint8Array.of(9), emptyBytes);
    expect(await scan(rootOf(forge(nodes, writer.encode(), { sums: sums(1) }), 0))).toBe('E_DAMAGED');
  });
});

describe('a damaged tree', () => {
  const items: LeafItem[] = range(0, 400).map((n) => itemOf('long', n));

  it('ends every reader, diff and edit that meets the damage with a typed error', async () => {
    const nodes = new MemoryNodes();
    const root = await buildTree(items, nodes);
    const other = await buildTree(
      items.map((item) => ({ ...item, value: smallValue(9) })),
      nodes,
    );
    const whole = [...nodes.nodes];
    await fc.assert(
      fc.asyncProperty(
        fc.nat(whole.length - 1).chain((at) => fc.tuple(fc.constant(at), mutated(whole[at] as Uint8Array))),
        async ([at, bytes]) => {
          nodes.nodes.splice(0, nodes.nodes.length, ...whole);
          nodes.nodes[at] = bytes;
          const editor = new TreeEditor({ base: root, source: nodes, sink: new MemoryNodes(), keys: testKeys });
          const edit = async (): Promise<void> => {
            for (const { key, value, placement } of items) await editor.put(key, value, placement);
            await editor.finish();
          };
          const diff = async (): Promise<void> => {
            for await (const _ of diffTrees(root, other, nodes, testKeys));
          };
          const ends: (ErrorCode | 'none')[] = [
            await failureOf(scanAll(root, nodes)),
            await failureOf(getEntry(root, keyOf('long', at * 10), nodes, testKeys)),
            await failureOf(edit()),
            await failureOf(diff()),
          ];
          // The placement is not digested: a change there shows when what it names is read, at the latest.
          for (const end of ends) expect(['none', 'E_DAMAGED', 'E_HOSTILE', 'E_FORMAT_NEWER']).toContain(end);
        },
      ),
      runs(200),
    );
  });
});
