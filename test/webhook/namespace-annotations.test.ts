import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { InClusterApi, inClusterPlaces } from '../../src/edge/kube/in-cluster-api.ts';
import { gonePath } from '../../src/contract/gone-question.ts';
import { decide } from '../../src/webhook/decide.ts';
import type { Injection } from '../../src/webhook/decision.ts';
import type { JsonObject } from '../../src/webhook/json.ts';
import { NamespaceAnnotations } from '../../src/webhook/namespace-annotations.ts';
import { ManualClock } from '../support/capture-fixture.ts';
import { PodApiServer } from '../support/pod-api-server.ts';
import type { Response } from './golden.ts';
import { podOf, requestOf, reviewOf, settingsOf, someSettings } from './pods.ts';
import { startWebhookProcess, type WebhookProcess } from './webhook-process.ts';

type Annotations = Readonly<Record<string, string>>;

function prefixed(annotations: Annotations): Annotations {
  return Object.fromEntries(Object.entries(annotations).map(([name, text]) => [`holdfast.dev/${name}`, text]));
}

function decided(ofNamespace: Annotations, pod: Annotations = {}, settings: JsonObject = {}) {
  const more = { ...someSettings, ...settings };
  return decide(requestOf(podOf({ annotations: pod })), settingsOf(more), prefixed(ofNamespace));
}

function injectionOf(...given: Parameters<typeof decided>): Injection {
  const decision = decided(...given);
  if (decision.kind !== 'inject') throw new Error(JSON.stringify(decision));
  return decision.injection;
}

function refusedFor(...given: Parameters<typeof decided>): readonly string[] {
  const decision = decided(...given);
  return decision.kind === 'refuse'
    ? decision.refusals.map(({ annotation, reason }) => `${annotation}: ${reason}`)
    : [];
}

describe('annotations of the namespace', () => {
  it('count where the pod says nothing, before the settings for that namespace, and say so in the status', () => {
    const settings = { namespaces: { 'team-a': { schedule: '3s', rpo: '30s' } } };
    const injection = injectionOf({ schedule: '2s' }, {}, settings);
    expect(injection).toMatchObject({ schedule: '2s', rpo: '30s', origins: { schedule: 'namespace-annotation' } });
    expect(injectionOf({ schedule: '2s' }, { schedule: '1s' }, settings)).toMatchObject({
      schedule: '1s',
      origins: {},
    });
  });

  it('for one volume count as well', () => {
    expect(injectionOf({ 'exclude.data': '*.tmp' }).selection.exclude).toEqual(['*.tmp']);
  });

  it('that cannot be read refuse the pods that opted in, and name the namespace', () => {
    expect(refusedFor({ schedule: 'often' })).toEqual([
      'holdfast.dev/schedule of the namespace team-a: not a duration',
    ]);
    expect(refusedFor({ shedule: '1s' })[0]).toMatch(/there is no such annotation/);
    expect(decided({ schedule: 'often' }, { inject: 'false' })).toMatchObject({ kind: 'skip' });
  });

  it.each(['inject', 'slot', 'restore-at'])('cannot say %s, which counts on a pod only', (name) => {
    expect(refusedFor({ [name]: name === 'slot' ? '0' : 'true' })[0]).toMatch(/counts on a pod only/);
  });

  it('do not change the namespace or the cluster of a lineage', () => {
    expect(refusedFor({ lineage: 'prod/team-b/statefulset/db' })[0]).toMatch(/not KIND\/NAME/);
    expect(injectionOf({ lineage: 'statefulset/db' }).lineage.workload).toBe('prod/team-a/statefulset/db');
  });

  it('name only stores and policies that are for the namespace', () => {
    const settings = {
      stores: {
        default: { address: 's3://checkpoints', namespaces: ['*'] },
        'team-b': { address: 's3://team-b', namespaces: ['team-b'] },
      },
      policies: { gold: { namespaces: ['team-b'], annotations: {} } },
    };
    expect(refusedFor({ store: 'team-b' }, {}, settings)[0]).toMatch(/not for the namespace team-a/);
    expect(refusedFor({ policy: 'gold' }, {}, settings)[0]).toMatch(/not for the namespace team-a/);
  });

  it('choose the image only where pods may, since it gets the keys', () => {
    const image = { image: 'registry.example/mine:2' };
    expect(refusedFor(image)[0]).toMatch(/do not let pods choose the image/);
    expect(injectionOf(image, {}, { imageOverride: true }).image).toBe('registry.example/mine:2');
    const bySettings = { namespaces: { 'team-a': image } };
    expect(injectionOf({}, {}, bySettings).image).toBe('registry.example/mine:2');
  });
});

