/**
 * What becomes of a pod: Holdfast is injected, it is left as it is, or it is refused. Pure: the same request and settings give the
 * same decision. A pod that did not opt in is never read further than its annotation, never changed and never refused.
 */
import {
  type AnnotationProblem,
  annotationPrefix,
  type AnnotationReading,
  readAnnotations,
} from '../contract/annotations.ts';
import { agentContainer, ownVolumes, rehydrateContainer } from '../contract/pod-layout.ts';
import type { AdmissionRequest } from './admission-review.ts';
import { containerResources } from './container-resources.ts';
import type { Credentials, Decision, KeptVolume, Refusal } from './decision.ts';
import { EffectiveAnnotations, effectiveAnnotations, isOfSettings, type Origin } from './effective.ts';
import { identityOf } from './identity-of.ts';
import { isObject, type Json, MalformedError, member } from './json.ts';
import { keptVolumes } from './kept-volumes.ts';
import { lineageOf } from './lineage-of.ts';
import { knownMeshContainers } from './mesh-containers.ts';
import { type Pod, readPod } from './pod.ts';
import { mayUse, type Store, type WebhookSettings } from './settings.ts';
import { workloadCredentials } from './workload-credentials.ts';

/** `namespaceAnnotations`: of the request's namespace, those with our prefix. */
export function decide(
  request: AdmissionRequest,
  settings: WebhookSettings,
  namespaceAnnotations: Readonly<Record<string, string>> = {},
): Decision {
  if (request.kind !== 'v1/Pod' || request.resource !== 'pods') return skip('not-a-pod');
  if (request.operation !== 'CREATE') return skip('not-created');
  const inject = rawAnnotation(request.object, `${annotationPrefix}inject`);
  if (inject !== 'true') {
    return inject === undefined || inject === 'false'
      ? skip('not-opted-in')
      : skip(
          'not-opted-in',
          `${annotationPrefix}inject is ${shown(inject)}, neither "true" nor "false": the pod is not protected`,
        );
  }
  if (rawAnnotation(request.object, 'kubernetes.io/config.mirror') !== undefined) {
    return skip(
      'mirror',
      'a static pod is run by the kubelet as its file says, so nothing can be injected: it is not protected',
    );
  }
  try {
    return decideOnPod(
      readPod(request.object),
      { name: request.namespace, annotations: namespaceAnnotations },
      settings,
    );
  } catch (error) {
    if (!(error instanceof MalformedError)) throw error;
    return refuse([
      {
        annotation: error.path === '' ? 'pod' : error.path,
        value: '',
        reason: error.message,
        remedy: `Correct the pod, or leave ${annotationPrefix}inject out.`,
      },
    ]);
  }
}

/** Whether its pod is read any further, and its namespace with it. */
export function isOptedIn({ object, kind, operation }: AdmissionRequest): boolean {
  return kind === 'v1/Pod' && operation === 'CREATE' && rawAnnotation(object, `${annotationPrefix}inject`) === 'true';
}

function skip(reason: Extract<Decision, { kind: 'skip' }>['reason'], ...warnings: readonly string[]): Decision {
  return { kind: 'skip', reason, warnings };
}

function refuse(refusals: readonly Refusal[]): Decision {
  return { kind: 'refuse', refusals };
}

function shown(value: string): string {
  return JSON.stringify(value.slice(0, 100));
}

function rawAnnotation(object: Json | undefined, name: string): string | undefined {
  const metadata = isObject(object) ? member(object, 'metadata') : undefined;
  const annotations = isObject(metadata) ? member(metadata, 'annotations') : undefined;
  const value = isObject(annotations) ? member(annotations, name) : undefined;
  return typeof value === 'string' ? value : undefined;
}

interface PodNamespace {
  readonly name: string;
  readonly annotations: Readonly<Record<string, string>>;
}

