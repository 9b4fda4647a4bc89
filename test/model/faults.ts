import { type Bits, has, isSubset, itemsOf, lowest, minus, none, union, without, withItem } from './bits.ts';
import { headOf } from './collector.ts';
import type { Encoder } from './encoder.ts';
import type { Model, Moves } from './explore.ts';
import { Interner } from './interner.ts';

/**
 * Commit and collection with the faults that commit.ts leaves out: PUTs that time out and land later, agents that restart
 * in the same pod, SEAL and reopen, inits that run again and have lost the pod's private directory, packs inlined into
 * their records, PARTIALs, LISTs that are not one instant, two collectors at once.
 *
 * A pod is a pod UID; an *incarnation* of it is one life of its agent or init. The collector expires all it may.
 */
export type FaultBounds = {
  readonly slots: number;
  /** How many checkpoints each pod may commit; its length is the number of pods. */
  readonly commits: readonly number[];
  /** How many collectors run at once, and how often each; 1 and 1 if not told. */
  readonly collectors?: number;
  readonly collections?: number;
  /** Which LIST of a collection comes first. */
  readonly listsFirst?: 'log' | 'packs';
  /** How many PUTs may be under way at a time although their sender has given up on them. */
  readonly delayedPuts?: number;
  /** How often the agent of each pod may restart. */
  readonly agentRestarts?: number;
  /** How often the init of each pod may run again without its private directory. */
  readonly initReruns?: number;
  readonly seals?: boolean;
  readonly partials?: boolean;
  /** Whether packs are inlined into their records. */
  readonly inlined?: boolean;
};

export type FaultRules = {
  /** A record with an inlined pack is also a pack: trimmed only if no retained record lists its inlined pack. */
  readonly inlinedRecordIsPack: boolean;
  /** PARTIALs above the newest CHECKPOINT are retained. */
  readonly partialsStay: boolean;
  /**
   * A valid record of the pod's own epoch with another id, in the slot it wants: `adopt` it as base, go to the next slot
   * and upload anew. `stop`: take it for a foreign record. `mine`: take it for its own. `carry`: adopt it, and list the
   * pack that was uploaded for this slot in the next slot's record.
   */
  readonly ownEpochRecord: 'adopt' | 'stop' | 'mine' | 'carry';
  /** An agent that restarts and finds its own SEAL goes on above it: a SIGTERM does not mean that the app has stopped. */
  readonly sealIsReopened: boolean;
  /** A pod whose claim is followed by another pod's does not claim again while that pod may live (rule F). */
  readonly supersededWaits: boolean;
  /** A claim is void only if a higher record has an epoch below it; other higher records mean superseded, not void. */
  readonly voidOnlyInGap: boolean;
};

export const faultRules: FaultRules = {
  inlinedRecordIsPack: true,
  partialsStay: true,
  ownEpochRecord: 'adopt',
  sealIsReopened: true,
  supersededWaits: true,
  voidOnlyInGap: true,
};

type Kind = 'CLAIM' | 'CHECKPOINT' | 'PARTIAL' | 'SEAL';

type LogRecord = {
  readonly id: number;
  readonly kind: Kind;
  readonly pod: number;
  readonly incarnation: number;
  readonly epoch: number;
  readonly list: Bits;
};

type Log = readonly (LogRecord | undefined)[];

const podSteps = [
  'list',
  'claim',
  'claim?',
  'confirm',
  'owner',
  'commit',
  'commit?',
  'partial',
  'seal',
  'seal?',
  'sealed',
  'restart',
  'stopped',
] as const;

type Pod = {
  readonly step: (typeof podSteps)[number];
  readonly slot: number;
  readonly base: Bits;
  readonly commits: number;
  readonly incarnation: number;
  readonly epoch: number;
  readonly agentRestarts: number;
  readonly initReruns: number;
  /** The pack of the slot before, which only `ownEpochRecord: 'carry'` lists. */
  readonly carried: Bits;
};

type Delayed = { readonly slot: number; readonly record: LogRecord };

const collectorSteps = ['idle', 'second LIST', 'decide', 'delete'] as const;

/** What the LISTs of a collection returned so far. */
type View = { readonly id: number; readonly log: Log | undefined; readonly packs: Bits };

