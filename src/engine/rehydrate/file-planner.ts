/**
 * Files into batches, batches into the pipeline. A batch gathers files whose content lies in one pack, in the order of the pack, and
 * ends where the segment changes: so each segment is fetched and opened about once, although several lanes wrote the packs
 * side by side. Files that share no large pack go together.
 *
 * Memory follows neither the number of files nor their size: open batches, their packs and the parts of large files are bounded.
 */
import type { DomainKeys } from '../format/keys.ts';
import { contentId } from '../format/keys.ts';
import type { ContentItem, Entry, Place } from '../model/entry.ts';
import { equalBytes } from '../model/bytes.ts';
import { HoldfastError, invariant, isHoldfastError } from '../model/errors.ts';
import type { Descriptor, FileTreeWriter, NameAt } from '../ports/file-tree.ts';
import { readList } from '../tree/list.ts';
import type { SegmentSource } from '../tree/segment-source.ts';
import { applyToDescriptor, type DegradedPart, nameAt, type PlainXattr } from './apply-meta.ts';
import { Batch, type BatchItem, type Held, placesOf } from './batch.ts';
import { BatchPipeline, type PipelineOptions } from './batch-pipeline.ts';
import { ContentComparison, sameXattrs } from './compare-content.ts';
import { type DamageTally, placeOf } from './damage.ts';
import { removeQuietly, tempName } from './rehydrate-lane.ts';
import { itemFlag, type JobReply, jobKind, noteKind } from './restore-job.ts';
import { targetError, targetFailure } from './target-error.ts';

export type FileEntry = Extract<Entry, { type: 'file' }>;

export interface PlannedFile {
  readonly key: Uint8Array;
  readonly name: Uint8Array;
  /** Where it is written; not used when content is only proven. */
  readonly directory: Held & { readonly descriptor: Descriptor };
  readonly entry: FileEntry;
  /** Something stands at the name and is replaced. */
  readonly replace: boolean;
  /** The owner must be set. */
  readonly owner: boolean;
}

export interface FilePlannerOptions {
  readonly kind: 'write' | 'prove';
  readonly files: FileTreeWriter;
  readonly source: SegmentSource;
  readonly keys: DomainKeys;
  readonly pipeline: Omit<PipelineOptions<PlannedItem>, 'onReply'>;
  readonly damage: DamageTally;
  readonly onDegraded: (key: Uint8Array, part: DegradedPart, errno: string) => void;
  /** Files that are done, and their sizes. `written` false: they were compared, and are as they should be. */
  readonly onFiles: (files: number, bytes: number, written: boolean) => void;
}

interface PlannedItem extends BatchItem {
  readonly large: LargeFile | undefined;
  /** Of a comparison: what to do when it differs. */
  readonly file: PlannedFile | undefined;
}

type PlannedBatch = Batch<PlannedItem>;

const batchBytes: number = 8 * 1024 * 1024;
/** The same in the store: one range. */
const batchStoredBytes: number = 2 * 1024 * 1024;
const batchFilesMax = 512;
/** Each is an open descriptor; the default limit of a process is 1024. */
const batchDirectoriesMax = 48;
const openBatchesMax = 6;
/** A batch nothing was added to for this many files is under way as it is. */
const idleFilesMax = 512;
/** Packs smaller than this get no batch of their own. */
const smallPackBytes: number = 1024 * 1024;
/** Content lists up to this go into a batch whole. */
const largeItems = 1024;

const mixed = 'mixed';

export class FilePlanner {
  readonly #options: FilePlannerOptions;
  readonly #pipeline: BatchPipeline<PlannedItem>;
  readonly #open = new Map<string, { batch: PlannedBatch; usedAt: number }>();
  readonly #large = new Set<LargeFile>();
  #comparison: PlannedBatch | undefined;
  #differing: PlannedFile[] = [];
  #planned = 0;
  #lastPlace: Place | undefined;
  #lastName = mixed;

