import * as fs from 'node:fs';
import { ListObjectVersionsCommand, PutBucketVersioningCommand, S3Client } from '@aws-sdk/client-s3';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { IamPolicy } from '../../src/contract/store-policies.ts';
import { makeUser } from '../servers/make-users.ts';
import { installedServers, type S3Server, serversForSuite, startServer } from '../servers/s3-server.ts';
import { freshBucket, openS3, settingsFor } from '../servers/s3-store-of.ts';
import { type JsonObject, Workplace } from './run-cli.ts';

let work: Workplace;
beforeEach(() => {
  work = new Workplace();
});
afterEach(() => work[Symbol.dispose]());

function statesOf({ findings }: JsonObject): Record<string, string> {
  return Object.fromEntries((findings as { check: string; state: string }[]).map(({ check, state }) => [check, state]));
}

function treeOf(path: string): string[] {
  return fs.readdirSync(path, { recursive: true, encoding: 'utf8' }).sort();
}

describe('holdfast doctor of a directory', () => {
  test('finds it sound, and leaves it as it was', async () => {
    fs.mkdirSync(work.at('data'));
    await work.json(['init']);
    await work.json(['checkpoint', work.at('data')]);
    // The directory of trials stays, empty.
    await work.json(['doctor']);
    const before = treeOf(work.at('store'));
    const found = await work.json(['doctor']);
    expect(found).toMatchObject({ healthy: true, repository: expect.stringMatching(/^[0-9a-f]{32}$/) });
    expect(found['unfenced']).toBeUndefined();
    const failing = Object.entries(statesOf(found)).filter(([, state]) => state === 'failed');
    expect(failing).toEqual([]);
    expect(statesOf(found)).toMatchObject({
      'create-only': 'ok',
      lists: 'ok',
      key: 'ok',
      'hard links': 'ok',
      sync: 'ok',
    });
    expect(treeOf(work.at('store'))).toEqual(before);
  });

  test('says on one page what is wrong, with the remedy, and ends with 31', async () => {
    await work.json(['init']);
    fs.chmodSync(work.at('store'), 0o755);
    const ran = await work.run(['doctor'], { env: { HOLDFAST_KEY_FILE: '' } });
    expect(ran).toMatchObject({ code: 31, stderr: '' });
    expect(ran.stdout).toMatch(/failed +key +E_KEY_MISSING/);
    expect(ran.stdout).toContain('Give the repository key');
    expect(ran.stdout).toMatch(/warning +permissions +mode 0755/);
    expect(ran.stdout).toMatch(/ok +create-only/);
  });

  test('of another key, of no repository and of no store say which it is', async () => {
    const empty = work.at('empty');
    fs.mkdirSync(empty);
    const nothing = await work.json(['doctor', '--store', `file:${work.at('nothing')}`], { code: 31 });
    expect(statesOf(nothing)).toMatchObject({ reachable: 'failed' });
    expect(fs.existsSync(work.at('nothing'))).toBe(false);
    const none = await work.json(['doctor', '--store', `file:${empty}`, '--encryption', 'none'], {
      code: 31,
      env: { HOLDFAST_KEY_FILE: '' },
    });
    expect(statesOf(none)).toMatchObject({ reachable: 'ok', repository: 'failed', 'hard links': 'ok' });
    expect(fs.readdirSync(empty)).toEqual([]);
    await work.json(['init']);
    const second = { HOLDFAST_KEY_FILE: work.at('second'), HOLDFAST_STORE: `file:${work.at('other')}` };
    await work.json(['init'], { env: second });
    const wrong = await work.json(['doctor'], { code: 31, env: { HOLDFAST_KEY_FILE: work.at('second') } });
    expect(statesOf(wrong)).toMatchObject({ reachable: 'ok', key: 'failed' });
  });

  test('tells of a lineage how new it is, and when it cannot be opened', async () => {
    fs.mkdirSync(work.at('data'));
    await work.json(['init']);
    await work.json(['checkpoint', work.at('data')]);
    const sound = await work.json(['doctor', '--lineage', 'team/app/0']);
    expect((sound['findings'] as JsonObject[]).find(({ check }) => check === 'lineage')).toMatchObject({
      state: 'ok',
      seen: expect.stringMatching(/^newest record \d+, CHECKPOINT, \S+ s? ?old$/),
    });
    const key = work.at('store', 'v1', 'key', 'team_.app', '1');
    fs.chmodSync(key, 0o600);
    fs.writeFileSync(key, 'overwritten');
    const damaged = await work.json(['doctor', '--lineage', 'team/app/0'], { code: 31 });
    expect((damaged['findings'] as JsonObject[]).find(({ check }) => check === 'lineage')).toMatchObject({
      state: 'failed',
      seen: expect.stringContaining('E_DAMAGED'),
      remedy: expect.stringMatching(/\w/),
    });
  });

  test('has no policies, and says why and what to do', async () => {
    await work.json(['init']);
    const { policies, notes } = await work.json(['doctor', '--policies']);
    expect(policies).toBeUndefined();
    expect(notes).toEqual([expect.stringContaining('object lock')]);
  });
});

