/**
 * The content of a file: up to eight items stand in its entry, more are a chunk list. A list is a tree whose node
 * boundaries follow from the ids of chunks, so equal content gives an equal list, and a change in the middle of a large file
 * costs the nodes around it, not the list behind it.
 */
import { endsListNode } from '../format/boundary.ts';
import { whyNotCanonical } from '../format/entry-codec.ts';
import { type DomainKeys, nodeId } from '../format/keys.ts';
import { nowhere } from '../format/place-codec.ts';
import {
  decodeListNode,
  type EncodedNode,
  type ListChild,
  type ListNode,
  nodeLogical,
  NodeWriter,
} from '../format/tree-node.ts';
import { equalBytes } from '../model/bytes.ts';
import { type Content, type ContentItem, inlineItemsMax, type Place } from '../model/entry.ts';
import { HoldfastError, invariant } from '../model/errors.ts';
import type { NodeId } from '../model/ids.ts';
import { loadAhead, type NodeSink, type NodeSource } from './node-access.ts';

/** Where a node of a list lies. The size belongs to the place: equal nodes may have placements of different length. */
export interface StoredListNode {
  readonly place: Place;
  readonly nodeBytes: number;
}

/** An id as a key for maps: its bytes as characters. */
export function idText(id: Uint8Array): string {
  return String.fromCharCode(...id);
}

export interface ListBuilderOptions {
  /** Takes the nodes; undefined in a dry run. */
  readonly sink: NodeSink | undefined;
  readonly keys: DomainKeys;
  /** Nodes of the base checkpoint by `idText`, which need not be stored again. */
  readonly known?: ReadonlyMap<string, StoredListNode>;
}

type OpenLevel = ListChild[];

/** Takes the content of one file in order. Runs of zeros that meet become one. */
export class ListBuilder {
  readonly #sink: NodeSink | undefined;
  readonly #keys: DomainKeys;
  readonly #known: ReadonlyMap<string, StoredListNode> | undefined;
  /** Made at the first node: most files have none. */
  #writer: NodeWriter | undefined;
  #position = 0;
  #zeroBytes = 0;
  /** The open leaf; before the ninth item, all items. */
  #items: ContentItem[] = [];
  #isList = false;
  /** `#levels[0]` is the level above the leaves. */
  readonly #levels: OpenLevel[] = [];

  constructor(options: ListBuilderOptions) {
    this.#sink = options.sink;
    this.#keys = options.keys;
    this.#known = options.known;
  }

  add(item: ContentItem): void {
    if (item.kind === 'zero') {
      const wrong = whyNotCanonical(item, undefined, this.#position);
      invariant(wrong === undefined, `content items: ${wrong}`);
      this.#zeroBytes += item.bytes;
    } else {
      this.#endZeros();
      const wrong = whyNotCanonical(item, undefined, this.#position);
      invariant(wrong === undefined, `content items: ${wrong}`);
      this.#append(item);
    }
    this.#position += item.bytes;
  }

  /** The content of all that was added. Ends the builder. */
  finish(): Content {
    this.#endZeros();
    if (!this.#isList) return { kind: 'inline', items: this.#items };
    let top = 0;
    for (let i = 0; i < this.#levels.length; i++) if (this.#childrenAt(i + 1).length > 0) top = i + 1;
    let last = this.#items.length > 0 ? this.#storeLeaf() : undefined;
    for (let level = 1; level <= top; level++) {
      const open = this.#childrenAt(level);
      const children = last === undefined ? open : [...open, last];
      if (children.length === 0) continue;
      const onlyChild = level === top && children.length === 1 ? children[0] : undefined;
      if (onlyChild !== undefined) return contentOf(onlyChild, level - 1);
      last = this.#storeInterior(level, children);
    }
    invariant(last !== undefined, 'a list has a root');
    return contentOf(last, top);
  }

  #endZeros(): void {
    const bytes = this.#zeroBytes;
    this.#zeroBytes = 0;
    if (bytes > 0) this.#append({ kind: 'zero', bytes });
  }

  #append(item: ContentItem): void {
    if (!this.#isList && this.#items.length === inlineItemsMax) {
      const items = this.#items;
      this.#isList = true;
      this.#items = [];
      for (const earlier of items) this.#append(earlier);
    }
    this.#items.push(item);
    if (!this.#isList) return;
    if (!endsListNode(this.#items.length, item.kind === 'chunk' ? item.id : undefined)) return;
    const child = this.#storeLeaf();
    this.#items = [];
    this.#appendChild(1, child);
  }

  #appendChild(level: number, child: ListChild): void {
    let open = this.#levels[level - 1];
    if (open === undefined) {
      open = [];
      this.#levels[level - 1] = open;
    }
    open.push(child);
    if (!endsListNode(open.length, child.id)) return;
    this.#levels[level - 1] = [];
    this.#appendChild(level + 1, this.#storeInterior(level, open));
  }

  #childrenAt(level: number): OpenLevel {
    return this.#levels[level - 1] ?? [];
  }

  #nodes(): NodeWriter {
    this.#writer ??= new NodeWriter();
    return this.#writer;
  }

  #storeLeaf(): ListChild {
    const items = this.#items;
    return this.#store(this.#nodes().listLeaf(items), items.length, sumBytes(items));
  }

  #storeInterior(level: number, children: readonly ListChild[]): ListChild {
    let items = 0;
    for (const child of children) items += child.items;
    return this.#store(this.#nodes().listInterior(level, children), items, sumBytes(children));
  }

