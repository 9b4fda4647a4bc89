/**
 * Hooks for an application with a database of SQLite, in whatever language it is written:
 *
 *     node sqlite.mjs /vol/app.db /run/hooks/hooks.sock
 *
 * It holds the database by SQLite's own lock for writers, from another process: readers go on, and whoever writes waits, as long as its
 * busy timeout allows (`PRAGMA busy_timeout`, 0 by default: set it to more than a checkpoint takes, such as 30000).
 * Run it as the user of the application. Without a hook, `holdfast agent --sqlite-locks` does much the same.
 */
import { existsSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { serveHooks } from './serve-hooks.mjs';

const [path = '', listen = ''] = process.argv.slice(2);
let database;

await serveHooks({
  listen,
  hold() {
    // An application that has not made it yet has nothing to hold.
    if (database !== undefined || !existsSync(path)) return;
    database = new DatabaseSync(path, { timeout: 5000 });
    database.exec('BEGIN IMMEDIATE');
  },
  go() {
    // Closed, too: who has a database open counts as an application that may write.
    database?.close();
    database = undefined;
  },
});
