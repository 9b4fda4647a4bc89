import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { S3Writer } from '../../../../src/edge/store/s3/s3-store.ts';
import { ProxiedStore } from '../../../servers/proxied-store.ts';
import { assumeRole, revokeRoles, type RoleCredentials } from '../../../servers/role-credentials.ts';
import { serversForSuite, type S3Server, startServer } from '../../../servers/s3-server.ts';
import type { FaultProxy, ProxiedRequest } from '../../../support/fault-proxy.ts';

const mebibyte = 1024 * 1024;
const key = 'v1/p/a';

describe.each(serversForSuite('minio'))('session credentials on %s', (name) => {
  const content = new Uint8Array(randomBytes(28 * mebibyte));
  let server: S3Server;
  let place: ProxiedStore;
  let proxy: FaultProxy;
  let direct: S3Writer;

  beforeAll(async () => {
    server = await startServer(name);
  });
  afterAll(() => server[Symbol.asyncDispose]());
  beforeEach(async () => {
    place = await ProxiedStore.make(server, 'stall-seconds=5&patience-seconds=20');
    ({ proxy, direct } = place);
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    await place[Symbol.asyncDispose]();
  });

  const session = (): Promise<RoleCredentials> =>
    assumeRole(server, {
      Version: '2012-10-17',
      Statement: [{ Sid: 'All', Effect: 'Allow', Action: ['s3:*'], Resource: ['arn:aws:s3:::*'] }],
    });

  /** The numbers of the parts that were sent with these credentials, in order. */
  function partsSentWith({ accessKeyId }: RoleCredentials): number[] {
    const sent = proxy.requests.filter((request) => signer(request) === accessKeyId);
    return sent
      .flatMap(({ url }) => /partNumber=(\d+)/.exec(url)?.[1] ?? [])
      .map(Number)
      .toSorted((a, b) => a - b);
  }

  test('that expire in the middle of an upload are renewed, and only the refused part is sent again', async () => {
    const made = [await session(), await session()];
    const handedOut = vi.fn(async () => made[Math.min(handedOut.mock.calls.length, made.length) - 1]!);
    await using writer = await place.open({ credentials: handedOut });
    let refused = false;
    proxy.rule = ({ url }) => {
      if (refused || !/partNumber=2/.test(url)) return undefined;
      refused = true;
      return { kind: 'answer', status: 400, code: 'ExpiredToken' };
    };
    const upload = await writer.beginUpload(key);
    await upload.append(content);
    expect(await upload.commit()).toBe('created');
    expect(Buffer.compare((await direct.get(key, { bytesMax: content.length }))!, content)).toBe(0);
    expect(handedOut).toHaveBeenCalledTimes(2);
    expect([...partsSentWith(made[0]!), ...partsSentWith(made[1]!)].toSorted()).toEqual([1, 2, 2, 3, 4]);
    expect(partsSentWith(made[1]!)).toContain(2);
    expect(place.notices).toMatchObject([{ reason: 'ExpiredToken' }]);
  });

  test('that the server has revoked are read again from the file that holds new ones', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'holdfast-credentials-'));
    try {
      const file = join(directory, 'credentials');
      const put = (credentials: RoleCredentials): void => writeFileSync(file, profileOf(credentials));
      vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', file);
      const first = await session();
      put(first);
      await using writer = await place.open({ credentials: undefined }, { profile: 'rotated' });
      const upload = await writer.beginUpload(key);
      await upload.append(content.subarray(0, 9 * mebibyte));
      await vi.waitFor(() => expect(proxy.receivedBytes).toBeGreaterThanOrEqual(8 * mebibyte), 10_000);
      await proxy.settle();
      await revokeRoles(server);
      const second = await session();
      put(second);
      await upload.append(content.subarray(9 * mebibyte));
      expect(await upload.commit()).toBe('created');
      expect(Buffer.compare((await direct.get(key, { bytesMax: content.length }))!, content)).toBe(0);
      // How often is left open: the server closes connections over which it refuses a body that is still coming.
      expect(partsSentWith(first)).toContain(2);
      expect(partsSentWith(second)).toEqual(expect.arrayContaining([2, 3, 4]));
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test('that nobody renews end the upload with what to do, and leave nothing behind', async () => {
    const revoked = await session();
    await revokeRoles(server);
    await using writer = await place.open({ credentials: revoked });
    await expect(writer.create('v1/a', content.subarray(0, 10))).rejects.toMatchObject({
      code: 'E_STORE_CREDENTIALS',
      remedy: expect.stringContaining('expired'),
      details: { key: 'v1/a', renewals: 4 },
    });
    expect(proxy.count('PUT')).toBe(5);
    expect(await direct.get('v1/a', { bytesMax: 10 })).toBeUndefined();
  });
});

/** The access key that a request was signed with. */
function signer({ headers }: ProxiedRequest): string | undefined {
  return /Credential=([^/]+)/.exec(String(headers['authorization']))?.[1];
}

function profileOf({ accessKeyId, secretAccessKey, sessionToken }: RoleCredentials): string {
  return `[rotated]
aws_access_key_id = ${accessKeyId}
aws_secret_access_key = ${secretAccessKey}
aws_session_token = ${sessionToken}
`;
}
