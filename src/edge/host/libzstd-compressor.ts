/**
 * libzstd as it stands inside the node binary, called through koffi with contexts that are made once: 525 MB/s at level 1
 * on one thread, and decompression half as fast again as zlib's, which makes a context per call.
 */
import { invariant } from '../../engine/model/errors.ts';
import type { HostCompressor } from './host-compressor.ts';
import { checkCompress, checkFrame, damagedFrame, frameBoundBytes } from './zstd-frame.ts';

type Address = bigint | null;

interface Libzstd {
  createCCtx(): Address;
  freeCCtx(context: Address): number;
  createDCtx(): Address;
  freeDCtx(context: Address): number;
  /** size_t results are read as signed 64-bit, so that error codes are small negative numbers. */
  compressCCtx(
    context: Address,
    output: Uint8Array,
    outputBytes: number,
    input: Uint8Array,
    inputBytes: number,
    level: number,
  ): number;
  decompressDCtx(
    context: Address,
    output: Uint8Array,
    outputBytes: number,
    input: Uint8Array,
    inputBytes: number,
  ): number;
}

/** Throws an Error that says why, where koffi, the symbols or the expected version are missing. */
export async function createLibzstdCompressor(): Promise<HostCompressor> {
  return new LibzstdCompressor(await loadLibzstd());
}

async function loadLibzstd(): Promise<Libzstd> {
  const { default: koffi } = await import('koffi');
  const node = koffi.load(null);
  const version = Number(node.func('uint ZSTD_versionNumber()')());
  const found = `${Math.floor(version / 10_000)}.${Math.floor(version / 100) % 100}.${version % 100}`;
  // Another libzstd preloaded into the process could answer instead, with structures of its own.
  if (found !== process.versions.zstd)
    throw new Error(`libzstd ${found} answers, not ${process.versions.zstd} of node`);
  return {
    createCCtx: node.func('void *ZSTD_createCCtx()') as Libzstd['createCCtx'],
    freeCCtx: node.func('int64 ZSTD_freeCCtx(void *context)') as Libzstd['freeCCtx'],
    createDCtx: node.func('void *ZSTD_createDCtx()') as Libzstd['createDCtx'],
    freeDCtx: node.func('int64 ZSTD_freeDCtx(void *context)') as Libzstd['freeDCtx'],
    compressCCtx: node.func(
      'int64 ZSTD_compressCCtx(void *context, uint8_t *output, size_t outputBytes, const uint8_t *input, size_t inputBytes, int level)',
    ) as Libzstd['compressCCtx'],
    decompressDCtx: node.func(
      'int64 ZSTD_decompressDCtx(void *context, uint8_t *output, size_t outputBytes, const uint8_t *input, size_t inputBytes)',
    ) as Libzstd['decompressDCtx'],
  };
}

class LibzstdCompressor implements HostCompressor {
  readonly name = 'libzstd';
  readonly #zstd: Libzstd;
  // Made on first use: a restore never compresses.
  #compression: Address = null;
  #decompression: Address = null;
  #disposed = false;

  constructor(zstd: Libzstd) {
    this.#zstd = zstd;
  }

  boundBytes(inputBytes: number): number {
    return frameBoundBytes(inputBytes);
  }

  compress(input: Uint8Array, output: Uint8Array, outputStart: number, level: number): number {
    checkCompress(input, output, outputStart, level);
    invariant(!this.#disposed, 'compressor is used before it is disposed');
    this.#compression ??= made(this.#zstd.createCCtx());
    // zstd uses all room it is given as scratch space; beyond the bound it is none of its business.
    const room = output.subarray(outputStart, outputStart + frameBoundBytes(input.length));
    const bytes = this.#zstd.compressCCtx(this.#compression, room, room.length, input, input.length, level);
    invariant(bytes > 0, `zstd compresses into its own bound (code ${bytes})`);
    return bytes;
  }

  decompress(input: Uint8Array, output: Uint8Array, plainBytes: number): void {
    checkFrame(input, plainBytes);
    invariant(output.length >= plainBytes, 'output holds the plaintext');
    invariant(!this.#disposed, 'compressor is used before it is disposed');
    this.#decompression ??= made(this.#zstd.createDCtx());
    const bytes = this.#zstd.decompressDCtx(this.#decompression, output, plainBytes, input, input.length);
    if (bytes !== plainBytes) throw damagedFrame(bytes < 0 ? 'does not decompress' : 'is shorter than it claims');
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    if (this.#compression !== null) this.#zstd.freeCCtx(this.#compression);
    if (this.#decompression !== null) this.#zstd.freeDCtx(this.#decompression);
    this.#compression = null;
    this.#decompression = null;
  }
}

function made(context: Address): Address {
  if (context === null) throw new Error('zstd has no memory for a context');
  return context;
}
