/**
 * Which replica slot a pod of a Deployment inherits: the pods have no identity, so the slots are numbered, `<workload>/0` and up, and
 * each new pod takes the first that is free. A slot is free only if its log is empty, its newest record is a SEAL, or its holder is
 * known to be gone. When all are held, as in a surge rollout, one is taken from whoever was met there: from a pod that is ending, else from
 * the one that claimed first. test/model/replica-slots.ts explores both.
 */
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
}

export interface PickedSlot {
  readonly lineage: LineageName;
  /** From whom it has to be taken; undefined when it is free, or this pod's own. */
  readonly holder: { readonly id: HolderId; readonly name: string; readonly ending: boolean } | undefined;
}

export function slotLineage(workload: LineageName, slot: number): LineageName {
  return toLineageName(`${workload}/${slot}`);
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
export async function pickSlot(options: PickOptions): Promise<PickedSlot> {
  const { workload, replicas, preferred } = options;
  const numbered = Array.from({ length: replicas }, (_, slot) => slotLineage(workload, slot));
  const lineages = [...new Set(preferred === undefined ? numbered : [preferred, ...numbered])];
  const held: HeldSlot[] = [];
  let free: LineageName | undefined;
  for (const lineage of lineages) {
    const found = await lookAt(lineage, options);
    if (found === 'mine') return { lineage, holder: undefined };
    if (found === 'free') free ??= lineage;
    else held.push(found);
    // A slot that is the pod's own is only looked for among those it may have claimed before.
    if (free !== undefined && preferred === undefined) break;
  }
  if (free !== undefined) return { lineage: free, holder: undefined };
  const [first] = held.sort((a, b) => Number(b.holder.ending) - Number(a.holder.ending) || a.claimedMs - b.claimedMs);
  return first as HeldSlot;
}

interface HeldSlot extends PickedSlot {
  readonly holder: NonNullable<PickedSlot['holder']>;
  readonly claimedMs: number;
}

async function lookAt(lineage: LineageName, options: PickOptions): Promise<'mine' | 'free' | HeldSlot> {
  const { store, access, me, liveness, signal } = options;
  const log = new LineageLog(store, access, lineage);
  const { record } = await log.head({ signal });
  if (record === undefined) return 'free';
  const [newest] = await readEpochs(log, record, { me, lowest: toSlot(record.header.epoch) }, { signal });
  if (newest === undefined) return 'free';
  if (newest.holder === me) return 'mine';
  if (newest.sealed) return 'free';
  const { holder: id, holderName: name } = newest;
  // After its record was read: an older answer would not count.
  const state = await liveness.isGone(id, { name, signal });
  if (state === 'gone') return 'free';
  const claim = await log.read(toSlot(newest.epoch), { signal });
  const claimedMs = claim?.valid ? claim.record.header.timeMs : record.header.timeMs;
  return { lineage, holder: { id, name: name || id, ending: state === 'ending' }, claimedMs };
}
