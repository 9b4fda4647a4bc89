/**
 * The file tree of Linux by system calls, without a JavaScript object or string per file.
 *
 * - Everything is relative to a directory descriptor and no name is followed through a symlink, so depth is not limited by
 *   PATH_MAX and nobody can swap a directory for a link under a running capture or restore.
 * - Names are checked before each use: one component, ended by a zero byte inside its buffer, never `.`, and `..` only where
 *   a walk goes back up. The kernel reads up to the zero byte, so an unchecked name would be read beyond its buffer.
 * - An instance belongs to one thread (its buffers are reused); descriptors may pass between threads.
 */
import { constants, mkdirSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { compareBytes, emptyBytes, utf8Bytes } from '../../engine/model/bytes.ts';
import {
  type DirectoryBlock,
  type FileStat,
  fileType,
  fileTypeMask,
  readStat,
  statOffset,
  statRecordBytes,
  writeI64,
} from '../../engine/model/stat-record.ts';
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
} from '../../engine/ports/file-tree.ts';
import { blockOfRecords } from './directory-block.ts';
import { DirectoryNames } from './directory-names.ts';
import { errnoName } from './errno-name.ts';
import { errnoNumber } from './errno-number.ts';
import { type FileSystemTraits, fileSystemOfType } from './file-system-type.ts';
import { type LinuxCalls, loadLinuxCalls, type SystemCallNumbers } from './linux-calls.ts';
import { nameEnd, splitPath } from './name-at.ts';

// Flags that Node has no name for. O_DIRECTORY, O_NOFOLLOW and O_DIRECT differ between x64 and arm64: they come from Node.
const closeOnExec = 0o2000000;
const pathOnly = 0o10000000;
const temporaryFile: number = 0o20000000 | constants.O_DIRECTORY;

const currentDirectory = -100;
const noFollow = 0x100;
const removeDirectoryFlag = 0x200;
const followLink = 0x400;
const noAutomount = 0x800;
const emptyPath = 0x1000;

const basicStats = 0x7ff;
const resolveNoMagicLinks = 0x02;
const resolveNoSymlinks = 0x04;
const resolveBeneath = 0x08;
const renameNoReplace = 1;
const keepSize = 1;
const seekData = 3;
const seekHole = 4;
const omitTime = 0x3ffffffe;
/** Wait before, write, wait after: the only combination that skips no page, busy or locked (WB_SYNC_ALL in the kernel). */
const writeAndWait = 7;
/** POSIX_FADV_DONTNEED. */
const dontNeed = 4;
const setLease = 1024;
const readLock = 0;
const unlock = 2;

const EINTR: number = errnoNumber('EINTR');
const EAGAIN: number = errnoNumber('EAGAIN');
const EPERM: number = errnoNumber('EPERM');
const ENOENT: number = errnoNumber('ENOENT');
const EINVAL: number = errnoNumber('EINVAL');
const EISDIR: number = errnoNumber('EISDIR');
const ENXIO: number = errnoNumber('ENXIO');
const ENOSYS: number = errnoNumber('ENOSYS');
const ENOTSUP: number = errnoNumber('ENOTSUP');
const ENODATA: number = errnoNumber('ENODATA');

const slash = 0x2f;
const dot = 0x2e;

// Where what lies in the small buffer.
const statAt = 0;
const howAt = 256;
const timesAt = 288;
const emptyPathAt = 320;
const dotPathAt = 328;
/** Offset 0 and length 0: the whole file. */
const cacheRangeAt = 336;
const procPathAt = 512;
const smallBytes = 8192;
/** getdents64 and listxattr: the kernel gives at most 64 KiB of attribute names. */
const listBytes: number = 64 * 1024;
const xattrValueBytes: number = 64 * 1024;
const symlinkTargetMax = 4095;

const procPrefix: Uint8Array = utf8Bytes('/proc/self/fd/');

export class NativeFileTree implements FileTreeWriter {
  readonly abilities: FileTreeAbilities = {
    name: 'native',
    xattrs: true,
    nanosecondTimes: true,
    holes: true,
    anyName: true,
    mappedWrites: true,
  };

