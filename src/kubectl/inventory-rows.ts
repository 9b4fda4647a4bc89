/** Every ephemeral volume of a cluster, and how it stands. Pure: pods and what agents say go in, rows come out. */
import type { AgentStatus } from '../contract/agent-api.ts';
import { agentContainer } from '../contract/pod-layout.ts';
import type { JsonObject } from '../webhook/json.ts';
import { volumesThatGo } from './explanation.ts';
import { objectsAt, textAt } from './objects.ts';
import { pastOf } from './pod-past.ts';

/**
 * protected: the agent runs. behind: it runs, and the newest durable state is older than its objective. failing: it was injected, and agent
 * or restore do not do their work. unprotected: gone with the pod. scratch: unprotected, in a pod that protects other volumes, or that only
 * begins from a checkpoint: it was left out on purpose.
 */
export type VolumeState = 'protected' | 'behind' | 'failing' | 'unprotected' | 'scratch';

export interface InventoryRow {
  readonly namespace: string;
  readonly pod: string;
  /** `statefulset/web`; of a bare pod itself. */
  readonly workload: string;
  readonly volume: string;
  readonly kind: string;
  readonly state: VolumeState;
  readonly lineage: string | null;
  readonly store: string | null;
  /** How old the newest durable state is, and the objective, in seconds; null where the agent was not asked or does not answer. */
  readonly ageSeconds: number | null;
  readonly objectiveSeconds: number | null;
  readonly why: string;
}

/** `agents`: what the agents say, by `NAMESPACE/POD`; an error where one does not answer; absent where it was not asked. */
export function inventoryRows(
  pods: readonly JsonObject[],
  agents: ReadonlyMap<string, AgentStatus | { readonly error: string }>,
): readonly InventoryRow[] {
  return pods.flatMap((pod) => {
    const phase = textAt(pod, 'status', 'phase');
    // What ended has no volumes any more.
    return phase === 'Succeeded' || phase === 'Failed' ? [] : rowsOf(pod, agents);
  });
}

/** Pods whose agents can be asked. */
export function podsWithAgents(pods: readonly JsonObject[]): readonly JsonObject[] {
  return pods.filter((pod) => pastOf(pod).agent === 'running');
}

export function podId(pod: JsonObject): string {
  return `${textAt(pod, 'metadata', 'namespace')}/${textAt(pod, 'metadata', 'name')}`;
}

function rowsOf(
  pod: JsonObject,
  agents: ReadonlyMap<string, AgentStatus | { readonly error: string }>,
): readonly InventoryRow[] {
  const past = pastOf(pod);
  const { status } = past;
  const kept = new Set(past.injected && status?.isSeed !== true ? status?.volumes : []);
  const said = agents.get(podId(pod));
  const live = said !== undefined && !('error' in said) ? said : undefined;
  return volumesThatGo(pod)
    .filter(({ name, mounted }) => mounted || kept.has(name))
    .map(({ name, kind }) => {
      const isKept = kept.has(name);
      const [state, why] = isKept ? stateOfKept(past, said) : stateOfLost(pod, kept.size > 0, past);
      return {
        namespace: textAt(pod, 'metadata', 'namespace'),
        pod: textAt(pod, 'metadata', 'name'),
        workload: workloadOf(pod),
        volume: name,
        kind,
        state,
        lineage: isKept ? (live?.lineage ?? status?.lineage ?? null) : null,
        store: isKept ? (status?.store ?? null) : null,
        ageSeconds: isKept ? (live?.unsaved?.ageSeconds ?? live?.newest?.ageSeconds ?? null) : null,
        objectiveSeconds: isKept ? (live?.objective.seconds ?? null) : null,
        why,
      };
    });
}

function stateOfKept(
  past: ReturnType<typeof pastOf>,
  said: AgentStatus | { readonly error: string } | undefined,
): readonly [VolumeState, string] {
  if (past.restore === 'failed') return ['failing', `the restore has failed: ${past.lines[0] ?? 'see its log'}`];
  if (past.restore === 'running' || past.restore === 'waiting')
    return ['failing', past.lines[0] ?? 'the restore has not ended'];
  if (past.agent !== 'running') return ['failing', past.lines.at(-1) ?? `the container ${agentContainer} does not run`];
  if (said === undefined) return ['protected', 'the agent runs'];
  if ('error' in said) return ['failing', `the agent does not answer: ${said.error}`];
  if (said.fenced) return ['failing', 'a successor has taken the lineage: nothing of this pod is saved any more'];
  if (!said.objective.met) {
    const otherwise = said.newest === null ? 'there is no checkpoint yet' : 'the objective is missed';
    return ['behind', said.problems[0]?.message ?? otherwise];
  }
  if (said.phase !== 'running' && said.phase !== 'draining') return ['failing', `the agent is ${said.phase}`];
  return ['protected', said.problems[0]?.message ?? 'the objective is met'];
}

function stateOfLost(
  pod: JsonObject,
  hasKept: boolean,
  { injected, status }: ReturnType<typeof pastOf>,
): readonly [VolumeState, string] {
  if (injected && status?.isSeed === true) return ['scratch', 'holdfast.dev/slots is seed: the pod keeps nothing'];
  if (hasKept) return ['scratch', 'not named in holdfast.dev/volumes'];
  const inject = textAt(pod, 'metadata', 'annotations', 'holdfast.dev/inject');
  if (inject === 'true' && !injected) {
    return ['unprotected', 'the pod asks for protection and has none: the webhook did not answer when it was created'];
  }
  return ['unprotected', 'the pod does not ask for protection'];
}

/** A Deployment's pods belong to a ReplicaSet, whose name is the Deployment's and a hash. */
function workloadOf(pod: JsonObject): string {
  const owner = objectsAt(pod, 'metadata', 'ownerReferences').find((each) => each['controller'] === true);
  if (owner === undefined) return `pod/${textAt(pod, 'metadata', 'name')}`;
  const [kind, name] = [textAt(owner, 'kind'), textAt(owner, 'name')];
  const hash = textAt(pod, 'metadata', 'labels', 'pod-template-hash');
  if (kind === 'ReplicaSet' && hash !== '' && name.endsWith(`-${hash}`)) {
    return `deployment/${name.slice(0, -hash.length - 1)}`;
  }
  return `${kind.toLowerCase()}/${name}`;
}
