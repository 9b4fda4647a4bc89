import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { text as textOf } from 'node:stream/consumers';
import { afterEach, describe, expect, test } from 'vitest';
import { GetHandler } from '../../../../src/edge/store/s3/get-handler.ts';
import type { HttpBody } from '../../../../src/edge/store/s3/http-connection.ts';
import { readBody } from '../../../../src/edge/store/s3/read-body.ts';

type Answer = (socket: Socket, request: string, number: number) => void;

/** A server that answers as the test says, byte by byte. */
class RawServer {
  readonly #server: Server;
  readonly sockets: Socket[] = [];
  readonly requests: string[] = [];

  private constructor(answer: Answer) {
    this.#server = createServer((socket) => {
      this.sockets.push(socket);
      socket.on('error', () => undefined);
      let text = '';
      socket.on('data', (bytes) => {
        text += bytes.toString('latin1');
        for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
          const request = text.slice(0, end);
          text = text.slice(end + 4);
          answer(socket, request, this.requests.push(request));
        }
      });
    });
  }

  static async start(answer: Answer): Promise<RawServer> {
    const server = new RawServer(answer);
    server.#server.listen(0, '127.0.0.1');
    await once(server.#server, 'listening');
    return server;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

const others = {
  handle: () => Promise.reject(new Error('given to the SDK')),
};

describe('reads of objects', () => {
  const ending: (() => Promise<void> | void)[] = [];
  afterEach(async () => {
    for (const end of ending.splice(0).reverse()) await end();
  });

  async function place(answer: Answer, stallMs = 20_000) {
    const server = await RawServer.start(answer);
    const handler = new GetHandler(others, { ca: undefined, connectMsMax: 20_000, stallMs });
    ending.push(
      () => server.close(),
      () => handler.destroy(),
    );
    const get = async (signal?: AbortSignal) => {
      const { port } = server;
      const request = { method: 'GET', protocol: 'http:', hostname: '127.0.0.1', port, path: '/bucket/a%20b' };
      const query = { 'x-id': 'GetObject', odd: "a'b" };
      const reply = await handler.handle(
        { ...request, query, headers: { host: `127.0.0.1:${port}`, range: 'bytes=0-4' } },
        { abortSignal: signal },
      );
      return reply.response as { statusCode: number; headers: Record<string, string>; body: HttpBody };
    };
    const read = async (bytes: number): Promise<Uint8Array> => {
      const { body } = await get();
      const target = new Uint8Array(bytes);
      await readBody(body, target, 0, () => undefined);
      return target;
    };
    return { server, handler, get, read };
  }

  const whole = (content: Uint8Array | string, more = ''): Uint8Array =>
    Buffer.concat([
      Buffer.from(`HTTP/1.1 206 Partial Content\r\n${more}Content-Length: ${content.length}\r\n\r\n`),
      Buffer.from(content),
    ]);

  test('say what was signed, come into the memory of the caller, and use one connection after another', async () => {
    const content = Buffer.alloc(3_000_000, 'abc');
    const { server, read } = await place((socket) => socket.write(whole(content)));
    for (let i = 0; i < 3; i++) expect(Buffer.compare(await read(content.length), content)).toBe(0);
    expect(server.sockets).toHaveLength(1);
    expect(server.requests[0]?.split('\r\n')).toEqual([
      'GET /bucket/a%20b?x-id=GetObject&odd=a%27b HTTP/1.1',
      `host: 127.0.0.1:${server.port}`,
      'range: bytes=0-4',
    ]);
  });

  test('are streams too, for the SDK to read what a refusal says', async () => {
    const { server, get } = await place((socket) =>
      socket.write('HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n<xml>\r\n0\r\n\r\n'),
    );
    for (let i = 0; i < 2; i++) {
      const { statusCode, body } = await get();
      expect([statusCode, await textOf(body)]).toEqual([404, '<xml>']);
    }
    expect(server.sockets).toHaveLength(1);
  });

  test('fail when the body breaks off, and go on over another connection', async () => {
    const { server, read } = await place((socket, _, number) => {
      if (number === 1) socket.end(whole('hello').subarray(0, -1));
      else socket.write(whole('hello'));
    });
    await expect(read(5)).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(Buffer.from(await read(5)).toString()).toBe('hello');
    expect(server.sockets).toHaveLength(2);
  });

  test('are sent again where the server has closed an idle connection', async () => {
    const { server, read } = await place((socket, _, number) => {
      if (number === 2) socket.destroy();
      else socket.write(whole('hello'));
    });
    await read(5);
    expect(Buffer.from(await read(5)).toString()).toBe('hello');
    expect(server.requests).toHaveLength(3);
  });

  test('are not sent again where a fresh connection is closed', async () => {
    const { server, read } = await place((socket) => socket.destroy());
    await expect(read(5)).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(server.requests).toHaveLength(1);
  });

  test('do not use a connection again that said more than was asked, or that it ends', async () => {
    const { server, read } = await place((socket, _, number) => {
      if (number === 1) socket.write(Buffer.concat([whole('hello'), Buffer.from('HTTP/1.1 200 OK')]));
      else socket.write(whole('hello', 'Connection: close\r\n'));
    });
    for (let i = 0; i < 3; i++) expect(Buffer.from(await read(5)).toString()).toBe('hello');
    expect(server.sockets).toHaveLength(3);
  });

  test('refuse what is no HTTP, with a code that is tried again', async () => {
    const { read } = await place((socket) => socket.write('SSH-2.0-OpenSSH\r\n\r\n'));
    await expect(read(5)).rejects.toMatchObject({ code: 'HPE_INVALID_CONSTANT' });
  });

  test('end with their signal, before the answer and in the middle of the body', async () => {
    const { server, get } = await place((socket, _, number) => {
      if (number === 2) socket.write(whole('hello').subarray(0, -1));
    });
    const early = new AbortController();
    const waiting = get(early.signal);
    while (server.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
    early.abort();
    await expect(waiting).rejects.toMatchObject({ name: 'AbortError' });
    const late = new AbortController();
    const { body } = await get(late.signal);
    const reading = readBody(body, new Uint8Array(5), 0, (at) => {
      if (at === 4) late.abort();
    });
    await expect(reading).rejects.toMatchObject({ name: 'AbortError' });
  });

  test('end when nothing comes any more', async () => {
    const { read } = await place((socket) => socket.write(whole('hello').subarray(0, -1)), 50);
    await expect(read(5)).rejects.toMatchObject({ name: 'TimeoutError' });
  });

  test('leave everything else to the SDK', async () => {
    const { handler } = await place(() => undefined);
    const request = { protocol: 'http:', hostname: 'x', path: '/', headers: {} };
    await expect(handler.handle({ ...request, method: 'PUT' })).rejects.toThrow('given to the SDK');
    await expect(handler.handle({ ...request, method: 'GET', query: { 'list-type': '2' } })).rejects.toThrow(
      'given to the SDK',
    );
  });

  test('send no line that a header did not mean', async () => {
    const { handler } = await place(() => undefined);
    const headers = { range: 'bytes=0-1\r\nx-evil: 1' };
    const request = { protocol: 'http:', hostname: '127.0.0.1', path: '/', query: { 'x-id': 'GetObject' }, headers };
    await expect(handler.handle({ ...request, method: 'GET' })).rejects.toThrow(TypeError);
  });
});
