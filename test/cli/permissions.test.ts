import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openS3Sweeper } from '../../src/edge/store/s3/open-s3-store.ts';
import { lineagePrefix } from '../../src/engine/format/object-keys.ts';
import type { IamPolicy } from '../../src/contract/store-policies.ts';
import { type Role, roles } from '../../src/contract/store-roles.ts';
import { toLineageName } from '../../src/engine/model/ids.ts';
import { makeUser, type UserCredentials } from '../servers/make-users.ts';
import { type S3Server, serversForSuite, startServer } from '../servers/s3-server.ts';
import { freshBucket, openS3, partsFor, settingsFor } from '../servers/s3-store-of.ts';
import { binary, cliEnvironment, type JsonObject } from './run-cli.ts';

const lineage = 'team/app/0';
const own = lineagePrefix(toLineageName(lineage));

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'holdfast-permissions-'));
});
afterAll(() => rm(directory, { recursive: true }));

interface Ran {
  readonly code: number | null;
  readonly result: JsonObject;
  readonly error: JsonObject;
}

/** A bucket with a repository, and who may do what in it. */
class Place {
  readonly bucket: string = freshBucket();
  readonly server: S3Server;
  readonly path: string;

  constructor(server: S3Server, path: string) {
    this.server = server;
    this.path = path;
  }

  run(who: UserCredentials | S3Server, ...args: readonly string[]): Ran {
    const token = 'sessionToken' in who && who.sessionToken !== '' ? { AWS_SESSION_TOKEN: who.sessionToken } : {};
    const { status, stdout, stderr } = spawnSync(binary, [...args, '--output', 'json'], {
      encoding: 'utf8',
      env: cliEnvironment({
        AWS_ACCESS_KEY_ID: who.accessKeyId,
        AWS_SECRET_ACCESS_KEY: who.secretAccessKey,
        ...token,
        AWS_EC2_METADATA_DISABLED: 'true',
        HOLDFAST_STORE: `s3://${this.bucket}/some/prefix?endpoint=${this.server.endpoint}`,
        HOLDFAST_KEY_FILE: join(this.path, 'key'),
        HOLDFAST_STATE_DIR: join(this.path, 'state'),
        HOLDFAST_LINEAGE: lineage,
      }),
    });
    const parsed = (text: string): JsonObject => (text === '' ? {} : (JSON.parse(text) as JsonObject));
    return { code: status, result: parsed(stdout), error: parsed(stderr)['error'] ?? {} };
  }

  /** Writes without the condition, where an object stands. */
  async overwrite(who: UserCredentials, key: string): Promise<'stored' | string> {
    const client = new S3Client({
      endpoint: this.server.endpoint,
      region: 'us-east-1',
      forcePathStyle: true,
      credentials: { ...who, ...(who.sessionToken === '' ? { sessionToken: undefined } : {}) } as UserCredentials,
    });
    try {
      await client.send(new PutObjectCommand({ Bucket: this.bucket, Key: `some/prefix/${key}`, Body: 'overwritten' }));
      return 'stored';
    } catch (error) {
      return (error as Error).name;
    } finally {
      client.destroy();
    }
  }
}

/** What is seen on each server of credentials that have exactly the policy of a role: what they exceed it by. docs/stores.md */
const overwriting = ['overwrite records of the lineage', 'overwrite packs of the lineage'];

