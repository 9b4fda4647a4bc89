/** The scan caches of a run: what the last pass over each volume saw, and which record it was bound to. */
import type { CommitBase } from '../lineage/lineage-writer.ts';
import { isHoldfastError } from '../model/errors.ts';
import type { RecordId, VolumeName } from '../model/ids.ts';
import type { LocalCache } from '../ports/local-cache.ts';
import { merge, openBoundScanCache, openMerged } from '../tree/open-scan-cache.ts';
import { ScanCacheReader } from '../tree/scan-cache.ts';
import {
  bindScanCache,
  boundScanCache,
  type BoundScanCache,
  scanCacheFile,
  scanCacheIdentity,
} from '../tree/scan-cache-binding.ts';
import { namesOfInodes } from '../tree/scan-delta.ts';
import type { CapturePorts, CaptureSettings, CaptureTarget, VolumeSource } from './capture-request.ts';
import { TooManyChanges } from './too-many-changes.ts';
import type { VolumeMemory } from './volume-memory.ts';
import type { VolumeState } from './volume-state.ts';

/** More than this, found by looking at names, is merged into the scan cache: it is written again with each checkpoint. */
const deltaNamesMax = 8192;

export interface RunCachesOptions {
  readonly ports: Pick<CapturePorts, 'cache' | 'random'>;
  readonly settings: Pick<CaptureSettings, 'trustCache'>;
  readonly target: Pick<CaptureTarget, 'lineage'>;
  readonly base: CommitBase | undefined;
}

export class RunCaches {
  readonly #run: RunCachesOptions;

  constructor(options: RunCachesOptions) {
    this.#run = options;
  }

  identityOf({ name, path, selection }: VolumeSource): string {
    return scanCacheIdentity({ lineage: this.#run.target.lineage, volume: name, path, selection: selection.signature });
  }

  newFile({ name }: VolumeSource): string {
    return scanCacheFile(name, this.#run.ports.random.bytes(8));
  }

  /** What the last pass, of this capture or the one before, saw of the volume. */
  openPrevious({ source, cacheFile, memory }: VolumeState): ScanCacheReader | undefined {
    const { cache } = this.#run.ports;
    if (cache === undefined) return undefined;
    const identity = this.identityOf(source);
    if (memory !== undefined) {
      const { cacheFile: file, delta, dirty } = memory;
      return file === undefined ? undefined : openMerged(cache, { file, delta, dirty, identity }, this.newFile(source));
    }
    if (cacheFile !== undefined) return ScanCacheReader.open(cache, cacheFile, identity);
    const bound = this.#bound(source);
    return bound === undefined ? undefined : openBoundScanCache(cache, bound, identity);
  }

  namesOfInodes({ source }: VolumeState, memory: VolumeMemory, inodes: ReadonlySet<bigint>): readonly string[] {
    const { cache } = this.#run.ports;
    const reader =
      cache === undefined || memory.cacheFile === undefined
        ? undefined
        : ScanCacheReader.open(cache, memory.cacheFile, this.identityOf(source));
    if (reader === undefined) throw new TooManyChanges();
    try {
      return namesOfInodes(reader, memory.delta, inodes);
    } finally {
      reader.close();
    }
  }

  /** The checkpoint exists; without its cache the next one reads everything, which is slower and never wrong. */
  tryToBind(record: RecordId, volumes: readonly VolumeState[], carried: readonly VolumeName[]): void {
    try {
      this.#bind(record, volumes, carried);
    } catch (error) {
      if (!isHoldfastError(error, 'E_STATE_DIR')) throw error;
    }
  }

  drop(volumes: readonly VolumeState[]): void {
    for (const volume of volumes) {
      if (volume.cacheFile !== undefined) this.#run.ports.cache?.remove(volume.cacheFile);
    }
  }

  /** The cache that was bound to the base's record, if that is still the base. */
  #bound({ name }: VolumeSource): BoundScanCache | undefined {
    const { cache } = this.#run.ports;
    if (cache === undefined || this.#run.base === undefined || !this.#run.settings.trustCache) return undefined;
    return boundScanCache(cache, name, this.#run.base.record.header.id);
  }

  #bind(record: RecordId, volumes: readonly VolumeState[], carried: readonly VolumeName[]): void {
    const { cache } = this.#run.ports;
    if (cache === undefined) return;
    const base = this.#run.base?.record.header.id;
    for (const name of base === undefined ? [] : carried) {
      const bound = boundScanCache(cache, name, base as RecordId);
      if (bound !== undefined) bindScanCache(cache, name, record, bound.file, bound.delta);
    }
    for (const volume of volumes) {
      const { source, memory } = volume;
      if (memory === undefined) {
        if (volume.cacheFile !== undefined) bindScanCache(cache, source.name, record, volume.cacheFile);
        continue;
      }
      this.#bindMemory(cache, source, record, memory);
      source.watched?.remember(volume.tree.id, this.identityOf(source), memory);
    }
  }

  /** What was found by looking at names stands beside the cache until it is much, and then in it. */
  #bindMemory(cache: LocalCache, source: VolumeSource, record: RecordId, memory: VolumeMemory): void {
    const identity = this.identityOf(source);
    const { cacheFile: file, delta: found, dirty } = memory;
    if (found.size > deltaNamesMax && file !== undefined) {
      const merged = this.newFile(source);
      memory.cacheFile = merge(cache, { file, delta: found, dirty, identity }, merged) ? merged : undefined;
      found.entries.clear();
    }
    if (memory.cacheFile === undefined) return;
    let delta: string | undefined;
    if (found.size > 0) {
      delta = this.newFile(source);
      cache.create(delta).commit(found.encode(identity, dirty));
    }
    bindScanCache(cache, source.name, record, memory.cacheFile, delta);
  }
}
