/** `kubectl holdfast doctor`: whether a cluster is fit for Holdfast, and Holdfast for the cluster. Changes nothing: the trial pod is a dry run. */
import { annotationPrefix } from '../contract/annotations.ts';
import { agentContainer } from '../contract/pod-layout.ts';
import { type Finding, finding } from '../cli/findings.ts';
import { printable, styled } from '../cli/print.ts';
import { errorCatalogue, isHoldfastError } from '../engine/model/errors.ts';
import { mayUse } from '../webhook/settings.ts';
import type { Cluster } from './cluster.ts';
import {
  clusterClockFinding,
  reachFinding,
  registrationFindings,
  replicaFinding,
  rightsFinding,
  unprotectedFinding,
  versionFindings,
} from './cluster-findings.ts';
import type { KubectlHost } from './host.ts';
import { findObject, listObjects, objectOf, objectsAt, textAt } from './objects.ts';
import { type KubectlParsed, kubectlUsage } from './options.ts';
import { podId } from './inventory-rows.ts';
import { findWebhook, settingsAt, type WebhookPlace } from './webhook-settings.ts';

export async function doctor(host: KubectlHost, parsed: KubectlParsed): Promise<number> {
  const [unexpected] = parsed.positionals;
  if (unexpected !== undefined) throw kubectlUsage('doctor', `doctor takes no argument: ${unexpected}`);
  const cluster = await host.connect({ kubeconfig: parsed.text('kubeconfig'), context: parsed.text('context') });
  const namespace = parsed.text('namespace') ?? cluster.namespace;
  const { signal } = host;
  // The first question is not caught: without an answer there is nothing to examine.
  const version = await cluster.request('GET', '/version', { signal });
  const findings: Finding[] = [
    ...versionFindings(textAt(objectOf(version, 'ask for the version'), 'gitVersion'), await kubelets(cluster, signal)),
    clusterClockFinding(version.serverMs, host.clock.nowMs()),
  ];
  const place = await attempt(findings, 'webhook', async () => ({ found: await findWebhook(cluster, signal) }));
  if (place !== undefined) findings.push(...(await webhookFindings(host, cluster, place.found, namespace)));
  await attempt(findings, 'pods', async () => findings.push(await podsFinding(cluster, signal)));
  await attempt(findings, 'your rights', async () =>
    findings.push(rightsFinding(await rights(cluster, namespace, signal))),
  );
  const healthy = !findings.some(({ state }) => state === 'failed');
  if (parsed.form === 'json') {
    host.stdout.write(`${JSON.stringify({ context: cluster.context, server: cluster.server, healthy, findings })}\n`);
  } else print(host, cluster, findings);
  return healthy ? 0 : errorCatalogue.E_UNHEALTHY.exit;
}

/** What this identity may not ask is unknown, not wrong. */
async function attempt<Result>(
  findings: Finding[],
  check: string,
  ask: () => Promise<Result>,
): Promise<Result | undefined> {
  try {
    return await ask();
  } catch (error) {
    if (!isHoldfastError(error, 'E_CLUSTER_REFUSED', 'E_USAGE')) throw error;
    findings.push(finding(check, 'unknown', error.message, error.remedy));
    return undefined;
  }
}

async function kubelets(
  cluster: Cluster,
  signal: AbortSignal,
): Promise<readonly { readonly node: string; readonly version: string }[]> {
  try {
    const nodes = await listObjects(cluster, '/api/v1/nodes', { what: 'nodes', signal });
    return nodes.map((node) => ({
      node: textAt(node, 'metadata', 'name'),
      version: textAt(node, 'status', 'nodeInfo', 'kubeletVersion'),
    }));
  } catch (error) {
    if (!isHoldfastError(error, 'E_CLUSTER_REFUSED')) throw error;
    return [];
  }
}

async function webhookFindings(
  host: KubectlHost,
  cluster: Cluster,
  place: WebhookPlace | undefined,
  namespace: string,
): Promise<readonly Finding[]> {
  const { signal, clock } = host;
  const findings: Finding[] = [];
  const bundle = textAt(objectsAt(place?.configuration, 'webhooks')[0], 'clientConfig', 'caBundle');
  const authoritiesUntilMs = host.authoritiesUntilMs(Buffer.from(bundle, 'base64').toString('utf8'));
  findings.push(...registrationFindings(place?.configuration, { nowMs: clock.nowMs(), authoritiesUntilMs }));
  if (place === undefined) return findings;
  const deployment = `/apis/apps/v1/namespaces/${place.namespace}/deployments/${place.name}`;
  await attempt(findings, 'replicas', async () =>
    findings.push(replicaFinding(await findObject(cluster, deployment, `Deployment ${place.name}`, signal))),
  );
  await attempt(findings, 'settings', async () => {
    const settings = await settingsAt(cluster, place, signal);
    const usable = [...settings.stores].filter(([, each]) => mayUse(each.namespaces, namespace)).map(([name]) => name);
    findings.push(
      usable.length > 0
        ? finding('settings', 'ok', `cluster ${settings.cluster}; stores for ${namespace}: ${usable.join(', ')}`)
        : finding(
            'settings',
            'warning',
            `no store is for the namespace ${namespace}`,
            'Add it to a store: stores.NAME.namespaces.',
          ),
    );
    for (const name of usable) {
      const address = settings.stores.get(name)?.address ?? '';
      findings.push(
        finding(
          `store ${name}`,
          'unknown',
          `not looked at from here`,
          `Run: holdfast doctor --store '${address}' --key-file FILE`,
        ),
      );
    }
  });
  await attempt(findings, 'admission', async () => findings.push(await trial(cluster, namespace, signal)));
  return findings;
}

