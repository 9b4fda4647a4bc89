import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { openS3Writer } from '../../../../src/edge/store/s3/open-s3-store.ts';
import type { RetryNotice } from '../../../../src/edge/store/s3/request-policy.ts';
import type { S3Parts } from '../../../../src/edge/store/s3/s3-connection.ts';
import type { S3Settings } from '../../../../src/edge/store/s3/s3-settings.ts';
import type { S3Writer } from '../../../../src/edge/store/s3/s3-store.ts';
import { assumeRole, revokeRoles, type RoleCredentials } from '../../../servers/role-credentials.ts';
import { serversForSuite, type S3Server, startServer } from '../../../servers/s3-server.ts';
import { freshBucket, openS3, partsFor, settingsFor } from '../../../servers/s3-store-of.ts';
import { FaultProxy, type ProxiedRequest } from '../../../support/fault-proxy.ts';

const mebibyte = 1024 * 1024;
const key = 'v1/p/a';

describe.each(serversForSuite('minio'))('session credentials on %s', (name) => {
  const content = new Uint8Array(randomBytes(28 * mebibyte));
  let server: S3Server;
  let proxy: FaultProxy;
  let settings: S3Settings;
  let direct: S3Writer;
  let notices: RetryNotice[];

  beforeAll(async () => {
    server = await startServer(name);
  });
  afterAll(() => server[Symbol.asyncDispose]());
  beforeEach(async () => {
    proxy = await FaultProxy.start(server.port);
    settings = settingsFor(proxy, freshBucket(), 'stall-seconds=5&patience-seconds=20');
    direct = (await openS3(server, { ...settings, endpoint: server.endpoint })).writer;
    notices = [];
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    await direct[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();
  });

  const session = (): Promise<RoleCredentials> =>
    assumeRole(server, {
      Version: '2012-10-17',
      Statement: [{ Sid: 'All', Effect: 'Allow', Action: ['s3:*'], Resource: ['arn:aws:s3:::*'] }],
    });

  function open(parts: Partial<S3Parts>, query: Partial<S3Settings> = {}): Promise<S3Writer> {
    const { credentials: _, ...others } = partsFor(server);
    const onRetry = (notice: RetryNotice): void => void notices.push(notice);
    return openS3Writer({ ...settings, ...query }, { ...others, onRetry, ...parts });
  }

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
    await using writer = await open({ credentials: handedOut });
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
    expect(notices).toMatchObject([{ reason: 'ExpiredToken' }]);
  });

  test('that the server has revoked are read again from the file that holds new ones', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'holdfast-credentials-'));
    try {
      const file = join(directory, 'credentials');
      const put = (credentials: RoleCredentials): void => writeFileSync(file, profileOf(credentials));
      vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', file);
      const first = await session();
      put(first);
      await using writer = await open({}, { profile: 'rotated' });
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
    await using writer = await open({ credentials: revoked });
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
