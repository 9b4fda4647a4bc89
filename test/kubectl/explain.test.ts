import { mkdirSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Workplace } from '../cli/run-cli.ts';
import { KubeServer } from '../support/kube-server.ts';
import { podOf } from '../webhook/pods.ts';
import { runKubectl } from './run-kubectl.ts';

let work: Workplace;
let settings: string;
beforeAll(async () => {
  work = new Workplace({ HOLDFAST_LINEAGE: 'prod/team-a/statefulset/web/0' });
  settings = work.at('settings.json');
  const store = { address: work.store, claim: 'store', namespaces: ['*'] };
  writeFileSync(
    settings,
    JSON.stringify({ cluster: 'prod', image: 'registry.example/holdfast:1', stores: { default: store } }),
  );
  mkdirSync(work.at('data'));
  writeFileSync(work.at('data', 'a'), 'content');
  expect(await work.run(['init'])).toMatchObject({ code: 0 });
  expect(await work.run(['checkpoint', 'data'])).toMatchObject({ code: 0 });
});
afterAll(() => work[Symbol.dispose]());

const pod = podOf();
const web = {
  kind: 'StatefulSet',
  metadata: { name: 'web', namespace: 'team-a' },
  spec: {
    template: {
      metadata: { annotations: { 'holdfast.dev/inject': 'true', 'holdfast.dev/volumes': 'data' } },
      spec: pod['spec'],
    },
  },
};

function manifest(...documents: readonly unknown[]): string {
  const path = work.at('manifest.yaml');
  // JSON is YAML; the separator is not JSON.
  writeFileSync(path, documents.map((each) => JSON.stringify(each)).join('\n---\n'));
  return path;
}

const explainFile = (path: string, more: readonly string[] = []) =>
  runKubectl(['explain', '-f', path, '--settings', settings, ...more]);

describe('without a cluster', () => {
  it('says what a manifest would be injected with, and what it would bring back', async () => {
    const key = ['--key-file', work.at('key'), '-o', 'json'];
    const { code, stdout, stderr } = await explainFile(manifest(web), key);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const [found] = JSON.parse(stdout).pods;
    expect(found).toMatchObject({
      what: 'StatefulSet web, pod web-0',
      namespace: 'team-a',
      decision: 'inject',
      injection: { lineage: 'prod/team-a/statefulset/web/0', order: ['holdfast-rehydrate', 'holdfast-agent'] },
      volumes: [{ name: 'data', kept: true }],
      restore: { known: true, checkpoint: { slot: 2, files: 1 } },
    });
  });

  it('tells a first boot from a checkpoint, and says what it was not told', async () => {
    const other = { ...web, metadata: { ...web.metadata, name: 'new' } };
    const first = await explainFile(manifest(other), ['--key-file', work.at('key')]);
    expect(first.stdout).toContain('restore  nothing was ever stored: a first boot (on-first-boot: empty)');
    const without = await explainFile(manifest(other));
    expect(without.stdout).toContain('restore  not looked at: give --key-file');
    expect(without.stdout).toContain('keys     Secret holdfast-key.statefulset.new (not looked at)');
  });

  it('says why a pod is refused, and why one is left alone', async () => {
    const refused = podOf({ annotations: { volumes: 'dat' } });
    const alone = podOf({ annotations: { inject: 'false' } });
    const { code, stdout } = await explainFile(manifest(refused, alone, { kind: 'Service', metadata: { name: 'x' } }));
    expect(code).toBe(1);
    expect(stdout).toContain('is refused');
    expect(stdout).toContain('holdfast.dev/volumes is "dat": the pod has no volume dat');
    expect(stdout).toContain('it does not say holdfast.dev/inject: "true"');
    expect(stdout).toContain('Service x: makes no pods');
  });

  it.each([
    ['no manifest', [], /give POD, KIND\/NAME or -f FILE|kubeconfig/],
    ['a file that is not there', ['-f', '/nowhere/x.yaml'], /cannot be read/],
    ['an option that does not exist', ['--setings', 'x'], /did you mean --settings\?/],
  ])('refuses %s', async (_, args, message) => {
    const { code, stderr } = await runKubectl(['explain', '--settings', settings, ...args]);
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
  });

  it('refuses what is no YAML, and what makes no pods', async () => {
    const path = work.at('broken.yaml');
    writeFileSync(path, 'a: [b\n c: d');
    expect(await explainFile(path)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('the manifest is no YAML'),
    });
    writeFileSync(path, '# nothing\n---\n');
    expect(await explainFile(path)).toMatchObject({ code: 2, stderr: expect.stringContaining('it is empty') });
  });
});

