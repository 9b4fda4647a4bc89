/**
 * The same as pods live it: an init container that brings the volume back, an agent beside the application, an end that is
 * announced and sealed, and one that is not.
 */
import { type ChildProcess, execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { AgentStatus } from '../../src/contract/agent-api.ts';
import type { RestoreReceipt } from '../../src/contract/receipt.ts';
import { snapshotTree } from '../../test/support/tree-snapshot.ts';
import { Application, isWhole, makeData, rowsOf } from './application.ts';
import { holdfast, holdfastRaw, type Settings, start, until } from './program.ts';
import { type Checks, megabytes, say, styled, title } from './terminal.ts';

/** An agent, and what it says. */
export class Running {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;

  constructor(settings: Settings, args: readonly string[]) {
    this.child = start(settings, args, ['ignore', 'pipe', 'inherit']);
    this.ended = new Promise((resolve) => this.child.once('close', resolve));
    if (this.child.stdout !== null) createInterface(this.child.stdout).on('line', tell);
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }
}

/** What of the agent's log an onlooker wants to see. */
function tell(line: string): void {
  const { event, slot, consistency, newBytes, seconds, reason } = JSON.parse(line) as Record<string, unknown>;
  if (event === 'committed') {
    say(
      `  agent: checkpoint ${String(slot).padEnd(3)} ${String(consistency).padEnd(9)} ` +
        `new ${megabytes(Number(newBytes)).padStart(9)}  ${Number(seconds).toFixed(2)} s  (${String(reason)})`,
    );
  } else if (event === 'sealed') say(`  agent: sealed at slot ${String(slot)}: a successor may go on at once`);
}

interface Pod {
  readonly name: string;
  readonly settings: Settings;
  readonly volume: string;
  readonly state: string;
  readonly uid: string;
}

function newPod({ place, env }: Settings, name: string): Pod {
  const [volume, state] = [join(place, name, 'data'), join(place, name, 'state')];
  for (const directory of [volume, state]) fs.mkdirSync(directory, { recursive: true });
  const settings = { place, env: { ...env, HOLDFAST_STATE_DIR: state, HOLDFAST_POD_NAME: name } };
  return { name, settings, volume, state, uid: randomUUID() };
}

async function rehydrate({ settings, volume, uid }: Pod, ...more: string[]): Promise<RestoreReceipt> {
  const args = ['rehydrate', '--volume', `data=${volume}`, '--pod-uid', uid, ...more];
  const receipt = await holdfast<RestoreReceipt>(settings, args);
  const { outcome, from, handoff, policy, verified, seconds } = receipt;
  const whence = from === null ? policy.why : `checkpoint ${from.slot}, ${from.ageSeconds.toFixed(0)} s old`;
  const waited = handoff === null ? '' : `; the pod before: ${handoff.outcome} after ${handoff.seconds.toFixed(1)} s`;
  say(
    `  receipt: ${styled('bold', outcome)}, ${whence}${verified ? ', proven equal' : ''}${waited}  ${seconds.toFixed(2)} s`,
  );
  return receipt;
}

function agentOf({ settings, volume, uid }: Pod): Running {
  const args = [
    'agent',
    '--volume',
    `data=${volume}`,
    '--pod-uid',
    uid,
    '--schedule',
    '1s',
    '--grace',
    '20s',
    '--sqlite-locks',
  ];
  return new Running(settings, [...args, '--termination-message', join(settings.place, 'termination.txt')]);
}

const statusOf = ({ settings }: Pod): Promise<AgentStatus> => holdfast<AgentStatus>(settings, ['status']);

async function untilCheckpoints(pod: Pod, count: number): Promise<AgentStatus> {
  const seen = new Set<number>();
  let status: AgentStatus | undefined;
  await until('the agent makes checkpoints', async () => {
    const { code, stdout } = await holdfastRaw(pod.settings, ['status']);
    if (code === 0) status = JSON.parse(stdout) as AgentStatus;
    if (status?.newest) seen.add(status.newest.slot);
    return seen.size >= count;
  });
  return status as AgentStatus;
}

/** The node is lost, with everything on it. */
function lose({ settings, name }: Pod): void {
  fs.rmSync(join(settings.place, name), { recursive: true });
  say('  The node is gone, and with it the volume and all that the pod knew: rm -rf.');
}

export async function podStory(
  settings: Settings,
  applications: Application[],
  agents: Running[],
  checks: Checks,
): Promise<void> {
  const check = checks.check.bind(checks);
  const begin = (pod: Pod): { application: Application; agent: Running } => {
    const application = new Application(pod.volume);
    applications.push(application);
    const agent = agentOf(pod);
    agents.push(agent);
    return { application, agent };
  };

  title('A pod: an init container, an application, and an agent that checkpoints every second');
  const first = newPod(settings, 'pod-1');
  const empty = await rehydrate(first);
  check('nothing was ever stored, so it begins with an empty volume', empty.policy.answer === 'first-boot');
  makeData(first.volume);
  const one = begin(first);
  const { newest, unsaved } = await untilCheckpoints(first, 3);
  say(
    `  status: newest is checkpoint ${newest?.slot}, ${newest?.ageSeconds.toFixed(1)} s old; ` +
      `not in it yet: ${unsaved === null ? 'unknown' : megabytes(unsaved.bytes)}`,
  );

  title('Its end is announced, the application stops, the agent saves the rest and seals');
  const notified = performance.now();
  await holdfastRaw(first.settings, ['notify']);
  say(`  notify (preStop) took ${(performance.now() - notified).toFixed(0)} ms`);
  await one.application.kill();
  one.agent.child.kill('SIGTERM');
  const code = await one.agent.ended;
  const message = fs.readFileSync(join(settings.place, 'termination.txt'), 'utf8').trim();
  check('the agent ended with everything saved', code === 0, message);
  const copy = join(settings.place, 'pod-copy');
  execFileSync('cp', ['-a', first.volume, copy]);
  lose(first);

  title('Its successor, on another node');
  const second = newPod(settings, 'pod-2');
  const restored = await rehydrate(second, '--handoff-wait', '30s');
  check('it did not have to wait: the lineage was sealed', restored.handoff === null || restored.handoff.seconds < 1);
  const [expected, got] = [snapshotTree(copy), snapshotTree(second.volume)];
  const differing = expected.filter((line, i) => line !== got[i]).length + Math.abs(got.length - expected.length);
  check('its volume is equal to the one that was lost, to the last write', differing === 0, `${got.length} names`);
  const rows = rowsOf(join(second.volume, 'orders.db'));

  title('This node loses its power: nothing is announced, nothing is sealed');
  const two = begin(second);
  await untilCheckpoints(second, 3);
  const acknowledged = (await statusOf(second)).newest;
  await two.application.kill();
  await two.agent.kill();
  lose(second);
  const third = newPod(settings, 'pod-3');
  const rescued = await rehydrate(third, '--handoff-wait', '1s');
  check(
    'the newest checkpoint that was acknowledged is back, or a newer one',
    (rescued.from?.slot ?? 0) >= (acknowledged?.slot ?? 1),
    `slot ${rescued.from?.slot}`,
  );
  const database = join(third.volume, 'orders.db');
  check('and its database is whole', isWhole(database) && rowsOf(database) >= rows, `${rowsOf(database)} rows`);
}