type Collector = {
  readonly step: (typeof collectorSteps)[number];
  readonly highest: number;
  readonly view: View | undefined;
  readonly packsToDelete: Bits;
  readonly slotsToTrim: Bits;
  readonly runs: number;
};

const idle: Collector = {
  step: 'idle',
  highest: 0,
  view: undefined,
  packsToDelete: none,
  slotsToTrim: none,
  runs: 0,
};

type State = {
  readonly log: Log;
  /** Who wrote each slot first, as pod + 1. */
  readonly first: readonly number[];
  readonly packs: Bits;
  readonly expired: Bits;
  /** Sorted by slot, then by record id. */
  readonly delayed: readonly Delayed[];
  readonly pods: readonly Pod[];
  readonly collectors: readonly Collector[];
  /** The checkpoints that a pod was told, or concluded, it has committed; each numbered like its own pack. */
  readonly acknowledged: Bits;
};

export function faultModel(bounds: FaultBounds, rules: FaultRules = faultRules): Model<State> {
  const {
    slots,
    commits,
    collectors = 1,
    collections = 1,
    listsFirst = 'log',
    delayedPuts = 0,
    agentRestarts = 0,
    initReruns = 0,
    seals = false,
    partials = false,
    inlined = false,
  } = bounds;
  const pods = commits.length;
  const incarnations = 1 + agentRestarts + initReruns;
  const packsPerSlot = pods * incarnations;
  if ((slots - 1) * packsPerSlot > 31) throw new RangeError('a pack set has 31 bits');
  if (inlined && partials) throw new RangeError('a PARTIAL has no inlined pack');

  const records = new Interner<LogRecord>();
  const views = new Interner<View>();
  const recordOf = (kind: Kind, me: Pod, pod: number, epoch: number, list: Bits): LogRecord => {
    const { incarnation } = me;
    return records.get(`${kind} ${pod} ${incarnation} ${epoch} ${list}`, (id) => ({
      id,
      kind,
      pod,
      incarnation,
      epoch,
      list,
    }));
  };

  /** Packs are numbered by slot (from 2: slot 1 is a CLAIM), pod, incarnation. Inlined or uploaded, the number is one. */
  const packOf = (slot: number, pod: number, incarnation: number): number =>
    (slot - 2) * packsPerSlot + pod * incarnations + incarnation;
  const slotOfPack = (pack: number): number => Math.floor(pack / packsPerSlot) + 2;
  const packsOfSlot = (slot: number): Bits =>
    slot < 2 || slot > slots ? none : (((1 << packsPerSlot) - 1) << ((slot - 2) * packsPerSlot)) >>> 0;
  const packNames = (set: Bits): string => itemsOf(set).map(slotOfPack).join(',');

  const kindAt = (log: Log, slot: number): Kind | undefined => log[slot]?.kind;
  const newestOf = (log: Log): number => {
    for (let slot = slots + 1; slot > 0; slot--) if (kindAt(log, slot) === 'CHECKPOINT') return slot;
    return 0;
  };
  const hasOlderEpochAbove = (log: Log, claim: number): boolean => {
    for (let slot = claim + 1; slot <= slots + 1; slot++) {
      const record = log[slot];
      if (record !== undefined && record.epoch < claim) return true;
    }
    return false;
  };
  /** Slots between `above` and `below` with a claim of `pod` (or of any other pod) that did not fall into a gap. */
  const claimsOf = (log: Log, pod: number, whose: 'own' | 'foreign', above: number, below: number): number[] => {
    const claims: number[] = [];
    for (let slot = above + 1; slot < below; slot++) {
      const record = log[slot];
      if (record?.kind !== 'CLAIM' || (record.pod === pod) !== (whose === 'own')) continue;
      if (!hasOlderEpochAbove(log, slot)) claims.push(slot);
    }
    return claims;
  };
  const isSameRecord = (record: LogRecord, kind: Kind, pod: number, incarnation: number): boolean =>
    record.kind === kind && record.pod === pod && record.incarnation === incarnation;
  /** The packs of the newest CHECKPOINT and of the PARTIALs above it. */
  const baseOf = (log: Log): Bits => {
    const newest = newestOf(log);
    let base = log[newest]?.list ?? none;
    for (let slot = newest + 1; slot <= slots + 1; slot++) {
      const record = log[slot];
      if (record?.kind === 'PARTIAL') base = union(base, record.list);
    }
    return base;
  };

  const withPod = (state: State, index: number, change: Partial<Pod>): readonly Pod[] =>
    state.pods.with(index, { ...(state.pods[index] as Pod), ...change });
  const withCollector = (state: State, index: number, change: Partial<Collector>): readonly Collector[] =>
    state.collectors.with(index, { ...(state.collectors[index] as Collector), ...change });
  /** The create-only PUT of a record into an empty slot. */
  const create = (state: State, slot: number, record: LogRecord): State => ({
    ...state,
    log: state.log.with(slot, record),
    first: state.first[slot] === 0 ? state.first.with(slot, record.pod + 1) : state.first,
  });
  const delay = (state: State, slot: number, record: LogRecord): readonly Delayed[] =>
    [...state.delayed, { slot, record }].sort((a, b) => a.slot - b.slot || a.record.id - b.record.id);
  const isDelayed = (state: State, slot: number, record: LogRecord): boolean =>
    state.delayed.some((put) => put.slot === slot && put.record === record);

  // --- the network ------------------------------------------------------------------------------------------------

  const delayedPutArrives = (state: State, put: Delayed, next: Moves<State>): void => {
    const { slot, record } = put;
    const rest = { ...state, delayed: state.delayed.filter((other) => other !== put) };
    if (state.log[slot] === undefined) {
      next.step(`a delayed ${record.kind} of pod ${record.pod} lands in ${slot}`, create(rest, slot, record));
    } else {
      next.step(`a delayed ${record.kind} for ${slot} gets 412`, rest);
    }
  };

  // --- the pods ---------------------------------------------------------------------------------------------------

  const restartsFrom = ['owner', 'commit', 'commit?', 'seal', 'seal?', 'sealed'];
  const fromTheStart = { step: 'list', slot: 0, base: none } as const;
  /** Fenced, or superseded: it will not write again, and its agent will not be restarted. */
  const stop = { step: 'stopped', slot: 0, base: none, agentRestarts: 0 } as const;

  const list = (state: State, pod: number, next: Moves<State>): void => {
    const head = headOf(state.log);
    const [firstOwn] = claimsOf(state.log, pod, 'own', 0, slots + 2);
    const isSuperseded = firstOwn !== undefined && claimsOf(state.log, pod, 'foreign', firstOwn, slots + 2).length > 0;
    if (rules.supersededWaits && isSuperseded) {
      next.step(`pod ${pod} lists head ${head}: superseded`, { ...state, pods: withPod(state, pod, stop) });
    } else if (head + 1 <= slots) {
      const base = partials ? baseOf(state.log) : (state.log[newestOf(state.log)]?.list ?? none);
      next.step(`pod ${pod} lists head ${head}`, {
        ...state,
        pods: withPod(state, pod, { step: 'claim', slot: head + 1, base }),
      });
    }
  };

  const claim = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    const { slot } = me;
    const taken = state.log[slot];
    const claimed = withPod(state, pod, { step: 'confirm', epoch: slot });
    if (taken !== undefined) {
      if (me.step === 'claim?' && isSameRecord(taken, 'CLAIM', pod, me.incarnation)) {
        next.step(`pod ${pod} claim ${slot}: it was mine`, { ...state, pods: claimed });
      } else {
        next.step(`pod ${pod} claim ${slot}: taken`, { ...state, pods: withPod(state, pod, fromTheStart) });
      }
      return;
    }
    const record = recordOf('CLAIM', me, pod, slot, none);
    next.step(`pod ${pod} claim ${slot}: created`, create({ ...state, pods: claimed }, slot, record));
    if (me.step === 'claim?') return;
    const unclear = withPod(state, pod, { step: 'claim?' });
    if (state.delayed.length < delayedPuts) {
      next.fault(`pod ${pod} claim ${slot}: timed out, under way`, {
        ...state,
        delayed: delay(state, slot, record),
        pods: unclear,
      });
    } else {
      next.fault(`pod ${pod} claim ${slot}: request lost`, { ...state, pods: unclear });
    }
  };

  /** The second LIST of a claim. */
  const confirm = (state: State, pod: number, next: Moves<State>): void => {
    const { slot } = state.pods[pod] as Pod;
    if (headOf(state.log) <= slot) {
      next.step(`pod ${pod} claim ${slot} stands`, {
        ...state,
        pods: withPod(state, pod, { step: 'owner', slot: slot + 1 }),
      });
      return;
    }
    const isInGap = hasOlderEpochAbove(state.log, slot);
    if (isInGap || !rules.voidOnlyInGap) {
      next.step(
        `pod ${pod} claim ${slot} is void`,
        { ...state, pods: withPod(state, pod, fromTheStart) },
        isInGap ? undefined : `RECLAIM-AFTER-SUPERSEDED: pod ${pod}, ${slot}`,
      );
    } else {
      next.step(`pod ${pod} claim ${slot} is superseded`, { ...state, pods: withPod(state, pod, stop) });
    }
  };

  const owner = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    const { slot } = me;
    if (slot > slots) return;
    if (me.commits < (commits[pod] ?? 0)) {
      const packs = withItem(state.packs, packOf(slot, pod, me.incarnation));
      if (inlined) {
        next.step(`pod ${pod} builds a record for ${slot}`, {
          ...state,
          pods: withPod(state, pod, { step: 'commit' }),
        });
      } else {
        next.step(`pod ${pod} uploads a pack for ${slot}`, {
          ...state,
          packs,
          pods: withPod(state, pod, { step: 'commit' }),
        });
      }
      if (partials) {
        next.step(`pod ${pod} uploads a part for ${slot}`, {
          ...state,
          packs,
          pods: withPod(state, pod, { step: 'partial' }),
        });
      }
    }
    if (seals && me.commits > 0) {
      next.step(`pod ${pod} is told to end`, { ...state, pods: withPod(state, pod, { step: 'seal' }) });
    }
  };

  const partial = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    const { slot } = me;
    if (state.log[slot] !== undefined) {
      next.step(`pod ${pod} PARTIAL ${slot}: taken`, { ...state, pods: withPod(state, pod, stop) });
      return;
    }
    const base = withItem(me.base, packOf(slot, pod, me.incarnation));
    const pods = withPod(state, pod, { step: 'owner', slot: slot + 1, base });
    const record = recordOf('PARTIAL', me, pod, me.epoch, base);
    next.step(`pod ${pod} PARTIAL ${slot}: created`, create({ ...state, pods }, slot, record));
  };

  /** The create-only PUT of a CHECKPOINT or a SEAL. */
  const commitOrSeal = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    const { slot } = me;
    const kind: Kind = me.step === 'seal' || me.step === 'seal?' ? 'SEAL' : 'CHECKPOINT';
    const isUnclear = me.step === 'commit?' || me.step === 'seal?';
    const own = packOf(slot, pod, me.incarnation);
    const acknowledged = kind === 'CHECKPOINT' ? withItem(state.acknowledged, own) : state.acknowledged;
    const done = (list: Bits): readonly Pod[] =>
      kind === 'CHECKPOINT'
        ? withPod(state, pod, { step: 'owner', slot: slot + 1, base: list, commits: me.commits + 1, carried: none })
        : withPod(state, pod, { step: 'sealed', slot: slot + 1, carried: none });

    const taken = state.log[slot];
    if (taken !== undefined) {
      if (isUnclear && isSameRecord(taken, kind, pod, me.incarnation)) {
        next.step(`pod ${pod} ${kind} ${slot}: it was mine`, { ...state, acknowledged, pods: done(taken.list) });
      } else if (taken.epoch === me.epoch && taken.kind !== 'CLAIM') {
        meetOwnEpoch(state, pod, taken, own, next);
      } else {
        next.step(`pod ${pod} ${kind} ${slot}: fenced by a ${taken.kind} of pod ${taken.pod}`, {
          ...state,
          pods: withPod(state, pod, stop),
        });
      }
      return;
    }

    const broken = wrongToWrite(state, pod, me.epoch, slot);
    const increment = union(withItem(me.base, own), me.carried);
    const lists = kind === 'SEAL' ? [me.base] : me.base === none ? [increment] : [increment, withItem(none, own)];
    for (const packs of lists) {
      const record = recordOf(kind, me, pod, me.epoch, packs);
      const created = create(state, slot, record);
      next.step(
        `pod ${pod} ${kind} ${slot}: created, packs of ${packNames(packs)}`,
        { ...created, acknowledged, pods: done(packs) },
        broken,
      );
      if (isUnclear) continue;
      const unclear = withPod(state, pod, { step: kind === 'SEAL' ? 'seal?' : 'commit?' });
      if (state.delayed.length < delayedPuts && !isDelayed(state, slot, record)) {
        next.fault(`pod ${pod} ${kind} ${slot}: timed out, under way`, {
          ...state,
          delayed: delay(state, slot, record),
          pods: unclear,
        });
      }
      next.fault(`pod ${pod} ${kind} ${slot}: created, reply lost`, { ...created, pods: unclear });
    }
  };

  /** The slot holds a record of the pod's own epoch that this incarnation did not write: an earlier one's delayed PUT. */
  const meetOwnEpoch = (state: State, pod: number, taken: LogRecord, own: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    const { slot } = me;
    const base = taken.kind === 'SEAL' ? me.base : taken.list;
    const onward = { step: 'owner', slot: slot + 1, base, carried: none } as const;
    if (rules.ownEpochRecord === 'adopt') {
      next.step(`pod ${pod} adopts the ${taken.kind} in ${slot}`, { ...state, pods: withPod(state, pod, onward) });
    } else if (rules.ownEpochRecord === 'carry') {
      const isCommit = me.step === 'commit' || me.step === 'commit?';
      next.step(`pod ${pod} adopts the ${taken.kind} in ${slot}, and will list its own pack of ${slot}`, {
        ...state,
        pods: withPod(state, pod, { ...onward, carried: isCommit ? withItem(none, own) : none }),
      });
    } else if (rules.ownEpochRecord === 'mine') {
      next.step(`pod ${pod} takes the ${taken.kind} in ${slot} for its own`, {
        ...state,
        acknowledged: withItem(state.acknowledged, own),
        pods: withPod(state, pod, { ...onward, commits: me.commits + 1 }),
      });
    } else {
      next.step(
        `pod ${pod} stops at the ${taken.kind} in ${slot}`,
        { ...state, pods: withPod(state, pod, stop) },
        `SELF-FENCED: pod ${pod} at ${slot}, though nobody has fenced it`,
      );
    }
  };

  /** Why a record of `pod` in this empty slot would break the log, if it would. */
  const wrongToWrite = (state: State, pod: number, epoch: number, slot: number): string | undefined => {
    const { log, first } = state;
    for (let above = slot + 1; above <= slots + 1; above++) {
      if ((log[above]?.epoch ?? 0) > epoch) return `BELOW-SUCCESSOR: pod ${pod} writes ${slot}`;
    }
    if (claimsOf(log, pod, 'foreign', epoch, slot).length > 0) return `STALE-COMMIT: pod ${pod} writes ${slot}`;
    if (first[slot] !== 0 && first[slot] !== pod + 1) return `SLOT-REUSED: pod ${pod} writes ${slot}`;
    const [firstOwn] = claimsOf(log, pod, 'own', 0, slot);
    if (firstOwn !== undefined && claimsOf(log, pod, 'foreign', firstOwn, slot).length > 0) {
      return `SUPERSEDED-POD-COMMITS: pod ${pod} writes ${slot}`;
    }
    return undefined;
  };

  /** A restarted agent still has its claim: it goes on above the head if the head is of its epoch, a SEAL included. */
  const restart = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    const head = headOf(state.log);
    const isOwn = state.log[head]?.epoch === me.epoch;
    if (isOwn && (rules.sealIsReopened || kindAt(state.log, head) !== 'SEAL')) {
      const base = partials ? baseOf(state.log) : (state.log[newestOf(state.log)]?.list ?? none);
      next.step(`pod ${pod} restarted, goes on above ${head}`, {
        ...state,
        pods: withPod(state, pod, { step: 'owner', slot: head + 1, base, carried: none }),
      });
    } else if (isOwn) {
      next.step(
        `pod ${pod} restarted, stops at its SEAL in ${head}`,
        { ...state, pods: withPod(state, pod, stop) },
        `SELF-FENCED: pod ${pod} at ${head}, though nobody has fenced it`,
      );
    } else {
      next.step(`pod ${pod} restarted, is fenced`, { ...state, pods: withPod(state, pod, stop) });
    }
  };

  const podFaults = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    if (me.agentRestarts > 0 && restartsFrom.includes(me.step)) {
      next.fault(`pod ${pod} agent restarts`, {
        ...state,
        pods: withPod(state, pod, {
          step: 'restart',
          slot: 0,
          base: none,
          incarnation: me.incarnation + 1,
          agentRestarts: me.agentRestarts - 1,
          carried: none,
        }),
      });
    }
    if (me.initReruns > 0 && me.step !== 'list') {
      next.fault(`pod ${pod} init runs again, private directory lost`, {
        ...state,
        pods: withPod(state, pod, {
          ...fromTheStart,
          incarnation: me.incarnation + 1,
          initReruns: me.initReruns - 1,
          carried: none,
        }),
      });
    }
  };

  // --- the collectors ---------------------------------------------------------------------------------------------

  /** CLAIMs are left out, for no step looks at them: so states that differ only in a void claim are one state. */
  const viewOf = (log: Log | undefined, packs: Bits): View => {
    const seen = log?.map((record) => (record?.kind === 'CLAIM' ? undefined : record));
    const ids = seen?.map((record) => record?.id ?? 0);
    return views.get(`${ids} ${packs}`, (id) => ({ id, log: seen, packs }));
  };

  const collectorLists = (state: State, index: number, next: Moves<State>): void => {
    const { step, view, highest } = state.collectors[index] as Collector;
    const listsLog = (step === 'idle') === (listsFirst === 'log');
    const head = listsLog ? headOf(state.log) : highest;
    const change: Partial<Collector> = {
      step: step === 'idle' ? 'second LIST' : 'decide',
      highest: head,
      view: listsLog ? viewOf(state.log, view?.packs ?? none) : viewOf(view?.log, state.packs),
    };
    next.step(`collector ${index} lists ${listsLog ? `head ${head}` : 'the packs'}`, {
      ...state,
      collectors: withCollector(state, index, change),
    });
  };

  const collectorDecides = (state: State, index: number, next: Moves<State>): void => {
    const { view, highest } = state.collectors[index] as Collector;
    const { log, packs } = view as View;
    const seen = log as Log;
    const newest = newestOf(seen);

    let retained = seen[newest]?.list ?? none;
    for (let slot = newest + 1; slot <= slots + 1; slot++) {
      const record = seen[slot];
      if (record?.kind === 'PARTIAL' && rules.partialsStay) retained = union(retained, record.list);
    }
    let packsToDelete = none;
    for (const pack of itemsOf(minus(packs, retained))) {
      if (slotOfPack(pack) <= highest) packsToDelete = withItem(packsToDelete, pack);
    }

    let expired = state.expired;
    let slotsToTrim = none;
    for (let slot = 1; slot < newest; slot++) {
      if (kindAt(seen, slot) !== 'CHECKPOINT') continue;
      expired = withItem(expired, slot);
      if (slot >= highest || kindAt(seen, slot + 1) !== 'CHECKPOINT') continue;
      const isStillPack = inlined && (retained & packsOfSlot(slot)) !== 0;
      if (!isStillPack || !rules.inlinedRecordIsPack) slotsToTrim = withItem(slotsToTrim, slot);
    }
    const summary = `packs of ${packNames(packsToDelete)}; records ${itemsOf(slotsToTrim)}`;
    next.step(`collector ${index} decides: ${summary}`, {
      ...state,
      expired,
      collectors: withCollector(state, index, { step: 'delete', view: undefined, packsToDelete, slotsToTrim }),
    });
  };

  const collectorDeletes = (state: State, index: number, next: Moves<State>): void => {
    const { packsToDelete, slotsToTrim, runs } = state.collectors[index] as Collector;
    if (packsToDelete !== none) {
      const pack = lowest(packsToDelete);
      next.step(`collector ${index} deletes a pack of ${slotOfPack(pack)}`, {
        ...state,
        packs: without(state.packs, pack),
        collectors: withCollector(state, index, { packsToDelete: without(packsToDelete, pack) }),
      });
    } else if (slotsToTrim !== none) {
      const slot = lowest(slotsToTrim);
      next.step(`collector ${index} trims ${slot}`, {
        ...state,
        log: state.log.with(slot, undefined),
        collectors: withCollector(state, index, { slotsToTrim: without(slotsToTrim, slot) }),
      });
    } else {
      next.step(`collector ${index} is done`, {
        ...state,
        collectors: withCollector(state, index, { ...idle, runs: runs + 1 }),
      });
    }
  };

  // --- the invariants ---------------------------------------------------------------------------------------------

  const isPresent = (state: State, pack: number): boolean => {
    if (!inlined) return has(state.packs, pack);
    const holder = state.log[slotOfPack(pack)];
    return holder?.kind === 'CHECKPOINT' && packOf(slotOfPack(pack), holder.pod, holder.incarnation) === pack;
  };

  /** Every checkpoint that has not expired, and the newest one in any case, has all its packs. */
  const dangling = (state: State): string | undefined => {
    const newest = newestOf(state.log);
    for (let slot = 1; slot <= slots + 1; slot++) {
      const record = state.log[slot];
      if (record?.kind !== 'CHECKPOINT' || (has(state.expired, slot) && slot !== newest)) continue;
      const isWhole = inlined
        ? itemsOf(record.list).every((pack) => isPresent(state, pack))
        : isSubset(record.list, state.packs);
      if (!isWhole) return `DANGLING: checkpoint ${slot} lacks a pack`;
    }
    return undefined;
  };

  /** A checkpoint that was acknowledged is in its slot until it expires. */
  const acknowledgedIsThere = (state: State): string | undefined => {
    for (const pack of itemsOf(state.acknowledged)) {
      const slot = slotOfPack(pack);
      if (has(state.expired, slot)) continue;
      const record = state.log[slot];
      if (record === undefined) return `ACKNOWLEDGED-LOST: ${slot} is empty`;
      const isIt = record.kind === 'CHECKPOINT' && packOf(slot, record.pod, record.incarnation) === pack;
      if (!isIt) return `ACKNOWLEDGED-REPLACED: ${slot} holds another record`;
    }
    return undefined;
  };

  return {
    initial: {
      log: new Array<undefined>(slots + 2).fill(undefined),
      first: new Array<number>(slots + 2).fill(0),
      packs: none,
      expired: none,
      delayed: [],
      pods: commits.map(() => ({
        ...fromTheStart,
        commits: 0,
        incarnation: 0,
        epoch: 0,
        agentRestarts,
        initReruns,
        carried: none,
      })),
      collectors: new Array<Collector>(collectors).fill(idle),
      acknowledged: none,
    },

    moves(state, next) {
      for (const put of state.delayed) delayedPutArrives(state, put, next);
      for (let pod = 0; pod < pods; pod++) {
        const { step } = state.pods[pod] as Pod;
        if (step === 'list') list(state, pod, next);
        else if (step === 'claim' || step === 'claim?') claim(state, pod, next);
        else if (step === 'confirm') confirm(state, pod, next);
        else if (step === 'owner') owner(state, pod, next);
        else if (step === 'partial') partial(state, pod, next);
        else if (step === 'restart') restart(state, pod, next);
        else if (step !== 'sealed' && step !== 'stopped') commitOrSeal(state, pod, next);
        podFaults(state, pod, next);
      }
      for (let index = 0; index < collectors; index++) {
        const { step, runs } = state.collectors[index] as Collector;
        if (step === 'second LIST' || (step === 'idle' && runs < collections)) collectorLists(state, index, next);
        else if (step === 'decide') collectorDecides(state, index, next);
        else if (step === 'delete') collectorDeletes(state, index, next);
      }
    },

    broken: (state) => dangling(state) ?? acknowledgedIsThere(state),

    encode(state: State, out: Encoder) {
      for (let slot = 1; slot <= slots + 1; slot++) {
        out.u16(state.log[slot]?.id ?? 0);
        out.u8(state.first[slot] as number);
      }
      out.u32(state.packs);
      out.u16(state.expired);
      out.u32(state.acknowledged);
      out.u8(state.delayed.length);
      for (const { slot, record } of state.delayed) {
        out.u8(slot);
        out.u16(record.id);
      }
      for (const pod of state.pods) {
        out.u8(podSteps.indexOf(pod.step));
        out.u8(pod.slot);
        out.u32(pod.base);
        out.u8(pod.commits);
        out.u8(pod.incarnation);
        out.u8(pod.epoch);
        out.u8(pod.agentRestarts);
        out.u8(pod.initReruns);
        out.u32(pod.carried);
      }
      for (const collector of state.collectors) {
        out.u8(collectorSteps.indexOf(collector.step));
        out.u8(collector.highest);
        out.u32(collector.view?.id ?? 0);
        out.u32(collector.packsToDelete);
        out.u16(collector.slotsToTrim);
        out.u8(collector.runs);
      }
    },
  };
}
