import { describe, expect, it } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { utf8Bytes } from '../../../src/engine/model/bytes.ts';
import { FileTreeError } from '../../../src/engine/ports/file-tree.ts';
import type { ObjectReader } from '../../../src/engine/ports/object-store.ts';
import { pathGlobs } from '../../../src/engine/rehydrate/selection.ts';
import { ManualClock, Pod } from '../../support/capture-fixture.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';
import { lanesOf, MemoryMarker, restore } from '../../support/restore-fixture.ts';

const mib = 1024 * 1024;

/** Answers late, and tells how many bytes were asked for at once. */
class SlowReader implements ObjectReader {
  readonly #store: ObjectReader;
  readonly #turns: number;
  requests = 0;
  bytes = 0;
  largest = 0;
  outstanding = 0;
  mostOutstanding = 0;
  /** Most ends of packs that were on their way at once. */
  footersAtOnce = 0;
  #footers = 0;

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
    this.largest = Math.max(this.largest, length);
    this.outstanding += length;
    this.mostOutstanding = Math.max(this.mostOutstanding, this.outstanding);
    const footer = length < 4096 ? 1 : 0;
    this.#footers += footer;
    this.footersAtOnce = Math.max(this.footersAtOnce, this.#footers);
    for (let i = 0; i < this.#turns; i++) await new Promise((resolve) => setImmediate(resolve));
    this.outstanding -= length;
    this.#footers -= footer;
    return await this.#store.getRange(key, start, length, options);
  };
}

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

describe('a restore', () => {
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

  it('opens its packs side by side', async () => {
    expect((await run(100, 32 * mib)).footersAtOnce).toBeGreaterThan(3);
  });

  it('tells what goes wrong while it writes back beside its audit', async () => {
    const { store, access, lineage } = (await pod).made;
    const files = new MemoryFileTree(new MemoryFileSystem());
    const marker = new MemoryMarker();
    // Of two syncs of one descriptor the kernel tells the first alone.
    const failing = (): never => {
      throw new FileTreeError('EIO', 'syncFileSystem');
    };
    const inLanes = new Proxy(files, {
      get: (target, name: keyof MemoryFileTree) => {
        if (name === 'syncFileSystem') return failing;
        const value: unknown = target[name];
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    await expect(
      restore({ store, access, lineage, files, path: 'out', laneCount: 2, lanes: lanesOf(inLanes), marker }),
    ).rejects.toMatchObject({ code: 'E_TARGET_IO' });
    expect(marker.saved).toEqual(['started']);
  });
});

describe('a damaged segment', () => {
  it('costs only its files, though others came in the same range', async () => {
    const { made, expected } = await pod;
    const store = new MemoryStore();
    const packs: string[] = [];
    for (const { key, bytes } of await made.store.list('v1/')) {
      if (key.includes('/pk/')) packs.push(key);
      await store.create(key, (await made.store.get(key, { bytesMax: bytes })) as Uint8Array);
    }
    const [key] = packs.sort();
    const bytes = (await store.get(key as string, { bytesMax: 100 * mib })) as Uint8Array;
    // In the middle of the first pack, of which several segments come at once.
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 1;
    await store.delete(key as string);
    await store.create(key as string, bytes);
    const disk = new MemoryFileSystem();
    const files = new MemoryFileTree(disk);
    const slow = new SlowReader(store, 20);
    const { access, lineage } = made;
    const request = { store: slow, access, lineage, files, path: 'out', laneCount: 2, lanes: lanesOf(files) };
    const error = await restore(request).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'E_DAMAGED' });
    expect(slow.largest).toBeGreaterThan(2 * mib);
    const restored = new Set(disk.describe('out'));
    const lost = expected.filter((line) => !restored.has(line));
    expect(lost.length).toBeGreaterThan(0);
    // A segment of 1 MiB holds about 130 files of 8000 bytes.
    expect(lost.length).toBeLessThan(140);
    expect(restored.size).toBe(expected.length - lost.length);
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
