/**
 * Which scan cache describes which checkpoint. Capture leaves one behind for the next capture, and a restore for the first
 * one after it; both must mean the same by a name.
 */
import { createHash } from 'node:crypto';
import { toHex, utf8Bytes } from '../model/bytes.ts';
import type { LineageName, RecordId, VolumeName } from '../model/ids.ts';
import type { LocalCache } from '../ports/local-cache.ts';

export interface ScannedVolume {
  readonly lineage: LineageName;
  readonly volume: VolumeName;
  /** Path of its directory as it was given. */
  readonly path: string;
  /** Of the selection that the scan followed; empty for everything. */
  readonly selection: string;
}

/** What a cache must say of itself to be used: a digest, since path and selection may be of any length. */
export function scanCacheIdentity({ lineage, volume, path, selection }: ScannedVolume): string {
  return createHash('sha256')
    .update(JSON.stringify([lineage, volume, path, selection]))
    .digest('hex');
}

/** Files that together describe a volume. */
export interface BoundScanCache {
  readonly file: string;
  /** What captures that looked only at some names found since; undefined when the cache has it all. */
  readonly delta: string | undefined;
}

/** A name for a new cache of the volume; `unique` makes it differ from the one before. */
export function scanCacheFile(volume: VolumeName, unique: Uint8Array): string {
  return `${filePrefix(volume)}${toHex(unique)}`;
}

/** What describes the volume as the record has it. */
export function boundScanCache(cache: LocalCache, volume: VolumeName, record: RecordId): BoundScanCache | undefined {
  const binding = cache.open(bindingFile(volume));
  if (binding === undefined) return undefined;
  try {
    const [bound, file, delta] = JSON.parse(new TextDecoder().decode(binding.tail)) as [string, string, string?];
    return bound === toHex(record) ? { file, delta } : undefined;
  } finally {
    binding.close();
  }
}

/** From now on `file`, with `delta` over it, describes the volume as the record has it. Removes what described it before. */
export function bindScanCache(
  cache: LocalCache,
  volume: VolumeName,
  record: RecordId,
  file: string,
  delta?: string,
): void {
  const bound = delta === undefined ? [toHex(record), file] : [toHex(record), file, delta];
  cache.create(bindingFile(volume)).commit(utf8Bytes(JSON.stringify(bound)));
  for (const name of cache.names()) {
    if (name.startsWith(filePrefix(volume)) && name !== file && name !== delta) cache.remove(name);
  }
}

function filePrefix(volume: VolumeName): string {
  return `scan-${toHex(utf8Bytes(volume))}-`;
}

function bindingFile(volume: VolumeName): string {
  return `bound-${toHex(utf8Bytes(volume))}`;
}
