/**
 * Where one tree node ends and the next begins. All of it is part of the format: another constant gives other roots.
 *
 * A boundary follows from the keys of one node alone: a keyed hash of each key, and the node's size so far in key bytes.
 * Values and placement never enter, so a change of content never moves a boundary, and the size starts again at zero at each
 * boundary, so two builds that share a boundary agree from there on. docs/decisions/0011-node-splitter.md has the
 * measurements.
 */

/** What an item counts beside its key's bytes, about the bytes of an entry without its name. */
export const itemMeasureBytes = 48;
/** A node that has reached this measure ends, as soon as it has `itemsMinAtMeasureMax` items. */
export const nodeMeasureMax: number = 16 * 1024;
export const itemsMinAtMeasureMax = 4;
/** Interior nodes end no earlier, so that every level has at most a quarter of the nodes below it, however long the keys are. */
export const interiorChildrenMin = 4;

/**
 * Square of the scale of the Rayleigh distribution that node measures follow; its mean is sqrt(pi * this) / 2, 4058 bytes.
 * A hazard that grows with the size makes nodes far more even than a constant one: few tiny ones, hardly any that
 * reach the hard limit.
 */
const scaleSquared = 20_971_520;
const hashValues: number = 2 ** 24;

/**
 * True when a node ends after an item: `count` and `measureAfter` include that item, `measureBefore` does not, `hash` is
 * the 24-bit hash of its key. Exact in doubles: measures stay below 2^23, so their squares below 2^46, and the factor on
 * the right is a power of two.
 */
export function endsNode(
  interior: boolean,
  count: number,
  measureBefore: number,
  measureAfter: number,
  hash: number,
): boolean {
  if (interior && count < interiorChildrenMin) return false;
  if (measureAfter >= nodeMeasureMax && count >= itemsMinAtMeasureMax) return true;
  return hash * scaleSquared < (measureAfter * measureAfter - measureBefore * measureBefore) * hashValues;
}

const listItemsMin = 4;
const listItemsMax = 256;
const listItemsMeanMask = 63;

/**
 * True when a node of a chunk list ends after its `count`th item, whose id is `id` (none for a run of zeros). Ids are keyed
 * digests, so six bits of one are as good as a hash of it: 67 items on average.
 */
export function endsListNode(count: number, id: Uint8Array | undefined): boolean {
  if (count >= listItemsMax) return true;
  return count >= listItemsMin && id !== undefined && ((id[0] as number) & listItemsMeanMask) === 0;
}

/** Upper 24 bits of SipHash-2-4 of `bytes` followed by the byte `level`, under a 16-byte key. */
export function boundaryHash(key16: Uint8Array, level: number, bytes: Uint8Array): number {
  return new BoundaryHasher(key16, level).hash(bytes, 0, bytes.length);
}

const blockBytes = 8;
/** Blocks of a key whose states are remembered: 4 KiB, as long as an ordinary path can be. */
const rememberedBlocksMax = 512;

/**
 * Hashes the keys of one level one after the other. Sorted keys share long prefixes with their predecessors, so the states
 * after the blocks shared are remembered: a path costs its last name, not its whole length.
 *
 * 64-bit words are pairs of 32-bit halves, since BigInt would cost fifty times as much.
 */
export class BoundaryHasher {
  readonly #level: number;
  /** Eight halves (low, high of v0 to v3) after each block of the previous key; first the state before any. */
  #states: Int32Array = new Int32Array(8 * 17);
  #previous: Uint8Array = new Uint8Array(8 * 16);
  #previousBlocks = 0;

