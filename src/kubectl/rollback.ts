/**
 * `kubectl holdfast rollback WORKLOAD --to WHICH`: its pods start again from an older checkpoint. Sets the annotation on the template, which
 * restarts the pods by the workload's own strategy, follows them, and shows their receipts.
 */
import { annotationPrefix, annotations } from '../contract/annotations.ts';
import { rehydrateContainer } from '../contract/pod-layout.ts';
import { parseDurationMs } from '../engine/model/duration.ts';
import { errorCatalogue, HoldfastError, isHoldfastError } from '../engine/model/errors.ts';
import { printable } from '../cli/print.ts';
import { isObject, type JsonObject } from '../webhook/json.ts';
import type { Cluster } from './cluster.ts';
import { explainPod } from './explanation.ts';
import type { KubectlHost } from './host.ts';
import { podsOfManifest } from './manifest-pods.ts';
import { getObject, listObjects, objectOf, textAt, valueAt } from './objects.ts';
import { type KubectlParsed, kubectlUsage } from './options.ts';
import { pastOf } from './pod-past.ts';
import { namespaceAnnotations, settingsOf } from './webhook-settings.ts';
import { workloadPath } from './workloads.ts';

const command = 'rollback';
const restoreAt = `${annotationPrefix}restore-at`;
const timeoutDefault = '10m';
const lookMs = 1000;

export async function rollback(host: KubectlHost, parsed: KubectlParsed): Promise<number> {
  const [text, more] = parsed.positionals;
  const to = parsed.text('to');
  if (text === undefined || more !== undefined || to === undefined)
    throw kubectlUsage(command, 'give KIND/NAME --to WHICH');
  const reading = annotations['restore-at'].parse(to);
  if (!('value' in reading)) throw kubectlUsage(command, `--to is ${JSON.stringify(to)}: ${reading.problem}`);
  const timeout = parsed.text('timeout') ?? timeoutDefault;
  const timeoutMs = parseDurationMs(timeout);
  if (timeoutMs === undefined)
    throw kubectlUsage(command, `--timeout is ${JSON.stringify(timeout)}, not a duration such as 10m`);
  const cluster = await host.connect({ kubeconfig: parsed.text('kubeconfig'), context: parsed.text('context') });
  const namespace = parsed.text('namespace') ?? cluster.namespace;
  const { path, what, kind } = workloadPath(command, text, namespace);
  if (kind !== 'deployment' && kind !== 'statefulset') {
    throw kubectlUsage(command, `${what}: only a Deployment or a StatefulSet starts its pods again by itself`);
  }
  const before = await getObject(cluster, path, `${what} in ${namespace}`, host.signal);
  if (textAt(before, 'spec', 'template', 'metadata', 'annotations', `${annotationPrefix}inject`) !== 'true') {
    throw new HoldfastError('E_NOT_FOUND', `${what} in ${namespace} is not protected`, {
      remedy: `See: kubectl holdfast explain ${text} -n ${namespace}`,
    });
  }
  if (textAt(before, 'spec', 'template', 'metadata', 'annotations', restoreAt) === to) {
    throw kubectlUsage(
      command,
      `${what} was told ${to} already, and each value counts once: name another, such as the time of the checkpoint`,
    );
  }
  await refuseWhatAdmissionWould(host, parsed, cluster, { before, what, namespace, to });
  const plan = `sets ${restoreAt}: "${to}" on ${what} in ${namespace}, and so starts its pods again from there`;
  if (!parsed.flag('yes')) {
    if (parsed.form === 'json')
      host.stdout.write(`${JSON.stringify({ what, namespace, to, done: false, pods: [] })}\n`);
    else host.stdout.write(`This ${plan}. With --yes it is done.\n`);
    return 0;
  }
  const patch = { spec: { template: { metadata: { annotations: { [restoreAt]: to } } } } };
  const options = { body: patch, contentType: 'application/merge-patch+json', signal: host.signal };
  const patched = objectOf(
    await cluster.request('PATCH', `${path}?fieldManager=kubectl-holdfast`, options),
    `patch ${what}`,
  );
  const pods = await follow(host, parsed, cluster, {
    path,
    what,
    namespace,
    generation: generationOf(patched),
    timeoutMs,
    to,
  });
  if (parsed.form === 'json') host.stdout.write(`${JSON.stringify({ what, namespace, to, done: true, pods })}\n`);
  return pods.some(({ failed }) => failed) ? errorCatalogue.E_BLOCKED.exit : 0;
}

