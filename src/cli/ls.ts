/** `holdfast ls`: the lineages of a repository, or the checkpoints of one. */
import { emptyPackList } from '../engine/format/pack-table.ts';
import type { LogRecord } from '../engine/format/record.ts';
import type { LogEntry } from '../engine/lineage/log.ts';
import { listLineages, openLog } from '../engine/lineage/open-log.ts';
import type { Repository } from '../engine/lineage/repository.ts';
import { toHex } from '../engine/model/bytes.ts';
import { HoldfastError } from '../engine/model/errors.ts';
import type { LineageName } from '../engine/model/ids.ts';
import type { ObjectReader } from '../engine/ports/object-store.ts';
import { headerJson, shortTime, storedBytesOf } from './describe-record.ts';
import type { Host } from './host.ts';
import type { Parsed } from './options.ts';
import { formatBytes, formatCount, printable, printTable, styled } from './print.ts';
import { formOf, noArguments, openLineage, repositoryOf } from './session.ts';
import { fencingJson } from './warnings.ts';

export async function ls(host: Host, parsed: Parsed): Promise<number> {
  noArguments('ls', parsed);
  return parsed.text('lineage') === undefined ? await listAll(host, parsed) : await listOne(host, parsed);
}

/** How a lineage stands: what its newest record says, and its newest good checkpoint. */
interface LineageRow {
  readonly lineage: LineageName | undefined;
  readonly prefix: string;
  readonly head: LogRecord | undefined;
  readonly newest: LogRecord | undefined;
  /** Suspect checkpoints above it, which nobody released. */
  readonly suspects: number;
  readonly error: HoldfastError | undefined;
}

async function listAll(host: Host, parsed: Parsed): Promise<number> {
  const form = formOf('ls', parsed);
  const address = parsed.required('store');
  await using store = await host.openReader(address);
  const repository = await repositoryOf(host, 'ls', parsed, store);
  const rows: LineageRow[] = [];
  for await (const { lineage, prefix } of listLineages(store, { signal: host.signal })) {
    rows.push(await rowOf(host, store, repository, lineage, prefix));
  }
  rows.sort(byName);
  const failed = rows.find(({ error }) => error !== undefined)?.error;
  if (form === 'json') {
    const lineages = rows.map(rowJson);
    host.stdout.write(
      `${JSON.stringify({ repository: repository.id, encryption: repository.encryption, ...fencingJson(repository), lineages })}\n`,
    );
  } else if (rows.length === 0) {
    host.stdout.write('Nothing has been stored here yet. Make a first checkpoint with: holdfast checkpoint DIR\n');
  } else {
    printTable(host.stdout, [
      ['LINEAGE', 'NEWEST', 'TIME', 'CONSISTENCY', 'FILES', 'SIZE', 'STATE'],
      ...rows.map((row) => rowText(row)),
    ]);
  }
  return failed?.exit ?? 0;
}

const numbersByValue = new Intl.Collator('en', { numeric: true });

/** Replica 10 comes after replica 9. Names that the keys do not tell come last. */
function byName(a: LineageRow, b: LineageRow): number {
  if (a.lineage === undefined || b.lineage === undefined) {
    return Number(a.lineage === undefined) - Number(b.lineage === undefined) || (a.prefix < b.prefix ? -1 : 1);
  }
  return numbersByValue.compare(a.lineage, b.lineage) || (a.lineage < b.lineage ? -1 : 1);
}

async function rowOf(
  host: Host,
  store: ObjectReader,
  repository: Repository,
  lineage: LineageName | undefined,
  prefix: string,
): Promise<LineageRow> {
  let head: LogRecord | undefined;
  let newest: LogRecord | undefined;
  let suspects = 0;
  let error: HoldfastError | undefined;
  try {
    if (lineage !== undefined) {
      const { log } = await openLog(store, repository, lineage, { signal: host.signal });
      for await (const record of log.records({ signal: host.signal })) {
        head ??= record;
        if (record.header.kind !== 'CHECKPOINT') continue;
        if (!(await log.isGood(record, { signal: host.signal }))) {
          suspects++;
          continue;
        }
        newest = record;
        break;
      }
    }
  } catch (caught) {
    // One lineage that cannot be read does not hide the others.
    if (!(caught instanceof HoldfastError) || host.signal.aborted) throw caught;
    error = caught;
  }
  return { lineage, prefix, head, newest, suspects, error };
}

function stateOf({ head, error, lineage, suspects }: LineageRow): string {
  if (lineage === undefined) return 'its name is too long to be told by its key';
  if (error !== undefined) return `${error.code}: ${error.message}`;
  if (head === undefined) return 'empty';
  const state = head.header.kind === 'SEAL' ? 'sealed' : `held by ${head.header.holderName}`;
  return suspects === 0 ? state : `${state}; ${formatCount(suspects)} suspect above`;
}

