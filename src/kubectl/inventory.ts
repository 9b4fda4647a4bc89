/** `kubectl holdfast inventory`: every ephemeral volume of a namespace or a cluster, protected or not. */
import type { AgentStatus } from '../contract/agent-api.ts';
import { agentContainer, stateDirectory } from '../contract/pod-layout.ts';
import { HoldfastError } from '../engine/model/errors.ts';
import { formatCount, formatSeconds, printTable } from '../cli/print.ts';
import type { JsonObject } from '../webhook/json.ts';
import type { Cluster } from './cluster.ts';
import type { KubectlHost } from './host.ts';
import { type InventoryRow, inventoryRows, podId, podsWithAgents, type VolumeState } from './inventory-rows.ts';
import { listObjects, textAt } from './objects.ts';
import { type KubectlParsed, kubectlUsage } from './options.ts';

/** Each is a connection through the API server. */
const askedAtOnce = 8;

export async function inventory(host: KubectlHost, parsed: KubectlParsed): Promise<number> {
  const [unexpected] = parsed.positionals;
  if (unexpected !== undefined) throw kubectlUsage('inventory', `inventory takes no argument: ${unexpected}`);
  const cluster = await host.connect({ kubeconfig: parsed.text('kubeconfig'), context: parsed.text('context') });
  const namespace = parsed.text('namespace') ?? cluster.namespace;
  const path = parsed.flag('all-namespaces')
    ? '/api/v1/pods'
    : `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`;
  const pods = await listObjects(cluster, path, { what: 'pods', signal: host.signal });
  const agents = parsed.flag('live') ? await askAgents(host, cluster, podsWithAgents(pods)) : new Map();
  const rows = inventoryRows(pods, agents).toSorted(byState);
  const counts = countsOf(rows);
  if (parsed.form === 'json') host.stdout.write(`${JSON.stringify({ counts, volumes: rows })}\n`);
  else print(host, rows, counts, parsed.flag('live'));
  return counts.failing + counts.behind > 0 ? 1 : 0;
}

async function askAgents(
  host: KubectlHost,
  cluster: Cluster,
  pods: readonly JsonObject[],
): Promise<ReadonlyMap<string, AgentStatus | { readonly error: string }>> {
  const answers = new Map<string, AgentStatus | { readonly error: string }>();
  const waiting = [...pods];
  const askNext = async (): Promise<void> => {
    for (let pod = waiting.pop(); pod !== undefined; pod = waiting.pop()) {
      answers.set(podId(pod), await agentStatus(host, cluster, pod));
    }
  };
  await Promise.all(Array.from({ length: askedAtOnce }, askNext));
  return answers;
}

async function agentStatus(
  host: KubectlHost,
  cluster: Cluster,
  pod: JsonObject,
): Promise<AgentStatus | { readonly error: string }> {
  const target = {
    namespace: textAt(pod, 'metadata', 'namespace'),
    pod: textAt(pod, 'metadata', 'name'),
    container: agentContainer,
  };
  const command = ['holdfast', 'status', '--state-dir', stateDirectory, '--output', 'json'];
  try {
    const { code, stdout, stderr } = await cluster.exec(target, command, { signal: host.signal });
    if (code !== 0) return { error: stderr.trim().slice(0, 300) || `exit code ${code}` };
    return JSON.parse(stdout) as AgentStatus;
  } catch (error) {
    if (host.signal.aborted) throw error;
    if (error instanceof HoldfastError || error instanceof SyntaxError) return { error: error.message };
    throw error;
  }
}

const order: readonly VolumeState[] = ['failing', 'behind', 'unprotected', 'protected', 'scratch'];

/** What wants somebody's attention stands above. */
function byState(a: InventoryRow, b: InventoryRow): number {
  const name = (row: InventoryRow): string => `${row.namespace}/${row.workload}/${row.pod}/${row.volume}`;
  return order.indexOf(a.state) - order.indexOf(b.state) || (name(a) < name(b) ? -1 : 1);
}

function countsOf(rows: readonly InventoryRow[]): Readonly<Record<VolumeState, number>> {
  const counts = { failing: 0, behind: 0, unprotected: 0, protected: 0, scratch: 0 };
  for (const { state } of rows) counts[state]++;
  return counts;
}

function print(
  host: KubectlHost,
  rows: readonly InventoryRow[],
  counts: Readonly<Record<VolumeState, number>>,
  live: boolean,
): void {
  const { stdout } = host;
  if (rows.length === 0) {
    stdout.write('No pod here has a volume that is gone with it.\n');
    return;
  }
  const age = ({ ageSeconds }: InventoryRow): string => (ageSeconds === null ? '-' : formatSeconds(ageSeconds));
  const objective = ({ objectiveSeconds }: InventoryRow): string =>
    objectiveSeconds === null ? '-' : formatSeconds(objectiveSeconds);
  printTable(stdout, [
    ['STATE', 'NAMESPACE', 'WORKLOAD', 'POD', 'VOLUME', 'KIND', ...(live ? ['AGE', 'RPO'] : []), 'WHY'],
    ...rows.map((row) => [
      row.state,
      row.namespace,
      row.workload,
      row.pod,
      row.volume,
      row.kind,
      ...(live ? [age(row), objective(row)] : []),
      row.why,
    ]),
  ]);
  const said = order.filter((state) => counts[state] > 0).map((state) => `${formatCount(counts[state])} ${state}`);
  stdout.write(`\n${said.join(', ')}\n`);
}
