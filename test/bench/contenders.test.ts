import { expect, it } from 'vitest';
import { firstShare } from '../../bench/contenders.ts';

function output(first: object | undefined, whole: object): string {
  return [...(first === undefined ? [] : [first]), whole].map((event) => `${JSON.stringify(event)}\n`).join('');
}

const first = { event: 'first-complete', volume: 'data', files: 3, bytes: 10, seconds: 1 };

it('places the moment within the whole run, whose start and end lie outside of what the program counts', () => {
  // 0.5 s before the program's clock starts, its 4 s, nothing behind them.
  expect(firstShare(output(first, { slot: 2, seconds: 4 }), 4.5)).toBeCloseTo(1.5 / 4.5);
});

it('gives no share where nothing came first', () => {
  expect(() => firstShare(output(undefined, { slot: 2, seconds: 4 }), 4.5)).toThrow(/did not say/);
  expect(() => firstShare(output({ ...first, files: 0 }, { slot: 2, seconds: 4 }), 4.5)).toThrow(
    /nothing was restored/,
  );
});
