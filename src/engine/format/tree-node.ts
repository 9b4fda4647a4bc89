/**
 * Nodes of the tree and of chunk lists as bytes: varint(logical bytes), logical part, placement. The logical part alone is
 * digested; the placement says where children and contents lie. docs/format/tree.md, "Tree nodes".
 *
 * A node's content has one logical form only: integers are minimal, keys ascend, the common prefix is the longest. Readers
 * refuse everything else, and never allocate by a number they have not checked against the bytes that are there.
 */
import { ByteReader, ByteWriter, commonPrefixBytes, compareBytes, emptyBytes } from '../model/bytes.ts';
import type { TreeSums } from '../model/checkpoint.ts';
import type { ContentItem, Place } from '../model/entry.ts';
import { HoldfastError, invariant } from '../model/errors.ts';
import { type NodeId, toNodeId } from '../model/ids.ts';
import { keyBytesMax } from '../model/rel-path.ts';
import { itemMeasureBytes, itemsMinAtMeasureMax, nodeMeasureMax } from './boundary.ts';
import { nodeBytesMax, nodeLevelMax, readItem, writeItem } from './entry-codec.ts';
import { readPlace, writePlace } from './place-codec.ts';

export const nodeFormat = 1;
const nodeKind = { leaf: 0, interior: 1, listLeaf: 2, listInterior: 3 } as const;
const childrenMax = 4096;

/** One name of a tree: the entry's value is digested, its placement is not. */
export interface LeafItem {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly placement: Uint8Array;
}

/** What a node says of a node below it. */
export interface NodeChild {
  /** No key of the child is below it; every key before the child is. */
  readonly separator: Uint8Array;
  readonly id: NodeId;
  readonly sums: TreeSums;
  readonly place: Place;
  /** Plain bytes of the child. */
  readonly nodeBytes: number;
}

/** What a chunk list's node says of a node below it. */
export interface ListChild {
  readonly id: NodeId;
  /** Items in the leaves below. */
  readonly items: number;
  /** Bytes of content below. */
  readonly bytes: number;
  readonly place: Place;
  readonly nodeBytes: number;
}

/** Views that hold until the writer that made them is used again. */
export interface EncodedNode {
  readonly bytes: Uint8Array;
  readonly logical: Uint8Array;
}

/** Room before the logical part for its length. */
const lengthRoom = 4;

/** Gathers the items of one leaf in flat buffers, without an object per item. */
export class LeafWriter {
  #count = 0;
  #keys: Uint8Array = new Uint8Array(8192);
  #keyBytes = 0;
  /** End of each key in `#keys`. */
  readonly #keyEnds: number[] = [];
  /** Values as blobs, one after the other. */
  #values: Uint8Array = new Uint8Array(8192);
  #valueBytes = 0;
  /** Placements as blobs. */
  #placements: Uint8Array = new Uint8Array(2048);
  #placementBytes = 0;
  #out: Uint8Array = new Uint8Array(16_384);

  get count(): number {
    return this.#count;
  }

  /** Key bytes and a constant per item: what node boundaries go by. */
  get measure(): number {
    return this.#keyBytes + this.#count * itemMeasureBytes;
  }

