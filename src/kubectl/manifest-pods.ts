/**
 * The pods that a manifest comes to, as the controllers of Kubernetes would send them to be admitted: with their owner, labels and index. Pure.
 */
import { isObject, type Json, type JsonObject, member } from '../webhook/json.ts';
import { objectsAt, textAt, valueAt } from './objects.ts';

export interface ManifestPod {
  /** For people: `StatefulSet web, pod web-0`. */
  readonly what: string;
  /** Empty where the manifest names none. */
  readonly namespace: string;
  readonly pod: JsonObject;
}

export type ManifestReading =
  | { readonly kind: 'pods'; readonly pods: readonly ManifestPod[] }
  /** It makes no pods that anybody knows of. */
  | { readonly kind: 'none'; readonly what: string };

/** As good as any other: what it is, nobody knows before the ReplicaSet is made. */
const someHash = '6d4cf56db6';

/** Lists of manifests are taken apart before. */
export function podsOfManifest(manifest: JsonObject): ManifestReading {
  const kind = textAt(manifest, 'kind');
  const name = textAt(manifest, 'metadata', 'name');
  const namespace = textAt(manifest, 'metadata', 'namespace');
  const what = `${kind || 'an object without a kind'} ${name}`.trim();
  const podOf = (template: Json | undefined, metadata: JsonObject, said: string): ManifestReading => {
    if (!isObject(template)) return { kind: 'none', what };
    const own = member(template, 'metadata');
    const both = isObject(own) ? merged(own, metadata) : metadata;
    const pod = { apiVersion: 'v1', kind: 'Pod', ...template, metadata: both } as JsonObject;
    return { kind: 'pods', pods: [{ what: said, namespace, pod: withSpec(pod) }] };
  };
  const template = valueAt(manifest, 'spec', 'template');
  switch (kind) {
    case 'Pod':
      return { kind: 'pods', pods: [{ what, namespace, pod: withSpec(manifest) }] };
    case 'Deployment': {
      const set = `${name}-${someHash}`;
      return podOf(
        template,
        ownedBy('apps/v1', 'ReplicaSet', set, { labels: { 'pod-template-hash': someHash } }),
        `${what}, each pod`,
      );
    }
    case 'ReplicaSet':
    case 'ReplicationController':
      return podOf(template, ownedBy(kind === 'ReplicaSet' ? 'apps/v1' : 'v1', kind, name, {}), `${what}, each pod`);
    case 'StatefulSet': {
      const first = valueAt(manifest, 'spec', 'ordinals', 'start');
      const index = String(typeof first === 'number' ? first : 0);
      const metadata = ownedBy('apps/v1', 'StatefulSet', name, {
        labels: { 'apps.kubernetes.io/pod-index': index, 'statefulset.kubernetes.io/pod-name': `${name}-${index}` },
      });
      const { generateName: _, ...rest } = metadata;
      return podOf(template, { ...rest, name: `${name}-${index}` }, `${what}, pod ${name}-${index}`);
    }
    case 'DaemonSet':
      return podOf(template, ownedBy('apps/v1', 'DaemonSet', name, {}), `${what}, the pod of each node`);
    case 'Job':
      return podOf(template, jobPod(manifest, name), `${what}, ${isIndexed(manifest) ? 'pod of index 0' : 'each pod'}`);
    case 'CronJob': {
      const job = valueAt(manifest, 'spec', 'jobTemplate');
      if (!isObject(job)) return { kind: 'none', what };
      // A job's name is its CronJob's and the minute it was due at.
      return podOf(
        valueAt(job, 'spec', 'template'),
        jobPod(job, `${name}-29000000`),
        `${what}, pod of one of its Jobs`,
      );
    }
    default:
      return { kind: 'none', what };
  }
}

/** The manifests in a list, and a manifest that is none by itself. */
export function manifestsIn(documents: readonly Json[]): readonly JsonObject[] {
  return documents.flatMap((document) => {
    if (!isObject(document)) return [];
    return textAt(document, 'kind').endsWith('List') ? manifestsIn(objectsAt(document, 'items')) : [document];
  });
}

function isIndexed(job: JsonObject): boolean {
  return textAt(job, 'spec', 'completionMode') === 'Indexed';
}

function jobPod(job: JsonObject, name: string): JsonObject {
  const index = isIndexed(job) ? { 'batch.kubernetes.io/job-completion-index': '0' } : {};
  return ownedBy('batch/v1', 'Job', name, {
    labels: { ...index, 'batch.kubernetes.io/job-name': name },
    annotations: index,
  });
}

function ownedBy(apiVersion: string, kind: string, name: string, more: JsonObject): JsonObject {
  return {
    generateName: `${name}-`,
    ownerReferences: [{ apiVersion, kind, name, uid: '', controller: true, blockOwnerDeletion: true }],
    ...more,
  };
}

function merged(own: JsonObject, more: JsonObject): JsonObject {
  const both: Record<string, Json> = { ...own, ...more };
  for (const key of ['labels', 'annotations']) {
    const [a, b] = [member(own, key), member(more, key)];
    if (isObject(a)) both[key] = isObject(b) ? { ...a, ...b } : a;
  }
  return both;
}

/** A pod without one is refused for what it lacks, and not for its form. */
function withSpec(pod: JsonObject): JsonObject {
  return isObject(member(pod, 'spec')) ? pod : { ...pod, spec: {} };
}
