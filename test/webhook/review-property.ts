/** Reviews made by chance, and what has to hold of the answer to any of them. */
import fc from 'fast-check';
import { expect } from 'vitest';
import { annotations } from '../../src/contract/annotations.ts';
import { agentContainer, ownVolumes, rehydrateContainer } from '../../src/contract/pod-layout.ts';
import type { Json, JsonObject } from '../../src/webhook/json.ts';
import { respond } from '../../src/webhook/respond.ts';
import { applyPatch } from '../support/json-patch.ts';
import { patchOf, type Response } from './golden.ts';
import { reviewOf, settingsOf } from './pods.ts';

// ---------------------------------------------------------------------------------------------------------------------
// Reviews by chance

const volumeName = fc.constantFrom('data', 'cache', 'index', 'tmp');
const anyText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.constantFrom('', '__proto__', 'ünï', '\ud800', '$(HOME)'),
);
/** Mostly what is expected, sometimes anything. */
function mostly<Value>(arbitrary: fc.Arbitrary<Value>, weight = 40): fc.Arbitrary<Value | Json> {
  return fc.oneof({ weight, arbitrary }, { weight: 1, arbitrary: fc.jsonValue() as fc.Arbitrary<Json> });
}
const id = fc.constantFrom(0, 1, 1000, 65_534);
const quantities = fc.record(
  {
    cpu: fc.constantFrom('1', '250m', '0'),
    memory: fc.constantFrom('1Gi', '64Mi', 128),
    'ephemeral-storage': fc.constant('1Gi'),
  },
  { requiredKeys: [] },
);
const resources = fc.record({ requests: quantities, limits: quantities }, { requiredKeys: [] });
/** That the API server takes, of each QoS class. */
const ordinaryResources: fc.Arbitrary<Json> = fc.constantFrom<Json>(
  {},
  { requests: { cpu: '250m', memory: '64Mi' } },
  { requests: { cpu: '250m', memory: '64Mi' }, limits: { memory: '1Gi' } },
  { requests: { cpu: '250m', memory: '64Mi' }, limits: { cpu: '250m', memory: '64Mi' } },
  { limits: { cpu: '1', memory: '1Gi', 'ephemeral-storage': '1Gi' } },
);
const securityContext = fc.record(
  { runAsUser: id, runAsGroup: id, runAsNonRoot: fc.boolean(), seLinuxOptions: fc.constant({ level: 's0:c1' }) },
  { requiredKeys: [] },
);
interface Mount {
  readonly name: string;
  readonly mountPath: string;
}
const mount: fc.Arbitrary<Mount> = fc.record(
  {
    name: fc.oneof(
      { weight: 20, arbitrary: volumeName },
      { weight: 1, arbitrary: fc.constantFrom(...Object.values(ownVolumes)) },
    ),
    mountPath: fc.constantFrom('/a', '/b', '/var/run/secrets/eks.amazonaws.com/serviceaccount', '/volumes/data'),
    readOnly: fc.boolean(),
    subPathExpr: fc.constant('$(POD)'),
  },
  { requiredKeys: ['name', 'mountPath'] },
);
const ordinaryMount: fc.Arbitrary<Mount> = fc.record({
  name: fc.oneof({ weight: 3, arbitrary: volumeName }, { weight: 1, arbitrary: fc.constant('aws-iam-token') }),
  mountPath: fc.constantFrom('/a', '/b', '/var/run/secrets/eks.amazonaws.com/serviceaccount'),
});
const env = fc.record(
  {
    name: fc.constantFrom('A', 'AWS_ROLE_ARN', 'AWS_WEB_IDENTITY_TOKEN_FILE', 'HOLDFAST_STORE'),
    value: fc.oneof(fc.constant('/var/run/secrets/eks.amazonaws.com/serviceaccount/token'), anyText),
  },
  { requiredKeys: ['name'] },
);

