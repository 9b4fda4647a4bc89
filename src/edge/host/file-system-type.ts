/** File systems of Linux by the type number of statfs. */
import type { FileSystemInfo } from '../../engine/ports/file-tree.ts';

/** What a statfs type number of Linux means. */
export function fileSystemOfType(magic: number): FileSystemInfo {
  return fileSystems.get(magic) ?? { type: 'other', writeback: false };
}

/** f_type of statfs. Writeback is claimed only where a flush was seen, or by its code is known, to write-protect mappings. */
const fileSystems: ReadonlyMap<number, FileSystemInfo> = new Map([
  [0xef53, { type: 'ext4', writeback: true }],
  [0x58465342, { type: 'xfs', writeback: true }],
  [0x9123683e, { type: 'btrfs', writeback: true }],
  [0xf2f52010, { type: 'f2fs', writeback: true }],
  [0x01021994, { type: 'tmpfs', writeback: false }],
  [0x858458f6, { type: 'ramfs', writeback: false }],
  // A flush of the overlay's own, empty mapping does nothing; the mapped pages belong to the file below.
  [0x794c7630, { type: 'overlayfs', writeback: false }],
  [0x6969, { type: 'nfs', writeback: false }],
  [0x65735546, { type: 'fuse', writeback: false }],
  [0xff534d42, { type: 'cifs', writeback: false }],
  [0xfe534d42, { type: 'smb2', writeback: false }],
  [0x00c36400, { type: 'ceph', writeback: false }],
  [0x2fc12fc1, { type: 'zfs', writeback: false }],
  [0x01021997, { type: '9p', writeback: false }],
  [0x4d44, { type: 'vfat', writeback: false }],
  [0x2011bab0, { type: 'exfat', writeback: false }],
]);
