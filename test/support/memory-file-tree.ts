/**
 * A file system in memory behind the ports FileTreeReader and FileTreeWriter: deterministic, with the clock it is given,
 * with faults and changes at exact moments. It passes the same suite as the real ones (test/ports/file-tree.test.ts).
 *
 * Two sides:
 * - `MemoryFileSystem` is the disk, and the application that lives on it: files are written, mapped, moved and removed by
 *   path, without faults and hooks.
 * - `MemoryFileTree` is one process of Holdfast that looks at the disk through the port. Its calls are counted, can fail
 *   (`failCall`), and are announced to `beforeCall`, which may change the disk. `crash` ends the process.
 *
 * Kept to what the engine relies on: coarse clocks, mtime moved by a mapping only at the first write to a clean page, clamped
 * times, refused ownership, full disks, nameless files that vanish when closed.
 */
import { compareBytes, utf8Bytes } from '../../src/engine/model/bytes.ts';
import {
  type DirectoryBlock,
  type FileStat,
  fileType,
  fileTypeMask,
  statOffset,
  statRecordBytes,
  viewOf,
  writeStat,
} from '../../src/engine/model/stat-record.ts';
import type { Clock } from '../../src/engine/ports/clock.ts';
import {
  type Descriptor,
  directAlignment,
  type FileSystemInfo,
  type FileTreeAbilities,
  FileTreeError,
  type FileTreeWriter,
  type NameAt,
  type RawXattr,
  type TimesAt,
} from '../../src/engine/ports/file-tree.ts';
import { digestBlockBytes, printable, TreeDigest, treeLine } from './tree-digest.ts';

export interface MemoryFileSystemOptions {
  /** Wall clock of the machine; the default stands still at 2026-01-01. */
  readonly clock?: Pick<Clock, 'nowMs'>;
  /** The kernel stamps files with a coarse clock: its step in ms, default 4. */
  readonly clockStepMs?: number;
  /** Type shown by fileSystem(), default `ext4`. */
  readonly type?: string;
  /** Default: true unless the type is tmpfs. */
  readonly writeback?: boolean;
  /** Times are kept to this many ns, default 1. */
  readonly timeStepNs?: number;
  /** Seconds outside are clamped silently; default ext4's 1901 to 2446. */
  readonly timeSecMin?: number;
  readonly timeSecMax?: number;
  /** False: every change of owner is refused with EPERM, and files without a read bit cannot be opened. Default true. */
  readonly privileged?: boolean;
  /** False: O_TMPFILE is refused. Default true. */
  readonly namelessFiles?: boolean;
  /** Alignment that direct writes need, in bytes; 0 refuses them. Default: 4096, and 0 on tmpfs. */
  readonly directAlignment?: number;
  /** Space in blocks of 4096 bytes; more gives ENOSPC. */
  readonly blocksMax?: number;
  readonly inodesMax?: number;
  /** Owner of what Holdfast makes. Default 0. */
  readonly uid?: number;
  readonly gid?: number;
}

/** A path of the disk, components joined by slashes; bytes for names that are not UTF-8. */
export type MemoryPath = string | Uint8Array;

interface Timestamp {
  readonly sec: number;
  readonly nsec: number;
}

const blockBytes = digestBlockBytes;

class Inode {
  readonly number: bigint;
  readonly device: bigint;
  mode: number;
  uid: number;
  gid: number;
  nlink = 1;
  mtime: Timestamp;
  ctime: Timestamp;
  /** Of directories; the root's is itself. */
  parent: Inode | undefined;
  /** Regular files. */
  size = 0;
  readonly blocks: Map<number, Uint8Array> = new Map();
  /** Directories: names as text of one character per byte. */
  readonly children: Map<string, Inode> = new Map();
  target: Uint8Array = new Uint8Array(0);
  readonly xattrs: Map<string, Uint8Array> = new Map();
  /** Descriptors of Holdfast's processes. */
  opens = 0;
  /** Open for writing, and mappings. */
  writers = 0;
  readonly mappings: Set<MemoryMapping> = new Set();
  reclaimed = false;

  constructor(number: bigint, device: bigint, mode: number, uid: number, gid: number, now: Timestamp) {
    this.number = number;
    this.device = device;
    this.mode = mode;
    this.uid = uid;
    this.gid = gid;
    this.mtime = now;
    this.ctime = now;
  }

  get type(): number {
    return this.mode & fileTypeMask;
  }
}

/** What an application holds that has mapped a file for writing. */
export interface MemoryMapping {
  /** Stores into the mapping. mtime moves only where a page is clean. */
  write(position: number, bytes: Uint8Array | string): void;
  /** Reads from the mapping. Without writeback that makes the page writable: a write after it leaves no trace at all. */
  touch(position: number): void;
  close(): void;
}

/** Holds a file open for writing. */
export interface MemoryWriter {
  write(position: number, bytes: Uint8Array | string): void;
  close(): void;
}

export class MemoryFileSystem {
  readonly #options: MemoryFileSystemOptions;
  readonly #root: Inode;
  /** Told as inotify tells a directory: by the name that was used; `whole` for a directory that came there. Mappings tell when they end. */
  readonly listeners: Set<(path: MemoryPath, whole: boolean) => void> = new Set();
  #nextInode = 2n;
  #inodes = 1;
  #blocks = 0;

  constructor(options: MemoryFileSystemOptions = {}) {
    this.#options = options;
    this.#root = new Inode(1n, 1n, fileType.directory | 0o755, options.uid ?? 0, options.gid ?? 0, this.now());
    this.#root.nlink = 2;
  }

  get options(): MemoryFileSystemOptions {
    return this.#options;
  }

  get root(): Inode {
    return this.#root;
  }