function decideOnPod(given: Pod, { name: namespace, annotations }: PodNamespace, settings: WebhookSettings): Decision {
  const taken = takenNames(given);
  if (taken.length > 0) return refuse(taken);
  const pod = withoutOurs(given);
  const own = readAnnotations(pod.annotations, 'pod');
  const ofNamespace = readAnnotations(annotations, 'elsewhere');
  const refusals: Refusal[] = [
    ...own.problems.map(({ problem, ...rest }) => ({ ...rest, reason: problem })),
    ...ofNamespace.problems.map((problem) => onNamespace(problem, namespace)),
    ...unfitPlaces(pod, settings),
  ];
  const effective = effectiveAnnotations(own, ofNamespace, namespace, settings);
  if (!(effective instanceof EffectiveAnnotations)) return refuse([...refusals, effective]);

  const collect = <Value extends object>(result: Value | Refusal): Value | undefined => {
    if (!('remedy' in result)) return result;
    refusals.push(result);
    return undefined;
  };
  const volumes = keptVolumes(pod, effective);
  refusals.push(...withoutRepeats(volumes.refusals, own));
  const lineage = collect(lineageOf(pod, { cluster: settings.cluster, namespace }, effective));
  const store = collect(storeOf(effective, namespace, settings));
  const identity = collect(identityOf(pod, volumes.kept, effective, settings));
  const image = collect(imageOf(effective, settings));
  const resources = containerResources(pod, volumes.kept, effective);
  refusals.push(...resources.refusals);
  const startAfter = effective.find('start-after');
  for (const name of startAfter?.value ?? []) {
    if (pod.initContainers.some((each) => each.name === name)) continue;
    refusals.push({
      annotation: `${annotationPrefix}start-after`,
      value: startAfter?.text ?? '',
      reason: `the pod has no init container ${name}`,
      remedy: `Leave it out, or name one of: ${pod.initContainers.map((each) => each.name).join(', ') || 'none are there'}.`,
    });
  }
  if (refusals.length > 0 || !lineage || !store || !identity || !image) return refuse(refusals);

  const wantedGrace = Math.ceil((effective.find('grace-at-least')?.value ?? 0) / 1000);
  const graceSeconds = Math.max(pod.graceSeconds, wantedGrace);
  const credentials = credentialsFor(store, pod);
  const text = (name: 'schedule' | 'handoff-wait' | 'hook-timeout' | 'log-level'): string =>
    effective.find(name)?.text ?? '';
  const noData = (name: 'on-first-boot' | 'on-missing' | 'on-unreachable'): string => effective.find(name)?.text ?? '';
  return {
    kind: 'inject',
    warnings: [
      ...volumes.warnings,
      ...resources.warnings,
      ...graceWarnings(graceSeconds, volumes.kept, settings),
      ...placeWarnings(pod, store, credentials),
    ],
    injection: {
      lineage,
      volumes: volumes.kept,
      selection: volumes.selection,
      store,
      image: image.name,
      identity,
      resources: { rehydrate: resources.rehydrate, agent: resources.agent },
      credentials,
      schedule: text('schedule'),
      rpo: effective.find('rpo')?.text,
      rto: effective.find('rto')?.text,
      noData: {
        firstBoot: noData('on-first-boot'),
        missing: noData('on-missing'),
        unreachable: noData('on-unreachable'),
      },
      handoffWait: text('handoff-wait'),
      restoreAt: effective.find('restore-at')?.text,
      hooks: {
        preCheckpoint: effective.find('hook.pre-checkpoint')?.text,
        postCheckpoint: effective.find('hook.post-checkpoint')?.text,
        postRestore: effective.find('hook.post-restore')?.text,
      },
      hookTimeout: text('hook-timeout'),
      logLevel: text('log-level'),
      graceSeconds,
      raisesGrace: graceSeconds > pod.graceSeconds,
      safeToEvict: effective.find('safe-to-evict')?.value === true,
      waitsForAgent: effective.find('wait-for-agent')?.value === true,
      startAfter: [...knownMeshContainers, ...settings.startAfter, ...(startAfter?.value ?? [])],
      defaultContainer:
        pod.annotations['kubectl.kubernetes.io/default-container'] === undefined ? pod.containers[0]?.name : undefined,
      fsGroup: pod.fsGroup,
      origins: originsOf(effective),
    },
  };
}

