import { createCipheriv, createHash } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chooseCompressor } from '../../../src/edge/host/choose-compressor.ts';
import type { HostCompressor } from '../../../src/edge/host/host-compressor.ts';
import { type DataKey, deriveDomainKeys, toDataKey } from '../../../src/engine/format/keys.ts';
import {
  checkPackHeader,
  headerBytes,
  type PackIdentity,
  PackReader,
  type PackSummary,
  PackWriter,
  type PackWriterOptions,
  packName,
  readTrailer,
  segmentPlainBytesMax,
  trailerBytes,
} from '../../../src/engine/format/pack.ts';
import { mixSalt, PackSeal, partKind, storeMethod } from '../../../src/engine/format/pack-seal.ts';
import { paddedBytes } from '../../../src/engine/format/padding.ts';
import { ByteWriter, concatBytes, equalBytes } from '../../../src/engine/model/bytes.ts';
import type { Place } from '../../../src/engine/model/entry.ts';
import { HoldfastError } from '../../../src/engine/model/errors.ts';
import { toEpoch, toLineageName, toSlot } from '../../../src/engine/model/ids.ts';

let compressor: HostCompressor;

beforeAll(async () => {
  compressor = await chooseCompressor();
});

afterAll(() => compressor[Symbol.dispose]());

const keys = deriveDomainKeys(new Uint8Array(32).fill(1));
const encrypted = toDataKey(3, new Uint8Array(32).fill(2), keys.plainTagKey);
const plain = toDataKey(3, undefined, keys.plainTagKey);
const identity: PackIdentity = {
  repository: 'c0ffee',
  domain: 'team/app',
  lineage: toLineageName('team/app/0'),
  slot: toSlot(17),
  epoch: toEpoch(12),
  pack: 4,
};
const salt = Uint8Array.from({ length: 32 }, (_, i) => 0xa0 + i);

/** Repeatable bytes that do not compress. */
function randomOf(length: number, seed: number): Uint8Array {
  const cipher = createCipheriv('aes-256-ctr', new Uint8Array(32).fill(seed), new Uint8Array(16));
  return new Uint8Array(cipher.update(new Uint8Array(length)));
}

function textOf(length: number, seed: number): Uint8Array {
  return Uint8Array.from(Buffer.alloc(length, `line ${seed}: the quick brown fox\n`));
}

interface Written {
  readonly bytes: Uint8Array;
  readonly summary: PackSummary;
}

function write(
  fill: (writer: PackWriter) => void,
  options: Partial<Omit<PackWriterOptions, 'emit' | 'compressor'>> = {},
): Written {
  const parts: Uint8Array[] = [];
  const writer = new PackWriter({
    identity,
    dataKey: encrypted,
    salt,
    compressor,
    level: 1,
    dataSegmentBytes: 4096,
    metaSegmentBytes: 1024,
    ...options,
    emit: (bytes) => parts.push(bytes.slice()),
  });
  fill(writer);
  const summary = writer.finish();
  expect(summary.name).toBe(writer.name);
  return { bytes: concatBytes(parts), summary };
}

function open(pack: Written, dataKey: DataKey = encrypted, of: PackIdentity = identity): PackReader {
  const { bytes, summary } = pack;
  const { footerBytes } = readTrailer(bytes.subarray(-trailerBytes), summary.name);
  return PackReader.open(summary.name, of, dataKey, bytes.subarray(-footerBytes), bytes.length);
}

function readSegment(reader: PackReader, bytes: Uint8Array, number: number): Uint8Array {
  const { start, length, plainBytes } = reader.segmentRange(number);
  const into = new Uint8Array(plainBytes + 100).fill(0x5a);
  expect(reader.openSegment(number, bytes.subarray(start, start + length), compressor, into)).toBe(plainBytes);
  expect(into.subarray(plainBytes).every((byte) => byte === 0x5a)).toBe(true);
  return into.slice(0, plainBytes);
}

