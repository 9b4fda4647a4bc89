import { expect, it } from 'vitest';
import { parseSettings, type Settings, UsageError } from '../../bench/settings.ts';

function parse(...args: string[]): Settings {
  return parseSettings(args, { root: '/checkout', env: { XDG_CACHE_HOME: '/cache' } });
}

it('measures and writes everything unless told otherwise', () => {
  expect(parse()).toMatchObject({
    phases: ['first', 'level3', 'incremental', 'restore', 'sqlite'],
    sets: ['a', 'b', 'c'],
    peers: ['restic', 'tar'],
    rounds: 3,
    write: true,
    gate: false,
    cacheDir: '/cache/holdfast-bench',
    program: '/checkout/bin/holdfast',
  });
});

it('does not write a part of the table by itself', () => {
  expect([parse('--sets', 'a').write, parse('--only', 'incr').write, parse('--quick').write]).toEqual([
    false,
    false,
    false,
  ]);
  expect([parse('--sets', 'a', '--write').write, parse('--no-write').write]).toEqual([true, false]);
});

it('measures the first saves that level 3 is compared with', () => {
  expect(parse('--only', 'level3').phases).toEqual(['first', 'level3']);
});

it.each([
  [['--sets', 'a,d'], /d is not known/],
  [['--only', 'last'], /last is not known/],
  [['--rounds', '0'], /whole number from 1/],
  [['--quick', '--gate'], /full sets/],
  [['--report-only'], /needs --results/],
  [['--work', '/checkout/cache'], /inside the checkout/],
  [['--work', '/checkout'], /inside the checkout/],
  [['--what'], /--what/],
])('refuses %j', (args, message) => {
  expect(() => parse(...args)).toThrow(UsageError);
  expect(() => parse(...args)).toThrow(message);
});
