/**
 * How trees reach their nodes. A stored tree is untrusted: each node is proven against what its parent says of it, by id,
 * level, sums and key range, before anything in it is used. So a tree can be as wrong as its root's id allows and no more,
 * its depth is bounded, and no subtree can be met twice.
 */
import { entrySums } from '../format/entry-codec.ts';
import { type DomainKeys, nodeId } from '../format/keys.ts';
import { decodeTreeNode, emptyLeafLogical, type LeafNode, nodeLogical, type TreeNode } from '../format/tree-node.ts';
import { interiorChildrenMin } from '../format/boundary.ts';
import { compareBytes, emptyBytes, equalBytes } from '../model/bytes.ts';
import type { TreeRoot, TreeSums } from '../model/checkpoint.ts';
import type { Place } from '../model/entry.ts';
import { HoldfastError, invariant } from '../model/errors.ts';
import type { NodeId } from '../model/ids.ts';
import { checkKey } from '../model/rel-path.ts';

export interface NodeSource {
  /**
   * The `nodeBytes` plain bytes that lie at `place`, which nobody writes into afterwards; at once where they are at hand.
   * The caller proves them against the id it expects.
   */
  load(place: Place, nodeBytes: number): Uint8Array | Promise<Uint8Array>;
}

export interface NodeSink {
  /** Stores a node; `node` holds during the call only. */
  store(node: Uint8Array): Place;
}

/** A node that is not loaded yet, and all that is claimed of it. */
export interface NodeRef {
  readonly level: number;
  readonly id: NodeId;
  readonly place: Place;
  readonly nodeBytes: number;
  readonly sums: TreeSums;
  /** Its separator: no key of the node is below. */
  readonly lower: Uint8Array;
  /** Every key of the node is below; undefined for the last node of a level. */
  readonly upper: Uint8Array | undefined;
}

/** The tree without entries. */
export function emptyTree(keys: DomainKeys): TreeRoot {
  const sums = { files: 0, entries: 0, bytes: 0 };
  return { id: nodeId(keys, emptyLeafLogical), level: 0, nodeBytes: 0, place: undefined, sums };
}

/** Undefined for the empty tree. E_DAMAGED when the root contradicts itself. */
export function rootRef(root: TreeRoot, keys: DomainKeys): NodeRef | undefined {
  if (root.nodeBytes === 0) {
    const { files, entries, bytes } = root.sums;
    const empty = root.level === 0 && files === 0 && entries === 0 && bytes === 0;
    if (!empty || !equalBytes(root.id, nodeId(keys, emptyLeafLogical)))
      throw damaged('the root of an empty tree is wrong');
    return undefined;
  }
  invariant(root.place !== undefined, 'the tree of a dry run cannot be read');
  const { id, level, nodeBytes, place, sums } = root;
  return { level, id, place, nodeBytes, sums, lower: emptyBytes, upper: undefined };
}

/** Work that stops where it needs a node and goes on when it is handed one. */
export type Loading<T> = Generator<NodeRef, T, TreeNode>;

/** Runs `work`, at once as far as the source answers at once. */
export function runLoading<T>(work: Loading<T>, source: NodeSource, keys: DomainKeys): T | Promise<T> {
  let step = work.next();
  while (!step.done) {
    const ref = step.value;
    const bytes = source.load(ref.place, ref.nodeBytes);
    if (!(bytes instanceof Uint8Array)) return runLoadingLater(work, ref, bytes, source, keys);
    step = work.next(openNode(ref, bytes, keys));
  }
  return step.value;
}

async function runLoadingLater<T>(
  work: Loading<T>,
  ref: NodeRef,
  loading: Promise<Uint8Array>,
  source: NodeSource,
  keys: DomainKeys,
): Promise<T> {
  let step = work.next(openNode(ref, await loading, keys));
  while (!step.done) {
    const next = step.value;
    step = work.next(openNode(next, await source.load(next.place, next.nodeBytes), keys));
  }
  return step.value;
}

/** Loads and proves one node. */
export async function loadNode(ref: NodeRef, source: NodeSource, keys: DomainKeys): Promise<TreeNode> {
  return openNode(ref, await source.load(ref.place, ref.nodeBytes), keys);
}

