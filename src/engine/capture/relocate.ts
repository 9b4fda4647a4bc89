/**
 * Moves what trees refer to out of some packs. Nodes and chunks that lie there are stored anew, and so is each node that says
 * where they lie, up to the root; ids and roots stay what they are.
 *
 * A node refers to nothing of a higher slot than that of its own pack, so subtrees in packs older than all targets are passed
 * over. What is moved is proven by its id first. When time is over, the rest stays where it is, and the tree is whole.
 */
import { decodeEntry, encodeEntry, writeItem } from '../format/entry-codec.ts';
import { contentId, type DomainKeys } from '../format/keys.ts';
import { writePlace } from '../format/place-codec.ts';
import { type InteriorNode, type LeafNode, type ListNode, nodeLogical } from '../format/tree-node.ts';
import { ByteWriter, concatBytes, equalBytes } from '../model/bytes.ts';
import type { TreeRoot, VolumeCheckpoint } from '../model/checkpoint.ts';
import type { ContentItem, Entry, EntryMeta, Place, Xattr } from '../model/entry.ts';
import { HoldfastError, invariant } from '../model/errors.ts';
import type { ContentId } from '../model/ids.ts';
import { type ListNodeRef, loadListNode } from '../tree/list.ts';
import { loadNode, type NodeRef, type NodeSink, type NodeSource, rootRef } from '../tree/node-access.ts';
import { childRef } from '../tree/tree-cursor.ts';
import type { CompactionPlan } from './compaction-plan.ts';
import { placeText } from './live-bytes.ts';
import type { ChunkTarget } from './read-content.ts';

export interface RelocateRequest {
  readonly plan: Pick<CompactionPlan, 'targets' | 'oldestSlot'>;
  /** Nodes of the trees, and the chunks of the targets. */
  readonly source: NodeSource;
  readonly sink: NodeSink;
  /** Takes the chunks. */
  readonly target: Pick<ChunkTarget, 'addData' | 'endFrame'>;
  /** Each in a frame of its own. */
  readonly isolated: boolean;
  readonly keys: DomainKeys;
  /** Waits until the store has taken what it was given. */
  readonly drain: () => Promise<void>;
  /** False: the rest stays. Asked between nodes. */
  readonly mayGoOn: () => boolean;
}

/** So much may be on its way to the store. */
const undrainedBytesMax: number = 4 * 1024 * 1024;

interface Stored {
  readonly place: Place;
  readonly nodeBytes: number;
}

export class Relocation {
  readonly #request: RelocateRequest;
  readonly #targets: ReadonlySet<string>;
  readonly #moved = new Map<string, Place>();
  #drainedBytes = 0;
  movedBytes = 0;
  walkedBytes = 0;
  /** False when time was over before all was looked at. */
  complete = true;

  constructor(request: RelocateRequest) {
    this.#request = request;
    this.#targets = new Set(request.plan.targets.map(({ slot, pack }) => `${slot}/${pack}`));
  }

