/** One volume during a capture: its tree so far, what the last pass met, and how both are told. */
import { equalBytes } from '../model/bytes.ts';
import type { Consistency, SkipReason, TreeRoot, VolumeCheckpoint } from '../model/checkpoint.ts';
import type { EntryMeta, Xattr } from '../model/entry.ts';
import type { Descriptor } from '../ports/file-tree.ts';
import type { DatabaseOutcome, ScanKind, VolumeOutcome } from './capture-outcome.ts';
import type { VolumeSource } from './capture-request.ts';
import type { DoubtTally } from './torn-clusters.ts';
import type { VolumeMemory } from './volume-memory.ts';
import type { VolumePassResult } from './volume-pass.ts';
import type { WatchState } from './watch-state.ts';

export interface VolumeState {
  readonly source: VolumeSource;
  readonly root: Descriptor;
  tree: TreeRoot;
  rootMeta: EntryMeta;
  last: VolumePassResult | undefined;
  /** Wal-indexes that passes of this capture have stored, as display text. */
  readonly volatileStored: Set<string>;
  newBytes: number;
  scan: ScanKind;
  /** File name of the scan cache, made by this run, that describes `tree` or has `memory` over it. */
  cacheFile: string | undefined;
  /** Of a watched volume: what is remembered of it as `tree` has it. */
  memory: VolumeMemory | undefined;
  watch: WatchState | undefined;
  complete: boolean;
  /** Its own directory differed from the pass before. */
  rootMoved: boolean;
}

/** Skips that mean data is missing; a socket or an excluded name is not data. */
const incompleteReasons: ReadonlySet<SkipReason> = new Set<SkipReason>(['unreadable']);

/** Of a volume that is not in the base: no directory has this mode. */
export const noMeta: EntryMeta = { mode: -1, uid: 0, gid: 0, mtimeSec: 0, mtimeNsec: 0, xattrs: [] };

/** The volume as a record tells it, after pass number `pass`. */
export function checkpointOf(
  volume: VolumeState,
  root: TreeRoot,
  pass: number,
  consistency: Consistency,
): VolumeCheckpoint {
  const last = volume.last;
  const skipped = [...(last?.skipped ?? [])].map(([reason, tally]) => ({
    reason,
    count: tally.count,
    names: tally.names.slice(0, 20),
  }));
  const fuzzy = last === undefined ? undefined : namesInDoubt(last, pass, consistency);
  return {
    name: volume.source.name,
    root,
    rootMeta: volume.rootMeta,
    fuzzyCount: fuzzy?.count ?? 0,
    fuzzyNames: (fuzzy?.names ?? []).slice(0, 20),
    volatileCount: last?.volatile.count ?? 0,
    volatileNames: (last?.volatile.names ?? []).slice(0, 20),
    skipped,
    incomplete: skipped.some(({ reason }) => incompleteReasons.has(reason)),
  };
}

/** Names that the checkpoint may show otherwise than they were at its moment. */
export function namesInDoubt(last: VolumePassResult, pass: number, consistency: Consistency): DoubtTally | undefined {
  if (consistency !== 'fuzzy') return undefined;
  // In a first pass moved is what differs from the checkpoint before.
  return pass === 1 ? last.unproven : last.unsettled;
}

/** The volume as the caller of a capture is told. */
export function outcomeOf(
  volume: VolumeState,
  checkpoint: VolumeCheckpoint,
  databases: readonly DatabaseOutcome[],
): VolumeOutcome {
  const { sums } = checkpoint.root;
  return {
    name: checkpoint.name,
    root: checkpoint.root.id,
    files: sums.files,
    entries: sums.entries,
    bytes: sums.bytes,
    newBytes: volume.newBytes,
    skipped: checkpoint.skipped,
    fuzzyCount: checkpoint.fuzzyCount,
    fuzzyNames: checkpoint.fuzzyNames,
    volatileCount: checkpoint.volatileCount,
    volatileNames: checkpoint.volatileNames,
    databases,
    incomplete: checkpoint.incomplete,
    scan: volume.scan,
    ...(volume.watch?.missed === undefined ? {} : { missed: volume.watch.missed.plain() }),
  };
}

/** True when both show the same directory: mode, owner, time and xattrs. */
export function sameMeta(a: EntryMeta, b: EntryMeta): boolean {
  return (
    a.mode === b.mode &&
    a.uid === b.uid &&
    a.gid === b.gid &&
    a.mtimeSec === b.mtimeSec &&
    a.mtimeNsec === b.mtimeNsec &&
    a.xattrs.length === b.xattrs.length &&
    a.xattrs.every((xattr, i) => sameXattr(xattr, b.xattrs[i] as Xattr))
  );
}

function sameXattr(a: Xattr, b: Xattr): boolean {
  if (!equalBytes(a.name, b.name)) return false;
  if (a.value.kind === 'inline') return b.value.kind === 'inline' && equalBytes(a.value.bytes, b.value.bytes);
  return b.value.kind === 'chunk' && equalBytes(a.value.id, b.value.id);
}