  get info(): FileSystemInfo {
    const type = this.#options.type ?? 'ext4';
    return { type, writeback: this.#options.writeback ?? type !== 'tmpfs' };
  }

  /** Space used, in blocks of 4096 bytes. */
  get usedBlocks(): number {
    return this.#blocks;
  }

  /** The coarse clock. */
  now(): Timestamp {
    const ms = this.#options.clock?.nowMs() ?? 1_767_225_600_000;
    const step = this.#options.clockStepMs ?? 4;
    const coarse = Math.floor(ms / step) * step;
    const sec = Math.floor(coarse / 1000);
    return this.fit({ sec, nsec: Math.round((coarse - sec * 1000) * 1e6) });
  }

  /** What the disk can keep of a time. */
  fit({ sec, nsec }: Timestamp): Timestamp {
    const { timeSecMin = -(2 ** 31), timeSecMax = 15_032_385_535, timeStepNs = 1 } = this.#options;
    if (sec < timeSecMin) return { sec: timeSecMin, nsec: 0 };
    if (sec > timeSecMax) return { sec: timeSecMax, nsec: 0 };
    return { sec, nsec: nsec - (nsec % timeStepNs) };
  }

  // The application's side.

  /** Makes a directory and those above it. `device` other than its parent's makes it a mount point. */
  mkdir(path: MemoryPath, options: { readonly mode?: number; readonly device?: bigint } = {}): void {
    let at = this.#root;
    const made: string[] = [];
    for (const name of split(path)) {
      let next = at.children.get(name);
      made.push(name);
      if (next === undefined) {
        next = this.makeInode(fileType.directory | 0o755, at, options.device);
        this.attach(at, name, next);
        this.#tell(fromKey(made.join('/')), true);
      }
      at = next;
    }
    if (options.mode !== undefined) at.mode = fileType.directory | options.mode;
  }

  /** Writes a whole file, in place when it exists. */
  writeFile(path: MemoryPath, content: Uint8Array | string, options: { readonly mode?: number } = {}): void {
    const inode = this.#fileAt(path);
    this.truncate(inode, 0);
    this.writeTo(inode, bytesOf(content), 0);
    if (options.mode !== undefined) inode.mode = fileType.regular | options.mode;
    this.#tell(path);
  }

  /** Writes into a file at a position; holes stay where nothing was written. */
  writeAt(path: MemoryPath, position: number, content: Uint8Array | string): void {
    this.writeTo(this.#fileAt(path), bytesOf(content), position);
    this.#tell(path);
  }

  resize(path: MemoryPath, size: number): void {
    this.truncate(this.#fileAt(path), size);
    this.#tell(path);
  }

  symlink(path: MemoryPath, target: Uint8Array | string): void {
    const inode = this.#add(path, fileType.symlink | 0o777);
    inode.target = bytesOf(target);
    inode.size = inode.target.length;
  }

  fifo(path: MemoryPath): void {
    this.#add(path, fileType.fifo | 0o644);
  }

  socket(path: MemoryPath): void {
    this.#add(path, fileType.socket | 0o755);
  }

  device(path: MemoryPath): void {
    this.#add(path, fileType.characterDevice | 0o644);
  }

  link(existing: MemoryPath, path: MemoryPath): void {
    const inode = this.get(existing);
    const { directory, name } = this.#parentOf(path);
    this.attach(directory, name, inode);
    inode.nlink++;
    inode.ctime = this.now();
    this.#tell(path);
  }

  /** Removes a name, and all below it. */
  remove(path: MemoryPath): void {
    const { directory, name } = this.#parentOf(path);
    const inode = directory.children.get(name);
    if (inode === undefined) throw new Error(`there is no ${String(path)}`);
    this.detach(directory, name);
    this.#dropBelow(inode);
    this.#tell(path);
  }

  /** Replaces what is there. */
  rename(from: MemoryPath, to: MemoryPath): void {
    const inode = this.get(from);
    const source = this.#parentOf(from);
    const target = this.#parentOf(to);
    if (target.directory.children.get(target.name) === inode) return;
    if (target.directory.children.has(target.name)) this.remove(to);
    source.directory.children.delete(source.name);
    if (inode.type === fileType.directory) source.directory.nlink--;
    source.directory.mtime = source.directory.ctime = this.now();
    this.attach(target.directory, target.name, inode);
    inode.ctime = this.now();
    this.#tell(from);
    this.#tell(to, inode.type === fileType.directory);
  }

  chmod(path: MemoryPath, mode: number): void {
    const inode = this.get(path);
    inode.mode = inode.type | mode;
    inode.ctime = this.now();
    this.#tell(path);
  }

  chown(path: MemoryPath, uid: number, gid: number): void {
    const inode = this.get(path);
    inode.uid = uid;
    inode.gid = gid;
    inode.ctime = this.now();
    this.#tell(path);
  }

  setMtime(path: MemoryPath, sec: number, nsec = 0): void {
    const inode = this.get(path);
    inode.mtime = this.fit({ sec, nsec });
    inode.ctime = this.now();
    this.#tell(path);
  }

  setXattr(path: MemoryPath, name: string, value: Uint8Array | string): void {
    const inode = this.get(path);
    inode.xattrs.set(toKey(utf8Bytes(name)), bytesOf(value));
    inode.ctime = this.now();
    this.#tell(path);
  }

  readFile(path: MemoryPath): Uint8Array {
    const inode = this.get(path);
    const bytes = new Uint8Array(inode.size);
    this.readFrom(inode, bytes, 0, inode.size, 0);
    return bytes;
  }

  exists(path: MemoryPath): boolean {
    return this.#find(path) !== undefined;
  }

  stat(path: MemoryPath): FileStat {
    return this.statOf(this.get(path));
  }

  /** Maps a file for writing, as LMDB does. */
  openMapping(path: MemoryPath): MemoryMapping {
    const inode = this.get(path);
    const writable = new Set<number>();
    const mapping: MemoryMapping & { clean(): void } = {
      write: (position, content) => {
        const bytes = bytesOf(content);
        const before = { mtime: inode.mtime, ctime: inode.ctime };
        let fault = false;
        for (let i = Math.floor(position / blockBytes); i * blockBytes < position + bytes.length; i++) {
          if (!writable.has(i)) fault = true;
          writable.add(i);
        }
        this.writeTo(inode, bytes, position);
        if (!fault) Object.assign(inode, before);
      },
      touch: (position) => {
        if (!this.info.writeback) writable.add(Math.floor(position / blockBytes));
      },
      close: () => {
        if (inode.mappings.delete(mapping)) inode.writers--;
        this.reclaim(inode);
        this.#tell(path);
      },
      clean: () => writable.clear(),
    };
    inode.mappings.add(mapping);
    inode.writers++;
    return mapping;
  }

  openForWriting(path: MemoryPath): MemoryWriter {
    const inode = this.get(path);
    let open = true;
    inode.writers++;
    return {
      write: (position, content) => {
        this.writeTo(inode, bytesOf(content), position);
        this.#tell(path);
      },
      close: () => {
        if (open) inode.writers--;
        open = false;
        this.reclaim(inode);
      },
    };
  }

  /**
   * Everything below a directory, one line a name in order of paths: for comparing two trees without the engine, in the
   * same words as snapshotTree of a real one. Hardlinks show the first of their names.
   */
  describe(path: MemoryPath = '', options: { readonly owners?: boolean } = {}): string[] {
    const lines: string[] = [];
    const firstNames = new Map<Inode, string>();
    const visit = (directory: Inode, prefix: string): void => {
      for (const [name, inode] of [...directory.children].sort(([a], [b]) => (a < b ? -1 : 1))) {
        const full = prefix + printable(fromKey(name));
        const first = firstNames.get(inode);
        if (first !== undefined) {
          lines.push(`${full} = ${first}`);
          continue;
        }
        if (inode.type !== fileType.directory) firstNames.set(inode, full);
        const { sec, nsec } = inode.mtime;
        lines.push(
          treeLine({
            path: full,
            mode: inode.mode,
            owner: (options.owners ?? true) ? `${inode.uid}:${inode.gid}` : undefined,
            mtimeNs: BigInt(sec) * 1_000_000_000n + BigInt(nsec),
            xattrs: [...inode.xattrs].map(([key, value]) => [fromKey(key), value] as const),
            content: this.#describeContent(inode),
          }),
        );
        visit(inode, `${full}/`);
      }
    };
    visit(this.get(path), '');
    return lines;
  }

  // What both sides use.

  makeInode(mode: number, directory: Inode, device: bigint = directory.device): Inode {
    if (this.#inodes >= (this.#options.inodesMax ?? Number.POSITIVE_INFINITY)) throw new DiskFull();
    this.#inodes++;
    const { uid = 0, gid = 0 } = this.#options;
    const inode = new Inode(this.#nextInode++, device, mode, uid, gid, this.now());
    if (inode.type === fileType.directory) inode.nlink = 2;
    if ((directory.mode & 0o2000) !== 0) {
      inode.gid = directory.gid;
      if (inode.type === fileType.directory) inode.mode |= 0o2000;
    }
    return inode;
  }

  attach(directory: Inode, name: string, inode: Inode): void {
    directory.children.set(name, inode);
    if (inode.type === fileType.directory) {
      directory.nlink++;
      inode.parent = directory;
    }
    directory.mtime = directory.ctime = this.now();
  }

  detach(directory: Inode, name: string): void {
    const inode = directory.children.get(name);
    if (inode === undefined) return;
    directory.children.delete(name);
    directory.mtime = directory.ctime = this.now();
    inode.ctime = this.now();
    if (inode.type === fileType.directory) {
      directory.nlink--;
      inode.nlink = 0;
    } else inode.nlink--;
    this.reclaim(inode);
  }

  /** Gives back the space of what has no name and is open nowhere. */
  reclaim(inode: Inode): void {
    if (inode.nlink > 0 || inode.opens > 0 || inode.writers > 0 || inode.reclaimed) return;
    inode.reclaimed = true;
    this.#inodes--;
    this.#blocks -= inode.blocks.size;
    inode.blocks.clear();
  }

  get(path: MemoryPath): Inode {
    const inode = this.#find(path);
    if (inode === undefined) throw new Error(`there is no ${String(path)}`);
    return inode;
  }

  statOf(inode: Inode): FileStat {
    return {
      mode: inode.mode,
      nlink: inode.nlink,
      uid: inode.uid,
      gid: inode.gid,
      size: inode.type === fileType.directory ? blockBytes : inode.size,
      mtimeSec: inode.mtime.sec,
      mtimeNsec: inode.mtime.nsec,
      ctimeSec: inode.ctime.sec,
      ctimeNsec: inode.ctime.nsec,
      inode: inode.number,
      device: inode.device,
    };
  }

  writeTo(inode: Inode, bytes: Uint8Array, position: number): void {
    for (let done = 0; done < bytes.length; ) {
      const at = position + done;
      const index = Math.floor(at / blockBytes);
      const offset = at - index * blockBytes;
      const part = Math.min(blockBytes - offset, bytes.length - done);
      this.#block(inode, index).set(bytes.subarray(done, done + part), offset);
      done += part;
    }
    inode.size = Math.max(inode.size, position + bytes.length);
    inode.mtime = inode.ctime = this.now();
  }

  readFrom(inode: Inode, into: Uint8Array, start: number, length: number, position: number): number {
    const got = Math.max(0, Math.min(length, inode.size - position));
    for (let done = 0; done < got; ) {
      const at = position + done;
      const index = Math.floor(at / blockBytes);
      const offset = at - index * blockBytes;
      const part = Math.min(blockBytes - offset, got - done);
      const block = inode.blocks.get(index);
      if (block === undefined) into.fill(0, start + done, start + done + part);
      else into.set(block.subarray(offset, offset + part), start + done);
      done += part;
    }
    return got;
  }

  truncate(inode: Inode, size: number): void {
    for (const index of [...inode.blocks.keys()]) {
      if (index * blockBytes >= size) {
        inode.blocks.delete(index);
        this.#blocks--;
      } else if ((index + 1) * blockBytes > size) inode.blocks.get(index)?.fill(0, size - index * blockBytes);
    }
    inode.size = size;
    inode.mtime = inode.ctime = this.now();
  }

  allocate(inode: Inode, start: number, length: number): void {
    for (let i = Math.floor(start / blockBytes); i * blockBytes < start + length; i++) this.#block(inode, i);
  }

  #block(inode: Inode, index: number): Uint8Array {
    let block = inode.blocks.get(index);
    if (block === undefined) {
      if (this.#blocks >= (this.#options.blocksMax ?? Number.POSITIVE_INFINITY)) throw new DiskFull();
      this.#blocks++;
      block = new Uint8Array(blockBytes);
      inode.blocks.set(index, block);
    }
    return block;
  }

  #describeContent(inode: Inode): string {
    if (inode.type === fileType.symlink) return `-> ${printable(inode.target)}`;
    if (inode.type !== fileType.regular) return '';
    const digest = new TreeDigest();
    for (const [index, block] of [...inode.blocks].sort(([i], [j]) => i - j)) {
      if (index * blockBytes < inode.size) digest.add(index, block);
    }
    return `${inode.size} ${digest.text(inode.size)}`;
  }

  #find(path: MemoryPath): Inode | undefined {
    let at: Inode | undefined = this.#root;
    for (const name of split(path)) at = at?.children.get(name);
    return at;
  }

  #parentOf(path: MemoryPath): { readonly directory: Inode; readonly name: string } {
    const names = split(path);
    const name = names.pop();
    if (name === undefined) throw new Error('the root has no name');
    let at = this.#root;
    for (const part of names) {
      const next = at.children.get(part);
      if (next === undefined) throw new Error(`there is no directory for ${String(path)}`);
      at = next;
    }
    return { directory: at, name };
  }

  #fileAt(path: MemoryPath): Inode {
    const found = this.#find(path);
    if (found !== undefined) return found;
    return this.#add(path, fileType.regular | 0o644);
  }

  #add(path: MemoryPath, mode: number): Inode {
    const { directory, name } = this.#parentOf(path);
    if (directory.children.has(name)) throw new Error(`${String(path)} is there already`);
    const inode = this.makeInode(mode, directory);
    this.attach(directory, name, inode);
    this.#tell(path);
    return inode;
  }

