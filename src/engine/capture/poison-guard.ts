/**
 * Tells a loss from a change: a volume, or a part of it, that is empty or holds sharply less than the last good checkpoint
 * makes the next one suspect. A suspect checkpoint is complete and can be restored by name, but is nobody's default, until a person
 * releases it or what it lacks is back. Compared is with the last *good* one, so that a loss in small steps, or one that lasts,
 * never becomes normal by itself.
 */
import type { DomainKeys } from '../format/keys.ts';
import type { TreeRoot, TreeSums, VolumeCheckpoint } from '../model/checkpoint.ts';
import { isHoldfastError } from '../model/errors.ts';
import type { VolumeName } from '../model/ids.ts';
import { displayPath } from '../model/rel-path.ts';
import type { NodeSource } from '../tree/node-access.ts';
import { subtreeSums } from '../tree/subtree-sums.ts';

/** How much must be left of what the last good checkpoint holds there. */
export interface GuardRule {
  /** Undefined: of each volume. */
  readonly volume: VolumeName | undefined;
  /** A tree key; empty: the whole volume. */
  readonly path: Uint8Array;
  /** Of the files, and of their bytes; 0 to 100. With 0 only an empty one is suspect. */
  readonly percentMin: number;
}

/** empty: no file is left. fewer-files, fewer-bytes: less than the rule asks for. torn: a database in pieces, see torn-clusters.ts. */
export type SuspicionReason = 'empty' | 'fewer-files' | 'fewer-bytes' | 'torn';

export interface Suspicion {
  readonly volume: VolumeName;
  /** As display text; `.` for the volume. */
  readonly path: string;
  readonly reason: SuspicionReason;
  readonly before: Held;
  readonly now: Held;
}

interface Held {
  readonly files: number;
  readonly bytes: number;
}

/** Below these a share means little: three files of five may well have gone. */
const filesJudgedMin = 10;
const bytesJudgedMin: number = 64 * 1024;

/** A checkpoint and what reads its nodes. */
export interface GuardedSide {
  readonly volumes: readonly VolumeCheckpoint[];
  readonly source: NodeSource;
}

/**
 * What speaks against `now`; empty when nothing does. Volumes that only one of both has are not compared: which volumes there are
 * is a setting. A part that cannot be read any more is not compared either: the volume as a whole always is, by its root's sums.
 * Other errors of the store, when a part of a volume has to be read.
 */
export async function findSuspicions(
  before: GuardedSide,
  now: GuardedSide,
  rules: readonly GuardRule[],
  keys: DomainKeys,
): Promise<readonly Suspicion[]> {
  const found: Suspicion[] = [];
  for (const { name, root } of now.volumes) {
    const known = before.volumes.find((volume) => volume.name === name);
    if (known === undefined) continue;
    for (const { volume, path, percentMin } of rules) {
      if (volume !== undefined && volume !== name) continue;
      const had = await sumsOrNone(known.root, path, before.source, keys);
      const has = await sumsOrNone(root, path, now.source, keys);
      const reason = had === undefined || has === undefined ? undefined : judge(had, has, percentMin);
      if (had === undefined || has === undefined || reason === undefined) continue;
      const where = path.length === 0 ? '.' : displayPath(path);
      found.push({ volume: name, path: where, reason, before: heldOf(had), now: heldOf(has) });
    }
  }
  return found;
}

async function sumsOrNone(
  root: TreeRoot,
  path: Uint8Array,
  source: NodeSource,
  keys: DomainKeys,
): Promise<TreeSums | undefined> {
  try {
    return await subtreeSums(root, path, source, keys);
  } catch (error) {
    if (isHoldfastError(error, 'E_DAMAGED', 'E_HOSTILE')) return undefined;
    throw error;
  }
}

function heldOf({ files, bytes }: Held): Held {
  return { files, bytes };
}

function judge(had: Held, has: Held, percentMin: number): SuspicionReason | undefined {
  if (had.files > 0 && has.files === 0) return 'empty';
  if (had.files >= filesJudgedMin && has.files * 100 < had.files * percentMin) return 'fewer-files';
  if (had.bytes >= bytesJudgedMin && has.bytes * 100 < had.bytes * percentMin) return 'fewer-bytes';
  return undefined;
}
