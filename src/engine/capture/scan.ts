/**
 * The walk of one volume in key order, by directory descriptors, compared with the scan cache: what is new, changed or gone.
 *
 * Invariants: operations come in strictly ascending key order. A name is either reported, unchanged since the cached scan, or
 * skipped with a reason; none is passed over silently. No symlink is followed. Descriptors of far ancestors are closed and
 * opened again through `..`, checked by device and inode, so depth is bounded by memory alone.
 */
import { HoldfastError, invariant } from '../model/errors.ts';
import type { SkipReason } from '../model/checkpoint.ts';
import { childKey, descendantsEnd, displayPath } from '../model/rel-path.ts';
import {
  type DirectoryBlock,
  type FileStat,
  fileType,
  fileTypeMask,
  readI64,
  recordName,
  statOffset,
  statRecordBytes,
  viewOf,
} from '../model/stat-record.ts';
import { type Descriptor, FileTreeError, type FileTreeReader } from '../ports/file-tree.ts';
import {
  type CachedBlock,
  equalBlocks,
  firstTag,
  isFresh,
  linkTag,
  type ScanCacheReader,
  type ScanCacheWriter,
} from '../tree/scan-cache.ts';
import { statBytes } from './lane-job.ts';
import type { Selection } from './select.ts';
import { isWalIndex, mayBeWalIndex } from './sqlite-index.ts';
import type { VolumeMemory } from './volume-memory.ts';

/** An open directory, shared between the walk and the jobs that read its names; closed by the last of them. */
export class DirectoryHandle {
  readonly descriptor: Descriptor;
  readonly #files: FileTreeReader;
  #holders = 1;

  constructor(files: FileTreeReader, descriptor: Descriptor) {
    this.#files = files;
    this.descriptor = descriptor;
  }

  hold(): void {
    this.#holders++;
  }

