/**
 * The sealed segments of packs: few large reads instead of many small ones. Segments close to each other in an object come in
 * one range, the gap included. Where batches follow each other through a pack, a range goes on beyond what is wanted now, and it
 * stays as long as there is room: the next batch finds in it what it needs, the segment at which the last one ended too.
 *
 * Invariants: the memory of what is held is counted against the caller's bound, but for a batch that goes alone; only ranges that nobody
 * uses are given up, and their memory is used again only then.
 */
import { isHoldfastError } from '../model/errors.ts';
import type { ObjectReader } from '../ports/object-store.ts';
import { locationIn, type OpenedPack, type SegmentLocation } from '../tree/pack-directory.ts';
import type { SegmentBytes } from './restore-job.ts';
import { memoryBytes, type SharedMemory } from './shared-memory.ts';

/** A gap below this costs less than another request. */
const gapBytesMax: number = 1024 * 1024;
export const rangeBytesMax: number = 4 * 1024 * 1024;
/** Places where reading may go on; of more than these nobody knows. */
const readOnMax = 24;

export interface WantedSegment {
  readonly location: SegmentLocation;
  /** Number of the segment in its pack. */
  readonly number: number;
}

export interface FetchedSegments {
  /** In the order of what was wanted. */
  readonly segments: readonly SegmentBytes[];
  /** An empty one stands for bytes that the store does not have. Those in shared memory are valid until the claim is released. */
  readonly buffers: readonly Uint8Array[];
}

/** Bytes of one object that are wanted together. */
interface Part {
  readonly pack: OpenedPack;
  readonly key: string;
  readonly start: number;
  end: number;
  /** Which of the wanted segments lie in it. */
  readonly members: number[];
  range: HeldRange | undefined;
}

interface HeldRange {
  readonly pack: OpenedPack;
  readonly start: number;
  readonly end: number;
  readonly memory: Uint8Array;
  readonly bytes: Promise<Uint8Array>;
  /** Claims that need it. */
  uses: number;
  /** Nobody may claim it any more. */
  dropped: boolean;
}

/** Where a range has ended, and how much the next one may have if it begins there. */
interface ReadOn {
  readonly name: string;
  readonly end: number;
  readonly bytes: number;
}

/** Segments that somebody needs, from `claim` to `release`. */
export interface SegmentClaim {
  readonly wanted: readonly WantedSegment[];
  readonly parts: readonly Part[];
  /** Memory that is still to be taken for it. */
  readonly bytes: number;
  /** The same with what is read beyond it where there is room. */
  readonly bytesWished: number;
}

export interface SegmentRangesOptions {
  readonly store: ObjectReader;
  readonly memory: SharedMemory;
  readonly signal: AbortSignal | undefined;
}

export class SegmentRanges {
  readonly #options: SegmentRangesOptions;
  /** The one used last comes last. */
  readonly #held = new Set<HeldRange>();
  /** The newest last. Several in one pack: copies of earlier files are read there while reading goes on elsewhere. */
  #readOn: ReadOn[] = [];
  #bytes = 0;

  constructor(options: SegmentRangesOptions) {
    this.#options = options;
  }

