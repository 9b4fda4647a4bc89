/**
 * What a checkpoint says, in the words in which a memory disk describes itself, read by the shortest way: every entry, every byte.
 * No code of capture or restore takes part.
 */
import { decodeEntry } from '../../src/engine/format/entry-codec.ts';
import { contentId, type DomainKeys } from '../../src/engine/format/keys.ts';
import { equalBytes, toHex } from '../../src/engine/model/bytes.ts';
import type { TreeRoot } from '../../src/engine/model/checkpoint.ts';
import type { ContentItem, Entry, EntryMeta, Place, XattrValue } from '../../src/engine/model/entry.ts';
import { keyComponents } from '../../src/engine/model/rel-path.ts';
import { fileType } from '../../src/engine/model/stat-record.ts';
import { readList } from '../../src/engine/tree/list.ts';
import { emptyTree } from '../../src/engine/tree/node-access.ts';
import type { SegmentSource } from '../../src/engine/tree/segment-source.ts';
import { TreeEditor } from '../../src/engine/tree/tree-editor.ts';
import { scanTree } from '../../src/engine/tree/tree-reader.ts';
import { digestBlockBytes, printable, TreeDigest, treeLine } from '../support/tree-digest.ts';
import type { MemoryFileSystem } from '../support/memory-file-tree.ts';

/** Path → what is there. */
export type Description = ReadonlyMap<string, string>;

/** What makes a simulation fail. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

const unstored: ReadonlySet<string> = new Set(['14', '2', '6']);

/** What a checkpoint of the disk has to hold: everything but sockets and devices. */
export function describeDisk(disk: MemoryFileSystem): Description {
  const described = new Map<string, string>();
  for (const line of disk.describe()) {
    const space = line.indexOf(' ');
    const rest = line.slice(space + 1);
    // The type stands above the twelve permission bits.
    const mode = /^[0-7]+(?= )/.exec(rest)?.[0];
    if (mode !== undefined && unstored.has(mode.slice(0, -4))) continue;
    described.set(line.slice(0, space), rest);
  }
  const { mode, uid, gid, mtimeSec, mtimeNsec } = disk.stat('');
  described.set('.', rootLine(mode & 0o7777, uid, gid, mtimeSec, mtimeNsec));
  return described;
}

function rootLine(mode: number, uid: number, gid: number, mtimeSec: number, mtimeNsec: number): string {
  return `${mode.toString(8)} ${uid}:${gid} @${mtimeSec}.${mtimeNsec}`;
}

export interface PlacedChunk {
  readonly id: string;
  /** Of its place. */
  readonly slot: number;
}

export interface CheckpointContent {
  readonly description: Description;
  /** The same entries, built anew from nothing, have this root. */
  readonly rebuiltRoot: Uint8Array;
  /** Path → logical value in hexadecimal and where its chunks are. */
  readonly placed: ReadonlyMap<string, { readonly value: string; readonly chunks: readonly PlacedChunk[] }>;
  /** `slot/pack` of every place that can be reached. */
  readonly packs: ReadonlySet<string>;
}

/** Reads all of one volume; what the store or the format refuses is thrown. */
export async function readCheckpoint(
  root: TreeRoot,
  rootMeta: EntryMeta,
  source: SegmentSource,
  keys: DomainKeys,
): Promise<CheckpointContent> {
  const description = new Map<string, string>();
  const placed = new Map<string, { value: string; chunks: PlacedChunk[] }>();
  const packs = new Set<string>();
  const rebuilt = new TreeEditor({
    base: emptyTree(keys),
    source: { load: () => Promise.reject(new Error('a build from nothing reads nothing')) },
    sink: { store: counted() },
    keys,
  });
  const reach = (place: Place): Place => {
    packs.add(`${place.slot}/${place.pack}`);
    return place;
  };
  if (root.place !== undefined) reach(root.place);
  const nodes = { load: (place: Place, bytes: number) => source.load(reach(place), bytes) };
  const chunk = async (item: Extract<ContentItem, { kind: 'chunk' }>): Promise<Uint8Array> => {
    const segment = await source.segment(reach(item.place));
    const bytes = segment.subarray(item.place.offset, item.place.offset + item.bytes);
    if (bytes.length !== item.bytes || !equalBytes(contentId(keys, bytes, 0, bytes.length), item.id)) {
      throw new Violation(`a chunk at ${JSON.stringify(item.place)} is not what its id says`);
    }
    return bytes;
  };
  const xattrValue = async (value: XattrValue): Promise<Uint8Array> =>
    value.kind === 'inline' ? value.bytes : await chunk(value as never);
  for await (const items of scanTree(root, nodes, keys)) {
    for (const item of items) {
      const wait = rebuilt.put(item.key, item.value, item.placement);
      if (wait !== undefined) await wait;
      const entry = decodeEntry(item.value, item.placement);
      const path = pathOf(item.key);
      const parent = path.slice(0, Math.max(0, path.lastIndexOf('/')));
      if (parent !== '' && description.get(parent)?.startsWith('4') !== true) {
        throw new Violation(`${path} stands in no directory of its tree`);
      }
      const target = entry.type === 'hardlink' ? description.get(pathOf(entry.target)) : '10';
      if (target?.startsWith('10') !== true) throw new Violation(`${path} is a name of a file that is not in its tree`);
      if (description.has(path)) throw new Violation(`${path} stands twice in a tree`);
      description.set(path, await describeEntry(entry, keys, nodes, chunk, xattrValue));
      placed.set(path, { value: toHex(item.value), chunks: await chunksOf(entry, nodes, keys) });
    }
  }
  description.set('.', rootLine(rootMeta.mode, rootMeta.uid, rootMeta.gid, rootMeta.mtimeSec, rootMeta.mtimeNsec));
  return { description, rebuiltRoot: (await rebuilt.finish()).id, placed, packs };
}

