/** What the chart tells the webhook: one JSON file, read strictly and frozen. docs/kubernetes.md, "Settings". */
import { type AnnotationReading, readAnnotations } from '../contract/annotations.ts';
import { HoldfastError } from '../engine/model/errors.ts';
import { type JsonObject, JsonReader, MalformedError } from './json.ts';

export interface WebhookSettings {
  /** First part of every lineage. */
  readonly cluster: string;
  readonly image: string;
  readonly imagePullPolicy: 'Always' | 'IfNotPresent' | 'Never' | undefined;
  /** Whether a pod may name another image. */
  readonly imageOverride: boolean;
  /** Annotations that count where nobody else says something. */
  readonly defaults: AnnotationReading;
  /** Annotations by namespace. */
  readonly namespaces: ReadonlyMap<string, AnnotationReading>;
  readonly policies: ReadonlyMap<string, Policy>;
  readonly stores: ReadonlyMap<string, Store>;
  /** What pods ask whether the holder of their lineage is gone. */
  readonly service: Service | undefined;
  /** What happens where neither the pod nor anybody else says which user the application runs as. */
  readonly unknownUser: 'root' | 'refuse';
  readonly platform: 'kubernetes' | 'openshift';
  readonly hostNetwork: 'refuse' | 'allow';
  /** What a pod here uploads, as measured; undefined where it was not. */
  readonly uploadBytesPerSecond: number | undefined;
  /** Where agents give their metrics to who asks; undefined: nowhere. */
  readonly metricsPort: number | undefined;
  /** Init containers that have to run before a restore, beside those that are known. */
  readonly startAfter: readonly string[];
}

/** Of pods' tokens, where the settings say none. */
export const defaultAudience = 'holdfast';

export interface Service {
  readonly url: string;
  /** Of the token with which pods ask. */
  readonly audience: string;
  /** A ConfigMap in the pod's namespace with the key `ca.crt`. */
  readonly caConfigMap: string | undefined;
  /** The same as PEM. Without either it is the one that this webhook serves with, and without that one the system's. */
  readonly ca: string | undefined;
}

/** `namespaces`: names, with `*` for any characters. */
export interface Policy {
  readonly namespaces: readonly string[];
  readonly annotations: AnnotationReading;
}

export interface Store {
  readonly address: string;
  readonly namespaces: readonly string[];
  /** Whether pods get the keys of their workload, from a Secret in their namespace. */
  readonly encrypted: boolean;
  /** A Secret in the pod's namespace with the key `credentials`: a file as AWS's tools have it. */
  readonly credentialsSecret: string | undefined;
  /** A role of AWS that pods take with a token of their own. */
  readonly roleArn: string | undefined;
  /** Whether pods may fall back to the credentials of their node. */
  readonly nodeRole: boolean;
  /** A ConfigMap in the pod's namespace with the key `ca.crt`. */
  readonly caConfigMap: string | undefined;
  /** A claim in the pod's namespace that holds a directory store; mounted at the path of the address. */
  readonly claim: string | undefined;
  /** Environment of the injected containers. */
  readonly env: Readonly<Record<string, string>>;
}

/** E_USAGE with the place that is wrong. */
export function parseSettings(text: string): WebhookSettings {
  try {
    return readSettings(new JsonReader(JSON.parse(text) as JsonObject, ''));
  } catch (error) {
    if (error instanceof MalformedError) throw wrong(error.message, error);
    if (error instanceof SyntaxError) throw wrong(`they are not JSON: ${error.message}`, error);
    throw error;
  }
}

function wrong(message: string, cause?: unknown): HoldfastError {
  return new HoldfastError('E_USAGE', `the settings of the webhook are wrong: ${message}`, {
    remedy: 'Mend the settings file; docs/kubernetes.md, "Settings", lists what it may hold.',
    ...(cause === undefined ? {} : { cause }),
  });
}

const known = [
  'cluster',
  'image',
  'imagePullPolicy',
  'imageOverride',
  'defaults',
  'namespaces',
  'policies',
  'stores',
  'service',
  'unknownUser',
  'platform',
  'hostNetwork',
  'uploadBytesPerSecond',
  'metricsPort',
  'startAfter',
];

function readSettings(settings: JsonReader): WebhookSettings {
  refuseUnknown(settings, known);
  const cluster = settings.requiredText('cluster');
  if (!/^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/.test(cluster)) {
    throw new MalformedError('cluster', 'a name of at most 63 letters, digits, dots, dashes and underscores');
  }
  const service = settings.object('service');
  if (service !== undefined) refuseUnknown(service, ['url', 'audience', 'caConfigMap', 'ca']);
  const stores = new Map(membersOf(settings, 'stores').map(([name, store]) => [name, readStore(store)]));
  if (stores.size === 0) throw new MalformedError('stores', 'an object with one store or more');
  return Object.freeze({
    cluster,
    image: settings.requiredText('image'),
    imagePullPolicy: choice(settings, 'imagePullPolicy', ['Always', 'IfNotPresent', 'Never'] as const),
    imageOverride: settings.boolean('imageOverride') ?? false,
    defaults: annotationsIn(settings, 'defaults'),
    namespaces: new Map(
      membersOf(settings, 'namespaces').map(([name, given]) => [name, readAnnotationsOf(given)] as const),
    ),
    policies: new Map(membersOf(settings, 'policies').map(([name, policy]) => [name, readPolicy(policy)] as const)),
    stores,
    service:
      service === undefined
        ? undefined
        : {
            url: service.requiredText('url'),
            audience: service.text('audience') ?? defaultAudience,
            caConfigMap: service.text('caConfigMap'),
            ca: certificatesIn(service),
          },
    unknownUser: choice(settings, 'unknownUser', ['root', 'refuse'] as const) ?? 'root',
    platform: choice(settings, 'platform', ['kubernetes', 'openshift'] as const) ?? 'kubernetes',
    hostNetwork: choice(settings, 'hostNetwork', ['refuse', 'allow'] as const) ?? 'refuse',
    uploadBytesPerSecond: settings.count('uploadBytesPerSecond') || undefined,
    metricsPort: metricsPortIn(settings),
    startAfter: settings.texts('startAfter'),
  });
}

