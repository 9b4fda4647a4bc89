/**
 * The local cache as files of one directory, private to the user. Nothing here is synced: a torn file is told by its
 * checksum and reads as absent.
 *
 * File: body, tail, then 24 bytes: magic `HFC1`, u32 CRC-32 of body and tail, u64 body bytes, u32 tail bytes, 4 zero bytes.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { HoldfastError } from '../../engine/model/errors.ts';
import type { CacheReader, CacheWriter, LocalCache, ScratchFile } from '../../engine/ports/local-cache.ts';

const trailerBytes = 24;
const magic = 0x31434648;
const bufferBytes: number = 1024 * 1024;

export class DirectoryCache implements LocalCache {
  readonly #directory: string;

  /** Makes the directory, mode 0700. E_STATE_DIR when it cannot. */
  constructor(directory: string) {
    this.#directory = directory;
    attempt(`make the cache directory ${directory}`, () => mkdirSync(directory, { recursive: true, mode: 0o700 }));
  }

  open(name: string): CacheReader | undefined {
    let descriptor: number;
    try {
      descriptor = openSync(this.#path(name), 'r');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw failed(`open the cache file ${name}`, error);
    }
    let reader: CacheReader | undefined;
    try {
      reader = checkedReader(descriptor);
    } catch (error) {
      // A file that its disk no longer gives back is as good as torn. A lack of memory or descriptors is not its fault.
      if ((error as NodeJS.ErrnoException).code !== 'EIO') throw failed(`read the cache file ${name}`, error);
    } finally {
      if (reader === undefined) closeSync(descriptor);
    }
    return reader;
  }

  create(name: string): CacheWriter {
    const path = this.#path(name);
    const temporary = `${path}.${randomBytes(6).toString('hex')}.new`;
    const descriptor = attempt('make a cache file', () => openSync(temporary, 'wx', 0o600));
    const buffer = Buffer.allocUnsafe(bufferBytes);
    let used = 0;
    let body = 0;
    let crc = 0;
    let open = true;
    const write = (bytes: Uint8Array): void => {
      crc = crc32(bytes, crc);
      attempt('write a cache file', () => {
        for (let at = 0; at < bytes.length; ) at += writeSync(descriptor, bytes, at);
      });
    };
    const flush = (): void => {
      if (used > 0) write(buffer.subarray(0, used));
      used = 0;
    };
    const append = (bytes: Uint8Array): void => {
      if (bytes.length >= bufferBytes) {
        flush();
        write(bytes);
        return;
      }
      if (used + bytes.length > bufferBytes) flush();
      buffer.set(bytes, used);
      used += bytes.length;
    };
    return {
      append(bytes: Uint8Array): void {
        body += bytes.length;
        append(bytes);
      },
      commit(tail: Uint8Array): void {
        append(tail);
        flush();
        const trailer = Buffer.alloc(trailerBytes);
        trailer.writeUInt32LE(magic, 0);
        trailer.writeUInt32LE(crc, 4);
        trailer.writeBigUInt64LE(BigInt(body), 8);
        trailer.writeUInt32LE(tail.length, 16);
        write(trailer);
        closeSync(descriptor);
        open = false;
        attempt('name a cache file', () => renameSync(temporary, path));
      },
      abort(): void {
        if (!open) return;
        open = false;
        closeSync(descriptor);
        rmSync(temporary, { force: true });
      },
    };
  }

  remove(name: string): void {
    attempt('remove a cache file', () => rmSync(this.#path(name), { force: true }));
  }

  names(): readonly string[] {
    return attempt('list the cache', () => readdirSync(this.#directory)).filter((name) => /^[a-z0-9-]+$/.test(name));
  }

  /** Removes what killed runs left half-written. Only for the one who holds the directory. */
  sweep(): void {
    for (const name of attempt('list the cache', () => readdirSync(this.#directory))) {
      if (!name.endsWith('.new')) continue;
      attempt('remove a cache file', () => rmSync(join(this.#directory, name), { force: true }));
    }
  }

  scratch(): ScratchFile {
    const path = join(this.#directory, `scratch.${randomBytes(6).toString('hex')}.new`);
    const descriptor = attempt('make a scratch file', () => openSync(path, 'wx+', 0o600));
    // Without a name it is gone with the process, however that ends.
    attempt('unlink a scratch file', () => unlinkSync(path));
    let length = 0;
    return {
      append(bytes: Uint8Array): number {
        const start = length;
        attempt('write a scratch file', () => {
          for (let at = 0; at < bytes.length; ) {
            at += writeSync(descriptor, bytes, at, bytes.length - at, start + at);
          }
        });
        length += bytes.length;
        return start;
      },
      read(position: number, into: Uint8Array): void {
        const got = attempt('read a scratch file', () => readFully(descriptor, position, into, 0, into.length));
        if (got !== into.length) {
          throw new HoldfastError('E_STATE_DIR', 'a scratch file lost its end');
        }
      },
      close: () => closeSync(descriptor),
    };
  }

  #path(name: string): string {
    if (!/^[a-z0-9-]{1,200}$/.test(name)) throw new HoldfastError('E_INTERNAL', `cache name ${name}`);
    return join(this.#directory, name);
  }
}

function checkedReader(descriptor: number): CacheReader | undefined {
  const size = fstatSync(descriptor).size;
  if (size < trailerBytes) return undefined;
  const trailer = Buffer.alloc(trailerBytes);
  if (readFully(descriptor, size - trailerBytes, trailer, 0, trailerBytes) !== trailerBytes) return undefined;
  const body = Number(trailer.readBigUInt64LE(8));
  const tailBytes = trailer.readUInt32LE(16);
  if (trailer.readUInt32LE(0) !== magic || body + tailBytes + trailerBytes !== size) return undefined;
  const buffer = Buffer.allocUnsafe(Math.min(bufferBytes, size));
  let crc = 0;
  for (let at = 0; at < body + tailBytes; ) {
    const got = readFully(descriptor, at, buffer, 0, Math.min(buffer.length, body + tailBytes - at));
    if (got === 0) return undefined;
    crc = crc32(buffer.subarray(0, got), crc);
    at += got;
  }
  if (crc !== trailer.readUInt32LE(4)) return undefined;
  const tail = new Uint8Array(tailBytes);
  readFully(descriptor, body, tail, 0, tailBytes);
  return {
    tail,
    bytes: body,
    read: (position, into, start, length) =>
      attempt('read a cache file', () =>
        readFully(descriptor, position, into, start, Math.min(length, body - position)),
      ),
    close: () => closeSync(descriptor),
  };
}

function readFully(descriptor: number, position: number, into: Uint8Array, start: number, length: number): number {
  let got = 0;
  while (got < length) {
    const bytes = readSync(descriptor, into, start + got, length - got, position + got);
    if (bytes === 0) break;
    got += bytes;
  }
  return got;
}

function attempt<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw failed(what, error);
  }
}

function failed(what: string, cause: unknown): HoldfastError {
  return new HoldfastError('E_STATE_DIR', `cannot ${what}: ${(cause as NodeJS.ErrnoException).code ?? 'unknown'}`, {
    cause,
  });
}
