/**
 * The frames Holdfast stores, checked before any decompressor sees them: exactly one zstd frame (RFC 8878) that states its
 * content's size, with no dictionary, nothing before or after it, and a window within the 8 MiB every decoder must support.
 *
 * Decoders disagree on the rest of the standard: libzstd goes on with a second or a skippable frame, zlib ignores what
 * follows and reserves the window a header asks for (up to 128 MiB), zstd-codec takes the stated size on trust. Whoever
 * passed this check is left with blocks that can only be wrong inside.
 */
import { HoldfastError, invariant } from '../../engine/model/errors.ts';

/** Largest plaintext of one frame. A segment has at most 1 MiB; zstd-codec has 16 MiB for both sides and its tables. */
export const framePlainBytesMax: number = 2 * 1024 * 1024;
const windowBytesMax = 8 * 1024 * 1024;
const blockBytesMax = 128 * 1024;

/** Frame of no bytes, as libzstd writes it; zstd-codec can neither make nor read one. */
export const emptyFrame: Uint8Array = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0);

/** E_DAMAGED unless `frame` is as described above and claims exactly `plainBytes`. Allocates nothing. */
export function checkFrame(frame: Uint8Array, plainBytes: number): void {
  if (plainBytes > framePlainBytesMax) throw damagedFrame(`plaintext of ${plainBytes} bytes is above the limit`);
  if (frame.length < 9) throw damagedFrame('is cut short');
  if (frame.length > frameBoundBytes(plainBytes)) throw damagedFrame('is longer than any frame of its plaintext');
  if (frame[0] !== 0x28 || frame[1] !== 0xb5 || frame[2] !== 0x2f || frame[3] !== 0xfd)
    throw damagedFrame('wrong magic');
  const descriptor = frame[4] as number;
  const singleSegment = (descriptor & 0x20) !== 0;
  const checksumBytes = (descriptor & 0x04) !== 0 ? 4 : 0;
  if ((descriptor & 0x08) !== 0) throw damagedFrame('reserved bit set');
  if ((descriptor & 0x03) !== 0) throw damagedFrame('asks for a dictionary');
  let at = 5;
  if (!singleSegment) {
    const window = frame[at++] as number;
    const base = 2 ** (10 + (window >>> 3));
    if (base + (base / 8) * (window & 7) > windowBytesMax) throw damagedFrame('window is too large');
  }
  const sizeBytes = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >>> 6] as number;
  if (sizeBytes === 0) throw damagedFrame('does not state its size');
  let claimed = sizeBytes === 2 ? 256 : 0;
  // A sum of doubles is exact up to 2^53 and anything above is refused anyway.
  for (let i = 0; i < sizeBytes; i++) claimed += byteAt(frame, at + i) * 2 ** (8 * i);
  if (claimed !== plainBytes) throw damagedFrame(`claims ${claimed} bytes, not ${plainBytes}`);
  at += sizeBytes;
  for (let last = false; !last; ) {
    const header = byteAt(frame, at) | (byteAt(frame, at + 1) << 8) | (byteAt(frame, at + 2) << 16);
    at += 3;
    last = (header & 1) !== 0;
    const kind = (header >>> 1) & 3;
    const bytes = header >>> 3;
    if (kind === 3 || bytes > blockBytesMax) throw damagedFrame('impossible block');
    if (plainBytes === 0 && (kind !== 0 || bytes !== 0)) throw damagedFrame('empty frame with content');
    at += kind === 1 ? 1 : bytes;
  }
  at += checksumBytes;
  if (at !== frame.length) throw damagedFrame(at > frame.length ? 'is cut short' : 'is followed by other data');
}

function byteAt(frame: Uint8Array, at: number): number {
  const byte = frame[at];
  if (byte === undefined) throw damagedFrame('is cut short');
  return byte;
}

export function damagedFrame(why: string): HoldfastError {
  return new HoldfastError('E_DAMAGED', `zstd frame: ${why}`);
}

/** ZSTD_COMPRESSBOUND of zstd.h. */
export function frameBoundBytes(plainBytes: number): number {
  const margin = plainBytes < blockBytesMax ? Math.floor((blockBytesMax - plainBytes) / 2048) : 0;
  return plainBytes + Math.floor(plainBytes / 256) + margin;
}

/** What every implementation demands of its caller before it compresses. */
export function checkCompress(input: Uint8Array, output: Uint8Array, outputStart: number, level: number): void {
  invariant(Number.isInteger(level) && level >= 1 && level <= 19, 'zstd level is 1 to 19');
  invariant(input.length <= framePlainBytesMax, 'plaintext of a frame is at most 2 MiB');
  invariant(outputStart >= 0 && output.length - outputStart >= frameBoundBytes(input.length), 'output has the bound');
}
