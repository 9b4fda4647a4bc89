/**
 * The databases of SQLite in the volumes of a capture, held still by SQLite's own locks while they are read.
 *
 * What is taken of a database, always shared, so that reading it needs no right to write (https://sqlite.org/lockingv3.html and
 * https://sqlite.org/walformat.html#locks; the numbers stand in os.h and wal.c and are the same in all versions of SQLite 3):
 * - SHARED, as every reader has it: nobody writes the database file, changes between journal modes, or removes the WAL.
 * - With a rollback journal also the RESERVED byte, so that no transaction begins and nobody writes a journal. Not where an
 *   interrupted transaction waits to be rolled back (a *hot* journal): readers take a held RESERVED byte for a sign that its
 *   owner lives, and would read what is to be rolled back.
 * - With a WAL also WRITE and CKPT in the wal-index: nobody appends, restarts the WAL or copies it back. SQLite takes WRITE shared
 *   in the same way where it may only read the index. Where there is no wal-index there is no connection, and none can have
 *   come and gone: the last to close removes the index under an EXCLUSIVE lock, which SHARED keeps off. So an index that is
 *   absent before and after is as good as a lock. The byte that tells others that the index is in use (DMS) is never
 *   taken: with it they would trust an index that a crash left behind.
 *
 * While a lock of a database cannot be had, none of it is held: what a writer has begun it can end.
 */
import { compareBytes } from '../model/bytes.ts';
import { invariant } from '../model/errors.ts';
import { displayPath } from '../model/rel-path.ts';
import { readStat, viewOf } from '../model/stat-record.ts';
import type { Clock } from '../ports/clock.ts';
import { type Descriptor, FileTreeError, type FileTreeReader, type NameAt } from '../ports/file-tree.ts';
import type { RangeLocks } from '../ports/range-locks.ts';
import type { DatabaseOutcome, UnlockedReason } from './capture-outcome.ts';
import { statBytes } from './lane-job.ts';
import type { DirectoryHandle } from './scan.ts';
import { type FileWalk, nameWith, type WalkedFile, walkFiles } from './walk-files.ts';

const pendingByte = 0x4000_0000;
const reservedByte: number = pendingByte + 1;
const sharedFirst: number = pendingByte + 2;
const sharedBytes = 510;
/** WAL_WRITE_LOCK and WAL_CKPT_LOCK. */
const walLocksFirst = 120;
const walLocks = 2;

const headerBytes = 100;
const magic = 'SQLite format 3\0';
const pageBytesMin = 512;
/** Each holds up to two descriptors and its directory; the default limit of a process is 1024. */
const databasesMax = 128;
const retryMs = 3;
/** Between tries at all of several at once: the busy ones end meanwhile what they have begun. */
const pauseMs = 20;

type Mode = 'rollback' | 'wal';

interface Database {
  readonly volume: number;
  readonly key: Uint8Array;
  readonly name: Uint8Array;
  /** Undefined when it was given back. */
  directory: DirectoryHandle | undefined;
  mode: Mode;
  held: Held | undefined;
  /** Why it is not held. */
  reason: UnlockedReason | undefined;
}

interface Held {
  readonly file: Descriptor;
  /** The wal-index, where there is one. */
  readonly index: Descriptor | undefined;
  /** Stats of the database and its companions when the locks had been taken. */
  readonly stats: string;
}

export interface DatabaseLocksOptions {
  readonly files: FileTreeReader;
  /** Undefined where this host has no locks. */
  readonly locks: RangeLocks | undefined;
  readonly clock: Clock;
  /** How long to wait for writers, in ms, all calls of `hold` together. */
  readonly waitMs: number;
  readonly signal: AbortSignal | undefined;
}

export class DatabaseLocks {
  readonly #options: DatabaseLocksOptions;
  readonly #databases: Map<string, Database> = new Map();
  #waitUntil: number | undefined;
  #heldSince: number | undefined;
  #heldMs = 0;
  #settled = false;

  constructor(options: DatabaseLocksOptions) {
    this.#options = options;
  }

  /** How long locks were held, in ms, from the first to the release of all. */
  get heldMs(): number {
    return this.#heldMs;
  }

