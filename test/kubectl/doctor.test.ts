import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeAuthority } from '../../src/edge/host/make-certificate.ts';
import {
  clusterClockFinding,
  reachFinding,
  registrationFindings,
  replicaFinding,
  versionFindings,
} from '../../src/kubectl/cluster-findings.ts';
import { KubeServer } from '../support/kube-server.ts';
import { podOf } from '../webhook/pods.ts';
import { runKubectl } from './run-kubectl.ts';

const dayMs = 86_400_000;

describe('findings', () => {
  it.each([
    ['v1.29.0', 'ok'],
    ['v1.36.3+k3s1', 'ok'],
    ['v2.0.0', 'ok'],
    ['v1.28.15', 'failed'],
    ['nonsense', 'failed'],
  ])('a Kubernetes of %s', (version, state) => {
    const [server, nodes] = versionFindings(version, [{ node: 'n1', version }]);
    expect([server?.state, nodes?.state]).toEqual([state, state]);
  });

  it.each<readonly [string, number[], string]>([
    ['none', [], 'failed'],
    ['an expired one', [-dayMs], 'failed'],
    ['one that ends soon', [3 * dayMs], 'warning'],
    ['one that ends late beside an expired one', [-dayMs, 300 * dayMs], 'ok'],
  ])('a CA: %s', (_, ends, state) => {
    const configuration = { webhooks: [{ failurePolicy: 'Fail' }] };
    const findings = registrationFindings(configuration, { nowMs: 0, authoritiesUntilMs: ends });
    expect(findings.find(({ check }) => check === 'certificate')?.state).toBe(state);
  });

  it('a failurePolicy that lets pods start empty is told', () => {
    const [found] = registrationFindings(
      { webhooks: [{ failurePolicy: 'Ignore' }] },
      { nowMs: 0, authoritiesUntilMs: [1e15] },
    );
    expect(found).toMatchObject({ state: 'warning', seen: expect.stringContaining('start empty') });
  });

  it.each([
    ['injected', 201, { metadata: { annotations: { 'holdfast.dev/status': '{}' } } }, 'ok'],
    ['not injected', 201, { metadata: {} }, 'failed'],
    [
      'a webhook that cannot be reached',
      500,
      { message: 'Internal error: failed calling webhook "inject.holdfast.dev": x' },
      'failed',
    ],
    [
      'one that refuses',
      422,
      { message: 'admission webhook "inject.holdfast.dev" denied the request: holdfast: x' },
      'ok',
    ],
    ['another that refuses', 403, { message: 'pods is forbidden' }, 'unknown'],
  ])('a trial pod: %s', (_, status, object, state) => {
    expect(reachFinding({ status, object }).state).toBe(state);
  });

  it('replicas and clocks', () => {
    const deployment = (ready: number, wanted = 2) => ({
      spec: { replicas: wanted },
      status: { readyReplicas: ready },
    });
    expect(replicaFinding(undefined).state).toBe('failed');
    expect(replicaFinding(deployment(0)).state).toBe('failed');
    expect(replicaFinding(deployment(1)).state).toBe('warning');
    expect(replicaFinding(deployment(2)).state).toBe('ok');
    expect(replicaFinding(deployment(1, 1)).state).toBe('warning');
    expect(clusterClockFinding(0, 2000).state).toBe('ok');
    expect(clusterClockFinding(0, 90_000).state).toBe('warning');
    expect(clusterClockFinding(undefined, 0).state).toBe('unknown');
  });
});

describe('of a cluster', () => {
  let kube: KubeServer;
  beforeEach(async () => {
    kube = await KubeServer.start();
    const nowMs = Date.now();
    const { cert } = makeAuthority({ validFromMs: nowMs - 1000, validUntilMs: nowMs + 300 * dayMs });
    kube.put('/version', { gitVersion: 'v1.36.3' });
    kube.put('/api/v1/nodes?limit=500', {
      items: [{ metadata: { name: 'n1' }, status: { nodeInfo: { kubeletVersion: 'v1.36.3' } } }],
    });
    kube.put('/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations?limit=500', {
      items: [
        {
          webhooks: [
            {
              name: 'inject.holdfast.dev',
              failurePolicy: 'Fail',
              clientConfig: {
                service: { namespace: 'holdfast', name: 'holdfast-webhook' },
                caBundle: Buffer.from(cert).toString('base64'),
              },
            },
          ],
        },
      ],
    });
    kube.put('/apis/apps/v1/namespaces/holdfast/deployments/holdfast-webhook', {
      spec: { replicas: 2 },
      status: { readyReplicas: 2 },
    });
    const stores = { default: { address: 's3://bucket', namespaces: ['team-a'] } };
    kube.put('/api/v1/namespaces/holdfast/configmaps/holdfast-webhook', {
      data: { 'settings.json': JSON.stringify({ cluster: 'prod', image: 'i', stores }) },
    });
    kube.put('/api/v1/pods?limit=500', { items: [] });
    kube.answer = (method, path, body) => {
      if (method !== 'POST') return undefined;
      if (path.endsWith('/selfsubjectaccessreviews'))
        return { status: 201, object: { ...body, status: { allowed: true } } };
      if (!path.endsWith('/namespaces/team-a/pods?dryRun=All')) return undefined;
      body['metadata'].annotations['holdfast.dev/status'] = '{}';
      return { status: 201, object: body };
    };
  });
  afterEach(() => kube[Symbol.asyncDispose]());

  async function findings(): Promise<{ code: number | null; states: Record<string, string>; text: string }> {
    const kubeconfig = kube.writeKubeconfig('team-a');
    const { code, stdout } = await runKubectl(['doctor', '-o', 'json', '--kubeconfig', kubeconfig]);
    const answer = JSON.parse(stdout) as { findings: { check: string; state: string }[] };
    return {
      code,
      states: Object.fromEntries(answer.findings.map(({ check, state }) => [check, state])),
      text: stdout,
    };
  }

  it('finds nothing wrong where nothing is', async () => {
    const { code, states } = await findings();
    expect(code).toBe(0);
    expect(states).toEqual({
      kubernetes: 'ok',
      nodes: 'ok',
      clock: 'ok',
      webhook: 'ok',
      certificate: 'ok',
      replicas: 'ok',
      settings: 'ok',
      'store default': 'unknown',
      admission: 'ok',
      pods: 'ok',
      'your rights': 'ok',
    });
    // Nothing was created, changed or deleted.
    expect(
      kube.requests.filter(({ method, path }) => method !== 'GET' && !/dryRun=All|selfsubject/.test(path)),
    ).toEqual([]);
  });

  it('finds pods that ask for protection and have none', async () => {
    kube.put('/api/v1/pods?limit=500', { items: [podOf()] });
    const { code, states, text } = await findings();
    expect(code).toBe(31);
    expect(states['pods']).toBe('failed');
    expect(text).toContain('team-a/app');
  });

  it('says what this identity may not ask, and goes on', async () => {
    kube.mayDo = (_, path) => !/nodes|pods\?limit|configmaps/.test(path);
    const { code, states } = await findings();
    expect(code).toBe(0);
    expect(states).toMatchObject({ nodes: 'unknown', pods: 'unknown', settings: 'unknown', admission: 'ok' });
  });

  it('without the webhook says how to install it', async () => {
    kube.put('/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations?limit=500', { items: [] });
    const { code, text } = await findings();
    expect(code).toBe(31);
    expect(text).toContain('helm install');
  });
});
