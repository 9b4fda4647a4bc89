import { type Bits, isSubset, itemsOf, has, lowest, minus, none, union, without, withItem } from './bits.ts';
import {
  type Collected,
  type CollectedRecord,
  type CollectorRules,
  collectorMoves,
  collectorRules,
  danglingCheckpoint,
  headOf,
  idleCollector,
  newestGoodOf,
} from './collector.ts';
import type { Encoder } from './encoder.ts';
import type { Model, Moves } from './explore.ts';
import { Interner } from './interner.ts';

/**
 * The order of rehydrate while the predecessor commits and the collector collects: restore without a claim and without a
 * pin, claim, apply the difference if the base moved, LIST once more, start the app.
 *
 * Pod 0 is the predecessor: it holds the claim in slot 1, and its app runs. The others rehydrate. Packs are fetched one
 * by one, so that any of them may vanish in between. The content of a volume or of a checkpoint is told by the set of
 * the checkpoints that it descends from. Lost replies are left to commit.ts and faults.ts.
 */
export type RehydrateBounds = {
  readonly slots: number;
  /** How many checkpoints each pod may commit; its length is the number of pods. */
  readonly commits: readonly number[];
  readonly collections: number;
  /** Pods (from 1) that may restore an older checkpoint than the newest one (restore-at). */
  readonly restoreAt?: readonly number[];
};

/** What the protocol promises; each is a rule that a control run drops. */
export type RehydrateRules = CollectorRules & {
  /** Before the claim, an object that vanished means that the base moved: LIST again and go on from the newer base. */
  readonly vanishedMeansListAgain: boolean;
  /** After the claim a pod LISTs again: a higher record of an older epoch means that the claim is void. */
  readonly secondList: boolean;
  /** After the claim, the difference to the base that the CLAIM names is applied. */
  readonly appliesDifference: boolean;
  /** A claim with a chosen base is followed by a re-read of the collector's decisions. */
  readonly claimRereadsDecisions: boolean;
  /** After the difference a pod LISTs once more, and starts the app only if its claim is still the newest. */
  readonly lastList: boolean;
};

export const rehydrateRules: RehydrateRules = {
  ...collectorRules,
  vanishedMeansListAgain: true,
  secondList: true,
  appliesDifference: true,
  claimRereadsDecisions: true,
  lastList: true,
};

type LogRecord = CollectedRecord & {
  readonly pod: number;
  readonly epoch: number;
  /** A checkpoint's ancestry, itself included. */
  readonly content: Bits;
};

type Log = readonly (LogRecord | undefined)[];

const podSteps = [
  'list',
  'restore',
  'head',
  'claim',
  'confirm',
  'reread',
  'difference',
  'last LIST',
  'owner',
  'commit',
  'stopped',
] as const;

type Pod = {
  readonly step: (typeof podSteps)[number];
  readonly slot: number;
  readonly epoch: number;
  /** The checkpoint that is restored or being restored: its slot, its packs, those still to fetch, its content. */
  readonly baseSlot: number;
  readonly base: Bits;
  readonly toFetch: Bits;
  readonly content: Bits;
  /** Whether the base was chosen, so that a newer checkpoint does not replace it. */
  readonly isChosen: boolean;
  /** The checkpoint that its CLAIM names. */
  readonly claimBase: number;
  /** Whether another pod had claimed after it when its difference was complete. */
  readonly wasSuperseded: boolean;
  readonly commits: number;
};

type State = Omit<Collected, 'log'> & { readonly log: Log; readonly pods: readonly Pod[] };

