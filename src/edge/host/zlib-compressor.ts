/** zstd by node:zlib, which makes and frees a context with each call. Close to libzstd in compressing, not in the rest. */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { invariant } from '../../engine/model/errors.ts';
import type { HostCompressor } from './host-compressor.ts';
import { checkCompress, checkFrame, damagedFrame, frameBoundBytes } from './zstd-frame.ts';

export function createZlibCompressor(): HostCompressor {
  return {
    name: 'zlib',
    boundBytes: frameBoundBytes,
    compress(input, output, outputStart, level) {
      checkCompress(input, output, outputStart, level);
      const frame = zstdCompressSync(input, {
        // In pieces of the default 16 KiB this takes half as long again.
        chunkSize: chunkBytes(frameBoundBytes(input.length)),
        params: { [constants.ZSTD_c_compressionLevel]: level },
        pledgedSrcSize: input.length,
      });
      output.set(frame, outputStart);
      const bytes = frame.length;
      release(frame);
      return bytes;
    },
    decompress(input, output, plainBytes) {
      checkFrame(input, plainBytes);
      invariant(output.length >= plainBytes, 'output holds the plaintext');
      let plain: Buffer;
      try {
        plain = zstdDecompressSync(input, {
          // One more than needed: zlib takes a second buffer as soon as the first is full.
          chunkSize: chunkBytes(plainBytes + 1),
          maxOutputLength: Math.max(1, plainBytes),
          params: { [constants.ZSTD_d_windowLogMax]: 23 },
        });
      } catch (cause) {
        throw damagedFrame(`does not decompress (${(cause as NodeJS.ErrnoException).code ?? 'unknown'})`);
      }
      if (plain.length !== plainBytes) throw damagedFrame('is shorter than it claims');
      output.set(plain, 0);
      release(plain);
    },
    [Symbol.dispose]() {},
  };
}

/** The least zlib accepts is 64. */
function chunkBytes(bytes: number): number {
  return Math.max(64, bytes);
}

/**
 * Gives the memory of a result back at once: a megabyte per segment waiting for the garbage collector would add up to
 * hundreds. Smaller results may lie in the pool of Buffer, which has other users and cannot be given back.
 */
function release(result: Buffer): void {
  if (result.buffer.byteLength > 2 * Buffer.poolSize) (result.buffer as ArrayBuffer).transfer(0);
}
