/**
 * Makes a new tree from a stored one and edits in ascending order of keys. Costs a path of nodes per edit, not the tree: a
 * subtree without edits is taken over whole, without being read, where that gives what a build from nothing would give.
 *
 * A whole subtree may be taken over when three things hold.
 * 1. No node is open at its level or below. Boundaries start from zero at each boundary, so from there on the new tree agrees
 *    with the old one.
 * 2. The key before it is the one that was before it in the old tree; else its separator may be another.
 * 3. Something follows it in the old tree, or nothing follows it in the new one. The last node of a level ended because
 *    the tree did, not at a boundary.
 * Otherwise it is entered, and the same is asked of its children. Nodes that come out as they were keep their places.
 */
import type { DomainKeys } from '../format/keys.ts';
import type { LeafNode } from '../format/tree-node.ts';
import { compareBytes, emptyBytes } from '../model/bytes.ts';
import type { TreeRoot } from '../model/checkpoint.ts';
import { HoldfastError, invariant } from '../model/errors.ts';
import { displayPath, keyBytesMax } from '../model/rel-path.ts';
import { childRef, TreeCursor } from './tree-cursor.ts';
import { type Loading, type NodeRef, type NodeSink, type NodeSource, rootRef, runLoading } from './node-access.ts';
import { TreeBuilder } from './tree-builder.ts';

export interface TreeEditorOptions {
  /** The tree to start from; `emptyTree` for a build from nothing. */
  readonly base: TreeRoot;
  readonly source: NodeSource;
  /** Takes the new nodes; undefined in a dry run, whose root says all but where it lies. */
  readonly sink: NodeSink | undefined;
  readonly keys: DomainKeys;
}

/**
 * Keys strictly ascend over all calls. A call that answers with a promise is awaited before the next one, and before its
 * arguments are written into. After a rejected call the editor is of no more use; nothing it stored is referenced.
 */
export class TreeEditor {
  readonly #keys: DomainKeys;
  readonly #source: NodeSource;
  readonly #builder: TreeBuilder;
  readonly #cursor: TreeCursor;
  /** The item appended last is the one before the cursor in the old tree. */
  #followsOld = true;
  /** Copy of the last key of a call. */
  #lastKey: Uint8Array = new Uint8Array(256);
  #lastKeyBytes = 0;
  /** Where the last call's range ended; keys go on from there. */
  #rangeEnd: Uint8Array | typeof endOfAll | undefined;
  #state: 'ready' | 'busy' | 'ended' = 'ready';

  constructor(options: TreeEditorOptions) {
    this.#keys = options.keys;
    this.#source = options.source;
    this.#builder = new TreeBuilder(options.keys, options.sink);
    this.#cursor = new TreeCursor(rootRef(options.base, options.keys));
  }

  /** Adds the entry or replaces it. A promise only when nodes of the old tree must be loaded. */
  put(key: Uint8Array, value: Uint8Array, placement: Uint8Array): void | Promise<void> {
    this.#begin(key);
    if (this.#nothingOldUpTo(key) && !(this.#builder.atLeafStart && this.#builder.lastSubtree !== undefined)) {
      this.#builder.append(key, value, placement);
      this.#followsOld = false;
      return;
    }
    return this.#run(this.#put(key, value, placement));
  }

