import {
  type ClientRequest,
  createServer,
  type IncomingMessage,
  request as httpRequest,
  type ServerResponse,
} from 'node:http';
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
  /** One bit of the body changes on its way to the server, or of the answer's on its way back. */
  | { readonly kind: 'corrupt' }
  | { readonly kind: 'corrupt-answer' }
  /** The connection is reset when so many bytes of the body have come; the server sees nothing of it. */
  | { readonly kind: 'reset'; readonly bytes: number };

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
  /** What bodies of all requests may have together in each direction, of a network that is slow. */
  bytesPerSecond: number = Number.POSITIVE_INFINITY;
  readonly #freeMs = { up: 0, down: 0 };
  /** Most requests at a time that have come and not been answered; set it to 0 to begin anew. */
  atOnceMax = 0;
  #atOnce = 0;
  #gone = false;
  readonly #port: number;
  /** When one side breaks, the other is broken too: a client must see it, not wait. */
  readonly #server = createServer(
    (request, response) => void this.#serve(request, response, false).catch(() => request.socket.destroy()),
  );
  /** Requests that were sent on and have no answer yet, and those that are to be sent on after their client has gone. */
  readonly #underway = new Set<Promise<unknown>>();

  private constructor(port: number) {
    this.#port = port;
    // Of a client that waits to be told that its body is wanted.
    this.#server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
      this.#serve(request, response, true).catch(() => request.socket.destroy());
    });
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

  async #serve(request: IncomingMessage, response: ServerResponse, asks: boolean): Promise<void> {
    const { method = 'GET', url = '/', headers } = request;
    const seen: ProxiedRequest = { method, url, headers, number: this.requests.length + 1 };
    this.requests.push(seen);
    this.#atOnce += 1;
    this.atOnceMax = Math.max(this.atOnceMax, this.#atOnce);
    response.once('close', () => {
      this.#atOnce -= 1;
    });
    const fault = this.rule(seen);
    if (asks && fault === undefined) {
      await this.#answer(response, await this.#passOn(request, (sent) => this.#whenWanted(sent, request, response)));
      return;
    }
    if (asks) response.writeContinue();
    const body = await this.#received(request, fault?.kind === 'reset' ? fault.bytes : undefined);
    const forward = (): Promise<Answer> => this.#passOn(request, (sent) => sent.end(body));
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
      case 'reset':
        request.socket.resetAndDestroy();
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
        flipBit(body);
        break;
      case 'delay':
        await sleep(fault.ms);
        break;
      default:
    }
    const answer = await forward();
    if (fault?.kind === 'corrupt-answer') flipBit(answer.body);
    if (fault?.kind !== 'cut' && fault?.kind !== 'stall-body') {
      await this.#answer(response, answer);
      return;
    }
    response.writeHead(answer.status, answer.headers);
    await new Promise((resolve) => response.write(answer.body.subarray(0, fault.bytes), resolve));
    if (fault.kind === 'cut') request.socket.destroy();
  }

  /** The body of a request, or what of it has come when it is as long as `enough`. */
  async #received(request: IncomingMessage, enough: number = Number.POSITIVE_INFINITY): Promise<Buffer> {
    const pieces: Buffer[] = [];
    let bytes = 0;
    for await (const piece of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      pieces.push(piece);
      bytes += piece.length;
      this.receivedBytes += piece.length;
      await this.#passes('up', piece.length);
      if (bytes >= enough) break;
    }
    return Buffer.concat(pieces);
  }

  async #answer(response: ServerResponse, { status, headers, body }: Answer): Promise<void> {
    response.writeHead(status, headers);
    for (let at = 0; at < body.length; at += pieceBytes) {
      const piece = body.subarray(at, at + pieceBytes);
      await this.#passes('down', piece.length);
      await new Promise((resolve) => response.write(piece, resolve));
    }
    response.end();
  }

  /** Takes the time that so many bytes need, behind those of other requests. */
  async #passes(way: 'up' | 'down', bytes: number): Promise<void> {
    if (this.bytesPerSecond === Number.POSITIVE_INFINITY) return;
    const nowMs = performance.now();
    this.#freeMs[way] = Math.max(nowMs, this.#freeMs[way]) + (bytes / this.bytesPerSecond) * 1000;
    await sleep(this.#freeMs[way] - nowMs);
  }

  /** Sends the body on when the server says that it wants it; an answer in place of that ends the request. */
  #whenWanted(sent: ClientRequest, request: IncomingMessage, response: ServerResponse): void {
    sent.once('continue', () => {
      response.writeContinue();
      this.#received(request).then(
        (body) => sent.end(body),
        (error: Error) => sent.destroy(error),
      );
    });
  }

  #passOn(request: IncomingMessage, send: (sent: ClientRequest) => void): Promise<Answer> {
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
      send(sent);
    });
    this.#track(answer);
    return answer;
  }
}

const pieceBytes = 64 * 1024;

function flipBit(bytes: Buffer): void {
  const middle = bytes.length >> 1;
  bytes[middle] = (bytes[middle] ?? 0) ^ 1;
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
