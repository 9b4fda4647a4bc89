/**
 * SQLite's wal-index, the file `NAME-shm` beside `NAME` and `NAME-wal`: written only through a mapping, rebuilt from the WAL by
 * whoever opens the database next. Its content means nothing in a copy, so it takes no part in convergence.
 */
import { compareBytes } from '../model/bytes.ts';
import { type DirectoryBlock, recordName, statOffset, statRecordBytes } from '../model/stat-record.ts';

const suffix: readonly number[] = [0x2d, 0x73, 0x68, 0x6d]; // -shm
const walSuffix: readonly number[] = [0x2d, 0x77, 0x61, 0x6c]; // -wal

/** Cheap and for every name of a walk: whether `isWalIndex` need be asked at all. */
export function mayBeWalIndex(block: DirectoryBlock, view: DataView, index: number): boolean {
  const at = index * statRecordBytes;
  const bytes = view.getUint32(at + statOffset.nameBytes, true);
  const end = view.getUint32(at + statOffset.nameStart, true) + bytes;
  return bytes > suffix.length && block.names[end - 1] === suffix[3] && block.names[end - suffix.length] === suffix[0];
}

/** Only with its database and its WAL beside it: any other file of that name is an ordinary one. */
export function isWalIndex(block: DirectoryBlock, view: DataView, index: number): boolean {
  const name = recordName(block, view, index);
  const base = name.length - suffix.length;
  if (base <= 0) return false;
  for (let i = 0; i < suffix.length; i++) if (name[base + i] !== suffix[i]) return false;
  const wal = name.slice();
  wal.set(walSuffix, base);
  return holds(block, view, name.subarray(0, base)) && holds(block, view, wal);
}

/** Names of a block are sorted. */
function holds(block: DirectoryBlock, view: DataView, name: Uint8Array): boolean {
  let low = 0;
  let high = block.count - 1;
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const order = compareBytes(recordName(block, view, middle), name);
    if (order === 0) return true;
    if (order < 0) low = middle + 1;
    else high = middle - 1;
  }
  return false;
}