/** Everything of a pack, as `verify --read-data` would. */
function readAll(pack: Written, dataKey: DataKey = encrypted, of: PackIdentity = identity): Uint8Array[] {
  checkPackHeader(pack.bytes.subarray(0, headerBytes), dataKey, pack.summary.name);
  const reader = open(pack, dataKey, of);
  return Array.from({ length: reader.segments }, (_, i) => readSegment(reader, pack.bytes, i));
}

function damageOf(work: () => unknown): HoldfastError {
  try {
    work();
  } catch (error) {
    expect(error instanceof HoldfastError && error.code, String(error)).toBe('E_DAMAGED');
    return error as HoldfastError;
  }
  throw new Error('was not refused');
}

function flipped(bytes: Uint8Array, at: number, mask: number): Uint8Array {
  const changed = bytes.slice();
  changed[at] = (changed[at] as number) ^ mask;
  return changed;
}

type Step = { readonly kind: 'data' | 'meta'; readonly bytes: Uint8Array } | { readonly kind: 'flush' };

const steps = fc.array(
  fc
    .oneof(
      { weight: 6, arbitrary: fc.tuple(fc.integer({ min: 1, max: 3000 }), fc.nat(99), fc.boolean(), fc.boolean()) },
      { weight: 1, arbitrary: fc.constant(undefined) },
    )
    .map((drawn): Step => {
      if (drawn === undefined) return { kind: 'flush' };
      const [length, seed, meta, random] = drawn;
      return { kind: meta ? 'meta' : 'data', bytes: random ? randomOf(length, seed) : textOf(length, seed) };
    }),
  { maxLength: 40 },
);

