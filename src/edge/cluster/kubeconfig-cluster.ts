/** A cluster as a kubeconfig names it, with the identity that stands there: certificates, tokens, and programs that get them. */
import { Agent, type RequestOptions, request as httpsRequest } from 'node:https';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { KubeConfig } from '@kubernetes/client-node/dist/config.js';
import { Exec } from '@kubernetes/client-node/dist/exec.js';
import { HoldfastError } from '../../engine/model/errors.ts';

export interface KubeconfigOptions {
  /** Undefined for $KUBECONFIG, ~/.kube/config, or the pod's own identity. */
  readonly kubeconfig: string | undefined;
  /** Undefined for the current one. */
  readonly context: string | undefined;
}

const answerMsMax = 60_000;

/** E_USAGE when there is no such configuration, or no such context in it. */
export function openKubeconfig({ kubeconfig, context }: KubeconfigOptions): KubeconfigCluster {
  const config = new KubeConfig();
  try {
    if (kubeconfig === undefined) config.loadFromDefault();
    else config.loadFromFile(kubeconfig);
  } catch (cause) {
    throw new HoldfastError('E_USAGE', `the kubeconfig cannot be read: ${messageOf(cause)}`, {
      cause,
      remedy: 'Name it: --kubeconfig FILE, or KUBECONFIG.',
    });
  }
  if (context !== undefined) {
    if (config.getContextObject(context) === null) {
      throw new HoldfastError('E_USAGE', `there is no context ${JSON.stringify(context)} in the kubeconfig`, {
        remedy: `Name one of: ${config
          .getContexts()
          .map(({ name }) => name)
          .join(', ')}.`,
      });
    }
    config.setCurrentContext(context);
  }
  if (config.getCurrentCluster() === null) {
    throw new HoldfastError('E_USAGE', 'the kubeconfig names no cluster', {
      remedy: 'Choose a context: kubectl config use-context NAME, or --context NAME.',
    });
  }
  return new KubeconfigCluster(config);
}

interface AskOptions {
  readonly body?: unknown;
  readonly contentType?: string;
  readonly metadataOnly?: boolean;
  readonly signal?: AbortSignal;
}

export class KubeconfigCluster implements Disposable {
  readonly context: string;
  readonly server: string;
  readonly namespace: string;
  readonly #config: KubeConfig;
  #agent: Agent | undefined;

  constructor(config: KubeConfig) {
    this.#config = config;
    this.context = config.getCurrentContext();
    this.server = config.getCurrentCluster()?.server ?? '';
    this.namespace = config.getContextObject(this.context)?.namespace ?? 'default';
  }

  async request(
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    { body, contentType = 'application/json', metadataOnly = false, signal }: AskOptions = {},
  ): Promise<{ status: number; object: unknown; serverMs: number | undefined; warnings: readonly string[] }> {
    const timeout = AbortSignal.timeout(answerMsMax);
    const given = body === undefined ? undefined : JSON.stringify(body);
    try {
      const options = await this.#options();
      const accept = metadataOnly ? 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1' : 'application/json';
      const url = new URL(this.server.replace(/\/+$/, '') + path);
      const response = await new Promise<IncomingMessage>((resolve, reject) => {
        const sent = (url.protocol === 'http:' ? httpRequest : httpsRequest)(
          url,
          {
            ...options,
            method,
            headers: {
              ...(options.headers as Record<string, string>),
              accept,
              'user-agent': 'kubectl-holdfast',
              ...(given === undefined
                ? {}
                : { 'content-type': contentType, 'content-length': String(Buffer.byteLength(given)) }),
            },
            signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
          },
          resolve,
        );
        sent.on('error', reject);
        sent.end(given);
      });
      const answer = await text(response);
      const date = Date.parse(response.headers.date ?? '');
      return {
        status: response.statusCode ?? 0,
        object: jsonIn(answer),
        serverMs: Number.isNaN(date) ? undefined : date,
        warnings: warningsIn(response.headers['warning']),
      };
    } catch (cause) {
      if (signal?.aborted === true) throw new HoldfastError('E_ABORTED', 'a request was interrupted', { cause });
      throw new HoldfastError('E_CLUSTER_UNREACHABLE', `${this.server} does not answer: ${messageOf(cause)}`, {
        cause,
      });
    }
  }

  async exec(
    { namespace, pod, container }: { readonly namespace: string; readonly pod: string; readonly container: string },
    command: readonly string[],
    { signal }: { readonly signal?: AbortSignal } = {},
  ): Promise<{ code: number; stdout: string; stderr: string }> {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const written = Promise.all([text(stdout), text(stderr)]);
    const exec = new Exec(this.#config);
    const [namespacePart, podPart] = [encodeURIComponent(namespace), encodeURIComponent(pod)];
    const code = await new Promise<number>((resolve, reject) => {
      exec
        .exec(namespacePart, podPart, container, [...command], stdout, stderr, null, false, (status) =>
          resolve(codeOf(status)),
        )
        .then((socket) => {
          const interrupt = (): void => socket.close();
          signal?.addEventListener('abort', interrupt, { once: true });
          socket.onclose = () => {
            signal?.removeEventListener('abort', interrupt);
            reject(
              signal?.aborted === true
                ? new HoldfastError('E_ABORTED', 'a command in a pod was interrupted')
                : new HoldfastError('E_CLUSTER_REFUSED', `the command in ${namespace}/${pod} ended without a result`),
            );
          };
        })
        .catch((cause: unknown) => {
          const reason = messageOf(cause);
          reject(
            new HoldfastError('E_CLUSTER_REFUSED', `no command can be started in ${namespace}/${pod}: ${reason}`, {
              cause,
              remedy: 'The right to create pods/exec is needed in this namespace, and the container has to run.',
            }),
          );
        });
    });
    stdout.end();
    stderr.end();
    const [out, err] = await written;
    return { code, stdout: out, stderr: err };
  }

  /** With one set of connections for all requests. */
  async #options(): Promise<RequestOptions> {
    const options: RequestOptions = {};
    await this.#config.applyToHTTPSOptions(options);
    // What the library has made knows of proxies; connections are kept open beside.
    if (options.agent instanceof Agent && options.agent.constructor === Agent) {
      this.#agent ??= new Agent({ ...options.agent.options, keepAlive: true, maxSockets: 16 });
      options.agent = this.#agent;
    }
    return options;
  }

  [Symbol.dispose](): void {
    this.#agent?.destroy();
  }
}

/** The status that ends a command: its exit code stands among the causes. */
function codeOf(status: {
  readonly status?: string;
  readonly details?: { readonly causes?: readonly object[] };
}): number {
  if (status.status === 'Success') return 0;
  for (const cause of status.details?.causes ?? []) {
    const { reason, message } = cause as { readonly reason?: string; readonly message?: string };
    if (reason === 'ExitCode') return Number(message);
  }
  return 1;
}

/** `299 - "text"`, several of them behind each other. */
function warningsIn(header: string | string[] | undefined): readonly string[] {
  const all = Array.isArray(header) ? header.join(', ') : (header ?? '');
  return [...all.matchAll(/\d{3} \S+ "((?:[^"\\]|\\.)*)"/g)].map(([, said = '']) => said.replaceAll(/\\(.)/g, '$1'));
}

function jsonIn(body: string): unknown {
  try {
    return JSON.parse(body) as unknown;
  } catch {
    return null;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String((error as { message?: string } | undefined)?.message ?? error);
}
