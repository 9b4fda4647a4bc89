import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { chmodSync, closeSync, futimesSync, openSync, symlinkSync, utimesSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { gzipSync } from 'node:zlib';
import { BinaryModel, randomBytes } from './binary-model.ts';
import { Random } from './random.ts';
import { type PackageStyle, TextModel } from './text-model.ts';

/**
 * The data sets of the benchmark, made from a seed.
 *
 * | set | what | files | bytes | `tar | zstd -1` |
 * |---|---|---|---|---|
 * | a | mixed: packages, logs, JSON, SQLite, gzip, random, executables | 39,111 | 2.1 GB | 920 MB |
 * | b | source files | 100,000 | 550 MB | 152 MB |
 * | c | small records, 1000 in each directory | 1,000,000 | 229 MB | 102 MB |
 * | sqlite | one database | 1 | 242 MB | |
 *
 * Equal seed, version and runtime give equal bytes, names, modes and times. Times of modification advance by microseconds
 * from file to file, as they do in a tree that was unpacked, so that metadata is as dear to store as it is in life.
 */
export type SetName = 'a' | 'b' | 'c' | 'sqlite';

/** Raised whenever the generator's output changes, so that no cached set of an older generator is used. */
const generatorVersion = 1;

/** One file that an edit may touch: not huge, chosen evenly from the whole set. */
const editableBytesMax = 1_000_000;
const editableCount = 400;

export interface DataSet {
  readonly name: SetName;
  readonly title: string;
  readonly path: string;
  readonly files: number;
  readonly bytes: number;
  /** Relative paths of the files that edits choose from. */
  readonly editable: readonly string[];
  readonly seconds: number;
}

const titles: Readonly<Record<SetName, string>> = {
  a: 'mixed',
  b: 'source files',
  c: 'small files',
  sqlite: 'SQLite database',
};

/**
 * Finds the set in the cache or makes it there.
 * @param cacheDir outside the checkout
 * @param scale 1 for the real sets, less for a smoke run; part of the cached name
 */
export function ensureDataSet(
  name: SetName,
  { cacheDir, seed, scale, say }: { cacheDir: string; seed: number; scale: number; say: (line: string) => void },
): DataSet {
  const parent = join(cacheDir, 'sets');
  const label = `${name}-v${generatorVersion}-seed${seed}${scale === 1 ? '' : `-x${scale}`}`;
  const path = join(parent, label);
  const stampPath = `${path}.json`;
  if (existsSync(stampPath)) return { ...JSON.parse(readFileSync(stampPath, 'utf8')), path };
  mkdirSync(parent, { recursive: true });
  say(`making data set ${name} (${titles[name]}) …`);
  const partial = `${path}.partial-${process.pid}`;
  rmSync(path, { recursive: true, force: true });
  const start = performance.now();
  const writer = new SetWriter(partial, new Random(seed, 0xed17));
  const text = new TextModel(seed);
  if (name === 'a') makeMixed(writer, text, seed, scale);
  else if (name === 'b') makeSource(writer, text, seed, scale);
  else if (name === 'c') makeSmallFiles(writer, text, seed, scale);
  else makeDatabase(writer, text, seed, scale);
  writer.finish();
  renameSync(partial, path);
  const seconds = (performance.now() - start) / 1000;
  const { files, bytes, editable } = writer;
  const stamp: Omit<DataSet, 'path'> = { name, title: titles[name], files, bytes, editable, seconds };
  writeFileSync(stampPath, `${JSON.stringify(stamp)}\n`);
  say(`made ${path}: ${files} files, ${(bytes / 1e6).toFixed(0)} MB in ${seconds.toFixed(1)} s`);
  return { ...stamp, path };
}

/** Writes files with times that advance, counts them, and samples the ones that edits may touch. */
class SetWriter {
  files = 0;
  bytes = 0;
  readonly editable: string[] = [];
  readonly root: string;
  readonly #random: Random;
  readonly #directories: string[] = [];
  /** Seconds since 1970; a double holds about 0.2 microseconds of it, which is the grain of these times. */
  #clock = 1_771_000_000;
  #candidates = 0;

  constructor(root: string, random: Random) {
    this.root = root;
    this.#random = random;
    mkdirSync(root, { recursive: true });
    this.#directories.push(root);
  }

  directory(path: string): void {
    const absolute = join(this.root, path);
    mkdirSync(absolute, { mode: 0o755 });
    this.#directories.push(absolute);
  }

  file(path: string, content: Uint8Array, mode = 0o644): void {
    const descriptor = openSync(`${this.root}/${path}`, 'wx', mode);
    for (let offset = 0; offset < content.length; ) {
      offset += writeSync(descriptor, content, offset);
    }
    const time = this.#tick();
    futimesSync(descriptor, time, time);
    closeSync(descriptor);
    this.#count(path, content.length);
  }

  symlink(path: string, target: string): void {
    symlinkSync(target, join(this.root, path));
  }

  /** Counts a file that something else wrote, and gives it a time. */
  adopt(path: string, bytes: number): void {
    const absolute = join(this.root, path);
    chmodSync(absolute, 0o644);
    const time = this.#tick();
    utimesSync(absolute, time, time);
    this.files += 1;
    this.bytes += bytes;
  }

  finish(): void {
    for (const directory of this.#directories.reverse()) {
      const time = this.#tick();
      utimesSync(directory, time, time);
    }
  }

  #tick(): number {
    this.#clock += this.#random.below(240) / 1e6;
    return this.#clock;
  }

  #count(path: string, bytes: number): void {
    this.files += 1;
    this.bytes += bytes;
    if (bytes > editableBytesMax) return;
    this.#candidates += 1;
    if (this.editable.length < editableCount) this.editable.push(path);
    else {
      const slot = this.#random.below(this.#candidates);
      if (slot < editableCount) this.editable[slot] = path;
    }
  }
}

