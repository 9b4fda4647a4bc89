import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nodeBytesMax } from '../../../src/engine/format/entry-codec.ts';
import {
  decodeListNode,
  decodeTreeNode,
  type EncodedNode,
  emptyLeafLogical,
  type InteriorNode,
  type LeafItem,
  type LeafNode,
  LeafWriter,
  type ListChild,
  type NodeChild,
  nodeLogical,
  NodeWriter,
} from '../../../src/engine/format/tree-node.ts';
import { ByteWriter, compareBytes, emptyBytes, toHex, utf8Bytes } from '../../../src/engine/model/bytes.ts';
import { type ErrorCode, HoldfastError } from '../../../src/engine/model/errors.ts';
import { toNodeId } from '../../../src/engine/model/ids.ts';
import { contentItems, keyOf, keyStyle, mutated, place, range, runs } from '../../support/arbitraries.ts';

const writer = new NodeWriter();

function leafOf(items: readonly LeafItem[]): EncodedNode {
  const leaf = new LeafWriter();
  for (const { key, value, placement } of items) leaf.add(key, value, placement);
  return leaf.encode();
}

function itemsOf(leaf: LeafNode): LeafItem[] {
  return range(0, leaf.count).map((i) => leaf.item(i));
}

function codeOf(work: () => unknown): ErrorCode | 'none' {
  try {
    work();
    return 'none';
  } catch (error) {
    if (error instanceof HoldfastError) return error.code;
    throw error;
  }
}

const keys = fc
  .tuple(keyStyle, fc.uniqueArray(fc.nat(5000), { minLength: 1, maxLength: 50 }))
  .map(([style, numbers]) => numbers.map((n) => keyOf(style, n)).sort(compareBytes))
  // What a node may hold at most: beyond four items, 16 KiB of keys.
  .map((sorted) => sorted.slice(0, 15));
const leafItems = keys.chain((sorted) =>
  fc.tuple(
    ...sorted.map((key) =>
      fc.record({
        key: fc.constant(key),
        value: fc.uint8Array({ maxLength: 200 }),
        placement: fc.uint8Array({ maxLength: 40 }),
      }),
    ),
  ),
);
const id = fc.uint8Array({ minLength: 32, maxLength: 32 }).map(toNodeId);
const amount = fc.oneof(fc.nat(1000), fc.nat(Number.MAX_SAFE_INTEGER));
const children = keys.chain((sorted) =>
  fc.tuple(
    ...sorted.map((separator) =>
      fc.record<NodeChild>({
        separator: fc.constant(separator),
        id,
        sums: fc.record({ files: amount, entries: amount, bytes: amount }),
        place,
        nodeBytes: fc.integer({ min: 1, max: nodeBytesMax }),
      }),
    ),
  ),
);
const level = fc.integer({ min: 1, max: 24 });
const listChildren: fc.Arbitrary<ListChild[]> = fc.array(
  fc.record({ id, items: amount, bytes: amount, place, nodeBytes: fc.integer({ min: 1, max: nodeBytesMax }) }),
  { minLength: 1, maxLength: 256 },
);

