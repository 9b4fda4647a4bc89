/**
 * An entry as two byte strings: its value, which is digested, and its placement, which stands beside the digest and names
 * places and holes. docs/format/tree.md, "Entries".
 *
 * Each entry has exactly one value: integers are minimal, xattrs sorted, runs of zeros merged and aligned. The reader refuses
 * every other form, so equal roots mean equal trees also when somebody hostile wrote one of them.
 */
import { ByteReader, type ByteWriter, compareBytes, utf8Bytes } from '../model/bytes.ts';
import {
  type Content,
  type ContentItem,
  type Entry,
  type EntryMeta,
  excludedXattrs,
  type Hole,
  inlineItemsMax,
  type Place,
  type Xattr,
  xattrInlineBytesMax,
  zeroBlockBytes,
} from '../model/entry.ts';
import { HoldfastError, invariant } from '../model/errors.ts';
import { toContentId, toNodeId } from '../model/ids.ts';
import { checkKey, keyBytesMax } from '../model/rel-path.ts';
import { nowhere, readPlace, writePlace } from './place-codec.ts';

const typeCode = { file: 1, directory: 2, symlink: 3, fifo: 4, hardlink: 5 } as const;
/** In the place of the number of inline items. */
const contentIsList = 0x80;
const itemCode = { zero: 0, chunk: 1 } as const;
const xattrCode = { inline: 0, chunk: 1 } as const;

/** A chunk lies in one segment, whose plaintext has at most this many bytes. */
export const chunkBytesMax: number = 1024 * 1024;
/** Plain bytes of a tree or list node that a reader accepts. */
export const nodeBytesMax: number = 8 * 1024 * 1024;
/** With at least four children a node, more levels than any tree can have. */
export const nodeLevelMax = 24;
/** Holes are advisory: an entry keeps the first ones, and a restore writes zeros where one is missing. */
export const holesMax = 4096;
/** As Linux limits them: a path, an xattr's name, and all names of one file together at two bytes each. */
const symlinkTargetBytesMax = 4095;
const xattrNameBytesMax = 255;
const xattrsMax = 32_768;
const u32Max = 0xffff_ffff;
const nsecMax = 999_999_999;
/** Some file systems keep any 64-bit number, and anybody can set one: 142 million years are the end of time here. */
const mtimeSecMax: number = 2 ** 52 - 1;

const excludedNames: readonly Uint8Array[] = excludedXattrs.map(utf8Bytes);

/**
 * Appends the entry's value and its placement. Breaks with E_INTERNAL when the entry is not canonical. Holes beyond the
 * size or past the first `holesMax` are left out, since a file may change while it is read; an mtime beyond 2^52 is cut.
 */
export function encodeEntry(entry: Entry, value: ByteWriter, placement: ByteWriter): void {
  value.u8(typeCode[entry.type]);
  if (entry.type === 'hardlink') {
    value.blob(entry.target);
    return;
  }
  if (entry.type === 'file') value.varint(entry.size);
  writeMeta(entry, value, placement);
  if (entry.type === 'symlink') {
    invariant(entry.target.length > 0 && entry.target.length <= symlinkTargetBytesMax, 'length of a symlink target');
    value.blob(entry.target);
  } else if (entry.type === 'file') {
    writeContent(entry.content, entry.size, value, placement);
    writeHoles(entry.holes, entry.size, placement);
  }
}

/**
 * The entry of a value and its placement. Without the placement, places are `nowhere` and holes unknown. E_DAMAGED for bytes
 * that are no entry, E_HOSTILE for one that no Holdfast writes. Views into both arrays are kept, no copies.
 */
export function decodeEntry(value: Uint8Array, placement: Uint8Array | undefined): Entry {
  const v = new ByteReader(value, 'entry');
  const p = placement === undefined ? undefined : new ByteReader(placement, 'placement of an entry');
  const entry = readEntry(v, p);
  v.end();
  p?.end();
  return entry;
}