test('keys make gives a workload its keys before its first checkpoint', async () => {
  await work.json(['init']);
  expect(await work.json(['keys', 'make'])).toMatchObject({ domain: 'team/app', generation: 1 });
  expect(await work.json(['keys', 'make'])).toMatchObject({ generation: 1 });
  expect(fs.readdirSync(work.at('store', 'v1', 'key', 'team_.app'))).toEqual(['1']);
});

test('--unfenced is refused for a directory, which refuses to overwrite', async () => {
  expect(await work.error(['init', '--unfenced'])).toMatchObject({ code: 'E_USAGE' });
  expect(fs.existsSync(work.at('key'))).toBe(false);
});

function environmentOf(
  server: S3Server,
  store: string,
  credentials: { readonly accessKeyId: string; readonly secretAccessKey: string; readonly sessionToken?: string },
): Record<string, string> {
  const { accessKeyId, secretAccessKey, sessionToken } = credentials;
  return {
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    ...(sessionToken === undefined ? {} : { AWS_SESSION_TOKEN: sessionToken }),
    AWS_EC2_METADATA_DISABLED: 'true',
    HOLDFAST_STORE: `s3://${store}?endpoint=${server.endpoint}`,
  };
}

describe.each(serversForSuite('minio', 'versitygw', 'seaweedfs'))('doctor on %s', (name) => {
  test('finds the bucket sound, and leaves nothing in it', async () => {
    await using server = await startServer(name);
    const bucket = freshBucket();
    const env = environmentOf(server, bucket, server);
    expect(await work.run(['init'], { env })).toMatchObject({ code: 0 });
    const { writer, close } = await openS3(server, settingsFor(server, bucket));
    const before = (await writer.list('v1/')).map(({ key }) => key);
    const result = await work.json(['doctor', '--policies'], { env });
    expect(result, JSON.stringify(result)).toMatchObject({ healthy: true, server: expect.stringMatching(/\w/) });
    for (const check of ['reachable', 'repository', 'key', 'create-only', 'lists', 'clock', 'leftovers']) {
      expect(statesOf(result)[check], `${check}: ${JSON.stringify(result)}`).toBe('ok');
    }
    expect(statesOf(result)['protection']).toBe('warning');
    expect(result['notes']).toEqual([
      expect.stringContaining('cannot demand'),
      expect.stringContaining('may overwrite'),
    ]);
    expect((await writer.list('v1/')).map(({ key }) => key)).toEqual(before);
    await close();
  });
});

