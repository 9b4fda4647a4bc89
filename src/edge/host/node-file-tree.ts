/**
 * The file tree by Node's own functions, for machines where system calls cannot be made (macOS, another processor, koffi
 * refused). It keeps what Node can keep and says the rest in `abilities`: no extended attributes, times to about a
 * microsecond, holes read as zeros, no notice of writes through a mapping.
 *
 * Names are resolved in one of two ways:
 * - `proc`: `/proc/self/fd/N/name`, as good as a directory descriptor: any depth, no path is followed twice.
 * - `paths`: the path under which a directory was opened, for systems without /proc. Before each use the path must still
 *   lead to the directory of the descriptor (device and inode), else ESTALE. That closes the wide window of a swapped
 *   directory, not the last microseconds; and such descriptors are of use only to the thread that opened them.
 *
 * The last component is never followed: O_NOFOLLOW, lstat, lchown, lutimes.
 */
import { spawnSync } from 'node:child_process';
import fs, { constants } from 'node:fs';
import { utf8Bytes } from '../../engine/model/bytes.ts';
import {
  type DirectoryBlock,
  type FileStat,
  fileType,
  fileTypeMask,
  statOffset,
  statRecordBytes,
  viewOf,
  writeStat,
} from '../../engine/model/stat-record.ts';
import {
  type Descriptor,
  type FileSystemInfo,
  type FileTreeAbilities,
  FileTreeError,
  type FileTreeWriter,
  type NameAt,
  type RawXattr,
  type TimesAt,
} from '../../engine/ports/file-tree.ts';
import { blockOfRecords } from './directory-block.ts';
import { errnoName } from './errno-name.ts';
import { fileSystemOfType } from './file-system-type.ts';
import { type NameKind, nameEnd, splitPath } from './name-at.ts';

export type NodeAddressing = 'proc' | 'paths';

const pathOnly = 0o10000000;
const directoryFlags: number = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const fileFlags: number = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const noAtime: number = constants.O_NOATIME ?? 0;
const onLinux: boolean = process.platform === 'linux';

export class NodeFileTree implements FileTreeWriter {
  readonly abilities: FileTreeAbilities;
  readonly #addressing: NodeAddressing;
  /** Only with `paths`. */
  readonly #paths: Map<Descriptor, Buffer> = new Map();

  constructor(addressing: NodeAddressing) {
    this.#addressing = addressing;
    this.abilities = {
      name: 'node',
      xattrs: false,
      nanosecondTimes: false,
      holes: false,
      // Names that are not UTF-8 work either way; with paths, depth ends at PATH_MAX.
      anyName: addressing === 'proc',
      mappedWrites: false,
    };
  }

  openRoot(path: string): Descriptor {
    const text = Buffer.from(path);
    const opened = this.#open(text, directoryFlags & ~constants.O_NOFOLLOW, 'openRoot');
    if (this.#addressing === 'paths')
      this.#paths.set(
        opened,
        attempt('openRoot', () => realpath(text)),
      );
    return opened;
  }

  openDirectory(parent: Descriptor, name: NameAt): Descriptor {
    return this.#openDirectory(parent, name, 'openDirectory', 'entry-or-parent');
  }

  openFile(parent: Descriptor, name: NameAt): Descriptor {
    return this.#open(this.#path(parent, name, 'openFile'), fileFlags, 'openFile');
  }

