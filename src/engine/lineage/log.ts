/**
 * Reading a lineage's log, newest first. Only valid records count: what cannot be verified, was moved here, or is contradicted
 * by the records above it is void, and shown as such to those who list, skipped by everybody else.
 */
import type { DataKey } from '../format/keys.ts';
import { logKey, logPrefix, packKey, parseLogKey } from '../format/object-keys.ts';
import { type PackEntry, packEntryName } from '../format/pack-entry.ts';
import {
  listedPacks,
  openPackTable,
  type PackTable,
  packTableBytesMax,
  type PackTableLink,
  packTableName,
} from '../format/pack-table.ts';
import {
  type LogRecord,
  openBody,
  readRecord,
  type RecordBody,
  recordBytesMax,
  type RecordReading,
} from '../format/record.ts';
import type { Release } from '../format/release.ts';
import { equalBytes, toHex } from '../model/bytes.ts';
import { HoldfastError, invariant, isHoldfastError } from '../model/errors.ts';
import { type LineageName, nextSlot, type Slot, toSlot } from '../model/ids.ts';
import { reread } from '../model/reread.ts';
import type { ObjectInfo, ObjectReader } from '../ports/object-store.ts';
import { readReleases, releaseOf } from './releases.ts';
import type { DomainAccess } from './repository.ts';

interface Waiting {
  readonly signal?: AbortSignal | undefined;
}

interface Reading {
  /** Only lower slots. */
  readonly below?: Slot;
  /** What `listNewest` gave, where that may be as old as it is. Not together with `below`. */
  readonly newest?: readonly ObjectInfo[] | undefined;
}

/** What verifies the records of a domain; a collector without secrets has this much. */
export type DomainVerifier = Pick<DomainAccess, 'repository' | 'domain' | 'publicKey'>;

export interface LogEntry {
  readonly slot: Slot;
  /** Size as stored. */
  readonly bytes: number;
  /** The store's own time, ms since 1970. */
  readonly modifiedMs: number;
  readonly reading: RecordReading;
}

/** What a record lists, read with its table. */
export interface ListedPacks {
  /** Ascending by (origin, slot, pack). */
  readonly packs: readonly PackEntry[];
  readonly table: PackTable | undefined;
}

export interface LogHead {
  /** The newest valid record. */
  readonly record: LogRecord | undefined;
  /** The lowest slot above it that holds nothing. */
  readonly empty: Slot;
  /** Void objects above it, or all there are when there is no valid record. */
  readonly junk: number;
}

/** A LIST asks for few keys first: the head is what is wanted nearly always. */
const pageSizes: readonly number[] = [8, 64, 512];
const parallelReadsMax = 8;
/** Some hundred records in a row share one. */
const tablesKeptMax = 4;
/** A claim looks at the last few records more than once. */
const recordsKeptMax = 4;

/** The newest objects of a log, the first of what `LineageLog.head` reads. Needs no key, so it can be asked for early. */
export function listNewest(
  store: ObjectReader,
  lineage: LineageName,
  options: Waiting = {},
): Promise<readonly ObjectInfo[]> {
  return store.list(logPrefix(lineage), { ...waitingOf(options), limit: pageSizes[0] as number });
}

export class LineageLog {
  readonly lineage: LineageName;
  readonly #store: ObjectReader;
  readonly #tables = new Map<string, PackTable>();
  #releases: Promise<readonly Release[]> | undefined;
  /** Read last, the oldest first. */
  readonly #records: LogRecord[] = [];
  readonly #access: DomainVerifier & { readonly dataKeys?: readonly DataKey[] };

  constructor(
    store: ObjectReader,
    access: DomainVerifier & { readonly dataKeys?: readonly DataKey[] },
    lineage: LineageName,
  ) {
    this.lineage = lineage;
    this.#store = store;
    this.#access = access;
  }

