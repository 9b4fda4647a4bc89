/** Every option of every command: one table that the parser, the help texts and the tests read. */
import { parseArgs } from 'node:util';
import { parseDurationMs } from '../engine/model/duration.ts';
import { HoldfastError } from '../engine/model/errors.ts';
import { toVolumeName, type VolumeName } from '../engine/model/ids.ts';
import { nearest } from '../engine/model/nearest.ts';

export interface OptionInfo {
  /** What stands after the option in a help text; undefined for a switch. */
  readonly value?: string;
  readonly many?: true;
  readonly help: string;
}

export type OptionName =
  | 'store'
  | 'key-file'
  | 'encryption'
  | 'lineage'
  | 'state-dir'
  | 'output'
  | 'include'
  | 'exclude'
  | 'level'
  | 'isolated'
  | 'dry-run'
  | 'take'
  | 'seal'
  | 'passes'
  | 'converge-within'
  | 'quiesced'
  | 'sqlite-locks'
  | 'sqlite-wait'
  | 'partial-bytes'
  | 'lanes'
  | 'label'
  | 'no-cache'
  | 'no-compact'
  | 'guard'
  | 'reason'
  | 'at'
  | 'target'
  | 'volume'
  | 'only'
  | 'first'
  | 'on-existing'
  | 'continue-on-damage'
  | 'read-data'
  | 'all'
  | 'from'
  | 'to'
  | 'follow'
  | 'every'
  | 'init'
  | 'unfenced'
  | 'policies'
  | 'pod-uid'
  | 'pod-name'
  | 'service'
  | 'service-token-file'
  | 'service-ca-file'
  | 'service-ca'
  | 'expect'
  | 'restore-at'
  | 'on-first-boot'
  | 'on-missing'
  | 'on-unreachable'
  | 'handoff-wait'
  | 'slots'
  | 'replicas'
  | 'when-held'
  | 'claim-wait'
  | 'size-limit'
  | 'restore-first'
  | 'schedule'
  | 'volume-schedule'
  | 'rpo'
  | 'grace'
  | 'hook-pre-checkpoint'
  | 'hook-post-checkpoint'
  | 'hook-post-restore'
  | 'hook-timeout'
  | 'not-nice'
  | 'port'
  | 'metrics-port'
  | 'token-file'
  | 'limit-upload'
  | 'limit-download'
  | 'log-level'
  | 'termination-message'
  | 'workload'
  | 'settings'
  | 'tls-cert'
  | 'tls-key'
  | 'tls-secret'
  | 'tls-name'
  | 'tls-validity'
  | 'webhook-configuration'
  | 'listen'
  | 'running'
  | 'drain'
  | 'pod-service'
  | 'namespace-defaults'
  | 'help';

