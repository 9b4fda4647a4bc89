import fc from 'fast-check';
import type { LeafItem } from '../../src/engine/format/tree-node.ts';
import { compareBytes, concatBytes, emptyBytes, utf8Bytes } from '../../src/engine/model/bytes.ts';
import type { Content, ContentItem, Entry, EntryMeta, Hole, Place, Xattr } from '../../src/engine/model/entry.ts';
import { zeroBlockBytes } from '../../src/engine/model/entry.ts';
import { slotMax, toContentId, toNodeId } from '../../src/engine/model/ids.ts';
import { type LeafEdges, smallValue } from './tree-model.ts';

/**
 * Runs of a property that are the same every time, so that a failure is nobody's chance; other ones with
 * HOLDFAST_TEST_SEED=<number>.
 */
export function runs(numRuns: number): { numRuns: number; seed: number } {
  return { numRuns, seed: Number(process.env['HOLDFAST_TEST_SEED'] ?? 20_260_101) };
}

/**
 * Shapes of keys. Long shared prefixes make long separators, hence small nodes and many levels from few entries; in `nested`
 * some keys are prefixes of others.
 */
export type KeyStyle = 'short' | 'long' | 'huge' | 'nested' | 'mixed';

const prefixes: Readonly<Record<KeyStyle, (index: number) => string>> = {
  short: () => 'f',
  long: () => `${'l'.repeat(200)}\0n`,
  huge: () => `${`${'h'.repeat(250)}\0`.repeat(4)}n`,
  nested: () => `${'d'.repeat(250)}\0n`,
  mixed: (index) => (index % 7 === 0 ? 'a' : index % 3 === 0 ? `b${'m'.repeat(240)}\0n` : `c${'m'.repeat(30)}\0n`),
};

/** Key number `index`; order of keys is not order of numbers in every style. */
export function keyOf(style: KeyStyle, index: number): Uint8Array {
  const number = String(index).padStart(5, '0');
  const nested = style === 'nested' && index % 2 === 1 ? `${String(index - 1).padStart(5, '0')}\0x` : number;
  return utf8Bytes(prefixes[style](index) + nested);
}

export function itemOf(style: KeyStyle, index: number, version = 0): LeafItem {
  return { key: keyOf(style, index), value: smallValue(version), placement: emptyBytes };
}

export const keyStyle: fc.Arbitrary<KeyStyle> = fc.constantFrom('short', 'long', 'huge', 'nested', 'mixed');

/** The numbers of a tree's entries: some up to hundreds, dense or sparse. */
export const entryNumbers: fc.Arbitrary<number[]> = fc.oneof(
  fc.uniqueArray(fc.nat(2000), { maxLength: 40 }),
  fc.tuple(fc.nat(500), fc.integer({ min: 1, max: 700 })).map(([from, count]) => range(from, from + count)),
  fc
    .tuple(fc.nat(100), fc.integer({ min: 100, max: 600 }), fc.integer({ min: 2, max: 5 }))
    .map(([from, count, step]) => range(0, count).map((i) => from + i * step)),
);

export function range(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
}

/** Where an edit meets the edges of a leaf; the last three are keys that are not there. */
export type EdgeKey = 'first' | 'last' | 'before' | 'after' | 'prefix of first';

/** Edits by number, or at a leaf that is named by its share of the tree. `exact` ranges go from separator to separator. */
export type EditPlan =
  | { readonly kind: 'put' | 'delete'; readonly number: number; readonly version: number }
  | { readonly kind: 'deleteRange'; readonly number: number; readonly length: number }
  | { readonly kind: 'put' | 'delete'; readonly edge: EdgeKey; readonly share: number; readonly version: number }
  | { readonly kind: 'deleteLeaf'; readonly share: number; readonly exact: boolean };

const share = fc.double({ min: 0, max: 0.999, noNaN: true });
const version = fc.integer({ min: 0, max: 2 });
const putOrDelete = fc.constantFrom('put' as const, 'delete' as const);
const edge = fc.constantFrom<EdgeKey[]>('first', 'last', 'before', 'after', 'prefix of first');

export const editPlan: fc.Arbitrary<EditPlan> = fc.oneof(
  fc.record({ kind: putOrDelete, number: fc.nat(2500), version }),
  fc.record({
    kind: fc.constant('deleteRange' as const),
    number: fc.nat(2500),
    length: fc.integer({ min: 1, max: 400 }),
  }),
  fc.record({ kind: putOrDelete, edge, share, version }),
  fc.record({ kind: putOrDelete, edge, share, version }),
  fc.record({ kind: fc.constant('deleteLeaf' as const), share, exact: fc.boolean() }),
);

