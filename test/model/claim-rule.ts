import { type Bits, has, none, union, withItem } from './bits.ts';
import { headOf } from './collector.ts';
import type { Encoder } from './encoder.ts';
import type { Model, Moves } from './explore.ts';
import { Interner } from './interner.ts';

/**
 * Who may claim (rule F): pods of one lineage that are born, die, fail after their claim, run their init again, restart
 * their agent, seal although their app lives on, or are force-deleted while they still run.
 *
 * Nothing is collected here, so a checkpoint is told by its slot, and the content of a volume or of a checkpoint by the
 * set of the checkpoints that it descends from: content that lacks one has lost what only that one held.
 */
export type ClaimBounds = {
  readonly slots: number;
  /** How many checkpoints each pod may commit; its length is the number of pods. */
  readonly commits: readonly number[];
  /** How often each pod's sandbox may restart, so that its init runs again on the same volume. */
  readonly initReruns?: readonly number[];
  readonly agentRestarts?: readonly number[];
  /** How often each pod's init may fail between its claim and the start of the app. */
  readonly initFailures?: readonly number[];
  /** How often each pod's agent may be told to end while its app lives on. */
  readonly terminations?: readonly number[];
  /** How many PUTs may be under way at a time although their sender has given up on them. */
  readonly delayedPuts?: number;
  /** Whether a pod may be force-deleted: known to be gone, though it still runs. */
  readonly forceDeletes?: boolean;
};

export type ClaimRules = {
  /**
   * `F`: see `mayClaim`. `never`: a pod that another pod has superseded never claims again. `always`: no rule, it claims
   * again whenever it likes.
   */
  readonly superseded: 'F' | 'never' | 'always';
  /**
   * A pod is known to be gone when a quorum read that followed the reading of its CLAIM says so. `older list`: it also
   * counts as gone when it is absent from a list, which may be older than the pod.
   */
  readonly gone: 'read after the CLAIM' | 'older list';
  /** A SEAL does not count as gone: its pod may reopen it. */
  readonly sealIsNotGone: boolean;
  /** A pod whose app has run does not claim over a CHECKPOINT of a later epoch, though its pod is gone. */
  readonly laterCheckpointBlocks: boolean;
  /** A re-claim takes as base the newest valid record of the log, never a remembered one. */
  readonly baseFromLog: boolean;
};

export const claimRules: ClaimRules = {
  superseded: 'F',
  gone: 'read after the CLAIM',
  sealIsNotGone: true,
  laterCheckpointBlocks: true,
  baseFromLog: true,
};

type Kind = 'CLAIM' | 'CHECKPOINT' | 'SEAL';

type LogRecord = {
  readonly id: number;
  readonly kind: Kind;
  readonly pod: number;
  readonly epoch: number;
  readonly incarnation: number;
  /** A checkpoint's ancestry, itself included. */
  readonly content: Bits;
  /** A CLAIM of a pod that another pod had superseded. */
  readonly isReclaim: boolean;
};

type Log = readonly (LogRecord | undefined)[];

const lives = ['unborn', 'alive', 'dead'] as const;
const initSteps = ['off', 'list', 'blocked', 'claim', 'claim?', 'confirm', 'difference'] as const;
const agentSteps = [
  'off',
  'owner',
  'commit?',
  'seal',
  'restart',
  'fenced',
  'reclaim',
  'reclaim?',
  'reconfirm',
] as const;

type Pod = {
  readonly life: (typeof lives)[number];
  /** What its init does next; `off` before birth and once the app has started. */
  readonly init: (typeof initSteps)[number];
  readonly agent: (typeof agentSteps)[number];
  readonly appRuns: boolean;
  /** Marker done, or the volume is not empty and has no marker. */
  readonly appHasRun: boolean;
  /** The epoch under which the app started, or was protected again. */
  readonly appEpoch: number;
  readonly volume: Bits;
  readonly epoch: number;
  readonly isReclaim: boolean;
  readonly slot: number;
  readonly incarnation: number;
  readonly commits: number;
  readonly initReruns: number;
  readonly agentRestarts: number;
  readonly initFailures: number;
  readonly terminations: number;
};

