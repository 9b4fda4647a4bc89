/**
 * What the last capture saw of every directory, kept on the local disk so that the next one reads only what changed.
 *
 * One block per directory in the order of the walk (a directory before what is below it, names by their bytes):
 *   varint depth, varint count, records (80 bytes each), varint names bytes, names.
 * Tail: text identity; varint dirty count (above the limit: everything is dirty) and pairs of varints (block delta, index);
 * varint tagged count and (varint block delta, varint index, 8 bytes) of each entry with several names.
 *
 * Invariants: a cache is bound to the id of the record whose trees it describes; an entry that is not dirty and whose 64
 * stat bytes and tag are equal is unchanged. A block names what was listed, whether selected or not. Every directory that a
 * block names has a block of its own, without names when it was not walked: nothing else says whose block is whose.
 */
import { createHash } from 'node:crypto';
import { ByteReader, ByteWriter, equalBytes } from '../model/bytes.ts';
import { type DirectoryBlock, readI64, statOffset, statRecordBytes } from '../model/stat-record.ts';
import type { CacheReader, CacheWriter, LocalCache } from '../ports/local-cache.ts';

export const dirtyMax = 65_536;
const tagBytes = 8;
/** Two varints. */
const headBytesMax = 16;
const chunkBytes: number = 256 * 1024;

export interface CachedBlock extends DirectoryBlock {
  /** Index → 8 bytes, for entries with several names. */
  readonly tags: ReadonlyMap<number, Uint8Array> | undefined;
  /** Indexes whose stat must not be trusted. */
  readonly dirty: ReadonlySet<number> | undefined;
  /** Bytes [start, end) of the cache's body. */
  readonly start: number;
  readonly end: number;
}

/** Reads the blocks in order. */
export class ScanCacheReader {
  readonly #source: CacheReader;
  readonly #dirty: Map<number, Set<number>>;
  readonly #tags: Map<number, Map<number, Uint8Array>>;
  #buffer: Uint8Array = new Uint8Array(chunkBytes);
  #bufferStart = 0;
  #bufferEnd = 0;
  #position = 0;
  #blockNumber = 0;
  #peekedDepth = -1;

  private constructor(
    source: CacheReader,
    dirty: Map<number, Set<number>>,
    tags: Map<number, Map<number, Uint8Array>>,
  ) {
    this.#source = source;
    this.#dirty = dirty;
    this.#tags = tags;
  }

  /** Undefined when there is none, or it belongs to something else, or all of it is dirty. */
  static open(cache: LocalCache, name: string, identity: string): ScanCacheReader | undefined {
    const source = cache.open(name);
    if (source === undefined) return undefined;
    const r = new ByteReader(source.tail, 'scan cache');
    if (r.text(4096) !== identity) {
      source.close();
      return undefined;
    }
    const count = r.varint();
    if (count > dirtyMax) {
      source.close();
      return undefined;
    }
    const dirty = new Map<number, Set<number>>();
    let block = 0;
    for (let i = 0; i < count; i++) {
      block += r.varint();
      const index = r.varint();
      const set = dirty.get(block);
      if (set === undefined) dirty.set(block, new Set([index]));
      else set.add(index);
    }
    const tags = new Map<number, Map<number, Uint8Array>>();
    block = 0;
    for (let tagged = r.varint(); tagged > 0; tagged--) {
      block += r.varint();
      const index = r.varint();
      const tag = r.raw(tagBytes);
      const map = tags.get(block);
      if (map === undefined) tags.set(block, new Map([[index, tag]]));
      else map.set(index, tag);
    }
    return new ScanCacheReader(source, dirty, tags);
  }

  get source(): CacheReader {
    return this.#source;
  }

  /** Depth of the next block, or -1 at the end. */
  nextDepth(): number {
    if (this.#peekedDepth < 0 && this.#position < this.#source.bytes) {
      const r = this.#need(headBytesMax);
      this.#peekedDepth = r.varint();
    }
    return this.#peekedDepth;
  }

  /** Passes over a directory's block and all below it. */
  skipSubtree(depth: number): void {
    if (this.nextDepth() !== depth) return;
    this.next();
    while (this.nextDepth() > depth) this.next();
  }

