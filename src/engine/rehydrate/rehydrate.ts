/**
 * The way back: resolve → plan → fetch → verify → write.
 *
 * The checkpoint was resolved by the caller (restore-source.ts). Each volume is a run of its own (volume-run.ts): its tree is walked in key order and its files are planned
 * into batches by pack and segment (volume-restore.ts, file-planner.ts); their ciphertext is fetched in few large ranges
 * (batch-pipeline.ts); lanes prove every chunk and write whole files (rehydrate-lane.ts); an audit compares what stands there
 * with the tree (audit.ts). docs/decisions/0041-restore-order.md.
 *
 * Invariants: the marker says `started`, durably, before the first byte and `done` after everything is durable, never when something
 * was lost; a file has its name only when all of it is there; nothing outside of the target is touched; the store is only read.
 */
import { setRoot } from '../format/keys.ts';
import type { TreeRoot } from '../model/checkpoint.ts';
import { HoldfastError, isHoldfastError } from '../model/errors.ts';
import type { VolumeName } from '../model/ids.ts';
import type { RehydrateOutcome, RestoredVolume } from './rehydrate-outcome.ts';
import type { RehydrateOptions, RehydratePorts, RehydrateSettings } from './rehydrate-request.ts';
import { RestoreLanes } from './restore-lanes.ts';
import { getVolume, type RestoreSource, segmentsOf } from './restore-source.ts';
import { type PathGlobs, pathGlobs } from './selection.ts';
import { VolumeRun } from './volume-run.ts';
import { walkTree } from './walk-tree.ts';

/** The walk reads every node once, in the order of the packs: what was read last is what helps. */
const metadataCacheBytes: number = 4 * 1024 * 1024;
/**
 * Restores the volumes named by the targets. One that was restored before and still stands there as it was left, by names, types,
 * sizes and times, is complete already and not touched: so a restore of several volumes, or one whose end was not seen, can
 * be repeated.
 *
 * Throws HoldfastError: E_TARGET_NOT_DIRECTORY, E_TARGET_NOT_EMPTY, E_TARGET_IO, E_TARGET_FULL; E_DAMAGED, naming objects and the files they cost, after
 * everything else was restored; E_HOSTILE; E_NOT_FOUND, E_USAGE, E_LIMIT, E_STORE_*, E_STATE_DIR, E_ABORTED. After an error the
 * same call resumes.
 */
export async function rehydrate(
  ports: RehydratePorts,
  source: RestoreSource,
  settings: RehydrateSettings,
  options: RehydrateOptions = {},
): Promise<RehydrateOutcome> {
  const { signal } = options;
  const started = ports.clock.monotonicMs();
  const volumes = settings.targets.map((target) => ({ target, volume: getVolume(source, target.volume) }));
  const only = pathGlobs(settings.only);
  const first = pathGlobs(settings.first);
  const { access } = source;
  const lanes = new RestoreLanes({
    files: ports.files,
    compressor: ports.compressor,
    settings: {
      repository: access.repository,
      domain: access.domain,
      keys: access.keys,
      dataKeys: access.dataKeys,
    },
    starter: ports.lanes,
    lanes: settings.laneCount,
    fileCount: volumes.reduce((sum, { volume }) => sum + volume.root.sums.files, 0),
    bytes: volumes.reduce((sum, { volume }) => sum + volume.root.sums.bytes, 0),
  });
  const restored: RestoredVolume[] = [];
  let unmatched: RehydrateOutcome['unmatched'];
  try {
    for (const { target, volume } of volumes) {
      const segments = segmentsOf(source, ports, { cacheBytes: metadataCacheBytes, signal });
      const run = new VolumeRun(ports, source, settings, options, {
        target,
        volume,
        only,
        first,
        lanes,
        segments,
        started,
      });
      restored.push(await run.run());
    }
    const roots = volumes.map(({ volume }) => volume.root);
    unmatched = {
      only: await unmatchedIn(ports, source, roots, only, signal),
      first: await unmatchedIn(ports, source, roots, first, signal),
    };
  } catch (error) {
    if (signal?.aborted === true && !isHoldfastError(error)) {
      throw new HoldfastError('E_ABORTED', 'the restore was interrupted', { cause: error });
    }
    throw error;
  } finally {
    await lanes.close();
  }
  const whole = restored.length === source.body.volumes.length;
  const { record, body } = source;
  return {
    slot: record.header.slot,
    id: record.header.id,
    rootExpected: body.setRoot,
    rootGot: whole ? rootOfSet(source, restored) : undefined,
    volumes: restored,
    files: sum(restored, ({ files }) => files),
    entries: sum(restored, ({ entries }) => entries),
    bytes: sum(restored, ({ bytes }) => bytes),
    newFiles: sum(restored, ({ newFiles }) => newFiles),
    newBytes: sum(restored, ({ newBytes }) => newBytes),
    seconds: (ports.clock.monotonicMs() - started) / 1000,
    incomplete: restored.some(({ damage }) => damage !== undefined),
    unmatched,
  };
}

/** Those of the globs that match nothing: looked for by themselves, since below a match of another they were not asked about. */
async function unmatchedIn(
  ports: RehydratePorts,
  source: RestoreSource,
  roots: readonly TreeRoot[],
  globs: PathGlobs,
  signal: AbortSignal | undefined,
): Promise<readonly string[]> {
  const left = globs.unmatched();
  if (left.length === 0) return left;
  const again = pathGlobs(left);
  const ranges = again.ranges ?? [{ range: {} }];
  for (const root of roots) {
    const segments = segmentsOf(source, ports, { cacheBytes: metadataCacheBytes, signal });
    for (const { range } of ranges) {
      for await (const { leaf, ...step } of walkTree(root, segments, source.access.keys, range)) {
        signal?.throwIfAborted();
        if (leaf === undefined || !('from' in step)) continue;
        for (let i = step.from; i < step.to; i++) again.matches(leaf.key(i));
        if (again.unmatched().length === 0) return [];
      }
    }
  }
  return again.unmatched();
}

function rootOfSet({ access }: RestoreSource, volumes: readonly RestoredVolume[]): Uint8Array | undefined {
  const roots: { name: VolumeName; id: TreeRoot['id'] }[] = [];
  for (const { name, rootGot } of volumes) {
    if (rootGot === undefined) return undefined;
    roots.push({ name, id: rootGot as TreeRoot['id'] });
  }
  return setRoot(access.keys, roots);
}

function sum<Item>(items: readonly Item[], of: (item: Item) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}
