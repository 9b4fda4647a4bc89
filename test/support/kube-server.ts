/**
 * An API server as far as single objects are read and written: HTTPS on loopback, resource versions, and rights. What the real one does beyond
 * is tested on a real cluster (test/cluster).
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeAuthority, makeServerCertificate } from '../../src/edge/host/make-certificate.ts';
import { applyPatch, type Operation } from './json-patch.ts';

// biome-ignore lint/suspicious/noExplicitAny: objects of any kind, as the API has them.
export type KubeObject = Record<string, any>;

export interface KubeRequest {
  readonly method: string;
  readonly path: string;
  readonly status: number;
}

export class KubeServer implements AsyncDisposable {
  /** By the path of the API, such as `/api/v1/namespaces/holdfast/secrets/tls`. */
  readonly objects: Map<string, KubeObject> = new Map();
  readonly requests: KubeRequest[] = [];
  /** What this identity may do; everything where it is undefined. */
  mayDo: ((method: string, path: string) => boolean) | undefined;
  /** Takes the place of an answer; undefined: none. */
  answer:
    | ((method: string, path: string, body: KubeObject) => { status: number; object: KubeObject } | undefined)
    | undefined;
  /** Variables under which a process finds it, as the kubelet sets them. */
  readonly env: Readonly<Record<string, string>>;
  readonly #server: Server;
  readonly #directory: string;
  #version = 1;

  private constructor(server: Server, directory: string) {
    this.#server = server;
    this.#directory = directory;
    const { port } = server.address() as AddressInfo;
    this.env = {
      KUBERNETES_SERVICE_HOST: 'localhost',
      KUBERNETES_SERVICE_PORT: String(port),
      HOLDFAST_SERVICE_ACCOUNT_DIR: directory,
    };
  }

  static async start(): Promise<KubeServer> {
    const directory = mkdtempSync(join(tmpdir(), 'holdfast-kube-'));
    const nowMs = Date.now();
    const times = { validFromMs: nowMs - 60_000, validUntilMs: nowMs + 86_400_000 };
    const authority = makeAuthority(times);
    const made = makeServerCertificate(authority, { names: ['localhost'], ...times });
    writeFileSync(join(directory, 'ca.crt'), authority.cert);
    writeFileSync(join(directory, 'token'), 'token-of-the-webhook\n');
    const server = createServer({ cert: made.cert, key: made.key });
    await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
    const kube = new KubeServer(server, directory);
    server.on('request', (request: IncomingMessage, response: ServerResponse) => void kube.#answer(request, response));
    return kube;
  }

  /** For programs of people: the same identity, and a namespace. */
  writeKubeconfig(namespace: string): string {
    const path = join(this.#directory, 'kubeconfig');
    const server = `https://localhost:${this.env['KUBERNETES_SERVICE_PORT']}`;
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'test',
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'test', namespace } }],
      clusters: [{ name: 'test', cluster: { server, 'certificate-authority': join(this.#directory, 'ca.crt') } }],
      users: [{ name: 'test', user: { token: 'token-of-the-webhook' } }],
    };
    writeFileSync(path, JSON.stringify(config));
    return path;
  }

  put(path: string, object: KubeObject): void {
    const metadata = { ...object['metadata'], resourceVersion: String(++this.#version) };
    this.objects.set(path, { ...object, metadata });
  }

  /** Members of a Secret, decoded. */
  secret(path: string): Readonly<Record<string, string>> {
    const data = (this.objects.get(path)?.['data'] ?? {}) as Record<string, string>;
    return Object.fromEntries(
      Object.entries(data).map(([key, value]) => [key, Buffer.from(value, 'base64').toString()]),
    );
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = '';
    for await (const part of request) text += String(part);
    const { method = '', url: path = '' } = request;
    const { status, object } = this.#judge(request, path, text);
    this.requests.push({ method, path, status });
    const body = JSON.stringify(object);
    response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
    response.end(body);
  }

  #judge(request: IncomingMessage, path: string, text: string): { status: number; object: KubeObject } {
    const { method = '' } = request;
    const failed = (status: number, message: string): { status: number; object: KubeObject } => ({
      status,
      object: { kind: 'Status', apiVersion: 'v1', status: 'Failure', code: status, message },
    });
    if (request.headers.authorization !== 'Bearer token-of-the-webhook') return failed(401, 'Unauthorized');
    if (this.mayDo?.(method, path) === false) return failed(403, `${method} ${path} is forbidden`);
    const other = this.answer?.(method, path, text === '' ? {} : (JSON.parse(text) as KubeObject));
    if (other !== undefined) return other;
    const place = method === 'GET' ? path : path.replace(/\?.*$/, '');
    const present = this.objects.get(place);
    if (present === undefined) return failed(404, `${path} not found`);
    if (method === 'GET') return { status: 200, object: present };
    try {
      if (method === 'PUT') {
        const given = JSON.parse(text) as KubeObject;
        const version = given['metadata']?.['resourceVersion'];
        if (version !== undefined && version !== present['metadata']['resourceVersion']) {
          return failed(409, 'the object has been modified; please apply your changes to the latest version');
        }
        this.put(place, given);
      } else if (request.headers['content-type'] === 'application/json-patch+json') {
        this.put(place, applyPatch(present, JSON.parse(text) as Operation[]));
      } else if (request.headers['content-type'] === 'application/merge-patch+json') {
        this.put(place, mergePatch(present, JSON.parse(text) as KubeObject) as KubeObject);
      } else {
        return failed(415, 'not supported');
      }
    } catch (error) {
      return failed(422, error instanceof Error ? error.message : String(error));
    }
    return { status: 200, object: this.objects.get(place) as KubeObject };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
    rmSync(this.#directory, { recursive: true });
  }
}

/** RFC 7386. */
function mergePatch(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const result: KubeObject =
    typeof target === 'object' && target !== null && !Array.isArray(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}
