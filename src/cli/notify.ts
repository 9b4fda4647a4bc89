/** `holdfast notify`: the preStop hook. It loads next to nothing, because the end of the pod waits for it. */
import { join } from 'node:path';
import { agentRoutes, agentSocketName } from '../contract/agent-api.ts';
import { HoldfastError } from '../engine/model/errors.ts';
import type { Host } from './host.ts';
import type { Parsed } from './options.ts';
import { stateDirectoryOf } from './state-directory.ts';

/** The agent answers in a millisecond; a busy node is given more. The pod ends all the same. */
const waitMs = 2000;

export async function notify(host: Host, parsed: Parsed): Promise<number> {
  // It runs in the agent's container, with its environment and its files.
  await host.closeMemory();
  const socketPath = join(stateDirectoryOf(host, parsed), agentSocketName);
  const { code } = await host.askAgent(socketPath, agentRoutes.notify, { waitMs });
  if (code !== 202) throw new HoldfastError('E_INTERNAL', `the agent answered notify with ${code}`);
  if (parsed.text('output') === 'json') host.stdout.write(`${JSON.stringify({ notified: true })}\n`);
  return 0;
}
