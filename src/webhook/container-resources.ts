/**
 * Requests and limits of the injected containers. Requests always, since an autoscaler of pods computes with those of all
 * containers; limits only where they are asked for, or where without them the pod would fall out of its QoS class. Never of
 * ephemeral storage: one container's limit of it binds the whole pod, and the pod would be evicted for it.
 */
import { type AnnotationName, annotationPrefix } from '../contract/annotations.ts';
import { parseQuantity } from '../contract/quantity.ts';
import type { ContainerResources, KeptVolume, Refusal } from './decision.ts';
import type { EffectiveAnnotations } from './effective.ts';
import type { Container, Pod } from './pod.ts';

export interface InjectedResources {
  readonly rehydrate: ContainerResources;
  readonly agent: ContainerResources;
  readonly refusals: readonly Refusal[];
  readonly warnings: readonly string[];
}

type ResourceName = 'cpu' | 'memory';
const resourceNames = ['cpu', 'memory'] as const;

/** Limits of containers in a pod whose containers all have limits equal to their requests, where nobody gives one. */
const guaranteedLimits: Readonly<Record<ResourceName, string>> = { cpu: '250m', memory: '256Mi' };

export function containerResources(
  pod: Pod,
  kept: readonly KeptVolume[],
  effective: EffectiveAnnotations,
): InjectedResources {
  const requests: Record<string, string> = {};
  const limits: Record<string, string> = {};
  const refusals: Refusal[] = [];
  const warnings: string[] = [];
  const isGuaranteed = pod.resources === undefined && [...pod.containers, ...pod.initContainers].every(hasEqualLimits);
  for (const name of resourceNames) {
    const request = effective.find(`${name}-request` as AnnotationName & `${ResourceName}-request`);
    const limit = effective.find(`${name}-limit` as AnnotationName & `${ResourceName}-limit`);
    if (request === undefined) continue;
    const podLevel = pod.resources?.requests[name] ?? pod.resources?.limits[name];
    if (isGuaranteed) {
      const both = limit?.text ?? larger(request.text, guaranteedLimits[name]);
      limits[name] = both;
      requests[name] = both;
      continue;
    }
    if (limit !== undefined) limits[name] = limit.text;
    // A request of the pod as a whole covers its containers, of which the sum may not be more.
    if (podLevel !== undefined && request.from !== 'pod') {
      // Where a limit stands alone, Kubernetes takes it for the request as well.
      if (limit !== undefined) requests[name] = '0';
      continue;
    }
    if (limit === undefined || amountOf(request.text) <= amountOf(limit.text)) requests[name] = request.text;
    else if (request.from !== 'pod') requests[name] = limit.text;
    else {
      refusals.push({
        annotation: `${annotationPrefix}${name}-request`,
        value: request.text,
        reason: `more than ${annotationPrefix}${name}-limit, which is ${limit.text}`,
        remedy: 'Raise the limit, or ask for less.',
      });
    }
  }
  if (isGuaranteed && (effective.find('cpu-limit') === undefined || effective.find('memory-limit') === undefined)) {
    warnings.push(
      `the pod has the QoS class Guaranteed, so each injected container gets limits equal to its requests: cpu ${limits['cpu']}, memory ${limits['memory']}; choose others with ${annotationPrefix}cpu-limit and ${annotationPrefix}memory-limit`,
    );
  }
  const inMemory = kept.filter((volume) => volume.inMemory);
  const memory = limits['memory'];
  const restoring = { ...limits };
  if (memory !== undefined && inMemory.length > 0) {
    // What is written into a volume in memory is charged to who writes it.
    const bytes = inMemory.reduce((sum, { sizeLimitBytes }) => sum + (sizeLimitBytes ?? 0), amountOf(memory));
    restoring['memory'] = String(Math.ceil(bytes));
    for (const { name, sizeLimitBytes } of inMemory) {
      if (sizeLimitBytes !== undefined) continue;
      warnings.push(
        `volume ${name} is in memory and has no sizeLimit: restoring more into it than the memory limit of ${memory} ends in an OOM kill; give it a sizeLimit`,
      );
    }
  }
  const agent: ContainerResources = { requests, limits };
  const rehydrate: ContainerResources = {
    requests: isGuaranteed ? restoring : requests,
    limits: restoring,
  };
  refusals.push(...podLevelRefusals(pod, agent, rehydrate));
  return { agent, rehydrate, refusals, warnings };
}

/** What of a pod's own requests and limits the injected containers would break. */
function podLevelRefusals(pod: Pod, agent: ContainerResources, rehydrate: ContainerResources): readonly Refusal[] {
  if (pod.resources === undefined) return [];
  const refusals: Refusal[] = [];
  const lasting = [...pod.containers, ...pod.initContainers.filter(({ restartPolicy }) => restartPolicy === 'Always')];
  for (const name of resourceNames) {
    const request = pod.resources.requests[name] ?? pod.resources.limits[name];
    const added = agent.requests[name];
    if (request !== undefined && added !== undefined) {
      const sum = lasting.reduce((total, { resources }) => total + requestOf(resources, name), amountOf(added));
      if (sum > amountOf(request)) {
        refusals.push({
          annotation: `${annotationPrefix}${name}-request`,
          value: added,
          reason: `with it the containers ask for more than the pod as a whole (${request})`,
          remedy: `Leave it out, then the pod's own request covers the injected containers, or raise spec.resources.`,
        });
      }
    }
    const limit = pod.resources.limits[name];
    const own = rehydrate.limits[name];
    if (limit !== undefined && own !== undefined && amountOf(own) > amountOf(limit)) {
      refusals.push({
        annotation: `${annotationPrefix}${name}-limit`,
        value: own,
        reason: `more than the limit of the pod as a whole (${limit})`,
        remedy: 'Leave it out, or raise spec.resources.',
      });
    }
  }
  return refusals;
}

function requestOf({ requests, limits }: Container['resources'], name: ResourceName): number {
  const text = requests[name] ?? limits[name];
  return text === undefined ? 0 : amountOf(text);
}

function hasEqualLimits({ resources }: Container): boolean {
  return resourceNames.every((name) => {
    const limit = resources.limits[name];
    if (limit === undefined || amountOf(limit) === 0) return false;
    return amountOf(resources.requests[name] ?? limit) === amountOf(limit);
  });
}

function amountOf(quantity: string): number {
  return parseQuantity(quantity) ?? 0;
}

function larger(a: string, b: string): string {
  return amountOf(a) > amountOf(b) ? a : b;
}
