import { describe, expect, test } from 'vitest';
import {
  answerOf,
  blocked,
  type DataPolicy,
  defaultPolicies,
  nextStep,
  type NoDataAnswer,
  parseDataPolicy,
} from '../../../src/agent/rehydrate/data-policy.ts';
import { type ErrorCode, errorCatalogue, HoldfastError } from '../../../src/engine/model/errors.ts';

const answers: readonly NoDataAnswer[] = ['first-boot', 'missing', 'unreachable'];

function policy(text: string, answer: NoDataAnswer = 'missing'): DataPolicy {
  const parsed = parseDataPolicy(answer, text);
  if ('problem' in parsed) throw new Error(`${text} is ${parsed.problem}`);
  return parsed.value;
}

describe('a policy', () => {
  test.each(answers)('of %s is empty, block, or block with a deadline', (answer) => {
    expect(policy('empty', answer)).toEqual({ act: 'empty', text: 'empty' });
    expect(policy('block', answer)).toEqual({ act: 'block', deadlineMs: undefined, text: 'block' });
    expect(policy('block:10m', answer)).toEqual({ act: 'block', deadlineMs: 600_000, text: 'block:10m' });
    for (const wrong of [
      '',
      'Empty',
      'block:',
      'block:10',
      'block:0s',
      'empty:1h',
      'older',
      'older:',
      'older:1y',
      'older:-1h',
    ]) {
      expect(parseDataPolicy(answer, wrong), wrong).toHaveProperty('problem');
    }
  });

  test('of older data is for data that was there once', () => {
    expect(policy('older:1h')).toEqual({ act: 'older', ageMsMax: 3_600_000, text: 'older:1h' });
    expect(policy('older:1h', 'unreachable')).toMatchObject({ act: 'older' });
    expect(parseDataPolicy('first-boot', 'older:1h')).toHaveProperty('problem');
  });

  test('that nobody gave starts empty where nothing ever was, and lets nothing start otherwise', () => {
    expect(Object.fromEntries(answers.map((answer) => [answer, defaultPolicies[answer].text]))).toEqual({
      'first-boot': 'empty',
      missing: 'block',
      unreachable: 'block',
    });
  });
});

describe('the next step', () => {
  test.each([
    ['empty', 0, false, { step: 'empty' }],
    ['block', 0, false, { step: 'wait', ms: 500 }],
    ['block', 8000, false, { step: 'wait', ms: 2000 }],
    ['block', 3_600_000, false, { step: 'wait', ms: 15_000 }],
    ['block:10s', 9800, false, { step: 'wait', ms: 200 }],
    ['block:10s', 10_000, false, { step: 'give-up' }],
    ['older:1h', 0, false, { step: 'older' }],
    ['older:1h', 0, true, { step: 'wait', ms: 500 }],
  ] as const)('under %s after %i ms, older tried: %s, is %o', (text, waitedMs, olderTried, expected) => {
    expect(nextStep(policy(text), waitedMs, olderTried)).toEqual(expected);
  });
});

describe('an error', () => {
  test('is one of three answers, or none that a policy decides on', () => {
    const found: Record<string, ErrorCode[]> = {};
    for (const code of Object.keys(errorCatalogue) as ErrorCode[]) {
      const answer = answerOf(new HoldfastError(code, '')) ?? 'none';
      found[answer] = [...(found[answer] ?? []), code];
    }
    expect(found['first-boot']).toEqual(['E_NOT_FOUND']);
    expect(found['missing']).toEqual(['E_EXPECTED_MISSING', 'E_DAMAGED', 'E_HOSTILE', 'E_LOST']);
    // A wrong key or a full target stays an error whatever the policy: to begin empty would hide it.
    expect(found['none']).toContain('E_KEY_WRONG');
    expect(found['none']).toContain('E_TARGET_FULL');
    expect(found['unreachable']).toContain('E_REPOSITORY_MISSING');
    expect(answerOf(new TypeError('a defect'))).toBeUndefined();
  });

  test('past a deadline says which policy let nothing start, and why', () => {
    const cause = new HoldfastError('E_DAMAGED', 'pack 3 is gone');
    const error = blocked('missing', policy('block:10m'), 'team/app/0', cause);
    expect(error).toMatchObject({ code: 'E_BLOCKED', exit: 33, details: { answer: 'missing', code: 'E_DAMAGED' } });
    expect(error.message).toContain('--on-missing block:10m');
    expect(error.message).toContain('pack 3 is gone');
    expect(error.remedy).toContain('--on-missing empty');
  });
});
