/** Where the bytes of a dry run go. */
import type { Place } from '../model/entry.ts';
import type { ChunkTarget } from './read-content.ts';

/** A reader of entries takes no larger one. */
const offsetsPerSegment: number = 2 ** 20;

/** A dry run puts nothing anywhere; places only have to differ, and to be such as can be read again by a later pass. */
export class NullTarget implements ChunkTarget {
  #places = 0;

  addData(): Place {
    const number = this.#places++;
    const segment = Math.floor(number / offsetsPerSegment);
    return { origin: 0, slot: 0, pack: 0, segment, offset: number % offsetsPerSegment };
  }

  addMetadata(): Place {
    return this.addData();
  }

  endFrame(): void {}

  refer(): void {}
}