describe.each(serversForSuite('minio'))('doctor on %s', (name) => {
  test('says what stays of its trial where deleting is refused, and who can remove it', async () => {
    await using server = await startServer(name);
    const bucket = freshBucket();
    expect(await work.run(['init'], { env: environmentOf(server, bucket, server) })).toMatchObject({ code: 0 });
    const allow = (Sid: string, Action: readonly string[]) => ({ Sid, Effect: 'Allow', Action, Resource: everything });
    const everything = [`arn:aws:s3:::${bucket}`, `arn:aws:s3:::${bucket}/*`];
    const who = await makeUser(server, bucket, 'keeper', {
      Version: '2012-10-17',
      Statement: [allow('Keeps', ['s3:GetObject', 's3:PutObject', 's3:ListBucket', 's3:GetBucketVersioning'])],
    } as IamPolicy);
    const env = environmentOf(server, bucket, who);
    const { writer, close } = await openS3(server, settingsFor(server, bucket));
    const before = await writer.list('v1/probe/');
    const found = await work.json(['doctor', '--policies'], { env });
    const stay = (await writer.list('v1/probe/')).filter(({ key }) => !before.some((old) => old.key === key));
    expect(stay).toHaveLength(3);
    const uploads = (await writer.unfinished('v1/')).map(({ key }) => key);
    expect(uploads).toHaveLength(2);
    const [trials] = (found['findings'] as JsonObject[]).filter(({ check }) => check === 'trials');
    expect(trials).toEqual({
      check: 'trials',
      state: 'warning',
      seen: expect.stringMatching(/^5 of this trial could not be removed and stay \(AccessDenied\): /),
      remedy: expect.stringContaining('role setup'),
    });
    for (const { key } of stay) expect(trials?.['seen']).toContain(key);

    // With more rights nothing is left, and nothing is said.
    const again = await work.json(['doctor', '--policies'], { env: environmentOf(server, bucket, server) });
    expect(statesOf(again)['trials']).toBeUndefined();
    expect(await writer.list('v1/probe/')).toHaveLength(before.length + stay.length);
    await close();
  });

  test('removes its trial from a bucket that keeps versions, and leaves no marker', async () => {
    await using server = await startServer(name);
    const bucket = freshBucket();
    const env = environmentOf(server, bucket, server);
    expect(await work.run(['init'], { env })).toMatchObject({ code: 0 });
    const { endpoint, accessKeyId, secretAccessKey } = server;
    const credentials = { accessKeyId, secretAccessKey };
    const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials });
    const VersioningConfiguration = { Status: 'Enabled' } as const;
    await client.send(new PutBucketVersioningCommand({ Bucket: bucket, VersioningConfiguration }));
    const versions = async () => {
      const { Versions = [], DeleteMarkers = [] } = await client.send(
        new ListObjectVersionsCommand({ Bucket: bucket }),
      );
      return { objects: Versions.length, markers: DeleteMarkers.length };
    };
    const before = await versions();
    const found = await work.json(['doctor', '--policies'], { env });
    expect(statesOf(found)).toMatchObject({ 'create-only': 'ok', protection: 'ok' });
    expect(statesOf(found)['trials']).toBeUndefined();
    expect(await versions()).toEqual(before);
    client.destroy();
  });
});

describe.each(installedServers('s3rver'))('an unfenced repository on %s', (name) => {
  test('is made only when that is said, and every command says it', async () => {
    await using server = await startServer(name);
    const env = environmentOf(server, freshBucket(), server);
    fs.mkdirSync(work.at('data'));
    expect(await work.error(['init'], { env })).toMatchObject({ code: 'E_UNFENCED' });
    const tried = await work.json(['doctor', '--encryption', 'none'], {
      env: { ...env, HOLDFAST_KEY_FILE: '' },
      code: 31,
    });
    expect(statesOf(tried)).toMatchObject({ repository: 'failed', 'create-only': 'failed' });
    const made = await work.run(['init', '--unfenced'], { env });
    expect(made).toMatchObject({ code: 0, stderr: expect.stringContaining('UNFENCED') });
    for (const command of [
      ['checkpoint', work.at('data')],
      ['ls'],
      ['show'],
      ['diff', 'latest', 'latest'],
      ['verify'],
      ['restore', '--target', work.at('back')],
    ]) {
      const text = await work.run(command, { env });
      expect(text, command[0]).toMatchObject({ code: 0, stderr: expect.stringContaining('UNFENCED') });
      expect(await work.json(command, { env }), command[0]).toMatchObject({ unfenced: true });
    }
    const seen = await work.json(['doctor'], { env });
    expect(seen).toMatchObject({ healthy: true, unfenced: true });
    expect(statesOf(seen)).toMatchObject({ fencing: 'warning', 'create-only': 'warning', 'expiry rules': 'unknown' });
  });
});
