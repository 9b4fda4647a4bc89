/**
 * Copies one lineage, record by record.
 *
 * Invariants:
 * - A record is created in the target after everything that it lists, and above all that were created before it: the newest
 *   checkpoint of the target can be restored at any moment.
 * - The target alone says how far a copy has got. What was read of it at the beginning, and what was created since, is `known`.
 * - Nothing is created where anything stands. Another record in the place of ours ends the copy of this lineage: E_DIVERGED.
 * - A record whose objects the source no longer has whole is passed over, and said.
 */
import { ackPrefix, decisionPrefix, logKey, logPrefix, parseLogKey, receiptPrefix } from '../format/object-keys.ts';
import { isCommitted, type LogRecord, recordBytesMax } from '../format/record.ts';
import { createObject } from '../lineage/create-object.ts';
import { LineageLog } from '../lineage/log.ts';
import { equalBytes } from '../model/bytes.ts';
import { HoldfastError, isHoldfastError } from '../model/errors.ts';
import { type LineageName, recordIdText, type Slot, toSlot } from '../model/ids.ts';
import type { CopiedDomain } from './copy-keys.ts';
import { copyPack, copyTable, damagedTarget, provePack, vanished } from './copy-pack.ts';
import type { CopyParts, Waiting } from './copy-parts.ts';
import { type ListedObject, listedObjects } from './listed-objects.ts';
import { getRecord, type NewRecord, readNewRecords } from './new-records.ts';
import { diverged, readTarget } from './target-log.ts';

/**
 * Why a record was not copied. trimmed: it went while it was copied. expired: it is kept, but collection has taken packs that it
 * lists. void: it never counted. damaged, target-damaged: objects are missing or changed that must not be.
 */
export type PassedReason = 'trimmed' | 'expired' | 'void' | 'damaged' | 'target-damaged';

export interface PassedRecord {
  readonly slot: Slot;
  readonly reason: PassedReason;
  readonly detail: string;
}

/** What is in the source and not yet in the target. */
export interface Lag {
  readonly records: number;
  /** When the oldest of them was made, by its writer's clock, ms since 1970. */
  readonly oldestMs: number | undefined;
}

/** Records whose objects are copied before it is their turn. */
const recordsAheadMax = 8;
/** An acknowledgement or a receipt. */
const noteBytesMax: number = 1024 * 1024;
const passedMax = 1000;

type MovedObject = Exclude<ListedObject, { kind: 'record' }>;

type Prepared =
  | {
      readonly record: LogRecord;
      readonly bytes: Uint8Array;
      readonly listed: readonly ListedObject[];
      /** To be looked at again when the record stands. */
      readonly late: readonly MovedObject[];
    }
  | { readonly passed: PassedReason; readonly detail: string };

export class LineageCopy {
  readonly lineage: LineageName;
  readonly passed: PassedRecord[] = [];
  records = 0;
  packs = 0;
  bytes = 0;
  readonly #parts: CopyParts;
  readonly #domain: CopiedDomain;
  readonly #sourceLog: LineageLog;
  readonly #targetLog: LineageLog;
  #known: Map<string, number> | undefined;
  readonly #moving = new Map<string, Promise<void>>();
  #pending: NewRecord[] = [];
  #seen: Slot = toSlot(0);
  #head: Slot = toSlot(0);
  #headId: string | undefined;
  #newestCheckpoint: Slot = toSlot(0);

  constructor(parts: CopyParts, domain: CopiedDomain, lineage: LineageName) {
    this.lineage = lineage;
    this.#parts = parts;
    this.#domain = domain;
    this.#sourceLog = new LineageLog(parts.source, domain.verifier, lineage);
    this.#targetLog = new LineageLog(parts.target, domain.verifier, lineage);
  }

