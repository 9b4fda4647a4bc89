import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chooseCompressor } from '../../../src/edge/host/choose-compressor.ts';
import type { HostCompressor } from '../../../src/edge/host/host-compressor.ts';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { logKey, packKey } from '../../../src/engine/format/object-keys.ts';
import type { PackEntry } from '../../../src/engine/format/pack-entry.ts';
import type { Place } from '../../../src/engine/model/entry.ts';
import { HoldfastError } from '../../../src/engine/model/errors.ts';
import { toSlot } from '../../../src/engine/model/ids.ts';
import type { ObjectReader } from '../../../src/engine/ports/object-store.ts';
import { SegmentSource } from '../../../src/engine/tree/segment-source.ts';
import {
  beginPack,
  setDataKey,
  setDomain,
  setLineage,
  setPublicKey,
  setRepository,
  storeCheckpoint,
  storePack,
} from '../../support/stored-set.ts';

let compressor: HostCompressor;

beforeAll(async () => {
  compressor = await chooseCompressor();
});

afterAll(() => compressor[Symbol.dispose]());

const part = (seed: number, length = 1000): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 17 + (i >> 5)) & 0xff);

/** Counts what is asked of a store. */
class CountingReader implements ObjectReader {
  readonly calls: string[] = [];
  readonly #store: ObjectReader;

  constructor(store: ObjectReader) {
    this.#store = store;
  }

  get: ObjectReader['get'] = (key, options) => {
    this.calls.push(`get ${key}`);
    return this.#store.get(key, options);
  };
  getRange: ObjectReader['getRange'] = (key, start, length, options) => {
    this.calls.push(`range ${start}+${length}`);
    return this.#store.getRange(key, start, length, options);
  };
  stat: ObjectReader['stat'] = (key, options) => this.#store.stat(key, options);
  list: ObjectReader['list'] = (prefix, options) => this.#store.list(prefix, options);
}

interface Fixture {
  readonly store: MemoryStore;
  readonly reader: CountingReader;
  readonly packs: readonly PackEntry[];
  /** Ten nodes in segments of 4 KiB of an object, then ten of an inlined pack. */
  readonly places: readonly Place[];
  readonly source: (options?: { readonly cacheBytes?: number; readonly packs?: readonly PackEntry[] }) => SegmentSource;
}

async function fixture(): Promise<Fixture> {
  const store = new MemoryStore();
  const reader = new CountingReader(store);
  const places: Place[] = [];
  const object = beginPack(compressor, 2, 0, { metaSegmentBytes: 4096 });
  for (let i = 0; i < 10; i++) places.push(object.writer.addMetadata(part(i)));
  const entry = await storePack(store, object.finish());
  const small = beginPack(compressor, 3, 1, { metaSegmentBytes: 4096 });
  for (let i = 10; i < 20; i++) places.push(small.writer.addMetadata(part(i)));
  const record = await storeCheckpoint(store, 3, { packs: [entry], inlined: [small.finish()] });
  const packs = record.header.packList.entries;
  const source: Fixture['source'] = (options = {}) =>
    new SegmentSource({
      store: reader,
      compressor,
      dataKeys: [setDataKey],
      publicKey: setPublicKey,
      repository: setRepository,
      domain: setDomain,
      lineage: setLineage,
      packs,
      ...options,
    });
  return { store, reader, packs, places, source };
}

/** Bytes that do not compress. */
const noise = (seed: number): Uint8Array => {
  let state = seed * 2654435761 + 1;
  return Uint8Array.from({ length: 4000 }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state >>> 24;
  });
};

/** A pack of so many nodes, each in a segment of its own. */
async function longPack(nodes: number) {
  const store = new MemoryStore();
  const reader = new CountingReader(store);
  const { writer, finish } = beginPack(compressor, 2, 0, { metaSegmentBytes: 4000 });
  const places = Array.from({ length: nodes }, (_, i) => writer.addMetadata(noise(i)));
  const packs = [await storePack(store, finish())];
  const segments = new SegmentSource({
    store: reader,
    compressor,
    dataKeys: [setDataKey],
    publicKey: setPublicKey,
    repository: setRepository,
    domain: setDomain,
    lineage: setLineage,
    packs,
    cacheBytes: 8000,
  });
  return { segments, places, reader };
}

