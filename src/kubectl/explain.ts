/** `kubectl holdfast explain`: what would be injected into a pod, what it would be restored from, and why not. Changes nothing. */
import { toLineageName } from '../engine/model/ids.ts';
import { printable, styled } from '../cli/print.ts';
import { isObject, type JsonObject } from '../webhook/json.ts';
import type { Cluster } from './cluster.ts';
import { type Explanation, type ExplainedInjection, explainPod } from './explanation.ts';
import type { KubectlHost } from './host.ts';
import { type ManifestPod, manifestsIn, podsOfManifest } from './manifest-pods.ts';
import { getObject } from './objects.ts';
import { type KubectlParsed, kubectlUsage } from './options.ts';
import { type PodPast, pastOf } from './pod-past.ts';
import { namespaceAnnotations, settingsOf } from './webhook-settings.ts';
import { workloadPath } from './workloads.ts';

const command = 'explain';

interface Explained {
  readonly what: string;
  readonly namespace: string;
  readonly explanation: Explanation;
  readonly restore: Restore | null;
  /** Of a pod that exists: what has happened to it. */
  readonly past: PodPast | null;
}

/** What a start would bring back. known: the checkpoint. Otherwise why nothing can be said. */
type Restore =
  | { readonly known: true; readonly checkpoint: Readonly<Record<string, unknown>> | null; readonly said: string }
  | { readonly known: false; readonly why: string };

export async function explain(host: KubectlHost, parsed: KubectlParsed): Promise<number> {
  let connected: Promise<Cluster> | undefined;
  const connect = (): Promise<Cluster> =>
    (connected ??= host.connect({ kubeconfig: parsed.text('kubeconfig'), context: parsed.text('context') }));
  const needsCluster = parsed.text('filename') === undefined || parsed.text('settings') === undefined;
  const cluster = needsCluster ? await connect() : undefined;
  const settings = await settingsOf(host, parsed, connect);
  const otherwise = parsed.text('namespace') ?? cluster?.namespace ?? 'default';
  const { pods, without } = await podsToExplain(host, parsed, cluster, otherwise);
  if (pods.length === 0) {
    throw kubectlUsage(command, `nothing in it makes pods: ${without.join(', ') || 'it is empty'}`);
  }
  const found: Explained[] = [];
  for (const { what, namespace: own, pod, exists } of pods) {
    const namespace = own === '' ? otherwise : own;
    const asked = cluster !== undefined && parsed.text('settings') === undefined;
    const annotations = asked ? await namespaceAnnotations(cluster, namespace, host.signal) : {};
    const explanation = explainPod(pod, namespace, settings, annotations);
    const { injection } = explanation;
    found.push({
      what,
      namespace,
      explanation,
      restore: injection === null ? null : await restoreOf(host, parsed, injection),
      past: exists ? pastOf(pod) : null,
    });
  }
  const keys = cluster === undefined ? new Map<string, string>() : await keysOf(cluster, found, host.signal);
  if (parsed.form === 'json') {
    const pods = found.map(({ what, namespace, explanation, restore, past }) => ({
      what,
      namespace,
      ...explanation,
      keys: keys.get(keyId(namespace, explanation)) ?? null,
      restore,
      past,
    }));
    host.stdout.write(`${JSON.stringify({ pods, without })}\n`);
  } else {
    for (const each of found) print(host, each, keys.get(keyId(each.namespace, each.explanation)));
    for (const each of without) host.stdout.write(`${printable(each)}: makes no pods\n`);
  }
  return found.some(({ explanation }) => explanation.decision === 'refuse') ? 1 : 0;
}

interface PodToExplain extends ManifestPod {
  readonly exists: boolean;
}

async function podsToExplain(
  host: KubectlHost,
  parsed: KubectlParsed,
  cluster: Cluster | undefined,
  namespace: string,
): Promise<{ readonly pods: readonly PodToExplain[]; readonly without: readonly string[] }> {
  const file = parsed.text('filename');
  const [name, more] = parsed.positionals;
  if (file !== undefined) {
    if (name !== undefined) throw kubectlUsage(command, `a file and a name: ${name}`);
    return split(manifestsIn(host.parseDocuments(await host.readText(file))));
  }
  if (name === undefined || more !== undefined || cluster === undefined) {
    throw kubectlUsage(command, 'give POD, KIND/NAME or -f FILE');
  }
  const { path, what, isPod } = workloadPath(command, name, namespace);
  const object = await getObject(cluster, path, what, host.signal);
  // A single object of the API says its kind only by where it was read.
  if (isPod) return { pods: [{ what, namespace, pod: object, exists: true }], without: [] };
  return split([object]);
}

function split(manifests: readonly JsonObject[]): { pods: readonly PodToExplain[]; without: readonly string[] } {
  const readings = manifests.map(podsOfManifest);
  return {
    pods: readings.flatMap((each) => (each.kind === 'pods' ? each.pods.map((pod) => ({ ...pod, exists: false })) : [])),
    without: readings.flatMap((each) => (each.kind === 'none' ? [each.what] : [])),
  };
}

