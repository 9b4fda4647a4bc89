/**
 * Which replica slot a pod of a Deployment inherits: the pods have no identity, so the slots are numbered, `<workload>/0` and up, and
 * each new pod takes the first that is free. A slot is free only if its log is empty, its newest record is a SEAL, or its holder is
 * known to be gone. When all are held, as in a surge rollout, one is taken from whoever was met there: from a pod that is ending, else from
 * the one that claimed first. test/model/replica-slots.ts explores both.
 *
 * Or the pod makes a fork: a slot of its own behind the numbered ones, which begins with the newest checkpoint of the slot that would have
 * been taken, and whose holder goes on. The fork's first CLAIM names that slot. Of slots that were forked from one another the one with the newest
 * checkpoint is inherited: else the next pod would go back to what a fork has left behind, or to a fork that was given up.
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

/** Before all that was ever stored. */
const never = -1;

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
  const { replicas, preferred } = options;
  const numbered: LookedAt[] = [];
  for (let number = 0; number < replicas; number++) {
    const slot = await lookAt(number, options);
    numbered.push(slot);
    if (!isFree(slot) || preferred !== undefined) continue;
    // Forks are looked at after the slot that they may have been made from: what they store later comes after this pod has begun.
    const { forks, fork } = await lookAtForks(options);
    const mine = forks.find(({ state }) => state === 'mine');
    if (mine !== undefined) return { slot: mine.picked, fork };
    if (isInherited(slot, await withSaved([...numbered, ...forks], options))) return { slot: slot.picked, fork };
  }
  const { forks, fork } = await lookAtForks(options);
  const found = await withSaved([...numbered, ...forks], options);
  const mine = found.find(({ state }) => state === 'mine');
  if (mine !== undefined) return { slot: mine.picked, fork };
  const free = found.filter((slot) => isFree(slot) && isInherited(slot, found));
  const chosen = free.find(({ picked }) => picked.lineage === preferred) ?? free[0];
  if (chosen !== undefined) return { slot: chosen.picked, fork };
  const [first] = found
    .filter(({ state }) => state === 'held')
    .sort((a, b) => Number(b.picked.holder?.ending) - Number(a.picked.holder?.ending) || a.claimedMs - b.claimedMs);
  return { slot: (first as LookedAt).picked, fork };
}

/** They follow one another, so the first empty log behind the numbered ones ends them. */
async function lookAtForks(
  options: PickOptions,
): Promise<{ readonly forks: readonly LookedAt[]; readonly fork: LineageName }> {
  const { workload, replicas } = options;
  const forks: LookedAt[] = [];
  let end = await lookAt(replicas, options);
  for (; end.state !== 'empty'; end = await lookAt(replicas + forks.length, options)) forks.push(end);
  return { forks, fork: slotLineage(workload, end.number) };
}

/** When the newest checkpoints were made, of slots that were forked: nobody else is compared. */
async function withSaved(slots: readonly LookedAt[], options: PickOptions): Promise<readonly LookedAt[]> {
  const { store, access, signal } = options;
  const all: LookedAt[] = [];
  for (const slot of slots) {
    if (slot.savedMs !== undefined || !slots.some(({ forkedFrom }) => forkedFrom === slot.number)) {
      all.push(slot);
      continue;
    }
    const log = new LineageLog(store, access, slot.picked.lineage);
    const good = await newestGood(log, (await log.head({ signal })).record, { signal });
    all.push({ ...slot, savedMs: good?.header.timeMs ?? never });
  }
  return all;
}

function isFree({ state }: LookedAt): boolean {
  return state === 'free' || state === 'empty';
}

/**
 * Of slots that were forked from one another one is inherited: where the newest checkpoint is. A slot whose fork lives is not chosen by itself,
 * and neither is a fork that was given up while the slot that it was made from went on.
 */
function isInherited(slot: LookedAt, found: readonly LookedAt[]): boolean {
  const root = rootOf(slot, found);
  const savedMs = found.find(({ number }) => number === slot.number)?.savedMs ?? never;
  const family = found.filter((other) => other.number !== slot.number && rootOf(other, found) === root);
  return family.every(
    (other) => (other.savedMs ?? never) <= savedMs && !(other.state === 'held' && isFrom(other, slot, found)),
  );
}

function parentOf({ forkedFrom }: LookedAt, found: readonly LookedAt[]): LookedAt | undefined {
  return forkedFrom === undefined ? undefined : found.find(({ number }) => number === forkedFrom);
}

function rootOf(slot: LookedAt, found: readonly LookedAt[]): number {
  const parent = parentOf(slot, found);
  return parent === undefined ? (slot.forkedFrom ?? slot.number) : rootOf(parent, found);
}

function isFrom(slot: LookedAt, other: LookedAt, found: readonly LookedAt[]): boolean {
  if (slot.forkedFrom === other.number) return true;
  const parent = parentOf(slot, found);
  return parent !== undefined && isFrom(parent, other, found);
}

interface LookedAt {
  readonly number: number;
  readonly state: 'empty' | 'mine' | 'free' | 'held';
  readonly picked: PickedSlot;
  readonly claimedMs: number;
  /** Number of the slot that it was made from. */
  readonly forkedFrom: number | undefined;
  /** When its newest good checkpoint was made, or that of the slot that it begins with; undefined: it was not looked for. */
  readonly savedMs: number | undefined;
}

async function lookAt(number: number, options: PickOptions): Promise<LookedAt> {
  const { store, access, workload, me, liveness, signal } = options;
  const lineage = slotLineage(workload, number);
  const log = new LineageLog(store, access, lineage);
  const { record } = await log.head({ signal });
  const { forkedFrom, origin, savedMs } = await originOf(number, lineage, log, record, options);
  const slot = (state: LookedAt['state'], holder?: PickedSlot['holder'], claimedMs = 0): LookedAt => ({
    number,
    state,
    picked: { lineage, origin, holder },
    claimedMs,
    forkedFrom,
    savedMs,
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

interface Origin {
  readonly forkedFrom: number | undefined;
  readonly origin: LineageName;
  readonly savedMs: number | undefined;
}

/** Of a slot behind the numbered ones, what its first CLAIM says, and where its checkpoints are until it has one of its own. */
async function originOf(
  number: number,
  lineage: LineageName,
  log: LineageLog,
  head: LogRecord | undefined,
  options: PickOptions,
): Promise<Origin> {
  const { store, access, workload, replicas, signal } = options;
  if (number < replicas || head === undefined) return { forkedFrom: undefined, origin: lineage, savedMs: undefined };
  const good = await newestGood(log, head, { signal });
  // One that has been a numbered slot, when there were more replicas, names none.
  const own: Origin = { forkedFrom: undefined, origin: lineage, savedMs: good?.header.timeMs ?? never };
  const first = await log.read(toSlot(1), { signal });
  const label = first?.valid && first.record.header.labels.find(({ name }) => name === claimLabels.forkedFrom);
  if (!label || !/^\d{1,4}$/.test(label.value) || Number(label.value) >= number) return own;
  const forkedFrom = Number(label.value);
  if (good !== undefined) return { ...own, forkedFrom };
  const parent = slotLineage(workload, forkedFrom);
  const parentLog = new LineageLog(store, access, parent);
  const { record } = await parentLog.head({ signal });
  if (forkedFrom >= replicas)
    return { ...(await originOf(forkedFrom, parent, parentLog, record, options)), forkedFrom };
  const before = await newestGood(parentLog, record, { signal });
  return { forkedFrom, origin: parent, savedMs: before?.header.timeMs ?? never };
}