  #tell(path: MemoryPath, whole = false): void {
    for (const listener of this.listeners) listener(path, whole);
  }

  #dropBelow(inode: Inode): void {
    for (const [name, child] of [...inode.children]) {
      this.detach(inode, name);
      this.#dropBelow(child);
    }
  }
}

class DiskFull extends Error {}

/** A call of the port, as the hook and the faults see it. */
export interface MemoryCall {
  /** Name of the port's method; `listName` stands for the stat of each name inside `list`. */
  readonly operation: string;
  /** How many calls of this operation there have been, this one included. */
  readonly nth: number;
  /** Path of the subject from the disk's root, as text; empty for the root and for nameless files. */
  readonly path: string;
}

interface Fault {
  readonly operation: string;
  readonly errno: string;
  /** Countdown to the failing call. */
  calls: number;
  readonly path: string | undefined;
}

interface OpenFile {
  readonly inode: Inode;
  readonly path: string;
  readonly writing: boolean;
  nameless: boolean;
  /** Of a descriptor for direct writes. */
  readonly alignment?: number;
}

export class MemoryFileTree implements FileTreeWriter {
  readonly abilities: FileTreeAbilities;
  /** Called before each call of the port; may change the disk, or throw FileTreeError to fail the call. */
  beforeCall: ((call: MemoryCall) => void) | undefined;
  /** Reads give at most this many bytes. */
  readBytesMax: number = Number.POSITIVE_INFINITY;
  /** More open descriptors give EMFILE. */
  openFilesMax: number = Number.POSITIVE_INFINITY;