  /** Copies what it is given. Keys come in ascending order. */
  add(key: Uint8Array, value: Uint8Array, placement: Uint8Array): void {
    const count = this.#count;
    const keyEnd = this.#keyBytes + key.length;
    if (keyEnd > this.#keys.length) this.#keys = grown(this.#keys, keyEnd);
    copyInto(this.#keys, this.#keyBytes, key, 0, key.length);
    this.#keyBytes = keyEnd;
    this.#keyEnds[count] = keyEnd;

    const valueMax = this.#valueBytes + lengthRoom + value.length;
    if (valueMax > this.#values.length) this.#values = grown(this.#values, valueMax);
    const valueStart = putLength(this.#values, this.#valueBytes, value.length);
    copyInto(this.#values, valueStart, value, 0, value.length);
    this.#valueBytes = valueStart + value.length;

    const placementMax = this.#placementBytes + lengthRoom + placement.length;
    if (placementMax > this.#placements.length) this.#placements = grown(this.#placements, placementMax);
    const placementStart = putLength(this.#placements, this.#placementBytes, placement.length);
    copyInto(this.#placements, placementStart, placement, 0, placement.length);
    this.#placementBytes = placementStart + placement.length;

    this.#count = count + 1;
  }

  /** A copy of the last key added. */
  lastKey(): Uint8Array {
    invariant(this.#count > 0, 'an empty leaf has no last key');
    return this.#keys.slice(this.#keyEnds[this.#count - 2] ?? 0, this.#keyBytes);
  }

  /** The node of the items so far; more may be added afterwards. E_LIMIT when it is larger than any reader accepts. */
  encode(): EncodedNode {
    const count = this.#count;
    const keys = this.#keys;
    const firstKeyEnd = this.#keyEnds[0] ?? 0;
    const lastKeyStart = this.#keyEnds[count - 2] ?? 0;
    let prefix = 0;
    const prefixMax = Math.min(firstKeyEnd, this.#keyBytes - lastKeyStart);
    while (prefix < prefixMax && keys[prefix] === keys[lastKeyStart + prefix]) prefix++;

    const bytesMax = lengthRoom + 16 + this.#keyBytes + count * lengthRoom + this.#valueBytes + this.#placementBytes;
    if (bytesMax > nodeBytesMax) throw tooLarge(bytesMax);
    if (bytesMax > this.#out.length) this.#out = grown(this.#out, bytesMax);
    const out = this.#out;
    let at = lengthRoom;
    out[at++] = nodeFormat;
    out[at++] = nodeKind.leaf;
    out[at++] = 0;
    at = putLength(out, at, count);
    at = putLength(out, at, prefix);
    at = copyInto(out, at, keys, 0, prefix);
    let keyStart = 0;
    for (let i = 0; i < count; i++) {
      const keyEnd = this.#keyEnds[i] as number;
      at = putLength(out, at, keyEnd - keyStart - prefix);
      at = copyInto(out, at, keys, keyStart + prefix, keyEnd);
      keyStart = keyEnd;
    }
    at = copyInto(out, at, this.#values, 0, this.#valueBytes);
    const logicalEnd = at;
    at = copyInto(out, at, this.#placements, 0, this.#placementBytes);
    const logicalBytes = logicalEnd - lengthRoom;
    const start = lengthRoom - lengthBytes(logicalBytes);
    putLength(out, start, logicalBytes);
    return { bytes: out.subarray(start, at), logical: out.subarray(lengthRoom, logicalEnd) };
  }

  reset(): void {
    this.#count = 0;
    this.#keyBytes = 0;
    this.#valueBytes = 0;
    this.#placementBytes = 0;
  }
}

function grown(bytes: Uint8Array, needed: number): Uint8Array {
  const larger = new Uint8Array(Math.max(bytes.length * 2, needed));
  larger.set(bytes);
  return larger;
}

/** Returns the end of what was written. Short ranges byte by byte: a call into the runtime costs more than they do. */
function copyInto(into: Uint8Array, at: number, from: Uint8Array, start: number, end: number): number {
  const length = end - start;
  if (length > 64) {
    into.set(start === 0 && end === from.length ? from : from.subarray(start, end), at);
  } else {
    for (let i = 0; i < length; i++) into[at + i] = from[start + i] as number;
  }
  return at + length;
}

/** A varint below 2^28; returns its end. */
function putLength(into: Uint8Array, at: number, length: number): number {
  let rest = length;
  while (rest >= 0x80) {
    into[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  into[at++] = rest;
  return at;
}

function lengthBytes(length: number): number {
  return length < 0x80 ? 1 : length < 0x4000 ? 2 : length < 0x20_0000 ? 3 : 4;
}

function tooLarge(bytes: number): HoldfastError {
  return new HoldfastError('E_LIMIT', `a tree node of ${bytes} bytes is larger than ${nodeBytesMax}`, {
    remedy: 'Some names there have paths, link targets or extended attributes of extreme size; remove or exclude them.',
  });
}

/** Reused for all nodes but leaves. */
export class NodeWriter {
  readonly #logical = new ByteWriter(8192);
  readonly #placement = new ByteWriter(2048);
  readonly #whole = new ByteWriter(8192);

  interior(level: number, children: readonly NodeChild[]): EncodedNode {
    const logical = this.#begin(nodeKind.interior, level, children.length);
    const first = children[0]?.separator ?? emptyBytes;
    const prefix = commonPrefixBytes(first, children[children.length - 1]?.separator ?? emptyBytes);
    logical.blob(first.subarray(0, prefix));
    for (const child of children) {
      logical.blob(child.separator.subarray(prefix));
      logical.raw(child.id);
      logical.varint(child.sums.files);
      logical.varint(child.sums.entries);
      logical.varint(child.sums.bytes);
      writePlace(this.#placement, child.place);
      this.#placement.varint(child.nodeBytes);
    }
    return this.#end();
  }

  listLeaf(items: readonly ContentItem[]): EncodedNode {
    const logical = this.#begin(nodeKind.listLeaf, 0, items.length);
    for (const item of items) writeItem(item, true, logical, this.#placement);
    return this.#end();
  }

  listInterior(level: number, children: readonly ListChild[]): EncodedNode {
    const logical = this.#begin(nodeKind.listInterior, level, children.length);
    for (const child of children) {
      logical.raw(child.id);
      logical.varint(child.items);
      logical.varint(child.bytes);
      writePlace(this.#placement, child.place);
      this.#placement.varint(child.nodeBytes);
    }
    return this.#end();
  }

  #begin(kind: number, level: number, count: number): ByteWriter {
    this.#placement.reset();
    this.#logical.reset();
    this.#logical.u8(nodeFormat);
    this.#logical.u8(kind);
    this.#logical.varint(level);
    this.#logical.varint(count);
    return this.#logical;
  }

  #end(): EncodedNode {
    const logicalBytes = this.#logical.length;
    this.#whole.reset();
    this.#whole.varint(logicalBytes);
    const start = this.#whole.length;
    this.#whole.raw(this.#logical.view());
    this.#whole.raw(this.#placement.view());
    const bytes = this.#whole.view();
    return { bytes, logical: bytes.subarray(start, start + logicalBytes) };
  }
}

/** The digested part of a node's bytes, so that its id can be proven before anything else is read. E_DAMAGED. */
export function nodeLogical(bytes: Uint8Array): Uint8Array {
  if (bytes.length > nodeBytesMax) throw new HoldfastError('E_DAMAGED', `tree node: ${bytes.length} bytes`);
  const reader = new ByteReader(bytes, 'tree node');
  return reader.blob();
}

/** A decoded leaf: keys whole in one buffer, values and placements as ranges of the node's bytes. */
export class LeafNode {
  readonly level = 0;
  readonly bytes: Uint8Array;
  readonly count: number;
  /** The keys one after the other; key `i` ends at `keyEnds[i]` and begins where the one before ends. */
  readonly #keys: Uint8Array;
  readonly #keyEnds: readonly number[];
  readonly #valueStarts: readonly number[];
  readonly #valueEnds: readonly number[];
  readonly #placementStarts: readonly number[];
  readonly #placementEnds: readonly number[];

  constructor(bytes: Uint8Array, reader: ByteReader, logicalEnd: number, count: number) {
    this.bytes = bytes;
    this.count = count;
    const prefix = reader.blob(keyBytesMax);
    const suffixStarts: number[] = new Array(count);
    const keyEnds: number[] = new Array(count);
    const valueStarts: number[] = new Array(count);
    const valueEnds: number[] = new Array(count);
    const placementStarts: number[] = new Array(count);
    const placementEnds: number[] = new Array(count);
    let keyBytes = 0;
    for (let i = 0; i < count; i++) {
      const suffixBytes = reader.varint(keyBytesMax - prefix.length);
      suffixStarts[i] = reader.skip(suffixBytes);
      checkMeasure(reader, i, keyBytes + i * itemMeasureBytes);
      keyBytes += prefix.length + suffixBytes;
      keyEnds[i] = keyBytes;
    }
    for (let i = 0; i < count; i++) {
      const valueBytes = reader.varint();
      const start = reader.skip(valueBytes);
      valueStarts[i] = start;
      valueEnds[i] = start + valueBytes;
    }
    if (reader.position !== logicalEnd) reader.fail('logical part has another length');
    for (let i = 0; i < count; i++) {
      const placementBytes = reader.varint();
      const start = reader.skip(placementBytes);
      placementStarts[i] = start;
      placementEnds[i] = start + placementBytes;
    }
    reader.end();

    const keys = new Uint8Array(keyBytes);
    let at = 0;
    for (let i = 0; i < count; i++) {
      at = copyInto(keys, at, prefix, 0, prefix.length);
      const suffixStart = suffixStarts[i] as number;
      const start = at;
      const end = keyEnds[i] as number;
      at = copyInto(keys, at, bytes, suffixStart, suffixStart + end - at);
      if (i > 0) {
        const before = keyEnds[i - 2] ?? 0;
        if (compareRanges(keys, before + prefix.length, start - prefix.length, keys, start, end) >= 0) {
          reader.fail('keys do not ascend');
        }
      }
    }
    this.#keys = keys;
    this.#keyEnds = keyEnds;
    this.#valueStarts = valueStarts;
    this.#valueEnds = valueEnds;
    this.#placementStarts = placementStarts;
    this.#placementEnds = placementEnds;
    if (prefix.length !== commonPrefixBytes(this.key(0), this.key(count - 1)))
      reader.fail('common prefix is not the longest');
  }

  /** Views; they stay valid, and nobody writes into them. */
  key(index: number): Uint8Array {
    return this.#keys.subarray(this.#keyEnds[index - 1] ?? 0, this.#keyEnds[index]);
  }

  value(index: number): Uint8Array {
    return this.bytes.subarray(this.#valueStarts[index], this.#valueEnds[index]);
  }

  placement(index: number): Uint8Array {
    return this.bytes.subarray(this.#placementStarts[index], this.#placementEnds[index]);
  }

  /** Readers of value and placement, without views of them: for passing over many items. */
  readers(index: number): { readonly value: ByteReader; readonly placement: ByteReader } {
    const { bytes } = this;
    return {
      value: new ByteReader(bytes, 'entry', this.#valueStarts[index], this.#valueEnds[index]),
      placement: new ByteReader(
        bytes,
        'placement of an entry',
        this.#placementStarts[index],
        this.#placementEnds[index],
      ),
    };
  }

  item(index: number): LeafItem {
    return { key: this.key(index), value: this.value(index), placement: this.placement(index) };
  }

  /** Order of key `index` against `key`. */
  compareKey(index: number, key: Uint8Array): number {
    return compareRanges(this.#keys, this.#keyEnds[index - 1] ?? 0, this.#keyEnds[index] as number, key, 0, key.length);
  }

  /** Index of the first key, at or after `from`, that is not below `key`; `count` when there is none. */
  find(key: Uint8Array, from = 0): number {
    let low = from;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.compareKey(middle, key) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** A decoded interior node of a tree. */
export class InteriorNode {
  readonly bytes: Uint8Array;
  readonly level: number;
  readonly children: readonly NodeChild[];

  constructor(bytes: Uint8Array, reader: ByteReader, logicalEnd: number, level: number, count: number) {
    this.bytes = bytes;
    this.level = level;
    const prefix = reader.blob(keyBytesMax);
    const separators: Uint8Array[] = [];
    const ids: NodeId[] = [];
    const sums: TreeSums[] = [];
    let keyBytes = 0;
    for (let i = 0; i < count; i++) {
      const suffix = reader.blob(keyBytesMax - prefix.length);
      checkMeasure(reader, i, keyBytes + i * itemMeasureBytes);
      keyBytes += prefix.length + suffix.length;
      const separator = new Uint8Array(prefix.length + suffix.length);
      separator.set(prefix);
      separator.set(suffix, prefix.length);
      if (i > 0 && compareBytes(separators[i - 1] as Uint8Array, separator) >= 0)
        reader.fail('separators do not ascend');
      separators.push(separator);
      ids.push(toNodeId(reader.raw(32)));
      sums.push({ files: reader.varint(), entries: reader.varint(), bytes: reader.varint() });
    }
    if (reader.position !== logicalEnd) reader.fail('logical part has another length');
    if (prefix.length !== commonPrefixBytes(separators[0] as Uint8Array, separators[count - 1] as Uint8Array)) {
      reader.fail('common prefix is not the longest');
    }
    const children: NodeChild[] = [];
    for (let i = 0; i < count; i++) {
      children.push({
        separator: separators[i] as Uint8Array,
        id: ids[i] as NodeId,
        sums: sums[i] as TreeSums,
        place: readPlace(reader),
        nodeBytes: readNodeBytes(reader),
      });
    }
    reader.end();
    this.children = children;
  }

  /** Index of the child whose range holds `key`; a key before them all is looked for in the first. */
  findChild(key: Uint8Array): number {
    let low = 1;
    let high = this.children.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareBytes((this.children[middle] as NodeChild).separator, key) <= 0) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}

export type TreeNode = LeafNode | InteriorNode;

/** A node of a tree, from bytes that nobody writes into afterwards. E_DAMAGED, or E_FORMAT_NEWER for a later version. */
export function decodeTreeNode(bytes: Uint8Array): TreeNode {
  const reader = new ByteReader(bytes, 'tree node');
  const { kind, level, count, logicalEnd } = readHeader(reader);
  if (kind === nodeKind.leaf && level === 0) return new LeafNode(bytes, reader, logicalEnd, count);
  if (kind === nodeKind.interior && level > 0) return new InteriorNode(bytes, reader, logicalEnd, level, count);
  return reader.fail(`node of kind ${kind} at level ${level}`);
}

export type ListNode =
  | { readonly level: 0; readonly items: readonly ContentItem[]; readonly children: readonly [] }
  | { readonly level: number; readonly items: readonly []; readonly children: readonly ListChild[] };

/** A node of a chunk list. E_DAMAGED, or E_FORMAT_NEWER for a later version. */
export function decodeListNode(bytes: Uint8Array): ListNode {
  const reader = new ByteReader(bytes, 'chunk list node');
  const { kind, level, count, logicalEnd } = readHeader(reader);
  if (kind === nodeKind.listLeaf && level === 0) return readListLeaf(bytes, reader, logicalEnd, count);
  if (kind === nodeKind.listInterior && level > 0) return readListInterior(reader, logicalEnd, level, count);
  return reader.fail(`node of kind ${kind} at level ${level}`);
}

function readListLeaf(bytes: Uint8Array, reader: ByteReader, logicalEnd: number, count: number): ListNode {
  const placement = new ByteReader(bytes, 'placement of a chunk list node', logicalEnd);
  const items: ContentItem[] = [];
  for (let i = 0; i < count; i++) items.push(readItem(undefined, reader, placement));
  if (reader.position !== logicalEnd) reader.fail('logical part has another length');
  placement.end();
  return { level: 0, items, children: [] };
}

function readListInterior(reader: ByteReader, logicalEnd: number, level: number, count: number): ListNode {
  const parts: { id: NodeId; items: number; bytes: number }[] = [];
  for (let i = 0; i < count; i++) {
    parts.push({ id: toNodeId(reader.raw(32)), items: reader.varint(), bytes: reader.varint() });
  }
  if (reader.position !== logicalEnd) reader.fail('logical part has another length');
  const children: ListChild[] = [];
  for (const part of parts) children.push({ ...part, place: readPlace(reader), nodeBytes: readNodeBytes(reader) });
  reader.end();
  return { level, items: [], children };
}

interface NodeHeader {
  readonly kind: number;
  readonly level: number;
  readonly count: number;
  readonly logicalEnd: number;
}

function readHeader(reader: ByteReader): NodeHeader {
  const logicalBytes = reader.varint(reader.left);
  const logicalEnd = reader.position + logicalBytes;
  const format = reader.u8();
  if (format > nodeFormat) {
    throw new HoldfastError('E_FORMAT_NEWER', `tree node: format ${format} is newer than ${nodeFormat}`);
  }
  if (format !== nodeFormat) reader.fail(`unknown format ${format}`);
  const kind = reader.u8();
  const level = reader.varint(nodeLevelMax);
  const count = reader.varint(childrenMax);
  if (count === 0) reader.fail('node without items');
  return { kind, level, count, logicalEnd };
}

/** A node had to end before item `index` once it had reached the limit. Bounds also what whole keys take in memory. */
function checkMeasure(reader: ByteReader, index: number, measureBefore: number): void {
  if (index >= itemsMinAtMeasureMax && measureBefore >= nodeMeasureMax) reader.fail('node beyond its largest measure');
}

function readNodeBytes(reader: ByteReader): number {
  const bytes = reader.varint(nodeBytesMax);
  if (bytes === 0) reader.fail('node of no bytes');
  return bytes;
}

function compareRanges(
  a: Uint8Array,
  aStart: number,
  aEnd: number,
  b: Uint8Array,
  bStart: number,
  bEnd: number,
): number {
  const aBytes = aEnd - aStart;
  const bBytes = bEnd - bStart;
  const shared = aBytes < bBytes ? aBytes : bBytes;
  for (let i = 0; i < shared; i++) {
    const difference = (a[aStart + i] as number) - (b[bStart + i] as number);
    if (difference !== 0) return difference;
  }
  return aBytes - bBytes;
}

const emptyLeaf: EncodedNode = new LeafWriter().encode();

/** The logical part whose digest is the id of a tree without entries; such a node is stored nowhere. */
export const emptyLeafLogical: Uint8Array = emptyLeaf.logical;
