import { describe, expect, it } from 'vitest';
import { decide } from '../../src/webhook/decide.ts';
import type { Injection } from '../../src/webhook/decision.ts';
import type { Json, JsonObject } from '../../src/webhook/json.ts';
import { applyPatch } from '../support/json-patch.ts';
import { patchOf, type Response, responseOf } from './golden.ts';
import { containerOf, ofDeployment, ownedBy, podOf, requestOf, reviewOf, settingsOf } from './pods.ts';
import { checkPod } from './review-property.ts';

function injectionOf(pod: JsonObject, settings: JsonObject = {}): Injection {
  const decision = decide(requestOf(pod), settingsOf(settings));
  if (decision.kind !== 'inject') throw new Error(JSON.stringify(decision));
  return decision.injection;
}

function refusedFor(pod: JsonObject, settings: JsonObject = {}): readonly string[] {
  const decision = decide(requestOf(pod), settingsOf(settings));
  return decision.kind === 'refuse'
    ? decision.refusals.map(({ annotation, reason }) => `${annotation}: ${reason}`)
    : [];
}

function answerTo(pod: JsonObject): { readonly response: Response; readonly pod: JsonObject } {
  const response = responseOf(JSON.stringify(reviewOf(pod)));
  return { response, pod: applyPatch(pod, patchOf(response)) };
}

type Spec = { initContainers: JsonObject[]; containers: JsonObject[]; volumes: JsonObject[] };

describe('called again for the same pod', () => {
  it('changes nothing', () => {
    const { pod } = answerTo(
      podOf({ metadata: ofDeployment(), annotations: { 'safe-to-evict': 'true', 'grace-at-least': '90s' } }),
    );
    expect(patchOf(answerTo(pod).response)).toEqual([]);
  });

  it('keeps what others have added meanwhile to our containers, and moves them behind a proxy that came', () => {
    const before = podOf({ spec: { initContainers: [{ name: 'own', image: 'x' }] } });
    const { pod: once } = answerTo(before);
    const met = structuredClone(once) as unknown as { spec: Spec };
    const [proxy, token, account]: readonly JsonObject[] = [
      { name: 'istio-proxy', image: 'x', restartPolicy: 'Always' },
      { name: 'AWS_WEB_IDENTITY_TOKEN_FILE', value: '/t' },
      { name: 'kube-api-access', mountPath: '/var/run/secrets/kubernetes.io/serviceaccount', readOnly: true },
    ] as const;
    for (const container of met.spec.initContainers) {
      // IRSA, the ServiceAccount, a LimitRange, and what the API server fills in.
      Object.assign(container, {
        env: [...((container['env'] as Json[] | undefined) ?? []), token],
        volumeMounts: [...((container['volumeMounts'] as Json[] | undefined) ?? []), account],
        resources: { ...(container['resources'] as JsonObject), limits: { cpu: '1', memory: '1Gi' } },
        terminationMessagePath: '/dev/termination-log',
      });
    }
    met.spec.initContainers.push(proxy as JsonObject);
    met.spec.volumes.push({ name: 'kube-api-access', projected: { sources: [] } });

    const { pod: twice, response } = answerTo(met as unknown as JsonObject);
    const inits = (twice['spec'] as unknown as Spec).initContainers;
    expect(inits.map(({ name }) => name)).toEqual(['own', 'istio-proxy', 'holdfast-rehydrate', 'holdfast-agent']);
    for (const container of inits.slice(2)) {
      expect(container['env']).toContainEqual(token);
      expect(container['volumeMounts']).toContainEqual(account);
      expect(container['resources']).toMatchObject({ requests: { cpu: '20m' }, limits: { memory: '1Gi' } });
      expect(container).toMatchObject({ terminationMessagePath: '/dev/termination-log' });
    }
    expect(patchOf(response).length).toBeGreaterThan(0);
    expect(patchOf(answerTo(twice).response)).toEqual([]);
    checkPod(before, { ...twice, spec: withoutMet(twice) }, 'team-a');
  });

  it.each(['holdfast-aws-token', 'gone'])('keeps no mount of %s, a volume that the pod does not have', (name) => {
    const { pod: once } = answerTo(podOf());
    const met = structuredClone(once) as unknown as { spec: Spec };
    for (const container of met.spec.initContainers) {
      (container['volumeMounts'] as Json[]).push({ name, mountPath: '/elsewhere' });
    }
    const { pod: twice } = answerTo(met as unknown as JsonObject);
    expect(twice).toEqual(once);
  });

  it('mends what was changed in our containers, whoever did it', () => {
    const { pod: once } = answerTo(podOf());
    const spoilt = structuredClone(once) as unknown as { spec: Spec };
    for (const container of spoilt.spec.initContainers) {
      Reflect.deleteProperty(container, 'restartPolicy');
      Object.assign(container, {
        image: 'evil.example/x',
        securityContext: { privileged: true },
        env: [{ name: 'HOLDFAST_STORE', value: 'file:/tmp' }],
        envFrom: [{ secretRef: { name: 'x' } }],
        volumeMounts: [{ name: 'data', mountPath: '/etc/holdfast/key' }],
      });
    }
    spoilt.spec.initContainers.reverse();
    const { pod: mended } = answerTo(spoilt as unknown as JsonObject);
    expect(mended).toEqual(once);
  });
});