/**
 * Tells the chunks of a file that has no xattrs and all its content in its entry, which nearly every file has. False for any other entry: that is to
 * be decoded. A tenth of what decoding costs, for counting all that a tree refers to; it proves nothing.
 */
export function passChunks(v: ByteReader, p: ByteReader, onChunk: (place: Place, bytes: number) => void): boolean {
  if (v.u8() !== typeCode.file) return false;
  const size = v.varint();
  // Mode, owner, group, time.
  for (let i = 0; i < 5; i++) v.varint();
  if (v.varint() !== 0) return false;
  const count = v.u8();
  if (count === contentIsList) return false;
  for (let i = 0, position = 0; i < count; i++) {
    const isChunk = v.u8() === itemCode.chunk;
    const bytes = i < count - 1 ? v.varint() : size - position;
    position += bytes;
    if (!isChunk) continue;
    v.skip(32);
    onChunk(readPlace(p), bytes);
  }
  return true;
}

/** What an entry counts in the sums of its subtree: reads type and size only. */
export function entrySums(value: Uint8Array): { files: number; bytes: number } {
  const type = value[0];
  if (type === typeCode.file) return { files: 1, bytes: fileBytes(value) };
  if (type === typeCode.hardlink) return otherNameSums;
  if (type === undefined || type < typeCode.file || type > typeCode.hardlink) return unknownType(type);
  return noFileSums;
}

const otherNameSums = Object.freeze({ files: 1, bytes: 0 });
const noFileSums = Object.freeze({ files: 0, bytes: 0 });

/** The varint after a file's type byte, without a reader, since a million of these are summed in one go. */
function fileBytes(value: Uint8Array): number {
  let size = 0;
  let scale = 1;
  for (let at = 1; at < value.length && at < 9; at++) {
    const byte = value[at] as number;
    size += (byte & 0x7f) * scale;
    if (byte < 0x80) {
      if (size > Number.MAX_SAFE_INTEGER) break;
      return size;
    }
    scale *= 0x80;
  }
  throw new HoldfastError('E_DAMAGED', 'entry: the size of a file is not a number');
}

function unknownType(type: number | undefined): never {
  throw new HoldfastError('E_DAMAGED', type === undefined ? 'entry: no bytes' : `entry: unknown type ${type}`);
}

function hostile(why: string): never {
  throw new HoldfastError('E_HOSTILE', `entry: ${why}`);
}

function readEntry(v: ByteReader, p: ByteReader | undefined): Entry {
  const type = v.u8();
  switch (type) {
    case typeCode.file: {
      const size = v.varint();
      const meta = readMeta(v, p);
      const content = readContent(size, v, p);
      return { type: 'file', size, content, holes: p === undefined ? [] : readHoles(size, p), ...meta };
    }
    case typeCode.directory:
      return { type: 'directory', ...readMeta(v, p) };
    case typeCode.symlink: {
      const meta = readMeta(v, p);
      const target = v.blob(symlinkTargetBytesMax);
      if (target.length === 0) hostile('a symlink without a target');
      if (target.includes(0)) hostile('a zero byte in the target of a symlink');
      return { type: 'symlink', target, ...meta };
    }
    case typeCode.fifo:
      return { type: 'fifo', ...readMeta(v, p) };
    case typeCode.hardlink: {
      const target = v.blob(keyBytesMax);
      checkKey(target);
      return { type: 'hardlink', target };
    }
    default:
      return unknownType(type);
  }
}

