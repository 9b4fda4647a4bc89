/** `holdfast trigger`: has the agent take a checkpoint now, and waits until it is durable. */
import { join } from 'node:path';
import { agentRoutes, agentSocketName, type TriggerAnswer } from '../contract/agent-api.ts';
import { HoldfastError } from '../engine/model/errors.ts';
import type { Host } from './host.ts';
import type { Parsed } from './options.ts';
import { formatBytes, formatFiles } from './print.ts';
import { formOf, noArguments } from './session.ts';
import { stateDirectoryOf } from './state-directory.ts';

/** As long as a large checkpoint may take; whoever waits can be interrupted. */
const waitMs = 3_600_000;

export async function trigger(host: Host, parsed: Parsed): Promise<number> {
  noArguments('trigger', parsed);
  const form = formOf('trigger', parsed);
  const socketPath = join(stateDirectoryOf(host, parsed), agentSocketName);
  const body = JSON.stringify({ wait: true });
  const answer = await host.askAgent(socketPath, agentRoutes.checkpoint, { waitMs, body });
  if (answer.code !== 200)
    throw new HoldfastError('E_INTERNAL', `the agent answered with ${answer.code}: ${answer.body}`);
  const { outcome, newest } = JSON.parse(answer.body) as TriggerAnswer;
  if (outcome === 'failed') {
    throw new HoldfastError('E_STORE_IO', 'the checkpoint failed', {
      remedy: 'See why: holdfast status, and the log of the agent. It tries again by itself.',
    });
  }
  if (form === 'json') host.stdout.write(`${answer.body.trim()}\n`);
  else if (newest !== null) {
    const { slot, consistency, files, bytes } = newest;
    const said = outcome === 'unchanged' ? 'nothing has changed since ' : '';
    host.stdout.write(`${said}checkpoint ${slot}, ${consistency}, ${formatFiles(files)}, ${formatBytes(bytes)}\n`);
  }
  return 0;
}
