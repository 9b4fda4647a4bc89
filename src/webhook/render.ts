/** From a decision to the patch of a pod: only what is ours is added, replaced or removed, and doing it twice changes nothing. */
import { annotationPrefix } from '../contract/annotations.ts';
import {
  agentContainer,
  awsTokenFile,
  caFile,
  credentialsFile,
  grantMember,
  grantSecretName,
  keyFile,
  metricsPortName,
  ownVolumes,
  rehydrateContainer,
  serviceCaFile,
  serviceTokenFile,
  stateDirectory,
  volumePath,
} from '../contract/pod-layout.ts';
import { agentArgs, notifyCommand, rehydrateArgs, runningCommand, runtimeVariables } from './container-args.ts';
import type { ContainerResources, Injection } from './decision.ts';
import { isList, isObject, type Json, type JsonObject, member } from './json.ts';
import { type PatchOperation, pointer, setItems, setMember } from './json-patch.ts';
import type { WebhookSettings } from './settings.ts';

const ownContainerNames: ReadonlySet<string> = new Set([rehydrateContainer, agentContainer]);
const ownVolumeNames: ReadonlySet<string> = new Set(Object.values(ownVolumes));
const evictAnnotation = 'cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes';

/** `pod`: as the API server sent it, which `decide` has read. `warnings` go into the status. */
export function render(
  pod: JsonObject,
  injection: Injection,
  given: WebhookSettings,
  warnings: readonly string[],
): readonly PatchOperation[] {
  const spec = objectIn(pod, 'spec');
  // In the network of a node two agents would want the same port.
  const settings = member(spec, 'hostNetwork') === true ? { ...given, metricsPort: undefined } : given;
  const metadata = objectIn(pod, 'metadata');
  const initContainers = listIn(spec, 'initContainers');
  const volumes = listIn(spec, 'volumes');
  return [
    ...annotationPatch(metadata, injection, warnings),
    ...setItems(
      pointer('spec', 'volumes'),
      volumes,
      [...(volumes ?? []).filter((each) => !isNamed(each, ownVolumeNames)), ...injectedVolumes(injection, settings)],
      (item) => isNamed(item, ownVolumeNames),
    ),
    ...setItems(
      pointer('spec', 'initContainers'),
      initContainers,
      placed(initContainers ?? [], othersIn(volumes ?? []), injection, settings),
      (item) => isNamed(item, ownContainerNames),
    ),
    ...(injection.raisesGrace
      ? setMember(pointer('spec'), spec, 'terminationGracePeriodSeconds', injection.graceSeconds)
      : []),
  ];
}

function objectIn(parent: JsonObject, key: string): JsonObject {
  const value = member(parent, key);
  return isObject(value) ? value : {};
}

function listIn(parent: JsonObject, key: string): readonly Json[] | undefined {
  const value = member(parent, key);
  return isList(value) ? value : undefined;
}

function nameOf(item: Json): string {
  const name = isObject(item) ? member(item, 'name') : undefined;
  return typeof name === 'string' ? name : '';
}

/** Names of the volumes that are not ours. */
function othersIn(volumes: readonly Json[]): ReadonlySet<string> {
  return new Set(volumes.map(nameOf).filter((name) => !ownVolumeNames.has(name)));
}

function isNamed(item: Json, names: ReadonlySet<string>): boolean {
  return names.has(nameOf(item));
}

// ---------------------------------------------------------------------------------------------------------------------
// Annotations

function annotationPatch(
  metadata: JsonObject,
  injection: Injection,
  warnings: readonly string[],
): readonly PatchOperation[] {
  const present = member(metadata, 'annotations');
  const annotations = isObject(present) ? present : {};
  const wanted: Record<string, string> = { [`${annotationPrefix}status`]: statusText(injection, warnings) };
  if (injection.defaultContainer !== undefined) {
    wanted['kubectl.kubernetes.io/default-container'] = injection.defaultContainer;
  }
  if (injection.safeToEvict) {
    const before = member(annotations, evictAnnotation);
    const listed = typeof before === 'string' ? before.split(',').filter((name) => name !== '') : [];
    const own = [...injection.volumes.filter(({ isEmptyDir }) => isEmptyDir).map(({ name }) => name), ownVolumes.state];
    wanted[evictAnnotation] = [...new Set([...listed, ...own])].join(',');
  }
  // A pod that opted in has annotations.
  const path = pointer('metadata', 'annotations');
  return Object.entries(wanted).flatMap(([key, value]) => setMember(path, annotations, key, value));
}

