import { type Bits, has, itemsOf, lowest, minus, none, union, without, withItem } from './bits.ts';
import type { Encoder } from './encoder.ts';
import type { Model, Moves } from './explore.ts';
import { Interner } from './interner.ts';

/**
 * Compaction: an agent whose checkpoints add a pack, and may move what lives in others into it and list those no longer. Its
 * process is killed and started anew in the same pod, with a record perhaps still on its way, and a collector expires, deletes and
 * trims alongside.
 *
 * What a checkpoint's trees refer to is its `live`, what it lists its `list`. A move may be cut short, which leaves a target alive.
 */
export type CompactionBounds = {
  /** Log slots 1..slots are used. */
  readonly slots: number;
  readonly commits: number;
  /** How often the process is killed. */
  readonly kills: number;
  readonly collections: number;
};

export type CompactionRules = {
  /** A pack is dropped from the list only if a pass over the moved trees finds nothing that refers to it; else when it was to be moved. */
  readonly passDrops: boolean;
  /** When another record of its own epoch stands in the slot, that is the base, and everything is built anew upon it. */
  readonly buildsAnew: boolean;
  /** What any retained record lists stays; else what the newest one lists. */
  readonly allRetainedHold: boolean;
  /** A pack named for slot t may be deleted only if t <= the highest slot listed. */
  readonly packNameHoldsSlot: boolean;
  /** A slot that has expired stays so, whatever lands there after it was trimmed. */
  readonly expiredForEver: boolean;
};

export const compactionRules: CompactionRules = {
  passDrops: true,
  buildsAnew: true,
  allRetainedHold: true,
  packNameHoldsSlot: true,
  expiredForEver: true,
};

type LogRecord = { readonly id: number; readonly list: Bits; readonly live: Bits };
type Log = readonly (LogRecord | undefined)[];
type View = { readonly id: number; readonly log: Log; readonly packs: Bits };

type State = {
  readonly log: Log;
  /** Packs in the store. */
  readonly packs: Bits;
  readonly expired: Bits;
  readonly agent: {
    /** The slot it writes next. */
    readonly slot: number;
    readonly base: LogRecord;
    /** What it has uploaded packs for and is about to create. */
    readonly built: LogRecord | undefined;
    readonly commits: number;
    readonly kills: number;
  };
  /** A record of a process that was killed, not yet at the store. */
  readonly flight: { readonly slot: number; readonly record: LogRecord } | undefined;
  readonly collector: {
    readonly view: View | undefined;
    readonly packsToDelete: Bits;
    readonly slotsToTrim: Bits;
    readonly runs: number;
  };
};