/** An edit with its keys. */
export type Edit =
  | { readonly kind: 'put'; readonly item: LeafItem }
  | { readonly kind: 'delete'; readonly key: Uint8Array }
  | { readonly kind: 'deleteRange'; readonly key: Uint8Array; readonly to: Uint8Array | undefined };

/** The edits a plan means for a tree with these leaves, in the order an editor takes them. */
export function planEdits(style: KeyStyle, plan: readonly EditPlan[], leaves: readonly LeafEdges[]): Edit[] {
  const edits: Edit[] = [];
  for (const step of plan) {
    if ('number' in step) {
      const key = keyOf(style, step.number);
      if (step.kind !== 'deleteRange') edits.push(pointEdit(step.kind, key, step.version));
      else {
        const to = keyOf(style, step.number + step.length);
        if (compareBytes(key, to) < 0) edits.push({ kind: 'deleteRange', key, to });
      }
      continue;
    }
    const index = Math.floor(step.share * leaves.length);
    const leaf = leaves[index];
    if (leaf === undefined) continue;
    if (step.kind !== 'deleteLeaf') edits.push(pointEdit(step.kind, keyAtEdge(leaf, step.edge), step.version));
    else if (!step.exact) edits.push({ kind: 'deleteRange', key: leaf.first, to: after(leaf.last) });
    else {
      const key = leaf.lower.length > 0 ? leaf.lower : leaf.first;
      edits.push({ kind: 'deleteRange', key, to: leaves[index + 1]?.lower });
    }
  }
  edits.sort((a, b) => compareBytes(keyOfEdit(a), keyOfEdit(b)));
  // An editor takes each key once, and none inside a range that was given before.
  const ordered: Edit[] = [];
  let end: { readonly key: Uint8Array; readonly inclusive: boolean } | undefined;
  for (const edit of edits) {
    const key = keyOfEdit(edit);
    const order = end === undefined ? 1 : compareBytes(key, end.key);
    if (order < 0 || (order === 0 && end?.inclusive !== true)) continue;
    ordered.push(edit);
    if (edit.kind !== 'deleteRange') end = { key, inclusive: false };
    else if (edit.to !== undefined) end = { key: edit.to, inclusive: true };
    else break;
  }
  return ordered;
}

export function keyOfEdit(edit: Edit): Uint8Array {
  return edit.kind === 'put' ? edit.item.key : edit.key;
}

function pointEdit(kind: 'put' | 'delete', key: Uint8Array, itemVersion: number): Edit {
  if (kind === 'delete') return { kind, key };
  return { kind, item: { key, value: smallValue(itemVersion), placement: emptyBytes } };
}

function keyAtEdge(leaf: LeafEdges, at: EdgeKey): Uint8Array {
  switch (at) {
    case 'before':
      return before(leaf.first);
    case 'after':
      return after(leaf.last);
    case 'prefix of first': {
      const prefix = leaf.first.subarray(0, -1);
      return prefix[prefix.length - 1] === 0 ? prefix.subarray(0, -1) : prefix;
    }
    default:
      return leaf[at];
  }
}

/** The next name: nothing sorts between but what lies below a directory of that name. */
function after(key: Uint8Array): Uint8Array {
  return concatBytes([key, Uint8Array.of(1)]);
}

/** A key right before that of the next lower number. */
function before(key: Uint8Array): Uint8Array {
  const last = (key[key.length - 1] as number) - 1;
  return concatBytes([key.subarray(0, -1), Uint8Array.of(last === 0x2f ? 0x2e : last, 0x7e)]);
}

// Entries

const bytesUpTo = (max: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: 1, maxLength: max });
const id32 = fc.uint8Array({ minLength: 32, maxLength: 32 });

export const place: fc.Arbitrary<Place> = fc.record({
  origin: fc.nat(0xffff),
  slot: fc.integer({ min: 1, max: slotMax }),
  pack: fc.nat(0x7fff_ffff),
  segment: fc.nat(0x3f_ffff),
  offset: fc.nat(1024 * 1024),
});

const withoutZeroByte = (max: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ min: 1, minLength: 1, maxLength: max });

const xattr: fc.Arbitrary<Xattr> = fc.record({
  name: withoutZeroByte(20),
  value: fc.oneof(
    fc.record({ kind: fc.constant('inline' as const), bytes: fc.uint8Array({ maxLength: 256 }) }),
    fc.record({
      kind: fc.constant('chunk' as const),
      bytes: fc.integer({ min: 257, max: 65_536 }),
      id: id32.map(toContentId),
      place,
    }),
  ),
});

const xattrs: fc.Arbitrary<Xattr[]> = fc
  .uniqueArray(xattr, { maxLength: 4, comparator: (a, b) => compareBytes(a.name, b.name) === 0 })
  .map((list) => list.sort((a, b) => compareBytes(a.name, b.name)));

