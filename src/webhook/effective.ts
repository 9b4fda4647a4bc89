/** What counts for a pod: its own annotations, else its namespace's, else the settings' for its namespace, its policy, or all, else what is built in. */
import {
  type AnnotationName,
  annotationPrefix,
  type AnnotationReading,
  annotations,
  type AnnotationValues,
  type ReadAnnotation,
  type VolumeAnnotationName,
  type VolumeAnnotationValues,
} from '../contract/annotations.ts';
import { mayUse, type Policy, type WebhookSettings } from './settings.ts';
import type { Refusal } from './decision.ts';

/** namespace-annotation: written on the namespace. namespace: for that namespace in the settings. */
export type Origin = 'pod' | 'namespace-annotation' | 'namespace' | 'policy' | 'settings' | 'built-in';

/** Whether it stands where those write who run Holdfast, and nobody else. */
export function isOfSettings(from: Origin): boolean {
  return from !== 'pod' && from !== 'namespace-annotation';
}

export interface Effective<Value> {
  readonly value: Value;
  /** As it was written. */
  readonly text: string;
  readonly from: Origin;
}

export class EffectiveAnnotations {
  readonly #layers: readonly (readonly [Origin, AnnotationReading])[];

  constructor(layers: readonly (readonly [Origin, AnnotationReading])[]) {
    this.#layers = layers;
  }

  /** Undefined where nobody says anything and nothing is built in. */
  find<Name extends AnnotationName>(name: Name): Effective<AnnotationValues[Name]> | undefined {
    for (const [from, layer] of this.#layers) {
      const read = layer.values.get(name);
      if (read !== undefined) return { ...(read as ReadAnnotation & { value: AnnotationValues[Name] }), from };
    }
    const { otherwise, parse } = annotations[name];
    if (otherwise === undefined) return undefined;
    const parsed = parse(otherwise);
    return 'value' in parsed ? { value: parsed.value, text: otherwise, from: 'built-in' } : undefined;
  }

  findForVolume<Name extends VolumeAnnotationName>(
    name: Name,
    volume: string,
  ): Effective<VolumeAnnotationValues[Name]> | undefined {
    for (const [from, layer] of this.#layers) {
      const read = layer.perVolume.get(`${name}.${volume}`);
      if (read !== undefined) return { ...(read as ReadAnnotation & { value: VolumeAnnotationValues[Name] }), from };
    }
    return undefined;
  }

  /** Those of the pod itself that are written for a volume, such as `exclude.data`. */
  ownForVolumes(): readonly string[] {
    return this.#layers.flatMap(([from, { perVolume }]) => (from === 'pod' ? [...perVolume.keys()] : []));
  }
}

/** The annotations that count, or why the pod may not have the policy that they name. */
export function effectiveAnnotations(
  own: AnnotationReading,
  ofNamespace: AnnotationReading,
  namespace: string,
  settings: WebhookSettings,
): EffectiveAnnotations | Refusal {
  const nothing: AnnotationReading = { values: new Map(), perVolume: new Map(), problems: [] };
  const nearer: readonly (readonly [Origin, AnnotationReading])[] = [
    ['pod', own],
    ['namespace-annotation', ofNamespace],
    ['namespace', settings.namespaces.get(namespace) ?? nothing],
  ];
  const last: readonly [Origin, AnnotationReading] = ['settings', settings.defaults];
  const without = new EffectiveAnnotations([...nearer, last]);
  const named = without.find('policy');
  if (named === undefined) return without;
  const policy: Policy | undefined = settings.policies.get(named.value);
  const usable = [...settings.policies].filter(([, each]) => mayUse(each.namespaces, namespace)).map(([name]) => name);
  const remedy =
    usable.length === 0 ? 'Remove it: no policy is for this namespace.' : `Name one that is: ${usable.join(', ')}.`;
  const refuse = (reason: string): Refusal => ({
    annotation: `${annotationPrefix}policy`,
    value: named.text,
    reason,
    remedy,
  });
  if (policy === undefined) return refuse('there is no such policy');
  if (!mayUse(policy.namespaces, namespace)) return refuse(`the policy is not for the namespace ${namespace}`);
  return new EffectiveAnnotations([...nearer, ['policy', policy.annotations], last]);
}
