/** The objects that a record needs, with what has to be known to move each. Which ones they are is decided by `objectsOf`. */
import { logKey, packKey } from '../format/object-keys.ts';
import { type PackEntry, packEntryName } from '../format/pack-entry.ts';
import type { PackTableLink } from '../format/pack-table.ts';
import type { LogRecord, RecordHeader } from '../format/record.ts';
import type { LineageLog } from '../lineage/log.ts';
import { objectsOf } from '../lineage/record-objects.ts';
import { invariant } from '../model/errors.ts';
import { type LineageName, type Slot, toSlot } from '../model/ids.ts';
import type { Waiting } from './copy-parts.ts';

/** A pack that lies in the store as an object of its own. */
export interface ListedPack {
  readonly kind: 'pack';
  readonly key: string;
  readonly bytes: number;
  readonly slot: number;
  readonly lineage: LineageName;
  readonly entry: PackEntry;
}

export interface ListedTable {
  readonly kind: 'packTable';
  readonly key: string;
  readonly bytes: number;
  readonly slot: number;
  readonly link: PackTableLink;
  readonly header: RecordHeader;
}

/** An older record that holds an inlined pack. */
export interface ListedRecord {
  readonly kind: 'record';
  readonly key: string;
  readonly lineage: LineageName;
  readonly slot: Slot;
}

export type ListedObject = ListedPack | ListedTable | ListedRecord;

/** All objects that have to be there before the record may be, each once. Errors as of `LineageLog.packs`. */
export async function listedObjects(
  log: LineageLog,
  record: LogRecord,
  options: Waiting = {},
): Promise<readonly ListedObject[]> {
  const { header } = record;
  const { packs } = await log.packs(record, options);
  const entries = new Map<string, { readonly lineage: LineageName; readonly entry: PackEntry }>();
  for (const entry of packs) {
    const lineage = entry.origin === 0 ? header.lineage : header.origins[entry.origin - 1];
    if (lineage === undefined) continue;
    const key = entry.inlined ? logKey(lineage, toSlot(entry.slot)) : packKey(lineage, packEntryName(entry));
    entries.set(key, { lineage, entry });
  }
  const { table } = header.packList;
  return objectsOf(header, packs).map(({ key, kind }): ListedObject => {
    if (kind === 'packTable') {
      invariant(table !== undefined, 'a record that needs a table links to it');
      return { kind, key, bytes: table.bytes, slot: table.slot, link: table, header };
    }
    const found = entries.get(key);
    invariant(found !== undefined, 'what a record needs is in its list');
    const { lineage, entry } = found;
    if (kind === 'record') return { kind, key, lineage, slot: toSlot(entry.slot) };
    return { kind, key, bytes: entry.bytes, slot: entry.slot, lineage, entry };
  });
}