describe.each(serversForSuite('minio', 'versitygw', 'seaweedfs'))(
  'with the policies that doctor prints, on %s',
  (name) => {
    test('each role can do its work and nothing else; to overwrite cannot be refused', async () => {
      await using server = await startServer(name);
      const work = await mkdtemp(join(directory, `${name}-`));
      const place = new Place(server, work);
      const source = join(work, 'data');
      await mkdir(source);
      // More than one part, so that the agent needs what uploads need.
      await writeFile(join(source, 'large'), randomBytes(10_000_000));

      expect(place.run(server, 'init')).toMatchObject({ code: 0 });
      expect(place.run(server, 'keys', 'make')).toMatchObject({ code: 0, result: { domain: 'team/app' } });
      const { result } = place.run(server, 'doctor', '--policies');
      const policies = result['policies'] as Record<Role, IamPolicy>;
      // Root may do everything, and is told so.
      expect(result['standings']).toEqual(
        roles.map((role) => ({ role, lacks: [], exceeds: expect.arrayContaining(overwriting) })),
      );

      const as = (role: Role): Promise<UserCredentials> => makeUser(server, place.bucket, role, policies[role]);
      const standing = (who: UserCredentials, role: Role): JsonObject => {
        const { standings, rights } = place.run(who, 'doctor', '--policies').result;
        const unclear = (rights as JsonObject[]).filter(({ right }) => typeof right !== 'string');
        expect(unclear, `${role} on ${name}`).toEqual([]);
        return (standings as JsonObject[]).find((each) => each['role'] === role) as JsonObject;
      };

      const agent = await as('agent');
      const stored = place.run(agent, 'checkpoint', source);
      expect(stored).toMatchObject({ code: 0, result: { files: 1 } });
      expect(stored.result['requests']['upload']).toBeGreaterThan(0);
      const back = place.run(agent, 'restore', '--target', join(work, 'agent'));
      expect(back).toMatchObject({ code: 0, result: { root: stored.result['root'] } });
      expect(place.run(agent, 'checkpoint', source, '--lineage', 'team/app/1')).toMatchObject({
        code: 4,
        error: { code: 'E_STORE_UNREACHABLE', details: { reason: 'AccessDenied' } },
      });
      expect(standing(agent, 'agent')).toEqual({ role: 'agent', lacks: [], exceeds: overwriting });

      const settings = settingsFor(server, `${place.bucket}/some/prefix`);
      const root = await openS3(server, settings);
      const records = await root.writer.list(`${own}log/`);
      const packs = await root.writer.list(`${own}pk/`);
      await root.close();
      // Of the three servers none can refuse it: versions or object lock have to keep what was there.
      const record = records.at(-1)!.key;
      expect(await place.overwrite(agent, `${own}receipt/overwritten`)).toBe('stored');
      expect(await place.overwrite(agent, `${own}receipt/overwritten`)).toBe('stored');
      expect(await place.overwrite(agent, `${own}gc/x`)).toBe('AccessDenied');
      expect(await place.overwrite(agent, 'v1/repo')).toBe('AccessDenied');

      const sweeping = async (who: UserCredentials, key: string): Promise<unknown> => {
        await using sweeper = await openS3Sweeper(settings, partsFor(who));
        return await sweeper.delete(key).catch((error: unknown) => (error as { code: string }).code);
      };
      expect(await sweeping(agent, record)).toBe('E_STORE_READ_ONLY');
      expect(await sweeping(agent, packs[0]!.key)).toBe('E_STORE_READ_ONLY');

      const restore = await as('restore');
      expect(place.run(restore, 'restore', '--target', join(work, 'restore'))).toMatchObject({ code: 0 });
      expect(place.run(restore, 'checkpoint', source)).toMatchObject({ code: 5, error: { code: 'E_STORE_READ_ONLY' } });
      expect(await place.overwrite(restore, record)).toBe('AccessDenied');
      expect(standing(restore, 'restore')).toEqual({ role: 'restore', lacks: [], exceeds: [] });

      const people = await as('people');
      expect(place.run(people, 'ls', '--lineage', lineage)).toMatchObject({ code: 0 });
      expect(standing(people, 'people')).toEqual({ role: 'people', lacks: [], exceeds: [] });

      const setup = await as('setup');
      expect(place.run(setup, 'keys', 'make', '--lineage', 'team/new/0')).toMatchObject({ code: 0 });
      expect(standing(setup, 'setup')).toEqual({ role: 'setup', lacks: [], exceeds: [] });
      // It may not even look at it.
      expect(await sweeping(setup, record)).toBe('E_STORE_UNREACHABLE');

      const gc = await as('gc');
      expect(place.run(gc, 'checkpoint', source)).toMatchObject({ code: 5 });
      expect(standing(gc, 'gc')).toEqual({ role: 'gc', lacks: [], exceeds: [] });
      expect(await sweeping(gc, `v1/key/team_.app/1`)).toBe('E_STORE_READ_ONLY');
      expect(await sweeping(gc, packs[0]!.key)).toBe(true);
    }, 180_000);
  },
);