describe.each([
  ['encrypted', encrypted],
  ['without encryption', plain],
])('a pack %s', (_, dataKey) => {
  it('gives back at its place whatever was added, in any mixture', () => {
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 5000 }), fc.boolean(), (list, target, isolated) => {
        const added: { readonly bytes: Uint8Array; readonly place: Place }[] = [];
        const pack = write(
          (writer) => {
            for (const step of list) {
              if (step.kind === 'flush') {
                writer.flush();
                expect(writer.bufferedBytes).toBe(0);
              } else if (step.kind === 'meta') {
                added.push({ bytes: step.bytes, place: writer.addMetadata(step.bytes) });
              } else {
                const around = concatBytes([randomOf(3, 1), step.bytes, randomOf(2, 2)]);
                added.push({ bytes: step.bytes, place: writer.addData(around, 3, 3 + step.bytes.length) });
              }
            }
          },
          { dataKey, dataSegmentBytes: target, metaSegmentBytes: Math.ceil(target / 3), isolated },
        );
        const segments = readAll(pack, dataKey);
        for (const { bytes, place } of added) {
          expect(place).toMatchObject({ origin: 0, slot: 17, pack: 4 });
          const segment = segments[place.segment] as Uint8Array;
          expect(equalBytes(segment.subarray(place.offset, place.offset + bytes.length), bytes)).toBe(true);
        }
        const { summary } = pack;
        expect(summary.bytes).toBe(pack.bytes.length);
        expect(summary.segments).toBe(segments.length);
        const sum = (kind: string) =>
          list.reduce((total, step) => total + (step.kind === kind && 'bytes' in step ? step.bytes.length : 0), 0);
        expect(summary.dataPlainBytes).toBe(sum('data'));
        expect(summary.metaPlainBytes).toBe(sum('meta'));
        expect(summary.footerBytes).toBe(readTrailer(pack.bytes, 'pack').footerBytes);
      }),
      { numRuns: 60 },
    );
  });

  it('shows every changed bit, wherever it is', () => {
    const pack = write(
      (writer) => {
        writer.addData(textOf(900, 1), 0, 900);
        writer.addMetadata(randomOf(300, 2));
        writer.addData(randomOf(60, 3), 0, 60);
      },
      { dataKey },
    );
    readAll(pack, dataKey);
    for (let i = 0; i < pack.bytes.length; i++) {
      const mask = 1 << (i % 8);
      damageOf(() => readAll({ ...pack, bytes: flipped(pack.bytes, i, mask) }, dataKey));
    }
  });

  it('is refused cut, extended or shifted', () => {
    const pack = write((writer) => writer.addData(randomOf(2000, 1), 0, 2000), { dataKey });
    const { bytes } = pack;
    for (const length of [0, 1, trailerBytes - 1, trailerBytes, 500, bytes.length - 1]) {
      damageOf(() => readAll({ ...pack, bytes: bytes.subarray(0, length) }, dataKey));
      damageOf(() => readAll({ ...pack, bytes: bytes.subarray(bytes.length - length) }, dataKey));
    }
    for (const extra of [Uint8Array.of(0), bytes]) {
      damageOf(() => readAll({ ...pack, bytes: concatBytes([bytes, extra]) }, dataKey));
      damageOf(() => readAll({ ...pack, bytes: concatBytes([extra, bytes]) }, dataKey));
    }
    // Without its segments, but with a whole footer and the length that the store would report.
    damageOf(() => open({ ...pack, bytes: bytes.subarray(1500) }, dataKey));
  });

  it('opens with nothing but its own key, name and identity', () => {
    const pack = write((writer) => writer.addData(randomOf(2000, 1), 0, 2000), { dataKey });
    const other = deriveDomainKeys(new Uint8Array(32).fill(9));
    const key = dataKey.key;
    const wrongKeys: readonly DataKey[] = [
      key === undefined
        ? toDataKey(3, undefined, other.plainTagKey)
        : toDataKey(3, flipped(key, 5, 1), keys.plainTagKey),
      toDataKey(2, key, keys.plainTagKey),
      key === undefined ? encrypted : plain,
    ];
    for (const wrong of wrongKeys) damageOf(() => open(pack, wrong));
    const others: readonly Partial<PackIdentity>[] = [
      { repository: 'c0ffef' },
      { domain: 'team/apq' },
      { lineage: toLineageName('team/app/1') },
      { slot: toSlot(18) },
      { epoch: toEpoch(11) },
      { pack: 5 },
    ];
    for (const change of others) damageOf(() => open(pack, dataKey, { ...identity, ...change }));
    // Renamed to what the other identity would be called, as an attacker with the bucket could.
    for (const change of others) {
      const of = { ...identity, ...change };
      const renamed = { ...pack, summary: { ...pack.summary, name: packName(of, salt) } };
      damageOf(() => open(renamed, dataKey, of));
    }
  });

  it('notices segments that changed places, inside it or between packs', () => {
    const fill = (seed: number) => (writer: PackWriter) => {
      for (let i = 0; i < 3; i++) writer.addData(randomOf(4096, seed + i), 0, 4096);
    };
    const one = write(fill(1), { dataKey });
    const two = write(fill(1), { dataKey, salt: flipped(salt, 31, 1) });
    const [readerOne, readerTwo] = [open(one, dataKey), open(two, dataKey)];
    const [a, b] = [readerOne.segmentRange(0), readerOne.segmentRange(1)];
    expect(a.length).toBe(b.length);
    const swapped = one.bytes.slice();
    swapped.set(one.bytes.subarray(a.start, a.start + a.length), b.start);
    const error = damageOf(() => readSegment(readerOne, swapped, 1));
    expect(error.message).toContain(`pack ${one.summary.name}, segment 1`);
    expect(error.details).toMatchObject({ pack: one.summary.name, segment: 1 });
    damageOf(() => readSegment(readerOne, two.bytes, 0));
    damageOf(() => readSegment(readerTwo, one.bytes, 2));
  });
});