/** Begins to load what will probably be wanted. A failure counts only when, and if, the node is asked for. */
export function loadAhead(
  source: NodeSource,
  wanted: { readonly place: Place; readonly nodeBytes: number } | undefined,
): Uint8Array | Promise<Uint8Array> | undefined {
  if (wanted === undefined) return undefined;
  try {
    const loading = source.load(wanted.place, wanted.nodeBytes);
    if (!(loading instanceof Uint8Array)) loading.catch(() => undefined);
    return loading;
  } catch {
    return undefined;
  }
}

/** The node in `bytes`, proven to be what `ref` says. E_DAMAGED for other bytes, E_HOSTILE for a tree no Holdfast builds. */
export function openNode(ref: NodeRef, bytes: Uint8Array, keys: DomainKeys): TreeNode {
  if (bytes.length !== ref.nodeBytes) throw damaged(`a node has ${bytes.length} bytes, not ${ref.nodeBytes}`);
  if (!equalBytes(nodeId(keys, nodeLogical(bytes)), ref.id)) throw damaged('a node does not match its id');
  const node = decodeTreeNode(bytes);
  if (node.level !== ref.level) throw hostile(`a node of level ${node.level} where ${ref.level} was expected`);
  const sums = node.level === 0 ? sumLeaf(node as LeafNode) : sumOf((node as Exclude<TreeNode, LeafNode>).children);
  if (sums.files !== ref.sums.files || sums.entries !== ref.sums.entries || sums.bytes !== ref.sums.bytes) {
    throw hostile('the sums of a node do not add up');
  }
  if ('children' in node) {
    const { children } = node;
    const first = children[0]?.separator as Uint8Array;
    if (!equalBytes(first, ref.lower)) throw hostile('a node begins elsewhere than its parent says');
    checkBelow(children[children.length - 1]?.separator as Uint8Array, ref.upper);
    // The last node of a level may have fewer, but a root with a single child is no root.
    const isRoot = ref.lower.length === 0 && ref.upper === undefined;
    const least = isRoot ? 2 : ref.upper === undefined ? 1 : interiorChildrenMin;
    if (children.length < least) throw hostile(`an interior node of ${children.length} children`);
  } else {
    if (node.compareKey(0, ref.lower) < 0) throw hostile('a key below the range of its node');
    checkBelow(node.key(node.count - 1), ref.upper);
    for (let i = 0; i < node.count; i++) checkKey(node.key(i));
  }
  return node;
}

function checkBelow(key: Uint8Array, upper: Uint8Array | undefined): void {
  if (upper !== undefined && compareBytes(key, upper) >= 0) throw hostile('a key above the range of its node');
}

function sumLeaf(leaf: LeafNode): TreeSums {
  let files = 0;
  let bytes = 0;
  for (let i = 0; i < leaf.count; i++) {
    const sums = entrySums(leaf.value(i));
    files += sums.files;
    bytes += sums.bytes;
  }
  return saturated(files, leaf.count, bytes);
}

/** Sums over children. */
export function sumOf(children: readonly { readonly sums: TreeSums }[]): TreeSums {
  let files = 0;
  let entries = 0;
  let bytes = 0;
  for (const { sums } of children) {
    files += sums.files;
    entries += sums.entries;
    bytes += sums.bytes;
  }
  return saturated(files, entries, bytes);
}

/**
 * Sums end at the largest integer that is exact: a few sparse files can have more bytes than that, and must not stop a
 * checkpoint. How they are added up makes no difference, since all of them are positive.
 */
export function saturated(files: number, entries: number, bytes: number): TreeSums {
  return { files: saturate(files), entries: saturate(entries), bytes: saturate(bytes) };
}

function saturate(sum: number): number {
  return sum < Number.MAX_SAFE_INTEGER ? sum : Number.MAX_SAFE_INTEGER;
}

function damaged(why: string): HoldfastError {
  return new HoldfastError('E_DAMAGED', `tree: ${why}`);
}

function hostile(why: string): HoldfastError {
  return new HoldfastError('E_HOSTILE', `tree: ${why}`);
}