describe('a node', () => {
  it('of entries is read back as it was written', () => {
    fc.assert(
      fc.property(leafItems, (items) => {
        const { bytes, logical } = leafOf(items);
        const node = decodeTreeNode(bytes.slice()) as LeafNode;
        expect(itemsOf(node)).toEqual(items);
        expect(nodeLogical(bytes)).toEqual(logical);
      }),
      runs(300),
    );
  });

  it('of subtrees is read back as it was written', () => {
    fc.assert(
      fc.property(level, children, (at, list) => {
        const { bytes, logical } = writer.interior(at, list);
        const node = decodeTreeNode(bytes.slice()) as InteriorNode;
        expect([node.level, node.children]).toEqual([at, list]);
        expect(nodeLogical(bytes)).toEqual(logical);
      }),
      runs(200),
    );
  });

  it('of a chunk list is read back as it was written', () => {
    fc.assert(
      fc.property(contentItems({ minLength: 1, maxLength: 256 }), level, listChildren, (items, at, list) => {
        expect(decodeListNode(writer.listLeaf(items).bytes.slice())).toEqual({ level: 0, items, children: [] });
        expect(decodeListNode(writer.listInterior(at, list).bytes.slice())).toEqual({
          level: at,
          items: [],
          children: list,
        });
      }),
      runs(100),
    );
  });

  it('is byte for byte as the specification has it', () => {
    const item = (name: string, value: number, placement: number[]): LeafItem => ({
      key: utf8Bytes(name),
      value: Uint8Array.of(value),
      placement: Uint8Array.from(placement),
    });
    const leaf = leafOf([item('dir', 2, []), item('dir\0ab', 3, [9]), item('dir\0b', 4, [8, 7])]);
    expect(toHex(leaf.bytes)).toBe(
      '16' + '01000003' + '03646972' + '00' + '03006162' + '020062' + '0102' + '0103' + '0104' + '000109020807',
    );
    const child = (separator: string, byte: number): NodeChild => ({
      separator: utf8Bytes(separator),
      id: toNodeId(new Uint8Array(32).fill(byte)),
      sums: { files: 1, entries: 200, bytes: 3 },
      place: { origin: 0, slot: 5, pack: 0, segment: 1, offset: 2 },
      nodeBytes: 300,
    });
    const interior = writer.interior(1, [child('aa', 0x11), child('ab', 0x22)]);
    expect(toHex(interior.bytes)).toBe(
      '52' +
        '01010102' +
        '0161' +
        `0161${'11'.repeat(32)}01c80103` +
        `0162${'22'.repeat(32)}01c80103` +
        '0005000102ac02'.repeat(2),
    );
    const chunk = { kind: 'chunk', bytes: 300, id: new Uint8Array(32).fill(0x33), place: child('', 0).place } as const;
    const list = writer.listLeaf([{ kind: 'zero', bytes: 65_536 }, chunk as never]);
    expect(toHex(list.bytes)).toBe(['2b', '01020002', '00808004', '01ac02', '33'.repeat(32), '0005000102'].join(''));
    const { id: childId, place: childPlace, nodeBytes } = child('', 0x44);
    const upper = writer.listInterior(1, [{ id: childId, items: 12, bytes: 300, place: childPlace, nodeBytes }]);
    expect(toHex(upper.bytes)).toBe(['27', '01030101', '44'.repeat(32), '0cac02', '0005000102ac02'].join(''));
    expect(toHex(emptyLeafLogical)).toBe('0100000000');
  });

  it('has one logical part, whatever its placement', () => {
    fc.assert(
      fc.property(leafItems, (items) => {
        const moved = items.map((item) => ({ ...item, placement: Uint8Array.of(1, 2, 3) }));
        expect(toHex(leafOf(moved).logical)).toBe(toHex(leafOf(items).logical));
      }),
      runs(50),
    );
  });

  it('is found its way through by keys', () => {
    fc.assert(
      fc.property(leafItems, children, keyStyle, fc.nat(5000), (items, list, style, n) => {
        const key = keyOf(style, n);
        const leaf = decodeTreeNode(leafOf(items).bytes.slice()) as LeafNode;
        expect(leaf.find(key)).toBe(items.filter((item) => compareBytes(item.key, key) < 0).length);
        const interior = decodeTreeNode(writer.interior(1, list).bytes.slice()) as InteriorNode;
        const below = list.filter(({ separator }) => compareBytes(separator, key) <= 0).length;
        expect(interior.findChild(key)).toBe(Math.max(0, below - 1));
      }),
      runs(200),
    );
  });
});