describe('the pack writer', () => {
  it('gives places at once, final, also while both kinds of segment are open', () => {
    write((writer) => {
      expect(writer.addData(textOf(10, 1), 0, 10)).toEqual({ origin: 0, slot: 17, pack: 4, segment: 0, offset: 0 });
      expect(writer.addMetadata(textOf(20, 1))).toMatchObject({ segment: 1, offset: 0 });
      expect(writer.addData(textOf(10, 1), 2, 7)).toMatchObject({ segment: 0, offset: 10 });
      expect(writer.addMetadata(textOf(20, 1))).toMatchObject({ segment: 1, offset: 20 });
      expect(writer.bufferedBytes).toBe(55);
      expect(writer.emittedBytes).toBe(2 * 12);
      // Does not fit any more: a segment of its own, since nothing spans two.
      expect(writer.addData(textOf(4090, 1), 0, 4090)).toMatchObject({ segment: 2, offset: 0 });
      expect(writer.emittedBytes).toBeGreaterThan(headerBytes + 24);
      // As large as the target, or larger.
      expect(writer.addData(textOf(4096, 1), 0, 4096)).toMatchObject({ segment: 3, offset: 0 });
      expect(writer.addData(textOf(9000, 1), 0, 9000)).toMatchObject({ segment: 4, offset: 0 });
      expect(writer.addData(textOf(1, 1), 0, 1)).toMatchObject({ segment: 5, offset: 0 });
      expect(writer.addMetadata(textOf(20, 1))).toMatchObject({ segment: 1, offset: 40 });
    });
  });

  it('takes a chunk of 1 MiB and a node of 8 MiB whole, however small the targets are', () => {
    const chunk = textOf(segmentPlainBytesMax, 1);
    const node = textOf(8 * segmentPlainBytesMax, 2);
    const places: Place[] = [];
    const pack = write((writer) => {
      places.push(writer.addMetadata(node));
      places.push(writer.addData(chunk, 0, chunk.length));
    });
    const segments = readAll(pack);
    expect(equalBytes(segments[places[0]?.segment ?? 9] as Uint8Array, node)).toBe(true);
    expect(equalBytes(segments[places[1]?.segment ?? 9] as Uint8Array, chunk)).toBe(true);
  });

  it('stores as it is what does not shrink', () => {
    const pack = write((writer) => {
      writer.addData(randomOf(4000, 1), 0, 4000);
      writer.flush();
      writer.addData(textOf(4000, 1), 0, 4000);
    });
    const reader = open(pack);
    expect(reader.segmentRange(0)).toMatchObject({ length: 4016, plainBytes: 4000, kind: 'data' });
    expect(reader.segmentRange(1).length).toBeLessThan(200);
  });

  it('emits what it made once, in order, and adds up', () => {
    let emitted = 0;
    const { summary } = write((writer) => {
      const before = writer.emittedBytes;
      for (let i = 0; i < 50; i++) writer.addData(randomOf(1000, i), 0, 1000);
      expect(writer.emittedBytes).toBeGreaterThan(before);
      emitted = writer.emittedBytes;
    });
    expect(summary.bytes).toBeGreaterThan(emitted);
  });

  it('refuses misuse', () => {
    const make = (options: Partial<PackWriterOptions>) => () => write(() => {}, options);
    expect(make({ salt: salt.subarray(1) })).toThrow(/32 bytes/);
    expect(make({ dataSegmentBytes: segmentPlainBytesMax + 1 })).toThrow(/1 MiB/);
    expect(make({ metaSegmentBytes: 0 })).toThrow(/1 MiB/);
    write((writer) => {
      expect(() => writer.addData(textOf(10, 1), 5, 5)).toThrow(/inside/);
      expect(() => writer.addData(textOf(10, 1), 0, 11)).toThrow(/inside/);
      expect(() => writer.addMetadata(new Uint8Array(0))).toThrow(/inside/);
      const large = new Uint8Array(8 * segmentPlainBytesMax + 1);
      expect(() => writer.addData(large, 0, segmentPlainBytesMax + 1)).toThrow(/1 MiB/);
      expect(() => writer.addMetadata(large)).toThrow(/8 MiB/);
    });
    let finished: PackWriter | undefined;
    write((writer) => {
      finished = writer;
    });
    expect(() => finished?.addData(textOf(10, 1), 0, 10)).toThrow(/finished/);
    expect(() => finished?.addMetadata(textOf(10, 1))).toThrow(/finished/);
    expect(() => finished?.finish()).toThrow(/finished/);
  });

  it('keeps memory flat over a hundred megabytes', () => {
    const chunk = randomOf(200_000, 1);
    const before = process.memoryUsage().arrayBuffers;
    let most = 0;
    const writer = new PackWriter({
      identity,
      dataKey: encrypted,
      salt,
      compressor,
      level: 1,
      dataSegmentBytes: 512 * 1024,
      metaSegmentBytes: 65_536,
      emit: () => {
        most = Math.max(most, process.memoryUsage().arrayBuffers - before);
      },
    });
    for (let i = 0; i < 500; i++) writer.addData(chunk, 0, chunk.length);
    writer.finish();
    expect(most).toBeLessThan(6_000_000);
  });
});

