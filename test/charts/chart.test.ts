import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadAll } from 'js-yaml';
import { describe, expect, it } from 'vitest';
import { commands } from '../../src/cli/commands.ts';
import { parseOptions } from '../../src/cli/options.ts';
import { version } from '../../src/cli/version.ts';
import { annotationPrefix } from '../../src/contract/annotations.ts';
import { agentContainer, metricsPortName, rehydrateContainer } from '../../src/contract/pod-layout.ts';
import { parseSettings } from '../../src/webhook/settings.ts';
import { alerts } from '../../tools/monitoring/alerts.ts';
import { digestNow, readDigest, readRender, renderNames } from './golden.ts';

const chart = join(import.meta.dirname, '../../charts/holdfast');

it('its renders were made from the chart as it is now', () => {
  expect(digestNow(), 'look at what changes, then: node test/charts/golden.ts').toBe(readDigest());
});

it('has the version of the program', () => {
  expect(readFileSync(join(chart, 'Chart.yaml'), 'utf8')).toContain(`appVersion: ${version}\n`);
});

/** The text of a block that follows `key: |`. */
function blockOf(yaml: string, key: string): string {
  const lines = yaml.split('\n');
  const at = lines.findIndex((line) => line.trim() === `${key}: |`);
  const indent = /^ */.exec(lines[at + 1] ?? '')?.[0].length ?? 0;
  const end = lines.findIndex(
    (line, index) => index > at && line.trim() !== '' && !line.startsWith(' '.repeat(indent)),
  );
  return lines.slice(at + 1, end).join('\n');
}

