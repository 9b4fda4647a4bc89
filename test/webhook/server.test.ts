import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCli } from '../cli/run-cli.ts';
import { WebhookMetrics } from '../../src/webhook/metrics.ts';
import type { Response } from './golden.ts';
import { podOf, reviewOf, someSettings } from './pods.ts';
import { makeCertificate, startWebhookProcess, type WebhookProcess } from './webhook-process.ts';

let webhook: WebhookProcess;
beforeAll(async () => {
  webhook = await startWebhookProcess(someSettings, ['--log-level', 'debug']);
});
afterAll(() => webhook[Symbol.asyncDispose]());

const review = (annotations: Record<string, string> = {}): string => JSON.stringify(reviewOf(podOf({ annotations })));

async function responseTo(body: string): Promise<Response> {
  const { status, body: answer } = await webhook.ask('/mutate', { body });
  expect(status).toBe(200);
  return (JSON.parse(answer) as { response: Response }).response;
}

describe('the webhook', () => {
  it('answers a review, and says in its log what came of it and nothing of the pod', async () => {
    const logged = webhook.logged('injected');
    const response = await responseTo(review());
    expect(response).toMatchObject({ allowed: true, patchType: 'JSONPatch' });
    const line = await logged;
    expect(line).toMatchObject({
      level: 'info',
      namespace: 'team-a',
      lineage: 'prod/team-a/pod/app',
      volumes: ['data'],
    });
    expect(JSON.stringify(line)).not.toContain('registry.example/app');
  });

  it('refuses a pod with what is wrong, which its log says without the value', async () => {
    const logged = webhook.logged('refused');
    const response = await responseTo(review({ schedule: 'hunter2' }));
    expect(response.status?.message).toContain('"hunter2": not a duration');
    expect(JSON.stringify(await logged)).not.toContain('hunter2');
  });

  it('answers health and metrics, and nothing else', async () => {
    expect(await webhook.ask('/healthz')).toEqual({ status: 200, body: 'ok\n' });
    expect((await webhook.ask('/readyz')).status).toBe(200);
    const { body } = await webhook.ask('/metrics');
    expect(body).toMatch(/holdfast_webhook_reviews_total\{decision="inject",reason=""\} [1-9]/);
    expect(body).toMatch(/holdfast_webhook_certificate_expiry_timestamp_seconds \d{10}/);
    for (const path of ['/', '/mutate', '/validate', '/mutate/x', '/%2e%2e/etc/passwd']) {
      expect((await webhook.ask(path)).status, path).toBe(404);
    }
    expect((await webhook.ask('/healthz', { body: '{}' })).status).toBe(404);
  });

  it('refuses what is no review', async () => {
    const askWith = async (body: string | Buffer, type?: string): Promise<number> =>
      (await webhook.ask('/mutate', { body, ...(type === undefined ? {} : { type }) })).status;
    expect(await askWith('{')).toBe(400);
    expect(await askWith('')).toBe(400);
    expect(await askWith('[]')).toBe(400);
    expect(await askWith(Buffer.from([0xff, 0xfe]))).toBe(400);
    expect(await askWith(review().replace('admission.k8s.io/v1', 'admission.k8s.io/v1beta1'))).toBe(400);
    expect(await askWith('a: b', 'application/yaml')).toBe(415);
    expect(await askWith(review(), 'text/plain')).toBe(415);
  });

  it('takes a review of nearly 3 MB, and refuses a larger one', async () => {
    const pod = podOf({
      annotations: { inject: 'false' },
      otherAnnotations: { x: 'x'.repeat(3 * 1024 * 1024 - 2000) },
    });
    const body = JSON.stringify(reviewOf(pod));
    expect((await webhook.ask('/mutate', { body })).status).toBe(200);
    expect((await webhook.ask('/mutate', { body: body + ' '.repeat(2000) })).status).toBe(413);
  });

  it('refuses plain HTTP', async () => {
    const socket = connect(webhook.port, '127.0.0.1');
    const received: Buffer[] = [];
    socket.on('data', (part: Buffer) => received.push(part));
    socket.on('error', () => undefined);
    socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(socket, 'close');
    expect(Buffer.concat(received).toString('latin1')).not.toContain('HTTP/1.1 200');
  });

  it('uses a new certificate once it is there, and keeps the old one while the new one cannot be used', async () => {
    const before = await nameOfCertificate();
    const refused = webhook.logged('reload-refused');
    const key = readFileSync(webhook.keyFile);
    writeFileSync(webhook.keyFile, 'no key');
    expect(await refused).toMatchObject({ file: 'certificate', level: 'error' });
    expect(await nameOfCertificate()).toBe(before);
    writeFileSync(webhook.keyFile, key);
    const reloaded = webhook.logged('reloaded');
    await reloaded;
    const again = webhook.logged('reloaded');
    makeCertificate(webhook.certFile, webhook.keyFile, 'second');
    await again;
    expect(await nameOfCertificate()).toBe('second');
    expect((await responseTo(review())).allowed).toBe(true);
  });

  it('uses new settings once they are there, and keeps the old ones while the new ones are wrong', async () => {
    const refused = webhook.logged('reload-refused');
    writeFileSync(webhook.settingsFile, JSON.stringify({ ...someSettings, cluster: '' }));
    expect(await refused).toMatchObject({ file: 'settings' });
    expect(statusOf(await responseTo(review())).lineage).toBe('prod/team-a/pod/app/app');
    const reloaded = webhook.logged('reloaded');
    writeFileSync(webhook.settingsFile, JSON.stringify({ ...someSettings, cluster: 'other' }));
    await reloaded;
    expect(statusOf(await responseTo(review())).lineage).toBe('other/team-a/pod/app/app');
  });

  function nameOfCertificate(): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const socket = connectTls({ host: '127.0.0.1', port: webhook.port, rejectUnauthorized: false }, () => {
        resolve(socket.getPeerCertificate().subject.CN);
        socket.destroy();
      });
      socket.on('error', reject);
    });
  }
});