describe('what a pack shows', () => {
  it('has one of few sizes while it is small, at least 1 KiB, and is not padded from 1 MiB on', () => {
    const sizeOf = (data: number) => write((writer) => writer.addData(randomOf(data, 1), 0, data)).bytes.length;
    const sizes = new Set<number>();
    for (let data = 1; data < 900; data += 50) sizes.add(sizeOf(data));
    for (let data = 10_000; data < 20_000; data += 500) sizes.add(sizeOf(data));
    for (const size of sizes) {
      expect(size).toBeGreaterThanOrEqual(1024);
      expect(paddedBytes(size)).toBe(size);
    }
    expect(sizes.size).toBeLessThan(25);
    const large = write((writer) => {
      for (let i = 0; i < 3; i++) writer.addData(randomOf(400_000, i), 0, 400_000);
    });
    expect(large.summary.segments).toBe(3);
    expect(large.bytes.length).toBeLessThan(1_201_000);
  });

  it('shows neither the number nor the length of the segments of a small pack', () => {
    const shape = (lengths: readonly number[]) => {
      const { bytes, summary } = write((writer) => {
        for (const [i, length] of lengths.entries()) {
          writer.addData(randomOf(length, i), 0, length);
          writer.flush();
        }
      });
      return [bytes.length, summary.footerBytes];
    };
    expect(shape([5000, 60])).toEqual(shape([20, 2000, 500, 1000, 1500]));
  });

  it('holds no byte pattern of its content, and nothing equal in two packs of equal content', () => {
    const secret = textOf(3000, 1);
    const fill = (writer: PackWriter) => void writer.addData(secret, 0, secret.length);
    const one = write(fill).bytes;
    const two = write(fill, { salt: flipped(salt, 31, 1) }).bytes;
    expect(one.length).toBe(two.length);
    expect(Buffer.from(one).includes('quick')).toBe(false);
    let equal = 0;
    for (let i = headerBytes; i < one.length - trailerBytes; i++) if (one[i] === two[i]) equal++;
    expect(equal).toBeLessThan(one.length / 100);
    // The digest of the first plaintext stands in clear.
    expect(one.subarray(-32, -16)).not.toEqual(two.subarray(-32, -16));
  });

  it('shows a correct guess in the same frame, unless frames are isolated', () => {
    const secret = new TextEncoder().encode('password=b1946ac92492d2347c6235b4d2611184');
    const size = (guess: string, isolated: boolean) => {
      const filler = textOf(2000, 7);
      const bytes = new TextEncoder().encode(`password=${guess}`);
      const { bytes: pack } = write(
        (writer) => {
          writer.addData(filler, 0, filler.length);
          writer.addData(secret, 0, secret.length);
          writer.addData(bytes, 0, bytes.length);
        },
        { isolated },
      );
      const reader = open({ bytes: pack, summary: { name: packName(identity, salt) } as PackSummary });
      let stored = 0;
      for (let i = 0; i < reader.segments - 1; i++) stored += reader.segmentRange(i).length;
      return stored;
    };
    const [right, wrong] = ['b1946ac92492d2347c6235b4d2611184', 'f52de9a0c73b18645e80d1f7a2496b3c'];
    expect(size(right, false)).toBeLessThan(size(wrong, false) - 10);
    expect(size(right, true)).toBe(size(wrong, true));
  });
});

