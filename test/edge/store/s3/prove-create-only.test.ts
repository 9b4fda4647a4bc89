import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../../../src/edge/host/system-clock.ts';
import { systemRandom } from '../../../../src/edge/host/system-random.ts';
import { openS3Writer } from '../../../../src/edge/store/s3/open-s3-store.ts';
import { S3Inspector } from '../../../../src/edge/store/s3/s3-inspector.ts';
import { proveCreateOnly } from '../../../../src/engine/lineage/prove-create-only.ts';
import { installedServers, type S3Server, startServer } from '../../../servers/s3-server.ts';
import { openS3, partsFor, settingsFor } from '../../../servers/s3-store-of.ts';

const names = installedServers('minio', 'versitygw', 'seaweedfs', 's3rver');

let server: S3Server | undefined;
afterEach(async () => {
  await server?.[Symbol.asyncDispose]();
  server = undefined;
});

test('what is no S3 server is not taken for an empty store, though it answers 404 to everything', async () => {
  const web = createServer((request, response) => {
    request.resume();
    response.writeHead(404, { 'Content-Type': 'text/html' }).end(request.method === 'HEAD' ? '' : '<h1>Not found</h1>');
  });
  await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve));
  try {
    const endpoint = `http://127.0.0.1:${(web.address() as AddressInfo).port}`;
    const parts = partsFor({ accessKeyId: 'none', secretAccessKey: 'none' });
    await using writer = await openS3Writer(settingsFor({ endpoint }), parts);
    await expect(writer.get('v1/repo', { bytesMax: 1 })).rejects.toMatchObject({ code: 'E_STORE_IO' });
    await expect(writer.stat('v1/repo')).rejects.toMatchObject({ code: 'E_STORE_IO' });
    await expect(writer.list('v1/')).rejects.toMatchObject({ code: 'E_STORE_IO' });
    await expect(writer.create('v1/repo', new Uint8Array())).rejects.toMatchObject({ code: 'E_STORE_IO' });
  } finally {
    web.closeAllConnections();
    await new Promise((resolve) => web.close(resolve));
  }
});

describe.each(names)('%s', (name) => {
  const honest = name !== 's3rver';

  test(honest ? 'is proved to be create-only' : 'ignores the condition, and is refused', async () => {
    server = await startServer(name);
    const settings = settingsFor(server);
    const { writer, close } = await openS3(server, settings);
    await using inspector = new S3Inspector(settings, partsFor(server));
    try {
      const proof = proveCreateOnly({
        store: writer,
        random: systemRandom,
        clock: systemClock,
        completeOver: inspector.completeOver,
      });
      if (honest) {
        await proof;
        const left = await writer.list('v1/probe/');
        expect(left.map(({ key }) => key.split('/').at(-1))).toEqual(['race', 'twice', 'verdict']);
        const verdict = await writer.get(left[2]!.key, { bytesMax: 1000 });
        expect(JSON.parse(new TextDecoder().decode(verdict))).toMatchObject({ createOnly: true, racers: 8 });
      } else {
        await expect(proof).rejects.toMatchObject({
          code: 'E_UNFENCED',
          details: { seen: 'an object was overwritten by a write that was to create it' },
        });
        expect(await inspector.completeOver((await writer.list('v1/probe/'))[0]!.key)).toBe('created');
        // Nothing of a repository has been made in it.
        expect(await writer.list('v1/l/')).toEqual([]);
      }
    } finally {
      await close();
    }
  });
});
