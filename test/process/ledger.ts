/**
 * A database of which every state can be told from every mixture of two: step after step goes round its pages, and each page
 * says which step was there last.
 */
import { DatabaseSync } from 'node:sqlite';

const pages = 1500;
const stride = 7919;

export type LedgerMode = 'wal' | 'delete' | 'persist';

export interface Ledger extends Disposable {
  /** One transaction: step number `step` writes its page and the head. */
  step(step: number): void;
}

/** Makes it, some 6 MB. */
export function makeLedger(path: string, mode: LedgerMode): Ledger {
  const database = new DatabaseSync(path, { timeout: 60_000 });
  database.exec(`PRAGMA journal_mode = ${mode}; PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 300;
    CREATE TABLE head (step INTEGER); INSERT INTO head VALUES (0);
    CREATE TABLE page (id INTEGER PRIMARY KEY, step INTEGER, filler BLOB);
    WITH RECURSIVE n(id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM n WHERE id < ${pages - 1})
    INSERT INTO page SELECT id, 0, randomblob(3900) FROM n;`);
  const write = database.prepare('UPDATE page SET step = ? WHERE id = ?');
  const head = database.prepare('UPDATE head SET step = ?');
  return {
    step(step) {
      database.exec('BEGIN IMMEDIATE');
      write.run(step, (step * stride) % pages);
      head.run(step);
      database.exec('COMMIT');
    },
    [Symbol.dispose]: () => database.close(),
  };
}

export interface LedgerAudit {
  /** What SQLite's integrity_check says: `ok`, or what it failed with. */
  readonly integrity: string;
  readonly steps: number;
  /** Pages that show another step than that state had. */
  readonly wrong: number;
}

/** Opens a copy, as an application would after a crash, and looks. */
export function auditLedger(path: string): LedgerAudit {
  const database = new DatabaseSync(path);
  try {
    const integrity = String(database.prepare('PRAGMA integrity_check').get()?.['integrity_check']);
    const steps = Number(database.prepare('SELECT step FROM head').get()?.['step']);
    const expected = new Map<number, number>();
    for (let step = Math.max(1, steps - pages + 1); step <= steps; step++) expected.set((step * stride) % pages, step);
    const rows = database.prepare('SELECT id, step FROM page').all();
    const wrong = rows.filter(({ id, step }) => Number(step) !== (expected.get(Number(id)) ?? 0)).length;
    return { integrity, steps, wrong: wrong + pages - rows.length };
  } catch (error) {
    return { integrity: (error as Error).message, steps: -1, wrong: pages };
  } finally {
    database.close();
  }
}
