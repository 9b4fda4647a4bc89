/**
 * What the engine asks of a file system: synchronous, by directory descriptors, one name at a time, so that no path is
 * ever followed twice and paths longer than PATH_MAX are ordinary. Names are given as a position in a buffer where the name
 * ends with a zero byte (see model/stat-record.ts), so a system call uses them in place.
 *
 * Every method throws FileTreeError. Descriptors are process-wide: one thread may open and another use and close them.
 */
import type { DirectoryBlock, FileStat } from '../model/stat-record.ts';

export type Descriptor = number & { readonly brand: unique symbol };

/** A name inside a directory: bytes of `names` from `start` up to the next zero byte. */
export interface NameAt {
  readonly names: Uint8Array;
  readonly start: number;
}

export class FileTreeError extends Error {
  override readonly name = 'FileTreeError';
  /** Symbolic errno such as ENOENT, EACCES, ELOOP, ENOSPC, EIO. */
  readonly errno: string;
  readonly operation: string;

  constructor(errno: string, operation: string) {
    super(`${operation}: ${errno}`);
    this.errno = errno;
    this.operation = operation;
  }
}

/** What this host can keep; a false is reported to the user as degraded, never silently lost. */
export interface FileTreeAbilities {
  /** Which implementation: `native` or `node`. */
  readonly name: string;
  readonly xattrs: boolean;
  readonly nanosecondTimes: boolean;
  readonly holes: boolean;
  /** Names that are not UTF-8, and paths longer than PATH_MAX. */
  readonly anyName: boolean;
  /** Writes through a mapping can be noticed (flush before stat, leases). */
  readonly mappedWrites: boolean;
}

export interface FileSystemInfo {
  /** `tmpfs`, `ext4`, … or `other`. */
  readonly type: string;
  /** True where dirty pages are written back, so that a flush makes later mapped writes move mtime. False on tmpfs. */
  readonly writeback: boolean;
}

export interface RawXattr {
  readonly name: Uint8Array;
  readonly value: Uint8Array;
}

export interface FileTreeReader {
  readonly abilities: FileTreeAbilities;
  /** Opens the directory a user named; this one path may pass through symlinks. */
  openRoot(path: string): Descriptor;
  /** Never follows a symlink: ELOOP or ENOTDIR. The name `..` goes back up; which directory that is, the caller checks. */
  openDirectory(parent: Descriptor, name: NameAt): Descriptor;
  /**
   * All names but `.` and `..` with their stats (no symlink followed), sorted, each once. Names that vanish meanwhile are left
   * out. A name whose stat fails otherwise (EACCES, EIO) has a record of zeros: mode 0 is no type of file.
   */
  list(directory: Descriptor): DirectoryBlock;
  /** For reading; never follows a symlink, never blocks on a FIFO, leaves atime alone where allowed. */
  openFile(parent: Descriptor, name: NameAt): Descriptor;
  stat(descriptor: Descriptor): FileStat;
  /** The same into 64 bytes of a stat record at `start`, without an object. */
  statInto(descriptor: Descriptor, record: Uint8Array, start: number): void;
  /** lstat of a name into 64 bytes of a stat record. */
  statNameInto(parent: Descriptor, name: NameAt, record: Uint8Array, start: number): void;
  /** Bytes read, 0 at the end; may be fewer than asked. */
  read(descriptor: Descriptor, into: Uint8Array, intoStart: number, length: number, position: number): number;
  /** Start of the next data at or after `position`, or undefined when only a hole is left. Without the ability: `position` itself while below size. */
  nextData(descriptor: Descriptor, position: number, size: number): number | undefined;
  /** Start of the next hole at or after `position`; the end of the file counts as one. */
  nextHole(descriptor: Descriptor, position: number, size: number): number;
  /**
   * Sees to it that a later write through a mapping must move mtime: by a lease that proves that no writer and no mapping
   * exists, else by writing back dirty pages. False where that is impossible.
   */
  flush(descriptor: Descriptor): boolean;
  /** True unless a read lease proved that no writer and no writable mapping exists. */
  mayHaveWriter(descriptor: Descriptor): boolean;
  /** The page cache holds nothing of the file, so nobody misses what reading it puts there. False where that is not told. */
  isUncached(descriptor: Descriptor): boolean;
  /** Has the page cache give back what it holds of the file, unless somebody has it mapped or has written it; of no effect where that cannot be. */
  uncache(descriptor: Descriptor): void;
  readLink(parent: Descriptor, name: NameAt): Uint8Array;
  /** Sorted by name bytes. Empty without the ability. */
  xattrs(descriptor: Descriptor): readonly RawXattr[];
  /** Of a name that is not opened: symlinks, FIFOs. */
  xattrsOfName(parent: Descriptor, name: NameAt): readonly RawXattr[];
  fileSystem(descriptor: Descriptor): FileSystemInfo;
  close(descriptor: Descriptor): void;
}