/** Whoever creates a pod may not write on its namespace, so who can is named. */
function onNamespace({ annotation, value, problem, remedy }: AnnotationProblem, namespace: string): Refusal {
  return {
    annotation: `${annotation} of the namespace ${namespace}`,
    value,
    reason: problem,
    remedy: `${remedy} It stands on the namespace: kubectl annotate namespace ${namespace} ${annotation}-`,
  };
}

const ownVolumeNames: ReadonlySet<string> = new Set(Object.values(ownVolumes));

/** What an earlier call of this webhook has put there is not the pod's own. */
function withoutOurs(pod: Pod): Pod {
  return {
    ...pod,
    initContainers: pod.initContainers.filter(({ name }) => name !== rehydrateContainer && name !== agentContainer),
    volumes: pod.volumes.filter(({ name }) => !ownVolumeNames.has(name)),
  };
}

/** Names that belong to Holdfast, where they are used for something else: the application would see the keys of its checkpoints. */
function takenNames(pod: Pod): readonly Refusal[] {
  const refusals: Refusal[] = [];
  for (const [list, containers] of [
    ['containers', pod.containers],
    ['initContainers', pod.initContainers],
  ] as const) {
    for (const { name, mounts } of containers) {
      const isOurs = name === rehydrateContainer || name === agentContainer;
      if (isOurs && list === 'initContainers') continue;
      if (isOurs) {
        refusals.push({
          annotation: `spec.${list}`,
          value: name,
          reason: 'this name belongs to a container that is injected',
          remedy: 'Give the container another name.',
        });
      }
      const taken = mounts.find(({ volume }) => ownVolumeNames.has(volume));
      if (taken === undefined) continue;
      refusals.push({
        annotation: `spec.${list}`,
        value: name,
        reason: `it mounts the volume ${taken.volume}, and this name belongs to a volume that is injected`,
        remedy: 'Give the volume another name.',
      });
    }
  }
  return refusals;
}

/** A list of volumes that cannot be read is one problem, not two. */
function withoutRepeats(refusals: readonly Refusal[], own: AnnotationReading): readonly Refusal[] {
  const known = new Set(own.problems.map(({ annotation }) => annotation));
  return refusals.filter(({ annotation }) => !known.has(annotation));
}

/** Pods in which an agent cannot run, or not as promised. */
function unfitPlaces(pod: Pod, settings: WebhookSettings): readonly Refusal[] {
  const refusals: Refusal[] = [];
  const leaveOut = `Leave ${annotationPrefix}inject out; the pod then runs unprotected.`;
  const os = pod.os ?? pod.nodeSelector['kubernetes.io/os'];
  if (os !== undefined && os !== 'linux') {
    refusals.push({
      annotation: pod.os === undefined ? 'spec.nodeSelector' : 'spec.os.name',
      value: os,
      reason: 'the agent runs on Linux only',
      remedy: leaveOut,
    });
  }
  if (pod.nodeSelector['type'] === 'virtual-kubelet') {
    refusals.push({
      annotation: 'spec.nodeSelector',
      value: 'type=virtual-kubelet',
      reason: 'virtual nodes do not run init containers that stay, and give no order at the end',
      remedy: leaveOut,
    });
  }
  if (pod.hostNetwork && settings.hostNetwork === 'refuse') {
    refusals.push({
      annotation: 'spec.hostNetwork',
      value: 'true',
      reason: 'in the network of its node the agent would ask with the identity of the node',
      remedy: `Run the pod in a network of its own, or have the platform team allow it (hostNetwork in the webhook's settings).`,
    });
  }
  return refusals;
}