  readonly #calls: LinuxCalls;
  readonly #numbers: SystemCallNumbers;
  readonly #bases: WeakMap<ArrayBufferLike, number> = new WeakMap();
  readonly #names: DirectoryNames = new DirectoryNames();

  readonly #small: Uint8Array = new Uint8Array(smallBytes);
  readonly #smallView: DataView = new DataView(this.#small.buffer);
  readonly #smallBase: number;
  /** struct statx, by words. */
  readonly #statWords: Uint32Array = new Uint32Array(this.#small.buffer, statAt, 64);
  readonly #statMode: Uint16Array = new Uint16Array(this.#small.buffer, statAt + 28, 1);
  /** One record, for callers who want it at a place that need not be aligned. */
  readonly #record: Uint32Array = new Uint32Array(16);
  readonly #recordBytes: Uint8Array = new Uint8Array(this.#record.buffer);
  readonly #recordView: DataView = new DataView(this.#record.buffer);

  readonly #entries: Uint8Array = new Uint8Array(listBytes);
  readonly #entriesView: DataView = new DataView(this.#entries.buffer);
  readonly #entriesBase: number;
  #xattrValue: Uint8Array = emptyBytes;
  /** The buffers whose addresses were taken last. */
  readonly #held: [ArrayBufferLike | undefined, ArrayBufferLike | undefined] = [undefined, undefined];

