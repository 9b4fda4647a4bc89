import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createNativeFileTree, type NativeFileTree } from '../../../src/edge/host/native-file-tree.ts';
import { createNativeRangeLocks } from '../../../src/edge/host/native-range-locks.ts';
import { systemClock } from '../../../src/edge/host/system-clock.ts';
import { DatabaseLocks } from '../../../src/engine/capture/database-locks.ts';
import { makeSelection } from '../../../src/engine/capture/select.ts';
import type { FileWalk } from '../../../src/engine/capture/walk-files.ts';
import type { Clock } from '../../../src/engine/ports/clock.ts';
import type { Descriptor } from '../../../src/engine/ports/file-tree.ts';
import { SqliteProcess } from '../../support/sqlite-process.ts';

describe.runIf(process.platform === 'linux')('databases of SQLite', () => {
  const files = createNativeFileTree().tree as NativeFileTree;
  const open = new Set<Descriptor>();
  for (const name of ['openFile', 'openDirectory'] as const) {
    const opens = files[name].bind(files);
    files[name] = (parent, at) => {
      const descriptor = opens(parent, at);
      open.add(descriptor);
      return descriptor;
    };
  }
  const close = files.close.bind(files);
  files.close = (descriptor) => {
    close(descriptor);
    open.delete(descriptor);
  };
  let folder: string;
  let root: Descriptor;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'holdfast-databases-'));
    root = files.openRoot(folder);
  });
  afterEach(() => {
    const left = [...open];
    open.clear();
    files.close(root);
    rmSync(folder, { recursive: true });
    expect(left, 'descriptors left open').toEqual([]);
  });

  const walks = (): readonly FileWalk[] => [
    { files, root, selection: makeSelection([], []), breathe: async () => undefined, signal: undefined },
  ];

  const make = (waitMs = 50, clock: Clock = systemClock): DatabaseLocks =>
    new DatabaseLocks({ files, locks: createNativeRangeLocks(), clock, waitMs, signal: undefined });

  async function started(path: string, mode: string): Promise<SqliteProcess> {
    const sqlite = new SqliteProcess(join(folder, path));
    await sqlite.run(`PRAGMA journal_mode = ${mode}`, 'CREATE TABLE t (a)', "INSERT INTO t VALUES ('first')");
    return sqlite;
  }

  test.each(['delete', 'truncate', 'persist', 'memory', 'wal'])(
    'with journal %s stand still until they are released',
    async (mode) => {
      mkdirSync(join(folder, 'sub'));
      await using sqlite = await started('sub/app.db', mode);
      const held = make();
      await held.hold(walks());
      await expect(sqlite.run("INSERT INTO t VALUES ('second')")).rejects.toThrow('locked');
      expect(await sqlite.run('SELECT a FROM t')).toEqual([{ a: 'first' }]);
      if (mode === 'wal') expect(await sqlite.run('PRAGMA wal_checkpoint')).toMatchObject([{ busy: 1 }]);
      await held.settle(walks());
      expect(held.outcomes(0)).toEqual([
        { path: 'sub/app.db', mode: mode === 'wal' ? 'wal' : 'rollback', locked: true },
      ]);
      await sqlite.run("INSERT INTO t VALUES ('second')");
      expect(held.heldMs).toBeGreaterThan(0);
    },
  );

  test.each(['delete', 'wal'])('with journal %s are waited for while a transaction is open', async (mode) => {
    await using sqlite = await started('app.db', mode);
    await sqlite.run('BEGIN IMMEDIATE', "INSERT INTO t VALUES ('second')");
    const early = make(60);
    await early.hold(walks());
    // The transaction that was begun can be ended meanwhile.
    await early.settle(walks());
    expect(early.outcomes(0)).toMatchObject([{ path: 'app.db', locked: false, reason: 'busy' }]);

    const held = make(20_000);
    const holding = held.hold(walks());
    // Whoever waits looks now and then, with a lock of an instant that a COMMIT may meet.
    await sqlite.run('PRAGMA busy_timeout = 10000', 'COMMIT', 'PRAGMA busy_timeout = 0');
    await holding;
    await expect(sqlite.run("INSERT INTO t VALUES ('third')")).rejects.toThrow('locked');
    await held.settle(walks());
    expect(held.outcomes(0)).toMatchObject([{ locked: true }]);
  });

  test('let a transaction end whose database is waited for', async () => {
    await using sqlite = await started('app.db', 'delete');
    await sqlite.run('BEGIN IMMEDIATE', "INSERT INTO t VALUES ('second')");
    let committed = false;
    const locks = make(20_000);
    const holding = locks.hold(walks());
    // A lock that stayed while it waits for the writer would refuse it the commit for ever.
    for (let tries = 0; !committed && tries < 500; tries++) {
      committed = await sqlite.run('COMMIT').then(
        () => true,
        () => false,
      );
    }
    expect(committed).toBe(true);
    await holding;
    locks.release();
  });

  test('let a transaction over two of them end, which has the one and needs the other', async () => {
    await using other = await started('a.db', 'delete');
    await using sqlite = await started('b.db', 'delete');
    await sqlite.run(`ATTACH '${join(folder, 'a.db')}' AS other`, 'BEGIN', "INSERT INTO main.t VALUES ('x')");
    let waits = 0;
    // The moment of waiting for this one: a lock on the other that stayed would refuse it for ever.
    const wait = async (): Promise<void> => {
      waits++;
      await sqlite.run("INSERT INTO other.t VALUES ('x')", 'COMMIT');
    };
    const locks = make(20_000, { ...systemClock, wait });
    await locks.hold(walks());
    expect(waits).toBe(1);
    await locks.settle(walks());
    expect(locks.outcomes(0)).toMatchObject([
      { path: 'a.db', locked: true },
      { path: 'b.db', locked: true },
    ]);
    expect(await other.run('SELECT count(*) AS n FROM t')).toEqual([{ n: 2 }]);
  });

  test('are held together, or as many as can be', async () => {
    await using free = await started('free.db', 'wal');
    await using busy = await started('busy.db', 'wal');
    await busy.run('BEGIN IMMEDIATE');
    const locks = make(100);
    await locks.hold(walks());
    await expect(free.run("INSERT INTO t VALUES ('x')")).rejects.toThrow('locked');
    await busy.run('COMMIT');
    // The next pass takes what has become free.
    await locks.hold(walks());
    await expect(busy.run("INSERT INTO t VALUES ('x')")).rejects.toThrow('locked');
    await locks.settle(walks());
    expect(locks.outcomes(0)).toMatchObject([
      { path: 'busy.db', locked: true },
      { path: 'free.db', locked: true },
    ]);
  });

  test('keep their WAL when the application closes them meanwhile', async () => {
    await using sqlite = await started('app.db', 'wal');
    const before = readFileSync(join(folder, 'app.db-wal'));
    const held = make();
    await held.hold(walks());
    await sqlite.run('close');
    expect(readFileSync(join(folder, 'app.db-wal'))).toEqual(before);
    await held.settle(walks());
    expect(held.outcomes(0)).toMatchObject([{ locked: true }]);
    await sqlite.run('SELECT a FROM t', 'close');
    expect(existsSync(join(folder, 'app.db-wal'))).toBe(false);
  });

  test('in WAL mode that nobody has open are still unless somebody opens them', async () => {
    await using sqlite = await started('app.db', 'wal');
    await sqlite.run('close');
    expect(readdirSync(folder)).toEqual(['app.db']);
    const quiet = make();
    await quiet.hold(walks());
    await quiet.settle(walks());
    expect(quiet.outcomes(0)).toEqual([{ path: 'app.db', mode: 'wal', locked: true }]);
    // Nothing is made in the volume.
    expect(readdirSync(folder)).toEqual(['app.db']);

    const disturbed = make();
    await disturbed.hold(walks());
    await sqlite.run("INSERT INTO t VALUES ('second')", 'close');
    await disturbed.settle(walks());
    expect(disturbed.outcomes(0)).toMatchObject([{ locked: false, reason: 'moved' }]);
  });

  test('whose WAL a crash left behind are still unless somebody opens them, even to read', async () => {
    const crashed = await started('app.db', 'wal');
    await crashed.kill();
    rmSync(join(folder, 'app.db-shm'));
    const locks = make();
    await locks.hold(walks());
    await using reader = new SqliteProcess(join(folder, 'app.db'));
    expect(await reader.run('SELECT a FROM t')).toEqual([{ a: 'first' }]);
    await locks.settle(walks());
    expect(locks.outcomes(0)).toMatchObject([{ mode: 'wal', locked: false, reason: 'moved' }]);
  });

  test('whose wal-index came or was replaced meanwhile were open to others', async () => {
    const crashed = await started('app.db', 'wal');
    await crashed.kill();
    const index = join(folder, 'app.db-shm');
    const bytes = readFileSync(index);
    for (const before of ['there', 'absent']) {
      if (before === 'absent') rmSync(index);
      const locks = make();
      await locks.hold(walks());
      writeFileSync(join(folder, 'other'), bytes);
      renameSync(join(folder, 'other'), index);
      await locks.settle(walks());
      expect(locks.outcomes(0), before).toMatchObject([{ mode: 'wal', locked: false, reason: 'moved' }]);
    }
  });

  test('with a hot journal are left alone: readers roll it back', async () => {
    const sqlite = await started('app.db', 'delete');
    await sqlite.run('PRAGMA cache_size = 5', 'PRAGMA cache_spill = 1', 'BEGIN IMMEDIATE');
    // More than the cache holds: pages of the open transaction are in the database file already.
    for (let i = 0; i < 200; i++) await sqlite.run(`INSERT INTO t VALUES ('${'spilled '.repeat(500)}')`);
    await sqlite.kill();
    expect(readFileSync(join(folder, 'app.db-journal'))[0]).not.toBe(0);
    const locks = make();
    await locks.hold(walks());
    await using reader = new SqliteProcess(join(folder, 'app.db'));
    expect(await reader.run('SELECT a FROM t')).toEqual([{ a: 'first' }]);
    await locks.settle(walks());
    expect(locks.outcomes(0)).toMatchObject([{ locked: false, reason: 'hot-journal' }]);
  });

  test('that are written past the locks are found out', async () => {
    await using sqlite = await started('app.db', 'delete');
    await sqlite.run('close');
    const path = join(folder, 'app.db');
    const held = make();
    await held.hold(walks());
    writeFileSync(path, readFileSync(path));
    await held.settle(walks());
    expect(held.outcomes(0)).toMatchObject([{ locked: false, reason: 'moved' }]);
  });

  test('and what is none of them', async () => {
    await using sqlite = await started('app.db', 'delete');
    linkSync(join(folder, 'app.db'), join(folder, 'other name'));
    writeFileSync(join(folder, 'like.db'), new Uint8Array(4096));
    const locks = make();
    await locks.hold(walks());
    await using late = await started('late.db', 'wal');
    await locks.settle(walks());
    expect(locks.outcomes(0)).toEqual([
      { path: 'app.db', mode: 'rollback', locked: false, reason: 'several-names' },
      { path: 'late.db', mode: 'wal', locked: false, reason: 'new' },
    ]);
    await sqlite.run("INSERT INTO t VALUES ('second')");
    await late.run("INSERT INTO t VALUES ('second')");
  });

  test('are told of where there are no locks', async () => {
    await using sqlite = await started('app.db', 'wal');
    const locks = new DatabaseLocks({ files, locks: undefined, clock: systemClock, waitMs: 0, signal: undefined });
    await locks.hold(walks());
    await sqlite.run("INSERT INTO t VALUES ('second')");
    await locks.settle(walks());
    expect(locks.outcomes(0)).toEqual([{ path: 'app.db', mode: 'wal', locked: false, reason: 'unsupported' }]);
  });
});
