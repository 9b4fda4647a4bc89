/** The parts of a pod that a decision needs, after the types of the core API, version v1. What else a pod holds is never read. */
import { type Json, type JsonObject, JsonReader, MalformedError } from './json.ts';

export interface Pod {
  /** Empty for pods that are named by the API server (`generateName`). */
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** The owner that manages it. */
  readonly owner: { readonly kind: string; readonly name: string } | undefined;
  readonly containers: readonly Container[];
  readonly initContainers: readonly Container[];
  readonly volumes: readonly Volume[];
  readonly securityContext: SecurityContext;
  readonly fsGroup: number | undefined;
  readonly resources: Resources | undefined;
  readonly graceSeconds: number;
  readonly hostNetwork: boolean;
  readonly hostUsers: boolean;
  readonly os: string | undefined;
  readonly nodeSelector: Readonly<Record<string, string>>;
  /** Keys of tolerations. */
  readonly tolerated: readonly string[];
}

export interface Container {
  readonly name: string;
  readonly restartPolicy: string | undefined;
  readonly env: readonly EnvVar[];
  readonly mounts: readonly VolumeMount[];
  readonly resources: Resources;
  readonly securityContext: SecurityContext;
}

export interface EnvVar {
  readonly name: string;
  readonly raw: JsonObject;
}

export interface VolumeMount {
  readonly volume: string;
  readonly path: string;
  readonly readOnly: boolean;
  readonly subPathExpr: string | undefined;
  readonly raw: JsonObject;
}

export interface Resources {
  readonly requests: Readonly<Record<string, string>>;
  readonly limits: Readonly<Record<string, string>>;
}

export interface SecurityContext {
  readonly runAsUser: number | undefined;
  readonly runAsGroup: number | undefined;
  readonly runAsNonRoot: boolean | undefined;
  readonly seLinuxOptions: JsonObject | undefined;
}

export interface Volume {
  readonly name: string;
  readonly source: VolumeSource;
}

export type VolumeSource =
  | { readonly kind: 'emptyDir'; readonly medium: string; readonly sizeLimit: string | undefined }
  | { readonly kind: 'ephemeral'; readonly volumeMode: string }
  | { readonly kind: 'csi'; readonly driver: string; readonly readOnly: boolean }
  /** `type`: the member that says what it is, such as `configMap`. */
  | { readonly kind: 'other'; readonly type: string };

/** How long Kubernetes waits where a pod does not say. */
const graceSecondsDefault = 30;

/** MalformedError where something has a form that the API server would not have let through. */
export function readPod(value: Json | undefined): Pod {
  const pod = new JsonReader(value, '');
  const metadata = pod.object('metadata') ?? new JsonReader({}, 'metadata');
  const spec = pod.object('spec');
  if (spec === undefined) throw new MalformedError('spec', 'an object');
  const owner = metadata.objects('ownerReferences').find((each) => each.boolean('controller') === true);
  const security = spec.object('securityContext');
  return {
    name: metadata.text('name') ?? '',
    labels: metadata.textMap('labels'),
    annotations: metadata.textMap('annotations'),
    owner: owner === undefined ? undefined : { kind: owner.requiredText('kind'), name: owner.requiredText('name') },
    containers: spec.objects('containers').map(readContainer),
    initContainers: spec.objects('initContainers').map(readContainer),
    volumes: spec.objects('volumes').map(readVolume),
    securityContext: readSecurityContext(security),
    fsGroup: security?.count('fsGroup'),
    resources: spec.raw('resources') === undefined ? undefined : readResources(spec),
    graceSeconds: spec.count('terminationGracePeriodSeconds') ?? graceSecondsDefault,
    hostNetwork: spec.boolean('hostNetwork') ?? false,
    hostUsers: spec.boolean('hostUsers') ?? true,
    os: spec.object('os')?.text('name'),
    nodeSelector: spec.textMap('nodeSelector'),
    tolerated: spec.objects('tolerations').map((each) => each.text('key') ?? ''),
  };
}

function readContainer(container: JsonReader): Container {
  return {
    name: container.requiredText('name'),
    restartPolicy: container.text('restartPolicy'),
    env: container.objects('env').map((each) => ({ name: each.requiredText('name'), raw: each.value })),
    mounts: container.objects('volumeMounts').map((each) => ({
      volume: each.requiredText('name'),
      path: each.requiredText('mountPath'),
      readOnly: each.boolean('readOnly') ?? false,
      subPathExpr: each.text('subPathExpr'),
      raw: each.value,
    })),
    resources: readResources(container),
    securityContext: readSecurityContext(container.object('securityContext')),
  };
}

function readResources(parent: JsonReader): Resources {
  const resources = parent.object('resources');
  return { requests: readQuantities(resources, 'requests'), limits: readQuantities(resources, 'limits') };
}

/** Quantities are strings once the API server has read them; numbers are taken too, as its clients may write them. */
function readQuantities(resources: JsonReader | undefined, key: string): Readonly<Record<string, string>> {
  const map: Record<string, string> = Object.create(null);
  const given = resources?.object(key);
  for (const [name, value] of Object.entries(given?.value ?? {})) {
    if (typeof value !== 'string' && typeof value !== 'number') {
      throw new MalformedError(`${given?.path}.${name.slice(0, 100)}`, 'a quantity');
    }
    map[name] = String(value);
  }
  return map;
}

function readSecurityContext(context: JsonReader | undefined): SecurityContext {
  return {
    runAsUser: context?.count('runAsUser'),
    runAsGroup: context?.count('runAsGroup'),
    runAsNonRoot: context?.boolean('runAsNonRoot'),
    seLinuxOptions: context?.object('seLinuxOptions')?.value,
  };
}

function readVolume(volume: JsonReader): Volume {
  return { name: volume.requiredText('name'), source: readSource(volume) };
}

function readSource(volume: JsonReader): VolumeSource {
  const emptyDir = volume.object('emptyDir');
  if (emptyDir !== undefined) {
    const limit = emptyDir.raw('sizeLimit');
    return {
      kind: 'emptyDir',
      medium: emptyDir.text('medium') ?? '',
      sizeLimit: typeof limit === 'number' ? String(limit) : emptyDir.text('sizeLimit'),
    };
  }
  const ephemeral = volume.object('ephemeral');
  if (ephemeral !== undefined) {
    const claim = ephemeral.object('volumeClaimTemplate')?.object('spec');
    return { kind: 'ephemeral', volumeMode: claim?.text('volumeMode') ?? 'Filesystem' };
  }
  const csi = volume.object('csi');
  if (csi !== undefined) {
    return { kind: 'csi', driver: csi.text('driver') ?? '', readOnly: csi.boolean('readOnly') ?? false };
  }
  return { kind: 'other', type: Object.keys(volume.value).find((key) => key !== 'name') ?? 'volume without a source' };
}
