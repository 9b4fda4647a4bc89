/** A real shared, writable mapping of a file in this process, for tests of writes that no write() call shows. */
import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';

const library = koffi.load(null);
const mmap = library.func('mmap', 'int64', ['int64', 'int64', 'int', 'int', 'int', 'int64']);
const munmap = library.func('munmap', 'int', ['int64', 'int64']);
const memset = library.func('memset', 'int64', ['int64', 'int', 'int64']);

const readWrite = 3;
const shared = 1;

export interface FileMapping {
  /** Stores `byte` at positions [start, end) by plain memory writes. */
  fill(byte: number, start: number, end: number): void;
  close(): void;
}

/** Maps the first `length` bytes of a file; the file is not held open beside the mapping. */
export function mapFile(path: string, length: number): FileMapping {
  const file = openSync(path, 'r+');
  const address = mmap(0, length, readWrite, shared, file, 0) as number;
  closeSync(file);
  if (address < 0) throw new Error(`mmap failed with errno ${koffi.errno()}`);
  return {
    fill: (byte, start, end) => void memset(address + start, byte, end - start),
    close: () => void munmap(address, length),
  };
}
