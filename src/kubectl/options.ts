/** The plugin's options: one table that the parser and the help texts read. They are named as kubectl's are. */
import { parseArgs } from 'node:util';
import { HoldfastError } from '../engine/model/errors.ts';
import { nearest } from '../engine/model/nearest.ts';

export interface KubectlOption {
  readonly short?: string;
  /** What stands behind it in a help text; undefined for a switch. */
  readonly value?: string;
  readonly help: string;
}

export type KubectlOptionName =
  | 'all'
  | 'all-namespaces'
  | 'context'
  | 'filename'
  | 'help'
  | 'key-file'
  | 'kubeconfig'
  | 'live'
  | 'namespace'
  | 'output'
  | 'settings'
  | 'store'
  | 'target'
  | 'timeout'
  | 'to'
  | 'wait'
  | 'yes';

export const kubectlOptions: Readonly<Record<KubectlOptionName, KubectlOption>> = {
  all: { help: 'ls: also claims, seals and partial checkpoints' },
  'all-namespaces': { short: 'A', help: 'of all namespaces' },
  context: { value: 'NAME', help: 'context of the kubeconfig (default: the current one)' },
  filename: { short: 'f', value: 'FILE', help: 'a manifest, YAML or JSON; - for stdin' },
  help: { short: 'h', help: 'show the help of the command' },
  'key-file': { value: 'FILE', help: "file with the repository key, or with a workload's grant" },
  kubeconfig: { value: 'FILE', help: 'default: $KUBECONFIG, else ~/.kube/config' },
  live: { help: 'ask each agent how old its newest durable state is, by exec' },
  namespace: { short: 'n', value: 'NAME', help: "namespace (default: the context's)" },
  output: { short: 'o', value: 'FORM', help: 'text (default) or json' },
  settings: { value: 'FILE', help: "the webhook's settings (default: those of the cluster)" },
  store: { value: 'ADDRESS', help: "the store (default: the workload's, from the settings)" },
  target: { value: 'DIR', help: 'where to restore to' },
  timeout: { value: 'DURATION', help: 'how long to wait (default 5m)' },
  to: { value: 'WHICH', help: 'a checkpoint: latest~N, a slot, an id, or a time' },
  wait: { help: 'wait until it is durable' },
  yes: { help: 'do it; without it only say what would be done' },
};

export interface KubectlParsed {
  readonly positionals: readonly string[];
  text(name: KubectlOptionName): string | undefined;
  flag(name: KubectlOptionName): boolean;
  readonly form: 'text' | 'json';
}

/** Of every command. */
export const commonOptions: readonly KubectlOptionName[] = ['namespace', 'context', 'kubeconfig', 'output', 'help'];

export function parseKubectl(
  command: string,
  allowed: readonly KubectlOptionName[],
  args: readonly string[],
): KubectlParsed {
  const names = [...new Set([...allowed, ...commonOptions])];
  const config = Object.fromEntries(
    names.map((name) => {
      const { short, value } = kubectlOptions[name];
      const type = value === undefined ? ('boolean' as const) : ('string' as const);
      return [name, { type, ...(short === undefined ? {} : { short }) }];
    }),
  );
  for (const arg of args) {
    if (arg === '--') break;
    const given = /^--([a-z0-9-]+)(?:=|$)/i.exec(arg)?.[1];
    if (given === undefined || names.some((name) => name === given)) continue;
    const near = nearest(given, names);
    throw kubectlUsage(
      command,
      `there is no option --${given}${near === undefined ? '' : `; did you mean --${near}?`}`,
    );
  }
  let values: Readonly<Record<string, string | boolean | undefined>>;
  let positionals: readonly string[];
  try {
    ({ values, positionals } = parseArgs({ args: [...args], options: config, allowPositionals: true, strict: true }));
  } catch (cause) {
    throw kubectlUsage(command, (cause as Error).message.split('\n')[0] as string);
  }
  const text = (name: KubectlOptionName): string | undefined => {
    const value = values[name];
    return typeof value === 'string' ? value : undefined;
  };
  const form = text('output') ?? 'text';
  if (form !== 'text' && form !== 'json') {
    throw kubectlUsage(command, `--output is ${JSON.stringify(form)}, not text or json`);
  }
  return { positionals, text, flag: (name) => values[name] === true, form };
}

export function kubectlUsage(command: string, message: string): HoldfastError {
  return new HoldfastError('E_USAGE', message, {
    remedy: `See: kubectl holdfast help${command === '' ? '' : ` ${command}`}`,
  });
}
