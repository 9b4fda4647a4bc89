/** Reads a stored tree in the order of its keys, one path of nodes in memory. */
import type { DomainKeys } from '../format/keys.ts';
import type { LeafItem, LeafNode } from '../format/tree-node.ts';
import { compareBytes } from '../model/bytes.ts';
import type { TreeRoot } from '../model/checkpoint.ts';
import type { Place } from '../model/entry.ts';
import { invariant } from '../model/errors.ts';
import {
  loadAhead,
  type Loading,
  loadNode,
  type NodeRef,
  type NodeSource,
  rootRef,
  runLoading,
} from './node-access.ts';
import { childRef, TreeCursor } from './tree-cursor.ts';

export interface TreeReaderOptions {
  readonly root: TreeRoot;
  readonly source: NodeSource;
  readonly keys: DomainKeys;
  /** First key of interest, inclusive. */
  readonly from?: Uint8Array | undefined;
  /** End of the keys of interest, exclusive. */
  readonly to?: Uint8Array | undefined;
  /** Begins to load the next leaf when one is entered: for readers that pass over little. */
  readonly readAhead?: boolean;
}

/**
 * Steps through the entries of a tree, made for merging with another sorted sequence: at once inside a leaf, with a promise
 * only when a node must be loaded and the source does not have it at hand. It begins before the first entry; `next` or
 * `seek` make an entry the current one. A promise is awaited before the next call. Errors as of `openNode`.
 */
export class TreeReader {
  readonly #keys: DomainKeys;
  readonly #source: NodeSource;
  readonly #cursor: TreeCursor;
  readonly #to: Uint8Array | undefined;
  #from: Uint8Array | undefined;
  /** The current leaf; its current entry is the one the cursor stands before. */
  #leaf: LeafNode | undefined;
  #index = 0;
  /** End of the entries of interest in the current leaf. */
  #leafEnd = 0;

  constructor(options: TreeReaderOptions) {
    this.#keys = options.keys;
    this.#cursor = new TreeCursor(rootRef(options.root, options.keys));
    this.#source = options.readAhead === true ? new ReadAhead(options.source, this.#cursor) : options.source;
    this.#from = options.from;
    this.#to = options.to;
  }

