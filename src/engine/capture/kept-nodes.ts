import type { Place } from '../model/entry.ts';
import { WeightedCache } from '../tree/weighted-cache.ts';

const bytesMaxDefault: number = 8 * 1024 * 1024;

/**
 * Committed tree nodes that a running writer keeps from one capture to the next: those it wrote and those it read last. What a
 * checkpoint changes mostly lies where the one before did, so a steady one reads nothing from the store.
 */
export class KeptNodes {
  readonly #nodes: WeightedCache<Uint8Array>;

  /** Keeps up to `bytesMax` bytes. */
  constructor(bytesMax: number = bytesMaxDefault) {
    this.#nodes = new WeightedCache(bytesMax);
  }

  get(place: Place): Uint8Array | undefined {
    return this.#nodes.get(placeText(place));
  }

  /** Of committed places only: what stands there never changes. */
  keep(place: string | Place, node: Uint8Array): void {
    this.#nodes.keep(typeof place === 'string' ? place : placeText(place), node, node.length);
  }
}

/** One text for each place. */
export function placeText(place: Place): string {
  return `${place.origin}/${place.slot}/${place.pack}/${place.segment}/${place.offset}`;
}
