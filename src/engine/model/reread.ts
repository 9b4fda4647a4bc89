import { isHoldfastError } from './errors.ts';

/**
 * Damage is believed when it is read twice: bits change in the store, and on their way from it. Runs `read`, which reads and proves,
 * once more when it throws E_DAMAGED.
 */
export async function reread<Result>(read: () => Promise<Result>): Promise<Result> {
  try {
    return await read();
  } catch (error) {
    if (!isHoldfastError(error, 'E_DAMAGED')) throw error;
    return await read();
  }
}
