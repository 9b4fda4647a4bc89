/** What the webhook decides about a pod: plain data, from which render.ts makes the patch. */
import type { VolumeName } from '../engine/model/ids.ts';
import type { Origin } from './effective.ts';
import type { EnvVar, VolumeMount } from './pod.ts';
import type { JsonObject } from './json.ts';
import type { Store } from './settings.ts';

export type Decision =
  | { readonly kind: 'skip'; readonly reason: SkipReason; readonly warnings: readonly string[] }
  | { readonly kind: 'refuse'; readonly refusals: readonly Refusal[] }
  | { readonly kind: 'inject'; readonly injection: Injection; readonly warnings: readonly string[] };

/**
 * not-a-pod: the request is about something else. not-created: an update or a deletion. not-opted-in: without `inject: "true"`.
 * mirror: the image of a static pod, which the kubelet runs whatever is answered.
 */
export type SkipReason = 'not-a-pod' | 'not-created' | 'not-opted-in' | 'mirror';

/** Why a pod is not admitted. */
export interface Refusal {
  /** The annotation, with its prefix, or the place in the pod that stands against it. */
  readonly annotation: string;
  readonly value: string;
  /** Goes on after `ANNOTATION is "VALUE": `. */
  readonly reason: string;
  readonly remedy: string;
}

export interface Injection {
  readonly lineage: Lineage;
  readonly volumes: readonly KeptVolume[];
  /** Globs, of all volumes alike. */
  readonly selection: VolumeSelection;
  readonly store: Store & { readonly name: string };
  readonly image: string;
  readonly identity: Identity;
  /** Of each of the two containers. */
  readonly resources: { readonly rehydrate: ContainerResources; readonly agent: ContainerResources };
  readonly credentials: Credentials;
  readonly schedule: string;
  readonly rpo: string | undefined;
  readonly rto: string | undefined;
  /** As `--on-first-boot`, `--on-missing`, `--on-unreachable` take them. */
  readonly noData: { readonly firstBoot: string; readonly missing: string; readonly unreachable: string };
  readonly handoffWait: string;
  /** The checkpoint to go back to; undefined: the newest. */
  readonly restoreAt: string | undefined;
  readonly hooks: {
    readonly preCheckpoint: string | undefined;
    readonly postCheckpoint: string | undefined;
    readonly postRestore: string | undefined;
  };
  readonly hookTimeout: string;
  readonly logLevel: string;
  readonly graceSeconds: number;
  /** The pod's own is raised to `graceSeconds`. */
  readonly raisesGrace: boolean;
  readonly safeToEvict: boolean;
  /** The application starts only when the agent runs. */
  readonly waitsForAgent: boolean;
  /** Init containers that are to run before, those of meshes among them. */
  readonly startAfter: readonly string[];
  /** Container that `kubectl logs` picks; undefined where the pod says it. */
  readonly defaultContainer: string | undefined;
  readonly fsGroup: number | undefined;
  /** Where each value came from that nobody else can see in the pod. */
  readonly origins: Readonly<Record<string, Origin>>;
}

export interface Lineage {
  /** `CLUSTER/NAMESPACE/KIND/NAME`; the slot comes behind it. */
  readonly workload: string;
  readonly kind: string;
  readonly name: string;
  readonly slot: LineageSlot;
}

/**
 * fixed: known now. node: the name of the node, known when the pod runs. shared: the one slot of pods that have no identity.
 * claimed: one of `replicas`, chosen when the pod runs. seed: the pod begins from slot 0 as all others do, and writes nothing.
 */
export type LineageSlot =
  | { readonly by: 'fixed' | 'shared'; readonly slot: string }
  | { readonly by: 'node' }
  | { readonly by: 'seed' }
  | { readonly by: 'claimed'; readonly replicas: number; readonly whenHeld: 'take' | 'fork' | undefined };

export interface KeptVolume {
  readonly name: VolumeName;
  /** An emptyDir, on disk or in memory. */
  readonly isEmptyDir: boolean;
  readonly inMemory: boolean;
  readonly sizeLimitBytes: number | undefined;
  readonly restoreFirst: readonly string[];
}

export interface VolumeSelection {
  readonly include: readonly string[];
  readonly exclude: readonly string[];
}

export interface Identity {
  /** Undefined where the platform assigns it. */
  readonly user: number | undefined;
  readonly group: number | undefined;
  /** Root with the capabilities that let it read and give away any file. */
  readonly asRoot: boolean;
  readonly seLinuxOptions: JsonObject | undefined;
}

export interface ContainerResources {
  readonly requests: Readonly<Record<string, string>>;
  readonly limits: Readonly<Record<string, string>>;
}

/** What lets the containers into the store. */
export interface Credentials {
  /** Variables and mounts of another container of the pod that IRSA or EKS Pod Identity has put there. */
  readonly env: readonly EnvVar[];
  readonly mounts: readonly VolumeMount[];
}