export function compactionModel(bounds: CompactionBounds, rules: CompactionRules = compactionRules): Model<State> {
  const { slots, commits, kills, collections } = bounds;
  const attempts = kills + 1;
  if (slots * attempts > 31) throw new RangeError('a pack set has 31 bits');
  const records = new Interner<LogRecord>();
  const views = new Interner<View>();
  const recordOf = (list: Bits, live: Bits): LogRecord => records.get(`${list} ${live}`, (id) => ({ id, list, live }));
  /** Of a process and a slot: each process has salts of its own. */
  const packOf = (slot: number, process: number): number => (slot - 1) * attempts + process;
  const slotOfPack = (pack: number): number => Math.floor(pack / attempts) + 1;
  const headOf = (log: Log): number => log.findLastIndex((record) => record !== undefined);

  const agentWith = (state: State, change: Partial<State['agent']>): State => ({
    ...state,
    agent: { ...state.agent, ...change },
  });

  // --- the agent --------------------------------------------------------------------------------------------------

  const moveAgent = (state: State, next: Moves<State>): void => {
    const { slot, base, built, commits: done, kills: killed } = state.agent;
    if (built === undefined) {
      if (done >= commits || slot > slots) return;
      const pack = packOf(slot, killed);
      const build = (label: string, list: Bits, live: Bits): void =>
        next.step(`agent builds ${slot}, ${label}`, {
          ...agentWith(state, { built: recordOf(withItem(list, pack), withItem(live, pack)) }),
          packs: withItem(state.packs, pack),
        });
      build('an increment', base.list, base.live);
      for (const target of itemsOf(base.live)) {
        build(`without what was in ${target}`, base.list, without(base.live, target));
        build(`moving ${target}`, without(base.list, target), without(base.live, target));
        // There was no time for all of it, or something else that was captured refers to it again.
        const kept = rules.passDrops ? base.list : without(base.list, target);
        build(`moving a part of ${target}`, kept, base.live);
      }
      if (killed < kills) next.fault('agent is killed', restarted(state));
      return;
    }
    const there = state.log[slot];
    if (there === undefined) {
      const log = state.log.with(slot, built);
      const committed = { slot: slot + 1, base: built, built: undefined, commits: done + 1 };
      next.step(`agent commits ${slot}`, agentWith({ ...state, log }, committed));
      if (killed >= kills) return;
      next.fault(`agent is killed when ${slot} has arrived`, restarted({ ...state, log }));
      if (state.flight === undefined)
        next.fault(`agent is killed with ${slot} on its way`, restarted({ ...state, flight: { slot, record: built } }));
    } else {
      const adopted = { slot: slot + 1, base: there, built: undefined };
      if (rules.buildsAnew || slot === slots) {
        next.step(`agent adopts ${slot}`, agentWith(state, adopted));
        return;
      }
      // The same once more under the next slot, upon the base that it had.
      const [before, after] = [packOf(slot, killed), packOf(slot + 1, killed)];
      const again = recordOf(
        withItem(without(built.list, before), after),
        withItem(without(built.live, before), after),
      );
      next.step(`agent passes over ${slot}`, {
        ...agentWith(state, { slot: slot + 1, built: again }),
        packs: withItem(state.packs, after),
      });
    }
  };

  /** A new process of the same pod: it goes on from the newest record, with the next slot. */
  const restarted = (state: State): State => {
    const head = headOf(state.log);
    const base = state.log[head] as LogRecord;
    return agentWith(state, { slot: head + 1, base, built: undefined, kills: state.agent.kills + 1 });
  };

  const moveFlight = (state: State, next: Moves<State>): void => {
    const { flight } = state;
    if (flight === undefined) return;
    const { slot, record } = flight;
    if (state.log[slot] !== undefined) next.fault(`a late ${slot} is refused`, { ...state, flight: undefined });
    else {
      const expired = rules.expiredForEver ? state.expired : without(state.expired, slot);
      next.fault(`a late ${slot} arrives`, { ...state, log: state.log.with(slot, record), expired, flight: undefined });
    }
  };

  // --- the collector ----------------------------------------------------------------------------------------------

  const moveCollector = (state: State, next: Moves<State>): void => {
    const { collector } = state;
    const { view, packsToDelete, slotsToTrim, runs } = collector;
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
    } else if (view !== undefined) decide(state, view, next);
    else if (runs < collections) {
      const { log, packs } = state;
      const key = `${log.map((record) => record?.id ?? 0)} ${packs}`;
      const listed = views.get(key, (id) => ({ id, log, packs }));
      next.step(`collector lists head ${headOf(log)}`, {
        ...state,
        collector: { ...collector, view: listed, runs: runs + 1 },
      });
    }
  };

  /** Any of the older checkpoints may expire. */
  const decide = (state: State, { log, packs }: View, next: Moves<State>): void => {
    const highest = headOf(log);
    let older = none;
    for (let slot = 1; slot < highest; slot++) if (log[slot] !== undefined) older = withItem(older, slot);
    for (let decided = older; ; decided = (decided - 1) & older) {
      const expired = union(state.expired, decided);
      let held = log[highest]?.list ?? none;
      for (let slot = 1; slot < highest && rules.allRetainedHold; slot++) {
        if (!has(expired, slot)) held = union(held, log[slot]?.list ?? none);
      }
      let packsToDelete = none;
      for (const pack of itemsOf(minus(packs, held))) {
        if (slotOfPack(pack) <= highest || !rules.packNameHoldsSlot) packsToDelete = withItem(packsToDelete, pack);
      }
      let slotsToTrim = none;
      for (const slot of itemsOf(older)) {
        if (has(expired, slot) && log[slot + 1] !== undefined) slotsToTrim = withItem(slotsToTrim, slot);
      }
      next.step(`collector expires ${itemsOf(decided)}`, {
        ...state,
        expired,
        collector: { ...state.collector, view: undefined, packsToDelete, slotsToTrim },
      });
      if (decided === none) break;
    }
  };

  const first = recordOf(withItem(none, 0), withItem(none, 0));
  const log: Log = [undefined, first, ...Array<undefined>(slots).fill(undefined)];
  return {
    initial: {
      log,
      packs: withItem(none, 0),
      expired: none,
      agent: { slot: 2, base: first, built: undefined, commits: 0, kills: 0 },
      flight: undefined,
      collector: { view: undefined, packsToDelete: none, slotsToTrim: none, runs: 0 },
    },

    moves(state, next) {
      moveAgent(state, next);
      moveFlight(state, next);
      moveCollector(state, next);
    },

    broken({ log: records, packs, expired }) {
      const head = headOf(records);
      for (const [slot, record] of records.entries()) {
        if (record === undefined || (has(expired, slot) && slot !== head)) continue;
        if (minus(record.live, record.list) !== none)
          return `UNLISTED: checkpoint ${slot} refers to a pack that it does not list`;
        if (minus(record.list, packs) !== none) return `DANGLING: checkpoint ${slot} lacks a pack`;
      }
      return undefined;
    },

    encode({ log: records, packs, expired, agent, flight, collector }, out: Encoder) {
      for (const record of records) out.u16(record?.id ?? 0);
      out.u32(packs);
      out.u16(expired);
      out.u8(agent.slot);
      out.u16(agent.base.id);
      out.u16(agent.built?.id ?? 0);
      out.u8(agent.commits);
      out.u8(agent.kills);
      out.u8(flight?.slot ?? 0);
      out.u16(flight?.record.id ?? 0);
      out.u32(collector.view?.id ?? 0);
      out.u32(collector.packsToDelete);
      out.u16(collector.slotsToTrim);
      out.u8(collector.runs);
    },
  };
}
