import { afterEach, describe, expect, it, vi } from 'vitest';
import { chooseCompressor, compressorNames } from '../../../src/edge/host/choose-compressor.ts';
import { isHoldfastError } from '../../../src/engine/model/errors.ts';

async function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

afterEach(() => {
  vi.doUnmock('koffi');
});

describe('chooseCompressor', () => {
  it('takes libzstd on a host where node exports it', async () => {
    using compressor = await chooseCompressor();
    expect(compressor.name).toBe('libzstd');
  });

  it.each(compressorNames)('takes %s when it is named', async (name) => {
    using compressor = await chooseCompressor(name);
    expect(compressor.name).toBe(name);
  });

  it('refuses an unknown name and says which there are', async () => {
    const error = await failure(chooseCompressor('gzip'));
    expect(isHoldfastError(error, 'E_USAGE') && error.remedy).toContain('libzstd, zlib, zstd-codec');
  });

  it.each([
    ['koffi cannot be loaded', () => Promise.reject(new Error('no prebuilt binary'))],
    [
      'the symbols are missing',
      () => ({
        default: {
          load: () => ({
            func: () => {
              throw new Error('no ZSTD_');
            },
          }),
        },
      }),
    ],
    ['another version answers', () => ({ default: { load: () => ({ func: () => () => 10_400 }) } })],
  ])('falls back to zlib where %s, and says why when libzstd was named', async (_, fake) => {
    vi.doMock('koffi', fake);
    using compressor = await chooseCompressor();
    expect(compressor.name).toBe('zlib');
    expect(isHoldfastError(await failure(chooseCompressor('libzstd')), 'E_USAGE')).toBe(true);
  });

  it('does not use a libzstd that gives back other bytes', async () => {
    const symbols: Record<string, unknown> = {
      versionNumber: () => Number(process.versions.zstd?.split('.').reduce((sum, part) => sum * 100 + Number(part), 0)),
      createCCtx: () => 1n,
      createDCtx: () => 1n,
      freeCCtx: () => 0,
      freeDCtx: () => 0,
      compressCCtx: (_context: bigint, output: Uint8Array) => output.fill(0, 0, 20).length && 20,
      decompressDCtx: (...given: unknown[]) => given[2],
    };
    const func = (prototype: string) => symbols[/ZSTD_(\w+)/.exec(prototype)?.[1] ?? ''];
    vi.doMock('koffi', () => ({ default: { load: () => ({ func }) } }));
    using compressor = await chooseCompressor();
    expect(compressor.name).toBe('zlib');
  });
});

describe('a disposed libzstd compressor', () => {
  it('refuses further use instead of touching freed memory', async () => {
    const compressor = await chooseCompressor('libzstd');
    const output = new Uint8Array(compressor.boundBytes(3));
    const bytes = compressor.compress(Uint8Array.of(1, 2, 3), output, 0, 1);
    compressor[Symbol.dispose]();
    compressor[Symbol.dispose]();
    expect(() => compressor.compress(Uint8Array.of(1, 2, 3), output, 0, 1)).toThrow(/disposed/);
    expect(() => compressor.decompress(output.subarray(0, bytes), new Uint8Array(3), 3)).toThrow(/disposed/);
  });

  it('gives its contexts back, which no garbage collector sees', async () => {
    const plain = Uint8Array.from({ length: 1 << 20 }, (_, i) => (i * i) >>> 3);
    const back = new Uint8Array(plain.length);
    const use = async () => {
      using compressor = await chooseCompressor('libzstd');
      const output = new Uint8Array(compressor.boundBytes(plain.length));
      const bytes = compressor.compress(plain, output, 0, 3);
      compressor.decompress(output.subarray(0, bytes), back, plain.length);
      output.buffer.transfer(0);
    };
    for (let i = 0; i < 10; i++) await use();
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 80; i++) await use();
    // 1.5 MB for each that is not given back.
    expect(process.memoryUsage().rss - before).toBeLessThan(50_000_000);
  });
});
