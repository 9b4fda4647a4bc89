import { createCipheriv, createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type ChunkSizes,
  chunkProfile,
  chunkProfiles,
  createChunker,
  profileBytes,
} from '../../../src/engine/capture/chunker.ts';
import { deriveDomainKeys } from '../../../src/engine/format/keys.ts';
import { concatBytes, equalBytes } from '../../../src/engine/model/bytes.ts';

const keys = deriveDomainKeys(new Uint8Array(32).fill(1));
const otherKeys = deriveDomainKeys(new Uint8Array(32).fill(2));
const small: ChunkSizes = { minBytes: 64, averageBytes: 256, maxBytes: 1024 };

/** Repeatable random bytes. */
function randomOf(length: number, seed: number): Uint8Array {
  const cipher = createCipheriv('aes-256-ctr', new Uint8Array(32).fill(seed), new Uint8Array(16));
  return new Uint8Array(cipher.update(new Uint8Array(length)));
}

function cutsOf(bytes: Uint8Array, sizes: ChunkSizes, table: Uint32Array = keys.gearTable): number[] {
  const chunker = createChunker(table, sizes);
  const cuts: number[] = [];
  for (let at = 0; at < bytes.length; ) {
    at = chunker.cut(bytes, at, bytes.length, true);
    cuts.push(at);
  }
  return cuts;
}

/** The definition, byte by byte: what the specification says, without skipping or unrolling. */
function cutBySpecification(bytes: Uint8Array, start: number, sizes: ChunkSizes, table: Uint32Array): number {
  const bits = Math.log2(sizes.averageBytes);
  for (let length = sizes.minBytes + 1; length <= sizes.maxBytes && start + length <= bytes.length; length++) {
    let hash = 0n;
    for (let i = start + length - 32; i < start + length; i++) {
      hash = ((hash << 1n) + BigInt(table[bytes[i] as number] as number)) & 0xffff_ffffn;
    }
    const zeros = length <= (sizes.averageBytes * 13) / 16 ? bits + 2 : bits - 2;
    if (hash >> BigInt(32 - zeros) === 0n) return start + length;
  }
  return Math.min(start + sizes.maxBytes, bytes.length);
}

function chunkTexts(bytes: Uint8Array, cuts: readonly number[]): string[] {
  return cuts.map((cut, i) =>
    createHash('sha256')
      .update(bytes.subarray(cuts[i - 1] ?? 0, cut))
      .digest('hex'),
  );
}

const anyBytes = fc.oneof(
  fc.uint8Array({ maxLength: 3000 }),
  fc.tuple(fc.nat(6000), fc.integer({ min: 0, max: 250 })).map(([length, seed]) => randomOf(length, seed)),
  // Little variety: runs and repetitions, where cuts are rare or everywhere.
  fc
    .tuple(fc.nat(4000), fc.integer({ min: 1, max: 9 }))
    .map(([length, period]) => Uint8Array.from({ length }, (_, i) => i % period)),
);