describe('a leaf writer', () => {
  it('is reused, and goes on after it has been encoded', () => {
    const leaf = new LeafWriter();
    const add = (name: string): void => leaf.add(utf8Bytes(name), utf8Bytes(`v${name}`), emptyBytes);
    add('a1');
    const first = toHex(leaf.encode().bytes);
    add('a2');
    expect((decodeTreeNode(leaf.encode().bytes.slice()) as LeafNode).count).toBe(2);
    expect(leaf.measure).toBe(2 * 2 + 2 * 48);
    expect(leaf.lastKey()).toEqual(utf8Bytes('a2'));
    leaf.reset();
    expect([leaf.count, leaf.measure]).toEqual([0, 0]);
    add('a1');
    expect(toHex(leaf.encode().bytes)).toBe(first);
  });

  it('refuses a node that no reader would accept', () => {
    const leaf = new LeafWriter();
    const mebibyte = new Uint8Array(1024 * 1024);
    for (const i of range(1, 7)) leaf.add(Uint8Array.of(i), mebibyte, emptyBytes);
    expect(codeOf(() => decodeTreeNode(leaf.encode().bytes))).toBe('none');
    for (const i of range(7, 9)) leaf.add(Uint8Array.of(i), mebibyte, emptyBytes);
    expect(codeOf(() => leaf.encode())).toBe('E_LIMIT');
  });
});

