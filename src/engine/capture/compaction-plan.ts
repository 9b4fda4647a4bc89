/**
 * Which packs a checkpoint empties by moving what is alive in them. Pure: from a pack list to the packs worth it.
 *
 * Packs stay few because small ones are merged by size class, as in a log-structured tree, and cost little because each
 * byte moves once per class. What is read is bounded too: a node refers to nothing younger than itself, so whoever looks for
 * references into packs of slot s and up passes over every node that lies in an older pack.
 */
import type { PackEntry } from '../format/pack-entry.ts';

export interface CompactionLimits {
  /** Plain bytes that one checkpoint moves, about. */
  readonly movedBytesMax: number;
  /** Plain bytes of nodes that one checkpoint reads to find what refers to them, about. */
  readonly walkedBytesMax: number;
  /** Nothing further is moved after this, in ms. */
  readonly durationMsMax: number;
}

export const defaultCompaction: CompactionLimits = Object.freeze({
  movedBytesMax: 64 * 1024 * 1024,
  walkedBytesMax: 128 * 1024 * 1024,
  durationMsMax: 5000,
});

export interface CompactionPlan {
  /** `merge`: of one size class, into the next. `rewrite`: less than half of each is alive. */
  readonly kind: 'merge' | 'rewrite';
  readonly targets: readonly PackEntry[];
  /** Lowest slot of a target: nodes in packs of lower slots refer to none of them. */
  readonly oldestSlot: number;
}

/** So many packs of one class are merged. */
export const mergeCount = 16;
/** Where what may be moved at once is less than so many packs, fewer large ones are merged. */
const mergeCountMin = 4;
/** Stored bytes of the largest pack of each class of small packs; the last one grows with what is stored. */
const tinyBytesMax: number = 256 * 1024;
const smallBytesMin: number = 4 * 1024 * 1024;
const smallBytesMax: number = 16 * 1024 * 1024;
/** Less is not worth a rewrite: merging drops it soon. */
const freedBytesMin: number = 256 * 1024;
/** The share of all that one pack should hold at least. */
const packsWanted = 128;

/**
 * Undefined when nothing is due. `metadataBytes`: about what all nodes of the trees take, so what the longest walk reads.
 * Packs of other lineages stay: what refers to them also lies there.
 */
export function planCompaction(
  packs: readonly PackEntry[],
  limits: CompactionLimits,
  metadataBytes: number,
): CompactionPlan | undefined {
  const own = packs.filter(({ origin }) => origin === 0);
  const walk = new WalkEstimate(own, metadataBytes);
  let storedBytes = 0;
  for (const { bytes } of own) storedBytes += bytes;
  const smallMax = Math.min(smallBytesMax, Math.max(smallBytesMin, storedBytes / packsWanted));
  const tiny = own.filter(({ bytes }) => bytes <= tinyBytesMax);
  const small = own.filter(({ bytes }) => bytes > tinyBytesMax && bytes <= smallMax);
  return planMerge(tiny, limits, walk) ?? planMerge(small, limits, walk) ?? planRewrite(own, limits, walk);
}

/** Newest first, since that is the shortest walk; packs in records first, since those records cannot be trimmed. */
function planMerge(
  members: readonly PackEntry[],
  limits: CompactionLimits,
  walk: WalkEstimate,
): CompactionPlan | undefined {
  if (members.length < mergeCount) return undefined;
  const order = [...members].sort(
    (a, b) => Number(b.inlined) - Number(a.inlined) || b.slot - a.slot || b.pack - a.pack,
  );
  const targets: PackEntry[] = [];
  let movedBytes = 0;
  for (const pack of order) {
    if (movedBytes + aliveIn(pack) > limits.movedBytesMax) break;
    if (walk.from(pack.slot) > limits.walkedBytesMax) continue;
    movedBytes += aliveIn(pack);
    targets.push(pack);
  }
  return targets.length < mergeCountMin ? undefined : planOf('merge', targets);
}

/** Oldest first; only when it frees as much as must be read to find what lives there. */
function planRewrite(
  own: readonly PackEntry[],
  limits: CompactionLimits,
  walk: WalkEstimate,
): CompactionPlan | undefined {
  const candidates = own
    .filter((pack) => aliveIn(pack) < pack.plainBytes / 2)
    .filter(({ slot }) => walk.from(slot) <= limits.walkedBytesMax);
  for (let from = 0; from < candidates.length; from++) {
    const targets: PackEntry[] = [];
    let movedBytes = 0;
    let freedBytes = 0;
    for (const pack of candidates.slice(from)) {
      if (movedBytes + aliveIn(pack) > limits.movedBytesMax) continue;
      movedBytes += aliveIn(pack);
      freedBytes += pack.plainBytes - aliveIn(pack);
      targets.push(pack);
    }
    const plan = planOf('rewrite', targets);
    if (freedBytes >= Math.max(freedBytesMin, walk.from(plan.oldestSlot))) return plan;
  }
  return undefined;
}

function planOf(kind: CompactionPlan['kind'], targets: readonly PackEntry[]): CompactionPlan {
  return { kind, targets, oldestSlot: targets.reduce((least, { slot }) => Math.min(least, slot), Infinity) };
}

/** A chunk with several names counts several times among the live bytes. */
function aliveIn({ liveBytes, plainBytes }: PackEntry): number {
  return Math.min(liveBytes, plainBytes);
}

/** What a walk reads that passes over nodes in packs below a slot: at most what is alive from there on, and all nodes there are. */
class WalkEstimate {
  readonly #slots: readonly number[];
  /** Live bytes from that index on. */
  readonly #bytesFrom: readonly number[];
  readonly #metadataBytes: number;

  constructor(own: readonly PackEntry[], metadataBytes: number) {
    const bytesFrom: number[] = new Array(own.length);
    let bytes = 0;
    for (let i = own.length - 1; i >= 0; i--) {
      bytes += aliveIn(own[i] as PackEntry);
      bytesFrom[i] = bytes;
    }
    this.#slots = own.map(({ slot }) => slot);
    this.#bytesFrom = bytesFrom;
    this.#metadataBytes = metadataBytes;
  }

  from(slot: number): number {
    let [low, high] = [0, this.#slots.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#slots[middle] as number) < slot) low = middle + 1;
      else high = middle;
    }
    return Math.min(this.#bytesFrom[low] ?? 0, this.#metadataBytes);
  }
}
