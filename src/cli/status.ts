/** `holdfast status`: what the agent knows, from itself or from what it left. */
import { join } from 'node:path';
import {
  type AgentPhase,
  type AgentStatus,
  agentRoutes,
  agentSocketName,
  agentStatusName,
} from '../contract/agent-api.ts';
import { HoldfastError, isHoldfastError } from '../engine/model/errors.ts';
import type { Host } from './host.ts';
import type { Parsed } from './options.ts';
import { formatBytes, formatCount, formatFiles, formatSeconds, printable, styled } from './print.ts';
import { formOf, noArguments } from './session.ts';
import { stateDirectoryOf } from './state-directory.ts';

/** A look at a million files takes seconds. */
const waitMs = 30_000;

export async function status(host: Host, parsed: Parsed): Promise<number> {
  // It may run in the agent's container, with its environment and its files.
  await host.closeMemory();
  noArguments('status', parsed);
  const form = formOf('status', parsed);
  const directory = stateDirectoryOf(host, parsed);
  if (parsed.flag('running')) {
    await needRunning(host, directory);
    return 0;
  }
  const { found, live } = await statusOf(host, directory);
  if (form === 'json') host.stdout.write(`${JSON.stringify({ live, ...found })}\n`);
  else print(host, found, live);
  return 0;
}

/** Of an agent that keeps a volume, or would if it was not told to pause. */
const holding: readonly AgentPhase[] = ['running', 'paused', 'draining', 'ending'];

/** E_BLOCKED while the agent has no lineage. Asks for the metrics, which cost nothing: the status is a look at the volumes. */
async function needRunning(host: Host, directory: string): Promise<void> {
  const { body } = await host.askAgent(join(directory, agentSocketName), agentRoutes.metrics, { waitMs });
  const phase = /^holdfast_phase\{phase="([a-z]+)"\} 1$/m.exec(body)?.[1];
  if (holding.some((each) => each === phase)) return;
  throw new HoldfastError('E_BLOCKED', `the agent is ${phase ?? 'in no phase'}`, {
    remedy: 'See why: holdfast status, and the log of the agent.',
  });
}

async function statusOf(
  host: Host,
  directory: string,
): Promise<{ readonly found: AgentStatus; readonly live: boolean }> {
  const socketPath = join(directory, agentSocketName);
  try {
    const { code, body } = await host.askAgent(socketPath, agentRoutes.status, { waitMs });
    if (code !== 200) throw new HoldfastError('E_INTERNAL', `the agent answered status with ${code}: ${body}`);
    return { found: JSON.parse(body) as AgentStatus, live: true };
  } catch (error) {
    if (!isHoldfastError(error, 'E_STATE_DIR')) throw error;
    const left = await (await host.openState(directory)).read(agentStatusName);
    if (left === undefined) throw error;
    return { found: JSON.parse(left) as AgentStatus, live: false };
  }
}

function print(host: Host, found: AgentStatus, live: boolean): void {
  const { stdout } = host;
  const { phase, lineage, newest, unsaved, objective, problems, nextSeconds, capture } = found;
  const limit = found.uploadLimitBytesPerSecond ?? null;
  const state = live ? phase : `${phase}, no agent runs`;
  stdout.write(`${styled(stdout, 'bold', lineage)}: ${state}\n`);
  if (newest === null) stdout.write('  newest   no checkpoint yet\n');
  else {
    stdout.write(
      `  newest   ${newest.slot}, ${formatSeconds(newest.ageSeconds)} old, ${newest.consistency}, ` +
        `${formatFiles(newest.files)}, ${formatBytes(newest.bytes)}\n`,
    );
  }
  if (unsaved !== null) {
    stdout.write(
      `  unsaved  ${formatBytes(unsaved.bytes)} in ${formatCount(unsaved.files)} names; ` +
        `everything up to ${formatSeconds(unsaved.ageSeconds)} ago is safe\n`,
    );
  }
  const met = objective.met ? 'met' : styled(stdout, 'red', 'missed');
  stdout.write(`  rpo      ${formatSeconds(objective.seconds)}, ${met}\n`);
  if (limit !== null) stdout.write(`  limit    ${formatBytes(limit)} a second to the store\n`);
  if (capture !== null) {
    stdout.write(
      `  now      ${capture.phase}, ${formatFiles(capture.files)}, ${formatBytes(capture.storedBytes)} stored\n`,
    );
  } else if (nextSeconds !== null && live) stdout.write(`  next     in ${formatSeconds(nextSeconds)}\n`);
  for (const { code, message, remedy } of problems) {
    stdout.write(`  ${styled(stdout, 'yellow', code)}  ${printable(message)}\n    ${printable(remedy)}\n`);
  }
}
