/**
 * Which replica slot a pod of a Deployment inherits: the pods have no identity, so the slots are numbered, `<workload>/0` and up, and
 * each new pod takes the first that is free. A slot is free only if its log is empty, its newest record is a SEAL, or its holder is
 * known to be gone. When all are held, as in a surge rollout, one is taken from whoever was met there: from a pod that is ending, else from
 * the one that claimed first. test/model/replica-slots.ts explores both.
 *
 * Or the pod makes a fork: a slot of its own behind the numbered ones, which begins with the newest checkpoint of the slot that would have
 * been taken, and whose holder goes on. The fork's first CLAIM names that slot. It is the one that is inherited from then on: a slot that a
 * fork was made from is never chosen by itself, or the next pod would go back to what the fork has left behind.
 */
import { claimLabels } from '../../contract/claim-labels.ts';
import type { LogRecord } from '../../engine/format/record.ts';
import { newestGood } from '../../engine/lineage/base.ts';
import { readEpochs } from '../../engine/lineage/epochs.ts';
import { LineageLog } from '../../engine/lineage/log.ts';
import type { DomainAccess } from '../../engine/lineage/repository.ts';
import { type HolderId, type LineageName, toLineageName, toSlot } from '../../engine/model/ids.ts';
import type { Liveness } from '../../engine/ports/liveness.ts';
import type { ObjectReader } from '../../engine/ports/object-store.ts';

export interface SlotSettings {
  /** claim: numbered slots, each with one writer. seed: all begin from slot 0, and none writes it. refuse: one slot; a second pod waits. */
  readonly mode: 'claim' | 'seed' | 'refuse';
  /** How many slots there are. */
  readonly replicas: number;
  /** Of numbered slots: take one from its holder, or begin a new one with what that has stored. */
  readonly whenHeld: 'take' | 'fork';
}

export interface PickedSlot {
  readonly lineage: LineageName;
  /** The slot whose checkpoints the volumes begin with: of a fork that has none of its own, the one it was made from. */
  readonly origin: LineageName;
  /** From whom it has to be taken; undefined when it is free, or this pod's own. */
  readonly holder: { readonly id: HolderId; readonly name: string; readonly ending: boolean } | undefined;
}

/** What there is to choose: a slot, and where all are held the one that a fork would begin. */
export interface Pick {
  readonly slot: PickedSlot;
  /** Its log is empty. */
  readonly fork: LineageName;
}

export function slotLineage(workload: LineageName, slot: number): LineageName {
  return toLineageName(`${workload}/${slot}`);
}

/** The lineage of the fork, as its CLAIM names whose it is. */
export function forkLabels(origin: LineageName): Readonly<Record<string, string>> {
  return { [claimLabels.forkedFrom]: origin.slice(origin.lastIndexOf('/') + 1) };
}

export interface PickOptions {
  readonly store: ObjectReader;
  readonly access: DomainAccess;
  readonly workload: LineageName;
  readonly replicas: number;
  readonly me: HolderId;
  /** Looked at first: the slot that an earlier run of this pod had chosen. */
  readonly preferred: LineageName | undefined;
  readonly liveness: Liveness;
  readonly signal: AbortSignal;
}

/** The slot to inherit. Of several that could be taken, the one whose pod is ending, else the one with the oldest CLAIM. E_STORE_*, E_ABORTED. */
export async function pickSlot(options: PickOptions): Promise<Pick> {
  const { workload, replicas, preferred } = options;
  const forks: LookedAt[] = [];
  let end = await lookAt(replicas, options);
  // They follow one another, so the first empty log behind the numbered ones ends them.
  for (; end.state !== 'empty'; end = await lookAt(replicas + forks.length, options)) forks.push(end);
  const fork = slotLineage(workload, end.number);
  const left = new Set(forks.map(({ forkedFrom }) => forkedFrom));
  const numbered: LookedAt[] = [];
  for (let number = 0; number < replicas; number++) {
    const slot = await lookAt(number, options);
    numbered.push(slot);
    const isFree = (slot.state === 'free' || slot.state === 'empty') && !left.has(number);
    // A slot that is the pod's own is only looked for among those it may have claimed before.
    if (isFree && preferred === undefined) break;
  }
  const found = [...numbered, ...forks];
  const mine = found.find(({ state }) => state === 'mine');
  if (mine !== undefined) return { slot: mine.picked, fork };
  const open = found.filter(({ number }) => !left.has(number));
  const free = open.filter(({ state }) => state !== 'held');
  const chosen = free.find(({ picked }) => picked.lineage === preferred) ?? free[0];
  if (chosen !== undefined) return { slot: chosen.picked, fork };
  const [first] = open.sort(
    (a, b) => Number(b.picked.holder?.ending) - Number(a.picked.holder?.ending) || a.claimedMs - b.claimedMs,
  );
  return { slot: (first as LookedAt).picked, fork };
}

interface LookedAt {
  readonly number: number;
  readonly state: 'empty' | 'mine' | 'free' | 'held';
  readonly picked: PickedSlot;
  readonly claimedMs: number;
  /** Number of the slot that it was made from. */
  readonly forkedFrom: number | undefined;
}

async function lookAt(number: number, options: PickOptions): Promise<LookedAt> {
  const { store, access, workload, me, liveness, signal } = options;
  const lineage = slotLineage(workload, number);
  const log = new LineageLog(store, access, lineage);
  const { record } = await log.head({ signal });
  const { forkedFrom, origin } = await originOf(number, lineage, log, record, options);
  const slot = (state: LookedAt['state'], holder?: PickedSlot['holder'], claimedMs = 0): LookedAt => ({
    number,
    state,
    picked: { lineage, origin, holder },
    claimedMs,
    forkedFrom,
  });
  if (record === undefined) return slot('empty');
  const [newest] = await readEpochs(log, record, { me, lowest: toSlot(record.header.epoch) }, { signal });
  if (newest === undefined) return slot('empty');
  if (newest.holder === me) return slot('mine');
  if (newest.sealed) return slot('free');
  const { holder: id, holderName: name } = newest;
  // After its record was read: an older answer would not count.
  const state = await liveness.isGone(id, { name, signal });
  if (state === 'gone') return slot('free');
  const claim = await log.read(toSlot(newest.epoch), { signal });
  const claimedMs = claim?.valid ? claim.record.header.timeMs : record.header.timeMs;
  return slot('held', { id, name: name || id, ending: state === 'ending' }, claimedMs);
}

/** Of a slot behind the numbered ones, what its first CLAIM says, and where its checkpoints are until it has one of its own. */
async function originOf(
  number: number,
  lineage: LineageName,
  log: LineageLog,
  head: LogRecord | undefined,
  { workload, replicas, signal }: PickOptions,
): Promise<{ readonly forkedFrom: number | undefined; readonly origin: LineageName }> {
  if (number < replicas || head === undefined) return { forkedFrom: undefined, origin: lineage };
  const first = await log.read(toSlot(1), { signal });
  const label = first?.valid && first.record.header.labels.find(({ name }) => name === claimLabels.forkedFrom);
  // One that has been a numbered slot, when there were more replicas.
  if (!label || !/^\d{1,4}$/.test(label.value)) return { forkedFrom: undefined, origin: lineage };
  const forkedFrom = Number(label.value);
  if (forkedFrom >= number) return { forkedFrom: undefined, origin: lineage };
  const good = await newestGood(log, head, { signal });
  return { forkedFrom, origin: good === undefined ? slotLineage(workload, forkedFrom) : lineage };
}
