/** Every rule that can be switched off must make the simulator find something: the proof that it can fail. */
import { expect, test } from 'vitest';
import { type Break, breaks, bucketBreaks } from './breaks.ts';
import { simulate } from './simulation.ts';

const seedsMax = 300;

test.each(Object.keys(breaks) as Break[])('without the rule %s something is found', async (rule) => {
  for (let seed = 1; seed <= seedsMax; seed++) {
    const store = bucketBreaks.has(rule) ? ({ store: 'bucket' } as const) : {};
    const { violation } = await simulate({ seed, broken: new Set([rule]), ...store });
    if (violation === undefined) continue;
    // With the rule there is nothing to be found in the same world.
    expect((await simulate({ seed, ...store })).violation).toBeUndefined();
    return;
  }
  expect.unreachable(`${seedsMax} worlds without a violation`);
});