/** Each can also be given as HOLDFAST_<NAME>, dashes as underscores; a switch by `1` or `true`, a list separated by commas. */
export const options: Readonly<Record<OptionName, OptionInfo>> = {
  store: { value: 'ADDRESS', help: 'where checkpoints are kept: file:/srv/checkpoints, s3://bucket/prefix' },
  'key-file': { value: 'FILE', help: 'file with the repository key' },
  encryption: { value: 'KIND', help: 'aes-256-gcm (default) or none; none must be said explicitly' },
  lineage: { value: 'NAME', help: 'whose checkpoints: parts joined by slashes, such as team/app/0' },
  'state-dir': { value: 'DIR', help: 'private state of this user (default: $XDG_STATE_HOME/holdfast)' },
  output: { value: 'FORM', help: 'text (default) or json' },
  include: { value: 'GLOB', many: true, help: 'keep only files that match, or lie below what matches' },
  exclude: { value: 'GLOB', many: true, help: 'leave out what matches, and what is below it' },
  level: { value: 'N', help: 'zstd level, 1 (default) to 19' },
  isolated: { help: 'compress each file by itself: for volumes into which an attacker can write' },
  'dry-run': { help: 'compute the root and store nothing' },
  take: { help: 'take a lineage over from a holder that is gone for good' },
  seal: { help: 'end the lineage with a SEAL: another holder may go on' },
  passes: { value: 'N', help: 'passes after the first that look for a moment without change (default 3)' },
  'converge-within': { value: 'DURATION', help: 'begin no further pass after this, such as 30s (default 60s)' },
  quiesced: {
    help: 'the application has stopped: say so in the checkpoint, if nothing is found that speaks against it',
  },
  'sqlite-locks': { help: 'hold SQLite databases still by their own locks in all passes after the first' },
  'sqlite-wait': { value: 'DURATION', help: 'wait this long for writers of databases (default 5s)' },
  'partial-bytes': {
    value: 'BYTES',
    help: 'anchor a long first checkpoint each time this much is stored (default 1GiB)',
  },
  lanes: { value: 'N', help: 'worker threads (default: processors, at most 4; 0: none)' },
  label: { value: 'KEY=VALUE', many: true, help: 'a label of the checkpoint' },
  'no-cache': { help: 'do not trust the scan cache: read everything' },
  'no-compact': { help: 'do not merge small packs or rewrite those that are mostly dead' },
  guard: {
    value: 'RULE',
    many: true,
    help: 'suspect is what keeps less than so much: 20% (default), db=80%, VOLUME:PATH=50%; or off',
  },
  reason: { value: 'TEXT', help: 'why; kept beside the release' },
  at: { value: 'WHICH', help: 'latest (default), latest~N, a slot, an id, or a time' },
  target: { value: 'DIR', many: true, help: 'where to restore to; VOLUME=DIR for one volume of several' },
  volume: { value: 'NAME', help: 'only this volume; of a pod NAME=DIR, each of its volumes' },
  only: { value: 'GLOB', many: true, help: 'restore only what matches, or lies below what matches' },
  first: { value: 'GLOB', many: true, help: 'restore what matches completely before the rest begins' },
  'on-existing': { value: 'HOW', help: 'a target that is not empty: refuse (default), keep, replace' },
  all: { help: 'ls: also claims, seals and partial checkpoints; verify: every checkpoint' },
  'continue-on-damage': { help: 'restore what is not lost; ends with exit code 28, and the loss is named' },
  'read-data': { help: 'read and prove every byte, not only the records and the trees' },
  from: { value: 'ADDRESS', help: 'the store to copy from; it is only read' },
  to: { value: 'ADDRESS', help: 'the store to copy to; nothing in it is overwritten or deleted' },
  follow: { help: 'go on copying what is new, until interrupted' },
  every: { value: 'DURATION', help: 'with --follow: look for what is new this often (default 10s)' },
  init: { help: 'make the second store, where it holds nothing yet' },
  unfenced: { help: 'init: use a store that does not refuse to overwrite; every command will say so' },
  policies: { help: 'doctor: print the policy of each role, and compare what these credentials may do with them' },
  'pod-uid': { value: 'UID', help: 'UID of the pod, which is who holds the lineage' },
  'pod-name': { value: 'NAME', help: 'name of the pod, for people (default: the host name)' },
  service: {
    value: 'URL',
    help: "Holdfast's service in the cluster: is a pod gone, and which checkpoint was the last",
  },
  'service-token-file': { value: 'FILE', help: "the pod's bound token for --service; read again for each question" },
  'service-ca-file': { value: 'FILE', help: "certificates that --service's is signed with (default: the system's)" },
  'service-ca': { value: 'PEM', help: 'the same certificates as text' },
  expect: { value: 'SLOT:DIGEST', help: 'a record that must be there: a store that shows less has lost it' },
  'restore-at': {
    value: 'WHICH',
    help: 'go back to this checkpoint, an id or a time; once: pods go on from what was stored after it',
  },
  'on-first-boot': { value: 'POLICY', help: 'nothing was ever stored: empty (default), block, block:10m' },
  'on-missing': { value: 'POLICY', help: 'data is missing or damaged: block (default), block:10m, empty, older:1h' },
  'on-unreachable': { value: 'POLICY', help: 'no store: block (default), block:10m, empty, older:1h' },
  'handoff-wait': { value: 'DURATION', help: "wait this long for the predecessor's final checkpoint (default 30s)" },
  slots: {
    value: 'HOW',
    help: 'pods without an identity: claim a numbered slot, seed from slot 0, refuse a second pod',
  },
  replicas: { value: 'N', help: 'with --slots claim: how many slots there are' },
  'when-held': {
    value: 'HOW',
    help: 'all slots are held: take one from its holder (default), or fork it into a slot of its own',
  },
  'claim-wait': {
    value: 'DURATION',
    help: 'wait this long for a pod that took the lineage from this one (default 5m)',
  },
  'size-limit': {
    value: 'NAME=BYTES',
    many: true,
    help: 'size limit of a volume: a checkpoint that is larger is refused',
  },
  'restore-first': { value: 'GLOB', many: true, help: 'restore what matches before the rest' },
  'termination-message': {
    value: 'FILE',
    help: 'where the result is also left (default: /dev/termination-log, if it is there)',
  },
  schedule: { value: 'WHEN', help: 'an interval such as 30s, or a cron expression of five fields, in UTC' },
  'volume-schedule': { value: 'VOLUME=WHEN', many: true, help: 'a schedule of its own for one volume of the set' },
  rpo: {
    value: 'DURATION',
    help: 'objective: how old the newest durable state may be (default: 3 intervals, at least 1m)',
  },
  grace: { value: 'DURATION', help: 'how long the end may take, from its first notice (default 25s)' },
  'hook-pre-checkpoint': {
    value: 'ADDRESS',
    help: 'POST before a checkpoint: the application makes its files consistent and holds still',
  },
  'hook-post-checkpoint': { value: 'ADDRESS', help: 'POST after it, whatever became of it: the application goes on' },
  'hook-post-restore': { value: 'ADDRESS', help: 'POST once after a restore, as soon as the application listens' },
  'hook-timeout': { value: 'DURATION', help: 'how long each of these calls may take (default 10s)' },
  'limit-upload': {
    value: 'BYTES',
    help: 'send at most so much a second to the store, such as 10MiB (default: no limit)',
  },
  'limit-download': { value: 'BYTES', help: 'ask for at most so much a second of the store (default: no limit)' },
  'not-nice': { help: 'run with the priority of the application' },
  port: { value: 'N', help: 'also answer on this port of 127.0.0.1, to those who have the token' },
  'metrics-port': { value: 'N', help: 'also answer GET /metrics, and nothing else, on this port of every address' },
  'token-file': { value: 'FILE', help: 'the token for --port; read again for each request' },
  workload: { value: 'NAME', help: 'whose keys: CLUSTER/NAMESPACE/KIND/NAME, a lineage without its slot' },
  settings: { value: 'FILE', help: 'what the webhook may inject and for whom, as JSON; read again when it changes' },
  'tls-cert': { value: 'FILE', help: 'certificate of the server with its chain, PEM; read again when it changes' },
  'tls-key': { value: 'FILE', help: 'the key that belongs to it, PEM' },
  'tls-secret': {
    value: 'NAMESPACE/NAME',
    help: 'in place of files: a Secret in which the webhooks make and renew a certificate themselves',
  },
  'tls-name': { value: 'NAME', help: 'with --tls-secret: DNS name that the certificate is for, SERVICE.NAMESPACE.svc' },
  'tls-validity': { value: 'DURATION', help: 'with --tls-secret: how long each certificate is valid (default 90d)' },
  'webhook-configuration': {
    value: 'NAME',
    help: 'with --tls-secret: the MutatingWebhookConfiguration that is to trust the certificate',
  },
  running: { help: 'status: only whether the agent has its lineage; else exit code 33. For a startup probe' },
  listen: { value: 'HOST:PORT', help: 'address to listen on (default 0.0.0.0:10250)' },
  drain: { value: 'DURATION', help: 'go on answering for this long after the signal to end (default 5s)' },
  'pod-service': {
    value: 'NAMESPACE',
    help: 'also answer what pods ask (--service), and keep anchors in ConfigMaps of this namespace; in a pod only',
  },
  'namespace-defaults': {
    help: 'annotations of a namespace count for its pods: the API server is asked for them; in a pod only',
  },
  'log-level': { value: 'LEVEL', help: 'debug, info (default), warn or error' },
  help: { help: 'show the help of the command' },
};