  constructor(key16: Uint8Array, level: number) {
    this.#level = level;
    const view = new DataView(key16.buffer, key16.byteOffset, 16);
    const k0l = view.getInt32(0, true);
    const k0h = view.getInt32(4, true);
    const k1l = view.getInt32(8, true);
    const k1h = view.getInt32(12, true);
    // "somepseudorandomlygeneratedbytes", as in the paper.
    this.#states.set([
      k0l ^ 0x70736575,
      k0h ^ 0x736f6d65,
      k1l ^ 0x6e646f6d,
      k1h ^ 0x646f7261,
      k0l ^ 0x6e657261,
      k0h ^ 0x6c796765,
      k1l ^ 0x79746573,
      k1h ^ 0x74656462,
    ]);
  }

  /** The boundary hash of `bytes` from `start` up to `end`. */
  hash(bytes: Uint8Array, start: number, end: number): number {
    const length = end - start;
    const blocks = length >>> 3;
    const remembered = blocks < rememberedBlocksMax ? blocks : rememberedBlocksMax;
    if (remembered * blockBytes > this.#previous.length) this.#grow(remembered);
    const states = this.#states;
    const previous = this.#previous;

    const comparable = (remembered < this.#previousBlocks ? remembered : this.#previousBlocks) * blockBytes;
    let same = 0;
    while (same < comparable && previous[same] === bytes[start + same]) same++;
    let block = same >>> 3;
    for (let i = block * blockBytes; i < remembered * blockBytes; i++) previous[i] = bytes[start + i] as number;
    this.#previousBlocks = remembered;

    let s = block * 8;
    let v0l = states[s] as number;
    let v0h = states[s + 1] as number;
    let v1l = states[s + 2] as number;
    let v1h = states[s + 3] as number;
    let v2l = states[s + 4] as number;
    let v2h = states[s + 5] as number;
    let v3l = states[s + 6] as number;
    let v3h = states[s + 7] as number;

    // The key's whole blocks, then the rest of it with the level byte and the length, which may take two, then finalization.
    const messageBlocks = ((length + 1) >>> 3) + 1;
    for (; block <= messageBlocks; block++) {
      let ml = 0;
      let mh = 0;
      let rounds = 2;
      const at = start + block * blockBytes;
      if (block < blocks) {
        ml =
          (bytes[at] as number) |
          ((bytes[at + 1] as number) << 8) |
          ((bytes[at + 2] as number) << 16) |
          ((bytes[at + 3] as number) << 24);
        mh =
          (bytes[at + 4] as number) |
          ((bytes[at + 5] as number) << 8) |
          ((bytes[at + 6] as number) << 16) |
          ((bytes[at + 7] as number) << 24);
      } else if (block < messageBlocks) {
        for (let i = 0; i < blockBytes; i++) {
          const index = block * blockBytes + i;
          const byte = index < length ? (bytes[start + index] as number) : index === length ? this.#level : 0;
          if (i < 4) ml |= byte << (8 * i);
          else mh |= byte << (8 * (i - 4));
        }
        if (block === messageBlocks - 1) mh |= ((length + 1) & 0xff) << 24;
      } else {
        v2l ^= 0xff;
        rounds = 4;
      }

      v3l ^= ml;
      v3h ^= mh;
      for (let round = 0; round < rounds; round++) {
        // v0 += v1; v1 = v1 <<< 13 ^ v0; v0 <<<= 32
        let l = (v0l + v1l) | 0;
        let h = (v0h + v1h + (l >>> 0 < v0l >>> 0 ? 1 : 0)) | 0;
        let t = ((v1l << 13) | (v1h >>> 19)) ^ l;
        v1h = ((v1h << 13) | (v1l >>> 19)) ^ h;
        v1l = t;
        v0l = h;
        v0h = l;
        // v2 += v3; v3 = v3 <<< 16 ^ v2
        l = (v2l + v3l) | 0;
        h = (v2h + v3h + (l >>> 0 < v2l >>> 0 ? 1 : 0)) | 0;
        t = ((v3l << 16) | (v3h >>> 16)) ^ l;
        v3h = ((v3h << 16) | (v3l >>> 16)) ^ h;
        v3l = t;
        v2l = l;
        v2h = h;
        // v0 += v3; v3 = v3 <<< 21 ^ v0
        l = (v0l + v3l) | 0;
        h = (v0h + v3h + (l >>> 0 < v0l >>> 0 ? 1 : 0)) | 0;
        t = ((v3l << 21) | (v3h >>> 11)) ^ l;
        v3h = ((v3h << 21) | (v3l >>> 11)) ^ h;
        v3l = t;
        v0l = l;
        v0h = h;
        // v2 += v1; v1 = v1 <<< 17 ^ v2; v2 <<<= 32
        l = (v2l + v1l) | 0;
        h = (v2h + v1h + (l >>> 0 < v2l >>> 0 ? 1 : 0)) | 0;
        t = ((v1l << 17) | (v1h >>> 15)) ^ l;
        v1h = ((v1h << 17) | (v1l >>> 15)) ^ h;
        v1l = t;
        v2l = h;
        v2h = l;
      }
      v0l ^= ml;
      v0h ^= mh;

      if (block < remembered) {
        s = (block + 1) * 8;
        states[s] = v0l;
        states[s + 1] = v0h;
        states[s + 2] = v1l;
        states[s + 3] = v1h;
        states[s + 4] = v2l;
        states[s + 5] = v2h;
        states[s + 6] = v3l;
        states[s + 7] = v3h;
      }
    }
    return (v0h ^ v1h ^ v2h ^ v3h) >>> 8;
  }

  #grow(blocks: number): void {
    const capacity = Math.min(rememberedBlocksMax, Math.max(blocks, (this.#previous.length / blockBytes) * 2));
    const states = new Int32Array(8 * (capacity + 1));
    states.set(this.#states);
    this.#states = states;
    const previous = new Uint8Array(blockBytes * capacity);
    previous.set(this.#previous);
    this.#previous = previous;
  }
}