describe('the chunker', () => {
  it('cuts where the specification says', () => {
    fc.assert(
      fc.property(anyBytes, (bytes) => {
        let start = 0;
        for (const cut of cutsOf(bytes, small)) {
          expect(cut).toBe(cutBySpecification(bytes, start, small, keys.gearTable));
          start = cut;
        }
      }),
      { numRuns: 60 },
    );
  });

  it('gives chunks that are together the input, each within its limits', () => {
    fc.assert(
      fc.property(anyBytes, (bytes) => {
        const cuts = cutsOf(bytes, small);
        expect(cuts.at(-1) ?? 0).toBe(bytes.length);
        const parts = cuts.map((cut, i) => bytes.subarray(cuts[i - 1] ?? 0, cut));
        expect(equalBytes(concatBytes(parts), bytes)).toBe(true);
        for (const [i, part] of parts.entries()) {
          expect(part.length).toBeLessThanOrEqual(small.maxBytes);
          if (i < parts.length - 1) expect(part.length).toBeGreaterThan(small.minBytes);
        }
      }),
    );
  });

  it('cuts alike however the bytes arrive', () => {
    fc.assert(
      fc.property(
        anyBytes,
        fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1 }),
        fc.nat(100),
        (bytes, steps, lead) => {
          // The run stands behind other bytes in a window that grows step by step.
          const window = concatBytes([randomOf(lead, 9), bytes, randomOf(50, 8)]);
          const chunker = createChunker(keys.gearTable, small);
          const cuts: number[] = [];
          let start = lead;
          let end = lead;
          for (let i = 0; end < lead + bytes.length; i++) {
            end = Math.min(end + (steps[i % steps.length] as number), lead + bytes.length);
            for (let cut = 0; start < end && cut >= 0; ) {
              cut = chunker.cut(window, start, end, false);
              if (cut < 0) expect(end - start).toBeLessThan(small.maxBytes);
              else {
                cuts.push(cut - lead);
                start = cut;
              }
            }
          }
          while (start < end) {
            start = chunker.cut(window, start, end, true);
            cuts.push(start - lead);
          }
          expect(cuts).toEqual(cutsOf(bytes, small));
        },
      ),
    );
  });

  it('moves only the cuts near an edit', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 50 }),
        fc.nat(99_999),
        fc.uint8Array({ minLength: 0, maxLength: 40 }),
        fc.nat(40),
        (seed, at, inserted, removed) => {
          const before = randomOf(100_000, seed);
          const after = concatBytes([
            before.subarray(0, at),
            inserted,
            before.subarray(Math.min(at + removed, 100_000)),
          ]);
          const known = new Set(chunkTexts(before, cutsOf(before, small)));
          const changed = chunkTexts(after, cutsOf(after, small)).filter((text) => !known.has(text));
          // Of some 400 chunks. Random bytes fall into step again after a few cuts.
          expect(changed.length).toBeLessThan(20);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('finds the same cuts in another file, wherever the common part stands', () => {
    const common = randomOf(200_000, 1);
    const texts = (lead: number) => {
      const bytes = concatBytes([randomOf(lead, 2), common]);
      return new Set(chunkTexts(bytes, cutsOf(bytes, small)));
    };
    const [one, two] = [texts(0), texts(777)];
    expect([...one].filter((text) => two.has(text)).length).toBeGreaterThan(one.size - 12);
  });

  it('is keyed: another domain cuts elsewhere', () => {
    const bytes = randomOf(2_000_000, 3);
    const one = new Set(cutsOf(bytes, chunkProfiles.pages));
    const two = cutsOf(bytes, chunkProfiles.pages, otherKeys.gearTable);
    expect(two.filter((cut) => one.has(cut)).length).toBeLessThan(3);
    expect(one.size).toBeGreaterThan(90);
  });

  it.each(['pages', 'general'] as const)('has the average of its profile: %s', (profile) => {
    const sizes = chunkProfiles[profile];
    const bytes = randomOf(sizes.averageBytes * 600, 4);
    const mean = bytes.length / cutsOf(bytes, sizes).length;
    expect(mean / sizes.averageBytes).toBeGreaterThan(0.93);
    expect(mean / sizes.averageBytes).toBeLessThan(1.07);
    expect(sizes.maxBytes).toBeLessThanOrEqual(256 * 1024);
  });

  it('keeps its cuts for good', () => {
    expect(cutsOf(randomOf(100_000, 5), chunkProfiles.pages)).toEqual([13413, 25685, 44015, 73240, 93194, 100000]);
    expect(cutsOf(randomOf(300_000, 5), chunkProfiles.general)).toEqual([109337, 195354, 257297, 300000]);
  });

  it('takes empty runs, runs below the minimum, and constant bytes', () => {
    const chunker = createChunker(keys.gearTable, small);
    expect(chunker.cut(new Uint8Array(0), 0, 0, true)).toBe(0);
    expect(chunker.cut(new Uint8Array(0), 0, 0, false)).toBe(-1);
    expect(chunker.cut(randomOf(64, 6), 0, 64, true)).toBe(64);
    expect(chunker.cut(randomOf(64, 6), 0, 64, false)).toBe(-1);
    for (const byte of [0, 0xff, 0x41]) {
      const cuts = cutsOf(new Uint8Array(5000).fill(byte), small);
      expect(new Set(cuts.map((cut, i) => cut - (cuts[i - 1] ?? 0)).slice(0, -1)).size).toBe(1);
    }
  });

  it('refuses impossible sizes and ranges', () => {
    const make = (sizes: Partial<ChunkSizes>) => () => createChunker(keys.gearTable, { ...small, ...sizes });
    expect(make({ minBytes: 16 })).toThrow(/order/);
    expect(make({ minBytes: 300 })).toThrow(/order/);
    expect(make({ maxBytes: 200 })).toThrow(/order/);
    expect(make({ averageBytes: 300 })).toThrow(/power of two/);
    expect(() => createChunker(keys.gearTable.subarray(1), small)).toThrow(/256/);
    expect(() => createChunker(keys.gearTable, small).cut(new Uint8Array(5), 0, 6, true)).toThrow(/buffer/);
  });
});

describe('chunkProfile', () => {
  const filled = (at: number, mark: readonly number[]) => {
    const bytes = new Uint8Array(profileBytes).fill(0x7e);
    bytes.set(mark, at);
    return bytes;
  };
  const text = (value: string) => [...new TextEncoder().encode(value)];

  it.each([
    ['SQLite', 0, text('SQLite format 3\0')],
    ['SQLite WAL, little-endian', 0, [0x37, 0x7f, 0x06, 0x82]],
    ['SQLite WAL, big-endian', 0, [0x37, 0x7f, 0x06, 0x83]],
    ['SQLite journal', 0, [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]],
    ['LMDB', 16, [0xde, 0xc0, 0xef, 0xbe]],
    ['BoltDB', 16, [0xed, 0xda, 0x0c, 0xed]],
  ] as const)('knows %s by its first bytes', (_, at, mark) => {
    const bytes = filled(at, mark);
    expect(chunkProfile(bytes)).toBe('pages');
    for (let i = 0; i < mark.length; i++) {
      const other = bytes.slice();
      other[at + i] = (other[at + i] as number) ^ 0x40;
      expect(chunkProfile(other)).toBe('general');
    }
    expect(chunkProfile(bytes.subarray(0, at + mark.length))).toBe('pages');
    expect(chunkProfile(bytes.subarray(0, at + mark.length - 1))).toBe('general');
  });

  const marked = [filled(0, []), filled(16, [0xde, 0xc0, 0xef, 0xbe]), filled(0, text('SQLite format 3\0'))];

  it('looks at nothing behind the bytes it names', () => {
    fc.assert(
      fc.property(fc.constantFrom(...marked), fc.uint8Array({ maxLength: 60 }), (bytes, rest) => {
        expect(chunkProfile(concatBytes([bytes, rest]))).toBe(chunkProfile(bytes.subarray(0, profileBytes)));
      }),
    );
    expect(chunkProfile(new Uint8Array(0))).toBe('general');
  });
});
