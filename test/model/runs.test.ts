import { describe, expect, test } from 'vitest';
import { complaint, runs } from './runs.ts';

const quick = runs.filter(({ level }) => level === 'quick');

describe.each([...new Set(quick.map(({ sentence }) => sentence))])('%s', (sentence) => {
  test.each(quick.filter((run) => run.sentence === sentence))('$name', (run) => {
    expect(complaint(run, run.explore())).toBeUndefined();
  });
});

describe('the list of runs', () => {
  test('no two runs have one name', () => {
    expect(new Set(runs.map(({ name }) => name)).size).toBe(runs.length);
  });

  test('every sentence has a quick control run, which fails without the rule', () => {
    const controlled = new Set(
      quick.filter(({ expected }) => expected.verdict !== 'complete').map(({ sentence }) => sentence),
    );
    const sentences = new Set(runs.map(({ sentence }) => sentence));
    expect([...sentences].filter((sentence) => !controlled.has(sentence))).toEqual([]);
  });
});
