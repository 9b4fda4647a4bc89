/**
 * The entries of a tree in key order, with the parts that cannot be read told instead of ending the walk: a damaged node costs
 * its subtree and nothing else.
 */
import type { DomainKeys } from '../format/keys.ts';
import type { LeafNode } from '../format/tree-node.ts';
import { compareBytes } from '../model/bytes.ts';
import type { TreeRoot } from '../model/checkpoint.ts';
import { type HoldfastError, isHoldfastError } from '../model/errors.ts';
import { type NodeRef, type NodeSource, openNode, rootRef } from '../tree/node-access.ts';
import { TreeCursor } from '../tree/tree-cursor.ts';

/** A subtree that cannot be read: nothing is known of the keys from `lower` up to `upper` (to the end when undefined). */
export interface LostSubtree {
  readonly lower: Uint8Array;
  readonly upper: Uint8Array | undefined;
  readonly files: number;
  readonly entries: number;
  readonly bytes: number;
  readonly error: HoldfastError;
}

export type WalkStep =
  | { readonly leaf: LeafNode; readonly from: number; readonly to: number; readonly lost: undefined }
  | { readonly leaf: undefined; readonly lost: LostSubtree };

export interface KeyRange {
  /** First key, inclusive. */
  readonly from?: Uint8Array | undefined;
  /** End, exclusive. */
  readonly to?: Uint8Array | undefined;
}

/** Errors other than E_DAMAGED of a node end the walk: E_HOSTILE, E_FORMAT_NEWER, E_STORE_*, E_ABORTED. */
export async function* walkTree(
  root: TreeRoot,
  source: NodeSource,
  keys: DomainKeys,
  range: KeyRange = {},
): AsyncGenerator<WalkStep> {
  const { from, to } = range;
  const cursor = new TreeCursor(rootRef(root, keys));
  let ahead: { readonly ref: NodeRef; readonly loading: Uint8Array | Promise<Uint8Array> } | undefined;
  for (;;) {
    const ref = cursor.subtree();
    if (ref === undefined || (to !== undefined && compareBytes(ref.lower, to) >= 0)) return;
    if (from !== undefined && ref.upper !== undefined && compareBytes(ref.upper, from) <= 0) {
      cursor.skip();
      continue;
    }
    let node: ReturnType<typeof openNode>;
    try {
      const loading = ahead?.ref.place === ref.place ? ahead.loading : source.load(ref.place, ref.nodeBytes);
      const bytes = loading instanceof Promise ? await loading : loading;
      node = openNode(ref, bytes, keys);
    } catch (error) {
      if (!isHoldfastError(error, 'E_DAMAGED')) throw error;
      const { lower, upper, sums } = ref;
      cursor.skip();
      ahead = undefined;
      yield { leaf: undefined, lost: { lower, upper, ...sums, error } };
      continue;
    }
    cursor.enter(node);
    const sibling = cursor.sibling();
    ahead = sibling?.level === 0 ? loadAhead(sibling, source) : undefined;
    const leaf = cursor.leaf;
    if (leaf === undefined) continue;
    const first = from === undefined ? 0 : leaf.find(from);
    const end = to === undefined ? leaf.count : leaf.find(to);
    cursor.moveTo(leaf.count);
    if (first < end) yield { leaf, from: first, to: end, lost: undefined };
  }
}

/** A failure counts only when, and if, the node is asked for. */
function loadAhead(
  ref: NodeRef,
  source: NodeSource,
): { readonly ref: NodeRef; readonly loading: Uint8Array | Promise<Uint8Array> } | undefined {
  try {
    const loading = source.load(ref.place, ref.nodeBytes);
    if (loading instanceof Promise) loading.catch(() => undefined);
    return { ref, loading };
  } catch {
    return undefined;
  }
}
