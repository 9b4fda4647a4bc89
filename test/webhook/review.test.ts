import fc from 'fast-check';
import { expect, it } from 'vitest';
import { anyBody, checkAnswer, expectAllMet } from './review-property.ts';

it('answers any body without fail, and changes only pods that opted in, by a patch that keeps what is not ours', () => {
  const tally: Record<string, number> = {};
  fc.assert(
    fc.property(anyBody, (body) => checkAnswer(body, tally)),
    { numRuns: 600, seed: 6 },
  );
  expectAllMet(tally);
  expect(tally['injected']).toBeGreaterThan(50);
});
