/**
 * The whole story on a real directory: an application writes, checkpoints are made while it does, application and checkpoint
 * are killed in the middle, the directory is lost, brought back, and proven equal in ways that do not trust each other.
 * Everything happens in a directory for temporary files, which is gone afterwards. Exit code 0 only if all of it is equal.
 */
import { type ChildProcess, execFileSync, fork, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { styleText } from 'node:util';
import { snapshotTree } from '../test/support/tree-snapshot.ts';

const binary = fileURLToPath(new URL('../bin/holdfast', import.meta.url));
const mebibyte = 1024 * 1024;

/* ---- The application: a log that grows, a state file that is replaced, a database. ---- */

async function runApplication(directory: string): Promise<void> {
  const database = new DatabaseSync(join(directory, 'orders.db'));
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

class Application {
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
function makeData(directory: string): void {
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

/* ---- The story. ---- */

interface CheckpointJson {
  readonly root: string;
  readonly slot: number;
  readonly files: number;
  readonly bytes: number;
  readonly newBytes: number;
  readonly storedBytes: number;
  readonly seconds: number;
  readonly consistency: string;
}

interface Settings {
  readonly place: string;
  readonly env: NodeJS.ProcessEnv;
}

async function tell(): Promise<number> {
  const began = performance.now();
  const place = fs.mkdtempSync(join(tmpdir(), 'holdfast-demo-'));
  const remove = (): void => fs.rmSync(place, { recursive: true, force: true });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      remove();
      process.exit(signal === 'SIGINT' ? 130 : 143);
    });
  }
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`,
    HOLDFAST_STORE: `file:${join(place, 'store')}`,
    HOLDFAST_KEY_FILE: join(place, 'repository.key'),
    HOLDFAST_LINEAGE: 'demo/shop/0',
    HOLDFAST_STATE_DIR: join(place, 'state'),
  };
  const applications: Application[] = [];
  try {
    const failures = await play({ place, env }, applications);
    const seconds = (performance.now() - began) / 1000;
    if (failures.length > 0) {
      say(styled('red', `\nNOT PROVEN: ${failures.join('; ')}`));
      return 1;
    }
    say(
      styled('green', `\nProven: everything that was acknowledged came back, byte for byte. ${seconds.toFixed(1)} s.`),
    );
    return 0;
  } finally {
    for (const application of applications) await application.kill();
    remove();
  }
}

async function play(settings: Settings, applications: Application[]): Promise<string[]> {
  const { place } = settings;
  const data = join(place, 'data');
  const copy = join(place, 'copy');
  const failures: string[] = [];
  const check = (what: string, holds: boolean, detail = ''): void => {
    say(
      `  ${holds ? styled('green', '✓') : styled('red', '✗')} ${what}${detail === '' ? '' : styled('dim', `  ${detail}`)}`,
    );
    if (!holds) failures.push(what);
  };

  say(`Holdfast on ${availableParallelism()} processors, Node ${process.versions.node}, in ${place}`);
  title('An application writes a log, a state file and a database');
  makeData(data);
  const application = new Application(data);
  applications.push(application);
  while (!fs.existsSync(join(data, 'state.json'))) await sleep(10);
  await holdfast(settings, ['init']);
  say('  A repository was made: encrypted, in a directory.');

  title('Checkpoints while it writes');
  for (let n = 0; n < 5; n++) {
    describe(await holdfast(settings, ['checkpoint', data]));
    await sleep(150);
  }

  title('A quiet moment: a plain copy to compare with later, and one more checkpoint');
  await application.pause();
  execFileSync('cp', ['-a', data, copy]);
  const last = await holdfast(settings, ['checkpoint', data]);
  describe(last);
  check('nothing moved while it was made', last.consistency === 'converged');
  const rows = rowsOf(join(copy, 'orders.db'));
  application.go('burst');

  title('A burst of writes, the next checkpoint begins, and both processes are killed');
  await until('the burst is large enough', () => fs.readdirSync(join(data, 'cache')).length > 400 + 24);
  const killed = await killInTheMiddle(settings, data);
  await application.kill();
  check('the checkpoint was killed half-way', killed.signal === 'SIGKILL', `${killed.unfinished} of it in the store`);
  fs.rmSync(data, { recursive: true });
  say('  The directory is gone: rm -rf.');

  title('Brought back');
  const restored = await holdfast(settings, ['restore', '--target', data]);
  say(
    `  Checkpoint ${restored.slot}: ${restored.files} files, ${megabytes(restored.bytes)} ` +
      `in ${restored.seconds.toFixed(2)} s, every byte proven while it was written.`,
  );

  title('Proven');
  check('it is the last checkpoint that was acknowledged', restored.slot === last.slot, `slot ${restored.slot}`);
  check('root of the restore = root of the checkpoint', restored.root === last.root, restored.root.slice(0, 16));
  const again = await holdfast(settings, ['checkpoint', data, '--dry-run']);
  check(
    'root of the directory, computed anew = root of the checkpoint',
    again.root === last.root,
    again.root.slice(0, 16),
  );
  const [expected, got] = [snapshotTree(copy), snapshotTree(data)];
  const differing = expected.filter((line, i) => line !== got[i]).length + Math.abs(got.length - expected.length);
  check('equal to the plain copy: names, content, modes, owners, times, links', differing === 0, `${got.length} names`);
  const database = new DatabaseSync(join(data, 'orders.db'));
  const integrity = database.prepare('PRAGMA integrity_check').get()?.['integrity_check'];
  database.close();
  const found = rowsOf(join(data, 'orders.db'));
  check('the database is whole', integrity === 'ok' && found === rows, `${found} rows`);
  const verified = await holdfastRaw(settings, ['verify', '--read-data']);
  check('verify --read-data finds no damage', verified.code === 0, 'every byte of the store was read');

  title('And it goes on');
  const successor = new Application(data);
  applications.push(successor);
  await until('the application works again', () => rowsOf(join(data, 'orders.db')) > rows);
  const next = await holdfast(settings, ['checkpoint', data]);
  describe(next);
  check('the next checkpoint needed no repair', next.slot > last.slot);
  return failures;
}

/** Starts a checkpoint and kills it when a part of it lies in the store already. */
async function killInTheMiddle(
  settings: Settings,
  data: string,
): Promise<{ readonly signal: NodeJS.Signals | null; readonly unfinished: string }> {
  const child = spawn(binary, ['checkpoint', data], { env: settings.env, stdio: 'ignore' });
  const ended = new Promise<NodeJS.Signals | null>((resolve) => child.once('exit', (_code, signal) => resolve(signal)));
  const temporary = join(settings.place, 'store', 'tmp');
  let bytes = 0;
  await until('a part of the checkpoint is in the store', () => {
    bytes = bytesIn(temporary);
    return bytes > mebibyte || child.exitCode !== null;
  });
  child.kill('SIGKILL');
  return { signal: await ended, unfinished: megabytes(bytes) };
}

function bytesIn(directory: string): number {
  let bytes = 0;
  for (const name of fs.existsSync(directory) ? fs.readdirSync(directory) : []) {
    bytes += fs.statSync(join(directory, name), { throwIfNoEntry: false })?.size ?? 0;
  }
  return bytes;
}

function rowsOf(path: string): number {
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

async function until(what: string, done: () => boolean): Promise<void> {
  for (const end = performance.now() + 60_000; !done(); await sleep(2)) {
    if (performance.now() > end) throw new Error(`${what}: not within a minute`);
  }
}

async function holdfast(settings: Settings, args: readonly string[]): Promise<CheckpointJson> {
  const { code, stdout, stderr } = await holdfastRaw(settings, args);
  if (code !== 0) throw new Error(`holdfast ${args.join(' ')} ended with exit code ${code}:\n${stderr}`);
  return JSON.parse(stdout) as CheckpointJson;
}

async function holdfastRaw(
  { env }: Settings,
  args: readonly string[],
): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }> {
  const child = spawn(binary, [...args, '--output', 'json'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  return { code, stdout, stderr };
}

function describe({ slot, files, bytes, newBytes, storedBytes, seconds, consistency }: CheckpointJson): void {
  say(
    `  Checkpoint ${String(slot).padEnd(3)} ${String(files).padStart(4)} files ${megabytes(bytes).padStart(10)}` +
      `  new ${megabytes(newBytes).padStart(8)}  stored ${megabytes(storedBytes).padStart(8)}` +
      `  ${seconds.toFixed(2)} s  ${consistency}`,
  );
}

function megabytes(bytes: number): string {
  return bytes < 0.1 * mebibyte ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / mebibyte).toFixed(1)} MiB`;
}

function title(text: string): void {
  say(`\n${styled('bold', text)}`);
}

function styled(style: Parameters<typeof styleText>[0], text: string): string {
  return styleText(style, text, { stream: process.stdout });
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

if (process.argv[2] === '--application') await runApplication(process.argv[3] as string);
else process.exitCode = await tell();
