/**
 * What captures that looked only at some names found there, beside the scan cache of the last complete walk. The next walk merges
 * both into one cache; until then a checkpoint of a few changes writes a few kilobytes here, whatever the size of the volume.
 *
 * Stored as the tail of a cache file: text identity, varint count, then in key order per name: blob key, u8 flags, and unless it is
 * gone 64 stat bytes, and 8 bytes of tag where the flags say so.
 *
 * Invariants: an entry stands for what the cache has at that key. A `whole` directory stands for all below it too: what the
 * cache has there is void, and its listing is made of the entries here, none for a directory that was not walked.
 */
import { ByteReader, ByteWriter } from '../model/bytes.ts';
import { keyOfText, keyText } from '../model/rel-path.ts';
import {
  type DirectoryBlock,
  fileType,
  fileTypeMask,
  recordName,
  statOffset,
  statRecordBytes,
  viewOf,
} from '../model/stat-record.ts';
import type { CachedBlock, ScanCacheReader, ScanCacheWriter } from './scan-cache.ts';

const statBytes = 64;
const tagBytes = 8;
const flag = { gone: 1, whole: 2, tagged: 4, dirty: 8 } as const;

export interface DeltaEntry {
  /** 64 stat bytes; undefined when the name is gone. */
  readonly stat: Uint8Array | undefined;
  readonly whole: boolean;
  /** 8 bytes, of an entry with several names. */
  readonly tag: Uint8Array | undefined;
}

/** Entries by the text of their keys. */
export class ScanDelta {
  readonly entries: Map<string, DeltaEntry>;

  constructor(entries: Iterable<readonly [string, DeltaEntry]> = []) {
    this.entries = new Map(entries);
  }

  get size(): number {
    return this.entries.size;
  }

  get(key: string): DeltaEntry | undefined {
    return this.entries.get(key);
  }

  set(key: string, entry: DeltaEntry): void {
    this.entries.set(key, entry);
  }

  encode(identity: string, dirty: ReadonlySet<string>): Uint8Array {
    const w = new ByteWriter(64 + this.entries.size * 120);
    w.text(identity);
    w.varint(this.entries.size);
    for (const [key, { stat, whole, tag }] of [...this.entries].sort(byKey)) {
      w.blob(keyOfText(key));
      w.u8(
        (stat === undefined ? flag.gone : 0) |
          (whole ? flag.whole : 0) |
          (tag === undefined ? 0 : flag.tagged) |
          (dirty.has(key) ? flag.dirty : 0),
      );
      if (stat !== undefined) w.raw(stat);
      if (tag !== undefined) w.raw(tag);
    }
    return w.take();
  }

  /** Undefined when it belongs to something else. */
  static decode(
    bytes: Uint8Array,
    identity: string,
  ): { readonly delta: ScanDelta; readonly dirty: Set<string> } | undefined {
    const r = new ByteReader(bytes, 'scan delta');
    if (r.text(4096) !== identity) return undefined;
    const delta = new ScanDelta();
    const dirty = new Set<string>();
    for (let count = r.varint(); count > 0; count--) {
      const key = keyText(r.blob());
      const flags = r.u8();
      const stat = (flags & flag.gone) === 0 ? r.raw(statBytes).slice() : undefined;
      const tag = (flags & flag.tagged) === 0 ? undefined : r.raw(tagBytes).slice();
      delta.set(key, { stat, whole: (flags & flag.whole) !== 0, tag });
      if ((flags & flag.dirty) !== 0) dirty.add(key);
    }
    r.end();
    return { delta, dirty };
  }
}

function byKey(a: readonly [string, unknown], b: readonly [string, unknown]): number {
  return a[0] < b[0] ? -1 : 1;
}

/** One name of a merged directory. */
interface MergedName {
  readonly name: Uint8Array;
  readonly stat: Uint8Array;
  readonly tag: Uint8Array | undefined;
  readonly dirty: boolean;
}

/** What happens to the cache's blocks of a subdirectory, in the order of names. */
interface Descent {
  readonly key: string;
  /** same: as it is. inside: something below it differs. void: gone. new: not in the cache. again: void and then new. */
  readonly kind: 'same' | 'inside' | 'void' | 'new' | 'again';
}

