import { randomBytes } from 'node:crypto';
import { type AddressInfo, createServer } from 'node:net';
import { ListMultipartUploadsCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { RetryNotice } from '../../../../src/edge/store/s3/request-policy.ts';
import { openS3Writer } from '../../../../src/edge/store/s3/open-s3-store.ts';
import type { S3Settings } from '../../../../src/edge/store/s3/s3-settings.ts';
import type { S3Writer } from '../../../../src/edge/store/s3/s3-store.ts';
import type { Fault, FaultProxy, ProxiedRequest } from '../../../support/fault-proxy.ts';
import { setBucketQuota } from '../../../servers/bucket-quota.ts';
import { ProxiedStore } from '../../../servers/proxied-store.ts';
import { serversForSuite, type S3Server, startServer } from '../../../servers/s3-server.ts';
import { freshBucket, openS3, partsFor, settingsFor } from '../../../servers/s3-store-of.ts';

const names = serversForSuite('minio', 'versitygw');
const text = (content: string): Uint8Array => new TextEncoder().encode(content);
const mebibyte = 1024 * 1024;

test('a store where nobody listens is unreachable, and is not waited for as long as one that has answered', async () => {
  const closed = createServer();
  await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve));
  const { port } = closed.address() as AddressInfo;
  await new Promise((resolve) => closed.close(resolve));
  const settings = settingsFor({ endpoint: `http://127.0.0.1:${port}` }, 'bucket', 'patience-seconds=1');
  await using writer = await openS3Writer(settings, partsFor({ accessKeyId: 'none', secretAccessKey: 'none' }));
  await expect(writer.get('v1/a', { bytesMax: 1 })).rejects.toMatchObject({
    code: 'E_STORE_UNREACHABLE',
    details: { reason: 'ECONNREFUSED' },
  });
});

test('a name that nobody knows is unreachable', async () => {
  const settings = settingsFor({ endpoint: 'http://nowhere.invalid' }, 'bucket', 'patience-seconds=0');
  await using writer = await openS3Writer(settings, partsFor({ accessKeyId: 'none', secretAccessKey: 'none' }));
  await expect(writer.get('v1/a', { bytesMax: 1 })).rejects.toMatchObject({
    code: 'E_STORE_UNREACHABLE',
    details: { reason: expect.stringMatching(/^(ENOTFOUND|EAI_AGAIN)$/) },
  });
});

describe.each(names)('a server that is killed, %s,', (name) => {
  test('is waited for, and what it had acknowledged is there when it comes back', async () => {
    await using server = await startServer(name);
    const settings = settingsFor(server, freshBucket(), 'stall-seconds=2');
    const { writer, close } = await openS3(server, settings);
    const content = new Uint8Array(randomBytes(20 * mebibyte));
    expect(await writer.create('v1/before', text('there'))).toBe('created');
    const upload = await writer.beginUpload('v1/p/a');
    await upload.append(content.subarray(0, 9 * mebibyte));
    const restarted = server.restart(500);
    await upload.append(content.subarray(9 * mebibyte));
    expect(await upload.commit()).toBe('created');
    await restarted;
    expect(await writer.get('v1/before', { bytesMax: 10 })).toEqual(text('there'));
    const found = await writer.get('v1/p/a', { bytesMax: content.length });
    expect(Buffer.compare(found!, content)).toBe(0);
    await close();
  });
});

describe.each(serversForSuite('minio'))('a bucket whose quota is used up, on %s,', (name) => {
  test.runIf(name === 'minio')(
    'a bucket whose quota is used up is waited for, and nothing is sent in vain',
    async () => {
      await using server = await startServer(name);
      await using place = await ProxiedStore.make(server, 'patience-seconds=20');
      const { proxy, settings, direct, notices } = place;
      await using writer = await place.open();
      const content = new Uint8Array(randomBytes(20 * mebibyte));
      // MinIO counts what a bucket holds once in a while; a body that is larger than the bound is refused at once.
      await setBucketQuota(server, settings.bucket, mebibyte);
      const upload = await writer.beginUpload('v1/p/a');
      await upload.append(content);
      const committed = upload.commit();
      await expect.poll(() => notices.length, { timeout: 10_000 }).toBeGreaterThan(9);
      await setBucketQuota(server, settings.bucket, 0);
      expect(await committed).toBe('created');
      const found = await direct.get('v1/p/a', { bytesMax: content.length });
      expect(Buffer.compare(found!, content)).toBe(0);
      const reasons = new Set(notices.map(({ reason }) => reason));
      expect(reasons).toContain('XMinioAdminBucketQuotaExceeded');
      // A server that refuses a body that is still coming closes the connection, which may be all that is seen the first time.
      expect([...reasons].filter((reason) => !/Quota|ECONNRESET|EPIPE/.test(reason))).toEqual([]);
      // Each of the three parts came twice: before it was known, and when there was room.
      expect(proxy.receivedBytes).toBeGreaterThanOrEqual(2 * content.length);
      expect(proxy.receivedBytes).toBeLessThan(2 * content.length + mebibyte);

      await setBucketQuota(server, settings.bucket, mebibyte);
      await using impatient = await place.open({}, { patienceMs: 500 });
      await expect(impatient.create('v1/b', content)).rejects.toMatchObject({ code: 'E_STORE_FULL' });
      expect(await direct.stat('v1/b')).toBeUndefined();
    },
  );
});

