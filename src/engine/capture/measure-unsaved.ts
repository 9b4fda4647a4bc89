/** How much the next capture would find, from stats alone: nothing is read, stored or remembered. */
import type { CommitBase } from '../lineage/lineage-writer.ts';
import type { LineageName, VolumeName } from '../model/ids.ts';
import { FileTreeError } from '../ports/file-tree.ts';
import { openBoundScanCache } from '../tree/open-scan-cache.ts';
import type { ScanCacheReader } from '../tree/scan-cache.ts';
import { boundScanCache, scanCacheIdentity } from '../tree/scan-cache-binding.ts';
import type { CapturePorts, VolumeSource } from './capture-request.ts';
import { releaseOperations, scanVolume } from './scan.ts';

export interface Unsaved {
  /** Sum of the sizes of files that differ: an upper bound, since of a large file only what changed would be stored. */
  readonly bytes: number;
  /** Names that differ: those that are gone and directories whose time has moved are among them. */
  readonly files: number;
  /** What each volume holds now: sum of the sizes of its files. */
  readonly volumeBytes: ReadonlyMap<VolumeName, number>;
}

export interface UnsavedRequest {
  readonly ports: Pick<CapturePorts, 'files' | 'cache' | 'clock'>;
  readonly lineage: LineageName;
  readonly volumes: readonly VolumeSource[];
  /** The newest checkpoint; undefined before the first, when everything is unsaved. */
  readonly base: CommitBase | undefined;
  readonly signal?: AbortSignal;
}

/**
 * Walks the volumes and compares them with the scan cache of the base. Undefined where there is a base whose cache is gone, or a
 * volume that cannot be opened: it cannot be told then without reading everything. E_ABORTED by the signal's reason.
 */
export async function measureUnsaved({
  ports: { files, cache, clock },
  lineage,
  volumes,
  base,
  signal,
}: UnsavedRequest): Promise<Unsaved | undefined> {
  let [bytes, names] = [0, 0];
  const volumeBytes = new Map<VolumeName, number>();
  for (const { name, path, selection } of volumes) {
    let previous: ScanCacheReader | undefined;
    if (base?.volumes.some((volume) => volume.name === name) === true) {
      const bound = cache === undefined ? undefined : boundScanCache(cache, name, base.record.header.id);
      const identity = scanCacheIdentity({ lineage, volume: name, path, selection: selection.signature });
      previous = cache === undefined || bound === undefined ? undefined : openBoundScanCache(cache, bound, identity);
      if (previous === undefined) return undefined;
    }
    let root: ReturnType<typeof files.openRoot>;
    try {
      root = files.openRoot(path);
    } catch (error) {
      previous?.close();
      if (error instanceof FileTreeError) return undefined;
      throw error;
    }
    const totals = { entries: 0, directories: 0, files: 0, bytes: 0 };
    const scan = scanVolume({
      files,
      root,
      selection,
      previous,
      next: undefined,
      // What only may have changed is not counted.
      freshFromMs: Number.POSITIVE_INFINITY,
      distrustContent: false,
      keepVolatile: new Set(),
      onVolatile: () => undefined,
      onSkip: () => undefined,
      totals,
    });
    try {
      for (const batch of scan) {
        for (const operation of batch.operations) {
          if (operation.kind === 'delete') names++;
          if ((operation.kind !== 'read' && operation.kind !== 'hardlink') || !operation.changed) continue;
          names++;
          if (operation.kind === 'read' && !operation.volatile) bytes += operation.size;
        }
        releaseOperations(batch.operations);
        signal?.throwIfAborted();
        await clock.wait(0);
      }
      volumeBytes.set(name, totals.bytes);
    } catch (error) {
      if (error instanceof FileTreeError) return undefined;
      throw error;
    } finally {
      scan.return(undefined);
      previous?.close();
      files.close(root);
    }
  }
  return { bytes, files: names, volumeBytes };
}
