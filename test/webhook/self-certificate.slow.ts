/** Webhooks that keep their certificate themselves, as processes: replicas, renewal while reviews are asked, and their end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { connect } from 'node:tls';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { KubeServer } from '../support/kube-server.ts';
import { binary, cliEnvironment } from '../cli/run-cli.ts';
import { podOf, reviewOf, someSettings } from './pods.ts';

const secretPath = '/api/v1/namespaces/holdfast/secrets/webhook-tls';
const configurationPath = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/a.holdfast.dev';
const name = 'holdfast-webhook.holdfast.svc';

let kube: KubeServer;
let directory: string;
const children: ChildProcess[] = [];
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'holdfast-self-'));
  writeFileSync(join(directory, 'settings.json'), JSON.stringify(someSettings));
  kube = await KubeServer.start();
  kube.put(secretPath, { kind: 'Secret', metadata: { name: 'webhook-tls' }, type: 'Opaque' });
  kube.put(configurationPath, {
    metadata: { name: 'a.holdfast.dev' },
    webhooks: [{ name: 'inject.holdfast.dev', clientConfig: { service: { name: 'holdfast-webhook' } } }],
  });
});
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await kube[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
});

interface Replica {
  readonly port: number;
  end(): Promise<number | null>;
}

async function startReplica(): Promise<Replica> {
  const args = [
    '--tls-secret',
    'holdfast/webhook-tls',
    '--tls-name',
    name,
    '--webhook-configuration',
    'a.holdfast.dev',
  ];
  const settings = ['--settings', join(directory, 'settings.json'), '--listen', '127.0.0.1:0', '--drain', '0s'];
  const child = spawn(binary, ['webhook', ...settings, ...args, '--tls-validity', '12s'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: cliEnvironment(kube.env),
  });
  children.push(child);
  const exited = once(child, 'exit') as Promise<[number | null]>;
  const port = await new Promise<number>((resolve, reject) => {
    void exited.then(() => reject(new Error('it has ended before it listened')));
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (text) => {
      const line = JSON.parse(text) as { readonly event: string; readonly port: number };
      if (line.event === 'listening') resolve(line.port);
    });
  });
  return {
    port,
    async end() {
      child.kill('SIGTERM');
      return (await exited)[0];
    },
  };
}

/** What the API server trusts at this moment. */
function trusted(): string {
  const bundle = kube.objects.get(configurationPath)?.['webhooks'][0].clientConfig.caBundle as string;
  return Buffer.from(bundle, 'base64').toString();
}

/** One review on a connection of its own. */
function ask(port: number): Promise<boolean> {
  const body = JSON.stringify(reviewOf(podOf()));
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  const place = { host: '127.0.0.1', port, servername: name, path: '/mutate', method: 'POST', ca: trusted() };
  return new Promise((resolve, reject) => {
    const sent = request({ ...place, headers, agent: false }, async (response) => {
      let text = '';
      for await (const part of response) text += String(part);
      resolve((JSON.parse(text) as { response: { allowed: boolean } }).response.allowed);
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

function serialOf(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, servername: name, ca: trusted() }, () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

it('answers every review while its certificate is replaced, on all replicas, and ends in good order', async () => {
  const replicas = await Promise.all([startReplica(), startReplica()]);
  const [a, b] = replicas;
  const serials = new Set<string>();
  let reviews = 0;
  // Until both have changed over twice: each certificate lives for twelve seconds.
  while (serials.size < 3) {
    for (const { port } of replicas) {
      expect(await ask(port)).toBe(true);
      reviews++;
    }
    serials.add(await serialOf(a.port));
  }
  expect(reviews).toBeGreaterThan(50);
  // The other follows within its own look.
  while ((await serialOf(b.port)) !== (await serialOf(a.port))) expect(await ask(b.port)).toBe(true);
  expect(await Promise.all(replicas.map((each) => each.end()))).toEqual([0, 0]);
});
