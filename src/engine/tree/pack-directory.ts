/**
 * Where the committed bytes of a lineage lie: from a pack's entry in a record to its opened footer, and from a place to a range
 * of an object. A pack inlined into the record of its slot is found inside that record, which is verified first.
 *
 * What a record lists and what a footer says is untrusted: lengths are bounded before anything is allocated, and a pack that is
 * missing, short or changed is E_DAMAGED with the object's key and the pack's name.
 */
import type { DataKey } from '../format/keys.ts';
import { logKey, packKey } from '../format/object-keys.ts';
import { type PackIdentity, PackReader, readTrailer, type SegmentKind } from '../format/pack.ts';
import { type PackEntry, packEntryName } from '../format/pack-entry.ts';
import { type LogRecord, readRecord, recordBytesMax } from '../format/record.ts';
import { emptyBytes } from '../model/bytes.ts';
import type { Place } from '../model/entry.ts';
import { HoldfastError, isHoldfastError } from '../model/errors.ts';
import { type LineageName, toEpoch, toSlot } from '../model/ids.ts';
import { reread } from '../model/reread.ts';
import type { ObjectReader } from '../ports/object-store.ts';
import { WeightedCache } from './weighted-cache.ts';

/** What opens the packs that a record lists. */
export interface PackAccess {
  readonly store: ObjectReader;
  /** All generations; a pack names its own. */
  readonly dataKeys: readonly DataKey[];
  /** Of the domain: verifies the records that hold inlined packs. */
  readonly publicKey: Uint8Array;
  readonly repository: string;
  readonly domain: string;
  readonly lineage: LineageName;
  /** Other lineages of the domain, as the record lists them: what origins 1 and up stand for. */
  readonly origins?: readonly LineageName[];
  /** Ascending by (origin, slot, pack) or not; what is not listed here cannot be read. */
  readonly packs: readonly PackEntry[];
  /** A valid record of this lineage that is at hand: packs inlined in it are not read again. */
  readonly record?: LogRecord | undefined;
  /** So many bytes before the footer of a pack are read with it, default none. The root of a tree lies there, and nodes just below it. */
  readonly tailBytes?: number;
  readonly signal?: AbortSignal;
}

export interface OpenedPack {
  readonly name: string;
  readonly entry: PackEntry;
  readonly identity: PackIdentity;
  /** Of the data key. */
  readonly generation: number;
  /** Object that holds the pack, and where the pack begins in it. */
  readonly key: string;
  readonly start: number;
  readonly reader: PackReader;
  /** Footer and trailer, so that another thread can open the pack too. */
  readonly footer: Uint8Array;
  /** All of the pack, when it is inlined. */
  readonly bytes: Uint8Array | undefined;
  /** What was read before the footer: the end of the pack's segments. */
  readonly tail: Uint8Array;
}

export interface SegmentLocation {
  /** Object, and the range in it. */
  readonly key: string;
  readonly start: number;
  readonly length: number;
  readonly plainBytes: number;
  readonly kind: SegmentKind;
  readonly pack: OpenedPack;
}

/** Opened footers and inlined packs stay up to this; a pack of 64 MiB has a footer of 1 to 3 KiB. */
const openedBytesMax: number = 4 * 1024 * 1024;
const damagedMax = 4096;
/** A tree of some gigabytes has about as many. */
const aheadMax = 16;
/** The largest table of segments, 2^22 of 12 bytes, and what stands after it. */
const footerBytesMax: number = 2 ** 22 * 12 + 4096;

export class PackDirectory {
  readonly access: PackAccess;
  readonly #entries = new Map<string, PackEntry>();
  readonly #opened = new WeightedCache<OpenedPack>(openedBytesMax);
  readonly #opening = new Map<string, Promise<OpenedPack>>();
  /** Damage does not heal while this runs, and every file of a pack would ask again. */
  readonly #damaged = new Map<string, HoldfastError>();

  constructor(access: PackAccess) {
    this.access = access;
    for (const entry of access.packs) this.#entries.set(nameOf(entry), entry);
  }

