import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer as createPlainServer, type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer as createTlsServer } from 'node:tls';
import { ListObjectVersionsCommand, PutBucketVersioningCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openS3Reader, openS3Sweeper, openS3Writer } from '../../../../src/edge/store/s3/open-s3-store.ts';
import { parseS3Settings, type S3Settings } from '../../../../src/edge/store/s3/s3-settings.ts';
import { FaultProxy } from '../../../support/fault-proxy.ts';
import { type S3Server, serversForSuite, startServer } from '../../../servers/s3-server.ts';
import { freshBucket, openS3, partsFor, settingsFor } from '../../../servers/s3-store-of.ts';

const names = serversForSuite('minio', 'versitygw');
const text = (content: string): Uint8Array => new TextEncoder().encode(content);

test.each(['file:/srv/cp', 's3://bucket'])('the address %s is read without loading the SDK', (address) => {
  const module = new URL('../../../../src/edge/store/open-store.ts', import.meta.url).href;
  const program = `
    import { registerHooks } from 'node:module';
    const loaded = [];
    registerHooks({ load(url, context, next) { loaded.push(url); return next(url, context); } });
    const { parseStoreAddress } = await import(${JSON.stringify(module)});
    parseStoreAddress(${JSON.stringify(address)}, '/');
    console.log(JSON.stringify(loaded));`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
  expect(stderr).toBe('');
  const loaded = JSON.parse(stdout) as string[];
  expect(loaded.some((url) => url.endsWith('directory-store.ts'))).toBe(true);
  expect(loaded.filter((url) => url.includes('@aws-sdk') || url.includes('@smithy'))).toEqual([]);
});

test('a bucket is opened without loading what of Node is not used', () => {
  const module = new URL('../../../../src/edge/store/s3/open-s3-store.ts', import.meta.url).href;
  const program = `await import(${JSON.stringify(module)}); console.log(JSON.stringify(process.moduleLoadList));`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
  expect(stderr).toBe('');
  const loaded = JSON.parse(stdout) as string[];
  expect(loaded).toContain('NativeModule https');
  expect(loaded.filter((name) => name.includes('undici'))).toEqual([]);
});

