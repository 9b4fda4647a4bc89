/**
 * Another process with a database of SQLite open: runs each line of its input, a JSON list of statements, and answers with a JSON line.
 * Usage: node sqlite-child.ts FILE. See sqlite-process.ts.
 */
import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';

const [file = ''] = process.argv.slice(2);
let database: DatabaseSync | undefined = new DatabaseSync(file);

for await (const line of createInterface({ input: process.stdin })) {
  try {
    let rows: unknown = [];
    for (const statement of JSON.parse(line) as string[]) {
      if (statement === 'close') {
        database?.close();
        database = undefined;
      } else {
        database ??= new DatabaseSync(file);
        rows = database.prepare(statement).all();
      }
    }
    writeSync(1, `${JSON.stringify({ rows })}\n`);
  } catch (error) {
    writeSync(1, `${JSON.stringify({ error: (error as Error).message })}\n`);
  }
}