/** Secrets that people may try to put on a command line, where every user of the machine can read them. */
const secrets: readonly string[] = ['key', 'password', 'passphrase', 'secret'];

export interface Parsed {
  readonly positionals: readonly string[];
  text(name: OptionName): string | undefined;
  required(name: OptionName): string;
  list(name: OptionName): readonly string[];
  flag(name: OptionName): boolean;
  /** Whether it stands on the command line itself. */
  given(name: OptionName): boolean;
  /** A whole number from `min` to `max`. */
  number(name: OptionName, min: number, max: number, otherwise: number): number;
}

/** E_USAGE for anything that is not an option of the command, with what was probably meant. `repeatable`: may be given several times here. */
export function parseOptions(
  command: string,
  allowed: readonly OptionName[],
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  repeatable: readonly OptionName[] = [],
): Parsed {
  const isMany = (name: OptionName): boolean => options[name].many === true || repeatable.includes(name);
  const names = new Set<string>([...allowed, 'help']);
  const config = Object.fromEntries(
    [...names].map((name) => {
      const info: OptionInfo = options[name as OptionName];
      return [
        name,
        { type: info.value === undefined ? ('boolean' as const) : ('string' as const), multiple: true as const },
      ];
    }),
  );
  for (const arg of args) {
    if (arg === '--') break;
    const given = /^--([a-z0-9-]+)(?:=|$)/i.exec(arg)?.[1];
    if (given === undefined) {
      if (/^-[a-z]/i.test(arg)) throw usage(command, `there are no short options: ${arg}`);
      continue;
    }
    if (names.has(given)) continue;
    if (secrets.includes(given)) {
      throw new HoldfastError(
        'E_USAGE',
        `--${given}: secrets do not belong on a command line, where others can read them`,
        {
          remedy: 'Put the key into a file and give --key-file FILE, or set HOLDFAST_KEY_FILE.',
        },
      );
    }
    const near = nearest(given, [...names]);
    throw usage(command, `there is no option --${given}${near === undefined ? '' : `; did you mean --${near}?`}`);
  }
  let values: Record<string, readonly (string | boolean)[] | undefined>;
  let positionals: readonly string[];
  try {
    const parsed = parseArgs({ args: [...args], options: config, allowPositionals: true, strict: true });
    values = parsed.values as Record<string, readonly (string | boolean)[] | undefined>;
    positionals = parsed.positionals;
  } catch (cause) {
    throw usage(command, (cause as Error).message.split('\n')[0] as string, cause);
  }
  for (const [name, given] of Object.entries(values)) {
    const info: OptionInfo = options[name as OptionName];
    if (!isMany(name as OptionName) && info.value !== undefined && given !== undefined && given.length > 1) {
      throw usage(command, `--${name} was given ${given.length} times`);
    }
  }

  const list = (name: OptionName): readonly string[] => {
    const given = values[name];
    if (given !== undefined) return given.map(String);
    const variable = env[variableOf(name)];
    if (variable === undefined || variable === '') return [];
    return isMany(name) ? variable.split(',') : [variable];
  };
  const text = (name: OptionName): string | undefined => list(name)[0];
  return {
    positionals,
    list,
    text,
    required(name: OptionName): string {
      const value = text(name);
      if (value === undefined || value === '') {
        throw usage(command, `--${name} is missing; it can also come from ${variableOf(name)}`);
      }
      return value;
    },
    flag(name: OptionName): boolean {
      if (values[name] !== undefined) return true;
      const variable = env[variableOf(name)];
      if (variable === undefined || variable === '' || variable === '0' || variable === 'false') return false;
      if (variable === '1' || variable === 'true') return true;
      throw usage(command, `${variableOf(name)} is ${JSON.stringify(variable)}, not true or false`);
    },
    given: (name: OptionName): boolean => values[name] !== undefined,
    number(name: OptionName, min: number, max: number, otherwise: number): number {
      const value = text(name);
      if (value === undefined) return otherwise;
      const number = Number(value);
      if (!/^\d+$/.test(value) || number < min || number > max) {
        throw usage(command, `--${name} is ${JSON.stringify(value)}, not a whole number from ${min} to ${max}`);
      }
      return number;
    },
  };
}