function rowText(row: LineageRow): string[] {
  const header = row.newest?.header;
  return [
    row.lineage ?? row.prefix,
    header === undefined ? '-' : String(header.slot),
    header === undefined ? '-' : shortTime(header.timeMs),
    header?.consistency ?? '-',
    header === undefined ? '-' : formatCount(header.totals.files),
    header === undefined ? '-' : formatBytes(header.totals.bytes),
    stateOf(row),
  ];
}

function rowJson(row: LineageRow): object {
  const { lineage, prefix, head, newest, suspects, error } = row;
  return {
    lineage: lineage ?? null,
    prefix,
    newest: newest === undefined ? null : headerJson(newest),
    suspects,
    sealed: head?.header.kind === 'SEAL',
    holder: head?.header.holder ?? null,
    holderName: head?.header.holderName ?? null,
    ...(error === undefined ? {} : { error: { code: error.code, message: error.message } }),
  };
}

async function listOne(host: Host, parsed: Parsed): Promise<number> {
  const form = formOf('ls', parsed);
  const all = parsed.flag('all');
  await using opened = await openLineage(host, 'ls', parsed);
  const { lineage, log } = opened;
  const entries: Listed[] = [];
  let head: LogRecord | undefined;
  let damaged = 0;
  for await (const entry of log.entries({ signal: host.signal })) {
    const { reading } = entry;
    if (reading.valid) head ??= reading.record;
    else damaged++;
    if (!all && reading.valid && reading.record.header.kind !== 'CHECKPOINT') continue;
    const released = reading.valid && (await log.release(reading.record, { signal: host.signal })) !== undefined;
    entries.push({ ...trimmed(entry), released });
  }
  if (form === 'json') {
    const { id } = opened.repository;
    host.stdout.write(
      `${JSON.stringify({
        repository: id,
        ...fencingJson(opened.repository),
        lineage,
        sealed: head?.header.kind === 'SEAL',
        holder: head?.header.holder ?? null,
        holderName: head?.header.holderName ?? null,
        void: damaged,
        checkpoints: entries.map(entryJson),
      })}\n`,
    );
    return 0;
  }
  printTable(host.stdout, [
    ['SLOT', 'TIME', 'KIND', 'CONSISTENCY', 'FILES', 'SIZE', 'NEW', 'STORED', 'ID', 'LABELS'],
    ...entries.map(entryText),
  ]);
  const state =
    head === undefined
      ? 'no valid record'
      : head.header.kind === 'SEAL'
        ? 'sealed'
        : `held by ${head.header.holderName}`;
  host.stdout.write(styled(host.stdout, 'dim', `${lineage}: ${printable(state)}\n`));
  return 0;
}

interface Listed extends LogEntry {
  /** It is suspect, and somebody said that it was meant. */
  readonly released: boolean;
}

/** Without the bytes that a listing of thousands of records need not keep. */
function trimmed(entry: LogEntry): LogEntry {
  if (!entry.reading.valid) return entry;
  const { header, digest, bytes, inlined } = entry.reading.record;
  const none = new Uint8Array(0);
  const kept: LogRecord = {
    header: { ...header, id: header.id.slice() as typeof header.id, packList: emptyPackList },
    digest: digest.slice(),
    bytes,
    sealedBody: none,
    bodyContext: none,
    inlined: inlined.map(({ entry: pack }) => ({ entry: pack, bytes: none })),
  };
  return { ...entry, reading: { valid: true, record: kept } };
}

function entryText({ slot, reading, modifiedMs, bytes, released }: Listed): string[] {
  if (!reading.valid) {
    return [String(slot), shortTime(modifiedMs), 'void', reading.reason, '-', '-', '-', formatBytes(bytes), '-', ''];
  }
  const { kind, id, timeMs, consistency, suspect, totals, labels } = reading.record.header;
  const counted = consistency !== undefined;
  return [
    String(slot),
    shortTime(timeMs),
    kind,
    counted ? consistency + (suspect ? (released ? ', released' : ', suspect') : '') : '-',
    counted ? formatCount(totals.files) : '-',
    counted ? formatBytes(totals.bytes) : '-',
    counted ? formatBytes(totals.newBytes) : '-',
    formatBytes(storedBytesOf(reading.record)),
    toHex(id).slice(0, 12),
    labels.map(({ name, value }) => `${name}=${value}`).join(' '),
  ];
}

function entryJson({ slot, reading, modifiedMs, bytes, released }: Listed): object {
  if (reading.valid) return { ...headerJson(reading.record), ...(released ? { released } : {}) };
  const { reason, detail } = reading;
  return { slot, kind: null, void: reason, detail, modified: shortTime(modifiedMs), recordBytes: bytes };
}
