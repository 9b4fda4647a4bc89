/** `kubectl holdfast ls`, `show` and `restore`: the commands of `holdfast` for the lineage of a pod or workload, from this machine. */
import { HoldfastError } from '../engine/model/errors.ts';
import type { KubectlHost } from './host.ts';
import { holdfastOptions, lineageOfWorkload, type WorkloadLineage } from './lineage-of-workload.ts';
import { type KubectlParsed, kubectlUsage } from './options.ts';

async function found(host: KubectlHost, parsed: KubectlParsed, command: string): Promise<WorkloadLineage> {
  const [text] = parsed.positionals;
  if (text === undefined) throw kubectlUsage(command, 'give POD or KIND/NAME');
  const cluster = await host.connect({ kubeconfig: parsed.text('kubeconfig'), context: parsed.text('context') });
  return await lineageOfWorkload(host, parsed, cluster, { command, text });
}

function oneLineage({ lineage, what, workload }: WorkloadLineage): string {
  if (lineage !== undefined) return lineage;
  throw new HoldfastError('E_USAGE', `${what} has several lineages below ${workload}`, {
    remedy: 'Name the pod whose lineage is meant.',
  });
}

const output = ({ form }: KubectlParsed): readonly string[] => (form === 'json' ? ['--output', 'json'] : []);

export async function ls(host: KubectlHost, parsed: KubectlParsed): Promise<number> {
  const workload = await found(host, parsed, 'ls');
  const all = parsed.flag('all') ? ['--all'] : [];
  const lineage = ['--lineage', oneLineage(workload)];
  return await host.runHoldfast(['ls', ...lineage, ...holdfastOptions(parsed, workload), ...all, ...output(parsed)]);
}

export async function show(host: KubectlHost, parsed: KubectlParsed): Promise<number> {
  const workload = await found(host, parsed, 'show');
  const [, which] = parsed.positionals;
  const lineage = ['--lineage', oneLineage(workload)];
  const at = which === undefined ? [] : [which];
  return await host.runHoldfast(['show', ...at, ...lineage, ...holdfastOptions(parsed, workload), ...output(parsed)]);
}

export async function restore(host: KubectlHost, parsed: KubectlParsed): Promise<number> {
  const workload = await found(host, parsed, 'restore');
  const target = parsed.text('target');
  if (target === undefined) throw kubectlUsage('restore', '--target is missing: a directory on this machine');
  const at = parsed.text('to');
  return await host.runHoldfast([
    'restore',
    '--lineage',
    oneLineage(workload),
    ...holdfastOptions(parsed, workload),
    ...(at === undefined ? [] : ['--at', at]),
    '--target',
    target,
    ...output(parsed),
  ]);
}