  /** What the record says of the pack of a place. */
  entry(place: Pick<Place, 'origin' | 'slot' | 'pack'>): PackEntry | undefined {
    return this.#entries.get(nameOf(place));
  }

  /** Opens the first packs of those that are objects, side by side, since all of them are about to be read. What fails is told when it is asked for. */
  openAhead(): void {
    let left = aheadMax;
    for (const entry of this.#entries.values()) {
      if (entry.inlined) continue;
      if (left-- === 0) return;
      const pack = this.pack(entry);
      if (pack instanceof Promise) pack.catch(() => undefined);
    }
  }

  /** The pack of a place, at once when it is open. E_DAMAGED, E_KEY_MISSING, E_STORE_*. */
  pack(place: Pick<Place, 'origin' | 'slot' | 'pack'>): OpenedPack | Promise<OpenedPack> {
    const name = nameOf(place);
    const opened = this.#opened.get(name) ?? this.#opening.get(name);
    if (opened !== undefined) return opened;
    const damage = this.#damaged.get(name);
    if (damage !== undefined) throw damage;
    const opening = this.#open(name)
      .catch((error: unknown) => {
        if (isHoldfastError(error, 'E_DAMAGED') && this.#damaged.size < damagedMax) this.#damaged.set(name, error);
        throw error;
      })
      .finally(() => this.#opening.delete(name));
    this.#opening.set(name, opening);
    return opening;
  }

  /** Where the segment of a place lies. Errors as of `pack`. */
  locate(place: Place): SegmentLocation | Promise<SegmentLocation> {
    const pack = this.pack(place);
    return pack instanceof Promise
      ? pack.then((opened) => locationIn(opened, place.segment))
      : locationIn(pack, place.segment);
  }

  async #open(name: string): Promise<OpenedPack> {
    const entry = this.#entries.get(name);
    if (entry === undefined) {
      throw new HoldfastError('E_DAMAGED', `pack ${name} (origin/slot/number) is not listed by the record`, {
        details: { pack: name },
      });
    }
    const opened = await reread(() => (entry.inlined ? this.#openInlined(entry) : this.#openObject(entry)));
    this.#opened.keep(name, opened, weightOf(opened));
    return opened;
  }

  async #openObject(entry: PackEntry): Promise<OpenedPack> {
    const { store, signal } = this.access;
    const name = packEntryName(entry);
    const key = packKey(this.#lineageOf(entry), name);
    return await naming(key, name, undefined, async () => {
      if (entry.footerBytes > footerBytesMax || entry.footerBytes > entry.bytes) throw footerTooLong(name);
      const tailBytes = Math.min(this.access.tailBytes ?? 0, entry.bytes - entry.footerBytes);
      const length = tailBytes + entry.footerBytes;
      const end = await store.getRange(key, entry.bytes - length, length, signal === undefined ? {} : { signal });
      const opened = this.#read(entry, key, 0, end.subarray(tailBytes), undefined);
      return { ...opened, tail: end.subarray(0, tailBytes) };
    });
  }

  async #openInlined(entry: PackEntry): Promise<OpenedPack> {
    const { store, signal, repository, domain, publicKey, record } = this.access;
    const name = packEntryName(entry);
    const lineage = this.#lineageOf(entry);
    const slot = toSlot(entry.slot);
    const key = logKey(lineage, slot);
    if (entry.origin === 0 && record?.header.slot === slot) {
      return await naming(key, name, undefined, () => this.#inlinedIn(record, entry, key));
    }
    return await naming(key, name, undefined, async () => {
      const bytes = await store.get(key, { bytesMax: recordBytesMax, ...(signal === undefined ? {} : { signal }) });
      if (bytes === undefined)
        throw new HoldfastError('E_DAMAGED', `record ${slot}, which holds pack ${name}, is missing`);
      const reading = readRecord(bytes, { repository, domain, lineage, slot, publicKey });
      if (!reading.valid) {
        throw new HoldfastError('E_DAMAGED', `record ${slot}, which holds pack ${name}, is void: ${reading.detail}`);
      }
      return this.#inlinedIn(reading.record, entry, key);
    });
  }

  #inlinedIn({ header, inlined, bytes }: LogRecord, entry: PackEntry, key: string): OpenedPack {
    const name = packEntryName(entry);
    const at = inlined.findIndex((pack) => packEntryName(pack.entry) === name);
    const found = inlined[at];
    if (found === undefined) throw new HoldfastError('E_DAMAGED', `record ${header.slot} does not hold pack ${name}`);
    if (entry.footerBytes > found.bytes.length || entry.bytes !== found.bytes.length) throw footerTooLong(name);
    // Inlined packs are what a record ends with.
    const start = inlined.slice(at).reduce((from, pack) => from - pack.bytes.length, bytes);
    const footer = found.bytes.subarray(found.bytes.length - entry.footerBytes);
    return this.#read(entry, key, start, footer, found.bytes);
  }

  #read(entry: PackEntry, key: string, start: number, footer: Uint8Array, bytes: Uint8Array | undefined): OpenedPack {
    const { repository, domain } = this.access;
    const name = packEntryName(entry);
    const identity: PackIdentity = {
      repository,
      domain,
      lineage: this.#lineageOf(entry),
      slot: toSlot(entry.slot),
      epoch: toEpoch(entry.epoch),
      pack: entry.pack,
    };
    const { generation } = readTrailer(footer, `pack ${name}`);
    const dataKey = this.dataKey(generation, name);
    const reader = PackReader.open(name, identity, dataKey, footer, entry.bytes);
    return { name, entry, identity, generation, key, start, reader, footer, bytes, tail: emptyBytes };
  }

  /** E_KEY_MISSING when that generation is not known here. */
  dataKey(generation: number, pack: string): DataKey {
    const found = this.access.dataKeys.find((key) => key.generation === generation);
    if (found !== undefined) return found;
    // The generation stands in clear: where no key of that number was ever made, the byte was changed.
    throw new HoldfastError('E_DAMAGED', `pack ${pack} names data key ${generation}, which is not known here`, {
      details: { pack },
    });
  }

  #lineageOf(entry: PackEntry): LineageName {
    if (entry.origin === 0) return this.access.lineage;
    const lineage = this.access.origins?.[entry.origin - 1];
    if (lineage !== undefined) return lineage;
    throw new HoldfastError(
      'E_DAMAGED',
      `pack ${packEntryName(entry)} is of origin ${entry.origin}, which is not named`,
    );
  }
}

