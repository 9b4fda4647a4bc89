import { type Bits, has, none, withItem } from './bits.ts';
import type { Encoder } from './encoder.ts';
import type { Model, Moves } from './explore.ts';

/**
 * Which replica slot a pod of a workload takes: it goes through the slots in order and claims the first that is free.
 * A slot's log is the sequence of its CLAIMs and SEALs. Pods are created, look, claim, seal and die in any order, and
 * the reply to a claim may get lost.
 */
export type ReplicaSlotBounds = {
  readonly pods: number;
  readonly replicaSlots: number;
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
};

export const replicaSlotRules: ReplicaSlotRules = { gone: 'read after the CLAIM', recognisesOwnRecord: true };

type LogRecord = { readonly kind: 'CLAIM' | 'SEAL'; readonly pod: number };

const podSteps = [
  'unborn',
  'admitted',
  'look',
  'ask',
  'claim',
  'claim?',
  'holder',
  'sealed',
  'waiting',
  'dead',
] as const;

type Pod = {
  readonly step: (typeof podSteps)[number];
  /** The replica slot it looks at, claims or holds. */
  readonly replicaSlot: number;
  /** How many records the log of that slot had when it was read. */
  readonly seen: number;
  /** The pods that an earlier list or read did not find. */
  readonly absent: Bits;
};

type State = { readonly logs: readonly (readonly LogRecord[])[]; readonly pods: readonly Pod[] };

export function replicaSlotModel(bounds: ReplicaSlotBounds, rules: ReplicaSlotRules = replicaSlotRules): Model<State> {
  const unborn: Pod = { step: 'unborn', replicaSlot: 0, seen: 0, absent: none };
  const withPod = (state: State, index: number, change: Partial<Pod>): State => ({
    ...state,
    pods: state.pods.with(index, { ...(state.pods[index] as Pod), ...change }),
  });
  const withRecord = (state: State, replicaSlot: number, record: LogRecord): State => ({
    ...state,
    logs: state.logs.with(replicaSlot, [...(state.logs[replicaSlot] ?? []), record]),
  });
  const exists = (pod: Pod): boolean => pod.step !== 'unborn' && pod.step !== 'admitted' && pod.step !== 'dead';
  const absentNow = (state: State): Bits => {
    let absent = none;
    for (const [pod, each] of state.pods.entries()) if (!exists(each)) absent = withItem(absent, pod);
    return absent;
  };
  const onward = (replicaSlot: number): Partial<Pod> =>
    replicaSlot + 1 < bounds.replicaSlots
      ? { step: 'look', replicaSlot: replicaSlot + 1, seen: 0 }
      : { step: 'waiting', replicaSlot: 0, seen: 0 };

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
      const by = state.logs[replicaSlot]?.at(-1)?.pod;
      if (by !== pod) return `LIVING-HOLDER-FENCED: pod ${pod} in replica slot ${replicaSlot} by pod ${by}`;
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
        else if (step === 'holder') {
          next.fault(
            `pod ${pod} seals`,
            withPod(withRecord(state, replicaSlot, { kind: 'SEAL', pod }), pod, { step: 'sealed' }),
          );
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
        for (const { kind, pod } of log) out.u8(pod * 2 + (kind === 'SEAL' ? 1 : 0));
      }
      for (const pod of state.pods) {
        out.u8(podSteps.indexOf(pod.step));
        out.u8(pod.replicaSlot);
        out.u8(pod.seen);
        out.u8(pod.absent);
      }
    },
  };
}