  /** The volume with all of it moved. E_DAMAGED when something there cannot be read or is not what it should be; E_STORE_*. */
  async volume(volume: VolumeCheckpoint): Promise<VolumeCheckpoint> {
    const ref = rootRef(volume.root, this.#request.keys);
    const root: TreeRoot = ref === undefined ? volume.root : { ...volume.root, ...(await this.#node(ref)) };
    const xattrs = await this.#xattrs(volume.rootMeta.xattrs);
    return { ...volume, root, rootMeta: { ...volume.rootMeta, xattrs } };
  }

  #isTarget({ origin, slot, pack }: Place): boolean {
    return origin === 0 && this.#targets.has(`${slot}/${pack}`);
  }

  /** Whether a node that lies there can refer to a target, or lies in one. */
  #mayRefer({ origin, slot }: Place): boolean {
    if (origin !== 0 || slot < this.#request.plan.oldestSlot) return false;
    if (this.complete && !this.#request.mayGoOn()) this.complete = false;
    return this.complete;
  }

  async #node(ref: NodeRef): Promise<Stored> {
    if (!this.#mayRefer(ref.place)) return ref;
    const { source, keys } = this.#request;
    const node = await loadNode(ref, source, keys);
    this.walkedBytes += ref.nodeBytes;
    const placement = 'children' in node ? await this.#interior(node, ref) : await this.#leaf(node);
    return this.#stored(ref, node.bytes, placement);
  }

  async #interior(node: InteriorNode, ref: NodeRef): Promise<Uint8Array> {
    const placement = new ByteWriter(512);
    for (let i = 0; i < node.children.length; i++)
      writeStored(placement, await this.#node(childRef(node, i, ref.upper)));
    return placement.take();
  }

  async #leaf(leaf: LeafNode): Promise<Uint8Array> {
    const placement = new ByteWriter(512);
    for (let i = 0; i < leaf.count; i++) {
      const before = leaf.placement(i);
      const entry = decodeEntry(leaf.value(i), before);
      const moved = await this.#entry(entry);
      placement.blob(moved === entry ? before : placementOf(moved, leaf.value(i)));
    }
    return placement.take();
  }

  async #entry(entry: Entry): Promise<Entry> {
    if (entry.type === 'hardlink') return entry;
    const xattrs = await this.#xattrs(entry.xattrs);
    if (entry.type !== 'file') return xattrs === entry.xattrs ? entry : { ...entry, xattrs };
    const { content } = entry;
    if (content.kind === 'list') {
      const { id, place, nodeBytes, level } = content;
      const stored = await this.#list({ id, place, nodeBytes, level, sums: undefined });
      if (stored.place === place && xattrs === entry.xattrs) return entry;
      return { ...entry, xattrs, content: { ...content, place: stored.place, nodeBytes: stored.nodeBytes } };
    }
    const items = await this.#items(content.items);
    if (items === content.items && xattrs === entry.xattrs) return entry;
    return { ...entry, xattrs, content: { ...content, items } };
  }

  async #list(ref: ListNodeRef): Promise<Stored> {
    if (!this.#mayRefer(ref.place)) return ref;
    const { source, keys } = this.#request;
    const bytes = await source.load(ref.place, ref.nodeBytes);
    const node: ListNode = await loadListNode(ref, source, keys);
    this.walkedBytes += ref.nodeBytes;
    const placement = new ByteWriter(512);
    const logical = new ByteWriter(512);
    for (const item of await this.#items(node.items)) writeItem(item, true, logical, placement);
    for (const { id, place, nodeBytes, items, bytes: below } of node.children) {
      writeStored(
        placement,
        await this.#list({ id, place, nodeBytes, level: ref.level - 1, sums: { items, bytes: below } }),
      );
    }
    return this.#stored(ref, bytes, placement.take());
  }

  /** The node as it is, or stored anew where it lies in a target or says another placement now. */
  #stored(ref: Stored, bytes: Uint8Array, placement: Uint8Array): Stored {
    const logical = nodeLogical(bytes);
    const logicalEnd = logical.byteOffset - bytes.byteOffset + logical.length;
    const same = equalBytes(bytes.subarray(logicalEnd), placement);
    if (same && !this.#isTarget(ref.place)) return ref;
    const node = same ? bytes : concatBytes([bytes.subarray(0, logicalEnd), placement]);
    this.movedBytes += node.length;
    return { place: this.#request.sink.store(node), nodeBytes: node.length };
  }

  async #items(items: readonly ContentItem[]): Promise<readonly ContentItem[]> {
    if (!items.some((item) => item.kind === 'chunk' && this.#isTarget(item.place))) return items;
    const moved: ContentItem[] = [];
    for (const item of items) {
      moved.push(item.kind === 'chunk' ? { ...item, place: await this.#chunk(item.place, item.bytes, item.id) } : item);
    }
    return moved;
  }

  async #xattrs(xattrs: EntryMeta['xattrs']): Promise<EntryMeta['xattrs']> {
    if (!xattrs.some(({ value }) => value.kind === 'chunk' && this.#isTarget(value.place))) return xattrs;
    const moved: Xattr[] = [];
    for (const xattr of xattrs) {
      const { value } = xattr;
      if (value.kind === 'inline') moved.push(xattr);
      else moved.push({ ...xattr, value: { ...value, place: await this.#chunk(value.place, value.bytes, value.id) } });
    }
    return moved;
  }

  async #chunk(place: Place, length: number, id: ContentId): Promise<Place> {
    if (!this.#isTarget(place)) return place;
    const name = placeText(place);
    const known = this.#moved.get(name);
    if (known !== undefined) return known;
    const { source, target, keys, isolated } = this.#request;
    const bytes = await source.load(place, length);
    if (!equalBytes(contentId(keys, bytes, 0, bytes.length), id)) {
      throw new HoldfastError('E_DAMAGED', `the chunk at ${name} is not what its entry says`);
    }
    this.movedBytes += length;
    if (isolated) target.endFrame();
    const moved = target.addData(bytes, 0, bytes.length);
    if (isolated) target.endFrame();
    if (this.movedBytes - this.#drainedBytes > undrainedBytesMax) {
      this.#drainedBytes = this.movedBytes;
      await this.#request.drain();
    }
    this.#moved.set(name, moved);
    return moved;
  }
}

function writeStored(placement: ByteWriter, { place, nodeBytes }: Stored): void {
  writePlace(placement, place);
  placement.varint(nodeBytes);
}

function placementOf(entry: Entry, valueBefore: Uint8Array): Uint8Array {
  const value = new ByteWriter(512);
  const placement = new ByteWriter(64);
  encodeEntry(entry, value, placement);
  invariant(equalBytes(value.view(), valueBefore), 'what is moved stays the same entry');
  return placement.take();
}

/**
 * Which of the packs anything in the volumes still refers to. Says nothing of packs below `oldestSlot`. This, and no counter,
 * is why a pack may be dropped from a list: it looks at the stored nodes again, and at nothing that moving them remembers.
 */
export async function findReferred(
  volumes: readonly VolumeCheckpoint[],
  plan: Pick<CompactionPlan, 'targets' | 'oldestSlot'>,
  source: NodeSource,
  keys: DomainKeys,
): Promise<ReadonlySet<string>> {
  const targets = new Set(plan.targets.map(({ slot, pack }) => `${slot}/${pack}`));
  const found = new Set<string>();
  const refer = ({ origin, slot, pack }: Place): boolean => {
    const name = `${slot}/${pack}`;
    if (origin === 0 && targets.has(name)) found.add(name);
    return origin === 0 && slot >= plan.oldestSlot;
  };
  const meta = ({ xattrs }: EntryMeta): void => {
    for (const { value } of xattrs) if (value.kind === 'chunk') refer(value.place);
  };
  const list = async (ref: ListNodeRef): Promise<void> => {
    if (!refer(ref.place)) return;
    const node = await loadListNode(ref, source, keys);
    for (const item of node.items) if (item.kind === 'chunk') refer(item.place);
    for (const { id, place, nodeBytes, items, bytes } of node.children) {
      await list({ id, place, nodeBytes, level: ref.level - 1, sums: { items, bytes } });
    }
  };
  const tree = async (ref: NodeRef): Promise<void> => {
    if (!refer(ref.place)) return;
    const node = await loadNode(ref, source, keys);
    if ('children' in node) {
      for (let i = 0; i < node.children.length; i++) await tree(childRef(node, i, ref.upper));
      return;
    }
    for (let i = 0; i < node.count; i++) {
      const entry = decodeEntry(node.value(i), node.placement(i));
      if (entry.type === 'hardlink') continue;
      meta(entry);
      if (entry.type !== 'file') continue;
      const { content } = entry;
      if (content.kind === 'list') await list({ ...content, sums: undefined });
      else for (const item of content.items) if (item.kind === 'chunk') refer(item.place);
    }
  };
  for (const volume of volumes) {
    meta(volume.rootMeta);
    const root = rootRef(volume.root, keys);
    if (root !== undefined) await tree(root);
  }
  return found;
}
