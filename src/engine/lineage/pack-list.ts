/**
 * The named conditions before the one create that makes a checkpoint exist. Whatever breaks them is a defect of ours, found
 * here rather than at a restore.
 */
import {
  comparePacks,
  equalPacks,
  findPack,
  type PackEntry,
  type PackReference,
  toPackEntry,
} from '../format/pack-entry.ts';
import { inlinedBytesMax } from '../format/record.ts';
import type { VolumeCheckpoint } from '../model/checkpoint.ts';
import type { Place } from '../model/entry.ts';
import { invariant } from '../model/errors.ts';
import type { Epoch, Slot } from '../model/ids.ts';
import type { CommitBase, CommitRequest, FinishedPack } from './lineage-writer.ts';

/**
 * The pack list of the record at `slot`. list(n) ⊆ list(base) ∪ packs(n): a pack can be introduced only by the record
 * whose slot it carries, which is why "no retained record lists it" stays true once it is. And every place that can be reached
 * is listed: the trees' roots here, what the capture wrote by what it says in `referenced`, and the rest because the base lists it.
 */
export function packListOf(
  request: Pick<CommitRequest, 'kind' | 'volumes' | 'uploaded' | 'inlined' | 'keep' | 'referenced' | 'inUse'>,
  base: CommitBase | undefined,
  slot: Slot,
  epoch: Epoch,
): readonly PackEntry[] {
  const known = base?.packs ?? [];
  const kept = request.keep === undefined ? known : [...request.keep].sort(comparePacks);
  if (kept !== known) {
    for (const entry of kept) {
      const before = findPack(known, entry);
      invariant(before !== undefined && equalPacks(before, entry), `kept pack ${textOf(entry)} is listed by the base`);
    }
  }
  invariant(request.kind === 'CHECKPOINT' || kept.length === known.length, 'a PARTIAL lists its packs cumulatively');

  const added: PackEntry[] = [];
  for (const pack of request.uploaded) added.push(ownEntry(pack, slot, epoch, false));
  let inlinedBytes = 0;
  for (const { summary, bytes } of request.inlined) {
    invariant(bytes.length === summary.bytes, `inlined pack ${summary.name} has the bytes it was summed up with`);
    inlinedBytes += bytes.length;
    added.push(ownEntry(summary, slot, epoch, true));
  }
  invariant(inlinedBytes <= inlinedBytesMax, 'only small packs are inlined');

  // Sorted already but for the few at its end, and for packs of other lineages: a sort of runs is one pass.
  const { inUse } = request;
  const counted = (entry: PackEntry): PackEntry => {
    const liveBytes = inUse?.(entry) ?? entry.liveBytes;
    return liveBytes === entry.liveBytes ? entry : { ...entry, liveBytes };
  };
  const list = [...kept, ...added].map(counted).sort(comparePacks);
  for (const [i, entry] of list.entries()) {
    invariant(i === 0 || comparePacks(list[i - 1] as PackEntry, entry) < 0, 'a pack stands once in a list');
  }
  for (const place of rootPlaces(request.volumes)) assertListed(list, place, 'the root of a volume');
  for (const reference of request.referenced) assertListed(list, reference, 'what the capture wrote');
  return list;
}

function ownEntry(pack: FinishedPack, slot: Slot, epoch: Epoch, inlined: boolean): PackEntry {
  const entry = toPackEntry(pack, inlined);
  invariant(
    entry.slot === slot && entry.epoch === epoch && entry.pack === pack.pack,
    `pack ${pack.name} was made for slot ${slot} of epoch ${epoch}`,
  );
  return entry;
}

function textOf(reference: PackReference): string {
  return `${reference.origin}:${reference.slot}-${reference.pack}`;
}

function assertListed(list: readonly PackEntry[], reference: PackReference, what: string): void {
  invariant(findPack(list, reference) !== undefined, `pack ${textOf(reference)} of ${what} is listed`);
}

function* rootPlaces(volumes: readonly VolumeCheckpoint[]): Generator<Place> {
  for (const { root, rootMeta } of volumes) {
    if (root.place !== undefined) yield root.place;
    for (const { value } of rootMeta.xattrs) if (value.kind === 'chunk') yield value.place;
  }
}
