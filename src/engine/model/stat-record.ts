/**
 * What stat says of one name, as 80 bytes, and a directory's listing as one block of them: no object per file.
 *
 * A block's names follow each other in the order of the records, each ended by a zero byte, so that a system call can use
 * them in place. Records are sorted by the bytes of their names, and equal directories give equal bytes.
 *
 * Layout of a record, little-endian:
 *   0 u32 mode (type and permission bits)   4 u32 nlink   8 u32 uid   12 u32 gid   16 u64 size
 *   24 i64 mtime s   32 i64 ctime s   40 u32 mtime ns   44 u32 ctime ns   48 u64 inode   56 u64 device
 *   64 u32 start of the name in the block's names   68 u32 bytes of the name without its zero   72 8 bytes tag
 * The tag is zero from a listing; the scan's cache keeps there what it must remember of an entry.
 */

export const statRecordBytes = 80;

export const statOffset = {
  mode: 0,
  nlink: 4,
  uid: 8,
  gid: 12,
  size: 16,
  mtimeSec: 24,
  ctimeSec: 32,
  mtimeNsec: 40,
  ctimeNsec: 44,
  inode: 48,
  device: 56,
  nameStart: 64,
  nameBytes: 68,
  tag: 72,
} as const;

export const fileTypeMask = 0o170000;
export const fileType = {
  fifo: 0o010000,
  characterDevice: 0o020000,
  directory: 0o040000,
  blockDevice: 0o060000,
  regular: 0o100000,
  symlink: 0o120000,
  socket: 0o140000,
} as const;

export interface DirectoryBlock {
  readonly count: number;
  /** `count` records of 80 bytes. */
  readonly records: Uint8Array;
  /** The names, each ended by a zero byte. */
  readonly names: Uint8Array;
}

/** A plain object of one record; for code that handles few entries, never one per file of a large tree. */
export interface FileStat {
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly ctimeSec: number;
  readonly ctimeNsec: number;
  readonly inode: bigint;
  readonly device: bigint;
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** 64 bits as a number; exact up to 2^53, which all sizes and times of real file systems are. */
export function readI64(view: DataView, at: number): number {
  return view.getInt32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
}

export function readU64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
}

export function writeI64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setInt32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}

export function readStat(view: DataView, at: number): FileStat {
  return {
    mode: view.getUint32(at + statOffset.mode, true),
    nlink: view.getUint32(at + statOffset.nlink, true),
    uid: view.getUint32(at + statOffset.uid, true),
    gid: view.getUint32(at + statOffset.gid, true),
    size: readU64(view, at + statOffset.size),
    mtimeSec: readI64(view, at + statOffset.mtimeSec),
    mtimeNsec: view.getUint32(at + statOffset.mtimeNsec, true),
    ctimeSec: readI64(view, at + statOffset.ctimeSec),
    ctimeNsec: view.getUint32(at + statOffset.ctimeNsec, true),
    inode: view.getBigUint64(at + statOffset.inode, true),
    device: view.getBigUint64(at + statOffset.device, true),
  };
}

/** Writes all but name position and tag. */
export function writeStat(view: DataView, at: number, stat: FileStat): void {
  view.setUint32(at + statOffset.mode, stat.mode, true);
  view.setUint32(at + statOffset.nlink, stat.nlink, true);
  view.setUint32(at + statOffset.uid, stat.uid, true);
  view.setUint32(at + statOffset.gid, stat.gid, true);
  writeI64(view, at + statOffset.size, stat.size);
  writeI64(view, at + statOffset.mtimeSec, stat.mtimeSec);
  view.setUint32(at + statOffset.mtimeNsec, stat.mtimeNsec, true);
  writeI64(view, at + statOffset.ctimeSec, stat.ctimeSec);
  view.setUint32(at + statOffset.ctimeNsec, stat.ctimeNsec, true);
  view.setBigUint64(at + statOffset.inode, stat.inode, true);
  view.setBigUint64(at + statOffset.device, stat.device, true);
}

/** The name of record `index`, as a view without its ending zero. */
export function recordName(block: DirectoryBlock, view: DataView, index: number): Uint8Array {
  const at = index * statRecordBytes;
  const start = view.getUint32(at + statOffset.nameStart, true);
  return block.names.subarray(start, start + view.getUint32(at + statOffset.nameBytes, true));
}
