import { constants } from 'node:fs';
import { mkdir, open, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { HoldfastError } from '../../engine/model/errors.ts';
import { errnoName, toStoreError } from './store-error.ts';

/** Directories known to be durable are remembered up to this many; forgetting one costs an fsync. */
const durableMax = 10_000;

/**
 * The directory a directory store lives in.
 *
 * An absent object may mean that the whole store is gone, and a file system that is unmounted leaves an empty directory
 * of the same name behind: taken for an empty store it would look like a first start. So the root remembers under which
 * first part it has seen an object, and where that part has vanished the store is unreachable, not empty. (Device and
 * inode numbers cannot tell: network, overlay and user-space file systems may change them while nothing has happened.)
 *
 * The root knows which directories below it are durable, that is, survive a power cut together with all their parents.
 * One that another process made is not: that process may have died before its fsync. So each process syncs each
 * directory and its parents once, before the first object in it counts.
 */
export class StoreRoot {
  readonly path: string;
  readonly #durable = new Set<string>();
  #witness: string | undefined;

  private constructor(path: string) {
    this.path = path;
  }

  /** E_STORE_UNREACHABLE when the directory is not there; `create` makes it, with missing parents, mode 0700. */
  static async open(path: string, options: { readonly create?: boolean } = {}): Promise<StoreRoot> {
    const root = new StoreRoot(resolve(path));
    if (options.create === true) {
      try {
        const first = await mkdir(root.path, { recursive: true, mode: 0o700 });
        if (first !== undefined) for (const made of upTo(root.path, dirname(first))) await syncDirectory(made);
      } catch (error) {
        throw toStoreError(error, `making the directory of the store ${root.path}`, 'write', { store: root.path });
      }
    }
    if (await isDirectory(root.path)) return root;
    throw new HoldfastError('E_STORE_UNREACHABLE', `there is no store at ${root.path}: no such directory`, {
      details: { store: root.path },
    });
  }

  /** The path of what a key names. */
  pathOf(key: string): string {
    return join(this.path, key);
  }

  /** Remembers that an object of that key was there: the directory it lies in is never removed by Holdfast. */
  saw(key: string): void {
    const slash = key.indexOf('/');
    if (slash > 0) this.#witness ??= key.slice(0, slash);
  }

  /** E_STORE_UNREACHABLE where the store is no longer there. To be asked whenever something is absent. */
  async confirm(): Promise<void> {
    const present =
      this.#witness === undefined ? await isDirectory(this.path) : await exists(join(this.path, this.#witness));
    if (present) return;
    throw new HoldfastError('E_STORE_UNREACHABLE', `the store at ${this.path} has been unmounted, moved or removed`, {
      details: { store: this.path },
    });
  }

  /** Makes a directory below the root and the missing ones above it, mode 0700. Not durable before `sync`. */
  async makeDirectory(path: string): Promise<void> {
    await this.confirm();
    // One after the other, not by mkdir's `recursive`, which would make a root that has vanished anew.
    for (const directory of upTo(path, this.path).reverse().slice(1)) {
      try {
        await mkdir(directory, { mode: 0o700 });
        this.#durable.delete(directory);
      } catch (error) {
        if (errnoName(error) !== 'EEXIST') throw error;
      }
    }
  }

  /** Makes the names in a directory below the root durable, and the directory itself. */
  async sync(path: string): Promise<void> {
    await syncDirectory(path);
    if (path === this.path || this.#durable.has(path)) return;
    const made = [path];
    for (let at = dirname(path); ; at = dirname(at)) {
      await syncDirectory(at);
      if (at === this.path || this.#durable.has(at)) break;
      made.push(at);
    }
    // Only now: after a failure all of them are to be synced again.
    if (this.#durable.size >= durableMax) this.#durable.clear();
    for (const directory of made) this.#durable.add(directory);
  }
}

/** Makes the names in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } catch (error) {
    // Some network and user-space file systems have no fsync of directories and say so; nothing better can be asked of them.
    if (!['EINVAL', 'ENOTSUP', 'ENOSYS'].includes(errnoName(error) ?? '')) throw error;
  } finally {
    await directory.close();
  }
}

/** `path` and its parents up to and with `top`, nearest first. */
function upTo(path: string, top: string): string[] {
  const paths = [path];
  for (let at = path; at !== top && at !== dirname(at); ) {
    at = dirname(at);
    paths.push(at);
  }
  return paths;
}

async function isDirectory(path: string): Promise<boolean> {
  return (await find(path))?.isDirectory() ?? false;
}

async function exists(path: string): Promise<boolean> {
  return (await find(path)) !== undefined;
}

async function find(path: string): Promise<Awaited<ReturnType<typeof stat>> | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    const errno = errnoName(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined;
    throw toStoreError(error, `looking for the store ${path}`, 'read', { store: path });
  }
}
