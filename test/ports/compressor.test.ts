/** The one suite of the compressor port: every implementation, and every pair of them. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chooseCompressor, compressorNames } from '../../src/edge/host/choose-compressor.ts';
import type { HostCompressor } from '../../src/edge/host/host-compressor.ts';
import { concatBytes, equalBytes } from '../../src/engine/model/bytes.ts';
import { isHoldfastError } from '../../src/engine/model/errors.ts';
import type { Compressor } from '../../src/engine/ports/compressor.ts';

const compressors = new Map<string, HostCompressor>();

beforeAll(async () => {
  for (const name of compressorNames) compressors.set(name, await chooseCompressor(name));
});

afterAll(() => {
  for (const compressor of compressors.values()) compressor[Symbol.dispose]();
});

function get(name: string): HostCompressor {
  return compressors.get(name) as HostCompressor;
}

function compress(compressor: Compressor, plain: Uint8Array, level = 1): Uint8Array {
  const output = new Uint8Array(compressor.boundBytes(plain.length));
  return output.slice(0, compressor.compress(plain, output, 0, level));
}

const sentinel = 0xa5;

/** Decompresses into a larger buffer, and fails when anything behind the plaintext was written. */
function decompress(compressor: Compressor, frame: Uint8Array, plainBytes: number): Uint8Array {
  const output = new Uint8Array(plainBytes + 4096).fill(sentinel);
  try {
    compressor.decompress(frame, output, plainBytes);
  } finally {
    expect(output.subarray(plainBytes).every((byte) => byte === sentinel)).toBe(true);
  }
  return output.slice(0, plainBytes);
}

function expectDamaged(compressor: Compressor, frame: Uint8Array, plainBytes: number): void {
  let thrown: unknown;
  try {
    decompress(compressor, frame, plainBytes);
  } catch (error) {
    thrown = error;
  }
  expect(isHoldfastError(thrown, 'E_DAMAGED'), `${compressor.name}: ${String(thrown)}`).toBe(true);
}

/** Repeatable bytes: text-like for even seeds, incompressible for odd ones. */
function sample(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = (seed + 1) * 0x9e3779b1;
  for (let i = 0; i < length; i++) {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + i;
    bytes[i] = seed % 2 === 1 ? state >>> 11 : 97 + ((state >>> 13) & 3);
  }
  return bytes;
}

const sizes = [0, 1, 2, 255, 256, 257, 4096, 65_535, 65_536, 65_792, 131_072, 131_073, 262_144, 1_048_576, 2_097_152];

