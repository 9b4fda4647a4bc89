/**
 * One name as an entry: opened, flushed, read between two equal stats, its xattrs taken.
 *
 * The flush comes before the stat: pages that a mapping dirtied are written back and protected, so that a later write through
 * the mapping must move mtime and the next scan sees it. Where that does not work (tmpfs), a file that may have a writer is
 * marked `mapped` and read again in every pass.
 */
import type { DomainKeys } from '../format/keys.ts';
import { contentId } from '../format/keys.ts';
import { encodeEntry } from '../format/entry-codec.ts';
import { type ByteWriter, equalBytes } from '../model/bytes.ts';
import {
  type Entry,
  type EntryMeta,
  excludedXattrs,
  type Place,
  type Xattr,
  xattrInlineBytesMax,
} from '../model/entry.ts';
import type { ContentId } from '../model/ids.ts';
import { fileType, fileTypeMask, readStat, viewOf } from '../model/stat-record.ts';
import { type Descriptor, FileTreeError, type FileTreeReader, type NameAt, type RawXattr } from '../ports/file-tree.ts';
import { type Hint, readFlag, readStatus, statBytes } from './lane-job.ts';
import type { ChunkTarget, ContentReader } from './read-content.ts';
import type { SessionIndex } from './session-index.ts';

const attemptsMax = 3;
/** The kernel's own limit for one value. */
const xattrBytesMax: number = 64 * 1024;

export interface NameRead {
  readonly status: number;
  readonly flags: number;
  /** Symbolic errno when unreadable. */
  readonly errno: string;
  readonly newBytes: number;
  readonly bytes: number;
}

const excluded = new Set(excludedXattrs);

export class NameReader {
  readonly #files: FileTreeReader;
  readonly #keys: DomainKeys;
  readonly #session: SessionIndex;
  readonly #content: ContentReader;
  readonly #before: Uint8Array = new Uint8Array(statBytes);
  readonly #after: Uint8Array = new Uint8Array(statBytes);
  /** Whether answers tell which files may have a writer. */
  findsWriters = false;
  #newBytes = 0;

  constructor(files: FileTreeReader, keys: DomainKeys, session: SessionIndex, content: ContentReader) {
    this.#files = files;
    this.#keys = keys;
    this.#session = session;
    this.#content = content;
  }

  /** Writes the entry's logical value and its placement; nothing is written unless the status is `stored`. */
  read(
    directory: Descriptor,
    name: NameAt,
    listed: Uint8Array,
    hints: readonly Hint[],
    nodeHints: readonly Hint[],
    target: ChunkTarget,
    value: ByteWriter,
    placement: ByteWriter,
  ): NameRead {
    this.#newBytes = 0;
    try {
      const kind = viewOf(listed).getUint32(0, true) & fileTypeMask;
      if (kind === fileType.regular) {
        return this.#readFile(directory, name, listed, hints, nodeHints, target, value, placement);
      }
      return this.#readOther(kind, directory, name, listed, target, value, placement);
    } catch (error) {
      if (!(error instanceof FileTreeError)) throw error;
      return { status: statusOf(error.errno), flags: readFlag.moved, errno: error.errno, newBytes: 0, bytes: 0 };
    }
  }

