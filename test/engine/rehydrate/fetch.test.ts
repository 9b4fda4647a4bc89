import { describe, expect, it } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { utf8Bytes } from '../../../src/engine/model/bytes.ts';
import type { ObjectReader } from '../../../src/engine/ports/object-store.ts';
import { fetchSegments, planFetch, type WantedSegment } from '../../../src/engine/rehydrate/fetch-segments.ts';
import { pathGlobs } from '../../../src/engine/rehydrate/selection.ts';
import type { OpenedPack } from '../../../src/engine/tree/pack-directory.ts';
import { ManualClock, Pod } from '../../support/capture-fixture.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';
import { lanesOf, restore } from '../../support/restore-fixture.ts';

const mib = 1024 * 1024;

function segment(key: string, start: number, length: number, number = 0): WantedSegment {
  const pack = { name: key, bytes: undefined } as OpenedPack;
  return { number, location: { key, start, length, plainBytes: length, kind: 'data', pack } };
}

describe('a plan of ranges', () => {
  const rangesOf = (wanted: readonly WantedSegment[]): (readonly [string, number, number])[] =>
    planFetch(wanted).ranges.map(({ key, start, end }) => [key, start, end - start]);

  it('reads neighbours together, in order, also over small gaps', () => {
    const wanted = [segment('p', 500_000, 1000), segment('p', 0, 1000), segment('p', 1000, 1000)];
    expect(rangesOf(wanted)).toEqual([['p', 0, 501_000]]);
  });

  it('reads apart what lies far apart, in other objects, or is too much for one range', () => {
    expect(rangesOf([segment('p', 0, 10), segment('p', 10 + mib, 10)])).toHaveLength(2);
    expect(rangesOf([segment('p', 0, 10), segment('q', 10, 10)])).toHaveLength(2);
    const many = Array.from({ length: 9 }, (_, i) => segment('p', i * mib, mib));
    expect(rangesOf(many).map(([, , length]) => length)).toEqual([4 * mib, 4 * mib, mib]);
    expect(planFetch(many).bytes).toBe(9 * mib);
  });
});

describe('fetching', () => {
  it('gives each segment its bytes, whatever order they were asked in', async () => {
    const store = new MemoryStore();
    const object = Uint8Array.from({ length: 3000 }, (_, i) => i % 251);
    await store.create('p', object);
    const wanted = [segment('p', 2000, 100), segment('p', 100, 50), segment('p', 0, 10)];
    const { segments, buffers } = await fetchSegments(planFetch(wanted), store, undefined);
    for (const [i, { buffer, start, location }] of segments.entries()) {
      const { start: from, length } = (wanted[i] as WantedSegment).location;
      expect((buffers[buffer] as Uint8Array).subarray(start, start + location.length)).toEqual(
        object.subarray(from, from + length),
      );
    }
  });

  it('loses only what the store has lost', async () => {
    const store = new MemoryStore();
    await store.create('p', new Uint8Array(1000).fill(1));
    const wanted = [segment('p', 0, 500), segment('p', 900, 500), segment('gone', 0, 5), segment('p', 500, 100)];
    const { segments, buffers } = await fetchSegments(planFetch(wanted), store, undefined);
    const there = segments.map(({ buffer }) => (buffers[buffer] as Uint8Array).length > 0);
    expect(there).toEqual([true, false, false, true]);
  });

  it('fails with the store when the store fails', async () => {
    const store = new MemoryStore();
    const control = new AbortController();
    control.abort();
    await expect(fetchSegments(planFetch([segment('p', 0, 5)]), store, control.signal)).rejects.toMatchObject({
      code: 'E_ABORTED',
    });
  });
});

/** Answers late, and tells how many bytes were asked for at once. */
class SlowReader implements ObjectReader {
  readonly #store: ObjectReader;
  readonly #turns: number;
  requests = 0;
  bytes = 0;
  outstanding = 0;
  mostOutstanding = 0;

  constructor(store: ObjectReader, turns: number) {
    this.#store = store;
    this.#turns = turns;
  }