/** Hands out the names of a set: pronounceable, unique within `taken`. */
function freshName(text: TextModel, random: Random, taken: Set<string>): string {
  for (;;) {
    const base = text.words.text(random.below(text.words.count));
    const name = random.chance(0.5) ? base : `${base}-${text.words.text(random.below(text.words.count))}`;
    if (taken.has(name)) continue;
    taken.add(name);
    return name;
  }
}

interface PlannedPackage {
  readonly id: number;
  readonly name: string;
}

/** Writes one package of a node_modules tree. The same `id` gives the same bytes wherever it stands. */
function writePackage(
  writer: SetWriter,
  text: TextModel,
  seed: number,
  parent: string,
  { id, name }: PlannedPackage,
): void {
  const random = new Random(seed, id, 0xac6e);
  const style = text.packageStyle(seed, id);
  const base = `${parent}/${name}`;
  writer.directory(base);
  writer.file(`${base}/package.json`, text.json(random, style, random.logUniform(500, 2500)));
  writer.file(`${base}/README.md`, text.prose(random, style, random.logUniform(600, 12_000)));
  writer.file(`${base}/LICENSE`, style.licence);
  writer.directory(`${base}/dist`);
  const taken = new Set<string>();
  const count = random.logNormal(22, 0.85);
  let directory = `${base}/dist`;
  for (let index = 0; index < count; index += 1) {
    if (index > 0 && index % 14 === 0) {
      directory = `${base}/dist/${freshName(text, random, taken)}`;
      writer.directory(directory);
    }
    const file = `${directory}/${freshName(text, random, taken)}`;
    const extension = random.pick(['.js', '.js', '.js', '.d.ts', '.mjs']);
    const size = random.logNormal(extension === '.d.ts' ? 1400 : 4200, 1.3);
    writer.file(file + extension, text.source(random, style, size), random.chance(0.03) ? 0o755 : 0o644);
  }
}

