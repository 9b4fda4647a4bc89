/**
 * Transactions on a database of SQLite without a rest, for so many seconds: each updates an account and writes a line about it.
 * Usage: node sqlite-load.ts FILE SECONDS. Prints the number of transactions a second.
 */
import { DatabaseSync } from 'node:sqlite';

const [file = '', seconds = '30'] = process.argv.slice(2);
const accounts = 100_000;
const database = new DatabaseSync(file, { timeout: 60_000 });
database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
  CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, filler TEXT);
  CREATE TABLE IF NOT EXISTS history (id INTEGER PRIMARY KEY, account INTEGER, amount INTEGER, note TEXT);`);
if (database.prepare('SELECT count(*) AS n FROM account').get()?.['n'] === 0) {
  database.exec(`WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < ${accounts})
    INSERT INTO account SELECT id, 0, hex(randomblob(80)) FROM n;`);
}
const update = database.prepare('UPDATE account SET balance = balance + ? WHERE id = ?');
const note = database.prepare('INSERT INTO history (account, amount, note) VALUES (?, ?, ?)');
const begunMs = performance.now();
let count = 0;
for (; performance.now() - begunMs < Number(seconds) * 1000; count++) {
  // Everywhere in the table, so that each checkpoint finds much that has changed.
  const account = 1 + ((count * 7919) % accounts);
  database.exec('BEGIN IMMEDIATE');
  update.run(1, account);
  note.run(account, 1, `transaction ${count}`);
  database.exec('COMMIT');
}
process.stdout.write(`${(count / (performance.now() - begunMs)) * 1000}\n`);
