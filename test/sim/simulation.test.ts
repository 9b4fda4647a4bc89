import { describe, expect, test } from 'vitest';
import type { Break } from './breaks.ts';
import { simulate } from './simulation.ts';

describe('the simulator', () => {
  test('finds nothing in twenty worlds, which meet crashes, faults, takeovers and restores', async () => {
    const met = new Set<string>();
    for (let seed = 1; seed <= 20; seed++) {
      const { violation, counts } = await simulate({ seed });
      expect(violation, `npm run sim -- --seed ${seed} --trace`).toBeUndefined();
      for (const what of counts.keys()) met.add(what);
    }
    for (const what of [
      'acknowledged CHECKPOINT',
      'worlds with a bucket',
      'E_FENCED',
      'E_STORE_UNREACHABLE',
      'lostReply',
      'pods replaced',
    ]) {
      expect(met).toContain(what);
    }
  });

  test('gives the same trace for the same seed, and another for another', async () => {
    const runs = await Promise.all([simulate({ seed: 5 }), simulate({ seed: 6 })]);
    expect((await simulate({ seed: 5 })).digest).toBe(runs[0].digest);
    expect(runs[1].digest).not.toBe(runs[0].digest);
  });

  // The others need more worlds: controls.slow.ts.
  test.each<Break>(['overwrite', 'pack-durable', 'dedup-places', 'refusal', 'parts', 'leftovers'])(
    'finds that %s is broken',
    async (rule) => {
      for (let seed = 1; seed <= 60; seed++) {
        if ((await simulate({ seed, broken: new Set([rule]) })).violation !== undefined) return;
      }
      expect.unreachable('sixty worlds without a violation');
    },
  );
});