/** `DIR` is the volume `data`, `VOLUME=DIR` another; write `./a=b` for a directory with an equals sign. */
export function namedDirectories(
  command: string,
  texts: readonly string[],
): readonly { readonly name: VolumeName; readonly path: string }[] {
  const found: { readonly name: VolumeName; readonly path: string }[] = [];
  for (const text of texts) {
    const named = /^([^/=]+)=(.*)$/s.exec(text);
    const name = toVolumeName(named?.[1] ?? 'data');
    const path = named?.[2] ?? text;
    if (path === '') throw usage(command, `${JSON.stringify(text)} names no directory`);
    if (found.some((other) => other.name === name)) {
      throw usage(command, `volume ${name} was given twice; name several directories: data=DIR1 logs=DIR2`);
    }
    found.push({ name, path });
  }
  return found;
}

export function variableOf(name: OptionName): string {
  return `HOLDFAST_${name.toUpperCase().replaceAll('-', '_')}`;
}

export function usage(command: string, message: string, cause?: unknown): HoldfastError {
  return new HoldfastError('E_USAGE', message, {
    remedy: `See: holdfast help${command === '' ? '' : ` ${command}`}`,
    ...(cause === undefined ? {} : { cause }),
  });
}

/** `500ms`, `30s`, `5m`, `2h`, `1d` → ms. */
export function parseDuration(command: string, name: OptionName, text: string): number {
  const durationMs = parseDurationMs(text);
  if (durationMs === undefined) {
    throw usage(command, `--${name} is ${JSON.stringify(text)}, not a duration such as 30s or 5m`);
  }
  return durationMs;
}

/** Less lets nothing be done in any time that a person waits. */
const rateMin = 16 * 1024;

/** Bytes a second of a limit; undefined: none. */
export function parseRate(command: string, name: OptionName, parsed: Parsed): number | undefined {
  const text = parsed.text(name);
  if (text === undefined || text === '') return undefined;
  const rate = parseBytes(command, name, text);
  if (rate < rateMin) throw usage(command, `--${name} is ${text} a second: at least 16KiB has to pass`);
  return rate;
}

/** `4096`, `64KiB`, `1GiB`, `10MB` → bytes. */
export function parseBytes(command: string, name: OptionName, text: string): number {
  const match = /^(\d{1,12})(?:(k|m|g|t)(i)?b?)?$/i.exec(text);
  if (match === null) throw usage(command, `--${name} is ${JSON.stringify(text)}, not a size such as 64MiB`);
  const power = ['', 'k', 'm', 'g', 't'].indexOf((match[2] ?? '').toLowerCase());
  return Number(match[1]) * (match[3] === undefined ? 1000 : 1024) ** power;
}