/** `wild`: with names that are ours, and parts of any form. */
function containers(prefix: string, countMax: number, wild = true): fc.Arbitrary<Json> {
  const perhaps = <Value>(arbitrary: fc.Arbitrary<Value>): fc.Arbitrary<Value | Json> =>
    wild ? mostly(arbitrary) : arbitrary;
  const parts = fc.record(
    {
      image: fc.constant('x'),
      restartPolicy: fc.constantFrom('Always', 'OnFailure'),
      env: perhaps(fc.array(env, { maxLength: 3 })),
      volumeMounts: perhaps(
        fc.uniqueArray(wild ? mount : ordinaryMount, { maxLength: 3, selector: ({ mountPath }) => mountPath }),
      ),
      resources: wild ? mostly(resources) : ordinaryResources,
      securityContext: perhaps(securityContext),
    },
    { requiredKeys: ['image'] },
  );
  const name = fc.oneof(
    { weight: 20, arbitrary: fc.nat(999).map((n) => `${prefix}${n}`) },
    { weight: 3, arbitrary: fc.constantFrom('istio-proxy', 'linkerd-init', 'own') },
    { weight: wild ? 1 : 0, arbitrary: fc.constantFrom(rehydrateContainer, agentContainer) },
  );
  return fc
    .array(fc.tuple(name, parts), { minLength: wild || prefix === 'i' ? 0 : 1, maxLength: countMax })
    .map((list) => [...new Map(list.map(([each, more]) => [each, { name: each, ...more } as Json])).values()]);
}

const volumeSource: fc.Arbitrary<object> = fc.oneof(
  fc.record({
    emptyDir: fc.record(
      { medium: fc.constantFrom('', 'Memory', 'HugePages'), sizeLimit: fc.constantFrom('1Gi', '0', 'x') },
      { requiredKeys: [] },
    ),
  }),
  fc.record({ ephemeral: fc.constantFrom({}, { volumeClaimTemplate: { spec: { volumeMode: 'Block' } } }) }),
  fc.record({ csi: fc.record({ driver: fc.constant('d'), readOnly: fc.boolean() }, { requiredKeys: ['driver'] }) }),
  fc.constant({ configMap: { name: 'x' } }),
);
const volumes = fc
  .array(
    fc.tuple(
      fc.oneof({ weight: 30, arbitrary: volumeName }, { weight: 1, arbitrary: fc.constant('holdfast-key') }),
      volumeSource,
    ),
    {
      minLength: 1,
      maxLength: 5,
    },
  )
  .map((list) => [...new Map(list.map(([name, source]) => [name, { name, ...source } as Json])).values()]);

const ownAnnotation = fc
  .constantFrom(...Object.entries(annotations))
  .chain(([name, info]) =>
    fc.tuple(
      fc.constant(`holdfast.dev/${name}`),
      fc.oneof(
        { weight: 30, arbitrary: fc.constantFrom(info.example, info.otherwise ?? info.example) },
        { weight: 1, arbitrary: anyText },
      ),
    ),
  );
const otherAnnotation = fc.constantFrom<readonly [string, string]>(
  ['cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes', 'tmp'],
  ['kubectl.kubernetes.io/default-container', 'app'],
  ['kubernetes.io/config.mirror', 'x'],
  ['holdfast.dev/status', '{}'],
  ['holdfast.dev/exclude.data', '*.tmp'],
  ['holdfast.dev/shedule', '1s'],
);
const podAnnotations = fc
  .tuple(
    fc.oneof(
      { weight: 12, arbitrary: fc.constant('true') },
      { weight: 4, arbitrary: fc.constantFrom('false', 'yes', '') },
    ),
    fc.uniqueArray(volumeName, { minLength: 1, maxLength: 2 }),
    fc.array(ownAnnotation, { maxLength: 4 }),
    fc.array(otherAnnotation, { maxLength: 1 }),
    fc.boolean(),
  )
  .map(([inject, named, own, others, says]) =>
    Object.fromEntries([
      ['holdfast.dev/volumes', named.join(',')],
      ...own.filter(
        ([name]) =>
          name !== 'holdfast.dev/image' && name !== 'holdfast.dev/start-after' && name !== 'holdfast.dev/policy',
      ),
      ...others,
      ...(says ? [['holdfast.dev/inject', inject] as const] : [['holdfast.dev/inject', 'true'] as const]),
    ]),
  );