const meta: fc.Arbitrary<EntryMeta> = fc.record({
  mode: fc.nat(0o7777),
  uid: fc.nat({ max: 0xffff_ffff }),
  gid: fc.nat({ max: 0xffff_ffff }),
  mtimeSec: fc.oneof(fc.integer(), fc.integer({ min: -(2 ** 51), max: 2 ** 51 })),
  mtimeNsec: fc.nat(999_999_999),
  xattrs,
});

const chunk: fc.Arbitrary<ContentItem> = fc.record({
  kind: fc.constant('chunk' as const),
  bytes: fc.oneof(fc.integer({ min: 1, max: 1024 * 1024 }), fc.constantFrom(zeroBlockBytes, 2 * zeroBlockBytes)),
  id: id32.map(toContentId),
  place,
});

/** Chunks and runs of zeros as a capture makes them: a run is aligned and has no run beside it. */
export function contentItems(constraints: { minLength?: number; maxLength: number }): fc.Arbitrary<ContentItem[]> {
  return fc.array(fc.tuple(chunk, fc.integer({ min: -4, max: 9 })), constraints).map((parts) => {
    const items: ContentItem[] = [];
    let position = 0;
    for (const [item, zeroBlocks] of parts) {
      const aligned = position % zeroBlockBytes === 0;
      const zeros = zeroBlocks > 0 && aligned && items[items.length - 1]?.kind !== 'zero';
      const next: ContentItem = zeros ? { kind: 'zero', bytes: zeroBlocks * zeroBlockBytes } : item;
      items.push(next);
      position += next.bytes;
    }
    return items;
  });
}

export function sizeOf(items: readonly ContentItem[]): number {
  return items.reduce((bytes, item) => bytes + item.bytes, 0);
}

const list: fc.Arbitrary<Content> = fc.record({
  kind: fc.constant('list' as const),
  id: id32.map(toNodeId),
  place,
  nodeBytes: fc.integer({ min: 1, max: 100_000 }),
  level: fc.nat(5),
});

function holesIn(size: number): fc.Arbitrary<Hole[]> {
  return fc.uniqueArray(fc.nat(size), { maxLength: 8 }).map((edges) => {
    const sorted = edges.sort((a, b) => a - b);
    const holes: Hole[] = [];
    for (let i = 0; i + 1 < sorted.length; i += 2) {
      holes.push({ start: sorted[i] as number, bytes: (sorted[i + 1] as number) - (sorted[i] as number) });
    }
    return holes;
  });
}

const file: fc.Arbitrary<Entry> = fc
  .oneof(
    contentItems({ maxLength: 8 }).map((items) => ({
      size: sizeOf(items),
      content: { kind: 'inline' as const, items },
    })),
    fc.record({ size: fc.integer({ min: 9, max: Number.MAX_SAFE_INTEGER }), content: list }),
  )
  .chain(({ size, content }) =>
    fc
      .tuple(meta, holesIn(size))
      .map(([fields, holes]) => ({ type: 'file' as const, size, content, holes, ...fields })),
  );

/** Every type of entry, canonical, as `encodeEntry` takes it. */
export const entry: fc.Arbitrary<Entry> = fc.oneof(
  file,
  meta.map((fields) => ({ type: 'directory' as const, ...fields })),
  meta.map((fields) => ({ type: 'fifo' as const, ...fields })),
  fc.tuple(meta, withoutZeroByte(300)).map(([fields, target]) => ({ type: 'symlink' as const, target, ...fields })),
  fc.tuple(keyStyle, fc.nat(999)).map(([style, index]) => ({ type: 'hardlink' as const, target: keyOf(style, index) })),
);

/** One or more bytes changed, cut off or added. */
export function mutated(bytes: Uint8Array): fc.Arbitrary<Uint8Array> {
  return fc.oneof(
    fc.tuple(fc.nat(Math.max(0, bytes.length - 1)), fc.integer({ min: 1, max: 255 })).map(([at, change]) => {
      const copy = bytes.slice();
      copy[at] = (copy[at] ?? 0) ^ change;
      return copy;
    }),
    fc.nat(bytes.length).map((end) => bytes.slice(0, end)),
    bytesUpTo(12).map((more) => concatBytes([bytes, more])),
    fc
      .tuple(fc.nat(bytes.length), bytesUpTo(10))
      .map(([at, more]) => concatBytes([bytes.subarray(0, at), more, bytes.subarray(at)])),
    fc
      .tuple(
        fc.nat(bytes.length),
        fc.constantFrom('ffffffffffffff0f', '8080808080808010', 'ffffff7f', '808000', 'ff7f'),
      )
      .map(([at, hex]) =>
        concatBytes([bytes.subarray(0, at), Buffer.from(hex, 'hex'), bytes.subarray(at + hex.length / 2)]),
      ),
  );
}
