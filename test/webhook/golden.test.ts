import { expect, it } from 'vitest';
import { cases } from './cases.ts';
import { goldenNames, goldenOf, readGolden } from './golden.ts';

it.each(cases)('$name: $about', (each) => {
  expect(goldenOf(each), 'look at what differs, then: node test/webhook/golden.ts').toEqual(readGolden(each.name));
});

it('has no answers that nobody asked for', () => {
  expect(goldenNames().toSorted()).toEqual(cases.map(({ name }) => name).toSorted());
});
