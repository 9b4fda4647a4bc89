/** File systems of Linux by the type number of statfs, and what each can be trusted with. */
import type { FileSystemInfo } from '../../engine/ports/file-tree.ts';

export interface FileSystemTraits extends FileSystemInfo {
  /**
   * A lease is refused while anyone has the file mapped for writing. Not so where the mapping belongs to another inode than
   * the open file (overlayfs: seen with a live mapping) or to another machine.
   */
  readonly leases: boolean;
  /** Writes with O_DIRECT go to the device, wait for nothing else, and mix with others to the same file. */
  readonly directWrites: boolean;
}

/** What a statfs type number means; nothing is trusted of a type that is not known. */
export function fileSystemOfType(magic: number): FileSystemTraits {
  return fileSystems.get(magic) ?? other;
}

const other: FileSystemTraits = { type: 'other', writeback: false, leases: false, directWrites: false };

/** Writeback is claimed only where a flush was seen, or by its code is known, to write-protect mappings. */
const fileSystems: ReadonlyMap<number, FileSystemTraits> = new Map([
  [0xef53, { type: 'ext4', writeback: true, leases: true, directWrites: true }],
  [0x58465342, { type: 'xfs', writeback: true, leases: true, directWrites: true }],
  [0x9123683e, { type: 'btrfs', writeback: true, leases: true, directWrites: false }],
  [0xf2f52010, { type: 'f2fs', writeback: true, leases: true, directWrites: false }],
  [0x01021994, { type: 'tmpfs', writeback: false, leases: true, directWrites: false }],
  [0x858458f6, { type: 'ramfs', writeback: false, leases: true, directWrites: false }],
  // The mapped pages belong to the file below, and that may lie on tmpfs.
  [0x794c7630, { type: 'overlayfs', writeback: false, leases: false, directWrites: false }],
  [0x6969, { type: 'nfs', writeback: false, leases: false, directWrites: false }],
  [0x65735546, { type: 'fuse', writeback: false, leases: false, directWrites: false }],
  [0xff534d42, { type: 'cifs', writeback: false, leases: false, directWrites: false }],
  [0xfe534d42, { type: 'smb2', writeback: false, leases: false, directWrites: false }],
  [0x00c36400, { type: 'ceph', writeback: false, leases: false, directWrites: false }],
  [0x2fc12fc1, { type: 'zfs', writeback: false, leases: false, directWrites: false }],
  [0x01021997, { type: '9p', writeback: false, leases: false, directWrites: false }],
  [0x4d44, { type: 'vfat', writeback: false, leases: false, directWrites: false }],
  [0x2011bab0, { type: 'exfat', writeback: false, leases: false, directWrites: false }],
]);