const failure = async (run: () => unknown): Promise<HoldfastError> => {
  try {
    await run();
  } catch (error) {
    if (error instanceof HoldfastError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
};

describe('reading segments', () => {
  it('gives the bytes of every place, of packs that are objects and of inlined ones', async () => {
    const { source, places } = await fixture();
    const segments = source();
    for (const [i, place] of places.entries()) expect(await segments.load(place, 1000)).toEqual(part(i));
  });

  it('answers at once from the segments it read last, with one request a segment and one a footer', async () => {
    const { source, places, reader } = await fixture();
    const segments = source();
    const [first, second] = [places[0] as Place, places[1] as Place];
    const both = [segments.load(first, 1000), segments.load(second, 1000)];
    await Promise.all(both);
    expect(reader.calls.length).toBe(2);
    expect(segments.load(second, 1000)).toEqual(part(1));
    expect(reader.calls.length).toBe(2);
  });

  it('reads the record of an inlined pack once', async () => {
    const { source, places, reader } = await fixture();
    const segments = source();
    for (let i = 10; i < 20; i++) await segments.load(places[i] as Place, 1000);
    expect(reader.calls).toEqual([`get ${logKey(setLineage, toSlot(3))}`]);
  });

  it('keeps no more plaintext than its budget', async () => {
    const { source, places } = await fixture();
    const segments = source({ cacheBytes: 5000 });
    await segments.load(places[0] as Place, 1000);
    await segments.load(places[9] as Place, 1000);
    expect(segments.load(places[9] as Place, 1000)).toBeInstanceOf(Uint8Array);
    expect(segments.load(places[0] as Place, 1000)).toBeInstanceOf(Promise);
  });

  it('reads the metadata of a walk ahead, in ranges that grow, and each byte once', async () => {
    const { segments, places, reader } = await longPack(600);
    for (const [i, place] of places.entries()) expect(await segments.load(place, 4000)).toEqual(noise(i));
    const ranges = reader.calls.slice(1).map((call) => Number(call.split('+')[1]));
    expect(ranges.length).toBeLessThan(12);
    expect(Math.max(...ranges)).toBeLessThanOrEqual(512 * 1024);
    expect(ranges.reduce((sum, bytes) => sum + bytes, 0)).toBeLessThan(600 * 4100);
  });

  it('reads little for a look-up here and there', async () => {
    const { segments, places, reader } = await longPack(600);
    for (const i of [500, 20, 300]) expect(await segments.load(places[i] as Place, 4000)).toEqual(noise(i));
    const ranges = reader.calls.slice(1).map((call) => Number(call.split('+')[1]));
    expect(ranges.length).toBe(3);
    expect(Math.max(...ranges)).toBeLessThanOrEqual(64 * 1024);
  });

  it('gives what is left of a pack that lost its metadata behind it', async () => {
    const { segments, places, reader } = await longPack(40);
    await segments.locate(places[0] as Place);
    const whole = reader.getRange;
    reader.getRange = async (key, start, length, options) => {
      if (start + length > 50_000) throw new HoldfastError('E_DAMAGED', `${key} ends at byte 50000`);
      return await whole(key, start, length, options);
    };
    expect(await segments.load(places[2] as Place, 4000)).toEqual(noise(2));
    expect(await failure(() => segments.load(places[30] as Place, 4000))).toMatchObject({ code: 'E_DAMAGED' });
  });

  it('tells where a segment lies, also inside a record', async () => {
    const { source, places, store } = await fixture();
    const segments = source();
    for (const place of [places[5] as Place, places[15] as Place]) {
      const { key, start, length, plainBytes, pack } = await segments.locate(place);
      const sealed = await store.getRange(key, start, length);
      const plain = new Uint8Array(plainBytes);
      pack.reader.openSegment(place.segment, sealed, compressor, plain);
      expect(plain).toEqual(await segments.segment(place));
    }
  });
});

describe('damage', () => {
  it('names object and pack when the object is missing', async () => {
    const { source, places, store, packs } = await fixture();
    const name = `2-1-0-${packs[0]?.salt8}`;
    await store.delete(packKey(setLineage, name));
    const error = await failure(() => source().load(places[0] as Place, 1000));
    expect(error.code).toBe('E_DAMAGED');
    expect(error.details).toMatchObject({ key: packKey(setLineage, name), pack: name });
  });

  it('names the segment too when its bytes were changed', async () => {
    const { source, places, store, packs } = await fixture();
    const key = packKey(setLineage, `2-1-0-${packs[0]?.salt8}`);
    const bytes = (await store.get(key, { bytesMax: 1e6 })) as Uint8Array;
    const { start } = await source().locate(places[5] as Place);
    bytes[start + 3] = (bytes[start + 3] as number) ^ 1;
    await store.delete(key);
    await store.create(key, bytes);
    const segments = source();
    expect(await segments.load(places[0] as Place, 1000)).toEqual(part(0));
    const place = places[5] as Place;
    const error = await failure(() => segments.load(place, 1000));
    expect(error.code).toBe('E_DAMAGED');
    expect(error.details).toMatchObject({ key, segment: place.segment });
    expect(error.message).toContain(key);
    // Nothing of it is remembered.
    expect((await failure(() => segments.load(place, 1000))).code).toBe('E_DAMAGED');
  });

  it('finds every changed byte of a record that holds a pack', async () => {
    const { source, places, store } = await fixture();
    const key = logKey(setLineage, toSlot(3));
    const bytes = (await store.get(key, { bytesMax: 1e7 })) as Uint8Array;
    for (let at = 0; at < bytes.length; at += 97) {
      const changed = bytes.slice();
      changed[at] = (changed[at] as number) ^ 0x40;
      await store.delete(key);
      await store.create(key, changed);
      const outcome = await Promise.resolve(source().load(places[12] as Place, 1000)).then(
        () => 'read',
        (error: HoldfastError) => error.code,
      );
      // The last flags of the envelope may be ignored by a reader, but its seal covers them.
      expect(outcome).toBe('E_DAMAGED');
    }
  });

  it('refuses places outside of what there is', async () => {
    const { source, places } = await fixture();
    const place = places[0] as Place;
    for (const wrong of [
      { ...place, pack: 7 },
      { ...place, origin: 1 },
      { ...place, segment: 1000 },
      { ...place, offset: 1_000_000 },
    ]) {
      expect((await failure(() => source().load(wrong, 1000))).code).toBe('E_DAMAGED');
    }
    expect((await failure(() => source().load(place, 2 ** 40))).code).toBe('E_DAMAGED');
  });

  it('allocates nothing by the lengths of a record that was signed by somebody hostile', async () => {
    const { source, places, packs, reader } = await fixture();
    const [entry, inlined] = packs as [PackEntry, PackEntry];
    const huge = [
      { ...entry, bytes: 2 ** 40, footerBytes: 2 ** 39 },
      { ...inlined, bytes: 2 ** 40, footerBytes: 2 ** 39 },
    ];
    for (const place of [places[0] as Place, places[10] as Place]) {
      const error = await failure(() => source({ packs: huge }).load(place, 1000));
      expect(error.code).toBe('E_DAMAGED');
    }
    expect(reader.calls.some((call) => call.startsWith('range'))).toBe(false);
  });
});