/** The pod's spec without what others added in the test. */
function withoutMet(pod: JsonObject): JsonObject {
  const spec = structuredClone(pod['spec']) as unknown as Spec;
  spec.initContainers = spec.initContainers.filter(({ name }) => name !== 'istio-proxy');
  spec.volumes = spec.volumes.filter(({ name }) => name !== 'kube-api-access');
  for (const container of spec.initContainers.filter(({ name }) => name === 'own')) {
    for (const key of ['env', 'volumeMounts', 'resources', 'terminationMessagePath'])
      Reflect.deleteProperty(container, key);
  }
  for (const container of spec.initContainers.filter(({ name }) => name !== 'own')) {
    const mounts = container['volumeMounts'] as unknown as { name: string }[];
    Object.assign(container, { volumeMounts: mounts.filter(({ name }) => name !== 'kube-api-access') });
  }
  return spec as unknown as JsonObject;
}

describe('the lineage', () => {
  const lineageText = (pod: JsonObject): string => {
    const { workload, slot } = injectionOf(pod).lineage;
    return `${workload} ${'slot' in slot ? slot.slot : slot.by}`;
  };

  it.each([
    ['a bare pod', {}, 'prod/team-a/pod/app app'],
    ['a Deployment', ofDeployment(), 'prod/team-a/deployment/web 0'],
    ['a ReplicaSet alone', ownedBy('ReplicaSet', 'web'), 'prod/team-a/replicaset/web 0'],
    [
      'a ReplicaSet with a foreign hash',
      ofDeployment({ labels: { 'pod-template-hash': 'other' } }),
      'prod/team-a/replicaset/web-5d4f8c7b9 0',
    ],
    ['a StatefulSet', ownedBy('StatefulSet', 'db', { name: 'db-11' }), 'prod/team-a/statefulset/db 11'],
    ['a DaemonSet', ownedBy('DaemonSet', 'cache'), 'prod/team-a/daemonset/cache node'],
    ['a Job', ownedBy('Job', 'once'), 'prod/team-a/job/once 0'],
  ])('of %s', (_, metadata, text) => {
    expect(lineageText(podOf({ metadata }))).toBe(text);
  });

  it('is chosen by annotations but for cluster and namespace', () => {
    const pod = podOf({
      metadata: ofDeployment({ namespace: 'victim' }),
      annotations: { lineage: 'statefulset/db', slot: '3' },
    });
    expect(lineageText(pod)).toBe('prod/team-a/statefulset/db 3');
  });

  it('is refused where pods cannot be told apart', () => {
    expect(refusedFor(podOf({ metadata: { generateName: 'x-' } }))).toEqual([
      'metadata.generateName: a pod without an owner and without a name of its own has no identity',
    ]);
    expect(
      refusedFor(
        podOf({
          metadata: ownedBy('StatefulSet', 'db', { name: 'db-1', labels: { 'apps.kubernetes.io/pod-index': '2' } }),
        }),
      ),
    ).toEqual(['metadata.name: its number in the StatefulSet db cannot be told']);
    expect(refusedFor(podOf({ metadata: ownedBy('DaemonSet', 'n'.repeat(230)) }))[0]).toMatch(
      /would not be a valid name/,
    );
  });
});

