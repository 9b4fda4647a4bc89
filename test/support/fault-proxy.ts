import { createServer, type IncomingMessage, request as httpRequest, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

/** What a request tells the rule that chooses its fault. */
export interface ProxiedRequest {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Counts from 1. */
  readonly number: number;
}

export type Fault =
  /** The connection breaks before the request reaches the server. */
  | { readonly kind: 'drop' }
  /** The server does what was asked; its reply never arrives. */
  | { readonly kind: 'lose-reply' }
  /** The same, but the server gets the request only when `until` resolves. */
  | { readonly kind: 'late'; readonly until: Promise<void> }
  /** The server gets the request twice, and answers to the second. */
  | { readonly kind: 'twice' }
  /** Something on the way answers: an error of S3, nothing with 200. `after` the server has done it, or in its place. */
  | { readonly kind: 'answer'; readonly status: number; readonly code: string; readonly after?: boolean }
  /** Nobody answers, and nothing breaks: half-open. */
  | { readonly kind: 'stall' }
  /** The body of the answer breaks off, or stands still, after so many bytes. */
  | { readonly kind: 'cut'; readonly bytes: number }
  | { readonly kind: 'stall-body'; readonly bytes: number }
  | { readonly kind: 'delay'; readonly ms: number }
  /** One bit of the body changes on its way to the server. */
  | { readonly kind: 'corrupt' };

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['rawHeaders'];
  readonly body: Buffer;
}

/**
 * A bad network on the way to an HTTP server: it passes requests on as they are, signatures included, except for those that
 * `rule` gives a fault.
 */
export class FaultProxy implements AsyncDisposable {
  /** Chooses the fault of each request; set it at any time. */
  rule: (request: ProxiedRequest) => Fault | undefined = () => undefined;
  readonly requests: ProxiedRequest[] = [];
  /** Bytes of bodies that have come from clients, also of those that broke off. */
  receivedBytes = 0;
  #gone = false;
  readonly #port: number;
  /** When one side breaks, the other is broken too: a client must see it, not wait. */
  readonly #server = createServer(
    (request, response) => void this.#serve(request, response).catch(() => request.socket.destroy()),
  );
  /** Requests that were sent on and have no answer yet, and those that are to be sent on after their client has gone. */
  readonly #underway = new Set<Promise<unknown>>();

  private constructor(port: number) {
    this.#port = port;
    this.#server.on('connection', (socket) => {
      if (this.#gone) socket.destroy();
    });
  }

  /** Starts a proxy on a free port of loopback before the server at `port` of loopback. */
  static async start(port: number): Promise<FaultProxy> {
    const proxy = new FaultProxy(port);
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get endpoint(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the proxy is closed');
    return `http://127.0.0.1:${address.port}`;
  }

  /** Requests so far whose method and URL match. */
  count(method: string, url: RegExp = /./): number {
    return this.requests.filter((request) => request.method === method && url.test(request.url)).length;
  }

  /** The network is gone for so long: all connections break, and new ones do at once. */
  async cutFor(ms: number): Promise<void> {
    this.#gone = true;
    this.#server.closeAllConnections();
    await sleep(ms);
    this.#gone = false;
  }

  /** Waits until what was to arrive late has arrived, and what was sent on has been answered. */
  async settle(): Promise<void> {
    while (this.#underway.size > 0) await Promise.allSettled(this.#underway);
  }

  #track(work: Promise<unknown>): void {
    const tracked: Promise<unknown> = work.then(
      () => this.#underway.delete(tracked),
      () => this.#underway.delete(tracked),
    );
    this.#underway.add(tracked);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
    await this.settle();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = 'GET', url = '/', headers } = request;
    const seen: ProxiedRequest = { method, url, headers, number: this.requests.length + 1 };
    this.requests.push(seen);
    const fault = this.rule(seen);
    request.on('data', (piece: Buffer) => {
      this.receivedBytes += piece.length;
    });
    const body = await bodyOf(request);
    const forward = (): Promise<Answer> => this.#forward(request, body);
    switch (fault?.kind) {
      case 'drop':
        request.socket.destroy();
        return;
      case 'lose-reply':
        await forward();
        request.socket.destroy();
        return;
      case 'late':
        this.#track(fault.until.then(forward));
        request.socket.destroy();
        return;
      case 'stall':
        return;
      case 'answer': {
        if (fault.after === true) await forward();
        const text = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${fault.code}</Code><Message>planted</Message></Error>`;
        response
          .writeHead(fault.status, { 'Content-Type': 'application/xml' })
          .end(method === 'HEAD' || fault.status === 200 ? '' : text);
        return;
      }
      case 'twice':
        await forward();
        break;
      case 'corrupt':
        body[body.length >> 1] = (body[body.length >> 1] ?? 0) ^ 1;
        break;
      case 'delay':
        await sleep(fault.ms);
        break;
      default:
    }
    const answer = await forward();
    response.writeHead(answer.status, answer.headers);
    if (fault?.kind !== 'cut' && fault?.kind !== 'stall-body') {
      response.end(answer.body);
      return;
    }
    await new Promise((resolve) => response.write(answer.body.subarray(0, fault.bytes), resolve));
    if (fault.kind === 'cut') request.socket.destroy();
  }

  #forward(request: IncomingMessage, body: Buffer): Promise<Answer> {
    const answer = new Promise<Answer>((resolve, reject) => {
      const { method, url } = request;
      const sent = httpRequest(
        { host: '127.0.0.1', port: this.#port, method, path: url, headers: headersOf(request), agent: false },
        (answer) => {
          bodyOf(answer).then(
            (content) => resolve({ status: answer.statusCode ?? 502, headers: answer.rawHeaders, body: content }),
            reject,
          );
        },
      );
      sent.on('error', reject);
      sent.end(body);
    });
    this.#track(answer);
    return answer;
  }
}

/** As they came, so that the signature holds; the connection is another. */
function headersOf(request: IncomingMessage): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined && name !== 'connection') headers[name] = value;
  }
  return headers;
}

async function bodyOf(message: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of message) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}
