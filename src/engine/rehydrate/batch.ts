/** Files that are restored together: their items as bytes, and the segments they need. */
import { ByteReader, ByteWriter } from '../model/bytes.ts';
import type { ContentItem, EntryMeta, Hole, Place, XattrValue } from '../model/entry.ts';
import { invariant } from '../model/errors.ts';
import type { Descriptor } from '../ports/file-tree.ts';
import type { OpenedPack, PackDirectory } from '../tree/pack-directory.ts';
import { encodeJob, itemKind, type SegmentBytes, writeContent, writeHoles, writeMeta } from './restore-job.ts';
import type { WantedSegment } from './segment-ranges.ts';

/** What a file's turn in a batch belongs to; released when the batch is done. */
export interface Held {
  hold(): void;
  release(): void;
}

/** What comes back for an item. */
export interface BatchItem {
  readonly key: Uint8Array;
  /** Of the file, or of the part. */
  readonly bytes: number;
}

export interface FileItem {
  readonly directory: Descriptor;
  readonly name: Uint8Array;
  readonly flags: number;
  readonly meta: EntryMeta;
  readonly size: number;
  readonly holes: readonly Hole[];
  readonly content: readonly ContentItem[];
}

export class Batch<Item extends BatchItem> {
  readonly items: Item[] = [];
  /** Plain bytes that the items have altogether. */
  plainBytes = 0;
  /** Of the segments, as they lie in the store. */
  storedBytes = 0;
  readonly #writer = new ByteWriter(16 * 1024);
  readonly #item = new ByteWriter(4096);
  readonly #held: Held[] = [];
  readonly #segments: WantedSegment[] = [];
  readonly #packs: OpenedPack[] = [];
  readonly #numbers = new Map<string, number>();
  readonly #reads: boolean;
  #lastPlace: Place | undefined;
  #lastNumber = 0;

  /** `reads` false: content is only compared with its ids, and no segment is needed. */
  constructor(reads: boolean) {
    this.#reads = reads;
  }

  get count(): number {
    return this.items.length;
  }

  get directories(): number {
    return this.#held.length;
  }

  get segments(): readonly WantedSegment[] {
    return this.#segments;
  }

  /** True when the segment of that place is one of the batch already. */
  has(place: Place): boolean {
    return this.#isLast(place) || this.#numbers.has(segmentName(place));
  }

  /** Makes the segment of a place one of the batch; a promise only when its pack is not open yet. */
  need(place: Place, packs: PackDirectory): void | Promise<void> {
    if (this.#isLast(place)) return;
    const name = segmentName(place);
    const number = this.#numbers.get(name);
    if (number !== undefined) {
      this.#lastPlace = place;
      this.#lastNumber = number;
      return;
    }
    const location = packs.locate(place);
    if (location instanceof Promise) {
      return location.then((found) => this.#add(name, place, { location: found, number: place.segment }));
    }
    this.#add(name, place, { location, number: place.segment });
  }

  /** Every segment of the file is one of the batch. */
  addFile(file: FileItem, item: Item, held: Held): void {
    const w = this.#item;
    w.reset();
    w.u8(itemKind.file);
    w.u8(file.flags);
    w.varint(file.directory);
    w.blob(file.name);
    w.u8(0);
    writeMeta(w, file.meta, (value) => this.#number(value.place));
    w.varint(file.size);
    writeHoles(w, file.holes);
    w.varint(file.content.length);
    writeContent(w, file.content, (chunk) => this.#number(chunk.place));
    this.#addItem(item, held);
  }

  addPart(
    file: Descriptor,
    position: number,
    holes: readonly Hole[],
    content: readonly ContentItem[],
    item: Item,
    held: Held,
  ): void {
    const w = this.#item;
    w.reset();
    w.u8(itemKind.part);
    w.u8(0);
    w.varint(file);
    w.varint(position);
    w.varint(item.bytes);
    writeHoles(w, holes);
    w.varint(content.length);
    writeContent(w, content, (chunk) => this.#number(chunk.place));
    this.#addItem(item, held);
  }

  encode(
    kind: number,
    segments: readonly SegmentBytes[],
    temps: { readonly prefix: Uint8Array; readonly first: number },
  ): Uint8Array {
    return encodeJob(kind, this.#packs, segments, temps, this.items.length, this.#writer.view());
  }

  /** A job of these items alone, by their numbers, ascending. */
  encodeOnly(
    numbers: readonly number[],
    kind: number,
    segments: readonly SegmentBytes[],
    temps: { readonly prefix: Uint8Array; readonly first: number },
  ): Uint8Array {
    const r = new ByteReader(this.#writer.view(), 'batch');
    const only = new ByteWriter(1024);
    const wanted = new Set(numbers);
    for (let number = 0; number < this.items.length; number++) {
      const item = r.raw(r.u32());
      if (!wanted.has(number)) continue;
      only.u32(item.length);
      only.raw(item);
    }
    return encodeJob(kind, this.#packs, segments, temps, numbers.length, only.view());
  }

  release(): void {
    for (const held of this.#held.splice(0)) held.release();
  }

  #addItem(item: Item, held: Held): void {
    this.#writer.u32(this.#item.length);
    this.#writer.raw(this.#item.view());
    this.items.push(item);
    this.plainBytes += item.bytes;
    if (this.#held[this.#held.length - 1] === held) return;
    held.hold();
    this.#held.push(held);
  }

  #isLast(place: Place): boolean {
    const last = this.#lastPlace;
    return (
      last !== undefined &&
      last.segment === place.segment &&
      last.pack === place.pack &&
      last.slot === place.slot &&
      last.origin === place.origin
    );
  }

  #number(place: Place): number {
    if (!this.#reads) return 0;
    if (this.#isLast(place)) return this.#lastNumber;
    const number = this.#numbers.get(segmentName(place));
    invariant(number !== undefined, 'a segment is needed before it is named');
    this.#lastPlace = place;
    this.#lastNumber = number;
    return number;
  }

  #add(name: string, place: Place, segment: WantedSegment): void {
    const number = this.#segments.push(segment) - 1;
    this.#numbers.set(name, number);
    this.#lastPlace = place;
    this.#lastNumber = number;
    const { pack, length } = segment.location;
    this.storedBytes += length;
    if (this.#packs[this.#packs.length - 1] !== pack && !this.#packs.includes(pack)) this.#packs.push(pack);
  }
}

function segmentName({ origin, slot, pack, segment }: Place): string {
  return `${origin}/${slot}/${pack}/${segment}`;
}

/** The places that content and xattrs name. */
export function* placesOf(
  content: readonly ContentItem[],
  xattrs: readonly { readonly value: XattrValue }[],
): Generator<Place> {
  for (const item of content) if (item.kind === 'chunk') yield item.place;
  for (const { value } of xattrs) if (value.kind === 'chunk') yield value.place;
}
