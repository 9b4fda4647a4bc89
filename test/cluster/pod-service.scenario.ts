/** What pods ask, answered by real webhooks with the chart's own rights and policies, on a real API server. No node is needed. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadAll } from 'js-yaml';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/edge/host/system-clock.ts';
import { systemRandom } from '../../src/edge/host/system-random.ts';
import { type AnchorService, openAnchorService } from '../../src/edge/kube/anchor-service.ts';
import { InClusterApi, inClusterPlaces } from '../../src/edge/kube/in-cluster-api.ts';
import { openGoneService } from '../../src/edge/kube/gone-service.ts';
import { type Anchor, parseAnchor } from '../../src/engine/model/anchor.ts';
import { toHolderId, toLineageName } from '../../src/engine/model/ids.ts';
import { AnchorStore } from '../../src/webhook/service/anchor-store.ts';
import type { JsonObject } from '../cli/run-cli.ts';
import type { Response } from '../webhook/golden.ts';
import { podOf, reviewOf, someSettings } from '../webhook/pods.ts';
import { startWebhookProcess, type WebhookProcess } from '../webhook/webhook-process.ts';
import { ApiServer } from './harness/api-server.ts';
import { until } from './harness/processes.ts';
import { isInstalled } from './harness/programs.ts';

const lineage = toLineageName('prod/team-a/statefulset/db/0');

let api: ApiServer;
let replicas: readonly WebhookProcess[];
let directory: string;
let rights: string;
/** What the chart makes of the least values, as far as rights and policies go, and the right that is off there. */
function chartObjects(): readonly JsonObject[] {
  const text = readFileSync(join(import.meta.dirname, '../charts/golden/least.yaml'), 'utf8');
  const kinds = [
    'ServiceAccount',
    ...['Role', 'RoleBinding', 'ClusterRole', 'ClusterRoleBinding'],
    ...['ValidatingAdmissionPolicy', 'ValidatingAdmissionPolicyBinding'],
  ];
  const objects = (loadAll(text) as JsonObject[]).filter((each) => kinds.includes(each?.['kind']));
  for (const { kind, rules } of objects) {
    if (kind === 'ClusterRole') rules.push({ apiGroups: [''], resources: ['namespaces'], verbs: ['get'] });
  }
  return objects;
}

function pathOf({ apiVersion, kind, metadata }: JsonObject): string {
  const group = apiVersion === 'v1' ? '/api/v1' : `/apis/${apiVersion}`;
  const plural = `${kind.toLowerCase().replace(/y$/, 'ie')}s`;
  return metadata.namespace === undefined
    ? `${group}/${plural}`
    : `${group}/namespaces/${metadata.namespace}/${plural}`;
}

const podsOf = (namespace: string): string => `/api/v1/namespaces/${namespace}/pods`;
const forged = {
  metadata: { name: 'forged', annotations: { 'holdfast.dev/status': '{"version":1}' } },
  spec: { containers: [{ name: 'app', image: 'app' }] },
};

async function makePod(namespace: string, name: string, of = lineage as string): Promise<JsonObject> {
  const status = JSON.stringify({ version: 1, slot: 'fixed', lineage: of });
  return await api.must('POST', podsOf(namespace), {
    metadata: { name, annotations: { 'holdfast.dev/inject': 'true', 'holdfast.dev/status': status } },
    spec: {
      serviceAccountName: 'default',
      initContainers: [
        { name: 'holdfast-rehydrate', image: 'holdfast' },
        { name: 'holdfast-agent', image: 'holdfast', restartPolicy: 'Always' },
      ],
      containers: [{ name: 'app', image: 'app' }],
    },
  });
}

async function removePod(namespace: string, name: string): Promise<void> {
  await api.must('DELETE', `${podsOf(namespace)}/${name}?gracePeriodSeconds=0`);
}

let tokens = 0;
function client(token: string, replica = 0) {
  const tokenFile = join(directory, `token-${tokens++}`);
  writeFileSync(tokenFile, token);
  const webhook = replicas[replica] as WebhookProcess;
  const options = {
    address: `https://127.0.0.1:${webhook.port}`,
    tokenFile,
    caFile: webhook.certFile,
    ca: undefined,
    random: systemRandom,
    onSilent: () => undefined,
  };
  const gone = openGoneService(options);
  return {
    stateOf: ({ metadata }: JsonObject) => gone.stateOf(toHolderId(metadata.uid), { name: metadata.name }),
    anchors: openAnchorService(options),
  };
}

