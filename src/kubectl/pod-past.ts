/** What has happened to a pod that Holdfast was injected into, from the pod itself: no exec, and no right but to read it. Pure. */
import { annotationPrefix } from '../contract/annotations.ts';
import { agentContainer, rehydrateContainer } from '../contract/pod-layout.ts';
import { parseReceipt } from '../contract/receipt.ts';
import { isObject, type Json, type JsonObject } from '../webhook/json.ts';
import { objectsAt, textAt, valueAt } from './objects.ts';

export interface PodStatus {
  readonly lineage: string;
  readonly volumes: readonly string[];
  readonly store: string;
  readonly rpo: string | null;
  /** Whether the pod only begins from a checkpoint: it has no agent, and keeps nothing. */
  readonly isSeed: boolean;
}

export interface PodPast {
  readonly status: PodStatus | null;
  /** injected: its containers are there. */
  readonly injected: boolean;
  readonly restore: 'running' | 'waiting' | 'done' | 'failed' | 'unknown';
  readonly agent: 'running' | 'waiting' | 'ended' | 'unknown';
  readonly restarts: number;
  /** For people. */
  readonly lines: readonly string[];
}

export function pastOf(pod: JsonObject): PodPast {
  const status = statusOf(pod);
  const names = objectsAt(pod, 'spec', 'initContainers').map((each) => textAt(each, 'name'));
  const isSeed = status?.isSeed === true;
  const injected = names.includes(rehydrateContainer) && (isSeed || names.includes(agentContainer));
  const states = objectsAt(pod, 'status', 'initContainerStatuses');
  const stateOf = (name: string): JsonObject | undefined => states.find((each) => textAt(each, 'name') === name);
  const [rehydrate, agent] = [stateOf(rehydrateContainer), stateOf(agentContainer)];
  const lines: string[] = [];
  if (!injected) {
    lines.push(
      status === null
        ? 'no containers of Holdfast are in it: it was created before it opted in, or without the webhook'
        : `it has ${annotationPrefix}status, but lacks the containers: somebody took them out`,
    );
  }
  if (injected && isSeed) lines.push('it begins from a checkpoint of its workload, and keeps nothing: it has no agent');
  const restore = restoreState(rehydrate, lines);
  return {
    status,
    injected,
    restore,
    agent: agentState(agent, injected, lines),
    restarts: numberAt(agent, 'restartCount'),
    lines,
  };
}

/** What the webhook wrote; null where it is not there or is not of its form. */
export function statusOf(pod: JsonObject): PodStatus | null {
  const text = textAt(pod, 'metadata', 'annotations', `${annotationPrefix}status`);
  try {
    const given = JSON.parse(text) as Json;
    if (!isObject(given)) return null;
    const volumes = valueAt(given, 'volumes');
    return {
      lineage: textAt(given, 'lineage'),
      volumes: Array.isArray(volumes) ? volumes.filter((each) => typeof each === 'string') : [],
      store: textAt(given, 'store'),
      rpo: textAt(given, 'rpo') || null,
      isSeed: textAt(given, 'slot') === 'seed',
    };
  } catch {
    return null;
  }
}

function restoreState(container: JsonObject | undefined, lines: string[]): PodPast['restore'] {
  if (container === undefined) return 'unknown';
  const ended = valueAt(container, 'state', 'terminated');
  if (isObject(ended)) {
    const message = textAt(ended, 'message');
    const receipt = parseReceipt(message);
    if (receipt !== undefined) {
      const from = receipt.from === null ? '' : ` checkpoint ${receipt.from.slot} of ${receipt.from.time}`;
      lines.push(`${receipt.outcome}${from}: ${receipt.policy.why}`);
    } else if (message !== '') lines.push(message.trim().split('\n').slice(-3).join(' | ').slice(0, 600));
    return numberAt(ended, 'exitCode') === 0 ? 'done' : 'failed';
  }
  if (isObject(valueAt(container, 'state', 'running'))) {
    lines.push('the restore is under way');
    return 'running';
  }
  const reason = textAt(container, 'state', 'waiting', 'reason');
  if (reason !== '' && reason !== 'PodInitializing') {
    lines.push(`${rehydrateContainer} waits: ${reason} ${textAt(container, 'state', 'waiting', 'message')}`.trim());
  }
  return 'waiting';
}

function agentState(container: JsonObject | undefined, injected: boolean, lines: string[]): PodPast['agent'] {
  if (!injected || container === undefined) return 'unknown';
  const restarts = numberAt(container, 'restartCount');
  if (restarts > 0) lines.push(`the agent was started again ${restarts} times`);
  if (isObject(valueAt(container, 'state', 'running'))) return 'running';
  if (isObject(valueAt(container, 'state', 'terminated'))) return 'ended';
  const reason = textAt(container, 'state', 'waiting', 'reason');
  if (reason !== '' && reason !== 'PodInitializing') lines.push(`${agentContainer} waits: ${reason}`);
  return 'waiting';
}

function numberAt(object: Json | undefined, key: string): number {
  const value = valueAt(object, key);
  return typeof value === 'number' ? value : 0;
}
