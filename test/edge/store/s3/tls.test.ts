import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openS3Writer } from '../../../../src/edge/store/s3/open-s3-store.ts';
import { serversForSuite, type S3Server, startServer } from '../../../servers/s3-server.ts';
import { freshBucket, partsFor, settingsFor } from '../../../servers/s3-store-of.ts';

describe.each(serversForSuite('minio'))('%s behind a certificate of its own CA', (name) => {
  let directory: string;
  let server: S3Server;
  let front: Server;
  let endpoint: string;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'holdfast-tls-'));
    const [key, cert] = [join(directory, 'key.pem'), join(directory, 'ca.pem')];
    const subject = ['-subj', '/CN=test', '-addext', 'subjectAltName=IP:127.0.0.1'];
    const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
    execFileSync('openssl', ['req', ...kind, ...subject, '-keyout', key, '-out', cert], { stdio: 'pipe' });
    server = await startServer(name);
    front = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (request, response) => {
      const { method, url, headers } = request;
      const sent = httpRequest({ host: '127.0.0.1', port: server.port, method, path: url, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      });
      request.pipe(sent);
    });
    await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve));
    endpoint = `https://127.0.0.1:${(front.address() as AddressInfo).port}`;
  });
  afterAll(async () => {
    front.closeAllConnections();
    await new Promise((resolve) => front.close(resolve));
    await server[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });

  test('is refused at once, with a remedy, where nobody vouches for it', async () => {
    await using writer = await openS3Writer(settingsFor({ endpoint }), partsFor(server));
    await expect(writer.get('v1/a', { bytesMax: 1 })).rejects.toMatchObject({
      code: 'E_STORE_UNREACHABLE',
      remedy: expect.stringContaining('ca-file'),
    });
  });

  test('is used where its CA is given', async () => {
    const settings = settingsFor({ endpoint }, freshBucket(), `ca-file=${join(directory, 'ca.pem')}`);
    await using writer = await openS3Writer(settings, partsFor(server), { create: true });
    expect(await writer.create('v1/a', new Uint8Array([1]))).toBe('created');
    expect(await writer.get('v1/a', { bytesMax: 1 })).toEqual(new Uint8Array([1]));
    const large = Uint8Array.from({ length: 3_000_000 }, (_, i) => (i * 7) >> 3);
    await writer.create('v1/large', large);
    const ranges = [0, 1, 2].map((i) => writer.getRange('v1/large', i * 1_000_000, 1_000_000));
    expect(Buffer.compare(Buffer.concat(await Promise.all(ranges)), large)).toBe(0);
  });
});
