/**
 * Builds the levels of a tree from below, from items in ascending order of keys, with one open node per level. It knows nothing
 * of an old tree except that a whole subtree may take the place of its items, and that a node that is stored already need
 * not be stored again.
 *
 * The tree that results follows from the items alone: boundaries from keys (format/boundary.ts), separators as the shortest
 * that separate, no root with a single child.
 */
import { BoundaryHasher, endsNode, itemMeasureBytes } from '../format/boundary.ts';
import { entrySums, nodeLevelMax } from '../format/entry-codec.ts';
import { type DomainKeys, nodeId } from '../format/keys.ts';
import { nowhere } from '../format/place-codec.ts';
import { type EncodedNode, LeafWriter, type NodeChild, NodeWriter } from '../format/tree-node.ts';
import { commonPrefixBytes, emptyBytes, equalBytes } from '../model/bytes.ts';
import type { TreeRoot, TreeSums } from '../model/checkpoint.ts';
import { invariant } from '../model/errors.ts';
import { emptyTree, type NodeRef, type NodeSink, saturated, sumOf } from './node-access.ts';

/** The shortest prefix of `first` that comes after `before`; `first` itself comes after it. */
export function shortestSeparator(before: Uint8Array, first: Uint8Array): Uint8Array {
  return first.slice(0, commonPrefixBytes(before, first) + 1);
}

interface Level {
  readonly hasher: BoundaryHasher;
  children: NodeChild[];
  measure: number;
}

interface StoredNode {
  readonly ref: NodeRef;
  readonly bytes: Uint8Array;
}

export class TreeBuilder {
  readonly #keys: DomainKeys;
  readonly #sink: NodeSink | undefined;
  readonly #leaf = new LeafWriter();
  readonly #leafHasher: BoundaryHasher;
  #leafSeparator: Uint8Array = emptyBytes;
  #leafFiles = 0;
  #leafFileBytes = 0;
  /** `#levels[0]` is the level above the leaves. */
  readonly #levels: Level[] = [];
  readonly #writer = new NodeWriter();
  /** By level: the node of the old tree met last, which an equal new one need not be stored beside. */
  readonly #stored: (StoredNode | undefined)[] = [];
  /** Last key of the last leaf that ended; undefined before the first one, and when a subtree came in whole. */
  #lastKey: Uint8Array | undefined;
  /** The subtree that came in whole, when nothing followed it yet. */
  #lastSubtree: NodeRef | undefined;

  constructor(keys: DomainKeys, sink: NodeSink | undefined) {
    this.#keys = keys;
    this.#sink = sink;
    this.#leafHasher = new BoundaryHasher(keys.boundaryKey, 0);
  }

  /** True when the next item begins a leaf. */
  get atLeafStart(): boolean {
    return this.#leaf.count === 0;
  }

  /** The subtree that came in whole right before, whose last key a separator would depend on. */
  get lastSubtree(): NodeRef | undefined {
    return this.#lastSubtree;
  }