export function rehydrateModel(bounds: RehydrateBounds, rules: RehydrateRules = rehydrateRules): Model<State> {
  const { slots, commits, collections, restoreAt = [] } = bounds;
  const pods = commits.length;
  if (slots * pods > 31) throw new RangeError('a pack set has 31 bits');

  const records = new Interner<LogRecord>();
  const claimOf = (pod: number, epoch: number, base: number): LogRecord =>
    records.get(`C ${pod} ${epoch} ${base}`, (id) => {
      return { id, kind: 'CLAIM', pod, epoch, list: none, good: false, base, content: none };
    });
  const checkpointOf = (pod: number, epoch: number, list: Bits, content: Bits): LogRecord =>
    records.get(`K ${pod} ${epoch} ${list} ${content}`, (id) => {
      return { id, kind: 'CHECKPOINT', pod, epoch, list, good: true, base: 0, content };
    });
  const packOf = (slot: number, pod: number): number => (slot - 1) * pods + pod;
  const slotOfPack = (pack: number): number => Math.floor(pack / pods) + 1;
  const collector = collectorMoves(
    { slots, collections, keepsAny: false, claimsNameBase: restoreAt.length > 0, slotOfPack },
    rules,
  );

  const isSuperseded = (log: Log, pod: number, epoch: number): boolean =>
    log.some((record) => record?.kind === 'CLAIM' && record.epoch > epoch && record.pod !== pod);
  const isInGap = (log: Log, claim: number): boolean =>
    log.some((record, slot) => slot > claim && record !== undefined && record.epoch < claim);
  const withPod = (state: State, index: number, change: Partial<Pod>): State => ({
    ...state,
    pods: state.pods.with(index, { ...(state.pods[index] as Pod), ...change }),
  });

  const nothing = {
    baseSlot: 0,
    base: none,
    toFetch: none,
    content: none,
    isChosen: false,
    claimBase: 0,
    wasSuperseded: false,
  };
  const fromTheStart: Partial<Pod> = { ...nothing, step: 'list', slot: 0, epoch: 0 };
  const stopped: Partial<Pod> = { ...nothing, step: 'stopped', slot: 0, epoch: 0 };

  // --- rehydrate, step by step ------------------------------------------------------------------------------------

  const list = (state: State, pod: number, next: Moves<State>): void => {
    const newest = newestGoodOf(state.log);
    if (newest === 0) {
      next.step(`pod ${pod} lists no checkpoint`, withPod(state, pod, { step: 'head' }));
      return;
    }
    for (let slot = 1; slot <= slots; slot++) {
      const record = state.log[slot];
      const isChosen = restoreAt.includes(pod) && slot !== newest && !has(state.expired, slot);
      if (record?.kind !== 'CHECKPOINT' || (slot !== newest && !isChosen)) continue;
      const { list: base, content } = record;
      next.step(
        `pod ${pod} lists, will restore ${slot}`,
        withPod(state, pod, { step: 'restore', baseSlot: slot, base, toFetch: base, content, isChosen }),
      );
    }
  };

  const restore = (state: State, pod: number, next: Moves<State>): void => {
    const { toFetch, baseSlot } = state.pods[pod] as Pod;
    if (toFetch === none) {
      next.step(`pod ${pod} has restored ${baseSlot}`, withPod(state, pod, { step: 'head' }));
      return;
    }
    const pack = lowest(toFetch);
    if (has(state.packs, pack)) {
      next.step(
        `pod ${pod} fetches the pack of ${slotOfPack(pack)}`,
        withPod(state, pod, { toFetch: without(toFetch, pack) }),
      );
      return;
    }
    next.step(
      `pod ${pod} finds no pack of ${slotOfPack(pack)}`,
      withPod(state, pod, fromTheStart),
      rules.vanishedMeansListAgain
        ? undefined
        : `GAVE-UP: pod ${pod}, though checkpoint ${newestGoodOf(state.log)} is whole`,
    );
  };

  const listHead = (state: State, pod: number, next: Moves<State>): void => {
    const { isChosen, baseSlot } = state.pods[pod] as Pod;
    const head = headOf(state.log);
    if (head + 1 > slots) return;
    const claimBase = isChosen ? baseSlot : newestGoodOf(state.log);
    next.step(
      `pod ${pod} lists head ${head}, base ${claimBase}`,
      withPod(state, pod, { step: 'claim', slot: head + 1, claimBase }),
    );
  };

  const claim = (state: State, pod: number, next: Moves<State>): void => {
    const { slot, claimBase } = state.pods[pod] as Pod;
    if (state.log[slot] !== undefined) {
      next.step(`pod ${pod} claim ${slot}: taken`, withPod(state, pod, { step: 'head' }));
      return;
    }
    const step = rules.secondList ? 'confirm' : 'reread';
    const claimed = withPod(state, pod, { step, epoch: slot });
    next.step(`pod ${pod} claim ${slot}: created`, {
      ...claimed,
      log: state.log.with(slot, claimOf(pod, slot, restoreAt.length > 0 ? claimBase : 0)),
    });
  };

  const confirm = (state: State, pod: number, next: Moves<State>): void => {
    const { slot } = state.pods[pod] as Pod;
    if (isInGap(state.log, slot)) {
      next.step(`pod ${pod} claim ${slot} is void`, withPod(state, pod, { step: 'head', epoch: 0 }));
    } else if (isSuperseded(state.log, pod, slot)) {
      next.step(`pod ${pod} claim ${slot} is superseded`, withPod(state, pod, stopped));
    } else {
      next.step(`pod ${pod} claim ${slot} stands`, withPod(state, pod, { step: 'reread' }));
    }
  };

  const rereadDecisions = (state: State, pod: number, next: Moves<State>): void => {
    const { isChosen, claimBase } = state.pods[pod] as Pod;
    if (isChosen && rules.claimRereadsDecisions && has(state.expired, claimBase)) {
      next.step(`pod ${pod} base ${claimBase} has expired`, withPod(state, pod, fromTheStart));
    } else {
      next.step(`pod ${pod} base ${claimBase} stands`, withPod(state, pod, startOfDifference(state, pod)));
    }
  };

  /** What is already there need not be fetched again: the packs of the restored base. */
  const startOfDifference = (state: State, pod: number): Partial<Pod> => {
    const { claimBase, baseSlot, base } = state.pods[pod] as Pod;
    const named = state.log[claimBase];
    if (claimBase === baseSlot || named === undefined || !rules.appliesDifference) return { step: 'difference' };
    return {
      step: 'difference',
      baseSlot: claimBase,
      base: named.list,
      toFetch: minus(named.list, base),
      content: named.content,
    };
  };

  const difference = (state: State, pod: number, next: Moves<State>): void => {
    const { toFetch, epoch } = state.pods[pod] as Pod;
    const superseded = isSuperseded(state.log, pod, epoch);
    if (toFetch === none) {
      next.step(
        `pod ${pod} has applied the difference`,
        withPod(state, pod, { step: 'last LIST', wasSuperseded: superseded }),
      );
      return;
    }
    const pack = lowest(toFetch);
    if (has(state.packs, pack)) {
      next.step(
        `pod ${pod} fetches the pack of ${slotOfPack(pack)}`,
        withPod(state, pod, { toFetch: without(toFetch, pack) }),
      );
      return;
    }
    next.step(
      `pod ${pod} finds no pack of ${slotOfPack(pack)}`,
      withPod(state, pod, stopped),
      superseded ? undefined : `BASE-VANISHED: under the newest claim, of pod ${pod}`,
    );
  };

  const lastList = (state: State, pod: number, next: Moves<State>): void => {
    const { slot, epoch, content, isChosen, wasSuperseded } = state.pods[pod] as Pod;
    if (rules.lastList && isSuperseded(state.log, pod, epoch)) {
      next.step(`pod ${pod} claim ${epoch} is superseded`, withPod(state, pod, stopped));
      return;
    }
    next.step(
      `pod ${pod} app starts`,
      withPod(state, pod, { step: 'owner', slot: slot + 1, wasSuperseded: false, claimBase: 0, baseSlot: 0 }),
      wasSuperseded
        ? `STARTED-SUPERSEDED: pod ${pod}, which could have seen it`
        : isChosen
          ? undefined
          : staleStart(state.log, epoch, content),
    );
  };

  /** The content of a volume when its app starts descends from the newest checkpoint of the earlier epochs. */
  const staleStart = (log: Log, epoch: number, content: Bits): string | undefined => {
    const newest = log.findLastIndex((record) => record?.kind === 'CHECKPOINT' && record.epoch < epoch);
    if (newest < 0 || isSubset(log[newest]?.content ?? none, content)) return undefined;
    return `STALE-START: epoch ${epoch} starts without checkpoint ${newest}`;
  };

  // --- the app's life ---------------------------------------------------------------------------------------------

  const upload = (state: State, pod: number, next: Moves<State>): void => {
    const { slot, commits: done } = state.pods[pod] as Pod;
    if (slot > slots || done >= (commits[pod] ?? 0)) return;
    next.step(`pod ${pod} uploads a pack for ${slot}`, {
      ...withPod(state, pod, { step: 'commit' }),
      packs: withItem(state.packs, packOf(slot, pod)),
    });
  };

  const commit = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    const { slot } = me;
    if (state.log[slot] !== undefined) {
      next.step(`pod ${pod} commit ${slot}: fenced`, withPod(state, pod, stopped));
      return;
    }
    const content = withItem(me.content, slot);
    const own = withItem(none, packOf(slot, pod));
    for (const packs of me.base === none ? [own] : [union(me.base, own), own]) {
      next.step(`pod ${pod} commit ${slot}: created, packs of ${itemsOf(packs).map(slotOfPack)}`, {
        ...withPod(state, pod, { step: 'owner', slot: slot + 1, base: packs, content, commits: me.commits + 1 }),
        log: state.log.with(slot, checkpointOf(pod, me.epoch, packs, content)),
      });
    }
  };

  return {
    initial: {
      log: new Array<LogRecord | undefined>(slots + 2).fill(undefined).with(1, claimOf(0, 1, 0)),
      packs: none,
      expired: none,
      pods: commits.map((_, pod) => ({
        ...nothing,
        step: pod === 0 ? 'owner' : 'list',
        slot: pod === 0 ? 2 : 0,
        epoch: pod === 0 ? 1 : 0,
        commits: 0,
      })),
      collector: idleCollector,
    },

    moves(state, next) {
      for (let pod = 0; pod < pods; pod++) {
        const { step } = state.pods[pod] as Pod;
        if (step === 'list') list(state, pod, next);
        else if (step === 'restore') restore(state, pod, next);
        else if (step === 'head') listHead(state, pod, next);
        else if (step === 'claim') claim(state, pod, next);
        else if (step === 'confirm') confirm(state, pod, next);
        else if (step === 'reread') rereadDecisions(state, pod, next);
        else if (step === 'difference') difference(state, pod, next);
        else if (step === 'last LIST') lastList(state, pod, next);
        else if (step === 'owner') upload(state, pod, next);
        else if (step === 'commit') commit(state, pod, next);
      }
      collector.moves(state, none, next);
    },

    broken: danglingCheckpoint,

    encode(state: State, out: Encoder) {
      for (let slot = 1; slot <= slots + 1; slot++) out.u16(state.log[slot]?.id ?? 0);
      out.u32(state.packs);
      out.u16(state.expired);
      for (const pod of state.pods) {
        out.u8(podSteps.indexOf(pod.step));
        out.u8(pod.slot * 16 + pod.epoch);
        out.u8(pod.baseSlot * 16 + pod.claimBase);
        out.u32(pod.base);
        out.u32(pod.toFetch);
        out.u16(pod.content);
        out.u8((pod.isChosen ? 1 : 0) | (pod.wasSuperseded ? 2 : 0));
        out.u8(pod.commits);
      }
      collector.encode(state.collector, out);
    },
  };
}
