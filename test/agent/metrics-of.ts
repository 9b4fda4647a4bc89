import { join } from 'node:path';
import { agentRoutes, agentSocketName } from '../../src/contract/agent-api.ts';
import { askAgent } from '../../src/edge/host/agent-socket.ts';

/** Samples by their name and labels, as Prometheus reads them. */
export function samplesOf(text: string): ReadonlyMap<string, number> {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line): [string, number] => {
      const at = line.lastIndexOf(' ');
      return [line.slice(0, at), Number(line.slice(at + 1))];
    }),
  );
}

/** What the agent of a state directory measures now. */
export async function metricsOf(stateDirectory: string): Promise<ReadonlyMap<string, number>> {
  const { body } = await askAgent(join(stateDirectory, agentSocketName), agentRoutes.metrics, { waitMs: 20_000 });
  return samplesOf(body);
}
