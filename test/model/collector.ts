import { type Bits, has, itemsOf, lowest, minus, none, union, without, withItem } from './bits.ts';
import type { Encoder } from './encoder.ts';
import type { Moves } from './explore.ts';
import { Interner } from './interner.ts';

/** The collector's part in commit.ts and rehydrate.ts: LIST, decide what has expired, re-read, delete one by one. */
export type CollectorBounds = {
  /** Log slots 1..slots are used. */
  readonly slots: number;
  readonly collections: number;
  /** Whether the collector may keep any of the older checkpoints, or keeps only what it must. */
  readonly keepsAny: boolean;
  /** Whether CLAIMs name their base. */
  readonly claimsNameBase: boolean;
  readonly slotOfPack: (pack: number) => number;
};

/** What a collector promises; each is a rule that a control run drops. */
export type CollectorRules = {
  /** A pack named for slot t may be deleted only if t <= the highest slot listed. */
  readonly packNameHoldsSlot: boolean;
  /** A log record may be trimmed only if it is a CHECKPOINT: CLAIMs stay. */
  readonly claimsStay: boolean;
  /** A log record may be trimmed only if a CHECKPOINT directly follows it: the last record of each epoch stays. */
  readonly lastOfEpochStays: boolean;
  /** The newest good CHECKPOINT is never expired. `newest`: the newest one, be it suspect. `none`: any may expire. */
  readonly neverExpired: 'newest good' | 'newest' | 'none';
  /** Nothing above the newest good CHECKPOINT is expired. */
  readonly aboveNewestGoodStays: boolean;
  /** The base named in the newest CLAIM is never expired; without this rule the bases of CLAIMs mean nothing. */
  readonly claimBaseStays: boolean;
  /** The base of a CLAIM that came just after the decision is kept by later collections too, though it has expired. */
  readonly claimBaseOutlivesDecision: boolean;
  /**
   * Between its decision and the first delete the collector re-reads pins and log, and keeps what is pinned and the base
   * of every CLAIM above the head that it had listed. `newest CLAIM`: it looks at the base of the newest CLAIM alone.
   */
  readonly rereads: 'pins and CLAIMs' | 'pins and newest CLAIM' | 'nothing';
};

export const collectorRules: CollectorRules = {
  packNameHoldsSlot: true,
  claimsStay: true,
  lastOfEpochStays: true,
  neverExpired: 'newest good',
  aboveNewestGoodStays: true,
  claimBaseStays: true,
  claimBaseOutlivesDecision: true,
  rereads: 'pins and CLAIMs',
};

/** What a collector reads of a log record. */
export type CollectedRecord = {
  readonly id: number;
  readonly kind: 'CLAIM' | 'CHECKPOINT';
  /** A checkpoint's pack list. */
  readonly list: Bits;
  readonly good: boolean;
  /** The slot of the checkpoint that a CLAIM names as its base, or 0. */
  readonly base: number;
};

/** What one LIST of log and packs returned. */
type View = {
  readonly id: number;
  readonly log: readonly (CollectedRecord | undefined)[];
  readonly packs: Bits;
  /** What had expired before; read only where `claimBaseOutlivesDecision` is dropped. */
  readonly expired: Bits;
};

const collectorSteps = ['idle', 'decide', 'reread', 'delete'] as const;

export type Collector = {
  readonly step: (typeof collectorSteps)[number];
  readonly highest: number;
  readonly view: View | undefined;
  /** The slots that the decision expired; kept only where `keepsAny` leaves a choice. */
  readonly decided: Bits;
  readonly packsToDelete: Bits;
  readonly slotsToTrim: Bits;
  readonly runs: number;
};

export const idleCollector: Collector = {
  step: 'idle',
  highest: 0,
  view: undefined,
  decided: none,
  packsToDelete: none,
  slotsToTrim: none,
  runs: 0,
};

