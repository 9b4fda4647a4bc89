/**
 * The sealed metadata segments of packs, read ahead. A tree lies in its pack in the order in which it is walked, so what follows
 * a segment is mostly wanted next, and each by itself would cost a round trip.
 *
 * A range begins small, because a look-up wants little, and doubles as long as reading goes on where the last range ended; then
 * the next one is on its way before the last is used up. What is held stays sealed, which is a fraction of the plaintext.
 */
import { isHoldfastError } from '../model/errors.ts';
import { locationIn, type OpenedPack } from './pack-directory.ts';

const rangeBytesFirst: number = 64 * 1024;
const rangeBytesMax: number = 512 * 1024;
/** Data between two metadata segments that is rather read with them than asked around. */
const gapBytesMax: number = 32 * 1024;
const heldBytesMax: number = 2 * 1024 * 1024;

type ReadRange = (key: string, start: number, length: number) => Promise<Uint8Array>;

interface Range {
  readonly pack: string;
  /** Segments from `first` up to and without `end`. */
  readonly first: number;
  readonly end: number;
  /** Position in the object. */
  readonly start: number;
  readonly length: number;
  /** What a range that goes on from here may have. */
  readonly nextBytesMax: number;
  readonly bytes: Promise<Uint8Array>;
}

export class MetadataRanges {
  readonly #read: ReadRange;
  /** The oldest first. */
  #held: Range[] = [];

  constructor(read: ReadRange) {
    this.#read = read;
  }

  /** The sealed bytes of a metadata segment of a pack that is an object of its own. Throws what reading them throws. */
  async segment(pack: OpenedPack, segment: number): Promise<Uint8Array> {
    const range = this.#rangeOf(pack.name, segment) ?? this.#begin(pack, segment);
    if (segment >= (range.first + range.end) / 2) this.#readAhead(pack, range);
    const { start, length } = locationIn(pack, segment);
    try {
      const bytes = await range.bytes;
      return bytes.subarray(start - range.start, start - range.start + length);
    } catch (error) {
      this.#held = this.#held.filter((held) => held !== range);
      // What is missing may be a part that nobody asked for.
      if (!isHoldfastError(error, 'E_DAMAGED') || range.length === length) throw error;
      return await this.#read(pack.key, start, length);
    }
  }

  #rangeOf(pack: string, segment: number): Range | undefined {
    return this.#held.findLast((range) => range.pack === pack && range.first <= segment && segment < range.end);
  }

  #begin(pack: OpenedPack, segment: number): Range {
    const before = this.#rangeOf(pack.name, segment - 1);
    return this.#fetch(pack, segment, before?.nextBytesMax ?? rangeBytesFirst);
  }

  /** Only where reading has gone on from another range before: one look-up says nothing of a next one. */
  #readAhead(pack: OpenedPack, { end, nextBytesMax, first }: Range): void {
    if (end >= pack.reader.segments || this.#rangeOf(pack.name, first - 1) === undefined) return;
    if (this.#rangeOf(pack.name, end) !== undefined || locationIn(pack, end).kind !== 'meta') return;
    this.#fetch(pack, end, nextBytesMax);
  }

  /** Reads the segment and what metadata follows it, up to so many bytes. */
  #fetch(pack: OpenedPack, first: number, bytesMax: number): Range {
    const { start, length } = locationIn(pack, first);
    let end = first + 1;
    let endsAt = start + length;
    for (let next = end; next < pack.reader.segments; next++) {
      const location = locationIn(pack, next);
      if (location.start - endsAt > gapBytesMax || location.start + location.length - start > bytesMax) break;
      if (location.kind !== 'meta') continue;
      // A segment opened earlier may have been sealed later: the positions decide.
      if (location.start < endsAt) break;
      end = next + 1;
      endsAt = location.start + location.length;
    }
    const bytes = this.#read(pack.key, start, endsAt - start);
    bytes.catch(() => undefined);
    const nextBytesMax = Math.min(2 * bytesMax, rangeBytesMax);
    const range: Range = { pack: pack.name, first, end, start, length: endsAt - start, nextBytesMax, bytes };
    this.#held.push(range);
    this.#dropOldest();
    return range;
  }

  #dropOldest(): void {
    let bytes = 0;
    // The newest always stays.
    const from = this.#held.findLastIndex((range) => {
      bytes += range.length;
      return bytes > heldBytesMax;
    });
    if (from >= 0) this.#held = this.#held.slice(Math.min(from + 1, this.#held.length - 1));
  }
}
