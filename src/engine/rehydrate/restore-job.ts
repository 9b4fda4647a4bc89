/**
 * What the coordinator asks of a restore lane and what it answers, as bytes: no object per file crosses a thread. The
 * ciphertext that a job needs travels beside it, as buffers.
 *
 * Job: u8 kind; varint packs, per pack: text name, text lineage, varints slot, epoch, pack, key generation, pack bytes, blob
 * footer; varint segments, per segment: varints pack index, number, buffer, start in that buffer, length; blob prefix of
 * temporary names, varint number of the first of them; varint items, then the items.
 *
 * Item: u8 kind, u8 flags; `file`: varint directory, blob name, u8 zero, metadata, xattrs, varint size, holes, content.
 * `part`: varint descriptor, varint position, content. `compare`: as file. Of a `sync` job: varint descriptor. Content: varint items, per item u8 kind, varint bytes and, of
 * a chunk, 32 B id, varint segment index, varint offset.
 *
 * Reply: varint bytes written, varint items done, varint notes, per note: varint item, u8 kind, varint segment index, text.
 */
import type { PackIdentity } from '../format/pack.ts';
import { ByteReader, ByteWriter, emptyBytes } from '../model/bytes.ts';
import type { ContentItem, EntryMeta, Hole, Xattr } from '../model/entry.ts';
import { toEpoch, toLineageName, toSlot } from '../model/ids.ts';
import type { Descriptor } from '../ports/file-tree.ts';
import type { OpenedPack, SegmentLocation } from '../tree/pack-directory.ts';

/**
 * write: into files. prove: nowhere, content is only checked. compare: with what stands there. open: whole segments. sync: nothing is
 * read, a file system is written back.
 */
export const jobKind = { write: 1, prove: 2, compare: 3, open: 4, sync: 5 } as const;

export const itemKind = { file: 1, part: 2 } as const;

export const itemFlag = {
  /** The owner must be set: it is not the one that new files have anyway. */
  owner: 1,
  /** Something stands at the name and is replaced. */
  replace: 2,
} as const;

export const noteKind = {
  /** The target failed; text: errno and operation. The lane stopped there. */
  failed: 1,
  /** Bytes of the segment are not what they should be; the item was not made. */
  damaged: 2,
  /** A part of the metadata could not be set; text: what and errno. */
  degraded: 3,
  /** What stands there has another content. */
  differs: 4,
} as const;

const contentKind = { zero: 0, chunk: 1 } as const;
const xattrKind = { inline: 0, chunk: 1 } as const;

/** Where a chunk lies, by the number that its segment has in the job. */
export type SegmentIndexOf = (item: Extract<ContentItem, { kind: 'chunk' }>) => number;

/** Content, holes and xattrs of one file, encoded before it is known into which job they go. */
export function writeContent(w: ByteWriter, items: readonly ContentItem[], segmentOf: SegmentIndexOf): void {
  for (const item of items) {
    w.u8(contentKind[item.kind]);
    w.varint(item.bytes);
    if (item.kind === 'zero') continue;
    w.raw(item.id);
    w.varint(segmentOf(item));
    w.varint(item.place.offset);
  }
}

export function writeMeta(
  w: ByteWriter,
  meta: EntryMeta,
  segmentOf: (xattr: Extract<Xattr['value'], { kind: 'chunk' }>) => number,
): void {
  w.varint(meta.mode);
  w.varint(meta.uid);
  w.varint(meta.gid);
  w.signed(meta.mtimeSec);
  w.varint(meta.mtimeNsec);
  w.varint(meta.xattrs.length);
  for (const { name, value } of meta.xattrs) {
    w.blob(name);
    w.u8(xattrKind[value.kind]);
    if (value.kind === 'inline') {
      w.blob(value.bytes);
    } else {
      w.varint(value.bytes);
      w.raw(value.id);
      w.varint(segmentOf(value));
      w.varint(value.place.offset);
    }
  }
}

export function writeHoles(w: ByteWriter, holes: readonly Hole[]): void {
  w.varint(holes.length);
  for (const { start, bytes } of holes) {
    w.varint(start);
    w.varint(bytes);
  }
}

/** A part of a buffer that holds a segment. */
export interface SegmentBytes {
  readonly location: SegmentLocation;
  readonly number: number;
  readonly buffer: number;
  readonly start: number;
}

/** The head of a job and its items as one array. */
export function encodeJob(
  kind: number,
  packs: readonly OpenedPack[],
  segments: readonly SegmentBytes[],
  temps: { readonly prefix: Uint8Array; readonly first: number },
  itemCount: number,
  items: Uint8Array,
): Uint8Array {
  const w = new ByteWriter(1024 + items.length + segments.length * 16);
  w.u8(kind);
  w.varint(packs.length);
  for (const pack of packs) {
    const { identity } = pack;
    w.text(pack.name);
    w.text(identity.lineage);
    w.varint(identity.slot);
    w.varint(identity.epoch);
    w.varint(identity.pack);
    w.varint(pack.generation);
    w.varint(pack.entry.bytes);
    w.blob(pack.footer);
  }
  w.varint(segments.length);
  for (const { location, number, buffer, start } of segments) {
    w.varint(packs.indexOf(location.pack));
    w.varint(number);
    w.varint(buffer);
    w.varint(start);
    w.varint(location.length);
  }
  w.blob(temps.prefix);
  w.varint(temps.first);
  w.varint(itemCount);
  w.raw(items);
  return w.take();
}

