/** The chart by itself, as somebody installs it who has nothing else: its certificate, its tests, its policies, its end; and the plugin. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ApiError, type Resource } from './harness/api.ts';
import { until } from './harness/processes.ts';
import { Site } from './harness/site.ts';
import { holdfastNamespace, installHoldfast } from './scenario/holdfast.ts';
import { Scene } from './scenario/scene.ts';
import { workload } from './scenario/workloads.ts';

const site = Site.current();
const certificate = { source: 'self', secretName: '', caBundle: '' };
const secretPath = `/api/v1/namespaces/${holdfastNamespace}/secrets/holdfast-webhook-tls`;
const configurationPath = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/a.holdfast.dev';

const install = (webhook: object = {}): void => installHoldfast(site, { webhook: { certificate, ...webhook } });

beforeAll(() => install());
afterAll(() => installHoldfast(site));

function plugin(...args: readonly string[]): string {
  return site.run(['kubectl-holdfast', ...args]);
}

async function served(): Promise<string> {
  return String((await site.api.get(secretPath)).data['tls.crt']);
}

test('helm test asks the webhook, and doctor finds nothing wrong', () => {
  site.run(['helm', 'test', 'holdfast', `--namespace=${holdfastNamespace}`, '--timeout=60s']);
  const { healthy, findings } = JSON.parse(plugin('doctor', '--output', 'json')) as {
    healthy: boolean;
    findings: readonly { check: string; state: string }[];
  };
  expect(healthy).toBe(true);
  const states = Object.fromEntries(findings.map(({ check, state }) => [check, state]));
  expect(states).toMatchObject({ kubernetes: 'ok', webhook: 'ok', certificate: 'ok', replicas: 'ok', admission: 'ok' });
});

test('every pod is admitted while the certificate is replaced again and again', async () => {
  await using scene = Scene.open('rotation');
  install({ certificate: { ...certificate, validity: '30s' } });
  const seen = new Set<string>();
  const pod = workload('Pod', { name: 'tried', image: site.facts.image });
  await until('four certificates', 180, async () => {
    const admitted = await site.api.create(`${scene.path('pods')}?dryRun=All`, pod);
    expect(admitted.metadata.annotations['holdfast.dev/status']).toContain('"lineage"');
    seen.add(await served());
    return seen.size >= 4 ? true : undefined;
  });
  install();
});

test('an upgrade, a rollback and whoever takes the CA away leave the webhook trusted', async () => {
  await using scene = Scene.open('trusted');
  const pod = workload('Pod', { name: 'tried', image: site.facts.image });
  const admitted = async (): Promise<unknown> =>
    (await site.api.create(`${scene.path('pods')}?dryRun=All`, pod)).metadata.annotations['holdfast.dev/status'];
  const before = await served();
  install({ timeoutSeconds: 7 });
  expect(await admitted()).toBeDefined();
  site.run(['helm', 'rollback', 'holdfast', `--namespace=${holdfastNamespace}`, '--wait']);
  expect(await admitted()).toBeDefined();
  expect(await served()).toBe(before);
  const configuration = await site.api.get(configurationPath);
  const bundle = configuration.webhooks[0].clientConfig.caBundle;
  const { caBundle: _, ...without } = configuration.webhooks[0].clientConfig;
  await site.api.patch(configurationPath, { webhooks: [{ ...configuration.webhooks[0], clientConfig: without }] });
  await site.api.until('the CA to be back', configurationPath, 90, (found) =>
    found?.webhooks[0].clientConfig.caBundle === bundle ? true : undefined,
  );
  expect(await admitted()).toBeDefined();
});

test('nobody but the webhook writes the status', async () => {
  await using scene = Scene.open('status');
  const spoofed: Resource = workload('Pod', { name: 'spoofed', image: site.facts.image });
  spoofed.metadata.annotations = {
    'holdfast.dev/status': '{"version":1,"slot":"fixed","lineage":"test/other/pod/x/x"}',
  };
  const refused = await site.api.create(scene.path('pods'), spoofed).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(ApiError);
  expect(String(refused)).toContain('holdfast.dev/status, which the webhook writes');
  scene.run('StatefulSet', { name: 'app' });
  const pod = await scene.ready('app-0');
  const annotate = (annotations: object): Promise<unknown> =>
    site.api.patch(pod.path, { metadata: { annotations } }).catch((error: unknown) => error);
  expect(String(await annotate({ 'holdfast.dev/status': '{}' }))).toContain('by nobody later');
  expect(String(await annotate({ 'holdfast.dev/status': null }))).toContain('by nobody later');
  expect(await annotate({ 'example.com/other': 'yes' })).not.toBeInstanceOf(ApiError);
});

test('the plugin explains, takes a checkpoint, lists volumes and rolls back, by exec and with the rights of who calls it', async () => {
  await using scene = Scene.open('plugin');
  const here = ['--namespace', scene.namespace];
  scene.run('StatefulSet', { name: 'app' });
  const first = await scene.ready('app-0');
  await first.statusSays('that it runs', ({ phase }) => phase === 'running');
  const good = first.write('good');
  expect(plugin('checkpoint', 'app-0', ...here)).toMatch(/^committed: checkpoint \d+/);
  const { newest } = first.status();
  first.write('bad');
  expect(plugin('checkpoint', 'app-0', ...here)).toMatch(/^committed/);
  expect(plugin('explain', 'app-0', ...here, '--key-file', site.keyFile)).toContain('is protected');
  const rows = JSON.parse(plugin('inventory', '--live', '--output', 'json', ...here)) as { counts: object };
  expect(rows.counts).toMatchObject({ protected: 1, failing: 0, behind: 0 });
  const said = plugin('rollback', 'statefulset/app', '--to', newest?.id ?? '', '--yes', ...here);
  expect(said).toContain(`app-0: restored checkpoint ${newest?.slot}`);
  const second = await scene.ready('app-0', [first]);
  expect(second.data().digest).toBe(good.digest);
});

test('uninstalled and installed again, the chart finds everything where it was', async () => {
  await using scene = Scene.open('again');
  scene.run('StatefulSet', { name: 'app' });
  const first = await scene.ready('app-0');
  await first.statusSays('that it runs', ({ phase }) => phase === 'running');
  const written = first.write('before');
  site.run(['helm', 'uninstall', 'holdfast', `--namespace=${holdfastNamespace}`, '--wait']);
  for (const path of [secretPath, configurationPath]) expect(await site.api.find(path), path).toBeUndefined();
  // What runs goes on, and saves.
  first.checkpoint();
  install();
  await first.delete();
  const second = await scene.ready('app-0', [first]);
  expect(second.data().digest).toBe(written.digest);
});