  constructor(calls: LinuxCalls) {
    this.#calls = calls;
    this.#numbers = calls.numbers;
    this.#smallBase = calls.baseAddress(this.#small.buffer);
    this.#entriesBase = calls.baseAddress(this.#entries.buffer);
    this.#small[dotPathAt] = dot;
    // struct open_how of openBeneath, and atime of setTimes.
    writeI64(this.#smallView, howAt, directoryFlags);
    writeI64(this.#smallView, howAt + 16, resolveBeneath | resolveNoSymlinks | resolveNoMagicLinks);
    writeI64(this.#smallView, timesAt + 8, omitTime);
    // A lease that is broken while we hold it sends SIGIO, which would end the process.
    calls.ignoreSignal(osConstants.signals.SIGIO);
  }

  openRoot(path: string): Descriptor {
    const bytes = utf8Bytes(`${path}\0`);
    return this.#open(currentDirectory, this.#address(bytes, 0), directoryFlags & ~constants.O_NOFOLLOW, 'openRoot');
  }

  openDirectory(parent: Descriptor, name: NameAt): Descriptor {
    nameEnd(name, 'openDirectory', 'entry-or-parent');
    return this.#open(parent, this.#address(name.names, name.start), directoryFlags, 'openDirectory');
  }

  openFile(parent: Descriptor, name: NameAt): Descriptor {
    return this.#open(parent, this.#nameAddress(name, 'openFile'), fileFlags, 'openFile');
  }

  list(directory: Descriptor): DirectoryBlock {
    const { call3, call5, numbers } = this.#calls;
    const names = this.#names;
    names.reset();
    this.#check(call3(numbers.lseek, directory, 0, 0), 'list');
    const entries = this.#entries;
    for (;;) {
      const filled = this.#check(call3(numbers.getdents64, directory, this.#entriesBase, listBytes), 'list');
      if (filled === 0) break;
      for (let at = 0; at < filled; at += this.#entriesView.getUint16(at + 16, true)) {
        const name = at + 19;
        if (entries[name] === dot) {
          const second = entries[name + 1];
          if (second === 0 || (second === dot && entries[name + 2] === 0)) continue;
        }
        names.add(entries, name);
      }
    }

    // Names and records share one buffer. The names are packed first, and the kernel reads them in place.
    const recordsBytes = names.count * statRecordBytes;
    const buffer = new ArrayBuffer(recordsBytes + names.bytes);
    const words = new Uint32Array(buffer, 0, recordsBytes / 4);
    const count = names.pack(new Uint8Array(buffer), recordsBytes, words, recordWords, nameStartWord);
    names.reset();
    const namesBase = count === 0 ? 0 : this.#calls.baseAddress(buffer) + recordsBytes;
    const statx = numbers.statx;
    const statAddress = this.#smallBase + statAt;
    const flags = noFollow | noAutomount;
    let vanished: number[] | undefined;
    for (let i = 0, word = 0; i < count; i++, word += recordWords) {
      const name = namesBase + (words[word + nameStartWord] as number);
      if (call5(statx, directory, name, flags, basicStats, statAddress) === 0) this.#fillRecord(words, word);
      else if (this.#calls.errno() === ENOENT) {
        vanished ??= [];
        vanished.push(i);
      }
      // Any other failure leaves a record of zeros: the name is kept, and opening it tells why.
    }
    return blockOfRecords(buffer, recordsBytes, count, vanished);
  }

  stat(descriptor: Descriptor): FileStat {
    this.#statDescriptor(descriptor, 'stat');
    return readStat(this.#recordView, 0);
  }

  statInto(descriptor: Descriptor, record: Uint8Array, start: number): void {
    this.#statDescriptor(descriptor, 'statInto');
    record.set(this.#recordBytes, start);
  }

  statNameInto(parent: Descriptor, name: NameAt, record: Uint8Array, start: number): void {
    this.#statAt(parent, this.#nameAddress(name, 'statNameInto'), noFollow | noAutomount, 'statNameInto');
    record.set(this.#recordBytes, start);
  }

  read(descriptor: Descriptor, into: Uint8Array, intoStart: number, length: number, position: number): number {
    const address = this.#range(into, intoStart, length, 'read');
    for (;;) {
      const got = this.#calls.call4(this.#numbers.pread64, descriptor, address, length, position);
      if (got >= 0) return got;
      if (this.#calls.errno() !== EINTR) this.#fail('read');
    }
  }

  nextData(descriptor: Descriptor, position: number, size: number): number | undefined {
    if (position >= size) return undefined;
    const found = this.#calls.call3(this.#numbers.lseek, descriptor, position, seekData);
    if (found >= 0) return found < size ? found : undefined;
    const errno = this.#calls.errno();
    if (errno === ENXIO) return undefined;
    if (errno === EINVAL) return position;
    return this.#fail('nextData');
  }

  nextHole(descriptor: Descriptor, position: number, size: number): number {
    if (position >= size) return size;
    const found = this.#calls.call3(this.#numbers.lseek, descriptor, position, seekHole);
    if (found >= 0) return found < size ? found : size;
    const errno = this.#calls.errno();
    if (errno === ENXIO || errno === EINVAL) return size;
    return this.#fail('nextHole');
  }

  /**
   * What matters is that a later write through a mapping must move mtime. Three proofs, the cheapest first:
   * - no page is dirty (1.0 us): a page that can be written without a fault is dirty;
   * - a lease (1.8 us more): with no writer and no writable mapping alive, a mapping made later meets a fault at its first
   *   write to each page;
   * - writing back (60 to 130 us for a small file that was just made).
   */
  flush(descriptor: Descriptor): boolean {
    const { writeback, leases } = this.#traits(descriptor, 'flush');
    if (!writeback) return leases && this.#lease(descriptor);
    if (this.#isClean(descriptor) || (leases && this.#lease(descriptor))) return true;
    if (this.#calls.call4(this.#numbers.sync_file_range, descriptor, 0, 0, writeAndWait) === 0) return true;
    return this.#calls.call1(this.#numbers.fdatasync, descriptor) === 0;
  }

  isUncached(descriptor: Descriptor): boolean {
    if (!this.#cacheStat(descriptor)) return false;
    return ((this.#statWords[0] as number) | (this.#statWords[1] as number)) === 0;
  }

  uncache(descriptor: Descriptor): void {
    this.#calls.call4(this.#numbers.fadvise64, descriptor, 0, 0, dontNeed);
  }

  mayHaveWriter(descriptor: Descriptor): boolean {
    return !(this.#traits(descriptor, 'mayHaveWriter').leases && this.#lease(descriptor));
  }

  readLink(parent: Descriptor, name: NameAt): Uint8Array {
    const address = this.#nameAddress(name, 'readLink');
    const { call4, numbers } = this.#calls;
    const length = this.#check(call4(numbers.readlinkat, parent, address, this.#entriesBase, listBytes), 'readLink');
    return this.#entries.slice(0, length);
  }

  xattrs(descriptor: Descriptor): readonly RawXattr[] {
    const { flistxattr, fgetxattr } = this.#numbers;
    return this.#readXattrs(flistxattr, fgetxattr, descriptor, 'xattrs');
  }

  xattrsOfName(parent: Descriptor, name: NameAt): readonly RawXattr[] {
    const { llistxattr, lgetxattr } = this.#numbers;
    return this.#readXattrs(llistxattr, lgetxattr, this.#procPath(parent, name, 'xattrsOfName'), 'xattrsOfName');
  }

  fileSystem(descriptor: Descriptor): FileSystemInfo {
    const { type, writeback } = this.#traits(descriptor, 'fileSystem');
    return { type, writeback };
  }

  close(descriptor: Descriptor): void {
    // Most work on a name ends here: a large block of names is not kept longer than that.
    this.#held.fill(undefined);
    // After EINTR the descriptor is closed all the same (Linux): a second try could close another's.
    if (this.#calls.call1(this.#numbers.close, descriptor) !== 0 && this.#calls.errno() !== EINTR) this.#fail('close');
  }

  makeRoot(path: string): Descriptor {
    try {
      mkdirSync(path, { recursive: true });
    } catch (error) {
      throw new FileTreeError((error as NodeJS.ErrnoException).code ?? 'EIO', 'makeRoot');
    }
    return this.openRoot(path);
  }

  makeDirectory(parent: Descriptor, name: NameAt): void {
    const address = this.#nameAddress(name, 'makeDirectory');
    this.#check(this.#calls.call3(this.#numbers.mkdirat, parent, address, 0o700), 'makeDirectory');
  }

  openBeneath(parent: Descriptor, name: NameAt): Descriptor {
    const end = nameEnd(name, 'openBeneath', 'path');
    const address = this.#address(name.names, name.start);
    for (let tries = 0; ; tries++) {
      const found = this.#calls.call4(this.#numbers.openat2, parent, address, this.#smallBase + howAt, 24);
      if (found >= 0) return found as Descriptor;
      const errno = this.#calls.errno();
      // EAGAIN: a rename somewhere in the system left the kernel unsure whether the path stays beneath.
      if (errno === EINTR || (errno === EAGAIN && tries < 100)) continue;
      // Older than 5.6, or a container runtime whose filter does not know the call.
      if (errno === ENOSYS || errno === EPERM) return this.#walkBeneath(parent, name, end);
      this.#fail('openBeneath');
    }
  }

  createNameless(directory: Descriptor): Descriptor | undefined {
    const flags = temporaryFile | constants.O_RDWR | closeOnExec;
    const address = this.#smallBase + dotPathAt;
    const file = this.#calls.call4(this.#numbers.openat, directory, address, flags, 0o600);
    if (file >= 0) return file as Descriptor;
    const errno = this.#calls.errno();
    if (errno === ENOTSUP || errno === EISDIR || errno === EINVAL || errno === ENOSYS) return undefined;
    return this.#fail('createNameless');
  }

  linkNameless(file: Descriptor, directory: Descriptor, name: NameAt): void {
    const address = this.#nameAddress(name, 'linkNameless');
    const from = this.#procPath(file, undefined, 'linkNameless');
    // By /proc and not AT_EMPTY_PATH, which wants CAP_DAC_READ_SEARCH.
    const linked = this.#calls.call5(this.#numbers.linkat, currentDirectory, from, directory, address, followLink);
    this.#check(linked, 'linkNameless');
  }

  createExclusive(directory: Descriptor, name: NameAt): Descriptor {
    const flags = constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW | constants.O_RDWR | closeOnExec;
    const address = this.#nameAddress(name, 'createExclusive');
    return this.#check(
      this.#calls.call4(this.#numbers.openat, directory, address, flags, 0o600),
      'createExclusive',
    ) as Descriptor;
  }

  rename(directory: Descriptor, from: NameAt, to: NameAt, replace: boolean): void {
    const source = this.#nameAddress(from, 'rename');
    const target = this.#nameAddress(to, 'rename');
    const { call5, call3, numbers } = this.#calls;
    const flags = replace ? 0 : renameNoReplace;
    if (call5(numbers.renameat2, directory, source, directory, target, flags) === 0) return;
    if (replace || this.#calls.errno() !== EINVAL) this.#fail('rename');
    // A file system without RENAME_NOREPLACE: a link refuses a taken name just so (and refuses directories).
    this.#check(call5(numbers.linkat, directory, source, directory, target, 0), 'rename');
    this.#check(call3(numbers.unlinkat, directory, source, 0), 'rename');
  }

  write(file: Descriptor, bytes: Uint8Array, start: number, length: number, position: number): void {
    const address = this.#range(bytes, start, length, 'write');
    for (let done = 0; done < length; ) {
      const put = this.#calls.call4(this.#numbers.pwrite64, file, address + done, length - done, position + done);
      if (put > 0) done += put;
      else if (put === 0) throw new FileTreeError('EIO', 'write');
      else if (this.#calls.errno() !== EINTR) this.#fail('write');
    }
  }

  openDirect(file: Descriptor): Descriptor | undefined {
    if (!this.#traits(file, 'openDirect').directWrites) return undefined;
    const flags = constants.O_WRONLY | constants.O_DIRECT | closeOnExec;
    const path = this.#procPath(file, undefined, 'openDirect');
    const direct = this.#calls.call4(this.#numbers.openat, currentDirectory, path, flags, 0);
    // Refused for whatever reason, it only takes longer.
    return direct < 0 ? undefined : (direct as Descriptor);
  }

  directMemory(bytes: number): Uint8Array {
    const memory = new Uint8Array(bytes + directAlignment);
    const start = -this.#address(memory, 0) & (directAlignment - 1);
    return memory.subarray(start, start + bytes);
  }

  truncate(file: Descriptor, size: number): void {
    this.#check(this.#calls.call2(this.#numbers.ftruncate, file, size), 'truncate');
  }

  allocate(file: Descriptor, start: number, length: number): boolean {
    for (;;) {
      if (this.#calls.call4(this.#numbers.fallocate, file, keepSize, start, length) === 0) return true;
      const errno = this.#calls.errno();
      if (errno === EINTR) continue;
      if (errno === ENOTSUP || errno === ENOSYS) return false;
      this.#fail('allocate');
    }
  }

  setMode(descriptor: Descriptor, mode: number): void {
    this.#check(this.#calls.call2(this.#numbers.fchmod, descriptor, mode), 'setMode');
  }

  setOwner(descriptor: Descriptor, uid: number, gid: number): void {
    this.#check(this.#calls.call3(this.#numbers.fchown, descriptor, uid, gid), 'setOwner');
  }

  setTimes(descriptor: Descriptor, times: TimesAt): void {
    this.#setTimesAt(descriptor, 0, 0, times, 'setTimes');
  }

  setXattr(descriptor: Descriptor, name: Uint8Array, value: Uint8Array): void {
    this.#writeXattr(this.#numbers.fsetxattr, descriptor, name, value, 'setXattr');
  }

  removeXattr(descriptor: Descriptor, name: Uint8Array): void {
    const address = this.#entryText(name, 'removeXattr');
    this.#check(this.#calls.call2(this.#numbers.fremovexattr, descriptor, address), 'removeXattr');
  }

  setModeOfName(parent: Descriptor, name: NameAt, mode: number): void {
    const { call3, call4, numbers } = this.#calls;
    const address = this.#nameAddress(name, 'setModeOfName');
    if (call4(numbers.fchmodat2, parent, address, mode, noFollow) === 0) return;
    const errno = this.#calls.errno();
    // Older than 6.6, or a filter that answers EPERM to unknown calls.
    if (errno !== ENOSYS && errno !== EPERM) this.#fail('setModeOfName');
    const flags = pathOnly | constants.O_NOFOLLOW | closeOnExec;
    const opened = this.#check(call4(numbers.openat, parent, address, flags, 0), 'setModeOfName') as Descriptor;
    try {
      // Through the descriptor the name cannot be swapped, but the mode of a symlink itself must not be tried this way:
      // some kernels follow it.
      if ((this.stat(opened).mode & fileTypeMask) === fileType.symlink)
        throw new FileTreeError('ENOTSUP', 'setModeOfName');
      const path = this.#procPath(opened, undefined, 'setModeOfName');
      this.#check(call3(numbers.fchmodat, currentDirectory, path, mode), 'setModeOfName');
    } finally {
      this.close(opened);
    }
  }

  setOwnerOfName(parent: Descriptor, name: NameAt, uid: number, gid: number): void {
    const address = this.#nameAddress(name, 'setOwnerOfName');
    this.#check(this.#calls.call5(this.#numbers.fchownat, parent, address, uid, gid, noFollow), 'setOwnerOfName');
  }

  setTimesOfName(parent: Descriptor, name: NameAt, times: TimesAt): void {
    this.#setTimesAt(parent, this.#nameAddress(name, 'setTimesOfName'), noFollow, times, 'setTimesOfName');
  }

  setXattrOfName(parent: Descriptor, name: NameAt, xattr: Uint8Array, value: Uint8Array): void {
    const path = this.#procPath(parent, name, 'setXattrOfName');
    this.#writeXattr(this.#numbers.lsetxattr, path, xattr, value, 'setXattrOfName');
  }

  makeSymlink(parent: Descriptor, name: NameAt, target: Uint8Array): void {
    const address = this.#nameAddress(name, 'makeSymlink');
    if (target.length > symlinkTargetMax) throw new FileTreeError('ENAMETOOLONG', 'makeSymlink');
    const text = this.#entryText(target, 'makeSymlink');
    this.#check(this.#calls.call3(this.#numbers.symlinkat, text, parent, address), 'makeSymlink');
  }

  makeFifo(parent: Descriptor, name: NameAt): void {
    const address = this.#nameAddress(name, 'makeFifo');
    this.#check(this.#calls.call4(this.#numbers.mknodat, parent, address, fileType.fifo | 0o600, 0), 'makeFifo');
  }

  makeLink(fromParent: Descriptor, from: NameAt, toParent: Descriptor, to: NameAt): void {
    const source = this.#nameAddress(from, 'makeLink');
    const target = this.#nameAddress(to, 'makeLink');
    this.#check(this.#calls.call5(this.#numbers.linkat, fromParent, source, toParent, target, 0), 'makeLink');
  }

  removeFile(parent: Descriptor, name: NameAt): void {
    const address = this.#nameAddress(name, 'removeFile');
    this.#check(this.#calls.call3(this.#numbers.unlinkat, parent, address, 0), 'removeFile');
  }

  removeDirectory(parent: Descriptor, name: NameAt): void {
    const address = this.#nameAddress(name, 'removeDirectory');
    this.#check(this.#calls.call3(this.#numbers.unlinkat, parent, address, removeDirectoryFlag), 'removeDirectory');
  }

  syncFileSystem(descriptor: Descriptor): void {
    this.#check(this.#calls.call1(this.#numbers.syncfs, descriptor), 'syncFileSystem');
  }

  #traits(descriptor: Descriptor, operation: string): FileSystemTraits {
    const { call2, numbers } = this.#calls;
    this.#check(call2(numbers.fstatfs, descriptor, this.#smallBase + statAt), operation);
    return fileSystemOfType(this.#statWords[0] as number);
  }

  /** True when a read lease could be had, and so no writer and no writable mapping exists; it is given back at once. */
  #lease(descriptor: Descriptor): boolean {
    const { call3, numbers } = this.#calls;
    if (call3(numbers.fcntl, descriptor, setLease, readLock) !== 0) return false;
    call3(numbers.fcntl, descriptor, setLease, unlock);
    return true;
  }

  /** What the page cache holds of the file, in `#statWords`. False where the kernel does not tell (before 6.5). */
  #cacheStat(descriptor: Descriptor): boolean {
    const range = this.#smallBase + cacheRangeAt;
    const { call4, numbers } = this.#calls;
    return call4(numbers.cachestat, descriptor, range, this.#smallBase + statAt, 0) === 0;
  }

  /** True when the page cache holds no dirty page of the file, as far as the kernel tells. */
  #isClean(descriptor: Descriptor): boolean {
    if (!this.#cacheStat(descriptor)) return false;
    const counts = this.#statWords;
    // cached, dirty, in writeback, evicted, …: 64 bits each. What counts as evicted may be persistent memory, mapped and
    // dirty without a page.
    const dirty = (counts[2] as number) | (counts[3] as number);
    const evicted = (counts[6] as number) | (counts[7] as number);
    return dirty === 0 && evicted === 0;
  }

  /** Opens without touching atime where allowed: O_NOATIME is refused with EPERM on files of other users. */
  #open(parent: number, address: number, flags: number, operation: string): Descriptor {
    const { call4, numbers } = this.#calls;
    let all = flags | constants.O_NOATIME;
    for (;;) {
      const opened = call4(numbers.openat, parent, address, all, 0);
      if (opened >= 0) return opened as Descriptor;
      const errno = this.#calls.errno();
      if (errno === EPERM && all !== flags) all = flags;
      else if (errno !== EINTR) this.#fail(operation);
    }
  }

  /** openBeneath for kernels without openat2: one component after the other, none of them a symlink or `..`. */
  #walkBeneath(parent: Descriptor, name: NameAt, end: number): Descriptor {
    let at = parent;
    for (const part of splitPath(name.names.subarray(name.start, end))) {
      const terminated = new Uint8Array(part.length + 1);
      terminated.set(part);
      try {
        const next = this.#open(
          at,
          this.#nameAddress({ names: terminated, start: 0 }, 'openBeneath'),
          directoryFlags,
          'openBeneath',
        );
        if (at !== parent) this.close(at);
        at = next;
      } catch (error) {
        if (at !== parent) this.close(at);
        throw error;
      }
    }
    return at;
  }

  #statDescriptor(descriptor: Descriptor, operation: string): void {
    this.#statAt(descriptor, this.#smallBase + emptyPathAt, emptyPath, operation);
  }

  /** Leaves the record in `#record`. */
  #statAt(parent: number, address: number, flags: number, operation: string): void {
    const { call5, numbers } = this.#calls;
    this.#check(call5(numbers.statx, parent, address, flags, basicStats, this.#smallBase + statAt), operation);
    this.#fillRecord(this.#record, 0);
  }

  /** struct statx to the first 64 bytes of a record at `word`. */
  #fillRecord(words: Uint32Array, word: number): void {
    const from = this.#statWords;
    const major = from[34] as number;
    const minor = from[35] as number;
    words[word] = this.#statMode[0] as number;
    words[word + 1] = from[4] as number; // nlink
    words[word + 2] = from[5] as number; // uid
    words[word + 3] = from[6] as number; // gid
    words[word + 4] = from[10] as number; // size
    words[word + 5] = from[11] as number;
    words[word + 6] = from[28] as number; // mtime seconds
    words[word + 7] = from[29] as number;
    words[word + 8] = from[24] as number; // ctime seconds
    words[word + 9] = from[25] as number;
    words[word + 10] = from[30] as number; // mtime nanoseconds
    words[word + 11] = from[26] as number; // ctime nanoseconds
    words[word + 12] = from[8] as number; // inode
    words[word + 13] = from[9] as number;
    // The device number as makedev of libc packs it, so that it equals what every other stat of this host says.
    words[word + 14] = ((major & 0xfff) << 8) | (minor & 0xff) | ((minor & 0xfff00) << 12);
    words[word + 15] = (major & 0xfffff000) | (minor >>> 20);
  }

  #setTimesAt(parent: number, address: number, flags: number, times: TimesAt, operation: string): void {
    writeI64(this.#smallView, timesAt + 16, times.mtimeSec);
    writeI64(this.#smallView, timesAt + 24, times.mtimeNsec);
    const { call4, numbers } = this.#calls;
    this.#check(call4(numbers.utimensat, parent, address, this.#smallBase + timesAt, flags), operation);
  }

  /** `subject` is a descriptor or the address of a path, as the two calls take it. */
  #readXattrs(listCall: number, getCall: number, subject: number, operation: string): readonly RawXattr[] {
    const { call3, call4 } = this.#calls;
    const listed = call3(listCall, subject, this.#entriesBase, listBytes);
    if (listed === 0) return [];
    if (listed < 0) {
      if (this.#calls.errno() === ENOTSUP) return [];
      this.#fail(operation);
    }
    if (this.#xattrValue.length === 0) this.#xattrValue = new Uint8Array(xattrValueBytes);
    const valueAddress = this.#address(this.#xattrValue, 0);
    const found: RawXattr[] = [];
    for (let at = 0; at < listed; ) {
      const end = this.#entries.indexOf(0, at);
      const length = call4(getCall, subject, this.#entriesBase + at, valueAddress, xattrValueBytes);
      if (length >= 0) found.push({ name: this.#entries.slice(at, end), value: this.#xattrValue.slice(0, length) });
      // Removed since it was listed.
      else if (this.#calls.errno() !== ENODATA) this.#fail(operation);
      at = end + 1;
    }
    return found.sort((a, b) => compareBytes(a.name, b.name));
  }

  #writeXattr(call: number, subject: number, name: Uint8Array, value: Uint8Array, operation: string): void {
    const address = this.#entryText(name, operation);
    const valueAddress = value.length === 0 ? 0 : this.#address(value, 0);
    this.#check(this.#calls.call5(call, subject, address, valueAddress, value.length, 0), operation);
  }

  /** `/proc/self/fd/N`, or a name inside it, for calls that know no directory descriptor. Address of the path. */
  #procPath(descriptor: Descriptor, name: NameAt | undefined, operation: string): number {
    const small = this.#small;
    small.set(procPrefix, procPathAt);
    let at = procPathAt + procPrefix.length;
    const digits = String(descriptor);
    for (let i = 0; i < digits.length; i++) small[at++] = digits.charCodeAt(i);
    if (name !== undefined) {
      const end = nameEnd(name, operation, 'entry');
      if (at + 2 + end - name.start > smallBytes) throw new FileTreeError('ENAMETOOLONG', operation);
      small[at++] = slash;
      for (let i = name.start; i < end; i++) small[at++] = name.names[i] as number;
    }
    small[at] = 0;
    return this.#smallBase + procPathAt;
  }

  /** Copies bytes without a zero to where a system call can read them as a text; valid until the next use. */
  #entryText(bytes: Uint8Array, operation: string): number {
    if (bytes.length >= listBytes || bytes.includes(0)) throw new FileTreeError('EINVAL', operation);
    this.#entries.set(bytes, 0);
    this.#entries[bytes.length] = 0;
    return this.#entriesBase;
  }

  #nameAddress(name: NameAt, operation: string): number {
    nameEnd(name, operation, 'entry');
    return this.#address(name.names, name.start);
  }

  /** Address of `length` bytes that are inside `bytes`. */
  #range(bytes: Uint8Array, start: number, length: number, operation: string): number {
    if (!(start >= 0 && length >= 0 && start + length <= bytes.length)) throw new FileTreeError('EFAULT', operation);
    return length === 0 ? this.#smallBase : this.#address(bytes, start);
  }

  /** Valid for the next call; a call takes at most two. */
  #address(bytes: Uint8Array, start: number): number {
    // The buffer first: asking for it moves the bytes of a small array out of the collected heap for good.
    const buffer = bytes.buffer;
    let base = this.#bases.get(buffer);
    if (base === undefined) {
      base = this.#calls.baseAddress(buffer);
      this.#bases.set(buffer, base);
    }
    // The collector sees no use of the buffer in a number: it is held here until after the call.
    this.#held[1] = this.#held[0];
    this.#held[0] = buffer;
    return base + bytes.byteOffset + start;
  }

  #check(result: number, operation: string): number {
    if (result >= 0) return result;
    return this.#fail(operation);
  }

  #fail(operation: string): never {
    throw new FileTreeError(errnoName(this.#calls.errno()), operation);
  }
}

const directoryFlags: number =
  constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW | constants.O_NONBLOCK | closeOnExec;
const fileFlags: number = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | closeOnExec;

const recordWords: number = statRecordBytes / 4;
const nameStartWord: number = statOffset.nameStart / 4;

/** The native tree of this thread, or why there is none. */
export function createNativeFileTree():
  | { readonly tree: NativeFileTree }
  | { readonly tree: undefined; readonly why: string } {
  const loaded = loadLinuxCalls();
  if (loaded.calls === undefined) return { tree: undefined, why: loaded.why };
  return { tree: new NativeFileTree(loaded.calls) };
}