  /**
   * All entries, void ones included, newest first; with `below`, those of lower slots. Objects that vanish meanwhile are left out, and
   * told: they were trimmed, so there is a newer checkpoint than was listed.
   */
  async *entries(
    options: Waiting & Reading & { readonly onVanished?: (slot: Slot) => void } = {},
  ): AsyncGenerator<LogEntry> {
    let above: LogRecord | undefined;
    let together = 1;
    for await (const page of this.#pages(options)) {
      for (let at = 0; at < page.length; ) {
        const batch = page.slice(at, at + together);
        at += batch.length;
        together = Math.min(together * 2, parallelReadsMax);
        const readings = await Promise.all(batch.map((listed) => this.#readListed(listed, options)));
        for (const [i, { slot, info }] of batch.entries()) {
          const found = readings[i];
          if (found === undefined) {
            options.onVanished?.(slot);
            continue;
          }
          const reading = heldAgainst(found, above);
          if (reading.valid) above = reading.record;
          yield { slot, bytes: info.bytes, modifiedMs: info.modifiedMs, reading };
        }
      }
    }
  }

  /** Valid records, newest first. */
  async *records(options: Waiting & { readonly below?: Slot } = {}): AsyncGenerator<LogRecord> {
    for await (const { reading } of this.entries(options)) if (reading.valid) yield reading.record;
  }

  /** The newest valid record that `wanted` accepts. */
  async newest(
    options: Waiting & { readonly below?: Slot; readonly wanted?: (record: LogRecord) => boolean } = {},
  ): Promise<LogRecord | undefined> {
    for await (const record of this.records(options)) if (options.wanted?.(record) ?? true) return record;
    return undefined;
  }

  async head(options: Waiting & Pick<Reading, 'newest'> = {}): Promise<LogHead> {
    const taken = new Set<Slot>();
    let record: LogRecord | undefined;
    for await (const entry of this.entries(options)) {
      if (entry.reading.valid) {
        record = entry.reading.record;
        break;
      }
      taken.add(entry.slot);
    }
    let empty = nextSlot(record?.header.slot ?? toSlot(0));
    while (taken.has(empty)) empty = nextSlot(empty);
    return { record, empty, junk: taken.size };
  }

  /** What stands at one slot, by itself; undefined when nothing does. */
  async read(slot: Slot, options: Waiting = {}): Promise<RecordReading | undefined> {
    const reading = await this.#readOnce(slot, options);
    if (reading === undefined || reading.valid || reading.reason === 'too-large') return reading;
    // Passing over the newest checkpoint for a bit that has changed on its way would be to lose it.
    return await this.#readOnce(slot, options);
  }

  async #readOnce(slot: Slot, options: Waiting): Promise<RecordReading | undefined> {
    let bytes: Uint8Array | undefined;
    try {
      bytes = await this.#store.get(logKey(this.lineage, slot), { ...waitingOf(options), bytesMax: recordBytesMax });
    } catch (error) {
      if (!isHoldfastError(error, 'E_DAMAGED')) throw error;
      return { valid: false, reason: 'too-large', detail: error.message };
    }
    const reading = bytes === undefined ? undefined : this.readBytes(slot, bytes);
    if (reading?.valid) this.#keepRecord(reading.record);
    return reading;
  }

  #keepRecord(record: LogRecord): void {
    this.#records.push(record);
    if (this.#records.length > recordsKeptMax) this.#records.shift();
  }

  /** The same of bytes that were read from that slot already. */
  readBytes(slot: Slot, bytes: Uint8Array): RecordReading {
    const { repository, domain, publicKey } = this.#access;
    return readRecord(bytes, { repository, domain, publicKey, lineage: this.lineage, slot });
  }

  /** The newest valid record below one that was read: the one it names, or where that was trimmed the next lower. */
  async before(record: LogRecord, options: Waiting = {}): Promise<LogRecord | undefined> {
    const named = record.header.predecessor;
    if (named === undefined) return undefined;
    // The digest pins all of it.
    const known = this.#records.find(({ digest }) => equalBytes(digest, named.digest));
    if (known !== undefined && contradiction(known, record) === undefined) return known;
    const found = await this.read(named.slot, options);
    if (found?.valid) {
      const reading = heldAgainst(found, record);
      if (reading.valid) return reading.record;
    }
    for await (const { reading } of this.entries({ ...options, below: named.slot })) {
      const held = heldAgainst(reading, record);
      if (held.valid) return held.record;
    }
    return undefined;
  }

  /** Whether it is a restore point by itself: a CHECKPOINT that is not suspect, or was released. Asks the store only about suspects. */
  async isGood(record: LogRecord, options: Waiting = {}): Promise<boolean> {
    if (record.header.kind !== 'CHECKPOINT') return false;
    return !record.header.suspect || (await this.release(record, options)) !== undefined;
  }

  /** Who released a suspect checkpoint, and why; undefined when nobody did. As of when this log was first asked, or of `forgetReleases`. */
  async release(record: LogRecord, options: Waiting = {}): Promise<Release | undefined> {
    if (!record.header.suspect) return undefined;
    this.#releases ??= readReleases(this.#store, this.#access, this.lineage, options);
    try {
      return releaseOf(await this.#releases, record);
    } catch (error) {
      this.#releases = undefined;
      throw error;
    }
  }

  /** What was released since is seen again. */
  forgetReleases(): void {
    this.#releases = undefined;
  }

  /** Roots and names of a CHECKPOINT or PARTIAL. E_KEY_MISSING when its generation of the data key is not known here. */
  body(record: LogRecord): RecordBody {
    const { generation, slot } = record.header;
    const dataKey = this.#access.dataKeys?.find((key) => key.generation === generation);
    if (dataKey === undefined) {
      throw new HoldfastError(
        'E_KEY_MISSING',
        `record ${slot} was encrypted with data key ${generation}, which is not known here`,
      );
    }
    return openBody(record, dataKey);
  }

  /**
   * The packs that a CHECKPOINT or PARTIAL lists, ascending, and the table they come from: whatever reads a pack list reads it
   * here. Needs no secret. E_DAMAGED when the table is missing or is not what the record links to.
   */
  async packs(record: LogRecord, options: Waiting = {}): Promise<ListedPacks> {
    const { packList, slot } = record.header;
    const table = packList.table === undefined ? undefined : await this.#table(record, packList.table, options);
    return { packs: listedPacks(packList, table, `record ${slot} of ${this.lineage}`), table };
  }

  async #table(record: LogRecord, link: PackTableLink, options: Waiting): Promise<PackTable> {
    const name = packTableName(link);
    const known = this.#tables.get(name);
    if (known !== undefined && equalBytes(known.link.digest, link.digest)) return known;
    const key = packKey(this.lineage, name);
    const table = await reread(async () => {
      const bytes = await this.#store.get(key, { ...waitingOf(options), bytesMax: packTableBytesMax });
      if (bytes === undefined) {
        throw new HoldfastError('E_DAMAGED', `pack table ${name} of record ${record.header.slot} is missing`, {
          details: { key },
        });
      }
      return openPackTable(bytes, link, { ...record.header, publicKey: this.#access.publicKey });
    });
    this.keepTable(table);
    return table;
  }

  /** Remembers a table, which the next records will link to. */
  keepTable(table: PackTable): void {
    this.#tables.set(packTableName(table.link), table);
    const [oldest] = this.#tables.keys();
    if (this.#tables.size > tablesKeptMax && oldest !== undefined) this.#tables.delete(oldest);
  }

  /** Bytes of a pack that lies inside a record. E_DAMAGED when they are not there any more. */
  async inlinedPack(entry: PackEntry, options: Waiting = {}): Promise<Uint8Array> {
    invariant(entry.inlined && entry.origin === 0, 'only an inlined pack of this lineage lies in its log');
    const reading = await this.read(toSlot(entry.slot), options);
    const found = reading?.valid
      ? reading.record.inlined.find((pack) => packEntryName(pack.entry) === packEntryName(entry))
      : undefined;
    if (found !== undefined) return found.bytes;
    const why = reading === undefined ? 'is missing' : reading.valid ? 'does not hold it' : reading.detail;
    throw new HoldfastError('E_DAMAGED', `inlined pack ${packEntryName(entry)}: record ${entry.slot} ${why}`, {
      details: { key: logKey(this.lineage, toSlot(entry.slot)) },
    });
  }

  async *#pages(
    options: Waiting & Reading,
  ): AsyncGenerator<readonly { readonly slot: Slot; readonly info: ObjectInfo }[]> {
    let after = options.below === undefined ? undefined : logKey(this.lineage, options.below);
    for (let page = 0; ; page++) {
      const size = pageSizes[Math.min(page, pageSizes.length - 1)] as number;
      const known = page === 0 ? options.newest : undefined;
      const listed =
        known ??
        (await this.#store.list(logPrefix(this.lineage), {
          ...waitingOf(options),
          limit: size,
          ...(after === undefined ? {} : { after }),
        }));
      yield listed.flatMap((info) => {
        const slot = parseLogKey(this.lineage, info.key);
        return slot === undefined ? [] : [{ slot, info }];
      });
      if (listed.length < size) return;
      after = listed.at(-1)?.key;
    }
  }

  async #readListed(
    listed: { readonly slot: Slot; readonly info: ObjectInfo },
    options: Waiting,
  ): Promise<RecordReading | undefined> {
    if (listed.info.bytes > recordBytesMax) {
      return { valid: false, reason: 'too-large', detail: `${listed.info.bytes} bytes` };
    }
    return await this.read(listed.slot, options);
  }
}