function storeOf(
  effective: EffectiveAnnotations,
  namespace: string,
  settings: WebhookSettings,
): (Store & { readonly name: string }) | Refusal {
  const named = effective.find('store');
  const name = named?.value ?? '';
  const store = settings.stores.get(name);
  const usable = [...settings.stores].filter(([, each]) => mayUse(each.namespaces, namespace)).map(([each]) => each);
  const refusal = (reason: string): Refusal => ({
    annotation: `${annotationPrefix}store`,
    value: named?.text ?? '',
    reason,
    remedy:
      usable.length === 0
        ? 'No store is for this namespace: ask the platform team for one.'
        : `Name one that is: ${usable.join(', ')}.`,
  });
  if (store === undefined) return refusal('there is no such store');
  if (!mayUse(store.namespaces, namespace)) return refusal(`the store is not for the namespace ${namespace}`);
  return { ...store, name };
}

function imageOf(effective: EffectiveAnnotations, settings: WebhookSettings): { readonly name: string } | Refusal {
  const image = effective.find('image');
  if (image === undefined) return { name: settings.image };
  if (settings.imageOverride || isOfSettings(image.from)) return { name: image.value };
  return {
    annotation: `${annotationPrefix}image`,
    value: image.text,
    reason: 'the settings do not let pods choose the image, which gets the keys of their checkpoints',
    remedy: 'Leave it out, or have the platform team set imageOverride.',
  };
}

function credentialsFor(store: Store, pod: Pod): Credentials {
  const needsNone = store.claim !== undefined || store.credentialsSecret !== undefined || store.roleArn !== undefined;
  return needsNone ? { env: [], mounts: [] } : workloadCredentials(pod);
}

const graceSecondsMin = 5;

function graceWarnings(
  graceSeconds: number,
  kept: readonly KeptVolume[],
  { uploadBytesPerSecond }: WebhookSettings,
): readonly string[] {
  const remedy = `raise it with ${annotationPrefix}grace-at-least`;
  if (graceSeconds < graceSecondsMin) {
    return [
      `the grace period of ${graceSeconds} s is too short for a last checkpoint: what changed since the newest one is lost; ${remedy}`,
    ];
  }
  if (uploadBytesPerSecond === undefined) return [];
  const largest = kept.reduce((sum, { sizeLimitBytes }) => sum + (sizeLimitBytes ?? 0), 0);
  const fits = graceSeconds * uploadBytesPerSecond;
  if (largest <= fits) return [];
  return [
    `in the grace period of ${graceSeconds} s at most ${sizeText(fits)} can be uploaded (measured: ${sizeText(uploadBytesPerSecond)}/s), and the volumes may hold ${sizeText(largest)}: what changes between two checkpoints has to fit; ${remedy}`,
  ];
}

function sizeText(bytes: number): string {
  const mebibytes = bytes / 2 ** 20;
  return mebibytes >= 1024
    ? `${(mebibytes / 1024).toFixed(1)} GiB`
    : `${mebibytes.toFixed(mebibytes < 10 ? 1 : 0)} MiB`;
}

function placeWarnings(pod: Pod, store: Store, { env }: Credentials): readonly string[] {
  const warnings: string[] = [];
  if (pod.tolerated.includes('virtual-kubelet.io/provider')) {
    warnings.push('the pod tolerates virtual nodes, on which it would be neither restored nor kept');
  }
  const brings = Object.keys(store.env).some((name) => name.startsWith('AWS_'));
  const hasOwn = store.credentialsSecret !== undefined || store.roleArn !== undefined || store.nodeRole || brings;
  if (store.claim === undefined && !hasOwn && env.length === 0) {
    warnings.push(
      'nothing in the pod or in the store gives credentials: annotate its ServiceAccount for IRSA or EKS Pod Identity, or give the store a Secret',
    );
  }
  return warnings;
}

/** Only what stands elsewhere than in the pod or in the program: that is what nobody can see in the pod. */
function originsOf(effective: EffectiveAnnotations): Readonly<Record<string, Origin>> {
  const origins: Record<string, Origin> = {};
  for (const name of [
    'volumes',
    'schedule',
    'store',
    'policy',
    'on-first-boot',
    'on-missing',
    'on-unreachable',
  ] as const) {
    const from = effective.find(name)?.from;
    if (from !== undefined && from !== 'pod' && from !== 'built-in') origins[name] = from;
  }
  return origins;
}