const ownerKind = fc.constantFrom('ReplicaSet', 'StatefulSet', 'DaemonSet', 'Job', 'TaskRun');
const metadata = fc.record(
  {
    name: fc.constantFrom('web-1', 'app', ''),
    generateName: fc.constant('web-'),
    namespace: fc.constantFrom('team-a', 'somebody-else'),
    labels: fc.constantFrom({ 'pod-template-hash': 'abc' }, { 'apps.kubernetes.io/pod-index': '1' }, {}),
    annotations: mostly(podAnnotations, 60),
    ownerReferences: mostly(ownerKind.map((kind) => [{ kind, name: 'web-abc', controller: true }])),
  },
  { requiredKeys: ['annotations'] },
);
const spec = fc.record(
  {
    containers: mostly(containers('c', 4), 100),
    initContainers: mostly(containers('i', 4), 100),
    volumes: mostly(volumes, 100),
    securityContext: mostly(
      fc.constantFrom({}, { runAsUser: 1000 }, { runAsUser: 1000, fsGroup: 1 }, { runAsNonRoot: true }),
      100,
    ),
    terminationGracePeriodSeconds: mostly(fc.constantFrom(0, 30, 600), 100),
    hostNetwork: fc.constantFrom(false, false, true),
    nodeSelector: fc.constantFrom({}, {}, { 'kubernetes.io/os': 'windows' }),
    resources: fc.constantFrom({ requests: { cpu: '4', memory: '8Gi' } }, { limits: { memory: '1Gi' } }),
    tolerations: mostly(fc.constant([{ key: 'virtual-kubelet.io/provider' }])),
    unknownField: fc.jsonValue() as fc.Arbitrary<Json>,
  },
  { requiredKeys: ['containers', 'volumes'] },
);
const pod = fc.record({ metadata, spec }) as unknown as fc.Arbitrary<JsonObject>;

/** Made as people make them, so that most are injected into. */
export const plausiblePod: fc.Arbitrary<JsonObject> = fc
  .record({
    metadata: fc.record(
      {
        name: fc.constant('web-1'),
        labels: fc.constantFrom({ 'pod-template-hash': 'abc' }, { 'apps.kubernetes.io/pod-index': '1' }),
        annotations: fc
          .tuple(
            fc.constantFrom('data', 'cache', 'data,cache'),
            fc.array(fc.constantFrom(...Object.entries(annotations)), { maxLength: 4 }),
            fc.array(otherAnnotation, { maxLength: 1 }),
          )
          .map(([named, own, others]) =>
            Object.fromEntries(
              [
                ...own
                  .filter(([name]) => !['image', 'start-after', 'policy', 'store'].includes(name))
                  .map(([name, { example }]) => [`holdfast.dev/${name}`, example]),
                ...others.filter(([name]) => !name.includes('shedule')),
                ['holdfast.dev/inject', 'true'],
                ['holdfast.dev/volumes', named],
                ['holdfast.dev/exclude.data', '*.tmp'],
              ].filter(([name]) => name !== 'holdfast.dev/exclude.data' || named !== 'cache'),
            ),
          ),
        ownerReferences: ownerKind
          .filter((kind) => kind !== 'TaskRun')
          .map((kind) => [
            {
              apiVersion: 'apps/v1',
              kind,
              name: kind === 'StatefulSet' ? 'web' : 'web-abc',
              uid: '1b7f',
              controller: true,
            },
          ]),
      },
      { requiredKeys: ['name', 'labels', 'annotations'] },
    ),
    spec: fc.record(
      {
        containers: containers('c', 4, false),
        initContainers: containers('i', 4, false),
        volumes: fc
          .tuple(
            fc.constantFrom(
              { emptyDir: {} },
              { emptyDir: { medium: 'Memory', sizeLimit: '64Mi' } },
              { csi: { driver: 'd' } },
            ),
            fc.constantFrom(
              {
                ephemeral: {
                  volumeClaimTemplate: {
                    spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
                  },
                },
              },
              { emptyDir: { sizeLimit: '1Gi' } },
            ),
          )
          .map(([data, cache]) => [
            { name: 'tmp', emptyDir: {} },
            {
              name: 'aws-iam-token',
              projected: { sources: [{ serviceAccountToken: { audience: 'sts.amazonaws.com', path: 'token' } }] },
            },
            { name: 'data', ...data },
            { name: 'index', configMap: { name: 'x' } },
            { name: 'cache', ...cache },
          ]),
        securityContext: fc.constantFrom({}, { runAsUser: 1000 }, { runAsUser: 1000, fsGroup: 1 }),
        terminationGracePeriodSeconds: fc.constantFrom(0, 30, 600),
        resources: fc.constantFrom({ requests: { cpu: '4', memory: '8Gi' } }, { limits: { cpu: '2', memory: '4Gi' } }),
      },
      { requiredKeys: ['containers', 'volumes'] },
    ),
  })
  .map(({ metadata: meta, spec: rest }) => ({ metadata: meta, spec: rest }) as unknown as JsonObject);

