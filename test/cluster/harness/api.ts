/** The Kubernetes API through `kubectl proxy` on a Unix socket, which is there whatever network the cluster is in. */
import { request } from 'node:http';
import { until } from './processes.ts';

/** Whatever the API server sends; tests look into it as they like. */
// biome-ignore lint/suspicious/noExplicitAny: the types of all of Kubernetes would tell these tests nothing.
export type Resource = any;

export class ApiError extends Error {
  readonly status: number;
  /** `NotFound`, `Invalid`, … */
  readonly reason: string;

  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

export class Api {
  readonly #socket: string;

  constructor(socket: string) {
    this.#socket = socket;
  }

  async get(path: string): Promise<Resource> {
    return await this.#send('GET', path);
  }

  /** Undefined where there is none. */
  async find(path: string): Promise<Resource | undefined> {
    try {
      return await this.get(path);
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return undefined;
      throw error;
    }
  }

  async list(path: string): Promise<readonly Resource[]> {
    return (await this.get(path)).items;
  }

  async create(path: string, body: Resource): Promise<Resource> {
    return await this.#send('POST', path, body);
  }

  async delete(path: string, options: Resource = {}): Promise<Resource> {
    return await this.#send('DELETE', path, { apiVersion: 'v1', kind: 'DeleteOptions', ...options });
  }

  /** A merge patch: `null` removes. */
  async patch(path: string, body: Resource): Promise<Resource> {
    return await this.#send('PATCH', path, body, 'application/merge-patch+json');
  }

  /** Plain text: the log of a container, or what an address inside of the cluster answers. */
  async text(path: string): Promise<string> {
    return (await this.#request('GET', path)).body;
  }

  /** Asks for an object until `judge` has an answer; says how the object is when there is none in time. */
  async until<T>(
    what: string,
    path: string,
    seconds: number,
    judge: (found: Resource | undefined) => T | undefined,
  ): Promise<T> {
    let last: Resource;
    try {
      return await until(what, seconds, async () => {
        last = await this.find(path);
        return judge(last);
      });
    } catch (error) {
      const state = (JSON.stringify(last?.status ?? last, undefined, 1) ?? 'there is none').slice(0, 4000);
      throw new Error(`${error instanceof Error ? error.message : String(error)}\n${path}: ${state}`, { cause: error });
    }
  }

  async #send(method: string, path: string, body?: Resource, type = 'application/json'): Promise<Resource> {
    const answer = await this.#request(method, path, body === undefined ? undefined : JSON.stringify(body), type);
    return JSON.parse(answer.body);
  }

  #request(method: string, path: string, body?: string, type?: string): Promise<{ readonly body: string }> {
    return new Promise((resolve, reject) => {
      const headers = {
        host: 'localhost',
        accept: 'application/json',
        ...(type === undefined ? {} : { 'content-type': type }),
        // Not left to Node, which says nothing of the body of a DELETE.
        ...(body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }),
      };
      const sent = request({ socketPath: this.#socket, method, path, headers, timeout: 60_000 }, (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('error', reject);
        answer.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          const status = answer.statusCode ?? 0;
          if (status < 300) resolve({ body: text });
          else reject(errorOf(`${method} ${path}`, status, text));
        });
      });
      sent.on('timeout', () => sent.destroy(new Error(`${method} ${path}: no answer in a minute`)));
      sent.on('error', reject);
      sent.end(body);
    });
  }
}

function errorOf(what: string, status: number, text: string): ApiError {
  try {
    const { reason, message } = JSON.parse(text);
    return new ApiError(status, String(reason), `${what}: ${status} ${message}`);
  } catch {
    return new ApiError(status, '', `${what}: ${status} ${text}`);
  }
}
