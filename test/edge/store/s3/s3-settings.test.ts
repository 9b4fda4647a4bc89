import { describe, expect, test } from 'vitest';
import { parseS3Settings } from '../../../../src/edge/store/s3/s3-settings.ts';

const refusal = (remedy: string) =>
  expect.objectContaining({ code: 'E_USAGE', remedy: expect.stringContaining(remedy) });

describe('the address of an S3 store', () => {
  test.each([
    ['s3://bucket', 'bucket', ''],
    ['S3://bucket/', 'bucket', ''],
    ['s3://bucket/prefix', 'bucket', 'prefix/'],
    ['s3://bucket/a/b-c/', 'bucket', 'a/b-c/'],
    ['s3://my.bucket-1?region=eu-central-1', 'my.bucket-1', ''],
  ])('%s is bucket %s with prefix %j', (address, bucket, prefix) => {
    expect(parseS3Settings(address, {})).toMatchObject({ bucket, prefix });
  });

  test.each([
    ['s3:', 'Write s3://BUCKET'],
    ['s3:/bucket', 'Write s3://BUCKET'],
    ['s3://', 'Write s3://BUCKET'],
    ['s3://b', 'Write s3://BUCKET'],
    ['s3://bucket#part', 'Write s3://BUCKET'],
    ['s3://bucket/a//b', 'joined by single slashes'],
    ['s3://bucket/../b', 'joined by single slashes'],
    ['s3://bucket/ä', 'joined by single slashes'],
    ['s3://bucket?colour=red', 'Its settings are'],
    ['s3://bucket?region=a&region=b', 'Give each setting once'],
    ['s3://bucket?region=', 'Give a region'],
    ['s3://bucket?endpoint=example.org', 'Give the URL'],
    ['s3://bucket?path-style=yes', 'true or false'],
    ['s3://bucket?requests-max=0', '1 to 1000'],
    ['s3://bucket?upload-mib=4', '16 to 10000'],
    ['s3://bucket?object-lock=forever', 'governance:DAYS'],
    ['s3://bucket?checksum=md5', 'crc32'],
    ['s3://bucket?tags=a', 'KEY=VALUE'],
    ['s3://bucket?storage-class=DEEP_ARCHIVE', 'immediate access'],
    ['s3://bucket?sse=c:abc', 'sse=s3 or sse=kms'],
  ])('%s is refused with a remedy', (address, remedy) => {
    expect(() => parseS3Settings(address, {})).toThrow(refusal(remedy));
  });

  test.each([
    's3://AKIAEXAMPLE:hidden@bucket',
    's3://bucket?secret-access-key=hidden',
    's3://bucket?accesskey=hidden',
    's3://bucket?session-token=hidden',
    's3://bucket?sse-customer-key=hidden',
    's3://bucket?endpoint=https://user:hidden@example.org',
    's3://bucket?proxy=http://user:hidden@proxy:3128',
  ])('%s holds a secret: it is refused, and not repeated', (address) => {
    let message = '';
    try {
      parseS3Settings(address, {});
    } catch (error) {
      message = `${String(error)} ${JSON.stringify(error)}`;
    }
    expect(message).toContain('E_USAGE');
    expect(message).not.toContain('hidden');
  });
});

describe('settings of an S3 store', () => {
  test('take a bound of requests a second', () => {
    expect(parseS3Settings('s3://bucket?requests-per-second=20', {}).requestsPerSecond).toBe(20);
    expect(() => parseS3Settings('s3://bucket?requests-per-second=0', {})).toThrow(
      expect.objectContaining({ code: 'E_USAGE' }),
    );
  });

  test('have defaults that suit AWS', () => {
    expect(parseS3Settings('s3://bucket', {})).toEqual({
      bucket: 'bucket',
      prefix: '',
      region: undefined,
      endpoint: undefined,
      pathStyle: false,
      caFile: undefined,
      proxy: undefined,
      packClass: undefined,
      recordClass: undefined,
      encryption: undefined,
      objectLock: undefined,
      checksum: 'CRC32',
      profile: undefined,
      requesterPays: false,
      tags: {},
      requestsMax: 64,
      requestsPerSecond: undefined,
      uploadBytesMax: 32 * 1024 * 1024,
      stallMs: 30_000,
      patienceMs: 300_000,
    });
  });

  test('come from the address, and otherwise from the environment', () => {
    const env = {
      HOLDFAST_S3_REGION: 'eu-west-1',
      HOLDFAST_S3_STORAGE_CLASS: 'STANDARD_IA',
      HOLDFAST_S3_SSE: 'kms:alias/backup',
      HOLDFAST_S3_CHECKSUM: '',
      HOLDFAST_S3_TAGS: 'team=a,use=checkpoints',
    };
    expect(parseS3Settings('s3://bucket?region=eu-central-1&object-lock=compliance:30', env)).toMatchObject({
      region: 'eu-central-1',
      packClass: 'STANDARD_IA',
      recordClass: undefined,
      encryption: { kind: 'kms', keyId: 'alias/backup' },
      objectLock: { mode: 'COMPLIANCE', days: 30 },
      checksum: 'CRC32',
      tags: { team: 'a', use: 'checkpoints' },
    });
    expect(() => parseS3Settings('s3://bucket', { HOLDFAST_S3_PATH_STYLE: '1' })).toThrow(
      expect.objectContaining({ code: 'E_USAGE', message: expect.stringContaining('HOLDFAST_S3_PATH_STYLE') }),
    );
  });

  test('of a server of its own: the path holds the bucket, unless told otherwise', () => {
    for (const [address, env] of [
      ['s3://bucket?endpoint=http://127.0.0.1:9000', {}],
      ['s3://bucket', { HOLDFAST_S3_ENDPOINT: 'http://127.0.0.1:9000' }],
      ['s3://bucket', { AWS_ENDPOINT_URL: 'http://127.0.0.1:9000' }],
      ['s3://bucket', { AWS_ENDPOINT_URL: 'http://other', AWS_ENDPOINT_URL_S3: 'http://127.0.0.1:9000' }],
    ] as const) {
      expect(parseS3Settings(address, env)).toMatchObject({ endpoint: 'http://127.0.0.1:9000', pathStyle: true });
    }
    const virtual = parseS3Settings('s3://bucket?endpoint=https://s3.example.org&path-style=false', {});
    expect(virtual.pathStyle).toBe(false);
  });
});
