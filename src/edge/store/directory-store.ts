import { constants, type Dirent, type Stats } from 'node:fs';
import { type FileHandle, link, lstat, open, readdir, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { HoldfastError, invariant } from '../../engine/model/errors.ts';
import type {
  CreateOutcome,
  ListOptions,
  ObjectInfo,
  ObjectReader,
  ObjectSweeper,
  ObjectUpload,
  ObjectWriter,
  UnfinishedUpload,
  RangeOptions,
  WaitOptions,
} from '../../engine/ports/object-store.ts';
import { HandleCache } from './handle-cache.ts';
import { checkKeyPrefix, checkObjectKey, isKeyPart, reservedPart } from './object-key.ts';
import { errnoName, notAnObject, throwIfAborted, toStoreError } from './store-error.ts';
import { StoreRoot } from './store-root.ts';
import { hasEnded, newTempName, parseTempName, probeName, type TempOwner, tempOwner } from './temp-names.ts';

/**
 * A store in a directory of a file system. A key is a path below that directory, an object is a file.
 *
 * Invariants:
 * - An object appears whole and durable, or not at all: it is written under a temporary name, synced, and only then
 *   linked to its own name. link() fails where the name is taken, so nothing is ever overwritten, also between machines.
 * - A name that an object once had is never given back by a writer, not even when the sync of its directory fails after
 *   the link: somebody may have seen it. The error then leaves open whether the object exists.
 * - What a writer answers (`created`, `exists`) survives a power cut: the directory is synced before the answer.
 * - After an error of fsync nothing is retried on that file: the kernel reports such an error once, then forgets it and
 *   may forget the data too. The file is dropped.
 */

/** Handles kept open for ranged reads: a restore reads many ranges of a few packs. */
const handlesMax = 16;
/** No single system call reads or writes more, so that an abort is noticed in between. */
const bytesPerCallMax = 16 * 1024 * 1024;
/** Written back in the background each time so many bytes have come in, so that the sync at the end finds little to do. */
const writeBackBytes = 32 * 1024 * 1024;
/** Files of a list that are looked at together. */
const statsAtOnce = 32;
/** Unfinished objects of other hosts are removed when they have not been written to for so long. */
const foreignTempAgeMsMax = 24 * 60 * 60 * 1000;

const readFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const createFlags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

export interface DirectoryStoreOptions {
  /** Makes the directory when it is missing. Only for a new repository: a missing store is otherwise an error. */
  readonly create?: boolean;
}

/** Opens the store in `path` for reading. E_STORE_UNREACHABLE when there is no such directory. */
export async function openDirectoryReader(path: string): Promise<DirectoryReader> {
  return new DirectoryReader(await StoreRoot.open(path));
}

/** Opens it for reading and creating. E_STORE_UNREACHABLE when there is no such directory, unless `create` is asked for. */
export async function openDirectoryWriter(path: string, options: DirectoryStoreOptions = {}): Promise<DirectoryWriter> {
  return new DirectoryWriter(await StoreRoot.open(path, options));
}

/** Opens it for reading and deleting. E_STORE_UNREACHABLE when there is no such directory. */
export async function openDirectorySweeper(path: string): Promise<DirectorySweeper> {
  return new DirectorySweeper(await StoreRoot.open(path));
}

export class DirectoryReader implements ObjectReader, AsyncDisposable {
  protected readonly root: StoreRoot;
  protected readonly handles: HandleCache<OpenObject> = new HandleCache(handlesMax);

  constructor(root: StoreRoot) {
    this.root = root;
  }

  async get(key: string, options: WaitOptions & { readonly bytesMax: number }): Promise<Uint8Array | undefined> {
    const doing = `reading ${key}`;
    return this.attempt(key, doing, options.signal, async () => {
      const object = await this.#open(key);
      if (object === undefined) return undefined;
      try {
        if (object.bytes > options.bytesMax) {
          throw new HoldfastError('E_DAMAGED', `${key} has ${object.bytes} bytes, at most ${options.bytesMax} can be`, {
            details: { key, bytes: object.bytes, bytesMax: options.bytesMax },
          });
        }
        return await object.read(0, object.bytes, options);
      } finally {
        await object.close();
      }
    });
  }

  async getRange(key: string, start: number, length: number, options: RangeOptions = {}): Promise<Uint8Array> {
    invariant(isCount(start) && isCount(length), 'a range is two whole numbers that are not negative');
    return this.attempt(key, `reading ${length} bytes of ${key}`, options.signal, () =>
      this.handles.use(
        key,
        async () => (await this.#open(key)) ?? missing(key),
        (object) => object.read(start, length, options),
      ),
    );
  }

  async stat(key: string, options: WaitOptions = {}): Promise<ObjectInfo | undefined> {
    return this.attempt(key, `looking at ${key}`, options.signal, async () => {
      const found = await this.lookAt(key);
      if (found?.isFile()) {
        this.root.saw(key);
        return objectInfo(key, found);
      }
      if (found === undefined) await this.root.confirm();
      else if (!found.isDirectory()) throw notAnObject(key);
      return undefined;
    });
  }

  async list(prefix: string, options: ListOptions = {}): Promise<readonly ObjectInfo[]> {
    checkKeyPrefix(prefix);
    const { after = '', limit = Number.POSITIVE_INFINITY, signal } = options;
    invariant(limit >= 0, 'the limit of a list is not negative');
    return this.attempt(undefined, `listing ${prefix}`, signal, async () => {
      const found: ObjectInfo[] = [];
      if (limit === 0) return found;
      let keys: string[] = [];
      // A file that vanishes between its name and its stat has been deleted meanwhile: it is left out and the next one counts.
      const look = async (): Promise<void> => {
        const infos = await Promise.all(
          keys.map(async (key) => {
            const stats = await this.lookAt(key);
            return stats?.isFile() ? objectInfo(key, stats) : undefined;
          }),
        );
        for (const info of infos) if (info !== undefined) found.push(info);
        keys = [];
      };
      for await (const key of this.#keys(prefix, after)) {
        throwIfAborted(signal, `listing ${prefix}`);
        keys.push(key);
        if (keys.length >= Math.min(statsAtOnce, limit - found.length)) await look();
        if (found.length >= limit) break;
      }
      if (keys.length > 0) await look();
      const first = found[0];
      if (first === undefined) await this.root.confirm();
      else this.root.saw(first.key);
      return found;
    });
  }

  /** Closes the handles kept for ranged reads. Nothing can be read afterwards. */
  async close(): Promise<void> {
    await this.handles.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Called with each directory that a list has read. */
  protected async listed(_directory: string): Promise<void> {}

  /** Runs one operation: refuses bad keys and given-up callers first, then turns what fails into the port's errors. */
  protected async attempt<T>(
    key: string | undefined,
    doing: string,
    signal: AbortSignal | undefined,
    work: () => Promise<T>,
  ): Promise<T> {
    if (key !== undefined) checkObjectKey(key);
    throwIfAborted(signal, doing);
    try {
      return await work();
    } catch (error) {
      throw toStoreError(error, doing, 'read', key === undefined ? {} : { key });
    }
  }

  /** What stands at a key, no symlink followed; undefined when nothing does. */
  protected async lookAt(key: string): Promise<Stats | undefined> {
    try {
      return await lstat(this.root.pathOf(key));
    } catch (error) {
      if (isAbsence(error)) return undefined;
      throw error;
    }
  }

  /** Opens a file; a process that has run out of descriptors gives its idle ones back first. */
  protected async openFile(path: string, flags: number, mode?: number): Promise<FileHandle> {
    try {
      return await open(path, flags, mode);
    } catch (error) {
      const errno = errnoName(error);
      if ((errno !== 'EMFILE' && errno !== 'ENFILE') || (await this.handles.closeIdle()) === 0) throw error;
      return open(path, flags, mode);
    }
  }

  async #open(key: string): Promise<OpenObject | undefined> {
    let file: FileHandle;
    try {
      file = await this.openFile(this.root.pathOf(key), readFlags);
    } catch (error) {
      const errno = errnoName(error);
      // A symlink or a socket.
      if (errno === 'ELOOP' || errno === 'ENXIO') throw notAnObject(key);
      if (!isAbsence(error)) throw error;
      await this.root.confirm();
      return undefined;
    }
    try {
      const stats = await file.stat();
      if (stats.isFile()) {
        this.root.saw(key);
        return new OpenObject(key, file, stats.size);
      }
      if (!stats.isDirectory()) throw notAnObject(key);
    } catch (error) {
      await file.close();
      throw error;
    }
    await file.close();
    return undefined;
  }

  /** Keys that start with `prefix` and come after `after`, ascending. What no key can name is left out. */
  async *#keys(prefix: string, after: string): AsyncGenerator<string> {
    const directory = this.root.pathOf(prefix.slice(0, -1));
    let entries: Dirent[];
    try {
      entries = await readdir(directory, { withFileTypes: true });
    } catch (error) {
      if (isAbsence(error)) return;
      throw error;
    }
    await this.listed(directory);
    // A directory sorts as what it is in its keys, with the slash: `a-b` and `a.b` come on either side of `a/b`.
    const names: string[] = [];
    for (const entry of entries) {
      if (!isKeyPart(entry.name)) continue;
      const key = `${prefix}${entry.name}`;
      if (entry.isFile() && key > after) names.push(key);
      if (entry.isDirectory() && (`${key}/` > after || after.startsWith(`${key}/`))) names.push(`${key}/`);
    }
    entries = [];
    // ASCII only, so the order of UTF-16 units is the order of bytes.
    for (const name of names.sort(byteOrder)) {
      if (name.endsWith('/')) yield* this.#keys(name, after);
      else yield name;
    }
  }
}

export class DirectoryWriter extends DirectoryReader implements ObjectWriter {
  readonly #owner: TempOwner = tempOwner();
  #swept = false;

  async create(key: string, bytes: Uint8Array, options: WaitOptions = {}): Promise<CreateOutcome> {
    const upload = await this.beginUpload(key, options);
    try {
      await upload.append(bytes);
      return await upload.commit();
    } catch (error) {
      await upload.abort();
      throw error;
    }
  }

  /** Whoever opens the store removes what has ended processes left. */
  async unfinished(): Promise<readonly UnfinishedUpload[]> {
    return [];
  }

  async beginUpload(key: string, options: WaitOptions = {}): Promise<ObjectUpload> {
    checkObjectKey(key);
    const doing = `creating ${key}`;
    throwIfAborted(options.signal, doing);
    try {
      const path = join(this.root.path, reservedPart, newTempName(this.#owner));
      const file = await this.#createTemp(path);
      return new DirectoryUpload(this.root, key, path, file, options.signal);
    } catch (error) {
      throw toStoreError(error, doing, 'write', { key });
    }
  }

  async #createTemp(path: string): Promise<FileHandle> {
    const directory = dirname(path);
    let file: FileHandle;
    try {
      file = await this.openFile(path, createFlags, 0o600);
    } catch (error) {
      const errno = errnoName(error);
      if (errno === 'ENOENT') await this.root.makeDirectory(directory);
      // What dead processes left may be what fills the store; without a new file there is no clock to judge ages by.
      else if (errno === 'ENOSPC' || errno === 'EDQUOT') await sweepTemps(directory, this.#owner, undefined);
      else throw error;
      file = await this.openFile(path, createFlags, 0o600);
    }
    if (!this.#swept) {
      this.#swept = true;
      await sweepTemps(directory, this.#owner, file);
    }
    return file;
  }
}

export class DirectorySweeper extends DirectoryReader implements ObjectSweeper {
  /** The deletion itself may be undone by a power cut; what is deleted has to be dead in either case. */
  async delete(key: string, options: WaitOptions = {}): Promise<boolean> {
    checkObjectKey(key);
    const doing = `deleting ${key}`;
    throwIfAborted(options.signal, doing);
    try {
      await this.handles.drop(key);
      await unlink(this.root.pathOf(key));
      this.root.saw(key);
      return true;
    } catch (error) {
      // A directory is no object. Directories that become empty stay: a writer may be about to link into them.
      if (errnoName(error) === 'EISDIR') return false;
      if (!isAbsence(error)) throw toStoreError(error, doing, 'write', { key });
      await this.root.confirm();
      return false;
    }
  }

  /**
   * Makes durable what a list has shown. Else a sweep could delete objects because of a newer record that it has seen,
   * that its writer has not synced yet, and that a power cut takes away.
   */
  protected override async listed(directory: string): Promise<void> {
    await this.root.sync(directory);
  }
}

/** An object opened for reading. Objects never change, so its size is known for good. */
class OpenObject {
  readonly bytes: number;
  readonly #key: string;
  readonly #file: FileHandle;

  constructor(key: string, file: FileHandle, bytes: number) {
    this.#key = key;
    this.#file = file;
    this.bytes = bytes;
  }

  /** Exactly `length` bytes in `into` or a buffer of their own; E_DAMAGED, before anything is allocated, when there are fewer. */
  async read(start: number, length: number, { into: given, signal }: RangeOptions = {}): Promise<Uint8Array> {
    if (start + length > this.bytes) throw this.#tooShort(start, length, this.bytes);
    const into = given ?? newBuffer(length);
    for (let done = 0; done < length; ) {
      throwIfAborted(signal, `reading ${this.#key}`);
      const { bytesRead } = await this.#file.read(into, done, Math.min(length - done, bytesPerCallMax), start + done);
      if (bytesRead === 0) throw this.#tooShort(start, length, start + done);
      done += bytesRead;
    }
    return into;
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #tooShort(start: number, length: number, bytes: number): HoldfastError {
    return new HoldfastError('E_DAMAGED', `${this.#key} ends at byte ${bytes}, ${start + length} were expected`, {
      details: { key: this.#key, start, length, bytes },
    });
  }
}

class DirectoryUpload implements ObjectUpload {
  readonly #root: StoreRoot;
  readonly #key: string;
  readonly #tempPath: string;
  readonly #file: FileHandle;
  readonly #signal: AbortSignal | undefined;
  #position = 0;
  #state: 'open' | 'busy' | 'committed' | 'ended' = 'open';
  #writingBack: Promise<void> | undefined;
  #writtenBack = 0;
  #failure: unknown;

  constructor(root: StoreRoot, key: string, tempPath: string, file: FileHandle, signal: AbortSignal | undefined) {
    this.#root = root;
    this.#key = key;
    this.#tempPath = tempPath;
    this.#file = file;
    this.#signal = signal;
  }

  async append(bytes: Uint8Array): Promise<void> {
    await this.#step(`writing ${this.#key}`, 'open', async (doing) => {
      for (let done = 0; done < bytes.length; ) {
        throwIfAborted(this.#signal, doing);
        const length = Math.min(bytes.length - done, bytesPerCallMax);
        const { bytesWritten } = await this.#file.write(bytes, done, length, this.#position);
        done += bytesWritten;
        this.#position += bytesWritten;
        if (this.#position - this.#writtenBack >= writeBackBytes) this.#writeBack();
      }
    });
  }

  async commit(): Promise<CreateOutcome> {
    return this.#step(`creating ${this.#key}`, 'committed', async (doing) => {
      await this.#writingBack;
      if (this.#failure !== undefined) throw this.#failure;
      await this.#file.sync();
      throwIfAborted(this.#signal, doing);
      const path = this.#root.pathOf(this.#key);
      const outcome = await this.#link(path);
      // From here on the object can be seen, and no error or signal takes it back.
      await Promise.all([this.#root.sync(dirname(path)), this.#drop()]);
      this.#root.saw(this.#key);
      return outcome;
    });
  }

  async abort(): Promise<void> {
    if (this.#state === 'committed' || this.#state === 'ended') return;
    // A step that is still running meets the closed file, drops the temporary file itself and throws.
    this.#state = 'ended';
    this.#failure ??= new HoldfastError('E_ABORTED', `the upload of ${this.#key} was given up`);
    await this.#drop();
  }

  /** One step at a time; whatever fails ends the upload, and nothing of it stays. */
  async #step<T>(doing: string, next: 'open' | 'committed', work: (doing: string) => Promise<T>): Promise<T> {
    if (this.#state === 'ended') throw toStoreError(this.#failure, doing, 'write', { key: this.#key });
    invariant(this.#state === 'open', `steps of an upload come one after the other: ${this.#state}, then ${doing}`);
    this.#state = 'busy';
    try {
      throwIfAborted(this.#signal, doing);
      if (this.#failure !== undefined) throw this.#failure;
      const result = await work(doing);
      if (this.#isEnded()) throw this.#failure;
      this.#state = next;
      return result;
    } catch (error) {
      this.#state = 'ended';
      this.#failure ??= error;
      await this.#drop();
      throw toStoreError(this.#failure, doing, 'write', { key: this.#key });
    }
  }

  /** abort() may have come while a step was running. */
  #isEnded(): boolean {
    return this.#state === 'ended';
  }

  #writeBack(): void {
    if (this.#writingBack !== undefined) return;
    this.#writtenBack = this.#position;
    this.#writingBack = this.#file
      .datasync()
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => {
        this.#writingBack = undefined;
      });
  }

  async #link(path: string): Promise<CreateOutcome> {
    try {
      return await this.#linkOnce(path);
    } catch (error) {
      if (!isAbsence(error)) throw error;
    }
    try {
      await this.#root.makeDirectory(dirname(path));
      return await this.#linkOnce(path);
    } catch (error) {
      throw errnoName(error) === 'ENOTDIR' ? notAnObject(this.#key) : error;
    }
  }

  async #linkOnce(path: string): Promise<CreateOutcome> {
    try {
      await link(this.#tempPath, path);
      return 'created';
    } catch (error) {
      const errno = errnoName(error) ?? '';
      if (errno === 'EEXIST') return this.#whoseIsIt(path);
      if (['EPERM', 'ENOTSUP', 'ENOSYS', 'EXDEV', 'EMLINK'].includes(errno)) await this.#requireLinks(errno, error);
      throw error;
    }
  }

  /** The name is taken: by our own file, where a network file system lost the reply to the link; else by another's. */
  async #whoseIsIt(path: string): Promise<CreateOutcome> {
    const [theirs, ours] = await Promise.all([lstat(path, { bigint: true }), this.#file.stat({ bigint: true })]);
    if (theirs.ino === ours.ino && theirs.dev === ours.dev) return 'created';
    if (!theirs.isFile()) throw notAnObject(this.#key);
    return 'exists';
  }

  /** Tells a file system without hard links from one that refuses this link only. */
  async #requireLinks(errno: string, cause: unknown): Promise<void> {
    if (errno !== 'EXDEV') {
      const probe = probeName(this.#tempPath);
      try {
        await link(this.#tempPath, probe);
        await unlink(probe);
        return;
      } catch {
        // No link there either.
      }
    }
    const why =
      errno === 'EXDEV'
        ? `${dirname(this.#key)} in it lies on another file system`
        : `its file system has no hard links (${errno})`;
    throw new HoldfastError('E_UNFENCED', `the store at ${this.#root.path} cannot create safely: ${why}`, {
      cause,
      details: { store: this.#root.path, key: this.#key, errno },
      remedy:
        'Objects are created by hard links, so that two writers never overwrite each other. Put the whole store on one file system with hard links (ext4, xfs, btrfs, NFS; not FAT, exFAT or most cloud drives).',
    });
  }

  /** Closes and removes the temporary file. What stays in spite of it is removed by a later writer. */
  async #drop(): Promise<void> {
    await Promise.allSettled([this.#file.close(), unlink(this.#tempPath)]);
  }
}

/**
 * Removes the unfinished objects of processes of this host that have ended, and of any host those that nobody has
 * written to for a day. `fresh` is a file just made in that directory: the age of the others is judged by its time,
 * which is the store's own. What cannot be removed stays; it does no harm but take space.
 */
async function sweepTemps(directory: string, asker: TempOwner, fresh: FileHandle | undefined): Promise<void> {
  const nowMs = (await fresh?.stat())?.mtimeMs ?? Number.NEGATIVE_INFINITY;
  for (const name of await readdir(directory).catch(() => [])) {
    const owner = parseTempName(name);
    if (owner === undefined) continue;
    const path = join(directory, name);
    try {
      if (hasEnded(owner, asker) || (await lstat(path)).mtimeMs < nowMs - foreignTempAgeMsMax) await unlink(path);
    } catch {
      // Another writer was faster, or this one may not do it.
    }
  }
}

function objectInfo(key: string, stats: Stats): ObjectInfo {
  return { key, bytes: stats.size, modifiedMs: Math.floor(stats.mtimeMs) };
}

function missing(key: string): never {
  throw new HoldfastError('E_DAMAGED', `${key} is missing in the store`, { details: { key } });
}

function isAbsence(error: unknown): boolean {
  const errno = errnoName(error);
  return errno === 'ENOENT' || errno === 'ENOTDIR';
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function byteOrder(a: string, b: string): number {
  return a < b ? -1 : 1;
}

/** Not zeroed, as every byte will be written, and not from Node's pool, as it belongs to the caller for good. */
function newBuffer(bytes: number): Uint8Array {
  return new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer);
}
