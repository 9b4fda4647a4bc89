import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { DelayingProxy } from '../../bench/delaying-proxy.ts';

const delayMs = 150;

let server: Server;
let proxy: DelayingProxy;

/** Gives back what it was sent: the body, and what was in the head. */
beforeEach(async () => {
  server = createServer(async (request, response) => {
    const body = await buffer(request);
    if (request.url === '/bucket/broken') request.socket.destroy();
    const { host, authorization } = request.headers;
    response.writeHead(207, { 'x-asked': `${request.method} ${request.url} ${host} ${authorization}` });
    response.end(body);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  proxy = await DelayingProxy.start((server.address() as AddressInfo).port, delayMs);
});
afterEach(async () => {
  await proxy[Symbol.asyncDispose]();
  server.closeAllConnections();
  server.close();
});

it('passes a request on as it is', async () => {
  const body = randomBytes(3_000_000);
  const answer = await fetch(`${proxy.endpoint}/bucket/a%20b?partNumber=1`, {
    method: 'PUT',
    headers: { authorization: 'signed' },
    body,
  });
  expect(answer.status).toBe(207);
  // The signature covers the host that the client has asked: another one would be refused.
  const host = proxy.endpoint.slice('http://'.length);
  expect(answer.headers.get('x-asked')).toBe(`PUT /bucket/a%20b?partNumber=1 ${host} signed`);
  expect(body.equals(Buffer.from(await answer.arrayBuffer()))).toBe(true);
});

it('holds each request back', async () => {
  await fetch(`${proxy.endpoint}/bucket/connects`);
  const startMs = performance.now();
  await fetch(`${proxy.endpoint}/bucket/key`);
  // Timers are rounded to whole milliseconds.
  expect(performance.now() - startMs).toBeGreaterThanOrEqual(delayMs - 1);
});

it('counts by kind, and begins anew with each taking', async () => {
  for (const path of ['key', 'key', '?list-type=2', '?location']) await fetch(`${proxy.endpoint}/bucket/${path}`);
  await fetch(`${proxy.endpoint}/bucket/key`, { method: 'PUT', body: 'x' });
  expect(await proxy.takeCounts()).toEqual({ GET: 3, LIST: 1, PUT: 1 });
  await fetch(`${proxy.endpoint}/bucket/key`, { method: 'HEAD' });
  expect(await proxy.takeCounts()).toEqual({ HEAD: 1 });
});

it('breaks the connection of a client whose request broke at the server', async () => {
  await expect(fetch(`${proxy.endpoint}/bucket/broken`)).rejects.toThrow('fetch failed');
});
