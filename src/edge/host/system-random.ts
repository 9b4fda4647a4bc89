/** Chance of the operating system, fit for keys. */
import { randomBytes } from 'node:crypto';
import type { RandomSource } from '../../engine/ports/random.ts';

export const systemRandom: RandomSource = {
  // A copy into memory of its own: randomBytes cuts small results out of a pool that outlives them.
  bytes: (length) => new Uint8Array(randomBytes(length)),
};