const caLengthMax = 32_768;

function certificatesIn(service: JsonReader): string | undefined {
  const text = service.text('ca');
  if (text === undefined) return undefined;
  const isPem = /^-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n-]+-----END CERTIFICATE-----\n?/.test(text);
  if (isPem && text.length <= caLengthMax) return text;
  throw new MalformedError(`${service.path}.ca`, 'one or more certificates as PEM');
}

/** 0 and nothing are the same: a chart has a number there. */
function metricsPortIn(settings: JsonReader): number | undefined {
  const port = settings.count('metricsPort') ?? 0;
  if (port > 65_535) throw new MalformedError('metricsPort', 'a port');
  return port === 0 ? undefined : port;
}

function refuseUnknown(reader: JsonReader, names: readonly string[]): void {
  const [unknown] = reader.unknown(names);
  if (unknown !== undefined) {
    throw new MalformedError(reader.path === '' ? unknown : `${reader.path}.${unknown}`, 'a setting that exists');
  }
}

function membersOf(settings: JsonReader, key: string): readonly (readonly [string, JsonReader])[] {
  const object = settings.object(key);
  if (object === undefined) return [];
  return Object.entries(object.value).map(([name, value]) => [name, new JsonReader(value, `${key}.${name}`)]);
}

function choice<Value extends string>(reader: JsonReader, key: string, allowed: readonly Value[]): Value | undefined {
  const text = reader.text(key);
  if (text === undefined) return undefined;
  const value = allowed.find((each) => each === text);
  if (value === undefined) throw new MalformedError(key, `one of ${allowed.join(', ')}`);
  return value;
}

function annotationsIn(reader: JsonReader, key: string): AnnotationReading {
  return readAnnotationsOf(reader.object(key) ?? new JsonReader({}, key));
}

/** Annotations in settings stand without their prefix, since nothing else stands there. */
function readAnnotationsOf(reader: JsonReader): AnnotationReading {
  const given: Record<string, string> = {};
  for (const name of Object.keys(reader.value)) given[`holdfast.dev/${name}`] = reader.text(name) ?? '';
  const reading = readAnnotations(given, 'elsewhere');
  const [problem] = reading.problems;
  if (problem !== undefined) {
    throw wrong(
      `${reader.path}: ${problem.annotation} is ${JSON.stringify(problem.value.slice(0, 100))}: ${problem.problem}`,
    );
  }
  return reading;
}

function readPolicy(policy: JsonReader): Policy {
  refuseUnknown(policy, ['namespaces', 'annotations']);
  const annotations = annotationsIn(policy, 'annotations');
  if (annotations.values.has('policy')) throw new MalformedError(`${policy.path}.annotations`, 'free of `policy`');
  return { namespaces: namespacesOf(policy), annotations };
}

function namespacesOf(reader: JsonReader): readonly string[] {
  const patterns = reader.texts('namespaces');
  if (patterns.length === 0) {
    throw new MalformedError(`${reader.path}.namespaces`, 'a list of those that may use it; ["*"] for all');
  }
  for (const pattern of patterns) {
    if (!/^[a-z0-9*](?:[a-z0-9*-]{0,61}[a-z0-9*])?$/.test(pattern)) {
      throw new MalformedError(`${reader.path}.namespaces`, 'made of names of namespaces, with * for any characters');
    }
  }
  return patterns;
}

function readStore(store: JsonReader): Store {
  refuseUnknown(store, [
    'address',
    'namespaces',
    'encrypted',
    'credentialsSecret',
    'roleArn',
    'nodeRole',
    'caConfigMap',
    'claim',
    'env',
  ]);
  const address = store.requiredText('address');
  const claim = store.text('claim');
  if (!/^(?:s3:\/\/[^/]|file:\/[^/])/.test(address)) {
    throw new MalformedError(`${store.path}.address`, 'an address such as s3://bucket/prefix or file:/srv/store');
  }
  if (address.startsWith('file:') !== (claim !== undefined)) {
    throw new MalformedError(`${store.path}.claim`, 'there with a directory store, and only there');
  }
  return {
    address,
    namespaces: namespacesOf(store),
    encrypted: store.boolean('encrypted') ?? true,
    credentialsSecret: store.text('credentialsSecret'),
    roleArn: store.text('roleArn'),
    nodeRole: store.boolean('nodeRole') ?? false,
    caConfigMap: store.text('caConfigMap'),
    claim,
    env: store.textMap('env'),
  };
}

/** Whether a list of names with `*` for any characters holds `namespace`. */
export function mayUse(patterns: readonly string[], namespace: string): boolean {
  return patterns.some((pattern) => new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(namespace));
}
