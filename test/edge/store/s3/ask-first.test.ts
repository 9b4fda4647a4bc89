import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { openS3Writer } from '../../../../src/edge/store/s3/open-s3-store.ts';
import { partsFor, settingsFor } from '../../../servers/s3-store-of.ts';

const content = new Uint8Array(3 * 1024 * 1024).fill(7);
let server: Server;
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

/** A server that fails the first write, and is asked before the second: what does it do then? */
async function createdBy(onQuestion: Parameters<Server['on']>[1] | undefined): Promise<{ bodies: number[] }> {
  const bodies: number[] = [];
  server = createServer(async (request, response) => {
    let bytes = 0;
    for await (const piece of request) bytes += (piece as Buffer).length;
    bodies.push(bytes);
    response.writeHead(bodies.length === 1 ? 500 : 200, { ETag: '"x"' }).end();
  });
  if (onQuestion !== undefined) server.on('checkContinue', onQuestion);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const settings = settingsFor({ endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }, 'bucket');
  await using writer = await openS3Writer(settings, partsFor({ accessKeyId: 'a', secretAccessKey: 'b' }));
  expect(await writer.create('v1/a', content)).toBe('created');
  return { bodies };
}

test('a body that has failed is sent again when the server says that it wants it', async () => {
  const startedMs = performance.now();
  expect(await createdBy(undefined)).toEqual({ bodies: [content.length, content.length] });
  expect(performance.now() - startedMs).toBeLessThan(900);
});

test('a server that says nothing to the question gets the body after a second', async () => {
  const startedMs = performance.now();
  const { bodies } = await createdBy((request, response) => server.emit('request', request, response));
  expect(bodies).toEqual([content.length, content.length]);
  expect(performance.now() - startedMs).toBeGreaterThan(1000);
});

test('a server that refuses gets no body, and is asked over a new connection', async () => {
  let asked = 0;
  const sockets = new Set<unknown>();
  const { bodies } = await createdBy((request, response) => {
    asked += 1;
    sockets.add(request.socket);
    if (asked < 3) {
      response.writeHead(503, { 'Content-Type': 'application/xml' }).end('<Error><Code>SlowDown</Code></Error>');
      return;
    }
    response.writeContinue();
    server.emit('request', request, response);
  });
  expect(bodies).toEqual([content.length, content.length]);
  expect([asked, sockets.size]).toEqual([3, 3]);
});
