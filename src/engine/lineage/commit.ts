/**
 * The writer of a lineage: one create-only record after the other, each at the slot after the last. What makes it safe:
 *
 * - A slot is taken once. A successor's CLAIM takes the lowest empty slot, which is the one this writer would use next, so the
 *   writer meets it there and ends (fenced), however late it wakes.
 * - What a killed process of the same holder still had in flight can only land at the first slot after a restart, and is met
 *   there too: a valid record of the own epoch is adopted, and what was captured meanwhile is made anew for the next slot.
 * - Packs name the slot whose record may introduce them, so nothing that was sealed for one slot is ever listed by another.
 *
 * No LIST and no GET while nothing goes wrong: one create per record.
 */
import { setRoot } from '../format/keys.ts';
import { logKey, packKey } from '../format/object-keys.ts';
import { type PackEntry, packEntryName } from '../format/pack-entry.ts';
import {
  emptyPackList,
  encodePackTable,
  type PackList,
  packListFrom,
  type PackTable,
  packTableBytesMax,
  packTableName,
} from '../format/pack-table.ts';
import {
  encodeRecord,
  type InlinedPack,
  type Label,
  type LogRecord,
  recordBytesMax,
  type RecordBody,
  type RecordHeader,
  type RecordLink,
  type RecordTotals,
} from '../format/record.ts';
import { compareBytes, emptyBytes, equalBytes, utf8Bytes } from '../model/bytes.ts';
import type { VolumeCheckpoint } from '../model/checkpoint.ts';
import { HoldfastError, invariant } from '../model/errors.ts';
import { type Epoch, nextSlot, type RecordId, type Slot, toRecordId } from '../model/ids.ts';
import type { Clock } from '../ports/clock.ts';
import type { HolderState, HolderStore } from '../ports/holder-store.ts';
import type { ObjectWriter } from '../ports/object-store.ts';
import type { RandomSource } from '../ports/random.ts';
import { addToBase, withGood } from './base.ts';
import { createObject } from './create-object.ts';
import { judgeOccupant } from './fence.ts';
import {
  type CommitBase,
  type CommitRequest,
  type Committed,
  type LineageWriter,
  Rebased,
  type SealOptions,
} from './lineage-writer.ts';
import type { LineageLog } from './log.ts';
import { packListOf } from './pack-list.ts';
import type { DomainAccess } from './repository.ts';

/** What a writer works with; the same for all its records. */
export interface WriterParts {
  readonly store: ObjectWriter;
  readonly access: DomainAccess;
  readonly log: LineageLog;
  readonly holder: HolderStore;
  readonly holderName: string;
  readonly clock: Clock;
  readonly random: RandomSource;
}

export interface WriterStart {
  readonly epoch: Epoch;
  readonly previousClaim: Slot;
  /** The newest valid record of the log. */
  readonly newest: LogRecord;
  readonly base: CommitBase | undefined;
  readonly state: HolderState;
  readonly restorePending: boolean;
}

/** Attempts at one slot that are remembered; more are only made by a store that never answers. */
const rememberedAttemptsMax = 16;

export class LogWriter implements LineageWriter {
  readonly epoch: Epoch;
  readonly #parts: WriterParts;
  readonly #previousClaim: Slot;
  #slot: Slot;
  #newest: RecordLink;
  #base: CommitBase | undefined;
  #state: HolderState;
  #restorePending: boolean;
  /** Set while the newest record is this epoch's SEAL. */
  #sealed: Committed | undefined;
  #fenced: HoldfastError | undefined;
  #busy = false;

  constructor(parts: WriterParts, start: WriterStart) {
    this.#parts = parts;
    this.epoch = start.epoch;
    this.#previousClaim = start.previousClaim;
    this.#newest = { slot: start.newest.header.slot, digest: start.newest.digest };
    this.#slot = nextSlot(start.newest.header.slot);
    this.#base = start.base;
    this.#state = start.state;
    this.#restorePending = start.restorePending;
    if (start.newest.header.kind === 'SEAL') this.#sealed = committedOf(start.newest, emptyBytes);
  }

  get slot(): Slot {
    return this.#slot;
  }

  get base(): CommitBase | undefined {
    return this.#base;
  }

  get newest(): RecordLink {
    return this.#newest;
  }

  get sealed(): boolean {
    return this.#sealed !== undefined;
  }

  get restorePending(): boolean {
    return this.#restorePending;
  }

  restoreCompleted(): void {
    this.#restorePending = false;
  }

