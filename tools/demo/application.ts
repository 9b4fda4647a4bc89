/** The application of the demo: a log that grows, a state file that is replaced, a database. As a program it is that application. */
import { type ChildProcess, execFileSync, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const mebibyte = 1024 * 1024;

async function runApplication(directory: string): Promise<void> {
  const database = new DatabaseSync(join(directory, 'orders.db'), { timeout: 10_000 });
  database.exec('PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, what TEXT)');
  const insert = database.prepare('INSERT INTO orders (what) VALUES (?)');
  const log = fs.openSync(join(directory, 'app.log'), 'a');
  let paused = false;
  let burst = false;
  process.on('message', (message) => {
    paused = message === 'pause';
    burst = message === 'burst';
    if (message === 'pause') process.send?.('paused');
  });
  // The demo is its only reason to live.
  process.on('disconnect', () => process.exit());
  for (let n = 1; ; n++) {
    if (!paused) {
      fs.writeSync(log, `${new Date().toISOString()} handled request ${n} ${randomBytes(24).toString('hex')}\n`);
      insert.run(`order ${n} ${randomBytes(32).toString('base64')}`);
      const state = join(directory, 'state.json');
      fs.writeFileSync(`${state}.new`, JSON.stringify({ requests: n, at: Date.now() }));
      fs.renameSync(`${state}.new`, state);
      if (burst) fs.writeFileSync(join(directory, 'cache', `burst-${n}`), randomBytes(4 * mebibyte));
    }
    await sleep(burst ? 1 : 3);
  }
}

export class Application {
  readonly #child: ChildProcess;

  constructor(directory: string) {
    this.#child = fork(fileURLToPath(import.meta.url), ['--application', directory], { execArgv: ['--no-warnings'] });
  }

  /** Resolves when it has stopped between two requests. */
  async pause(): Promise<void> {
    const paused = new Promise((resolve) => this.#child.once('message', resolve));
    this.#child.send('pause');
    await paused;
  }

  go(how: 'go on' | 'burst'): void {
    this.#child.send(how);
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await gone;
  }
}

/** Files of several kinds, with what only a careful copy keeps. */
export function makeData(directory: string): void {
  fs.mkdirSync(join(directory, 'cache'), { recursive: true });
  fs.mkdirSync(join(directory, 'uploads', 'empty'), { recursive: true });
  const words = 'the quick brown fox jumps over a lazy dog while twelve boxing wizards watch'.split(' ');
  for (let n = 0; n < 400; n++) {
    const random = randomBytes(4096);
    const text = Array.from(random, (byte) => words[byte % words.length]).join(' ');
    fs.writeFileSync(join(directory, 'cache', `page-${n}.txt`), text.repeat(1 + (n % 5)));
  }
  const uploads = join(directory, 'uploads');
  for (let n = 0; n < 8; n++) fs.writeFileSync(join(uploads, `photo-${n}.jpg`), randomBytes(2 * mebibyte));
  const sparse = fs.openSync(join(uploads, 'disk.img'), 'w');
  fs.writeSync(sparse, 'boot sector', 0);
  fs.writeSync(sparse, 'last block', 256 * mebibyte);
  fs.closeSync(sparse);
  fs.linkSync(join(uploads, 'photo-0.jpg'), join(uploads, 'same-photo.jpg'));
  fs.symlinkSync('../cache/page-1.txt', join(uploads, 'link'));
  if (process.platform === 'linux') {
    fs.writeFileSync(Buffer.concat([Buffer.from(`${uploads}/caf`), Uint8Array.of(0xe9)]), 'a name that is not UTF-8');
    execFileSync('mkfifo', ['-m', '620', join(uploads, 'queue')]);
  }
  fs.chmodSync(join(uploads, 'photo-3.jpg'), 0o4750);
  fs.utimesSync(join(uploads, 'photo-4.jpg'), -86_400, -86_400);
}

/** Orders in the database of an application that may be running. */
export function rowsOf(path: string): number {
  // Read-only, and without touching what lies beside it: a copy of the file and its log is opened instead.
  const place = fs.mkdtempSync(join(dirname(dirname(path)), 'rows-'));
  try {
    for (const end of ['', '-wal']) {
      if (fs.existsSync(path + end)) fs.copyFileSync(path + end, join(place, `copy.db${end}`));
    }
    const database = new DatabaseSync(join(place, 'copy.db'));
    try {
      return Number(database.prepare('SELECT count(*) AS n FROM orders').get()?.['n']);
    } finally {
      database.close();
    }
  } finally {
    fs.rmSync(place, { recursive: true });
  }
}

/** Whether SQLite itself finds the database whole. */
export function isWhole(path: string): boolean {
  const database = new DatabaseSync(path);
  try {
    return database.prepare('PRAGMA integrity_check').get()?.['integrity_check'] === 'ok';
  } finally {
    database.close();
  }
}

if (process.argv[2] === '--application') await runApplication(process.argv[3] as string);
