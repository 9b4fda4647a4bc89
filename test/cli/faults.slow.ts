/** What the world does to a run: each through the real program, and afterwards what was committed is still there. */
import { type ChildProcess, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { plainSeal, repositoryObjectToSeal, withSeal } from '../../src/engine/format/repository.ts';
import { canMount, canTrace, lacking, withFaults, withMounts } from '../edge/store/child-process.ts';
import { snapshotTree } from '../support/tree-snapshot.ts';
import { binary, type JsonObject, type Ran, runCli, Workplace } from './run-cli.ts';

const canBecomeOthers = { there: process.getuid?.() === 0, why: 'only root can run a program as another user' };

let work: Workplace;
let root: string;

beforeEach(async () => {
  work = new Workplace();
  fs.mkdirSync(work.at('data'));
  fs.writeFileSync(work.at('data/file'), 'first');
  expect(await work.run(['init'])).toMatchObject({ code: 0 });
  root = (await work.json(['checkpoint', work.at('data')]))['root'];
});
afterEach(() => work[Symbol.dispose]());

/** The committed checkpoint is whole: restored, and equal. */
async function expectRestorable(): Promise<void> {
  expect(await work.json(['restore', '--at', '2', '--target', work.at('proof')])).toMatchObject({
    root,
    verified: true,
  });
}

describe('stores', () => {
  it('that are missing are never taken for empty ones', async () => {
    const gone = { env: { HOLDFAST_STORE: `file:${work.at('gone')}` } };
    for (const command of [
      ['checkpoint', work.at('data')],
      ['ls'],
      ['restore', '--target', work.at('x')],
      ['verify'],
    ]) {
      expect(await work.error(command, gone)).toMatchObject({ code: 'E_STORE_UNREACHABLE', exit: 4 });
    }
    expect(fs.existsSync(work.at('gone'))).toBe(false);
    fs.mkdirSync(work.at('gone'));
    for (const command of [
      ['checkpoint', work.at('data')],
      ['ls'],
      ['restore', '--target', work.at('x')],
      ['verify'],
    ]) {
      expect(await work.error(command, gone)).toMatchObject({ code: 'E_REPOSITORY_MISSING', exit: 8 });
    }
    expect(fs.readdirSync(work.at('gone')).filter((name) => name !== 'tmp')).toEqual([]);
  });

  it('of a newer format are left alone', async () => {
    const plain = new Workplace({ HOLDFAST_KEY_FILE: '' });
    try {
      expect(await plain.run(['init', '--encryption', 'none'])).toMatchObject({ code: 0 });
      const object = repositoryObjectToSeal({
        id: '00'.repeat(16),
        formatVersion: 2,
        encryption: 'none',
        createdMs: 0,
        keyId: '',
        publicKey: new Uint8Array(0),
        createOnly: true,
      });
      fs.chmodSync(plain.at('store/v1/repo'), 0o600);
      fs.writeFileSync(plain.at('store/v1/repo'), withSeal(object, plainSeal(object)));
      expect(await plain.error(['ls'])).toMatchObject({ code: 'E_FORMAT_NEWER', exit: 13 });
      expect(await plain.error(['checkpoint', work.at('data')])).toMatchObject({ code: 'E_FORMAT_NEWER' });
    } finally {
      plain[Symbol.dispose]();
    }
  });

  it.skipIf(lacking(canMount))('that are full: said, nothing half-done visible, and room mends it', async () => {
    fs.mkdirSync(work.at('full'));
    fs.writeFileSync(work.at('large'), randomBytes(6_000_000));
    const steps = [
      '"$holdfast" init --store "file:$store" --key-file "$HOLDFAST_KEY_FILE.full" > init.log',
      'export HOLDFAST_STORE="file:$store" HOLDFAST_KEY_FILE="$HOLDFAST_KEY_FILE.full" HOLDFAST_OUTPUT=json',
      '"$holdfast" checkpoint data || echo "failed $?"',
      'cp large data/large; "$holdfast" checkpoint data || echo "failed $?"',
      '"$holdfast" restore --target proof || echo "failed $?"',
      'mount -o remount,size=32m "$store"; "$holdfast" checkpoint data || echo "failed $?"',
      '"$holdfast" verify --read-data || echo "failed $?"',
    ];
    const ran = await script(withMounts(work.at('full'), 'mount -t tmpfs -o size=4m tmpfs "$store"'), steps);
    const [small, full, restored, again, verified] = ran.stdout.trim().split('\n');
    expect(JSON.parse(small ?? '')).toMatchObject({ files: 1 });
    expect({ full, stderr: ran.stderr }).toMatchObject({
      full: 'failed 6',
      stderr: expect.stringContaining('E_STORE_FULL'),
    });
    expect(JSON.parse(restored ?? '')).toMatchObject({ root: JSON.parse(small ?? '').root, verified: true });
    expect(JSON.parse(again ?? '')).toMatchObject({ files: 2, bytes: 6_000_005 });
    expect(JSON.parse(verified ?? '')).toMatchObject({ sound: true });
  });

  it.skipIf(lacking(canMount))('that are read-only serve restores, and say what a checkpoint lacks', async () => {
    const under = withMounts(work.at('store'), 'mount --bind "$store" "$store"; mount -o remount,ro,bind "$store"');
    expect(await work.error(['checkpoint', work.at('data')], { under })).toMatchObject({
      code: 'E_STORE_READ_ONLY',
      exit: 5,
    });
    expect(await work.json(['restore', '--target', work.at('back')], { under })).toMatchObject({
      root,
      verified: true,
    });
    expect(await work.json(['ls'], { under })).toMatchObject({ void: 0 });
  });

  it.skipIf(lacking(canTrace))('that fail with EIO: said, and the next run succeeds without repair', async () => {
    fs.writeFileSync(work.at('data/more'), randomBytes(1_000_000));
    // Without koffi, which syncs stdout and stderr itself when a process ends, and would meet the fault there.
    const pure = { HOLDFAST_FILE_TREE: 'node', HOLDFAST_COMPRESSOR: 'zlib' };
    const { under = [], env = {} } = withFaults('fsync:error=EIO:when=2');
    const error = await work.error(['checkpoint', work.at('data')], { under, env: { ...env, ...pure } });
    expect(error).toMatchObject({ code: 'E_STORE_IO', exit: 7 });
    await expectRestorable();
    expect(await work.json(['checkpoint', work.at('data')])).toMatchObject({ files: 2 });
    expect(await work.json(['verify', '--read-data', '--all'])).toMatchObject({ sound: true });
  });
});

describe('keys', () => {
  it('that are missing, of another repository, or too many', async () => {
    const other = new Workplace();
    const plain = new Workplace({ HOLDFAST_KEY_FILE: '' });
    try {
      await other.run(['init']);
      await plain.run(['init', '--encryption', 'none']);
      const command = ['checkpoint', work.at('data')];
      const withKey = (key: string): { env: Record<string, string> } => ({ env: { HOLDFAST_KEY_FILE: key } });
      expect(await work.error(command, withKey(''))).toMatchObject({ code: 'E_KEY_MISSING', exit: 10 });
      expect(await work.error(command, withKey(work.at('absent')))).toMatchObject({ code: 'E_KEY_MISSING' });
      expect(await work.error(command, withKey(other.at('key')))).toMatchObject({ code: 'E_KEY_WRONG', exit: 11 });
      const mismatch = { code: 'E_ENCRYPTION_MISMATCH', exit: 12 };
      expect(await plain.error(command, withKey(work.at('key')))).toMatchObject(mismatch);
      expect(await work.error([...command, '--encryption', 'none'])).toMatchObject(mismatch);
      fs.chmodSync(work.at('key'), 0o644);
      const exposed = await work.error(command);
      expect(exposed['message']).toMatch(/key/);
      fs.chmodSync(work.at('key'), 0o600);
      await expectRestorable();
    } finally {
      other[Symbol.dispose]();
      plain[Symbol.dispose]();
    }
  });
});

describe('targets', () => {
  it.skipIf(lacking(canMount))('that are full: the same command goes on when there is room', async () => {
    fs.writeFileSync(work.at('data/large'), randomBytes(3_000_000));
    fs.writeFileSync(work.at('data/larger'), randomBytes(3_000_000));
    const made = await work.json(['checkpoint', work.at('data')]);
    fs.mkdirSync(work.at('small'));
    const steps = [
      'export HOLDFAST_OUTPUT=json; "$holdfast" restore --target "$store/in" || echo "failed $?"',
      '"$holdfast" checkpoint "$store/in" || echo "failed $?"',
      'mount -o remount,size=32m "$store"; "$holdfast" restore --target "$store/in" || echo "failed $?"',
      '"$holdfast" checkpoint --dry-run "$store/in" || echo "failed $?"',
    ];
    const ran = await script(withMounts(work.at('small'), 'mount -t tmpfs -o size=5m tmpfs "$store"'), steps);
    const [full, refused, resumed, dry] = ran.stdout.trim().split('\n');
    expect({ full, stderr: ran.stderr }).toMatchObject({
      full: 'failed 22',
      stderr: expect.stringContaining('E_TARGET_FULL'),
    });
    // Half a restore must not become the newest checkpoint.
    expect({ refused, stderr: ran.stderr }).toMatchObject({
      refused: 'failed 2',
      stderr: expect.stringContaining('not finished'),
    });
    expect(JSON.parse(resumed ?? '')).toMatchObject({ root: made['root'], verified: true });
    expect(JSON.parse(dry ?? '')).toMatchObject({ root: made['root'] });
  });

  it('that were begun and interrupted: the same command resumes, another checkpoint is refused', async () => {
    for (let n = 0; n < 60; n++) fs.writeFileSync(work.at('data', `large-${n}`), randomBytes(1_000_000));
    const made = await work.json(['checkpoint', work.at('data')]);
    const target = work.at('back');
    for (const signal of ['SIGINT', 'SIGKILL'] as const) {
      let child: ChildProcess | undefined;
      const running = work.run(['restore', '--target', target, '--output', 'json'], {
        onStart: (started) => (child = started),
      });
      const filled = fs.existsSync(target) ? fs.readdirSync(target).length : 0;
      await until(() => fs.existsSync(target) && fs.readdirSync(target).length > filled);
      child?.kill(signal);
      const ran = await running;
      expect(ran).toMatchObject(signal === 'SIGINT' ? { code: 130, stdout: '' } : { code: null, signal });
    }
    expect(await work.error(['restore', '--at', '2', '--target', target])).toMatchObject({
      code: 'E_TARGET_NOT_EMPTY',
    });
    expect(await work.error(['checkpoint', target])).toMatchObject({ code: 'E_USAGE' });
    const resumed = await work.json(['restore', '--target', target]);
    expect(resumed).toMatchObject({ root: made['root'], verified: true, volumes: { data: { existing: 'resume' } } });
    expect(snapshotTree(target)).toEqual(snapshotTree(work.at('data')));
    const again = await work.json(['restore', '--target', target]);
    expect(again).toMatchObject({ root: made['root'], newBytes: 0, volumes: { data: { existing: 'complete' } } });
    fs.writeFileSync(work.at('back/large-0'), 'changed');
    expect(await work.error(['restore', '--target', target])).toMatchObject({ code: 'E_TARGET_NOT_EMPTY' });
  });

  it.skipIf(lacking(canBecomeOthers))('of a user without privileges: what could not be kept is named', async () => {
    fs.chmodSync(work.path, 0o755);
    fs.mkdirSync(work.at('theirs'));
    for (const name of ['store', 'key', 'theirs']) execFileSync('chown', ['-R', '65534:65534', work.at(name)]);
    const under = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
    const command = ['restore', '--target', work.at('theirs/back'), '--state-dir', work.at('theirs/state')];
    const restored = await work.json(command, { under, code: 3 });
    expect(restored).toMatchObject({ root, rootExpected: root, incomplete: true });
    expect(restored['rootGot']).toMatch(/^[0-9a-f]{64}$/);
    expect(restored['rootGot']).not.toBe(root);
    expect(restored['degraded'].map(({ reason }: JsonObject) => reason).join()).toMatch(/owner/);
    expect(fs.readFileSync(work.at('theirs/back/file'), 'utf8')).toBe('first');
  });

  it.skipIf(lacking(canMount))('that are read-only', async () => {
    fs.mkdirSync(work.at('fixed'));
    const under = withMounts(work.at('fixed'), 'mount -t tmpfs -o ro tmpfs "$store"');
    const error = await work.error(['restore', '--target', work.at('fixed/in')], { under });
    expect(error).toMatchObject({ code: 'E_TARGET_IO', exit: 21 });
  });
});

describe('state directories', () => {
  it.skipIf(lacking(canMount))(
    'that are full cost the cache, never the checkpoint; without room for who we are nothing is sent',
    async () => {
      for (let n = 0; n < 4000; n++) fs.writeFileSync(work.at('data', `file-${n}`), `${n}`);
      fs.mkdirSync(work.at('private'));
      const command = '"$holdfast" checkpoint data --lineage team/app/1';
      const steps = [
        'export HOLDFAST_OUTPUT=json HOLDFAST_STATE_DIR="$store"',
        `${command} || echo "failed $?"`,
        `echo changed > data/file-7; ${command} || echo "failed $?"`,
        'head -c 1000000 /dev/zero > "$store/fill"',
        `${command} || echo "failed $?"`,
        `"$holdfast" ls --lineage team/app/1 || echo "failed $?"`,
        `rm "$store/fill"; ${command} || echo "failed $?"`,
        'mount -o remount,ro "$store"',
        `${command} || echo "failed $?"`,
        `${command} --dry-run || echo "failed $?"`,
      ];
      const ran = await script(withMounts(work.at('private'), 'mount -t tmpfs -o size=160k tmpfs "$store"'), steps);
      const lines = ran.stdout.trim().split('\n');
      const json = (line: number): JsonObject => JSON.parse(lines[line] ?? '');
      const warned = { files: 4001, incomplete: false, warnings: [{ code: 'W_CACHE' }] };
      expect(json(0)).toMatchObject({ ...warned, slot: 2 });
      expect(json(1)).toMatchObject({ ...warned, slot: 3 });
      expect(lines[2]).toBe('failed 25');
      expect(json(3)['checkpoints'].map(({ slot }: JsonObject) => slot)).toEqual([3, 2]);
      expect(json(4)).toMatchObject({ ...warned, slot: 4, root: json(1)['root'] });
      expect(lines[5]).toBe('failed 25');
      expect(json(6)).toMatchObject({ root: json(1)['root'], warnings: [{ code: 'W_CACHE' }] });
      expect(ran.stderr.match(/E_STATE_DIR/g)).toHaveLength(2);
    },
  );
});

describe('limits', () => {
  it('too few descriptors: said, and nothing visible', async () => {
    for (let n = 0; n < 40; n++) fs.mkdirSync(work.at(`data/${'d/'.repeat(n + 1)}`));
    const outcomes = new Set<string>();
    for (const limit of [22, 26, 30, 36]) {
      const under = ['sh', '-c', `ulimit -n ${limit}; exec "$@"`, 'sh'];
      const ran = await work.run(['checkpoint', work.at('data'), '--output', 'json'], { under });
      const line = ran.stderr.trim().split('\n').at(-1) ?? '';
      outcomes.add(ran.code === 0 ? 'done' : line.startsWith('{') ? JSON.parse(line).error.code : line);
    }
    // Below some limit Node itself does not start; above another it is enough.
    outcomes.delete('done');
    expect([...outcomes]).toContain('E_LIMIT');
    expect((await work.json(['verify', '--all']))['sound']).toBe(true);
    await expectRestorable();
  });

  it('sources that are missing or unreadable', async () => {
    const before = snapshotTree(work.at('store'));
    const missing = await work.error(['checkpoint', work.at('nothing')]);
    expect(missing).toMatchObject({ code: 'E_SOURCE_UNREADABLE', exit: 23 });
    expect(await work.error(['checkpoint', work.at('data/file')])).toMatchObject({ code: 'E_SOURCE_UNREADABLE' });
    expect(snapshotTree(work.at('store'))).toEqual(before);
  });

  it.skipIf(lacking(canBecomeOthers))('a file that cannot be read: named, counted, exit code 3', async () => {
    fs.writeFileSync(work.at('data/secret'), 'secret', { mode: 0o000 });
    fs.writeFileSync(work.at('data/other'), 'other');
    execFileSync('chown', ['-R', '65534:65534', work.path]);
    const under = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
    const made = await work.json(['checkpoint', work.at('data')], { under, code: 3 });
    expect(made).toMatchObject({
      incomplete: true,
      files: 2,
      skipped: [{ volume: 'data', reason: 'unreadable', count: 1, names: ['secret'] }],
    });
    // The restore is equal to the checkpoint, which is not all that the application had.
    expect(await work.json(['restore', '--target', work.at('back')], { under })).toMatchObject({
      files: 2,
      warnings: [{ code: 'W_CHECKPOINT_INCOMPLETE', details: { volume: 'data', count: 1, names: ['secret'] } }],
    });
    const told = await work.run(['restore', '--target', work.at('again')], { under });
    expect(told.stderr).toMatch(/^warning checkpoint \d lacks what could not be read .* in volume data: secret\n$/);
    expect(fs.readFileSync(work.at('back/other'), 'utf8')).toBe('other');
  });
});

describe('two writers', () => {
  it('of one holder: the second is told that the first works', async () => {
    fs.writeFileSync(work.at('data/large'), randomBytes(40_000_000));
    let child: ChildProcess | undefined;
    const first = work.run(['checkpoint', work.at('data')], { onStart: (started) => (child = started) });
    await begun();
    child?.kill('SIGSTOP');
    const second = await work.error(['checkpoint', work.at('data')]);
    expect(second).toMatchObject({ code: 'E_STATE_DIR', exit: 25 });
    expect(second['message']).toContain('works on team/app/0');
    child?.kill('SIGCONT');
    expect(await first).toMatchObject({ code: 0 });
  });

  it('of two holders: who was taken over from is fenced, and publishes nothing', async () => {
    fs.writeFileSync(work.at('data/large'), randomBytes(40_000_000));
    let child: ChildProcess | undefined;
    const paused = work.run(['checkpoint', work.at('data'), '--output', 'json'], {
      onStart: (started) => (child = started),
    });
    await begun();
    child?.kill('SIGSTOP');
    fs.mkdirSync(work.at('successor'));
    fs.writeFileSync(work.at('successor/file'), 'successor');
    const take = ['checkpoint', work.at('successor'), '--state-dir', work.at('other'), '--take'];
    const taken = await work.json(take);
    child?.kill('SIGCONT');
    const ran = await paused;
    expect(ran.stderr).toContain('"code":"E_FENCED"');
    expect(ran).toMatchObject({ code: 15, stdout: '' });
    expect(await work.json(['show'])).toMatchObject({ root: taken['root'], files: 1 });
  });

  it('an interrupted checkpoint ends with 130, shows nothing, and the next one succeeds', async () => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      fs.writeFileSync(work.at('data/large'), randomBytes(40_000_000));
      const before = (await work.json(['ls', '--all']))['checkpoints'].length;
      let child: ChildProcess | undefined;
      const running = work.run(['checkpoint', work.at('data'), '--output', 'json'], {
        onStart: (started) => (child = started),
      });
      await begun();
      child?.kill(signal);
      const ran = await running;
      expect(ran).toMatchObject({ code: 130, signal: null, stdout: '' });
      expect(ran.stderr).toContain('"code":"E_ABORTED"');
      expect((await work.json(['ls', '--all']))['checkpoints'].length).toBe(before);
      expect(fs.readdirSync(work.at('store/tmp'))).toEqual([]);
      expect(await work.json(['checkpoint', work.at('data')])).toMatchObject({ files: 2 });
    }
  });
});

