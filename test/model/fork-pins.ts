import { type Bits, has, isSubset, itemsOf, none, without, withItem } from './bits.ts';
import type { Encoder } from './encoder.ts';
import type { Model, Moves } from './explore.ts';

/**
 * A fork: a lineage that begins at a checkpoint of another one, and lists that one's packs until its own records need
 * them no longer. The collector of the origin sees the fork's pin and the fork's log, and nothing else of it.
 *
 * Slot s of the origin introduces pack s, and its record lists packs that only it and older ones have, so that expiring it
 * would take them. The fork's checkpoints either keep what the origin gave (an increment) or not (all was rewritten);
 * its older checkpoints stay retained until the fork's own collector expires them, which it may do at any time.
 */
export type ForkBounds = {
  /** How many checkpoints the origin commits. */
  readonly commits: number;
  readonly forkCommits: number;
  readonly collections: number;
};

export type ForkRules = {
  /** A pin is written before the collector's decisions are read again, and only then the base is used. */
  readonly pinRereadsDecisions: boolean;
  /**
   * `collector`: only the origin's collector ends a pin, after it found no retained record of the fork that lists a pack of
   * the origin. `deadline`: it also ends by itself. `tombstone`: the fork ends it when its newest record needs it no more.
   */
  readonly pinEnds: 'collector' | 'deadline' | 'tombstone';
  /** A pin whose fork has no record yet stays: the fork may be about to write its CLAIM. */
  readonly pinWaitsForClaim: boolean;
  /** Before the first delete the collector reads pins again. */
  readonly collectorRereadsPins: boolean;
};

export const forkRules: ForkRules = {
  pinRereadsDecisions: true,
  pinEnds: 'collector',
  pinWaitsForClaim: true,
  collectorRereadsPins: true,
};

const forkSteps = ['choose', 'pin', 'reread', 'owner', 'gave up'] as const;
const collectorSteps = ['idle', 'decide', 'reread', 'delete'] as const;

type State = {
  /** Newest slot of the origin. */
  readonly head: number;
  /** Packs of the origin that are in the store. */
  readonly packs: Bits;
  readonly expired: Bits;
  readonly fork: {
    readonly step: (typeof forkSteps)[number];
    /** The slot of the origin that it begins at. */
    readonly base: number;
    readonly pinned: boolean;
    readonly commits: number;
    /** Its retained records that list packs of the origin; bit 0 is its CLAIM, which names the base. */
    readonly needing: Bits;
  };
  readonly collector: {
    readonly step: (typeof collectorSteps)[number];
    readonly highest: number;
    /** What pins held when it listed. */
    readonly held: Bits;
    readonly toDelete: Bits;
    readonly runs: number;
  };
};

