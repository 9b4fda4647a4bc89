/** A real webhook: bin/holdfast in a process of its own, with a certificate made for it, on loopback. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { binary, cliEnvironment } from '../cli/run-cli.ts';

export interface Reply {
  readonly status: number;
  readonly body: string;
}

export interface WebhookProcess extends AsyncDisposable {
  readonly child: ChildProcess;
  readonly port: number;
  readonly certFile: string;
  readonly keyFile: string;
  readonly settingsFile: string;
  /** Lines of its log so far. */
  readonly log: readonly Readonly<Record<string, unknown>>[];
  /** The next line with this event, from now on. */
  logged(event: string): Promise<Readonly<Record<string, unknown>>>;
  ask(
    path: string,
    options?: {
      readonly body?: string | Buffer;
      readonly type?: string;
      readonly method?: string;
      readonly headers?: Readonly<Record<string, string>>;
    },
  ): Promise<Reply>;
  /** Ends it and says how. */
  end(signal?: NodeJS.Signals): Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
}

/** A new key and certificate for 127.0.0.1 in place of those at `cert` and `key`, with one rename each. */
export function makeCertificate(cert: string, key: string, name: string): void {
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  const subject = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1'];
  const [newCert, newKey] = [`${cert}.new`, `${key}.new`];
  execFileSync('openssl', ['req', ...kind, ...subject, '-keyout', newKey, '-out', newCert], { stdio: 'pipe' });
  renameSync(newKey, key);
  renameSync(newCert, cert);
}

export async function startWebhookProcess(
  settings: object,
  more: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): Promise<WebhookProcess> {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-webhook-'));
  const [certFile, keyFile, settingsFile] = ['tls.crt', 'tls.key', 'settings.json'].map((name) =>
    join(directory, name),
  ) as [string, string, string];
  makeCertificate(certFile, keyFile, 'first');
  writeFileSync(settingsFile, JSON.stringify(settings));
  const files = ['--settings', settingsFile, '--tls-cert', certFile, '--tls-key', keyFile];
  const drain = more.includes('--drain') ? [] : ['--drain', '0s'];
  const child = spawn(binary, ['webhook', ...files, '--listen', '127.0.0.1:0', ...drain, ...more], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: cliEnvironment(env),
  });
  const log: Record<string, unknown>[] = [];
  const waiting = new Map<string, (line: Record<string, unknown>) => void>();
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (text) => {
    const line = JSON.parse(text) as Record<string, unknown>;
    log.push(line);
    waiting.get(line['event'] as string)?.(line);
  });
  const logged = (event: string): Promise<Record<string, unknown>> =>
    new Promise((resolve) => {
      waiting.set(event, resolve);
    });
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  const listening = await Promise.race([logged('listening'), exited.then(() => undefined)]);
  if (listening === undefined) throw new Error('the webhook has ended before it listened');
  const port = listening['port'] as number;
  const agent = new Agent({ keepAlive: true, maxSockets: 64 });
  const end = async (signal: NodeJS.Signals = 'SIGTERM') => {
    child.kill(signal);
    const [code, by] = await exited;
    return { code, signal: by };
  };
  return {
    child,
    port,
    certFile,
    keyFile,
    settingsFile,
    log,
    logged,
    ask: (
      path,
      { body, type = 'application/json', method = body === undefined ? 'GET' : 'POST', headers: more } = {},
    ) =>
      new Promise((resolve, reject) => {
        const headers = {
          ...(body === undefined ? {} : { 'content-type': type, 'content-length': Buffer.byteLength(body) }),
          ...more,
        };
        const sent = request(
          { host: '127.0.0.1', port, path, method, agent, headers, ca: readFileSync(certFile) },
          (answer) => {
            const parts: Buffer[] = [];
            answer.on('data', (part: Buffer) => parts.push(part));
            answer.on('error', reject);
            answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(parts).toString() }));
          },
        );
        sent.on('error', reject);
        sent.end(body);
      }),
    end,
    async [Symbol.asyncDispose]() {
      agent.destroy();
      if (child.exitCode === null && child.signalCode === null) await end('SIGKILL');
      rmSync(directory, { recursive: true });
    },
  };
}