describe.each(compressorNames)('compressor %s', (name) => {
  it('says its name', () => {
    expect(get(name).name).toBe(name);
  });

  it.each(sizes)('brings back %i bytes exactly', (size) => {
    for (const seed of [2, 3]) {
      const plain = sample(size, seed);
      expect(equalBytes(decompress(get(name), compress(get(name), plain), size), plain)).toBe(true);
    }
  });

  it('brings back any bytes from any view, written at any start, at any level', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 5000 }),
        fc.nat(50),
        fc.nat(50),
        fc.integer({ min: 1, max: 19 }),
        (bytes, skip, outputStart, level) => {
          const plain = bytes.subarray(Math.min(skip, bytes.length));
          const output = new Uint8Array(outputStart + get(name).boundBytes(plain.length) + 7).fill(sentinel);
          const end = outputStart + get(name).compress(plain, output, outputStart, level);
          expect(output.subarray(0, outputStart).every((byte) => byte === sentinel)).toBe(true);
          const bound = outputStart + get(name).boundBytes(plain.length);
          expect(output.subarray(bound).every((byte) => byte === sentinel)).toBe(true);
          const frame = output.subarray(outputStart, end);
          expect(equalBytes(decompress(get(name), frame, plain.length), plain)).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('never needs more than its bound, and makes repetition small', () => {
    for (const size of sizes) {
      expect(compress(get(name), sample(size, 5)).length).toBeLessThanOrEqual(get(name).boundBytes(size));
    }
    expect(compress(get(name), new Uint8Array(1_000_000)).length).toBeLessThan(200);
    expect(compress(get(name), sample(100_000, 2), 19).length).toBeLessThan(50_000);
  });

  it.each(compressorNames)('reads the frames of %s', (maker) => {
    for (const size of sizes) {
      for (const level of [1, 3, 12]) {
        if (size > 70_000 && level > 1) continue;
        const plain = sample(size, 4);
        expect(equalBytes(decompress(get(name), compress(get(maker), plain, level), size), plain)).toBe(true);
      }
    }
  });

  it('refuses a frame cut anywhere', () => {
    for (const seed of [2, 3]) {
      const frame = compress(get(name), sample(700, seed));
      for (let end = 0; end < frame.length; end++) expectDamaged(get(name), frame.subarray(0, end), 700);
    }
    const long = compress(get(name), sample(600_000, 2));
    for (const missing of [1, 2, 3, 4, 1000, long.length >> 1]) {
      expectDamaged(get(name), long.subarray(0, long.length - missing), 600_000);
    }
  });

  it('refuses whatever stands before or after the frame', () => {
    const frame = compress(get(name), sample(700, 2));
    const skippable = Uint8Array.of(0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3);
    for (const extra of [Uint8Array.of(0), frame, skippable, compress(get(name), new Uint8Array(0))]) {
      expectDamaged(get(name), concatBytes([frame, extra]), 700);
      expectDamaged(get(name), concatBytes([extra, frame]), 700);
    }
    expectDamaged(get(name), concatBytes([frame, frame]), 1400);
  });

  it('refuses every plain size but the right one', () => {
    for (const size of [0, 1, 255, 256, 700, 70_000]) {
      const frame = compress(get(name), sample(size, 2));
      for (const wrong of [0, 1, size - 1, size + 1, size + 256, 2 * size, 1_000_000]) {
        if (wrong !== size && wrong >= 0) expectDamaged(get(name), frame, wrong);
      }
    }
  });

  it('refuses a claim of 2^60 bytes without allocating', () => {
    const before = process.memoryUsage();
    for (const claimBytes of [2 ** 60, 2 ** 53, 2 ** 40, 2 ** 32, 3 * 2 ** 20]) {
      // Single segment, 8-byte size, then one RLE block.
      const frame = new Uint8Array(17);
      frame.set([0x28, 0xb5, 0x2f, 0xfd, 0xe0]);
      new DataView(frame.buffer).setBigUint64(5, BigInt(claimBytes), true);
      frame.set([0x03 | (100 << 3), (100 << 3) >> 8, 0, 7], 13);
      for (const plainBytes of [100, 1000]) expectDamaged(get(name), frame, plainBytes);
      const output = new Uint8Array(10);
      expect(() => get(name).decompress(frame, output, claimBytes)).toThrow(/zstd frame/);
    }
    const after = process.memoryUsage();
    expect(after.external + after.arrayBuffers - before.external - before.arrayBuffers).toBeLessThan(8_000_000);
  });

  it('refuses bombs: blocks that make more than the frame claims, or less', () => {
    // Header claims 300 bytes (2-byte field, value minus 256); each RLE block makes up to 128 KiB.
    const bomb = (blocks: readonly number[]) =>
      concatBytes([
        Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x60, 44, 0),
        ...blocks.map((bytes, i) => {
          const header = (bytes << 3) | 2 | (i === blocks.length - 1 ? 1 : 0);
          return Uint8Array.of(header, header >> 8, header >> 16, 0x41);
        }),
      ]);
    expect(decompress(get(name), bomb([300]), 300).every((byte) => byte === 0x41)).toBe(true);
    for (const blocks of [[301], [299], [131_072], [150, 151], [150, 149], Array(70).fill(131_072)]) {
      expectDamaged(get(name), bomb(blocks), 300);
    }
    const zeros = compress(get(name), new Uint8Array(2_000_000));
    expectDamaged(get(name), zeros, 1_048_576);
    expectDamaged(get(name), zeros, 0);
  });

  it('refuses dictionaries, reserved bits, unknown sizes and windows above 8 MiB', () => {
    const block = [0x03 | ((10 << 3) & 0xff), 0, 0, 7];
    const magic = [0x28, 0xb5, 0x2f, 0xfd];
    expect(decompress(get(name), Uint8Array.of(...magic, 0x20, 10, ...block), 10)).toEqual(new Uint8Array(10).fill(7));
    expectDamaged(get(name), Uint8Array.of(...magic, 0x21, 9, 10, ...block), 10);
    expectDamaged(get(name), Uint8Array.of(...magic, 0x28, 10, ...block), 10);
    expectDamaged(get(name), Uint8Array.of(...magic, 0x00, 0x00, ...block), 10);
    expectDamaged(get(name), Uint8Array.of(0x29, 0xb5, 0x2f, 0xfd, 0x20, 10, ...block), 10);
    const windowed = (window: number) => Uint8Array.of(...magic, 0x80, window, 10, 0, 0, 0, ...block);
    expect(decompress(get(name), windowed(0x68), 10)).toEqual(new Uint8Array(10).fill(7));
    for (const window of [0x69, 0x70, 0xff]) expectDamaged(get(name), windowed(window), 10);
  });

  it('stays within bounds for every changed bit, and works on afterwards', () => {
    const plain = sample(3000, 2);
    const frame = compress(get(name), plain, 3);
    let refused = 0;
    for (let i = 0; i < frame.length; i++) {
      for (let bit = 0; bit < 8; bit++) {
        const bad = frame.slice();
        bad[i] = (bad[i] as number) ^ (1 << bit);
        try {
          decompress(get(name), bad, plain.length);
        } catch (error) {
          expect(isHoldfastError(error, 'E_DAMAGED'), String(error)).toBe(true);
          refused++;
        }
      }
    }
    expect(refused).toBeGreaterThan(frame.length);
    expect(equalBytes(decompress(get(name), frame, plain.length), plain)).toBe(true);
  });

  it('stays within bounds for arbitrary blocks behind a good header', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.integer({ min: 0, max: 2 }), (noise, kind) => {
        const header = (noise.length << 3) | (kind << 1) | 1;
        const body = kind === 1 ? Uint8Array.of(noise[0] ?? 0) : noise;
        const frame = concatBytes([
          Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x60, 44, 0, header, header >> 8, header >> 16),
          body,
        ]);
        try {
          decompress(get(name), frame, 300);
        } catch (error) {
          expect(isHoldfastError(error, 'E_DAMAGED'), String(error)).toBe(true);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('holds its caller to the contract', () => {
    const plain = sample(100, 2);
    const output = new Uint8Array(get(name).boundBytes(100));
    for (const level of [0, -1, 20, 1.5, Number.NaN])
      expect(() => get(name).compress(plain, output, 0, level)).toThrow(/level/);
    expect(() => get(name).compress(plain, output, 1, 1)).toThrow(/bound/);
    expect(() => get(name).compress(plain, output, -1, 1)).toThrow(/bound/);
    expect(() => get(name).decompress(compress(get(name), plain), new Uint8Array(99), 100)).toThrow(/holds/);
  });

  it('survives its largest frames at every level, in any mixture', () => {
    const mixture = [
      [2_097_152, 19],
      [70_000, 15],
      [2_097_152, 9],
      [1_048_576, 3],
      [2_097_152, 1],
    ] as const;
    for (const [size, level] of mixture) {
      // Incompressible: the tables are as large as for text, and the search is short.
      const plain = sample(size, 1);
      expect(equalBytes(decompress(get(name), compress(get(name), plain, level), size), plain)).toBe(true);
    }
    expect(() => compress(get(name), new Uint8Array(2_097_153))).toThrow(/2 MiB/);
  });

  it('does not let memory pile up between garbage collections', () => {
    const plain = sample(1_048_576, 2);
    const output = new Uint8Array(get(name).boundBytes(plain.length));
    const back = new Uint8Array(plain.length);
    const before = process.memoryUsage().arrayBuffers;
    let most = 0;
    for (let i = 0; i < 30; i++) {
      const bytes = get(name).compress(plain, output, 0, 1);
      get(name).decompress(output.subarray(0, bytes), back, plain.length);
      most = Math.max(most, process.memoryUsage().arrayBuffers - before);
    }
    expect(most).toBeLessThan(20_000_000);
  });
});