const request = fc.record(
  {
    operation: fc.oneof(
      { weight: 20, arbitrary: fc.constant('CREATE') },
      { weight: 1, arbitrary: fc.constantFrom('UPDATE', '') },
    ),
    subResource: fc.constantFrom('', '', '', 'status'),
    namespace: fc.constantFrom('team-a', 'team-b', ''),
  },
  { requiredKeys: ['operation'] },
);

const review: fc.Arbitrary<string> = fc
  .tuple(fc.oneof({ weight: 1, arbitrary: pod }, { weight: 2, arbitrary: plausiblePod }), request)
  .map(([object, more]) => JSON.stringify(reviewOf(object, more)));

/** Bodies that are no reviews, or reviews of a size that nobody expects. */
const odd: fc.Arbitrary<string> = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.json(),
  fc.tuple(review, fc.nat()).map(([text, at]) => text.slice(0, at % text.length)),
  fc
    .tuple(review, fc.nat(), fc.string({ unit: 'binary', minLength: 1, maxLength: 3 }))
    .map(([text, at, junk]) => `${text.slice(0, at % text.length)}${junk}${text.slice((at % text.length) + 1)}`),
  review.map((text) => text.replace('admission.k8s.io/v1', 'admission.k8s.io/v1beta1')),
  review.map((text) => text.replace('"uid":', '"uuid":')),
  fc.nat(200_000).map((depth) => `${'['.repeat(depth)}${']'.repeat(depth)}`),
  fc.constantFrom('exclude.data', 'volumes', 'schedule', 'x').map((name) =>
    JSON.stringify(
      reviewOf({
        metadata: { annotations: { 'holdfast.dev/inject': 'true', [`holdfast.dev/${name}`]: 'ü'.repeat(1 << 20) } },
        spec: {},
      }),
    ),
  ),
);

export const anyBody: fc.Arbitrary<string> = fc.oneof(
  { weight: 30, arbitrary: review },
  { weight: 3, arbitrary: odd },
  {
    weight: 1,
    arbitrary: fc
      .tuple(metadata, containers('c', 200), volumes)
      .map(([more, list, vols]) =>
        JSON.stringify(
          reviewOf({ metadata: more, spec: { containers: list, volumes: vols } } as unknown as JsonObject),
        ),
      ),
  },
);

// ---------------------------------------------------------------------------------------------------------------------
// What has to hold

const settings = settingsOf();

export interface Tally {
  readonly [outcome: string]: number;
}

