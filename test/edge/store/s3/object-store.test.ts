import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { describeObjectStore } from '../../../ports/object-store-suite.ts';
import { findServers, type S3Server, startServer } from '../../../servers/s3-server.ts';
import { freshBucket, openS3, settingsFor } from '../../../servers/s3-store-of.ts';

const names = findServers('minio', 'versitygw', 'seaweedfs');

test('the servers that are installed are known', () => {
  expect(names.every((name) => ['minio', 'versitygw', 'seaweedfs'].includes(name))).toBe(true);
});

describe.each(names)('%s', (name) => {
  let server: S3Server;

  beforeAll(async () => {
    server = await startServer(name);
  });
  afterAll(() => server[Symbol.asyncDispose]());

  // SeaweedFS makes volumes for each bucket: there, all tests share one and have a prefix each. Its losers wait for a
  // lock, up to two seconds a race.
  const bucket = freshBucket();
  let opened = 0;
  describeObjectStore(name, async () => {
    if (name !== 'seaweedfs') return { ...(await openS3(server)), flat: true };
    opened += 1;
    const prefix = `p${opened}`;
    const settings = settingsFor(server, `${bucket}/${prefix}`);
    const keyBytesMax = 1024 - settings.prefix.length;
    return { ...(await openS3(server, settings)), flat: true, ordersDirectories: true, races: 10, keyBytesMax };
  });
});
