import { entrySums } from '../format/entry-codec.ts';
import type { DomainKeys } from '../format/keys.ts';
import { compareBytes } from '../model/bytes.ts';
import type { TreeRoot, TreeSums } from '../model/checkpoint.ts';
import { descendantsEnd } from '../model/rel-path.ts';
import { loadNode, type NodeRef, type NodeSource, rootRef, saturated, sumOf } from './node-access.ts';
import { childRef } from './tree-cursor.ts';

/**
 * What a path holds: the entry itself and everything below it, all zero when there is nothing; the empty path is the volume. Reads the
 * nodes at the two ends of that range and no other: what lies between is summed up by its parents.
 */
export async function subtreeSums(
  root: TreeRoot,
  path: Uint8Array,
  source: NodeSource,
  keys: DomainKeys,
): Promise<TreeSums> {
  if (path.length === 0) return root.sums;
  const end = descendantsEnd(path);
  const sumsOf = async (ref: NodeRef): Promise<TreeSums> => {
    const node = await loadNode(ref, source, keys);
    if (!('children' in node)) {
      let [files, entries, bytes] = [0, 0, 0];
      for (let i = 0; i < node.count; i++) {
        if (node.compareKey(i, path) < 0 || node.compareKey(i, end) >= 0) continue;
        const sums = entrySums(node.value(i));
        files += sums.files;
        entries += 1;
        bytes += sums.bytes;
      }
      return saturated(files, entries, bytes);
    }
    const parts: { readonly sums: TreeSums }[] = [];
    for (let i = 0; i < node.children.length; i++) {
      const child = childRef(node, i, ref.upper);
      if (compareBytes(child.lower, end) >= 0) break;
      if (child.upper !== undefined && compareBytes(child.upper, path) <= 0) continue;
      const inside =
        compareBytes(child.lower, path) >= 0 && child.upper !== undefined && compareBytes(child.upper, end) <= 0;
      parts.push(inside ? child : { sums: await sumsOf(child) });
    }
    return sumOf(parts);
  };
  const first = rootRef(root, keys);
  return first === undefined ? { files: 0, entries: 0, bytes: 0 } : await sumsOf(first);
}