/** The part of a model's state that the collector reads and changes. */
export type Collected = {
  readonly log: readonly (CollectedRecord | undefined)[];
  readonly packs: Bits;
  readonly expired: Bits;
  readonly collector: Collector;
};

export type CollectorMoves = {
  /** The collector's next step. `pinned` are the slots that pods have pinned by now. */
  moves<State extends Collected>(state: State, pinned: Bits, next: Moves<State>): void;
  encode(collector: Collector, out: Encoder): void;
};

/** The slot of the newest good CHECKPOINT, or 0. */
export function newestGoodOf(log: readonly (CollectedRecord | undefined)[]): number {
  for (let slot = log.length - 1; slot > 0; slot--) {
    const record = log[slot];
    if (record?.kind === 'CHECKPOINT' && record.good) return slot;
  }
  return 0;
}

/** The highest slot that holds a record, or 0. */
export function headOf(log: readonly unknown[]): number {
  for (let slot = log.length - 1; slot > 0; slot--) if (log[slot] !== undefined) return slot;
  return 0;
}

/** Every checkpoint that has not expired, and the newest good one in any case, has all its packs. */
export function danglingCheckpoint({ log, packs, expired }: Collected): string | undefined {
  const newestGood = newestGoodOf(log);
  for (let slot = 1; slot < log.length; slot++) {
    const record = log[slot];
    if (record?.kind !== 'CHECKPOINT' || (has(expired, slot) && slot !== newestGood)) continue;
    if (minus(record.list, packs) !== none) return `DANGLING: checkpoint ${slot} lacks a pack`;
  }
  return undefined;
}