  async commit(request: CommitRequest): Promise<Committed> {
    invariant(
      request.kind !== 'CHECKPOINT' || !this.#restorePending,
      'no CHECKPOINT is written before the restore is complete',
    );
    return await this.#alone(async () => {
      const packs = packListOf(request, this.#base, this.#slot, this.epoch);
      const { list, table } = await this.#listFor(packs, request.signal);
      const volumes = [...request.volumes].sort((a, b) => (a.name < b.name ? -1 : 1));
      const root = setRoot(
        this.#parts.access.keys,
        volumes.map(({ name, root: { id } }) => ({ name, id })),
      );
      const inlined = request.inlined.map(({ summary, bytes }): InlinedPack => {
        const entry = packs.find((pack) => packEntryName(pack) === summary.name);
        invariant(entry !== undefined, 'an inlined pack is listed');
        return { entry, bytes };
      });
      inlined.sort((a, b) => a.entry.pack - b.entry.pack);
      const record = await this.#append(
        {
          kind: request.kind,
          suspect: request.suspect,
          consistency: request.consistency,
          labels: labelsOf(request.labels),
          totals: totalsOf(volumes, request),
          packList: list,
        },
        { setRoot: root, volumes },
        inlined,
        request.signal,
      );
      this.#base = addToBase(this.#base, record, volumes, { packs, table });
      this.#sealed = undefined;
      return committedOf(record, root);
    });
  }

  async seal(options: SealOptions = {}): Promise<Committed> {
    return await this.#alone(async () => {
      while (this.#sealed === undefined) {
        try {
          const record = await this.#append(
            { ...sealFields, labels: labelsOf(options.labels) },
            undefined,
            [],
            options.signal,
          );
          this.#sealed = committedOf(record, emptyBytes);
        } catch (error) {
          // A SEAL carries no packs, so junk only moves it to the next slot, and an adopted SEAL is as good as this one.
          if (!(error instanceof Rebased) || (error.adopted !== undefined && this.#sealed === undefined)) throw error;
        }
      }
      return this.#sealed;
    });
  }

  async lookForReleases(options: { readonly signal?: AbortSignal | undefined } = {}): Promise<void> {
    const base = this.#base;
    if (base?.checkpoint?.record.header.suspect !== true) return;
    const { log } = this.#parts;
    log.forgetReleases();
    this.#base = await withGood(log, base, options);
  }

  async confirm(options: { readonly signal?: AbortSignal | undefined } = {}): Promise<void> {
    if (this.#fenced !== undefined) throw this.#fenced;
    const { record } = await this.#parts.log.head(options);
    if (record !== undefined && record.header.slot > this.#newest.slot && record.header.epoch !== this.epoch) {
      throw this.#fence(record);
    }
  }

  /** One record at a time: whoever runs two at once has built packs for one slot twice. */
  async #alone<Result>(work: () => Promise<Result>): Promise<Result> {
    invariant(!this.#busy, 'a lineage has one writer at a time');
    if (this.#fenced !== undefined) throw this.#fenced;
    this.#busy = true;
    try {
      return await work();
    } finally {
      this.#busy = false;
    }
  }

  async #append(
    fields: RecordFields,
    body: RecordBody | undefined,
    inlined: readonly InlinedPack[],
    signal: AbortSignal | undefined,
  ): Promise<LogRecord> {
    const { access, log, clock, random, holderName } = this.#parts;
    const slot = this.#slot;
    const id = toRecordId(random.bytes(32));
    const header: RecordHeader = {
      ...fields,
      repository: access.repository,
      domain: access.domain,
      lineage: log.lineage,
      slot,
      id,
      epoch: this.epoch,
      generation: access.dataKey.generation,
      holder: this.#state.holder,
      holderName,
      previousClaim: this.#previousClaim,
      base: undefined,
      predecessor: this.#newest,
      timeMs: Math.floor(clock.nowMs()),
      origins: [],
    };
    const { bytes, record } = encodeRecord(header, body, inlined, { ...access, signingSeed: access.keys.signingSeed });
    await this.#remember(slot, id);
    const creation = await createObject(this.#parts, logKey(log.lineage, slot), bytes, {
      bytesMax: recordBytesMax,
      signal,
    });
    if (creation.outcome === 'exists') return await this.#giveWay(creation.occupant);
    if (creation.outcome === 'vanished') return await this.#lookAgain(signal);
    this.#advance(record);
    return record;
  }

  /** The list as the next record writes it. A table that it needs is durable afterwards, and means nothing without the record. */
  async #listFor(
    packs: readonly PackEntry[],
    signal: AbortSignal | undefined,
  ): Promise<{ readonly list: PackList; readonly table: PackTable | undefined }> {
    const { access, log } = this.#parts;
    const slot = this.#slot;
    const known = this.#base?.table;
    const list = packListFrom(packs, known, slot);
    if (list !== 'needsTable') return { list, table: list.table === undefined ? undefined : known };
    const { bytes, table } = encodePackTable(
      { ...access, lineage: log.lineage, slot, epoch: this.epoch, origins: [] },
      packs.filter((entry) => entry.origin !== 0 || entry.slot < slot),
      access.keys.signingSeed,
    );
    const name = packTableName(table.link);
    const creation = await createObject(this.#parts, packKey(log.lineage, name), bytes, {
      bytesMax: packTableBytesMax,
      signal,
    });
    if (creation.outcome !== 'created') {
      throw new HoldfastError('E_STORE_IO', `pack table ${name} exists already with other bytes`);
    }
    log.keepTable(table);
    const withTable = packListFrom(packs, table, slot);
    invariant(withTable !== 'needsTable', 'a list fits beside a table of its own');
    return { list: withTable, table };
  }

  /** Durable before the record is sent: whatever this process leaves in flight is known to the next one. */
  async #remember(slot: Slot, id: RecordId): Promise<void> {
    const before = this.#state.last?.slot === slot ? this.#state.last.ids : [];
    const ids = [...before, id].slice(-rememberedAttemptsMax);
    const state = { ...this.#state, last: { slot, ids } };
    await this.#parts.holder.save(state);
    this.#state = state;
  }

  #advance(record: LogRecord): void {
    this.#newest = { slot: record.header.slot, digest: record.digest };
    this.#slot = nextSlot(record.header.slot);
  }

  /** Something else stands at the slot. */
  async #giveWay(occupant: Uint8Array | undefined): Promise<never> {
    const { log } = this.#parts;
    const slot = this.#slot;
    const reading =
      occupant === undefined
        ? ({ valid: false, reason: 'too-large', detail: 'larger than any record' } as const)
        : log.readBytes(slot, occupant);
    const found = judgeOccupant(reading, this.epoch);
    if (found.means === 'skip') {
      this.#slot = nextSlot(slot);
      throw new Rebased(undefined, this.#slot);
    }
    const { record } = found;
    if (found.means === 'fenced') throw this.#fence(record);
    await this.#adopt(record);
    throw new Rebased(record, this.#slot);
  }

  async #adopt(record: LogRecord): Promise<void> {
    const { kind, slot, predecessor } = record.header;
    if (predecessor?.slot !== this.#newest.slot || !equalBytes(predecessor.digest, this.#newest.digest)) {
      throw new HoldfastError(
        'E_DAMAGED',
        `record ${slot} has the epoch of this writer but does not follow record ${this.#newest.slot}`,
      );
    }
    this.#sealed = kind === 'SEAL' ? committedOf(record, emptyBytes) : undefined;
    if (kind !== 'SEAL') {
      const { log } = this.#parts;
      this.#base = addToBase(this.#base, record, log.body(record).volumes, await log.packs(record));
    }
    this.#advance(record);
  }

  #fence(by: LogRecord): HoldfastError {
    const { kind, slot, holder, holderName } = by.header;
    this.#fenced = new HoldfastError('E_FENCED', `slot ${slot} holds a ${kind} of ${holderName || holder}`, {
      details: { slot, kind, holder, holderName },
    });
    return this.#fenced;
  }

  /** The slot was taken and is empty again: only somebody far ahead of this writer can have trimmed it. */
  async #lookAgain(signal: AbortSignal | undefined): Promise<never> {
    const { log } = this.#parts;
    const { record } = await log.head({ signal });
    if (record !== undefined && record.header.slot > this.#newest.slot) throw this.#fence(record);
    throw new HoldfastError(
      'E_STORE_IO',
      `the store said that ${logKey(log.lineage, this.#slot)} exists, and then that it does not`,
    );
  }
}