/** Holds the answer to one body against the invariants, and counts what came of it. */
export function checkAnswer(body: string, tally: Record<string, number>): void {
  const answer = respond(body, settings);
  if (answer.kind === 'malformed') {
    expect(answer.message.length).toBeGreaterThan(0);
    count(tally, 'malformed');
    return;
  }
  const { request: asked } = JSON.parse(body) as { readonly request: JsonObject };
  const { response } = JSON.parse(answer.body) as { readonly response: Response };
  expect(response.uid).toBe(asked['uid']);
  const object = asked['object'] as JsonObject;
  const isCreated = asked['operation'] === 'CREATE' && !(asked['subResource'] as string | undefined);
  if (!isCreated || injectOf(object) !== 'true') {
    expect(response).toMatchObject({ allowed: true });
    expect(response.patch).toBeUndefined();
    count(tally, 'left alone');
    return;
  }
  if (!response.allowed) {
    expect(response.patch).toBeUndefined();
    expect(response.status?.code).toBe(422);
    expect(response.status?.message).toMatch(/^holdfast: .+\. /s);
    expect((response.status?.message.length ?? 0) < 10_000).toBe(true);
    count(tally, 'refused');
    return;
  }
  for (const warning of response.warnings ?? []) expect(warning.length).toBeLessThanOrEqual(256);
  if (response.patch === undefined) {
    count(tally, 'warned');
    return;
  }
  const patched = applyPatch(object, patchOf(response));
  checkPod(object, patched, (asked['namespace'] as string | undefined) ?? '');
  const again = respond(
    JSON.stringify(reviewOf(patched, { namespace: (asked['namespace'] as string | undefined) ?? '' })),
    settings,
  );
  expect(again.kind === 'reviewed' && patchOf((JSON.parse(again.body) as { response: Response }).response)).toEqual([]);
  expect(again.kind === 'reviewed' && again.decision.kind).toBe('inject');
  count(tally, 'injected');
}

function count(tally: Record<string, number>, outcome: string): void {
  tally[outcome] = (tally[outcome] ?? 0) + 1;
}

function injectOf(object: unknown): unknown {
  const annotationsOf = (object as { metadata?: { annotations?: Record<string, unknown> } } | null)?.metadata
    ?.annotations;
  return typeof annotationsOf === 'object' &&
    annotationsOf !== null &&
    Object.hasOwn(annotationsOf, 'holdfast.dev/inject')
    ? annotationsOf['holdfast.dev/inject']
    : undefined;
}

interface Named {
  readonly name: string;
  readonly [key: string]: unknown;
}
interface OurContainer extends Named {
  readonly args: readonly string[];
  readonly volumeMounts: readonly (Named & { readonly mountPath: string; readonly readOnly?: boolean })[];
  readonly securityContext: {
    readonly runAsUser?: number;
    readonly runAsNonRoot: boolean;
    readonly capabilities: object;
  };
  readonly env: readonly Named[];
  readonly resources: { readonly requests?: object; readonly limits?: object };
  readonly restartPolicy?: string;
}

const ownNames: readonly string[] = [rehydrateContainer, agentContainer];
const ownVolumeNames: readonly string[] = Object.values(ownVolumes);
const ownKeys = [
  'holdfast.dev/status',
  'kubectl.kubernetes.io/default-container',
  'cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes',
];