function waitingOf(options: Waiting): { readonly signal?: AbortSignal } {
  return options.signal === undefined ? {} : { signal: options.signal };
}

function heldAgainst(reading: RecordReading, above: LogRecord | undefined): RecordReading {
  const wrong = reading.valid && above !== undefined ? contradiction(reading.record, above) : undefined;
  return wrong === undefined ? reading : { valid: false, reason: 'replaced', detail: wrong };
}

/**
 * Why a genuine record cannot stand below another; undefined when it can. After records were trimmed, a request that was
 * long under way can land in the gap: presence alone means nothing there.
 */
export function contradiction(record: LogRecord, above: LogRecord): string | undefined {
  const { slot, epoch } = record.header;
  const upper = above.header;
  invariant(slot < upper.slot, 'records are compared from above');
  const named = upper.predecessor;
  if (named === undefined || named.slot < slot)
    return `record ${upper.slot} was made when slot ${slot} was empty or void`;
  if (named.slot === slot && !equalBytes(named.digest, record.digest)) {
    return `record ${upper.slot} names another record here: ${toHex(named.digest).slice(0, 12)}`;
  }
  if (slot >= upper.epoch && epoch !== upper.epoch) {
    return `record ${upper.slot} has epoch ${upper.epoch}, so no claim can stand between`;
  }
  return undefined;
}
