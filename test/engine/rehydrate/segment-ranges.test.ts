import { describe, expect, it } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import type { SegmentRange } from '../../../src/engine/format/pack.ts';
import type { ObjectReader, RangeOptions } from '../../../src/engine/ports/object-store.ts';
import { SegmentRanges, type WantedSegment } from '../../../src/engine/rehydrate/segment-ranges.ts';
import { SharedMemory } from '../../../src/engine/rehydrate/shared-memory.ts';
import { locationIn, type OpenedPack } from '../../../src/engine/tree/pack-directory.ts';

const mib = 1024 * 1024;
const budget = 32 * mib;

/** A pack that is an object by itself, of segments of these lengths; `{ gap }` leaves room, `{ meta }` is one of metadata. */
function packOf(key: string, lengths: readonly (number | { gap: number } | { meta: number })[]): OpenedPack {
  const segments: SegmentRange[] = [];
  let at = 0;
  for (const each of lengths) {
    if (typeof each !== 'number' && 'gap' in each) {
      at += each.gap;
      continue;
    }
    const length = typeof each === 'number' ? each : each.meta;
    segments.push({ start: at, length, plainBytes: length, kind: typeof each === 'number' ? 'data' : 'meta' });
    at += length;
  }
  const reader = { segments: segments.length, segmentRange: (number: number) => segments[number] as SegmentRange };
  return { name: key, key, start: 0, bytes: undefined, reader } as unknown as OpenedPack;
}

function want(pack: OpenedPack, ...numbers: number[]): WantedSegment[] {
  return numbers.map((number) => ({ number, location: locationIn(pack, number) }));
}

function patternOf(bytes: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => (i * 7 + seed + (i >> 8)) & 0xff);
}

/** Remembers what was asked; reads into the caller's memory, as stores on a disk or a network do. */
class ListingReader implements Pick<ObjectReader, 'getRange'> {
  readonly store = new MemoryStore();
  readonly asked: (readonly [key: string, start: number, length: number])[] = [];

  async getRange(key: string, start: number, length: number, options: RangeOptions = {}): Promise<Uint8Array> {
    this.asked.push([key, start, length]);
    const bytes = await this.store.getRange(key, start, length, options);
    if (options.into === undefined) return bytes;
    options.into.set(bytes);
    return options.into;
  }
}

async function place(objects: Readonly<Record<string, Uint8Array>> = {}) {
  const reader = new ListingReader();
  for (const [key, bytes] of Object.entries(objects)) await reader.store.create(key, bytes);
  const memory = new SharedMemory();
  const ranges = new SegmentRanges({ store: reader as unknown as ObjectReader, memory, signal: undefined });
  /** One batch from claim to release; copies of its segments, undefined where the store does not have them. */
  const batch = async (wanted: readonly WantedSegment[], bytesMax = budget): Promise<(Uint8Array | undefined)[]> => {
    const claim = ranges.claim(wanted);
    try {
      ranges.read(claim, bytesMax);
      const { segments, buffers } = await ranges.segments(claim);
      return segments.map(({ buffer, start, location }) => {
        const bytes = buffers[buffer] as Uint8Array;
        return bytes.length === 0 ? undefined : bytes.slice(start, start + location.length);
      });
    } finally {
      ranges.release(claim);
    }
  };
  return { asked: reader.asked, ranges, memory, batch };
}

describe('ranges of one batch', () => {
  it('join neighbours, in order, also over small gaps', async () => {
    const pack = packOf('p', [1000, 1000, { gap: 500_000 }, 1000]);
    const { asked, batch } = await place({ p: patternOf(503_000, 1) });
    const got = await batch(want(pack, 2, 0, 1));
    expect(asked).toEqual([['p', 0, 503_000]]);
    const object = patternOf(503_000, 1);
    expect(got).toEqual([object.slice(502_000), object.slice(0, 1000), object.slice(1000, 2000)]);
  });

  it('are apart where segments lie far apart, in other objects, or are too much for one range', async () => {
    const p = packOf('p', [10, { gap: mib }, 10]);
    const q = packOf(
      'q',
      Array.from({ length: 9 }, () => mib),
    );
    const { ranges } = await place();
    expect(ranges.claim([...want(p, 0, 1), ...want(q, 0)]).parts).toHaveLength(3);
    const { parts, bytes } = ranges.claim(want(q, 0, 1, 2, 3, 4, 5, 6, 7, 8));
    expect(parts.map(({ start, end }) => end - start)).toEqual([4 * mib, 4 * mib, mib]);
    expect(bytes).toBe(9 * mib);
  });

  it('give each segment its bytes, whatever order they were asked in', async () => {
    const pack = packOf('p', [10, 90, 50, { gap: 1850 }, 100]);
    const { batch } = await place({ p: patternOf(3000, 3) });
    const got = await batch(want(pack, 3, 2, 0));
    const object = patternOf(3000, 3);
    expect(got).toEqual([object.slice(2000, 2100), object.slice(100, 150), object.slice(0, 10)]);
  });

  it('lose only what the store has lost', async () => {
    const pack = packOf('p', [500, 100, { gap: 300 }, 500]);
    const { batch } = await place({ p: new Uint8Array(1000).fill(1) });
    const got = await batch([...want(pack, 0, 2), ...want(packOf('gone', [5]), 0), ...want(pack, 1)]);
    expect(got.map((bytes) => bytes?.length)).toEqual([500, undefined, undefined, 100]);
  });

  it('fail with the store when the store fails', async () => {
    const control = new AbortController();
    control.abort();
    const store = new MemoryStore();
    const ranges = new SegmentRanges({ store, memory: new SharedMemory(), signal: control.signal });
    const claim = ranges.claim(want(packOf('p', [5]), 0));
    ranges.read(claim, 0);
    await expect(ranges.segments(claim)).rejects.toMatchObject({ code: 'E_ABORTED' });
    ranges.release(claim);
    expect(ranges.bytes).toBe(0);
  });
});

