/**
 * Clusters of PostgreSQL that a fuzzy checkpoint shows in pieces: some of their files as they were earlier than others. PostgreSQL starts on
 * such a copy and may say nothing, so it must not become what a pod begins with by itself. A copy of one moment it recovers from.
 */
import type { DomainKeys } from '../format/keys.ts';
import type { VolumeCheckpoint } from '../model/checkpoint.ts';
import { isHoldfastError } from '../model/errors.ts';
import { keyFromDisplay } from '../model/rel-path.ts';
import type { NodeSource } from '../tree/node-access.ts';
import { subtreeSums } from '../tree/subtree-sums.ts';
import type { Suspicion } from './poison-guard.ts';

/** What a cluster keeps at its top. */
const partOfCluster = /^(?:(.*)\/)?(?:base|global|pg_[a-z_]+)\/[^/]/;
/** Every cluster has this file, and nothing else a file of this name there. */
const controlFile = 'global/pg_control';

/** Those of which files are in doubt; only what the names that were kept tell. Errors of the store, when a node has to be read. */
export async function findTornClusters(
  volumes: readonly VolumeCheckpoint[],
  source: NodeSource,
  keys: DomainKeys,
): Promise<readonly Suspicion[]> {
  const found: Suspicion[] = [];
  for (const { name: volume, root, fuzzyNames } of volumes) {
    const candidates = new Set<string>();
    for (const name of fuzzyNames) {
      const match = partOfCluster.exec(name);
      if (match !== null) candidates.add(match[1] ?? '');
    }
    for (const directory of candidates) {
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
