/**
 * What happens to an application's pods: it writes beside an agent, both are killed, the next pod gets the volume back from the
 * store and goes on; and in the end every checkpoint that was acknowledged as sound is restored and must pass the application's own check.
 */
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import type { JsonObject } from '../cli/run-cli.ts';
import { AgentPlace, type AgentProcess, type LogLine } from '../agent/agent-process.ts';
import { Program } from './program.ts';
import type { RunningSubject, Subject } from './subject.ts';

const hooksFolder: string = fileURLToPath(new URL('../../examples/hooks/', import.meta.url));

export interface StoryOptions {
  readonly subject: Subject;
  /** The application is asked to hold still by the program in examples/hooks; else it rests now and then. */
  readonly hooked: boolean;
  /** How many pods are killed, one after the other; one more is stopped as it should be. */
  readonly kills: number;
  /** Sound checkpoints that each pod makes before its end. */
  readonly checkpoints: number;
}

/** A checkpoint that the agent has acknowledged. */
interface Acknowledged {
  readonly slot: number;
  readonly consistency: string;
  /** Writes that the application had acknowledged when the checkpoint began, at least. */
  readonly floor: number;
}

/** Answers how often which kind of checkpoint was acknowledged. */
export async function killedAndBroughtBack(options: StoryOptions): Promise<Readonly<Record<string, number>>> {
  const { subject, kills } = options;
  using place = await AgentPlace.make();
  chmodSync(place.work.path, 0o711);
  const all: Acknowledged[] = [];
  for (let round = 0; round <= kills; round++) {
    const acknowledged = await aPod(place, options, round, all.at(-1));
    all.push(...acknowledged);
  }
  for (const { slot, consistency, floor } of all) {
    if (consistency === 'fuzzy') continue;
    const copy = place.work.at(`copy-${slot}`);
    await place.work.json(['restore', '--at', String(slot), '--target', copy]);
    const shown = await subject.check(copy).catch((error: unknown) => {
      throw new Error(`the check of checkpoint ${slot}, ${consistency}`, { cause: error });
    });
    expect(shown, `writes in checkpoint ${slot}, ${consistency}`).toBeGreaterThanOrEqual(floor);
    for (const path of [copy, `${copy}-run`]) rmSync(path, { recursive: true, force: true });
  }
  return Object.fromEntries(
    ['quiesced', 'converged', 'fuzzy'].map((kind) => [
      kind,
      all.filter(({ consistency }) => consistency === kind).length,
    ]),
  );
}

async function aPod(
  place: AgentPlace,
  { subject, hooked, kills, checkpoints }: StoryOptions,
  round: number,
  before: Acknowledged | undefined,
): Promise<readonly Acknowledged[]> {
  const pod = `pod-${round}`;
  const directory = place.work.at(pod);
  const volume = join(directory, 'data');
  mkdirSync(volume, { recursive: true });
  const receipt = await rehydrate(place, pod, volume);
  if (before === undefined) expect(receipt).toMatchObject({ outcome: 'empty', policy: { answer: 'first-boot' } });
  else {
    expect(receipt).toMatchObject({ outcome: 'restored', verified: true });
    // An agent that was killed may have made one that it could not tell of any more.
    expect(receipt['from']['slot']).toBeGreaterThanOrEqual(before.slot);
  }
  await using running = await subject.start({ volume, place: directory, rests: !hooked });
  expect(running.acknowledged, 'writes that the restored application shows').toBeGreaterThanOrEqual(before?.floor ?? 0);
  await using hooks = hooked ? await startHooks(running, directory) : undefined;
  await using agent = place.agent(hooks?.agentArgs ?? [], { pod, volume });
  const sound: LogLine[] = [];
  const floors = new Map<number, number>();
  let floor = running.acknowledged;
  let from = 0;
  while (sound.length < checkpoints) {
    const line = await agent.until('committed', () => true, { from });
    from = agent.lines.indexOf(line) + 1;
    floors.set(line['slot'] as number, floor);
    // Whatever was acknowledged by now is older than the next checkpoint.
    floor = running.acknowledged;
    if (line['consistency'] === 'fuzzy') continue;
    expect(line, 'what is sound').toMatchObject({ suspect: false, incomplete: false });
    sound.push(line);
  }
  let lastFloor = floor;
  if (round < kills) {
    // One after the other without a moment in between, each of them first in turn.
    const agentFirst = round % 2 === 0;
    if (agentFirst) agent.child.kill('SIGKILL');
    await running.kill();
    await agent.stop('SIGKILL');
  } else {
    await running.stop();
    lastFloor = running.acknowledged;
    expect(await agent.stop()).toEqual({ code: 0, signal: null });
    expect(agent.events('sealed')).toMatchObject([{ consistency: 'quiesced' }]);
  }
  rmSync(directory, { recursive: true });
  const committed = committedBy(agent);
  return committed.map(({ slot, consistency }, i) => {
    const known = i === committed.length - 1 ? lastFloor : floor;
    return { slot, consistency, floor: floors.get(slot) ?? known };
  });
}

function committedBy(agent: AgentProcess): readonly { readonly slot: number; readonly consistency: string }[] {
  return agent
    .events('committed')
    .map((line) => ({ slot: line['slot'] as number, consistency: line['consistency'] as string }));
}

async function rehydrate(place: AgentPlace, pod: string, volume: string): Promise<JsonObject> {
  const args = [
    '--volume',
    `data=${volume}`,
    '--pod-uid',
    pod,
    '--state-dir',
    place.stateOf(pod),
    '--handoff-wait',
    '0s',
  ];
  const ran = await place.work.run(['rehydrate', ...args, '--output', 'json']);
  expect(ran, ran.stderr).toMatchObject({ code: 0 });
  return JSON.parse(ran.stdout) as JsonObject;
}

/** The program of examples/hooks that answers for the application. */
async function startHooks(
  { hooks }: RunningSubject,
  directory: string,
): Promise<AsyncDisposable & { readonly agentArgs: readonly string[] }> {
  if (hooks === undefined) throw new Error('this application has no hooks');
  const socket = join(directory, 'hooks.sock');
  const program = new Program(process.execPath, [join(hooksFolder, hooks.program), ...hooks.args, socket]);
  await program.printed(/hooks are answered/);
  const agentArgs = [
    ...['--hook-pre-checkpoint', `unix:${socket}:/hold`],
    ...['--hook-post-checkpoint', `unix:${socket}:/go`],
  ];
  return { agentArgs, [Symbol.asyncDispose]: () => program[Symbol.asyncDispose]() };
}