describe.each(names)('a bad network before %s', (name) => {
  let server: S3Server;
  let place: ProxiedStore;
  let proxy: FaultProxy;
  let settings: S3Settings;
  /** Through the proxy. */
  let writer: S3Writer;
  /** Past it. */
  let direct: S3Writer;
  let notices: RetryNotice[];

  beforeAll(async () => {
    server = await startServer(name);
  });
  afterAll(() => server[Symbol.asyncDispose]());

  beforeEach(async () => {
    place = await ProxiedStore.make(server, 'stall-seconds=1&patience-seconds=20');
    ({ proxy, settings, direct, notices } = place);
    writer = await place.open();
  });
  afterEach(async () => {
    await writer[Symbol.asyncDispose]();
    await place[Symbol.asyncDispose]();
  });

  const get = async (key: string) => await direct.get(key, { bytesMax: 64 * mebibyte });

  /** Gives the first so many requests that match a fault, and no others. */
  function plant(fault: Fault, method: string, { url = /./, times = 1 }: { url?: RegExp; times?: number } = {}): void {
    let left = times;
    proxy.rule = (request: ProxiedRequest) => {
      if (left === 0 || request.method !== method || !url.test(request.url)) return undefined;
      left -= 1;
      return fault;
    };
  }

  /** Uploads of many parts that nobody has completed or aborted. */
  async function unfinishedUploads(): Promise<number> {
    const { accessKeyId, secretAccessKey, endpoint } = server;
    const credentials = { accessKeyId, secretAccessKey };
    const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials });
    try {
      const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: settings.bucket }));
      return Uploads.length;
    } finally {
      client.destroy();
    }
  }

  describe('a create', () => {
    test.each<[string, Fault]>([
      ['was lost on its way', { kind: 'drop' }],
      ['was done and the reply lost', { kind: 'lose-reply' }],
      ['was done and answered with 500', { kind: 'answer', status: 500, code: 'InternalError', after: true }],
      ['was done and answered with 503', { kind: 'answer', status: 503, code: 'ServiceUnavailable', after: true }],
      ['was answered with 409', { kind: 'answer', status: 409, code: 'ConditionalRequestConflict' }],
      ['was done and answered with 409', { kind: 'answer', status: 409, code: 'OperationAborted', after: true }],
      ['came to the server with a bit changed', { kind: 'corrupt' }],
      ['was answered with SlowDown', { kind: 'answer', status: 503, code: 'SlowDown' }],
      ['never got an answer', { kind: 'stall' }],
      ['was reset while it was sent', { kind: 'reset', bytes: 1 }],
    ])('that %s is settled as created', async (_how, fault) => {
      plant(fault, 'PUT');
      expect(await writer.create('v1/a', text('ours'))).toBe('created');
      expect(await get('v1/a')).toEqual(text('ours'));
      expect(notices).toHaveLength(1);
      expect(proxy.count('PUT')).toBe(2);
    });

    test('whose reply was lost is settled as exists where another object stands', async () => {
      await direct.create('v1/a', text('theirs'));
      plant({ kind: 'lose-reply' }, 'PUT');
      expect(await writer.create('v1/a', text('ours'))).toBe('exists');
      await direct.create('v1/b', text('theirs, and longer'));
      plant({ kind: 'lose-reply' }, 'PUT');
      expect(await writer.create('v1/b', text('ours'))).toBe('exists');
      expect(await get('v1/a')).toEqual(text('theirs'));
    });

    test('that lands after its time-out, behind our own second one, changes nothing', async () => {
      let release = (): void => {};
      const until = new Promise<void>((resolve) => {
        release = resolve;
      });
      plant({ kind: 'late', until }, 'PUT');
      expect(await writer.create('v1/a', text('ours'))).toBe('created');
      release();
      await proxy.settle();
      expect(await get('v1/a')).toEqual(text('ours'));
    });

    test('that lands after its time-out, behind another writer, does not win', async () => {
      let release = (): void => {};
      const until = new Promise<void>((resolve) => {
        release = resolve;
      });
      plant({ kind: 'late', until }, 'PUT');
      const theirs = direct.create('v1/a', text('theirs'));
      expect(await theirs).toBe('created');
      expect(await writer.create('v1/a', text('ours'))).toBe('exists');
      release();
      await proxy.settle();
      expect(await get('v1/a')).toEqual(text('theirs'));
    });

    test('is tried once where trying again is of no use', async () => {
      plant({ kind: 'answer', status: 403, code: 'AccessDenied' }, 'PUT', { times: 9 });
      await expect(writer.create('v1/a', text('x'))).rejects.toMatchObject({
        code: 'E_STORE_READ_ONLY',
        remedy: expect.stringContaining('s3:PutObject'),
        details: { key: 'v1/a', reason: 'AccessDenied', status: 403 },
      });
      plant({ kind: 'answer', status: 501, code: 'NotImplemented' }, 'PUT', { times: 9 });
      await expect(writer.create('v1/a', text('x'))).rejects.toMatchObject({ code: 'E_UNFENCED' });
      expect(proxy.count('PUT')).toBe(2);
      expect(notices).toEqual([]);
    });
  });

  describe('a read', () => {
    const content = new Uint8Array(randomBytes(3 * mebibyte));

    test.each<[string, Fault]>([
      ['breaks off', { kind: 'cut', bytes: 2 * mebibyte }],
      ['stands still', { kind: 'stall-body', bytes: 2 * mebibyte }],
    ])('whose body %s goes on from where it was', async (_how, fault) => {
      await direct.create('v1/a', content);
      plant(fault, 'GET');
      expect(await writer.get('v1/a', { bytesMax: content.length })).toEqual(content);
      const again = /^bytes=(\d+)-$/.exec(String(proxy.requests.at(-1)?.headers['range']));
      expect(Number(again?.[1])).toBeGreaterThan(mebibyte);
      plant(fault, 'GET');
      const range = await writer.getRange('v1/a', 1000, content.length - 2000);
      expect(range).toEqual(content.slice(1000, content.length - 1000));
    });

    test('that fails in other ways is tried again, of any kind', async () => {
      await direct.create('v1/a', text('whole'));
      const times = 2;
      for (const fault of [{ kind: 'drop' }, { kind: 'answer', status: 500, code: 'InternalError' }] as const) {
        plant(fault, 'GET', { times });
        expect(await writer.get('v1/a', { bytesMax: 10 })).toEqual(text('whole'));
        plant(fault, 'HEAD', { times });
        expect(await writer.stat('v1/a')).toMatchObject({ bytes: 5 });
        plant(fault, 'GET', { times });
        expect((await writer.list('v1/')).map(({ key }) => key)).toEqual(['v1/a']);
      }
      expect(notices).toHaveLength(12);
    });

    test('without the right to it says which right is missing', async () => {
      plant({ kind: 'answer', status: 403, code: 'AccessDenied' }, 'GET', { times: 9 });
      await expect(writer.get('v1/a', { bytesMax: 1 })).rejects.toMatchObject({
        code: 'E_STORE_UNREACHABLE',
        remedy: expect.stringContaining('s3:GetObject'),
      });
    });
  });

  test('a range that takes far longer than ranges do is asked for twice, and the first answer counts', async () => {
    await direct.create('v1/a', text('a few bytes'));
    for (let i = 0; i < 10; i++) await writer.getRange('v1/a', 2, 3);
    const before = proxy.count('GET');
    plant({ kind: 'stall' }, 'GET');
    expect(await writer.getRange('v1/a', 2, 3)).toEqual(text('few'));
    // The one that nobody answered was given up, not tried again after its time-out.
    expect(proxy.count('GET') - before).toBe(2);
    expect(notices).toEqual([]);
  });

  describe('an upload of many parts', () => {
    const content = new Uint8Array(randomBytes(20 * mebibyte));

    async function upload(): Promise<string> {
      const parts = await writer.beginUpload('v1/p/a');
      for (let at = 0; at < content.length; at += 3_000_000) await parts.append(content.subarray(at, at + 3_000_000));
      return await parts.commit();
    }

    test.each<[string, string, RegExp, Fault]>([
      ['beginning', 'POST', /uploads/, { kind: 'lose-reply' }],
      ['beginning', 'POST', /uploads/, { kind: 'answer', status: 503, code: 'SlowDown', after: true }],
      ['part', 'PUT', /partNumber=2/, { kind: 'drop' }],
      ['part', 'PUT', /partNumber=2/, { kind: 'lose-reply' }],
      ['part', 'PUT', /partNumber=2/, { kind: 'corrupt' }],
      ['part', 'PUT', /partNumber=3/, { kind: 'stall' }],
      ['part', 'PUT', /partNumber=2/, { kind: 'reset', bytes: 3 * mebibyte }],
      ['completion', 'POST', /uploadId/, { kind: 'drop' }],
      ['completion', 'POST', /uploadId/, { kind: 'lose-reply' }],
      ['completion', 'POST', /uploadId/, { kind: 'answer', status: 500, code: 'InternalError', after: true }],
      ['completion', 'POST', /uploadId/, { kind: 'twice' }],
    ])('survives trouble with its %s (%s %s %o) and leaves nothing behind', async (_step, method, url, fault) => {
      plant(fault, method, { url });
      expect(await upload()).toBe('created');
      const found = await get('v1/p/a');
      expect(Buffer.compare(found!, content)).toBe(0);
      expect(await unfinishedUploads()).toBe(0);
    });

    test('is refused where an object has come meanwhile, and leaves nothing behind', async () => {
      const parts = await writer.beginUpload('v1/p/a');
      await parts.append(content);
      await direct.create('v1/p/a', text('theirs'));
      expect(await parts.commit()).toBe('exists');
      expect(await get('v1/p/a')).toEqual(text('theirs'));
      expect(await unfinishedUploads()).toBe(0);
    });

    test('that is given up, or fails for good, leaves nothing behind', async () => {
      const given = await writer.beginUpload('v1/p/a');
      await given.append(content);
      await given.abort();
      expect(await unfinishedUploads()).toBe(0);

      plant({ kind: 'answer', status: 403, code: 'AccessDenied' }, 'PUT', { url: /partNumber/, times: 99 });
      const failed = await writer.beginUpload('v1/p/a');
      const error = await failed
        .append(content)
        .then(
          () => failed.commit(),
          (thrown: unknown) => Promise.reject(thrown),
        )
        .catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'E_STORE_READ_ONLY' });
      await failed.abort();
      expect(await unfinishedUploads()).toBe(0);
      expect(await get('v1/p/a')).toBeUndefined();
    });

    test('of one part that something on the way sends twice is created, not refused', async () => {
      plant({ kind: 'twice' }, 'PUT');
      const small = await writer.beginUpload('v1/p/small');
      await small.append(text('small'));
      expect(await small.commit()).toBe('created');
    });
  });

  describe('a network that is slow', () => {
    const content = new Uint8Array(randomBytes(20 * mebibyte));

    test('to answer, at times more than at others, costs time and nothing else', async () => {
      let number = 0;
      // Of 20 ms or up to 400, below what counts as no progress.
      proxy.rule = () => ({ kind: 'delay', ms: 20 + ((number++ * 131) % 8 === 0 ? 380 : 0) });
      const created = await Promise.all(
        Array.from({ length: 20 }, (_, i) => writer.create(`v1/a${i}`, content.subarray(0, 1000 + i))),
      );
      expect(created).toEqual(Array(20).fill('created'));
      const upload = await writer.beginUpload('v1/p/a');
      await upload.append(content);
      expect(await upload.commit()).toBe('created');
      const starts = Array.from({ length: 20 }, (_, i) => i * mebibyte);
      const ranges = await Promise.all(starts.map((start) => writer.getRange('v1/p/a', start, mebibyte)));
      expect(Buffer.compare(Buffer.concat(ranges), content)).toBe(0);
      expect(notices).toEqual([]);
      expect(proxy.count('PUT')).toBe(23);
    });

    test('to carry much is waited for as long as something comes, and sends nothing twice', async () => {
      await direct.create('v1/large', content);
      proxy.bytesPerSecond = 8 * mebibyte;
      const startedMs = performance.now();
      const found = await writer.get('v1/large', { bytesMax: content.length });
      expect(Buffer.compare(found!, content)).toBe(0);
      // Longer than an attempt without progress may take: 1 s.
      expect(performance.now() - startedMs).toBeGreaterThan(2000);
      proxy.bytesPerSecond = 32 * mebibyte;
      const upload = await writer.beginUpload('v1/p/a');
      await upload.append(content);
      expect(await upload.commit()).toBe('created');
      expect(proxy.receivedBytes).toBeLessThan(content.length + mebibyte);
      expect(notices).toEqual([]);
    });
  });

  test('a server that asks for fewer requests gets fewer at a time, and more again when it stops asking', async () => {
    await direct.create('v1/a', text('a few bytes'));
    /** The most requests at a time that the server sees of so many. */
    const burst = async (count: number): Promise<number> => {
      proxy.atOnceMax = 0;
      await Promise.all(Array.from({ length: count }, () => writer.get('v1/a', { bytesMax: 20 })));
      return proxy.atOnceMax;
    };
    const slow: Fault = { kind: 'delay', ms: 20 };
    proxy.rule = () => slow;
    const before = await burst(64);
    // Every second one is refused for so long that it counts more than once: a second at the least is between two times.
    const endMs = performance.now() + 2500;
    const refused: Fault = { kind: 'answer', status: 503, code: 'SlowDown' };
    proxy.rule = ({ number }) => (performance.now() < endMs && number % 2 === 0 ? refused : slow);
    while (performance.now() < endMs) await burst(8);
    // Few enough that it cannot grow back meanwhile.
    const after = await burst(16);
    expect(new Set(notices.map(({ reason }) => reason))).toEqual(new Set(['SlowDown']));
    expect(after).toBeLessThanOrEqual(before / 2);
    const refusals = notices.length;
    for (let round = 0; round < 5; round++) await burst(64);
    expect(await burst(64)).toBeGreaterThan(1.5 * after);
    expect(notices).toHaveLength(refusals);
  });

  describe('a signal', () => {
    test('ends a request that nobody answers', async () => {
      proxy.rule = () => ({ kind: 'stall' });
      for (const request of [
        (signal: AbortSignal) => writer.create('v1/a', text('x'), { signal }),
        (signal: AbortSignal) => writer.get('v1/a', { bytesMax: 1, signal }),
        (signal: AbortSignal) => writer.list('v1/', { signal }),
      ]) {
        const startedMs = performance.now();
        await expect(request(AbortSignal.timeout(50))).rejects.toMatchObject({ code: 'E_ABORTED' });
        expect(performance.now() - startedMs).toBeLessThan(900);
      }
    });

    test('ends a body that stands still, and a wait between attempts', async () => {
      await direct.create('v1/a', new Uint8Array(mebibyte));
      plant({ kind: 'stall-body', bytes: 1000 }, 'GET');
      const reading = writer.get('v1/a', { bytesMax: mebibyte, signal: AbortSignal.timeout(300) });
      await expect(reading).rejects.toMatchObject({ code: 'E_ABORTED' });
      proxy.rule = () => ({ kind: 'drop' });
      const waiting = writer.get('v1/a', { bytesMax: mebibyte, signal: AbortSignal.timeout(300) });
      await expect(waiting).rejects.toMatchObject({ code: 'E_ABORTED' });
    });
  });

  test('a store that has gone is waited for as long as was asked, then less', async () => {
    await using short = await place.open({}, { patienceMs: 1500 });
    await short.create('v1/a', text('x'));
    proxy.rule = () => ({ kind: 'drop' });
    const startedMs = performance.now();
    await expect(short.get('v1/a', { bytesMax: 1 })).rejects.toMatchObject({
      code: 'E_STORE_UNREACHABLE',
      details: { key: 'v1/a', reason: 'ECONNRESET' },
    });
    expect(performance.now() - startedMs).toBeGreaterThan(1400);
    expect(notices.length).toBeGreaterThan(2);
    proxy.rule = () => undefined;
    expect(await short.get('v1/a', { bytesMax: 1 })).toEqual(text('x'));
  });

  test('credentials that the server does not know are told from other refusals', async () => {
    const credentials = { accessKeyId: `NOBODY${randomBytes(6).toString('hex')}`, secretAccessKey: 'none' };
    await using stranger = await place.open({ credentials });
    await expect(stranger.get('v1/a', { bytesMax: 1 })).rejects.toMatchObject({ code: 'E_STORE_CREDENTIALS' });
  });

  test('a bucket that is missing is not an empty store', async () => {
    await using elsewhere = await place.open({}, { bucket: freshBucket() });
    for (const request of [
      () => elsewhere.stat('v1/a'),
      () => elsewhere.get('v1/a', { bytesMax: 1 }),
      () => elsewhere.list('v1/'),
      () => elsewhere.create('v1/a', text('x')),
    ]) {
      await expect(request()).rejects.toMatchObject({
        code: 'E_STORE_UNREACHABLE',
        details: { reason: 'NoSuchBucket' },
      });
    }
  });
});
