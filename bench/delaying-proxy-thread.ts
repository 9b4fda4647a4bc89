import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import type { ProxyTask } from './delaying-proxy.ts';
import { requestKindOf } from './request-kind.ts';
import type { RequestKind } from './rows.ts';

/**
 * The thread of a DelayingProxy: says its port, and then the counts whenever it is asked.
 *
 * It shares the processors with what is measured, so it reads no more of a request than its head and its length, and nothing of an answer: bytes go on
 * as they come, through one buffer for each connection: 0.5 s of CPU per GB, where Node's HTTP on both sides took 1.4.
 */

const { port, delayMs } = workerData as ProxyTask;
const readBytes = 256 * 1024;
const headBytesMax = 64 * 1024;
const headEnd = '\r\n\r\n';
let counts: Partial<Record<RequestKind, number>> = {};

/** One connection of a client, and one of its own to the server. When one side breaks, the other is broken too: a client must see it, not wait. */
function pass(client: Socket): void {
  const server: Socket = connect({
    host: '127.0.0.1',
    port,
    noDelay: true,
    onread: {
      buffer: Buffer.allocUnsafeSlow(readBytes),
      callback: (count, buffer) => passAnswer(client, server, buffer.subarray(0, count)),
    },
  });
  client.setNoDelay(true);
  const end = (): void => {
    client.destroy();
    server.destroy();
  };
  for (const side of [client, server]) side.on('error', end).on('close', end);
  server.on('end', () => client.end());
  passRequests(client, server).catch(end);
}

/** True when the bytes are with the system already, and the buffer may be read into again; else reading goes on later. */
function passAnswer(client: Socket, server: Socket, bytes: Uint8Array): boolean {
  let waits = false;
  client.write(bytes, () => {
    if (waits) server.resume();
  });
  waits = client.writableLength > 0;
  return !waits;
}

/** Passes requests on as they are, their signatures included, each after its delay. */
async function passRequests(client: Socket, server: Socket): Promise<void> {
  let head: Uint8Array = new Uint8Array(0);
  let bodyBytes = 0;
  for await (const piece of client as AsyncIterable<Buffer>) {
    for (let at = 0; at < piece.length; ) {
      if (bodyBytes > 0) {
        const taken = piece.subarray(at, at + bodyBytes);
        await put(server, taken);
        bodyBytes -= taken.length;
        at += taken.length;
        continue;
      }
      const before = head.length;
      const bytes: Buffer = Buffer.concat([head, piece.subarray(at)]);
      const end = bytes.indexOf(headEnd, 0, 'latin1');
      if (end < 0) {
        if (bytes.length > headBytesMax) throw new Error('the head of a request does not end');
        head = bytes;
        break;
      }
      head = bytes.subarray(0, end + headEnd.length);
      at += head.length - before;
      bodyBytes = count(bytes.toString('latin1', 0, end));
      await sleep(delayMs);
      await put(server, head);
      head = new Uint8Array(0);
    }
  }
  server.end();
}

/** Counts a request by its head. Answers how many bytes follow that. */
function count(head: string): number {
  const [line = '', ...headers] = head.split('\r\n');
  const [method = '', url = ''] = line.split(' ');
  const kind = requestKindOf(method, url);
  counts[kind] = (counts[kind] ?? 0) + 1;
  let bytes = 0;
  for (const header of headers) {
    const colon = header.indexOf(':');
    const name = header.slice(0, colon).toLowerCase();
    if (name === 'transfer-encoding') throw new Error('a request whose length is not known is not passed on');
    if (name === 'content-length') bytes = Number(header.slice(colon + 1));
  }
  return bytes;
}

async function put(server: Socket, bytes: Uint8Array): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.write(bytes, (error) => (error ? reject(error) : resolve()));
  });
}

const server = createServer({ allowHalfOpen: true }, pass);
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  parentPort?.postMessage(typeof address === 'object' ? address?.port : undefined);
});
parentPort?.on('message', () => {
  parentPort?.postMessage(counts);
  counts = {};
});