  constructor(options: FilePlannerOptions) {
    this.#options = options;
    this.#pipeline = new BatchPipeline<PlannedItem>({
      ...options.pipeline,
      onReply: (batch, reply) => this.#onReply(batch, reply),
    });
  }

  /** Descriptors of directories that open batches hold. */
  get heldDirectories(): number {
    let held = this.#comparison?.directories ?? 0;
    for (const { batch } of this.#open.values()) held += batch.directories;
    return held;
  }

  /** Gives the file to a batch. A promise when packs must be opened or a batch is full; awaited before the next call. */
  plan(file: PlannedFile): void | Promise<void> {
    const { content, size } = file.entry;
    if (content.kind === 'inline') return this.#add(file, content.items);
    return this.#planList(file, size);
  }

  /** The same for a file that stands there with an equal stamp: it is written only if its content differs. */
  async compare(file: PlannedFile): Promise<void> {
    const { content, xattrs } = file.entry;
    // What is long or rare is compared here; the rest goes to the lanes.
    if (content.kind === 'list' || xattrs.some(({ value }) => value.kind === 'chunk')) {
      await this.#compareHere(file);
      return;
    }
    this.#comparison ??= new Batch<PlannedItem>(false);
    const batch = this.#comparison;
    batch.addFile(
      {
        directory: file.directory.descriptor,
        name: file.name,
        flags: 0,
        meta: file.entry,
        size: file.entry.size,
        holes: [],
        content: content.items,
      },
      { key: file.key, bytes: file.entry.size, large: undefined, file },
      file.directory,
    );
    if (!isFull(batch, 1)) return;
    this.#comparison = undefined;
    await this.#pipeline.submit(batch, jobKind.compare);
  }

  /** Files whose comparison failed; to be planned again as replacements. The caller releases their directories. */
  takeDiffering(): readonly PlannedFile[] {
    const differing = this.#differing;
    this.#differing = [];
    return differing;
  }

  /** Sends every batch on its way. */
  async flush(): Promise<void> {
    const batches = [...this.#open.values()];
    this.#open.clear();
    for (const { batch } of batches) {
      if (batch.count > 0) await this.#submit(batch);
      else batch.release();
    }
    const comparison = this.#comparison;
    this.#comparison = undefined;
    if (comparison !== undefined) await this.#pipeline.submit(comparison, jobKind.compare);
  }

  /** Waits for some progress. */
  step(): Promise<void> {
    return this.#pipeline.step();
  }

  get idle(): boolean {
    return this.#pipeline.idle;
  }

  /** All that is under way now is done; never rejects. */
  settled(): Promise<void> {
    return this.#pipeline.settled();
  }

  async drain(): Promise<void> {
    await this.flush();
    await this.#pipeline.drain();
  }

  /** Number for a temporary name of the caller's own. */
  tempName(): NameAt {
    return tempName(this.#options.pipeline.tempPrefix, this.#pipeline.nextTemp());
  }

  /** Drops what is not under way and waits for the rest. Never rejects. */
  async close(): Promise<void> {
    await this.#pipeline.settled();
    for (const { batch } of this.#open.values()) batch.release();
    this.#open.clear();
    this.#comparison?.release();
    this.#comparison = undefined;
    for (const { directory } of this.#differing.splice(0)) directory.release();
    for (const large of this.#large) large.abandon();
    this.#large.clear();
  }

  #submit(batch: PlannedBatch): Promise<void> {
    return this.#pipeline.submit(batch, this.#options.kind === 'prove' ? jobKind.prove : jobKind.write);
  }

  #add(file: PlannedFile, content: readonly ContentItem[]): void | Promise<void> {
    this.#planned++;
    try {
      const first = firstPlace(content, file.entry);
      const name = first === undefined ? this.#lastName : this.#batchName(first);
      const open = this.#open.get(name);
      if (open === undefined || mustEnd(open.batch, first)) return this.#addTo(name, first, file, content);
      open.usedAt = this.#planned;
      const waiting = this.#needAll(open.batch, content, file.entry);
      if (waiting !== undefined) return this.#addLater(waiting, open.batch, file, content);
      this.#put(open.batch, file, content);
    } catch (error) {
      this.#lost(error, file);
    }
  }

  /** Ends the batch of that name if it is full, and begins another. */
  async #addTo(
    name: string,
    first: Place | undefined,
    file: PlannedFile,
    content: readonly ContentItem[],
  ): Promise<void> {
    const full = this.#open.get(name);
    if (full !== undefined) {
      this.#open.delete(name);
      await this.#submit(full.batch);
    }
    if (this.#open.size >= openBatchesMax) await this.#endIdle();
    const target = this.#open.size >= openBatchesMax ? mixed : name;
    let open = this.#open.get(target);
    if (open !== undefined && mustEnd(open.batch, first)) {
      this.#open.delete(target);
      await this.#submit(open.batch);
      open = undefined;
    }
    if (open === undefined) {
      open = { batch: new Batch<PlannedItem>(true), usedAt: this.#planned };
      this.#open.set(target, open);
    }
    open.usedAt = this.#planned;
    await this.#addLater(Promise.resolve(), open.batch, file, content);
  }

  async #endIdle(): Promise<void> {
    for (const [name, { batch, usedAt }] of this.#open) {
      if (name === mixed || this.#planned - usedAt < idleFilesMax) continue;
      this.#open.delete(name);
      await this.#submit(batch);
      return;
    }
  }

  async #addLater(
    waiting: Promise<void>,
    batch: PlannedBatch,
    file: PlannedFile,
    content: readonly ContentItem[],
  ): Promise<void> {
    try {
      await waiting;
      for (const place of placesOf(content, file.entry.xattrs)) await batch.need(place, this.#options.source.packs);
      this.#put(batch, file, content);
    } catch (error) {
      this.#lost(error, file);
    }
  }

  /** Undefined when every segment is known; else a promise of the first that was not. */
  #needAll(batch: PlannedBatch, content: readonly ContentItem[], entry: FileEntry): Promise<void> | undefined {
    const { packs } = this.#options.source;
    for (let i = 0; i < content.length; i++) {
      const item = content[i] as ContentItem;
      if (item.kind === 'zero') continue;
      const waiting = batch.need(item.place, packs);
      if (waiting !== undefined) return waiting;
    }
    for (const { value } of entry.xattrs) {
      if (value.kind === 'inline') continue;
      const waiting = batch.need(value.place, packs);
      if (waiting !== undefined) return waiting;
    }
    return undefined;
  }

  #put(batch: PlannedBatch, file: PlannedFile, content: readonly ContentItem[]): void {
    const { entry } = file;
    batch.addFile(
      {
        directory: file.directory.descriptor,
        name: file.name,
        flags: (file.owner ? itemFlag.owner : 0) | (file.replace ? itemFlag.replace : 0),
        meta: entry,
        size: entry.size,
        holes: entry.holes,
        content,
      },
      { key: file.key, bytes: entry.size, large: undefined, file: undefined },
      file.directory,
    );
  }

  #batchName(place: Place): string {
    const last = this.#lastPlace;
    if (last !== undefined && last.pack === place.pack && last.slot === place.slot && last.origin === place.origin) {
      return this.#lastName;
    }
    this.#lastPlace = place;
    const entry = this.#options.source.packs.entry(place);
    const large = entry !== undefined && entry.bytes >= smallPackBytes;
    this.#lastName = large ? `${place.origin}/${place.slot}/${place.pack}` : mixed;
    return this.#lastName;
  }

  /** Damage costs the file; anything else ends the restore. */
  #lost(error: unknown, file: PlannedFile): void {
    if (!isHoldfastError(error, 'E_DAMAGED')) throw error;
    this.#options.damage.add(placeOf(error), file.key);
  }

  // ---- files with a content list

  async #planList(file: PlannedFile, size: number): Promise<void> {
    const { source, keys } = this.#options;
    const leaves = readList(file.entry.content, source, keys, size);
    const items: ContentItem[] = [];
    let bytes = 0;
    try {
      for (;;) {
        const step = await leaves.next();
        if (step.done === true) break;
        for (const item of step.value) {
          items.push(item);
          if (item.kind === 'chunk') bytes += item.bytes;
        }
        if (bytes > batchBytes || items.length > largeItems) {
          await this.#planLarge(file, items, leaves);
          return;
        }
      }
    } catch (error) {
      this.#lost(error, file);
      return;
    }
    const added = this.#add(file, items);
    if (added !== undefined) await added;
  }

  /** A file too large for one batch: its parts go side by side into one descriptor, and it is finished after the last. */
  async #planLarge(
    file: PlannedFile,
    begun: readonly ContentItem[],
    rest: AsyncGenerator<readonly ContentItem[]>,
  ): Promise<void> {
    const large = new LargeFile(this.#options, file, () => this.tempName());
    this.#large.add(large);
    let part: ContentItem[] = [];
    let partStart = 0;
    let position = 0;
    let bytes = 0;
    let batch = new Batch<PlannedItem>(true);

    const endPart = async (): Promise<void> => {
      if (part.length > 0) {
        const item: PlannedItem = { key: file.key, bytes: position - partStart, large, file: undefined };
        batch.addPart(large.descriptor, partStart, large.holesIn(partStart, position), part, item, large);
        large.begin();
        await this.#submit(batch);
      }
      batch = new Batch<PlannedItem>(true);
      part = [];
      partStart = position;
      bytes = 0;
    };
    const take = async (item: ContentItem): Promise<void> => {
      const chunk = item.kind === 'chunk' ? item : undefined;
      const enough = bytes >= batchBytes || batch.storedBytes >= batchStoredBytes || part.length >= largeItems;
      if (part.length > 0 && enough && (chunk === undefined || !batch.has(chunk.place) || bytes >= 2 * batchBytes)) {
        await endPart();
      }
      if (chunk !== undefined) await batch.need(chunk.place, this.#options.source.packs);
      part.push(item);
      position += item.bytes;
      if (chunk !== undefined) bytes += item.bytes;
    };

    try {
      await large.open();
      for (const item of begun) await take(item);
      for await (const items of rest) for (const item of items) await take(item);
      await endPart();
    } catch (error) {
      batch.release();
      if (!isHoldfastError(error, 'E_DAMAGED')) throw error;
      large.damaged(placeOf(error));
    }
    this.#partDone(large);
  }

  #partDone(large: LargeFile): void {
    if (!large.end()) return;
    this.#large.delete(large);
    if (large.finish()) this.#options.onFiles(1, large.file.entry.size, true);
  }

  async #compareHere(file: PlannedFile): Promise<void> {
    const { files, keys, source } = this.#options;
    const comparison = ContentComparison.open(
      files,
      keys,
      file.directory.descriptor,
      nameAt(file.name),
      file.entry.size,
    );
    let equal = comparison !== undefined;
    try {
      if (comparison !== undefined) {
        equal = sameXattrs(comparison.xattrs(), file.entry.xattrs, keys);
        const leaves = readList(file.entry.content, source, keys, file.entry.size);
        for await (const items of leaves) {
          if (!equal) break;
          equal = items.every((item) => comparison.matches(item.bytes, item.kind === 'chunk' ? item.id : undefined));
        }
        equal &&= comparison.atEnd();
      }
    } catch (error) {
      this.#lost(error, file);
      return;
    } finally {
      comparison?.close();
    }
    if (equal) this.#options.onFiles(1, file.entry.size, false);
    else await this.plan({ ...file, replace: true });
  }

  // ---- replies

  #onReply(batch: PlannedBatch, reply: JobReply): void {
    const { damage, onDegraded, onFiles } = this.#options;
    let files = batch.count;
    let bytes = batch.plainBytes;
    const parts: LargeFile[] = [];
    for (const item of batch.items) {
      if (item.large === undefined) continue;
      parts.push(item.large);
      files--;
      bytes -= item.bytes;
    }
    for (const note of reply.notes) {
      const item = batch.items[note.item];
      invariant(item !== undefined, 'a lane speaks of items of its job');
      if (note.kind === noteKind.failed) {
        const [errno, operation] = note.text.split(' ');
        throw targetFailure(errno ?? 'EIO', operation ?? '', item.key);
      }
      if (note.kind === noteKind.degraded) {
        const [part, errno] = note.text.split(' ');
        onDegraded(item.key, part as DegradedPart, errno ?? '');
        continue;
      }
      if (item.large === undefined) {
        files--;
        bytes -= item.bytes;
      }
      if (note.kind === noteKind.differs) {
        const { file } = item;
        invariant(file !== undefined, 'only comparisons differ');
        file.directory.hold();
        this.#differing.push({ ...file, replace: true });
        continue;
      }
      const segment = batch.segments[note.segment];
      const place = {
        key: segment?.location.key ?? '',
        pack: segment?.location.pack.name,
        segment: segment?.number,
        why: `pack ${segment?.location.pack.name}, segment ${segment?.number}: ${withoutPrefix(note.text)}`,
      };
      if (item.large === undefined) damage.add(place, item.key);
      else item.large.damaged(place);
    }
    if (files > 0) onFiles(files, bytes, batch.items[0]?.file === undefined);
    for (const large of parts) this.#partDone(large);
  }
}

