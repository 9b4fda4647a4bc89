import { expect, it } from 'vitest';
import {
  backdatedMs,
  type CertificatePlan,
  planCertificates,
  type Validity,
} from '../../src/webhook/certificate-plan.ts';

const dayMs = 86_400_000;

/** Made and ending on these days. */
type Days = readonly [made: number, until: number] | undefined;

function validityOf(days: Days): Validity | undefined {
  return days && { validFromMs: days[0] * dayMs - backdatedMs, validUntilMs: days[1] * dayMs };
}

const decade: Days = [0, 3600];

it.each<readonly [string, number, { authority?: Days; next?: Days; server?: Days }, CertificatePlan]>([
  ['nothing', 0, {}, 'make'],
  ['new ones', 0, { authority: decade, server: [0, 90] }, 'keep'],
  ['more than a third left', 59, { authority: decade, server: [0, 90] }, 'keep'],
  ['a third left', 60, { authority: decade, server: [0, 90] }, 'renew'],
  ['an expired one', 100, { authority: decade, server: [0, 90] }, 'renew'],
  ['one that lives longer than is wanted now', 0, { authority: decade, server: [0, 91] }, 'renew'],
  ['one of a replica whose clock is ahead', 0, { authority: decade, server: [0, 90.04] }, 'keep'],
  ['none to serve with', 0, { authority: decade }, 'renew'],
  ['an authority with a year left', 3240, { authority: decade, server: [3239, 3329] }, 'prepare'],
  ['a next authority of today', 3240, { authority: decade, next: [3240, 6840], server: [3239, 3329] }, 'keep'],
  [
    'a next authority of half a year ago',
    3420,
    { authority: decade, next: [3240, 6840], server: [3400, 3490] },
    'promote',
  ],
  ['one that is younger', 3419, { authority: decade, next: [3240, 6840], server: [3400, 3490] }, 'keep'],
  [
    'a next one, and a certificate to renew',
    3420,
    { authority: decade, next: [3240, 6840], server: [3350, 3440] },
    'renew',
  ],
  ['an expired authority', 3600, { authority: decade, server: [3590, 3680] }, 'make'],
  ['an expired authority, and a next one', 3600, { authority: decade, next: [3599, 7200] }, 'promote'],
  ['an expired next authority', 3300, { authority: decade, next: [-10, 3200], server: [3299, 3389] }, 'prepare'],
  ['what is not valid yet, by a clock that jumped', -1, { authority: decade, server: [0, 90] }, 'make'],
])('with %s', (_, day, { authority, next, server }, plan) => {
  const kept = { authority: validityOf(authority), next: validityOf(next), server: validityOf(server) };
  expect(planCertificates(kept, { nowMs: day * dayMs, validityMs: 90 * dayMs })).toBe(plan);
});
