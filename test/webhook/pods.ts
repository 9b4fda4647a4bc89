/** Builders of settings, pods and reviews for the tests of the webhook. */
import { readReview } from '../../src/webhook/admission-review.ts';
import type { AdmissionRequest } from '../../src/webhook/admission-review.ts';
import type { Json, JsonObject } from '../../src/webhook/json.ts';
import { parseSettings, type WebhookSettings } from '../../src/webhook/settings.ts';

export const someSettings: JsonObject = {
  cluster: 'prod',
  image: 'registry.example/holdfast:0.1.0',
  imagePullPolicy: 'IfNotPresent',
  stores: { default: { address: 's3://checkpoints/prod?region=eu-central-1', namespaces: ['*'], nodeRole: true } },
};

export function settingsOf(more: JsonObject = {}): WebhookSettings {
  return parseSettings(JSON.stringify({ ...someSettings, ...more }));
}

export interface PodParts {
  readonly metadata?: JsonObject;
  readonly spec?: JsonObject;
  /** Below `holdfast.dev/`; `inject` is there unless it is said otherwise. */
  readonly annotations?: Readonly<Record<string, string>>;
  readonly otherAnnotations?: Readonly<Record<string, string>>;
}

/** A bare pod `app` with an emptyDir `data` that its container runs as user 1000. */
export function podOf({
  metadata = {},
  spec = {},
  annotations = {},
  otherAnnotations = {},
}: PodParts = {}): JsonObject {
  const own = Object.fromEntries(
    Object.entries({ inject: 'true', volumes: 'data', ...annotations }).map(([name, text]) => [
      `holdfast.dev/${name}`,
      text,
    ]),
  );
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      ...(metadata['generateName'] === undefined ? { name: 'app' } : {}),
      namespace: 'team-a',
      annotations: { ...own, ...otherAnnotations },
      ...metadata,
    },
    spec: {
      // As the API server has filled it in before.
      serviceAccountName: 'default',
      containers: [containerOf('app')],
      volumes: [{ name: 'data', emptyDir: {} }],
      securityContext: { runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000 },
      ...spec,
    },
  };
}

export function containerOf(name: string, more: JsonObject = {}): JsonObject {
  return {
    name,
    image: `registry.example/${name}:1`,
    volumeMounts: [{ name: 'data', mountPath: '/var/lib/app' }],
    ...more,
  };
}

/** Metadata of a pod that a controller makes. */
export function ownedBy(kind: string, name: string, more: JsonObject = {}): JsonObject {
  return {
    generateName: `${name}-`,
    ownerReferences: [{ apiVersion: 'apps/v1', kind, name, uid: '1b7f', controller: true, blockOwnerDeletion: true }],
    ...more,
  };
}

/** Metadata of a pod of the Deployment `web`. */
export function ofDeployment(more: JsonObject = {}): JsonObject {
  return ownedBy('ReplicaSet', 'web-5d4f8c7b9', { labels: { app: 'web', 'pod-template-hash': '5d4f8c7b9' }, ...more });
}

export function reviewOf(object: Json, more: JsonObject = {}): JsonObject {
  return {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid: '705ab4f5-6393-11e8-b7cc-42010a800002',
      kind: { group: '', version: 'v1', kind: 'Pod' },
      resource: { group: '', version: 'v1', resource: 'pods' },
      namespace: 'team-a',
      operation: 'CREATE',
      dryRun: false,
      object,
      ...more,
    },
  };
}

export function requestOf(object: Json, more: JsonObject = {}): AdmissionRequest {
  return readReview(reviewOf(object, more));
}
