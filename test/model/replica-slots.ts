import { type Bits, has, none, withItem } from './bits.ts';
import type { Encoder } from './encoder.ts';
import type { Model, Moves } from './explore.ts';

/**
 * Which replica slot a pod of a workload takes: it goes through the slots in order and claims the first that is free.
 * A slot's log is the sequence of its CLAIMs and SEALs. Pods are created, look, claim, seal and die in any order, and
 * the reply to a claim may get lost. When all are held, a pod may take one: that of the oldest CLAIM.
 */
export type ReplicaSlotBounds = {
  readonly pods: number;
  readonly replicaSlots: number;
  /** When all are held, a pod takes one instead of waiting. */
  readonly takes?: boolean;
};

/** What the protocol promises; each is a rule that a control run drops. */
export type ReplicaSlotRules = {
  /**
   * What proves that a holder is gone: a read that followed the reading of its CLAIM, a read before it, or absence from
   * the list of living pods that a pod gets when it is admitted.
   */
  readonly gone: 'read after the CLAIM' | 'read before the CLAIM' | 'absent at admission';
  /** On 412 the record is read: one's own record id means that the claim is one's own. */
  readonly recognisesOwnRecord: boolean;
  /** A slot is taken from the holder that was met, at the place of the log where it was met, or from nobody. */
  readonly takesWhomItMet: boolean;
};

export const replicaSlotRules: ReplicaSlotRules = {
  gone: 'read after the CLAIM',
  recognisesOwnRecord: true,
  takesWhomItMet: true,
};

type LogRecord = {
  readonly kind: 'CLAIM' | 'SEAL';
  readonly pod: number;
  /** Of a CLAIM that took the slot: the holder that it meant to take it from. */
  readonly meant?: number;
  /** How many records there were in all logs when it was created; 0 where nobody takes. */
  readonly at: number;
};

const podSteps = [
  'unborn',
  'admitted',
  'look',
  'ask',
  'claim',
  'claim?',
  'holder',
  'sealed',
  'take',
  'take?',
  'waiting',
  'dead',
] as const;

type Pod = {
  readonly step: (typeof podSteps)[number];
  /** The replica slot it looks at, claims or holds. */
  readonly replicaSlot: number;
  /** How many records the log of that slot had when it was read. */
  readonly seen: number;
  /** Whom it takes the slot from. */
  readonly meant: number;
  /** The pods that an earlier list or read did not find. */
  readonly absent: Bits;
};

type State = { readonly logs: readonly (readonly LogRecord[])[]; readonly pods: readonly Pod[] };

