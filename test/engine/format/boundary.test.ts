import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BoundaryHasher, boundaryHash, endsListNode, endsNode } from '../../../src/engine/format/boundary.ts';
import { concatBytes } from '../../../src/engine/model/bytes.ts';
import { range, runs } from '../../support/arbitraries.ts';

const key16 = Uint8Array.from(range(0, 16));

/** SipHash-2-4 as in the paper by Aumasson and Bernstein, with 64-bit integers. */
function sipHash(key: Uint8Array, message: Uint8Array): bigint {
  const mask = (1n << 64n) - 1n;
  const word = (bytes: Uint8Array, at: number): bigint =>
    range(0, 8).reduce((value, i) => value | (BigInt(bytes[at + i] ?? 0) << BigInt(8 * i)), 0n);
  const turn = (value: bigint, by: bigint): bigint => ((value << by) | (value >> (64n - by))) & mask;
  const [k0, k1] = [word(key, 0), word(key, 8)];
  let [v0, v1, v2, v3] = [
    k0 ^ 0x736f6d6570736575n,
    k1 ^ 0x646f72616e646f6dn,
    k0 ^ 0x6c7967656e657261n,
    k1 ^ 0x7465646279746573n,
  ];
  const round = (): void => {
    v0 = (v0 + v1) & mask;
    v1 = turn(v1, 13n) ^ v0;
    v0 = turn(v0, 32n);
    v2 = (v2 + v3) & mask;
    v3 = turn(v3, 16n) ^ v2;
    v0 = (v0 + v3) & mask;
    v3 = turn(v3, 21n) ^ v0;
    v2 = (v2 + v1) & mask;
    v1 = turn(v1, 17n) ^ v2;
    v2 = turn(v2, 32n);
  };
  const whole = message.length - (message.length % 8);
  for (let at = 0; at <= whole; at += 8) {
    const m = at < whole ? word(message, at) : word(message.subarray(at), 0) | (BigInt(message.length & 0xff) << 56n);
    v3 ^= m;
    round();
    round();
    v0 ^= m;
  }
  v2 ^= 0xffn;
  for (let i = 0; i < 4; i++) round();
  return v0 ^ v1 ^ v2 ^ v3;
}

describe('the boundary hash', () => {
  it('is the upper 24 bits of SipHash-2-4 over key and level, by published vectors', () => {
    // The published vectors hash the bytes 0, 1, 2, … under the key 00 01 … 0f; here the last of them is the level.
    const vectors: readonly (readonly [number, number])[] = [
      [1, 0x74f839],
      [8, 0x93f5f5],
      [9, 0x9e0082],
      [15, 0xa129ca],
      [16, 0x3f2acc],
      [17, 0x699ae9],
      [64, 0xacd2c4],
    ];
    for (const [length, upper] of vectors) {
      expect(boundaryHash(key16, length - 1, Uint8Array.from(range(0, length - 1)))).toBe(upper);
    }
  });

  it('does not depend on what was hashed before, though states are kept', () => {
    const part = fc.uint8Array({ maxLength: 20, max: 2 });
    // Names that share whole blocks with their predecessors, up to more than is remembered.
    const message = fc
      .tuple(fc.constantFrom(0, 3, 8, 64, 120, 128, 5000), part, part)
      .map(([length, a, b]) => concatBytes([new Uint8Array(length), a, b]));
    fc.assert(
      fc.property(fc.array(message, { maxLength: 12 }), fc.nat(24), (messages, level) => {
        const hasher = new BoundaryHasher(key16, level);
        for (const bytes of messages) {
          const expected = Number(sipHash(key16, concatBytes([bytes, Uint8Array.of(level)])) >> 40n);
          expect(hasher.hash(bytes, 0, bytes.length)).toBe(expected);
        }
      }),
      runs(100),
    );
  });

  it('takes a range of a buffer', () => {
    const bytes = Uint8Array.from(range(0, 50));
    const hasher = new BoundaryHasher(key16, 3);
    for (const [start, end] of [
      [0, 50],
      [7, 31],
      [7, 32],
      [49, 50],
      [50, 50],
    ] as const) {
      expect(hasher.hash(bytes, start, end)).toBe(boundaryHash(key16, 3, bytes.slice(start, end)));
    }
  });

  it('differs by level and by key', () => {
    const bytes = Uint8Array.of(1, 2, 3);
    const hashes = new Set([0, 1, 2, 3].map((level) => boundaryHash(key16, level, bytes)));
    hashes.add(boundaryHash(key16.toReversed(), 0, bytes));
    expect(hashes.size).toBe(5);
  });
});

describe('a tree node ends', () => {
  it('the more probably the larger it has become, whatever the hash', () => {
    // The share of hashes that end a node grows with the square of the measure: a Rayleigh distribution of sizes.
    const share = (before: number, after: number): number => {
      const hashes = range(0, 4096).map((i) => i * 4096);
      return hashes.filter((hash) => endsNode(false, 3, before, after, hash)).length / hashes.length;
    };
    expect(share(0, 80)).toBeLessThan(0.001);
    expect(share(4000, 4080)).toBeCloseTo((4080 ** 2 - 4000 ** 2) / 20_971_520, 2);
    expect(share(12_000, 12_080)).toBeCloseTo((12_080 ** 2 - 12_000 ** 2) / 20_971_520, 2);
  });

  it('at 16 KiB at the latest, but not before it has four items', () => {
    const never = 2 ** 24 - 1;
    expect(endsNode(false, 4, 16_300, 16_383, never)).toBe(false);
    expect(endsNode(false, 4, 16_300, 16_384, never)).toBe(true);
    expect(endsNode(false, 3, 16_300, 16_384, never)).toBe(false);
    expect(endsNode(true, 3, 60_000, 80_000, 0)).toBe(false);
    expect(endsNode(true, 4, 60_000, 80_000, never)).toBe(true);
  });

  it('above the leaves with four children at the least, in a leaf with any number', () => {
    expect([1, 2, 3, 4].map((count) => endsNode(true, count, 100, 200, 0))).toEqual([false, false, false, true]);
    expect([1, 2, 3, 4].map((count) => endsNode(false, count, 100, 200, 0))).toEqual([true, true, true, true]);
  });

  it('by exact arithmetic up to the largest keys', () => {
    // 2^23 is above any measure: four keys of 1 MiB and more. The division has no rest, so the two sides are equal.
    const after = 2 ** 23;
    const before = after - 1;
    const equal = ((BigInt(after) ** 2n - BigInt(before) ** 2n) << 24n) / 20_971_520n;
    expect(endsNode(false, 3, before, after, Number(equal))).toBe(false);
    expect(endsNode(false, 3, before, after, Number(equal) - 1)).toBe(true);
  });
});

describe('a node of a chunk list ends', () => {
  it('after 4 to 256 items, where six bits of an id are zero, and after a run of zeros only when full', () => {
    const zero = new Uint8Array(32);
    const other = new Uint8Array(32).fill(1);
    expect([3, 4, 255].map((count) => endsListNode(count, zero))).toEqual([false, true, true]);
    expect([4, 255, 256].map((count) => endsListNode(count, other))).toEqual([false, false, true]);
    expect([4, 255, 256].map((count) => endsListNode(count, undefined))).toEqual([false, false, true]);
    expect(endsListNode(4, Uint8Array.of(0xc0, ...range(1, 32)))).toBe(true);
  });
});