export function forkPinModel(bounds: ForkBounds, rules: ForkRules = forkRules): Model<State> {
  const { commits, forkCommits, collections } = bounds;
  const forkWith = (state: State, change: Partial<State['fork']>): State => ({
    ...state,
    fork: { ...state.fork, ...change },
  });
  const collectorWith = (state: State, change: Partial<State['collector']>): State => ({
    ...state,
    collector: { ...state.collector, ...change },
  });
  const newestOf = (needing: Bits): number => 31 - Math.clz32(needing);

  const moveOrigin = (state: State, next: Moves<State>): void => {
    if (state.head >= commits) return;
    const head = state.head + 1;
    next.step(`origin commits ${head}`, { ...state, head, packs: withItem(state.packs, head) });
  };

  const moveFork = (state: State, next: Moves<State>): void => {
    const { step, base, commits: done, needing, pinned } = state.fork;
    if (step === 'choose') {
      for (let slot = 1; slot <= state.head; slot++) {
        if (has(state.expired, slot)) continue;
        next.step(`fork chooses ${slot}`, forkWith(state, { step: 'pin', base: slot }));
      }
    } else if (step === 'pin') {
      const after = rules.pinRereadsDecisions ? 'reread' : 'owner';
      const claimed = rules.pinRereadsDecisions ? none : withItem(none, 0);
      next.step(`fork pins ${base}`, forkWith(state, { step: after, pinned: true, needing: claimed }));
    } else if (step === 'reread') {
      if (has(state.expired, base)) next.step(`fork finds ${base} expired`, forkWith(state, { step: 'gave up' }));
      else next.step('fork claims', forkWith(state, { step: 'owner', needing: withItem(none, 0) }));
    } else if (step === 'owner') {
      if (done < forkCommits) {
        const number = done + 1;
        if (needing !== none && (done === 0 || has(needing, done))) {
          next.step(
            `fork commits ${number} upon the origin's packs`,
            forkWith(state, { commits: number, needing: withItem(without(needing, 0), number) }),
          );
        }
        next.step(
          `fork commits ${number}, all its own`,
          forkWith(state, { commits: number, needing: without(needing, 0) }),
        );
      }
      // Retention of the fork: its newest record stays. Its CLAIM means nothing once there is a checkpoint.
      for (const record of itemsOf(needing)) {
        if (record === done) continue;
        next.step(`the fork's record ${record} expires`, forkWith(state, { needing: without(needing, record) }));
      }
      if (pinned && rules.pinEnds === 'tombstone' && done > 0 && newestOf(needing) < done) {
        next.step('fork ends its pin', forkWith(state, { pinned: false }));
      }
    }
    if (pinned && rules.pinEnds === 'deadline') next.fault("fork's pin ends", forkWith(state, { pinned: false }));
  };

  const holds = (state: State): Bits => (state.fork.pinned ? withItem(none, state.fork.base) : none);

  const moveCollector = (state: State, next: Moves<State>): void => {
    const { step, highest, toDelete, runs } = state.collector;
    if (step === 'idle') {
      if (runs >= collections) return;
      next.step(
        `collector lists ${state.head}`,
        collectorWith(state, { step: 'decide', highest: state.head, held: holds(state) }),
      );
      const { fork } = state;
      const hasRecord = fork.step === 'owner' || !rules.pinWaitsForClaim;
      if (fork.pinned && hasRecord && fork.needing === none) {
        next.step('collector ends the pin', forkWith(state, { pinned: false }));
      }
    } else if (step === 'decide') {
      let expired = state.expired;
      const { held } = state.collector;
      for (let slot = 1; slot < highest; slot++) if (!has(held, slot)) expired = withItem(expired, slot);
      next.step(`collector expires ${itemsOf(expired)}`, collectorWith({ ...state, expired }, { step: 'reread' }));
    } else if (step === 'reread') {
      const held = rules.collectorRereadsPins ? holds(state) : state.collector.held;
      let found = none;
      for (const slot of itemsOf(state.expired)) {
        if (slot < highest && !has(held, slot) && has(state.packs, slot)) found = withItem(found, slot);
      }
      next.step(
        `collector will delete packs ${itemsOf(found)}`,
        collectorWith(state, { step: 'delete', toDelete: found }),
      );
    } else {
      const [pack] = itemsOf(toDelete);
      if (pack === undefined) {
        next.step('collector is done', collectorWith(state, { step: 'idle', highest: 0, held: none, runs: runs + 1 }));
        return;
      }
      const packs = without(state.packs, pack);
      next.step(`collector deletes pack ${pack}`, {
        ...collectorWith(state, { toDelete: without(toDelete, pack) }),
        packs,
      });
    }
  };

  return {
    initial: {
      head: 1,
      packs: withItem(none, 1),
      expired: none,
      fork: { step: 'choose', base: 0, pinned: false, commits: 0, needing: none },
      collector: { step: 'idle', highest: 0, held: none, toDelete: none, runs: 0 },
    },

    moves(state, next) {
      moveOrigin(state, next);
      moveFork(state, next);
      moveCollector(state, next);
    },

    broken({ fork, packs }) {
      if (fork.needing === none || isSubset(withItem(none, fork.base), packs)) return undefined;
      return `DANGLING: records ${itemsOf(fork.needing)} of the fork list pack ${fork.base} of the origin, which is gone`;
    },

    encode({ head, packs, expired, fork, collector }, out: Encoder) {
      out.u8(head);
      out.u16(packs);
      out.u16(expired);
      out.u8(forkSteps.indexOf(fork.step) * 2 + (fork.pinned ? 1 : 0));
      out.u8(fork.base);
      out.u8(fork.commits);
      out.u16(fork.needing);
      out.u8(collectorSteps.indexOf(collector.step));
      out.u8(collector.highest);
      out.u16(collector.held);
      out.u16(collector.toDelete);
      out.u8(collector.runs);
    },
  };
}
