import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { toldFile } from '../../src/agent/post-restore.ts';
import { AgentPlace, type AgentProcess } from './agent-process.ts';
import { HookedApplication } from './hooked-application.ts';

/** A lineage whose first pod has ended, and a second one that was restored into `back`, with the application's socket beside it. */
class Successor implements Disposable {
  readonly place: AgentPlace;
  readonly socket: string;

  private constructor(place: AgentPlace) {
    this.place = place;
    this.socket = place.work.at('app.sock');
  }

  static async make(): Promise<Successor> {
    const place = await AgentPlace.make();
    writeFileSync(join(place.volume, 'file'), 'one');
    await using first = place.agent();
    await first.until('committed');
    expect(await first.stop()).toMatchObject({ code: 0 });
    const successor = new Successor(place);
    await successor.rehydrate('pod-2');
    return successor;
  }

  async rehydrate(pod: string, lineage = 'team/app/0'): Promise<void> {
    const { work } = this.place;
    const ran = await work.run([
      'rehydrate',
      ...['--lineage', lineage, '--volume', `data=${work.at('back')}`],
      ...['--pod-uid', pod, '--state-dir', this.place.stateOf(pod), '--termination-message', ''],
    ]);
    expect(ran).toMatchObject({ code: 0 });
  }

  agent(args: readonly string[] = []): AgentProcess {
    return this.place.agent(['--hook-post-restore', `unix:${this.socket}:/restored`, ...args], {
      pod: 'pod-2',
      volume: this.place.work.at('back'),
    });
  }

  get told(): unknown {
    return JSON.parse(readFileSync(join(this.place.stateOf('pod-2'), toldFile), 'utf8'));
  }

  [Symbol.dispose](): void {
    this.place[Symbol.dispose]();
  }
}

test('an application that starts after the agent is told once of the restore, and not by the agents after', async () => {
  using successor = await Successor.make();
  {
    await using agent = successor.agent(['--hook-timeout', '1s']);
    await agent.until('hook-failed', ({ hook }) => hook === 'post-restore');
    expect(await successor.place.status('pod-2')).toMatchObject({ problems: [{ code: 'W_HOOK' }] });
    await using application = await HookedApplication.listenAt(successor.socket);
    expect(await agent.until('told-restored')).toMatchObject({ slot: 3, volumes: ['data'] });
    expect(application.bodies).toEqual([{ hook: 'post-restore', lineage: 'team/app/0', slot: 3, volumes: ['data'] }]);
    expect(await successor.place.status('pod-2')).toMatchObject({ problems: [] });
    expect(successor.told).toMatchObject({ slot: 3, outcome: 'told' });
    await agent.stop('SIGKILL');
    await using again = successor.agent();
    await again.until('claimed');
    expect(await again.stop()).toMatchObject({ code: 0 });
    expect(application.calls).toEqual(['POST /restored post-restore']);
  }
});

test('an application that refuses is asked three times, and by no later agent', async () => {
  using successor = await Successor.make();
  await using application = await HookedApplication.listenAt(successor.socket);
  application.answers = { '/restored': 500 };
  await using agent = successor.agent();
  await agent.until('hook-failed', () => agent.events('hook-failed').length === 3);
  await agent.until('claimed');
  expect(await successor.place.status('pod-2')).toMatchObject({
    problems: [{ code: 'W_HOOK', message: expect.stringContaining('500') }],
  });
  expect(await agent.stop()).toMatchObject({ code: 0 });
  expect(successor.told).toMatchObject({ outcome: 'refused' });
  await using again = successor.agent();
  await again.until('claimed');
  expect(await again.stop()).toMatchObject({ code: 0 });
  expect(application.calls).toHaveLength(3);
});

test('an agent that dies before the answer leaves the telling to the next one', async () => {
  using successor = await Successor.make();
  await using application = await HookedApplication.listenAt(successor.socket);
  let called = (): void => undefined;
  const asked = new Promise<void>((resolve) => {
    called = resolve;
  });
  application.onCall = () => called();
  application.answers = { '/restored': new Promise<number>(() => undefined) };
  {
    await using agent = successor.agent();
    await asked;
    await agent.stop('SIGKILL');
  }
  application.answers = {};
  await using again = successor.agent();
  await again.until('told-restored');
  expect(await again.stop()).toMatchObject({ code: 0 });
  expect(application.calls).toHaveLength(2);
});

test('a pod that began empty is told nothing, and an agent does not wait at its end for who does not answer', async () => {
  using place = await AgentPlace.make();
  await using application = await HookedApplication.listenAt(place.work.at('app.sock'));
  const hook = ['--hook-post-restore', application.at('/restored')];
  const ran = await place.work.run([
    'rehydrate',
    ...['--volume', `data=${place.volume}`, '--pod-uid', 'pod-1', '--state-dir', place.stateOf('pod-1')],
    ...['--termination-message', ''],
  ]);
  expect(ran).toMatchObject({ code: 0 });
  await using agent = place.agent(hook);
  await agent.until('committed');
  expect(await agent.stop()).toMatchObject({ code: 0 });
  expect(application.calls).toEqual([]);
});
