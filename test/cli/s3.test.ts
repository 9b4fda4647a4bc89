import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { installedServers, type S3Server, serversForSuite, startServer } from '../servers/s3-server.ts';
import { freshBucket } from '../servers/s3-store-of.ts';

const holdfast = join(import.meta.dirname, '../../bin/holdfast');

/** What the command line needs to find a server; no secret is an argument. */
function environmentOf(server: S3Server, directory: string): NodeJS.ProcessEnv {
  return {
    PATH: process.env['PATH'],
    AWS_ACCESS_KEY_ID: server.accessKeyId,
    AWS_SECRET_ACCESS_KEY: server.secretAccessKey,
    AWS_EC2_METADATA_DISABLED: 'true',
    HOLDFAST_STORE: `s3://${freshBucket()}/some/prefix?endpoint=${server.endpoint}`,
    HOLDFAST_KEY_FILE: join(directory, 'key'),
    HOLDFAST_LINEAGE: 'team/app/0',
    HOLDFAST_STATE_DIR: join(directory, 'state'),
    HOLDFAST_OUTPUT: 'json',
  };
}

interface Result {
  readonly code: number | null;
  readonly result: Readonly<Record<string, unknown>>;
  readonly error: Readonly<Record<string, unknown>>;
}

function run(env: NodeJS.ProcessEnv, ...args: readonly string[]): Result {
  const { status, stdout, stderr } = spawnSync(holdfast, args, { env, encoding: 'utf8' });
  const parsed = (line: string): Readonly<Record<string, unknown>> =>
    line === '' ? {} : (JSON.parse(line) as Readonly<Record<string, unknown>>);
  return { code: status, result: parsed(stdout), error: (parsed(stderr)['error'] ?? {}) as Result['error'] };
}

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'holdfast-s3-'));
});
afterAll(() => rm(directory, { recursive: true }));

test('an address with a secret is refused before anything is asked', () => {
  const { code, error } = run(
    { PATH: process.env['PATH'], HOLDFAST_OUTPUT: 'json' },
    'init',
    '--encryption',
    'none',
    '--store',
    's3://bucket?secret-access-key=hidden',
  );
  expect(code).toBe(2);
  expect(error).toMatchObject({ code: 'E_USAGE', message: expect.not.stringContaining('hidden') });
});

describe.each(serversForSuite('minio', 'versitygw', 'seaweedfs'))('the command line on %s', (name) => {
  test('makes a bucket and a repository, keeps checkpoints in it, and restores them', async () => {
    await using server = await startServer(name);
    const work = await mkdtemp(join(directory, `${name}-`));
    const env = environmentOf(server, work);
    const source = join(work, 'data');
    await mkdir(join(source, 'sub'), { recursive: true });
    for (let at = 0; at < 40; at += 1) await writeFile(join(source, 'sub', `${at}`), Buffer.alloc(50_000 + at, at));
    await writeFile(
      join(source, 'large'),
      Buffer.from(Uint8Array.from({ length: 12_000_000 }, (_, at) => (at * at * 31 + at) >> 5)),
    );

    expect(run(env, 'init')).toMatchObject({ code: 0, result: { madeKey: true } });
    expect(run(env, 'init')).toMatchObject({ code: 9, error: { code: 'E_REPOSITORY_EXISTS' } });
    const first = run(env, 'checkpoint', source);
    expect(first).toMatchObject({ code: 0, result: { files: 41, consistency: 'converged' } });
    await writeFile(join(source, 'sub', '7'), 'changed');
    const second = run(env, 'checkpoint', source);
    // Small enough to go into the record: one object is made.
    expect(second).toMatchObject({ code: 0, result: { requests: { create: 1, upload: 0, stat: 0 } } });
    const target = join(work, 'back');
    expect(run(env, 'restore', '--target', target)).toMatchObject({ code: 0, result: { root: second.result['root'] } });
    expect(spawnSync('diff', ['-r', source, target], { encoding: 'utf8' })).toMatchObject({ status: 0, stdout: '' });
    expect(run(env, 'verify', '--read-data')).toMatchObject({ code: 0 });

    // To a directory, and from there to another bucket: what comes back is the same.
    const here = `file:${join(work, 'here')}`;
    const there = `s3://${freshBucket()}/copies?endpoint=${server.endpoint}`;
    for (const [from, to] of [
      [env['HOLDFAST_STORE'] as string, here],
      [here, there],
    ] as const) {
      const copied = run(env, 'copy', '--from', from, '--to', to, '--init');
      expect(copied).toMatchObject({ code: 0, result: { records: 3, lineages: [{ behind: 0, passed: [] }] } });
      expect(run(env, 'copy', '--from', from, '--to', to)).toMatchObject({ code: 0, result: { records: 0, packs: 0 } });
    }
    for (const [at, store] of [here, there].entries()) {
      const copyEnv = { ...env, HOLDFAST_STORE: store };
      const copyTarget = join(work, `back-${at}`);
      expect(run(copyEnv, 'verify', '--read-data')).toMatchObject({ code: 0 });
      expect(run(copyEnv, 'restore', '--target', copyTarget)).toMatchObject({ code: 0 });
      const looked = run(copyEnv, 'checkpoint', copyTarget, '--dry-run', '--no-cache');
      expect(looked).toMatchObject({ code: 0, result: { root: second.result['root'] } });
    }
  });
});

describe.each(installedServers('s3rver'))('the command line on %s', (name) => {
  test('refuses a server that ignores the condition, and makes no key', async () => {
    await using server = await startServer(name);
    const work = await mkdtemp(join(directory, `${name}-`));
    const env = environmentOf(server, work);
    expect(run(env, 'init')).toMatchObject({ code: 27, error: { code: 'E_UNFENCED' } });
    expect(run(env, 'keys')).toMatchObject({ error: { code: 'E_KEY_MISSING' } });
  });
});
