import { openS3Reader, openS3Sweeper } from '../../../../src/edge/store/s3/open-s3-store.ts';
import { parseS3Settings } from '../../../../src/edge/store/s3/s3-settings.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { describeObjectStore } from '../../../ports/object-store-suite.ts';
import { serversForSuite, type S3Server, startServer } from '../../../servers/s3-server.ts';
import { freshBucket, openS3, partsFor, settingsFor } from '../../../servers/s3-store-of.ts';

const names = serversForSuite('minio', 'versitygw', 'seaweedfs');

test('opening a store asks nothing of its server', async () => {
  const settings = parseS3Settings('s3://bucket?endpoint=http://127.0.0.1:1', {});
  const parts = partsFor({ accessKeyId: 'none', secretAccessKey: 'none' });
  await using reader = await openS3Reader(settings, parts);
  await using sweeper = await openS3Sweeper(settings, parts);
  expect('create' in reader || 'delete' in reader || 'create' in sweeper).toBe(false);
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