describe('bytes that are no node of ours', () => {
  const varint = (value: number): string => {
    const bytes = new ByteWriter();
    bytes.varint(value);
    return toHex(bytes.view());
  };
  const withLength = (logical: string, placement = ''): Uint8Array =>
    new Uint8Array(Buffer.from(varint(logical.length / 2) + logical + placement, 'hex'));
  const tree = (logical: string, placement = '') => codeOf(() => decodeTreeNode(withLength(logical, placement)));
  const list = (logical: string, placement = '') => codeOf(() => decodeListNode(withLength(logical, placement)));
  const anId = '00'.repeat(32);
  const aPlace = '0001000000';

  it('are accepted only when all is right', () => {
    expect(tree('0100000201610162016301020103', '0000')).toBe('none');
    expect(tree(`0101010201610161${anId}0000000162${anId}000000`, `${aPlace}01`.repeat(2))).toBe('none');
    expect(tree(`01010101 0161 00${anId}000000`.replaceAll(' ', ''), `${aPlace}01`)).toBe('none');
    expect(list(`0102000101 05${anId}`.replaceAll(' ', ''), aPlace)).toBe('none');
  });

  it.each<readonly [string, string, string]>([
    ['nothing', '', ''],
    ['format 0', '00000001016100 0102', '00'],
    ['an unknown kind', '010400010161000102', '00'],
    ['a leaf above level 0', '010001010161000102', '00'],
    ['an interior node at level 0', `01010001016100${anId}000000`, `${aPlace}01`],
    ['a level beyond reason', `01011901016100${anId}000000`, `${aPlace}01`],
    ['no items', '0100000000', ''],
    ['more items than bytes', '01000005016100', ''],
    ['2^53 items', '010000ffffffffffffff0f00', ''],
    ['2^60 items', '010000808080808080808010 00', ''],
    ['more items than the largest node', '0100008120 00', ''],
    ['a key longer than what is there', '010000010161ff0f', ''],
    ['a key of 2^60 bytes', '010000010161808080808080808010', ''],
    ['keys that do not ascend', '01000002016101630162 01020103', '0000'],
    ['a key twice', '0100000201610162016201020103', '0000'],
    ['a common prefix that is too short', '01000002000261620261630102 0103', '0000'],
    ['a common prefix that is too short, of one key', '01000001000161 0102', '00'],
    ['a padded integer', '01000081000161000102', '00'],
    ['a logical part that is longer', '0100000201610162016301020103ff', '0000'],
    ['a placement that is short', '0100000201610162016301020103', '00'],
    ['a placement that is longer', '0100000201610162016301020103', '000000'],
    ['separators that do not ascend', `01010102000162${anId}0000000161${anId}000000`, `${aPlace}01${aPlace}01`],
    [
      'separators whose common prefix is too short',
      `0101010200026161${anId}000000026162${anId}000000`,
      `${aPlace}01`.repeat(2),
    ],
    // The byte too many would begin the placement.
    ['a longer logical part of an interior node', `01010101016100${anId}00000000`, '0100000005'],
    ['a child of no bytes', `01010101016100${anId}000000`, `${aPlace}00`],
    ['a child larger than any node', `01010101016100${anId}000000`, `${aPlace}81808004`],
    ['a node of a list', `010200010105${anId}`, aPlace],
  ])('are refused by readers of trees: %s', (_, logical, placement) => {
    expect(tree(logical.replaceAll(' ', ''), placement)).toBe('E_DAMAGED');
  });

  it.each<readonly [string, string, string]>([
    ['a node of a tree', '010000010161000102', '00'],
    ['an unknown kind of item', `010200010205${anId}`, aPlace],
    ['no items', '01020000', ''],
    ['an id that is cut off', '0102000101050000', aPlace],
    ['a placement that is longer', `010200010105${anId}`, `${aPlace}00`],
    ['a placement that is short', `010200010105${anId}`, '0001'],
    ['a logical part that is longer', `010200010105${anId}00`, aPlace],
    ['a longer logical part of an interior node', `01030101${anId}010100`, '0100000005'],
    ['a child of no bytes', `01030101${anId}0101`, `${aPlace}00`],
  ])('are refused by readers of chunk lists: %s', (_, logical, placement) => {
    expect(list(logical, placement)).toBe('E_DAMAGED');
  });

  it('of a later format ask for an upgrade', () => {
    expect(tree('0200000101610001 02'.replaceAll(' ', ''), '00')).toBe('E_FORMAT_NEWER');
    expect(list(`020200010105${anId}`, aPlace)).toBe('E_FORMAT_NEWER');
  });

  it('do not make a reader take memory that they do not have: a long prefix of many keys', () => {
    // 4,096 keys that share a prefix of 1 MiB would be 4 GiB.
    const bytes = new ByteWriter(2 ** 21);
    const prefix = new Uint8Array(1024 * 1024 - 2).fill(0x61);
    bytes.raw(Buffer.from('01000080 20'.replace(' ', ''), 'hex'));
    bytes.blob(prefix);
    for (let i = 0; i < 4096; i++) bytes.blob(Uint8Array.of(1 + (i >> 8), i & 0xff));
    for (let i = 0; i < 4096; i++) bytes.blob(Uint8Array.of(2));
    const before = process.memoryUsage().arrayBuffers;
    expect(tree(toHex(bytes.view()), '00'.repeat(4096))).toBe('E_DAMAGED');
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 1024 * 1024);
  });

  it('as changed nodes give a node or a typed error', () => {
    const nodes = fc.oneof(
      leafItems.map((items) => leafOf(items).bytes.slice()),
      children.map((list) => writer.interior(1, list).bytes.slice()),
      contentItems({ minLength: 1, maxLength: 20 }).map((items) => writer.listLeaf(items).bytes.slice()),
    );
    fc.assert(
      fc.property(
        nodes.chain((bytes) => mutated(bytes)),
        (bytes) => {
          const codes = ['none', 'E_DAMAGED', 'E_HOSTILE', 'E_FORMAT_NEWER'];
          expect(codes).toContain(codeOf(() => nodeLogical(bytes)));
          expect(codes).toContain(codeOf(() => decodeTreeNode(bytes)));
          expect(codes).toContain(codeOf(() => decodeListNode(bytes)));
          // A leaf that is read is written back the same.
          if (codeOf(() => decodeTreeNode(bytes)) !== 'none') return;
          const node = decodeTreeNode(bytes);
          const again = 'children' in node ? writer.interior(node.level, node.children) : leafOf(itemsOf(node));
          expect(toHex(again.bytes)).toBe(toHex(bytes));
        },
      ),
      runs(1500),
    );
  });
});
