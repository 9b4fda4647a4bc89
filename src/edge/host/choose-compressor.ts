/** Picks the fastest zstd that works on this host. The choice stands in the JSON output of every command that uses it. */
import { equalBytes } from '../../engine/model/bytes.ts';
import { HoldfastError } from '../../engine/model/errors.ts';
import type { HostCompressor } from './host-compressor.ts';
import { createLibzstdCompressor } from './libzstd-compressor.ts';
import { createZlibCompressor } from './zlib-compressor.ts';
import { createZstdCodecCompressor } from './zstd-codec-compressor.ts';

export type CompressorName = 'libzstd' | 'zlib' | 'zstd-codec';

const makers: Readonly<Record<CompressorName, () => HostCompressor | Promise<HostCompressor>>> = {
  libzstd: createLibzstdCompressor,
  zlib: createZlibCompressor,
  'zstd-codec': createZstdCodecCompressor,
};

/** In order of preference. */
export const compressorNames: readonly CompressorName[] = ['libzstd', 'zlib', 'zstd-codec'];

/**
 * The first compressor that passes its probe, or the one named. E_USAGE when a named one does not work here or does not
 * exist, with the reason; E_LIMIT when none works. Every thread chooses for itself and disposes of its own.
 */
export async function chooseCompressor(name?: string): Promise<HostCompressor> {
  if (name !== undefined) {
    const maker = compressorNames.find((known) => known === name);
    if (maker === undefined) {
      throw new HoldfastError('E_USAGE', `there is no compressor ${JSON.stringify(name.slice(0, 40))}`, {
        remedy: `Choose one of ${compressorNames.join(', ')}, or none for the fastest that works.`,
      });
    }
    try {
      return await make(maker);
    } catch (cause) {
      throw new HoldfastError('E_USAGE', `compressor ${name} does not work here: ${String(cause)}`, {
        cause,
        remedy: 'Leave the choice to Holdfast: it takes the fastest compressor that works.',
      });
    }
  }
  const reasons: string[] = [];
  for (const candidate of compressorNames) {
    try {
      return await make(candidate);
    } catch (cause) {
      reasons.push(`${candidate}: ${String(cause)}`);
    }
  }
  throw new HoldfastError('E_LIMIT', `no zstd compressor works on this host (${reasons.join('; ')})`);
}

async function make(name: CompressorName): Promise<HostCompressor> {
  const compressor = await makers[name]();
  try {
    probe(compressor);
  } catch (cause) {
    compressor[Symbol.dispose]();
    throw cause;
  }
  return compressor;
}

/** One round trip, of data with matches, literals and a size that is not round. */
function probe(compressor: HostCompressor): void {
  const sample = Uint8Array.from({ length: 4099 }, (_, i) => (i % 97) ^ (i >>> 7));
  const output = new Uint8Array(compressor.boundBytes(sample.length));
  const bytes = compressor.compress(sample, output, 0, 1);
  const back = new Uint8Array(sample.length);
  compressor.decompress(output.subarray(0, bytes), back, sample.length);
  if (bytes >= sample.length || !equalBytes(sample, back)) throw new Error('a round trip does not give the same bytes');
}
