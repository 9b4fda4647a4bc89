/**
 * A malicious pod: it has the keys of its domain, so whatever it writes is authentic, and says what no Holdfast would. It builds nodes,
 * packs and records byte by byte, past every check of the writers.
 */
import { zstdCompressSync } from 'node:zlib';
import { chooseCompressor } from '../../src/edge/host/choose-compressor.ts';
import type { HostCompressor } from '../../src/edge/host/host-compressor.ts';
import { MemoryStore } from '../../src/edge/store/memory-store.ts';
import { contentId, nodeId } from '../../src/engine/format/keys.ts';
import { type EncodedNode, LeafWriter, type NodeChild, NodeWriter } from '../../src/engine/format/tree-node.ts';
import type { DomainAccess } from '../../src/engine/lineage/repository.ts';
import { ByteWriter, emptyBytes, utf8Bytes } from '../../src/engine/model/bytes.ts';
import type { TreeRoot, TreeSums, VolumeCheckpoint } from '../../src/engine/model/checkpoint.ts';
import type { Content, ContentItem, EntryMeta, Place } from '../../src/engine/model/entry.ts';
import { type NodeId, type VolumeName, toNodeId, toVolumeName } from '../../src/engine/model/ids.ts';
import { encoded } from '../support/tree-model.ts';
import {
  beginPack,
  setDataKey,
  setDomain,
  setKeys,
  setPublicKey,
  setRepository,
  storeCheckpoint,
  storePack,
} from '../support/stored-set.ts';

export const access: DomainAccess = {
  repository: setRepository,
  domain: setDomain,
  keys: setKeys,
  dataKey: setDataKey,
  dataKeys: [setDataKey],
  publicKey: setPublicKey,
};

export const plainMeta: EntryMeta = { mode: 0o644, uid: 0, gid: 0, mtimeSec: 1000, mtimeNsec: 0, xattrs: [] };

export interface ForgedEntry {
  /** Components joined by NUL, as a key; text or bytes. */
  readonly key: string | Uint8Array;
  readonly value: Uint8Array;
  readonly placement?: Uint8Array;
}

/** A frame that says one thing and unpacks to another. */
export interface LyingCompressor extends HostCompressor {
  /** Plain bytes that the next frames really hold. */
  plant: Uint8Array | undefined;
}

export async function lyingCompressor(): Promise<LyingCompressor> {
  const honest = await chooseCompressor('zlib');
  const lying: LyingCompressor = {
    name: honest.name,
    plant: undefined,
    boundBytes: (bytes) => honest.boundBytes(Math.max(bytes, 1024 * 1024)),
    compress(input, output, start, level) {
      if (lying.plant === undefined) return honest.compress(input, output, start, level);
      const frame = zstdCompressSync(lying.plant);
      output.set(frame, start);
      return frame.length;
    },
    decompress: (input, output, plainBytes) => honest.decompress(input, output, plainBytes),
    [Symbol.dispose]: () => honest[Symbol.dispose](),
  };
  return lying;
}

export class Forger {
  readonly store: MemoryStore = new MemoryStore();
  readonly #pack: ReturnType<typeof beginPack>;
  readonly #nodes = new NodeWriter();

  constructor(compressor: HostCompressor) {
    this.#pack = beginPack(compressor, 2, 0);
  }

  chunk(bytes: Uint8Array): ContentItem {
    const place = this.#pack.writer.addData(bytes, 0, bytes.length);
    return { kind: 'chunk', bytes: bytes.length, id: contentId(setKeys, bytes, 0, bytes.length), place };
  }

  seal(): void {
    this.#pack.writer.flush();
  }

  /** An honest file. */
  file(key: string | Uint8Array, content: string | Uint8Array = 'content', meta: EntryMeta = plainMeta): ForgedEntry {
    const bytes = typeof content === 'string' ? utf8Bytes(content) : content;
    const items = bytes.length === 0 ? [] : [this.chunk(bytes)];
    const inline: Content = { kind: 'inline', items };
    return { key, ...encoded({ type: 'file', size: bytes.length, content: inline, holes: [], ...meta }) };
  }

