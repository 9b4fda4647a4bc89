/** The whole content of one stored volume as lines, read through the engine's readers and nothing of restore. */
import { contentId } from '../../src/engine/format/keys.ts';
import { decodeEntry } from '../../src/engine/format/entry-codec.ts';
import type { DomainAccess } from '../../src/engine/lineage/repository.ts';
import { equalBytes } from '../../src/engine/model/bytes.ts';
import type { TreeRoot } from '../../src/engine/model/checkpoint.ts';
import type { Entry, EntryMeta } from '../../src/engine/model/entry.ts';
import { keyComponents } from '../../src/engine/model/rel-path.ts';
import { fileType } from '../../src/engine/model/stat-record.ts';
import { readList } from '../../src/engine/tree/list.ts';
import type { SegmentSource } from '../../src/engine/tree/segment-source.ts';
import { scanTree } from '../../src/engine/tree/tree-reader.ts';
import { digestBlockBytes, printable, TreeDigest, treeLine } from '../support/tree-digest.ts';

/** In the words of test/support/tree-snapshot.ts, sorted as it sorts. Every chunk is proven by its id. */
export async function storedLines(root: TreeRoot, source: SegmentSource, access: DomainAccess): Promise<string[]> {
  const lines: string[] = [];
  for await (const items of scanTree(root, source, access.keys)) {
    for (const { key, value, placement } of items) {
      const path = keyComponents(key).map(printable).join('/');
      const entry = decodeEntry(value, placement);
      if (entry.type === 'hardlink') lines.push(`${path} = ${keyComponents(entry.target).map(printable).join('/')}`);
      else lines.push(await lineOf(path, entry, source, access));
    }
  }
  return lines;
}

const typeBits = {
  file: fileType.regular,
  directory: fileType.directory,
  symlink: fileType.symlink,
  fifo: fileType.fifo,
} as const;

async function lineOf(
  path: string,
  entry: Exclude<Entry, { type: 'hardlink' }>,
  source: SegmentSource,
  access: DomainAccess,
): Promise<string> {
  let content = '';
  if (entry.type === 'symlink') content = `-> ${printable(entry.target)}`;
  if (entry.type === 'file') content = `${entry.size} ${await digestOf(entry, source, access)}`;
  return treeLine({
    path,
    mode: entry.mode | typeBits[entry.type],
    owner: `${entry.uid}:${entry.gid}`,
    mtimeNs: BigInt(entry.mtimeSec) * 1_000_000_000n + BigInt(entry.mtimeNsec),
    xattrs: await xattrsOf(entry, source),
    content,
  });
}

async function xattrsOf(entry: EntryMeta, source: SegmentSource): Promise<(readonly [Uint8Array, Uint8Array])[]> {
  const found: (readonly [Uint8Array, Uint8Array])[] = [];
  for (const { name, value } of entry.xattrs) {
    found.push([name, value.kind === 'inline' ? value.bytes : (await source.load(value.place, value.bytes)).slice()]);
  }
  return found;
}

async function digestOf(
  entry: Extract<Entry, { type: 'file' }>,
  source: SegmentSource,
  access: DomainAccess,
): Promise<string> {
  const digest = new TreeDigest();
  const block = new Uint8Array(digestBlockBytes);
  let position = 0;
  const flush = (): void => digest.add(Math.floor((position - 1) / digestBlockBytes), block);
  for await (const items of readList(entry.content, source, access.keys, entry.size)) {
    for (const item of items) {
      if (item.kind === 'zero') {
        // Whole blocks of zeros need no look; what is left of the one before is zero already.
        if (position % digestBlockBytes !== 0) throw new Error('a run of zeros begins inside a block');
        position += item.bytes;
        block.fill(0);
        continue;
      }
      const bytes = await source.load(item.place, item.bytes);
      if (!equalBytes(contentId(access.keys, bytes, 0, bytes.length), item.id))
        throw new Error('a chunk has another id');
      for (let at = 0; at < bytes.length; ) {
        const inBlock = position % digestBlockBytes;
        if (inBlock === 0) block.fill(0);
        const part = bytes.subarray(at, at + digestBlockBytes - inBlock);
        block.set(part, inBlock);
        at += part.length;
        position += part.length;
        if (position % digestBlockBytes === 0) flush();
      }
    }
  }
  if (position % digestBlockBytes !== 0) flush();
  if (position !== entry.size) throw new Error(`content of ${position} bytes in a file of ${entry.size}`);
  return digest.text(entry.size);
}
