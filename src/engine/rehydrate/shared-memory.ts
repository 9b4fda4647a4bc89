/**
 * Memory that all lanes of a restore see, used again and again: ciphertext is read into it and opened from it. Memory of its own for
 * each read would have to be touched for the first time each time, and every few of them make V8 collect: on a restore of
 * 2.1 GB, half of the main thread's time.
 *
 * A range takes what it needs, rounded up to a block, from the lowest address where it fits: memory that was touched once stays
 * resident, and what is used least lies highest.
 */
import { invariant } from '../model/errors.ts';

const blockBytes: number = 64 * 1024;
/** Made at once; touched as it is used. */
const arenaBytes: number = 16 * 1024 * 1024;

/** What a range of so many bytes takes. */
export function memoryBytes(bytes: number): number {
  return Math.ceil(bytes / blockBytes) * blockBytes;
}

interface Span {
  start: number;
  end: number;
}

interface Arena {
  readonly memory: SharedArrayBuffer;
  /** Ascending, none next to another. */
  readonly free: Span[];
}

export class SharedMemory {
  readonly #arenas: Arena[] = [];

  /** So many bytes, of any content, until they are given back. */
  take(bytes: number): Uint8Array {
    const size = memoryBytes(bytes);
    for (const { memory, free } of this.#arenas) {
      const at = free.findIndex(({ start, end }) => end - start >= size);
      if (at < 0) continue;
      const span = free[at] as Span;
      const { start } = span;
      span.start += size;
      if (span.start === span.end) free.splice(at, 1);
      return new Uint8Array(memory, start, bytes);
    }
    const memory = new SharedArrayBuffer(Math.max(arenaBytes, size));
    this.#arenas.push({ memory, free: size < memory.byteLength ? [{ start: size, end: memory.byteLength }] : [] });
    return new Uint8Array(memory, 0, bytes);
  }

  /** Gives back what `take` gave; once, and used no more. */
  give({ buffer, byteOffset, length }: Uint8Array): void {
    const arena = this.#arenas.find(({ memory }) => memory === buffer);
    invariant(arena !== undefined, 'memory goes back to where it was taken');
    const { free } = arena;
    const span: Span = { start: byteOffset, end: byteOffset + memoryBytes(length) };
    const found = free.findIndex(({ start }) => start >= span.end);
    const at = found < 0 ? free.length : found;
    const [before, after] = [free[at - 1], free[at]];
    if (before?.end === span.start) {
      before.end = span.end;
      if (after?.start !== span.end) return;
      before.end = after.end;
      free.splice(at, 1);
    } else if (after?.start === span.end) after.start = span.start;
    else free.splice(at, 0, span);
  }
}
