/** What a record needs besides itself: what a copy takes along, and what a collector keeps. */
import { logKey, packKey } from '../format/object-keys.ts';
import { type PackEntry, packEntryName } from '../format/pack-entry.ts';
import { packTableName } from '../format/pack-table.ts';
import type { RecordHeader } from '../format/record.ts';
import { invariant } from '../model/errors.ts';
import { toSlot } from '../model/ids.ts';

export interface RecordObject {
  readonly key: string;
  readonly kind: 'pack' | 'packTable' | 'record';
  /** Undefined for a record, of which only the pack inlined in it is known. */
  readonly bytes: number | undefined;
}

/**
 * Every object that a record of these packs needs: packs, records that hold inlined ones (its own excepted), and the pack
 * table. `packs` are what `LineageLog.packs` gave for the record. Needs no secret.
 */
export function objectsOf(
  header: Pick<RecordHeader, 'lineage' | 'slot' | 'origins' | 'packList'>,
  packs: readonly PackEntry[],
): readonly RecordObject[] {
  const objects = new Map<string, RecordObject>();
  for (const entry of packs) {
    const lineage = entry.origin === 0 ? header.lineage : header.origins[entry.origin - 1];
    invariant(lineage !== undefined, 'a pack is of an origin that its record names');
    if (entry.inlined && entry.origin === 0 && entry.slot === header.slot) continue;
    const key = entry.inlined ? logKey(lineage, toSlot(entry.slot)) : packKey(lineage, packEntryName(entry));
    objects.set(key, {
      key,
      kind: entry.inlined ? 'record' : 'pack',
      bytes: entry.inlined ? undefined : entry.bytes,
    });
  }
  const { table } = header.packList;
  if (table !== undefined) {
    const key = packKey(header.lineage, packTableName(table));
    objects.set(key, { key, kind: 'packTable', bytes: table.bytes });
  }
  return [...objects.values()];
}
