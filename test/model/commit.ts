import { type Bits, has, none, union, without, withItem } from './bits.ts';
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
 * Commit and collection: pods that claim a lineage and commit checkpoints into its create-only log, with requests and
 * replies that get lost, while a collector expires, deletes packs and trims records, each of its steps interleaved with
 * theirs. On request pods roll back to an older checkpoint under a pin, claim with a chosen base, or commit suspects.
 *
 * Restarts, delayed requests, SEAL, PARTIAL and inlined packs are in faults.ts.
 */
export type CommitBounds = {
  /** Log slots 1..slots are used; a pod that would need a higher one does nothing more. */
  readonly slots: number;
  /** How many checkpoints each pod may commit; its length is the number of pods. */
  readonly commits: readonly number[];
  readonly collections: number;
  /** Pods (from 0) that may go back to an older checkpoint before their first commit, under a pin. */
  readonly rollBack?: readonly number[];
  /** Pods (from 0) whose CLAIM may name an older checkpoint as base (restore-at). */
  readonly restoreAt?: readonly number[];
  /** Whether a checkpoint may be committed as suspect. */
  readonly suspects?: boolean;
  /** Whether the collector may keep any of the older checkpoints, or keeps only what it must. */
  readonly keepsAny?: boolean;
};

/** What the protocol promises; each is a rule that a control run drops. */
export type CommitRules = CollectorRules & {
  /** After its CLAIM a pod LISTs again: a higher record means that the claim fell into a trimmed gap and is void. */
  readonly secondList: boolean;
  /** After its CLAIM a pod re-reads the collector's decisions, and claims anew if its base has expired. */
  readonly claimRereadsDecisions: boolean;
  /** After its pin a pod re-reads the collector's decisions, and gives up if the pinned checkpoint has expired. */
  readonly pinRereadsDecisions: boolean;
  /** The writer refuses to commit unless list(n) is within list(base) and packs(n). */
  readonly listsOnlyBaseAndOwn: boolean;
};

export const commitRules: CommitRules = {
  ...collectorRules,
  secondList: true,
  claimRereadsDecisions: true,
  pinRereadsDecisions: true,
  listsOnlyBaseAndOwn: true,
};

/** A CLAIM names its base only where the bounds have `restoreAt`. */
type LogRecord = CollectedRecord & { readonly pod: number };

type Log = readonly (LogRecord | undefined)[];

const podSteps = [
  'list',
  'claim',
  'claim?',
  'confirm',
  'reread',
  'owner',
  'pinned',
  'commit',
  'commit?',
  'fenced',
] as const;

type Pod = {
  /** What the pod does next; with `?` it does not know whether its request arrived. */
  readonly step:
    | 'list'
    | 'claim'
    | 'claim?'
    | 'confirm'
    | 'reread'
    | 'owner'
    | 'pinned'
    | 'commit'
    | 'commit?'
    | 'fenced';
  /** The slot it writes next. */
  readonly slot: number;
  /** The pack list of the checkpoint it builds upon, and that checkpoint's slot where a CLAIM names it. */
  readonly base: Bits;
  readonly baseSlot: number;
  readonly commits: number;
  /** The slot it has pinned, or 0. */
  readonly pin: number;
  /** Every pack it has ever built upon; kept only where `listsOnlyBaseAndOwn` is dropped. */
  readonly remembered: Bits;
};

type State = Omit<Collected, 'log'> & {
  readonly log: Log;
  /** Who wrote each slot first, as pod + 1; a trimmed slot keeps it. */
  readonly first: readonly number[];
  readonly pods: readonly Pod[];
};

