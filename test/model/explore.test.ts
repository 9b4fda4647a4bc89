import { describe, expect, test } from 'vitest';
import type { Encoder } from './encoder.ts';
import { explore, kindOf, type Model } from './explore.ts';
import { complaint, type Run } from './runs.ts';
import { longKeys, treeLevels, usualKeys } from './tree-height.ts';

type Jugs = { readonly three: number; readonly five: number };

/** Two jugs of 3 and 5 litres that are filled, emptied, and poured into one another. */
const jugs = (broken: (jugs: Jugs) => string | undefined): Model<Jugs> => ({
  initial: { three: 0, five: 0 },
  moves({ three, five }, next) {
    next.step('fill three', { three: 3, five });
    next.step('fill five', { three, five: 5 });
    next.step('empty three', { three: 0, five });
    next.step('empty five', { three, five: 0 });
    const toFive = Math.min(three, 5 - five);
    next.step('three into five', { three: three - toFive, five: five + toFive });
    const toThree = Math.min(five, 3 - three);
    next.step('five into three', { three: three + toThree, five: five - toThree });
  },
  broken,
  encode({ three, five }: Jugs, out: Encoder) {
    out.u8(three);
    out.u8(five);
  },
});

/** A line of numbers from 0 to `end`, whose last state only a fault leaves. */
const line = (end: number): Model<number> => ({
  initial: 0,
  moves(at, next) {
    if (at < end) next.step('onward', at + 1);
    else next.fault('back to the start', 0);
    next.step('stay', at);
  },
  broken: () => undefined,
  stuck: (at) => `END: at ${at}`,
  encode: (at: number, out: Encoder) => out.u32(at),
});

describe('the explorer', () => {
  test('visits every reachable state once', () => {
    expect(
      explore(
        jugs(() => undefined),
        1000,
      ),
    ).toMatchObject({ verdict: 'complete', states: 16 });
  });

  test('finds a shortest way to a broken invariant', () => {
    const { verdict, violation } = explore(
      jugs(({ five }) => (five === 4 ? 'FOUR: litres in the jug of five' : undefined)),
      1000,
    );
    expect(verdict).toBe('violation');
    expect(violation).toEqual({
      what: 'FOUR: litres in the jug of five',
      trace: ['fill five', 'five into three', 'empty three', 'five into three', 'fill five', 'five into three'],
    });
  });

  test('names the step that breaks an invariant by itself', () => {
    const model: Model<number> = {
      ...line(5),
      moves(at, next) {
        next.step('onward', at + 1, at === 2 ? 'STEP: from two' : undefined);
      },
    };
    expect(explore(model, 1000).violation).toEqual({ what: 'STEP: from two', trace: ['onward', 'onward', 'onward'] });
  });

  test('says that it hit its limit, and not that it is complete', () => {
    expect(explore(line(1000), 100).verdict).toBe('limit');
    expect(explore(line(1000), 1001)).toMatchObject({ verdict: 'complete', states: 1001, depth: 1000 });
  });

  test('finds the state that only a fault leaves, and no other', () => {
    const { stuck } = explore(line(3), 1000);
    expect([...stuck]).toEqual([['END', { what: 'END: at 3', trace: ['onward', 'onward', 'onward'] }]]);
    const cut: Model<number> = { ...line(3), moves: (at, next) => (at < 3 ? next.step('onward', at + 1) : next.cut()) };
    expect(explore(cut, 1000).stuck.size).toBe(0);
  });

  test('keeps states apart whose encodings differ anywhere, across many chunks and growths of its table', () => {
    const count = 150_000;
    const padded: Model<number> = {
      ...line(count - 1),
      encode(at: number, out: Encoder) {
        for (let i = 0; i < 12; i++) out.u32(at % 7);
        out.u32(at);
      },
    };
    expect(explore(padded, count).states).toBe(count);
  });

  test('refuses a field that does not fit, instead of taking two states for one', () => {
    const narrow: Model<number> = { ...line(1000), encode: (at: number, out: Encoder) => out.u8(at) };
    expect(() => explore(narrow, 1000)).toThrow('256 does not fit 8 bits');
  });

  test('refuses a model whose moves differ from call to call', () => {
    let calls = 0;
    const fickle: Model<number> = {
      ...line(3),
      moves: (at, next) => next.step('onward', calls++ > 5 ? 0 : at + 1),
      broken: (at) => (at === 5 ? 'FIVE' : undefined),
    };
    expect(() => explore(fickle, 1000)).toThrow('differ from call to call');
  });
});

describe('the judgement of a run', () => {
  const run = (expected: Run['expected'], model: Model<number>, limit = 1000): string | undefined => {
    const made: Run = {
      name: '',
      sentence: '',
      bounds: '',
      level: 'quick',
      expected,
      explore: () => explore(model, limit),
    };
    return complaint(made, made.explore());
  };
  const breaks: Model<number> = { ...line(9), broken: (at) => (at === 4 ? 'FOUR: reached' : undefined) };

  test('a run is as expected only with the right verdict, number of states, dead ends and kind of violation', () => {
    expect(run({ verdict: 'complete', states: 10, ends: ['END'] }, line(9))).toBeUndefined();
    expect(run({ verdict: 'complete', states: 11, ends: ['END'] }, line(9))).toBe('expected 11 states, found 10');
    expect(run({ verdict: 'complete', states: 10, ends: [] }, line(9))).toBe('expected the dead ends , found END');
    expect(run({ verdict: 'complete', states: 10, ends: ['END'] }, breaks)).toBe(
      'expected complete, found FOUR: reached',
    );
    expect(run({ verdict: 'violation', kind: 'FOUR' }, breaks)).toBeUndefined();
    expect(run({ verdict: 'violation', kind: 'FIVE' }, breaks)).toBe('expected FIVE, found FOUR');
    expect(run({ verdict: 'violation', kind: 'FOUR' }, line(9))).toBe('expected FOUR, found complete');
    expect(run({ verdict: 'dead end', kind: 'END' }, line(9))).toBeUndefined();
    expect(run({ verdict: 'dead end', kind: 'ALL-BLOCKED' }, line(9))).toBe(
      'expected the dead end ALL-BLOCKED, found END',
    );
  });

  test('a run that hits its limit is a failure, whatever it was to find', () => {
    expect(run({ verdict: 'complete', states: 10, ends: ['END'] }, line(9), 5)).toBe('expected complete, found limit');
    expect(run({ verdict: 'violation', kind: 'FOUR' }, line(9), 5)).toBe('expected FOUR, found limit');
    expect(run({ verdict: 'dead end', kind: 'END' }, line(9), 5)).toBe('expected complete, found limit');
  });

  test('the kind of a finding is what stands before its colon', () => {
    expect(kindOf('DANGLING: checkpoint 2: lacks a pack')).toBe('DANGLING');
    expect(kindOf('DANGLING')).toBe('DANGLING');
  });
});

describe('the splitter of the tree-height model', () => {
  test('usual paths give a low tree with and without a least number of children', () => {
    expect(treeLevels(usualKeys(20_000), { childrenMin: 1 })).toEqual([20_000, 593, 17, 2, 1]);
    expect(treeLevels(usualKeys(20_000), { childrenMin: 4 })).toEqual([20_000, 532, 16, 2, 1]);
  });

  test('paths of 4,096 bytes without it give as many nodes as entries, level after level', () => {
    expect(new Set(treeLevels(longKeys(500, 4096), { childrenMin: 1 }))).toEqual(new Set([500]));
    expect(treeLevels(longKeys(500, 4096), { childrenMin: 4 })).toEqual([500, 125, 32, 8, 2, 1]);
  });
});