  /**
   * Before a pass: finds the databases of the volumes, given in the same order each time, and locks those that are not locked
   * yet, all at one moment if that can be had in time, else as many as can. Throws what a walk throws, and E_ABORTED.
   */
  async hold(walks: readonly FileWalk[]): Promise<void> {
    await this.#find(walks);
    const waiting = [...this.#databases.values()].filter(
      ({ held, reason }) => held === undefined && reason === undefined,
    );
    const { clock, waitMs, signal } = this.#options;
    this.#waitUntil ??= clock.monotonicMs() + waitMs;
    for (;;) {
      for (const database of waiting) if (database.held === undefined) this.#tryLock(database);
      const busy = waiting.filter(({ held, reason }) => held === undefined && reason === undefined);
      const left = this.#waitUntil - clock.monotonicMs();
      if (busy.length === 0 || left <= 0) break;
      // A transaction over two of them could wait for the one while its other half is waited for here: let go of all.
      if (left > waitMs / 4) for (const database of waiting) this.#close(database);
      await clock.wait(waiting.length === 1 ? retryMs : pauseMs, signal === undefined ? {} : { signal });
    }
    if (waiting.some(({ held }) => held !== undefined)) this.#heldSince ??= clock.monotonicMs();
  }

  /** After the last pass: which databases did not keep still. Then gives back all locks, and looks which databases came since. */
  async settle(walks: readonly FileWalk[]): Promise<void> {
    for (const database of this.#databases.values()) {
      const { held } = database;
      if (held === undefined) {
        database.reason ??= 'busy';
      } else if (!this.#isStill(database, held)) {
        database.reason = 'moved';
      }
    }
    this.release();
    this.#settled = true;
    await this.#find(walks);
  }

