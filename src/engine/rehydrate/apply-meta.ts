/**
 * Owner, xattrs, mode and times of what was made, in the one order that keeps them all: a change of owner drops setuid bits and
 * file capabilities, an ACL changes the mode, a mode may forbid xattrs to others than root, and everything moves ctime.
 *
 * What this user or this file system refuses is degraded: told, and the rest goes on. Everything else is an error of the target.
 */
import { type Descriptor, FileTreeError, type FileTreeWriter, type NameAt, type TimesAt } from '../ports/file-tree.ts';

export interface PlainXattr {
  readonly name: Uint8Array;
  readonly value: Uint8Array;
}

export interface PlainMeta {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
}

export type DegradedPart = 'owner' | 'xattr' | 'mode' | 'times';

/** Called for each part that could not be set, with the errno. */
export type OnDegraded = (part: DegradedPart, errno: string) => void;

const refusals: ReadonlySet<string> = new Set([
  'EPERM',
  'EACCES',
  'ENOTSUP',
  'EOPNOTSUPP',
  'ENOSYS',
  'EINVAL',
  'ERANGE',
  'EOVERFLOW',
]);
/** ext4 answers ENOSPC to an xattr that is too large for it. */
const xattrRefusals: ReadonlySet<string> = new Set([...refusals, 'ENOSPC', 'E2BIG', 'ENODATA', 'ENAMETOOLONG']);

const setuidBit = 0o4000;
const setgidBit = 0o2000;
/** As an owner: leaves it as it is. */
const unchanged = 0xffff_ffff;

/** `owner` false: the owner is the one that new files have, and need not be set. */
export function applyToDescriptor(
  files: FileTreeWriter,
  file: Descriptor,
  meta: PlainMeta,
  xattrs: readonly PlainXattr[],
  owner: boolean,
  onDegraded: OnDegraded,
): void {
  const subject: Subject = {
    setOwner: owner ? (uid, gid) => files.setOwner(file, uid, gid) : undefined,
    setXattr: (name, value) => files.setXattr(file, name, value),
    setMode: (mode) => files.setMode(file, mode),
    setTimes: (times) => files.setTimes(file, times),
  };
  apply(subject, meta, xattrs, onDegraded);
}

/** The same for a symlink or FIFO by its name; a symlink has no mode. */
export function applyToName(
  files: FileTreeWriter,
  directory: Descriptor,
  name: NameAt,
  meta: PlainMeta,
  xattrs: readonly PlainXattr[],
  kind: 'symlink' | 'fifo',
  onDegraded: OnDegraded,
): void {
  const subject: Subject = {
    setOwner: (uid, gid) => files.setOwnerOfName(directory, name, uid, gid),
    setXattr: (xattr, value) => files.setXattrOfName(directory, name, xattr, value),
    setMode: kind === 'symlink' ? undefined : (mode) => files.setModeOfName(directory, name, mode),
    setTimes: (times) => files.setTimesOfName(directory, name, times),
  };
  apply(subject, meta, xattrs, onDegraded);
}

/** An open file, or a name that is not opened. */
interface Subject {
  readonly setOwner: ((uid: number, gid: number) => void) | undefined;
  readonly setXattr: (name: Uint8Array, value: Uint8Array) => void;
  readonly setMode: ((mode: number) => void) | undefined;
  readonly setTimes: (times: TimesAt) => void;
}

function apply(subject: Subject, meta: PlainMeta, xattrs: readonly PlainXattr[], onDegraded: OnDegraded): void {
  let mode = meta.mode;
  try {
    subject.setOwner?.(meta.uid, meta.gid);
  } catch (error) {
    mode = ownerRefused(error, mode, onDegraded, () => subject.setOwner?.(unchanged, meta.gid));
  }
  for (const { name, value } of xattrs) {
    try {
      subject.setXattr(name, value);
    } catch (error) {
      refused(error, xattrRefusals, 'xattr', onDegraded);
    }
  }
  try {
    subject.setMode?.(mode);
  } catch (error) {
    refused(error, refusals, 'mode', onDegraded);
  }
  try {
    subject.setTimes(meta);
  } catch (error) {
    refused(error, refusals, 'times', onDegraded);
  }
}

/**
 * Tries the group alone. Returns the mode without the bits that would lend the rights of whoever runs the restore instead of
 * those of the owner that was meant.
 */
function ownerRefused(error: unknown, mode: number, onDegraded: OnDegraded, setGroup: () => void): number {
  refused(error, refusals, 'owner', onDegraded);
  try {
    setGroup();
    return mode & ~setuidBit;
  } catch {
    return mode & ~(setuidBit | setgidBit);
  }
}

function refused(error: unknown, known: ReadonlySet<string>, part: DegradedPart, onDegraded: OnDegraded): void {
  if (!(error instanceof FileTreeError) || !known.has(error.errno)) throw error;
  onDegraded(part, error.errno);
}

/** A name with its ending zero, as the port takes it. */
export function nameAt(name: Uint8Array): NameAt {
  const names = new Uint8Array(name.length + 1);
  names.set(name);
  return { names, start: 0 };
}
