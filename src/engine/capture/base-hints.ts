import { decodeEntry } from '../format/entry-codec.ts';
import type { DomainKeys } from '../format/keys.ts';
import type { LeafItem } from '../format/tree-node.ts';
import type { TreeRoot } from '../model/checkpoint.ts';
import type { Place } from '../model/entry.ts';
import { fileType, fileTypeMask, viewOf } from '../model/stat-record.ts';
import { listNodes, readList } from '../tree/list.ts';
import type { NodeSource } from '../tree/node-access.ts';
import { getEntry } from '../tree/tree-reader.ts';
import type { Hint } from './lane-job.ts';
import type { ScanOperation } from './scan.ts';

/** The tree of the base, and what of it can be read. */
export interface HintSource {
  readonly base: TreeRoot;
  readonly source: NodeSource;
  readonly keys: DomainKeys;
  /** False for a place in a pack of this run: it cannot be read back yet. */
  readonly readable: (place: Place) => boolean;
}

export interface Hints {
  readonly chunks: readonly Hint[];
  readonly nodes: readonly Hint[];
}

export const noHints: Hints = { chunks: [], nodes: [] };

/** The chunks that the base holds under this name: unchanged ones are not stored again. */
export async function hintsFor(
  operation: Extract<ScanOperation, { kind: 'read' }>,
  request: HintSource,
  found: 'look-up' | LeafItem | undefined,
): Promise<Hints> {
  const { base, source, keys } = request;
  if (base.nodeBytes === 0 || operation.size === 0) return noHints;
  if ((viewOf(operation.stat).getUint32(0, true) & fileTypeMask) !== fileType.regular) return noHints;
  let item = found === 'look-up' ? await getEntry(base, operation.key, source, keys) : found;
  if (item === undefined) return noHints;
  let entry = decodeEntry(item.value, item.placement);
  if (entry.type === 'hardlink') {
    // The name was a further one of its group and now comes first: the content is the group's.
    item = await getEntry(base, entry.target, source, keys);
    if (item === undefined) return noHints;
    entry = decodeEntry(item.value, item.placement);
  }
  if (entry.type !== 'file') return noHints;
  const chunks: Hint[] = [];
  for (const { value } of entry.xattrs) {
    if (value.kind === 'chunk') chunks.push({ id: value.id, bytes: value.bytes, place: value.place });
  }
  if (entry.content.kind === 'inline') {
    for (const part of entry.content.items) {
      if (part.kind === 'chunk') chunks.push({ id: part.id, bytes: part.bytes, place: part.place });
    }
    return { chunks, nodes: [] };
  }
  // Its chunks are remembered by the session index.
  if (!request.readable(entry.content.place)) return noHints;
  const nodes: Hint[] = [];
  for await (const node of listNodes(entry.content, source, keys)) {
    nodes.push({ id: node.id, bytes: node.nodeBytes, place: node.place });
  }
  for await (const items of readList(entry.content, source, keys)) {
    for (const part of items) {
      if (part.kind === 'chunk') chunks.push({ id: part.id, bytes: part.bytes, place: part.place });
    }
  }
  return { chunks, nodes };
}