describe('salts', () => {
  it('give the pack its name, as its first four bytes', () => {
    expect(packName(identity, salt)).toBe('17-12-4-a0a1a2a3');
  });

  it('that repeat by accident still give another key when the first plaintext differs', () => {
    const second = randomOf(4096, 2);
    const ciphertext = (first: Uint8Array) => {
      const pack = write((writer) => {
        writer.addData(first, 0, first.length);
        writer.addData(second, 0, second.length);
      });
      const { start, length } = open(pack).segmentRange(1);
      return pack.bytes.slice(start, start + length);
    };
    const one = ciphertext(randomOf(4096, 1));
    expect(equalBytes(one, ciphertext(randomOf(4096, 1)))).toBe(true);
    expect(equalBytes(one, ciphertext(flipped(randomOf(4096, 1), 4095, 1)))).toBe(false);
  });

  it('are mixed from every part of their context, without ambiguity', () => {
    const random = new Uint8Array(32).fill(1);
    const variants = [
      [random, ['boot', 'holder', 5]],
      [random, ['boot', 'holder', 6]],
      [random, ['boot', 'holder']],
      [random, ['boothold', 'er', 5]],
      [random, []],
      [flipped(random, 0, 1), ['boot', 'holder', 5]],
    ] as const;
    const salts = variants.map(([bytes, context]) => Buffer.from(mixSalt(bytes, context)).toString('hex'));
    expect(new Set(salts).size).toBe(variants.length);
    for (const text of salts) expect(text).toHaveLength(64);
    expect(mixSalt(random, ['a'])).toEqual(mixSalt(random, ['a']));
    expect(() => mixSalt(random.subarray(1), [])).toThrow(/32/);
  });
});

/** A pack as somebody with the keys could forge it: any table over any body. */
function forge(
  body: Uint8Array,
  table: readonly (readonly [number, number, number])[],
  segments = table.length,
  count = segments,
) {
  const name = packName(identity, salt);
  const context = new ByteWriter();
  for (const text of ['holdfast/1/pack', identity.repository, identity.domain, identity.lineage]) context.text(text);
  for (const number of [identity.slot, identity.epoch, identity.pack, encrypted.generation]) context.varint(number);
  const firstDigest = new Uint8Array(16);
  const seal = new PackSeal(context.take(), name, encrypted, salt, firstDigest);
  const plainTable = new Uint8Array(Math.ceil((4 + segments * 12) / 256) * 256);
  const view = new DataView(plainTable.buffer);
  view.setUint32(0, count, true);
  for (const [i, row] of table.entries()) {
    for (const [j, value] of row.entries()) view.setUint32(4 + i * 12 + j * 4, value, true);
  }
  const footer = new Uint8Array(plainTable.length + 16);
  const packBytes = 8 + body.length + footer.length + trailerBytes;
  seal.seal(
    { number: 0xffff_ffff, kind: partKind.footer, method: storeMethod.raw, plainBytes: packBytes },
    plainTable,
    footer,
  );
  const trailer = new ByteWriter();
  trailer.raw(salt);
  trailer.raw(firstDigest);
  for (const number of [encrypted.generation, footer.length, 0x0101]) trailer.u32(number);
  trailer.raw(new TextEncoder().encode('KPFH'));
  const bytes = concatBytes([Uint8Array.of(0x48, 0x46, 0x50, 0x4b, 1, 1, 0, 0), body, footer, trailer.take()]);
  return { pack: { bytes, summary: { name } as PackSummary }, seal };
}

