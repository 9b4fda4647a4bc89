/** What a commit says beyond the trees that the passes have found: what is suspicious about them, how much of each pack is in use, and what was compacted. */
import { comparePacks, findPack, type PackEntry, type PackReference } from '../format/pack-entry.ts';
import type { CommitBase } from '../lineage/lineage-writer.ts';
import type { VolumeCheckpoint } from '../model/checkpoint.ts';
import type { VolumeName } from '../model/ids.ts';
import { isHoldfastError } from '../model/errors.ts';
import type { CapturePorts, CaptureSettings, CaptureTarget } from './capture-request.ts';
import { compact, type Compacted } from './compact.ts';
import { holdsIsolated } from './isolation.ts';
import { type BytesByPack, liveBytesDifference } from './live-bytes.ts';
import { findSuspicions, type Suspicion } from './poison-guard.ts';
import { type DoubtTally, findTornClusters } from './torn-clusters.ts';
import type { RunPacks } from './run-packs.ts';
import type { StagedNodes } from './staged-nodes.ts';

/** Counting what is in use of each pack ends after this: numbers that only say what is worth compacting may be old. */
const countMsMax = 1000;

export interface CommitPartsOptions {
  readonly ports: CapturePorts;
  readonly settings: CaptureSettings;
  readonly target: CaptureTarget;
  readonly signal: AbortSignal | undefined;
  readonly base: CommitBase | undefined;
  readonly packs: RunPacks;
  readonly nodes: StagedNodes;
}

/** The volumes as they are committed, and which packs of the base they need no longer. */
export interface CommitParts {
  readonly volumes: readonly VolumeCheckpoint[];
  readonly compacted: Compacted | undefined;
  readonly isDropped: (pack: PackReference) => boolean;
  /** Undefined: it could not be counted. */
  readonly inUse: ((pack: PackEntry) => number) | undefined;
}

/** Moves what has to be moved into this run's pack, and counts. */
export async function commitPartsOf(
  run: CommitPartsOptions,
  volumes: readonly VolumeCheckpoint[],
): Promise<CommitParts> {
  const growth = await liveBytesSince(run, volumes);
  const compacted = await compactIfDue(run, volumes, growth);
  const compactedGrowth = compacted === undefined ? growth : await liveBytesSince(run, compacted.volumes);
  return {
    volumes: compacted?.volumes ?? volumes,
    compacted,
    isDropped: (pack) => compacted?.dropped.some((dropped) => comparePacks(dropped, pack) === 0) ?? false,
    inUse: compactedGrowth === undefined ? undefined : (pack) => inUse(run, pack, compactedGrowth),
  };
}

export async function suspicionsOf(
  run: CommitPartsOptions,
  volumes: readonly VolumeCheckpoint[],
  /** Of those that were looked at now. */
  doubts: ReadonlyMap<VolumeName, DoubtTally>,
): Promise<readonly Suspicion[]> {
  const good = run.base?.good;
  const { guard = [] } = run.settings;
  if (guard.length === 0) return [];
  const { keys, writer } = run.target;
  // The trees of a dry run are stored nowhere: of those only the whole is known.
  const torn = writer === undefined ? [] : await findTornClusters(volumes, doubts, run.nodes, keys);
  if (good === undefined) return torn;
  const rules = writer === undefined ? guard.filter(({ path }) => path.length === 0) : guard;
  // Packs that only a suspect base has done without are listed by the good one.
  const source = good.record === run.base?.record ? run.nodes : run.target.sourceOf(good);
  const lost = await findSuspicions({ volumes: good.volumes, source }, { volumes, source: run.nodes }, rules, keys);
  return [...lost, ...torn];
}

/** By how much more is in use of each pack than in the base; undefined when counting it takes too long. */
async function liveBytesSince(
  run: CommitPartsOptions,
  volumes: readonly VolumeCheckpoint[],
): Promise<BytesByPack | undefined> {
  const { clock } = run.ports;
  const until = clock.monotonicMs() + countMsMax;
  try {
    return await liveBytesDifference({
      before: run.base?.volumes ?? [],
      after: volumes,
      source: run.nodes,
      keys: run.target.keys,
      mayGoOn: () => {
        run.signal?.throwIfAborted();
        return clock.monotonicMs() < until;
      },
    });
  } catch (error) {
    // Nodes that are being replaced need not be readable for a checkpoint to be made.
    if (!isHoldfastError(error, 'E_DAMAGED', 'E_HOSTILE', 'E_STORE_IO', 'E_STORE_UNREACHABLE')) throw error;
    return undefined;
  }
}

function inUse(run: CommitPartsOptions, pack: PackEntry, growth: BytesByPack): number {
  const before = run.base === undefined ? undefined : findPack(run.base.packs, pack);
  return Math.max(0, (before?.liveBytes ?? 0) + growth.of(pack));
}

async function compactIfDue(
  run: CommitPartsOptions,
  volumes: readonly VolumeCheckpoint[],
  growth: BytesByPack | undefined,
): Promise<Compacted | undefined> {
  const limits = run.settings.compaction;
  const base = run.base;
  if (limits === undefined || growth === undefined || base === undefined) return undefined;
  // Packs of PARTIALs stay until a CHECKPOINT takes their place as the base.
  if (base.record.header.kind !== 'CHECKPOINT') return undefined;
  return await compact({
    packs: base.packs.map((pack) => ({ ...pack, liveBytes: inUse(run, pack, growth) })),
    volumes,
    limits,
    source: run.nodes,
    sink: run.nodes,
    target: run.packs.own,
    isolated: run.settings.isolated || holdsIsolated(run.base),
    keys: run.target.keys,
    clock: run.ports.clock,
    drain: () => run.packs.drain(),
    signal: run.signal,
  });
}