function counted(): (node: Uint8Array) => Place {
  let offset = 0;
  return (node) => {
    offset += node.length;
    return { origin: 0, slot: 1, pack: 0, segment: 0, offset };
  };
}

export function pathOf(key: Uint8Array): string {
  return keyComponents(key).map(printable).join('/');
}

async function chunksOf(
  entry: Entry,
  nodes: { load: (place: Place, bytes: number) => Uint8Array | Promise<Uint8Array> },
  keys: DomainKeys,
): Promise<PlacedChunk[]> {
  const chunks: PlacedChunk[] = [];
  if (entry.type !== 'file') return chunks;
  for await (const items of readList(entry.content, nodes, keys)) {
    for (const item of items) if (item.kind === 'chunk') chunks.push({ id: toHex(item.id), slot: item.place.slot });
  }
  return chunks;
}

async function describeEntry(
  entry: Entry,
  keys: DomainKeys,
  nodes: { load: (place: Place, bytes: number) => Uint8Array | Promise<Uint8Array> },
  chunk: (item: Extract<ContentItem, { kind: 'chunk' }>) => Promise<Uint8Array>,
  xattrValue: (value: XattrValue) => Promise<Uint8Array>,
): Promise<string> {
  if (entry.type === 'hardlink') return `= ${pathOf(entry.target)}`;
  let content = '';
  let type: number = fileType.directory;
  if (entry.type === 'symlink') {
    type = fileType.symlink;
    content = `-> ${printable(entry.target)}`;
  } else if (entry.type === 'fifo') {
    type = fileType.fifo;
  } else if (entry.type === 'file') {
    type = fileType.regular;
    const bytes = new Uint8Array(Math.ceil(entry.size / digestBlockBytes) * digestBlockBytes);
    let at = 0;
    for await (const items of readList(entry.content, nodes, keys, entry.size)) {
      for (const item of items) {
        if (item.kind === 'chunk') bytes.set(await chunk(item), at);
        at += item.bytes;
      }
    }
    const digest = new TreeDigest();
    for (let i = 0; i * digestBlockBytes < bytes.length; i++) {
      digest.add(i, bytes.subarray(i * digestBlockBytes, (i + 1) * digestBlockBytes));
    }
    content = `${entry.size} ${digest.text(entry.size)}`;
  }
  const xattrs: [Uint8Array, Uint8Array][] = [];
  for (const { name, value } of entry.xattrs) xattrs.push([name, await xattrValue(value)]);
  const line = treeLine({
    path: '',
    mode: type | entry.mode,
    owner: `${entry.uid}:${entry.gid}`,
    mtimeNs: BigInt(entry.mtimeSec) * 1_000_000_000n + BigInt(entry.mtimeNsec),
    xattrs,
    content,
  });
  return line;
}

/** What differs, for a person. `excepted` paths may. */
export function differences(
  expected: Description,
  got: Description,
  excepted: (path: string, line: string) => boolean = () => false,
): string[] {
  const found: string[] = [];
  for (const [path, line] of expected) {
    const other = got.get(path);
    if (other === line || excepted(path, line) || (other !== undefined && excepted(path, other))) continue;
    found.push(`${path}: expected ${line}, got ${other ?? 'nothing'}`);
  }
  for (const [path, line] of got) {
    if (!expected.has(path) && !excepted(path, line)) found.push(`${path}: expected nothing, got ${line}`);
  }
  return found;
}
