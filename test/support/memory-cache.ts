import type { CacheReader, CacheWriter, LocalCache, ScratchFile } from '../../src/engine/ports/local-cache.ts';
import { concatBytes } from '../../src/engine/model/bytes.ts';

/** The local cache of one process that may die and come back; `files` survives, open writers do not. */
export class MemoryCache implements LocalCache {
  readonly files: Map<string, { readonly body: Uint8Array; readonly tail: Uint8Array }> = new Map();

  open(name: string): CacheReader | undefined {
    const file = this.files.get(name);
    if (file === undefined) return undefined;
    return {
      tail: file.tail,
      bytes: file.body.length,
      read(position: number, into: Uint8Array, start: number, length: number): number {
        const part = file.body.subarray(position, position + length);
        into.set(part, start);
        return part.length;
      },
      close(): void {},
    };
  }

  create(name: string): CacheWriter {
    const parts: Uint8Array[] = [];
    return {
      append: (bytes) => void parts.push(bytes.slice()),
      commit: (tail) => void this.files.set(name, { body: concatBytes(parts), tail: tail.slice() }),
      abort: () => undefined,
    };
  }

  remove(name: string): void {
    this.files.delete(name);
  }

  names(): readonly string[] {
    return [...this.files.keys()].sort();
  }

  scratch(): ScratchFile {
    let bytes: Uint8Array = new Uint8Array(0);
    return {
      append(more: Uint8Array): number {
        const at = bytes.length;
        bytes = concatBytes([bytes, more]);
        return at;
      },
      read: (position, into) => into.set(bytes.subarray(position, position + into.length)),
      close: () => undefined,
    };
  }
}
