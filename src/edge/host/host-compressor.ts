import type { Compressor } from '../../engine/ports/compressor.ts';

/** A compressor of this host; disposing gives back memory that no garbage collector sees. Not used afterwards. */
export interface HostCompressor extends Compressor, Disposable {}
