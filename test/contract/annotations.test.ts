import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkpointName, type ParsedValue } from '../../src/contract/annotation-parsers.ts';
import {
  type AnnotationInfo,
  annotationPrefix,
  annotations,
  readAnnotations,
  volumeAnnotations,
} from '../../src/contract/annotations.ts';
import { isCron } from '../../src/contract/cron.ts';
import { parseQuantity } from '../../src/contract/quantity.ts';
import { parseSelector } from '../../src/engine/lineage/resolve.ts';
import { annotationsPage } from '../../tools/annotations-page.ts';

const all: readonly (readonly [string, AnnotationInfo<unknown>])[] = [
  ...Object.entries(annotations),
  ...Object.entries(volumeAnnotations).map(([name, info]) => [`${name}.data`, info] as const),
];

function problemOf(name: string, text: string): string | undefined {
  return readAnnotations({ [`${annotationPrefix}${name}`]: text }, 'pod').problems[0]?.problem;
}

describe('the catalogue of annotations', () => {
  it('is what docs/annotations.md says', () => {
    const page = readFileSync(join(import.meta.dirname, '../../docs/annotations.md'), 'utf8');
    expect(page, 'run: node tools/annotations-page.ts').toBe(annotationsPage());
  });

  it.each(all)('%s takes its own example and default', (name, info) => {
    expect(problemOf(name, info.example)).toBeUndefined();
    if (info.otherwise !== undefined) expect(problemOf(name, info.otherwise)).toBeUndefined();
    expect(info.help).toMatch(/^[A-Z].*\.$/);
    expect(`${annotationPrefix}${name}`.length).toBeLessThan(63);
  });

  it.each([
    ['inject', 'yes', /neither "true" nor "false"/],
    ['inject', 'True', /neither/],
    ['volumes', '', /empty/],
    ['volumes', 'a,,b', /empty/],
    ['volumes', 'a,b,a', /"a" is there twice/],
    ['volumes', 'A', /"A" is not the name of a volume/],
    ['volumes', '../etc', /not the name of a volume/],
    ['volumes', Array.from({ length: 17 }, (_, i) => `v${i}`).join(','), /17 items, more than 16/],
    ['schedule', '0s', /shorter than 1s/],
    ['schedule', '8d', /longer than 7d/],
    ['schedule', '30', /not a duration/],
    ['schedule', '* * * *', /five fields/],
    ['schedule', '60 * * * *', /five fields/],
    ['schedule', '*/0 * * * *', /five fields/],
    ['schedule', '* * * * * *', /five fields/],
    ['on-first-boot', 'older:1h', /none of empty, block, block:DURATION/],
    ['on-missing', 'older', /without an age/],
    ['on-missing', 'older:0s', /not a duration/],
    ['on-missing', 'empty:1s', /takes no duration/],
    ['on-missing', 'block:1m:2m', /none of/],
    ['restore-at', 'latest', /neither the id/],
    ['restore-at', '12345', /neither the id/],
    ['restore-at', '123456', /neither the id/],
    ['restore-at', '2026-02-30', /does not exist/],
    ['lineage', 'web', /KIND\/NAME/],
    ['lineage', 'other-team/statefulset/web', /KIND\/NAME/],
    ['lineage', '../web', /letters/],
    ['slot', '..', /letters/],
    ['slot', 'a/b', /letters/],
    ['store', 'Team_A', /lower-case/],
    ['hook.pre-checkpoint', 'http://169.254.169.254:80/latest', /not an address/],
    ['hook.pre-checkpoint', 'http://127.0.0.1:80@evil.example/', /not an address/],
    ['hook.pre-checkpoint', 'http://127.0.0.1:70000/', /not an address/],
    ['run-as-user', '-1', /whole number/],
    ['run-as-user', '007', /whole number/],
    ['run-as-user', '2147483648', /whole number/],
    ['cpu-limit', '0', /nothing/],
    ['cpu-limit', '1 core', /not a quantity/],
    ['memory-limit', '1KiB', /not a quantity/],
    ['image', 'a b', /not the name of an image/],
    ['exclude.data', '[', /not a glob/],
    ['slots', 'Claim', /none of claim, seed, refuse/],
  ])('%s refuses %j', (name, text, problem) => {
    expect(problemOf(name, text)).toMatch(problem);
  });

  it('knows what was meant by an annotation that does not exist', () => {
    const remedyOf = (name: string): string | undefined =>
      readAnnotations({ [`${annotationPrefix}${name}`]: 'x' }, 'pod').problems[0]?.remedy;
    expect(remedyOf('shedule')).toBe('Did you mean holdfast.dev/schedule?');
    expect(remedyOf('exlude.data')).toBe('Did you mean holdfast.dev/exclude.data?');
    expect(remedyOf('exclude')).toBe('Name the volume: holdfast.dev/exclude.VOLUME.');
    expect(remedyOf('constructor')).toBe('docs/annotations.md lists those that exist.');
    expect(remedyOf('exclude.NOT')).toMatch(/Did you mean|lists those/);
  });

  it('refuses elsewhere what counts on a pod only', () => {
    const reading = readAnnotations({ 'holdfast.dev/inject': 'true', 'holdfast.dev/rpo': '5m' }, 'elsewhere');
    expect(reading.problems).toMatchObject([{ annotation: 'holdfast.dev/inject', problem: 'counts on a pod only' }]);
    expect(reading.values.get('rpo')).toEqual({ text: '5m', value: 300_000 });
  });

  it('leaves alone what belongs to others, and what it writes itself', () => {
    const reading = readAnnotations({ 'example.com/inject': 'maybe', 'holdfast.dev/status': '{' }, 'pod');
    expect(reading).toEqual({ values: new Map(), perVolume: new Map(), problems: [] });
  });

  it('reads no value that is longer than anything meant', () => {
    expect(problemOf('exclude.data', 'x,'.repeat(2000))).toMatch(/more than 64/);
    expect(problemOf('exclude.data', 'x'.repeat(5000))).toBe('longer than 4096 characters');
  });

  it('takes globs with commas one a line', () => {
    const reading = readAnnotations({ 'holdfast.dev/exclude.data': '[a,b]*\n*.tmp\n' }, 'pod');
    expect(reading.perVolume.get('exclude.data')?.value).toEqual(['[a,b]*', '*.tmp']);
  });

  it('never throws, whatever stands there', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...all),
        fc.oneof(fc.string({ unit: 'binary' }), fc.string()),
        ([name, info], text) => {
          const parsed: ParsedValue<unknown> = info.parse(text);
          expect('value' in parsed || parsed.problem.length > 0).toBe(true);
          expect(problemOf(name, text) === undefined).toBe('value' in parsed);
        },
      ),
      { numRuns: 1000 },
    );
  });
});