/** The lane's text names pack and segment already. */
function withoutPrefix(text: string): string {
  return text.replace(/^pack \S+, segment \d+: /, '');
}

function firstPlace(content: readonly ContentItem[], entry: FileEntry): Place | undefined {
  for (let i = 0; i < content.length; i++) {
    const item = content[i] as ContentItem;
    if (item.kind === 'chunk') return item.place;
  }
  for (const { value } of entry.xattrs) if (value.kind === 'chunk') return value.place;
  return undefined;
}

function isFull(batch: PlannedBatch, times: number): boolean {
  return (
    batch.plainBytes >= times * batchBytes ||
    batch.storedBytes >= times * batchStoredBytes ||
    batch.count >= times * batchFilesMax
  );
}

/** A full batch still takes files of a segment it has anyway, up to twice its size. */
function mustEnd(batch: PlannedBatch, first: Place | undefined): boolean {
  if (batch.directories >= batchDirectoriesMax || isFull(batch, 2)) return true;
  return isFull(batch, 1) && !(first !== undefined && batch.has(first));
}

/** A file that several batches write into. */
class LargeFile implements Held {
  readonly file: PlannedFile;
  readonly #options: FilePlannerOptions;
  readonly #newTempName: () => NameAt;
  #descriptor: Descriptor | undefined;
  #temp: NameAt | undefined;
  #xattrs: PlainXattr[] = [];
  /** Parts under way, and one for the planning itself. */
  #parts = 1;
  #damaged = false;

