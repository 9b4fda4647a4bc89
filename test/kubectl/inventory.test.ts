import { expect, it } from 'vitest';
import type { AgentStatus } from '../../src/contract/agent-api.ts';
import { inventoryRows, type VolumeState } from '../../src/kubectl/inventory-rows.ts';
import { pastOf } from '../../src/kubectl/pod-past.ts';
import type { JsonObject } from '../../src/webhook/json.ts';
import { KubeServer } from '../support/kube-server.ts';
import { podOf } from '../webhook/pods.ts';
import { runKubectl } from './run-kubectl.ts';

interface Parts {
  readonly injected?: boolean;
  readonly inject?: string;
  readonly rehydrate?: object;
  readonly agent?: object;
  readonly phase?: string;
}

const done = { terminated: { exitCode: 0 } };
const running = { running: {} };

/** A pod with the volume `data`, which it asks to be kept, and `tmp`, which it does not. */
function podWith({
  injected = true,
  inject = 'true',
  rehydrate = done,
  agent = running,
  phase = 'Running',
}: Parts): JsonObject {
  const status = JSON.stringify({ lineage: 'prod/team-a/pod/app/app', volumes: ['data'], store: 'default' });
  const pod = podOf({
    annotations: { inject, ...(injected ? { status } : {}) },
    spec: {
      containers: [
        {
          name: 'app',
          volumeMounts: [
            { name: 'data', mountPath: '/a' },
            { name: 'tmp', mountPath: '/b' },
          ],
        },
      ],
      initContainers: injected ? [{ name: 'holdfast-rehydrate' }, { name: 'holdfast-agent' }] : [],
      volumes: [
        { name: 'data', emptyDir: {} },
        { name: 'tmp', emptyDir: { medium: 'Memory' } },
        { name: 'unused', emptyDir: {} },
        { name: 'config', configMap: { name: 'x' } },
        ...(injected ? [{ name: 'holdfast-state', emptyDir: {} }] : []),
      ],
    },
  });
  const initContainerStatuses = [
    { name: 'holdfast-rehydrate', state: rehydrate },
    { name: 'holdfast-agent', state: agent, restartCount: 0 },
  ];
  return { ...pod, status: { phase, initContainerStatuses } } as unknown as JsonObject;
}

const live = (more: object = {}): AgentStatus =>
  ({
    phase: 'running',
    lineage: 'prod/team-a/pod/app/app',
    fenced: false,
    newest: { ageSeconds: 90 },
    unsaved: { ageSeconds: 12 },
    objective: { seconds: 60, met: true },
    problems: [],
    ...more,
  }) as unknown as AgentStatus;

function statesOf(parts: Parts, said?: AgentStatus | { readonly error: string }): Record<string, VolumeState> {
  const rows = inventoryRows([podWith(parts)], new Map(said === undefined ? [] : [['team-a/app', said]]));
  return Object.fromEntries(rows.map(({ volume, state }) => [volume, state]));
}

it.each<readonly [string, Parts, AgentStatus | { readonly error: string } | undefined, VolumeState]>([
  ['with an agent that runs', {}, undefined, 'protected'],
  ['with an agent that meets the objective', {}, live(), 'protected'],
  ['with an agent that misses it', {}, live({ objective: { seconds: 60, met: false } }), 'behind'],
  ['with an agent that was fenced', {}, live({ fenced: true }), 'failing'],
  ['with an agent that does not answer', {}, { error: 'exit code 1' }, 'failing'],
  ['with an agent that waits', {}, live({ phase: 'waiting' }), 'failing'],
  ['with an agent that crashes', { agent: { waiting: { reason: 'CrashLoopBackOff' } } }, undefined, 'failing'],
  ['whose restore has failed', { rehydrate: { terminated: { exitCode: 33 } } }, undefined, 'failing'],
  ['whose restore goes on', { rehydrate: running }, undefined, 'failing'],
])('a volume of a pod %s', (_, parts, said, state) => {
  expect(statesOf(parts, said)).toEqual({ data: state, tmp: 'scratch' });
});

it('volumes of pods that are not protected are listed, those that nobody mounts are not', () => {
  expect(statesOf({ injected: false, inject: 'false' })).toEqual({ data: 'unprotected', tmp: 'unprotected' });
  const [row] = inventoryRows([podWith({ injected: false })], new Map());
  expect(row).toMatchObject({ state: 'unprotected', why: expect.stringContaining('the webhook did not answer') });
});

it('volumes of a pod that only begins from a checkpoint are left out on purpose', () => {
  const pod = podWith({}) as { metadata: { annotations: Record<string, string> }; spec: JsonObject };
  const status = { lineage: 'prod/team-a/deployment/app', slot: 'seed', volumes: ['data'], store: 'default' };
  const annotations = { ...pod.metadata.annotations, 'holdfast.dev/status': JSON.stringify(status) };
  const seed = {
    ...pod,
    metadata: { ...pod.metadata, annotations },
    spec: { ...pod.spec, initContainers: [{ name: 'holdfast-rehydrate' }] },
    status: { phase: 'Running', initContainerStatuses: [{ name: 'holdfast-rehydrate', state: done }] },
  } as unknown as JsonObject;
  const [row] = inventoryRows([seed], new Map());
  expect(row).toMatchObject({ volume: 'data', state: 'scratch', why: expect.stringContaining('keeps nothing') });
  expect(pastOf(seed)).toMatchObject({ injected: true, agent: 'unknown' });
});

it('pods that have ended have no volumes any more', () => {
  expect(statesOf({ phase: 'Failed' })).toEqual({});
  expect(statesOf({ phase: 'Succeeded' })).toEqual({});
});

it('says how old the newest durable state is, where the agent told it', () => {
  const [row] = inventoryRows([podWith({})], new Map([['team-a/app', live()]]));
  expect(row).toMatchObject({
    ageSeconds: 12,
    objectiveSeconds: 60,
    lineage: 'prod/team-a/pod/app/app',
    store: 'default',
  });
});

it('reads every page of a cluster, and puts above what wants attention', async () => {
  await using kube = await KubeServer.start();
  const named = (name: string, parts: Parts): JsonObject => {
    const pod = podWith(parts);
    return { ...pod, metadata: { ...(pod['metadata'] as JsonObject), name } };
  };
  kube.put('/api/v1/pods?limit=500', { metadata: { continue: 'more' }, items: [named('a', {})] });
  kube.put('/api/v1/pods?limit=500&continue=more', {
    items: [named('b', { agent: { waiting: { reason: 'CrashLoopBackOff' } } })],
  });
  // `put` writes a version into the metadata of lists too, and leaves the rest.
  const kubeconfig = kube.writeKubeconfig('team-a');
  const { code, stdout, stderr } = await runKubectl(['inventory', '-A', '--kubeconfig', kubeconfig]);
  expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
  const lines = stdout.split('\n');
  expect(lines[1]).toMatch(/^failing +team-a +pod\/b +b +data +emptyDir +holdfast-agent waits: CrashLoopBackOff/);
  expect(stdout).toContain('1 failing, 1 protected, 2 scratch');
  const json = await runKubectl(['inventory', '-A', '-o', 'json', '--kubeconfig', kubeconfig]);
  expect(JSON.parse(json.stdout).counts).toEqual({ failing: 1, behind: 0, unprotected: 0, protected: 1, scratch: 2 });
});
