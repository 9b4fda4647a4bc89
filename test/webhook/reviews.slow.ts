import fc from 'fast-check';
import { expect, it } from 'vitest';
import { anyBody, checkAnswer, expectAllMet } from './review-property.ts';

it('answers 10,000 bodies of any kind without fail, and changes only pods that opted in', () => {
  const tally: Record<string, number> = {};
  fc.assert(
    fc.property(anyBody, (body) => checkAnswer(body, tally)),
    { numRuns: 10_000 },
  );
  console.log(`reviews: ${JSON.stringify(tally)}`);
  expectAllMet(tally);
  expect(tally['injected']).toBeGreaterThan(500);
});
