import { connect, isIP, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { connect as connectSecure } from 'node:tls';
import { type AnswerHead, HttpAnswer } from './http-answer.ts';
import { TruncatedBody } from './truncated-body.ts';

/**
 * A connection for GETs, one after the other. What comes is read into one buffer that lives as long as the connection, and copied from there to where
 * it is wanted: bodies are most of what a restore reads, and Node's own client makes two buffers for every 64 KiB of them, which
 * keeps the collector busier than everything else (docs/decisions/0060-s3-store.md).
 */

/** What one read of the system gives at most. */
const readBytes = 64 * 1024;
/** Servers close what is idle for longer: one says 5 s, another 30. */
const idleMsMax = 4000;

export interface HttpOrigin {
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
}

export interface HttpConnectionOptions extends HttpOrigin {
  /** Certificates that are trusted; undefined: those of the system. */
  readonly ca: string[] | undefined;
  readonly connectMsMax: number;
  /** Without a byte in either direction for so long, what is under way fails. */
  readonly stallMs: number;
  /** It may be used for another request. */
  readonly onIdle: (connection: HttpConnection) => void;
  /** It cannot be used any more. */
  readonly onClosed: (connection: HttpConnection) => void;
}

/** Where the content of a body goes. `piece` returns false when it wants no more for now. */
interface Sink {
  readonly piece: (piece: Uint8Array) => boolean;
  readonly end: () => void;
  readonly failed: (error: Error) => void;
}

interface Exchange {
  readonly answer: HttpAnswer;
  readonly body: HttpBody;
  readonly resolve: (answered: Answered) => void;
  readonly reject: (error: Error) => void;
  readonly forget: () => void;
  sink: Sink | undefined;
}

export interface Answered {
  readonly head: AnswerHead;
  readonly body: HttpBody;
}

export class HttpConnection {
  readonly #socket: Socket;
  readonly #options: HttpConnectionOptions;
  #exchange: Exchange | undefined;
  /** Of the body, what came with the head. */
  #rest: Uint8Array = nothing;
  #answers = 0;

  constructor(options: HttpConnectionOptions) {
    const { secure, host, port, ca, connectMsMax, stallMs, onClosed } = options;
    this.#options = options;
    const onread = {
      buffer: Buffer.allocUnsafeSlow(readBytes),
      callback: (count: number, buffer: Uint8Array) => this.#receive(buffer.subarray(0, count)),
    };
    const to = { host, port, onread, noDelay: true, keepAlive: true };
    this.#socket = secure
      ? connectSecure({
          ...to,
          ...(isIP(host) === 0 ? { servername: host } : {}),
          ...(ca === undefined ? {} : { ca }),
          ALPNProtocols: ['http/1.1'],
        })
      : connect(to);
    const socket = this.#socket;
    socket.setTimeout(connectMsMax);
    socket.once(secure ? 'secureConnect' : 'connect', () => socket.setTimeout(stallMs));
    socket.on('timeout', () => this.#fail(failure('TimeoutError', 'ETIMEDOUT', 'nothing came for too long')));
    socket.on('error', (error) => this.#fail(error));
    socket.on('end', () => this.#ended());
    socket.on('close', () => {
      this.#ended();
      onClosed(this);
    });
  }

  /** It has answered before: it may be closed by the server at the moment of the next request. */
  get answeredBefore(): boolean {
    return this.#answers > 0;
  }

  /** Sends the head of a request; resolves with the head of the answer, whose body is then to be read or destroyed. */
  send(head: string, signal: AbortSignal | undefined): Promise<Answered> {
    return new Promise((resolve, reject) => {
      const aborted = (): void => this.#fail(failure('AbortError', 'ABORT_ERR', 'the request was ended'));
      if (signal?.aborted) {
        reject(failure('AbortError', 'ABORT_ERR', 'the request was ended'));
        this.destroy();
        return;
      }
      signal?.addEventListener('abort', aborted, { once: true });
      const forget = (): void => signal?.removeEventListener('abort', aborted);
      const body = new HttpBody(
        (sink) => this.#begin(body, sink),
        () => this.#drop(body),
      );
      this.#exchange = { answer: new HttpAnswer(), body, resolve, reject, forget, sink: undefined };
      this.#socket.ref();
      if (this.#answers > 0) this.#socket.setTimeout(this.#options.stallMs);
      this.#socket.write(head, 'latin1');
    });
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** What the system has read; false stops it from reading on. */
  #receive(bytes: Uint8Array): boolean {
    const exchange = this.#exchange;
    if (exchange === undefined) {
      // Nobody has asked for anything.
      this.destroy();
      return false;
    }
    try {
      const { answer, body, resolve } = exchange;
      if (answer.head !== undefined) return this.#pass(exchange, bytes);
      const taken = answer.take(bytes, () => {});
      if (answer.head === undefined) return true;
      // The buffer is read into again.
      this.#rest = bytes.slice(taken);
      resolve({ head: answer.head, body });
      return false;
    } catch (error) {
      this.#fail(error as Error);
      return false;
    }
  }

  #begin(body: HttpBody, sink: Sink): void {
    const exchange = this.#exchange;
    if (exchange?.body !== body) return;
    const first = exchange.sink === undefined;
    exchange.sink = sink;
    try {
      if (first) {
        const rest = this.#rest;
        this.#rest = nothing;
        if (!this.#pass(exchange, rest)) return;
      }
      if (this.#exchange === exchange) this.#socket.resume();
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  #pass(exchange: Exchange, bytes: Uint8Array): boolean {
    const { answer, sink } = exchange;
    let more = true;
    const taken = answer.take(bytes, (piece) => {
      more = sink?.piece(piece) === true && more;
    });
    if (!answer.done) return more;
    this.#finish(exchange, taken < bytes.length);
    return true;
  }

  #finish({ answer, sink, forget }: Exchange, excess: boolean): void {
    forget();
    this.#exchange = undefined;
    this.#answers += 1;
    sink?.end();
    if (!answer.keepAlive || excess || this.#socket.destroyed) {
      this.destroy();
      return;
    }
    this.#socket.setTimeout(idleMsMax);
    this.#socket.unref();
    // So that its end is seen.
    this.#socket.resume();
    this.#options.onIdle(this);
  }

  #ended(): void {
    const exchange = this.#exchange;
    if (exchange !== undefined && exchange.answer.head !== undefined && exchange.sink !== undefined) {
      if (exchange.answer.close()) {
        this.#finish(exchange, false);
        return;
      }
    }
    this.#fail(failure('Error', 'ECONNRESET', 'the connection was closed'));
  }

  #fail(error: Error): void {
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.destroy();
    if (exchange === undefined) return;
    exchange.forget();
    if (exchange.answer.head === undefined) exchange.reject(error);
    else exchange.body.fail(error);
  }

  /** Nobody wants the rest of a body. */
  #drop(body: HttpBody): void {
    if (this.#exchange?.body !== body) return;
    this.#exchange.forget();
    this.#exchange = undefined;
    this.destroy();
  }
}

/** The body of an answer: a stream, as the SDK wants one, or read as a whole without any. */
export class HttpBody extends Readable {
  readonly #begin: (sink: Sink) => void;
  readonly #drop: () => void;
  #sink: Sink | undefined;
  #failure: Error | undefined;

  constructor(begin: (sink: Sink) => void, drop: () => void) {
    super();
    this.#begin = begin;
    this.#drop = drop;
  }

  /** Reads all of it, as `readBody` does. */
  readInto(target: Uint8Array, at: number, reached: (at: number) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      let end = at;
      this.#read({
        piece: (piece) => {
          if (end + piece.length > target.length) throw new TruncatedBody(target.length - at, end + piece.length - at);
          target.set(piece, end);
          end += piece.length;
          reached(end);
          return true;
        },
        end: () => (end === target.length ? resolve() : reject(new TruncatedBody(target.length - at, end - at))),
        failed: reject,
      });
    });
  }

  /** The connection has failed. */
  fail(error: Error): void {
    this.#failure = error;
    this.#sink?.failed(error);
  }

  override _read(): void {
    this.#read({
      piece: (piece) => this.push(Buffer.from(piece)),
      end: () => this.push(null),
      failed: (error) => this.destroy(error),
    });
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#drop();
    done(error);
  }

  #read(sink: Sink): void {
    this.#sink = sink;
    if (this.#failure !== undefined) sink.failed(this.#failure);
    else this.#begin(sink);
  }
}

const nothing: Uint8Array = new Uint8Array(0);

function failure(name: string, code: string, message: string): Error {
  return Object.assign(new Error(message), { name, code });
}
