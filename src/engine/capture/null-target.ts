/** Where the bytes of a dry run go. */
import type { Place } from '../model/entry.ts';
import type { ChunkTarget } from './read-content.ts';

/** A dry run puts nothing anywhere; places only have to differ. */
export class NullTarget implements ChunkTarget {
  #offset = 0;

  addData(_bytes: Uint8Array, start: number, end: number): Place {
    this.#offset += end - start;
    return { origin: 0, slot: 0, pack: 0, segment: 0, offset: this.#offset };
  }

  addMetadata(node: Uint8Array): Place {
    return this.addData(node, 0, node.length);
  }

  refer(): void {}
}
