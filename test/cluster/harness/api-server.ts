/** An API server and its etcd on loopback, without anything that runs pods: real answers where no node is needed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request as httpsRequest } from 'node:https';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { JsonObject } from '../../cli/run-cli.ts';
import { Certificates } from './certificates.ts';
import { until } from './processes.ts';
import { programs } from './programs.ts';

export interface ApiReply {
  readonly status: number;
  readonly object: JsonObject;
}

export class ApiServer implements AsyncDisposable {
  readonly directory: string;
  readonly port: number;
  readonly #certificates: Certificates;
  readonly #admin: Agent;
  readonly #children: ChildProcess[] = [];

  private constructor(directory: string, port: number, certificates: Certificates) {
    this.directory = directory;
    this.port = port;
    this.#certificates = certificates;
    const of = (file: string): Buffer => readFileSync(certificates.at(file));
    this.#admin = new Agent({ ca: of('ca.crt'), cert: of('admin.crt'), key: of('admin.key'), keepAlive: true });
  }

  static async start(): Promise<ApiServer> {
    const directory = mkdtempSync(join(tmpdir(), 'holdfast-api-'));
    const certificates = new Certificates(join(directory, 'pki'));
    certificates.issue('apiserver', '/CN=kube-apiserver', ['IP:127.0.0.1']);
    certificates.issue('admin', '/O=system:masters/CN=admin');
    const [port, etcd, peer] = [await freePort(), await freePort(), await freePort()];
    const made = new ApiServer(directory, port, certificates);
    try {
      made.#spawn('etcd', [
        programs.debian('etcd'),
        `--data-dir=${join(directory, 'etcd')}`,
        `--listen-client-urls=http://127.0.0.1:${etcd}`,
        `--advertise-client-urls=http://127.0.0.1:${etcd}`,
        `--listen-peer-urls=http://127.0.0.1:${peer}`,
        '--log-level=warn',
        '--unsafe-no-fsync',
      ]);
      made.#spawn('kube-apiserver', [
        programs.kubernetes('kube-apiserver'),
        `--etcd-servers=http://127.0.0.1:${etcd}`,
        '--bind-address=127.0.0.1',
        '--advertise-address=127.0.0.1',
        '--endpoint-reconciler-type=none',
        `--secure-port=${port}`,
        `--tls-cert-file=${certificates.at('apiserver.crt')}`,
        `--tls-private-key-file=${certificates.at('apiserver.key')}`,
        `--client-ca-file=${certificates.at('ca.crt')}`,
        `--service-account-key-file=${certificates.at('accounts.pub')}`,
        `--service-account-signing-key-file=${certificates.at('accounts.key')}`,
        '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
        '--service-cluster-ip-range=10.99.1.0/24',
        '--authorization-mode=RBAC',
        // Nothing here makes the accounts of namespaces, or labels nodes.
        '--disable-admission-plugins=ServiceAccount',
        '--profiling=false',
      ]);
      await until('the API server', 120, async () => {
        if (made.#children.some(({ exitCode }) => exitCode !== null)) throw new Error(made.lastWords());
        const ready = await made.request('GET', '/readyz').catch(() => undefined);
        return ready?.status === 200 || undefined;
      });
      return made;
    } catch (error) {
      await made[Symbol.asyncDispose]();
      throw error;
    }
  }

  #spawn(name: string, [program = '', ...args]: readonly string[]): void {
    const log = openSync(join(this.directory, `${name}.log`), 'a');
    this.#children.push(spawn(program, args, { stdio: ['ignore', log, log] }));
  }

  lastWords(): string {
    return readFileSync(join(this.directory, 'kube-apiserver.log'), 'utf8').slice(-3000);
  }

  /** With all rights, or with those of a token. */
  request(method: string, path: string, body?: object, token?: string): Promise<ApiReply> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const own = token === undefined ? { agent: this.#admin } : { agent: false as const, ca: this.#ca() };
    return new Promise((resolve, reject) => {
      const headers = {
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(text === undefined
          ? {}
          : {
              'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/json',
              'content-length': Buffer.byteLength(text),
            }),
      };
      const sent = httpsRequest({ host: '127.0.0.1', port: this.port, method, path, headers, ...own }, (answer) => {
        let said = '';
        answer.on('data', (part: Buffer) => {
          said += part.toString();
        });
        answer.on('error', reject);
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, object: objectIn(said) }));
      });
      sent.on('error', reject);
      sent.end(text);
    });
  }

  /** The same, which has to succeed. */
  async must(method: string, path: string, body?: object): Promise<JsonObject> {
    const { status, object } = await this.request(method, path, body);
    if (status >= 300) throw new Error(`${method} ${path}: HTTP ${status}: ${object['message']}`);
    return object;
  }

  /** A token of a ServiceAccount, bound to a pod where one is given, for the API server where no audience is. */
  async tokenOf(
    namespace: string,
    account: string,
    { pod, audience }: { readonly pod?: JsonObject; readonly audience?: string } = {},
  ): Promise<string> {
    const bound = pod && { apiVersion: 'v1', kind: 'Pod', name: pod['metadata'].name, uid: pod['metadata'].uid };
    const { status } = await this.must('POST', `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`, {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: {
        expirationSeconds: 3600,
        audiences: audience === undefined ? [] : [audience],
        ...(bound === undefined ? {} : { boundObjectRef: bound }),
      },
    });
    return status.token as string;
  }

  /** What a process of that ServiceAccount finds in its pod. */
  async environmentOf(namespace: string, account: string): Promise<Readonly<Record<string, string>>> {
    const place = join(this.directory, 'accounts', `${namespace}.${account}`);
    mkdirSync(place, { recursive: true });
    writeFileSync(join(place, 'ca.crt'), this.#ca());
    writeFileSync(join(place, 'token'), await this.tokenOf(namespace, account));
    return {
      KUBERNETES_SERVICE_HOST: '127.0.0.1',
      KUBERNETES_SERVICE_PORT: String(this.port),
      HOLDFAST_SERVICE_ACCOUNT_DIR: place,
    };
  }

  #ca(): Buffer {
    return readFileSync(this.#certificates.at('ca.crt'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#admin.destroy();
    for (const child of this.#children.toReversed()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    }
    rmSync(this.directory, { recursive: true });
  }
}

function objectIn(text: string): JsonObject {
  try {
    return JSON.parse(text) as JsonObject;
  } catch {
    return { message: text };
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