  constructor(options: FilePlannerOptions, file: PlannedFile, newTempName: () => NameAt) {
    this.#options = options;
    this.file = file;
    this.#newTempName = newTempName;
    file.directory.hold();
  }

  get descriptor(): Descriptor {
    return this.#descriptor ?? (0 as Descriptor);
  }

  /** Batches hold what they write into; the file itself lives until its last part. */
  hold(): void {}
  release(): void {}

  async open(): Promise<void> {
    const { files, kind, keys, source } = this.#options;
    const { entry, directory, key, replace } = this.file;
    for (const { name, value } of entry.xattrs) {
      if (value.kind === 'inline') {
        this.#xattrs.push({ name, value: value.bytes });
        continue;
      }
      const bytes = await source.load(value.place, value.bytes);
      if (!equalBytes(contentId(keys, bytes, 0, bytes.length), value.id)) {
        throw new HoldfastError('E_DAMAGED', 'an xattr does not match its id');
      }
      this.#xattrs.push({ name, value: bytes.slice() });
    }
    if (kind === 'prove') return;
    try {
      this.#descriptor = replace ? undefined : files.createNameless(directory.descriptor);
      if (this.#descriptor !== undefined) return;
      const temp = this.#newTempName();
      this.#descriptor = files.createExclusive(directory.descriptor, temp);
      this.#temp = temp;
    } catch (error) {
      throw targetError(error, key);
    }
  }

  holesIn(start: number, end: number): FileEntry['holes'] {
    return this.file.entry.holes.filter((hole) => hole.start < end && hole.start + hole.bytes > start);
  }

  begin(): void {
    this.#parts++;
  }

  /** True when nothing is under way any more. */
  end(): boolean {
    this.#parts--;
    return this.#parts === 0;
  }

  damaged(place: Parameters<DamageTally['add']>[0]): void {
    this.#options.damage.add(place, this.#damaged ? undefined : this.file.key);
    this.#damaged = true;
  }

  /** Gives the whole file its metadata and its name. False when it is damaged: then nothing of it stays. */
  finish(): boolean {
    const { files, onDegraded, kind } = this.#options;
    const { entry, directory, key, name, owner, replace } = this.file;
    if (this.#damaged || kind === 'prove') {
      this.abandon();
      return !this.#damaged;
    }
    const file = this.descriptor;
    try {
      files.truncate(file, entry.size);
      applyToDescriptor(files, file, entry, this.#xattrs, owner, (part, errno) => onDegraded(key, part, errno));
      if (this.#temp === undefined) files.linkNameless(file, directory.descriptor, nameAt(name));
      else files.rename(directory.descriptor, this.#temp, nameAt(name), replace);
      this.#temp = undefined;
    } catch (error) {
      throw targetError(error, key);
    } finally {
      this.abandon();
    }
    return true;
  }

  /** Closes it; unless it is finished, nothing of it stays. Safe to call twice. */
  abandon(): void {
    const { files } = this.#options;
    if (this.#descriptor !== undefined) files.close(this.#descriptor);
    this.#descriptor = undefined;
    if (this.#temp !== undefined) removeQuietly(files, this.file.directory.descriptor, this.#temp);
    this.#temp = undefined;
    if (this.#parts >= 0) this.file.directory.release();
    this.#parts = -1;
  }
}
