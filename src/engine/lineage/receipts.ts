/** Receipts of restores, beside the log of the lineage that they are about. Nothing that is read depends on them. */
import { receiptKey, receiptPrefix } from '../format/object-keys.ts';
import { encodeStoredReceipt, openStoredReceipt, storedReceiptBytesMax } from '../format/stored-receipt.ts';
import { toHex } from '../model/bytes.ts';
import { HoldfastError, isHoldfastError } from '../model/errors.ts';
import type { LineageName, Slot } from '../model/ids.ts';
import type { Clock } from '../ports/clock.ts';
import type { ObjectReader, ObjectWriter } from '../ports/object-store.ts';
import type { RandomSource } from '../ports/random.ts';
import { createObject } from './create-object.ts';
import type { DomainAccess } from './repository.ts';

interface Waiting {
  readonly signal?: AbortSignal | undefined;
}

const idBytes = 32;

/** Stores one, under the slot of the CLAIM of the pod that restored, 0 without one. E_STORE_*, E_LIMIT. */
export async function storeReceipt(
  parts: {
    readonly store: ObjectWriter;
    readonly access: DomainAccess;
    readonly clock: Clock;
    readonly random: RandomSource;
  },
  lineage: LineageName,
  { slot, text, signal }: Waiting & { readonly slot: Slot; readonly text: string },
): Promise<void> {
  const { access, random } = parts;
  const id = random.bytes(idBytes);
  const bytes = encodeStoredReceipt({ ...access, lineage }, text, id, {
    dataKey: access.dataKey,
    signingSeed: access.keys.signingSeed,
  });
  const key = receiptKey(lineage, slot, toHex(id));
  const made = await createObject(parts, key, bytes, { bytesMax: storedReceiptBytesMax, signal });
  if (made.outcome !== 'created') throw new HoldfastError('E_STORE_IO', `${key} exists already with other bytes`);
}

/** The texts of those that are genuine, of the newest claims first; at most `limit` objects are looked at. E_STORE_*. */
export async function readReceipts(
  store: ObjectReader,
  access: DomainAccess,
  lineage: LineageName,
  { limit, signal }: Waiting & { readonly limit: number },
): Promise<readonly string[]> {
  const waiting = signal === undefined ? {} : { signal };
  const found: string[] = [];
  for (const { key, bytes: size } of await store.list(receiptPrefix(lineage), { ...waiting, limit })) {
    if (size > storedReceiptBytesMax) continue;
    const bytes = await store.get(key, { ...waiting, bytesMax: storedReceiptBytesMax });
    try {
      if (bytes !== undefined) found.push(openStoredReceipt(bytes, { ...access, lineage }));
    } catch (error) {
      // Junk beside them, or of a domain key that this reader was not given.
      if (!isHoldfastError(error, 'E_DAMAGED', 'E_KEY_MISSING')) throw error;
    }
  }
  return found;
}
