/**
 * Requests to the API server of the cluster that this process runs in, with the identity of its ServiceAccount, whose token and CA the
 * kubelet has mounted. No client library: what is asked are a few requests of known form, and the memory of a library is not to be had
 * in every process.
 */
import { readFile } from 'node:fs/promises';
import { Agent, type RequestOptions, request as httpsRequest } from 'node:https';
import type { IncomingMessage } from 'node:http';
import { HoldfastError } from '../../engine/model/errors.ts';

export interface InClusterPlaces {
  readonly host: string;
  readonly port: number;
  /** The ServiceAccount's token, read again for each request since it is replaced. */
  readonly tokenFile: string;
  /** What the API server's certificate is signed with. */
  readonly caFile: string;
}

export interface ApiRequestOptions {
  readonly body?: unknown;
  readonly contentType?: string;
  readonly signal?: AbortSignal;
}

const mounted = '/var/run/secrets/kubernetes.io/serviceaccount';
const answerMsMax = 10_000;
/** Single objects are asked for; none is larger than what etcd takes. */
const answerBytesMax = 4 * 1024 * 1024;

/** Where the kubelet says that the API server is. E_USAGE outside of a pod. */
export function inClusterPlaces(env: Readonly<Record<string, string | undefined>>): InClusterPlaces {
  const host = env['KUBERNETES_SERVICE_HOST'] ?? '';
  const port = Number(env['KUBERNETES_SERVICE_PORT'] ?? '443');
  if (host === '' || !Number.isInteger(port)) {
    throw new HoldfastError('E_USAGE', 'this process runs in no pod: KUBERNETES_SERVICE_HOST is not set', {
      remedy: 'Run it in a pod that has its ServiceAccount token mounted.',
    });
  }
  const directory = env['HOLDFAST_SERVICE_ACCOUNT_DIR'] ?? mounted;
  return { host, port, tokenFile: `${directory}/token`, caFile: `${directory}/ca.crt` };
}

export class InClusterApi implements Disposable {
  readonly #places: InClusterPlaces;
  #agent: Agent | undefined;

  constructor(places: InClusterPlaces) {
    this.#places = places;
  }

  /** Any status is an answer. E_CLUSTER_UNREACHABLE where none comes, E_ABORTED when the signal fires. */
  async request(
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    { body, contentType = 'application/json', signal }: ApiRequestOptions = {},
  ): Promise<{ readonly status: number; readonly object: unknown }> {
    const timeout = AbortSignal.timeout(answerMsMax);
    try {
      const token = (await readFile(this.#places.tokenFile, 'utf8')).trim();
      const text = body === undefined ? undefined : JSON.stringify(body);
      const options: RequestOptions = {
        host: this.#places.host,
        port: this.#places.port,
        method,
        path,
        agent: await this.#connections(),
        headers: {
          authorization: `Bearer ${token}`,
          accept: 'application/json',
          ...(text === undefined
            ? {}
            : { 'content-type': contentType, 'content-length': String(Buffer.byteLength(text)) }),
        },
        signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
      };
      const response = await sent(options, text);
      const answer = await bodyOf(response);
      return { status: response.statusCode ?? 0, object: jsonIn(answer) };
    } catch (cause) {
      if (signal?.aborted === true) throw new HoldfastError('E_ABORTED', 'a request was interrupted', { cause });
      const reason = timeout.aborted ? `no answer within ${answerMsMax / 1000} s` : messageOf(cause);
      throw new HoldfastError('E_CLUSTER_UNREACHABLE', `the API server does not answer: ${reason}`, { cause });
    }
  }

  /** The CA is read once: a cluster that changes it restarts its pods, and a process that cannot go on is restarted as well. */
  async #connections(): Promise<Agent> {
    this.#agent ??= new Agent({ ca: await readFile(this.#places.caFile), keepAlive: true, maxSockets: 16 });
    return this.#agent;
  }

  [Symbol.dispose](): void {
    this.#agent?.destroy();
  }
}

function sent(options: RequestOptions, text: string | undefined): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest(options, resolve);
    request.on('error', reject);
    request.end(text);
  });
}

async function bodyOf(response: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of response as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > answerBytesMax) {
      response.destroy();
      throw new Error('an answer that is too long');
    }
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
