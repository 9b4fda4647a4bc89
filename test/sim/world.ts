/**
 * What really is: the store without its faults, and every record that ever stood in the log. Each record is judged at the moment it
 * appears, whether or not anybody learns of it, because from then on a restore may be asked for.
 */
import { MemoryStore } from '../../src/edge/store/memory-store.ts';
import { logPrefix, packKey, parseLogKey } from '../../src/engine/format/object-keys.ts';
import { type PackEntry, packEntryName } from '../../src/engine/format/pack-entry.ts';
import { isCommitted, type LogRecord, readRecord } from '../../src/engine/format/record.ts';
import { LineageLog } from '../../src/engine/lineage/log.ts';
import type { DomainAccess } from '../../src/engine/lineage/repository.ts';
import { equalBytes } from '../../src/engine/model/bytes.ts';
import type { VolumeCheckpoint } from '../../src/engine/model/checkpoint.ts';
import { type LineageName, recordIdText, type Slot } from '../../src/engine/model/ids.ts';
import type { Compressor } from '../../src/engine/ports/compressor.ts';
import type {
  CreateOutcome,
  ListOptions,
  ObjectInfo,
  ObjectUpload,
  ObjectWriter,
  UnfinishedUpload,
  RangeOptions,
  WaitOptions,
} from '../../src/engine/ports/object-store.ts';
import { SegmentSource } from '../../src/engine/tree/segment-source.ts';
import type { Break } from './breaks.ts';
import { type CheckpointContent, type Description, differences, readCheckpoint, Violation } from './oracle.ts';
import type { Scheduler } from './scheduler.ts';

/** What a process sent, and what its disk had been like while it captured. */
export interface Sent {
  readonly by: string;
  readonly versions: readonly Description[];
  readonly passes: number;
}

export interface Appeared {
  readonly record: LogRecord;
  /** False: it fell below the head, into a gap, and means nothing. */
  readonly counts: boolean;
  content: CheckpointContent | undefined;
}

interface Acknowledged {
  readonly slot: Slot;
  readonly id: string;
  readonly kind: string;
  readonly root: Uint8Array;
}

export class World implements ObjectWriter {
  readonly memory: MemoryStore = new MemoryStore();
  readonly access: DomainAccess;
  readonly lineage: LineageName;
  readonly compressor: Compressor;
  readonly scheduler: Scheduler;
  readonly broken: ReadonlySet<Break>;
  readonly records: Map<number, Appeared> = new Map();
  readonly sent: Map<string, Sent> = new Map();
  readonly acknowledged: Acknowledged[] = [];
  /** Slots that the collector decided on, and those it deleted. */
  readonly expired: Set<number> = new Set();
  readonly trimmed: Set<number> = new Set();
  readonly counts: Map<string, number> = new Map();
  head: LogRecord | undefined;
  /** False where reads fail: what could not be read in one pass is new to the next. */
  judgesRereads = true;
  #checks: (() => Promise<void>)[] = [];
  readonly #readings: { readonly slot: Slot; readonly bytes: Uint8Array; readonly record: LogRecord }[] = [];

  constructor(
    access: DomainAccess,
    lineage: LineageName,
    compressor: Compressor,
    scheduler: Scheduler,
    broken: ReadonlySet<Break>,
  ) {
    this.access = access;
    this.lineage = lineage;
    this.compressor = compressor;
    this.scheduler = scheduler;
    this.broken = broken;
  }

  count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  get log(): LineageLog {
    return new LineageLog(this.memory, this.access, this.lineage);
  }

  sourceOf(packs: readonly PackEntry[], store: ObjectWriter = this.memory): SegmentSource {
    const { access, lineage, compressor } = this;
    return new SegmentSource({ store, compressor, lineage, ...access, packs });
  }

  get(key: string, options: WaitOptions & { readonly bytesMax: number }): Promise<Uint8Array | undefined> {
    return this.memory.get(key, options);
  }

  getRange(key: string, start: number, length: number, options?: RangeOptions): Promise<Uint8Array> {
    return this.memory.getRange(key, start, length, options);
  }

  stat(key: string, options?: WaitOptions): Promise<ObjectInfo | undefined> {
    return this.memory.stat(key, options);
  }

  list(prefix: string, options?: ListOptions): Promise<readonly ObjectInfo[]> {
    return this.memory.list(prefix, options);
  }

  async create(key: string, bytes: Uint8Array): Promise<CreateOutcome> {
    const slot = parseLogKey(this.lineage, key);
    let outcome = await this.memory.create(key, bytes);
    if (outcome === 'exists' && this.broken.has('overwrite')) {
      this.memory.damage(key, bytes);
      outcome = 'created';
    }
    if (outcome === 'created' && slot !== undefined) this.#appear(slot, bytes);
    return outcome;
  }

