/**
 * Clusters of PostgreSQL that a fuzzy checkpoint shows in pieces: some of their files as they were earlier than others. PostgreSQL starts on
 * such a copy and may say nothing, so it must not become what a pod begins with by itself. A copy of one moment it recovers from.
 */
import type { DomainKeys } from '../format/keys.ts';
import type { VolumeCheckpoint } from '../model/checkpoint.ts';
import { isHoldfastError } from '../model/errors.ts';
import { utf8Bytes } from '../model/bytes.ts';
import type { VolumeName } from '../model/ids.ts';
import { NameTally } from '../model/name-tally.ts';
import { displayPath, keyFromDisplay } from '../model/rel-path.ts';
import type { NodeSource } from '../tree/node-access.ts';
import { subtreeSums } from '../tree/subtree-sums.ts';
import type { Suspicion } from './poison-guard.ts';

/** What a cluster keeps at its top. */
const topParts: readonly Uint8Array[] = [utf8Bytes('base'), utf8Bytes('global')];
const topPrefix: Uint8Array = utf8Bytes('pg_');
/** Of directories in which a cluster may stand; more than these nobody has in one volume. */
const candidatesMax = 1000;
/** Every cluster has this file, and nothing else a file of this name there. */
const controlFile = 'global/pg_control';

/** Names in doubt, and the directories that may be a cluster of which some is among them, however many names there are. */
export class DoubtTally extends NameTally {
  /** As display text. */
  readonly clusters: Set<string> = new Set();

  override add(key: Uint8Array): void {
    super.add(key);
    this.#look(key);
  }

  override addMissing(other: NameTally, but: NameTally | undefined): void {
    super.addMissing(other, but);
    for (const name of other.names) this.#look(keyFromDisplay(name));
  }

  #look(key: Uint8Array): void {
    let start = 0;
    for (let i = key.indexOf(0); i >= 0; i = key.indexOf(0, start)) {
      if (isTopPart(key, start, i) && this.clusters.size < candidatesMax) {
        this.clusters.add(start === 0 ? '' : displayPath(key.subarray(0, start - 1)));
      }
      start = i + 1;
    }
  }
}

function isTopPart(key: Uint8Array, start: number, end: number): boolean {
  const has = (part: Uint8Array): boolean => part.every((byte, i) => key[start + i] === byte);
  const first = key[start];
  // Called for each name of a first checkpoint: most have another first letter.
  if (first === topPrefix[0]) return has(topPrefix);
  return topParts.some((part) => part[0] === first && part.length === end - start && has(part));
}

/** Those of which files are in doubt. Errors of the store, when a node has to be read. */
export async function findTornClusters(
  volumes: readonly VolumeCheckpoint[],
  doubts: ReadonlyMap<VolumeName, DoubtTally>,
  source: NodeSource,
  keys: DomainKeys,
): Promise<readonly Suspicion[]> {
  const found: Suspicion[] = [];
  for (const { name: volume, root, fuzzyNames } of volumes) {
    // Of a checkpoint that was not made now there are the names that its record has kept.
    let doubt = doubts.get(volume);
    if (doubt === undefined) {
      doubt = new DoubtTally();
      for (const name of fuzzyNames) doubt.add(keyFromDisplay(name));
    }
    for (const directory of doubt.clusters) {
      const control = keyFromDisplay(directory === '' ? controlFile : `${directory}/${controlFile}`);
      let held = { files: 0, bytes: 0 };
      try {
        if ((await subtreeSums(root, control, source, keys)).files !== 1) continue;
        const { files, bytes } = await subtreeSums(root, keyFromDisplay(directory), source, keys);
        held = { files, bytes };
      } catch (error) {
        // What cannot be looked up is judged by its name alone.
        if (!isHoldfastError(error, 'E_DAMAGED', 'E_HOSTILE')) throw error;
      }
      found.push({ volume, path: directory === '' ? '.' : directory, reason: 'torn', before: held, now: held });
    }
  }
  return found;
}