  release(): void {
    this.#holders--;
    invariant(this.#holders >= 0, 'a directory is released once per holder');
    if (this.#holders === 0) this.#files.close(this.descriptor);
  }
}

/** Where in the new cache an entry stands, to mark it dirty later. */
export interface CachePosition {
  readonly block: number;
  readonly index: number;
}

export type ScanOperation =
  | {
      readonly kind: 'read';
      readonly key: Uint8Array;
      readonly directory: DirectoryHandle;
      readonly name: Uint8Array;
      /** 64 stat bytes as listed. */
      readonly stat: Uint8Array;
      readonly size: number;
      readonly position: CachePosition;
      /** Device and inode of a file with several names, else empty. */
      readonly group: string;
      /** False when only doubt made it be read again: its stat is what it was. */
      readonly changed: boolean;
      /** A write at the time of the read may leave the same stamps. */
      readonly fresh: boolean;
      /** A wal-index: written through a mapping at any time, and worth nothing in a copy. */
      readonly volatile: boolean;
    }
  | {
      readonly kind: 'hardlink';
      readonly key: Uint8Array;
      readonly target: Uint8Array;
      readonly group: string;
      readonly position: CachePosition;
      readonly changed: boolean;
    }
  | { readonly kind: 'delete'; readonly key: Uint8Array }
  | { readonly kind: 'delete-range'; readonly from: Uint8Array; readonly to: Uint8Array | undefined };

export interface ScanBatch {
  readonly operations: readonly ScanOperation[];
  /** Sum of the sizes to read. */
  readonly readBytes: number;
}

export interface ScanTotals {
  entries: number;
  /** Directories that were listed, the volume's own included. */
  directories: number;
  files: number;
  bytes: number;
}

export interface ScanRequest {
  readonly files: FileTreeReader;
  readonly root: Descriptor;
  readonly selection: Selection;
  readonly previous: ScanCacheReader | undefined;
  readonly next: ScanCacheWriter | undefined;
  /** Entries whose mtime or ctime is at or after this are dirty: a later write may leave the same stamps. */
  readonly freshFromMs: number;
  /** Unchanged regular files of the previous scan must be read all the same (no writeback: mapped writes leave no trace). */
  readonly distrustContent: boolean;
  /** Wal-indexes, as display text, that an earlier pass of this capture has read: they are not looked at again. */
  readonly keepVolatile: ReadonlySet<string>;
  /** A wal-index that stays as it was stored. */
  readonly onVolatile: (key: Uint8Array) => void;
  readonly onSkip: (key: Uint8Array, reason: SkipReason, errno: string) => void;
  readonly totals: ScanTotals;
  /** Of a process that captures the volume again: what it must look at then. */
  readonly memory?: VolumeMemory | undefined;
}

export const batchOperationsMax = 512;
export const batchBytesMax: number = 4 * 1024 * 1024;
/** Each holds a descriptor until its batch is done; the default limit of a process is 1024. */
export const batchDirectoriesMax = 24;
const openFramesMax = 192;
/** A batch comes at least each time this many names were seen, so that the caller stays responsive. */
const batchNamesMax = 16_384;

export const storable: ReadonlySet<number> = new Set([
  fileType.regular,
  fileType.directory,
  fileType.symlink,
  fileType.fifo,
]);

/** A listing gives type 0 to a name whose stat failed. */
export function unstorable(type: number): SkipReason {
  if (type === 0) return 'unreadable';
  return type === fileType.socket ? 'socket' : 'device';
}

interface Frame {
  handle: DirectoryHandle | undefined;
  readonly key: Uint8Array;
  readonly depth: number;
  readonly block: DirectoryBlock;
  readonly view: DataView;
  readonly blockNumber: number;
  readonly device: bigint;
  readonly inode: bigint;
  readonly previous: CachedBlock | undefined;
  readonly previousView: DataView | undefined;
  readonly equal: boolean;
  index: number;
  previousIndex: number;
}

export function* scanVolume(request: ScanRequest): Generator<ScanBatch> {
  const { files, selection, previous, next, totals, memory } = request;
  const rootStat = files.stat(request.root);
  const rootDevice = rootStat.device;
  /** Device and inode → first key in key order. */
  const groups = new Map<string, Uint8Array>();
  const groupsRead = new Set<string>();
  let operations: ScanOperation[] = [];
  let readBytes = 0;
  let directoriesHeld = 0;
  let namesSeen = 0;
  const stack: Frame[] = [];
  let lastHeld: DirectoryHandle | undefined;

  /** From here on the descriptors of the operations are the caller's to release. */
  const takeBatch = (): ScanBatch => {
    const batch = { operations, readBytes };
    operations = [];
    readBytes = 0;
    directoriesHeld = 0;
    lastHeld = undefined;
    return batch;
  };

  /** A directory that is not walked: its block has no names, so that blocks and directories go on in step. */
  const passOver = (depth: number, hadBlock: boolean): void => {
    let kept: CachedBlock | undefined;
    if (hadBlock && previous?.nextDepth() === depth) {
      const block = previous.next();
      while (previous.nextDepth() > depth) previous.next();
      if (block.count === 0) kept = block;
    }
    if (kept !== undefined) next?.keep(kept);
    else next?.add(depth, noNames);
  };

  const open = (
    handle: DirectoryHandle,
    key: Uint8Array,
    depth: number,
    device: bigint,
    inode: bigint,
    hadBlock: boolean,
  ): boolean => {
    let block: DirectoryBlock;
    try {
      block = files.list(handle.descriptor);
    } catch (error) {
      if (!(error instanceof FileTreeError)) throw error;
      handle.release();
      if (depth === 0) throw error;
      passOver(depth, hadBlock);
      request.onSkip(key, error.errno === 'ENOENT' ? 'vanished' : 'unreadable', error.errno);
      operations.push({ kind: 'delete-range', from: childKey(key, new Uint8Array(0)), to: descendantsEnd(key) });
      return false;
    }
    const cached = hadBlock && previous?.nextDepth() === depth ? previous.next() : undefined;
    const equal = cached !== undefined && equalBlocks(block, cached);
    totals.directories++;
    stack.push({
      handle,
      key,
      depth,
      block,
      view: viewOf(block.records),
      blockNumber: next?.blocks ?? 0,
      device,
      inode,
      previous: cached,
      previousView: cached === undefined ? undefined : viewOf(cached.records),
      equal,
      index: 0,
      previousIndex: 0,
    });
    if (next !== undefined) {
      if (cached !== undefined && equal) next.keep(cached);
      else next.add(depth, block);
    }
    const far = stack[stack.length - 1 - openFramesMax];
    if (far?.handle !== undefined && far.depth > 0) {
      far.handle.release();
      far.handle = undefined;
    }
    return true;
  };

  /** A name that is left out. */
  const drop = (
    { depth, previous: block }: Frame,
    key: Uint8Array,
    reason: SkipReason,
    was: {
      readonly isDirectory: boolean;
      readonly cachedDirectory: boolean;
      readonly same: boolean;
      readonly cached: boolean;
    },
  ): void => {
    request.onSkip(key, reason, '');
    if (was.isDirectory) passOver(depth + 1, was.cachedDirectory);
    else if (was.cachedDirectory) previous?.skipSubtree(depth + 1);
    // What was dropped the last time too is in no tree, and nothing has changed.
    if (was.same || (!was.cached && block !== undefined)) return;
    operations.push({ kind: 'delete', key });
    if (!was.isDirectory && !was.cachedDirectory) return;
    operations.push({ kind: 'delete-range', from: childKey(key, new Uint8Array(0)), to: descendantsEnd(key) });
  };

  /** What was below a directory of a name that is another thing now is gone with it. */
  const leaveDirectory = (frame: Frame, key: Uint8Array): void => {
    previous?.skipSubtree(frame.depth + 1);
    operations.push({ kind: 'delete-range', from: childKey(key, new Uint8Array(0)), to: descendantsEnd(key) });
  };

  const markDirty = (key: Uint8Array, { block, index }: CachePosition): void => {
    next?.markDirty(block, index);
    memory?.markDirty(key);
  };

  /**
   * Looks at the next name of a frame. Apart from the loop that yields: a generator that holds all of it is optimized again and again,
   * from the middle of its loop, as each rare case comes up.
   */
  const visit = (frame: Frame): void => {
    const { block, view } = frame;
    const index = frame.index++;
    const at = index * statRecordBytes;
    const mode = view.getUint32(at + statOffset.mode, true);
    const type = mode & fileTypeMask;
    const multiple = type === fileType.regular && view.getUint32(at + statOffset.nlink, true) > 1;
    let cachedAt = -1;
    if (frame.equal) {
      cachedAt = index;
    } else if (frame.previous !== undefined) {
      cachedAt = passPrevious(frame, recordName(block, view, index), previous, operations);
    }
    const dirty = cachedAt >= 0 && frame.previous?.dirty?.has(cachedAt) === true;
    const sameAsCached = cachedAt >= 0 && (frame.equal || sameRecord(frame, index, cachedAt));
    const fresh = isFresh(view, at, request.freshFromMs);
    const cachedType =
      cachedAt >= 0 ? (frame.previousView as DataView).getUint32(cachedAt * statRecordBytes, true) & fileTypeMask : 0;
    const cachedDirectory = cachedType === fileType.directory;

    // The common case first: an old, equal entry costs no key and no object.
    if (
      sameAsCached &&
      !dirty &&
      !fresh &&
      !multiple &&
      type !== fileType.directory &&
      selection.all &&
      !(type === fileType.regular && (request.distrustContent || mayBeWalIndex(block, view, index)))
    ) {
      if (type === fileType.regular) {
        totals.files++;
        totals.bytes += readI64(view, at + statOffset.size);
      } else if (type !== fileType.symlink && type !== fileType.fifo) {
        request.onSkip(childKey(frame.key, recordName(block, view, index)), unstorable(type), '');
        return;
      }
      totals.entries++;
      return;
    }

    const name = recordName(block, view, index);
    const key = childKey(frame.key, name);
    const isDirectory = type === fileType.directory;
    const position: CachePosition = { block: frame.blockNumber, index };
    let left: SkipReason | undefined;
    if (!selection.selects(key, isDirectory)) left = 'excluded';
    else if (!storable.has(type)) left = unstorable(type);
    else if (isDirectory && view.getBigUint64(at + statOffset.device, true) !== rootDevice) left = 'other-filesystem';
    if (left !== undefined) {
      drop(frame, key, left, { isDirectory, cachedDirectory, same: sameAsCached, cached: cachedAt >= 0 });
      return;
    }
    if (fresh) markDirty(key, position);
    totals.entries++;

    let group = '';
    let volatile = false;
    let changed = !sameAsCached;
    if (multiple) {
      group = groupOf(view, at);
      memory?.link(key, group, view.getUint32(at + statOffset.nlink, true));
      const first = groups.get(group);
      if (first === undefined) groups.set(group, key);
      const tag = first === undefined ? firstTag : linkTag(first);
      const cachedTag = cachedAt >= 0 ? frame.previous?.tags?.get(cachedAt) : undefined;
      if (cachedTag === undefined || !sameTag(tag, cachedTag)) changed = true;
      next?.tag(position.block, position.index, tag);
      totals.files++;
      if (first !== undefined) {
        // When its first name is read it may turn out to be gone, and the others with it.
        if (changed || dirty || groupsRead.has(group)) {
          operations.push({ kind: 'hardlink', key, target: first, group, position, changed });
        }
        if (cachedDirectory && !isDirectory) leaveDirectory(frame, key);
        return;
      }
      totals.bytes += readI64(view, at + statOffset.size);
    } else if (type === fileType.regular) {
      totals.files++;
      totals.bytes += readI64(view, at + statOffset.size);
      volatile = isWalIndex(block, view, index);
      if (volatile && cachedAt >= 0 && cachedType === type && request.keepVolatile.has(displayPath(key))) {
        request.onVolatile(key);
        // It stays as the first pass read it, and the next capture reads it again.
        markDirty(key, position);
        return;
      }
    }

    const doubtful = dirty || fresh || (request.distrustContent && type === fileType.regular);
    if (changed || doubtful) {
      const size = type === fileType.regular ? readI64(view, at + statOffset.size) : 0;
      if (size > Number.MAX_SAFE_INTEGER) throw tooLarge(key);
      if (group !== '') groupsRead.add(group);
      const handle = openHandle(frame);
      handle.hold();
      if (handle !== lastHeld) directoriesHeld++;
      lastHeld = handle;
      operations.push({
        kind: 'read',
        key,
        directory: handle,
        name,
        stat: block.records.subarray(at, at + statBytes),
        size,
        position,
        group,
        changed,
        fresh,
        volatile,
      });
      readBytes += size;
    } else if (volatile) request.onVolatile(key);
    if (cachedDirectory && !isDirectory) leaveDirectory(frame, key);
    if (isDirectory) {
      const parent = openHandle(frame);
      const names = block.names;
      const start = view.getUint32(at + statOffset.nameStart, true);
      const hadBlock = cachedAt >= 0 && cachedDirectory;
      try {
        const child = new DirectoryHandle(files, files.openDirectory(parent.descriptor, { names, start }));
        const stat = statOf(files, child);
        open(child, key, frame.depth + 1, stat.device, stat.inode, hadBlock);
      } catch (error) {
        if (!(error instanceof FileTreeError)) throw error;
        if (error.errno === 'EMFILE' || error.errno === 'ENFILE') throw error;
        passOver(frame.depth + 1, hadBlock);
        markDirty(key, position);
        if (error.errno !== 'ENOENT') request.onSkip(key, 'unreadable', error.errno);
        // When its own entry is read too, that reports it.
        else if (!changed && !doubtful) request.onSkip(key, 'vanished', error.errno);
        operations.push({ kind: 'delete-range', from: childKey(key, new Uint8Array(0)), to: descendantsEnd(key) });
      }
    }
  };

  const rootHandle = new DirectoryHandle(files, request.root);
  rootHandle.hold();
  try {
    open(rootHandle, new Uint8Array(0), 0, rootDevice, rootStat.inode, true);

    while (stack.length > 0) {
      const frame = stack[stack.length - 1] as Frame;
      if (namesSeen >= batchNamesMax) {
        namesSeen = 0;
        yield takeBatch();
      }
      if (frame.index >= frame.block.count) {
        // What the previous scan had after the last name is gone.
        if (!frame.equal) passPrevious(frame, undefined, previous, operations);
        closeFrame(stack, files);
        continue;
      }
      if (frame.equal && selection.all && !request.distrustContent) {
        const passed = passUnchanged(frame, request.freshFromMs, batchNamesMax - namesSeen, totals);
        namesSeen += passed;
        if (passed > 0) continue;
      }
      namesSeen++;
      visit(frame);
      if (
        operations.length >= batchOperationsMax ||
        readBytes >= batchBytesMax ||
        directoriesHeld >= batchDirectoriesMax
      ) {
        yield takeBatch();
      }
    }
    yield takeBatch();
  } finally {
    for (const frame of stack) frame.handle?.release();
    releaseOperations(operations);
  }
}

/**
 * Passes over at most so many names of an equal block that are as they were, and counts them; stops at the first that wants a look.
 * Nearly all names of a scan end here.
 */
function passUnchanged(frame: Frame, freshFromMs: number, namesMax: number, totals: ScanTotals): number {
  const { block, view, index: from } = frame;
  const dirty = frame.previous?.dirty;
  const end = Math.min(block.count, from + namesMax);
  let index = from;
  for (; index < end; index++) {
    const at = index * statRecordBytes;
    const type = view.getUint32(at + statOffset.mode, true) & fileTypeMask;
    const regular = type === fileType.regular;
    if (!regular && type !== fileType.symlink && type !== fileType.fifo) break;
    if (dirty?.has(index) === true || isFresh(view, at, freshFromMs)) break;
    if (regular) {
      if (view.getUint32(at + statOffset.nlink, true) > 1 || mayBeWalIndex(block, view, index)) break;
      totals.files++;
      totals.bytes += readI64(view, at + statOffset.size);
    }
    totals.entries++;
  }
  frame.index = index;
  return index - from;
}

const noNames: DirectoryBlock = { count: 0, records: new Uint8Array(0), names: new Uint8Array(0) };

/** Gives back the directories of operations that nobody will carry out. */
export function releaseOperations(operations: readonly ScanOperation[]): void {
  for (const operation of operations) if (operation.kind === 'read') operation.directory.release();
}

/**
 * Moves the previous block's cursor to `name` (or to its end), reporting the names passed as deleted. Returns the previous
 * index of `name`, or -1.
 */
function passPrevious(
  frame: Frame,
  name: Uint8Array | undefined,
  previous: ScanCacheReader | undefined,
  operations: ScanOperation[],
): number {
  const block = frame.previous;
  const view = frame.previousView;
  if (block === undefined || view === undefined) return -1;
  while (frame.previousIndex < block.count) {
    const index = frame.previousIndex;
    const old = recordName(block, view, index);
    const order = name === undefined ? -1 : compareNames(old, name);
    if (order > 0) return -1;
    frame.previousIndex++;
    if (order === 0) return index;
    const key = childKey(frame.key, old);
    operations.push({ kind: 'delete', key });
    if ((view.getUint32(index * statRecordBytes, true) & fileTypeMask) === fileType.directory) {
      previous?.skipSubtree(frame.depth + 1);
      operations.push({ kind: 'delete-range', from: childKey(key, new Uint8Array(0)), to: descendantsEnd(key) });
    }
  }
  return -1;
}

function compareNames(a: Uint8Array, b: Uint8Array): number {
  const shared = a.length < b.length ? a.length : b.length;
  for (let i = 0; i < shared; i++) {
    const difference = (a[i] as number) - (b[i] as number);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

function sameRecord(frame: Frame, index: number, cachedIndex: number): boolean {
  const a = frame.block.records;
  const b = (frame.previous as CachedBlock).records;
  const aStart = index * statRecordBytes;
  const bStart = cachedIndex * statRecordBytes;
  for (let i = 0; i < statBytes; i++) if (a[aStart + i] !== b[bStart + i]) return false;
  return true;
}

function openHandle(frame: Frame): DirectoryHandle {
  invariant(frame.handle !== undefined, 'the directory on top of the walk is open');
  return frame.handle;
}

/** Releases the directory when that fails. */
function statOf(files: FileTreeReader, directory: DirectoryHandle): FileStat {
  try {
    return files.stat(directory.descriptor);
  } catch (error) {
    directory.release();
    throw error;
  }
}

const parentName = { names: Uint8Array.of(0x2e, 0x2e, 0), start: 0 } as const;

/** Leaves the top directory; opens its parent again where that had been closed. */
function closeFrame(stack: Frame[], files: FileTreeReader): void {
  const frame = stack.pop() as Frame;
  const parent = stack[stack.length - 1];
  const handle = frame.handle as DirectoryHandle;
  if (parent !== undefined && parent.handle === undefined) {
    parent.handle = reopenParent(stack, handle, files);
  }
  handle.release();
}

function reopenParent(stack: Frame[], child: DirectoryHandle, files: FileTreeReader): DirectoryHandle {
  const parent = stack[stack.length - 1] as Frame;
  const above = new DirectoryHandle(files, files.openDirectory(child.descriptor, parentName));
  const stat = statOf(files, above);
  if (stat.device === parent.device && stat.inode === parent.inode) return above;
  above.release();
  // The child was moved away under the walk: come down again from the nearest directory that is still open.
  let from = stack.length - 1;
  while ((stack[from] as Frame).handle === undefined) from--;
  let current = (stack[from] as Frame).handle as DirectoryHandle;
  current.hold();
  for (let i = from + 1; i < stack.length; i++) {
    const frame = stack[i] as Frame;
    const name = new Uint8Array(256);
    name.set(frame.key.subarray(frame.key.lastIndexOf(0) + 1));
    try {
      const next = new DirectoryHandle(files, files.openDirectory(current.descriptor, { names: name, start: 0 }));
      current.release();
      current = next;
    } catch (error) {
      current.release();
      throw error;
    }
  }
  return current;
}

export function groupOf(view: DataView, at: number): string {
  return `${view.getBigUint64(at + statOffset.device, true).toString(36)}:${view.getBigUint64(at + statOffset.inode, true).toString(36)}`;
}

export function sameTag(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < 8; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Only sparse files get there, and only on some file systems. */
export function tooLarge(key: Uint8Array): HoldfastError {
  const path = displayPath(key);
  return new HoldfastError('E_LIMIT', `${path} has more than 2^53 - 1 bytes, the most that a file can have here`, {
    remedy: 'Leave it out with --exclude, or make it smaller.',
    details: { path },
  });
}
