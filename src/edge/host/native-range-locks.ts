/**
 * Range locks of Linux: fcntl's *open file description* locks. Those of POSIX belong to the process, and closing any descriptor
 * of the file drops them all: a lane that reads the file would end the lock that protects its reading.
 */
import { writeI64 } from '../../engine/model/stat-record.ts';
import { type Descriptor, FileTreeError } from '../../engine/ports/file-tree.ts';
import type { RangeLocks } from '../../engine/ports/range-locks.ts';
import { errnoName } from './errno-name.ts';
import { errnoNumber } from './errno-number.ts';
import { type LinuxCalls, loadLinuxCalls } from './linux-calls.ts';

const getLock = 36;
const setLock = 37;
const readLock = 0;
const unlock = 2;

// struct flock with 64-bit offsets: i16 type, i16 whence, i64 start, i64 length, i32 pid (0 is demanded).
const flockBytes = 32;
const typeAt = 0;
const whenceAt = 2;
const startAt = 8;
const lengthAt = 16;
const pidAt = 24;

const EAGAIN: number = errnoNumber('EAGAIN');
const EACCES: number = errnoNumber('EACCES');
const EINTR: number = errnoNumber('EINTR');

export class NativeRangeLocks implements RangeLocks {
  readonly #calls: LinuxCalls;
  readonly #flock: Uint8Array = new Uint8Array(flockBytes);
  readonly #view: DataView = new DataView(this.#flock.buffer);
  readonly #address: number;

  constructor(calls: LinuxCalls) {
    this.#calls = calls;
    this.#address = calls.baseAddress(this.#flock.buffer);
  }

  share(file: Descriptor, start: number, length: number): boolean {
    const errno = this.#fcntl(file, setLock, readLock, start, length);
    if (errno === 0) return true;
    if (errno === EAGAIN || errno === EACCES) return false;
    throw new FileTreeError(errnoName(errno), 'share');
  }

  isExclusive(file: Descriptor, start: number, length: number): boolean {
    // Asked for a shared lock, the kernel names only exclusive ones that stand in its way.
    const errno = this.#fcntl(file, getLock, readLock, start, length);
    if (errno !== 0) throw new FileTreeError(errnoName(errno), 'isExclusive');
    return this.#view.getInt16(typeAt, true) !== unlock;
  }

  release(file: Descriptor, start: number, length: number): void {
    const errno = this.#fcntl(file, setLock, unlock, start, length);
    if (errno !== 0) throw new FileTreeError(errnoName(errno), 'release');
  }

  /** errno, or 0. */
  #fcntl(file: Descriptor, command: number, type: number, start: number, length: number): number {
    const view = this.#view;
    for (;;) {
      view.setInt16(typeAt, type, true);
      view.setInt16(whenceAt, 0, true);
      writeI64(view, startAt, start);
      writeI64(view, lengthAt, length);
      view.setInt32(pidAt, 0, true);
      if (this.#calls.call3(this.#calls.numbers.fcntl, file, command, this.#address) === 0) return 0;
      const errno = this.#calls.errno();
      if (errno !== EINTR) return errno;
    }
  }
}

/** Undefined where this machine has no native calls: Node alone knows no locks of files. */
export function createNativeRangeLocks(): NativeRangeLocks | undefined {
  const { calls } = loadLinuxCalls();
  return calls === undefined ? undefined : new NativeRangeLocks(calls);
}
