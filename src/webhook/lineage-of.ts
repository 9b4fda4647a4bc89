/** Whose data a pod has, from its owner. What is not known when a pod is admitted (its node, its place among replicas) is left to run time. */
import { isWorkloadName } from '../contract/annotation-parsers.ts';
import { annotationPrefix } from '../contract/annotations.ts';
import { toLineageName } from '../engine/model/ids.ts';
import { isHoldfastError } from '../engine/model/errors.ts';
import type { Lineage, LineageSlot, Refusal } from './decision.ts';
import type { EffectiveAnnotations } from './effective.ts';
import type { Pod } from './pod.ts';

interface Owned {
  readonly kind: string;
  readonly name: string;
  /** Undefined where the owner gives its pods no identity. */
  readonly slot: LineageSlot | undefined;
}

/** `namespace` is the request's: nothing that a pod says changes it, nor the cluster. */
export function lineageOf(
  pod: Pod,
  place: { readonly cluster: string; readonly namespace: string },
  effective: EffectiveAnnotations,
): Lineage | Refusal {
  const owned = ownedBy(pod);
  const chosen = effective.find('lineage');
  if (chosen === undefined && 'reason' in owned) return owned;
  const known = 'reason' in owned ? undefined : owned;
  const { kind, name } = chosen?.value ?? (known as Owned);
  const ownSlot = effective.find('slot');
  const slot: LineageSlot | Refusal =
    ownSlot !== undefined ? { by: 'fixed', slot: ownSlot.value } : (known?.slot ?? amongReplicas(effective));
  if ('remedy' in slot) return slot;
  const workload = `${place.cluster}/${place.namespace}/${kind}/${name}`;
  // Names of nodes are the longest that can come behind it.
  const longest = 'slot' in slot ? slot.slot : slot.by === 'node' ? 'n'.repeat(253) : '999';
  if (!isWorkloadName({ kind, name }) || !isLineageName(`${workload}/${longest}`)) {
    return {
      annotation: chosen === undefined ? 'metadata.ownerReferences' : `${annotationPrefix}lineage`,
      value: `${kind}/${name}`,
      reason: `the lineage ${workload}/… would not be a valid name`,
      remedy: `Give a shorter one of letters, digits, dots and dashes: ${annotationPrefix}lineage: "KIND/NAME".`,
    };
  }
  return { workload, kind, name, slot };
}

/** The slot of a pod that its owner gives no identity. */
function amongReplicas(effective: EffectiveAnnotations): LineageSlot | Refusal {
  const mode = effective.find('slots');
  if (mode === undefined || mode.value === 'refuse') return { by: 'shared', slot: '0' };
  if (mode.value === 'seed') return { by: 'seed' };
  const annotation = `${annotationPrefix}slots`;
  const replicas = effective.find('replicas');
  if (replicas !== undefined) {
    return { by: 'claimed', replicas: replicas.value, whenHeld: effective.find('when-held')?.value };
  }
  return {
    annotation,
    value: mode.text,
    reason: 'it is not said how many slots there are',
    remedy: `Say it, as many as there are replicas: ${annotationPrefix}replicas: "3".`,
  };
}

function isLineageName(text: string): boolean {
  try {
    return toLineageName(text) !== '';
  } catch (error) {
    if (!isHoldfastError(error, 'E_USAGE')) throw error;
    return false;
  }
}

function ownedBy(pod: Pod): Owned | Refusal {
  const { owner, labels, annotations } = pod;
  if (owner === undefined) {
    if (pod.name === '') {
      return refusal(
        'metadata.generateName',
        '',
        'a pod without an owner and without a name of its own has no identity',
      );
    }
    return { kind: 'pod', name: pod.name, slot: { by: 'fixed', slot: pod.name } };
  }
  const { kind, name } = owner;
  switch (kind) {
    case 'StatefulSet': {
      // The label is there from Kubernetes 1.28 on; a pod's name ends with the same number.
      const ordinal = labels['apps.kubernetes.io/pod-index'] ?? pod.name.slice(name.length + 1);
      if (!isNumber(ordinal) || (pod.name !== '' && pod.name !== `${name}-${ordinal}`)) {
        return refusal('metadata.name', pod.name, `its number in the StatefulSet ${name} cannot be told`);
      }
      return { kind: 'statefulset', name, slot: { by: 'fixed', slot: ordinal } };
    }
    case 'Job': {
      const index = annotations['batch.kubernetes.io/job-completion-index'] ?? '0';
      if (!isNumber(index)) return refusal('batch.kubernetes.io/job-completion-index', index, 'not a number');
      return { kind: 'job', name, slot: { by: 'fixed', slot: index } };
    }
    case 'DaemonSet':
      return { kind: 'daemonset', name, slot: { by: 'node' } };
    case 'ReplicaSet': {
      const [deployment, hash] = [beforeHash(name, labels['pod-template-hash']), labels['rollouts-pod-template-hash']];
      if (deployment !== undefined) return { kind: 'deployment', name: deployment, slot: undefined };
      const rollout = beforeHash(name, hash);
      if (rollout !== undefined) return { kind: 'rollout', name: rollout, slot: undefined };
      return { kind: 'replicaset', name, slot: undefined };
    }
    case 'ReplicationController':
      return { kind: 'replicationcontroller', name, slot: undefined };
    default:
      return refusal(
        'metadata.ownerReferences',
        `${kind}/${name}`,
        'nothing is known of how such an owner names its pods',
      );
  }
}

function refusal(annotation: string, value: string, reason: string): Refusal {
  return {
    annotation,
    value,
    reason,
    remedy: `Say whose data it is: ${annotationPrefix}lineage: "KIND/NAME", and with ${annotationPrefix}slot which member, where it has several.`,
  };
}

/** A Deployment's ReplicaSet is its own name and the hash of the template, which the pods have as a label. */
function beforeHash(name: string, hash: string | undefined): string | undefined {
  const suffix = `-${hash}`;
  return hash !== undefined && hash !== '' && name.endsWith(suffix) && name.length > suffix.length
    ? name.slice(0, -suffix.length)
    : undefined;
}

function isNumber(text: string): boolean {
  return /^(?:0|[1-9]\d{0,8})$/.test(text);
}
