import { encodeEntry } from '../../src/engine/format/entry-codec.ts';
import { type DomainKeys, deriveDomainKeys } from '../../src/engine/format/keys.ts';
import { decodeTreeNode, type LeafItem, type TreeNode } from '../../src/engine/format/tree-node.ts';
import { ByteWriter, compareBytes, emptyBytes, toHex } from '../../src/engine/model/bytes.ts';
import type { TreeRoot } from '../../src/engine/model/checkpoint.ts';
import type { Entry, Place } from '../../src/engine/model/entry.ts';
import { HoldfastError } from '../../src/engine/model/errors.ts';
import { emptyTree, type NodeSink, type NodeSource } from '../../src/engine/tree/node-access.ts';
import { TreeEditor } from '../../src/engine/tree/tree-editor.ts';
import { scanTree } from '../../src/engine/tree/tree-reader.ts';

export const testKeys: DomainKeys = deriveDomainKeys(Uint8Array.from({ length: 32 }, (_, i) => 255 - i));

/** Nodes in memory, by place, with counts of what was asked for. `answers`: at once, or by a promise. */
export class MemoryNodes implements NodeSource, NodeSink {
  readonly nodes: Uint8Array[] = [];
  loads = 0;
  stores = 0;
  answers: 'at once' | 'later' = 'at once';

  store(node: Uint8Array): Place {
    this.stores++;
    this.nodes.push(node.slice());
    // Spread over the numbers of a place, so that a mixed-up number is found.
    const n = this.nodes.length - 1;
    return { origin: 0, slot: 1 + (n >> 16), pack: (n >> 8) & 0xff, segment: (n >> 4) & 0xf, offset: n & 0xf };
  }

  load(place: Place): Uint8Array | Promise<Uint8Array> {
    this.loads++;
    const node = this.at(place);
    return this.answers === 'at once' ? node : Promise.resolve(node);
  }

  at(place: Place): Uint8Array {
    const node = this.nodes[((place.slot - 1) << 16) + (place.pack << 8) + (place.segment << 4) + place.offset];
    if (node === undefined) throw new HoldfastError('E_DAMAGED', 'no node at that place');
    return node;
  }

  resetCounts(): void {
    this.loads = 0;
    this.stores = 0;
  }
}

/** The entry's two byte strings. */
export function encoded(entry: Entry): { value: Uint8Array; placement: Uint8Array } {
  const value = new ByteWriter();
  const placement = new ByteWriter();
  encodeEntry(entry, value, placement);
  return { value: value.take(), placement: placement.take() };
}

/** A FIFO told from others by `version`: the smallest entry there is. */
export function smallValue(version: number): Uint8Array {
  return encoded({ type: 'fifo', mode: 0o644, uid: 0, gid: 0, mtimeSec: version, mtimeNsec: 0, xattrs: [] }).value;
}

/** A tree as a sorted map: what every tree is compared with. */
export class TreeModel {
  readonly #items = new Map<string, LeafItem>();

  static of(items: Iterable<LeafItem>): TreeModel {
    const model = new TreeModel();
    for (const item of items) model.put(item);
    return model;
  }

  get size(): number {
    return this.#items.size;
  }

  copy(): TreeModel {
    return TreeModel.of(this.#items.values());
  }

  put(item: LeafItem): void {
    this.#items.set(toHex(item.key), item);
  }

  delete(key: Uint8Array): void {
    this.#items.delete(toHex(key));
  }

  get(key: Uint8Array): LeafItem | undefined {
    return this.#items.get(toHex(key));
  }

  deleteRange(from: Uint8Array, to: Uint8Array | undefined): void {
    for (const item of this.sorted(from, to)) this.delete(item.key);
  }

  sorted(from?: Uint8Array, to?: Uint8Array): LeafItem[] {
    return [...this.#items.values()]
      .filter(
        ({ key }) =>
          (from === undefined || compareBytes(key, from) >= 0) && (to === undefined || compareBytes(key, to) < 0),
      )
      .sort((a, b) => compareBytes(a.key, b.key));
  }
}

/** Builds a tree from nothing. */
export async function buildTree(items: Iterable<LeafItem>, nodes: MemoryNodes): Promise<TreeRoot> {
  const editor = new TreeEditor({ base: emptyTree(testKeys), source: nodes, sink: nodes, keys: testKeys });
  for (const { key, value, placement } of items) await editor.put(key, value, placement);
  return editor.finish();
}

export async function scanAll(
  root: TreeRoot,
  nodes: MemoryNodes,
  from?: Uint8Array,
  to?: Uint8Array,
): Promise<LeafItem[]> {
  const items: LeafItem[] = [];
  for await (const leaf of scanTree(root, nodes, testKeys, { from, to })) items.push(...leaf);
  return items;
}

export interface VisitedNode {
  readonly node: TreeNode;
  readonly place: Place;
  readonly separator: Uint8Array;
  /** No node of the same level follows. */
  readonly last: boolean;
}

/** Every node, the root first, read without the engine's walk. */
export function visitNodes(root: TreeRoot, nodes: MemoryNodes): VisitedNode[] {
  const visited: VisitedNode[] = [];
  const visit = (place: Place, separator: Uint8Array, last: boolean): void => {
    const node = decodeTreeNode(nodes.at(place));
    visited.push({ node, place, separator, last });
    if (!('children' in node)) return;
    for (const [i, child] of node.children.entries()) {
      visit(child.place, child.separator, last && i === node.children.length - 1);
    }
  };
  if (root.place !== undefined) visit(root.place, emptyBytes, true);
  return visited;
}

/** Where a leaf begins and ends: its separator, its first and its last key. */
export interface LeafEdges {
  readonly lower: Uint8Array;
  readonly first: Uint8Array;
  readonly last: Uint8Array;
}

export function leafEdges(root: TreeRoot, nodes: MemoryNodes): LeafEdges[] {
  return visitNodes(root, nodes).flatMap(({ node, separator }) =>
    'children' in node ? [] : [{ lower: separator, first: node.key(0), last: node.key(node.count - 1) }],
  );
}