  /** Of volume number `volume`, in key order. */
  outcomes(volume: number): DatabaseOutcome[] {
    const found = [...this.#databases.values()].filter((database) => database.volume === volume);
    return found
      .sort((a, b) => compareBytes(a.key, b.key))
      .map(({ key, mode, reason }) => ({
        path: displayPath(key),
        mode,
        locked: reason === undefined,
        ...(reason === undefined ? {} : { reason }),
      }));
  }

  /** Gives back every lock and descriptor. Safe to call again. */
  release(): void {
    for (const database of this.#databases.values()) {
      this.#close(database);
      database.directory?.release();
      database.directory = undefined;
    }
    if (this.#heldSince !== undefined) this.#heldMs = this.#options.clock.monotonicMs() - this.#heldSince;
    this.#heldSince = undefined;
  }

  async #find(walks: readonly FileWalk[]): Promise<void> {
    for (const [volume, walk] of walks.entries()) {
      await walkFiles(walk, (file) => {
        if (file.size < pageBytesMin || file.size % pageBytesMin !== 0) return;
        const name = `${volume}/${displayPath(file.key)}`;
        if (this.#databases.has(name)) return;
        const mode = this.#modeOfNamed(file);
        if (mode === undefined) return;
        const reason = this.#hindrance(file);
        if (reason === undefined) file.directory.hold();
        const directory = reason === undefined ? file.directory : undefined;
        // The name is a view of a whole listing.
        const own = { key: file.key, name: file.name.slice(), directory };
        this.#databases.set(name, { volume, ...own, mode, held: undefined, reason });
      });
    }
  }

  #hindrance({ nlink }: WalkedFile): UnlockedReason | undefined {
    if (this.#options.locks === undefined) return 'unsupported';
    if (this.#settled) return 'new';
    // SQLite names journal and WAL by the name that the application opened: which one that is, nobody can tell.
    if (nlink > 1) return 'several-names';
    const held = [...this.#databases.values()].filter(({ directory }) => directory !== undefined);
    return held.length >= databasesMax ? 'too-many' : undefined;
  }

  /** Undefined when it is no database; what cannot be read is reported by the passes. */
  #modeOfNamed({ directory, name }: WalkedFile): Mode | undefined {
    const { files } = this.#options;
    try {
      const file = files.openFile(directory.descriptor, nameWith(name));
      try {
        return this.#modeOf(file);
      } finally {
        files.close(file);
      }
    } catch (error) {
      if (!(error instanceof FileTreeError)) throw error;
      return undefined;
    }
  }

  #modeOf(file: Descriptor): Mode | undefined {
    const header = new Uint8Array(headerBytes);
    if (this.#options.files.read(file, header, 0, headerBytes, 0) < headerBytes) return undefined;
    for (let i = 0; i < magic.length; i++) if (header[i] !== magic.charCodeAt(i)) return undefined;
    // The file format read version: 1 for rollback journals, 2 for WAL.
    return header[19] === 2 ? 'wal' : 'rollback';
  }

  /** Leaves it held, or with the reason why it cannot be, or neither: busy. */
  #tryLock(database: Database): void {
    const { files } = this.#options;
    const open: Descriptor[] = [];
    try {
      database.held = this.#take(database, open);
    } catch (error) {
      if (!(error instanceof FileTreeError)) throw error;
      database.reason = reasonOf(error.errno);
    }
    if (database.held === undefined) for (const descriptor of open) files.close(descriptor);
  }

  /** Undefined when it is busy or `reason` was set; descriptors that were opened are in `open`. */
  #take(database: Database, open: Descriptor[]): Held | undefined {
    const { files } = this.#options;
    const locks = this.#options.locks as RangeLocks;
    const directory = directoryOf(database);
    const file = files.openFile(directory, nameWith(database.name));
    open.push(file);
    // As SQLite does: PENDING in passing, so that a writer who waits for its readers to leave is not starved.
    if (!locks.share(file, pendingByte, 1) || !locks.share(file, sharedFirst, sharedBytes)) return undefined;
    locks.release(file, pendingByte, 1);
    const mode = this.#modeOf(file);
    if (mode === undefined) {
      database.reason = 'moved';
      return undefined;
    }
    database.mode = mode;
    let index: Descriptor | undefined;
    if (mode === 'wal') {
      index = this.#openNamed(directory, nameWith(database.name, '-shm'));
      if (index !== undefined) {
        open.push(index);
        if (!locks.share(index, walLocksFirst, walLocks)) return undefined;
      }
    } else {
      // In this order: a journal that is made from now on has nothing to roll back, since SHARED keeps its writer from the database.
      const owned = (): boolean => locks.isExclusive(file, reservedByte, 1);
      const isHot = (): boolean => this.#isHot(directory, database.name);
      if (owned()) return undefined;
      if (isHot()) {
        // Or a transaction has begun since; one that ended again took its journal with it.
        if (owned() || !isHot() || owned()) return undefined;
        database.reason = 'hot-journal';
        return undefined;
      }
      if (!locks.share(file, reservedByte, 1)) return undefined;
    }
    return { file, index, stats: this.#statsOf(database) };
  }

  /** A journal that, if no living writer owns it, is rolled back by whoever opens the database next. */
  #isHot(directory: Descriptor, name: Uint8Array): boolean {
    const { files } = this.#options;
    const journal = this.#openNamed(directory, nameWith(name, '-journal'));
    if (journal === undefined) return false;
    try {
      const first = new Uint8Array(1);
      // A journal that is kept after its transaction has its header zeroed, or is empty.
      return files.read(journal, first, 0, 1, 0) === 1 && first[0] !== 0;
    } finally {
      files.close(journal);
    }
  }

  #openNamed(directory: Descriptor, name: NameAt): Descriptor | undefined {
    try {
      return this.#options.files.openFile(directory, name);
    } catch (error) {
      if (error instanceof FileTreeError && error.errno === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** Nobody wrote past the locks, and the names are still those of the files that are locked. */
  #isStill(database: Database, held: Held): boolean {
    const { files } = this.#options;
    try {
      if (this.#statsOf(database) !== held.stats) return false;
      const named = this.#statText(database, '-shm');
      if (held.index === undefined) return database.mode !== 'wal' || named === '';
      const { device, inode } = files.stat(held.index);
      return named.startsWith(`${device}:${inode} `);
    } catch (error) {
      if (!(error instanceof FileTreeError)) throw error;
      return false;
    }
  }

  #statsOf(database: Database): string {
    return ['', '-wal', '-journal'].map((ending) => this.#statText(database, ending)).join(';');
  }

  /** Empty when there is no such name. */
  #statText(database: Database, ending: string): string {
    const record = new Uint8Array(statBytes);
    try {
      this.#options.files.statNameInto(directoryOf(database), nameWith(database.name, ending), record, 0);
    } catch (error) {
      if (error instanceof FileTreeError && error.errno === 'ENOENT') return '';
      throw error;
    }
    // Without ctime: SQLite gives a journal that it opens to the database's owner, and no byte moves.
    const { device, inode, size, mtimeSec, mtimeNsec } = readStat(viewOf(record), 0);
    return `${device}:${inode} ${size} ${mtimeSec}.${mtimeNsec}`;
  }

  /** Its locks go with its descriptors. */
  #close(database: Database): void {
    const { held } = database;
    if (held === undefined) return;
    database.held = undefined;
    if (held.index !== undefined) this.#options.files.close(held.index);
    this.#options.files.close(held.file);
  }
}

function directoryOf({ directory }: Database): Descriptor {
  invariant(directory !== undefined, 'a database that may be locked has its directory open');
  return directory.descriptor;
}

function reasonOf(errno: string): UnlockedReason {
  if (errno === 'ENOENT' || errno === 'ESTALE' || errno === 'ELOOP') return 'moved';
  if (errno === 'EACCES' || errno === 'EPERM' || errno === 'EIO') return 'unreadable';
  if (errno === 'EMFILE' || errno === 'ENFILE') return 'too-many';
  return 'unsupported';
}
