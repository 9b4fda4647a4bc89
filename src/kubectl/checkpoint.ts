/** `kubectl holdfast checkpoint POD`: has the agent of a pod take a checkpoint now, by exec, with the caller's own rights. */
import type { TriggerAnswer } from '../contract/agent-api.ts';
import { agentContainer, stateDirectory } from '../contract/pod-layout.ts';
import { HoldfastError } from '../engine/model/errors.ts';
import { formatBytes, formatFiles, formatSeconds } from '../cli/print.ts';
import type { KubectlHost } from './host.ts';
import { getObject } from './objects.ts';
import { type KubectlParsed, kubectlUsage } from './options.ts';
import { pastOf } from './pod-past.ts';
import { workloadPath } from './workloads.ts';

export async function checkpoint(host: KubectlHost, parsed: KubectlParsed): Promise<number> {
  const [name, more] = parsed.positionals;
  if (name === undefined || more !== undefined) throw kubectlUsage('checkpoint', 'give one POD');
  const cluster = await host.connect({ kubeconfig: parsed.text('kubeconfig'), context: parsed.text('context') });
  const namespace = parsed.text('namespace') ?? cluster.namespace;
  const { path, isPod, name: pod } = workloadPath('checkpoint', name, namespace);
  if (!isPod) throw kubectlUsage('checkpoint', `${name} is no pod: checkpoints are taken of one pod at a time`);
  const past = pastOf(await getObject(cluster, path, `pod ${namespace}/${pod}`, host.signal));
  if (past.agent !== 'running') {
    throw new HoldfastError('E_CLUSTER_REFUSED', `no agent runs in ${namespace}/${pod}: ${past.lines.join('; ')}`, {
      remedy: `See: kubectl holdfast explain ${pod} -n ${namespace}`,
    });
  }
  const command = ['holdfast', 'trigger', '--state-dir', stateDirectory, '--output', 'json'];
  const target = { namespace, pod, container: agentContainer };
  const { code, stdout, stderr } = await cluster.exec(target, command, { signal: host.signal });
  if (code !== 0) {
    throw new HoldfastError(
      'E_CLUSTER_REFUSED',
      `the agent of ${namespace}/${pod} says: ${stderr.trim().slice(0, 1000)}`,
      {
        remedy: `See: kubectl logs ${pod} -n ${namespace} -c ${agentContainer}`,
      },
    );
  }
  if (parsed.form === 'json') host.stdout.write(stdout);
  else {
    const { outcome, newest } = JSON.parse(stdout) as TriggerAnswer;
    const said =
      newest === null
        ? 'no checkpoint'
        : `checkpoint ${newest.slot}, ${newest.consistency}, ${formatFiles(newest.files)}, ${formatBytes(newest.bytes)}, ${formatSeconds(newest.ageSeconds)} old`;
    host.stdout.write(`${outcome === 'unchanged' ? 'nothing has changed since' : outcome}: ${said}\n`);
  }
  return 0;
}