describe('ranges of batches that follow each other', () => {
  const segmentBytes = 512 * 1024;
  const pack = packOf(
    'p',
    Array.from({ length: 40 }, () => segmentBytes),
  );
  const object = patternOf(40 * segmentBytes, 5);
  const slice = (number: number) => object.subarray(number * segmentBytes, (number + 1) * segmentBytes);

  it('go on beyond what is wanted, up to 4 MiB, and are read once', async () => {
    const { asked, batch } = await place({ p: object });
    for (let first = 0; first < 40; first += 2) {
      // The segment at which the last batch ended is wanted again.
      const numbers = [first - 1, first, first + 1].filter((number) => number >= 0);
      const got = await batch(want(pack, ...numbers));
      expect(got.every((bytes, i) => Buffer.compare(bytes as Uint8Array, slice(numbers[i] as number)) === 0)).toBe(
        true,
      );
    }
    expect(asked.map(([, , length]) => length / segmentBytes)).toEqual([2, 4, 8, 8, 8, 8, 2]);
    expect(asked.reduce((sum, [, , length]) => sum + length, 0)).toBe(object.length);
  });

  it('go on where they had come to, though copies are read elsewhere in the pack meanwhile', async () => {
    const { asked, batch } = await place({ p: object });
    await batch(want(pack, 0, 1));
    await batch(want(pack, 2, 3));
    await batch(want(pack, 30));
    await batch(want(pack, 6, 7, 35));
    expect(asked.map(([, start, length]) => [start / segmentBytes, length / segmentBytes])).toEqual([
      [0, 2],
      [2, 4],
      [30, 1],
      [6, 8],
      [35, 1],
    ]);
  });

  it('are just what is wanted where reading jumps, and where there is no room', async () => {
    const { asked, batch } = await place({ p: object });
    await batch(want(pack, 0, 1));
    await batch(want(pack, 20, 21));
    await batch(want(pack, 10, 11));
    await batch(want(pack, 12, 13), 2 * segmentBytes);
    await batch(want(pack, 14), 2 * segmentBytes);
    expect(asked.map(([, , length]) => length / segmentBytes)).toEqual([2, 2, 2, 2, 2]);
  });

  it('do not go on into metadata, nor over a large gap', async () => {
    const mixed = packOf('m', [mib, mib, { meta: 1000 }, { gap: mib }, mib, { meta: 1000 }, mib, mib]);
    const { asked, batch } = await place({ m: patternOf(7 * mib, 1) });
    await batch(want(mixed, 0));
    await batch(want(mixed, 1));
    expect(asked.at(-1)).toEqual(['m', mib, mib]);
    await batch(want(mixed, 3));
    await batch(want(mixed, 5));
    // Over little metadata it does.
    expect(asked.at(-1)).toEqual(['m', 4 * mib + 2000, 2 * mib]);
  });

  it('are given up when others need the room, those used last at last, and never while somebody uses them', async () => {
    const { asked, ranges, batch } = await place({ p: object });
    await batch(want(pack, 0, 1));
    await batch(want(pack, 10, 11));
    await batch(want(pack, 0));
    expect(asked).toHaveLength(2);
    const used = ranges.claim(want(pack, 20, 21));
    ranges.read(used, budget);
    await ranges.segments(used);
    expect(ranges.bytes).toBe(6 * segmentBytes);
    expect(ranges.makeRoom(2 * segmentBytes, 6 * segmentBytes)).toBe(true);
    expect(ranges.bytes).toBe(4 * segmentBytes);
    await batch(want(pack, 0, 1));
    expect(asked).toHaveLength(3);
    expect(ranges.makeRoom(0, 0)).toBe(false);
    expect(ranges.bytes).toBe(2 * segmentBytes);
    ranges.release(used);
    expect(ranges.makeRoom(0, 0)).toBe(true);
  });

  it('lose only the segments that the store has lost, of what they were to hold beyond too', async () => {
    const short = object.subarray(0, 5 * segmentBytes);
    const { batch } = await place({ p: short });
    const lengths: (number | undefined)[] = [];
    for (let first = 0; first < 8; first += 2) {
      for (const bytes of await batch(want(pack, first, first + 1))) lengths.push(bytes?.length);
    }
    const there = [1, 1, 1, 1, 1, 0, 0, 0];
    expect(lengths).toEqual(there.map((is) => (is === 1 ? segmentBytes : undefined)));
  });

  it('use the memory of those that were given up', async () => {
    const { ranges, memory, batch } = await place({ p: object });
    const [seen, first] = [new Set<number>(), memory.take(4 * mib)];
    memory.give(first);
    for (let number = 0; number < 40; number += 4) {
      const claim = ranges.claim(want(pack, number, number + 1, number + 2, number + 3));
      ranges.read(claim, 4 * segmentBytes);
      const { buffers } = await ranges.segments(claim);
      for (const { buffer, byteOffset } of buffers) {
        expect(buffer).toBe(first.buffer);
        seen.add(byteOffset);
      }
      ranges.release(claim);
      ranges.makeRoom(0, 0);
    }
    expect([...seen]).toEqual([first.byteOffset]);
    expect(await batch(want(pack, 3))).toEqual([slice(3)]);
  });
});
