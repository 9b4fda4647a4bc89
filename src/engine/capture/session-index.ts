/**
 * The chunks that this capture has stored or met in its base, shared by all lanes without a lock: content id → place.
 *
 * Invariants: a bucket goes empty → being written → ready and never back; what a reader sees as ready is whole. The table is
 * bounded: when the probed buckets are taken, the chunk is simply not remembered and a later copy is stored again.
 */
import type { Place } from '../model/entry.ts';
import type { ContentId } from '../model/ids.ts';

const idWords = 8;
/** State, 8 words of id, slot (2), pack and segment, offset, bytes. */
const bucketWords = 14;
const probesMax = 16;

const empty = 0;
const writing = 1;
const ready = 2;

export class SessionIndex {
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #mask: number;

  /** `memory` joins the table that another lane made. `buckets` is a power of two. */
  constructor(source: { readonly buckets: number } | { readonly memory: SharedArrayBuffer }) {
    this.memory =
      'memory' in source
        ? source.memory
        : new SharedArrayBuffer(source.buckets * bucketWords * Int32Array.BYTES_PER_ELEMENT);
    this.#words = new Int32Array(this.memory);
    this.#mask = this.#words.length / bucketWords - 1;
  }

  find(id: ContentId, bytes: number): Place | undefined {
    const words = this.#words;
    let bucket = firstWord(id, 0) & this.#mask;
    for (let probe = 0; probe < probesMax; probe++) {
      const at = bucket * bucketWords;
      const state = Atomics.load(words, at);
      if (state === empty) return undefined;
      if (state === ready && this.#matches(at + 1, id) && words[at + 13] === bytes) {
        return {
          origin: 0,
          slot: (words[at + 10] as number) * 0x1_0000_0000 + ((words[at + 9] as number) >>> 0),
          pack: (words[at + 11] as number) >>> 12,
          segment: (words[at + 11] as number) & 0xfff,
          offset: words[at + 12] as number,
        };
      }
      bucket = (bucket + 1) & this.#mask;
    }
    return undefined;
  }

  add(id: ContentId, bytes: number, place: Place): void {
    if (place.origin !== 0 || place.pack >= 1 << 20 || place.segment >= 1 << 12) return;
    const words = this.#words;
    let bucket = firstWord(id, 0) & this.#mask;
    for (let probe = 0; probe < probesMax; probe++) {
      const at = bucket * bucketWords;
      if (Atomics.load(words, at) === empty && Atomics.compareExchange(words, at, empty, writing) === empty) {
        for (let i = 0; i < idWords; i++) words[at + 1 + i] = firstWord(id, i);
        words[at + 9] = place.slot | 0;
        words[at + 10] = Math.floor(place.slot / 0x1_0000_0000);
        words[at + 11] = (place.pack << 12) | place.segment;
        words[at + 12] = place.offset;
        words[at + 13] = bytes;
        Atomics.store(words, at, ready);
        return;
      }
      bucket = (bucket + 1) & this.#mask;
    }
  }

  #matches(at: number, id: ContentId): boolean {
    for (let i = 0; i < idWords; i++) if (this.#words[at + i] !== firstWord(id, i)) return false;
    return true;
  }
}

function firstWord(id: Uint8Array, index: number): number {
  const at = index * 4;
  return (
    (id[at] as number) | ((id[at + 1] as number) << 8) | ((id[at + 2] as number) << 16) | ((id[at + 3] as number) << 24)
  );
}
