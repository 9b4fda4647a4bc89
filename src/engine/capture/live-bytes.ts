/**
 * What is in use of each pack, by what changed from one set of trees to the next: a difference of sums over the nodes that are
 * in one of them only. It costs what changed, and reads each of those nodes once more, mostly from memory.
 */
import { decodeEntry, passChunks } from '../format/entry-codec.ts';
import type { PackReference } from '../format/pack-entry.ts';
import type { DomainKeys } from '../format/keys.ts';
import type { VolumeCheckpoint } from '../model/checkpoint.ts';
import type { Content, Entry, EntryMeta, Place } from '../model/entry.ts';
import { type ListNodeRef, loadListNode } from '../tree/list.ts';
import { loadNode, type NodeRef, type NodeSource, rootRef } from '../tree/node-access.ts';
import { childRef } from '../tree/tree-cursor.ts';

/** Bytes by pack; may be negative where they are a difference. */
export class BytesByPack {
  readonly #counts = new Map<string, { bytes: number }>();
  #lastPack: PackReference | undefined;
  #last: { bytes: number } = { bytes: 0 };

  add(pack: PackReference, bytes: number): void {
    // Neighbours in a tree mostly lie in one pack.
    const last = this.#lastPack;
    if (last?.pack !== pack.pack || last.slot !== pack.slot || last.origin !== pack.origin) {
      const name = nameOf(pack);
      let count = this.#counts.get(name);
      if (count === undefined) {
        count = { bytes: 0 };
        this.#counts.set(name, count);
      }
      this.#last = count;
      this.#lastPack = pack;
    }
    this.#last.bytes += bytes;
  }

  of(pack: PackReference): number {
    return this.#counts.get(nameOf(pack))?.bytes ?? 0;
  }
}

function nameOf({ origin, slot, pack }: PackReference): string {
  return `${origin}/${slot}/${pack}`;
}

export interface LiveBytesRequest {
  readonly before: readonly VolumeCheckpoint[];
  readonly after: readonly VolumeCheckpoint[];
  readonly source: NodeSource;
  readonly keys: DomainKeys;
  /** False: it is not worth going on. Asked between nodes. */
  readonly mayGoOn: () => boolean;
}

/** By how much what is referred to in each pack grew from `before` to `after`. Undefined when it was not worth going on. */
export async function liveBytesDifference(request: LiveBytesRequest): Promise<BytesByPack | undefined> {
  const difference = new Difference(request);
  const [before, after] = [
    new Map(request.before.map((v) => [v.name, v])),
    new Map(request.after.map((v) => [v.name, v])),
  ];
  for (const name of new Set([...before.keys(), ...after.keys()])) {
    if (!(await difference.volume(before.get(name), after.get(name)))) return undefined;
  }
  return (await difference.lists()) ? difference.bytes : undefined;
}

type Sign = 1 | -1;
const loadedTogether = 16;

class Difference {
  readonly bytes = new BytesByPack();
  readonly #request: LiveBytesRequest;
  /** Chunk lists that entries of either side name, by the place of their root. */
  readonly #lists = new Map<string, { readonly content: Content & { kind: 'list' }; count: number }>();

  constructor(request: LiveBytesRequest) {
    this.#request = request;
  }