  readonly #disk: MemoryFileSystem;
  readonly #open: Map<Descriptor, OpenFile> = new Map();
  readonly #counts: Map<string, number> = new Map();
  #faults: Fault[] = [];
  #nextDescriptor = 3;

  constructor(disk: MemoryFileSystem, abilities: Partial<FileTreeAbilities> = {}) {
    this.#disk = disk;
    this.abilities = {
      name: 'memory',
      xattrs: true,
      nanosecondTimes: true,
      holes: true,
      anyName: true,
      mappedWrites: true,
      ...abilities,
    };
  }

  /** Makes the nth call of an operation from now on fail, of all or of those whose path is `path`. */
  failCall(operation: string, errno: string, options: { readonly nth?: number; readonly path?: string } = {}): void {
    this.#faults.push({ operation, errno, calls: options.nth ?? 1, path: options.path });
  }

  /** Descriptors that are open, as `number path`; empty when nothing leaked. */
  get openDescriptors(): string[] {
    return [...this.#open].map(([descriptor, file]) => `${descriptor} ${file.path}`);
  }

  /** Calls so far of one operation. */
  callCount(operation: string): number {
    return this.#counts.get(operation) ?? 0;
  }

  /** The process is killed: every descriptor is gone, and nameless files with them. */
  crash(): void {
    for (const descriptor of [...this.#open.keys()]) this.#release(descriptor);
  }

  openRoot(path: string): Descriptor {
    this.#call('openRoot', path);
    if (!this.#disk.exists(path)) throw new FileTreeError('ENOENT', 'openRoot');
    return this.#openDirectory(this.#disk.get(path), path.replace(/^\/+/, ''), 'openRoot');
  }

  openDirectory(parent: Descriptor, name: NameAt): Descriptor {
    if (name.names[name.start] === 0x2e && name.names[name.start + 1] === 0x2e && name.names[name.start + 2] === 0) {
      const { inode: child, path: below } = this.#directory(parent, 'openDirectory');
      const above = below.includes('/') ? below.slice(0, below.lastIndexOf('/')) : '';
      this.#call('openDirectory', above);
      return this.#openDirectory(child.parent ?? child, above, 'openDirectory');
    }
    const { inode, path } = this.#lookUp(parent, name, 'openDirectory');
    return this.#openDirectory(inode, path, 'openDirectory');
  }

  list(directory: Descriptor): DirectoryBlock {
    const { inode, path } = this.#directory(directory, 'list');
    this.#call('list', path);
    const listed = [...inode.children.keys()].map(fromKey).sort(compareBytes);
    const records: Uint8Array[] = [];
    const names: Uint8Array[] = [];
    let at = 0;
    for (const name of listed) {
      const record = new Uint8Array(statRecordBytes);
      try {
        this.#call('listName', childPath(path, name));
        const child = inode.children.get(toKey(name));
        if (child === undefined) continue;
        writeStat(viewOf(record), 0, this.#disk.statOf(child));
      } catch (error) {
        if (!(error instanceof FileTreeError)) throw error;
        if (error.errno === 'ENOENT') continue;
      }
      viewOf(record).setUint32(statOffset.nameStart, at, true);
      viewOf(record).setUint32(statOffset.nameBytes, name.length, true);
      records.push(record);
      names.push(Uint8Array.of(...name, 0));
      at += name.length + 1;
    }
    return { count: records.length, records: concat(records), names: concat(names) };
  }

  openFile(parent: Descriptor, name: NameAt): Descriptor {
    const { inode, path } = this.#lookUp(parent, name, 'openFile');
    if (inode.type === fileType.symlink) throw new FileTreeError('ELOOP', 'openFile');
    if (inode.type === fileType.socket) throw new FileTreeError('ENXIO', 'openFile');
    this.#checkReadable(inode, 'openFile');
    return this.#add({ inode, path, writing: false, nameless: false }, 'openFile');
  }

  stat(descriptor: Descriptor): FileStat {
    return this.#disk.statOf(this.#file(descriptor, 'stat').inode);
  }

  statInto(descriptor: Descriptor, record: Uint8Array, start: number): void {
    writeStat(viewOf(record), start, this.#disk.statOf(this.#file(descriptor, 'statInto').inode));
  }

  statNameInto(parent: Descriptor, name: NameAt, record: Uint8Array, start: number): void {
    writeStat(viewOf(record), start, this.#disk.statOf(this.#lookUp(parent, name, 'statNameInto').inode));
  }

  read(descriptor: Descriptor, into: Uint8Array, intoStart: number, length: number, position: number): number {
    const { inode } = this.#file(descriptor, 'read');
    if (inode.type === fileType.directory) throw new FileTreeError('EISDIR', 'read');
    if (!(intoStart >= 0 && intoStart + length <= into.length)) throw new FileTreeError('EFAULT', 'read');
    return this.#disk.readFrom(inode, into, intoStart, Math.min(length, this.readBytesMax), position);
  }

  nextData(descriptor: Descriptor, position: number, size: number): number | undefined {
    const { inode } = this.#file(descriptor, 'nextData');
    const end = Math.min(size, inode.size);
    if (position >= end) return undefined;
    if (!this.abilities.holes) return position;
    const first = Math.floor(position / blockBytes);
    if (inode.blocks.has(first)) return position;
    let found = Number.POSITIVE_INFINITY;
    for (const index of inode.blocks.keys()) if (index > first && index < found) found = index;
    return found * blockBytes < end ? found * blockBytes : undefined;
  }

  nextHole(descriptor: Descriptor, position: number, size: number): number {
    const { inode } = this.#file(descriptor, 'nextHole');
    if (!this.abilities.holes || position >= size) return size;
    let index = Math.floor(position / blockBytes);
    if (!inode.blocks.has(index)) return position;
    while (inode.blocks.has(index)) index++;
    return Math.min(index * blockBytes, size);
  }

  isUncached(_descriptor: Descriptor): boolean {
    return false;
  }

  uncache(_descriptor: Descriptor): void {}

  flush(descriptor: Descriptor): boolean {
    const { inode } = this.#file(descriptor, 'flush');
    if (!this.abilities.mappedWrites) return false;
    if (inode.writers === 0) return true;
    if (!this.#disk.info.writeback) return false;
    for (const mapping of inode.mappings) (mapping as MemoryMapping & { clean(): void }).clean();
    return true;
  }

  mayHaveWriter(descriptor: Descriptor): boolean {
    const { inode } = this.#file(descriptor, 'mayHaveWriter');
    return !this.abilities.mappedWrites || inode.writers > 0;
  }

  readLink(parent: Descriptor, name: NameAt): Uint8Array {
    const { inode } = this.#lookUp(parent, name, 'readLink');
    if (inode.type !== fileType.symlink) throw new FileTreeError('EINVAL', 'readLink');
    return inode.target.slice();
  }

  xattrs(descriptor: Descriptor): readonly RawXattr[] {
    return this.#xattrsOf(this.#file(descriptor, 'xattrs').inode);
  }

  xattrsOfName(parent: Descriptor, name: NameAt): readonly RawXattr[] {
    return this.#xattrsOf(this.#lookUp(parent, name, 'xattrsOfName').inode);
  }

  fileSystem(descriptor: Descriptor): FileSystemInfo {
    this.#file(descriptor, 'fileSystem');
    return this.#disk.info;
  }

  close(descriptor: Descriptor): void {
    this.#file(descriptor, 'close');
    this.#release(descriptor);
  }

  makeRoot(path: string): Descriptor {
    this.#call('makeRoot', path);
    this.#orFull('makeRoot', () => this.#disk.mkdir(path));
    return this.#openDirectory(this.#disk.get(path), path.replace(/^\/+/, ''), 'makeRoot');
  }

  makeDirectory(parent: Descriptor, name: NameAt): void {
    this.#make(parent, name, fileType.directory | 0o700, 'makeDirectory');
  }

  openBeneath(parent: Descriptor, name: NameAt): Descriptor {
    const whole = nameBytes(name, 'openBeneath', true);
    let { inode, path } = this.#directory(parent, 'openBeneath');
    for (const part of splitAt(whole, 0x2f)) {
      if (part.length === 0) throw new FileTreeError('EINVAL', 'openBeneath');
      if (toKey(part) === '..') throw new FileTreeError('EXDEV', 'openBeneath');
      path = childPath(path, part);
      const next = inode.children.get(toKey(part));
      if (next === undefined) throw new FileTreeError('ENOENT', 'openBeneath');
      if (next.type === fileType.symlink) throw new FileTreeError('ELOOP', 'openBeneath');
      if (next.type !== fileType.directory) throw new FileTreeError('ENOTDIR', 'openBeneath');
      inode = next;
    }
    this.#call('openBeneath', path);
    return this.#openDirectory(inode, path, 'openBeneath');
  }

  createNameless(directory: Descriptor): Descriptor | undefined {
    const { inode } = this.#directory(directory, 'createNameless');
    this.#call('createNameless', '');
    if (this.#disk.options.namelessFiles === false) return undefined;
    const made = this.#orFull('createNameless', () => this.#disk.makeInode(fileType.regular | 0o600, inode));
    made.nlink = 0;
    return this.#add({ inode: made, path: '', writing: true, nameless: true }, 'createNameless');
  }

  linkNameless(file: Descriptor, directory: Descriptor, name: NameAt): void {
    const held = this.#held(file, 'linkNameless');
    const { directory: parent, key, path } = this.#free(directory, name, 'linkNameless');
    this.#call('linkNameless', path);
    if (parent.children.has(key)) throw new FileTreeError('EEXIST', 'linkNameless');
    if (!held.nameless) throw new FileTreeError('ENOENT', 'linkNameless');
    held.nameless = false;
    held.inode.nlink = 1;
    this.#disk.attach(parent, key, held.inode);
  }

  createExclusive(directory: Descriptor, name: NameAt): Descriptor {
    const inode = this.#make(directory, name, fileType.regular | 0o600, 'createExclusive');
    const path = childPath(this.#held(directory, 'createExclusive').path, nameBytes(name, 'createExclusive', false));
    return this.#add({ inode, path, writing: true, nameless: false }, 'createExclusive');
  }

  rename(directory: Descriptor, from: NameAt, to: NameAt, replace: boolean): void {
    const source = this.#lookUp(directory, from, 'rename');
    const { directory: parent, key } = this.#free(directory, to, 'rename');
    const there = parent.children.get(key);
    if (there === source.inode) return;
    if (there !== undefined) {
      if (!replace) throw new FileTreeError('EEXIST', 'rename');
      const directories = [source.inode, there].map(({ type }) => type === fileType.directory);
      if (directories[0] && !directories[1]) throw new FileTreeError('ENOTDIR', 'rename');
      if (!directories[0] && directories[1]) throw new FileTreeError('EISDIR', 'rename');
      if (there.children.size > 0) throw new FileTreeError('ENOTEMPTY', 'rename');
      this.#disk.detach(parent, key);
    }
    source.parent.children.delete(source.key);
    if (source.inode.type === fileType.directory) source.parent.nlink--;
    this.#disk.attach(parent, key, source.inode);
    source.inode.ctime = this.#disk.now();
  }

  write(file: Descriptor, bytes: Uint8Array, start: number, length: number, position: number): void {
    const { inode, writing, alignment } = this.#file(file, 'write');
    if (!writing) throw new FileTreeError('EBADF', 'write');
    if (!(start >= 0 && start + length <= bytes.length)) throw new FileTreeError('EFAULT', 'write');
    if (alignment !== undefined) {
      this.#call('writeDirect', this.#held(file, 'write').path);
      const misaligned = [bytes.byteOffset + start, length, position].some((value) => value % alignment !== 0);
      if (misaligned) throw new FileTreeError('EINVAL', 'write');
    }
    this.#orFull('write', () => this.#disk.writeTo(inode, bytes.subarray(start, start + length), position));
  }

  openDirect(file: Descriptor): Descriptor | undefined {
    const { inode, path } = this.#file(file, 'openDirect');
    const { type, directAlignment: alignment = type === 'tmpfs' ? 0 : directAlignment } = this.#disk.options;
    if (alignment === 0) return undefined;
    return this.#add({ inode, path, writing: true, nameless: false, alignment }, 'openDirect');
  }

  directMemory(bytes: number): Uint8Array {
    return new Uint8Array(bytes);
  }

  truncate(file: Descriptor, size: number): void {
    const { inode, writing } = this.#file(file, 'truncate');
    if (!writing) throw new FileTreeError('EINVAL', 'truncate');
    this.#disk.truncate(inode, size);
  }

  allocate(file: Descriptor, start: number, length: number): boolean {
    const { inode } = this.#file(file, 'allocate');
    this.#orFull('allocate', () => this.#disk.allocate(inode, start, length));
    return true;
  }

  setMode(descriptor: Descriptor, mode: number): void {
    this.#chmod(this.#file(descriptor, 'setMode').inode, mode, 'setMode');
  }

  setOwner(descriptor: Descriptor, uid: number, gid: number): void {
    this.#chown(this.#file(descriptor, 'setOwner').inode, uid, gid, 'setOwner');
  }

  setTimes(descriptor: Descriptor, times: TimesAt): void {
    this.#utimes(this.#file(descriptor, 'setTimes').inode, times);
  }

  setXattr(descriptor: Descriptor, name: Uint8Array, value: Uint8Array): void {
    this.#putXattr(this.#file(descriptor, 'setXattr').inode, name, value, 'setXattr');
  }

  removeXattr(descriptor: Descriptor, name: Uint8Array): void {
    const { inode } = this.#file(descriptor, 'removeXattr');
    if (!this.abilities.xattrs) throw new FileTreeError('ENOTSUP', 'removeXattr');
    if (!inode.xattrs.delete(toKey(name))) throw new FileTreeError('ENODATA', 'removeXattr');
    inode.ctime = this.#disk.now();
  }

  setModeOfName(parent: Descriptor, name: NameAt, mode: number): void {
    this.#chmod(this.#lookUp(parent, name, 'setModeOfName').inode, mode, 'setModeOfName');
  }

  setOwnerOfName(parent: Descriptor, name: NameAt, uid: number, gid: number): void {
    this.#chown(this.#lookUp(parent, name, 'setOwnerOfName').inode, uid, gid, 'setOwnerOfName');
  }

  setTimesOfName(parent: Descriptor, name: NameAt, times: TimesAt): void {
    this.#utimes(this.#lookUp(parent, name, 'setTimesOfName').inode, times);
  }

  setXattrOfName(parent: Descriptor, name: NameAt, xattr: Uint8Array, value: Uint8Array): void {
    this.#putXattr(this.#lookUp(parent, name, 'setXattrOfName').inode, xattr, value, 'setXattrOfName');
  }

  makeSymlink(parent: Descriptor, name: NameAt, target: Uint8Array): void {
    if (target.length === 0) throw new FileTreeError('ENOENT', 'makeSymlink');
    if (target.length > 4095) throw new FileTreeError('ENAMETOOLONG', 'makeSymlink');
    if (target.includes(0)) throw new FileTreeError('EINVAL', 'makeSymlink');
    const inode = this.#make(parent, name, fileType.symlink | 0o777, 'makeSymlink');
    inode.target = target.slice();
    inode.size = target.length;
  }

  makeFifo(parent: Descriptor, name: NameAt): void {
    this.#make(parent, name, fileType.fifo | 0o600, 'makeFifo');
  }

  makeLink(fromParent: Descriptor, from: NameAt, toParent: Descriptor, to: NameAt): void {
    const { inode } = this.#lookUp(fromParent, from, 'makeLink');
    if (inode.type === fileType.directory) throw new FileTreeError('EPERM', 'makeLink');
    const { directory, key } = this.#free(toParent, to, 'makeLink');
    if (directory.children.has(key)) throw new FileTreeError('EEXIST', 'makeLink');
    this.#disk.attach(directory, key, inode);
    inode.nlink++;
    inode.ctime = this.#disk.now();
  }

  removeFile(parent: Descriptor, name: NameAt): void {
    const found = this.#lookUp(parent, name, 'removeFile');
    if (found.inode.type === fileType.directory) throw new FileTreeError('EISDIR', 'removeFile');
    this.#disk.detach(found.parent, found.key);
  }

  removeDirectory(parent: Descriptor, name: NameAt): void {
    const found = this.#lookUp(parent, name, 'removeDirectory');
    if (found.inode.type !== fileType.directory) throw new FileTreeError('ENOTDIR', 'removeDirectory');
    if (found.inode.children.size > 0) throw new FileTreeError('ENOTEMPTY', 'removeDirectory');
    this.#disk.detach(found.parent, found.key);
  }

  syncFileSystem(descriptor: Descriptor): void {
    this.#file(descriptor, 'syncFileSystem');
  }

  /** Counts the call, tells the hook, and fails it when its turn has come. */
  #call(operation: string, path: string): void {
    const nth = this.callCount(operation) + 1;
    this.#counts.set(operation, nth);
    this.beforeCall?.({ operation, nth, path });
    for (const fault of this.#faults) {
      if (fault.operation !== operation || (fault.path !== undefined && fault.path !== path)) continue;
      fault.calls--;
      if (fault.calls > 0) continue;
      this.#faults = this.#faults.filter((other) => other !== fault);
      throw new FileTreeError(fault.errno, operation);
    }
  }

  #held(descriptor: Descriptor, operation: string): OpenFile {
    const file = this.#open.get(descriptor);
    if (file === undefined) throw new FileTreeError('EBADF', operation);
    return file;
  }

  #file(descriptor: Descriptor, operation: string): OpenFile {
    const file = this.#held(descriptor, operation);
    this.#call(operation, file.path);
    return this.#held(descriptor, operation);
  }

  #directory(descriptor: Descriptor, operation: string): OpenFile {
    const file = this.#held(descriptor, operation);
    if (file.inode.type !== fileType.directory) throw new FileTreeError('ENOTDIR', operation);
    return file;
  }

  /** The name as it is after the hook had its say. */
  #lookUp(
    parent: Descriptor,
    name: NameAt,
    operation: string,
  ): { readonly inode: Inode; readonly path: string; readonly parent: Inode; readonly key: string } {
    const bytes = nameBytes(name, operation, false);
    const directory = this.#directory(parent, operation);
    const path = childPath(directory.path, bytes);
    this.#call(operation, path);
    const key = toKey(bytes);
    const inode = directory.inode.children.get(key);
    if (inode === undefined) throw new FileTreeError('ENOENT', operation);
    return { inode, path, parent: directory.inode, key };
  }

  #free(
    parent: Descriptor,
    name: NameAt,
    operation: string,
  ): { readonly directory: Inode; readonly key: string; readonly path: string } {
    const bytes = nameBytes(name, operation, false);
    if (bytes.length > 255) throw new FileTreeError('ENAMETOOLONG', operation);
    const directory = this.#directory(parent, operation);
    if (directory.inode.nlink === 0) throw new FileTreeError('ENOENT', operation);
    return { directory: directory.inode, key: toKey(bytes), path: childPath(directory.path, bytes) };
  }

  #make(parent: Descriptor, name: NameAt, mode: number, operation: string): Inode {
    const { directory, key, path } = this.#free(parent, name, operation);
    this.#call(operation, path);
    if (directory.children.has(key)) throw new FileTreeError('EEXIST', operation);
    const inode = this.#orFull(operation, () => this.#disk.makeInode(mode, directory));
    this.#disk.attach(directory, key, inode);
    return inode;
  }

  #openDirectory(inode: Inode, path: string, operation: string): Descriptor {
    if (inode.type !== fileType.directory) throw new FileTreeError('ENOTDIR', operation);
    this.#checkReadable(inode, operation);
    return this.#add({ inode, path, writing: false, nameless: false }, operation);
  }

  #checkReadable(inode: Inode, operation: string): void {
    if (this.#disk.options.privileged === false && (inode.mode & 0o444) === 0) {
      throw new FileTreeError('EACCES', operation);
    }
  }

  #add(file: OpenFile, operation: string): Descriptor {
    if (this.#open.size >= this.openFilesMax) throw new FileTreeError('EMFILE', operation);
    const descriptor = this.#nextDescriptor++ as Descriptor;
    this.#open.set(descriptor, file);
    file.inode.opens++;
    if (file.writing) file.inode.writers++;
    return descriptor;
  }

  #release(descriptor: Descriptor): void {
    const file = this.#open.get(descriptor);
    this.#open.delete(descriptor);
    if (file === undefined) return;
    file.inode.opens--;
    if (file.writing) file.inode.writers--;
    this.#disk.reclaim(file.inode);
  }

