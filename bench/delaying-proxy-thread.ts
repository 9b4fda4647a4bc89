import { Agent, createServer, type IncomingMessage, request as ask, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import type { ProxyTask } from './delaying-proxy.ts';
import { requestKindOf } from './request-kind.ts';
import type { RequestKind } from './rows.ts';

/** The thread of a DelayingProxy: says its port, and then the counts whenever it is asked. */

const { port, delayMs } = workerData as ProxyTask;
const agent = new Agent({ keepAlive: true });
let counts: Partial<Record<RequestKind, number>> = {};

/** Passes a request on as it is, its signature included. */
async function pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { method = 'GET', url = '/', rawHeaders } = request;
  const kind = requestKindOf(method, url);
  counts[kind] = (counts[kind] ?? 0) + 1;
  await sleep(delayMs);
  const onward = ask({
    host: '127.0.0.1',
    port,
    method,
    path: url,
    headers: rawHeaders,
    agent,
    setDefaultHeaders: false,
  });
  onward.on('response', (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
    answer.pipe(response);
  });
  // When one side breaks, the other is broken too: a client must see it, not wait.
  onward.on('error', () => request.socket.destroy());
  response.on('close', () => {
    if (!response.writableFinished) onward.destroy();
  });
  request.pipe(onward);
}

const server = createServer({ requestTimeout: 0, keepAliveTimeout: 60_000 }, (request, response) => {
  void pass(request, response);
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  parentPort?.postMessage(typeof address === 'object' ? address?.port : undefined);
});
parentPort?.on('message', () => {
  parentPort?.postMessage(counts);
  counts = {};
});