  async volume(before: VolumeCheckpoint | undefined, after: VolumeCheckpoint | undefined): Promise<boolean> {
    const { source, keys } = this.#request;
    const sides: [VolumeCheckpoint | undefined, Sign][] = [
      [before, -1],
      [after, 1],
    ];
    const roots: [NodeRef, Sign][] = [];
    for (const [volume, sign] of sides) {
      if (volume === undefined) continue;
      this.#meta(volume.rootMeta, sign);
      const root = rootRef(volume.root, keys);
      if (root !== undefined) roots.push([root, sign]);
    }
    return await this.#byLevel<NodeRef>(roots, async (ref, sign, below) => {
      const node = await loadNode(ref, source, keys);
      if ('children' in node) {
        for (let i = 0; i < node.children.length; i++) below(childRef(node, i, ref.upper));
        return;
      }
      const onChunk = (place: Place, bytes: number): void => this.bytes.add(place, sign * bytes);
      for (let i = 0; i < node.count; i++) {
        const { value, placement } = node.readers(i);
        // Nothing lies anywhere: the only byte says that there is no hole.
        if (placement.left <= 1 || passChunks(value, placement, onChunk)) continue;
        this.#entry(decodeEntry(node.value(i), node.placement(i)), sign);
      }
    });
  }

  async lists(): Promise<boolean> {
    const { source, keys } = this.#request;
    const roots: [ListNodeRef, Sign][] = [];
    for (const { content, count } of this.#lists.values()) {
      const { id, place, nodeBytes, level } = content;
      for (let left = Math.abs(count); left > 0; left--) {
        roots.push([{ id, place, nodeBytes, level, sums: undefined }, count < 0 ? -1 : 1]);
      }
    }
    return await this.#byLevel<ListNodeRef>(roots, async (ref, sign, below) => {
      const node = await loadListNode(ref, source, keys);
      for (const item of node.items) if (item.kind === 'chunk') this.bytes.add(item.place, sign * item.bytes);
      for (const { id, place, nodeBytes, items, bytes } of node.children) {
        below({ id, place, nodeBytes, level: ref.level - 1, sums: { items, bytes } });
      }
    });
  }

  /** From the highest level down; what both sides have at one place falls out, with all below it. */
  async #byLevel<Ref extends { readonly level: number; readonly place: Place; readonly nodeBytes: number }>(
    roots: readonly (readonly [Ref, Sign])[],
    open: (ref: Ref, sign: Sign, below: (child: Ref) => void) => Promise<void>,
  ): Promise<boolean> {
    const levels: Map<string, { readonly ref: Ref; count: number }>[] = [];
    const put = (ref: Ref, sign: Sign): void => {
      levels[ref.level] ??= new Map();
      tally(levels[ref.level] as Map<string, { ref: Ref; count: number }>, placeText(ref.place), ref, sign);
    };
    for (const [ref, sign] of roots) put(ref, sign);
    for (let level = levels.length - 1; level >= 0; level--) {
      const nodes = [...(levels[level]?.values() ?? [])].filter(({ count }) => count !== 0);
      levels[level] = new Map();
      for (let at = 0; at < nodes.length; at += loadedTogether) {
        if (!this.#request.mayGoOn()) return false;
        const opening = nodes.slice(at, at + loadedTogether).map(async ({ ref, count }) => {
          const sign = count < 0 ? -1 : 1;
          // The same node twice on one side is counted twice, and so is all below it.
          for (let left = Math.abs(count); left > 0; left--) {
            this.bytes.add(ref.place, sign * ref.nodeBytes);
            await open(ref, sign, (child) => put(child, sign));
          }
        });
        await Promise.all(opening);
      }
    }
    return true;
  }

  #entry(entry: Entry, sign: Sign): void {
    if (entry.type === 'hardlink') return;
    this.#meta(entry, sign);
    if (entry.type !== 'file') return;
    if (entry.content.kind === 'list') {
      const { content } = entry;
      const name = placeText(content.place);
      const known = this.#lists.get(name);
      if (known === undefined) this.#lists.set(name, { content, count: sign });
      else known.count += sign;
      return;
    }
    for (const item of entry.content.items) {
      if (item.kind === 'chunk') this.bytes.add(item.place, sign * item.bytes);
    }
  }

  #meta({ xattrs }: EntryMeta, sign: Sign): void {
    for (const { value } of xattrs) if (value.kind === 'chunk') this.bytes.add(value.place, sign * value.bytes);
  }
}

function tally<Ref>(
  counts: Map<string, { readonly ref: Ref; count: number }>,
  name: string,
  ref: Ref,
  by: number,
): void {
  const known = counts.get(name);
  if (known === undefined) counts.set(name, { ref, count: by });
  else known.count += by;
}

export function placeText(place: Place): string {
  return `${place.origin}/${place.slot}/${place.pack}/${place.segment}/${place.offset}`;
}