describe('a first checkpoint', () => {
  it('that was killed goes on from its last anchor', async () => {
    for (let n = 0; n < 150; n++) fs.writeFileSync(work.at('data', `large-${n}`), randomBytes(1_000_000));
    const command = ['checkpoint', work.at('data'), '--lineage', 'team/app/1', '--partial-bytes', '5MB'];
    let child: ChildProcess | undefined;
    const running = work.run(command, { onStart: (started) => (child = started) });
    const log = work.at('store/v1/l');
    const records = (): string[] =>
      fs
        .readdirSync(log, { recursive: true, encoding: 'utf8' })
        .filter((name) => /app_\.1\/log\/[0-9a-f]{10}$/.test(name));
    // The claim, and an anchor.
    await until(() => records().length >= 2);
    child?.kill('SIGKILL');
    expect(await running).toMatchObject({ signal: 'SIGKILL' });
    // What is anchored is no checkpoint yet, and the other way round: not a first boot.
    const early = await work.error(['restore', '--target', work.at('x'), '--lineage', 'team/app/1']);
    expect(early).toMatchObject({ code: 'E_EXPECTED_MISSING', exit: 18 });

    const made = await work.json(command);
    expect(made).toMatchObject({ files: 151, bytes: 150_000_005 });
    expect(made['newBytes']).toBeLessThan(145_000_000);
    const restored = await work.json(['restore', '--target', work.at('back'), '--lineage', 'team/app/1']);
    expect(restored).toMatchObject({ root: made['root'], verified: true });
  });
});

