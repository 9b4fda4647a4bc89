/**
 * Every annotation of Holdfast: what it means, its strict parser, its default. The webhook reads pods by this table, and
 * docs/annotations.md is made from it (`node tools/annotations-page.ts`).
 */
import { toVolumeName, type VolumeName } from '../engine/model/ids.ts';
import { nearest } from '../engine/model/nearest.ts';
import {
  annotationLengthMax,
  boolean,
  checkpointName,
  duration,
  globs,
  hookAddress,
  image,
  integer,
  lineagePart,
  name,
  names,
  type NoDataPolicy,
  noDataPolicy,
  oneOf,
  type ParsedValue,
  type Parser,
  quantity,
  type Schedule,
  schedule,
  volumeNames,
  type WorkloadName,
  workloadName,
} from './annotation-parsers.ts';

export const annotationPrefix = 'holdfast.dev/';

/** What each annotation says, parsed. */
export interface AnnotationValues {
  readonly inject: boolean;
  readonly volumes: readonly VolumeName[];
  readonly schedule: Schedule;
  readonly rpo: number;
  readonly rto: number;
  readonly store: string;
  readonly policy: string;
  readonly lineage: WorkloadName;
  readonly slot: string;
  readonly slots: 'claim' | 'seed' | 'refuse';
  readonly replicas: number;
  readonly 'when-held': 'take' | 'fork';
  readonly 'handoff-wait': number;
  readonly 'on-first-boot': NoDataPolicy;
  readonly 'on-missing': NoDataPolicy;
  readonly 'on-unreachable': NoDataPolicy;
  readonly 'restore-at': string;
  readonly 'hook.pre-checkpoint': string;
  readonly 'hook.post-checkpoint': string;
  readonly 'hook.post-restore': string;
  readonly 'hook-timeout': number;
  readonly 'run-as-user': number;
  readonly 'run-as-group': number;
  readonly 'cpu-request': string;
  readonly 'cpu-limit': string;
  readonly 'memory-request': string;
  readonly 'memory-limit': string;
  readonly image: string;
  readonly 'log-level': 'debug' | 'info' | 'warn' | 'error';
  readonly 'grace-at-least': number;
  readonly 'safe-to-evict': boolean;
  readonly 'wait-for-agent': boolean;
  readonly 'start-after': readonly string[];
}

/** Those that are written once for each volume: `exclude.VOLUME`. */
export interface VolumeAnnotationValues {
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  readonly 'restore-first': readonly string[];
}

export type AnnotationName = keyof AnnotationValues;
export type VolumeAnnotationName = keyof VolumeAnnotationValues;

export interface AnnotationInfo<Value> {
  readonly parse: Parser<Value>;
  /** The form of a value, for people. */
  readonly form: string;
  readonly example: string;
  /** What stands there where nobody says anything; undefined where that is nothing. */
  readonly otherwise?: string;
  /** Counts on a pod only: a namespace, a policy or the chart cannot say it for pods that do not. */
  readonly podOnly?: true;
  readonly help: string;
}