describe('the namespace', () => {
  let server: PodApiServer;
  let api: InClusterApi;
  let clock: ManualClock;
  let namespaces: NamespaceAnnotations;
  beforeAll(async () => {
    server = await PodApiServer.start();
    api = new InClusterApi(inClusterPlaces(server.env));
  });
  afterAll(async () => {
    api[Symbol.dispose]();
    await server[Symbol.asyncDispose]();
  });
  beforeEach(() => {
    clock = new ManualClock();
    namespaces = new NamespaceAnnotations(api, clock);
    server.asked.length = 0;
    server.answer = () => 'as-always';
    server.namespaces.set('team-a', { 'holdfast.dev/schedule': '2s', other: 'x' });
  });

  it('is asked for once in a moment, however many pods come, and anew after it', async () => {
    const all = await Promise.all(Array.from({ length: 20 }, () => namespaces.of('team-a')));
    for (const annotations of all) expect(annotations).toEqual({ 'holdfast.dev/schedule': '2s' });
    expect(await namespaces.of('team-a')).toEqual({ 'holdfast.dev/schedule': '2s' });
    expect(server.asked).toHaveLength(1);
    server.namespaces.set('team-a', { 'holdfast.dev/schedule': '3s' });
    clock.ms += 1000;
    expect(await namespaces.of('team-a')).toEqual({ 'holdfast.dev/schedule': '3s' });
  });

  it('counts as it was for a while when the API server does not answer, and then no longer', async () => {
    await namespaces.of('team-a');
    server.answer = () => 500;
    clock.ms += 60_000;
    expect(await namespaces.of('team-a')).toEqual({ 'holdfast.dev/schedule': '2s' });
    clock.ms += 600_000;
    await expect(namespaces.of('team-a')).rejects.toMatchObject({ code: 'E_CLUSTER_UNREACHABLE' });
    await expect(namespaces.of('team-b')).rejects.toMatchObject({ code: 'E_CLUSTER_UNREACHABLE' });
    server.answer = () => 403;
    await expect(namespaces.of('team-b')).rejects.toMatchObject({ code: 'E_CLUSTER_REFUSED' });
  });

  it('is waited for two seconds, and is unknown then, or as it was a while ago', async () => {
    await namespaces.of('team-a');
    clock.ms += 1000;
    server.answer = () => undefined;
    const [known, unknown] = await Promise.allSettled([namespaces.of('team-a'), namespaces.of('team-b')]);
    expect(known).toMatchObject({ value: { 'holdfast.dev/schedule': '2s' } });
    expect(unknown).toMatchObject({ reason: { code: 'E_CLUSTER_UNREACHABLE' } });
    expect(String((unknown as PromiseRejectedResult).reason)).toContain('team-b');
  });

  it('that is being deleted says nothing', async () => {
    expect(await namespaces.of('gone')).toEqual({});
  });
});

describe('the webhook', () => {
  let server: PodApiServer;
  let webhook: WebhookProcess;
  beforeAll(async () => {
    server = await PodApiServer.start();
    webhook = await startWebhookProcess(
      someSettings,
      ['--namespace-defaults', '--pod-service', 'holdfast'],
      server.env,
    );
  });
  afterAll(async () => {
    await webhook[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });

  const review = (annotations: Annotations = {}): string => JSON.stringify(reviewOf(podOf({ annotations })));

  it('asks for the namespace of pods that opted in, and for no other', async () => {
    server.namespaces.set('team-a', { 'holdfast.dev/schedule': '7s' });
    expect((await webhook.ask('/mutate', { body: review({ inject: 'false' }) })).status).toBe(200);
    expect(server.asked).toEqual([]);
    const { status, body } = await webhook.ask('/mutate', { body: review() });
    expect(status).toBe(200);
    const { patch } = (JSON.parse(body) as { response: Response }).response;
    expect(Buffer.from(patch as string, 'base64').toString()).toContain('7s');
    expect(server.asked).toEqual([{ method: 'GET', path: '/api/v1/namespaces/team-a' }]);
  });

  it('does not wait behind what pods ask, however many do while the API server reviews no token', async () => {
    server.answer = ({ path }) => (path.includes('tokenreviews') ? undefined : 'as-always');
    const ask = { body: '{}', headers: { authorization: 'Bearer a.b.c' } };
    // Nobody waits for them: they are given up after 4.5 s.
    void Promise.allSettled(Array.from({ length: 40 }, () => webhook.ask(gonePath, ask)));
    await expect.poll(() => server.asked.filter(({ path }) => path.includes('tokenreviews')).length).toBe(16);
    const pod = reviewOf(podOf(), { namespace: 'team-y' });
    expect((await webhook.ask('/mutate', { body: JSON.stringify(pod) })).status).toBe(200);
  });

  it('answers with an error where it cannot know them, so that the failure policy decides', async () => {
    server.answer = () => 500;
    const logged = webhook.logged('not-reviewed');
    const pod = { ...reviewOf(podOf(), { namespace: 'team-z' }) };
    const { status, body } = await webhook.ask('/mutate', { body: JSON.stringify(pod) });
    expect(status).toBe(503);
    expect(body).toContain('team-z');
    expect(await logged).toMatchObject({ level: 'warn', code: 'E_CLUSTER_UNREACHABLE' });
    expect((await webhook.ask('/mutate', { body: review({ inject: 'false' }) })).status).toBe(200);
  });
});
