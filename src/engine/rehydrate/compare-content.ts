/** Whether a file that stands in the target already holds what the checkpoint says: read and proven chunk by chunk. */
import { chunkBytesMax } from '../format/entry-codec.ts';
import { contentId, type DomainKeys } from '../format/keys.ts';
import { compareBytes, equalBytes } from '../model/bytes.ts';
import { excludedXattrs, type Xattr } from '../model/entry.ts';
import { type Descriptor, FileTreeError, type FileTreeReader, type NameAt, type RawXattr } from '../ports/file-tree.ts';

/** One per thread is enough: comparisons are synchronous between two items. */
let memory: Uint8Array | undefined;

export class ContentComparison {
  readonly #files: FileTreeReader;
  readonly #keys: DomainKeys;
  readonly #file: Descriptor;
  readonly #size: number;
  #position = 0;

  private constructor(files: FileTreeReader, keys: DomainKeys, file: Descriptor, size: number) {
    this.#files = files;
    this.#keys = keys;
    this.#file = file;
    this.#size = size;
  }

  /** Undefined for what cannot be read: it counts as different. */
  static open(
    files: FileTreeReader,
    keys: DomainKeys,
    directory: Descriptor,
    name: NameAt,
    size: number,
  ): ContentComparison | undefined {
    const file = orUndefined(() => files.openFile(directory, name));
    return file === undefined ? undefined : new ContentComparison(files, keys, file, size);
  }

  /** True when the next bytes of the file are the chunk with that id; without an id, zeros. */
  matches(bytes: number, id: Uint8Array | undefined): boolean {
    const position = this.#position;
    this.#position += bytes;
    const equal = orUndefined(() =>
      id === undefined ? this.#isZero(position, bytes) : this.#isChunk(position, bytes, id),
    );
    return equal === true;
  }

  /** True when the file ends here. */
  atEnd(): boolean {
    const more = orUndefined(() => this.#files.read(this.#file, this.#memory(), 0, 1, this.#position));
    return this.#position === this.#size && more === 0;
  }

  xattrs(): readonly RawXattr[] | undefined {
    return orUndefined(() => this.#files.xattrs(this.#file));
  }

  close(): void {
    this.#files.close(this.#file);
  }

  #memory(): Uint8Array {
    memory ??= new Uint8Array(chunkBytesMax);
    return memory;
  }

  #isChunk(position: number, bytes: number, id: Uint8Array): boolean {
    if (bytes > chunkBytesMax || this.#fill(bytes, position) < bytes) return false;
    return equalBytes(contentId(this.#keys, this.#memory(), 0, bytes), id);
  }

  #isZero(start: number, bytes: number): boolean {
    const end = start + bytes;
    for (let position = start; position < end; ) {
      const data = this.#files.nextData(this.#file, position, this.#size);
      if (data === undefined || data >= end) return true;
      position = Math.max(position, data);
      const length = Math.min(chunkBytesMax, end - position);
      if (this.#fill(length, position) < length) return false;
      const found = this.#memory();
      for (let i = 0; i < length; i++) if (found[i] !== 0) return false;
      position += length;
    }
    return true;
  }

  #fill(bytes: number, position: number): number {
    let got = 0;
    while (got < bytes) {
      const read = this.#files.read(this.#file, this.#memory(), got, bytes - got, position + got);
      if (read === 0) break;
      got += read;
    }
    return got;
  }
}

function orUndefined<Result>(ask: () => Result): Result | undefined {
  try {
    return ask();
  } catch (error) {
    if (error instanceof FileTreeError) return undefined;
    throw error;
  }
}

const excluded = new Set(excludedXattrs);

/** xattrs that a checkpoint would keep. */
export function keptXattrs(found: readonly RawXattr[]): readonly RawXattr[] {
  return found.length === 0 ? found : found.filter(({ name }) => !excluded.has(String.fromCharCode(...name)));
}

/** True when what was found is what an entry says, nothing missing and nothing more. */
export function sameXattrs(
  found: readonly RawXattr[] | undefined,
  wanted: readonly Xattr[],
  keys: DomainKeys,
): boolean {
  if (found === undefined) return false;
  const kept = keptXattrs(found);
  if (kept.length !== wanted.length) return false;
  return wanted.every(({ name, value }, i) => {
    const { name: foundName, value: bytes } = kept[i] as RawXattr;
    if (compareBytes(name, foundName) !== 0) return false;
    if (value.kind === 'inline') return equalBytes(bytes, value.bytes);
    return bytes.length === value.bytes && equalBytes(contentId(keys, bytes, 0, bytes.length), value.id);
  });
}