  get: ObjectReader['get'] = (key, options) => this.#store.get(key, options);
  stat: ObjectReader['stat'] = (key, options) => this.#store.stat(key, options);
  list: ObjectReader['list'] = (prefix, options) => this.#store.list(prefix, options);

  getRange: ObjectReader['getRange'] = async (key, start, length, options) => {
    this.requests++;
    this.bytes += length;
    this.outstanding += length;
    this.mostOutstanding = Math.max(this.mostOutstanding, this.outstanding);
    for (let i = 0; i < this.#turns; i++) await new Promise((resolve) => setImmediate(resolve));
    this.outstanding -= length;
    return await this.#store.getRange(key, start, length, options);
  };
}

describe('a restore', () => {
  const noise = (bytes: number, seed: number): Uint8Array => {
    let state = Math.imul(seed + 1, 0x9e3779b1) | 1;
    return Uint8Array.from({ length: bytes }, () => {
      state = Math.imul(state, 0x01000193) ^ (state >>> 15);
      return state & 0xff;
    });
  };

  const pod = (async () => {
    const clock = new ManualClock();
    const disk = new MemoryFileSystem({ clock });
    for (let d = 0; d < 60; d++) {
      disk.mkdir(`src/d${d}`);
      for (let i = 0; i < 30; i++) disk.writeFile(`src/d${d}/f${i}`, noise(8000, d * 30 + i));
    }
    clock.ms += 60_000;
    const made = await Pod.start({ files: new MemoryFileTree(disk), clock, store: new MemoryStore() });
    await made.capture({ path: 'src', inlineBytesMax: 0, packBytesTarget: 3 * mib });
    return { made, expected: disk.describe('src') };
  })();

  const run = async (turns: number, inFlightBytes: number): Promise<SlowReader> => {
    const { made, expected } = await pod;
    const disk = new MemoryFileSystem();
    const files = new MemoryFileTree(disk);
    const store = new SlowReader(made.store, turns);
    const { access, lineage } = made;
    await restore({ store, access, lineage, files, path: 'out', laneCount: 2, lanes: lanesOf(files), inFlightBytes });
    expect(disk.describe('out')).toEqual(expected);
    return store;
  };

  it('reads each byte about once, in large ranges', async () => {
    const { made } = await pod;
    const packs = (await made.store.list('v1/')).filter(({ key }) => key.includes('/pk/'));
    const stored = packs.reduce((sum, { bytes }) => sum + bytes, 0);
    expect(packs.length).toBeGreaterThan(3);
    const { bytes, requests } = await run(0, 32 * mib);
    expect(bytes).toBeLessThan(1.3 * stored);
    expect(requests).toBeLessThan(40);
  });

  it('asks for no more at once than its budget, and for more from a slow store than from a fast one', async () => {
    const small = await run(30, 3 * mib);
    expect(small.mostOutstanding).toBeLessThanOrEqual(3 * mib);
    const slow = await run(200, 32 * mib);
    expect(slow.mostOutstanding).toBeGreaterThan(small.mostOutstanding);
    expect(slow.mostOutstanding).toBeLessThanOrEqual(32 * mib);
  });
});

describe('the ranges of globs', () => {
  const key = (path: string): Uint8Array => utf8Bytes(path.replaceAll('/', '\0'));

  it('are apart and ascending; one inside another is part of it', () => {
    const { ranges } = pathGlobs(['/z/y', 'a/b/*.db', 'a/b/c', 'a/*']);
    expect(ranges?.map(({ range }) => range)).toEqual([
      { from: key('a/'), to: utf8Bytes('a\x01') },
      { from: key('z/y'), to: utf8Bytes('z\0z') },
    ]);
  });

  it('are unknown when a glob may match anywhere', () => {
    expect(pathGlobs(['a/b', '*.db']).ranges).toBeUndefined();
    expect(pathGlobs([]).ranges).toBeUndefined();
  });

  it('end nowhere after the last byte there is', () => {
    expect(pathGlobs(['a/\u{10ffff}']).ranges?.[0]?.range.to).toEqual(
      utf8Bytes('a/\u{10ffff}'.replace('/', '\0')).map((byte, i, all) => (i === all.length - 1 ? byte + 1 : byte)),
    );
  });
});