  list(directory: Descriptor): DirectoryBlock {
    const path = this.#directoryPath(directory, 'list');
    const found = attempt('list', () => fs.readdirSync(path, { encoding: 'buffer' }));
    found.sort(Buffer.compare);
    const names = found.filter((name, i) => i === 0 || !name.equals(found[i - 1] as Buffer));
    const namesStart = names.length * statRecordBytes;
    const buffer = new ArrayBuffer(names.reduce((bytes, name) => bytes + name.length + 1, namesStart));
    const bytes = new Uint8Array(buffer);
    const view = new DataView(buffer);
    const vanished: number[] = [];
    let at = 0;
    for (const [i, name] of names.entries()) {
      bytes.set(name, namesStart + at);
      view.setUint32(i * statRecordBytes + statOffset.nameStart, at, true);
      view.setUint32(i * statRecordBytes + statOffset.nameBytes, name.length, true);
      at += name.length + 1;
      try {
        writeStat(view, i * statRecordBytes, this.#lstat(join(path, name)));
      } catch (error) {
        // Any other failure leaves a record of zeros: the name is kept, and opening it tells why.
        if (codeOf(error) === 'ENOENT') vanished.push(i);
      }
    }
    return blockOfRecords(buffer, namesStart, names.length, vanished);
  }

  stat(descriptor: Descriptor): FileStat {
    return attempt('stat', () => toFileStat(fs.fstatSync(descriptor, { bigint: true })));
  }

  statInto(descriptor: Descriptor, record: Uint8Array, start: number): void {
    writeStat(viewOf(record), start, this.stat(descriptor));
  }

  statNameInto(parent: Descriptor, name: NameAt, record: Uint8Array, start: number): void {
    const path = this.#path(parent, name, 'statNameInto');
    writeStat(
      viewOf(record),
      start,
      attempt('statNameInto', () => this.#lstat(path)),
    );
  }

  read(descriptor: Descriptor, into: Uint8Array, intoStart: number, length: number, position: number): number {
    return attempt('read', () => fs.readSync(descriptor, into, intoStart, length, position));
  }

  nextData(_descriptor: Descriptor, position: number, size: number): number | undefined {
    return position < size ? position : undefined;
  }

  nextHole(_descriptor: Descriptor, _position: number, size: number): number {
    return size;
  }

  isUncached(_descriptor: Descriptor): boolean {
    return false;
  }

  uncache(_descriptor: Descriptor): void {}

  flush(_descriptor: Descriptor): boolean {
    return false;
  }

  mayHaveWriter(_descriptor: Descriptor): boolean {
    return true;
  }

  readLink(parent: Descriptor, name: NameAt): Uint8Array {
    const path = this.#path(parent, name, 'readLink');
    return attempt('readLink', () => new Uint8Array(fs.readlinkSync(path, { encoding: 'buffer' })));
  }

  xattrs(_descriptor: Descriptor): readonly RawXattr[] {
    return [];
  }

  xattrsOfName(_parent: Descriptor, _name: NameAt): readonly RawXattr[] {
    return [];
  }

  fileSystem(descriptor: Descriptor): FileSystemInfo {
    if (!onLinux) return { type: 'other', writeback: false };
    const path = this.#addressing === 'proc' ? procPath(descriptor) : this.#paths.get(descriptor);
    if (path === undefined) return { type: 'other', writeback: false };
    const { type, writeback } = attempt('fileSystem', () => fileSystemOfType(fs.statfsSync(path).type));
    return { type, writeback };
  }

  close(descriptor: Descriptor): void {
    this.#paths.delete(descriptor);
    attempt('close', () => fs.closeSync(descriptor));
  }

  makeRoot(path: string): Descriptor {
    attempt('makeRoot', () => fs.mkdirSync(path, { recursive: true }));
    return this.openRoot(path);
  }

  makeDirectory(parent: Descriptor, name: NameAt): void {
    const path = this.#path(parent, name, 'makeDirectory');
    attempt('makeDirectory', () => fs.mkdirSync(path, { mode: 0o700 }));
  }

  /** One component after the other, none of them a symlink or `..`. */
  openBeneath(parent: Descriptor, name: NameAt): Descriptor {
    const end = nameEnd(name, 'openBeneath', 'path');
    let at = parent;
    for (const part of splitPath(name.names.subarray(name.start, end))) {
      try {
        const one = { names: Uint8Array.of(...part, 0), start: 0 };
        const next = this.#openDirectory(at, one, 'openBeneath', 'entry');
        if (at !== parent) this.close(at);
        at = next;
      } catch (error) {
        if (at !== parent) this.close(at);
        throw error;
      }
    }
    return at;
  }

  /** Node's link() cannot name a nameless file; callers use createExclusive and rename. */
  createNameless(_directory: Descriptor): Descriptor | undefined {
    return undefined;
  }

  linkNameless(_file: Descriptor, _directory: Descriptor, _name: NameAt): void {
    throw new FileTreeError('ENOTSUP', 'linkNameless');
  }

  createExclusive(directory: Descriptor, name: NameAt): Descriptor {
    const path = this.#path(directory, name, 'createExclusive');
    const flags = constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW | constants.O_RDWR;
    return attempt('createExclusive', () => fs.openSync(path, flags, 0o600)) as Descriptor;
  }

  /** Without `replace` a link and an unlink, since Node's rename always replaces; a directory is looked up first. */
  rename(directory: Descriptor, from: NameAt, to: NameAt, replace: boolean): void {
    const source = this.#path(directory, from, 'rename');
    const target = this.#path(directory, to, 'rename');
    attempt('rename', () => {
      if (replace) return fs.renameSync(source, target);
      if ((this.#lstat(source).mode & fileTypeMask) === fileType.directory) {
        if (fs.lstatSync(target, { throwIfNoEntry: false }) !== undefined) throw new FileTreeError('EEXIST', 'rename');
        return fs.renameSync(source, target);
      }
      fs.linkSync(source, target);
      fs.unlinkSync(source);
    });
  }

  write(file: Descriptor, bytes: Uint8Array, start: number, length: number, position: number): void {
    attempt('write', () => {
      for (let done = 0; done < length; ) {
        const put = fs.writeSync(file, bytes, start + done, length - done, position + done);
        if (put === 0) throw new FileTreeError('EIO', 'write');
        done += put;
      }
    });
  }

  openDirect(_file: Descriptor): Descriptor | undefined {
    return undefined;
  }

  directMemory(bytes: number): Uint8Array {
    return new Uint8Array(bytes);
  }

  truncate(file: Descriptor, size: number): void {
    attempt('truncate', () => fs.ftruncateSync(file, size));
  }

  allocate(_file: Descriptor, _start: number, _length: number): boolean {
    return false;
  }

  setMode(descriptor: Descriptor, mode: number): void {
    attempt('setMode', () => fs.fchmodSync(descriptor, mode));
  }

  setOwner(descriptor: Descriptor, uid: number, gid: number): void {
    attempt('setOwner', () => fs.fchownSync(descriptor, uid, gid));
  }

  setTimes(descriptor: Descriptor, times: TimesAt): void {
    attempt('setTimes', () => fs.futimesSync(descriptor, atime(fs.fstatSync(descriptor)), mtime(times)));
  }

  setXattr(_descriptor: Descriptor, _name: Uint8Array, _value: Uint8Array): void {
    throw new FileTreeError('ENOTSUP', 'setXattr');
  }

  removeXattr(_descriptor: Descriptor, _name: Uint8Array): void {
    throw new FileTreeError('ENOTSUP', 'removeXattr');
  }

  setModeOfName(parent: Descriptor, name: NameAt, mode: number): void {
    const path = this.#path(parent, name, 'setModeOfName');
    attempt('setModeOfName', () => {
      if ((this.#lstat(path).mode & fileTypeMask) === fileType.symlink) {
        throw new FileTreeError('ENOTSUP', 'setModeOfName');
      }
      if (!onLinux) return fs.lchmodSync(path, mode);
      // Through a descriptor of the name itself, so that a link put there meanwhile is not followed.
      const opened = fs.openSync(path, pathOnly | constants.O_NOFOLLOW);
      try {
        if ((toFileStat(fs.fstatSync(opened, { bigint: true })).mode & fileTypeMask) === fileType.symlink) {
          throw new FileTreeError('ENOTSUP', 'setModeOfName');
        }
        fs.chmodSync(procPath(opened), mode);
      } finally {
        fs.closeSync(opened);
      }
    });
  }

  setOwnerOfName(parent: Descriptor, name: NameAt, uid: number, gid: number): void {
    const path = this.#path(parent, name, 'setOwnerOfName');
    attempt('setOwnerOfName', () => fs.lchownSync(path, uid, gid));
  }

  setTimesOfName(parent: Descriptor, name: NameAt, times: TimesAt): void {
    const path = this.#path(parent, name, 'setTimesOfName');
    attempt('setTimesOfName', () => fs.lutimesSync(path, atime(fs.lstatSync(path)), mtime(times)));
  }

  setXattrOfName(_parent: Descriptor, _name: NameAt, _xattr: Uint8Array, _value: Uint8Array): void {
    throw new FileTreeError('ENOTSUP', 'setXattrOfName');
  }

  makeSymlink(parent: Descriptor, name: NameAt, target: Uint8Array): void {
    const path = this.#path(parent, name, 'makeSymlink');
    attempt('makeSymlink', () => fs.symlinkSync(Buffer.from(target), path));
  }

  /** By the command mkfifo, since Node has no function for it; an argument must be UTF-8. */
  makeFifo(parent: Descriptor, name: NameAt): void {
    const path = this.#path(parent, name, 'makeFifo');
    // The command has another /proc/self.
    const seen = this.#addressing === 'proc' ? replacePrefix(path, '/proc/self/', `/proc/${process.pid}/`) : path;
    const text = seen.toString();
    if (!Buffer.from(text).equals(seen)) throw new FileTreeError('ENOTSUP', 'makeFifo');
    attempt('makeFifo', () => {
      if (fs.lstatSync(path, { throwIfNoEntry: false }) !== undefined) throw new FileTreeError('EEXIST', 'makeFifo');
      const made = spawnSync('mkfifo', ['-m', '600', text], { stdio: 'ignore' });
      if (made.error !== undefined) throw new FileTreeError('ENOTSUP', 'makeFifo');
      if (made.status !== 0) throw new FileTreeError('EIO', 'makeFifo');
    });
  }

  makeLink(fromParent: Descriptor, from: NameAt, toParent: Descriptor, to: NameAt): void {
    const source = this.#path(fromParent, from, 'makeLink');
    const target = this.#path(toParent, to, 'makeLink');
    attempt('makeLink', () => {
      // link() follows a symlink outside Linux.
      if (!onLinux && fs.lstatSync(source).isSymbolicLink()) throw new FileTreeError('ENOTSUP', 'makeLink');
      fs.linkSync(source, target);
    });
  }

  removeFile(parent: Descriptor, name: NameAt): void {
    const path = this.#path(parent, name, 'removeFile');
    attempt('removeFile', () => fs.unlinkSync(path));
  }

  removeDirectory(parent: Descriptor, name: NameAt): void {
    const path = this.#path(parent, name, 'removeDirectory');
    attempt('removeDirectory', () => fs.rmdirSync(path));
  }

  /** By the command sync, since Node has no function for it. */
  syncFileSystem(descriptor: Descriptor): void {
    const held = onLinux ? [`/proc/${process.pid}/fd/${descriptor}`] : [];
    const one = held.length > 0 && spawnSync('sync', ['-f', ...held], { stdio: 'ignore' }).status === 0;
    if (!one && spawnSync('sync', [], { stdio: 'ignore' }).status !== 0) {
      throw new FileTreeError('EIO', 'syncFileSystem');
    }
  }

  #open(path: Buffer, flags: number, operation: string): Descriptor {
    return attempt(operation, () => {
      try {
        return fs.openSync(path, flags | noAtime) as Descriptor;
      } catch (error) {
        if (noAtime === 0 || codeOf(error) !== 'EPERM') throw error;
        return fs.openSync(path, flags) as Descriptor;
      }
    });
  }

  #openDirectory(parent: Descriptor, name: NameAt, operation: string, kind: NameKind): Descriptor {
    const path = this.#path(parent, name, operation, kind);
    const opened = this.#open(path, directoryFlags, operation);
    // No component of a kept path is a symlink, so `..` can be taken away as text.
    if (this.#addressing === 'paths') this.#paths.set(opened, normalize(path));
    return opened;
  }

  #path(parent: Descriptor, name: NameAt, operation: string, kind: NameKind = 'entry'): Buffer {
    const end = nameEnd(name, operation, kind);
    return join(this.#directoryPath(parent, operation), name.names.subarray(name.start, end));
  }

  #directoryPath(directory: Descriptor, operation: string): Buffer {
    if (this.#addressing === 'proc') return procPath(directory);
    const path = this.#paths.get(directory);
    return attempt(operation, () => {
      const held = fs.fstatSync(directory, { bigint: true });
      if (path === undefined) throw new FileTreeError(held.isDirectory() ? 'EBADF' : 'ENOTDIR', operation);
      const there = fs.lstatSync(path, { bigint: true, throwIfNoEntry: false });
      if (there?.ino !== held.ino || there.dev !== held.dev) throw new FileTreeError('ESTALE', operation);
      return path;
    });
  }

  #lstat(path: Buffer): FileStat {
    return toFileStat(fs.lstatSync(path, { bigint: true }));
  }
}

function procPath(descriptor: number): Buffer {
  return Buffer.from(`/proc/self/fd/${descriptor}`);
}

function realpath(path: Buffer): Buffer {
  return fs.realpathSync.native(path, { encoding: 'buffer' });
}

function join(directory: Buffer, name: Uint8Array): Buffer {
  return Buffer.concat([directory, utf8Bytes('/'), name]);
}

/** Takes a last component `..` away together with the one before it. */
function normalize(path: Buffer): Buffer {
  if (!path.subarray(-3).equals(utf8Bytes('/..'))) return path;
  const directory = path.subarray(0, -3);
  return Buffer.from(directory.subarray(0, Math.max(1, directory.lastIndexOf(0x2f))));
}

function replacePrefix(path: Buffer, from: string, to: string): Buffer {
  return Buffer.concat([utf8Bytes(to), path.subarray(from.length)]);
}

const nanosecondsPerSecond = 1_000_000_000n;

function toFileStat(stat: fs.BigIntStats): FileStat {
  const mtime = splitTime(stat.mtimeNs);
  const ctime = splitTime(stat.ctimeNs);
  return {
    mode: Number(stat.mode),
    nlink: Number(stat.nlink),
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    size: Number(stat.size),
    mtimeSec: mtime.sec,
    mtimeNsec: mtime.nsec,
    ctimeSec: ctime.sec,
    ctimeNsec: ctime.nsec,
    inode: stat.ino,
    device: stat.dev,
  };
}

/** Nanoseconds are counted forward from the second, also before 1970. */
function splitTime(time: bigint): { readonly sec: number; readonly nsec: number } {
  const rest = time % nanosecondsPerSecond;
  const nsec = rest < 0n ? rest + nanosecondsPerSecond : rest;
  return { sec: Number((time - nsec) / nanosecondsPerSecond), nsec: Number(nsec) };
}

/** Seconds as text: Node takes a negative number for "now", but not a negative text. */
function mtime(times: TimesAt): string {
  return String(times.mtimeSec + times.mtimeNsec / 1e9);
}

/** Node cannot leave atime as it is, so it is set to what it was. */
function atime(stat: fs.Stats): string {
  return String(stat.atimeMs / 1000);
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code;
}

/** Node's errors as the port's. */
function attempt<Result>(operation: string, action: () => Result): Result {
  try {
    return action();
  } catch (error) {
    if (error instanceof FileTreeError) throw error;
    const { errno, code } = error as NodeJS.ErrnoException;
    if (typeof errno === 'number' && errno < 0) throw new FileTreeError(errnoName(-errno), operation);
    // Node's own checks (ERR_OUT_OF_RANGE and the like) are errors of the caller.
    throw new FileTreeError(code ?? 'EINVAL', operation);
  }
}