  next(): CachedBlock {
    if (this.nextDepth() < 0) throw new Error('scan cache read past its end');
    const start = this.#position;
    // First the head, then as much as each length says: the buffer is refilled only when it does not hold that.
    let r = this.#need(headBytesMax);
    r.varint();
    const count = r.varint();
    const headBytes = r.position - this.#offset();
    r = this.#need(headBytes + count * statRecordBytes + headBytesMax);
    r.raw(headBytes + count * statRecordBytes);
    const namesBytes = r.varint();
    const namesAt = r.position - this.#offset();
    r = this.#need(namesAt + namesBytes);
    r.raw(headBytes);
    const records = r.raw(count * statRecordBytes);
    r.varint();
    const names = r.raw(namesBytes);
    const bytes = namesAt + namesBytes;
    const dirty = this.#dirty.get(this.#blockNumber);
    const tags = this.#tags.get(this.#blockNumber);
    this.#position += bytes;
    this.#blockNumber++;
    this.#peekedDepth = -1;
    return { count, records, names, tags, dirty, start, end: start + bytes };
  }

  close(): void {
    this.#source.close();
  }

  #offset(): number {
    return this.#position - this.#bufferStart;
  }

  /** A reader over the buffer from the position, holding `want` bytes or all that are left. */
  #need(want: number): ByteReader {
    const left = this.#source.bytes - this.#position;
    const wanted = Math.min(want, left);
    if (this.#bufferEnd - this.#position < wanted || this.#position < this.#bufferStart) {
      const size = Math.max(wanted, chunkBytes);
      // A fresh buffer: blocks handed out are views into the old one and may still be in use.
      const buffer = new Uint8Array(Math.min(size, left));
      this.#source.read(this.#position, buffer, 0, buffer.length);
      this.#buffer = buffer;
      this.#bufferStart = this.#position;
      this.#bufferEnd = this.#position + buffer.length;
    }
    return new ByteReader(this.#buffer, 'scan cache', this.#offset(), this.#bufferEnd - this.#bufferStart);
  }
}

/**
 * Writes the blocks of a walk. As long as each block is equal to the previous cache's block at the same place, nothing is
 * written at all; the first difference copies that common beginning.
 */
export class ScanCacheWriter {
  readonly #cache: LocalCache;
  readonly #name: string;
  readonly #previous: CacheReader | undefined;
  #writer: CacheWriter | undefined;
  /** Bytes of the previous cache that are this cache's beginning too. */
  #sharedBytes = 0;
  /** A run of the previous cache that is still to be copied. */
  #runStart = 0;
  #runEnd = 0;
  #blocks = 0;
  readonly #dirty: number[] = [];
  readonly #tags: { readonly block: number; readonly index: number; readonly tag: Uint8Array }[] = [];
  #head: ByteWriter = new ByteWriter(64);

  constructor(cache: LocalCache, name: string, previous: CacheReader | undefined) {
    this.#cache = cache;
    this.#name = name;
    this.#previous = previous;
  }

  /** Number of the next block, for `markDirty`. */
  get blocks(): number {
    return this.#blocks;
  }

  /** The block is, byte for byte, the previous cache's block at [start, end). */
  keep(block: CachedBlock): void {
    if (this.#writer === undefined && block.start === this.#sharedBytes) {
      this.#sharedBytes = block.end;
      this.#blocks++;
      return;
    }
    if (this.#runEnd !== block.start) {
      this.#copyRun();
      this.#runStart = block.start;
    }
    this.#runEnd = block.end;
    this.#blocks++;
  }

  add(depth: number, block: DirectoryBlock): void {
    const writer = this.#begin();
    this.#copyRun();
    const head = this.#head;
    head.reset();
    head.varint(depth);
    head.varint(block.count);
    writer.append(head.view());
    writer.append(block.records);
    head.reset();
    head.varint(block.names.length);
    writer.append(head.view());
    writer.append(block.names);
    this.#blocks++;
  }