function makeMixed(writer: SetWriter, text: TextModel, seed: number, scale: number): void {
  const random = new Random(seed, 0xa);
  const taken = new Set<string>();
  const packageCount = Math.max(4, Math.round(980 * scale));

  writer.directory('node_modules');
  writer.directory('node_modules/.bin');
  for (let id = 0; id < packageCount; id += 1) {
    const name = freshName(text, random, taken);
    writePackage(writer, text, seed, 'node_modules', { id, name });
    if (random.chance(0.2)) writer.symlink(`node_modules/.bin/${name}`, `../${name}/dist/cli.js`);
    // Some packages bring a copy of another one along, as npm does for versions that do not agree.
    if (random.chance(0.16)) {
      writer.directory(`node_modules/${name}/node_modules`);
      writePackage(writer, text, seed, `node_modules/${name}/node_modules`, {
        id: random.below(id + 1),
        name: freshName(text, random, taken),
      });
    }
  }

  const style = text.packageStyle(seed, 0x10_0001);
  /** Writes files with sizes around `typical` until `total` bytes are there. */
  const fill = (
    directory: string,
    total: number,
    typical: number,
    extension: string,
    content: (size: number, index: number) => Uint8Array,
    mode = 0o644,
  ): void => {
    writer.directory(directory);
    let left = Math.round(total * scale);
    const sizeMax = Math.max(1000, Math.round(typical * Math.min(1, scale * 4)));
    for (let index = 0; left > 0; index += 1) {
      const size = Math.min(left, random.logUniform(Math.ceil(sizeMax / 10), sizeMax * 2));
      left -= size;
      writer.file(`${directory}/${freshName(text, random, taken)}${extension}`, content(size, index), mode);
    }
  };
  fill('logs', 560e6, 12e6, '.log', (size, index) => text.log(random, style, size, index * 900));
  fill('json', 290e6, 2e6, '.json', (size) => text.json(random, style, size));
  fill('archive', 190e6, 3e6, '.csv.gz', (size) => gzipSync(text.csv(random, Math.ceil(size * 2.1)), { level: 1 }));
  fill('random', 175e6, 4e6, '.bin', (size) => randomBytes(random, size));
  const binaries = new BinaryModel(text, new Random(seed, 0xe1f));
  fill('lib', 320e6, 2e6, '.so', (size) => binaries.executable(random, size), 0o755);

  writer.directory('db');
  for (const [index, bytes] of [116e6, 84e6, 42e6, 20e6, 10e6].entries()) {
    writeDatabase(writer, text, `db/store-${index}.sqlite`, new Random(seed, 0xdb, index), bytes * scale);
  }
}

function makeSource(writer: SetWriter, text: TextModel, seed: number, scale: number): void {
  const filesWanted = Math.round(100_000 * scale);
  const random = new Random(seed, 0xb);
  const names = new Set<string>();
  writer.directory('packages');
  for (let id = 0; writer.files < filesWanted; id += 1) {
    const style = text.packageStyle(seed, 0x20_0000 + id);
    const base = `packages/${freshName(text, random, names)}`;
    writer.directory(base);
    writer.directory(`${base}/src`);
    const taken = new Set<string>();
    let directory = `${base}/src`;
    const count = Math.min(filesWanted - writer.files, random.logNormal(32, 0.7));
    for (let index = 0; index < count; index += 1) {
      if (index > 0 && index % 20 === 0) {
        directory = `${base}/src/${freshName(text, random, taken)}`;
        writer.directory(directory);
      }
      writer.file(
        `${directory}/${freshName(text, random, taken)}.ts`,
        text.source(random, style, random.logNormal(1688, 1.58)),
      );
    }
  }
}

