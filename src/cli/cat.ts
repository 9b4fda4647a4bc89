/** `holdfast cat`: the content of one file of a checkpoint, proven chunk by chunk. */
import { contentId } from '../engine/format/keys.ts';
import { decodeEntry } from '../engine/format/entry-codec.ts';
import { equalBytes, utf8Bytes } from '../engine/model/bytes.ts';
import type { VolumeCheckpoint } from '../engine/model/checkpoint.ts';
import { type ContentItem, type Entry, zeroBlockBytes } from '../engine/model/entry.ts';
import { HoldfastError } from '../engine/model/errors.ts';
import { displayPath, keyFromDisplay } from '../engine/model/rel-path.ts';
import { readList } from '../engine/tree/list.ts';
import type { SegmentSource } from '../engine/tree/segment-source.ts';
import { getEntry } from '../engine/tree/tree-reader.ts';
import type { Host } from './host.ts';
import { type Parsed, usage } from './options.ts';
import { type OpenedLineage, openLineage, recordAt, sourceOf } from './session.ts';

export async function cat(host: Host, parsed: Parsed): Promise<number> {
  const [path, more] = parsed.positionals;
  if (path === undefined) throw usage('cat', 'no file was given');
  if (more !== undefined) throw usage('cat', `cat takes one file: ${more}`);
  await using opened = await openLineage(host, 'cat', parsed);
  const record = await recordAt(host, opened, parsed.text('at'));
  const volume = volumeOf(opened.log.body(record).volumes, parsed.text('volume'));
  using compressor = await host.compressor();
  const { store, access, lineage } = opened;
  const { packs } = await opened.log.packs(record, { signal: host.signal });
  const { origins } = record.header;
  const source = sourceOf(host, store, access, lineage, packs, compressor, { origins });
  const file = await findFile(opened, volume, path, source);
  for await (const items of readList(file.content, source, access.keys, file.size)) {
    for (const item of items) await writeItem(host, opened, source, item, path);
  }
  return 0;
}

function volumeOf(volumes: readonly VolumeCheckpoint[], name: string | undefined): VolumeCheckpoint {
  const names = volumes.map((volume) => volume.name).join(', ');
  if (name === undefined) {
    const [only] = volumes;
    if (only !== undefined && volumes.length === 1) return only;
    throw usage('cat', `the checkpoint has several volumes: choose one with --volume (${names})`);
  }
  const found = volumes.find((volume) => volume.name === name);
  if (found === undefined)
    throw new HoldfastError('E_NOT_FOUND', `the checkpoint has no volume ${name}, only ${names}`);
  return found;
}

async function findFile(
  { access }: OpenedLineage,
  volume: VolumeCheckpoint,
  path: string,
  source: SegmentSource,
): Promise<Extract<Entry, { type: 'file' }>> {
  const entryAt = async (key: Uint8Array): Promise<Entry | undefined> => {
    const item = await getEntry(volume.root, key, source, access.keys);
    return item === undefined ? undefined : decodeEntry(item.value, item.placement);
  };
  const asked = path.replace(/^\.?\/+/, '').replace(/\/+$/, '');
  // As it is shown in listings, where bytes that cannot be printed are \xNN, or else as it is.
  let entry =
    asked === ''
      ? undefined
      : ((await entryAt(keyFromDisplay(asked))) ??
        (asked.includes('\\') ? await entryAt(utf8Bytes(asked.replaceAll('/', '\0'))) : undefined));
  if (entry?.type === 'hardlink') entry = await entryAt(entry.target);
  if (entry === undefined) throw new HoldfastError('E_NOT_FOUND', `there is no ${path} in volume ${volume.name}`);
  if (entry.type === 'file') return entry;
  const what = entry.type === 'symlink' ? `a symlink to ${displayPath(entry.target)}` : `a ${entry.type}`;
  throw new HoldfastError('E_USAGE', `${path} is ${what}, not a file`, { remedy: 'Name a regular file.' });
}

const zeros: Uint8Array = new Uint8Array(zeroBlockBytes);

async function writeItem(
  host: Host,
  { access }: OpenedLineage,
  source: SegmentSource,
  item: ContentItem,
  path: string,
): Promise<void> {
  host.signal.throwIfAborted();
  if (item.kind === 'zero') {
    for (let left = item.bytes; left > 0; left -= zeros.length) {
      await host.stdout.write(zeros.subarray(0, Math.min(left, zeros.length)));
    }
    return;
  }
  const bytes = await source.load(item.place, item.bytes);
  if (!equalBytes(contentId(access.keys, bytes, 0, bytes.length), item.id)) {
    throw new HoldfastError('E_DAMAGED', `a part of ${path} is not what was stored`, { details: { path } });
  }
  // The segment's memory may be reused while the stream still holds it.
  await host.stdout.write(bytes.slice());
}