describe('a pack forged with the right key', () => {
  const data = (plainBytes: number, method: number, kind = 0) => plainBytes | (kind << 24) | (method << 26);
  const zstd = 1;
  const raw = 0;

  it('is read when its table is possible', () => {
    expect(open(forge(new Uint8Array(116), [[0, 116, data(100, raw)]]).pack).segmentRange(0)).toEqual({
      start: 8,
      length: 116,
      plainBytes: 100,
      kind: 'data',
    });
    expect(open(forge(new Uint8Array(50), [[0, 50, data(1 << 20, zstd)]]).pack).segmentRange(0).plainBytes).toBe(
      1 << 20,
    );
  });

  it.each<[string, number, readonly (readonly [number, number, number])[], number?]>([
    ['a bomb above 1 MiB', 50, [[0, 50, data((1 << 20) + 1, zstd)]]],
    ['the largest length there is', 50, [[0, 50, data(0xff_ffff, zstd)]]],
    ['a raw segment of another length', 116, [[0, 116, data(99, raw)]]],
    ['raw data above 1 MiB', (1 << 20) + 17, [[0, (1 << 20) + 17, data((1 << 20) + 1, raw)]]],
    ['a raw node above 8 MiB', (8 << 20) + 17, [[0, (8 << 20) + 17, data((8 << 20) + 1, raw, 1)]]],
    ['a frame that did not shrink', 116, [[0, 116, data(100, zstd)]]],
    ['an empty segment', 16, [[0, 16, data(0, raw)]]],
    ['a segment without a tag', 15, [[0, 15, data(10, zstd)]]],
    ['compressed padding', 50, [[0, 50, data(1000, zstd, 2)]]],
    ['an unknown kind', 116, [[0, 116, data(100, raw, 3)]]],
    ['unknown bits', 116, [[0, 116, data(100, raw) | (1 << 27)]]],
    [
      'a number twice',
      232,
      [
        [0, 116, data(100, raw)],
        [0, 116, data(100, raw)],
      ],
    ],
    ['a number that is too high', 116, [[1, 116, data(100, raw)]]],
    ['segments longer than the pack', 100, [[0, 116, data(100, raw)]]],
    ['bytes that belong to no segment', 200, [[0, 116, data(100, raw)]]],
    [
      'an entry too many',
      116,
      [
        [0, 116, data(100, raw)],
        [1, 116, data(100, raw)],
      ],
      1,
    ],
    ['4 GiB of it', 50, [[0, 0xffff_ffff, data(100, raw)]]],
  ])('is refused with %s', (_, bodyBytes, table, segments) => {
    damageOf(() => open(forge(new Uint8Array(bodyBytes), table, segments).pack));
  });

  it('is refused with a segment count that no table of that length holds', () => {
    const table = [[0, 116, data(100, raw)]] as const;
    open(forge(new Uint8Array(116), table).pack);
    for (const count of [0, 2, 21, 22, 2 ** 22 + 1, 2 ** 32 - 1]) {
      damageOf(() => open(forge(new Uint8Array(116), table, 1, count).pack));
    }
  });

  it('cannot make a frame expand beyond what its table says', () => {
    const bomb = new Uint8Array(compressor.boundBytes(1_000_000));
    const bombBytes = compressor.compress(new Uint8Array(1_000_000), bomb, 0, 1);
    const frames = [bomb.subarray(0, bombBytes), randomOf(60, 1), new Uint8Array(40)];
    for (const frame of frames) {
      const facts = [0, frame.length + 16, data(5000, zstd)] as const;
      const body = new Uint8Array(frame.length + 16);
      const { pack, seal } = forge(body, [facts]);
      seal.seal({ number: 0, kind: 0, method: 1, plainBytes: 5000 }, frame, body);
      pack.bytes.set(body, 8);
      const error = damageOf(() => readSegment(open(pack), pack.bytes, 0));
      expect(error.message).toContain('segment 0: its content does not decompress');
      expect(error.cause).toBeInstanceOf(HoldfastError);
    }
  });
});