/** A template whose pods are refused would leave the workload without any. Where the settings may not be read, admission says it later. */
async function refuseWhatAdmissionWould(
  host: KubectlHost,
  parsed: KubectlParsed,
  cluster: Cluster,
  {
    before,
    what,
    namespace,
    to,
  }: { readonly before: JsonObject; readonly what: string; readonly namespace: string; readonly to: string },
): Promise<void> {
  const settings = await settingsOf(host, parsed, async () => cluster).catch((error: unknown) => {
    if (isHoldfastError(error, 'E_CLUSTER_REFUSED')) return undefined;
    throw error;
  });
  const reading = podsOfManifest(before);
  if (settings === undefined || reading.kind !== 'pods') return;
  const ofNamespace = await namespaceAnnotations(cluster, namespace, host.signal);
  for (const { pod } of reading.pods) {
    const metadata = valueAt(pod, 'metadata');
    const given = valueAt(metadata, 'annotations');
    const both = { ...(isObject(given) ? given : {}), [restoreAt]: to };
    const changed = { ...pod, metadata: { ...(isObject(metadata) ? metadata : {}), annotations: both } };
    const { refusals } = explainPod(changed, namespace, settings, ofNamespace);
    const [first] = refusals;
    if (first === undefined) continue;
    throw new HoldfastError(
      'E_CLUSTER_REFUSED',
      `pods of ${what} would be refused: ${first.annotation}: ${first.reason}`,
      {
        remedy: `${first.remedy} Nothing was changed.`,
      },
    );
  }
}

interface Followed {
  readonly path: string;
  readonly what: string;
  readonly namespace: string;
  readonly generation: number;
  readonly timeoutMs: number;
  readonly to: string;
}

interface FollowedPod {
  readonly pod: string;
  readonly failed: boolean;
  readonly said: string;
}

/** Until every pod of the new template has its receipt, or one has failed. */
async function follow(
  host: KubectlHost,
  parsed: KubectlParsed,
  cluster: Cluster,
  { path, what, namespace, generation, timeoutMs, to }: Followed,
): Promise<readonly FollowedPod[]> {
  const { clock, signal } = host;
  const startedMs = clock.monotonicMs();
  const said = new Map<string, FollowedPod>();
  for (;;) {
    const now = await getObject(cluster, path, what, signal);
    const selector = selectorOf(now);
    const pods = await listObjects(cluster, `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`, {
      what: 'pods',
      selector,
      signal,
    });
    // Those that were made of the new template say so.
    for (const pod of pods.filter((each) => textAt(each, 'metadata', 'annotations', restoreAt) === to)) {
      const name = textAt(pod, 'metadata', 'name');
      const past = pastOf(pod);
      if (said.has(name) || (past.restore !== 'done' && past.restore !== 'failed')) continue;
      const receipt = past.lines[0] ?? 'no receipt';
      said.set(name, { pod: name, failed: past.restore === 'failed', said: receipt });
      if (parsed.form === 'text') host.stdout.write(`${name}: ${printable(receipt)}\n`);
    }
    const found = [...said.values()];
    if (found.some(({ failed }) => failed) || isRolledOut(now, generation)) return found;
    if (clock.monotonicMs() - startedMs > timeoutMs) {
      const failed = await failedCreations(host, cluster, namespace, now);
      throw new HoldfastError(
        'E_BLOCKED',
        `${what} is not through after ${timeoutMs / 1000} s: ${found.length} pods have started again${failed}`,
        {
          remedy: `See: kubectl rollout status ${path.split('/').slice(-2).join('/')} -n ${namespace}, and the log of the container ${rehydrateContainer}.`,
        },
      );
    }
    await clock.wait(lookMs, { signal });
  }
}

/** What the controllers of a workload say of pods that they could not create; empty where they say nothing, or the caller may not know. */
async function failedCreations(
  { signal }: KubectlHost,
  cluster: Cluster,
  namespace: string,
  workload: JsonObject,
): Promise<string> {
  const name = textAt(workload, 'metadata', 'name');
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/events`;
  const events = await listObjects(cluster, path, { what: 'events', signal }).catch((error: unknown) => {
    if (isHoldfastError(error, 'E_CLUSTER_REFUSED')) return [];
    throw error;
  });
  const own = events.filter(
    (event) => textAt(event, 'reason') === 'FailedCreate' && textAt(event, 'involvedObject', 'name').startsWith(name),
  );
  const last = own.at(-1);
  return last === undefined ? '' : `; its controller says: ${textAt(last, 'message').slice(0, 600)}`;
}

function selectorOf(workload: JsonObject): string {
  const labels = valueAt(workload, 'spec', 'selector', 'matchLabels');
  return isObject(labels)
    ? Object.entries(labels)
        .map(([key, value]) => `${key}=${String(value)}`)
        .join(',')
    : '';
}

function generationOf(object: JsonObject): number {
  const value = valueAt(object, 'metadata', 'generation');
  return typeof value === 'number' ? value : 0;
}

/** As `kubectl rollout status` judges. */
function isRolledOut(workload: JsonObject, generation: number): boolean {
  const count = (...path: readonly string[]): number => {
    const value = valueAt(workload, ...path);
    return typeof value === 'number' ? value : 0;
  };
  if (count('status', 'observedGeneration') < generation) return false;
  const wanted = count('spec', 'replicas');
  const isNewOnly = count('status', 'updatedReplicas') >= wanted && count('status', 'replicas') <= Math.max(wanted, 0);
  return isNewOnly && count('status', 'readyReplicas') >= wanted;
}
