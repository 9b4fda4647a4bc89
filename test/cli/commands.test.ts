import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { stripVTControlCharacters } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { snapshotTree } from '../support/tree-snapshot.ts';
import { binary, type JsonObject, Workplace } from './run-cli.ts';

const hex64 = /^[0-9a-f]{64}$/;

/** The same every time, and nothing that compresses or repeats. */
function noise(bytes: number): Uint8Array {
  let state = 1;
  return new Uint8Array(bytes).map(() => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    return state >>> 24;
  });
}

function fill(directory: string): void {
  fs.mkdirSync(`${directory}/sub/empty`, { recursive: true });
  fs.writeFileSync(`${directory}/small`, 'hello');
  fs.writeFileSync(`${directory}/sub/large`, noise(3_000_000));
  fs.linkSync(`${directory}/small`, `${directory}/sub/linked`);
  fs.symlinkSync('../small', `${directory}/sub/link`);
  fs.chmodSync(`${directory}/sub/large`, 0o4750);
  fs.utimesSync(`${directory}/sub`, 1000.5, -1000.25);
}

/** Scripts that look at one volume find there what they find of the whole set. */
function saysTheSameOfEachVolume(json: JsonObject): void {
  const { volumes, ...set } = json;
  for (const volume of Object.values<JsonObject>(volumes)) {
    for (const field of ['slot', 'id', 'storedBytes', 'requests', 'seconds', 'consistency']) {
      expect(volume[field], field).toEqual(set[field]);
    }
    for (const field of ['root', 'files', 'bytes', 'newBytes', 'skipped', 'incomplete']) {
      expect(typeof volume[field], field).toBe(typeof set[field]);
    }
  }
}