  /** The entry must be looked at again, whatever its stat says. */
  markDirty(block: number, index: number): void {
    if (this.#dirty.length <= 2 * dirtyMax) this.#dirty.push(block, index);
  }

  /** Remembers 8 bytes of an entry with several names. */
  tag(block: number, index: number, tag: Uint8Array): void {
    this.#tags.push({ block, index, tag });
  }

  get dirtyCount(): number {
    return this.#dirty.length / 2;
  }

  commit(identity: string): void {
    const tail = new ByteWriter(1024);
    tail.text(identity);
    const pairs: [number, number][] = [];
    for (let i = 0; i < this.#dirty.length; i += 2)
      pairs.push([this.#dirty[i] as number, this.#dirty[i + 1] as number]);
    pairs.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    tail.varint(pairs.length);
    if (pairs.length <= dirtyMax) {
      let block = 0;
      for (const [number, index] of pairs) {
        tail.varint(number - block);
        tail.varint(index);
        block = number;
      }
    }
    this.#tags.sort((a, b) => a.block - b.block || a.index - b.index);
    tail.varint(this.#tags.length);
    let taggedBlock = 0;
    for (const { block, index, tag } of this.#tags) {
      tail.varint(block - taggedBlock);
      tail.varint(index);
      tail.raw(tag);
      taggedBlock = block;
    }
    const writer = this.#begin();
    this.#copyRun();
    writer.commit(tail.take());
  }

  abort(): void {
    this.#writer?.abort();
  }

  #begin(): CacheWriter {
    if (this.#writer === undefined) {
      this.#writer = this.#cache.create(this.#name);
      if (this.#sharedBytes > 0) this.#copy(0, this.#sharedBytes);
    }
    return this.#writer;
  }

  #copyRun(): void {
    if (this.#runEnd > this.#runStart) this.#copy(this.#runStart, this.#runEnd);
    this.#runStart = 0;
    this.#runEnd = 0;
  }

  #copy(start: number, end: number): void {
    const previous = this.#previous;
    if (previous === undefined) throw new Error('no previous scan cache to copy from');
    const writer = this.#writer ?? this.#begin();
    const buffer = new Uint8Array(Math.min(1024 * 1024, end - start));
    for (let at = start; at < end; ) {
      const length = Math.min(buffer.length, end - at);
      previous.read(at, buffer, 0, length);
      writer.append(buffer.subarray(0, length));
      at += length;
    }
  }
}

/** Tag of the first name, in key order, of a file with several. */
export const firstTag: Uint8Array = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0);

/** What the cache remembers of a further name: of which first name it was a link. */
export function linkTag(first: Uint8Array): Uint8Array {
  const tag = new Uint8Array(createHash('sha256').update(first).digest().subarray(0, 8));
  tag[0] = (tag[0] as number) & 0xfe;
  return tag;
}

/** Stamps of whole seconds tell of a file system that keeps no finer ones; the coarsest keeps every other second. */
export const coarseStampMs = 2000;

/**
 * Whether a record's stamps are so new that a later write may leave the same ones: mtime or ctime at or after `freshFromMs`, or
 * not known to be before it.
 */
export function isFresh(view: DataView, at: number, freshFromMs: number): boolean {
  const mtimeSec = readI64(view, at + statOffset.mtimeSec);
  const ctimeSec = readI64(view, at + statOffset.ctimeSec);
  // The common case without the rest.
  const seconds = (freshFromMs - coarseStampMs) / 1000 - 1;
  if (mtimeSec < seconds && ctimeSec < seconds) return false;
  const ctimeNsec = view.getUint32(at + statOffset.ctimeNsec, true);
  // mtime may be set to anything; ctime is the file system's own.
  const slack = ctimeNsec === 0 ? coarseStampMs : 0;
  return (
    mtimeSec * 1000 + view.getUint32(at + statOffset.mtimeNsec, true) / 1e6 >= freshFromMs ||
    ctimeSec * 1000 + ctimeNsec / 1e6 + slack >= freshFromMs
  );
}

export function equalBlocks(a: DirectoryBlock, b: DirectoryBlock): boolean {
  return a.count === b.count && sameBytes(a.names, b.names) && sameBytes(a.records, b.records);
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  if (a.length < 64) return equalBytes(a, b);
  // Word by word where alignment allows; a block of a thousand entries is 80 KB and this runs for every directory.
  if (a.byteOffset % 4 === 0 && b.byteOffset % 4 === 0) {
    const words = a.length >>> 2;
    const wa = new Int32Array(a.buffer, a.byteOffset, words);
    const wb = new Int32Array(b.buffer, b.byteOffset, words);
    for (let i = 0; i < words; i++) if (wa[i] !== wb[i]) return false;
    for (let i = words * 4; i < a.length; i++) if (a[i] !== b[i]) return false;
    return true;
  }
  return equalBytes(a, b);
}
