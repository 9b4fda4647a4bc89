/**
 * The few paths of an API server that Holdfast asks, over real HTTPS on loopback: tokens, pods, namespaces, and ConfigMaps with
 * resourceVersions. What the real one answers is asked in the cluster tests; here everything can be made to go wrong.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { JsonObject } from '../../src/webhook/json.ts';
import { makeCertificate } from '../webhook/webhook-process.ts';

export interface TestPod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly phase?: string;
  readonly isEnding?: boolean;
  readonly nodeName?: string;
}

export interface TestToken {
  readonly pod: Pick<TestPod, 'namespace' | 'name' | 'uid'>;
  readonly audience: string;
}

interface ConfigMap {
  readonly metadata: { readonly name: string; readonly resourceVersion?: string; readonly labels?: object };
  readonly data?: Readonly<Record<string, string>>;
}

export interface Asked {
  readonly method: string;
  readonly path: string;
}

export class PodApiServer implements AsyncDisposable {
  readonly asked: Asked[] = [];
  readonly tokens: Map<string, TestToken> = new Map();
  readonly pods: Map<string, TestPod> = new Map();
  readonly namespaces: Map<string, Readonly<Record<string, string>>> = new Map();
  /** By namespace and name. */
  readonly configMaps: Map<string, ConfigMap> = new Map();
  /** Takes the place of an answer: a status alone, or undefined for none at all; 'as-always' leaves it. */
  answer: (asked: Asked) => number | undefined | 'as-always' = () => 'as-always';
  /** Called before a ConfigMap is written: others may write in this moment. */
  beforeWrite: (() => void) | undefined;
  readonly #server: Server;
  readonly #directory: string;
  #versions = 0;

  private constructor(server: Server, directory: string) {
    this.#server = server;
    this.#directory = directory;
  }

  static async start(): Promise<PodApiServer> {
    const directory = mkdtempSync(join(tmpdir(), 'holdfast-kube-'));
    const [cert, key] = [join(directory, 'ca.crt'), join(directory, 'tls.key')];
    makeCertificate(cert, key, 'kube');
    writeFileSync(join(directory, 'token'), 'of-the-service\n');
    const server = createServer({ cert: readFileSync(cert), key: readFileSync(key) });
    const made = new PodApiServer(server, directory);
    server.on('request', (request, response) => void made.#respond(request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return made;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** What a process needs to find it as the API server of its cluster. */
  get env(): Readonly<Record<string, string>> {
    return {
      KUBERNETES_SERVICE_HOST: '127.0.0.1',
      KUBERNETES_SERVICE_PORT: String(this.port),
      HOLDFAST_SERVICE_ACCOUNT_DIR: this.#directory,
    };
  }

  addPod(pod: TestPod): void {
    this.pods.set(`${pod.namespace}/${pod.name}`, pod);
  }

  /** A pod, and a token of it in the form of one. */
  addCaller(pod: TestPod, audience = 'holdfast'): string {
    this.addPod(pod);
    const token = `head.${Buffer.from(`${pod.uid} ${this.tokens.size}`).toString('base64url')}.signature`;
    this.tokens.set(token, { pod, audience });
    return token;
  }

  /** The data of all anchors, by lineage. */
  get anchors(): Readonly<Record<string, string>> {
    return Object.fromEntries(
      [...this.configMaps.values()].map(({ data }) => [data?.['lineage'] ?? '', data?.['anchor'] ?? '']),
    );
  }

  async #respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = '';
    for await (const chunk of request) text += String(chunk);
    const asked = { method: request.method ?? '', path: request.url ?? '' };
    this.asked.push(asked);
    const other = this.answer(asked);
    if (other === undefined) return;
    const isKnown = request.headers.authorization === 'Bearer of-the-service';
    const answered =
      other !== 'as-always'
        ? { status: other, object: { kind: 'Status', status: 'Failure' } }
        : isKnown
          ? this.#answer(asked, text === '' ? {} : (JSON.parse(text) as JsonObject))
          : { status: 401, object: {} };
    response.writeHead(answered.status, { 'content-type': 'application/json' }).end(JSON.stringify(answered.object));
  }

  #answer({ method, path }: Asked, body: JsonObject): { readonly status: number; readonly object: object } {
    if (method === 'POST' && path === '/apis/authentication.k8s.io/v1/tokenreviews') return this.#review(body);
    const [bare = '', query] = path.split('?');
    if (query !== undefined) return this.#list(bare, query);
    const match = /^\/api\/v1\/namespaces\/([a-z0-9-]+)(?:\/(pods|configmaps)(?:\/([a-z0-9.-]+))?)?$/.exec(path);
    const [, namespace = '', resource, name = ''] = match ?? [];
    if (match === null) return notFound('paths', path);
    if (resource === undefined) {
      const annotations = this.namespaces.get(namespace);
      if (annotations === undefined) return notFound('namespaces', namespace);
      return { status: 200, object: { kind: 'Namespace', metadata: { name: namespace, annotations } } };
    }
    if (resource === 'configmaps') return this.#configMap(method, namespace, name, body as unknown as ConfigMap);
    const pod = this.pods.get(`${namespace}/${name}`);
    return pod === undefined ? notFound('pods', name) : { status: 200, object: objectOf(pod) };
  }

  #review(body: JsonObject): { readonly status: number; readonly object: object } {
    const { token, audiences } = body['spec'] as unknown as { token: string; audiences: readonly string[] };
    const found = this.tokens.get(token);
    const exists =
      found !== undefined && this.pods.get(`${found.pod.namespace}/${found.pod.name}`)?.uid === found.pod.uid;
    if (found === undefined || !exists || !audiences.includes(found.audience)) {
      return { status: 201, object: { kind: 'TokenReview', status: { error: 'not valid' } } };
    }
    const { namespace, name, uid } = found.pod;
    return {
      status: 201,
      object: {
        kind: 'TokenReview',
        status: {
          authenticated: true,
          audiences: [found.audience],
          user: {
            username: `system:serviceaccount:${namespace}:default`,
            extra: {
              'authentication.kubernetes.io/pod-name': [name],
              'authentication.kubernetes.io/pod-uid': [uid],
            },
          },
        },
      },
    };
  }

  /** Of ConfigMaps with a label, two a page. */
  #list(path: string, query: string): { readonly status: number; readonly object: object } {
    const namespace = /^\/api\/v1\/namespaces\/([a-z0-9-]+)\/configmaps$/.exec(path)?.[1];
    const given = new URLSearchParams(query);
    const label = given.get('labelSelector') ?? '';
    const all = [...this.configMaps]
      .filter(([key, { metadata }]) => key.startsWith(`${namespace}/`) && label in (metadata.labels ?? {}))
      .sort(([a], [b]) => (a < b ? -1 : 1));
    // From behind a name: what is deleted meanwhile moves nothing.
    const rest = all.filter(([key]) => key > (given.get('continue') ?? ''));
    const page = rest.slice(0, 2);
    const next = rest.length > 2 ? { continue: page.at(-1)?.[0] } : {};
    return { status: 200, object: { metadata: next, items: page.map(([, each]) => each) } };
  }

  #configMap(
    method: string,
    namespace: string,
    name: string,
    given: ConfigMap,
  ): { readonly status: number; readonly object: object } {
    const key = `${namespace}/${method === 'POST' ? given.metadata.name : name}`;
    if (method !== 'GET') this.beforeWrite?.();
    const kept = this.configMaps.get(key);
    if (method === 'POST' ? kept !== undefined : kept === undefined) {
      return method === 'POST' ? { status: 409, object: { reason: 'AlreadyExists' } } : notFound('configmaps', name);
    }
    if (method === 'GET') return { status: 200, object: kept as ConfigMap };
    if (method === 'PUT' && given.metadata.resourceVersion !== kept?.metadata.resourceVersion) {
      return { status: 409, object: { reason: 'Conflict' } };
    }
    if (method === 'DELETE') {
      const { preconditions } = given as unknown as { preconditions?: { resourceVersion?: string } };
      const current = this.configMaps.get(key)?.metadata.resourceVersion;
      if (preconditions?.resourceVersion !== current) return { status: 409, object: {} };
      this.configMaps.delete(key);
      return { status: 200, object: {} };
    }
    const object = { ...given, metadata: { ...given.metadata, resourceVersion: String(++this.#versions) } };
    this.configMaps.set(key, object);
    return { status: method === 'POST' ? 201 : 200, object };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
    rmSync(this.#directory, { recursive: true });
  }
}

function notFound(kind: string, name: string): { readonly status: number; readonly object: object } {
  return { status: 404, object: { kind: 'Status', reason: 'NotFound', details: { kind, name } } };
}

export function objectOf({ namespace, name, uid, annotations = {}, phase, isEnding, nodeName }: TestPod): JsonObject {
  return {
    kind: 'Pod',
    metadata: {
      name,
      namespace,
      uid,
      annotations,
      ...(isEnding === true ? { deletionTimestamp: '2026-03-01T12:00:00Z' } : {}),
    },
    spec: nodeName === undefined ? {} : { nodeName },
    status: phase === undefined ? {} : { phase },
  };
}