/** Writes the cache with the delta's entries in the places of its own. The caller commits the writer, made over the same cache. */
export function mergeScanDelta(
  cache: ScanCacheReader,
  delta: ScanDelta,
  dirty: ReadonlySet<string>,
  writer: ScanCacheWriter,
): void {
  const byParent = new Map<string, (readonly [name: string, entry: DeltaEntry])[]>();
  const touched = new Set<string>(['']);
  for (const [key, entry] of [...delta.entries].sort(byKey)) {
    const at = key.lastIndexOf('\0');
    const parent = at < 0 ? '' : key.slice(0, at);
    const names = byParent.get(parent);
    if (names === undefined) byParent.set(parent, [[key.slice(at + 1), entry]]);
    else names.push([key.slice(at + 1), entry]);
    for (let end = at; end > 0 && !touched.has(key.slice(0, end)); end = key.lastIndexOf('\0', end - 1)) {
      touched.add(key.slice(0, end));
    }
  }

  const keep = (block: CachedBlock): void => {
    for (const index of block.dirty ?? []) writer.markDirty(writer.blocks, index);
    for (const [index, tag] of block.tags ?? []) writer.tag(writer.blocks, index, tag);
    writer.keep(block);
  };

  const stack: { readonly depth: number; readonly descents: Descent[]; next: number }[] = [];

  const enter = (key: string, depth: number, block: CachedBlock | undefined): void => {
    const own = byParent.get(key);
    const descents: Descent[] = [];
    if (block !== undefined && own === undefined) {
      const view = viewOf(block.records);
      for (let i = 0; i < block.count; i++) {
        if (!isDirectory(view, i * statRecordBytes)) continue;
        const child = childText(key, keyText(recordName(block, view, i)));
        descents.push({ key: child, kind: touched.has(child) ? 'inside' : 'same' });
      }
      keep(block);
      stack.push({ depth, descents, next: 0 });
      return;
    }
    const merged: MergedName[] = [];
    const view = block === undefined ? undefined : viewOf(block.records);
    let at = 0;
    const takeOld = (): void => {
      const index = at++;
      const start = index * statRecordBytes;
      const old = block as CachedBlock;
      const name = recordName(old, view as DataView, index);
      merged.push({
        name,
        stat: old.records.subarray(start, start + statBytes),
        tag: old.tags?.get(index),
        dirty: old.dirty?.has(index) ?? false,
      });
      if (!isDirectory(view as DataView, start)) return;
      const child = childText(key, keyText(name));
      descents.push({ key: child, kind: touched.has(child) ? 'inside' : 'same' });
    };
    const oldName = (): string | undefined =>
      block === undefined || at >= block.count ? undefined : keyText(recordName(block, view as DataView, at));
    for (const [name, { stat, whole, tag }] of own ?? []) {
      const child = childText(key, name);
      let old = oldName();
      for (; old !== undefined && old < name; old = oldName()) takeOld();
      let wasDirectory = false;
      if (old === name) {
        wasDirectory = isDirectory(view as DataView, at * statRecordBytes);
        at++;
      }
      const directory = stat !== undefined && isDirectory(viewOf(stat), 0);
      if (directory && wasDirectory && !whole) descents.push({ key: child, kind: 'inside' });
      else if (directory) descents.push({ key: child, kind: wasDirectory ? 'again' : 'new' });
      else if (wasDirectory) descents.push({ key: child, kind: 'void' });
      if (stat !== undefined) merged.push({ name: keyOfText(name), stat, tag, dirty: dirty.has(child) });
    }
    while (oldName() !== undefined) takeOld();
    for (const [index, entry] of merged.entries()) {
      if (entry.dirty) writer.markDirty(writer.blocks, index);
      if (entry.tag !== undefined) writer.tag(writer.blocks, index, entry.tag);
    }
    writer.add(depth, blockOf(merged));
    stack.push({ depth, descents, next: 0 });
  };

  enter('', 0, cache.nextDepth() === 0 ? cache.next() : undefined);
  while (stack.length > 0) {
    const frame = stack[stack.length - 1] as (typeof stack)[number];
    const descent = frame.descents[frame.next++];
    if (descent === undefined) {
      stack.pop();
      continue;
    }
    const depth = frame.depth + 1;
    if (descent.kind === 'same') {
      if (cache.nextDepth() !== depth) continue;
      keep(cache.next());
      while (cache.nextDepth() > depth) keep(cache.next());
      continue;
    }
    if (descent.kind === 'void' || descent.kind === 'again') cache.skipSubtree(depth);
    if (descent.kind === 'inside') enter(descent.key, depth, cache.nextDepth() === depth ? cache.next() : undefined);
    else if (descent.kind !== 'void') enter(descent.key, depth, undefined);
  }
}

/** Key texts of the names that cache or delta have with these inodes. Reads all of the cache and makes a text only of those. */
export function namesOfInodes(cache: ScanCacheReader, delta: ScanDelta, wanted: ReadonlySet<bigint>): string[] {
  const found: string[] = [];
  for (const [name, { stat }] of delta.entries) {
    if (stat !== undefined && wanted.has(viewOf(stat).getBigUint64(statOffset.inode, true))) found.push(name);
  }
  const low = new Set([...wanted].map((inode) => Number(inode & 0xffff_ffffn)));
  const stack: { readonly key: string; readonly block: CachedBlock; readonly view: DataView; next: number }[] = [];
  const enter = (key: string): void => {
    const block = cache.next();
    const view = viewOf(block.records);
    for (let i = 0; i < block.count; i++) {
      const at = i * statRecordBytes;
      if (!low.has(view.getUint32(at + statOffset.inode, true))) continue;
      if (!wanted.has(view.getBigUint64(at + statOffset.inode, true))) continue;
      found.push(childText(key, keyText(recordName(block, view, i))));
    }
    stack.push({ key, block, view, next: 0 });
  };
  if (cache.nextDepth() === 0) enter('');
  while (stack.length > 0) {
    const frame = stack[stack.length - 1] as (typeof stack)[number];
    const index = frame.next++;
    if (index >= frame.block.count) stack.pop();
    else if (isDirectory(frame.view, index * statRecordBytes) && cache.nextDepth() === stack.length) {
      enter(childText(frame.key, keyText(recordName(frame.block, frame.view, index))));
    }
  }
  return found;
}

function isDirectory(view: DataView, at: number): boolean {
  return (view.getUint32(at + statOffset.mode, true) & fileTypeMask) === fileType.directory;
}

function childText(parent: string, name: string): string {
  return parent === '' ? name : `${parent}\0${name}`;
}

function blockOf(merged: readonly MergedName[]): DirectoryBlock {
  const records = new Uint8Array(merged.length * statRecordBytes);
  const names = new Uint8Array(merged.reduce((sum, { name }) => sum + name.length + 1, 0));
  const view = viewOf(records);
  let start = 0;
  for (const [index, { name, stat }] of merged.entries()) {
    const at = index * statRecordBytes;
    records.set(stat, at);
    view.setUint32(at + statOffset.nameStart, start, true);
    view.setUint32(at + statOffset.nameBytes, name.length, true);
    names.set(name, start);
    start += name.length + 1;
  }
  return { count: merged.length, records, names };
}