  async beginUpload(key: string, options?: WaitOptions): Promise<ObjectUpload> {
    const upload = await this.memory.beginUpload(key, options);
    if (!this.broken.has('pack-durable')) return upload;
    return {
      append: (bytes) => upload.append(bytes),
      commit: async () => {
        await upload.abort();
        return 'created';
      },
      abort: () => upload.abort(),
    };
  }

  async unfinished(): Promise<readonly UnfinishedUpload[]> {
    return [];
  }

  async trim(slot: number): Promise<void> {
    this.trimmed.add(slot);
    const key = `${logPrefix(this.lineage)}`;
    for (const info of await this.memory.list(key)) {
      if (parseLogKey(this.lineage, info.key) === slot) await this.memory.delete(info.key);
    }
  }

  /** Called when a commit has resolved. */
  acknowledge(
    by: string,
    kind: string,
    committed: { readonly slot: Slot; readonly id: Uint8Array; readonly root: Uint8Array },
    acknowledgedBefore: number,
  ): void {
    const { slot, root } = committed;
    const id = recordIdText(committed.id as never);
    this.scheduler.note(`${by}: ${kind} ${slot} acknowledged`);
    this.count(`acknowledged ${kind}`);
    if (slot <= acknowledgedBefore) {
      throw new Violation(`${by} had ${kind} ${slot} acknowledged after slot ${acknowledgedBefore} had been`);
    }
    if (this.acknowledged.some((other) => other.slot === slot)) throw new Violation(`slot ${slot} was used twice`);
    this.acknowledged.push({ slot, id, kind, root });
    this.checkAcknowledged();
  }

  get newestAcknowledged(): number {
    return this.acknowledged.reduce((newest, { slot }) => Math.max(newest, slot), 0);
  }

  /** Nothing acknowledged is ever lost or replaced. */
  checkAcknowledged(): void {
    for (const { slot, id, kind } of this.acknowledged) {
      const stands = this.records.get(slot);
      if (stands === undefined || !stands.counts || recordIdText(stands.record.header.id) !== id) {
        throw new Violation(`${kind} ${slot} was acknowledged and is lost or replaced`);
      }
    }
  }

  /** A process learned that it is the writer. */
  claimed(by: string, epoch: number): void {
    const claim = this.records.get(epoch);
    this.scheduler.note(`${by}: writes as epoch ${epoch}`);
    if (claim === undefined || !claim.counts) {
      throw new Violation(`${by} took the claim at slot ${epoch}, far below the head, for its own`);
    }
  }

  /** Judges what has appeared since the last call. */
  async judge(): Promise<void> {
    const checks = this.#checks;
    this.#checks = [];
    for (const check of checks) await check();
  }

  /** The record that these bytes are at that slot. */
  recordIn(slot: Slot, bytes: Uint8Array): LogRecord | undefined {
    const known = this.#readings.find((reading) => reading.slot === slot && equalBytes(reading.bytes, bytes));
    if (known !== undefined) return known.record;
    const { repository, domain, publicKey } = this.access;
    const reading = readRecord(bytes, { repository, domain, publicKey, lineage: this.lineage, slot });
    if (!reading.valid) return undefined;
    if (this.#readings.length > 4) this.#readings.shift();
    this.#readings.push({ slot, bytes: bytes.slice(), record: reading.record });
    return reading.record;
  }

  #appear(slot: Slot, bytes: Uint8Array): void {
    const record = this.recordIn(slot, bytes);
    if (record === undefined) {
      this.count('junk');
      return;
    }
    const { kind, predecessor, epoch } = record.header;
    const head = this.head;
    const above = head === undefined || slot > head.header.slot;
    this.scheduler.note(`log: ${kind} ${slot} of epoch ${epoch}${above ? '' : ', in a gap'}`);
    this.count(above ? kind : 'late, in a gap');
    if (!above && this.trimmed.has(slot)) {
      // The echo of a trimmed record brings it back; another record means nothing there.
      const before = this.records.get(slot);
      if (before !== undefined && equalBytes(before.record.header.id, record.header.id)) this.trimmed.delete(slot);
      return;
    }
    this.records.set(slot, { record, counts: above, content: undefined });
    this.#checks.push(async () => this.checkAcknowledged());
    if (!above) return;
    if (
      predecessor?.slot !== head?.header.slot ||
      (head && predecessor && !equalBytes(predecessor.digest, head.digest))
    ) {
      throw new Violation(
        `${kind} ${slot} of epoch ${epoch} follows ${predecessor?.slot}, the newest was ${head?.header.slot} of epoch ${head?.header.epoch}`,
      );
    }
    if (kind === 'CLAIM' ? Number(epoch) !== slot : epoch !== head?.header.epoch) {
      throw new Violation(`${kind} ${slot} of epoch ${epoch} came after epoch ${head?.header.epoch}`);
    }
    const base = this.#baseBelow(record);
    this.head = record;
    if (isCommitted(kind)) this.#checks.push(() => this.#judge(record, base));
  }

