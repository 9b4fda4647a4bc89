import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Ran } from '../cli/run-cli.ts';
import { KubeServer } from '../support/kube-server.ts';
import { podOf } from '../webhook/pods.ts';
import { runKubectl } from './run-kubectl.ts';

const path = '/apis/apps/v1/namespaces/team-a/statefulsets/web';
let kube: KubeServer;
beforeEach(async () => {
  kube = await KubeServer.start();
  kube.put(path, {
    kind: 'StatefulSet',
    metadata: { name: 'web', generation: 4 },
    spec: {
      replicas: 1,
      selector: { matchLabels: { app: 'web' } },
      template: {
        metadata: {
          annotations: { 'holdfast.dev/inject': 'true', 'holdfast.dev/volumes': 'data', 'example.com/other': 'stays' },
        },
        spec: podOf()['spec'],
      },
    },
    status: { observedGeneration: 4, replicas: 1, updatedReplicas: 1, readyReplicas: 1 },
  });
});
afterEach(() => kube[Symbol.asyncDispose]());

const run = (...args: readonly string[]): Promise<Ran> =>
  runKubectl([...args, '--kubeconfig', kube.writeKubeconfig('team-a')]);

function templateAnnotations(): Readonly<Record<string, string>> {
  return kube.objects.get(path)?.['spec'].template.metadata.annotations as Record<string, string>;
}

function installWebhook(settings: object): void {
  const service = { namespace: 'holdfast', name: 'holdfast-webhook' };
  kube.put('/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations?limit=500', {
    items: [{ webhooks: [{ name: 'inject.holdfast.dev', clientConfig: { service } }] }],
  });
  kube.put('/api/v1/namespaces/holdfast/configmaps/holdfast-webhook', {
    data: { 'settings.json': JSON.stringify({ cluster: 'prod', image: 'i', ...settings }) },
  });
}

const written = () => kube.requests.filter(({ method }) => method !== 'GET');

it('offboard takes our annotations out and no others, and nothing before it is told to', async () => {
  const asked = await run('offboard', 'sts/web');
  expect(asked).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('would take out holdfast.dev/inject, holdfast.dev/volumes'),
  });
  expect(written()).toEqual([]);
  expect(await run('offboard', 'statefulset/web', '--yes')).toMatchObject({ code: 0 });
  expect(templateAnnotations()).toEqual({ 'example.com/other': 'stays' });
  expect(await run('offboard', 'statefulset/web', '--yes')).toMatchObject({ code: 17 });
});

it('offboard and rollback refuse what does not start its pods again', async () => {
  expect(await run('offboard', 'job/x')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('only a Deployment'),
  });
  expect(await run('rollback', 'web-0', '--to', 'abcdef')).toMatchObject({ code: 2 });
  expect(await run('rollback', 'sts/../x', '--to', 'abcdef')).toMatchObject({ code: 2 });
});

it('rollback does nothing before it is told to, and refuses a checkpoint that is none', async () => {
  expect(await run('rollback', 'sts/web', '--to', 'yesterday')).toMatchObject({ code: 2 });
  const asked = await run('rollback', 'sts/web', '--to', '2026-03-01T12:00Z');
  expect(asked).toMatchObject({ code: 0, stdout: expect.stringContaining('With --yes it is done') });
  expect(written()).toEqual([]);
});

it('rollback changes nothing where its pods would be refused', async () => {
  installWebhook({ stores: { default: { address: 's3://bucket', namespaces: ['team-b'] } } });
  const { code, stderr } = await run('rollback', 'sts/web', '--to', '2026-03-01T12:00Z', '--yes');
  expect(code).toBe(35);
  expect(stderr).toContain('would be refused: holdfast.dev/store: the store is not for the namespace team-a');
  expect(written()).toEqual([]);
});

it('rollback knows what the namespace says of its pods', async () => {
  installWebhook({ stores: { default: { address: 's3://bucket', namespaces: ['*'] } } });
  delete (templateAnnotations() as Record<string, string>)['holdfast.dev/volumes'];
  kube.put('/apis/apps/v1/namespaces/holdfast/deployments/holdfast-webhook', {
    spec: { template: { spec: { containers: [{ args: ['--namespace-defaults'] }] } } },
  });
  const ofNamespace = { 'holdfast.dev/volumes': 'data' };
  kube.put('/api/v1/namespaces/team-a', { metadata: { annotations: ofNamespace } });
  expect(await run('rollback', 'sts/web', '--to', '2026-03-01T12:00Z')).toMatchObject({ code: 0, stderr: '' });
});

it('rollback says why no pod came', async () => {
  kube.put('/api/v1/namespaces/team-a/pods?limit=500&labelSelector=app%3Dweb', { items: [] });
  kube.put('/api/v1/namespaces/team-a/events?limit=500', {
    items: [{ reason: 'FailedCreate', involvedObject: { name: 'web' }, message: 'exceeded quota' }],
  });
  const object = kube.objects.get(path) as { metadata: { generation: number } };
  object.metadata.generation = 9;
  const { code, stderr } = await run('rollback', 'sts/web', '--to', 'abcdef', '--yes', '--timeout', '1s');
  expect(code).toBe(33);
  expect(stderr).toContain('its controller says: exceeded quota');
});

it('rollback sets the annotation, follows the pods that were made with it, and shows their receipts', async () => {
  const to = '2026-03-01T12:00Z';
  const receipt = JSON.stringify({
    version: 1,
    outcome: 'restored',
    podUid: 'u',
    lineage: 'l',
    startedAt: '',
    endedAt: '',
    from: { slot: 7, time: '2026-03-01T11:59:00.000Z' },
    policy: { answer: 'data', applied: null, why: 'as restore-at says' },
    volumes: {},
  });
  const pod = (name: string, annotations: Record<string, string>, state: object) => ({
    metadata: { name, annotations },
    spec: { initContainers: [{ name: 'holdfast-rehydrate' }, { name: 'holdfast-agent' }] },
    status: { initContainerStatuses: [{ name: 'holdfast-rehydrate', state }] },
  });
  let looks = 0;
  kube.answer = (method, asked) => {
    if (method !== 'GET' || !asked.startsWith('/api/v1/namespaces/team-a/pods?')) return undefined;
    expect(asked).toContain('labelSelector=app%3Dweb');
    looks++;
    // First the old pod stands, then the new one restores, then it has done so.
    const old = pod('web-0', {}, { terminated: { exitCode: 0, message: receipt } });
    const annotations = { 'holdfast.dev/restore-at': to };
    const state = looks < 3 ? { running: {} } : { terminated: { exitCode: 0, message: receipt } };
    if (looks === 3) {
      const now = kube.objects.get(path) as { status: object };
      now.status = { observedGeneration: 9, replicas: 1, updatedReplicas: 1, readyReplicas: 1 };
    }
    return { status: 200, object: { items: [looks === 1 ? old : pod('web-0', annotations, state)] } };
  };
  const object = kube.objects.get(path) as { metadata: { generation: number } };
  object.metadata.generation = 9;
  const { code, stdout, stderr } = await run('rollback', 'sts/web', '--to', to, '--yes');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toBe('web-0: restored checkpoint 7 of 2026-03-01T11:59:00.000Z: as restore-at says\n');
  expect(templateAnnotations()['holdfast.dev/restore-at']).toBe(to);
  // The same value would not count a second time.
  expect(await run('rollback', 'sts/web', '--to', to, '--yes')).toMatchObject({ code: 2 });
});
