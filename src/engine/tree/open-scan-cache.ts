/** Opens what describes a volume: a scan cache, with what was found since by looking at names merged into it. */
import type { LocalCache } from '../ports/local-cache.ts';
import { ScanCacheReader, ScanCacheWriter } from './scan-cache.ts';
import type { BoundScanCache } from './scan-cache-binding.ts';
import { mergeScanDelta, ScanDelta } from './scan-delta.ts';

export interface ScanCacheWithDelta {
  readonly file: string;
  readonly delta: ScanDelta;
  /** Key texts of the delta's names whose stat must not be trusted. */
  readonly dirty: ReadonlySet<string>;
  /** See `scanCacheIdentity`. */
  readonly identity: string;
}

/** Undefined when cache or delta are gone or belong to something else. */
export function openBoundScanCache(
  cache: LocalCache,
  bound: BoundScanCache,
  identity: string,
): ScanCacheReader | undefined {
  if (bound.delta === undefined) return ScanCacheReader.open(cache, bound.file, identity);
  const stored = cache.open(bound.delta);
  const decoded = stored === undefined ? undefined : ScanDelta.decode(stored.tail, identity);
  stored?.close();
  if (decoded === undefined) return undefined;
  return openMerged(cache, { file: bound.file, ...decoded, identity }, `${bound.delta}-merged`);
}

/** The same with a delta in memory; `file` is a name for what both give, which is gone when the reader is closed. */
export function openMerged(cache: LocalCache, both: ScanCacheWithDelta, file: string): ScanCacheReader | undefined {
  if (both.delta.size === 0) return ScanCacheReader.open(cache, both.file, both.identity);
  if (!merge(cache, both, file)) return undefined;
  const reader = ScanCacheReader.open(cache, file, both.identity);
  cache.remove(file);
  return reader;
}

/** Makes one scan cache of both. False when the old one is gone. */
export function merge(cache: LocalCache, { file, delta, dirty, identity }: ScanCacheWithDelta, into: string): boolean {
  const reader = ScanCacheReader.open(cache, file, identity);
  if (reader === undefined) return false;
  const writer = new ScanCacheWriter(cache, into, reader.source);
  try {
    mergeScanDelta(reader, delta, dirty, writer);
    writer.commit(identity);
  } catch (error) {
    writer.abort();
    throw error;
  } finally {
    reader.close();
  }
  return true;
}
