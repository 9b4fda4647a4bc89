import { equalBytes } from '../model/bytes.ts';
import { type HoldfastError, isHoldfastError } from '../model/errors.ts';
import type { Clock } from '../ports/clock.ts';
import type { ObjectWriter } from '../ports/object-store.ts';

/** Waits between sendings of the same bytes, in ms; six and a half seconds in all. */
const resendDelaysMs: readonly number[] = [100, 200, 400, 800, 1600, 3200];
/** A store that is patient itself may take minutes for one sending: after so long none follows. */
const resendMsMax = 30_000;

/** created: it stands there, by this call or by an earlier one with the same bytes. vanished: taken, and gone when it was read. */
export type Creation =
  | { readonly outcome: 'created' }
  | { readonly outcome: 'exists' /** Undefined: larger than `bytesMax`. */; readonly occupant: Uint8Array | undefined }
  | { readonly outcome: 'vanished' };

/**
 * Creates an object and finds out what became of it. An unclear reply (an error, or "exists", which may be the echo of our
 * own first sending) is settled by reading the object: our bytes mean created, nothing there means that the same bytes are
 * sent again, a bounded number of times and for a bounded time. Bytes have to be unique to this attempt, as those of a record are.
 *
 * Throws what the store threw when that cannot be settled; E_ABORTED leaves open whether the object was created.
 */
export async function createObject(
  parts: { readonly store: ObjectWriter; readonly clock: Clock },
  key: string,
  bytes: Uint8Array,
  options: { readonly bytesMax: number; readonly signal?: AbortSignal | undefined },
): Promise<Creation> {
  const { store, clock } = parts;
  const waiting = options.signal === undefined ? {} : { signal: options.signal };
  const lastMs = clock.monotonicMs() + resendMsMax;
  for (let attempt = 0; ; attempt++) {
    let unclear: HoldfastError | undefined;
    try {
      if ((await store.create(key, bytes, waiting)) === 'created') return { outcome: 'created' };
    } catch (error) {
      if (!isHoldfastError(error) || error.code === 'E_ABORTED') throw error;
      unclear = error;
    }
    try {
      const occupant = await store.get(key, { ...waiting, bytesMax: options.bytesMax });
      if (occupant !== undefined) {
        return equalBytes(occupant, bytes) ? { outcome: 'created' } : { outcome: 'exists', occupant };
      }
      if (unclear === undefined) return { outcome: 'vanished' };
    } catch (error) {
      // Too large to be ours: the store looked at its size before reading.
      if (isHoldfastError(error, 'E_DAMAGED') && unclear === undefined)
        return { outcome: 'exists', occupant: undefined };
      if (!isHoldfastError(error) || error.code === 'E_ABORTED') throw error;
      unclear ??= error;
    }
    const delayMs = clock.monotonicMs() < lastMs ? resendDelaysMs[attempt] : undefined;
    if (delayMs === undefined || unclear.kind !== 'retry' || unclear.code === 'E_STORE_FULL') throw unclear;
    await clock.wait(delayMs, waiting);
  }
}