describe('the user', () => {
  const identity = (spec: JsonObject, annotations: Record<string, string> = {}, settings: JsonObject = {}): object => {
    const { user, group, asRoot } = injectionOf(podOf({ spec, annotations }), settings).identity;
    return { user, group, asRoot };
  };
  const own = [containerOf('app', { securityContext: { runAsUser: 5, runAsGroup: 6 } })];

  it('is that of the annotation, the container, the pod, the settings, in this order', () => {
    const defaults = { defaults: { 'run-as-user': '9', 'run-as-group': '9' } };
    expect(identity({ containers: own }, { 'run-as-user': '7', 'run-as-group': '8' }, defaults)).toEqual({
      user: 7,
      group: 8,
      asRoot: false,
    });
    expect(identity({ containers: own }, {}, defaults)).toEqual({ user: 5, group: 6, asRoot: false });
    expect(identity({}, {}, defaults)).toEqual({ user: 1000, group: 1000, asRoot: false });
    expect(identity({ securityContext: {} }, {}, defaults)).toEqual({ user: 9, group: 9, asRoot: false });
    expect(identity({ securityContext: {} })).toEqual({ user: 0, group: undefined, asRoot: true });
  });

  it('is asked for where the settings do not want root', () => {
    expect(refusedFor(podOf({ spec: { securityContext: {} } }), { unknownUser: 'refuse' })[0]).toMatch(
      /stands in its image only/,
    );
  });
});

describe('resources', () => {
  it('never ask for more than they are limited to', () => {
    const { agent } = injectionOf(podOf({ annotations: { 'memory-limit': '64Mi' } })).resources;
    expect(agent).toEqual({ requests: { cpu: '20m', memory: '64Mi' }, limits: { memory: '64Mi' } });
    expect(refusedFor(podOf({ annotations: { 'memory-limit': '64Mi', 'memory-request': '65Mi' } }))[0]).toMatch(
      /more than/,
    );
  });

  it('warn of a volume in memory without a bound', () => {
    const pod = podOf({
      annotations: { 'memory-limit': '64Mi' },
      spec: { volumes: [{ name: 'data', emptyDir: { medium: 'Memory' } }] },
    });
    expect(answerTo(pod).response.warnings?.join()).toMatch(/no sizeLimit/);
  });

  it('of the pod as a whole are not exceeded by a limit that Kubernetes takes for a request', () => {
    const pod = podOf({
      annotations: { 'cpu-limit': '1' },
      spec: {
        resources: { limits: { cpu: '1' } },
        containers: [containerOf('app', { resources: { requests: { cpu: '900m' } } })],
      },
    });
    expect(injectionOf(pod).resources.agent).toEqual({
      requests: { cpu: '0', memory: '128Mi' },
      limits: { cpu: '1' },
    });
  });

  it('stay Burstable with a pod that is', () => {
    const mixed = podOf({
      spec: {
        containers: [
          containerOf('app', { resources: { limits: { cpu: '1', memory: '1Gi' }, requests: { cpu: '500m' } } }),
        ],
      },
    });
    expect(injectionOf(mixed).resources.agent.limits).toEqual({});
  });
});

it('an image of the pod is taken only where the settings allow it', () => {
  const pod = podOf({ annotations: { image: 'registry.example/mine:2' } });
  expect(refusedFor(pod)[0]).toMatch(/do not let pods choose the image/);
  expect(injectionOf(pod, { imageOverride: true }).image).toBe('registry.example/mine:2');
});
