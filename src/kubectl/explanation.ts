/** What the webhook makes of a pod, and of each of its volumes. Pure: the same code decides in the cluster. */
import { agentContainer, grantSecretName, ownVolumes, rehydrateContainer } from '../contract/pod-layout.ts';
import { decide } from '../webhook/decide.ts';
import type { Decision, Injection, Refusal } from '../webhook/decision.ts';
import { type Json, type JsonObject, MalformedError } from '../webhook/json.ts';
import { patched } from '../webhook/json-patch.ts';
import { readPod } from '../webhook/pod.ts';
import { render } from '../webhook/render.ts';
import type { WebhookSettings } from '../webhook/settings.ts';
import { objectsAt, textAt } from './objects.ts';

export interface Explanation {
  readonly decision: 'inject' | 'refuse' | 'skip';
  /** Of `skip`: why. */
  readonly reason: string | null;
  readonly refusals: readonly Refusal[];
  readonly warnings: readonly string[];
  readonly injection: ExplainedInjection | null;
  /** Every volume of the pod that is gone with it. */
  readonly volumes: readonly ExplainedVolume[];
}

export interface ExplainedInjection {
  /** Without its slot where that is known later. */
  readonly lineage: string;
  readonly slot: string;
  readonly store: string;
  readonly address: string;
  readonly encrypted: boolean;
  readonly schedule: string;
  readonly rpo: string | null;
  readonly image: string;
  /** Null where the platform gives it. */
  readonly user: number | null;
  readonly asRoot: boolean;
  readonly graceSeconds: number;
  readonly onFirstBoot: string;
  readonly onMissing: string;
  readonly onUnreachable: string;
  /** The Secret with the workload's keys, in the pod's namespace; null where none is needed. */
  readonly keySecret: string | null;
  /** The init containers in their order, ours among them. */
  readonly order: readonly string[];
  /** Where values came from that stand elsewhere than in the pod. */
  readonly from: Readonly<Record<string, string>>;
}

export interface ExplainedVolume {
  readonly name: string;
  readonly kind: string;
  readonly kept: boolean;
  readonly why: string;
}

/** `namespaceAnnotations`: of the namespace, those with our prefix, where they count. */
export function explainPod(
  pod: JsonObject,
  namespace: string,
  settings: WebhookSettings,
  namespaceAnnotations: Readonly<Record<string, string>> = {},
): Explanation {
  const request = { uid: 'explain', kind: 'v1/Pod', resource: 'pods', operation: 'CREATE', namespace, object: pod };
  const decision = decide(request, settings, namespaceAnnotations);
  const volumes = ephemeralVolumes(pod, decision);
  switch (decision.kind) {
    case 'skip':
      return {
        decision: 'skip',
        reason: decision.reason,
        refusals: [],
        warnings: decision.warnings,
        injection: null,
        volumes,
      };
    case 'refuse':
      return { decision: 'refuse', reason: null, refusals: decision.refusals, warnings: [], injection: null, volumes };
    case 'inject': {
      const { injection, warnings } = decision;
      const after = patched(pod, render(pod, injection, settings, warnings)) as JsonObject;
      return {
        decision: 'inject',
        reason: null,
        refusals: [],
        warnings,
        injection: explained(injection, after),
        volumes,
      };
    }
  }
}

function explained(injection: Injection, after: JsonObject): ExplainedInjection {
  const { lineage, store, identity, noData } = injection;
  return {
    lineage: 'slot' in lineage.slot ? `${lineage.workload}/${lineage.slot.slot}` : lineage.workload,
    slot: lineage.slot.by,
    store: store.name,
    address: store.address,
    encrypted: store.encrypted,
    schedule: injection.schedule,
    rpo: injection.rpo ?? null,
    image: injection.image,
    user: identity.user ?? null,
    asRoot: identity.asRoot,
    graceSeconds: injection.graceSeconds,
    onFirstBoot: noData.firstBoot,
    onMissing: noData.missing,
    onUnreachable: noData.unreachable,
    keySecret: store.encrypted ? grantSecretName(lineage) : null,
    order: objectsAt(after, 'spec', 'initContainers').map((each) => textAt(each, 'name')),
    from: injection.origins,
  };
}

const ownNames: ReadonlySet<string> = new Set(Object.values(ownVolumes));

function ephemeralVolumes(pod: JsonObject, decision: Decision): readonly ExplainedVolume[] {
  const kept = new Set<string>(decision.kind === 'inject' ? decision.injection.volumes.map(({ name }) => name) : []);
  const found = volumesThatGo(pod);
  return found.map(({ name, kind }) => {
    const isKept = kept.has(name);
    const why = isKept
      ? 'named by the pod'
      : decision.kind === 'inject'
        ? 'not named in holdfast.dev/volumes'
        : decision.kind === 'refuse'
          ? 'the pod is refused'
          : 'the pod did not opt in';
    return { name, kind, kept: isKept, why };
  });
}

export interface VolumeThatGoes {
  readonly name: string;
  readonly kind: string;
  /** Whether it is one that injectors keep secrets and sockets in, by the containers that mount it. */
  readonly mounted: boolean;
}

/** Volumes whose data is gone with the pod: emptyDir, generic ephemeral, CSI inline. Ours are not among them. */
export function volumesThatGo(pod: JsonObject): readonly VolumeThatGoes[] {
  try {
    const { volumes, containers, initContainers } = readPod(pod as Json);
    const others = [...containers, ...initContainers].filter(
      ({ name }) => name !== agentContainer && name !== rehydrateContainer,
    );
    const mounted = new Set(others.flatMap(({ mounts }) => mounts.map(({ volume }) => volume)));
    return volumes.flatMap(({ name, source }) => {
      if (ownNames.has(name) || source.kind === 'other') return [];
      const kind =
        source.kind === 'emptyDir' ? (source.medium === 'Memory' ? 'emptyDir in memory' : 'emptyDir') : source.kind;
      return [{ name, kind, mounted: mounted.has(name) }];
    });
  } catch (error) {
    if (!(error instanceof MalformedError)) throw error;
    return [];
  }
}