  /** Memory of what is held: read, or on its way. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Plans how to get the segments, and keeps what is there of them. The claim must be released. */
  claim(wanted: readonly WantedSegment[]): SegmentClaim {
    const order = wanted.map((_, i) => i);
    order.sort((a, b) => compareLocations(locationOf(wanted, a), locationOf(wanted, b)));
    const parts: Part[] = [];
    const used = new Map<HeldRange, Part>();
    let last: Part | undefined;
    for (const i of order) {
      const { key, start, length, pack } = locationOf(wanted, i);
      const end = start + length;
      const range = this.#find(pack, key, start, end);
      if (range !== undefined) {
        const part = used.get(range) ?? this.#use(range);
        if (part.members.push(i) === 1) parts.push(part);
        used.set(range, part);
      } else if (last !== undefined && joins(last, pack, key, start, end)) {
        last.end = Math.max(last.end, end);
        last.members.push(i);
      } else {
        last = { pack, key, start, end, members: [i], range: undefined };
        parts.push(last);
      }
    }
    let bytes = 0;
    let bytesWished = 0;
    for (const part of parts) {
      if (part.range !== undefined) continue;
      const length = part.end - part.start;
      bytes += memoryBytes(length);
      bytesWished += memoryBytes(Math.max(length, this.#rangeBytes(part)));
    }
    return { wanted, parts, bytes, bytesWished };
  }

  /** Gives up ranges that nobody uses until so many bytes more are within the bound. False when that is not enough. */
  makeRoom(bytes: number, bytesMax: number): boolean {
    for (const range of this.#held) {
      if (this.#bytes + bytes <= bytesMax) break;
      if (range.uses === 0) this.#drop(range);
    }
    return this.#bytes + bytes <= bytesMax;
  }

  /** Sends for what the claim is short of, and for what comes next as far as it is within the bound. */
  read({ wanted, parts, bytes: claimed }: SegmentClaim, bytesMax: number): void {
    const { store, memory, signal } = this.#options;
    let spare = bytesMax - claimed;
    for (const { uses, memory: used } of this.#held) if (uses > 0) spare -= memoryBytes(used.length);
    for (const part of parts) {
      if (part.range !== undefined || part.pack.bytes !== undefined) continue;
      const { pack, key, start } = part;
      const end = this.#endOf(part, wanted, Math.max(0, spare));
      const length = end - start;
      spare -= memoryBytes(length) - memoryBytes(part.end - start);
      // What comes next is likelier to be wanted than what was used once.
      this.makeRoom(memoryBytes(length), bytesMax);
      const into = memory.take(length);
      const waiting = signal === undefined ? { into } : { into, signal };
      const bytes = store.getRange(key, start, length, waiting).then((got) => {
        // A store may answer with memory of its own.
        if (got.buffer !== into.buffer) into.set(got);
        return into;
      });
      bytes.catch(() => undefined);
      const range: HeldRange = { pack, start, end, memory: into, bytes, uses: 1, dropped: false };
      part.range = range;
      this.#held.add(range);
      this.#bytes += memoryBytes(length);
    }
  }

  /** The segments of a claim that was read. Errors of the store but E_DAMAGED, which leaves the buffer of the bytes concerned empty. */
  async segments({ wanted, parts }: SegmentClaim): Promise<FetchedSegments> {
    const segments: SegmentBytes[] = new Array(wanted.length);
    const buffers: Uint8Array[] = [];
    const put = (members: readonly number[], bytes: Uint8Array, from: number): void => {
      const buffer = buffers.push(bytes) - 1;
      for (const i of members) {
        const { location, number } = wanted[i] as WantedSegment;
        segments[i] = { location, number, buffer, start: location.start - from };
      }
    };
    const results = await Promise.allSettled(
      parts.map(async ({ pack, start, end, members, range }) => {
        if (range === undefined) {
          // A copy: the record's bytes stay here, the buffer goes to another thread.
          const inlined = pack.bytes ?? emptyBuffer;
          return put(members, inlined.slice(start - pack.start, end - pack.start), start);
        }
        try {
          put(members, await range.bytes, range.start);
        } catch (error) {
          this.#drop(range);
          if (!isHoldfastError(error, 'E_DAMAGED')) throw error;
          // The object is shorter than it should be, or gone: what is still there must not be lost with the rest.
          const readBefore = members.length === 1 && range.start === start && range.end === end;
          await Promise.all(
            members.map(async (i) => {
              const location = locationOf(wanted, i);
              put([i], readBefore ? emptyBuffer : await this.#alone(location), location.start);
            }),
          );
        }
      }),
    );
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    return { segments, buffers };
  }

  /** Nobody reads what the claim had any more. Once, after `segments` has settled or when nothing was read. */
  release({ parts }: SegmentClaim): void {
    for (const { range } of parts) {
      if (range === undefined) continue;
      range.uses--;
      if (range.dropped) this.#forget(range);
    }
  }

  /** Reads all that was claimed again, past what is held, of which nobody gets anything any more. For bytes that proved to be wrong. */
  async again({ wanted, parts }: SegmentClaim): Promise<FetchedSegments> {
    for (const { range } of parts) if (range !== undefined) this.#drop(range);
    const buffers: Uint8Array[] = [];
    const segments: SegmentBytes[] = [];
    // One after the other: it is rare, and memory is bounded.
    for (const { location, number } of wanted) {
      const { bytes: inlined, start: from } = location.pack;
      const bytes =
        inlined === undefined
          ? await this.#alone(location)
          : inlined.slice(location.start - from, location.start - from + location.length);
      segments.push({ location, number, buffer: buffers.push(bytes) - 1, start: 0 });
    }
    return { segments, buffers };
  }

  async #alone({ key, start, length }: SegmentLocation): Promise<Uint8Array> {
    const { store, signal } = this.#options;
    try {
      return await store.getRange(key, start, length, signal === undefined ? {} : { signal });
    } catch (error) {
      if (isHoldfastError(error, 'E_DAMAGED')) return emptyBuffer;
      throw error;
    }
  }

  #find(pack: OpenedPack, key: string, start: number, end: number): HeldRange | undefined {
    for (const range of this.#held) {
      const covers = range.start <= start && end <= range.end && !range.dropped;
      if (covers && range.pack.name === pack.name && range.pack.key === key) return range;
    }
    return undefined;
  }

  #use(range: HeldRange): Part {
    range.uses++;
    this.#held.delete(range);
    this.#held.add(range);
    const { pack, start, end } = range;
    return { pack, key: pack.key, start, end, members: [], range };
  }

  /** Where the range of a part ends: further than the part where it goes on from the last range of its pack. */
  #endOf(part: Part, wanted: readonly WantedSegment[], spare: number): number {
    const { pack, key, start, end, members } = part;
    const before = this.#readOnAt(part);
    const wished = before?.bytes ?? 0;
    let bytesMax = Math.min(wished, memoryBytes(end - start) + spare);
    for (const range of this.#held) {
      const isNext = range.pack.name === pack.name && range.pack.key === key && range.start >= end;
      if (isNext) bytesMax = Math.min(bytesMax, range.start - start);
    }
    let reach = end;
    const last = (wanted[members[members.length - 1] as number] as WantedSegment).number;
    for (let number = last + 1; reach - start < bytesMax && number < pack.reader.segments; number++) {
      const location = locationIn(pack, number);
      const locationEnd = location.start + location.length;
      if (location.start - reach >= gapBytesMax || locationEnd - start > bytesMax) break;
      // A segment opened later may have been sealed earlier: the positions decide.
      if (location.kind === 'data' && locationEnd > reach) reach = locationEnd;
    }
    const next = Math.min(rangeBytesMax, 2 * Math.max(wished, reach - start));
    this.#readOn = this.#readOn.filter((each) => each !== before).slice(1 - readOnMax);
    this.#readOn.push({ name: nameOf(part), end: reach, bytes: next });
    return reach;
  }

  /** What the range of a part may have where there is room. */
  #rangeBytes(part: Part): number {
    return this.#readOnAt(part)?.bytes ?? 0;
  }

