/** A bank whose total never changes: a copy of the database that shows another total has torn a transaction. */
import { DatabaseSync } from 'node:sqlite';

const accounts = 50;
const each = 1000;

export interface Bank extends Disposable {
  /** Moves money between accounts and writes a line about it, in one transaction. */
  transfer(round: number): void;
  /** Many transfers as one transaction, which waits, with most of it in the WAL already, before it commits. Answers how many. */
  longTransfer(round: number, wait: () => Promise<void>): Promise<number>;
}

/** Opens or makes it, in WAL mode. */
export function openBank(path: string, options: { readonly checkpointPages?: number } = {}): Bank {
  // Others may hold the database for as long as a checkpoint takes.
  const database = new DatabaseSync(path, { timeout: 60_000 });
  database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
    PRAGMA wal_autocheckpoint = ${options.checkpointPages ?? 100};
    CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS transfer (id INTEGER PRIMARY KEY, amount INTEGER, note TEXT);`);
  const add = database.prepare('INSERT OR IGNORE INTO account VALUES (?, ?)');
  database.exec('BEGIN');
  for (let id = 0; id < accounts; id++) add.run(id, each);
  database.exec('COMMIT');
  // So that a long transaction does not stay in memory until it commits.
  database.exec('PRAGMA cache_size = 10; PRAGMA cache_spill = 1;');
  const move = database.prepare('UPDATE account SET balance = balance + ? WHERE id = ?');
  const note = database.prepare('INSERT INTO transfer (amount, note) VALUES (?, ?)');
  return {
    transfer(round) {
      const amount = 1 + (round % 17);
      database.exec('BEGIN IMMEDIATE');
      move.run(-amount, round % accounts);
      move.run(amount, (round * 7 + 1) % accounts);
      note.run(amount, `transfer ${round} ${'.'.repeat(round % 200)}`);
      database.exec('COMMIT');
    },
    async longTransfer(round, wait) {
      const count = 400;
      database.exec('BEGIN IMMEDIATE');
      move.run(-count, round % accounts);
      for (let i = 0; i < count; i++) note.run(1, `part ${i} of ${round} ${'-'.repeat(200)}`);
      await wait();
      move.run(count, (round * 7 + 1) % accounts);
      database.exec('COMMIT');
      return count;
    },
    [Symbol.dispose]: () => database.close(),
  };
}

export interface Audit {
  /** What SQLite's integrity_check says: `ok`. */
  readonly integrity: string;
  readonly total: number;
  readonly transfers: number;
  /** Notes written minus rows counted by id: 0 unless one is missing in the middle. */
  readonly missing: number;
}

export const bankTotal: number = accounts * each;

/** Opens a copy, as an application would after a crash, and looks. */
export function auditBank(path: string): Audit {
  const database = new DatabaseSync(path);
  try {
    const integrity = String(database.prepare('PRAGMA integrity_check').get()?.['integrity_check']);
    const total = Number(database.prepare('SELECT sum(balance) AS total FROM account').get()?.['total']);
    const counts = database.prepare('SELECT count(*) AS rows, coalesce(max(id), 0) AS last FROM transfer').get();
    const transfers = Number(counts?.['rows']);
    return { integrity, total, transfers, missing: Number(counts?.['last']) - transfers };
  } finally {
    database.close();
  }
}