export const annotations: { readonly [Name in AnnotationName]: AnnotationInfo<AnnotationValues[Name]> } = {
  inject: {
    parse: boolean,
    form: '`true` or `false`',
    example: 'true',
    otherwise: 'false',
    podOnly: true,
    help: 'Opts the pod in. Without it nothing of the pod is read or changed.',
  },
  volumes: {
    parse: volumeNames,
    form: 'names of volumes of the pod, with commas',
    example: 'cache,index',
    help: 'Which volumes are kept: emptyDir on disk or in memory, generic ephemeral, CSI inline. Never all by itself, since injectors keep secrets and sockets in volumes of the same kinds.',
  },
  schedule: {
    parse: schedule,
    form: 'a duration from 1s to 7d, or a cron expression of five fields',
    example: '30s',
    otherwise: '60s',
    help: 'How often a checkpoint is made. Nothing is stored where nothing has changed.',
  },
  rpo: {
    parse: duration('1s', '30d'),
    form: 'a duration from 1s to 30d',
    example: '60s',
    help: 'Recovery point objective: how old the newest durable checkpoint may become before it counts as a failure.',
  },
  rto: {
    parse: duration('1s', '7d'),
    form: 'a duration from 1s to 7d',
    example: '5m',
    help: 'Recovery time objective: how long a restore may take before it counts as a failure.',
  },
  store: {
    parse: name,
    form: 'the name of a store of the settings',
    example: 'team-a',
    otherwise: 'default',
    help: 'Which store keeps the checkpoints. A store says which namespaces may use it.',
  },
  policy: {
    parse: name,
    form: 'the name of a policy of the settings',
    example: 'gold',
    help: 'A set of annotations with a name, which counts where neither the pod nor its namespace says something else. A policy says which namespaces may use it.',
  },
  lineage: {
    parse: workloadName,
    form: '`KIND/NAME`',
    example: 'cronjob/report',
    help: "Whose data it is, in place of the pod's owner. Cluster and namespace stand before it and cannot be chosen.",
  },
  slot: {
    parse: lineagePart,
    form: 'one part of a lineage',
    example: '0',
    podOnly: true,
    help: 'Which member of the workload this pod is, in place of the ordinal, index, node or name that its owner gives it.',
  },
  slots: {
    parse: oneOf('claim', 'seed', 'refuse'),
    form: '`refuse`, `claim` or `seed`',
    example: 'claim',
    otherwise: 'refuse',
    help: 'Pods of a Deployment have no identity. `refuse`: they share slot 0, and a second pod waits for the first one to end. `claim`: numbered slots, as many as `replicas` says, and each new pod inherits exactly one predecessor. `seed`: all start from the newest checkpoint of slot 0, which another workload writes (`lineage`, `slot`), and none of them writes it, so no agent is injected.',
  },
  replicas: {
    parse: integer(1, 1000),
    form: 'a whole number from 1 to 1000',
    example: '3',
    help: 'With `slots: claim`: how many slots there are, as many as the Deployment has replicas.',
  },
  'when-held': {
    parse: oneOf('take', 'fork'),
    form: '`take` or `fork`',
    example: 'fork',
    otherwise: 'take',
    help: 'With `slots: claim`, all slots are held, as in a surge rollout. `take`: the slot of the pod that ends first, which is fenced. `fork`: a new slot from its newest checkpoint, and its pod goes on.',
  },
  'handoff-wait': {
    parse: duration('1s', '1h'),
    form: 'a duration from 1s to 1h',
    example: '45s',
    otherwise: '30s',
    help: "How long a pod waits for its predecessor's final checkpoint before it starts from the newest one there is.",
  },
  'on-first-boot': {
    parse: noDataPolicy('empty', 'block'),
    form: '`empty`, `block` or `block:DURATION`',
    example: 'block:10m',
    otherwise: 'empty',
    help: 'Nothing was ever stored. `block` waits until something is; past the duration the init container fails and nothing starts.',
  },
  'on-missing': {
    parse: noDataPolicy('empty', 'block', 'older'),
    form: '`empty`, `block`, `block:DURATION` or `older:DURATION`',
    example: 'older:24h',
    otherwise: 'block',
    help: 'There should be a checkpoint and it is missing or damaged. `older`: the newest good one that is not older than the duration.',
  },
  'on-unreachable': {
    parse: noDataPolicy('empty', 'block', 'older'),
    form: '`empty`, `block`, `block:DURATION` or `older:DURATION`',
    example: 'block:10m',
    otherwise: 'block',
    help: 'The store does not answer, or holds no repository. Never taken for a first boot.',
  },
  'restore-at': {
    parse: checkpointName,
    form: 'the id of a checkpoint (6 hexadecimal digits or more), or a time',
    example: '2026-03-01T12:00Z',
    podOnly: true,
    help: 'Rollback: the pods that start next restore this checkpoint, or the newest made until then. Honoured once per value and slot: as soon as a checkpoint was made of what was restored, pods go on from there. Recorded in the receipt.',
  },
  'hook.pre-checkpoint': {
    parse: hookAddress,
    form: 'an HTTP address on the loopback of the pod',
    example: 'http://127.0.0.1:8080/quiesce',
    help: 'Is called (POST) before a checkpoint: the application makes its files consistent.',
  },
  'hook.post-checkpoint': {
    parse: hookAddress,
    form: 'an HTTP address on the loopback of the pod',
    example: 'http://127.0.0.1:8080/thaw',
    help: 'Is called (POST) after it, whatever became of it.',
  },
  'hook.post-restore': {
    parse: hookAddress,
    form: 'an HTTP address on the loopback of the pod',
    example: 'http://127.0.0.1:8080/reload',
    help: 'Is called (POST) once after a restore, as soon as the application listens.',
  },
  'hook-timeout': {
    parse: duration('1s', '5m'),
    form: 'a duration from 1s to 5m',
    example: '5s',
    otherwise: '10s',
    help: 'How long each of these calls may take.',
  },
  'run-as-user': {
    parse: integer(0, 2_147_483_647),
    form: 'a user id',
    example: '1000',
    help: 'User of the injected containers. Without it: that of the containers that mount the volumes, else of the pod, else of the settings. 0 runs as root with four capabilities, which PodSecurity `baseline` admits and `restricted` does not.',
  },
  'run-as-group': {
    parse: integer(0, 2_147_483_647),
    form: 'a group id',
    example: '1000',
    help: 'Group of the injected containers, found in the same way.',
  },
  'cpu-request': {
    parse: quantity,
    form: 'a quantity',
    example: '50m',
    otherwise: '20m',
    help: 'CPU request of each injected container.',
  },
  'cpu-limit': {
    parse: quantity,
    form: 'a quantity',
    example: '1',
    help: 'CPU limit of each injected container. Without it there is none, unless all others have limits equal to their requests.',
  },
  'memory-request': {
    parse: quantity,
    form: 'a quantity',
    example: '160Mi',
    otherwise: '128Mi',
    help: 'Memory request of each injected container.',
  },
  'memory-limit': {
    parse: quantity,
    form: 'a quantity',
    example: '256Mi',
    help: 'Memory limit of each injected container. The restoring one gets the `sizeLimit` of volumes in memory on top, since what it writes there is charged to it.',
  },
  image: {
    parse: image,
    form: 'the name of an image',
    example: 'registry.example/holdfast:1.2.3',
    help: 'Image of the injected containers, in place of that of the settings. Only where the settings allow it.',
  },
  'log-level': {
    parse: oneOf('debug', 'info', 'warn', 'error'),
    form: '`debug`, `info`, `warn` or `error`',
    example: 'debug',
    otherwise: 'info',
    help: 'What the injected containers log.',
  },
  'grace-at-least': {
    parse: duration('1s', '1h'),
    form: 'a duration from 1s to 1h, in whole seconds',
    example: '90s',
    help: 'Raises `terminationGracePeriodSeconds` of the pod to this, and never lowers it. Without it the period is never changed.',
  },
  'safe-to-evict': {
    parse: boolean,
    form: '`true` or `false`',
    example: 'true',
    otherwise: 'false',
    help: 'Adds the kept volumes, and that of the injected containers, to `cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes`, so that the autoscaler may remove the node.',
  },
  'wait-for-agent': {
    parse: boolean,
    form: '`true` or `false`',
    example: 'true',
    otherwise: 'false',
    help: 'Whether the application starts only when the agent has its lineage. Without it the application starts beside an agent that is broken, and is not protected; with it, it does not start at all.',
  },
  'start-after': {
    parse: names,
    form: 'names of init containers of the pod, with commas',
    example: 'vault-agent-init',
    help: 'Init containers that have to run before the restore, beside the proxies of service meshes that are known by name.',
  },
};