  directory(key: string | Uint8Array, meta: EntryMeta = { ...plainMeta, mode: 0o755 }): ForgedEntry {
    return { key, ...encoded({ type: 'directory', ...meta }) };
  }

  symlink(key: string | Uint8Array, target: string): ForgedEntry {
    return { key, ...encoded({ type: 'symlink', target: utf8Bytes(target), ...plainMeta, mode: 0o777 }) };
  }

  hardlink(key: string | Uint8Array, target: string | Uint8Array): ForgedEntry {
    const w = new ByteWriter();
    w.u8(5);
    w.blob(typeof target === 'string' ? utf8Bytes(target) : target);
    return { key, value: w.take(), placement: emptyBytes };
  }

  /** Stores a node, whatever it says. */
  node(
    bytes: Uint8Array,
    logical: Uint8Array,
  ): { readonly id: NodeId; readonly place: Place; readonly nodeBytes: number } {
    const place = this.#pack.writer.addMetadata(bytes);
    return { id: toNodeId(nodeId(setKeys, logical)), place, nodeBytes: bytes.length };
  }

  /** A node of whose logical part every byte is given. */
  rawNode(logical: Uint8Array, placement: Uint8Array = emptyBytes): ReturnType<Forger['node']> {
    const w = new ByteWriter();
    w.blob(logical);
    w.raw(placement);
    return this.node(w.take(), logical);
  }

  child(node: EncodedNode, sums: TreeSums, separator: Uint8Array = emptyBytes): NodeChild {
    return { separator, ...this.node(node.bytes, node.logical), sums };
  }

  /** A tree of one leaf. Its sums are those of honest entries unless they are given. */
  leaf(entries: readonly ForgedEntry[], sums: Partial<TreeSums> = {}): TreeRoot {
    const writer = new LeafWriter();
    let [files, bytes] = [0, 0];
    for (const { key, value, placement = emptyBytes } of entries) {
      writer.add(typeof key === 'string' ? utf8Bytes(key) : key, value, placement);
      if (value[0] === 1 || value[0] === 5) files++;
      if (value[0] === 1) bytes += varintAt(value, 1);
    }
    const node = writer.encode();
    return {
      ...this.node(node.bytes, node.logical),
      level: 0,
      sums: { files, entries: entries.length, bytes, ...sums },
    };
  }

  interior(level: number, children: readonly NodeChild[], sums: TreeSums): TreeRoot {
    const node = this.#nodes.interior(level, children);
    return { ...this.node(node.bytes, node.logical), level, sums };
  }

  get nodes(): NodeWriter {
    return this.#nodes;
  }

  /** Signs it all as the newest checkpoint of the lineage. */
  async commit(root: TreeRoot, volume: Partial<VolumeCheckpoint> = {}): Promise<void> {
    const pack = this.#pack.finish();
    const entry = await storePack(this.store, pack);
    await storeCheckpoint(this.store, 2, { volumes: [{ ...volumeOf(root), ...volume }], packs: [entry] });
  }
}

export function volumeOf(root: TreeRoot, name = 'data'): VolumeCheckpoint {
  return {
    name: name as VolumeName,
    root,
    rootMeta: { ...plainMeta, mode: 0o755 },
    fuzzyCount: 0,
    fuzzyNames: [],
    volatileCount: 0,
    volatileNames: [],
    skipped: [],
    incomplete: false,
  };
}

export const dataVolume: VolumeName = toVolumeName('data');

function varintAt(bytes: Uint8Array, at: number): number {
  let [value, scale] = [0, 1];
  for (let i = at; i < bytes.length; i++) {
    value += ((bytes[i] as number) & 0x7f) * scale;
    if ((bytes[i] as number) < 0x80) return Number.isSafeInteger(value) ? value : 0;
    scale *= 128;
  }
  return 0;
}

/** Minimal LEB128 of any size, where the engine's own writer stops at 2^53. */
export function varint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>= 7n) {
    const low = Number(rest & 0x7fn);
    if (rest < 0x80n) {
      bytes.push(low);
      return Uint8Array.from(bytes);
    }
    bytes.push(low | 0x80);
  }
}

export function joined(...parts: readonly (Uint8Array | readonly number[] | string)[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...(typeof part === 'string' ? utf8Bytes(part) : part)]));
}
