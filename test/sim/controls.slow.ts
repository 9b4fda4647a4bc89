/** Every rule that can be switched off must make the simulator find something: the proof that it can fail. */
import { expect, test } from 'vitest';
import { type Break, breaks, bucketBreaks } from './breaks.ts';
import { simulate } from './simulation.ts';

const seedsMax = 300;

/** Where it was found last, of those rules that few worlds depend on: looked at first, to spare the others, and not relied on. */
const foundLast: Partial<Record<Break, number>> = { 'second-list': 163, fresh: 88, 'pack-slot': 24, flush: 27 };

test.each(Object.keys(breaks) as Break[])('without the rule %s something is found', async (rule) => {
  const first = foundLast[rule] ?? 1;
  for (const seed of [first, ...Array.from({ length: seedsMax }, (_, i) => i + 1)]) {
    const store = bucketBreaks.has(rule) ? ({ store: 'bucket' } as const) : {};
    const { violation } = await simulate({ seed, broken: new Set([rule]), ...store });
    if (violation === undefined) continue;
    // With the rule there is nothing to be found in the same world.
    expect((await simulate({ seed, ...store })).violation).toBeUndefined();
    return;
  }
  expect.unreachable(`${seedsMax} worlds without a violation`);
});
