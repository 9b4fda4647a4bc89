/**
 * zstd by WebAssembly, for hosts where neither koffi nor zlib's zstd works. Half as fast, and full of traps: its streaming
 * interface gives short data for a cut frame without an error; the one used here cannot handle empty input and returns
 * null for errors; its 16 MiB of memory cannot grow, and it aborts for good when they run out. So frames are checked and
 * bounded before it sees them, and results are measured.
 */
import { createRequire } from 'node:module';
import { HoldfastError, invariant } from '../../engine/model/errors.ts';
import type { HostCompressor } from './host-compressor.ts';
import { checkCompress, checkFrame, damagedFrame, emptyFrame, frameBoundBytes } from './zstd-frame.ts';

interface ZstdCodecModule {
  readonly ZstdCodec: { run(ready: (zstd: { readonly Simple: new () => SimpleCodec }) => void): void };
}

interface SimpleCodec {
  compress(input: Uint8Array, level: number): Uint8Array | null;
  decompress(frame: Uint8Array): Uint8Array | null;
}

/** At level 15 one MiB of input is too much for its memory; at 9, two MiB are not. Frames of any level can be read. */
const levelMax = 9;

/** Rejects with an Error where WebAssembly cannot be loaded. */
export async function createZstdCodecCompressor(): Promise<HostCompressor> {
  const { ZstdCodec } = createRequire(import.meta.url)('zstd-codec') as ZstdCodecModule;
  const codec = await new Promise<SimpleCodec>((resolve, reject) => {
    try {
      ZstdCodec.run((zstd) => resolve(new zstd.Simple()));
    } catch (cause) {
      reject(cause as Error);
    }
  });
  let aborted = false;
  /** Null when the input is not to its liking. */
  const attempt = (work: () => Uint8Array | null): Uint8Array | null => {
    if (aborted) throw new HoldfastError('E_LIMIT', 'zstd-codec has run out of memory and cannot go on');
    try {
      return work();
    } catch (cause) {
      aborted = true;
      throw new HoldfastError('E_LIMIT', `zstd-codec has failed: ${String(cause)}`, { cause });
    }
  };
  return {
    name: 'zstd-codec',
    boundBytes: frameBoundBytes,
    compress(input, output, outputStart, level) {
      checkCompress(input, output, outputStart, level);
      const frame = input.length === 0 ? emptyFrame : attempt(() => codec.compress(input, Math.min(level, levelMax)));
      invariant(frame !== null && frame.length <= output.length - outputStart, 'zstd compresses into its own bound');
      output.set(frame, outputStart);
      const bytes = frame.length;
      if (frame !== emptyFrame) release(frame);
      return bytes;
    },
    decompress(input, output, plainBytes) {
      checkFrame(input, plainBytes);
      invariant(output.length >= plainBytes, 'output holds the plaintext');
      if (plainBytes === 0) return;
      const plain = attempt(() => codec.decompress(input));
      if (plain?.length !== plainBytes) throw damagedFrame('does not decompress');
      output.set(plain, 0);
      release(plain);
    },
    [Symbol.dispose]() {},
  };
}

/** Gives memory back at once instead of letting megabytes wait for the garbage collector; never the codec's own heap. */
function release(result: Uint8Array): void {
  if (result.buffer.byteLength === result.length) (result.buffer as ArrayBuffer).transfer(0);
}
