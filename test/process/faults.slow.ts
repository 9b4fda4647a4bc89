/**
 * Every kind of system call that a checkpoint or a restore makes, failing now and then as a disk, a full disk or a kernel lets it fail,
 * in the real program. Whatever happens: a typed error with its exit code, or a result that is right; and afterwards
 * what was committed restores, and the same command succeeds.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, linkSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { errorCatalogue, type ErrorCode } from '../../src/engine/model/errors.ts';
import { binary, cliEnvironment, type JsonObject, type Ran, Workplace } from '../cli/run-cli.ts';
import { canMount, canTrace, lacking, withMounts } from '../edge/store/child-process.ts';
import { snapshotTree } from '../support/tree-snapshot.ts';

let work: Workplace;

beforeEach(async () => {
  work = new Workplace();
  mkdirSync(work.at('data', 'below', 'deep'), { recursive: true });
  for (let i = 0; i < 30; i++) writeFileSync(work.at('data', `file-${i}`), randomBytes(1000 * i));
  writeFileSync(work.at('data/below/deep/large'), randomBytes(700_000));
  writeFileSync(work.at('data/below/holes'), '');
  execFileSync('truncate', ['--size=3M', work.at('data/below/holes')]);
  symlinkSync('file-1', work.at('data/link'));
  linkSync(work.at('data/file-2'), work.at('data/below/second'));
  execFileSync('mkfifo', [work.at('data/pipe')]);
  await work.json(['init']);
});
afterEach(() => work[Symbol.dispose]());

const traced = (
  call: string,
  error: string,
  when: number,
): Pick<Parameters<Workplace['run']>[1] & object, 'under' | 'env'> => ({
  under: [
    'strace',
    '-f',
    '--seccomp-bpf',
    '-qq',
    '-o',
    '/dev/null',
    '-e',
    `trace=${call}`,
    '-e',
    `inject=${call}:error=${error}:when=${when}`,
  ],
  // Calls are counted by thread.
  env: { UV_THREADPOOL_SIZE: '1', TMPDIR: work.path },
});

/** The error that a failed run must end with: its JSON is the last line, and its exit code is its own. */
function typedError(ran: Ran, what: string): ErrorCode | 'not started' {
  // The system could not even load the shell or Node.
  if (ran.code === 127 && ran.stderr.includes('error while loading shared libraries')) return 'not started';
  // Programs that the shell around it runs may have met the fault too.
  const line = ran.stderr.split('\n').find((each) => each.startsWith('{')) ?? ran.stderr;
  expect(line, `${what}: ended with ${ran.code ?? ran.signal} and no typed error`).toMatch(/^\{"error":/);
  const { error } = JSON.parse(line) as { error: { code: ErrorCode; remedy: string } };
  expect(errorCatalogue[error.code]?.exit, `${what}: ${line}`).toBe(ran.code);
  expect(error.code, `${what}: ${line}`).not.toBe('E_INTERNAL');
  expect(error.remedy.length, what).toBeGreaterThan(10);
  expect(ran.stdout, what).toBe('');
  return error.code;
}

const moments = [1, 4];

const checkpointFaults: readonly (readonly [string, readonly string[]])[] = [
  ['fsync', ['EIO', 'ENOSPC']],
  ['fdatasync', ['EIO']],
  ['link', ['EIO', 'ENOSPC', 'EROFS']],
  ['mkdir', ['ENOSPC', 'EACCES']],
  ['pwrite64', ['ENOSPC', 'EIO', 'EDQUOT']],
  ['unlink', ['EIO', 'EROFS']],
  ['rename', ['EIO', 'ENOSPC']],
  ['getdents64', ['EIO']],
  ['pread64', ['EIO']],
  ['flistxattr', ['EIO', 'EACCES']],
  ['lseek', ['EIO']],
  ['fstatfs', ['EIO']],
];

test.skipIf(lacking(canTrace))('checkpoints: each call fails once', async () => {
  const first = await work.json(['checkpoint', work.at('data')]);
  const firstLines = snapshotTree(work.at('data'));
  const codes = new Map<string, number>();
  for (const [call, errors] of checkpointFaults) {
    for (const error of errors) {
      for (const when of moments) {
        const what = `${call} ${error} at ${when}`;
        // More than fits into a record, so that a pack is written too.
        writeFileSync(work.at('data/changed'), randomBytes(400_000));
        const ran = await work.run(
          ['checkpoint', work.at('data'), '--lanes', '0', '--output', 'json'],
          traced(call, error, when),
        );
        let result = 'done';
        if (ran.code === 0 || ran.code === 3) {
          const made = JSON.parse(ran.stdout) as JsonObject;
          const { root } = await work.json(['checkpoint', work.at('data'), '--dry-run']);
          // What could not be read is missing from it, and said to be.
          if (ran.code === 0) expect(made['root'], what).toBe(root);
          else expect(made, what).toMatchObject({ incomplete: true, skipped: [{ reason: 'unreadable' }] });
          if (ran.code === 3) result = 'incomplete';
        } else result = typedError(ran, what);
        codes.set(result, (codes.get(result) ?? 0) + 1);
        expect(await work.json(['verify']), what).toMatchObject({ sound: true });
      }
    }
    expect(await work.json(['checkpoint', work.at('data')]), `after ${call}`).toMatchObject({ incomplete: false });
  }
  process.stdout.write(`checkpoint faults: ${JSON.stringify([...codes])}\n`);
  expect([...codes.keys()]).toEqual(expect.arrayContaining(['done', 'E_STORE_IO', 'E_STORE_FULL']));
  expect(await work.json(['verify', '--read-data', '--all'])).toMatchObject({ sound: true });
  const back = await work.json(['restore', '--at', String(first['slot']), '--target', work.at('back')]);
  expect(back['root']).toBe(first['root']);
  expect(snapshotTree(work.at('back'))).toEqual(firstLines);
  // No temporary file of a run that failed is left.
  expect(execFileSync('find', [work.at('store', 'tmp'), '-type', 'f'], { encoding: 'utf8' })).toBe('');
});

const restoreFaults: readonly (readonly [string, readonly string[]])[] = [
  ['linkat', ['EIO', 'ENOSPC', 'EDQUOT']],
  ['pwrite64', ['ENOSPC', 'EIO']],
  ['mkdirat', ['ENOSPC', 'EROFS']],
  ['openat2', ['EMFILE', 'EIO']],
  ['symlinkat', ['EROFS', 'ENOSPC']],
  ['mknodat', ['ENOSPC', 'EPERM']],
  ['fchmod', ['EPERM', 'EIO']],
  ['fchown', ['EPERM']],
  ['utimensat', ['EIO', 'EPERM']],
  ['ftruncate', ['EIO', 'ENOSPC']],
  ['fallocate', ['ENOSPC', 'EOPNOTSUPP']],
  ['syncfs', ['EIO']],
  ['fsync', ['EIO']],
  ['rename', ['EIO']],
  ['getdents64', ['EIO']],
  ['pread64', ['EIO']],
];

test.skipIf(lacking(canTrace))('restores: each call fails once', async () => {
  const made = await work.json(['checkpoint', work.at('data')]);
  const lines = snapshotTree(work.at('data'));
  const target = work.at('target');
  const restore = ['restore', '--target', target, '--lanes', '0'];
  const codes = new Map<string, number>();
  for (const [call, errors] of restoreFaults) {
    for (const error of errors) {
      for (const when of moments) {
        const what = `${call} ${error} at ${when}`;
        const ran = await work.run([...restore, '--output', 'json'], traced(call, error, when));
        let result: string = 'done';
        if (ran.code === 0) expect(snapshotTree(target), what).toEqual(lines);
        else if (ran.code === 3) {
          // All is there; what could not be set is reported, with its reason.
          result = 'degraded';
          expect(contents(snapshotTree(target)), what).toEqual(contents(lines));
          const { degraded } = JSON.parse(ran.stdout) as { degraded: { reason: string }[] };
          expect(degraded.length, what).toBeGreaterThan(0);
        } else {
          result = typedError(ran, what);
          const again = await work.run([...restore, '--output', 'json']);
          // When only the note that it is complete could not be made durable, it is complete, and not begun again.
          if (result === 'E_STATE_DIR' && again.code === errorCatalogue.E_TARGET_NOT_EMPTY.exit) result = 'untold';
          else {
            expect(again, `${what}: the same command again`).toMatchObject({ code: 0, stderr: '' });
            expect((JSON.parse(again.stdout) as JsonObject)['root'], what).toBe(made['root']);
          }
          expect(snapshotTree(target), what).toEqual(lines);
        }
        codes.set(result, (codes.get(result) ?? 0) + 1);
        rmSync(target, { recursive: true, force: true });
      }
    }
  }
  process.stdout.write(`restore faults: ${JSON.stringify([...codes])}\n`);
  expect([...codes.keys()]).toEqual(expect.arrayContaining(['done', 'E_TARGET_IO', 'E_TARGET_FULL', 'degraded']));
});

/** Names and content, without metadata. */
function contents(lines: readonly string[]): string[] {
  return lines.map((line) => line.replace(/ \d+ \d+:\d+ @-?\d+( .*)?$/, (_, rest: string | undefined) => rest ?? ''));
}

describe('disks that are too small', () => {
  const inodes = ['nr_inodes=4', 'nr_inodes=8', 'nr_inodes=12', 'nr_inodes=16'];

  test.skipIf(lacking(canMount))('stores: what was committed before restores, and room mends it', async () => {
    let met = 0;
    for (const size of ['size=8k', 'size=100k', 'size=500k', 'size=1m', ...inodes]) {
      const store = work.at('small');
      rmSync(store, { recursive: true, force: true });
      mkdirSync(store);
      const key = work.at(`key-${size}`);
      const script = `set +e
        export HOLDFAST_STORE="file:$store" HOLDFAST_KEY_FILE='${key}' HOLDFAST_STATE_DIR='${work.at(`state-${size}`)}' HOLDFAST_OUTPUT=json
        cd '${work.path}'; exec > '${work.at('log')}' 2>&1
        holdfast='${binary}'
        "$holdfast" init; echo "init $?"
        mkdir -p some; echo one > some/one
        "$holdfast" checkpoint some; echo "first $?"
        "$holdfast" checkpoint data; echo "second $?"
        "$holdfast" verify; echo "verify $?"
        mount -o remount,size=64m,nr_inodes=10000 "$store"
        "$holdfast" init; "$holdfast" checkpoint data; echo "mended $?"
        "$holdfast" verify --read-data --all; echo "whole $?"`;
      const [command = '', ...args] = withMounts(
        store,
        `mount -t tmpfs -o ${size.includes('inodes') ? `size=64m,${size}` : size} tmpfs "$store"; ${script}`,
      );
      execFileSync(command, [...args, 'true'], { env: cliEnvironment(work.env) });
      const log = readFileSync(work.at('log'), 'utf8');
      const ended = Object.fromEntries(
        [...log.matchAll(/^(\w+) (\d+)$/gm)].map(([, step, code]) => [step, Number(code)]),
      );
      expect(ended, `${size}\n${log}`).toMatchObject({ mended: 0, whole: 0 });
      const full = errorCatalogue.E_STORE_FULL.exit;
      for (const step of ['init', 'first', 'second']) {
        // A store in which nothing could be begun holds no repository.
        expect([0, full, errorCatalogue.E_REPOSITORY_MISSING.exit], `${size}, ${step}\n${log}`).toContain(ended[step]);
      }
      if (log.includes('E_STORE_FULL')) met++;
      expect(log, size).not.toContain('E_INTERNAL');
    }
    expect(met, 'sizes at which something met the limit').toBeGreaterThan(4);
  });

  test.skipIf(lacking(canMount))('targets: the same command goes on when there is room', async () => {
    await work.json(['checkpoint', work.at('data')]);
    const lines = snapshotTree(work.at('data'));
    const disk = work.at('small');
    mkdirSync(disk);
    for (const size of ['size=8k', 'size=200k', 'size=800k', 'size=1m', ...inodes]) {
      const script = `set +e
        export HOLDFAST_OUTPUT=json; exec > '${work.at('log')}' 2>&1
        '${binary}' restore --target "$store/in"; echo "first $?"
        mount -o remount,size=64m,nr_inodes=10000 "$store"
        '${binary}' restore --target "$store/in"; echo "second $?"
        cp -a "$store/in" '${work.at('copy')}'`;
      const [command = '', ...args] = withMounts(
        disk,
        `mount -t tmpfs -o ${size.includes('inodes') ? `size=64m,${size}` : size} tmpfs "$store"; ${script}`,
      );
      rmSync(work.at('copy'), { recursive: true, force: true });
      execFileSync(command, [...args, 'true'], { env: cliEnvironment(work.env) });
      const log = readFileSync(work.at('log'), 'utf8');
      expect(log, size).toMatch(/^first 22$/m);
      expect(log, size).toContain('E_TARGET_FULL');
      expect(log, size).toMatch(/^second 0$/m);
      expect(existsSync(work.at('copy')), size).toBe(true);
      expect(snapshotTree(work.at('copy')), size).toEqual(lines);
    }
  });
});
