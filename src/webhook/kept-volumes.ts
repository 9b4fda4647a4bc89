/** The volumes that a pod wants kept, each looked at: what kind it is, how large it may become, who writes it. */
import { annotationPrefix } from '../contract/annotations.ts';
import { parseQuantity } from '../contract/quantity.ts';
import { nearest } from '../engine/model/nearest.ts';
import type { KeptVolume, Refusal, VolumeSelection } from './decision.ts';
import type { EffectiveAnnotations } from './effective.ts';
import type { Container, Pod, Volume } from './pod.ts';

export interface KeptVolumes {
  readonly kept: readonly KeptVolume[];
  readonly selection: VolumeSelection;
  readonly refusals: readonly Refusal[];
  readonly warnings: readonly string[];
}

const kindsText = 'emptyDir, generic ephemeral and CSI inline volumes can be kept';

export function keptVolumes(pod: Pod, effective: EffectiveAnnotations): KeptVolumes {
  const annotation = `${annotationPrefix}volumes`;
  const named = effective.find('volumes');
  const names = pod.volumes.map(({ name }) => name);
  if (named === undefined) {
    const candidates = pod.volumes.filter(({ source }) => source.kind !== 'other').map(({ name }) => name);
    return refused({
      annotation,
      value: '',
      reason: 'no volume is named',
      remedy:
        candidates.length === 0
          ? `This pod has none that can be kept: ${kindsText}.`
          : `Name those to keep, such as "${candidates[0]}"; this pod has: ${listText(candidates)}.`,
    });
  }
  const kept: KeptVolume[] = [];
  const refusals: Refusal[] = [];
  const warnings: string[] = [];
  for (const name of named.value) {
    const volume = pod.volumes.find((each) => each.name === name);
    const why = volume === undefined ? missing(name, names) : unfit(volume);
    if (why !== undefined) {
      refusals.push({ annotation, value: named.text, ...why });
      continue;
    }
    const { source } = volume as Volume;
    const limit = source.kind === 'emptyDir' ? source.sizeLimit : undefined;
    kept.push({
      name,
      isEmptyDir: source.kind === 'emptyDir',
      inMemory: source.kind === 'emptyDir' && source.medium === 'Memory',
      sizeLimitBytes: limit === undefined ? undefined : positive(parseQuantity(limit)),
      restoreFirst: effective.findForVolume('restore-first', name)?.value ?? [],
    });
    warnings.push(...mountWarnings(name, [...pod.containers, ...pod.initContainers]));
  }
  for (const own of effective.ownForVolumes()) {
    const volume = own.slice(own.indexOf('.') + 1);
    if (named.value.some((each) => each === volume)) continue;
    refusals.push({
      annotation: `${annotationPrefix}${own}`,
      value: volume,
      reason: 'this volume is not kept',
      remedy: `Name it in ${annotation} ("${named.text.slice(0, 200)}"), or correct its name.`,
    });
  }
  const selection = selectionOf(named.value, effective);
  if ('remedy' in selection) refusals.push(selection);
  return { kept, selection: 'remedy' in selection ? nothingSelected : selection, refusals, warnings };
}

const nothingSelected: VolumeSelection = { include: [], exclude: [] };

/** An agent takes the same globs for all of its volumes: where they differ, one of them would lose or store what it should not. */
function selectionOf(names: readonly string[], effective: EffectiveAnnotations): VolumeSelection | Refusal {
  const each = names.map((name) => ({
    include: effective.findForVolume('include', name)?.value ?? [],
    exclude: effective.findForVolume('exclude', name)?.value ?? [],
  }));
  const first = each[0] ?? nothingSelected;
  const other = each.findIndex((one) => JSON.stringify(one) !== JSON.stringify(first));
  if (other < 0) return first;
  return {
    annotation: `${annotationPrefix}volumes`,
    value: names.join(','),
    reason: `${names[0]} and ${names[other]} have different include or exclude globs, which this version cannot keep apart`,
    remedy: 'Give all kept volumes the same ones.',
  };
}

function refused(refusal: Refusal): KeptVolumes {
  return { kept: [], selection: nothingSelected, refusals: [refusal], warnings: [] };
}

function listText(names: readonly string[]): string {
  return names.length <= 12 ? names.join(', ') : `${names.slice(0, 12).join(', ')} and ${names.length - 12} more`;
}

function positive(bytes: number | undefined): number | undefined {
  return bytes === undefined || bytes < 1 ? undefined : Math.floor(bytes);
}

type Why = Pick<Refusal, 'reason' | 'remedy'>;

function missing(name: string, names: readonly string[]): Why {
  const near = nearest(name, names);
  return {
    reason: `the pod has no volume ${name}`,
    remedy: near === undefined ? `It has: ${listText(names)}.` : `Did you mean ${near}? It has: ${listText(names)}.`,
  };
}

function unfit({ name, source }: Volume): Why | undefined {
  const remedy = `Leave ${name} out: ${kindsText}.`;
  switch (source.kind) {
    case 'emptyDir':
      return source.medium === '' || source.medium === 'Memory'
        ? undefined
        : { reason: `${name} is an emptyDir with the medium ${source.medium}, in which files cannot be kept`, remedy };
    case 'ephemeral':
      return source.volumeMode === 'Filesystem'
        ? undefined
        : { reason: `${name} is a volume of mode ${source.volumeMode}, without files`, remedy };
    case 'csi':
      return source.readOnly
        ? { reason: `${name} is read-only, as ${source.driver} mounts it: nothing in it can be restored`, remedy }
        : undefined;
    case 'other':
      return { reason: `${name} is a ${source.type}`, remedy };
  }
}

function mountWarnings(name: string, containers: readonly Container[]): readonly string[] {
  const mounts = containers.flatMap((each) => each.mounts.filter(({ volume }) => volume === name));
  if (mounts.length === 0) return [`volume ${name} is kept, but no container mounts it`];
  if (mounts.every(({ readOnly }) => readOnly)) return [`volume ${name} is kept, but no container may write it`];
  return mounts
    .filter(({ subPathExpr }) => subPathExpr?.includes('$(') === true)
    .map(
      ({ subPathExpr }) =>
        `volume ${name} is mounted at the sub-path ${JSON.stringify(subPathExpr)}: where that differs between pods, a new pod does not see what its predecessor wrote`,
    );
}
