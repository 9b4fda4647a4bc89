/** Every rule that can be switched off must make the simulator find something: the proof that it can fail. */
import { expect, test } from 'vitest';
import { type Break, breaks, bucketBreaks } from './breaks.ts';
import { simulate } from './simulation.ts';

const seedsMax = 1500;

/** Where it was found last, of those rules that few worlds depend on: looked at first, to spare the others, and not relied on. */
const foundLast: Partial<Record<Break, number>> = { 'second-list': 47, fresh: 339, 'pack-slot': 24, flush: 27 };

test.each(Object.keys(breaks) as Break[])('without the rule %s something is found', async (rule) => {
  const first = foundLast[rule] ?? 1;
  for (const seed of [first, ...Array.from({ length: seedsMax }, (_, i) => i + 1)]) {
    // Worlds in which the rule matters more often than once in some hundred.
    const worlds = {
      ...(bucketBreaks.has(rule) ? ({ store: 'bucket' } as const) : {}),
      ...(rule === 'second-list' ? ({ slowClaims: true } as const) : {}),
    };
    const { violation } = await simulate({ seed, broken: new Set([rule]), ...worlds });
    if (violation === undefined) continue;
    // With the rule there is nothing to be found in the same world.
    expect((await simulate({ seed, ...worlds })).violation).toBeUndefined();
    return;
  }
  expect.unreachable(`${seedsMax} worlds without a violation`);
});