it('names a checkpoint as the engine does', () => {
  const digits = fc.stringMatching(/^(id:)?[0-9a-f]{4,64}$/);
  const times = fc.stringMatching(
    /^20\d\d-[01]\d-[0-3]\d([T ][012]\d:[0-5]\d(:[0-5]\d(\.\d{1,3})?)?)?(Z|[+-]\d\d:\d\d)?$/,
  );
  let taken = 0;
  fc.assert(
    fc.property(fc.oneof(digits, times), (text) => {
      if ('problem' in checkpointName(text)) return;
      taken++;
      expect(['id', 'time']).toContain(parseSelector(text).by);
    }),
    { numRuns: 2000 },
  );
  expect(taken).toBeGreaterThan(500);
});

it('reads cron expressions', () => {
  for (const right of ['* * * * *', '*/5 * * * *', '0 3 * * MON-FRI', '0,30 8-18/2 1 JAN,dec 7', '59 23 31 12 0']) {
    expect(isCron(right), right).toBe(true);
  }
  for (const wrong of [
    '',
    '@daily',
    '5/2 * * * *',
    '5-1 * * * *',
    '* 24 * * *',
    '* * 0 * *',
    '* * * 13 *',
    'a * * * *',
    '1, * * * *',
  ]) {
    expect(isCron(wrong), wrong).toBe(false);
  }
});

it('reads quantities', () => {
  expect(['250m', '0.5', '1', '1Ki', '1e3', '2G', '.5', '1.', '+1', '2u'].map(parseQuantity)).toEqual([
    0.25, 0.5, 1, 1024, 1000, 2e9, 0.5, 1, 1, 2e-6,
  ]);
  for (const wrong of ['', '-1', '1KB', '1ki', 'Infinity', '0x10', '1e999', '1 Mi', '1..2']) {
    expect(parseQuantity(wrong), wrong).toBeUndefined();
  }
});
