/**
 * Padmé (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", 2019): sizes are
 * rounded up so that only O(log log size) bits of a size show, at a cost below 12 %.
 */
import { invariant } from '../model/errors.ts';

/** Smallest size anything padded has. */
export const paddedBytesMin = 1024;

/** The least allowed size that is not below `bytes`. */
export function paddedBytes(bytes: number): number {
  invariant(Number.isSafeInteger(bytes) && bytes >= 0 && bytes < 2 ** 40, 'a size that can be padded');
  if (bytes <= paddedBytesMin) return paddedBytesMin;
  const exponent = Math.floor(Math.log2(bytes));
  const exponentBits = Math.floor(Math.log2(exponent)) + 1;
  // The mantissa may not need more bits than the exponent: the lower bits are rounded up to zero.
  const step = 2 ** (exponent - exponentBits);
  return Math.ceil(bytes / step) * step;
}