  /** The newest CHECKPOINT below and the PARTIALs above it, newest first. */
  #baseBelow(record: LogRecord): readonly LogRecord[] {
    const base: LogRecord[] = [];
    for (let slot = record.header.slot - 1; slot > 0; slot--) {
      const below = this.records.get(slot);
      if (below === undefined || !below.counts || !isCommitted(below.record.header.kind)) continue;
      base.push(below.record);
      if (below.record.header.kind === 'CHECKPOINT') break;
    }
    return base;
  }

  async #judge(record: LogRecord, base: readonly LogRecord[]): Promise<void> {
    const { slot, kind, epoch } = record.header;
    const name = `${kind} ${slot}`;
    const { packs } = await this.log.packs(record);
    const ofBase = new Set<string>();
    for (const below of base) {
      for (const entry of (await this.log.packs(below)).packs) ofBase.add(packEntryName(entry));
    }
    for (const entry of packs) {
      const pack = packEntryName(entry);
      if (ofBase.has(pack)) continue;
      if (entry.slot !== slot || entry.epoch !== epoch)
        throw new Violation(`${name} lists ${pack}, which is not its own`);
    }
    for (const entry of packs) await this.#checkThere(name, entry);
    const [volume, content] = await this.#read(name, record);
    const listed = new Set(packs.map((entry) => `${entry.slot}/${entry.pack}`));
    for (const reached of content.packs) {
      if (!listed.has(reached)) throw new Violation(`${name} reaches pack ${reached}, which it does not list`);
    }
    if (!equalBytes(content.rebuiltRoot, volume.root.id)) {
      throw new Violation(`${name} has another root than the same entries have when built from nothing`);
    }
    const appeared = this.records.get(slot) as Appeared;
    appeared.content = content;
    if (kind === 'PARTIAL') return;
    this.#compareWithDisk(name, record, volume, content);
    const [newest] = base;
    if (newest !== undefined && this.judgesRereads) this.#checkNotReadAgain(name, record, newest, content);
  }

  async #checkThere(name: string, entry: PackEntry): Promise<void> {
    const pack = packEntryName(entry);
    if (entry.inlined) {
      const stands = this.records.get(entry.slot)?.counts === true && !this.trimmed.has(entry.slot);
      if (!stands) throw new Violation(`${name} lists ${pack}, inlined into a record that is not there`);
      return;
    }
    const info = await this.memory.stat(packKey(this.lineage, pack));
    if (info?.bytes !== entry.bytes) throw new Violation(`${name} lists ${pack}, which is not whole in the store`);
  }

  async #read(name: string, record: LogRecord): Promise<[VolumeCheckpoint, CheckpointContent]> {
    try {
      const body = this.log.body(record);
      const volume = body.volumes[0] as VolumeCheckpoint;
      const source = this.sourceOf((await this.log.packs(record)).packs);
      return [volume, await readCheckpoint(volume.root, volume.rootMeta, source, this.access.keys)];
    } catch (error) {
      if (error instanceof Violation) throw new Violation(`${name}: ${error.message}`);
      throw new Violation(`${name} cannot be restored: ${String(error)}`, { cause: error });
    }
  }

  /** Every acknowledged checkpoint that is not expired restores to what it was. */
  async compareAgain(slot: number): Promise<void> {
    const appeared = this.records.get(slot);
    if (appeared?.content === undefined) return;
    const [, content] = await this.#read(`${appeared.record.header.kind} ${slot}, read again,`, appeared.record);
    const [wrong] = differences(appeared.content.description, content.description);
    if (wrong !== undefined) throw new Violation(`record ${slot} shows something else now: ${wrong}`);
  }

  #compareWithDisk(name: string, record: LogRecord, volume: VolumeCheckpoint, content: CheckpointContent): void {
    const sent = this.sent.get(recordIdText(record.header.id));
    if (sent === undefined) throw new Violation(`${name} was sent by nobody`);
    const { consistency } = record.header;
    const missing: string[] = [];
    for (const { reason, count, names } of volume.skipped) {
      if (reason === 'socket' || reason === 'device') continue;
      if (count > names.length) return;
      missing.push(...names);
    }
    if (volume.incomplete) this.count('incomplete');
    this.count(consistency ?? 'no consistency');
    const isMissing = (path: string): boolean => missing.some((one) => path === one || path.startsWith(`${one}/`));
    const versions = missing.length === 0 ? sent.versions : sent.versions.map((one) => without(one, isMissing));
    if (consistency !== 'fuzzy') {
      const wrong = closest(versions, content.description, isMissing);
      if (wrong !== undefined) {
        throw new Violation(`${name} is ${consistency}, but its disk never was like that: ${wrong}`);
      }
      return;
    }
    if (volume.fuzzyCount > volume.fuzzyNames.length) return;
    const { fuzzyNames } = volume;
    const moved = new Set(fuzzyNames);
    const excepted = (path: string): boolean =>
      path === '.' || isMissing(path) || moved.has(path) || fuzzyNames.some((one) => path.startsWith(`${one}/`));
    // A name whose first name moved is told by another one.
    const told = (path: string, line: string): boolean =>
      excepted(path) || (line.startsWith('= ') && excepted(line.slice(2)));
    for (const [path, line] of content.description) {
      // One that was there at all: its inode may have been read when it had been renamed already.
      if (told(path, line) && (excepted(path) || versions.some((version) => version.has(path)))) continue;
      if (versions.some((version) => version.get(path) === line)) continue;
      // A name may have been linked after its group was passed by: each of the two then stands by itself.
      const inode = inodeLine(content.description, path);
      if (versions.some((version) => inodeLine(version, path) === inode)) continue;
      throw new Violation(`${name} is fuzzy and does not name ${path}, which never was ${line}`);
    }
    if (sent.passes < 2) return;
    const wrong = closest(versions, content.description, told);
    if (wrong !== undefined) {
      throw new Violation(`${name} is fuzzy, but what it does not name was never together on its disk: ${wrong}`);
    }
  }

  /** What the base has under the same name with the same content was not stored again. */
  #checkNotReadAgain(name: string, { header }: LogRecord, base: LogRecord, content: CheckpointContent): void {
    const { slot } = header;
    const versions = this.sent.get(recordIdText(header.id))?.versions ?? [];
    const before = this.records.get(base.header.slot)?.content;
    if (before === undefined) return;
    const used = new Map<string, number>();
    for (const { chunks } of content.placed.values())
      for (const { id } of chunks) used.set(id, (used.get(id) ?? 0) + 1);
    // A name linked during the capture may have been read before the first name of its file.
    const linked = new Set(
      versions.flatMap((version) => [...version.values()].filter((line) => line.startsWith('= '))),
    );
    for (const [path, { value, chunks }] of content.placed) {
      if (linked.has(`= ${path}`)) continue;
      const old = before.placed.get(path);
      if (old === undefined || old.value !== value) continue;
      // What moved meanwhile may have come back.
      if (versions.some((version) => version.get(path) !== content.description.get(path))) continue;
      for (const [i, chunk] of chunks.entries()) {
        // The same bytes may have been stored under another name, and are referred to there.
        if (chunk.slot !== slot || old.chunks[i]?.slot === slot || used.get(chunk.id) !== 1) continue;
        throw new Violation(`${name} stored ${path} again, which its base ${base.header.kind} ${base.header.slot} has`);
      }
    }
    this.count(base.header.kind === 'PARTIAL' ? 'resumed' : 'increment');
  }
}

