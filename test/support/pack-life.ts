/**
 * The packs of a lineage over many checkpoints, with the real planner and lists of real entries, and of the trees only where each
 * node lies: each checkpoint stores some nodes anew, and what a plan names moves.
 */
import { defaultCompaction, planCompaction } from '../../src/engine/capture/compaction-plan.ts';
import type { PackEntry } from '../../src/engine/format/pack-entry.ts';
import { Chance } from '../sim/chance.ts';

export interface PackLife {
  readonly packsMax: number;
  readonly capturedBytes: number;
  readonly movedBytes: number;
  readonly largestMoveBytes: number;
}

const nodeBytes = 4096;
/** Of a node, compressed and sealed. */
const storedShare = 0.6;

/** Half of the changes hit a twentieth of the nodes, as files that change tend to change again. */
export function live(options: {
  readonly checkpoints: number;
  readonly nodes: number;
  readonly changed: number;
  readonly seed: string;
}): PackLife {
  const chance = new Chance(options.seed);
  const slotOf = new Int32Array(options.nodes);
  const nodesIn = new Map<number, Set<number>>();
  let packs: PackEntry[] = [];
  let [packsMax, capturedBytes, movedBytes, largestMoveBytes] = [0, 0, 0, 0];

  const place = (node: number, slot: number): void => {
    nodesIn.get(slotOf[node] as number)?.delete(node);
    slotOf[node] = slot;
    const inside = nodesIn.get(slot) ?? new Set<number>();
    nodesIn.set(slot, inside.add(node));
  };
  const commit = (slot: number, count: number): void => {
    const plainBytes = count * nodeBytes;
    const bytes = Math.ceil(plainBytes * storedShare);
    const inlined = bytes <= 256 * 1024;
    packs.push({
      origin: 0,
      slot,
      epoch: 1,
      pack: 0,
      salt8: '00000000',
      bytes,
      footerBytes: 200,
      inlined,
      plainBytes,
      liveBytes: 0,
    });
    packs = packs.map((pack) => {
      const liveBytes = (nodesIn.get(pack.slot)?.size ?? 0) * nodeBytes;
      return liveBytes === pack.liveBytes ? pack : { ...pack, liveBytes };
    });
    packsMax = Math.max(packsMax, packs.length);
  };

  for (let node = 0; node < options.nodes; node++) place(node, 2);
  commit(2, options.nodes);
  for (let slot = 3; slot < options.checkpoints + 3; slot++) {
    const changed = new Set([0, 1, 2]);
    for (let i = 0; i < options.changed; i++) {
      changed.add(chance.below(i % 2 === 0 ? options.nodes : Math.ceil(options.nodes / 20)));
    }
    for (const node of changed) place(node, slot);
    capturedBytes += changed.size * nodeBytes;
    const known = packs.map((pack) => {
      const liveBytes = (nodesIn.get(pack.slot)?.size ?? 0) * nodeBytes;
      return liveBytes === pack.liveBytes ? pack : { ...pack, liveBytes };
    });
    const plan = planCompaction(known, defaultCompaction, options.nodes * nodeBytes);
    let moved = 0;
    for (const target of plan?.targets ?? []) {
      for (const node of [...(nodesIn.get(target.slot) ?? [])]) {
        place(node, slot);
        moved++;
      }
      nodesIn.delete(target.slot);
    }
    movedBytes += moved * nodeBytes;
    largestMoveBytes = Math.max(largestMoveBytes, moved * nodeBytes);
    const dropped = new Set(plan?.targets);
    packs = known.filter((pack) => !dropped.has(pack));
    commit(slot, changed.size + moved);
  }
  return { packsMax, capturedBytes, movedBytes, largestMoveBytes };
}
