// The application of the scenarios. Its data are the files below /data and, where it is there, /memory.
//
//   application.mjs run             runs until SIGTERM, then takes STOP_MS and writes down that it has stopped
//   application.mjs work SEED MS CODE   writes what the seed says, takes so long, and ends with a code: a job. CODE `retry` is 1
//                                   where there was nothing at the start, else 0
//   application.mjs write SEED [FILES [BYTES]]   writes files whose names and content the seed decides
//   application.mjs digest          what there is
//
// Each prints one line of JSON: `digest` is of names, modes, times and content of all files but those that say who has stopped.
// SIGUSR2 ends the running application as a crash does, SIGHUP lets it take memory until it is killed.

import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

const roots = ['/data', '/memory'].filter((path) => existsSync(path));

function filesBelow(directory) {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    return entry.isDirectory() ? filesBelow(path) : [path];
  });
}

function describe() {
  const hash = createHash('sha256');
  const all = roots.flatMap(filesBelow).sort();
  const files = all.filter((path) => !/^\/\w+\/(stopped\/|lines$)/.test(path));
  for (const path of files) {
    const { mode, mtimeMs, uid } = lstatSync(path);
    hash.update(`${path} ${mode} ${uid} ${mtimeMs}\n`).update(readFileSync(path));
  }
  const stopped = all.flatMap((path) => /\/stopped\/(.*)$/.exec(path)?.slice(1) ?? []);
  const lines = roots.map((root) => join(root, 'lines')).filter((path) => existsSync(path));
  return {
    digest: hash.digest('hex').slice(0, 16),
    files: files.length,
    stopped,
    // Of an application that writes all the time.
    lines: lines.flatMap((path) => readFileSync(path, 'utf8').trimEnd().split('\n')).length,
  };
}

function write(seed, files = 20, bytes = 2000) {
  for (const root of roots) {
    for (let index = 0; index < files; index++) {
      const directory = join(root, seed, String(index % 5));
      mkdirSync(directory, { recursive: true });
      const block = createHash('sha256').update(`${seed} ${root} ${index}`).digest();
      const content = Buffer.alloc(bytes, block);
      writeFileSync(join(directory, `file-${index}`), content, { mode: index % 2 ? 0o600 : 0o644 });
    }
  }
}

function say(event) {
  process.stdout.write(`${JSON.stringify({ event, at: new Date().toISOString(), ...describe() })}\n`);
}

function run() {
  const { STOP_MS: stopMs = '0', LINE_MS: lineMs } = process.env;
  say('started');
  setInterval(() => {}, 1e9);
  if (lineMs !== undefined) {
    let next = 0;
    setInterval(() => appendFileSync(join(roots[0], 'lines'), `${hostname()} ${next++}\n`), Number(lineMs));
  }
  process.on('SIGTERM', () => {
    setTimeout(() => {
      for (const root of roots) {
        mkdirSync(join(root, 'stopped'), { recursive: true });
        writeFileSync(join(root, 'stopped', hostname()), '');
      }
      process.exit(0);
    }, Number(stopMs));
  });
  process.on('SIGUSR2', () => process.exit(1));
  process.on('SIGHUP', () => {
    const taken = [];
    setInterval(() => taken.push(Buffer.alloc(16 << 20, 1)), 10);
  });
  // For the readiness probe. A first process that is told to end before it listens to that would hear nothing.
  writeFileSync('/tmp/ready', '');
}

const [mode, seed, ...numbers] = process.argv.slice(2);
switch (mode) {
  case 'run':
    run();
    break;
  case 'work': {
    const [ms, code] = numbers;
    const isFirst = describe().files === 0;
    say('started');
    write(seed);
    setTimeout(() => {
      say('ended');
      process.exit(code === 'retry' ? Number(isFirst) : Number(code));
    }, Number(ms));
    break;
  }
  case 'write':
    write(seed, ...numbers.map(Number));
    say('written');
    break;
  default:
    say('looked');
}