const unbornPod: Pod = {
  life: 'unborn',
  init: 'off',
  agent: 'off',
  appRuns: false,
  appHasRun: false,
  appEpoch: 0,
  volume: none,
  epoch: 0,
  isReclaim: false,
  slot: 0,
  incarnation: 0,
  commits: 0,
  initReruns: 0,
  agentRestarts: 0,
  initFailures: 0,
  terminations: 0,
};

type Delayed = { readonly slot: number; readonly record: LogRecord };

type State = {
  readonly log: Log;
  readonly delayed: readonly Delayed[];
  readonly pods: readonly Pod[];
  /** The pods that a quorum read finds gone. */
  readonly knownGone: Bits;
};

export function claimModel(bounds: ClaimBounds, rules: ClaimRules = claimRules): Model<State> {
  const { slots, commits, delayedPuts = 0, forceDeletes = false } = bounds;
  const pods = commits.length;

  const records = new Interner<LogRecord>();
  const recordOf = (kind: Kind, pod: number, me: Pod, epoch: number, content: Bits, isReclaim: boolean): LogRecord => {
    const { incarnation } = me;
    return records.get(`${kind} ${pod} ${epoch} ${incarnation} ${content} ${isReclaim}`, (id) => ({
      id,
      kind,
      pod,
      epoch,
      incarnation,
      content,
      isReclaim,
    }));
  };

  const newestCheckpointBelow = (log: Log, below: number): LogRecord | undefined => {
    for (let slot = below - 1; slot > 0; slot--) if (log[slot]?.kind === 'CHECKPOINT') return log[slot];
    return undefined;
  };
  const newestCheckpointOf = (log: Log): LogRecord | undefined => newestCheckpointBelow(log, slots + 2);
  const newestClaimOf = (log: Log): LogRecord | undefined => {
    for (let slot = slots + 1; slot > 0; slot--) if (log[slot]?.kind === 'CLAIM') return log[slot];
    return undefined;
  };
  const firstClaimOf = (log: Log, pod: number): number =>
    Math.max(
      0,
      log.findIndex((record) => record?.kind === 'CLAIM' && record.pod === pod),
    );
  const newestClaimSlotOf = (log: Log, pod: number): number =>
    Math.max(
      0,
      log.findLastIndex((record) => record?.kind === 'CLAIM' && record.pod === pod),
    );
  const foreignClaimsAbove = (log: Log, pod: number, above: number): LogRecord[] => {
    const claims: LogRecord[] = [];
    for (let slot = above + 1; slot <= slots + 1; slot++) {
      const record = log[slot];
      if (record?.kind === 'CLAIM' && record.pod !== pod) claims.push(record);
    }
    return claims;
  };
  const epochHolds = (log: Log, epoch: number, kind: Kind): boolean =>
    log.some((record) => record?.epoch === epoch && record.kind === kind);
  const isEpochSealed = (log: Log, epoch: number): boolean =>
    log.findLast((record) => record?.epoch === epoch)?.kind === 'SEAL';

  // --- the rule ---------------------------------------------------------------------------------------------------

  const isGone = (state: State, claim: LogRecord): boolean =>
    has(state.knownGone, claim.pod) || (!rules.sealIsNotGone && isEpochSealed(state.log, claim.epoch));

  /**
   * Rule F. Let L be the CLAIMs of other pods above the pod's newest CLAIM: what stands below that one was settled when
   * it was made. L empty: it may claim. Else it may claim only if every pod in L is known to be gone and, where an app
   * has already run on its volumes, no epoch in L holds a CHECKPOINT.
   */
  const mayClaim = (state: State, pod: number): boolean => {
    const newest = newestClaimSlotOf(state.log, pod);
    if (newest === 0 || rules.superseded === 'always') return true;
    const later = foreignClaimsAbove(state.log, pod, newest);
    if (rules.superseded === 'never') return later.length === 0;
    const { appHasRun } = state.pods[pod] as Pod;
    return later.every((claim) => isGone(state, claim) && !(appHasRun && blocks(state.log, claim.epoch)));
  };
  const blocks = (log: Log, epoch: number): boolean =>
    rules.laterCheckpointBlocks && epochHolds(log, epoch, 'CHECKPOINT');

  /** The same rule for the agent of an app that runs but was fenced: it may take its protection back. */
  const mayReclaim = (state: State, pod: number): boolean => {
    if (rules.superseded === 'never') return false;
    // A pod whose own UID is gone never claims. No run needs this for safety; it keeps a force-deleted pod out of the way.
    if (has(state.knownGone, pod)) return false;
    if (rules.superseded === 'always') return true;
    const later = foreignClaimsAbove(state.log, pod, (state.pods[pod] as Pod).epoch);
    return later.length > 0 && later.every((claim) => isGone(state, claim) && !blocks(state.log, claim.epoch));
  };

  /** All in L are gone, but one has committed over an app of this pod: it exits with its own code, a person decides. */
  const isDiverged = (state: State, pod: number): boolean => {
    const me = state.pods[pod] as Pod;
    const newest = me.agent === 'fenced' ? me.epoch : newestClaimSlotOf(state.log, pod);
    if (newest === 0 || rules.superseded !== 'F' || !me.appHasRun) return false;
    const later = foreignClaimsAbove(state.log, pod, newest);
    return later.every((claim) => isGone(state, claim)) && later.some((claim) => blocks(state.log, claim.epoch));
  };

  // --- the surroundings -------------------------------------------------------------------------------------------

  const withPod = (state: State, index: number, change: Partial<Pod>): readonly Pod[] =>
    state.pods.with(index, { ...(state.pods[index] as Pod), ...change });

  const delayedPutArrives = (state: State, put: Delayed, next: Moves<State>): void => {
    const { slot, record } = put;
    const delayed = state.delayed.filter((other) => other !== put);
    if (state.log[slot] === undefined) {
      next.step(`a delayed ${record.kind} of pod ${record.pod} lands in ${slot}`, {
        ...state,
        delayed,
        log: state.log.with(slot, record),
      });
    } else {
      next.step(`a delayed ${record.kind} for ${slot} gets 412`, { ...state, delayed });
    }
  };

  /** Nothing that a dead pod knew matters to anybody, so all dead pods are alike. */
  const dead: Pod = { ...unbornPod, life: 'dead' };

  const lifeAndDeath = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    const isBornNext = pod > 0 && state.pods[pod - 1]?.life !== 'unborn';
    if (me.life === 'unborn') {
      if (isBornNext)
        next.fault(`pod ${pod} is born`, { ...state, pods: withPod(state, pod, { life: 'alive', init: 'list' }) });
      return;
    }
    if (me.life === 'dead') {
      if (!has(state.knownGone, pod)) {
        next.step(`pod ${pod} is known to be gone`, { ...state, knownGone: withItem(state.knownGone, pod) });
      }
      return;
    }
    next.fault(`pod ${pod} dies`, {
      ...state,
      pods: state.pods.with(pod, dead),
    });
    const mayBeThoughtGone = forceDeletes || rules.gone === 'older list';
    if (mayBeThoughtGone && !has(state.knownGone, pod) && pod + 1 < pods) {
      next.fault(`pod ${pod} ${forceDeletes ? 'is force-deleted and still runs' : 'is absent from an older list'}`, {
        ...state,
        knownGone: withItem(state.knownGone, pod),
      });
    }
    if (me.initReruns > 0 && me.init !== 'list' && me.init !== 'blocked') {
      next.fault(`pod ${pod} sandbox restarts, init runs again`, {
        ...state,
        pods: withPod(state, pod, {
          init: 'list',
          agent: 'off',
          appRuns: false,
          epoch: 0,
          isReclaim: false,
          incarnation: me.incarnation + 1,
          initReruns: me.initReruns - 1,
        }),
      });
    }
  };

  /** A create-only PUT into an empty slot: done, under way after a timeout, or done with the reply lost. */
  const put = (
    state: State,
    pod: number,
    record: LogRecord,
    done: Partial<Pod>,
    unclear: Partial<Pod> | undefined,
    next: Moves<State>,
  ): void => {
    const { slot } = state.pods[pod] as Pod;
    const log = state.log.with(slot, record);
    next.step(`pod ${pod} ${record.kind} ${slot}: created`, { ...state, log, pods: withPod(state, pod, done) });
    if (unclear === undefined) return;
    const after = withPod(state, pod, unclear);
    if (
      state.delayed.length < delayedPuts &&
      !state.delayed.some((other) => other.slot === slot && other.record === record)
    ) {
      next.fault(`pod ${pod} ${record.kind} ${slot}: timed out, under way`, {
        ...state,
        delayed: [...state.delayed, { slot, record }].sort((a, b) => a.record.id - b.record.id),
        pods: after,
      });
    }
    next.fault(`pod ${pod} ${record.kind} ${slot}: created, reply lost`, { ...state, log, pods: after });
  };

  const isMyClaim = (record: LogRecord, pod: number, me: Pod): boolean =>
    record.kind === 'CLAIM' && record.pod === pod && record.incarnation === me.incarnation;

  // --- the init ---------------------------------------------------------------------------------------------------

  const initLists = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    const head = headOf(state.log);
    const newestClaim = newestClaimOf(state.log);
    if (!mayClaim(state, pod)) {
      if (me.init !== 'blocked') {
        next.step(`pod ${pod} may not claim, waits`, { ...state, pods: withPod(state, pod, { init: 'blocked' }) });
      }
    } else if (newestClaim?.pod === pod) {
      next.step(`pod ${pod} reuses its claim ${newestClaim.epoch}`, {
        ...state,
        pods: withPod(state, pod, { init: 'difference', epoch: newestClaim.epoch, isReclaim: false, slot: head + 1 }),
      });
    } else if (head + 1 <= slots) {
      const newest = newestClaimSlotOf(state.log, pod);
      const isReclaim = newest !== 0 && foreignClaimsAbove(state.log, pod, newest).length > 0;
      next.step(`pod ${pod} lists head ${head}`, {
        ...state,
        pods: withPod(state, pod, { init: 'claim', slot: head + 1, epoch: 0, isReclaim }),
      });
    } else {
      next.cut();
    }
  };

  const initClaims = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    const { slot } = me;
    const taken = state.log[slot];
    const done = { init: 'confirm', epoch: slot, isReclaim: false } as const;
    if (taken === undefined) {
      const record = recordOf('CLAIM', pod, me, slot, none, me.isReclaim);
      put(state, pod, record, done, me.init === 'claim' ? { init: 'claim?' } : undefined, next);
    } else if (isMyClaim(taken, pod, me)) {
      next.step(`pod ${pod} CLAIM ${slot}: it was mine`, { ...state, pods: withPod(state, pod, done) });
    } else {
      next.step(`pod ${pod} CLAIM ${slot}: taken`, {
        ...state,
        pods: withPod(state, pod, { init: 'list', epoch: 0, isReclaim: false }),
      });
    }
  };

  const initConfirms = (state: State, pod: number, next: Moves<State>): void => {
    const { slot } = state.pods[pod] as Pod;
    if (headOf(state.log) > slot) {
      next.step(`pod ${pod} claim ${slot} is superseded`, { ...state, pods: withPod(state, pod, { init: 'list' }) });
    } else {
      next.step(`pod ${pod} claim ${slot} stands`, {
        ...state,
        pods: withPod(state, pod, { init: 'difference', slot: slot + 1 }),
      });
    }
  };

  const initAppliesDifference = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    const ownNewest = state.log.findLast((record) => record?.kind === 'CHECKPOINT' && record.pod === pod);
    const volume = me.appHasRun
      ? union(me.volume, ownNewest?.content ?? none)
      : (newestCheckpointBelow(state.log, me.epoch)?.content ?? none);
    next.step(`pod ${pod} has restored, its app starts`, {
      ...state,
      pods: withPod(state, pod, {
        init: 'off',
        agent: 'owner',
        appRuns: true,
        appHasRun: true,
        appEpoch: me.epoch,
        volume,
      }),
    });
    if (me.initFailures > 0 && !me.appHasRun) {
      next.fault(`pod ${pod} init fails after its claim`, {
        ...state,
        pods: withPod(state, pod, {
          init: 'list',
          initFailures: me.initFailures - 1,
          incarnation: me.incarnation + 1,
        }),
      });
    }
  };

  // --- the agent --------------------------------------------------------------------------------------------------

  const agentOwns = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    const { slot } = me;
    if (slot > slots) {
      next.cut();
      return;
    }
    if (state.log[slot] !== undefined) {
      meetsRecord(state, pod, next);
    } else if (me.commits < (commits[pod] ?? 0)) {
      const content = withItem(me.volume, slot);
      const record = recordOf('CHECKPOINT', pod, me, me.epoch, content, false);
      const done = { slot: slot + 1, volume: content, commits: me.commits + 1 };
      put(state, pod, record, done, { agent: 'commit?' }, next);
    }
    if (me.terminations > 0) {
      next.fault(`pod ${pod} agent is told to end, the app lives on`, {
        ...state,
        pods: withPod(state, pod, { agent: 'seal', terminations: me.terminations - 1 }),
      });
    }
  };

  /** The wanted slot is taken: by an earlier incarnation of the pod, which is adopted, or by the pod's successor. */
  const meetsRecord = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    const { slot } = me;
    const taken = state.log[slot] as LogRecord;
    if (taken.epoch === me.epoch) {
      next.step(`pod ${pod} adopts the ${taken.kind} in ${slot}`, {
        ...state,
        pods: withPod(state, pod, { agent: 'owner', slot: slot + 1, volume: union(me.volume, taken.content) }),
      });
    } else {
      next.step(`pod ${pod} is fenced at ${slot} by pod ${taken.pod}`, {
        ...state,
        pods: withPod(state, pod, { agent: 'fenced' }),
      });
    }
  };

  const agentResends = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    const { slot } = me;
    const taken = state.log[slot];
    const committed = { agent: 'owner', slot: slot + 1, commits: me.commits + 1 } as const;
    if (taken === undefined) {
      const volume = withItem(me.volume, slot);
      next.step(`pod ${pod} CHECKPOINT ${slot}: sent again, created`, {
        ...state,
        log: state.log.with(slot, recordOf('CHECKPOINT', pod, me, me.epoch, volume, false)),
        pods: withPod(state, pod, { ...committed, volume }),
      });
    } else if (taken.kind === 'CHECKPOINT' && taken.pod === pod && taken.incarnation === me.incarnation) {
      next.step(`pod ${pod} CHECKPOINT ${slot}: it was mine`, {
        ...state,
        pods: withPod(state, pod, { ...committed, volume: union(me.volume, taken.content) }),
      });
    } else {
      meetsRecord(state, pod, next);
    }
  };

  const agentSeals = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    if (!epochHolds(state.log, me.epoch, 'CHECKPOINT')) {
      next.step(`pod ${pod} has nothing to seal`, { ...state, pods: withPod(state, pod, { agent: 'restart' }) });
    } else if (me.slot > slots) {
      next.cut();
    } else if (state.log[me.slot] === undefined) {
      const record = recordOf('SEAL', pod, me, me.epoch, none, false);
      put(state, pod, record, { agent: 'restart', slot: me.slot + 1 }, { agent: 'restart' }, next);
    } else {
      next.step(`pod ${pod} SEAL ${me.slot}: taken`, { ...state, pods: withPod(state, pod, { agent: 'owner' }) });
    }
  };

  const agentRestarts = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    const head = headOf(state.log);
    const incarnation = me.incarnation + 1;
    if (state.log[head]?.epoch === me.epoch) {
      const newest = newestCheckpointOf(state.log);
      const volume = newest?.pod === pod ? union(me.volume, newest.content) : me.volume;
      next.step(`pod ${pod} agent restarted, goes on above ${head}`, {
        ...state,
        pods: withPod(state, pod, { agent: 'owner', slot: head + 1, incarnation, volume }),
      });
    } else {
      next.step(`pod ${pod} agent restarted, is fenced`, {
        ...state,
        pods: withPod(state, pod, { agent: 'fenced', incarnation }),
      });
    }
  };

  const fencedAgent = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    if (!me.appRuns || !mayReclaim(state, pod)) return;
    const head = headOf(state.log);
    if (head + 1 > slots) {
      next.cut();
    } else {
      next.step(`pod ${pod} lists head ${head}, will claim again`, {
        ...state,
        pods: withPod(state, pod, { agent: 'reclaim', slot: head + 1 }),
      });
    }
  };

  const agentReclaims = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    const { slot } = me;
    const taken = state.log[slot];
    const done = { agent: 'reconfirm', epoch: slot, isReclaim: false } as const;
    if (taken === undefined) {
      const record = recordOf('CLAIM', pod, me, slot, none, true);
      put(state, pod, record, done, me.agent === 'reclaim' ? { agent: 'reclaim?' } : undefined, next);
    } else if (isMyClaim(taken, pod, me)) {
      next.step(`pod ${pod} CLAIM ${slot}: it was mine`, { ...state, pods: withPod(state, pod, done) });
    } else {
      next.step(`pod ${pod} CLAIM ${slot}: taken`, { ...state, pods: withPod(state, pod, { agent: 'fenced' }) });
    }
  };

  const agentReconfirms = (state: State, pod: number, next: Moves<State>): void => {
    const me = state.pods[pod] as Pod;
    const { slot } = me;
    if (headOf(state.log) > slot) {
      next.step(`pod ${pod} claim ${slot} is superseded`, { ...state, pods: withPod(state, pod, { agent: 'fenced' }) });
      return;
    }
    const newest = newestCheckpointBelow(state.log, slot);
    const isKnown = newest === undefined || newest.pod === pod || isIn(state.log, newest, me.volume);
    const adopted = rules.baseFromLog && newest?.pod === pod ? newest.content : none;
    next.step(
      `pod ${pod} claim ${slot} stands, its app is protected again`,
      {
        ...state,
        pods: withPod(state, pod, {
          agent: 'owner',
          slot: slot + 1,
          appEpoch: me.epoch,
          volume: union(me.volume, adopted),
        }),
      },
      rules.baseFromLog && !isKnown ? `RECLAIM-FOREIGN-BASE: pod ${pod}, ${slot}` : undefined,
    );
  };
  const isIn = (log: Log, checkpoint: LogRecord, content: Bits): boolean => has(content, log.indexOf(checkpoint));

  // --- the invariants ---------------------------------------------------------------------------------------------

  /** Once another pod has committed, the pods before it never commit again. */
  const interleaved = (log: Log): string | undefined => {
    let committed = none;
    let last = -1;
    for (const record of log) {
      if (record?.kind !== 'CHECKPOINT' || record.pod === last) continue;
      if (has(committed, record.pod)) return `INTERLEAVED: pod ${record.pod} commits after pod ${last} has`;
      committed = withItem(committed, record.pod);
      last = record.pod;
    }
    return undefined;
  };

  /** Every checkpoint descends from every earlier one. */
  const lostCheckpoint = (log: Log): string | undefined => {
    let earlier = none;
    for (let slot = 1; slot <= slots + 1; slot++) {
      const record = log[slot];
      if (record?.kind !== 'CHECKPOINT') continue;
      const lost = (earlier & ~record.content) >>> 0;
      if (lost !== none) return `LOST-CHECKPOINT: ${slot} does not descend from ${31 - Math.clz32(lost)}`;
      earlier = withItem(earlier, slot);
    }
    return undefined;
  };

  /** Nobody takes the lineage back from a successor whose app runs, unless that one's pod object is gone. */
  const reclaimedOverStarted = (state: State): string | undefined => {
    for (let pod = 0; pod < pods; pod++) {
      const me = state.pods[pod] as Pod;
      if (me.life !== 'alive' || !me.appRuns || (forceDeletes && has(state.knownGone, pod))) continue;
      for (const claim of foreignClaimsAbove(state.log, pod, me.appEpoch)) {
        if (claim.isReclaim && me.appEpoch > firstClaimOf(state.log, claim.pod)) {
          return `RECLAIM-OVER-STARTED-SUCCESSOR: pod ${claim.pod} claims ${claim.epoch} over pod ${pod}`;
        }
      }
    }
    return undefined;
  };

  /** Nothing moves any more: no app is protected although a pod lives, and nobody asks a person for help. */
  const stuck = (state: State): string | undefined => {
    const left: number[] = [];
    for (let pod = 0; pod < pods; pod++) {
      const { life, appRuns, init, agent } = state.pods[pod] as Pod;
      if (life !== 'alive') continue;
      if (appRuns && agent === 'owner') return undefined;
      if (init === 'blocked' || agent === 'fenced') left.push(pod);
    }
    if (left.length === 0) return undefined;
    if (left.some((pod) => isDiverged(state, pod))) {
      return 'DIVERGED: an app ran on its volume and a gone pod committed after it, so a person decides';
    }
    if (left.every((pod) => has(state.knownGone, pod))) {
      return 'FORCE-DELETED: only pods are left whose pod object is gone, and they do not claim';
    }
    return left.some((pod) => state.pods[pod]?.appRuns)
      ? 'APP-UNPROTECTED: an app runs, and will never be protected again'
      : 'ALL-BLOCKED: no app runs, and none ever will';
  };

  const at = (each: readonly number[] | undefined, pod: number): number => each?.[pod] ?? 0;

  return {
    initial: {
      log: new Array<undefined>(slots + 2).fill(undefined),
      delayed: [],
      pods: commits.map((_, pod) => ({
        ...unbornPod,
        life: pod === 0 ? 'alive' : 'unborn',
        init: pod === 0 ? 'list' : 'off',
        initReruns: at(bounds.initReruns, pod),
        agentRestarts: at(bounds.agentRestarts, pod),
        initFailures: at(bounds.initFailures, pod),
        terminations: at(bounds.terminations, pod),
      })),
      knownGone: none,
    },

    moves(state, next) {
      for (const delayed of state.delayed) delayedPutArrives(state, delayed, next);
      for (let pod = 0; pod < pods; pod++) {
        lifeAndDeath(state, pod, next);
        const me = state.pods[pod] as Pod;
        const { init, agent } = me;
        if (init === 'list' || init === 'blocked') {
          if (me.life === 'alive') initLists(state, pod, next);
        } else if (init === 'claim' || init === 'claim?') initClaims(state, pod, next);
        else if (init === 'confirm') initConfirms(state, pod, next);
        else if (init === 'difference') initAppliesDifference(state, pod, next);

        if (agent === 'owner') agentOwns(state, pod, next);
        else if (agent === 'commit?') agentResends(state, pod, next);
        else if (agent === 'seal') agentSeals(state, pod, next);
        else if (agent === 'restart') agentRestarts(state, pod, next);
        else if (agent === 'fenced') fencedAgent(state, pod, next);
        else if (agent === 'reclaim' || agent === 'reclaim?') agentReclaims(state, pod, next);
        else if (agent === 'reconfirm') agentReconfirms(state, pod, next);

        if (me.agentRestarts > 0 && (agent === 'owner' || agent === 'commit?' || agent === 'fenced')) {
          next.fault(`pod ${pod} agent restarts`, {
            ...state,
            pods: withPod(state, pod, { agent: 'restart', agentRestarts: me.agentRestarts - 1 }),
          });
        }
      }
    },

    broken: (state) => interleaved(state.log) ?? lostCheckpoint(state.log) ?? reclaimedOverStarted(state),

    stuck,

    encode(state: State, out: Encoder) {
      for (let slot = 1; slot <= slots + 1; slot++) out.u16(state.log[slot]?.id ?? 0);
      out.u8(state.delayed.length);
      for (const { slot, record } of state.delayed) {
        out.u8(slot);
        out.u16(record.id);
      }
      for (const pod of state.pods) {
        out.u8(lives.indexOf(pod.life));
        out.u8(initSteps.indexOf(pod.init));
        out.u8(agentSteps.indexOf(pod.agent));
        out.u8((pod.appRuns ? 1 : 0) | (pod.appHasRun ? 2 : 0) | (pod.isReclaim ? 4 : 0));
        out.u8(pod.appEpoch);
        out.u16(pod.volume);
        out.u8(pod.epoch);
        out.u8(pod.slot);
        out.u8(pod.incarnation);
        out.u8(pod.commits);
        out.u8(pod.initReruns * 16 + pod.agentRestarts);
        out.u8(pod.initFailures * 16 + pod.terminations);
      }
      out.u8(state.knownGone);
    },
  };
}