/** The pod that came of a patch: what is ours is there and as it must be, and nothing else has changed. */
export function checkPod(before: JsonObject, after: JsonObject, namespace: string): void {
  const [specBefore, specAfter] = [before['spec'] as JsonObject, after['spec'] as JsonObject];
  const inits = specAfter['initContainers'] as unknown as readonly OurContainer[];
  const names = inits.map(({ name }) => name);
  const at = names.indexOf(rehydrateContainer);
  expect(names.filter((name) => ownNames.includes(name))).toEqual(ownNames);
  expect(names[at + 1]).toBe(agentContainer);
  expect(names.slice(at + 2).filter((name) => /^(istio|linkerd)-/.test(name))).toEqual([]);
  expect(withoutOwn(specAfter['initContainers'])).toEqual(withoutOwn(specBefore['initContainers']));

  const list = specAfter['volumes'] as unknown as readonly Named[];
  expect(new Set(list.map(({ name }) => name)).size).toBe(list.length);
  expect(withoutOwn(list)).toEqual(withoutOwn(specBefore['volumes']));

  const { initContainers: _i, volumes: _v, terminationGracePeriodSeconds: grace, ...rest } = specAfter;
  const { initContainers: _j, volumes: _w, terminationGracePeriodSeconds: graceBefore, ...restBefore } = specBefore;
  expect(rest).toEqual(restBefore);
  const [meta, metaBefore] = [after['metadata'], before['metadata']] as readonly JsonObject[] as [
    JsonObject,
    JsonObject,
  ];
  const annotationsAfter = meta['annotations'] as Readonly<Record<string, string>>;
  expect({ ...meta, annotations: without(annotationsAfter) }).toEqual({
    ...metaBefore,
    annotations: without(metaBefore['annotations'] as Readonly<Record<string, string>>),
  });
  if (grace !== graceBefore) {
    expect(annotationsAfter['holdfast.dev/grace-at-least']).toBeDefined();
    expect(grace as number).toBeGreaterThan((graceBefore as number | undefined) ?? 30);
  }

  const kept = (annotationsAfter['holdfast.dev/volumes'] as string).split(',');
  const [rehydrate, agent] = [inits[at], inits[at + 1]] as [OurContainer, OurContainer];
  for (const container of [rehydrate, agent]) {
    const { volumeMounts, securityContext: context, args, env: variables } = container;
    for (const mounted of volumeMounts) expect(list.map(({ name }) => name)).toContain(mounted.name);
    expect(new Set(volumeMounts.map(({ mountPath }) => mountPath)).size).toBe(volumeMounts.length);
    expect(volumeMounts.filter(({ mountPath }) => mountPath.startsWith('/volumes/')).map(({ name }) => name)).toEqual(
      kept,
    );
    expect(new Set(variables.map(({ name }) => name)).size).toBe(variables.length);
    expect(context).toMatchObject({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      privileged: false,
      seccompProfile: { type: 'RuntimeDefault' },
    });
    // PodSecurity: `restricted` for all but root, and root has no more than `baseline` admits.
    if (context.runAsUser === 0) {
      expect(context.capabilities).toEqual({ drop: ['ALL'], add: ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID'] });
    } else {
      expect(context.capabilities).toEqual({ drop: ['ALL'] });
      expect(context.runAsNonRoot).toBe(true);
    }
    // A LimitRange may have put one there between two calls; we never do.
    const stood = (specBefore['initContainers'] as readonly Named[] | undefined)?.some(
      ({ name }) => name === container.name,
    );
    const { requests, limits } = container.resources;
    if (stood !== true) expect(Object.keys({ ...requests, ...limits })).not.toContain('ephemeral-storage');
    expect(args[args.indexOf('--lineage') + 1]).toMatch(new RegExp(`^prod/${namespace}/[a-z]`));
    for (const argument of args) expect(argument.replaceAll('$$', '')).toMatch(/^(?:[^$]|\$\(HOLDFAST_[A-Z_]+\))*$/);
  }
  const modes = ({ volumeMounts }: OurContainer): readonly boolean[] =>
    volumeMounts.filter(({ mountPath }) => mountPath.startsWith('/volumes/')).map(({ readOnly }) => readOnly === true);
  expect(modes(rehydrate)).toEqual(kept.map(() => false));
  expect(modes(agent)).toEqual(kept.map(() => true));
  expect(agent).toMatchObject({ restartPolicy: 'Always', lifecycle: { preStop: { exec: {} } } });
  expect(rehydrate.restartPolicy).toBeUndefined();
}

function withoutOwn(list: unknown): readonly Named[] {
  return ((list ?? []) as readonly Named[]).filter(
    ({ name }) => !ownNames.includes(name) && !ownVolumeNames.includes(name),
  );
}

function without(given: Readonly<Record<string, string>>): object {
  return Object.fromEntries(Object.entries(given).filter(([key]) => !ownKeys.includes(key)));
}

/** Enough of each kind was met for the run to mean something. */
export function expectAllMet(tally: Tally): void {
  const total = Object.values(tally).reduce((sum, each) => sum + each, 0);
  for (const outcome of ['injected', 'refused', 'left alone', 'malformed']) {
    expect((tally[outcome] ?? 0) / total, JSON.stringify(tally)).toBeGreaterThan(0.03);
  }
}