describe('of a cluster', () => {
  it('reads pod and settings there, and says what has happened to the pod', async () => {
    await using kube = await KubeServer.start();
    const receipt = JSON.stringify({
      version: 1,
      outcome: 'restored',
      podUid: 'u',
      lineage: 'l',
      startedAt: '',
      endedAt: '',
      from: { slot: 41, time: '2026-03-01T12:00:00.000Z' },
      policy: { answer: 'data', applied: null, why: 'the newest good checkpoint' },
      volumes: {},
    });
    const injected = {
      ...podOf({
        metadata: { name: 'web-0', ownerReferences: [{ kind: 'StatefulSet', name: 'web', controller: true }] },
      }),
      status: {
        phase: 'Running',
        initContainerStatuses: [
          { name: 'holdfast-rehydrate', state: { terminated: { exitCode: 0, message: receipt } } },
          { name: 'holdfast-agent', restartCount: 2, state: { running: {} } },
        ],
      },
    };
    (injected as never as { spec: object }).spec = {
      ...(injected as never as { spec: object }).spec,
      initContainers: [{ name: 'holdfast-rehydrate' }, { name: 'holdfast-agent', restartPolicy: 'Always' }],
    };
    kube.put('/api/v1/namespaces/team-a/pods/web-0', injected);
    kube.put('/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations?limit=500', {
      items: [
        {
          webhooks: [
            {
              name: 'inject.holdfast.dev',
              clientConfig: { service: { namespace: 'holdfast', name: 'holdfast-webhook' } },
            },
          ],
        },
      ],
    });
    kube.put('/api/v1/namespaces/holdfast/configmaps/holdfast-webhook', {
      data: {
        'settings.json': JSON.stringify({
          cluster: 'prod',
          image: 'i',
          stores: { default: { address: 's3://bucket', namespaces: ['*'] } },
        }),
      },
    });
    const kubeconfig = kube.writeKubeconfig('team-a');
    const { code, stdout, stderr } = await runKubectl(['explain', 'web-0', '--kubeconfig', kubeconfig]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('Pod web-0 in team-a: is protected');
    expect(stdout).toContain('keys     Secret holdfast-key.statefulset.web is missing, so the pod would not start');
    expect(stdout).toContain('now      restored checkpoint 41 of 2026-03-01T12:00:00.000Z: the newest good checkpoint');
    expect(stdout).toContain('now      the agent was started again 2 times');
    const absent = await runKubectl(['explain', 'web-1', '--kubeconfig', kubeconfig]);
    expect(absent).toMatchObject({ code: 35, stderr: expect.stringContaining('there is no Pod web-1') });
  });

  it('lets a namespace say what counts for its pods, where the webhook lets it', async () => {
    await using kube = await KubeServer.start();
    const service = { namespace: 'holdfast', name: 'holdfast-webhook' };
    kube.put('/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations?limit=500', {
      items: [{ webhooks: [{ name: 'inject.holdfast.dev', clientConfig: { service } }] }],
    });
    const stores = { default: { address: 's3://bucket', namespaces: ['*'] } };
    kube.put('/api/v1/namespaces/holdfast/configmaps/holdfast-webhook', {
      data: { 'settings.json': JSON.stringify({ cluster: 'prod', image: 'i', stores }) },
    });
    kube.put('/api/v1/namespaces/team-a', { metadata: { annotations: { 'holdfast.dev/schedule': '7s', other: 'x' } } });
    kube.put('/api/v1/namespaces/team-a/pods/app', podOf());
    const deployment = '/apis/apps/v1/namespaces/holdfast/deployments/holdfast-webhook';
    const kubeconfig = kube.writeKubeconfig('team-a');
    const scheduleWith = async (args: readonly string[]): Promise<string> => {
      kube.put(deployment, { spec: { template: { spec: { containers: [{ args }] } } } });
      const { stdout } = await runKubectl(['explain', 'app', '-o', 'json', '--kubeconfig', kubeconfig]);
      return (JSON.parse(stdout) as { pods: { injection: { schedule: string } }[] }).pods[0]?.injection.schedule ?? '';
    };
    expect(await scheduleWith(['--namespace-defaults'])).toBe('7s');
    expect(await scheduleWith([])).toBe('60s');
  });

  it('says which right is missing', async () => {
    await using kube = await KubeServer.start();
    kube.mayDo = () => false;
    const kubeconfig = kube.writeKubeconfig('team-a');
    const { code, stderr } = await runKubectl(['explain', 'web-0', '--kubeconfig', kubeconfig]);
    expect(code).toBe(35);
    expect(stderr).toContain('cannot list webhook configurations');
  });

  it('says that an API server does not answer, and that there is no configuration', async () => {
    const kube = await KubeServer.start();
    const path = work.at('kubeconfig');
    writeFileSync(path, await import('node:fs').then(({ readFileSync }) => readFileSync(kube.writeKubeconfig('x'))));
    await kube[Symbol.asyncDispose]();
    expect(await runKubectl(['inventory', '--kubeconfig', path])).toMatchObject({ code: 34 });
    expect(await runKubectl(['inventory', '--kubeconfig', '/nowhere/config'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('the kubeconfig cannot be read'),
    });
    expect(await runKubectl(['inventory', '--kubeconfig', path, '--context', 'other'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('Name one of: test.'),
    });
  });
});
