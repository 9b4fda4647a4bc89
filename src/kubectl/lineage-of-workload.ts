/** Which lineages a pod or workload has, and where they are stored. */
import { HoldfastError } from '../engine/model/errors.ts';
import type { JsonObject } from '../webhook/json.ts';
import { mayUse } from '../webhook/settings.ts';
import type { Cluster } from './cluster.ts';
import type { KubectlHost } from './host.ts';
import { explainPod } from './explanation.ts';
import { podsOfManifest } from './manifest-pods.ts';
import { getObject } from './objects.ts';
import type { KubectlParsed } from './options.ts';
import { namespaceAnnotations, settingsOf } from './webhook-settings.ts';
import { workloadPath } from './workloads.ts';

export interface WorkloadLineage {
  readonly object: JsonObject;
  readonly path: string;
  readonly what: string;
  /** `CLUSTER/NAMESPACE/KIND/NAME`. */
  readonly workload: string;
  /** With its slot where that is known from what was named. */
  readonly lineage: string | undefined;
  readonly address: string;
  readonly encrypted: boolean;
}

export async function lineageOfWorkload(
  host: KubectlHost,
  parsed: KubectlParsed,
  cluster: Cluster,
  { command, text }: { readonly command: string; readonly text: string },
): Promise<WorkloadLineage> {
  const namespace = parsed.text('namespace') ?? cluster.namespace;
  const { path, what, isPod } = workloadPath(command, text, namespace);
  const object = await getObject(cluster, path, `${what} in ${namespace}`, host.signal);
  const reading = isPod ? undefined : podsOfManifest(object);
  const pod = reading?.kind === 'pods' ? reading.pods[0]?.pod : object;
  const settings = await settingsOf(host, parsed, async () => cluster);
  const { injection, refusals, decision } = explainPod(
    pod ?? object,
    namespace,
    settings,
    await namespaceAnnotations(cluster, namespace, host.signal),
  );
  if (injection === null) {
    const why = decision === 'refuse' ? (refusals[0]?.reason ?? 'it is refused') : 'it does not opt in';
    throw new HoldfastError('E_NOT_FOUND', `${what} in ${namespace} has no lineage: ${why}`, {
      remedy: `See: kubectl holdfast explain ${text} -n ${namespace}`,
    });
  }
  const workload = injection.lineage.split('/').slice(0, 4).join('/');
  const isWhole = isPod || injection.slot === 'shared';
  const store = settings.stores.get(injection.store);
  return {
    object,
    path,
    what,
    workload,
    lineage: isWhole && injection.lineage !== workload ? injection.lineage : undefined,
    address: parsed.text('store') ?? injection.address,
    encrypted: store === undefined || !mayUse(store.namespaces, namespace) ? true : store.encrypted,
  };
}

/** How `holdfast` is told which lineage in which store. E_KEY_MISSING where a key is needed and none is named. */
export function holdfastOptions(parsed: KubectlParsed, found: WorkloadLineage): readonly string[] {
  const key = parsed.text('key-file');
  if (found.encrypted && key === undefined) {
    throw new HoldfastError('E_KEY_MISSING', `the store of ${found.what} is encrypted`, {
      remedy:
        'Give --key-file FILE: the repository key, or the grant of this workload. No key is read from the cluster.',
    });
  }
  return ['--store', found.address, ...(found.encrypted ? ['--key-file', key as string] : ['--encryption', 'none'])];
}
