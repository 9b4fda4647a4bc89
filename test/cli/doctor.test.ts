import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { type StoreRole, storePolicy } from '../../src/contract/store-policies.ts';
import { domainKeyPrefix, lineagePrefix, pinPrefix } from '../../src/engine/format/object-keys.ts';
import { toLineageName } from '../../src/engine/model/ids.ts';
import { assumeRole } from '../servers/role-credentials.ts';
import { installedServers, type S3Server, serversForSuite, startServer } from '../servers/s3-server.ts';
import { freshBucket } from '../servers/s3-store-of.ts';
import { type JsonObject, Workplace } from './run-cli.ts';

let work: Workplace | undefined;
afterEach(() => {
  work?.[Symbol.dispose]();
  work = undefined;
});

function stateOf(result: JsonObject, check: string): unknown {
  return (result['findings'] as readonly JsonObject[]).find((finding) => finding['check'] === check)?.['state'];
}

describe('doctor of a directory', () => {
  test('tries it out, tells what a directory cannot refuse, and says it in words', async () => {
    work = new Workplace();
    await work.run(['init']);
    const result = await work.json(['doctor']);
    expect(result).toMatchObject({ healthy: true });
    expect(stateOf(result, 'create-only')).toBe('ok');
    expect(stateOf(result, 'clock')).toBe('ok');
    expect(stateOf(result, 'lineage')).toBe('ok');
    expect(stateOf(result, 'rights')).toBe('warning');
    const { stdout, code } = await work.run(['doctor']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/ok +create-only +refuses to overwrite/);
    expect(stdout).toContain('use a bucket with object lock or versioning');
    expect(await work.error(['doctor', '--policies'])).toMatchObject({ code: 'E_USAGE' });
  });

  test('finds others who may write, a wrong key, and a store that is not there', async () => {
    work = new Workplace();
    await work.run(['init']);
    chmodSync(work.at('store'), 0o777);
    expect(stateOf(await work.json(['doctor']), 'access')).toBe('warning');
    const other = new Workplace();
    await other.run(['init']);
    const wrong = await work.json(['doctor'], { env: { HOLDFAST_KEY_FILE: other.at('key') }, code: 31 });
    expect(stateOf(wrong, 'repository')).toBe('failed');
    expect(stateOf(wrong, 'create-only')).toBe('ok');
    other[Symbol.dispose]();
    rmSync(work.at('store'), { recursive: true });
    const gone = await work.json(['doctor'], { code: 31 });
    expect(stateOf(gone, 'store')).toBe('failed');
  });
});

const lineage = toLineageName('team/app/0');

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
  test('finds the bucket sound, and says what its owner could do', async () => {
    work = new Workplace();
    await using server = await startServer(name);
    const env = environmentOf(server, freshBucket(), server);
    expect(await work.run(['init'], { env })).toMatchObject({ code: 0 });
    const result = await work.json(['doctor'], { env });
    expect(result, JSON.stringify(result)).toMatchObject({ healthy: true });
    for (const check of ['store', 'repository', 'encryption', 'create-only', 'clock', 'completion']) {
      expect(stateOf(result, check), `${check}: ${JSON.stringify(result)}`).toBe('ok');
    }
    expect(stateOf(result, 'rights')).toBe('warning');
    expect((result['roles'] as readonly JsonObject[])[0]).toMatchObject({
      role: 'agent',
      lacks: [],
      exceeds: ['overwrite', 'delete'],
    });
  });
});