  /** Of the target: the newest record that is known to be there. */
  get head(): { readonly slot: Slot; readonly id: string | undefined } {
    return { slot: this.#head, id: this.#headId };
  }

  /** Undefined until both stores have been looked at. */
  get lag(): Lag | undefined {
    if (this.#known === undefined) return undefined;
    return { records: this.#pending.length, oldestMs: this.#pending[0]?.timeMs };
  }

  get damaged(): boolean {
    return this.passed.some(({ reason }) => reason === 'damaged' || reason === 'target-damaged');
  }

  /** Finds out what there is to do: once from both stores, then by one LIST of the head of the source. E_DIVERGED, E_STORE_*. */
  async look(options: Waiting = {}): Promise<void> {
    const { source } = this.#parts;
    if (this.#known === undefined) {
      const state = await readTarget(this.#parts, this.#sourceLog, this.#targetLog, options);
      this.#known = state.known;
      this.#head = state.head;
      this.#seen = state.head;
      this.#headId = state.record === undefined ? undefined : recordIdText(state.record.header.id);
    } else {
      const [newest] = await source.list(logPrefix(this.lineage), { ...options, limit: 1 });
      const slot = newest === undefined ? undefined : parseLogKey(this.lineage, newest.key);
      if (slot !== undefined && slot <= this.#seen) return;
    }
    const wanted = new Map<string, number>();
    let recordBytes = 0;
    const found = await readNewRecords(
      source,
      this.#sourceLog,
      this.#seen,
      (objects, bytes) => {
        recordBytes += bytes;
        for (const object of objects) {
          if (object.kind !== 'record' && !this.#holds(object.key)) wanted.set(object.key, object.bytes);
        }
      },
      options,
    );
    this.#seen = found.seen;
    this.#pending.push(...found.records);
    for (const { kind, slot } of found.records) if (kind === 'CHECKPOINT') this.#newestCheckpoint = slot;
    for (const { slot, detail, wasRecord } of found.voids) this.#pass(slot, wasRecord ? 'damaged' : 'void', detail);
    const { progress } = this.#parts;
    progress.objectsTotal += wanted.size + found.records.length;
    progress.bytesTotal += recordBytes;
    for (const bytes of wanted.values()) progress.bytesTotal += bytes;
    this.#parts.onProgress();
  }

  /**
   * Copies what was found, oldest record first. E_DIVERGED when somebody else has written this lineage in the target. After any
   * error the target is valid, and the next call goes on.
   */
  async copy(options: Waiting = {}): Promise<void> {
    const stop = new AbortController();
    const within = {
      signal: options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal]),
    };
    const preparing = new Map<NewRecord, Promise<Prepared>>();
    try {
      while (this.#pending.length > 0) {
        for (const record of this.#pending.slice(0, recordsAheadMax)) {
          if (preparing.has(record)) continue;
          const prepared = this.#prepare(record, within);
          prepared.catch(() => undefined);
          preparing.set(record, prepared);
        }
        const next = this.#pending[0] as NewRecord;
        const prepared = await (preparing.get(next) as Promise<Prepared>);
        if ('passed' in prepared) this.#pass(next.slot, prepared.passed, prepared.detail);
        else await this.#create(next.slot, prepared, within);
        this.#pending.shift();
        preparing.delete(next);
      }
    } finally {
      stop.abort();
      await Promise.allSettled(preparing.values());
      await Promise.allSettled(this.#moving.values());
    }
  }

  /** Acknowledgements and receipts, which come at any time. Nothing that is read waits for them. */
  async copyNotes(options: Waiting = {}): Promise<void> {
    const { source, target, clock } = this.#parts;
    for (const prefix of [ackPrefix(this.lineage), receiptPrefix(this.lineage)]) {
      for (const { key, bytes: size } of await source.list(prefix, options)) {
        if (this.#holds(key) || size > noteBytesMax) continue;
        const bytes = await source.get(key, { ...options, bytesMax: noteBytesMax });
        if (bytes === undefined) continue;
        const made = await createObject({ store: target, clock }, key, bytes, {
          bytesMax: noteBytesMax,
          signal: options.signal,
        });
        if (made.outcome === 'vanished') continue;
        this.#known?.set(key, bytes.length);
        if (made.outcome === 'created') this.#counted(bytes.length);
      }
    }
  }

  #holds(key: string): boolean {
    return this.#known?.has(key) ?? false;
  }

  #pass(slot: Slot, reason: PassedReason, detail: string): void {
    if (this.passed.length < passedMax) this.passed.push({ slot, reason, detail });
  }

  #counted(bytes: number): void {
    this.bytes += bytes;
    this.#parts.progress.objects += 1;
    this.#parts.progress.bytes += bytes;
    this.#parts.onProgress();
  }

  /** Everything but the record itself. */
  async #prepare(next: NewRecord, options: Waiting): Promise<Prepared> {
    const read = await this.#recordAt(next.slot, next.bytes, options);
    if ('passed' in read) return read;
    const { record } = read;
    await this.#domain.ensure(record.header.generation, options);
    try {
      this.#prove(record);
    } catch (error) {
      if (!isHoldfastError(error, 'E_DAMAGED')) throw error;
      return { passed: 'damaged', detail: error.message };
    }
    const late: MovedObject[] = [];
    let listed: readonly ListedObject[];
    try {
      listed = await listedObjects(this.#sourceLog, record, options);
      // Each asks the budget for its share; all wait at once.
      await Promise.all(
        listed.map(async (object) => {
          if (object.kind === 'record') return;
          const standing = this.#known?.get(object.key);
          if (standing === undefined) {
            // Below the head of the target its own collection may take them again before the record stands.
            if (object.slot <= this.#head) late.push(object);
            await this.#move(object, options);
          } else if (standing !== object.bytes) {
            throw damagedTarget(object.key, `it has ${standing} bytes, its record says ${object.bytes}`);
          }
        }),
      );
    } catch (error) {
      if (!isHoldfastError(error, 'E_DAMAGED')) throw error;
      if (error.details['store'] === 'target') return { passed: 'target-damaged', detail: error.message };
      return { passed: await this.#whyLost(next.slot, error, options), detail: error.message };
    }
    return { ...read, listed, late };
  }

  async #recordAt(
    slot: Slot,
    kept: Uint8Array | undefined,
    options: Waiting,
  ): Promise<{ readonly record: LogRecord; readonly bytes: Uint8Array } | { passed: PassedReason; detail: string }> {
    const bytes = kept ?? (await getRecord(this.#parts.source, this.#sourceLog, slot, options));
    if (bytes === undefined) return { passed: 'trimmed', detail: 'it was trimmed while it was copied' };
    const reading =
      bytes === 'too-large' ? { valid: false as const, detail: bytes } : this.#sourceLog.readBytes(slot, bytes);
    if (!reading.valid || bytes === 'too-large') {
      return {
        passed: 'damaged',
        detail: `it was changed while it was copied: ${reading.valid ? '' : reading.detail}`,
      };
    }
    return { record: reading.record, bytes };
  }

  /** With keys: that the body and the packs inside can be opened. The signature covers them, but not that their writer was sound. */
  #prove(record: LogRecord): void {
    const { prover, verifier } = this.#domain;
    if (prover.dataKeys === undefined) return;
    if (isCommitted(record.header.kind)) new LineageLog(this.#parts.source, verifier, this.lineage).body(record);
    for (const { entry, bytes } of record.inlined) {
      provePack({ entry, lineage: this.lineage }, prover, bytes, this.#parts);
    }
  }

  #move(object: MovedObject, options: Waiting): Promise<void> {
    const known = this.#moving.get(object.key);
    if (known !== undefined) return known;
    const { prover, verifier } = this.#domain;
    const copying =
      object.kind === 'pack'
        ? copyPack(this.#parts, object, prover, options)
        : copyTable(this.#parts, object, verifier.publicKey, options);
    const moving = copying
      .then(() => {
        this.#known?.set(object.key, object.bytes);
        if (object.kind === 'pack') this.packs += 1;
        this.bytes += object.bytes;
      })
      .finally(() => this.#moving.delete(object.key));
    this.#moving.set(object.key, moving);
    return moving;
  }

  async #create(slot: Slot, prepared: Exclude<Prepared, { passed: unknown }>, options: Waiting): Promise<void> {
    const { record, bytes, listed, late } = prepared;
    for (const object of listed) {
      if (object.kind !== 'record' || this.#holds(object.key)) continue;
      if (object.lineage !== this.lineage) {
        await this.#requireOrigin(object, options);
        continue;
      }
      const why = await this.#fill(object.slot, options);
      if (why !== undefined) {
        this.#pass(slot, why, `record ${object.slot}, which holds a pack of it, cannot be copied`);
        return;
      }
    }
    // A slot that is passed over could be taken by somebody else meanwhile without being met.
    const gap = slot > this.#head + 1;
    if (gap) await this.#refuseOthers(slot, options);
    if ((await this.#createRecord(slot, bytes, options)) === 'occupied') {
      this.#pass(slot, 'target-damaged', 'what stands in its place in the second store is no record');
      return;
    }
    this.#head = slot;
    this.#headId = recordIdText(record.header.id);
    this.records += 1;
    this.#counted(bytes.length);
    if (gap) await this.#refuseOthers(slot, options);
    for (const object of late) await this.#keep(object, options);
  }

  /** Collection of the target may have taken a pack between its copy and that of the record, which protects it from then on. */
  async #keep(object: MovedObject, options: Waiting): Promise<void> {
    if ((await this.#parts.target.stat(object.key, options)) !== undefined) return;
    this.#known?.delete(object.key);
    await this.#move(object, options);
  }

  async #createRecord(slot: Slot, bytes: Uint8Array, options: Waiting): Promise<'created' | 'occupied'> {
    const { target, clock } = this.#parts;
    const key = logKey(this.lineage, slot);
    const made = await createObject({ store: target, clock }, key, bytes, {
      bytesMax: recordBytesMax,
      signal: options.signal,
    });
    if (made.outcome === 'vanished') throw vanished(key);
    if (made.outcome === 'exists') {
      const theirs = made.occupant === undefined ? undefined : this.#targetLog.readBytes(slot, made.occupant);
      if (theirs?.valid) throw diverged(this.lineage, slot);
      return 'occupied';
    }
    this.#known?.set(key, bytes.length);
    return 'created';
  }

  /** An older record of this lineage that a newer one needs for a pack inside it, and that was passed over. */
  async #fill(slot: Slot, options: Waiting): Promise<PassedReason | undefined> {
    const bytes = await getRecord(this.#parts.source, this.#sourceLog, slot, options);
    if (bytes === undefined || bytes === 'too-large' || !this.#sourceLog.readBytes(slot, bytes).valid) return 'damaged';
    return (await this.#createRecord(slot, bytes, options)) === 'created' ? undefined : 'target-damaged';
  }

  /** A lineage that this one came from is copied by itself: a single record of it would look like its head. */
  async #requireOrigin(
    { lineage, slot, key }: Extract<ListedObject, { kind: 'record' }>,
    options: Waiting,
  ): Promise<void> {
    if ((await this.#parts.target.stat(key, options)) !== undefined) return;
    throw new HoldfastError(
      'E_EXPECTED_MISSING',
      `${this.lineage} needs record ${slot} of ${lineage}, which the second store does not hold yet`,
      { details: { key }, remedy: `Copy ${lineage} too, then run this again.` },
    );
  }

  /** E_DIVERGED when the target has a record between its head and `slot` that is not the source's. */
  async #refuseOthers(slot: Slot, options: Waiting): Promise<void> {
    const { target, source } = this.#parts;
    for (const { key } of await target.list(logPrefix(this.lineage), { ...options, limit: 64 })) {
      const at = parseLogKey(this.lineage, key);
      if (at === undefined || this.#holds(key) || at === slot) continue;
      const bytes = await getRecord(target, this.#targetLog, at, options);
      if (bytes === undefined || bytes === 'too-large' || !this.#targetLog.readBytes(at, bytes).valid) continue;
      const ours = await getRecord(source, this.#sourceLog, at, options);
      if (ours === undefined || ours === 'too-large' || !equalBytes(ours, bytes)) throw diverged(this.lineage, at);
    }
  }

  async #whyLost(slot: Slot, error: HoldfastError, options: Waiting): Promise<PassedReason> {
    const { source } = this.#parts;
    if ((await getRecord(source, this.#sourceLog, slot, options)) === undefined) return 'trimmed';
    const key = error.details['key'];
    const missing = typeof key === 'string' && (await source.stat(key, options)) === undefined;
    if (!missing || slot >= this.#newestCheckpoint) return 'damaged';
    // Without decisions nothing was ever collected.
    const decisions = await source.list(decisionPrefix(this.lineage), { ...options, limit: 1 });
    return decisions.length > 0 ? 'expired' : 'damaged';
  }
}
