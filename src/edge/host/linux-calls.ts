/**
 * System calls of Linux, made through libc's `syscall` by koffi: one symbol that glibc and musl both have, whatever their
 * age, with numbers and structures of the kernel, which never change.
 *
 * Pointers are passed as plain numbers (base address of a buffer and an offset), so that nothing is converted or copied:
 * a call costs about 0.1 us above the kernel's own time. In return every caller answers for two things: bounds are checked
 * before the call, and the buffer is referenced until after it. Memory of an ArrayBuffer does not move.
 */
import { createRequire } from 'node:module';

/** A value or -1, with errno behind it. */
type Call1 = (number: number, a: number) => number;
type Call2 = (number: number, a: number, b: number) => number;
type Call3 = (number: number, a: number, b: number, c: number) => number;
type Call4 = (number: number, a: number, b: number, c: number, d: number) => number;
type Call5 = (number: number, a: number, b: number, c: number, d: number, e: number) => number;

export interface LinuxCalls {
  readonly numbers: SystemCallNumbers;
  readonly call1: Call1;
  readonly call2: Call2;
  readonly call3: Call3;
  readonly call4: Call4;
  readonly call5: Call5;
  /** errno of the call made last in this thread. */
  readonly errno: () => number;
  /** Address of the first byte of the buffer behind any view. */
  readonly baseAddress: (buffer: ArrayBufferLike) => number;
  /** Ignores a signal in the whole process. */
  readonly ignoreSignal: (signal: number) => void;
}

export interface SystemCallNumbers {
  readonly read: number;
  readonly close: number;
  readonly lseek: number;
  readonly pread64: number;
  readonly pwrite64: number;
  readonly fcntl: number;
  readonly fdatasync: number;
  readonly ftruncate: number;
  readonly getdents64: number;
  readonly fchmod: number;
  readonly fchown: number;
  readonly fstatfs: number;
  readonly prctl: number;
  readonly lsetxattr: number;
  readonly fsetxattr: number;
  readonly lgetxattr: number;
  readonly fgetxattr: number;
  readonly llistxattr: number;
  readonly flistxattr: number;
  readonly fremovexattr: number;
  readonly openat: number;
  readonly mkdirat: number;
  readonly mknodat: number;
  readonly fchownat: number;
  readonly unlinkat: number;
  readonly linkat: number;
  readonly symlinkat: number;
  readonly readlinkat: number;
  readonly fchmodat: number;
  readonly sync_file_range: number;
  readonly fadvise64: number;
  readonly utimensat: number;
  readonly fallocate: number;
  readonly syncfs: number;
  readonly renameat2: number;
  readonly statx: number;
  readonly openat2: number;
  readonly cachestat: number;
  readonly fchmodat2: number;
  readonly ppoll: number;
  readonly eventfd2: number;
  readonly inotify_init1: number;
  readonly inotify_add_watch: number;
  readonly inotify_rm_watch: number;
}

const x64: SystemCallNumbers = {
  read: 0,
  close: 3,
  lseek: 8,
  pread64: 17,
  pwrite64: 18,
  fcntl: 72,
  fdatasync: 75,
  ftruncate: 77,
  getdents64: 217,
  fchmod: 91,
  fchown: 93,
  fstatfs: 138,
  prctl: 157,
  lsetxattr: 189,
  fsetxattr: 190,
  lgetxattr: 192,
  fgetxattr: 193,
  llistxattr: 195,
  flistxattr: 196,
  fremovexattr: 199,
  openat: 257,
  mkdirat: 258,
  mknodat: 259,
  fchownat: 260,
  unlinkat: 263,
  linkat: 265,
  symlinkat: 266,
  readlinkat: 267,
  fchmodat: 268,
  sync_file_range: 277,
  fadvise64: 221,
  utimensat: 280,
  fallocate: 285,
  syncfs: 306,
  renameat2: 316,
  statx: 332,
  openat2: 437,
  cachestat: 451,
  fchmodat2: 452,
  ppoll: 271,
  eventfd2: 290,
  inotify_init1: 294,
  inotify_add_watch: 254,
  inotify_rm_watch: 255,
};

/** The generic table (include/uapi/asm-generic/unistd.h). */
const arm64: SystemCallNumbers = {
  read: 63,
  close: 57,
  lseek: 62,
  pread64: 67,
  pwrite64: 68,
  fcntl: 25,
  fdatasync: 83,
  ftruncate: 46,
  getdents64: 61,
  fchmod: 52,
  fchown: 55,
  fstatfs: 44,
  prctl: 167,
  lsetxattr: 6,
  fsetxattr: 7,
  lgetxattr: 9,
  fgetxattr: 10,
  llistxattr: 12,
  flistxattr: 13,
  fremovexattr: 16,
  openat: 56,
  mkdirat: 34,
  mknodat: 33,
  fchownat: 54,
  unlinkat: 35,
  linkat: 37,
  symlinkat: 36,
  readlinkat: 78,
  fchmodat: 53,
  sync_file_range: 84,
  fadvise64: 223,
  utimensat: 88,
  fallocate: 47,
  syncfs: 267,
  renameat2: 276,
  statx: 291,
  openat2: 437,
  cachestat: 451,
  fchmodat2: 452,
  ppoll: 73,
  eventfd2: 19,
  inotify_init1: 26,
  inotify_add_watch: 27,
  inotify_rm_watch: 28,
};

/** By process.arch; both are little-endian with 64-bit registers, so a file offset is one argument. */
export const systemCallNumbers: Readonly<Record<string, SystemCallNumbers>> = { x64, arm64 };

type Func = (...values: number[]) => number;

interface Koffi {
  load(path: null): { func(name: string, result: string, parameters: string[]): Func };
  address(value: ArrayBufferLike): bigint;
  errno(): number;
}

/** Undefined with the reason when this machine or its libraries cannot do it. */
export function loadLinuxCalls(): { readonly calls: LinuxCalls } | { readonly calls: undefined; readonly why: string } {
  const numbers = process.platform === 'linux' ? systemCallNumbers[process.arch] : undefined;
  if (numbers === undefined)
    return { calls: undefined, why: `no system calls for ${process.platform} ${process.arch}` };
  try {
    // Not an import: koffi's native part may be missing, and then everything else must still work.
    const koffi = createRequire(import.meta.url)('koffi') as Koffi;
    const library = koffi.load(null);
    const call = (count: number): Func => library.func('syscall', 'int64', Array(count + 1).fill('int64'));
    const signal = library.func('signal', 'int64', ['int', 'int64']);
    const ignore = 1;
    return {
      calls: {
        numbers,
        call1: call(1),
        call2: call(2),
        call3: call(3),
        call4: call(4),
        call5: call(5),
        errno: () => koffi.errno(),
        baseAddress: (buffer) => Number(koffi.address(buffer)),
        ignoreSignal: (number) => void signal(number, ignore),
      },
    };
  } catch (cause) {
    return { calls: undefined, why: cause instanceof Error ? cause.message : String(cause) };
  }
}