const boundTo = (pod: JsonObject, audience = 'holdfast'): Promise<string> =>
  api.tokenOf(pod['metadata'].namespace, 'default', { pod, audience });
const anchorAt = (slot: number): Anchor => parseAnchor(`${slot}:${'a'.repeat(64)}`);

// On a cluster of somebody else these programs may be missing.
describe.runIf(isInstalled('kubernetes') && isInstalled('debian'))('on an API server of its own', () => {
  beforeAll(async () => {
    api = await ApiServer.start();
    directory = mkdtempSync(join(tmpdir(), 'holdfast-service-'));
    for (const name of ['holdfast', 'team-a', 'team-b']) {
      await api.must('POST', '/api/v1/namespaces', { metadata: { name } });
      await api.must('POST', `/api/v1/namespaces/${name}/serviceaccounts`, { metadata: { name: 'default' } });
    }
    for (const object of chartObjects()) await api.must('POST', pathOf(object), object);
    const env = await api.environmentOf('holdfast', 'holdfast-webhook');
    rights = readFileSync(join(env['HOLDFAST_SERVICE_ACCOUNT_DIR'] as string, 'token'), 'utf8');
    const args = ['--pod-service', 'holdfast', '--namespace-defaults'];
    replicas = [await startWebhookProcess(someSettings, args, env), await startWebhookProcess(someSettings, args, env)];
    // A policy counts a moment after it was made.
    await until('the policy on the status', 60, async () => {
      const { status } = await api.request('POST', `${podsOf('team-a')}?dryRun=All`, forged);
      return status === 422 || status === 403 || undefined;
    });
  });
  afterAll(async () => {
    for (const replica of replicas ?? []) await replica[Symbol.asyncDispose]();
    await api?.[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });

  test('whether a pod is gone follows the pod, from its start to its successor', async () => {
    const asking = await makePod('team-a', 'asks');
    const { stateOf } = client(await boundTo(asking));
    const pod = await makePod('team-a', 'db-0');
    expect(await stateOf(pod)).toBe('alive');

    await api.must('PATCH', `${podsOf('team-a')}/db-0`, { metadata: { finalizers: ['example.com/held'] } });
    await api.must('DELETE', `${podsOf('team-a')}/db-0?gracePeriodSeconds=0`);
    expect(await stateOf(pod)).toBe('terminating');
    await api.must('PATCH', `${podsOf('team-a')}/db-0`, { metadata: { finalizers: null } });
    expect(await stateOf(pod)).toBe('gone');

    const next = await makePod('team-a', 'db-0');
    expect([await stateOf(pod), await stateOf(next)]).toEqual(['gone', 'alive']);

    // Evicted: it stays as an object.
    await api.must('PATCH', `${podsOf('team-a')}/db-0/status`, { status: { phase: 'Failed', reason: 'Evicted' } });
    expect(await stateOf(next)).toBe('gone');
    await removePod('team-a', 'db-0');
    await removePod('team-a', 'asks');
  });

  test('nobody asks about another namespace, nor with another token', async () => {
    const pod = await makePod('team-a', 'db-0');
    const other = await makePod('team-b', 'db-0', 'prod/team-b/statefulset/db/0');
    const { stateOf, anchors } = client(await boundTo(other));
    // Of the same name, in its own namespace.
    expect(await stateOf(pod)).toBe('gone');
    expect(await anchors.report(lineage, anchorAt(3))).toBe('refused');
    const strangers = [
      await boundTo(pod, 'https://kubernetes.default.svc.cluster.local'),
      await api.tokenOf('team-a', 'default', { audience: 'holdfast' }),
      rights,
      `${await boundTo(pod)}x`,
    ];
    for (const token of strangers) expect(await client(token).stateOf(pod)).toBe('unknown');
    const token = await boundTo(pod);
    expect(await client(token).stateOf(pod)).toBe('alive');
    await removePod('team-a', 'db-0');
    // A token ends with its pod.
    await until(
      'the end of the token',
      60,
      async () => (await client(token).stateOf(other)) === 'unknown' || undefined,
    );
    await removePod('team-b', 'db-0');
  });

  test('an anchor that two replicas are told of at once is the highest, and stays it', async () => {
    const pod = await makePod('team-a', 'db-0');
    const token = await boundTo(pod);
    const [one, other] = [client(token, 0).anchors, client(token, 1).anchors];
    const all = Array.from({ length: 24 }, (_, i) => i + 1);
    const said = await Promise.all(all.map((slot) => (slot % 2 === 0 ? one : other).report(lineage, anchorAt(slot))));
    expect(said.every((outcome) => outcome === 'kept' || outcome === 'unanswered')).toBe(true);
    const highest = Math.max(...all.filter((slot) => said[slot - 1] === 'kept'));
    const found = (of: AnchorService): Promise<Anchor | undefined> => of.find(lineage);
    expect((await found(one))?.slot).toBe(highest);
    expect(await other.report(lineage, anchorAt(1))).toBe('kept');
    expect((await found(other))?.slot).toBe(highest);
    expect(await one.report(lineage, parseAnchor(`${highest}:${'b'.repeat(64)}`))).toBe('refused');

    const { items } = await api.must(
      'GET',
      '/api/v1/namespaces/holdfast/configmaps?labelSelector=holdfast.dev/anchor-of=team-a',
    );
    expect(items).toHaveLength(1);
    expect(items[0].data).toMatchObject({ lineage, reportedBy: 'db-0' });
    await removePod('team-a', 'db-0');
  });

  test('anchors of Jobs go a week after their last report, and no others', async () => {
    const [job, other] = [toLineageName('prod/team-a/job/report-1/0'), toLineageName('prod/team-a/statefulset/old/0')];
    using kube = new InClusterApi(inClusterPlaces(await api.environmentOf('holdfast', 'holdfast-webhook')));
    const at = (days: number): AnchorStore => {
      const clock = { ...systemClock, nowMs: () => systemClock.nowMs() + days * 86_400_000 };
      return new AnchorStore({ api: kube, clock, namespace: 'holdfast' });
    };
    for (const each of [job, other]) {
      await at(0).report({ lineage: each, anchor: anchorAt(3), namespace: 'team-a', podName: 'x' });
    }
    expect(await at(6.9).sweep()).toBe(0);
    expect(await at(7.1).sweep()).toBe(1);
    expect([await at(0).find(job), (await at(0).find(other))?.slot]).toEqual([undefined, 3]);
  });

  test('the rights of the chart are enough, and no more', async () => {
    const may = async (method: string, path: string, body?: object): Promise<boolean> =>
      (await api.request(method, path, body, rights)).status !== 403;
    for (const [method, path] of [
      ['GET', '/api/v1/namespaces/team-a/secrets/any'],
      ['GET', '/api/v1/namespaces/holdfast/secrets/any'],
      ['GET', '/api/v1/namespaces/holdfast/secrets'],
      ['GET', '/api/v1/namespaces/team-a/configmaps/any'],
      ['GET', '/api/v1/pods'],
      ['DELETE', '/api/v1/namespaces/team-a/pods/any'],
      ['DELETE', '/api/v1/namespaces/team-a/configmaps/any'],
      ['GET', '/api/v1/namespaces'],
    ] as const) {
      expect(await may(method, path), `${method} ${path}`).toBe(false);
    }
    expect(await may('GET', '/api/v1/namespaces/team-a/pods/any')).toBe(true);
  });

  test('nobody but the webhook says whose lineage a pod writes', async () => {
    const { status, object } = await api.request('POST', podsOf('team-a'), forged);
    expect(status).toBeGreaterThanOrEqual(400);
    expect(object['message']).toContain('holdfast.dev/status');
    await makePod('team-a', 'db-0');
    const changed = { metadata: { annotations: { 'holdfast.dev/status': '{}' } } };
    expect((await api.request('PATCH', `${podsOf('team-a')}/db-0`, changed)).status).toBeGreaterThanOrEqual(400);
    await removePod('team-a', 'db-0');
  });

  test('annotations of a namespace count as soon as they are there', async () => {
    const review = JSON.stringify(reviewOf(podOf(), { namespace: 'team-b' }));
    const patch = async (): Promise<string> => {
      const { status, body } = await (replicas[0] as WebhookProcess).ask('/mutate', { body: review });
      expect(status).toBe(200);
      const { response } = JSON.parse(body) as { readonly response: Response };
      return Buffer.from(response.patch ?? '', 'base64').toString();
    };
    expect(await patch()).not.toContain('"17s"');
    await api.must('PATCH', '/api/v1/namespaces/team-b', {
      metadata: { annotations: { 'holdfast.dev/schedule': '17s' } },
    });
    await until('the schedule of the namespace', 5, async () => (await patch()).includes('"17s"') || undefined);
  });

  test('a replica that has answered all that is small', async () => {
    for (const { child } of replicas) {
      const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
      const kibibytes = Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]);
      expect(kibibytes).toBeGreaterThan(0);
      expect(kibibytes / 1024).toBeLessThan(170);
    }
  });
});