export const volumeAnnotations: {
  readonly [Name in VolumeAnnotationName]: AnnotationInfo<VolumeAnnotationValues[Name]>;
} = {
  include: {
    parse: globs,
    form: 'globs with commas, or one a line',
    example: 'data/**',
    help: 'Keeps only what matches, or lies below what matches.',
  },
  exclude: {
    parse: globs,
    form: 'globs with commas, or one a line',
    example: '*.tmp,lost+found',
    help: 'Leaves out what matches, and what is below it.',
  },
  'restore-first': {
    parse: globs,
    form: 'globs with commas, or one a line',
    example: 'hot/**',
    help: 'Is restored before the rest. All of it is restored before the application starts.',
  },
};

/** What Holdfast writes itself; on a pod that is created it counts for nothing. */
export const writtenAnnotations: Readonly<Record<'status', { readonly help: string }>> = {
  status: {
    help: 'Written by the webhook: JSON with what was injected (volumes, store, lineage, schedule, user, warnings) and from where each value came.',
  },
};

/** What the annotations of one place say, and what is wrong with them. */
export interface AnnotationReading {
  readonly values: ReadonlyMap<AnnotationName, ReadAnnotation>;
  readonly perVolume: ReadonlyMap<string, ReadAnnotation>;
  readonly problems: readonly AnnotationProblem[];
}

