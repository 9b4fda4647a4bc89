import type { DomainKeys } from '../format/keys.ts';
import type { TreeRoot } from '../model/checkpoint.ts';
import { isHoldfastError } from '../model/errors.ts';
import { loadNode, type NodeRef, type NodeSource, rootRef } from './node-access.ts';
import { childRef } from './tree-cursor.ts';

/**
 * Loads the nodes on the paths to some keys, all of one level at once, so that a source that keeps what it read last has them at
 * hand: one wait for each level of the tree in place of one for each node. Nodes that cannot be read are left to whoever needs them.
 */
export async function loadPaths(
  root: TreeRoot,
  wanted: readonly Uint8Array[],
  source: NodeSource,
  keys: DomainKeys,
): Promise<void> {
  const first = rootRef(root, keys);
  if (first === undefined || wanted.length === 0) return;
  let level: readonly { readonly ref: NodeRef; readonly below: readonly Uint8Array[] }[] = [
    { ref: first, below: wanted },
  ];
  while (level.length > 0) {
    const children = await Promise.all(
      level.map(async ({ ref, below }) => {
        try {
          const node = await loadNode(ref, source, keys);
          if (!('children' in node)) return [];
          const byChild = Map.groupBy(below, (key) => node.findChild(key));
          return [...byChild].map(([child, some]) => ({ ref: childRef(node, child, ref.upper), below: some }));
        } catch (error) {
          if (isHoldfastError(error)) return [];
          throw error;
        }
      }),
    );
    level = children.flat();
  }
}
