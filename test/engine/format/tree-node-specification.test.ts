/**
 * A second builder and a second reader of trees and chunk lists, written from docs/format/tree.md alone: they share no code
 * with the engine but the derivation of keys. When they disagree, either the specification or the format has changed.
 */
import { createHmac } from 'node:crypto';
import { expect, it } from 'vitest';
import type { LeafItem } from '../../../src/engine/format/tree-node.ts';
import type { ContentItem, Place } from '../../../src/engine/model/entry.ts';
import { toContentId } from '../../../src/engine/model/ids.ts';
import { emptyTree } from '../../../src/engine/tree/node-access.ts';
import { ListBuilder } from '../../../src/engine/tree/list.ts';
import { itemOf, type KeyStyle, range } from '../../support/arbitraries.ts';
import { buildTree, encoded, MemoryNodes, testKeys, TreeModel } from '../../support/tree-model.ts';

const mask = (1n << 64n) - 1n;

function sipHash24(message: Buffer): bigint {
  const word = (bytes: Uint8Array, at: number): bigint =>
    range(0, 8).reduce((value, i) => value | (BigInt(bytes[at + i] ?? 0) << BigInt(8 * i)), 0n);
  const turn = (value: bigint, by: bigint): bigint => ((value << by) | (value >> (64n - by))) & mask;
  const [k0, k1] = [word(testKeys.boundaryKey, 0), word(testKeys.boundaryKey, 8)];
  const v = [k0 ^ 0x736f6d6570736575n, k1 ^ 0x646f72616e646f6dn, k0 ^ 0x6c7967656e657261n, k1 ^ 0x7465646279746573n];
  const half = (a: number, b: number, by: bigint): void => {
    v[a] = ((v[a] as bigint) + (v[b] as bigint)) & mask;
    v[b] = turn(v[b] as bigint, by) ^ (v[a] as bigint);
  };
  const round = (): void => {
    half(0, 1, 13n);
    half(2, 3, 16n);
    v[0] = turn(v[0] as bigint, 32n);
    half(0, 3, 21n);
    half(2, 1, 17n);
    v[2] = turn(v[2] as bigint, 32n);
  };
  for (let at = 0; at <= message.length; at += 8) {
    const last = at + 8 > message.length;
    const m = word(message, at) | (last ? BigInt(message.length & 0xff) << 56n : 0n);
    v[3] = (v[3] as bigint) ^ m;
    round();
    round();
    v[0] = (v[0] as bigint) ^ m;
  }
  v[2] = (v[2] as bigint) ^ 0xffn;
  for (let i = 0; i < 4; i++) round();
  return v.reduce((a, b) => a ^ b, 0n);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt(value);
  for (; rest >= 128n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return Buffer.from([...bytes, Number(rest)]);
}

const blob = (bytes: Uint8Array): Buffer => Buffer.concat([varint(bytes.length), bytes]);
const idOf = (logical: Buffer): Buffer => createHmac('sha256', testKeys.nodeIdKey).update(logical).digest();

interface Built {
  readonly separator: Buffer;
  readonly id: Buffer;
  readonly sums: readonly number[];
}

function endsHere(level: number, measures: readonly number[], key: Buffer): boolean {
  if (level > 0 && measures.length < 4) return false;
  const x1 = BigInt(measures.reduce((a, b) => a + b, 0));
  const x0 = x1 - BigInt(measures[measures.length - 1] as number);
  if (measures.length >= 4 && x1 >= 16_384n) return true;
  const h = sipHash24(Buffer.concat([key, Buffer.of(level)])) >> 40n;
  return h * 20_971_520n < (x1 * x1 - x0 * x0) << 24n;
}

/** Cuts a level into nodes: what follows `key` of each item decides. */
function cut<T>(level: number, items: readonly T[], keyOf: (item: T) => Buffer): T[][] {
  const nodes: T[][] = [];
  let open: T[] = [];
  for (const item of items) {
    open.push(item);
    if (
      !endsHere(
        level,
        open.map((one) => keyOf(one).length + 48),
        keyOf(item),
      )
    )
      continue;
    nodes.push(open);
    open = [];
  }
  return open.length > 0 ? [...nodes, open] : nodes;
}

function sharedPrefix(keys: readonly Buffer[]): Buffer {
  const [first, last] = [keys[0] as Buffer, keys[keys.length - 1] as Buffer];
  let length = 0;
  while (length < first.length && length < last.length && first[length] === last[length]) length++;
  return first.subarray(0, length);
}

function separate(before: Buffer | undefined, first: Buffer): Buffer {
  for (let length = 0; before !== undefined; length++) {
    if (Buffer.compare(first.subarray(0, length), before) > 0) return first.subarray(0, length);
  }
  return Buffer.alloc(0);
}

function rootOf(items: readonly LeafItem[]): { id: string; level: number } {
  const entries = items.map(({ key, value }) => ({ key: Buffer.from(key), value }));
  let before: Buffer | undefined;
  let nodes: Built[] = cut(0, entries, ({ key }) => key).map((leaf) => {
    const prefix = sharedPrefix(leaf.map(({ key }) => key));
    const suffixes = leaf.map(({ key }) => blob(key.subarray(prefix.length)));
    const values = leaf.map(({ value }) => blob(value));
    const logical = Buffer.concat([Buffer.of(1, 0, 0), varint(leaf.length), blob(prefix), ...suffixes, ...values]);
    const separator = separate(before, leaf[0]?.key as Buffer);
    before = leaf[leaf.length - 1]?.key;
    // Every entry here is a FIFO: no files, no bytes.
    return { separator, id: idOf(logical), sums: [0, leaf.length, 0] };
  });
  let level = 0;
  while (nodes.length > 1) {
    level++;
    nodes = cut(level, nodes, ({ separator }) => separator).map((children) => {
      const prefix = sharedPrefix(children.map(({ separator }) => separator));
      const parts = children.flatMap(({ separator, id, sums }) => [
        blob(separator.subarray(prefix.length)),
        id,
        ...sums.map(varint),
      ]);
      const logical = Buffer.concat([Buffer.of(1, 1, level), varint(children.length), blob(prefix), ...parts]);
      const sums = range(0, 3).map((i) => children.reduce((total, child) => total + (child.sums[i] as number), 0));
      return { separator: children[0]?.separator as Buffer, id: idOf(logical), sums };
    });
  }
  return { id: (nodes[0] as Built).id.toString('hex'), level };
}

class Reader {
  readonly bytes: Buffer;
  at: number;

  constructor(bytes: Uint8Array, at = 0) {
    this.bytes = Buffer.from(bytes);
    this.at = at;
  }

  raw(length: number): Buffer {
    this.at += length;
    expect(this.at).toBeLessThanOrEqual(this.bytes.length);
    return this.bytes.subarray(this.at - length, this.at);
  }

  varint(): number {
    for (let value = 0, scale = 1; ; scale *= 128) {
      const byte = this.raw(1)[0] as number;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  }

  blob(): Buffer {
    return this.raw(this.varint());
  }

  place(): Place {
    const [origin, slot, pack, segment, offset] = range(0, 5).map(() => this.varint()) as [
      number,
      number,
      number,
      number,
      number,
    ];
    return { origin, slot, pack, segment, offset };
  }
}

/** The logical part, proven, and a reader of the placement. */
function openNode(
  nodes: MemoryNodes,
  place: Place,
  nodeBytes: number,
  id: Uint8Array,
): { logical: Reader; placement: Reader } {
  const node = new Reader(nodes.at(place));
  expect(node.bytes.length).toBe(nodeBytes);
  const logical = node.blob();
  expect(idOf(logical).toString('hex')).toBe(Buffer.from(id).toString('hex'));
  return { logical: new Reader(logical), placement: node };
}

function readTree(nodes: MemoryNodes, place: Place, nodeBytes: number, id: Uint8Array): LeafItem[] {
  const { logical, placement } = openNode(nodes, place, nodeBytes, id);
  expect(logical.varint()).toBe(1);
  const [kind, level, count] = [logical.varint(), logical.varint(), logical.varint()];
  expect(kind).toBe(level === 0 ? 0 : 1);
  const prefix = logical.blob();
  const whole = (suffix: Buffer): Buffer => Buffer.concat([prefix, suffix]);
  if (kind === 0) {
    const keys = range(0, count).map(() => whole(logical.blob()));
    return keys
      .map((key) => ({ key, value: logical.blob() }))
      .map((item) => ({ ...item, placement: placement.blob() }));
  }
  return range(0, count).flatMap(() => {
    logical.blob();
    const child = logical.raw(32);
    for (let i = 0; i < 3; i++) logical.varint();
    const at = placement.place();
    return readTree(nodes, at, placement.varint(), child);
  });
}

const styles: readonly (readonly [KeyStyle, number])[] = [
  ['short', 3000],
  ['nested', 2000],
  ['long', 2000],
  ['huge', 700],
  ['mixed', 2000],
];

it.each(styles)('a tree is what the specification says: %s keys', async (style, count) => {
  const items = TreeModel.of(
    range(0, count).map((n) => ({ ...itemOf(style, n, n % 5), placement: Uint8Array.of(n & 0xff) })),
  ).sorted();
  const nodes = new MemoryNodes();
  const root = await buildTree(items, nodes);
  expect({ id: Buffer.from(root.id).toString('hex'), level: root.level }).toEqual(rootOf(items));
  const read = readTree(nodes, root.place as Place, root.nodeBytes, root.id);
  expect(read.map(hexItem)).toEqual(items.map(hexItem));
});

function hexItem({ key, value, placement }: LeafItem): string[] {
  return [key, value, placement].map((bytes) => Buffer.from(bytes).toString('hex'));
}

it('the tree without entries is what the specification says', () => {
  expect(emptyTree(testKeys)).toMatchObject({ level: 0, nodeBytes: 0, place: undefined });
  expect(Buffer.from(emptyTree(testKeys).id)).toEqual(idOf(Buffer.of(1, 0, 0, 0, 0)));
});

it.each([9, 300, 20_000])('a chunk list of %i items is what the specification says', (count) => {
  const items: ContentItem[] = range(0, count).map((n) =>
    n % 50 === 0
      ? { kind: 'zero', bytes: 65_536 * (1 + (n % 3)) }
      : {
          kind: 'chunk',
          bytes: 65_536,
          id: toContentId(createHmac('sha256', 'chunk').update(varint(n)).digest()),
          place: { origin: 0, slot: 1, pack: 0, segment: n, offset: 0 },
        },
  );
  const ends = (length: number, id: Uint8Array | undefined): boolean =>
    length === 256 || (length >= 4 && id !== undefined && ((id[0] as number) & 63) === 0);
  const cutList = <T>(parts: readonly T[], idOfPart: (part: T) => Uint8Array | undefined): T[][] => {
    const nodes: T[][] = [[]];
    for (const part of parts) {
      const open = nodes[nodes.length - 1] as T[];
      open.push(part);
      if (ends(open.length, idOfPart(part))) nodes.push([]);
    }
    return nodes.filter((node) => node.length > 0);
  };
  let nodes = cutList(items, (item) => (item.kind === 'chunk' ? item.id : undefined)).map((leaf) => {
    const parts = leaf.flatMap((item) =>
      item.kind === 'zero' ? [Buffer.of(0), varint(item.bytes)] : [Buffer.of(1), varint(item.bytes), item.id],
    );
    const bytes = leaf.reduce((sum, item) => sum + item.bytes, 0);
    return { id: idOf(Buffer.concat([Buffer.of(1, 2, 0), varint(leaf.length), ...parts])), items: leaf.length, bytes };
  });
  let level = 0;
  while (nodes.length > 1) {
    level++;
    nodes = cutList(nodes, ({ id }) => id).map((children) => {
      const parts = children.flatMap((child) => [child.id, varint(child.items), varint(child.bytes)]);
      return {
        id: idOf(Buffer.concat([Buffer.of(1, 3, level), varint(children.length), ...parts])),
        items: children.reduce((sum, child) => sum + child.items, 0),
        bytes: children.reduce((sum, child) => sum + child.bytes, 0),
      };
    });
  }
  const builder = new ListBuilder({ sink: undefined, keys: testKeys });
  for (const item of items) builder.add(item);
  const content = builder.finish();
  expect(content.kind === 'list' && [Buffer.from(content.id), content.level]).toEqual([nodes[0]?.id, level]);
});

it('an entry is what the specification says', () => {
  const id = toContentId(Buffer.alloc(32, 7));
  const place = { origin: 2, slot: 300, pack: 4, segment: 5, offset: 600 };
  const { value, placement } = encoded({
    type: 'file',
    size: 65_536 + 1000,
    mode: 0o4755,
    uid: 70_000,
    gid: 0,
    mtimeSec: -5,
    mtimeNsec: 1,
    xattrs: [
      { name: Buffer.from('user.a'), value: { kind: 'inline', bytes: Buffer.from('x') } },
      { name: Buffer.from('user.b'), value: { kind: 'chunk', bytes: 4000, id, place } },
    ],
    content: {
      kind: 'inline',
      items: [
        { kind: 'zero', bytes: 65_536 },
        { kind: 'chunk', bytes: 1000, id, place },
      ],
    },
    holes: [{ start: 0, bytes: 65_536 }],
  });
  const v = new Reader(value);
  expect([v.varint(), v.varint()]).toEqual([1, 66_536]);
  expect([v.varint(), v.varint(), v.varint(), v.varint(), v.varint()]).toEqual([0o4755, 70_000, 0, 9, 1]);
  expect(v.varint()).toBe(2);
  expect([v.blob().toString(), v.varint(), v.blob().toString()]).toEqual(['user.a', 0, 'x']);
  expect([v.blob().toString(), v.varint(), v.varint(), v.raw(32)]).toEqual(['user.b', 1, 4000, Buffer.alloc(32, 7)]);
  expect([v.varint(), v.varint(), v.varint(), v.varint(), v.raw(32)]).toEqual([2, 0, 65_536, 1, Buffer.alloc(32, 7)]);
  expect(v.at).toBe(value.length);
  const p = new Reader(placement);
  expect([p.place(), p.place(), p.varint(), p.varint(), p.varint()]).toEqual([place, place, 1, 0, 65_536]);
  expect(p.at).toBe(placement.length);
});