describe('the clock', () => {
  it('set back by a year changes nothing of what is newest', async () => {
    const back = { NODE_OPTIONS: '--import=data:text/javascript,const%20now=Date.now;Date.now=()=>now()-31536e6' };
    fs.writeFileSync(work.at('data/file'), 'second');
    const second = await work.json(['checkpoint', work.at('data')], { env: back });
    const shown = await work.json(['show']);
    expect(shown).toMatchObject({ slot: 3, root: second['root'] });
    expect(Date.parse(shown['time'])).toBeLessThan(Date.now() - 30_000_000_000);
    expect(await work.json(['restore', '--target', work.at('back')], { env: back })).toMatchObject({
      root: second['root'],
    });
    expect(await work.json(['checkpoint', work.at('data')])).toMatchObject({
      slot: 4,
      root: second['root'],
      newBytes: 0,
    });
    // By time, the one that was made with the right clock is older than now, and so is meant.
    expect(await work.json(['show', new Date().toISOString()])).toMatchObject({ slot: 4 });
    expect(await work.json(['verify', '--all', '--read-data'])).toMatchObject({ sound: true });
  });
});

describe('damage', () => {
  it('is named with object and files by restore and verify, and never restored', async () => {
    const content = randomBytes(2_000_000);
    fs.writeFileSync(work.at('data/large'), content);
    const made: JsonObject = await work.json(['checkpoint', work.at('data')]);
    const packs = execFileSync('find', [work.at('store'), '-path', '*/pk/*', '-type', 'f'])
      .toString()
      .trim()
      .split('\n');
    const pack = packs[0] as string;
    fs.chmodSync(pack, 0o600);
    const bytes = fs.readFileSync(pack);
    bytes[500_000] = (bytes[500_000] as number) ^ 1;
    fs.writeFileSync(pack, bytes);
    const key = pack.slice(work.at('store').length + 1);

    const error = await work.error(['restore', '--target', work.at('back')]);
    expect(error).toMatchObject({ code: 'E_DAMAGED', exit: 19 });
    expect(error['message']).toContain(key);
    expect(error['message']).toContain('large');
    expect(fs.existsSync(work.at('back/large'))).toBe(false);
    expect(fs.readFileSync(work.at('back/file'), 'utf8')).toBe('first');

    const verified = await work.run(['verify', '--read-data', '--output', 'json']);
    expect(verified).toMatchObject({ code: 19, stderr: '' });
    const [lineage] = JSON.parse(verified.stdout).lineages;
    const [checkpoint] = lineage.checkpoints;
    expect(checkpoint).toMatchObject({
      slot: made['slot'],
      sound: false,
      damage: { files: 1, objects: [{ key, names: ['large'] }] },
    });

    const partly = await work.run([
      'restore',
      '--target',
      work.at('partly'),
      '--continue-on-damage',
      '--output',
      'json',
    ]);
    expect(partly.code).toBe(28);
    expect(JSON.parse(partly.stdout)).toMatchObject({
      incomplete: true,
      files: 1,
      damage: [{ volume: 'data', files: 1, objects: [{ key, names: ['large'] }] }],
    });
    // The loss must not become the newest state by itself.
    expect(await work.error(['checkpoint', work.at('partly')])).toMatchObject({ code: 'E_USAGE' });
    const rescued = await work.json(['checkpoint', work.at('partly'), '--lineage', 'team/rescued/0']);
    expect(rescued).toMatchObject({ files: 1 });
    // What comes before the damage is written, and proven.
    const read = await work.run(['cat', 'large', '--output', 'json']);
    expect(read).toMatchObject({ code: 19, stderr: expect.stringContaining('"code":"E_DAMAGED"') });
    await expectRestorable();
  });
});

async function until(done: () => boolean): Promise<void> {
  await vi.waitUntil(done, { interval: 2, timeout: 60_000 });
}

/** Until a part of a running checkpoint lies in the store. */
async function begun(): Promise<void> {
  const tmp = work.at('store/tmp');
  await until(() => {
    const names = fs.existsSync(tmp) ? fs.readdirSync(tmp) : [];
    return names.some((name) => (fs.statSync(`${tmp}/${name}`, { throwIfNoEntry: false })?.size ?? 0) > 0);
  });
}

/** Shell commands with `$holdfast`, in the workplace, under `under`. */
async function script(under: readonly string[], steps: readonly string[]): Promise<Ran> {
  const text = `holdfast="${binary}"; store="${under.at(-1)}"; ${steps.join('\n')}`;
  return await runCli([], { cwd: work.path, env: work.env, under: [...under, 'sh', '-c', text] });
}
