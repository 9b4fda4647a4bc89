/** The webhook in a real API server: what it asks, when nobody answers, and whether it takes what is answered. */
import fc from 'fast-check';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { agentContainer } from '../../src/contract/pod-layout.ts';
import { plausiblePod } from '../webhook/review-property.ts';
import { ApiError, type Resource } from './harness/api.ts';
import { Site } from './harness/site.ts';
import { holdfastNamespace, installHoldfast } from './scenario/holdfast.ts';
import { Scene } from './scenario/scene.ts';
import { workload } from './scenario/workloads.ts';

const site = Site.current();
const deployment = `/apis/apps/v1/namespaces/${holdfastNamespace}/deployments/holdfast-webhook`;

beforeAll(() => installHoldfast(site));

const bare = (name: string, more: object = {}): Resource => workload('Pod', { name, image: site.facts.image, ...more });

/** Creates it and says what came: the pod, or why not. */
async function tryPod(scene: Scene, pod: Resource, query = ''): Promise<Resource | ApiError> {
  try {
    return await site.api.create(`${scene.path('pods')}${query}`, pod);
  } catch (error) {
    if (error instanceof ApiError) return error;
    throw error;
  }
}

describe('while the webhook is down', () => {
  async function scale(replicas: number): Promise<void> {
    await site.api.patch(deployment, { spec: { replicas } });
    await site.api.until(`${replicas} webhooks`, deployment, 120, (found) =>
      (found?.status.readyReplicas ?? 0) === replicas && (found?.status.replicas ?? 0) === replicas ? true : undefined,
    );
    if (replicas > 0) return;
    // Those that are told to end answer for a while.
    const pods = `/api/v1/namespaces/${holdfastNamespace}/pods`;
    await site.api.until('the end of all webhooks', pods, 60, (list) => (list.items.length === 0 ? true : undefined));
  }
  afterEach(async () => {
    await scale(2);
    installHoldfast(site);
  });

  test.each(['Fail', 'Ignore'] as const)('with failurePolicy %s', async (failurePolicy) => {
    await using scene = Scene.open('down');
    installHoldfast(site, { webhook: { failurePolicy } });
    await scale(0);
    const refused = await tryPod(scene, bare('protected'));
    const other = await tryPod(
      scene,
      bare('other', { annotations: { inject: null, volumes: null, schedule: null, 'handoff-wait': null } }),
    );
    // Nobody asks about it.
    expect(other).toMatchObject({ metadata: { name: 'other' } });
    if (failurePolicy === 'Fail') {
      expect(refused).toBeInstanceOf(ApiError);
      expect(String(refused)).toContain('failed calling webhook "inject.holdfast.dev"');
    } else {
      expect(refused).toMatchObject({ metadata: { name: 'protected' } });
      expect((refused as Resource).spec.initContainers).toBeUndefined();
    }
  });
});

test('a namespace that is restricted takes what is injected', async () => {
  await using scene = Scene.open('restricted', { 'pod-security.kubernetes.io/enforce': 'restricted' });
  scene.run('Deployment', { name: 'app' });
  const first = await scene.only('app');
  const written = first.write('before');
  await first.delete();
  const second = await scene.only('app', [first]);
  expect(second.data().digest).toBe(written.digest);
});

test('a pod that asks for what cannot be is refused, and whoever creates it reads why', async () => {
  await using scene = Scene.open('refused');
  const refused = await tryPod(scene, bare('app', { annotations: { schedule: 'often' } }));
  expect(String(refused)).toContain('holdfast.dev/schedule');
  expect(String(refused)).toContain('often');
});

test('what the webhook makes of generated pods, the API server takes', async () => {
  await using scene = Scene.open('generated');
  let injected = 0;
  const tally: Record<string, number> = {};
  const property = fc.asyncProperty(plausiblePod, async (generated) => {
    const pod = asCreated(generated as Resource);
    const { annotations } = pod.metadata;
    const without = { ...pod, metadata: { ...pod.metadata, annotations: {} } };
    // What the API server itself does not take says nothing.
    if ((await tryPod(scene, without, '?dryRun=All')) instanceof ApiError) {
      tally['invalid'] = (tally['invalid'] ?? 0) + 1;
      return;
    }
    const answer = await tryPod(scene, { ...pod, metadata: { ...pod.metadata, annotations } }, '?dryRun=All');
    if (answer instanceof ApiError) {
      // A refusal of ours is an answer as good as any; one of the API server would be a patch that it does not take.
      expect(answer.message, JSON.stringify(pod)).toContain(
        'admission webhook "inject.holdfast.dev" denied the request',
      );
      tally['refused'] = (tally['refused'] ?? 0) + 1;
      return;
    }
    expect(answer.spec.initContainers.map(({ name }: Resource) => name)).toContain(agentContainer);
    injected++;
  });
  await fc.assert(property, { numRuns: 150, seed: 6 });
  expect(injected, JSON.stringify(tally)).toBeGreaterThan(40);
});

/** As somebody may create it: without an owner that is not there, and with a name for each. */
function asCreated(pod: Resource): Resource {
  const { ownerReferences: _, annotations, ...rest } = pod.metadata;
  // The kubelet alone makes pods that mirror what it runs.
  const { 'kubernetes.io/config.mirror': __, ...others } = annotations;
  const metadata = { ...rest, annotations: others };
  return { apiVersion: 'v1', kind: 'Pod', metadata: { ...metadata, name: 'web-1' }, spec: pod.spec };
}