function weightOf({ footer, tail, reader, bytes }: OpenedPack): number {
  return footer.length + tail.length + 16 * reader.segments + (bytes?.length ?? 0);
}

function nameOf({ origin, slot, pack }: Pick<Place, 'origin' | 'slot' | 'pack'>): string {
  return `${origin}/${slot}/${pack}`;
}

/** Where a segment of an opened pack lies. E_DAMAGED when the pack has no such segment. */
export function locationIn(pack: OpenedPack, segment: number): SegmentLocation {
  try {
    const { start, length, plainBytes, kind } = pack.reader.segmentRange(segment);
    return { key: pack.key, start: pack.start + start, length, plainBytes, kind, pack };
  } catch (error) {
    throw named(error, pack.key, pack.name, segment);
  }
}

function footerTooLong(name: string): HoldfastError {
  return new HoldfastError('E_DAMAGED', `the record lists pack ${name} with impossible lengths`);
}

/** Damage found inside names the object, the pack and the segment. */
export async function naming<Result>(
  key: string,
  pack: string,
  segment: number | undefined,
  read: () => Promise<Result> | Result,
): Promise<Result> {
  try {
    return await read();
  } catch (error) {
    throw named(error, key, pack, segment);
  }
}

export function named(error: unknown, key: string, pack: string, segment: number | undefined): unknown {
  if (!isHoldfastError(error, 'E_DAMAGED')) return error;
  const where = segment === undefined ? `pack ${pack}` : `pack ${pack}, segment ${segment}`;
  const text = error.message.startsWith(where) ? error.message : `${where}: ${error.message}`;
  return new HoldfastError('E_DAMAGED', `${text} (object ${key})`, {
    cause: error,
    details: { ...error.details, key, pack, ...(segment === undefined ? {} : { segment }) },
  });
}
