/**
 * When the certificates that the webhooks keep for themselves are made and replaced. Pure.
 *
 * An authority lives for ten years and signs what the servers serve with, which is replaced every two months. So what pods were told to trust
 * when they were created stays true as long as they live. A year before its end the next one is made, and trusted; half a year later, when
 * the pods that were not told of it are gone, it signs.
 */

export interface Validity {
  /** Before it was made: clocks differ. */
  readonly validFromMs: number;
  readonly validUntilMs: number;
}

/** What there is and could be used but for its time. */
export interface KeptCertificates {
  readonly authority: Validity | undefined;
  /** Trusted, and not signing yet. */
  readonly next: Validity | undefined;
  /** What is served with, signed by the authority. */
  readonly server: Validity | undefined;
}

/**
 * keep: nothing to do. make: a new authority, and what it signs, come into use at once, since there is none that could be used. renew: what
 * is served with. prepare: the next authority. promote: the next authority signs from now on.
 */
export type CertificatePlan = 'keep' | 'make' | 'renew' | 'prepare' | 'promote';

/** How long before it was made a certificate is valid. */
export const backdatedMs: number = 3_600_000;

/** Of an authority, for what it signs: ten years for ninety days. */
export function authorityValidityMs(validityMs: number): number {
  return 40 * validityMs;
}

/** Once a third of its time is left a certificate is replaced, and an authority once it has a year left. */
const renewalShare = 1 / 3;
const authorityRenewalTimes = 4;

/** How long the next authority is only trusted: half a year. */
export function settlingMs(validityMs: number): number {
  return 2 * validityMs;
}

export function planCertificates(
  { authority, next, server }: KeptCertificates,
  { nowMs, validityMs }: { readonly nowMs: number; readonly validityMs: number },
): CertificatePlan {
  const leftMs = (each: Validity | undefined): number =>
    each === undefined || nowMs < each.validFromMs ? 0 : each.validUntilMs - nowMs;
  if (leftMs(authority) <= 0) return leftMs(next) > 0 ? 'promote' : 'make';
  // Also one that lives longer than is wanted now: somebody has chosen a shorter time. Clocks of replicas differ by less than an hour.
  const serverLeftMs = leftMs(server);
  if (serverLeftMs <= validityMs * renewalShare || serverLeftMs > validityMs + backdatedMs) return 'renew';
  if (leftMs(authority) > validityMs * authorityRenewalTimes) return 'keep';
  if (next === undefined || leftMs(next) <= 0) return 'prepare';
  return nowMs - (next.validFromMs + backdatedMs) >= settlingMs(validityMs) ? 'promote' : 'keep';
}