export function collectorMoves(bounds: CollectorBounds, rules: CollectorRules): CollectorMoves {
  const { slots, collections, keepsAny, claimsNameBase, slotOfPack } = bounds;
  const views = new Interner<View>();
  /** Otherwise a view leaves CLAIMs out, so that states which differ only in what nobody reads are one state. */
  const readsClaims = !rules.claimsStay || claimsNameBase;

  type Log = readonly (CollectedRecord | undefined)[];
  const isCheckpoint = (log: Log, slot: number): boolean => log[slot]?.kind === 'CHECKPOINT';
  const newestClaimBaseOf = (log: Log): number => log.findLast((record) => record?.kind === 'CLAIM')?.base ?? 0;
  const checkpointsIn = (log: Log): number[] => {
    const found: number[] = [];
    for (let slot = 1; slot <= slots + 1; slot++) if (isCheckpoint(log, slot)) found.push(slot);
    return found;
  };

  const list = <State extends Collected>(state: State, next: Moves<State>): void => {
    const log = readsClaims ? state.log : state.log.map((record) => (record?.kind === 'CLAIM' ? undefined : record));
    const ids = log.map((record) => record?.id ?? 0);
    const { packs } = state;
    const expired = rules.claimBaseOutlivesDecision ? none : state.expired;
    const view = views.get(`${ids} ${packs} ${expired}`, (id) => ({ id, log, packs, expired }));
    const highest = headOf(state.log);
    next.step(`collector lists head ${highest}`, {
      ...state,
      collector: { ...state.collector, step: 'decide', highest, view },
    });
  };

  /** The slots that may expire. The worst a retention policy can choose is to expire them all. */
  const mayExpire = (log: Log): Bits => {
    const newestGood = newestGoodOf(log);
    const present = checkpointsIn(log);
    const newest = { 'newest good': newestGood, newest: present.at(-1) ?? 0, none: 0 }[rules.neverExpired];
    const claimBase = rules.claimBaseStays ? newestClaimBaseOf(log) : 0;
    let expiring = none;
    for (const slot of present) {
      const isAbove = slot > newestGood && rules.aboveNewestGoodStays && rules.neverExpired === 'newest good';
      if (slot !== newest && slot !== claimBase && !isAbove) expiring = withItem(expiring, slot);
    }
    return expiring;
  };

  const decide = <State extends Collected>(state: State, next: Moves<State>): void => {
    const { log } = state.collector.view as View;
    const all = mayExpire(log);
    for (let decided = all; ; decided = (decided - 1) & all) {
      next.step(`collector expires ${itemsOf(decided)}`, {
        ...state,
        expired: union(state.expired, decided),
        collector: { ...state.collector, step: 'reread', decided: keepsAny ? decided : none },
      });
      if (!keepsAny || decided === none) break;
    }
  };

  const reread = <State extends Collected>(state: State, pinned: Bits, next: Moves<State>): void => {
    const { collector } = state;
    const { log, packs, expired } = collector.view as View;
    let held = rules.rereads === 'nothing' ? none : pinned;
    if (rules.rereads !== 'nothing' && rules.claimBaseStays) held = withItem(held, newestClaimBaseOf(state.log));
    if (rules.rereads === 'pins and CLAIMs' && rules.claimBaseStays) {
      for (let slot = collector.highest + 1; slot <= slots; slot++) {
        const record = state.log[slot];
        if (record?.kind === 'CLAIM') held = withItem(held, record.base);
      }
    }
    const gone = union(minus(keepsAny ? collector.decided : mayExpire(log), held), minus(expired, pinned));

    let retained = none;
    for (const slot of checkpointsIn(log)) if (!has(gone, slot)) retained = union(retained, log[slot]?.list ?? none);
    let packsToDelete = none;
    for (const pack of itemsOf(minus(packs, retained))) {
      const isSettled = slotOfPack(pack) <= collector.highest;
      if (isSettled || !rules.packNameHoldsSlot) packsToDelete = withItem(packsToDelete, pack);
    }

    let slotsToTrim = none;
    for (let slot = 1; slot < collector.highest; slot++) {
      const record = log[slot];
      if (record === undefined) continue;
      const mayGo = record.kind === 'CHECKPOINT' ? has(gone, slot) : !rules.claimsStay;
      const isFollowed = isCheckpoint(log, slot + 1) || !rules.lastOfEpochStays;
      if (mayGo && isFollowed) slotsToTrim = withItem(slotsToTrim, slot);
    }
    const summary = `packs of ${itemsOf(packsToDelete).map(slotOfPack)}; records ${itemsOf(slotsToTrim)}`;
    next.step(`collector re-reads pins and head, will delete ${summary}`, {
      ...state,
      collector: { ...collector, step: 'delete', view: undefined, decided: none, packsToDelete, slotsToTrim },
    });
  };

  const deleteNext = <State extends Collected>(state: State, next: Moves<State>): void => {
    const { collector } = state;
    const { packsToDelete, slotsToTrim, runs } = collector;
    if (packsToDelete !== none) {
      const pack = lowest(packsToDelete);
      next.step(`collector deletes a pack of ${slotOfPack(pack)}`, {
        ...state,
        packs: without(state.packs, pack),
        collector: { ...collector, packsToDelete: without(packsToDelete, pack) },
      });
    } else if (slotsToTrim !== none) {
      const slot = lowest(slotsToTrim);
      next.step(`collector trims ${slot}`, {
        ...state,
        log: state.log.with(slot, undefined),
        collector: { ...collector, slotsToTrim: without(slotsToTrim, slot) },
      });
    } else {
      next.step('collector is done', { ...state, collector: { ...idleCollector, runs: runs + 1 } });
    }
  };

  return {
    moves(state, pinned, next) {
      const { step, runs } = state.collector;
      if (step === 'idle' && runs < collections) list(state, next);
      else if (step === 'decide') decide(state, next);
      else if (step === 'reread') reread(state, pinned, next);
      else if (step === 'delete') deleteNext(state, next);
    },

    encode(collector, out) {
      out.u8(collectorSteps.indexOf(collector.step));
      out.u8(collector.highest);
      out.u32(collector.view?.id ?? 0);
      out.u16(collector.decided);
      out.u32(collector.packsToDelete);
      out.u16(collector.slotsToTrim);
      out.u8(collector.runs);
    },
  };
}