describe('the command line', () => {
  let work: Workplace;

  beforeAll(async () => {
    work = new Workplace();
    fill(work.at('data'));
    expect(await work.run(['init'])).toMatchObject({ code: 0, stderr: '' });
  });
  afterAll(() => work[Symbol.dispose]());

  it('shows a person at a terminal how far it is, also a first time, and how much is left', async () => {
    const some = new Workplace();
    try {
      fs.mkdirSync(some.at('data'));
      for (let n = 0; n < 30; n++) fs.writeFileSync(some.at('data', String(n)), randomBytes(500_000).toString('hex'));
      expect(await some.run(['init'])).toMatchObject({ code: 0 });
      // In a terminal of its own; slow enough that the line is drawn more than once.
      const command = `${binary} checkpoint data --level 12`;
      const { code, stdout } = await some.run([], {
        command: ['script', '-qec', `stty cols 80; ${command}`, '/dev/null'],
      });
      expect(code, stdout).toBe(0);
      const lines = stdout.split('\r').map((line) => stripVTControlCharacters(line));
      expect(
        lines.some((line) =>
          /reading {2}█+░* \d+ % {2}\d+ files {2}[\d.]+ MiB {2}[\d.]+ MiB\/s(?: {2}[\d.]+ s left)?$/.test(line),
        ),
        stdout,
      ).toBe(true);
      expect(stdout).toContain('\r\x1b[2K\x1b[1mCheckpoint 2');
    } finally {
      some[Symbol.dispose]();
    }
  });

  it('init makes a key that only its owner may read, and refuses to make the repository again', async () => {
    expect(fs.statSync(work.at('key')).mode & 0o777).toBe(0o600);
    const key = fs.readFileSync(work.at('key'), 'utf8');
    expect(await work.error(['init'])).toMatchObject({ code: 'E_REPOSITORY_EXISTS', exit: 9 });
    expect(fs.readFileSync(work.at('key'), 'utf8')).toBe(key);
  });

  let first: JsonObject;

  it('checkpoint stores a directory and says what is asked of its JSON', async () => {
    first = await work.json(['checkpoint', work.at('data'), '--label', 'why=first']);
    expect(first).toMatchObject({
      slot: 2,
      files: 3,
      bytes: 3_000_005,
      newBytes: 3_000_005,
      consistency: 'converged',
      skipped: [],
      incomplete: false,
      lineage: 'team/app/0',
      volumes: { data: { files: 3, bytes: 3_000_005, newBytes: 3_000_005, skipped: [], incomplete: false } },
    });
    expect(first['root']).toMatch(hex64);
    expect(first['id']).toMatch(hex64);
    expect(first['volumes']['data']['root']).toMatch(hex64);
    expect(first['storedBytes']).toBeGreaterThan(1000);
    expect(first['seconds']).toBeGreaterThan(0);
    expect(first['requests']).toMatchObject({ upload: 1 });
    expect(first['requests']['create']).toBeGreaterThanOrEqual(2);
    for (const name of ['compressor', 'fileTree', 'passes', 'lanes']) expect(first).toHaveProperty(name);
    saysTheSameOfEachVolume(first);
  });

  it('a dry run gives the same root, writes nothing to the store, and needs no claim', async () => {
    const before = snapshotTree(work.at('store'));
    const dry = await work.json(['checkpoint', work.at('data'), '--dry-run']);
    expect(dry).toMatchObject({ root: first['root'], slot: null, id: null, dryRun: true });
    // Another holder, while this one holds the lineage.
    const other = await work.json(['checkpoint', work.at('data'), '--dry-run', '--state-dir', work.at('other')]);
    expect(other['root']).toBe(first['root']);
    expect(snapshotTree(work.at('store'))).toEqual(before);
  });

  it('what was asked to be held or stated is answered, also where there is nothing to hold', async () => {
    const asked = ['checkpoint', work.at('data'), '--dry-run', '--sqlite-locks', '--quiesced'];
    const { stdout } = await work.run(asked);
    expect(stdout).toContain('  sqlite  no database found\n');
    expect(await work.json(asked)).toMatchObject({ consistency: 'quiesced', refuted: [], databases: [] });
  });

  it('restore makes a missing target, equal in root and by a comparison that shares no code', async () => {
    const restored = await work.json(['restore', '--target', work.at('back')]);
    expect(restored).toMatchObject({ root: first['root'], slot: 2, files: 3, incomplete: false, verified: true });
    expect(restored).not.toHaveProperty('rootGot');
    saysTheSameOfEachVolume(restored);
    expect(snapshotTree(work.at('back'))).toEqual(snapshotTree(work.at('data')));
    const dry = await work.json(['checkpoint', work.at('back'), '--dry-run']);
    expect(dry['root']).toBe(first['root']);
  });

  it('the checkpoint after a restore reads no content again', async () => {
    const next = await work.json(['checkpoint', work.at('back')]);
    expect(next).toMatchObject({ root: first['root'], newBytes: 0, volumes: { data: { scan: 'cached' } } });
  });

  it('restore refuses a target that is not empty, keeps or replaces on request', async () => {
    fs.cpSync(work.at('back'), work.at('mixed'), { recursive: true });
    fs.writeFileSync(work.at('mixed/small'), 'mine');
    fs.writeFileSync(work.at('mixed/extra'), 'mine');
    const before = snapshotTree(work.at('mixed'));
    expect(await work.error(['restore', '--target', work.at('mixed')])).toMatchObject({ code: 'E_TARGET_NOT_EMPTY' });
    expect(snapshotTree(work.at('mixed'))).toEqual(before);

    const kept = await work.json(['restore', '--target', work.at('mixed'), '--on-existing', 'keep']);
    expect(kept['verified']).toBe(false);
    expect(fs.readFileSync(work.at('mixed/small'), 'utf8')).toBe('mine');

    const replaced = await work.json(['restore', '--target', work.at('mixed'), '--on-existing', 'replace']);
    expect(replaced).toMatchObject({ verified: true, volumes: { data: { removed: { names: ['extra'] } } } });
    expect(snapshotTree(work.at('mixed'))).toEqual(snapshotTree(work.at('data')));
  });

  it('restores only what is named, and what comes first before the rest', async () => {
    const only = await work.json(['restore', '--target', work.at('part'), '--only', 'sub/large']);
    expect(only).toMatchObject({ files: 1, verified: false });
    const told = await work.run(['restore', '--target', work.at('told'), '--only', 'sub/large']);
    expect(told.stdout).toMatch(/ {2}root {4}[0-9a-f]{64}, not compared as a whole\n$/);
    expect(fs.readdirSync(work.at('part'))).toEqual(['sub']);

    const ran = await work.run(['restore', '--target', work.at('ordered'), '--first', 'small']);
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    const [line = ''] = ran.stdout.split('\n');
    expect(line).toMatch(/^First of data: 1 file, 5 B are complete after /);
    expect(ran.stdout).toMatch(/, equal\n/);
  });

  it('several volumes are one set: one root, restored each into its directory', async () => {
    fs.cpSync(work.at('data/sub'), work.at('logs'), { recursive: true, preserveTimestamps: true });
    const set = ['checkpoint', `data=${work.at('data')}`, `logs=${work.at('logs')}`, '--lineage', 'team/set/0'];
    const made = await work.json(set);
    expect(Object.keys(made['volumes'])).toEqual(['data', 'logs']);
    const lineage = ['--lineage', 'team/set/0'];
    const both = await work.json(['restore', '--target', work.at('both'), ...lineage]);
    expect(both).toMatchObject({ root: made['root'], verified: true });
    expect(snapshotTree(work.at('both/logs'))).toEqual(snapshotTree(work.at('logs')));
    const dirs = [`data=${work.at('both/data')}`, `logs=${work.at('both/logs')}`];
    // Ended between the two volumes: the first is complete, the second is restored.
    fs.rmSync(work.at('both/logs'), { recursive: true });
    const rest = await work.json(['restore', '--target', work.at('both'), ...lineage]);
    expect(rest).toMatchObject({
      root: made['root'],
      verified: true,
      volumes: { data: { existing: 'complete' }, logs: { existing: 'fresh' } },
    });
    const text = await work.run(['restore', '--target', work.at('both'), ...lineage]);
    expect(text.stdout).toMatch(/^Already restored: checkpoint 2 of /);
    expect((await work.json(['checkpoint', ...dirs, '--dry-run', ...lineage]))['root']).toBe(made['root']);

    const one = await work.json(['restore', '--volume', 'logs', '--target', work.at('one'), ...lineage]);
    expect(Object.keys(one['volumes'])).toEqual(['logs']);
    expect(snapshotTree(work.at('one'))).toEqual(snapshotTree(work.at('logs')));
    const named = ['--target', `logs=${work.at('named')}`];
    expect(Object.keys((await work.json(['restore', ...named, ...lineage]))['volumes'])).toEqual(['logs']);
    expect(await work.error(['restore', '--target', `nope=${work.at('x')}`, ...lineage])).toMatchObject({
      code: 'E_NOT_FOUND',
    });
  });

  it('ls names lineages and checkpoints, show tells all of one, keys names no secret', async () => {
    const all = await work.json(['ls'], { env: { HOLDFAST_LINEAGE: '' } });
    expect(all['lineages'].map((row: JsonObject) => [row['lineage'], row['newest']['slot'], row['sealed']])).toEqual(
      expect.arrayContaining([
        ['team/app/0', 3, false],
        ['team/set/0', 2, false],
      ]),
    );
    const one = await work.json(['ls']);
    expect(one['checkpoints'].map((row: JsonObject) => row['slot'])).toEqual([3, 2]);
    expect(one['checkpoints'][1]).toMatchObject({ labels: { why: 'first' }, files: 3, newBytes: 3_000_005 });
    expect((await work.json(['ls', '--all']))['checkpoints'].at(-1)).toMatchObject({ slot: 1, kind: 'CLAIM' });

    const shown = await work.json(['show', String(first['slot'])]);
    expect(shown).toMatchObject({ root: first['root'], id: first['id'], digest: first['digest'], files: 3 });
    expect(shown['storedBytes']).toBe(first['storedBytes']);
    expect(shown['volumes']['data']['root']).toBe(first['volumes']['data']['root']);
    expect(shown['packs'].length).toBeGreaterThan(0);

    const keys = await work.run(['keys']);
    expect(keys).toMatchObject({ code: 0, stderr: '' });
    const secret = /^holdfast-key-1 (\S+)/m.exec(fs.readFileSync(work.at('key'), 'utf8'))?.[1] as string;
    expect(keys.stdout).toContain('team/app');
    expect(keys.stdout).not.toContain(secret);
  });

  it('cat writes a file as it was, by any of its names', async () => {
    const large = fs.readFileSync(work.at('data/sub/large'));
    const ran = await work.run(['cat', 'sub/large'], { under: ['sh', '-c', '"$@" | cksum', 'sh'] });
    const expected = await work.run([], { under: ['sh', '-c', `cksum < ${work.at('data/sub/large')}`] });
    expect(ran.stdout).toBe(expected.stdout);
    expect(ran.stdout.split(' ')[1]?.trim()).toBe(String(large.length));
    expect((await work.run(['cat', '/sub/linked'])).stdout).toBe('hello');
    expect(await work.error(['cat', 'nope'])).toMatchObject({ code: 'E_NOT_FOUND' });
    expect(await work.error(['cat', 'sub/link'])).toMatchObject({ code: 'E_USAGE' });
  });

  it('diff says what was added, removed and changed, and in what', async () => {
    execFileSync('cp', ['-a', work.at('data'), work.at('edited')]);
    fs.writeFileSync(work.at('edited/added'), 'new');
    fs.rmSync(work.at('edited/sub/link'));
    fs.chmodSync(work.at('edited/sub/large'), 0o600);
    const at = (await work.json(['checkpoint', work.at('edited')]))['slot'];
    const found = await work.json(['diff', '2', String(at)]);
    const byPath = new Map(found['changes'].map((change: JsonObject) => [change['path'], change]));
    expect(byPath.get('added')).toMatchObject({ change: 'added', after: { type: 'file', size: 3 } });
    expect(byPath.get('sub/link')).toMatchObject({ change: 'removed', before: { type: 'symlink' } });
    expect(byPath.get('sub/large')).toMatchObject({ change: 'changed', what: ['mode'] });
    expect(found).toMatchObject({ equal: false, added: 1 });
    expect(await work.json(['diff', '2', '2'])).toMatchObject({ changes: [], equal: true });
    const text = await work.run(['diff', '2', 'latest']);
    expect(text.stdout).toContain('+ added  3 B\n');
    expect(text.stdout).toContain('- sub/link  symlink\n');
  });

  it('seal gives the lineage up: another holder goes on, and then this one needs --take', async () => {
    const lineage = ['--lineage', 'team/sealed/0'];
    const mine = ['checkpoint', work.at('data'), ...lineage];
    const other = [...mine, '--state-dir', work.at('other')];
    await work.json(mine);
    expect(await work.error(other)).toMatchObject({ code: 'E_LINEAGE_HELD', exit: 14 });
    expect(await work.json([...mine, '--seal'])).toMatchObject({ sealed: true });
    expect((await work.json(['ls', ...lineage]))['sealed']).toBe(true);
    const taken = await work.json(other);
    expect(await work.error(mine)).toMatchObject({ code: 'E_LINEAGE_HELD' });
    // What the other committed is not in this directory, as far as anybody knows.
    expect(await work.error([...mine, '--take'])).toMatchObject({ code: 'E_DIVERGED', exit: 16 });
    // After a restore it is.
    await work.json(['restore', '--target', work.at('joined'), ...lineage]);
    const joined = await work.json(['checkpoint', work.at('joined'), '--take', ...lineage]);
    expect(joined['root']).toBe(taken['root']);
  });

  it('only a restore that was whole, and stands where it was made, tells what a directory contains', async () => {
    const lineage = ['--lineage', 'team/restored/0'];
    const checkpoint = (at: string): string[] => ['checkpoint', work.at(at), '--take', ...lineage];
    const restore = (at: string, ...more: string[]): string[] => [
      'restore',
      '--target',
      work.at(at),
      ...more,
      ...lineage,
    ];
    await work.json(checkpoint('data'));
    await work.json([...checkpoint('data'), '--state-dir', work.at('another')]);

    await work.json(restore('only', '--only', 'small'));
    expect(await work.error(checkpoint('only'))).toMatchObject({ code: 'E_DIVERGED' });
    fs.mkdirSync(work.at('mine'));
    fs.writeFileSync(work.at('mine/small'), 'mine');
    await work.json(restore('mine', '--on-existing', 'keep'));
    expect(await work.error(checkpoint('mine'))).toMatchObject({ code: 'E_DIVERGED' });
    await work.json(restore('whole'));
    fs.renameSync(work.at('whole'), work.at('aside'));
    fs.mkdirSync(work.at('whole'));
    expect(await work.error(checkpoint('whole'))).toMatchObject({ code: 'E_DIVERGED' });

    // Of two volumes both must have been.
    const both = ['checkpoint', `data=${work.at('entire')}`, `logs=${work.at('logs')}`, '--take', ...lineage];
    await work.json(restore('entire'));
    expect(await work.error(both)).toMatchObject({ code: 'E_DIVERGED' });
    expect((await work.run(checkpoint('entire'))).stderr).toBe('');
  });

  it('include and exclude choose names', async () => {
    const picked = ['checkpoint', work.at('data'), '--lineage', 'team/picked/0'];
    expect(await work.json([...picked, '--exclude', 'large'])).toMatchObject({ files: 2 });
    expect(await work.json([...picked, '--include', 'sub/**', '--exclude', 'linked'])).toMatchObject({ files: 1 });
  });

  it('leaves the store and the state out of what it stores', async () => {
    const inside = new Workplace();
    try {
      fs.writeFileSync(inside.at('file'), 'data');
      expect(await inside.run(['init'])).toMatchObject({ code: 0 });
      const made = await inside.json(['checkpoint', inside.path, '--exclude', 'key']);
      expect(made).toMatchObject({ files: 1 });
      expect(await inside.json(['checkpoint', inside.path, '--exclude', 'key'])).toMatchObject({ files: 1 });
      const warned = await inside.run(['checkpoint', inside.path]);
      expect(warned).toMatchObject({ code: 0, stderr: expect.stringMatching(/^warning the key .* lies in /) });
      expect(await inside.error(['checkpoint', inside.at('store/v1')])).toMatchObject({ code: 'E_USAGE' });
      expect(await inside.error(['restore', '--target', inside.at('store/v1')])).toMatchObject({ code: 'E_USAGE' });
      expect(await inside.error(['restore', '--target', inside.path])).toMatchObject({ code: 'E_USAGE' });
    } finally {
      inside[Symbol.dispose]();
    }
  });

  it('works without encryption when that is said', async () => {
    const plain = new Workplace({ HOLDFAST_KEY_FILE: '' });
    try {
      fill(plain.at('data'));
      expect(await plain.error(['init'])).toMatchObject({ code: 'E_USAGE' });
      expect(await plain.json(['init', '--encryption', 'none'])).toMatchObject({ encryption: 'none', madeKey: false });
      const { root } = await plain.json(['checkpoint', plain.at('data')]);
      expect(await plain.json(['restore', '--target', plain.at('back')])).toMatchObject({ root, verified: true });
    } finally {
      plain[Symbol.dispose]();
    }
  });

  it('colours what people read, and never a pipe unless it is told to', async () => {
    const plain = await work.run(['nope']);
    expect(plain.stderr).not.toContain('\x1b');
    expect((await work.run(['nope'], { env: { FORCE_COLOR: '1' } })).stderr).toContain('\x1b[');
    const both = await work.run(['nope'], { env: { FORCE_COLOR: '1', NO_COLOR: '1' } });
    expect(both.stderr).toContain(plain.stderr);
    expect(both.stderr).not.toContain('\x1b[');
  });

  it('a dry run before the first checkpoint counts, and says that the root cannot be known yet', async () => {
    const before = snapshotTree(work.at('store'));
    const dry = await work.json(['checkpoint', work.at('data'), '--dry-run', '--lineage', 'new/one']);
    expect(dry).toMatchObject({ root: null, slot: null, files: 3, bytes: 3_000_005, newBytes: 3_000_005 });
    expect(dry).toMatchObject({ warnings: [{ code: 'W_ROOT_UNKNOWN' }], volumes: { data: { root: null } } });
    const text = await work.run(['checkpoint', work.at('data'), '--dry-run', '--lineage', 'new/one']);
    expect(text.stdout).not.toContain('root');
    expect(text.stderr).toMatch(/^warning nothing was ever stored for new: /);
    expect(snapshotTree(work.at('store'))).toEqual(before);
    expect(fs.readdirSync(work.at('state', 'tmp'))).toEqual([]);
    // Another replica of a workload that has keys.
    expect((await work.json(['checkpoint', work.at('back'), '--dry-run', '--lineage', 'team/app/7']))['root']).toMatch(
      hex64,
    );
  });

  it('volumes that lie in each other are refused, before anything is made or touched', async () => {
    const nested = [`data=${work.at('data')}`, `logs=${work.at('data/sub')}`];
    const refused = { code: 'E_USAGE', message: expect.stringContaining('volume logs') };
    expect(await work.error(['checkpoint', ...nested, '--lineage', 'team/nested/0'])).toMatchObject(refused);
    expect(await work.error(['ls', '--lineage', 'team/nested/0'])).toMatchObject({ code: 'E_NOT_FOUND' });
    const targets = ['--target', `data=${work.at('nest')}`, '--target', `logs=${work.at('nest/logs')}`];
    expect(await work.error(['restore', ...targets, '--lineage', 'team/set/0'])).toMatchObject(refused);
    expect(fs.existsSync(work.at('nest'))).toBe(false);
  });

  it('a target that is no directory is told as such, and not touched', async () => {
    fs.writeFileSync(work.at('file'), 'mine');
    fs.symlinkSync(work.at('loop'), work.at('loop'));
    for (const target of ['file', 'file/below', 'loop/below']) {
      const error = await work.error(['restore', '--target', work.at(target)]);
      expect(error).toMatchObject({ code: 'E_TARGET_NOT_DIRECTORY', exit: 30 });
      expect(error['message']).toContain(target);
    }
    expect(fs.readFileSync(work.at('file'), 'utf8')).toBe('mine');
  });

  it('globs that match nothing are named', async () => {
    const globs = ['--only', 'smal', '--only', 'sub', '--only', 'sub/linked', '--first', 'nothing/*'];
    const ran = await work.run(['restore', '--target', work.at('globs'), '--at', '2', ...globs, '--output', 'json']);
    const part: JsonObject = JSON.parse(ran.stdout);
    expect(part['warnings'].map(({ code, details }: JsonObject) => [code, details['option'], details['glob']])).toEqual(
      [
        ['W_NO_MATCH', 'only', 'smal'],
        ['W_NO_MATCH', 'first', 'nothing/*'],
      ],
    );
    const text = await work.run(['restore', '--target', work.at('globs2'), '--at', '2', '--only', 'smal']);
    expect(text).toMatchObject({ code: 0, stderr: 'warning --only smal matches nothing\n' });
    const picked = ['checkpoint', work.at('data'), '--lineage', 'team/picked/0'];
    const include = await work.json([...picked, '--include', 'sub/**', '--include', '*.txt']);
    expect(include['warnings']).toMatchObject([{ code: 'W_NO_MATCH', details: { option: 'include', glob: '*.txt' } }]);
    expect((await work.json([...picked, '--include', 'sub/**']))['warnings']).toEqual([]);
  });

  it('a restore of the newest says when newer records do not count', async () => {
    const lineage = ['--lineage', 'team/passed/0'];
    await work.json(['checkpoint', work.at('data'), ...lineage]);
    await work.json(['checkpoint', work.at('data'), ...lineage]);
    const clean = await work.json(['restore', '--target', work.at('clean'), ...lineage]);
    expect(clean).toMatchObject({ slot: 3, warnings: [] });
    const log = execFileSync('find', [work.at('store'), '-path', '*passed*/log/*', '-type', 'f'])
      .toString()
      .trim();
    const [newest = ''] = log.split('\n').sort();
    const bytes = fs.readFileSync(newest);
    bytes[bytes.length - 10] = (bytes[bytes.length - 10] as number) ^ 1;
    fs.chmodSync(newest, 0o600);
    fs.writeFileSync(newest, bytes);
    const passed = await work.json(['restore', '--target', work.at('passed'), ...lineage]);
    expect(passed).toMatchObject({
      slot: 2,
      verified: true,
      warnings: [{ code: 'W_RECORDS_PASSED', details: { count: 1, records: [{ slot: 3 }] } }],
    });
    // Who names the checkpoint knows which one it is.
    expect(await work.json(['restore', '--at', '2', '--target', work.at('passed2'), ...lineage])).toMatchObject({
      warnings: [],
    });
    const text = await work.run(['restore', '--target', work.at('passed3'), ...lineage]);
    expect(text.stderr).toMatch(
      /^warning checkpoint 2 is not the newest record of team\/passed\/0: record 3 does not /,
    );
  });

  it('a reader that goes away ends a listing quietly, and never the work', async () => {
    const lineage = ['--lineage', 'team/labels/0'];
    const labels = Array.from({ length: 40 }, (_, n) => ['--label', `name-${n}=${'value '.repeat(40)}`]).flat();
    await work.json(['checkpoint', work.at('data'), ...lineage, ...labels]);
    const under = ['sh', '-c', '{ "$@"; echo "code $?" >&2; } | true', 'sh'];
    expect(await work.run(['show', ...lineage], { under })).toMatchObject({ stdout: '', stderr: 'code 0\n' });
    const restoring = ['restore', '--target', work.at('unread'), '--first', 'small', ...lineage];
    expect(await work.run(restoring, { under })).toMatchObject({ stdout: '', stderr: 'code 0\n' });
    expect(snapshotTree(work.at('unread'))).toEqual(snapshotTree(work.at('data')));
    fs.writeFileSync(work.at('unread/more'), 'mine');
    const refused = await work.run(restoring, { under });
    expect(refused.stderr).toMatch(/^error E_TARGET_NOT_EMPTY.*\n.*\ncode 20\n$/);
    const full = { under: ['sh', '-c', '"$@" > /dev/full', 'sh'] };
    expect(await work.run(['show', ...lineage], full)).toMatchObject({
      code: 24,
      stderr: expect.stringMatching(/^error E_LIMIT: the output cannot be written: ENOSPC\n/),
    });
  });

  it('lists lineages by name, and shows nothing of others that a terminal would obey', async () => {
    const place = new Workplace();
    try {
      fs.mkdirSync(place.at('data'));
      const name = `${'long/'.repeat(100)}a\x1b[31mred\u202etxt`;
      fs.mkdirSync(place.at('data', name, '..'), { recursive: true });
      fs.writeFileSync(place.at('data', name), 'x');
      await place.run(['init']);
      for (const lineage of ['team/app/10', 'team/app/9', 'other', 'team/app/1']) {
        await place.json(['checkpoint', place.at('data'), '--lineage', lineage, '--label', 'why=\x1b[2Jgone']);
      }
      const order = ['other', 'team/app/1', 'team/app/9', 'team/app/10'];
      const all = await place.json(['ls'], { env: { HOLDFAST_LINEAGE: '' } });
      expect(all['lineages'].map((row: JsonObject) => row['lineage'])).toEqual(order);
      const text = await place.run(['ls'], { env: { HOLDFAST_LINEAGE: '' } });
      expect([...text.stdout.matchAll(/^(other|team\S+) /gm)].map((match) => match[1])).toEqual(order);

      const target = place.at('back\x1b[31m');
      const shown = [
        await place.run(['ls', '--lineage', 'other']),
        await place.run(['show', '--lineage', 'other']),
        await place.run(['restore', '--target', target, '--only', 'x\x1bc', '--lineage', 'other']),
        await place.run(['checkpoint', place.at('none\x1b[2J'), '--lineage', 'other']),
      ];
      for (const { stdout, stderr } of shown) {
        expect(stdout + stderr).toContain('\\x1b');
        // biome-ignore lint/suspicious/noControlCharactersInRegex: what must not be there is named.
        expect(stdout + stderr).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f]/);
      }
      fs.writeFileSync(place.at('data', 'mine'), 'x');
      const kept = await place.run([
        'restore',
        '--target',
        place.at('data'),
        '--on-existing',
        'keep',
        '--lineage',
        'other',
      ]);
      const [line = ''] = kept.stdout.split('\n').filter((one) => one.includes('kept as they were'));
      expect(line).toMatch(/long\/long\/.{50,90}….*red/);
      expect(line).not.toContain('\u202e');
      expect(line.length).toBeLessThan(1100);
    } finally {
      place[Symbol.dispose]();
    }
  });

  it('keys rotate: what is stored stays readable, what follows has the new key', async () => {
    const place = new Workplace();
    try {
      fill(place.at('data'));
      await place.run(['init']);
      const first = await place.json(['checkpoint', place.at('data')]);
      await place.json(['checkpoint', place.at('data'), '--lineage', 'other/0']);
      const one = await place.json(['keys', 'rotate']);
      // The lineage that the environment names.
      expect(one['rotated']).toEqual([{ domain: 'team/app', generation: 2 }]);
      fs.writeFileSync(place.at('data/small'), 'changed');
      const second = await place.json(['checkpoint', place.at('data')]);
      const back = await place.json(['restore', '--target', place.at('back')]);
      expect(back).toMatchObject({ root: second['root'], verified: true });
      const older = await place.json(['restore', '--target', place.at('older'), '--at', 'latest~1']);
      expect(older).toMatchObject({ root: first['root'], verified: true });
      expect(await place.json(['show'])).toMatchObject({ generation: 2 });
      expect(await place.json(['show', 'latest~1'])).toMatchObject({ generation: 1 });
      expect(await place.json(['verify', '--read-data', '--all'])).toMatchObject({ sound: true });
      const all = await place.run(['keys', 'rotate'], { env: { HOLDFAST_LINEAGE: '' } });
      expect(all).toMatchObject({ code: 0, stdout: 'other  data key 2\nteam/app  data key 3\n' });
      expect((await place.json(['keys']))['domains'].map(({ generations }: JsonObject) => generations)).toEqual(
        expect.arrayContaining([
          [1, 2],
          [1, 2, 3],
        ]),
      );
      expect(await place.error(['keys', 'rotte'])).toMatchObject({ code: 'E_USAGE' });
    } finally {
      place[Symbol.dispose]();
    }
  });
});