function writeMeta(meta: EntryMeta, value: ByteWriter, placement: ByteWriter): void {
  invariant(meta.mode >= 0 && meta.mode <= 0o7777, 'mode is permission bits');
  invariant(meta.mtimeNsec >= 0 && meta.mtimeNsec <= nsecMax, 'nanoseconds below a second');
  value.varint(meta.mode);
  value.varint(meta.uid);
  value.varint(meta.gid);
  value.signed(Math.max(-mtimeSecMax, Math.min(mtimeSecMax, meta.mtimeSec)));
  value.varint(meta.mtimeNsec);
  const xattrs = meta.xattrs;
  invariant(xattrs.length <= xattrsMax, 'number of xattrs');
  value.varint(xattrs.length);
  for (let i = 0; i < xattrs.length; i++) {
    const { name, value: content } = xattrs[i] as Xattr;
    invariant(isXattrName(name) && !isExcluded(name), 'xattr may be kept');
    invariant(i === 0 || compareBytes((xattrs[i - 1] as Xattr).name, name) < 0, 'xattrs are sorted');
    value.blob(name);
    value.u8(xattrCode[content.kind]);
    if (content.kind === 'inline') {
      invariant(content.bytes.length <= xattrInlineBytesMax, 'large xattrs are out of line');
      value.blob(content.bytes);
    } else {
      invariant(content.bytes > xattrInlineBytesMax && content.bytes <= chunkBytesMax, 'small xattrs are inline');
      value.varint(content.bytes);
      value.raw(content.id);
      writePlace(placement, content.place);
    }
  }
}

function readMeta(v: ByteReader, p: ByteReader | undefined): EntryMeta {
  const mode = v.varint(0o7777);
  const uid = v.varint(u32Max);
  const gid = v.varint(u32Max);
  const mtimeSec = v.signed();
  if (mtimeSec < -mtimeSecMax) hostile('a time beyond what is kept');
  const mtimeNsec = v.varint(nsecMax);
  const count = v.varint(xattrsMax);
  if (count === 0) return { mode, uid, gid, mtimeSec, mtimeNsec, xattrs: noXattrs };
  const xattrs: Xattr[] = [];
  for (let i = 0; i < count; i++) xattrs.push(readXattr(xattrs[i - 1]?.name, v, p));
  return { mode, uid, gid, mtimeSec, mtimeNsec, xattrs };
}

const noXattrs: readonly Xattr[] = Object.freeze([]);

function readXattr(before: Uint8Array | undefined, v: ByteReader, p: ByteReader | undefined): Xattr {
  const name = v.blob(xattrNameBytesMax);
  if (!isXattrName(name)) hostile('an xattr without a valid name');
  if (isExcluded(name)) hostile('an xattr that belongs to the machine');
  if (before !== undefined && compareBytes(before, name) >= 0) hostile('xattrs that are not sorted');
  const kind = v.u8();
  if (kind === xattrCode.inline) return { name, value: { kind: 'inline', bytes: v.blob(xattrInlineBytesMax) } };
  if (kind !== xattrCode.chunk) v.fail('unknown kind of xattr');
  const bytes = v.varint(chunkBytesMax);
  if (bytes <= xattrInlineBytesMax) hostile('a small xattr that is not inline');
  const id = toContentId(v.raw(32));
  return { name, value: { kind: 'chunk', bytes, id, place: p === undefined ? nowhere : readPlace(p) } };
}

function isXattrName(name: Uint8Array): boolean {
  return name.length > 0 && name.length <= xattrNameBytesMax && !name.includes(0);
}

function isExcluded(name: Uint8Array): boolean {
  return name[0] === 0x73 && excludedNames.some((excluded) => compareBytes(excluded, name) === 0);
}

function writeContent(content: Content, size: number, value: ByteWriter, placement: ByteWriter): void {
  if (content.kind === 'list') {
    value.u8(contentIsList);
    value.varint(content.level);
    value.raw(content.id);
    writePlace(placement, content.place);
    placement.varint(content.nodeBytes);
    return;
  }
  const items = content.items;
  invariant(items.length <= inlineItemsMax, 'more than eight items are a list');
  value.u8(items.length);
  let position = 0;
  for (let i = 0; i < items.length; i++) {
    const item = items[i] as ContentItem;
    const wrong = whyNotCanonical(item, items[i - 1], position);
    invariant(wrong === undefined, `content items: ${wrong}`);
    writeItem(item, i < items.length - 1, value, placement);
    position += item.bytes;
  }
  invariant(position === size, 'content has as many bytes as the file');
}

