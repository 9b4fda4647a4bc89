/**
 * Cuts a run of bytes where its content says so: FastCDC (Xia et al., USENIX ATC 2016) with normalised chunking, over the
 * gear hash of the last 32 bytes, keyed by the domain's table. Equal bytes are cut alike in every file, and an edit moves
 * only the cuts near it.
 *
 * A cut follows from the bytes since the last one and from nothing else, so where a buffer happens to end changes nothing. The
 * parameters are part of the format: another value cuts elsewhere, and then equal trees have unequal roots.
 */
import { invariant } from '../model/errors.ts';

export interface ChunkSizes {
  readonly minBytes: number;
  /** Mean over random bytes, within 5 %; a power of two. */
  readonly averageBytes: number;
  readonly maxBytes: number;
}

export type ChunkProfile = 'pages' | 'general';

/**
 * pages: files that are changed in place; a changed page of 4 KiB then costs 28 KB of new chunks instead of 81. general:
 * everything else, where fewer and larger chunks cost less to list.
 */
export const chunkProfiles: Readonly<Record<ChunkProfile, ChunkSizes>> = {
  pages: { minBytes: 4096, averageBytes: 16_384, maxBytes: 65_536 },
  general: { minBytes: 16_384, averageBytes: 65_536, maxBytes: 262_144 },
};

/** Bytes at the start of a file that `chunkProfile` looks at. */
export const profileBytes = 32;

/** Chosen by the file's own first bytes alone: the same content is cut alike under every name. */
export function chunkProfile(firstBytes: Uint8Array): ChunkProfile {
  return pageFileMarks.some(({ at, mark }) => mark.every((byte, i) => firstBytes[at + i] === byte))
    ? 'pages'
    : 'general';
}

const pageFileMarks: readonly { readonly at: number; readonly mark: readonly number[] }[] = [
  // SQLite: database ("SQLite format 3\0"), write-ahead log (either byte order of its checksums), rollback journal.
  { at: 0, mark: [0x53, 0x51, 0x4c, 0x69, 0x74, 0x65, 0x20, 0x66, 0x6f, 0x72, 0x6d, 0x61, 0x74, 0x20, 0x33, 0] },
  { at: 0, mark: [0x37, 0x7f, 0x06, 0x82] },
  { at: 0, mark: [0x37, 0x7f, 0x06, 0x83] },
  { at: 0, mark: [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7] },
  // LMDB: 0xBEEFC0DE behind the page header of 64-bit or 32-bit hosts, in the host's byte order.
  { at: 16, mark: [0xde, 0xc0, 0xef, 0xbe] },
  { at: 16, mark: [0xbe, 0xef, 0xc0, 0xde] },
  { at: 12, mark: [0xde, 0xc0, 0xef, 0xbe] },
  // BoltDB: 0xED0CDAED behind the page header.
  { at: 16, mark: [0xed, 0xda, 0x0c, 0xed] },
  { at: 16, mark: [0xed, 0x0c, 0xda, 0xed] },
];

export interface Chunker {
  /**
   * The end of the chunk that begins at `start`, or -1 when that depends on bytes behind `end`, which is never the case with
   * `atEnd` (the run ends there) or with `maxBytes` at hand. Ask again from the same start with more bytes.
   */
  cut(bytes: Uint8Array, start: number, end: number, atEnd: boolean): number;
}

const hashedBytes = 32;

/** `gearTable`: 256 words of the domain's keys. */
export function createChunker(gearTable: Uint32Array, sizes: ChunkSizes): Chunker {
  const { minBytes, averageBytes, maxBytes } = sizes;
  const averageBits = Math.log2(averageBytes);
  invariant(gearTable.length === 256, 'a gear table has 256 words');
  invariant(Number.isInteger(averageBits) && averageBits >= 8 && averageBits <= 24, 'the average is a power of two');
  // Normalised chunking, level 2: cuts are four times rarer before the normal point and four times likelier behind it.
  // With a minimum of a quarter of the average, the mean meets the average when that point is at 13/16 of it.
  const normalBytes = (averageBytes / 16) * 13;
  invariant(minBytes >= hashedBytes && minBytes <= normalBytes && averageBytes <= maxBytes, 'sizes are in order');
  const before = topBits(averageBits + 2);
  const behind = topBits(averageBits - 2);
  // Words above 2^31 would not be small integers; as signed ones the additions below stay in 32 bits.
  const table = new Int32Array(gearTable);
  return {
    cut(bytes, start, end, atEnd) {
      const available = end - start;
      invariant(start >= 0 && available >= 0 && end <= bytes.length, 'bytes to cut lie inside their buffer');
      const limit = start + Math.min(available, maxBytes);
      const from = start + minBytes;
      if (from < limit) {
        const normal = Math.min(start + normalBytes, limit);
        let found = scan(table, bytes, from, normal, before);
        if (found < 0 && normal < limit) found = scan(table, bytes, normal, limit, behind);
        if (found >= 0) return found;
      }
      return available >= maxBytes || atEnd ? limit : -1;
    },
  };
}

/** The upper bits of the hash depend on the most bytes. */
function topBits(count: number): number {
  return -1 << (32 - count);
}

/**
 * The position behind the first byte of [from, to) at which the hash of the last 32 bytes has no bit of `mask`, or -1. The
 * hash begins 32 bytes early, so that it knows nothing of where the chunk began. Eight bytes a round: 2.0 GB/s, against
 * 1.05 byte by byte. No branch computes anything of its own: the first time that one is taken would make the engine compile all of
 * this once more.
 */
function scan(table: Int32Array, bytes: Uint8Array, from: number, to: number, mask: number): number {
  let hash = 0;
  let i = from - hashedBytes;
  for (; i < from; i++) hash = ((hash << 1) + word(table, bytes, i)) | 0;
  for (const last = to - 7; i < last; ) {
    hash = ((hash << 1) + word(table, bytes, i++)) | 0;
    if ((hash & mask) === 0) return i;
    hash = ((hash << 1) + word(table, bytes, i++)) | 0;
    if ((hash & mask) === 0) return i;
    hash = ((hash << 1) + word(table, bytes, i++)) | 0;
    if ((hash & mask) === 0) return i;
    hash = ((hash << 1) + word(table, bytes, i++)) | 0;
    if ((hash & mask) === 0) return i;
    hash = ((hash << 1) + word(table, bytes, i++)) | 0;
    if ((hash & mask) === 0) return i;
    hash = ((hash << 1) + word(table, bytes, i++)) | 0;
    if ((hash & mask) === 0) return i;
    hash = ((hash << 1) + word(table, bytes, i++)) | 0;
    if ((hash & mask) === 0) return i;
    hash = ((hash << 1) + word(table, bytes, i++)) | 0;
    if ((hash & mask) === 0) return i;
  }
  while (i < to) {
    hash = ((hash << 1) + word(table, bytes, i++)) | 0;
    if ((hash & mask) === 0) return i;
  }
  return -1;
}

function word(table: Int32Array, bytes: Uint8Array, at: number): number {
  return table[bytes[at] as number] as number;
}