function makeSmallFiles(writer: SetWriter, text: TextModel, seed: number, scale: number): void {
  const filesWanted = Math.round(1_000_000 * scale);
  const perDirectory = Math.max(10, Math.round(1000 * Math.sqrt(scale)));
  const random = new Random(seed, 0xc);
  let style: PackageStyle = text.packageStyle(seed, 0x30_0000);
  let directory = '';
  for (let index = 0; index < filesWanted; index += 1) {
    if (index % perDirectory === 0) {
      const number = index / perDirectory;
      directory = `shard-${number.toString().padStart(4, '0')}`;
      writer.directory(directory);
      style = text.packageStyle(seed, 0x30_0000 + number);
    }
    const id = hexKey(random) + hexKey(random);
    writer.file(`${directory}/${id}.json`, text.record(random, style, random.logUniform(110, 412)));
  }
}

function makeDatabase(writer: SetWriter, text: TextModel, seed: number, scale: number): void {
  writeDatabase(writer, text, databaseName, new Random(seed, 0x5d), 242e6 * scale);
}

/** The file of the set `sqlite`. */
export const databaseName = 'data.sqlite';

/**
 * Makes a database of about `bytes`: messages with an index over sixty tenants, so that rows appended later touch
 * scattered index pages.
 */
function writeDatabase(writer: SetWriter, text: TextModel, path: string, random: Random, bytes: number): void {
  const absolute = join(writer.root, path);
  const style = text.packageStyle(random.word(), 1);
  const database = new DatabaseSync(absolute);
  database.exec('PRAGMA page_size = 4096; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;');
  database.exec(
    'CREATE TABLE message (id INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, sent INTEGER NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL);' +
      'CREATE INDEX message_tenant ON message (tenant);',
  );
  const insert = database.prepare('INSERT INTO message (tenant, sent, key, body) VALUES (?, ?, ?, ?)');
  // Measured: a row of this shape takes about 1.06 times its body and 44 bytes, index included.
  const rows = Math.max(10, Math.round(bytes / databaseRowBytes));
  database.exec('BEGIN');
  for (let row = 0; row < rows; row += 1) {
    insert.run(random.below(tenantCount), 1_771_000_000 + row, hexKey(random), databaseBody(random, text, style));
  }
  database.exec('COMMIT');
  const size = database.prepare('SELECT page_count * page_size AS size FROM pragma_page_count, pragma_page_size').get();
  database.close();
  writer.adopt(path, Number(size?.['size'] ?? 0));
}

const tenantCount = 60;
const databaseRowBytes = 363;

function hexKey(random: Random): string {
  return random.word().toString(16).padStart(8, '0') + random.word().toString(16).padStart(8, '0');
}

function databaseBody(random: Random, text: TextModel, style: PackageStyle): string {
  return Buffer.from(text.prose(random, style, random.logUniform(120, 600))).toString('latin1');
}

/**
 * The edits to the database: 200 rows rewritten in place and 1000 added, in one transaction, by SQLite itself.
 * @param path the database file; no journal is left beside it
 */
export function editDatabase(path: string, seed: number): void {
  const random = new Random(seed, 0x5ed);
  const text = new TextModel(seed);
  const style = text.packageStyle(seed, 2);
  const database = new DatabaseSync(path);
  database.exec('PRAGMA journal_mode = MEMORY;');
  const rows = Number(database.prepare('SELECT max(id) AS id FROM message').get()?.['id'] ?? 0);
  database.exec('BEGIN');
  const update = database.prepare('UPDATE message SET key = ?, sent = sent + 1 WHERE id = ?');
  for (let count = 0; count < 200; count += 1) update.run(hexKey(random), 1 + random.below(rows));
  const insert = database.prepare('INSERT INTO message (tenant, sent, key, body) VALUES (?, ?, ?, ?)');
  for (let count = 0; count < 1000; count += 1) {
    insert.run(random.below(tenantCount), 1_772_000_000 + count, hexKey(random), databaseBody(random, text, style));
  }
  database.exec('COMMIT');
  database.close();
}
