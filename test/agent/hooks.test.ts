import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { heldFile } from '../../src/agent/hooks.ts';
import { AgentPlace } from './agent-process.ts';
import { HookedApplication } from './hooked-application.ts';

const hooksOf = (application: HookedApplication): string[] => [
  ...['--hook-pre-checkpoint', application.at('/quiesce')],
  ...['--hook-post-checkpoint', application.at('/thaw')],
];
const both = ['POST /quiesce pre-checkpoint', 'POST /thaw post-checkpoint'];

test.each(['a port of the loopback interface', 'a unix socket'])(
  'an application on %s is asked to hold still for a checkpoint, let go after it, and left alone otherwise',
  async (where) => {
    using place = await AgentPlace.make();
    await using application = where.includes('port')
      ? await HookedApplication.listen(0)
      : await HookedApplication.listenAt(place.work.at('app.sock'));
    writeFileSync(join(place.volume, 'file'), 'one');
    // What it does in answer is in the checkpoint.
    application.onCall = (path) => {
      if (path === '/quiesce') writeFileSync(join(place.volume, 'flushed'), `${application.calls.length}`);
    };
    await using agent = place.agent(['--log-level', 'debug', ...hooksOf(application)]);
    expect(await agent.until('committed')).toMatchObject({ consistency: 'quiesced' });
    expect(application.calls).toEqual(both);
    await agent.until('unchanged', (line) => line['reason'] === 'schedule');
    expect(application.calls).toEqual(both);
    await place.restore('back');
    expect(readFileSync(place.work.at('back', 'flushed'), 'utf8')).toBe('1');
    expect(readFileSync(join(place.stateOf('pod-1'), heldFile), 'utf8')).toBe('null\n');
    expect(await agent.stop()).toMatchObject({ code: 0 });
  },
);

test('an application that does not answer, or not well, costs its checkpoint nothing but the word quiesced', async () => {
  using place = await AgentPlace.make();
  await using application = await HookedApplication.listen(0);
  application.answers = { '/quiesce': new Promise<number>(() => undefined) };
  writeFileSync(join(place.volume, 'file'), 'one');
  await using agent = place.agent(['--hook-timeout', '1s', ...hooksOf(application)]);
  expect(await agent.until('committed')).toMatchObject({ consistency: 'converged' });
  expect(agent.events('hook-failed')).toMatchObject([{ hook: 'pre-checkpoint', code: 'E_ABORTED' }]);
  // Whoever was asked is let go: the question may have arrived.
  expect(application.calls).toEqual(both);
  application.answers = { '/quiesce': 500 };
  writeFileSync(join(place.volume, 'file'), 'two');
  expect(await agent.until('committed', ({ slot }) => slot === 3)).toMatchObject({ consistency: 'converged' });
  expect(agent.events('hook-failed').at(-1)).toMatchObject({ message: expect.stringContaining('500') });
  application.answers = {};
  writeFileSync(join(place.volume, 'file'), 'three');
  expect(await agent.until('committed', ({ slot }) => slot === 4)).toMatchObject({ consistency: 'quiesced' });
  expect(await place.status()).toMatchObject({ problems: [] });
  expect(await agent.stop()).toMatchObject({ code: 0 });
});

test('an application that an agent held when it died is let go by the next one, first of all', async () => {
  using place = await AgentPlace.make();
  await using application = await HookedApplication.listen(0);
  let held = (): void => undefined;
  const asked = new Promise<void>((resolve) => {
    held = resolve;
  });
  application.onCall = (path) => {
    if (path === '/quiesce') held();
  };
  application.answers = { '/quiesce': new Promise<number>(() => undefined) };
  writeFileSync(join(place.volume, 'file'), 'one');
  {
    await using agent = place.agent(hooksOf(application));
    await asked;
    await agent.stop('SIGKILL');
  }
  expect(application.calls).toEqual(['POST /quiesce pre-checkpoint']);
  application.answers = {};
  await using again = place.agent(hooksOf(application));
  await again.until('left-held');
  await again.until('committed');
  expect(application.calls[1]).toBe('POST /thaw post-checkpoint');
  expect(again.lines.findIndex(({ event }) => event === 'left-held')).toBeLessThan(
    again.lines.findIndex(({ event }) => event === 'claimed'),
  );
  expect(await again.stop()).toMatchObject({ code: 0 });
});
