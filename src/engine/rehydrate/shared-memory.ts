/**
 * Memory that all lanes of a restore see, used again and again: ciphertext is read into it and opened from it. Memory of its own for
 * each read would have to be touched for the first time each time, and every few of them make V8 collect: on a restore of
 * 2.1 GB, half of the main thread's time.
 */

/** The memory that is made; few sizes, so that what one range leaves fits the next. */
const sizes: readonly number[] = [256 * 1024, 1024 * 1024, 4 * 1024 * 1024];

/** What a range of so many bytes takes. */
export function memoryBytes(bytes: number): number {
  return sizes.find((size) => bytes <= size) ?? bytes;
}

/** How long a range of so many bytes may become when its memory may grow by `spareBytes`. */
export function bytesThatFit(bytes: number, spareBytes: number): number {
  const most = memoryBytes(bytes) + spareBytes;
  return Math.max(memoryBytes(bytes), sizes.findLast((size) => size <= most) ?? 0);
}

export class SharedMemory {
  /** The one given back last comes last: it is the likeliest to be resident. */
  readonly #free: SharedArrayBuffer[] = [];

  /** So many bytes, of any content, until they are given back. */
  take(bytes: number): Uint8Array {
    const size = memoryBytes(bytes);
    const at = this.#free.findLastIndex(({ byteLength }) => byteLength === size);
    const [memory = new SharedArrayBuffer(size)] = at < 0 ? [] : this.#free.splice(at, 1);
    return new Uint8Array(memory, 0, bytes);
  }

  /** Gives back what `take` gave; once, and used no more. */
  give({ buffer }: Uint8Array): void {
    if (buffer instanceof SharedArrayBuffer && sizes.includes(buffer.byteLength)) this.#free.push(buffer);
  }
}