describe.each(installedServers('minio'))('the policies of doctor on %s', (name) => {
  test('are enough for each role, and refuse what it must not do', async () => {
    work = new Workplace();
    await using server = await startServer(name);
    const bucket = freshBucket();
    const store = `${bucket}/some/prefix`;
    const admin = environmentOf(server, store, server);
    mkdirSync(work.at('data'));
    writeFileSync(work.at('data', 'large'), crypto.getRandomValues(new Uint8Array(60_000)));
    expect(await work.run(['init'], { env: admin })).toMatchObject({ code: 0 });
    // The keys of a workload are made by a person, or by its first checkpoint with a person's rights.
    expect(await work.run(['checkpoint', work.at('data'), '--seal'], { env: admin })).toMatchObject({ code: 0 });

    const printed = await work.json(['doctor', '--policies'], { env: admin });
    const scope = {
      bucket,
      prefix: 'some/prefix/',
      lineage: lineagePrefix(lineage),
      domain: domainKeyPrefix('team/app'),
      pins: pinPrefix(lineage),
      dialect: 'other',
    } as const;
    const as = async (role: StoreRole): Promise<Record<string, string>> => {
      expect(printed[role]).toEqual(storePolicy(role, scope));
      return environmentOf(server, store, await assumeRole(server, storePolicy(role, scope)));
    };

    const agent = await as('agent');
    for (let n = 0; n < 2; n++) {
      // Past what is inlined and past one part, so that packs are made in both ways.
      writeFileSync(
        work.at('data', 'large'),
        Buffer.concat(Array.from({ length: n === 0 ? 5 : 160 }, () => crypto.getRandomValues(new Uint8Array(60_000)))),
      );
      const ran = await work.run(['checkpoint', work.at('data')], { env: agent });
      expect(ran, ran.stderr).toMatchObject({ code: 0, stderr: '' });
    }
    expect(await work.run(['restore', '--target', work.at('by-agent')], { env: agent })).toMatchObject({ code: 0 });
    const other = await work.error(['checkpoint', work.at('data'), '--lineage', 'team/other/0'], { env: agent });
    expect(other.code).toMatch(/^E_STORE_(UNREACHABLE|READ_ONLY)$/);
    const seen = await work.json(['doctor'], { env: agent });
    const [fit] = seen['roles'] as readonly JsonObject[];
    // That overwriting cannot be refused is the server's, and is said.
    expect(fit, JSON.stringify(seen)).toEqual({ role: 'agent', lacks: [], exceeds: ['overwrite'] });
    expect(stateOf(seen, 'create-only')).toBe('ok');

    const restore = await as('restore');
    expect(await work.run(['restore', '--target', work.at('by-restore')], { env: restore })).toMatchObject({ code: 0 });
    expect(await work.error(['checkpoint', work.at('data')], { env: restore })).toMatchObject({
      code: 'E_STORE_READ_ONLY',
    });
    const reader = await work.json(['doctor'], { env: restore });
    expect(stateOf(reader, 'create-only')).toBe('unknown');
    expect((reader['roles'] as readonly JsonObject[])[1]).toEqual({ role: 'restore', lacks: [], exceeds: [] });

    const gc = await as('gc');
    expect(await work.error(['checkpoint', work.at('data')], { env: gc })).toMatchObject({ code: 'E_STORE_READ_ONLY' });
  });
});

describe.each(installedServers('s3rver'))('an unfenced repository on %s', (name) => {
  test('is made only when that is said, and every command says it', async () => {
    work = new Workplace();
    await using server = await startServer(name);
    const env = environmentOf(server, freshBucket(), server);
    mkdirSync(work.at('data'));
    expect(await work.error(['init'], { env })).toMatchObject({ code: 'E_UNFENCED' });
    const made = await work.run(['init', '--unfenced'], { env });
    expect(made).toMatchObject({ code: 0, stderr: expect.stringContaining('UNFENCED') });
    for (const command of [
      ['checkpoint', work.at('data')],
      ['ls'],
      ['show'],
      ['verify'],
      ['restore', '--target', work.at('back')],
    ]) {
      const text = await work.run(command, { env });
      expect(text, command[0]).toMatchObject({ code: 0, stderr: expect.stringContaining('UNFENCED') });
      expect(await work.json(command, { env }), command[0]).toMatchObject({ unfenced: true });
    }
    const seen = await work.json(['doctor'], { env });
    expect(stateOf(seen, 'create-only')).toBe('warning');
  });
});