describe.each(names)('the S3 store on %s', (name) => {
  let server: S3Server;

  beforeAll(async () => {
    server = await startServer(name);
  });
  afterAll(() => server[Symbol.asyncDispose]());

  describe('what is sent', () => {
    let proxy: FaultProxy;

    beforeEach(async () => {
      proxy = await FaultProxy.start(server.port);
    });
    afterEach(() => proxy[Symbol.asyncDispose]());

    const opened = (query: string): S3Settings => settingsFor(proxy, freshBucket(), query);

    test('is one request each: no request goes before or after', async () => {
      const settings = opened('');
      await (await openS3(server, { ...settings, endpoint: server.endpoint })).close();
      await using writer = await openS3Writer(settings, partsFor(server));
      await using sweeper = await openS3Sweeper(settings, partsFor(server));
      await using reader = await openS3Reader(settings, partsFor(server));
      await writer.create('v1/a', text('123456'));
      await writer.create('v1/a', text('654321'));
      await reader.get('v1/a', { bytesMax: 6 });
      await reader.getRange('v1/a', 1, 2);
      await reader.stat('v1/a');
      await reader.list('v1/');
      const small = await writer.beginUpload('v1/b');
      await small.append(text('small'));
      await small.commit();
      const large = await writer.beginUpload('v1/c');
      await large.append(new Uint8Array(17 * 1024 * 1024));
      await large.commit();
      await sweeper.delete('v1/c');
      const lines = proxy.requests.map(({ method, url }) => {
        const { pathname, searchParams } = new URL(url, 'http://server');
        const asked = [...searchParams.keys()].filter((key) => key !== 'x-id').sort();
        return `${method} ${pathname.replace(`/${settings.bucket}`, '')} ${asked.join(' ')}`.trim();
      });
      expect(lines.filter((line) => !line.includes('partNumber'))).toEqual([
        'PUT /v1/a',
        'PUT /v1/a',
        'GET /v1/a',
        'GET /v1/a',
        'HEAD /v1/a',
        'GET / list-type max-keys prefix',
        'PUT /v1/b',
        'POST /v1/c uploads',
        'POST /v1/c uploadId',
        'HEAD /v1/c',
        'DELETE /v1/c',
      ]);
      expect(lines.filter((line) => line.includes('partNumber'))).toHaveLength(3);
      for (const { method, url, headers } of proxy.requests) {
        const creates = method === 'PUT' ? !url.includes('partNumber') : method === 'POST' && url.includes('uploadId');
        expect(headers['if-none-match'], `${method} ${url}`).toBe(creates ? '*' : undefined);
      }
    });

    test('carries a checksum, and what the settings ask for, on packs and records apart', async () => {
      const query = [
        'storage-class=STANDARD_IA',
        'record-storage-class=STANDARD',
        'sse=kms:alias/one',
        'object-lock=governance:3',
        'requester-pays=true',
        'tags=team=a,use=b%20c',
      ].join('&');
      const settings = opened(query);
      proxy.rule = () => ({ kind: 'answer', status: 200, code: 'none' });
      await using writer = await openS3Writer(settings, partsFor(server));
      const beforeMs = Date.now();
      await writer.create('v1/l/7f/a/pk/1-1-0-00000000', text('pack'));
      await writer.create('v1/l/7f/a/log/fffffffffe', text('record'));
      const [pack, record] = proxy.requests.map(({ headers }) => headers);
      for (const headers of [pack, record]) {
        expect(headers).toMatchObject({
          'x-amz-server-side-encryption': 'aws:kms',
          'x-amz-server-side-encryption-aws-kms-key-id': 'alias/one',
          'x-amz-object-lock-mode': 'GOVERNANCE',
          'x-amz-request-payer': 'requester',
          'x-amz-tagging': 'team=a&use=b+c',
        });
        const until = Date.parse(String(headers?.['x-amz-object-lock-retain-until-date']));
        expect(Math.abs(until - beforeMs - 3 * 86_400_000)).toBeLessThan(10_000);
      }
      expect(pack).toMatchObject({ 'x-amz-storage-class': 'STANDARD_IA', 'x-amz-checksum-crc32': 'l95eIw==' });
      expect(record).toMatchObject({ 'x-amz-storage-class': 'STANDARD' });
    });

    test.each(['crc32', 'crc32c', 'sha256'])('is accepted by the server with the checksum %s', async (checksum) => {
      const settings = opened(`checksum=${checksum}`);
      await (await openS3(server, { ...settings, endpoint: server.endpoint })).close();
      await using writer = await openS3Writer(settings, partsFor(server));
      expect(await writer.create('v1/a', text('small'))).toBe('created');
      const large = await writer.beginUpload('v1/b');
      await large.append(new Uint8Array(9 * 1024 * 1024));
      expect(await large.commit()).toBe('created');
      for (const { method, headers } of proxy.requests.filter(({ method }) => method === 'PUT')) {
        expect(headers[`x-amz-checksum-${checksum}`], method).toBeDefined();
        // A body is hashed once, and sha256 signs it with that.
        const signed = Buffer.from(String(headers['x-amz-checksum-sha256'] ?? ''), 'base64').toString('hex');
        expect(headers['x-amz-content-sha256'], method).toBe(checksum === 'sha256' ? signed : 'UNSIGNED-PAYLOAD');
      }
    });
  });

  test('deletes the version where the bucket keeps versions, so that the key is free and nothing hides', async () => {
    const settings = settingsFor(server);
    const { writer, sweeper, close } = await openS3(server, settings);
    const { accessKeyId, secretAccessKey, endpoint } = server;
    const credentials = { accessKeyId, secretAccessKey };
    const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials });
    try {
      if (name === 'minio') {
        const VersioningConfiguration = { Status: 'Enabled' } as const;
        await client.send(new PutBucketVersioningCommand({ Bucket: settings.bucket, VersioningConfiguration }));
      }
      await writer.create('v1/a', text('first'));
      expect(await writer.create('v1/a', text('second'))).toBe('exists');
      expect(await sweeper.delete('v1/a')).toBe(true);
      expect(await sweeper.delete('v1/a')).toBe(false);
      if (name === 'minio') {
        const left = await client.send(new ListObjectVersionsCommand({ Bucket: settings.bucket }));
        expect([...(left.Versions ?? []), ...(left.DeleteMarkers ?? [])]).toEqual([]);
      }
      expect(await writer.create('v1/a', text('third'))).toBe('created');
    } finally {
      client.destroy();
      await close();
    }
  });

  test('lists more than one answer holds, with and without a limit', async () => {
    const { writer, close } = await openS3(server);
    const keys = Array.from({ length: 1003 }, (_, at) => `v1/log/${String(at).padStart(6, '0')}`);
    for (let at = 0; at < keys.length; at += 100) {
      await Promise.all(keys.slice(at, at + 100).map((key) => writer.create(key, text('x'))));
    }
    expect((await writer.list('v1/log/')).map(({ key }) => key)).toEqual(keys);
    expect(await writer.list('v1/log/', { limit: 1001 })).toHaveLength(1001);
    expect((await writer.list('v1/log/', { after: keys[99]! })).map(({ key }) => key)).toEqual(keys.slice(100));
    await close();
  });

  test('an upload takes the memory of a few parts, however large it is', async () => {
    const { writer, close } = await openS3(server);
    const piece = new Uint8Array(1024 * 1024).fill(7);
    const upload = await writer.beginUpload('v1/p/large');
    const beforeBytes = process.memoryUsage().arrayBuffers;
    let mostBytes = 0;
    for (let at = 0; at < 160; at += 1) {
      await upload.append(piece);
      mostBytes = Math.max(mostBytes, process.memoryUsage().arrayBuffers - beforeBytes);
    }
    expect(await upload.commit()).toBe('created');
    expect(await writer.stat('v1/p/large')).toMatchObject({ bytes: 160 * 1024 * 1024 });
    // Four parts of 8 MiB, and what the first one left while it grew.
    expect(mostBytes).toBeLessThan(64 * 1024 * 1024);
    await close();
  });

  describe('behind TLS', () => {
    let directory: string;
    let port: number;
    let caFile: string;
    let close: () => Promise<void>;

    beforeAll(async () => {
      directory = await mkdtemp(join(tmpdir(), 'holdfast-tls-'));
      const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
      const subject = ['-subj', '/CN=holdfast test', '-addext', 'subjectAltName=IP:127.0.0.1'];
      const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
      const files = ['-keyout', key, '-out', cert];
      execFileSync('openssl', ['req', '-x509', '-days', '2', ...curve, ...subject, ...files], { stdio: 'pipe' });
      const tls = createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) }, (socket) => {
        const inner = connect(server.port, '127.0.0.1');
        socket.on('error', () => inner.destroy()).pipe(inner);
        inner.on('error', () => socket.destroy()).pipe(socket);
      });
      await new Promise<void>((resolve) => tls.listen(0, '127.0.0.1', resolve));
      port = (tls.address() as AddressInfo).port;
      caFile = cert;
      close = () => new Promise((resolve) => tls.close(() => resolve()));
    });
    afterAll(async () => {
      await close();
      await rm(directory, { recursive: true });
    });

    const secured = (query: string): S3Settings =>
      parseS3Settings(`s3://${freshBucket()}?endpoint=https://127.0.0.1:${port}&${query}`, {});

    test('with a CA that is not known it is refused at once, with the way to name it', async () => {
      await using writer = await openS3Writer(secured(''), partsFor(server));
      const startedMs = performance.now();
      await expect(writer.get('v1/a', { bytesMax: 1 })).rejects.toMatchObject({
        code: 'E_STORE_UNREACHABLE',
        details: { reason: 'DEPTH_ZERO_SELF_SIGNED_CERT' },
        remedy: expect.stringContaining('ca-file'),
      });
      expect(performance.now() - startedMs).toBeLessThan(5000);
    });

    test('with its CA named it works', async () => {
      await using writer = await openS3Writer(secured(`ca-file=${caFile}`), partsFor(server), { create: true });
      expect(await writer.create('v1/a', text('sealed'))).toBe('created');
      expect(await writer.get('v1/a', { bytesMax: 6 })).toEqual(text('sealed'));
    });

    test('a CA file that cannot be read is refused', async () => {
      await writeFile(join(directory, 'empty'), '');
      const opening = openS3Writer(secured(`ca-file=${join(directory, 'missing')}`), partsFor(server));
      await expect(opening).rejects.toMatchObject({ code: 'E_USAGE' });
    });
  });

  test('goes through a proxy where one is named', async () => {
    const asked: string[] = [];
    // A forward proxy is asked with the whole URL in the first line.
    const proxy = createPlainServer((socket) => {
      socket.once('data', (head) => {
        const [line = ''] = head.toString('latin1').split('\r\n');
        asked.push(line);
        const inner = connect(server.port, '127.0.0.1');
        inner.write(Buffer.from(head.toString('latin1').replace(/^(\S+) http:\/\/[^/]+/, '$1 '), 'latin1'));
        socket.on('error', () => inner.destroy()).pipe(inner);
        inner.on('error', () => socket.destroy()).pipe(socket);
      });
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    try {
      const settings = settingsFor(server);
      await (await openS3(server, settings)).close();
      const through = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
      await using writer = await openS3Writer({ ...settings, proxy: through }, partsFor(server));
      expect(await writer.create('v1/a', text('x'))).toBe('created');
      expect(asked).toEqual([expect.stringContaining(`PUT ${server.endpoint}/${settings.bucket}/v1/a`)]);
    } finally {
      await new Promise((resolve) => proxy.close(resolve));
    }
  });

  test('no secret shows in what is thrown', async () => {
    const { accessKeyId, secretAccessKey } = server;
    const wrong = { ...partsFor(server), credentials: { accessKeyId, secretAccessKey: `${secretAccessKey}-wrong` } };
    await using writer = await openS3Writer(settingsFor(server), wrong);
    const error = await writer.get('v1/a', { bytesMax: 1 }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'E_STORE_CREDENTIALS', details: { reason: 'SignatureDoesNotMatch' } });
    const { inspect } = await import('node:util');
    expect(inspect(error, { depth: 20 })).not.toContain(secretAccessKey);
  });
});
