/**
 * Content of one file from a job into a descriptor: every chunk is proven before a byte of it is written, neighbours in one
 * segment are written together, holes stay holes.
 */
import type { ByteReader } from '../model/bytes.ts';
import type { Hole } from '../model/entry.ts';
import { holesMax } from '../format/entry-codec.ts';
import { type Descriptor, FileTreeError, type FileTreeWriter } from '../ports/file-tree.ts';
import { DirectWriter } from './direct-writer.ts';
import type { JobSegments } from './job-segments.ts';
import { isChunk } from './restore-job.ts';

/**
 * From here on content goes past the page cache: a restore writes more than anybody reads soon, and the copy through fresh pages
 * is dearer than the device.
 */
const directBytesMin: number = 256 * 1024;

/** Where a run of proven bytes waits: [start, end) of the plaintext, to be written at `position`. */
interface Run {
  plain: Uint8Array;
  segment: number;
  start: number;
  end: number;
  position: number;
}

export class ContentWriter {
  readonly #files: FileTreeWriter;
  readonly #segments: JobSegments;
  readonly #direct: DirectWriter;
  readonly #run: Run = { plain: new Uint8Array(0), segment: -1, start: 0, end: 0, position: 0 };
  #file: Descriptor | undefined;
  #holes: readonly Hole[] = [];
  #hole = 0;
  /** End of what was written last. */
  writtenEnd = 0;
  writtenBytes = 0;

  constructor(files: FileTreeWriter, segments: JobSegments) {
    this.#files = files;
    this.#segments = segments;
    this.#direct = new DirectWriter(files);
  }

  /**
   * Reads the content at `r`, `bytes` of it, and writes it from `position` on; with no file it is proven only. DamagedSegment,
   * FileTreeError; then `r` stands somewhere inside.
   */
  write(r: ByteReader, file: Descriptor | undefined, position: number, bytes: number, holes: readonly Hole[]): void {
    if (file === undefined || bytes < directBytesMin) {
      this.#write(r, file, position, holes);
      return;
    }
    this.#direct.begin(file);
    try {
      this.#write(r, file, position, holes);
      this.#direct.flush();
    } finally {
      this.#direct.end();
    }
  }

  #write(r: ByteReader, file: Descriptor | undefined, position: number, holes: readonly Hole[]): void {
    this.#file = file;
    this.#holes = holes;
    this.#hole = 0;
    this.writtenEnd = 0;
    this.writtenBytes = 0;
    const run = this.#run;
    run.segment = -1;
    run.start = 0;
    run.end = 0;
    let at = position;
    for (let left = r.varint(); left > 0; left--) {
      const kind = r.u8();
      const bytes = r.varint();
      if (kind !== isChunk) {
        this.#flush();
        if (file !== undefined) this.#allocate(at, at + bytes);
        at += bytes;
        continue;
      }
      const id = r.raw(32);
      const segment = r.varint();
      const offset = r.varint();
      if (segment !== run.segment || offset !== run.end) {
        this.#flush();
        run.segment = segment;
        run.start = offset;
        run.end = offset;
        run.position = at;
      }
      run.plain = this.#segments.proven({ bytes, id, segment, offset });
      run.end = offset + bytes;
      at += bytes;
    }
    this.#flush();
  }

  #flush(): void {
    const { plain, start, end, position } = this.#run;
    const bytes = end - start;
    if (bytes > 0 && this.#file !== undefined) {
      if (this.#holes.length === 0) this.#put(plain, start, bytes, position);
      else this.#putAroundHoles(plain, start, bytes, position);
    }
    if (bytes > 0) this.writtenBytes += bytes;
    this.#run.start = 0;
    this.#run.end = 0;
    this.#run.segment = -1;
  }

  #put(plain: Uint8Array, start: number, bytes: number, position: number): void {
    if (this.#direct.active) this.#direct.write(plain, start, bytes, position);
    else this.#files.write(this.#file as Descriptor, plain, start, bytes, position);
    if (position + bytes > this.writtenEnd) this.writtenEnd = position + bytes;
  }

  /** Zeros inside a hole are not written. The layout is advisory: what is not zero is written whatever it says. */
  #putAroundHoles(plain: Uint8Array, start: number, bytes: number, position: number): void {
    const end = position + bytes;
    let from = position;
    for (const hole of this.#holesFrom(position)) {
      const holeStart = Math.max(hole.start, from);
      const holeEnd = Math.min(hole.start + hole.bytes, end);
      if (holeStart >= end) break;
      if (holeEnd <= holeStart || !isZero(plain, start + holeStart - position, start + holeEnd - position)) continue;
      if (holeStart > from) this.#put(plain, start + from - position, holeStart - from, from);
      from = holeEnd;
    }
    if (from < end) this.#put(plain, start + from - position, end - from, from);
  }

  /** Zeros that lie on disk where no hole is known. */
  #allocate(start: number, end: number): void {
    const holes = this.#holes;
    // The layout is cut off there: what follows is more likely a hole than not.
    const known = holes.length < holesMax ? end : Math.min(end, endOf(holes[holes.length - 1] as Hole));
    let from = start;
    for (const hole of this.#holesFrom(start)) {
      if (hole.start >= known) break;
      if (hole.start > from) this.#reserve(from, hole.start);
      from = Math.max(from, endOf(hole));
    }
    if (from < known) this.#reserve(from, known);
  }

  /** Space for zeros is not content: where there is none, the file gets a hole instead. */
  #reserve(start: number, end: number): void {
    try {
      this.#files.allocate(this.#file as Descriptor, start, end - start);
    } catch (error) {
      if (!(error instanceof FileTreeError) || error.errno !== 'ENOSPC') throw error;
    }
  }

  /** The holes that end after `position`; positions ascend from call to call. */
  *#holesFrom(position: number): Generator<Hole> {
    const holes = this.#holes;
    while (this.#hole < holes.length && endOf(holes[this.#hole] as Hole) <= position) this.#hole++;
    for (let i = this.#hole; i < holes.length; i++) yield holes[i] as Hole;
  }
}

function endOf(hole: Hole): number {
  return hole.start + hole.bytes;
}

function isZero(bytes: Uint8Array, start: number, end: number): boolean {
  for (let i = start; i < end; i++) if (bytes[i] !== 0) return false;
  return true;
}
