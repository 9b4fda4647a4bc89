/**
 * Tree nodes of this run: each goes into a pack and stays readable here, since a pack cannot be read before it is committed
 * and a later pass edits the tree that an earlier one made.
 */
import type { Place } from '../model/entry.ts';
import type { LocalCache, ScratchFile } from '../ports/local-cache.ts';
import type { NodeSink, NodeSource } from '../tree/node-access.ts';
import type { ChunkTarget } from './read-content.ts';

const memoryBytesMax: number = 2 * 1024 * 1024;

export class StagedNodes implements NodeSink, NodeSource {
  readonly #target: () => ChunkTarget;
  readonly #committed: NodeSource;
  readonly #cache: LocalCache | undefined;
  readonly #index = new Map<string, Uint8Array | { readonly position: number; readonly bytes: number }>();
  #memoryBytes = 0;
  #scratch: ScratchFile | undefined;

  /** Nodes that are not of this run come from `committed`. */
  constructor(target: () => ChunkTarget, committed: NodeSource, cache: LocalCache | undefined) {
    this.#target = target;
    this.#committed = committed;
    this.#cache = cache;
  }

  store(node: Uint8Array): Place {
    const place = this.#target().addMetadata(node);
    if (this.#memoryBytes + node.length <= memoryBytesMax || this.#cache === undefined) {
      this.#memoryBytes += node.length;
      this.#index.set(placeText(place), node.slice());
    } else {
      this.#scratch ??= this.#cache.scratch();
      this.#index.set(placeText(place), { position: this.#scratch.append(node), bytes: node.length });
    }
    return place;
  }

  load(place: Place, nodeBytes: number): Uint8Array | Promise<Uint8Array> {
    const staged = this.#index.get(placeText(place));
    if (staged === undefined) return this.#committed.load(place, nodeBytes);
    if (staged instanceof Uint8Array) return staged;
    const node = new Uint8Array(staged.bytes);
    (this.#scratch as ScratchFile).read(staged.position, node);
    return node;
  }

  close(): void {
    this.#scratch?.close();
    this.#index.clear();
  }
}

function placeText(place: Place): string {
  return `${place.origin}/${place.slot}/${place.pack}/${place.segment}/${place.offset}`;
}
