import {
  PutBucketLifecycleConfigurationCommand,
  PutBucketVersioningCommand,
  PutObjectLockConfigurationCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { describe, expect, test } from 'vitest';
import { S3Inspector } from '../../../../src/edge/store/s3/s3-inspector.ts';
import { installedServers, type S3Server, startServer } from '../../../servers/s3-server.ts';
import { freshBucket, openS3, partsFor, settingsFor } from '../../../servers/s3-store-of.ts';

function clientOf({ endpoint, accessKeyId, secretAccessKey }: S3Server): S3Client {
  return new S3Client({
    endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
  });
}

const names = { minio: /^MinIO/, versitygw: /^VERSITYGW/, seaweedfs: /^SeaweedFS/, s3rver: /^$/ } as const;

describe.each(installedServers('minio', 'versitygw', 'seaweedfs', 's3rver'))('a bucket on %s', (name) => {
  test('tells what it is, and what it does not know fails nothing', async () => {
    await using server = await startServer(name);
    const settings = settingsFor(server);
    const { writer, close } = await openS3(server, settings);
    await using inspector = new S3Inspector(settings, partsFor(server));
    const facts = await inspector.facts();
    expect(facts).toMatchObject({ kind: 'bucket', bucket: settings.bucket, prefix: '', isAws: false });
    expect(facts.server).toMatch(names[name]);
    expect(facts.versions).toEqual({ known: true, value: 'none' });
    expect(Math.abs(facts.aheadMs ?? Number.NaN)).toBeLessThan(60_000);
    for (const answer of [facts.objectLock, facts.rules, facts.encryption, facts.unfinished]) {
      expect(answer.known || answer.why === 'not-implemented').toBe(true);
    }
    // s3rver knows none of these questions.
    expect(facts.rules.known).toBe(name === 'minio' || name === 'seaweedfs');
    // Questions about rights leave nothing, also on a server that checks no checksums.
    for (const ask of ['create', 'overwrite', 'delete', 'endUploads'] as const) {
      const right = await inspector.rights[ask]('v1/l/00/x/pk/doctor-1');
      expect(right).toEqual(name === 's3rver' && ask === 'endUploads' ? { unclear: expect.any(String) } : 'allowed');
    }
    expect(await writer.list('v1/')).toEqual([]);
    if (name !== 's3rver') expect(await writer.unfinished('v1/')).toEqual([]);
    await close();
  });
});

describe.each(installedServers('minio'))('settings of a bucket on %s', (name) => {
  test('are read: versions, object lock, rules that expire, unfinished uploads', async () => {
    await using server = await startServer(name);
    const client = clientOf(server);
    const settings = settingsFor(server, freshBucket(), 'object-lock=governance:1');
    const { writer, close } = await openS3(server, settings);
    const Bucket = settings.bucket;
    await client.send(
      new PutObjectLockConfigurationCommand({
        Bucket,
        ObjectLockConfiguration: {
          ObjectLockEnabled: 'Enabled',
          Rule: { DefaultRetention: { Mode: 'GOVERNANCE', Days: 3 } },
        },
      }),
    );
    await client.send(
      new PutBucketLifecycleConfigurationCommand({
        Bucket,
        LifecycleConfiguration: {
          Rules: [
            { ID: 'old', Status: 'Enabled', Filter: { Prefix: 'v1/' }, Expiration: { Days: 30 } },
            { ID: 'off', Status: 'Disabled', Filter: { Prefix: '' }, Expiration: { Days: 1 } },
          ],
        },
      }),
    );
    await using inspector = new S3Inspector(settings, partsFor(server));
    const upload = await writer.beginUpload('v1/l/00/x/pk/1-1-0-01234567');
    await upload.append(new Uint8Array(9 * 1024 * 1024));
    // The first part is under way; its upload is known to the server before it is.
    await expect
      .poll(async () => (await inspector.facts()).unfinished, { timeout: 10_000 })
      .toMatchObject({ value: 1 });
    expect(await inspector.facts()).toMatchObject({
      versions: { value: 'kept' },
      objectLock: { value: { enabled: true, byDefault: 'GOVERNANCE, 3 days' } },
      rules: { value: [{ id: 'old', prefix: 'v1/', expires: true, archives: false, endsUploadsDays: undefined }] },
      locksObjects: true,
    });
    await upload.abort();
    client.destroy();
    await close();
  });

  test('a question about deleting leaves no marker in a bucket that keeps versions', async () => {
    await using server = await startServer(name);
    const client = clientOf(server);
    const settings = settingsFor(server);
    const { close } = await openS3(server, settings);
    const Bucket = settings.bucket;
    await client.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Enabled' } }));
    await using inspector = new S3Inspector(settings, partsFor(server));
    expect(await inspector.rights.delete('v1/l/00/x/log/doctor-1')).toBe('allowed');
    const { ListObjectVersionsCommand } = await import('@aws-sdk/client-s3');
    const { DeleteMarkers = [] } = await client.send(new ListObjectVersionsCommand({ Bucket }));
    expect(DeleteMarkers).toEqual([]);
    client.destroy();
    await close();
  });
});
