/**
 * Memory that all lanes of a restore see, used again and again: ciphertext is read into it and opened from it. Memory of its own for
 * each read would have to be touched for the first time each time, and every few of them make V8 collect: on a restore of
 * 2.1 GB, half of the main thread's time.
 */

/** Of what is made new; what a store has little of must not take much. */
const sizes: readonly number[] = [64 * 1024, 1024 * 1024, 4 * 1024 * 1024];

export class SharedMemory {
  /** The one given back last comes last: it is the likeliest to be resident. */
  readonly #free: SharedArrayBuffer[] = [];

  /** So many bytes, of any content, until they are given back. */
  take(bytes: number): Uint8Array {
    const size = sizes.find((each) => bytes <= each) ?? bytes;
    for (let i = this.#free.length - 1; i >= 0; i--) {
      const memory = this.#free[i] as SharedArrayBuffer;
      if (memory.byteLength !== size) continue;
      this.#free.splice(i, 1);
      return new Uint8Array(memory, 0, bytes);
    }
    return new Uint8Array(new SharedArrayBuffer(size), 0, bytes);
  }

  /** Gives back what `take` gave; once, and used no more. */
  give({ buffer }: Uint8Array): void {
    if (buffer instanceof SharedArrayBuffer && sizes.includes(buffer.byteLength)) this.#free.push(buffer);
  }
}
