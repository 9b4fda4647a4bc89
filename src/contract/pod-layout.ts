/** What stands where in a pod that Holdfast is injected into: names and paths on which webhook, agent, command line and chart agree. */

export const rehydrateContainer = 'holdfast-rehydrate';
export const agentContainer = 'holdfast-agent';

/** Volumes that are injected, by what they hold. A pod has none of its own with these names. */
export const ownVolumes = {
  state: 'holdfast-state',
  key: 'holdfast-key',
  serviceToken: 'holdfast-service-token',
  serviceCa: 'holdfast-service-ca',
  awsToken: 'holdfast-aws-token',
  credentials: 'holdfast-credentials',
  ca: 'holdfast-ca',
  store: 'holdfast-store',
} as const;

/** Of the agent and the restore together: how far they are, and who holds the lineage. On disk, so that it lives as long as the data does. */
export const stateDirectory = '/run/holdfast';

/** Where what is mounted read-only lies. */
export const keyFile = '/etc/holdfast/key/key';
export const serviceTokenFile = '/etc/holdfast/service-token/token';
export const serviceCaFile = '/etc/holdfast/service-ca/ca.crt';
export const awsTokenFile = '/etc/holdfast/aws-token/token';
export const credentialsFile = '/etc/holdfast/credentials/credentials';
export const caFile = '/etc/holdfast/ca/ca.crt';

/** Of the agent, where its metrics are for a Prometheus outside of the pod; the chart's PodMonitor asks there. */
export const metricsPortName = 'hf-metrics';

/** Where the root of a kept volume is mounted in both containers. */
export function volumePath(volume: string): string {
  return `/volumes/${volume}`;
}

/** Where the grant stands in its Secret. */
export const grantMember = 'key';

/**
 * The Secret, in the namespace of a workload, with the keys that open its checkpoints and no others: `holdfast keys grant` writes it,
 * pods of the workload mount it. Kinds have no dots, so no two workloads share a name.
 */
export function grantSecretName({ kind, name }: { readonly kind: string; readonly name: string }): string {
  return `holdfast-key.${kind}.${name}`;
}
