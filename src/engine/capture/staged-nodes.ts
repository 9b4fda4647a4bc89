/**
 * Tree nodes of this run: each goes into a pack and stays readable here, since a pack cannot be read before it is committed
 * and a later pass edits the tree that an earlier one made.
 */
import type { Place } from '../model/entry.ts';
import type { LocalCache, ScratchFile } from '../ports/local-cache.ts';
import type { NodeSink, NodeSource } from '../tree/node-access.ts';
import { type KeptNodes, placeText } from './kept-nodes.ts';
import type { ChunkTarget } from './read-content.ts';

const memoryBytesMax: number = 2 * 1024 * 1024;

export class StagedNodes implements NodeSink, NodeSource {
  readonly #target: () => ChunkTarget;
  readonly #committed: NodeSource;
  readonly #cache: LocalCache | undefined;
  readonly #kept: KeptNodes | undefined;
  readonly #index = new Map<string, Uint8Array | { readonly position: number; readonly bytes: number }>();
  #memoryBytes = 0;
  #scratch: ScratchFile | undefined;

  /** Nodes that are not of this run come from `kept`, or else from `committed`. */
  constructor(
    target: () => ChunkTarget,
    committed: NodeSource,
    cache: LocalCache | undefined,
    kept: KeptNodes | undefined,
  ) {
    this.#target = target;
    this.#committed = committed;
    this.#cache = cache;
    this.#kept = kept;
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
    if (staged === undefined) return this.#loadCommitted(place, nodeBytes);
    if (staged instanceof Uint8Array) return staged;
    const node = new Uint8Array(staged.bytes);
    (this.#scratch as ScratchFile).read(staged.position, node);
    return node;
  }

  #loadCommitted(place: Place, nodeBytes: number): Uint8Array | Promise<Uint8Array> {
    const kept = this.#kept?.get(place);
    if (kept?.length === nodeBytes) return kept;
    const loaded = this.#committed.load(place, nodeBytes);
    const keep = (node: Uint8Array): Uint8Array => {
      // A copy: it is a view of a whole segment.
      this.#kept?.keep(place, node.slice());
      return node;
    };
    return loaded instanceof Promise ? loaded.then(keep) : keep(loaded);
  }

  /** All nodes of this run are committed: those in memory are kept for the next one. */
  committed(): void {
    for (const [place, node] of this.#index) if (node instanceof Uint8Array) this.#kept?.keep(place, node);
  }

  close(): void {
    this.#scratch?.close();
    this.#index.clear();
  }
}