  /** True when no node is open up to `level`, so that a subtree of that level fits in. */
  atNodeStart(level: number): boolean {
    if (this.#leaf.count > 0) return false;
    for (let i = 0; i < level; i++) {
      const children = this.#levels[i]?.children;
      if (children !== undefined && children.length > 0) return false;
    }
    return true;
  }

  /** Tells the last key of `lastSubtree`. */
  resolveLastKey(key: Uint8Array): void {
    this.#lastKey = key.slice();
    this.#lastSubtree = undefined;
  }

  /** Remembers a node of the old tree. */
  remember(ref: NodeRef, bytes: Uint8Array): void {
    this.#stored[ref.level] = { ref, bytes };
  }

  /**
   * Appends an item. At the start of a leaf `separator` is the leaf's, where it is known already; else it is made from the
   * last key, which must be known then.
   */
  append(key: Uint8Array, value: Uint8Array, placement: Uint8Array, separator?: Uint8Array): void {
    const leaf = this.#leaf;
    if (leaf.count === 0) {
      this.#leafSeparator = separator ?? this.#separatorOf(key);
      this.#lastSubtree = undefined;
    }
    const before = leaf.measure;
    leaf.add(key, value, placement);
    const sums = entrySums(value);
    this.#leafFiles += sums.files;
    this.#leafFileBytes += sums.bytes;
    const hash = this.#leafHasher.hash(key, 0, key.length);
    if (endsNode(false, leaf.count, before, leaf.measure, hash)) this.#endLeaf();
  }

  /** Appends a whole subtree; `atNodeStart` of its level must hold. */
  appendSubtree(ref: NodeRef): void {
    invariant(this.atNodeStart(ref.level), 'a subtree begins where a node begins');
    this.#appendChild(ref.level + 1, {
      separator: ref.lower,
      id: ref.id,
      sums: ref.sums,
      place: ref.place,
      nodeBytes: ref.nodeBytes,
    });
    this.#lastKey = undefined;
    this.#lastSubtree = ref;
  }

  /** The tree of all items so far. What was begun stays open: more may follow, and another root be asked for. */
  root(): TreeRoot {
    let top = 0;
    for (let i = 0; i < this.#levels.length; i++) if (this.#childrenAt(i + 1).length > 0) top = i + 1;
    if (top === 0 && this.#leaf.count === 0) return emptyTree(this.#keys);
    let last = this.#leaf.count > 0 ? this.#storeLeaf() : undefined;
    for (let level = 1; level <= top; level++) {
      const open = this.#childrenAt(level);
      const children = last === undefined ? open : [...open, last];
      if (children.length === 0) continue;
      const onlyChild = level === top && children.length === 1 ? children[0] : undefined;
      if (onlyChild !== undefined) return this.#rootOf(onlyChild, level - 1);
      last = this.#storeInterior(level, children);
    }
    invariant(last !== undefined, 'a tree with items has a root');
    return this.#rootOf(last, top);
  }

  #separatorOf(key: Uint8Array): Uint8Array {
    invariant(this.#lastSubtree === undefined, 'the last key before a leaf is known');
    return this.#lastKey === undefined ? emptyBytes : shortestSeparator(this.#lastKey, key);
  }

  #endLeaf(): void {
    const child = this.#storeLeaf();
    this.#lastKey = this.#leaf.lastKey();
    this.#leaf.reset();
    this.#leafFiles = 0;
    this.#leafFileBytes = 0;
    this.#appendChild(1, child);
  }

  #appendChild(level: number, child: NodeChild): void {
    invariant(level <= nodeLevelMax, 'a tree has a bounded number of levels');
    let at = this.#levels[level - 1];
    if (at === undefined) {
      at = { hasher: new BoundaryHasher(this.#keys.boundaryKey, level), children: [], measure: 0 };
      this.#levels[level - 1] = at;
    }
    const { separator } = child;
    const before = at.measure;
    at.measure += separator.length + itemMeasureBytes;
    at.children.push(child);
    const hash = at.hasher.hash(separator, 0, separator.length);
    if (!endsNode(true, at.children.length, before, at.measure, hash)) return;
    const parent = this.#storeInterior(level, at.children);
    at.children = [];
    at.measure = 0;
    this.#appendChild(level + 1, parent);
  }

  #childrenAt(level: number): readonly NodeChild[] {
    return this.#levels[level - 1]?.children ?? [];
  }

  #storeLeaf(): NodeChild {
    const sums = saturated(this.#leafFiles, this.#leaf.count, this.#leafFileBytes);
    return this.#store(0, this.#leaf.encode(), this.#leafSeparator, sums);
  }

  #storeInterior(level: number, children: readonly NodeChild[]): NodeChild {
    const separator = children[0]?.separator ?? emptyBytes;
    return this.#store(level, this.#writer.interior(level, children), separator, sumOf(children));
  }

  /**
   * A node that came out as it was, placement included, keeps its place. The whole bytes decide: an equal id may stand for
   * contents that lie elsewhere now.
   */
  #store(level: number, node: EncodedNode, separator: Uint8Array, sums: TreeSums): NodeChild {
    const stored = this.#stored[level];
    if (stored !== undefined && equalBytes(stored.bytes, node.bytes)) {
      return { separator, id: stored.ref.id, sums, place: stored.ref.place, nodeBytes: stored.ref.nodeBytes };
    }
    const place = this.#sink === undefined ? nowhere : this.#sink.store(node.bytes);
    return { separator, id: nodeId(this.#keys, node.logical), sums, place, nodeBytes: node.bytes.length };
  }

  #rootOf(node: NodeChild, level: number): TreeRoot {
    const place = node.place === nowhere ? undefined : node.place;
    return { id: node.id, level, nodeBytes: node.nodeBytes, place, sums: node.sums };
  }
}
