import { HttpConnection, type HttpConnectionOptions, type HttpOrigin } from './http-connection.ts';

/** A request as the SDK gives it to whatever sends it: signed, with its `host` among the headers. */
interface Request {
  readonly method: string;
  readonly protocol: string;
  readonly hostname: string;
  readonly port?: number | undefined;
  readonly path: string;
  readonly query?: Readonly<Record<string, string | null | readonly (string | null)[]>>;
  readonly headers: Readonly<Record<string, string>>;
}

interface Options {
  readonly abortSignal?: AbortSignal | undefined;
}

/** What is used of the SDK's handlers. */
export interface Handler {
  handle(request: Request, options?: Options): Promise<{ readonly response: unknown }>;
  destroy?(): void;
}

export type GetHandlerOptions = Pick<HttpConnectionOptions, 'ca' | 'connectMsMax' | 'stallMs'>;

/**
 * Sends what reads objects over connections of its own (http-connection.ts) and everything else by the handler that the SDK
 * brings. Nothing is tried again here, but for a connection that was closed while it was idle.
 */
export class GetHandler implements Handler {
  readonly metadata = { handlerProtocol: 'http/1.1' } as const;
  readonly #others: Handler;
  readonly #options: GetHandlerOptions;
  readonly #idle = new Map<string, HttpConnection[]>();
  readonly #open = new Set<HttpConnection>();

  constructor(others: Handler, options: GetHandlerOptions) {
    this.#others = others;
    this.#options = options;
  }

  async handle(request: Request, options?: Options): Promise<{ readonly response: unknown }> {
    if (request.method !== 'GET' || request.query?.['x-id'] !== 'GetObject')
      return this.#others.handle(request, options);
    const origin = originOf(request);
    const head = headOf(request);
    const signal = options?.abortSignal;
    for (;;) {
      const connection = this.#take(origin);
      const again = connection.answeredBefore;
      try {
        const { head: answer, body } = await connection.send(head, signal);
        const { status, reason, headers } = answer;
        return { response: { statusCode: status, reason, headers: { ...headers }, body } };
      } catch (error) {
        // The server may have closed it before it saw the request, and reading twice is as good as once.
        if (!again || signal?.aborted === true || (error as { code?: unknown }).code !== 'ECONNRESET') throw error;
      }
    }
  }

  destroy(): void {
    for (const connection of this.#open) connection.destroy();
    this.#others.destroy?.();
  }

  #take(origin: HttpOrigin): HttpConnection {
    const name = `${origin.secure} ${origin.host} ${origin.port}`;
    const idle = this.#idle.get(name);
    const last = idle?.pop();
    if (last !== undefined) return last;
    const connection = new HttpConnection({
      ...origin,
      ...this.#options,
      onIdle: (each) => {
        const others = this.#idle.get(name);
        if (others === undefined) this.#idle.set(name, [each]);
        else others.push(each);
      },
      onClosed: (each) => {
        this.#open.delete(each);
        const others = this.#idle.get(name)?.filter((other) => other !== each) ?? [];
        this.#idle.set(name, others);
      },
    });
    this.#open.add(connection);
    return connection;
  }
}

function originOf({ protocol, hostname, port }: Request): HttpOrigin {
  const secure = protocol === 'https:';
  const host = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
  return { secure, host, port: port ?? (secure ? 443 : 80) };
}

/** Path and query are escaped as they were signed. */
function headOf({ path, query, headers }: Request): string {
  const parts: string[] = [];
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const each of Array.isArray(value) ? value : [value]) {
      parts.push(each === null ? escaped(name) : `${escaped(name)}=${escaped(each)}`);
    }
  }
  const lines = [`GET ${path}${parts.length === 0 ? '' : `?${parts.join('&')}`} HTTP/1.1`];
  for (const [name, value] of Object.entries(headers)) lines.push(`${name}: ${value}`);
  // What ends a line would begin another header.
  if (lines.some((line) => /[^\t\x20-\xff]/.test(line)))
    throw new TypeError('a request holds characters that end its lines');
  return `${lines.join('\r\n')}\r\n\r\n`;
}

function escaped(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);
}
