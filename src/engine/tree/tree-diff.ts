/** What changed from one tree to another, without reading what did not. */
import type { DomainKeys } from '../format/keys.ts';
import type { LeafItem, LeafNode } from '../format/tree-node.ts';
import { compareBytes, equalBytes } from '../model/bytes.ts';
import type { TreeRoot } from '../model/checkpoint.ts';
import { loadNode, type NodeRef, type NodeSource, rootRef } from './node-access.ts';
import { TreeCursor } from './tree-cursor.ts';

/** An entry that is in one tree only, or in both with different values. */
export interface TreeChange {
  readonly key: Uint8Array;
  readonly before?: LeafItem;
  readonly after?: LeafItem;
}

/**
 * The changes from tree `before` to tree `after`, in the order of keys. Subtrees with equal ids are passed over, so the cost
 * follows the changes, not the trees. Placement is not compared: contents that lie elsewhere now are equal contents.
 */
export async function* diffTrees(
  before: TreeRoot,
  after: TreeRoot,
  source: NodeSource,
  keys: DomainKeys,
): AsyncGenerator<TreeChange> {
  const a = new TreeCursor(rootRef(before, keys));
  const b = new TreeCursor(rootRef(after, keys));
  const enter = async (cursor: TreeCursor, ref: NodeRef): Promise<void> => {
    cursor.enter(await loadNode(ref, source, keys));
  };
  for (;;) {
    const aLeaf = a.leaf;
    const bLeaf = b.leaf;
    if (aLeaf !== undefined && bLeaf !== undefined) {
      const order = aLeaf.compareKey(a.index, bLeaf.key(b.index));
      if (order < 0) yield removed(a, aLeaf);
      else if (order > 0) yield added(b, bLeaf);
      else {
        const change = changed(a, aLeaf, b, bLeaf);
        if (change !== undefined) yield change;
      }
      continue;
    }
    const aRef = a.subtree();
    const bRef = b.subtree();
    if (aLeaf !== undefined) {
      if (bRef !== undefined && aLeaf.compareKey(a.index, bRef.lower) >= 0) await enter(b, bRef);
      else yield removed(a, aLeaf);
    } else if (bLeaf !== undefined) {
      if (aRef !== undefined && bLeaf.compareKey(b.index, aRef.lower) >= 0) await enter(a, aRef);
      else yield added(b, bLeaf);
    } else if (aRef === undefined || bRef === undefined) {
      if (aRef !== undefined) await enter(a, aRef);
      else if (bRef !== undefined) await enter(b, bRef);
      else return;
    } else if (aRef.level === bRef.level && equalBytes(aRef.id, bRef.id)) {
      a.skip();
      b.skip();
    } else if (endsBefore(aRef, bRef) || (!endsBefore(bRef, aRef) && aRef.level > bRef.level)) {
      await enter(a, aRef);
    } else if (endsBefore(bRef, aRef) || bRef.level > aRef.level) {
      await enter(b, bRef);
    } else {
      await Promise.all([enter(a, aRef), enter(b, bRef)]);
    }
  }
}

/** No key of `a` is in the range of `b`, nor after it. */
function endsBefore(a: NodeRef, b: NodeRef): boolean {
  return a.upper !== undefined && compareBytes(a.upper, b.lower) <= 0;
}

function removed(cursor: TreeCursor, leaf: LeafNode): TreeChange {
  const item = leaf.item(cursor.index);
  cursor.moveTo(cursor.index + 1);
  return { key: item.key, before: item };
}

function added(cursor: TreeCursor, leaf: LeafNode): TreeChange {
  const item = leaf.item(cursor.index);
  cursor.moveTo(cursor.index + 1);
  return { key: item.key, after: item };
}

function changed(a: TreeCursor, aLeaf: LeafNode, b: TreeCursor, bLeaf: LeafNode): TreeChange | undefined {
  const aIndex = a.index;
  const bIndex = b.index;
  a.moveTo(aIndex + 1);
  b.moveTo(bIndex + 1);
  if (equalBytes(aLeaf.value(aIndex), bLeaf.value(bIndex))) return undefined;
  const after = bLeaf.item(bIndex);
  return { key: after.key, before: aLeaf.item(aIndex), after };
}
