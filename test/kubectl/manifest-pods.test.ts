import { expect, it } from 'vitest';
import { explainPod } from '../../src/kubectl/explanation.ts';
import { manifestsIn, podsOfManifest } from '../../src/kubectl/manifest-pods.ts';
import type { JsonObject } from '../../src/webhook/json.ts';
import { podOf, settingsOf } from '../webhook/pods.ts';

const template = (() => {
  const { metadata, spec } = podOf();
  const { name: _, ...rest } = metadata as JsonObject;
  return { metadata: { ...rest, labels: { app: 'web' } }, spec } as JsonObject;
})();

function workload(kind: string, spec: JsonObject, name = 'web'): JsonObject {
  return { apiVersion: 'v1', kind, metadata: { name, namespace: 'team-a' }, spec };
}

function lineageOf(manifest: JsonObject): string | undefined {
  const reading = podsOfManifest(manifest);
  if (reading.kind !== 'pods') return undefined;
  const [first] = reading.pods;
  return explainPod(first?.pod as JsonObject, 'team-a', settingsOf()).injection?.lineage;
}

it.each<readonly [string, JsonObject, string]>([
  ['a pod', podOf(), 'prod/team-a/pod/app/app'],
  ['a Deployment', workload('Deployment', { template }), 'prod/team-a/deployment/web/0'],
  ['a ReplicaSet', workload('ReplicaSet', { template }), 'prod/team-a/replicaset/web/0'],
  ['a StatefulSet', workload('StatefulSet', { template }), 'prod/team-a/statefulset/web/0'],
  [
    'one that counts from three',
    workload('StatefulSet', { template, ordinals: { start: 3 } }),
    'prod/team-a/statefulset/web/3',
  ],
  ['a DaemonSet', workload('DaemonSet', { template }), 'prod/team-a/daemonset/web'],
  ['a Job', workload('Job', { template }), 'prod/team-a/job/web/0'],
  ['an indexed Job', workload('Job', { template, completionMode: 'Indexed' }), 'prod/team-a/job/web/0'],
  ['a CronJob', workload('CronJob', { jobTemplate: { spec: { template } } }), 'prod/team-a/job/web-29000000/0'],
])('%s comes to pods of the lineage that they would have', (_, manifest, lineage) => {
  expect(lineageOf(manifest)).toBe(lineage);
});

it('an override of the lineage reaches a Job of a CronJob', () => {
  const carried = structuredClone(template) as { metadata: { annotations: Record<string, string> } };
  carried.metadata.annotations['holdfast.dev/lineage'] = 'cronjob/web';
  const manifest = workload('CronJob', { jobTemplate: { spec: { template: carried as unknown as JsonObject } } });
  expect(lineageOf(manifest)).toBe('prod/team-a/cronjob/web/0');
});

it('what makes no pods says what it is', () => {
  expect(podsOfManifest(workload('Service', {}))).toEqual({ kind: 'none', what: 'Service web' });
  expect(podsOfManifest(workload('Deployment', {}))).toEqual({ kind: 'none', what: 'Deployment web' });
  expect(podsOfManifest({})).toEqual({ kind: 'none', what: 'an object without a kind' });
});

it('takes lists apart, and leaves out what is no object', () => {
  const list = { kind: 'List', items: [workload('Job', {}), { kind: 'PodList', items: [podOf()] }] };
  expect(manifestsIn([list, null, 'text', podOf()]).map(({ kind }) => kind)).toEqual(['Job', 'Pod', 'Pod']);
});