  #store(node: EncodedNode, items: number, bytes: number): ListChild {
    const id = nodeId(this.#keys, node.logical);
    const known = this.#known?.get(idText(id));
    if (known !== undefined) return { id, items, bytes, place: known.place, nodeBytes: known.nodeBytes };
    const nodeBytes = node.bytes.length;
    return { id, items, bytes, place: this.#sink?.store(node.bytes) ?? nowhere, nodeBytes };
  }
}

function contentOf(root: ListChild, level: number): Content {
  return { kind: 'list', id: root.id, place: root.place, nodeBytes: root.nodeBytes, level };
}

function sumBytes(parts: readonly { readonly bytes: number }[]): number {
  let bytes = 0;
  for (const part of parts) bytes += part.bytes;
  return bytes;
}

/** A node of a stored list; its sums are known for all but the root. */
export interface ListNodeRef extends StoredListNode {
  readonly id: NodeId;
  readonly level: number;
  readonly sums: { readonly items: number; readonly bytes: number } | undefined;
}

/**
 * The items of a file's content in order, leaf by leaf, the next node being loaded meanwhile. `size` is the file's, and the
 * items must fill it exactly. E_DAMAGED and E_HOSTILE as for trees; what was yielded before stands proven.
 */
export async function* readList(
  content: Content,
  source: NodeSource,
  keys: DomainKeys,
  size?: number,
): AsyncGenerator<readonly ContentItem[]> {
  let position = 0;
  let count = 0;
  let before: ContentItem | undefined;
  for await (const items of leavesOf(content, source, keys)) {
    for (const item of items) {
      const wrong = whyNotCanonical(item, before, position);
      if (wrong !== undefined) throw hostile(wrong);
      position += item.bytes;
      if (size !== undefined && position > size) throw hostile('more content than the file has bytes');
      before = item;
    }
    count += items.length;
    yield items;
  }
  if (size !== undefined && position !== size) throw hostile('less content than the file has bytes');
  if (content.kind === 'list' && count <= inlineItemsMax) throw hostile('a list of items that fit into the entry');
}

async function* leavesOf(
  content: Content,
  source: NodeSource,
  keys: DomainKeys,
): AsyncGenerator<readonly ContentItem[]> {
  if (content.kind === 'inline') {
    if (content.items.length > 0) yield content.items;
    return;
  }
  for await (const { node } of walk(content, source, keys, true)) {
    if (node !== undefined && node.level === 0) yield node.items;
  }
}

/** Every node of a list, the root first; leaves are named by their parents and not loaded. Nothing for inline content. */
export async function* listNodes(content: Content, source: NodeSource, keys: DomainKeys): AsyncGenerator<ListNodeRef> {
  if (content.kind === 'inline') return;
  for await (const { ref } of walk(content, source, keys, false)) yield ref;
}

async function* walk(
  content: Content & { readonly kind: 'list' },
  source: NodeSource,
  keys: DomainKeys,
  loadLeaves: boolean,
): AsyncGenerator<{ readonly ref: ListNodeRef; readonly node: ListNode | undefined }> {
  const { id, place, nodeBytes, level } = content;
  /** What is still to be visited, the next one last: at most one node's children per level. */
  const waiting: ListNodeRef[] = [{ id, place, nodeBytes, level, sums: undefined }];
  let ahead: Uint8Array | Promise<Uint8Array> | undefined;
  for (;;) {
    const ref = waiting.pop();
    if (ref === undefined) return;
    if (ref.level === 0 && !loadLeaves) {
      yield { ref, node: undefined };
      continue;
    }
    const node = openListNode(ref, await (ahead ?? source.load(ref.place, ref.nodeBytes)), keys);
    for (let i = node.children.length - 1; i >= 0; i--) {
      const child = node.children[i] as ListChild;
      waiting.push({
        id: child.id,
        place: child.place,
        nodeBytes: child.nodeBytes,
        level: ref.level - 1,
        sums: { items: child.items, bytes: child.bytes },
      });
    }
    const next = waiting[waiting.length - 1];
    ahead = next !== undefined && (next.level > 0 || loadLeaves) ? loadAhead(source, next) : undefined;
    yield { ref, node };
  }
}

/** Loads and proves one node of a list. */
export async function loadListNode(ref: ListNodeRef, source: NodeSource, keys: DomainKeys): Promise<ListNode> {
  return openListNode(ref, await source.load(ref.place, ref.nodeBytes), keys);
}

function openListNode(ref: ListNodeRef, bytes: Uint8Array, keys: DomainKeys): ListNode {
  if (bytes.length !== ref.nodeBytes) throw damaged(`a node has ${bytes.length} bytes, not ${ref.nodeBytes}`);
  if (!equalBytes(nodeId(keys, nodeLogical(bytes)), ref.id)) throw damaged('a node does not match its id');
  const node = decodeListNode(bytes);
  if (node.level !== ref.level) throw hostile(`a node of level ${node.level} where ${ref.level} was expected`);
  let items = node.items.length;
  for (const child of node.children) items += child.items;
  const content = sumBytes(node.items) + sumBytes(node.children);
  if (ref.sums !== undefined && (ref.sums.items !== items || ref.sums.bytes !== content)) {
    throw hostile('the sums of a node do not add up');
  }
  if (ref.sums === undefined && node.children.length === 1) throw hostile('a root with a single child');
  return node;
}

function damaged(why: string): HoldfastError {
  return new HoldfastError('E_DAMAGED', `chunk list: ${why}`);
}

function hostile(why: string): HoldfastError {
  return new HoldfastError('E_HOSTILE', `chunk list: ${why}`);
}