  /** Makes the next entry the current one; false at the end. */
  next(): boolean | Promise<boolean> {
    if (this.#leaf !== undefined) {
      if (this.#index + 1 < this.#leafEnd) {
        this.#index++;
        return true;
      }
      return this.#leaveLeaf();
    }
    return runLoading(this.#enterLeaf(this.#takeFrom()), this.#source, this.#keys);
  }

  /** Moves on to the first entry that is not below `key`, which may be the current one already; false at the end. */
  seek(key: Uint8Array): boolean | Promise<boolean> {
    if (this.#leaf !== undefined) {
      const index = this.#leaf.find(key, this.#index);
      if (index < this.#leafEnd) {
        this.#index = index;
        return true;
      }
      return this.#leaveLeaf(key);
    }
    const from = this.#takeFrom();
    const limit = from !== undefined && compareBytes(from, key) > 0 ? from : key;
    return runLoading(this.#enterLeaf(limit), this.#source, this.#keys);
  }

  /** The same for a whole leaf: its entries from the current one on, none at the end. The reader goes on after them. */
  nextLeaf(): readonly LeafItem[] | Promise<readonly LeafItem[]> {
    const entered = this.#leaf === undefined ? this.next() : this.#leaveLeaf();
    if (typeof entered === 'boolean') return entered ? this.#restOfLeaf() : [];
    return entered.then((some) => (some ? this.#restOfLeaf() : []));
  }

  /** True when there is a current entry. */
  get atEntry(): boolean {
    return this.#leaf !== undefined;
  }

  /** Views of the current entry, valid for good; nobody writes into them. */
  get key(): Uint8Array {
    return this.#current().key(this.#index);
  }

  get value(): Uint8Array {
    return this.#current().value(this.#index);
  }

  get placement(): Uint8Array {
    return this.#current().placement(this.#index);
  }

  get item(): LeafItem {
    return this.#current().item(this.#index);
  }

  /** Order of the current entry's key against `key`. */
  compareKey(key: Uint8Array): number {
    return this.#current().compareKey(this.#index, key);
  }

  #current(): LeafNode {
    invariant(this.#leaf !== undefined, 'a reader stands at an entry');
    return this.#leaf;
  }

  #takeFrom(): Uint8Array | undefined {
    const from = this.#from;
    this.#from = undefined;
    return from;
  }

  #restOfLeaf(): LeafItem[] {
    const leaf = this.#current();
    const items: LeafItem[] = [];
    for (let i = this.#index; i < this.#leafEnd; i++) items.push(leaf.item(i));
    this.#index = this.#leafEnd - 1;
    return items;
  }

  #leaveLeaf(limit?: Uint8Array): boolean | Promise<boolean> {
    const leaf = this.#current();
    this.#leaf = undefined;
    this.#cursor.moveTo(leaf.count);
    if (this.#leafEnd < leaf.count) return false;
    return runLoading(this.#enterLeaf(limit), this.#source, this.#keys);
  }

  /** Enters the leaf with the first entry not below `limit`. */
  *#enterLeaf(limit: Uint8Array | undefined): Loading<boolean> {
    const cursor = this.#cursor;
    for (;;) {
      const subtree = cursor.subtree();
      if (subtree === undefined || (this.#to !== undefined && compareBytes(subtree.lower, this.#to) >= 0)) return false;
      if (limit !== undefined && subtree.upper !== undefined && compareBytes(subtree.upper, limit) <= 0) {
        cursor.skip();
        continue;
      }
      cursor.enter(yield subtree);
      const leaf = cursor.leaf;
      if (leaf === undefined) continue;
      const index = limit === undefined ? 0 : leaf.find(limit);
      const end = this.#to === undefined ? leaf.count : leaf.find(this.#to);
      if (index < end) {
        this.#leaf = leaf;
        this.#index = index;
        this.#leafEnd = end;
        return true;
      }
      cursor.moveTo(leaf.count);
      if (end < leaf.count) return false;
    }
  }
}

/** Begins to load the leaf after the one asked for. */
class ReadAhead implements NodeSource {
  readonly #source: NodeSource;
  readonly #cursor: TreeCursor;
  #place: Place | undefined;
  #loading: Uint8Array | Promise<Uint8Array> | undefined;

  constructor(source: NodeSource, cursor: TreeCursor) {
    this.#source = source;
    this.#cursor = cursor;
  }

  load(place: Place, nodeBytes: number): Uint8Array | Promise<Uint8Array> {
    const bytes =
      this.#place === place && this.#loading !== undefined ? this.#loading : this.#source.load(place, nodeBytes);
    const sibling = this.#cursor.sibling();
    const next = sibling?.level === 0 ? sibling : undefined;
    this.#place = next?.place;
    this.#loading = loadAhead(this.#source, next);
    return bytes;
  }
}

/** The entry at `key`: one path of nodes. */
export async function getEntry(
  root: TreeRoot,
  key: Uint8Array,
  source: NodeSource,
  keys: DomainKeys,
): Promise<LeafItem | undefined> {
  let ref: NodeRef | undefined = rootRef(root, keys);
  while (ref !== undefined) {
    const node = await loadNode(ref, source, keys);
    if (!('children' in node)) {
      const index = node.find(key);
      return index < node.count && node.compareKey(index, key) === 0 ? node.item(index) : undefined;
    }
    ref = childRef(node, node.findChild(key), ref.upper);
  }
  return undefined;
}

/** The entries from `from` (inclusive) up to `to` (exclusive), leaf by leaf, the next leaf being loaded meanwhile. */
export async function* scanTree(
  root: TreeRoot,
  source: NodeSource,
  keys: DomainKeys,
  range: { readonly from?: Uint8Array | undefined; readonly to?: Uint8Array | undefined } = {},
): AsyncGenerator<readonly LeafItem[]> {
  const reader = new TreeReader({ root, source, keys, from: range.from, to: range.to, readAhead: true });
  for (;;) {
    const items = await reader.nextLeaf();
    if (items.length === 0) return;
    yield items;
  }
}