  /** Removes the entry, if there is one. Entries below a directory stay: see `deleteRange`. */
  delete(key: Uint8Array): void | Promise<void> {
    this.#begin(key);
    if (this.#nothingOldUpTo(key)) return;
    return this.#run(this.#delete(key));
  }

  /** Removes the entries from `from` up to and without `to`, or all that follow. The next key may be `to` itself. */
  deleteRange(from: Uint8Array, to: Uint8Array | undefined): void | Promise<void> {
    this.#begin(from);
    invariant(to === undefined || compareBytes(from, to) < 0, 'a range is not empty');
    this.#rangeEnd = to?.slice() ?? endOfAll;
    return this.#run(this.#deleteRange(from, to));
  }

  /** The root of the whole tree: all edits, and what is left of the old one. Ends the editor. */
  async finish(): Promise<TreeRoot> {
    invariant(this.#state === 'ready', 'an editor ends once, between calls');
    this.#state = 'busy';
    await runLoading(this.#advance(undefined, true, false), this.#source, this.#keys);
    this.#state = 'ended';
    return this.#builder.root();
  }

  /** The root of the entries up to the last call's key, as if the tree ended there. The editor goes on afterwards. */
  async snapshot(): Promise<TreeRoot> {
    invariant(this.#state === 'ready', 'a snapshot lies between calls');
    return this.#builder.root();
  }

  #begin(key: Uint8Array): void {
    invariant(this.#state === 'ready', 'calls of an editor follow each other');
    invariant(key.length > 0, 'a key is not empty');
    if (key.length > keyBytesMax) throw tooLong(key);
    const range = this.#rangeEnd;
    if (range !== undefined) {
      invariant(range !== endOfAll && compareBytes(key, range) >= 0, 'keys ascend');
      this.#rangeEnd = undefined;
    } else {
      invariant(compareToPrefixOf(this.#lastKey, this.#lastKeyBytes, key) < 0, 'keys ascend');
    }
    if (key.length > this.#lastKey.length) this.#lastKey = new Uint8Array(key.length * 2);
    this.#lastKey.set(key);
    this.#lastKeyBytes = key.length;
  }

  /** True when no old entry up to `key`, itself included, is left, as far as that can be told without loading. */
  #nothingOldUpTo(key: Uint8Array): boolean {
    const { leaf, index } = this.#cursor;
    if (leaf !== undefined) return leaf.compareKey(index, key) > 0;
    const subtree = this.#cursor.subtree();
    return subtree === undefined || compareBytes(subtree.lower, key) > 0;
  }

  #run(work: Loading<void>): void | Promise<void> {
    this.#state = 'busy';
    const result = runLoading(work, this.#source, this.#keys);
    if (result === undefined) {
      this.#state = 'ready';
      return;
    }
    return result.then(() => {
      this.#state = 'ready';
    });
  }

  *#put(key: Uint8Array, value: Uint8Array, placement: Uint8Array): Loading<void> {
    yield* this.#advance(key, true, true);
    const { leaf, index } = this.#cursor;
    const replaces = leaf !== undefined && leaf.compareKey(index, key) === 0;
    const separator = replaces ? this.#oldSeparator() : undefined;
    if (separator === undefined) yield* this.#resolveLastKey();
    this.#builder.append(key, value, placement, separator);
    if (replaces) this.#cursor.moveTo(index + 1);
    this.#followsOld = replaces;
  }

  *#delete(key: Uint8Array): Loading<void> {
    yield* this.#advance(key, true, true);
    const { leaf, index } = this.#cursor;
    if (leaf === undefined || leaf.compareKey(index, key) !== 0) return;
    this.#cursor.moveTo(index + 1);
    this.#followsOld = false;
  }

  *#deleteRange(from: Uint8Array, to: Uint8Array | undefined): Loading<void> {
    yield* this.#advance(from, true, false);
    yield* this.#advance(to, false, false);
  }

  /**
   * Moves the cursor past every old entry below `limit` (to the end when undefined), keeping or dropping them. `open`: a
   * subtree that may hold `limit` itself is entered, so that the entry at `limit` is seen.
   */
  *#advance(limit: Uint8Array | undefined, keep: boolean, open: boolean): Loading<void> {
    const cursor = this.#cursor;
    for (;;) {
      const leaf = cursor.leaf;
      if (leaf !== undefined) {
        const end = limit === undefined ? leaf.count : leaf.find(limit, cursor.index);
        if (keep) yield* this.#keepItems(leaf, end);
        else if (end > cursor.index) {
          cursor.moveTo(end);
          this.#followsOld = false;
        }
        if (end < leaf.count) return;
        continue;
      }
      const subtree = cursor.subtree();
      if (subtree === undefined) return;
      if (limit !== undefined && compareBytes(subtree.lower, limit) > (open ? 0 : -1)) return;
      const allBelow = limit === undefined || (subtree.upper !== undefined && compareBytes(subtree.upper, limit) <= 0);
      if (allBelow && !keep) {
        cursor.skip();
        this.#followsOld = false;
      } else if (allBelow && this.#followsOld && this.#builder.atNodeStart(subtree.level)) {
        this.#builder.appendSubtree(subtree);
        cursor.skip();
      } else {
        const node = yield subtree;
        this.#builder.remember(subtree, node.bytes);
        cursor.enter(node);
      }
    }
  }

  /** Takes over the items of the open leaf up to `end`. */
  *#keepItems(leaf: LeafNode, end: number): Loading<void> {
    let i = this.#cursor.index;
    if (i === end) return;
    let separator = this.#oldSeparator();
    if (separator === undefined) yield* this.#resolveLastKey();
    for (; i < end; i++) {
      this.#builder.append(leaf.key(i), leaf.value(i), leaf.placement(i), separator);
      separator = undefined;
    }
    this.#followsOld = true;
    this.#cursor.moveTo(end);
  }

  /** The old leaf's separator, when the next old item begins a leaf in both trees and follows the same key as before. */
  #oldSeparator(): Uint8Array | undefined {
    const fits = this.#builder.atLeafStart && this.#cursor.index === 0 && this.#followsOld;
    return fits ? (this.#cursor.leafRef?.lower ?? emptyBytes) : undefined;
  }

  /** Makes sure that the separator of a leaf that begins now can be made: reads the last key of a subtree taken over whole. */
  *#resolveLastKey(): Loading<void> {
    let ref: NodeRef | undefined = this.#builder.atLeafStart ? this.#builder.lastSubtree : undefined;
    while (ref !== undefined) {
      const node = yield ref;
      if ('children' in node) {
        ref = childRef(node, node.children.length - 1, ref.upper);
      } else {
        this.#builder.resolveLastKey(node.key(node.count - 1));
        return;
      }
    }
  }
}

function tooLong(key: Uint8Array): HoldfastError {
  const start = displayPath(key.subarray(0, 300));
  return new HoldfastError('E_LIMIT', `a path of ${key.length} bytes is longer than ${keyBytesMax}: ${start}…`, {
    remedy: 'Remove or exclude the directories there that are nested thousands of levels deep.',
  });
}

const endOfAll = Symbol('end of all keys');

/** Order of the first `bytes` bytes of `a` against `b`. */
function compareToPrefixOf(a: Uint8Array, bytes: number, b: Uint8Array): number {
  const shared = bytes < b.length ? bytes : b.length;
  for (let i = 0; i < shared; i++) {
    const difference = (a[i] as number) - (b[i] as number);
    if (difference !== 0) return difference;
  }
  return bytes - b.length;
}