describe('the pack reader', () => {
  it('takes a longer end than it needs, such as a whole small pack', () => {
    const pack = write((writer) => writer.addData(textOf(500, 1), 0, 500));
    const reader = PackReader.open(pack.summary.name, identity, encrypted, pack.bytes, pack.bytes.length);
    expect(readSegment(reader, pack.bytes, 0)).toEqual(textOf(500, 1));
  });

  it('refuses segments that do not exist, ranges of another length, and a buffer that is too small', () => {
    const pack = write((writer) => writer.addData(textOf(500, 1), 0, 500));
    const reader = open(pack);
    for (const number of [-1, 2, 1.5, Number.NaN, 2 ** 32]) {
      damageOf(() => reader.segmentRange(number));
      damageOf(() => reader.openSegment(number, new Uint8Array(50), compressor, new Uint8Array(5000)));
    }
    const { start, length } = reader.segmentRange(0);
    const into = new Uint8Array(500);
    damageOf(() => reader.openSegment(0, pack.bytes.subarray(start, start + length - 1), compressor, into));
    damageOf(() => reader.openSegment(0, pack.bytes.subarray(start, start + length + 1), compressor, into));
    const sealed = pack.bytes.subarray(start, start + length);
    expect(() => reader.openSegment(0, sealed, compressor, new Uint8Array(499))).toThrow(/enough room/);
  });

  it('tells which generation of the key to fetch', () => {
    const pack = write((writer) => writer.addData(textOf(500, 1), 0, 500), {
      dataKey: toDataKey(77, new Uint8Array(32), keys.plainTagKey),
    });
    expect(readTrailer(pack.bytes.subarray(-trailerBytes), 'pack')).toEqual({
      footerBytes: pack.summary.footerBytes,
      generation: 77,
    });
  });

  it('survives any bytes', () => {
    const pack = write((writer) => writer.addData(textOf(500, 1), 0, 500));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), fc.nat(500), (noise, keep) => {
        const end = concatBytes([noise, pack.bytes.subarray(pack.bytes.length - trailerBytes - keep + noise.length)]);
        damageOf(() => PackReader.open(pack.summary.name, identity, encrypted, end.subarray(0, -1), pack.bytes.length));
        damageOf(() => PackReader.open(pack.summary.name, identity, encrypted, noise, noise.length));
      }),
    );
  });
});

it('packs keep their bytes for good', () => {
  const digest = (dataKey: DataKey) => {
    const { bytes, summary } = write(
      (writer) => {
        for (let i = 1; i <= 20; i++) {
          writer.addData(randomOf(i * 100, i), 0, i * 100);
          writer.addMetadata(randomOf(i * 10, 100 + i));
        }
      },
      { dataKey },
    );
    return [summary.bytes, createHash('sha256').update(bytes).digest('hex')];
  };
  // Incompressible content, so that no version of zstd has a say.
  expect(digest(encrypted)).toEqual([24_576, '991ef1600d5ce71c4b50f321296b207a346c9fcb97812c45e6231a8e0f5e38e7']);
  expect(digest(plain)).toEqual([24_576, '92cac32642f8ff2197393791daca531e635e06ef3b87471e89feb5183774d4cf']);
});

describe('padded sizes', () => {
  it('are at least the size, cost below 12 %, and are few', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 31 }), (bytes) => {
        const padded = paddedBytes(bytes);
        expect(padded).toBeGreaterThanOrEqual(bytes);
        expect(padded).toBeLessThanOrEqual(Math.max(1024, bytes * 1.12));
        expect(paddedBytes(padded)).toBe(padded);
      }),
    );
    const sizes = new Set<number>();
    for (let bytes = 1; bytes <= 2 ** 20; bytes += 7) sizes.add(paddedBytes(bytes));
    expect(sizes.size).toBeLessThan(256);
    expect([1, 1024, 1025, 10_000, 70_000].map(paddedBytes)).toEqual([1024, 1024, 1088, 10_240, 71_680]);
  });
});