export interface ReadAnnotation {
  readonly text: string;
  readonly value: unknown;
}

export interface AnnotationProblem {
  /** With its prefix. */
  readonly annotation: string;
  readonly value: string;
  readonly problem: string;
  readonly remedy: string;
}

/**
 * Reads what has our prefix, and nothing else. `place`: where they stand; what counts on a pod only is refused elsewhere. An
 * annotation that does not exist is a problem as well: a misspelt `exclude` must not store what was to be left out.
 */
export function readAnnotations(
  given: Readonly<Record<string, string>>,
  place: 'pod' | 'elsewhere',
): AnnotationReading {
  const values = new Map<AnnotationName, ReadAnnotation>();
  const perVolume = new Map<string, ReadAnnotation>();
  const problems: AnnotationProblem[] = [];
  for (const [key, text] of Object.entries(given)) {
    if (!key.startsWith(annotationPrefix)) continue;
    const own = key.slice(annotationPrefix.length);
    if (Object.hasOwn(writtenAnnotations, own)) continue;
    const add = (problem: string, remedy: string): void => {
      problems.push({ annotation: key, value: text, problem, remedy });
    };
    const found = infoOf(own);
    if (found === undefined) {
      add('there is no such annotation', remedyForUnknown(own));
      continue;
    }
    if (found.info.podOnly === true && place !== 'pod') {
      add('counts on a pod only', `Write ${key} on the pods themselves.`);
      continue;
    }
    const parsed: ParsedValue<unknown> =
      text.length > annotationLengthMax
        ? { problem: `longer than ${annotationLengthMax} characters` }
        : found.info.parse(text);
    if ('problem' in parsed) {
      add(parsed.problem, `Write ${found.info.form}, such as "${found.info.example}".`);
    } else if (found.name !== undefined) values.set(found.name, { text, value: parsed.value });
    else perVolume.set(own, { text, value: parsed.value });
  }
  return { values, perVolume, problems };
}

interface FoundInfo {
  readonly info: AnnotationInfo<unknown>;
  /** Undefined for those that are written for each volume. */
  readonly name: AnnotationName | undefined;
}

function infoOf(own: string): FoundInfo | undefined {
  if (Object.hasOwn(annotations, own)) {
    const known = own as AnnotationName;
    return { info: annotations[known], name: known };
  }
  const dot = own.indexOf('.');
  const kind = own.slice(0, Math.max(0, dot));
  if (!Object.hasOwn(volumeAnnotations, kind) || !isVolumeName(own.slice(dot + 1))) return undefined;
  return { info: volumeAnnotations[kind as VolumeAnnotationName], name: undefined };
}

function isVolumeName(text: string): boolean {
  try {
    return toVolumeName(text) !== '';
  } catch {
    return false;
  }
}

function remedyForUnknown(own: string): string {
  const dot = own.indexOf('.');
  const perVolume = Object.keys(volumeAnnotations);
  if (perVolume.includes(own)) return `Name the volume: ${annotationPrefix}${own}.VOLUME.`;
  const near = nearest(own, Object.keys(annotations)) ?? nearest(own.slice(0, Math.max(0, dot)), perVolume);
  if (near === undefined) return 'docs/annotations.md lists those that exist.';
  return `Did you mean ${annotationPrefix}${near}${perVolume.includes(near) ? own.slice(dot) : ''}?`;
}