function readContent(size: number, v: ByteReader, p: ByteReader | undefined): Content {
  const count = v.u8();
  if (count === contentIsList) {
    const level = v.varint(nodeLevelMax);
    const id = toNodeId(v.raw(32));
    const place = p === undefined ? nowhere : readPlace(p);
    return { kind: 'list', id, place, nodeBytes: p === undefined ? 0 : p.varint(nodeBytesMax), level };
  }
  if (count > inlineItemsMax) v.fail('too many content items');
  const items: ContentItem[] = [];
  let position = 0;
  for (let i = 0; i < count; i++) {
    const item = readItem(i < count - 1 ? undefined : size - position, v, p);
    const wrong = whyNotCanonical(item, items[i - 1], position);
    if (wrong !== undefined) hostile(wrong);
    items.push(item);
    position += item.bytes;
  }
  if (position !== size) hostile(`content of ${position} bytes in a file of ${size}`);
  return { kind: 'inline', items };
}

/** A content item. `withBytes` is false for the last one of an entry, which has what is left of the file's size. */
export function writeItem(item: ContentItem, withBytes: boolean, value: ByteWriter, placement: ByteWriter): void {
  value.u8(itemCode[item.kind]);
  if (withBytes) value.varint(item.bytes);
  if (item.kind === 'zero') return;
  value.raw(item.id);
  writePlace(placement, item.place);
}

/** Inverse of `writeItem`; `impliedBytes` is given where the number is not written. Without placement, it is `nowhere`. */
export function readItem(impliedBytes: number | undefined, v: ByteReader, p: ByteReader | undefined): ContentItem {
  const kind = v.u8();
  if (kind !== itemCode.zero && kind !== itemCode.chunk) v.fail('unknown kind of content item');
  const bytes = impliedBytes ?? v.varint();
  if (kind === itemCode.zero) return { kind: 'zero', bytes };
  const id = toContentId(v.raw(32));
  return { kind: 'chunk', bytes, id, place: p === undefined ? nowhere : readPlace(p) };
}

/**
 * What keeps an item that begins at `position`, after `before`, from being the one form of its bytes; undefined when nothing
 * does. Zeros in whole aligned blocks are one run, whether a file system calls them a hole or not.
 */
export function whyNotCanonical(
  item: ContentItem,
  before: ContentItem | undefined,
  position: number,
): string | undefined {
  if (item.bytes <= 0) return 'an item without bytes';
  if (position + item.bytes > Number.MAX_SAFE_INTEGER) return 'more bytes than a file can have';
  if (item.kind === 'chunk') return item.bytes > chunkBytesMax ? 'a chunk larger than a segment' : undefined;
  if (before?.kind === 'zero') return 'two runs of zeros side by side';
  if (item.bytes % zeroBlockBytes !== 0 || position % zeroBlockBytes !== 0) return 'a run of zeros that is not aligned';
  return undefined;
}

function writeHoles(holes: readonly Hole[], size: number, placement: ByteWriter): void {
  let count = 0;
  while (count < holes.length && count < holesMax && (holes[count] as Hole).start < size) count++;
  placement.varint(count);
  let position = 0;
  for (let i = 0; i < count; i++) {
    const hole = holes[i] as Hole;
    const end = Math.min(hole.start + hole.bytes, size);
    invariant(hole.start >= position && end > hole.start, 'holes are sorted and not empty');
    placement.varint(hole.start - position);
    placement.varint(end - hole.start);
    position = end;
  }
}

function readHoles(size: number, p: ByteReader): readonly Hole[] {
  const count = p.varint(holesMax);
  if (count === 0) return noHoles;
  const holes: Hole[] = [];
  let position = 0;
  for (let i = 0; i < count; i++) {
    const start = position + p.varint(size - position);
    const bytes = p.varint(size - start);
    if (bytes === 0) hostile('a hole without bytes');
    holes.push({ start, bytes });
    position = start + bytes;
  }
  return holes;
}

const noHoles: readonly Hole[] = Object.freeze([]);