export function replicaSlotModel(bounds: ReplicaSlotBounds, rules: ReplicaSlotRules = replicaSlotRules): Model<State> {
  const { takes = false } = bounds;
  const unborn: Pod = { step: 'unborn', replicaSlot: 0, seen: 0, meant: 0, absent: none };
  const withPod = (state: State, index: number, change: Partial<Pod>): State => ({
    ...state,
    pods: state.pods.with(index, { ...(state.pods[index] as Pod), ...change }),
  });
  const withRecord = (state: State, replicaSlot: number, record: Omit<LogRecord, 'at'>): State => {
    const at = takes ? state.logs.reduce((sum, log) => sum + log.length, 0) : 0;
    return { ...state, logs: state.logs.with(replicaSlot, [...(state.logs[replicaSlot] ?? []), { ...record, at }]) };
  };
  const exists = (pod: Pod): boolean => pod.step !== 'unborn' && pod.step !== 'admitted' && pod.step !== 'dead';
  const absentNow = (state: State): Bits => {
    let absent = none;
    for (const [pod, each] of state.pods.entries()) if (!exists(each)) absent = withItem(absent, pod);
    return absent;
  };
  const onward = (replicaSlot: number): Partial<Pod> =>
    replicaSlot + 1 < bounds.replicaSlots
      ? { step: 'look', replicaSlot: replicaSlot + 1, seen: 0 }
      : { step: takes ? 'take' : 'waiting', replicaSlot: 0, seen: 0 };

  const look = (state: State, pod: number, next: Moves<State>): void => {
    const { replicaSlot, absent } = state.pods[pod] as Pod;
    const log = state.logs[replicaSlot] ?? [];
    const newest = log.at(-1);
    const seen = log.length;
    if (newest === undefined || newest.kind === 'SEAL') {
      next.step(`pod ${pod} finds replica slot ${replicaSlot} free`, withPod(state, pod, { step: 'claim', seen }));
    } else if (rules.gone === 'read after the CLAIM') {
      next.step(
        `pod ${pod} finds pod ${newest.pod} in replica slot ${replicaSlot}`,
        withPod(state, pod, { step: 'ask', seen }),
      );
    } else if (has(absent, newest.pod)) {
      next.step(
        `pod ${pod} takes pod ${newest.pod} in replica slot ${replicaSlot} for gone`,
        withPod(state, pod, { step: 'claim', seen }),
      );
    } else {
      next.step(`pod ${pod} finds replica slot ${replicaSlot} held`, withPod(state, pod, onward(replicaSlot)));
    }
  };

  /** The quorum read, after the CLAIM of the holder was read. */
  const ask = (state: State, pod: number, next: Moves<State>): void => {
    const { replicaSlot, seen } = state.pods[pod] as Pod;
    const { pod: holder } = (state.logs[replicaSlot] ?? [])[seen - 1] as LogRecord;
    if (exists(state.pods[holder] as Pod)) {
      next.step(`pod ${pod} hears that pod ${holder} lives`, withPod(state, pod, onward(replicaSlot)));
    } else {
      next.step(`pod ${pod} hears that pod ${holder} is gone`, withPod(state, pod, { step: 'claim' }));
    }
  };

  const claim = (state: State, pod: number, next: Moves<State>): void => {
    const { step, replicaSlot, seen } = state.pods[pod] as Pod;
    const taken = state.logs[replicaSlot]?.[seen];
    if (taken === undefined) {
      const created = withRecord(state, replicaSlot, { kind: 'CLAIM', pod });
      next.step(`pod ${pod} CLAIM in ${replicaSlot}: created`, withPod(created, pod, { step: 'holder' }));
      if (step === 'claim?') return;
      next.fault(`pod ${pod} CLAIM in ${replicaSlot}: created, reply lost`, withPod(created, pod, { step: 'claim?' }));
      next.fault(`pod ${pod} CLAIM in ${replicaSlot}: request lost`, withPod(state, pod, { step: 'claim?' }));
    } else if (taken.pod === pod && rules.recognisesOwnRecord) {
      next.step(`pod ${pod} CLAIM in ${replicaSlot}: it was mine`, withPod(state, pod, { step: 'holder' }));
    } else {
      next.step(`pod ${pod} CLAIM in ${replicaSlot}: taken`, withPod(state, pod, onward(replicaSlot)));
    }
  };

  /** All were held: the oldest CLAIM of another pod is met, and a CLAIM follows at the place after it. */
  const choose = (state: State, pod: number, next: Moves<State>): void => {
    const held = state.logs
      .map((log, replicaSlot) => ({ newest: log.at(-1), replicaSlot, seen: log.length }))
      .filter(({ newest }) => newest?.kind === 'CLAIM' && newest.pod !== pod)
      .sort((a, b) => (a.newest?.at ?? 0) - (b.newest?.at ?? 0));
    const [oldest] = held;
    if (oldest?.newest === undefined || held.length < state.logs.length) {
      next.step(
        `pod ${pod} finds a slot free after all`,
        withPod(state, pod, { step: 'look', replicaSlot: 0, seen: 0 }),
      );
      return;
    }
    const { newest, replicaSlot, seen } = oldest;
    next.step(
      `pod ${pod} means to take ${replicaSlot} from pod ${newest.pod}`,
      withPod(state, pod, { step: 'take?', replicaSlot, seen, meant: newest.pod }),
    );
  };

  const take = (state: State, pod: number, next: Moves<State>): void => {
    const { replicaSlot, seen, meant } = state.pods[pod] as Pod;
    const log = state.logs[replicaSlot] ?? [];
    if (log.length > seen && rules.takesWhomItMet) {
      const again: Partial<Pod> = { step: 'look', replicaSlot: 0, seen: 0, meant: 0 };
      next.step(`pod ${pod} finds another in ${replicaSlot}`, withPod(state, pod, again));
      return;
    }
    const created = withRecord(state, replicaSlot, { kind: 'CLAIM', pod, meant });
    next.step(
      `pod ${pod} takes ${replicaSlot}`,
      withPod(created, pod, { step: 'holder', meant: 0 }),
      log.at(-1)?.pod === meant ? undefined : `TOOK-ANOTHER: meant pod ${meant}, took pod ${log.at(-1)?.pod}`,
    );
  };

  const livesInTwo = (state: State): string | undefined => {
    for (const [pod, { step, replicaSlot }] of state.pods.entries()) {
      if (step !== 'holder') continue;
      const other = state.logs.findIndex((log, slot) => slot !== replicaSlot && log.at(-1)?.pod === pod);
      if (other >= 0) return `HOLDS-TWO: pod ${pod} holds ${replicaSlot}, and ${other} for ever`;
    }
    return undefined;
  };

  const livingHolderFenced = (state: State): string | undefined => {
    for (const [pod, { step, replicaSlot }] of state.pods.entries()) {
      if (step !== 'holder') continue;
      const newest = state.logs[replicaSlot]?.at(-1);
      const by = newest?.pod;
      // Whoever was taken from learns it at its next record.
      const taken = state.logs[replicaSlot]?.some((record) => record.meant === pod) ?? false;
      if (by !== pod && !taken) return `LIVING-HOLDER-FENCED: pod ${pod} in replica slot ${replicaSlot} by pod ${by}`;
    }
    return undefined;
  };

  return {
    initial: {
      logs: new Array<readonly LogRecord[]>(bounds.replicaSlots).fill([]),
      pods: new Array<Pod>(bounds.pods).fill(unborn),
    },

    moves(state, next) {
      for (let pod = 0; pod < bounds.pods; pod++) {
        const { step, replicaSlot } = state.pods[pod] as Pod;
        if (step === 'unborn') {
          const absent = rules.gone === 'absent at admission' ? absentNow(state) : none;
          next.fault(`pod ${pod} is admitted`, withPod(state, pod, { step: 'admitted', absent }));
        } else if (step === 'admitted') {
          const created = withPod(state, pod, { step: 'look' });
          const absent = rules.gone === 'read before the CLAIM' ? absentNow(created) : undefined;
          next.step(`pod ${pod} is created`, absent === undefined ? created : withPod(created, pod, { absent }));
        } else if (step === 'look') look(state, pod, next);
        else if (step === 'ask') ask(state, pod, next);
        else if (step === 'claim' || step === 'claim?') claim(state, pod, next);
        else if (step === 'take') choose(state, pod, next);
        else if (step === 'take?') take(state, pod, next);
        else if (step === 'holder') {
          // One that was taken from cannot seal.
          if (state.logs[replicaSlot]?.at(-1)?.pod === pod) {
            const sealed = withRecord(state, replicaSlot, { kind: 'SEAL', pod });
            next.fault(`pod ${pod} seals`, withPod(sealed, pod, { step: 'sealed' }));
          }
        }
        if (exists(state.pods[pod] as Pod)) {
          next.fault(`pod ${pod} dies`, withPod(state, pod, { ...unborn, step: 'dead' }));
        }
      }
    },

    broken: (state) => livingHolderFenced(state) ?? livesInTwo(state),

    encode(state: State, out: Encoder) {
      for (const log of state.logs) {
        out.u8(log.length);
        for (const { kind, pod, meant, at } of log) {
          out.u8(pod * 2 + (kind === 'SEAL' ? 1 : 0));
          if (takes) out.u8(at * 16 + (meant ?? 15));
        }
      }
      for (const pod of state.pods) {
        out.u8(podSteps.indexOf(pod.step));
        out.u8(pod.replicaSlot);
        out.u8(pod.seen);
        out.u8(pod.absent);
        if (takes) out.u8(pod.meant);
      }
    },
  };
}
