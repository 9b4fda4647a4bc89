/**
 * A private place on the local disk for what can be made again: the scan's stat cache and a run's scratch data. Synchronous.
 * A file is read back whole or not at all: the host proves it with a checksum when it opens one, so that a torn cache after
 * a power cut reads as absent. Nothing here is ever needed for a restore.
 */
export interface CacheReader {
  /** What the writer gave to `commit`. */
  readonly tail: Uint8Array;
  /** Bytes of the body. */
  readonly bytes: number;
  /** Fills `into` from `position` of the body; returns fewer bytes only at the end. */
  read(position: number, into: Uint8Array, start: number, length: number): number;
  close(): void;
}

export interface CacheWriter {
  append(bytes: Uint8Array): void;
  /** Makes body and tail visible under the name, replacing what was there. */
  commit(tail: Uint8Array): void;
  abort(): void;
}

/** Append and read back; gone when closed. */
export interface ScratchFile {
  /** Position of the bytes in the file. */
  append(bytes: Uint8Array): number;
  read(position: number, into: Uint8Array): void;
  close(): void;
}

export interface LocalCache {
  /** Names are lower-case hexadecimal digits and dashes. Undefined when absent or not whole. */
  open(name: string): CacheReader | undefined;
  create(name: string): CacheWriter;
  remove(name: string): void;
  names(): readonly string[];
  scratch(): ScratchFile;
}