type RecordFields = Pick<RecordHeader, 'kind' | 'suspect' | 'consistency' | 'labels' | 'totals' | 'packList'>;

const noTotals: RecordTotals = { files: 0, entries: 0, bytes: 0, newBytes: 0, storedBytes: 0 };

const sealFields: RecordFields = {
  kind: 'SEAL',
  suspect: false,
  consistency: undefined,
  labels: [],
  totals: noTotals,
  packList: emptyPackList,
};

function committedOf(record: LogRecord, root: Uint8Array): Committed {
  return { slot: record.header.slot, id: record.header.id, digest: record.digest, root, bytes: record.bytes };
}

/** As records have them. */
export function labelsOf(labels: Readonly<Record<string, string>> | undefined): readonly Label[] {
  const list = Object.entries(labels ?? {}).map(([name, value]) => ({ name, value }));
  return list.sort((a, b) => compareBytes(utf8Bytes(a.name), utf8Bytes(b.name)));
}

function totalsOf(
  volumes: readonly VolumeCheckpoint[],
  request: Pick<CommitRequest, 'newBytes' | 'uploaded' | 'inlined'>,
): RecordTotals {
  let [files, entries, bytes, storedBytes] = [0, 0, 0, 0];
  for (const { root } of volumes) {
    files += root.sums.files;
    entries += root.sums.entries;
    bytes += root.sums.bytes;
  }
  for (const pack of request.uploaded) storedBytes += pack.bytes;
  for (const pack of request.inlined) storedBytes += pack.bytes.length;
  // Sums of sparse files of several volumes may be more than a number holds exactly; those of one volume stop there too.
  return { files, entries, bytes: Math.min(bytes, Number.MAX_SAFE_INTEGER), newBytes: request.newBytes, storedBytes };
}