  #orFull<Result>(operation: string, action: () => Result): Result {
    try {
      return action();
    } catch (error) {
      if (error instanceof DiskFull) throw new FileTreeError('ENOSPC', operation);
      throw error;
    }
  }

  #xattrsOf(inode: Inode): readonly RawXattr[] {
    if (!this.abilities.xattrs) return [];
    return [...inode.xattrs]
      .map(([name, value]) => ({ name: fromKey(name), value: value.slice() }))
      .sort((a, b) => compareBytes(a.name, b.name));
  }

  #putXattr(inode: Inode, name: Uint8Array, value: Uint8Array, operation: string): void {
    if (!this.abilities.xattrs) throw new FileTreeError('ENOTSUP', operation);
    // As Linux: user attributes belong to files and directories only.
    const user = toKey(name).startsWith('user.');
    if (user && inode.type !== fileType.regular && inode.type !== fileType.directory) {
      throw new FileTreeError('EPERM', operation);
    }
    inode.xattrs.set(toKey(name), value.slice());
    inode.ctime = this.#disk.now();
  }

  #chmod(inode: Inode, mode: number, operation: string): void {
    if (inode.type === fileType.symlink) throw new FileTreeError('ENOTSUP', operation);
    inode.mode = inode.type | (mode & 0o7777);
    inode.ctime = this.#disk.now();
  }

  #chown(inode: Inode, uid: number, gid: number, operation: string): void {
    const refused = this.#disk.options.privileged === false && (uid !== inode.uid || gid !== inode.gid);
    if (refused) throw new FileTreeError('EPERM', operation);
    inode.uid = uid;
    inode.gid = gid;
    // A change of owner takes setuid and setgid away, as on Linux.
    if (inode.type === fileType.regular) inode.mode &= ~0o6000;
    inode.ctime = this.#disk.now();
  }

  #utimes(inode: Inode, times: TimesAt): void {
    inode.mtime = this.#disk.fit({ sec: times.mtimeSec, nsec: times.mtimeNsec });
    inode.ctime = this.#disk.now();
  }
}