  #readFile(
    directory: Descriptor,
    name: NameAt,
    listed: Uint8Array,
    hints: readonly Hint[],
    nodeHints: readonly Hint[],
    target: ChunkTarget,
    value: ByteWriter,
    placement: ByteWriter,
  ): NameRead {
    const files = this.#files;
    const before = this.#before;
    const after = this.#after;
    const file = files.openFile(directory, name);
    const cold = files.isUncached(file);
    try {
      let flags = 0;
      for (let attempt = 1; ; attempt++) {
        const flushed = files.flush(file);
        files.statInto(file, before, 0);
        const stat = readStat(viewOf(before), 0);
        if ((stat.mode & fileTypeMask) !== fileType.regular) return changedType;
        if ((!flushed || this.findsWriters) && files.mayHaveWriter(file)) {
          flags |= flushed ? readFlag.writer : readFlag.mapped;
        }
        const content = this.#content.read(file, stat.size, target, hints, nodeHints);
        this.#newBytes += content.newBytes;
        const xattrs = this.#xattrs(files.xattrs(file), hints, target);
        files.statInto(file, after, 0);
        const still = content.bytes === stat.size && sameStat(before, after);
        if (!still && attempt < attemptsMax) continue;
        if (!still) flags |= readFlag.fuzzy | readFlag.moved;
        if (!sameStat(before, listed)) flags |= readFlag.moved;
        const entry: Entry = {
          type: 'file',
          size: content.bytes,
          content: content.content,
          holes: content.holes,
          ...metaOf(before, xattrs),
        };
        encodeEntry(entry, value, placement);
        return { status: readStatus.stored, flags, errno: '', newBytes: this.#newBytes, bytes: content.bytes };
      }
    } finally {
      // What the application works with stays in memory; what nobody has asked for does not push it out, nor count as this process's memory.
      if (cold) files.uncache(file);
      files.close(file);
    }
  }

  #readOther(
    kind: number,
    directory: Descriptor,
    name: NameAt,
    listed: Uint8Array,
    target: ChunkTarget,
    value: ByteWriter,
    placement: ByteWriter,
  ): NameRead {
    const files = this.#files;
    const before = this.#before;
    const after = this.#after;
    for (let attempt = 1; ; attempt++) {
      files.statNameInto(directory, name, before, 0);
      if ((viewOf(before).getUint32(0, true) & fileTypeMask) !== kind) return changedType;
      const linkTarget = kind === fileType.symlink ? files.readLink(directory, name) : undefined;
      const xattrs = this.#xattrs(files.xattrsOfName(directory, name), [], target);
      // Each look is by name, so another may have taken it in between: that entry never was.
      files.statNameInto(directory, name, after, 0);
      const still = sameStat(before, after);
      if (!still && attempt < attemptsMax) continue;
      const meta = metaOf(before, xattrs);
      let entry: Entry;
      if (linkTarget !== undefined) entry = { type: 'symlink', target: linkTarget, ...meta };
      else if (kind === fileType.fifo) entry = { type: 'fifo', ...meta };
      else entry = { type: 'directory', ...meta };
      encodeEntry(entry, value, placement);
      let flags = sameStat(before, listed) ? 0 : readFlag.moved;
      if (!still) flags |= readFlag.fuzzy | readFlag.moved;
      return { status: readStatus.stored, flags, errno: '', newBytes: this.#newBytes, bytes: 0 };
    }
  }

  #xattrs(raw: readonly RawXattr[], hints: readonly Hint[], target: ChunkTarget): readonly Xattr[] {
    return keepXattrs(raw, this.#keys, (id, value) => {
      let place = this.#session.find(id, value.length) ?? hints.find((hint) => equalBytes(hint.id, id))?.place;
      if (place === undefined) {
        place = target.addData(value, 0, value.length);
        this.#session.add(id, value.length, place);
        this.#newBytes += value.length;
      }
      target.refer(place);
      return place;
    });
  }
}

/** The xattrs that an entry keeps; `store` gives the place of a value that is too large to stand in it. */
export function keepXattrs(
  raw: readonly RawXattr[],
  keys: DomainKeys,
  store: (id: ContentId, value: Uint8Array) => Place,
): readonly Xattr[] {
  if (raw.length === 0) return noXattrs;
  const xattrs: Xattr[] = [];
  for (const { name, value } of raw) {
    if (value.length > xattrBytesMax || excluded.has(asciiText(name))) continue;
    if (value.length <= xattrInlineBytesMax) {
      xattrs.push({ name, value: { kind: 'inline', bytes: value } });
      continue;
    }
    const id = contentId(keys, value, 0, value.length);
    xattrs.push({ name, value: { kind: 'chunk', bytes: value.length, id, place: store(id, value) } });
  }
  return xattrs;
}

const noXattrs: readonly Xattr[] = [];
const changedType: NameRead = {
  status: readStatus.changedType,
  flags: readFlag.moved,
  errno: '',
  newBytes: 0,
  bytes: 0,
};

function statusOf(errno: string): number {
  // ELOOP, ENXIO, ENOTDIR: another kind of file took the name between the listing and the opening.
  if (errno === 'ENOENT' || errno === 'ESTALE') return readStatus.vanished;
  if (errno === 'ELOOP' || errno === 'ENXIO' || errno === 'ENOTDIR' || errno === 'EINVAL')
    return readStatus.changedType;
  return readStatus.unreadable;
}

export function sameStat(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < statBytes; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** What an entry keeps of 64 stat bytes. */
export function metaOf(stat: Uint8Array, xattrs: readonly Xattr[]): EntryMeta {
  const fields = readStat(viewOf(stat), 0);
  return {
    mode: fields.mode & 0o7777,
    uid: fields.uid,
    gid: fields.gid,
    mtimeSec: fields.mtimeSec,
    mtimeNsec: fields.mtimeNsec,
    xattrs,
  };
}

function asciiText(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes.subarray(0, 256));
}
