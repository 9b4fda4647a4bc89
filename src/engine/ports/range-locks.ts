/**
 * Shared locks on ranges of bytes of open files, as applications take them on files that they share (fcntl on Linux).
 *
 * A lock is advisory: it keeps out those who ask for an exclusive lock of one of these bytes, and nobody else. It belongs to the
 * descriptor: closing that one gives it back, closing another descriptor of the same file does not. It needs no right to
 * write, and works on a file system that is mounted read-only.
 *
 * Every method throws FileTreeError: ENOLCK, ENOTSUP or EINVAL where the file system keeps no locks.
 */
import type { Descriptor } from './file-tree.ts';

export interface RangeLocks {
  /** Takes a shared lock of all of the bytes, without waiting. False, and nothing taken, while another holds one of them exclusively. */
  share(file: Descriptor, start: number, length: number): boolean;
  /** Whether another holds one of the bytes exclusively now. */
  isExclusive(file: Descriptor, start: number, length: number): boolean;
  release(file: Descriptor, start: number, length: number): void;
}