/** Items of the list that follows `key:`, plain or quoted. */
function listOf(yaml: string, key: string): readonly string[] {
  const lines = yaml.split('\n').map((line) => line.trim());
  const at = lines.indexOf(`${key}:`);
  const items: string[] = [];
  for (const line of lines.slice(at + 1)) {
    if (!line.startsWith('- ')) break;
    items.push(line.slice(2).replace(/^(["'])(.*)\1$/, '$2'));
  }
  return items;
}

describe.each(renderNames)('rendered with the values %s', (name) => {
  const yaml = readRender(name);

  it('gives the webhook settings that it takes', () => {
    const settings = parseSettings(blockOf(yaml, 'settings.json'));
    expect(settings.cluster).toMatch(/^prod/);
    expect(settings.stores.size).toBeGreaterThan(0);
  });

  it('starts the webhook with options that it has', () => {
    const command = commands.find((each) => each.name === 'webhook');
    const parsed = parseOptions('webhook', command?.options ?? [], listOf(yaml, 'args'), {});
    const certificate = parsed.given('tls-secret')
      ? (['tls-secret', 'tls-name', 'tls-validity', 'webhook-configuration'] as const)
      : (['tls-cert', 'tls-key'] as const);
    for (const option of ['settings', 'listen', ...certificate] as const) expect(parsed.required(option)).not.toBe('');
    expect(yaml).toContain(`containerPort: ${parsed.required('listen').split(':')[1]}`);
  });

  it('asks about pods that speak of injection, at the path that the webhook answers', () => {
    expect(yaml).toContain(`'${annotationPrefix}inject' in object.metadata.annotations`);
    expect(yaml).toContain('path: /mutate\n');
  });

  it('renders no certificate and no key, which would differ from one render to the next', () => {
    expect(yaml).not.toMatch(/^(?:data|stringData):\n {2}(?:tls|ca|next)\./m);
    expect(yaml).not.toContain('PRIVATE KEY');
  });
});

// biome-ignore lint/suspicious/noExplicitAny: objects of any kind, compared with what is expected.
type Document = Record<string, any>;

/** The documents of a render, by `KIND NAME`. */
function documentsOf(name: string): ReadonlyMap<string, Document> {
  const documents = loadAll(readRender(name)) as readonly Document[];
  return new Map(documents.map((each) => [`${each['kind']} ${each['metadata'].name}`, each]));
}

it.each(renderNames)('every object of %s says where it belongs, whose it is, and its name once', (name) => {
  const documents = loadAll(readRender(name)) as readonly Document[];
  expect(documentsOf(name).size).toBe(documents.length);
  const global =
    /^(?:ClusterRole|ClusterRoleBinding|MutatingWebhookConfiguration|ValidatingAdmissionPolicy|ValidatingAdmissionPolicyBinding)$/;
  for (const { apiVersion, kind, metadata } of documents) {
    expect(apiVersion, kind).toMatch(/^(?:[a-z0-9.-]+\/)?v\d/);
    expect(metadata.namespace, kind).toBe(global.test(kind) ? undefined : 'holdfast');
    expect(metadata.labels, kind).toMatchObject({
      'app.kubernetes.io/part-of': 'holdfast',
      'app.kubernetes.io/instance': 'holdfast',
    });
  }
});

it('a webhook that keeps its certificate and answers pods may do that, and nothing else', () => {
  const documents = documentsOf('least');
  expect(documents.get('Role holdfast-webhook')?.['rules']).toEqual([
    { apiGroups: [''], resources: ['secrets'], resourceNames: ['holdfast-webhook-tls'], verbs: ['get', 'update'] },
    { apiGroups: [''], resources: ['configmaps'], verbs: ['get', 'list', 'create', 'update', 'delete'] },
  ]);
  expect(documents.get('ClusterRole holdfast-holdfast-webhook')?.['rules']).toEqual([
    {
      apiGroups: ['admissionregistration.k8s.io'],
      resources: ['mutatingwebhookconfigurations'],
      resourceNames: ['a.holdfast.dev'],
      verbs: ['get', 'patch'],
    },
    { apiGroups: ['authentication.k8s.io'], resources: ['tokenreviews'], verbs: ['create'] },
    { apiGroups: [''], resources: ['pods'], verbs: ['get'] },
  ]);
  expect([...documents.keys()].filter((each) => /Role /.test(each))).toHaveLength(2);
  const secret = documents.get('Secret holdfast-webhook-tls');
  expect([secret?.['data'], secret?.['stringData']]).toEqual([undefined, undefined]);
  expect(readRender('least')).not.toContain('caBundle');
  expect(documents.get('Deployment holdfast-webhook')?.['spec'].template.spec).toMatchObject({
    automountServiceAccountToken: true,
  });
});

it('rights go with what needs them', () => {
  const documents = documentsOf('cert-manager');
  expect(documents.get('Role holdfast-webhook')?.['rules']).toHaveLength(1);
  expect(documents.get('ClusterRole holdfast-holdfast-webhook')?.['rules']).toContainEqual({
    apiGroups: [''],
    resources: ['namespaces'],
    verbs: ['get'],
  });
  const none = readRender('everything');
  expect(none).not.toMatch(/^kind: (?:Secret|Role|ClusterRole|RoleBinding|ClusterRoleBinding)$/m);
  expect(none).toContain('automountServiceAccountToken: false');
  expect(documentsOf('everything').get('NetworkPolicy holdfast-webhook')).toBeUndefined();
});

it('Prometheus asks agents where the webhook lets them answer, and is told of every alert but those left out', () => {
  const documents = documentsOf('everything');
  expect(documents.get('PodMonitor holdfast-agents')?.['spec'].podMetricsEndpoints[0].port).toBe(metricsPortName);
  const { rules } = documents.get('PrometheusRule holdfast')?.['spec'].groups[0] ?? {};
  const names = rules.map(({ alert }: { alert: string }) => alert);
  expect(names).toEqual(alerts.map(({ name }) => name).filter((name) => name !== 'HoldfastWatcherMisses'));
  for (const { alert, annotations } of rules)
    expect(annotations.runbook_url).toMatch(new RegExp(`/docs/runbooks/${alert}\\.md$`));
  const dashboard = documents.get('ConfigMap holdfast-dashboard');
  expect(dashboard?.['metadata'].labels.grafana_dashboard).toBe('1');
  expect(JSON.parse(dashboard?.['data']['holdfast.json'])).toMatchObject({ title: 'Holdfast' });
});

it('helm test asks the Service of the release, by the name that its certificate has', () => {
  const documents = documentsOf('least');
  const pod = documents.get('Pod holdfast-webhook-test');
  expect(pod?.['metadata'].annotations['helm.sh/hook']).toBe('test');
  const { env, args } = pod?.['spec'].containers[0] ?? {};
  expect(env).toContainEqual({ name: 'WEBHOOK_NAME', value: 'holdfast-webhook.holdfast.svc' });
  expect(env).toContainEqual({ name: 'WEBHOOK_HOST', value: '$(HOLDFAST_WEBHOOK_SERVICE_HOST)' });
  // It belongs to no Deployment, Service or budget of the webhook.
  expect(pod?.['metadata'].labels['app.kubernetes.io/component']).toBe('test');
  expect(() => new Function(args[0].replaceAll('await', 'void').replaceAll('for void', 'for'))).not.toThrow();
});

it('holds the end result where the webhook must not be missed', () => {
  expect(readRender('least')).toContain('kind: ValidatingAdmissionPolicy\n');
  expect(readRender('least')).toContain(`c.name == '${agentContainer}'`);
  expect(readRender('least')).toContain(`c.name == '${rehydrateContainer}'`);
  // Only the one that keeps others from writing the status is left where the webhook may be missed.
  const policies = (name: string): readonly string[] =>
    [...documentsOf(name).keys()].filter((each) => each.startsWith('ValidatingAdmissionPolicy '));
  expect(policies('least')).toHaveLength(2);
  expect(policies('everything')).toEqual(['ValidatingAdmissionPolicy holdfast-webhook-status']);
});

it('its schema knows the members of a store that the settings know, and no others', () => {
  const schema = JSON.parse(readFileSync(join(chart, 'values.schema.json'), 'utf8'));
  const members = Object.keys(schema.properties.stores.additionalProperties.properties);
  const settingsWith = (more: object): string =>
    JSON.stringify({
      cluster: 'c',
      image: 'i',
      stores: { default: { address: 's3://b', namespaces: ['*'], ...more } },
    });
  for (const member of members) {
    // A wrong type is refused as such; an unknown member as one that does not exist.
    expect(() => parseSettings(settingsWith({ [member]: [[]] }))).not.toThrow(/a setting that exists/);
  }
  const page = readFileSync(join(import.meta.dirname, '../../docs/kubernetes.md'), 'utf8');
  const table = page.split('| setting of a store |')[1]?.split('\n\n')[0] ?? '';
  const documented = [...table.matchAll(/^\| (`[^|]*`) \|/gm)].flatMap(([, names]) =>
    [...(names as string).matchAll(/`([A-Za-z]+)`/g)].map(([, each]) => each),
  );
  expect(documented.toSorted()).toEqual(members.toSorted());
});