/** What every usual device is content with, in bytes. */
export const directAlignment = 4096;

export type TimesAt = { readonly mtimeSec: number; readonly mtimeNsec: number };

export interface FileTreeWriter extends FileTreeReader {
  /** Makes the directory a user named, with missing parents, when absent; then opens it. */
  makeRoot(path: string): Descriptor;
  /** mkdir with mode 0700; EEXIST when the name is taken. */
  makeDirectory(parent: Descriptor, name: NameAt): void;
  /** openat2 with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV-less, for directories. */
  openBeneath(parent: Descriptor, name: NameAt): Descriptor;
  /** A nameless file (O_TMPFILE, mode 0600) in that directory, or undefined where the file system refuses that. */
  createNameless(directory: Descriptor): Descriptor | undefined;
  /** Gives a nameless file its name; EEXIST when taken. */
  linkNameless(file: Descriptor, directory: Descriptor, name: NameAt): void;
  /** O_CREAT|O_EXCL|O_NOFOLLOW, mode 0600. */
  createExclusive(directory: Descriptor, name: NameAt): Descriptor;
  /** renameat2; `replace` false is RENAME_NOREPLACE. */
  rename(directory: Descriptor, from: NameAt, to: NameAt, replace: boolean): void;
  write(file: Descriptor, bytes: Uint8Array, start: number, length: number, position: number): void;
  /**
   * The same file once more, for writes past the page cache; undefined where that is refused or of no use. Positions, lengths and
   * addresses must be multiples of `directAlignment`, the last by directMemory(); EINVAL where the device wants more than that.
   */
  openDirect(file: Descriptor): Descriptor | undefined;
  /** Memory for writes to what openDirect() gave. */
  directMemory(bytes: number): Uint8Array;
  truncate(file: Descriptor, size: number): void;
  /** Allocates without writing, and without changing the size; false where unsupported. */
  allocate(file: Descriptor, start: number, length: number): boolean;
  setMode(descriptor: Descriptor, mode: number): void;
  setOwner(descriptor: Descriptor, uid: number, gid: number): void;
  setTimes(descriptor: Descriptor, times: TimesAt): void;
  setXattr(descriptor: Descriptor, name: Uint8Array, value: Uint8Array): void;
  removeXattr(descriptor: Descriptor, name: Uint8Array): void;
  /** The same of a name, no symlink followed. */
  setModeOfName(parent: Descriptor, name: NameAt, mode: number): void;
  setOwnerOfName(parent: Descriptor, name: NameAt, uid: number, gid: number): void;
  setTimesOfName(parent: Descriptor, name: NameAt, times: TimesAt): void;
  setXattrOfName(parent: Descriptor, name: NameAt, xattr: Uint8Array, value: Uint8Array): void;
  makeSymlink(parent: Descriptor, name: NameAt, target: Uint8Array): void;
  makeFifo(parent: Descriptor, name: NameAt): void;
  /** A further name for an existing one, no symlink followed. */
  makeLink(fromParent: Descriptor, from: NameAt, toParent: Descriptor, to: NameAt): void;
  removeFile(parent: Descriptor, name: NameAt): void;
  removeDirectory(parent: Descriptor, name: NameAt): void;
  /** Makes all that was written to that file system durable. */
  syncFileSystem(descriptor: Descriptor): void;
}