  /** Where reading has ended close before the part. */
  #readOnAt(part: Part): ReadOn | undefined {
    const name = nameOf(part);
    return this.#readOn.findLast(
      (each) => each.name === name && part.start >= each.end && part.start - each.end < gapBytesMax,
    );
  }

  #drop(range: HeldRange): void {
    range.dropped = true;
    this.#forget(range);
  }

  #forget(range: HeldRange): void {
    if (range.uses > 0 || !this.#held.delete(range)) return;
    this.#bytes -= memoryBytes(range.memory.length);
    this.#options.memory.give(range.memory);
  }
}

function joins(last: Part, pack: OpenedPack, key: string, start: number, end: number): boolean {
  return (
    last.key === key &&
    // Several packs may lie in one record, and each is at hand by itself.
    last.pack.name === pack.name &&
    start - last.end < gapBytesMax &&
    Math.max(end, last.end) - last.start <= rangeBytesMax
  );
}

function nameOf({ key, pack }: Part): string {
  return `${key} ${pack.name}`;
}

function locationOf(wanted: readonly WantedSegment[], index: number): SegmentLocation {
  return (wanted[index] as WantedSegment).location;
}

function compareLocations(a: SegmentLocation, b: SegmentLocation): number {
  if (a.key !== b.key) return a.key < b.key ? -1 : 1;
  return a.start - b.start;
}

const emptyBuffer: Uint8Array = new Uint8Array(0);