/** The effective result, for people and programs; docs/kubernetes.md, "Status". */
function statusText(injection: Injection, warnings: readonly string[]): string {
  const { lineage, volumes, store, schedule, identity, image, origins } = injection;
  return JSON.stringify({
    version: 1,
    lineage: 'slot' in lineage.slot ? `${lineage.workload}/${lineage.slot.slot}` : lineage.workload,
    slot: lineage.slot.by,
    volumes: volumes.map(({ name }) => name),
    store: store.name,
    schedule,
    rpo: injection.rpo ?? null,
    rto: injection.rto ?? null,
    image,
    user: identity.user ?? null,
    from: origins,
    warnings,
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// Containers

/** The list with our two behind those that have to run before; the others keep their order. */
function placed(
  list: readonly Json[],
  otherVolumes: ReadonlySet<string>,
  injection: Injection,
  settings: WebhookSettings,
): readonly Json[] {
  const others = list.filter((each) => !isNamed(each, ownContainerNames));
  const before = new Set(injection.startAfter);
  const at = others.findLastIndex((each) => before.has(nameOf(each))) + 1;
  // Who only begins from a checkpoint has nothing to keep.
  const isSeed = injection.lineage.slot.by === 'seed';
  const wanted = [rehydrateOf(injection, settings), ...(isSeed ? [] : [agentOf(injection, settings)])];
  const ours = wanted.map((container) =>
    merged(
      container,
      list.find((each) => nameOf(each) === nameOf(container)),
      otherVolumes,
    ),
  );
  return others.toSpliced(at, 0, ...ours);
}

function rehydrateOf(injection: Injection, settings: WebhookSettings): JsonObject {
  return {
    name: rehydrateContainer,
    ...shared(injection, settings, false),
    command: ['holdfast', 'rehydrate'],
    args: rehydrateArgs(injection, settings),
    resources: resourcesOf(injection.resources.rehydrate),
  };
}

/** For ten minutes; then the kubelet starts the agent anew, and the application goes on waiting. */
const startupProbe: JsonObject = {
  exec: { command: runningCommand },
  periodSeconds: 2,
  timeoutSeconds: 10,
  failureThreshold: 300,
};

function agentOf(injection: Injection, settings: WebhookSettings): JsonObject {
  return {
    name: agentContainer,
    ...shared(injection, settings, true),
    restartPolicy: 'Always',
    command: ['holdfast', 'agent'],
    args: agentArgs(injection, settings),
    ...(settings.metricsPort === undefined
      ? {}
      : { ports: [{ name: metricsPortName, containerPort: settings.metricsPort, protocol: 'TCP' }] }),
    resources: resourcesOf(injection.resources.agent),
    lifecycle: { preStop: { exec: { command: notifyCommand } } },
    ...(injection.waitsForAgent ? { startupProbe } : {}),
  };
}

function shared(injection: Injection, settings: WebhookSettings, volumesReadOnly: boolean): JsonObject {
  return {
    image: injection.image,
    ...(settings.imagePullPolicy === undefined ? {} : { imagePullPolicy: settings.imagePullPolicy }),
    env: environmentOf(injection, settings),
    securityContext: securityContextOf(injection),
    terminationMessagePolicy: 'FallbackToLogsOnError',
    volumeMounts: mountsOf(injection, settings, volumesReadOnly),
  };
}

function resourcesOf({ requests, limits }: ContainerResources): JsonObject {
  return {
    ...(Object.keys(requests).length === 0 ? {} : { requests }),
    ...(Object.keys(limits).length === 0 ? {} : { limits }),
  };
}

/**
 * PodSecurity `restricted` admits this for any user but root. Root keeps the four capabilities with which it reads and gives away
 * files of any owner: `baseline` admits those.
 */
function securityContextOf({ identity }: Injection): JsonObject {
  const { user, group, asRoot, seLinuxOptions } = identity;
  return {
    allowPrivilegeEscalation: false,
    capabilities: {
      drop: ['ALL'],
      ...(asRoot ? { add: ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID'] } : {}),
    },
    privileged: false,
    readOnlyRootFilesystem: true,
    runAsNonRoot: !asRoot,
    ...(user === undefined ? {} : { runAsUser: user }),
    ...(group === undefined ? {} : { runAsGroup: group }),
    seccompProfile: { type: 'RuntimeDefault' },
    ...(seLinuxOptions === undefined ? {} : { seLinuxOptions }),
  };
}

function environmentOf(
  { store, credentials, logLevel, lineage }: Injection,
  { service }: WebhookSettings,
): readonly JsonObject[] {
  const runtime = Object.entries(runtimeVariables)
    .filter(([name]) => name !== 'HOLDFAST_NODE_NAME' || lineage.slot.by === 'node')
    .map(([name, fieldPath]) => ({ name, valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath } } }));
  const plain: Record<string, string> = {
    HOLDFAST_LOG_LEVEL: logLevel,
    // Public, and as text it needs no object in the namespace of the pod.
    ...(service?.ca === undefined || service.caConfigMap !== undefined ? {} : { HOLDFAST_SERVICE_CA: service.ca }),
    // Without it the SDK falls back to the role of the node, and nobody notices.
    ...(store.nodeRole ? {} : { AWS_EC2_METADATA_DISABLED: 'true' }),
    ...(store.caConfigMap === undefined ? {} : { HOLDFAST_S3_CA_FILE: caFile }),
    ...(store.credentialsSecret === undefined ? {} : { AWS_SHARED_CREDENTIALS_FILE: credentialsFile }),
    ...(store.roleArn === undefined ? {} : { AWS_ROLE_ARN: store.roleArn, AWS_WEB_IDENTITY_TOKEN_FILE: awsTokenFile }),
    ...store.env,
  };
  const names = new Set([...Object.keys(plain), ...runtime.map(({ name }) => name)]);
  return [
    ...runtime,
    ...Object.entries(plain).map(([name, value]) => ({ name, value })),
    ...credentials.env.filter(({ name }) => !names.has(name)).map(({ raw }) => raw),
  ];
}

function mountsOf(injection: Injection, { service }: WebhookSettings, volumesReadOnly: boolean): readonly JsonObject[] {
  const { store, volumes, credentials } = injection;
  const secret = (volume: string, file: string): JsonObject => ({
    name: volume,
    mountPath: file.slice(0, file.lastIndexOf('/')),
    readOnly: true,
  });
  return [
    ...volumes.map(({ name }) => ({
      name,
      mountPath: volumePath(name),
      ...(volumesReadOnly ? { readOnly: true } : {}),
    })),
    { name: ownVolumes.state, mountPath: stateDirectory },
    ...(store.encrypted ? [secret(ownVolumes.key, keyFile)] : []),
    ...(service === undefined ? [] : [secret(ownVolumes.serviceToken, serviceTokenFile)]),
    ...(service?.caConfigMap === undefined ? [] : [secret(ownVolumes.serviceCa, serviceCaFile)]),
    ...(store.roleArn === undefined ? [] : [secret(ownVolumes.awsToken, awsTokenFile)]),
    ...(store.credentialsSecret === undefined ? [] : [secret(ownVolumes.credentials, credentialsFile)]),
    ...(store.caConfigMap === undefined ? [] : [secret(ownVolumes.ca, caFile)]),
    ...(store.claim === undefined ? [] : [{ name: ownVolumes.store, mountPath: store.address.slice('file:'.length) }]),
    ...credentials.mounts.map(({ raw }) => ({ ...raw, readOnly: true })),
  ];
}

/**
 * What an earlier call put there, and others have added to since, keeps what they added: variables, mounts, requests, and what the
 * API server fills in. Everything that is ours is as it would be now: a mount is kept as long as
 * the pod has its volume.
 */
function merged(container: JsonObject, before: Json | undefined, otherVolumes: ReadonlySet<string>): JsonObject {
  if (!isObject(before)) return container;
  const env = listIn(container, 'env') ?? [];
  const mounts = listIn(container, 'volumeMounts') ?? [];
  const names = new Set(env.map(nameOf));
  const paths = new Set(mounts.map(pathOf));
  const resources = objectIn(container, 'resources');
  const resourcesBefore = objectIn(before, 'resources');
  const kept = Object.fromEntries(
    ['imagePullPolicy', 'terminationMessagePath'].flatMap((key) => {
      const value = member(before, key);
      return value === undefined ? [] : [[key, value]];
    }),
  );
  return {
    ...kept,
    ...container,
    env: [
      ...env,
      ...(listIn(before, 'env') ?? []).filter((each) => !names.has(nameOf(each)) && !/^HOLDFAST_/.test(nameOf(each))),
    ],
    volumeMounts: [
      ...mounts,
      ...(listIn(before, 'volumeMounts') ?? []).filter(
        (each) =>
          !paths.has(pathOf(each)) &&
          isNamed(each, otherVolumes) &&
          !/^\/(?:volumes|run\/holdfast|etc\/holdfast)(?:\/|$)/.test(pathOf(each)),
      ),
    ],
    resources: Object.fromEntries(
      ['requests', 'limits'].flatMap((key) => {
        const both = { ...objectIn(resourcesBefore, key), ...objectIn(resources, key) };
        return Object.keys(both).length === 0 ? [] : [[key, both]];
      }),
    ),
  };
}

function pathOf(mount: Json): string {
  const path = isObject(mount) ? member(mount, 'mountPath') : undefined;
  return typeof path === 'string' ? path : '';
}

// ---------------------------------------------------------------------------------------------------------------------
// Volumes

function injectedVolumes(injection: Injection, { service }: WebhookSettings): readonly JsonObject[] {
  const { store, lineage } = injection;
  const defaultMode = secretMode(injection);
  return [
    // On disk: what it says of the volumes must outlive every reboot that they outlive.
    { name: ownVolumes.state, emptyDir: {} },
    ...(store.encrypted
      ? [
          {
            name: ownVolumes.key,
            secret: {
              secretName: grantSecretName(lineage),
              items: [{ key: grantMember, path: 'key' }],
              defaultMode,
              // Where it is missing, the container that restores starts and says so, with the command that makes it.
              optional: true,
            },
          },
        ]
      : []),
    ...(service === undefined ? [] : [tokenVolume(ownVolumes.serviceToken, service.audience)]),
    ...(store.roleArn === undefined ? [] : [tokenVolume(ownVolumes.awsToken, 'sts.amazonaws.com')]),
    ...(service?.caConfigMap === undefined ? [] : [caVolume(ownVolumes.serviceCa, service.caConfigMap)]),
    ...(store.caConfigMap === undefined ? [] : [caVolume(ownVolumes.ca, store.caConfigMap)]),
    ...(store.credentialsSecret === undefined
      ? []
      : [
          {
            name: ownVolumes.credentials,
            secret: {
              secretName: store.credentialsSecret,
              items: [{ key: 'credentials', path: 'credentials' }],
              defaultMode,
            },
          },
        ]),
    ...(store.claim === undefined
      ? []
      : [{ name: ownVolumes.store, persistentVolumeClaim: { claimName: store.claim } }]),
  ];
}

function tokenVolume(name: string, audience: string): JsonObject {
  const token = { serviceAccountToken: { audience, expirationSeconds: 3600, path: 'token' } };
  return { name, projected: { sources: [token], defaultMode: 0o644 } };
}

function caVolume(name: string, configMap: string): JsonObject {
  return { name, configMap: { name: configMap, items: [{ key: 'ca.crt', path: 'ca.crt' }], defaultMode: 0o644 } };
}

/**
 * Files of a Secret belong to root: another user reads them as a member of fsGroup, or where there is none because everybody may.
 * Only our containers mount them.
 */
function secretMode({ identity, fsGroup }: Injection): number {
  if (identity.asRoot) return 0o400;
  return fsGroup === undefined ? 0o444 : 0o440;
}