function statusOf({ patch }: Response): { readonly lineage: string } {
  const operations = JSON.parse(Buffer.from(patch as string, 'base64').toString()) as { path: string; value: string }[];
  return JSON.parse(operations.find(({ path }) => path.endsWith('status'))?.value as string);
}

it('ends on SIGTERM: says that it is not ready, goes on answering, and exits with 0', async () => {
  await using ending = await startWebhookProcess(someSettings, ['--drain', '1s']);
  expect((await ending.ask('/readyz')).status).toBe(200);
  const draining = ending.logged('draining');
  const ended = ending.end('SIGTERM');
  await draining;
  expect((await ending.ask('/readyz')).status).toBe(503);
  expect((await ending.ask('/mutate', { body: review() })).status).toBe(200);
  expect(await ended).toEqual({ code: 0, signal: null });
});

it.each([
  ['without settings', [], /--settings is missing/],
  ['with an address that is none', ['--listen', 'somewhere'], /--listen is "somewhere"/],
  ['with a log level that is none', ['--log-level', 'loud'], /none of debug/],
  ['with a certificate that is not there', ['--tls-cert', '/nowhere/tls.crt'], /the certificate cannot be read/],
  ['with a certificate from two places', ['--tls-secret', 'a/b'], /the certificate comes from one of them/],
])('does not start %s', async (name, args, message) => {
  const settings = name === 'without settings' ? [] : ['--settings', webhook.settingsFile];
  const files = ['--tls-key', webhook.keyFile, ...(args[0] === '--tls-cert' ? [] : ['--tls-cert', webhook.certFile])];
  const { code, stderr } = await runCli(['webhook', ...settings, ...files, ...args]);
  expect(stderr).toMatch(message);
  expect(code).toBe(2);
});

it('does not start on an address that is taken', async () => {
  const files = ['--settings', webhook.settingsFile, '--tls-cert', webhook.certFile, '--tls-key', webhook.keyFile];
  const { code, stderr } = await runCli(['webhook', ...files, '--listen', `127.0.0.1:${webhook.port}`]);
  expect(stderr).toMatch(/cannot listen on .* EADDRINUSE/);
  expect(code).toBe(2);
});

it('its metrics are those of docs/kubernetes.md', async () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/kubernetes.md'), 'utf8');
  const documented = [...page.matchAll(/^\| `(holdfast_webhook_[a-z_]+)`/gm)].map(([, name]) => name);
  const made = (await new WebhookMetrics().registry.getMetricsAsJSON()).map(({ name }) => name);
  expect(documented.toSorted()).toEqual(made.filter((name) => name.startsWith('holdfast_')).toSorted());
});