/** A job that writes back the file system of a descriptor. */
export function encodeSync(descriptor: Descriptor): Uint8Array {
  const item = new ByteWriter(16);
  item.varint(descriptor);
  const items = new ByteWriter(16);
  items.u32(item.length);
  items.raw(item.view());
  return encodeJob(jobKind.sync, [], [], { prefix: emptyBytes, first: 0 }, 1, items.view());
}

export interface JobPack {
  readonly name: string;
  readonly identity: PackIdentity;
  readonly generation: number;
  readonly bytes: number;
  readonly footer: Uint8Array;
}

export interface JobSegment {
  readonly pack: JobPack;
  readonly number: number;
  readonly buffer: number;
  readonly start: number;
  readonly length: number;
}

export interface JobHead {
  readonly kind: number;
  readonly segments: readonly JobSegment[];
  readonly tempPrefix: Uint8Array;
  readonly firstTemp: number;
  readonly items: number;
}

/** Leaves the reader before the first item. */
export function readJobHead(r: ByteReader, whose: Pick<PackIdentity, 'repository' | 'domain'>): JobHead {
  const kind = r.u8();
  const packs: JobPack[] = [];
  for (let left = r.varint(); left > 0; left--) {
    const name = r.text();
    const lineage = toLineageName(r.text());
    const identity = { ...whose, lineage, slot: toSlot(r.varint()), epoch: toEpoch(r.varint()), pack: r.varint() };
    packs.push({ name, identity, generation: r.varint(), bytes: r.varint(), footer: r.blob() });
  }
  const segments: JobSegment[] = [];
  for (let left = r.varint(); left > 0; left--) {
    const pack = packs[r.varint()] as JobPack;
    segments.push({ pack, number: r.varint(), buffer: r.varint(), start: r.varint(), length: r.varint() });
  }
  const tempPrefix = r.blob();
  const firstTemp = r.varint();
  return { kind, segments, tempPrefix, firstTemp, items: r.varint() };
}

/** Metadata as a job carries it; large xattrs are still to be looked up. */
export interface JobMeta {
  mode: number;
  uid: number;
  gid: number;
  mtimeSec: number;
  mtimeNsec: number;
  xattrs: readonly JobXattr[];
}

export type JobXattr =
  | { readonly name: Uint8Array; readonly bytes: Uint8Array; readonly chunk: undefined }
  | { readonly name: Uint8Array; readonly chunk: JobChunk };

export interface JobChunk {
  readonly bytes: number;
  readonly id: Uint8Array;
  readonly segment: number;
  readonly offset: number;
}

const noXattrs: readonly JobXattr[] = [];

export function readMetaInto(r: ByteReader, meta: JobMeta): void {
  meta.mode = r.varint();
  meta.uid = r.varint();
  meta.gid = r.varint();
  meta.mtimeSec = r.signed();
  meta.mtimeNsec = r.varint();
  const count = r.varint();
  meta.xattrs = noXattrs;
  if (count === 0) return;
  const xattrs: JobXattr[] = [];
  for (let i = 0; i < count; i++) {
    const name = r.blob();
    if (r.u8() === xattrKind.inline) xattrs.push({ name, bytes: r.blob(), chunk: undefined });
    else xattrs.push({ name, chunk: { bytes: r.varint(), id: r.raw(32), segment: r.varint(), offset: r.varint() } });
  }
  meta.xattrs = xattrs;
}

export function readHoles(r: ByteReader): readonly Hole[] {
  const count = r.varint();
  if (count === 0) return noHoles;
  const holes: Hole[] = [];
  for (let i = 0; i < count; i++) holes.push({ start: r.varint(), bytes: r.varint() });
  return holes;
}

const noHoles: readonly Hole[] = [];

export const isChunk: number = contentKind.chunk;

export interface ReplyNote {
  readonly item: number;
  readonly kind: number;
  /** Of `damaged`: the segment's number in the job. */
  readonly segment: number;
  readonly text: string;
}

export interface JobReply {
  readonly bytes: number;
  readonly done: number;
  readonly notes: readonly ReplyNote[];
}

export class ReplyWriter {
  readonly #notes: ByteWriter = new ByteWriter(256);
  #count = 0;
  bytes = 0;
  done = 0;

  reset(): void {
    this.#notes.reset();
    this.#count = 0;
    this.bytes = 0;
    this.done = 0;
  }

  note(item: number, kind: number, segment: number, text: string): void {
    this.#notes.varint(item);
    this.#notes.u8(kind);
    this.#notes.varint(segment);
    this.#notes.text(text);
    this.#count++;
  }

  take(): Uint8Array {
    const w = new ByteWriter(32 + this.#notes.length);
    w.varint(this.bytes);
    w.varint(this.done);
    w.varint(this.#count);
    w.raw(this.#notes.view());
    return w.take();
  }
}

export function readReply(bytes: Uint8Array): JobReply {
  const r = new ByteReader(bytes, 'lane reply');
  const written = r.varint();
  const done = r.varint();
  const notes: ReplyNote[] = [];
  for (let left = r.varint(); left > 0; left--) {
    notes.push({ item: r.varint(), kind: r.u8(), segment: r.varint(), text: r.text() });
  }
  return { bytes: written, done, notes };
}
