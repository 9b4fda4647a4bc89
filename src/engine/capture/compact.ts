/**
 * Compaction inside a checkpoint: after the last pass and before the commit, what is alive in some packs moves into those of
 * this slot. Until the record exists, nothing has happened; after it, the packs that were emptied are not listed any more, and
 * the collector takes them when no retained record lists them either.
 *
 * A checkpoint never fails for it: what cannot be read stays where it is.
 */
import type { PackEntry } from '../format/pack-entry.ts';
import type { DomainKeys } from '../format/keys.ts';
import type { VolumeCheckpoint } from '../model/checkpoint.ts';
import { isHoldfastError } from '../model/errors.ts';
import type { Clock } from '../ports/clock.ts';
import type { NodeSink, NodeSource } from '../tree/node-access.ts';
import { type CompactionLimits, type CompactionPlan, planCompaction } from './compaction-plan.ts';
import type { ChunkTarget } from './read-content.ts';
import { findReferred, Relocation } from './relocate.ts';

export interface CompactionOutcome {
  readonly kind: CompactionPlan['kind'];
  /** Packs that the record does not list any more. */
  readonly dropped: number;
  /** Plain bytes of chunks and nodes that were stored anew. */
  readonly movedBytes: number;
  /** Plain bytes of the nodes that were looked at. */
  readonly walkedBytes: number;
  /** Why not all of it was done: there was no time, or something could not be read. */
  readonly stopped: 'time' | 'unreadable' | undefined;
}

export interface CompactionRequest {
  /** Of the base, with what is in use now. */
  readonly packs: readonly PackEntry[];
  readonly volumes: readonly VolumeCheckpoint[];
  readonly limits: CompactionLimits;
  readonly source: NodeSource;
  readonly sink: NodeSink;
  readonly target: Pick<ChunkTarget, 'addData' | 'endFrame'>;
  /** Gives each chunk that is moved a frame of its own. */
  readonly isolated: boolean;
  readonly keys: DomainKeys;
  readonly clock: Clock;
  /** Waits until the store has taken what it was given. */
  readonly drain: () => Promise<void>;
  readonly signal: AbortSignal | undefined;
}

export interface Compacted {
  /** The same trees, with other places. */
  readonly volumes: readonly VolumeCheckpoint[];
  /** Packs that nothing in the volumes refers to any more: proven by a pass over what could. */
  readonly dropped: readonly PackEntry[];
  readonly outcome: CompactionOutcome;
}

/** About what a node takes of each name, and of each chunk in lists. */
const nodeBytesPerEntry = 128;
const listBytesPerByte: number = 48 / (64 * 1024);

/** Undefined when nothing is due. E_ABORTED. */
export async function compact(request: CompactionRequest): Promise<Compacted | undefined> {
  const { limits, clock, signal, source, keys } = request;
  let metadataBytes = 0;
  for (const { root } of request.volumes) {
    metadataBytes += root.sums.entries * nodeBytesPerEntry + root.sums.bytes * listBytesPerByte;
  }
  const plan = planCompaction(request.packs, limits, metadataBytes);
  if (plan === undefined) return undefined;
  const until = clock.monotonicMs() + limits.durationMsMax;
  const relocation = new Relocation({
    ...request,
    plan,
    mayGoOn: () => {
      signal?.throwIfAborted();
      return clock.monotonicMs() < until && relocation.movedBytes <= 2 * limits.movedBytesMax;
    },
  });
  let stopped: CompactionOutcome['stopped'];
  let volumes = request.volumes;
  let dropped: readonly PackEntry[] = [];
  try {
    const moved: VolumeCheckpoint[] = [];
    for (const volume of request.volumes) moved.push(await relocation.volume(volume));
    await request.drain();
    volumes = moved;
    if (relocation.complete) {
      const referred = await findReferred(volumes, plan, source, keys);
      dropped = plan.targets.filter(({ slot, pack }) => !referred.has(`${slot}/${pack}`));
    } else stopped = 'time';
  } catch (error) {
    // What was moved until then is dead weight in this slot's packs. The volumes stand as they were captured.
    if (!isHoldfastError(error, 'E_DAMAGED', 'E_HOSTILE', 'E_STORE_IO', 'E_STORE_UNREACHABLE')) throw error;
    volumes = request.volumes;
    stopped = 'unreadable';
  }
  const { movedBytes, walkedBytes } = relocation;
  return { volumes, dropped, outcome: { kind: plan.kind, dropped: dropped.length, movedBytes, walkedBytes, stopped } };
}
