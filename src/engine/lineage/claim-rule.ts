/**
 * Who may claim a lineage. Pure: what was read from the log and what is known of other holders goes in, what to do comes out.
 *
 * The rule for pods was explored as a model (docs/decisions/0030-records-and-claims.md): a holder that claimed before may claim
 * again only over epochs of holders that are known to be gone, and, once an app has run on its volumes, only while nothing was
 * committed that its volumes do not contain. Every part of it is needed: each one left out loses a checkpoint in some run.
 */
import type { Epoch, HolderId, Slot } from '../model/ids.ts';

/** A valid CLAIM and what became of it. */
export interface EpochFacts {
  /** Slot of the CLAIM. */
  readonly epoch: Epoch;
  readonly holder: HolderId;
  /** As its records name it. */
  readonly holderName: string;
  /** True when the epoch's newest record is a SEAL. */
  readonly sealed: boolean;
  /** Slot of its newest CHECKPOINT or PARTIAL; 0: it committed nothing. */
  readonly committed: Slot;
}

export interface ClaimQuestion {
  readonly me: HolderId;
  /** Newest first, down to the newest epoch of mine when there is one. */
  readonly epochs: readonly EpochFacts[];
  /** Other holders that are known to be gone. */
  readonly gone: ReadonlySet<HolderId>;
  /**
   * pod: a lineage is one pod identity, so a pod that never claimed is the successor, and a SEAL does not count as gone,
   * because its pod may reopen it. person: whoever runs a command; a lineage is free only when it was sealed, is empty, or
   * its holder is gone.
   */
  readonly policy: 'pod' | 'person';
  /** Whether my volumes hold anything of value: an app has run on them, or they are a person's directory. */
  readonly used: boolean;
  /** My volumes contain everything committed up to here. */
  readonly includes: Slot;
}

export type ClaimDecision =
  | { readonly action: 'reuse'; readonly epoch: Epoch }
  | { readonly action: 'claim' }
  /** Somebody who may still be alive holds the lineage. */
  | { readonly action: 'wait'; readonly holders: readonly HolderId[] }
  /** A holder that is gone committed what my volumes do not contain: a person decides between the two histories. */
  | { readonly action: 'diverged'; readonly over: EpochFacts };

export function decideClaim(question: ClaimQuestion): ClaimDecision {
  const { me, epochs, gone, policy, used, includes } = question;
  const mine = epochs.findIndex((epoch) => epoch.holder === me);
  if (mine === 0) return { action: 'reuse', epoch: (epochs[0] as EpochFacts).epoch };
  if (mine < 0 && policy === 'pod') return { action: 'claim' };

  const others = mine < 0 ? epochs : epochs.slice(0, mine);
  // Below its newest claim a lineage is fenced already; to a person only who could still write matters.
  const standing = policy === 'person' ? others.slice(0, 1).filter((epoch) => !epoch.sealed) : others;
  const alive = standing.filter((epoch) => !gone.has(epoch.holder));
  if (alive.length > 0) return { action: 'wait', holders: [...new Set(alive.map((epoch) => epoch.holder))] };
  const over = mine < 0 ? undefined : others.find((epoch) => used && epoch.committed > includes);
  return over === undefined ? { action: 'claim' } : { action: 'diverged', over };
}
