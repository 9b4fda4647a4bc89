/** Names of workloads as people write them, and where they are in the API. */
import { kubectlUsage } from './options.ts';

export type WorkloadKind = 'pod' | 'deployment' | 'statefulset' | 'daemonset' | 'replicaset' | 'job' | 'cronjob';

interface KindPlace {
  readonly kind: WorkloadKind;
  /** As the API names it. */
  readonly title: string;
  readonly names: readonly string[];
  readonly prefix: string;
}

const kinds: readonly KindPlace[] = [
  { kind: 'pod', title: 'Pod', names: ['pod', 'pods', 'po'], prefix: '/api/v1' },
  { kind: 'deployment', title: 'Deployment', names: ['deployment', 'deployments', 'deploy'], prefix: '/apis/apps/v1' },
  { kind: 'statefulset', title: 'StatefulSet', names: ['statefulset', 'statefulsets', 'sts'], prefix: '/apis/apps/v1' },
  { kind: 'daemonset', title: 'DaemonSet', names: ['daemonset', 'daemonsets', 'ds'], prefix: '/apis/apps/v1' },
  { kind: 'replicaset', title: 'ReplicaSet', names: ['replicaset', 'replicasets', 'rs'], prefix: '/apis/apps/v1' },
  { kind: 'job', title: 'Job', names: ['job', 'jobs'], prefix: '/apis/batch/v1' },
  { kind: 'cronjob', title: 'CronJob', names: ['cronjob', 'cronjobs', 'cj'], prefix: '/apis/batch/v1' },
];

export interface WorkloadPath {
  readonly kind: WorkloadKind;
  readonly name: string;
  readonly path: string;
  /** For people: `StatefulSet web`. */
  readonly what: string;
  readonly isPod: boolean;
}

/** `NAME` is a pod, `KIND/NAME` anything that makes pods. E_USAGE for what is neither. */
export function workloadPath(command: string, text: string, namespace: string): WorkloadPath {
  const [first = '', second, more] = text.split('/');
  const name = second ?? first;
  const wanted = second === undefined ? 'pod' : first.toLowerCase();
  const place = kinds.find(({ names }) => names.includes(wanted));
  if (place === undefined || more !== undefined || !/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(name)) {
    throw kubectlUsage(
      command,
      `${JSON.stringify(text.slice(0, 300))} is not POD or KIND/NAME; kinds: ${kinds.map(({ kind }) => kind).join(', ')}`,
    );
  }
  return {
    kind: place.kind,
    name,
    path: `${place.prefix}/namespaces/${encodeURIComponent(namespace)}/${place.kind}s/${name}`,
    what: `${place.title} ${name}`,
    isPod: place.kind === 'pod',
  };
}
