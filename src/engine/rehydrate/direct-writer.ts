/**
 * Content past the page cache. What comes is gathered in aligned memory and written in large pieces; the ends that are not
 * aligned go the usual way, so that parts of one file that are written side by side never share a page with a direct write.
 */
import { invariant } from '../model/errors.ts';
import { type Descriptor, directAlignment, FileTreeError, type FileTreeWriter } from '../ports/file-tree.ts';

const stagedBytesMax: number = 1024 * 1024;

export class DirectWriter {
  readonly #files: FileTreeWriter;
  #memory: Uint8Array | undefined;
  #file: Descriptor | undefined;
  #direct: Descriptor | undefined;
  /** Position of the first staged byte, aligned; and how many there are. */
  #start = 0;
  #staged = 0;
  /** The device wants more than the usual alignment: nothing is gained by trying again. */
  #refused = false;

  constructor(files: FileTreeWriter) {
    this.#files = files;
  }

  /** False between end() and begin(), and where the file system refuses direct writes: then files are written as usual. */
  get active(): boolean {
    return this.#direct !== undefined;
  }

  /** Begins a file, if direct writes are possible there. */
  begin(file: Descriptor): void {
    invariant(this.#file === undefined, 'one file at a time is written directly');
    if (this.#refused) return;
    this.#direct = this.#files.openDirect(file);
    if (this.#direct === undefined) return;
    this.#file = file;
    this.#staged = 0;
    this.#memory ??= this.#files.directMemory(stagedBytesMax);
  }

  /** Takes `bytes` of `from` at `start` for the file's `position`. Only when active. FileTreeError. */
  write(from: Uint8Array, start: number, bytes: number, position: number): void {
    if (position !== this.#start + this.#staged) this.flush();
    let at = start;
    let left = bytes;
    if (this.#staged === 0) {
      const head = Math.min(left, -position & (directAlignment - 1));
      if (head > 0) this.#files.write(this.#file as Descriptor, from, at, head, position);
      at += head;
      left -= head;
      this.#start = position + head;
    }
    const memory = this.#memory as Uint8Array;
    while (left > 0) {
      const taken = Math.min(left, memory.length - this.#staged);
      memory.set(from.subarray(at, at + taken), this.#staged);
      this.#staged += taken;
      at += taken;
      left -= taken;
      if (this.#staged === memory.length) this.flush();
    }
  }

  /** Writes what is staged. FileTreeError. */
  flush(): void {
    const staged = this.#staged;
    if (staged === 0) return;
    const whole = staged - (staged % directAlignment);
    const start = this.#start;
    this.#start += staged;
    this.#staged = 0;
    const memory = this.#memory as Uint8Array;
    const usual = this.#file as Descriptor;
    if (whole > 0 && !this.#put(memory, whole, start)) this.#files.write(usual, memory, 0, whole, start);
    if (whole < staged) this.#files.write(usual, memory, whole, staged - whole, start + whole);
  }

  /** Ends the file; what is staged and was not flushed is dropped. */
  end(): void {
    const direct = this.#direct;
    this.#file = undefined;
    this.#direct = undefined;
    this.#staged = 0;
    if (direct !== undefined) this.#files.close(direct);
  }

  /** False when the device refuses it so. */
  #put(memory: Uint8Array, bytes: number, position: number): boolean {
    if (this.#refused) return false;
    try {
      this.#files.write(this.#direct as Descriptor, memory, 0, bytes, position);
      return true;
    } catch (error) {
      if (!(error instanceof FileTreeError) || error.errno !== 'EINVAL') throw error;
      this.#refused = true;
      return false;
    }
  }
}
