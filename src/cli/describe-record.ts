/** A record as JSON and as the words that people read. */
import type { LogRecord, RecordBody } from '../engine/format/record.ts';
import { toHex } from '../engine/model/bytes.ts';
import type { VolumeCheckpoint } from '../engine/model/checkpoint.ts';

/** `2026-03-01T12:00:00.000Z`; also of times that no calendar has. */
export function timeText(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? `${ms} ms` : date.toISOString();
}

/** Without fractions, for tables. */
export function shortTime(ms: number): string {
  return timeText(ms)
    .replace('T', ' ')
    .replace(/\.\d{3}Z$/, 'Z');
}

/** What the record and the packs that it introduced take in the store. */
export function storedBytesOf({ header, bytes, inlined }: LogRecord): number {
  return header.totals.storedBytes + bytes - inlined.reduce((sum, pack) => sum + pack.entry.bytes, 0);
}

/** What stands in clear. */
export function headerJson(record: LogRecord): Record<string, unknown> {
  const { header, digest, bytes } = record;
  const { slot, kind, id, epoch, holder, holderName, timeMs, suspect, consistency, labels, totals } = header;
  return {
    slot,
    kind,
    id: toHex(id),
    digest: toHex(digest),
    time: timeText(timeMs),
    epoch,
    holder,
    holderName,
    ...(consistency === undefined ? {} : { consistency, suspect, ...totals, storedBytes: storedBytesOf(record) }),
    labels: Object.fromEntries(labels.map(({ name, value }) => [name, value])),
    recordBytes: bytes,
  };
}

export function volumeJson({ root, rootMeta, ...volume }: VolumeCheckpoint): Record<string, unknown> {
  return {
    ...volume,
    root: toHex(root.id),
    ...root.sums,
    mode: rootMeta.mode.toString(8).padStart(4, '0'),
    uid: rootMeta.uid,
    gid: rootMeta.gid,
  };
}

export function bodyJson(body: RecordBody): Record<string, unknown> {
  return {
    root: toHex(body.setRoot),
    incomplete: body.volumes.some(({ incomplete }) => incomplete),
    volumes: Object.fromEntries(body.volumes.map((volume) => [volume.name, volumeJson(volume)])),
  };
}
