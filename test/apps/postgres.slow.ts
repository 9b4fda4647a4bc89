import { chmodSync, mkdirSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { AgentPlace } from '../agent/agent-process.ts';
import { postgres } from './postgres-subject.ts';
import { killedAndBroughtBack } from './story.ts';

describe('PostgreSQL under pgbench', () => {
  test('that is held by a hook, killed and brought back: every checkpoint is quiesced, recovers, and has what was committed before', async () => {
    const made = await killedAndBroughtBack({ subject: postgres, hooked: true, kills: 2, checkpoints: 3 });
    expect(made).toMatchObject({ converged: 0, fuzzy: 0 });
  });

  test('that nobody holds, killed and brought back: every converged checkpoint recovers, and has what was committed before', async () => {
    const made = await killedAndBroughtBack({ subject: postgres, hooked: false, kills: 1, checkpoints: 3 });
    expect(made['converged']).toBeGreaterThan(2);
  });

  test('that never rests and nobody holds: a fuzzy checkpoint is not what the next pod begins with', async () => {
    using place = await AgentPlace.make();
    chmodSync(place.work.path, 0o711);
    const directory = place.work.at('pg-place');
    mkdirSync(directory);
    const quiet = await postgres.start({ volume: place.volume, place: directory, rests: true });
    await quiet.stop();
    await using agent = place.agent();
    await agent.until('committed', ({ consistency }) => consistency !== 'fuzzy');
    await using _running = await postgres.start({ volume: place.volume, place: directory, rests: false });
    const fuzzy = await agent.until('committed', ({ consistency }) => consistency === 'fuzzy');
    expect(fuzzy).toMatchObject({ suspect: true });
    expect(await place.status()).toMatchObject({
      problems: expect.arrayContaining([expect.objectContaining({ code: 'W_SUSPECT' })]),
    });
    await agent.stop('SIGKILL');
    const good = agent.events('committed').findLast(({ suspect }) => suspect === false);
    const volume = place.work.at('next');
    mkdirSync(volume);
    const args = ['--volume', `data=${volume}`, '--pod-uid', 'pod-2', '--state-dir', place.stateOf('pod-2')];
    const receipt = await place.work.run(['rehydrate', ...args, '--handoff-wait', '0s', '--output', 'json']);
    expect(JSON.parse(receipt.stdout)).toMatchObject({ outcome: 'restored', from: { slot: good?.['slot'] } });
    await postgres.check(volume);
  });
});