/** A pod as simple as it may be, which the API server admits and does not store. */
async function trial(cluster: Cluster, namespace: string, signal: AbortSignal): Promise<Finding> {
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'holdfast-doctor',
      annotations: { [`${annotationPrefix}inject`]: 'true', [`${annotationPrefix}volumes`]: 'data' },
    },
    spec: {
      automountServiceAccountToken: false,
      restartPolicy: 'Never',
      securityContext: {
        runAsNonRoot: true,
        runAsUser: 65_532,
        runAsGroup: 65_532,
        seccompProfile: { type: 'RuntimeDefault' },
      },
      containers: [
        {
          name: 'trial',
          image: 'holdfast.invalid/trial',
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
          resources: { requests: { cpu: '1m', memory: '1Mi' }, limits: { cpu: '10m', memory: '16Mi' } },
          volumeMounts: [{ name: 'data', mountPath: '/data' }],
        },
      ],
      volumes: [{ name: 'data', emptyDir: {} }],
    },
  };
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods?dryRun=All`;
  return reachFinding(await cluster.request('POST', path, { body: pod, signal }));
}

async function podsFinding(cluster: Cluster, signal: AbortSignal): Promise<Finding> {
  const pods = await listObjects(cluster, '/api/v1/pods', { what: 'pods of all namespaces', signal });
  const opted = pods.filter(
    (pod) =>
      textAt(pod, 'metadata', 'annotations', `${annotationPrefix}inject`) === 'true' &&
      !['Succeeded', 'Failed'].includes(textAt(pod, 'status', 'phase')),
  );
  const without = opted.filter(
    (pod) => !objectsAt(pod, 'spec', 'initContainers').some((each) => textAt(each, 'name') === agentContainer),
  );
  return unprotectedFinding(without.map(podId), opted.length);
}

/** What each command needs, and whether the caller may. */
const needed = [
  { verb: 'list', resource: 'pods', for: 'inventory' },
  { verb: 'create', resource: 'pods', subresource: 'exec', for: 'checkpoint, inventory --live' },
  { verb: 'patch', group: 'apps', resource: 'deployments', for: 'rollback' },
  { verb: 'patch', group: 'apps', resource: 'statefulsets', for: 'rollback' },
] as const;

async function rights(
  cluster: Cluster,
  namespace: string,
  signal: AbortSignal,
): Promise<readonly { readonly right: string; readonly allowed: boolean; readonly for: string }[]> {
  const found: { right: string; allowed: boolean; for: string }[] = [];
  for (const { for: command, ...attributes } of needed) {
    const body = {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SelfSubjectAccessReview',
      spec: { resourceAttributes: { namespace, ...attributes } },
    };
    const path = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews';
    const review = objectOf(await cluster.request('POST', path, { body, signal }), 'ask for your rights');
    const status = review['status'] as { readonly allowed?: boolean } | undefined;
    const resource =
      'subresource' in attributes ? `${attributes.resource}/${attributes.subresource}` : attributes.resource;
    found.push({ right: `${attributes.verb} ${resource}`, allowed: status?.allowed === true, for: command });
  }
  return found;
}

function print(host: KubectlHost, cluster: Cluster, findings: readonly Finding[]): void {
  const { stdout } = host;
  stdout.write(`${styled(stdout, 'bold', printable(`${cluster.context} (${cluster.server})`))}\n\n`);
  const width = Math.max(...findings.map(({ check }) => check.length));
  const colours = { ok: 'green', warning: 'yellow', failed: 'red', unknown: 'gray' } as const;
  for (const { check, state, seen, remedy } of findings) {
    stdout.write(`${styled(stdout, colours[state], state.padEnd(7))}  ${check.padEnd(width)}  ${printable(seen)}\n`);
    if (remedy !== undefined && state !== 'ok') stdout.write(`${' '.repeat(width + 11)}${printable(remedy)}\n`);
  }
}