/** What `holdfast show` says of the newest checkpoint that counts. */
async function restoreOf(host: KubectlHost, parsed: KubectlParsed, injection: ExplainedInjection): Promise<Restore> {
  const { lineage, slot, encrypted } = injection;
  if (slot === 'node' || slot === 'claimed') {
    return { known: false, why: `which slot of ${lineage} it is, is known when the pod runs` };
  }
  const key = parsed.text('key-file');
  if (encrypted && key === undefined) {
    return {
      known: false,
      why: 'not looked at: give --key-file, with the repository key or the grant of the workload',
    };
  }
  const keys = encrypted && key !== undefined ? ['--key-file', key] : ['--encryption', 'none'];
  const store = parsed.text('store') ?? injection.address;
  const { code, stdout, stderr } = await host.askHoldfast([
    'show',
    '--lineage',
    toLineageName(lineage),
    '--store',
    store,
    ...keys,
    '--output',
    'json',
  ]);
  const answer = jsonIn(code === 0 ? stdout : stderr);
  if (code === 0 && answer !== undefined) {
    return {
      known: true,
      checkpoint: answer,
      said: `checkpoint ${String(answer['slot'])} of ${String(answer['time'])}`,
    };
  }
  const error = answer?.['error'];
  const failure = isObject(error as never) ? (error as Readonly<Record<string, unknown>>) : {};
  if (failure['code'] === 'E_NOT_FOUND') {
    const said = `nothing was ever stored: a first boot (on-first-boot: ${injection.onFirstBoot})`;
    return { known: true, checkpoint: null, said };
  }
  if (failure['code'] === 'E_EXPECTED_MISSING') {
    const said = `data is expected and missing (on-missing: ${injection.onMissing})`;
    return { known: true, checkpoint: null, said };
  }
  return {
    known: false,
    why: `${String(failure['code'] ?? `exit code ${code}`)}: ${String(failure['message'] ?? stderr.trim())}`,
  };
}

function jsonIn(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value = JSON.parse(text) as unknown;
    return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : undefined;
  } catch {
    return undefined;
  }
}

function keyId(namespace: string, { injection }: Explanation): string {
  return `${namespace}/${injection?.keySecret ?? ''}`;
}

/** Whether the Secrets with the workloads' keys are there. Their content is not asked for: metadata only. */
async function keysOf(
  cluster: Cluster,
  found: readonly Explained[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, string>> {
  const states = new Map<string, string>();
  for (const { namespace, explanation } of found) {
    const name = explanation.injection?.keySecret ?? null;
    if (name === null) continue;
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/secrets/${encodeURIComponent(name)}`;
    const { status } = await cluster.request('GET', path, { metadataOnly: true, signal });
    states.set(keyId(namespace, explanation), status === 200 ? 'there' : status === 404 ? 'missing' : 'unknown');
  }
  return states;
}

function print(host: KubectlHost, each: Explained, keys: string | undefined): void {
  const { stdout } = host;
  const { what, namespace, explanation, restore, past } = each;
  const { decision, injection, refusals, warnings, volumes } = explanation;
  const verdict =
    decision === 'inject'
      ? styled(stdout, 'green', 'is protected')
      : decision === 'refuse'
        ? styled(stdout, 'red', 'is refused')
        : styled(stdout, 'yellow', 'is left alone');
  stdout.write(`${styled(stdout, 'bold', printable(`${what} in ${namespace}`))}: ${verdict}\n`);
  const line = (name: string, text: string): void => void stdout.write(`  ${name.padEnd(9)}${printable(text)}\n`);
  if (decision === 'skip') line('because', skipText(explanation.reason ?? ''));
  for (const { annotation, value, reason, remedy } of refusals) {
    line(
      'because',
      `${value === '' ? annotation : `${annotation} is ${JSON.stringify(value.slice(0, 120))}`}: ${reason}`,
    );
    line('', remedy);
  }
  if (injection !== null) printInjection(line, injection);
  if (injection?.keySecret != null) line('keys', keysText(injection, keys));
  for (const { name, kind, kept, why } of volumes) {
    line(kept ? 'kept' : 'not kept', `${name} (${kind})${kept ? '' : `: ${why}`}`);
  }
  if (restore !== null) line('restore', restore.known ? restore.said : restore.why);
  if (past !== null) for (const said of past.lines) line('now', said);
  for (const warning of warnings) line('warning', warning);
}

function printInjection(line: (name: string, text: string) => void, injection: ExplainedInjection): void {
  const { lineage, slot, store, address, schedule, rpo, user, asRoot, order, from, image } = injection;
  const origin = (name: string): string => (from[name] === undefined ? '' : ` (from ${from[name]})`);
  const slots: Readonly<Record<string, string>> = {
    node: ', and the name of its node',
    claimed: ', and a number that it claims when it starts',
    shared: ', which all its pods share: one after the other',
  };
  line('lineage', `${lineage}${slots[slot] ?? ''}`);
  line('store', `${store}: ${address}${origin('store')}`);
  line('schedule', `${schedule}${origin('schedule')}${rpo === null ? '' : `, objective ${rpo}`}`);
  line('user', asRoot ? 'root, with four capabilities' : user === null ? "the namespace's" : String(user));
  line('order', order.join(', '));
  line('image', image);
}

function keysText({ keySecret, lineage }: ExplainedInjection, state: string | undefined): string {
  const said = `Secret ${keySecret}`;
  if (state === 'there') return said;
  const workload = lineage.split('/').slice(0, 4).join('/');
  const how = `holdfast keys grant --workload ${workload} | kubectl apply -f -`;
  return state === 'missing'
    ? `${said} is missing, so the pod would not start: ${how}`
    : `${said} (not looked at); made by: ${how}`;
}

function skipText(reason: string): string {
  const texts: Readonly<Record<string, string>> = {
    'not-opted-in': 'it does not say holdfast.dev/inject: "true"',
    mirror: 'it is a static pod',
  };
  return texts[reason] ?? reason;
}
