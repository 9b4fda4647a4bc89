import { expect, it } from 'vitest';
import { parseSettings, type Settings, UsageError } from '../../bench/settings.ts';

function parse(...args: string[]): Settings {
  return parseSettings(args, { root: '/checkout', env: { XDG_CACHE_HOME: '/cache' } });
}

it('measures and writes everything unless told otherwise', () => {
  expect(parse()).toMatchObject({
    store: 'file',
    phases: ['first', 'level3', 'incremental', 'restore', 'restoreFirst', 'sqlite'],
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

it('measures on a server what has rows there, beside restic alone', () => {
  expect(parse('--store', 's3')).toMatchObject({
    store: 's3',
    phases: ['first', 'incremental', 'restore'],
    sets: ['a', 'b'],
    peers: ['restic'],
    write: true,
  });
  expect(parse('--store', 's3', '--peers', '')).toMatchObject({ peers: [], write: true });
  expect(parse('--store', 's3', '--quick').write).toBe(false);
});

it.each([
  [['--store', 'ftp'], /ftp is not one of file, s3/],
  [['--store', 's3', '--only', 'first,sqlite'], /sqlite is measured in directories/],
  [['--store', 's3', '--only', 'level3'], /level3 is measured in directories/],
  [['--store', 's3', '--only', 'restore-first'], /restore-first is measured in directories/],
  [['--store', 's3', '--peers', 'restic,tar'], /tar has no S3 store/],
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