/** Where the first name of a group is missing, the next one stands for it. */
function without(version: Description, isMissing: (path: string) => boolean): Description {
  const firsts = new Map<string, string>();
  const left = new Map<string, string>();
  for (const [path, line] of version) {
    if (isMissing(path)) continue;
    const target = line.startsWith('= ') ? line.slice(2) : undefined;
    if (target === undefined || !isMissing(target)) {
      left.set(path, line);
      continue;
    }
    const first = firsts.get(target);
    left.set(path, first === undefined ? (version.get(target) ?? line) : `= ${first}`);
    if (first === undefined) firsts.set(target, path);
  }
  return left;
}

/** Undefined when some version agrees; else how the most similar one differs. */
function closest(
  versions: readonly Description[],
  got: Description,
  excepted: (path: string, line: string) => boolean,
): string | undefined {
  let fewest: readonly string[] | undefined;
  for (const version of versions) {
    const wrong = differences(version, got, excepted);
    if (wrong.length === 0) return undefined;
    if (fewest === undefined || wrong.length < fewest.length) fewest = wrong;
  }
  return `${fewest?.slice(0, 4).join('; ')} (${fewest?.length} differences, ${versions.length} versions)`;
}

function inodeLine(description: Description, path: string): string | undefined {
  const line = description.get(path);
  return line?.startsWith('= ') === true ? description.get(line.slice(2)) : line;
}
