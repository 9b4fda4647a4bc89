/** The bytes of one file of a checkpoint, proven, in order, without a target: for reading a single file, and for looking. */
import { decodeEntry } from '../format/entry-codec.ts';
import { contentId } from '../format/keys.ts';
import { equalBytes } from '../model/bytes.ts';
import type { VolumeCheckpoint } from '../model/checkpoint.ts';
import { type Entry, zeroBlockBytes } from '../model/entry.ts';
import { HoldfastError } from '../model/errors.ts';
import { displayPath } from '../model/rel-path.ts';
import { readList } from '../tree/list.ts';
import type { SegmentSource } from '../tree/segment-source.ts';
import { getEntry } from '../tree/tree-reader.ts';
import type { RestoreSource } from './restore-source.ts';

/**
 * What stands at a key of a volume; a further name of a file gives the file. E_NOT_FOUND when there is nothing; E_DAMAGED,
 * E_STORE_*.
 */
export async function findEntry(
  source: RestoreSource,
  volume: VolumeCheckpoint,
  segments: SegmentSource,
  key: Uint8Array,
): Promise<Exclude<Entry, { type: 'hardlink' }>> {
  const { keys } = source.access;
  for (let at = key, names = 0; names < 2; names++) {
    const item = await getEntry(volume.root, at, segments, keys);
    if (item === undefined) break;
    const entry = decodeEntry(item.value, item.placement);
    if (entry.type !== 'hardlink') return entry;
    at = entry.target;
  }
  throw new HoldfastError('E_NOT_FOUND', `there is no ${displayPath(key)} in volume ${volume.name}`);
}

/**
 * The content of a regular file in pieces of at most 1 MiB; nobody writes into them, and each holds until the next is asked for.
 * E_NOT_FOUND, E_USAGE when it is no regular file; E_DAMAGED before the piece that would be wrong.
 */
export async function* readFile(
  source: RestoreSource,
  volume: VolumeCheckpoint,
  segments: SegmentSource,
  key: Uint8Array,
): AsyncGenerator<Uint8Array> {
  const { keys } = source.access;
  const entry = await findEntry(source, volume, segments, key);
  if (entry.type !== 'file') {
    throw new HoldfastError('E_USAGE', `${displayPath(key)} is a ${entry.type}, not a regular file`, {
      remedy: 'Name a regular file; look at what there is with: holdfast show.',
    });
  }
  const zeros = new Uint8Array(zeroBlockBytes);
  for await (const items of readList(entry.content, segments, keys, entry.size)) {
    for (const item of items) {
      if (item.kind === 'zero') {
        for (let left = item.bytes; left > 0; left -= zeros.length) yield zeros;
        continue;
      }
      const loading = segments.load(item.place, item.bytes);
      const bytes = loading instanceof Promise ? await loading : loading;
      if (!equalBytes(contentId(keys, bytes, 0, bytes.length), item.id)) {
        throw new HoldfastError('E_DAMAGED', `${displayPath(key)}: a chunk does not match its id`);
      }
      yield bytes;
    }
  }
}
