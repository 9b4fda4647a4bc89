/** The service as pods meet it: the real process, the real clients, and an API server that a test makes say what it likes. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemRandom } from '../../../src/edge/host/system-random.ts';
import { openAnchorService } from '../../../src/edge/kube/anchor-service.ts';
import { openGoneService } from '../../../src/edge/kube/gone-service.ts';
import { type Anchor, parseAnchor } from '../../../src/engine/model/anchor.ts';
import { toHolderId, toLineageName } from '../../../src/engine/model/ids.ts';
import { runCli } from '../../cli/run-cli.ts';
import { PodApiServer } from '../../support/pod-api-server.ts';
import { someSettings } from '../pods.ts';
import { startWebhookProcess, type WebhookProcess } from '../webhook-process.ts';

const uidOf = (digit: number): string => `0f7a2d3e-1111-4222-8333-44445555666${digit}`;
const lineage = toLineageName('prod/team-a/statefulset/db/0');
const written = {
  'holdfast.dev/inject': 'true',
  'holdfast.dev/status': JSON.stringify({ version: 1, slot: 'fixed', lineage }),
};

let server: PodApiServer;
let webhook: WebhookProcess;
let directory: string;
beforeAll(async () => {
  server = await PodApiServer.start();
  const args = ['--pod-service', 'holdfast', '--log-level', 'debug'];
  webhook = await startWebhookProcess(someSettings, args, server.env);
  directory = mkdtempSync(join(tmpdir(), 'holdfast-service-'));
});
afterAll(async () => {
  await webhook[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
});

let token: string;
let said: string[];
beforeEach(() => {
  server.tokens.clear();
  server.pods.clear();
  server.configMaps.clear();
  server.asked.length = 0;
  server.answer = () => 'as-always';
  server.beforeWrite = undefined;
  said = [];
  token = server.addCaller({ namespace: 'team-a', name: 'db-0', uid: uidOf(0), annotations: written });
});

function options(given = token) {
  const tokenFile = join(directory, 'token');
  writeFileSync(tokenFile, given);
  return {
    address: `https://127.0.0.1:${webhook.port}`,
    tokenFile,
    caFile: webhook.certFile,
    ca: undefined,
    random: systemRandom,
    onSilent: (reason: string) => void said.push(reason),
  };
}

const gone = (uid: string, name: string, given = token) =>
  openGoneService(options(given)).stateOf(toHolderId(uid), { name });
const anchorAt = (slot: number): Anchor => parseAnchor(`${slot}:${'a'.repeat(64)}`);

describe('the question for a pod', () => {
  it('is answered by a read of the API server for each', async () => {
    server.addPod({ namespace: 'team-a', name: 'db-1', uid: uidOf(1) });
    expect(await gone(uidOf(1), 'db-1')).toBe('alive');
    server.pods.delete('team-a/db-1');
    expect(await gone(uidOf(1), 'db-1')).toBe('gone');
    server.addPod({ namespace: 'team-a', name: 'db-1', uid: uidOf(2), isEnding: true });
    expect([await gone(uidOf(1), 'db-1'), await gone(uidOf(2), 'db-1')]).toEqual(['gone', 'terminating']);
    const reads = server.asked.filter(({ method }) => method === 'GET');
    expect(reads).toHaveLength(4);
    // No cache of the API server either.
    for (const { path } of reads) expect(path).toBe('/api/v1/namespaces/team-a/pods/db-1');
    expect(said).toEqual([]);
  });

  it('is about the namespace of the token: a pod of another one is never seen', async () => {
    server.addPod({ namespace: 'team-b', name: 'db-1', uid: uidOf(1) });
    const other = server.addCaller({ namespace: 'team-b', name: 'db-9', uid: uidOf(9) });
    expect(await gone(uidOf(1), 'db-1', other)).toBe('alive');
    expect(await gone(uidOf(1), 'db-1')).toBe('gone');
    expect(
      server.asked.some(({ path }) => path.startsWith('/api/v1/namespaces/team-b/') && path.includes('db-1')),
    ).toBe(true);
  });

  it.each<readonly [string, () => string]>([
    ['no token', () => ''],
    ['a token that nobody knows', () => 'aa.bb.cc'],
    [
      'a token for another audience',
      () => server.addCaller({ namespace: 'team-a', name: 'x', uid: uidOf(5) }, 'https://kubernetes.default'),
    ],
    [
      'the token of a pod that is gone',
      () => {
        const given = server.addCaller({ namespace: 'team-a', name: 'x', uid: uidOf(5) });
        server.pods.delete('team-a/x');
        return given;
      },
    ],
  ])('is not answered to %s: the pod counts as alive', async (_, given) => {
    const shown = given();
    server.asked.length = 0;
    expect(await gone(uidOf(1), 'db-1', shown)).toBe('unknown');
    expect(said).toEqual([expect.stringContaining('HTTP 401')]);
    expect(server.asked.filter(({ path }) => path.includes('/pods/'))).toEqual([]);
  });

  it.each([
    ['does not answer in time', undefined],
    ['fails', 500],
    ['lets the service read nothing', 403],
  ] as const)('is unknown while the API server %s', { timeout: 20_000 }, async (_, status) => {
    server.answer = ({ method }) => (method === 'GET' ? status : 'as-always');
    expect(await gone(uidOf(1), 'db-1')).toBe('unknown');
    server.answer = () => status;
    expect(await gone(uidOf(1), 'db-1')).toBe('unknown');
    server.answer = () => 'as-always';
    expect(await gone(uidOf(1), 'db-1')).toBe('gone');
  });
});

describe('an anchor', () => {
  it('is reported by the pod that writes the lineage, and found by its successor', async () => {
    const anchors = openAnchorService(options());
    expect(await anchors.find(lineage)).toBeUndefined();
    expect(await anchors.report(lineage, anchorAt(7))).toBe('kept');
    const next = server.addCaller({ namespace: 'team-a', name: 'other', uid: uidOf(3) });
    expect(await openAnchorService(options(next)).find(lineage)).toEqual(anchorAt(7));
    expect(said).toEqual([]);
    expect([...server.configMaps.keys()].map((key) => key.split('/')[0])).toEqual(['holdfast']);
  });

  it('of a late writer that was superseded changes nothing', async () => {
    const anchors = openAnchorService(options());
    await anchors.report(lineage, anchorAt(7));
    expect(await anchors.report(lineage, anchorAt(3))).toBe('kept');
    expect(await anchors.find(lineage)).toEqual(anchorAt(7));
  });

  it('that contradicts what is kept is refused, and said in the log', async () => {
    const anchors = openAnchorService(options());
    await anchors.report(lineage, anchorAt(7));
    const logged = webhook.logged('asked');
    expect(await anchors.report(lineage, parseAnchor(`7:${'b'.repeat(64)}`))).toBe('refused');
    expect(await logged).toMatchObject({ level: 'error', question: 'anchor-report', outcome: 'conflict', pod: 'db-0' });
    expect(await anchors.find(lineage)).toEqual(anchorAt(7));
  });

  it.each<readonly [string, string, object]>([
    ['another namespace', 'prod/team-b/statefulset/db/0', written],
    ['another cluster', 'dev/team-a/statefulset/db/0', written],
    ['a namespace that only begins alike', 'prod/team-a2/statefulset/db/0', written],
  ])('of %s is neither told nor taken', async (_, foreign, annotations) => {
    const name = toLineageName(foreign);
    const status = JSON.stringify({ version: 1, slot: 'fixed', lineage: foreign });
    server.addPod({
      ...{ namespace: 'team-a', name: 'db-0', uid: uidOf(0) },
      annotations: { ...annotations, 'holdfast.dev/status': status },
    });
    const anchors = openAnchorService(options());
    expect(await anchors.report(name, anchorAt(7))).toBe('refused');
    expect(await anchors.find(name)).toBeUndefined();
    expect(said).toEqual([expect.stringContaining('HTTP 403'), expect.stringContaining('HTTP 403')]);
    expect(server.configMaps.size).toBe(0);
  });

  it('of a neighbour is told, and not taken', async () => {
    await openAnchorService(options()).report(lineage, anchorAt(7));
    const neighbour = server.addCaller({ namespace: 'team-a', name: 'web-1', uid: uidOf(4) });
    const anchors = openAnchorService(options(neighbour));
    expect(await anchors.report(lineage, anchorAt(99))).toBe('refused');
    expect(await anchors.find(lineage)).toEqual(anchorAt(7));
  });

  it.each([500, 403] as const)(
    'is not known while the API server answers %s, and what is reported is not kept',
    async (status) => {
      server.answer = ({ path }) => (path.includes('/configmaps') ? status : 'as-always');
      const anchors = openAnchorService(options());
      expect(await anchors.find(lineage)).toBeUndefined();
      expect(await anchors.report(lineage, anchorAt(7))).toBe('unanswered');
      expect(said).toHaveLength(2);
    },
  );
});

it('what is no question is refused', async () => {
  for (const path of ['/v1/pods/gone', '/v1/anchors/find', '/v1/anchors/report']) {
    const ask = async (body: string, authorization = `Bearer ${token}`): Promise<number> =>
      (await webhook.ask(path, { body, headers: { authorization } })).status;
    for (const body of ['{}', '{', '[]', '{"version":2}', 'null']) expect(await ask(body), body).toBe(400);
    expect(await ask(JSON.stringify({ more: 'x'.repeat(5000) }))).toBe(413);
    expect(await ask('{}', 'Basic abc')).toBe(401);
    expect((await webhook.ask(path)).status).toBe(404);
  }
});

it('is counted by what came of it', async () => {
  await gone(uidOf(1), 'db-1');
  const { body } = await webhook.ask('/metrics');
  expect(body).toMatch(/holdfast_webhook_questions_total\{question="gone",outcome="answered"\} [1-9]/);
  expect(body).toMatch(/holdfast_webhook_questions_total\{question="anchor-report",outcome="conflict"\} [1-9]/);
});

it('no token comes into the log', () => {
  expect(JSON.stringify(webhook.log)).not.toContain('signature');
  expect(webhook.log.length).toBeGreaterThan(10);
});

it('nothing of it is served without --pod-service', async () => {
  await using plain = await startWebhookProcess(someSettings);
  expect((await plain.ask('/v1/pods/gone', { body: '{}' })).status).toBe(404);
});

it.each([
  ['outside of a pod', ['--pod-service', 'holdfast'], /KUBERNETES_SERVICE_HOST is not set/],
  ['with a namespace that is none', ['--pod-service', 'a/b'], /--pod-service is "a\/b"/],
])('does not start %s', async (_, args, message) => {
  const files = ['--settings', webhook.settingsFile, '--tls-cert', webhook.certFile, '--tls-key', webhook.keyFile];
  const { code, stderr } = await runCli(['webhook', ...files, ...args, '--listen', '127.0.0.1:0']);
  expect(stderr).toMatch(message);
  expect(code).toBe(2);
});
