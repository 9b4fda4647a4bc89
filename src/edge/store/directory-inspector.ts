import type { Stats } from 'node:fs';
import { link, lstat, mkdir, open, readdir, rmdir, stat, statfs, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { HoldfastError } from '../../engine/model/errors.ts';
import type { Answer, DirectoryFacts, Remnant, StoreInspector } from '../../engine/ports/store-inspector.ts';
import { fileSystemOfType } from '../host/file-system-type.ts';
import { reservedPart } from './object-key.ts';
import { errnoName } from './store-error.ts';
import { newTempName, parseTempName, tempOwner } from './temp-names.ts';

/** Whose files lie on another machine, or in a program of which nothing is known. */
const networkTypes: ReadonlySet<string> = new Set(['nfs', 'cifs', 'smb2', 'ceph', '9p', 'fuse']);

/** Tries out the directory of a store in its `tmp/`, with files that it removes again. */
export class DirectoryInspector implements StoreInspector, AsyncDisposable {
  readonly completeOver = undefined;
  readonly rights = undefined;
  readonly remnants: Remnant[] = [];
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async facts(): Promise<DirectoryFacts> {
    const path = this.#path;
    const stats = await this.#stat();
    const { type, bsize, blocks, bavail, files, ffree } = await statfs(path);
    const fileSystem = fileSystemOfType(type).type;
    return {
      kind: 'directory',
      path,
      fileSystem,
      isNetwork: networkTypes.has(fileSystem),
      mode: stats.mode & 0o777,
      ownedByThisUser: stats.uid === process.getuid?.(),
      freeBytes: bavail * bsize,
      totalBytes: blocks * bsize,
      freeFiles: files > 0 ? ffree : undefined,
      ...(await this.#tryOut()),
      unfinished: (await this.#names()).filter((name) => parseTempName(name) !== undefined).length,
    };
  }

  async forget(keys: readonly string[]): Promise<void> {
    const paths = keys.map((key) => join(this.#path, key));
    await Promise.all(
      paths.map(async (path, index) => {
        try {
          await unlink(path);
        } catch (error) {
          const reason = errnoName(error) ?? 'unknown';
          if (reason !== 'ENOENT') this.remnants.push({ kind: 'object', key: keys[index] as string, reason });
        }
      }),
    );
    // Only what is empty goes, and nobody else makes names in the directory of a trial.
    await Promise.allSettled([...new Set(paths.map(dirname))].map((path) => rmdir(path)));
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  async #stat(): Promise<Stats> {
    try {
      const stats = await stat(this.#path);
      if (stats.isDirectory()) return stats;
    } catch (cause) {
      throw new HoldfastError('E_STORE_UNREACHABLE', `the store at ${this.#path} is not there: ${errnoName(cause)}`, {
        cause,
      });
    }
    throw new HoldfastError('E_STORE_UNREACHABLE', `the store at ${this.#path} is no directory`);
  }

  #names(): Promise<readonly string[]> {
    return readdir(join(this.#path, reservedPart)).catch(() => []);
  }

  async #tryOut(): Promise<Pick<DirectoryFacts, 'write' | 'link' | 'sync' | 'tellsCapitals'>> {
    const directory = join(this.#path, reservedPart);
    const owner = tempOwner();
    const [first, second] = [join(directory, newTempName(owner)), join(directory, newTempName(owner))];
    const capitals = join(directory, newTempName(owner));
    let made: string | undefined;
    const write = await answer(async () => {
      made = await mkdir(directory, { recursive: true, mode: 0o700 });
      await using file = await open(first, 'wx', 0o600);
      await file.writeFile('x');
    });
    const without: Answer<never> = { known: false, why: 'failed', reason: 'nothing can be written' };
    if (!write.known) return { write, link: without, sync: without, tellsCapitals: without };
    try {
      return {
        write,
        link: await answer(() => link(first, second)),
        sync: await answer(async () => {
          for (const each of [first, directory]) {
            await using opened = await open(each, 'r');
            await opened.sync();
          }
        }),
        tellsCapitals: await answer(async () => {
          await using file = await open(capitals, 'wx', 0o600);
          await file.close();
          const changed = join(directory, swapCase(capitals.slice(directory.length + 1)));
          return await lstat(changed).then(
            () => false,
            () => true,
          );
        }),
      };
    } finally {
      await Promise.allSettled([first, second, capitals].map((each) => unlink(each)));
      if (made !== undefined) await rmdir(made).catch(() => undefined);
    }
  }
}

function swapCase(name: string): string {
  const upper = name.toUpperCase();
  return upper === name ? name.toLowerCase() : upper;
}

async function answer<T>(attempt: () => Promise<T>): Promise<Answer<T>> {
  try {
    return { known: true, value: await attempt() };
  } catch (error) {
    const reason = errnoName(error) ?? String(error);
    const why = reason === 'EACCES' || reason === 'EPERM' || reason === 'EROFS' ? 'not-allowed' : 'failed';
    return { known: false, why, reason };
  }
}