export function commitModel(bounds: CommitBounds, rules: CommitRules = commitRules): Model<State> {
  const { slots, commits, collections, rollBack = [], restoreAt = [], suspects = false, keepsAny = false } = bounds;
  const pods = commits.length;
  if (slots * pods > 31) throw new RangeError('a pack set has 31 bits');

  const records = new Interner<LogRecord>();
  const claimOf = (pod: number, base: number): LogRecord =>
    records.get(`C ${pod} ${base}`, (id) => ({ id, kind: 'CLAIM', pod, list: none, good: false, base }));
  const checkpointOf = (pod: number, list: Bits, good: boolean): LogRecord =>
    records.get(`K ${pod} ${list} ${good}`, (id) => ({ id, kind: 'CHECKPOINT', pod, list, good, base: 0 }));
  /** The pack that a pod uploads for a slot. Packs are numbered by slot, then by pod. */
  const packOf = (slot: number, pod: number): number => (slot - 1) * pods + pod;
  const slotOfPack = (pack: number): number => Math.floor(pack / pods) + 1;

  const isCheckpoint = (log: Log, slot: number): boolean => log[slot]?.kind === 'CHECKPOINT';
  const collector = collectorMoves(
    { slots, collections, keepsAny, claimsNameBase: restoreAt.length > 0, slotOfPack },
    rules,
  );
  const listOf = (log: Log, slot: number): Bits => log[slot]?.list ?? none;

  const withPod = (state: State, index: number, change: Partial<Pod>): readonly Pod[] =>
    state.pods.with(index, { ...(state.pods[index] as Pod), ...change });

  // --- the pods ---------------------------------------------------------------------------------------------------

  const fromTheStart = { step: 'list', slot: 0, base: none, baseSlot: 0 } as const;

  /** LIST: the claim will go into the lowest empty slot above the head, with the newest good checkpoint as base. */
  const list = (state: State, pod: number, next: Moves<State>): void => {
    const claimSlot = headOf(state.log) + 1;
    if (claimSlot > slots) return;
    const newest = newestGoodOf(state.log);
    const bases = [newest];
    if (restoreAt.includes(pod)) {
      for (let slot = 1; slot <= slots; slot++) {
        if (isCheckpoint(state.log, slot) && slot !== newest && !has(state.expired, slot)) bases.push(slot);
      }
    }
    for (const baseSlot of bases) {
      next.step(`pod ${pod} lists head ${claimSlot - 1}, base ${baseSlot}`, {
        ...state,
        pods: withPod(state, pod, {
          step: 'claim',
          slot: claimSlot,
          base: listOf(state.log, baseSlot),
          baseSlot: restoreAt.length > 0 ? baseSlot : 0,
        }),
      });
    }
  };

  /** The create-only PUT of a CLAIM or CHECKPOINT: done, done with the reply lost, or lost. */
  const put = (state: State, pod: number, kind: 'claim' | 'commit', next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    const slot = me.slot;
    const unclear = me.step === 'claim?' || me.step === 'commit?';
    const taken = state.log[slot];
    const done = (list: Bits): readonly Pod[] =>
      kind === 'claim'
        ? withPod(state, pod, { step: rules.secondList ? 'confirm' : afterClaim, slot: slot + 1 })
        : withPod(state, pod, { step: 'owner', slot: slot + 1, base: list, commits: me.commits + 1 });

    if (taken !== undefined) {
      if (unclear && taken.pod === pod) {
        next.step(`pod ${pod} ${kind} ${slot}: it was mine`, { ...state, pods: done(taken.list) });
      } else {
        next.step(`pod ${pod} ${kind} ${slot}: taken`, {
          ...state,
          pods: withPod(state, pod, kind === 'claim' ? fromTheStart : { ...fromTheStart, step: 'fenced' }),
        });
      }
      return;
    }

    const own = packOf(slot, pod);
    const isReuse = state.first[slot] !== 0;
    const first = isReuse ? state.first : state.first.with(slot, pod + 1);
    const options = kind === 'claim' ? [claimOf(pod, me.baseSlot)] : checkpoints(me, pod, own);
    for (const record of options) {
      const log = state.log.with(slot, record);
      const broken = isReuse && kind === 'commit' ? `SLOT-REUSED: ${slot} by pod ${pod}` : undefined;
      next.step(`pod ${pod} ${kind} ${slot}: created`, { ...state, log, first, pods: done(record.list) }, broken);
      if (unclear) continue;
      const rest = kind === 'claim' ? me.base : without(record.list, own);
      next.fault(`pod ${pod} ${kind} ${slot}: created, reply lost`, {
        ...state,
        log,
        first,
        pods: withPod(state, pod, { step: `${kind}?`, base: rest }),
      });
      next.fault(`pod ${pod} ${kind} ${slot}: request lost`, {
        ...state,
        pods: withPod(state, pod, { step: `${kind}?` }),
      });
    }
  };

  /** What a pod may commit: an increment upon its base, or a checkpoint that needs nothing but its own pack. */
  const checkpoints = (me: Pod, pod: number, own: number): LogRecord[] => {
    const known = rules.listsOnlyBaseAndOwn ? me.base : union(me.base, me.remembered);
    const lists = [withItem(known, own), withItem(none, own)];
    return lists.flatMap((packs) => (suspects ? [true, false] : [true]).map((good) => checkpointOf(pod, packs, good)));
  };

  const afterClaim = restoreAt.length > 0 && rules.claimRereadsDecisions ? 'reread' : 'owner';

  /** The second LIST of a claim. */
  const confirm = (state: State, pod: number, next: Moves<State>): void => {
    const claimSlot = (state.pods[pod] as Pod).slot - 1;
    if (headOf(state.log) > claimSlot) {
      next.step(`pod ${pod} claim ${claimSlot} is void`, { ...state, pods: withPod(state, pod, fromTheStart) });
    } else {
      next.step(`pod ${pod} claim ${claimSlot} stands`, { ...state, pods: withPod(state, pod, { step: afterClaim }) });
    }
  };

  /** A claim names its base, so it re-reads the decisions after writing it. */
  const rereadDecisions = (state: State, pod: number, next: Moves<State>): void => {
    const { baseSlot } = state.pods[pod] as Pod;
    if (has(state.expired, baseSlot)) {
      next.step(`pod ${pod} base ${baseSlot} has expired`, { ...state, pods: withPod(state, pod, fromTheStart) });
    } else {
      next.step(`pod ${pod} base ${baseSlot} stands`, { ...state, pods: withPod(state, pod, { step: 'owner' }) });
    }
  };

  const owner = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    if (me.slot > slots) return;
    if (me.commits < (commits[pod] ?? 0)) {
      next.step(`pod ${pod} uploads a pack for ${me.slot}`, {
        ...state,
        packs: withItem(state.packs, packOf(me.slot, pod)),
        pods: withPod(state, pod, {
          step: 'commit',
          remembered: rules.listsOnlyBaseAndOwn ? none : union(me.remembered, me.base),
        }),
      });
    }
    if (rollBack.includes(pod) && me.commits === 0 && me.pin === 0) {
      for (let slot = 1; slot <= slots; slot++) {
        if (!isCheckpoint(state.log, slot) || slot === newestGoodOf(state.log)) continue;
        next.step(`pod ${pod} pins ${slot}`, {
          ...state,
          pods: withPod(state, pod, { step: 'pinned', pin: slot }),
        });
      }
    }
  };

  /** A pin is worth something only if the pinned checkpoint had not expired before: re-read after writing it. */
  const checkPin = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    const record = state.log[me.pin];
    const stands = record !== undefined && (!rules.pinRereadsDecisions || !has(state.expired, me.pin));
    next.step(`pod ${pod} pin ${me.pin} ${stands ? 'stands' : 'came too late'}`, {
      ...state,
      pods: withPod(state, pod, { step: 'owner', base: stands ? record.list : me.base }),
    });
  };

  // --- the invariants ---------------------------------------------------------------------------------------------

  /** No pod commits above the CLAIM of another pod that claimed after it. */
  const staleCommit = (state: State): string | undefined => {
    const lastClaim = state.pods.map(() => 0);
    for (let slot = 1; slot <= slots + 1; slot++) {
      const record = state.log[slot];
      if (record?.kind === 'CLAIM') lastClaim[record.pod] = slot;
    }
    for (let slot = 1; slot <= slots + 1; slot++) {
      const record = state.log[slot];
      if (record?.kind !== 'CHECKPOINT') continue;
      const mine = lastClaim[record.pod] as number;
      if (mine === 0) continue;
      for (let pod = 0; pod < pods; pod++) {
        const claim = lastClaim[pod] as number;
        const counts = pod !== record.pod && state.first[claim] === pod + 1;
        if (counts && mine < claim && claim < slot) {
          return `STALE-COMMIT: ${slot} by pod ${record.pod}, which pod ${pod} has fenced at ${claim}`;
        }
      }
    }
    return undefined;
  };

  /** A pod that owns the lineage was the first to write the slot of its CLAIM. */
  const claimInUsedSlot = (state: State): string | undefined => {
    for (let pod = 0; pod < pods; pod++) {
      const { step, slot, commits: done } = state.pods[pod] as Pod;
      if (step !== 'owner' || done > 0 || state.first[slot - 1] === pod + 1) continue;
      return `CLAIM-IN-USED-SLOT: ${slot - 1} by pod ${pod}`;
    }
    return undefined;
  };

  return {
    initial: {
      log: new Array<undefined>(slots + 2).fill(undefined),
      first: new Array<number>(slots + 2).fill(0),
      packs: none,
      expired: none,
      pods: commits.map(() => ({ ...fromTheStart, commits: 0, pin: 0, remembered: none })),
      collector: idleCollector,
    },

    moves(state, next) {
      for (let pod = 0; pod < pods; pod++) {
        const { step } = state.pods[pod] as Pod;
        if (step === 'list') list(state, pod, next);
        else if (step === 'claim' || step === 'claim?') put(state, pod, 'claim', next);
        else if (step === 'confirm') confirm(state, pod, next);
        else if (step === 'reread') rereadDecisions(state, pod, next);
        else if (step === 'owner') owner(state, pod, next);
        else if (step === 'pinned') checkPin(state, pod, next);
        else if (step === 'commit' || step === 'commit?') put(state, pod, 'commit', next);
      }
      let pinned = none;
      for (const { pin } of state.pods) if (pin !== 0) pinned = withItem(pinned, pin);
      collector.moves(state, pinned, next);
    },

    broken: (state) => danglingCheckpoint(state) ?? staleCommit(state) ?? claimInUsedSlot(state),

    encode(state: State, out: Encoder) {
      for (let slot = 1; slot <= slots + 1; slot++) {
        out.u16(state.log[slot]?.id ?? 0);
        out.u8(state.first[slot] as number);
      }
      out.u32(state.packs);
      out.u16(state.expired);
      for (const pod of state.pods) {
        out.u8(podSteps.indexOf(pod.step));
        out.u8(pod.slot);
        out.u32(pod.base);
        out.u8(pod.baseSlot);
        out.u8(pod.commits);
        out.u8(pod.pin);
        out.u32(pod.remembered);
      }
      collector.encode(state.collector, out);
    },
  };
}
