/**
 * Uploads that a killed process has left in the store: nobody sees them, and the store keeps their bytes until somebody ends them.
 *
 * A pack is named by the slot whose record may list it and by the epoch of its writer, so its name says whether it can still be of
 * use to anybody, zombies included:
 * - Of an earlier epoch: the CLAIM of a later one is the head of the log, so no record of that epoch can follow. Its writer may be
 *   alive and sending; it is fenced, and learns it now or at its commit.
 * - Of this epoch and a slot up to the next one: this epoch belongs to one holder, a holder to one process at a time, and the list
 *   was made before this process had begun an upload. So these are a predecessor's.
 * - Of a later epoch or slot: somebody has claimed meanwhile, and it is theirs.
 */
import { packPrefix, parsePackKey } from '../format/object-keys.ts';
import type { Epoch, LineageName, Slot } from '../model/ids.ts';
import type { ObjectWriter, UnfinishedUpload, WaitOptions } from '../ports/object-store.ts';

/** Looks for them. Never rejects: tidying up is no reason to fail, and what is not found now is found by the next claim. */
export async function findUnfinished(
  store: ObjectWriter,
  lineage: LineageName,
  options: WaitOptions,
): Promise<readonly UnfinishedUpload[]> {
  try {
    return await store.unfinished(packPrefix(lineage), options);
  } catch {
    return [];
  }
}

/** Ends those that nobody can use any more. `found` was listed before this process began an upload. Never rejects. */
export async function endUnfinished(
  found: readonly UnfinishedUpload[],
  lineage: LineageName,
  writer: { readonly epoch: Epoch; readonly slot: Slot },
): Promise<void> {
  const useless = found.filter(({ key }) => {
    const pack = parsePackKey(lineage, key);
    if (pack === undefined) return false;
    return pack.epoch < writer.epoch || (pack.epoch === Number(writer.epoch) && pack.slot <= writer.slot);
  });
  await Promise.allSettled(useless.map((upload) => upload.end()));
}