function bytesOf(content: Uint8Array | string): Uint8Array {
  return typeof content === 'string' ? utf8Bytes(content) : content.slice();
}

/** Bytes as a text of one character each: orders like the bytes and is a key of a Map. */
function toKey(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

function fromKey(key: string): Uint8Array {
  return Uint8Array.from(key, (character) => character.charCodeAt(0));
}

function split(path: MemoryPath): string[] {
  return splitAt(bytesOf(path), 0x2f)
    .map(toKey)
    .filter((part) => part !== '');
}

function splitAt(bytes: Uint8Array, separator: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let start = 0;
  for (let i = 0; i <= bytes.length; i++) {
    if (i < bytes.length && bytes[i] !== separator) continue;
    parts.push(bytes.subarray(start, i));
    start = i + 1;
  }
  return parts;
}

function childPath(path: string, name: Uint8Array): string {
  const text = new TextDecoder().decode(name);
  return path === '' ? text : `${path}/${text}`;
}

/** The same checks as the real implementations (written apart: a test double must not share the code under test). */
function nameBytes({ names, start }: NameAt, operation: string, path: boolean): Uint8Array {
  const end = names.indexOf(0, start);
  const name = end < 0 ? new Uint8Array(0) : names.subarray(start, end);
  const text = toKey(name);
  if (text === '' || text === '.' || text === '..' || (!path && text.includes('/'))) {
    throw new FileTreeError('EINVAL', operation);
  }
  return name;
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
