/**
 * The target as it was left, against the tree: one walk over both in key order. What a file system clamped or refused without
 * saying so is found here; the root that the target would be captured with is computed; and what was seen becomes the
 * scan cache of the first capture after the restore, which so reads no content.
 */
import { decodeEntry, encodeEntry, entrySums } from '../format/entry-codec.ts';
import type { DomainKeys } from '../format/keys.ts';
import type { LeafNode } from '../format/tree-node.ts';
import { ByteReader, ByteWriter, equalBytes } from '../model/bytes.ts';
import type { TreeRoot } from '../model/checkpoint.ts';
import { HoldfastError, isHoldfastError } from '../model/errors.ts';
import { type Entry, type EntryMeta, type Xattr, xattrInlineBytesMax } from '../model/entry.ts';
import { childKey, descendantsEnd, displayPath, keyComponents } from '../model/rel-path.ts';
import {
  type DirectoryBlock,
  fileType,
  fileTypeMask,
  readI64,
  readU64,
  recordName,
  statOffset,
  statRecordBytes,
  viewOf,
} from '../model/stat-record.ts';
import { type Descriptor, FileTreeError, type FileTreeWriter } from '../ports/file-tree.ts';
import { coarseStampMs, firstTag, isFresh, linkTag, type ScanCacheWriter } from '../tree/scan-cache.ts';
import type { SegmentSource } from '../tree/segment-source.ts';
import { TreeEditor } from '../tree/tree-editor.ts';
import { getEntry } from '../tree/tree-reader.ts';
import { nameAt } from './apply-meta.ts';
import { keptXattrs, sameXattrs } from './compare-content.ts';
import { openBelow } from './target-directory.ts';
import { targetError } from './target-error.ts';
import { walkTree } from './walk-tree.ts';

export type AuditFinding = 'mode' | 'owner' | 'times' | 'xattr' | 'changed' | 'missing';

export interface AuditOptions {
  readonly files: FileTreeWriter;
  readonly root: Descriptor;
  readonly tree: TreeRoot;
  readonly source: SegmentSource;
  readonly keys: DomainKeys;
  /** Undefined: everything is. */
  readonly selects: ((key: Uint8Array) => boolean) | undefined;
  /** Which xattrs to read again: those of entries that have some, or of every entry. */
  readonly xattrs: 'none' | 'expected' | 'all';
  /** Gets every directory as it is listed. */
  readonly cache: ScanCacheWriter | undefined;
  /** What changed at or after this must not be trusted by its stat: a later write may leave the same. */
  readonly freshFromMs: number;
  readonly onFinding: (key: Uint8Array, finding: AuditFinding) => void;
  readonly signal: AbortSignal | undefined;
}

export interface AuditOutcome {
  /** Root of what is there; undefined when more than metadata differs. */
  readonly root: TreeRoot | undefined;
  /** Names that the tree does not have. */
  readonly others: number;
  /** Names of the tree that are there, whatever else differs; files and bytes as in the sums of a tree. */
  readonly found: { readonly entries: number; readonly files: number; readonly bytes: number };
  /** The cache describes the tree: nothing is missing and everything was listed. */
  readonly cacheable: boolean;
}

interface Frame {
  descriptor: Descriptor | undefined;
  readonly key: Uint8Array;
  readonly block: DirectoryBlock;
  readonly view: DataView;
  readonly number: number;
  index: number;
}

const typeCode = { file: 1, directory: 2, symlink: 3, fifo: 4, hardlink: 5 } as const;
const typeOf: readonly (number | undefined)[] = [
  undefined,
  fileType.regular,
  fileType.directory,
  fileType.symlink,
  fileType.fifo,
  fileType.regular,
];

/** Kernels stamp files with a coarse clock of a few ms. */
const settleMs = 20;

/**
 * How long (ms) after the last change to wait with an audit that fills a scan cache, so that nothing has to be doubted for being new:
 * what is doubted is read again, and what the target could not keep would then count as changed.
 */
export function settleTime(files: FileTreeWriter, root: Descriptor): number {
  return settleMs + (files.stat(root).ctimeNsec === 0 ? coarseStampMs : 0);
}

export async function auditTarget(options: AuditOptions): Promise<AuditOutcome> {
  const audit = new Audit(options);
  try {
    return await audit.run();
  } finally {
    audit.close();
  }
}

class Audit {
  readonly #options: AuditOptions;
  readonly #frames: Frame[] = [];
  readonly #entries: ReturnType<typeof walkTree>;
  #leaf: LeafNode | undefined;
  #index = 0;
  #end = 0;
  readonly #editor: TreeEditor;
  #edits = 0;
  #comparable = true;
  #cacheable = true;
  #others = 0;
  readonly #found = { entries: 0, files: 0, bytes: 0 };
  /** Device and inode of a file with several names, to the first of them. */
  readonly #groups = new Map<string, Uint8Array>();
  #device = 0n;
  readonly #value = new ByteWriter(1024);
  readonly #placement = new ByteWriter(1024);

  constructor(options: AuditOptions) {
    this.#options = options;
    const { tree, source, keys } = options;
    this.#entries = walkTree(tree, source, keys);
    this.#editor = new TreeEditor({ base: tree, source, sink: undefined, keys });
  }

  close(): void {
    for (const frame of this.#frames.slice(1)) {
      if (frame.descriptor !== undefined) this.#options.files.close(frame.descriptor);
    }
  }

  async run(): Promise<AuditOutcome> {
    const { files, root, tree, signal } = this.#options;
    this.#device = files.stat(root).device;
    await this.#nextLeaf();
    this.#push(root, new Uint8Array(0));
    for (;;) {
      const frame = this.#frames[this.#frames.length - 1];
      if (frame === undefined) break;
      if (frame.index >= frame.block.count) {
        this.#frames.pop();
        if (this.#frames.length > 0 && frame.descriptor !== undefined) files.close(frame.descriptor);
        continue;
      }
      const index = frame.index++;
      const waiting = this.#name(frame, index);
      if (waiting !== undefined) await waiting;
      const at = index * statRecordBytes;
      const mode = frame.view.getUint32(at + statOffset.mode, true);
      if ((mode & fileTypeMask) !== fileType.directory) continue;
      signal?.throwIfAborted();
      if (!this.#enter(frame, index)) await this.#skipBelow(frame, index);
    }
    while (this.#leaf !== undefined) {
      this.#missing(this.#leaf.key(this.#index));
      await this.#nextEntry();
    }
    const same = this.#edits === 0 ? tree : await this.#editor.finish();
    return {
      root: this.#comparable ? same : undefined,
      others: this.#others,
      found: this.#found,
      cacheable: this.#cacheable,
    };
  }

  #push(descriptor: Descriptor, key: Uint8Array): void {
    const { files, cache } = this.#options;
    const block = files.list(descriptor);
    const view = viewOf(block.records);
    const number = cache?.blocks ?? 0;
    cache?.add(this.#frames.length, block);
    this.#frames.push({ descriptor, key, block, view, number, index: 0 });
    const far = this.#frames.length - 65;
    const frame = this.#frames[far];
    if (far <= 0 || far % 64 === 0 || frame?.descriptor === undefined) return;
    files.close(frame.descriptor);
    frame.descriptor = undefined;
  }

  /** False for a directory that cannot be looked into: its rights may be meant to keep us out. */
  #enter(frame: Frame, index: number): boolean {
    const { files } = this.#options;
    const name = recordName(frame.block, frame.view, index);
    // A mount inside the target is none of the volume's business; a capture leaves it out too.
    if (frame.view.getBigUint64(index * statRecordBytes + statOffset.device, true) !== this.#device) {
      // A cache has a block for every directory, and where the tree has this one too, the next capture must find it gone.
      this.#cacheable = false;
      return true;
    }
    const key = childKey(frame.key, name);
    let descriptor: Descriptor | undefined;
    try {
      descriptor = files.openBeneath(this.#descriptorOf(frame), nameAt(name));
      this.#push(descriptor, key);
      return true;
    } catch (error) {
      if (!(error instanceof FileTreeError)) throw error;
      if (error.errno === 'EMFILE' || error.errno === 'ENFILE') throw targetError(error, key);
      if (descriptor !== undefined) files.close(descriptor);
      return false;
    }
  }

  /** Nothing can be said of what the tree has there. */
  async #skipBelow(frame: Frame, index: number): Promise<void> {
    const key = childKey(frame.key, recordName(frame.block, frame.view, index));
    const end = descendantsEnd(key);
    while (this.#leaf !== undefined && this.#leaf.compareKey(this.#index, end) < 0) await this.#nextEntry();
    this.#comparable = false;
    this.#cacheable = false;
  }

  #descriptorOf(frame: Frame): Descriptor {
    if (frame.descriptor !== undefined) return frame.descriptor;
    let above = this.#frames.indexOf(frame) - 1;
    while (this.#frames[above]?.descriptor === undefined) above--;
    const { key, descriptor } = this.#frames[above] as Frame;
    const below = frame.key.subarray(key.length === 0 ? 0 : key.length + 1);
    frame.descriptor = openBelow(this.#options.files, descriptor as Descriptor, keyComponents(below));
    return frame.descriptor;
  }

  /** One name of the target, against the entry of the tree that comes next. */
  #name(frame: Frame, index: number): void | Promise<void> {
    const name = recordName(frame.block, frame.view, index);
    const order = this.#compareNext(frame.key, name);
    if (order < 0) return this.#skipTo(frame, index, name);
    if (order > 0) {
      this.#other(frame, index);
      return;
    }
    return this.#same(frame, index);
  }

  /** Entries that the target does not have come first. */
  async #skipTo(frame: Frame, index: number, name: Uint8Array): Promise<void> {
    let order: number;
    do {
      this.#missing((this.#leaf as LeafNode).key(this.#index));
      await this.#nextEntry();
      order = this.#compareNext(frame.key, name);
    } while (order < 0);
    if (order > 0) this.#other(frame, index);
    else await this.#same(frame, index);
  }

  /** Order of the next entry's key against a name in a directory; an ended tree is after everything. */
  #compareNext(directory: Uint8Array, name: Uint8Array): number {
    if (this.#leaf === undefined) return 1;
    const key = this.#leaf.key(this.#index);
    const start = directory.length === 0 ? 0 : directory.length + 1;
    const shared = Math.min(key.length, directory.length);
    for (let i = 0; i < shared; i++) {
      const difference = (key[i] as number) - (directory[i] as number);
      if (difference !== 0) return difference;
    }
    if (key.length < start) return -1;
    if (start > 0 && key[start - 1] !== 0) return 1;
    for (let i = 0; i < name.length; i++) {
      if (start + i >= key.length) return -1;
      const difference = (key[start + i] as number) - (name[i] as number);
      if (difference !== 0) return difference;
    }
    return key.length - start - name.length;
  }

  #missing(key: Uint8Array): void {
    const { selects, onFinding } = this.#options;
    if (selects !== undefined && !selects(key)) return;
    onFinding(key, 'missing');
    this.#comparable = false;
    this.#cacheable = false;
  }

  #other(frame: Frame, index: number): void {
    this.#others++;
    this.#comparable = false;
    this.#options.cache?.markDirty(frame.number, index);
    this.#groupOf(frame, index);
  }

  #same(frame: Frame, index: number): void | Promise<void> {
    const { selects, cache, freshFromMs, xattrs } = this.#options;
    const leaf = this.#leaf as LeafNode;
    const value = leaf.value(this.#index);
    if (selects !== undefined && !selects(leaf.key(this.#index))) return this.#nextEntry();
    const sums = entrySums(value);
    this.#found.entries++;
    this.#found.files += sums.files;
    this.#found.bytes += sums.bytes;
    const at = index * statRecordBytes;
    const { view } = frame;
    const mode = view.getUint32(at + statOffset.mode, true);
    if (isFresh(view, at, freshFromMs)) cache?.markDirty(frame.number, index);
    const first = this.#groupOf(frame, index);
    const code = value[0] as number;
    if (typeOf[code] !== (mode & fileTypeMask)) return this.#changed(frame, index);
    const r = new ByteReader(value, 'entry');
    r.u8();
    if (code === typeCode.hardlink) {
      const target = r.blob();
      // Without its first name it got the content by itself.
      const alone = selects !== undefined && !selects(target);
      if (!alone && (first === undefined || !equalBytes(first, target))) return this.#otherGroup(frame, index, target);
      return this.#nextEntry();
    }
    if (code === typeCode.file) {
      const size = r.varint();
      if (size !== readU64(view, at + statOffset.size) || first !== undefined) return this.#changed(frame, index);
    }
    const findings: AuditFinding[] = [];
    if (r.varint() !== (mode & 0o7777)) findings.push('mode');
    const uid = r.varint();
    const gid = r.varint();
    if (uid !== view.getUint32(at + statOffset.uid, true) || gid !== view.getUint32(at + statOffset.gid, true)) {
      findings.push('owner');
    }
    const mtimeSec = r.signed();
    const mtimeNsec = r.varint();
    if (
      mtimeSec !== readI64(view, at + statOffset.mtimeSec) ||
      mtimeNsec !== view.getUint32(at + statOffset.mtimeNsec, true)
    ) {
      findings.push('times');
    }
    const askXattrs = xattrs === 'all' || (xattrs === 'expected' && r.varint() > 0);
    if (findings.length === 0 && !askXattrs) return this.#nextEntry();
    return this.#degraded(frame, index, findings, askXattrs);
  }

  /** Edits the entry to what the target has. */
  async #degraded(frame: Frame, index: number, findings: AuditFinding[], askXattrs: boolean): Promise<void> {
    const { files, keys, onFinding } = this.#options;
    const leaf = this.#leaf as LeafNode;
    const key = leaf.key(this.#index);
    const entry = decodeEntry(leaf.value(this.#index), leaf.placement(this.#index));
    if (entry.type === 'hardlink') return this.#nextEntry();
    let xattrs: readonly Xattr[] = entry.xattrs;
    if (askXattrs) {
      const name = nameAt(recordName(frame.block, frame.view, index));
      const found = files.xattrsOfName(this.#descriptorOf(frame), name);
      if (!sameXattrs(found, entry.xattrs, keys)) {
        findings.push('xattr');
        const got: Xattr[] = [];
        for (const { name: xattr, value } of keptXattrs(found)) {
          const wanted = entry.xattrs.find((other) => equalBytes(other.name, xattr));
          const same = wanted !== undefined && sameXattrs([{ name: xattr, value }], [wanted], keys);
          if (same) got.push(wanted);
          else if (value.length <= xattrInlineBytesMax)
            got.push({ name: xattr, value: { kind: 'inline', bytes: value } });
          else this.#comparable = false;
        }
        xattrs = got;
      }
    }
    for (const finding of findings) onFinding(key, finding);
    if (findings.length > 0) {
      this.#value.reset();
      this.#placement.reset();
      const got: Entry = { ...entry, ...metaAt(frame.view, index * statRecordBytes), xattrs };
      encodeEntry(got, this.#value, this.#placement);
      this.#edits++;
      const waiting = this.#editor.put(key, this.#value.view(), this.#placement.view());
      if (waiting !== undefined) await waiting;
    }
    await this.#nextEntry();
  }

  /** Either somebody linked it anew, or the tree itself names what is not the first name of a file. */
  async #otherGroup(frame: Frame, index: number, target: Uint8Array): Promise<void> {
    const { tree, source, keys } = this.#options;
    let type: number | undefined = typeCode.file;
    try {
      type = (await getEntry(tree, target, source, keys))?.value[0];
    } catch (error) {
      if (!isHoldfastError(error, 'E_DAMAGED')) throw error;
    }
    if (type !== typeCode.file) {
      const key = displayPath((this.#leaf as LeafNode).key(this.#index).subarray(0, 1000));
      throw new HoldfastError('E_HOSTILE', 'a hardlink to what is no file of the tree', { details: { path: key } });
    }
    await this.#changed(frame, index);
  }

  /** Another type, size or group: not what a restore left. */
  #changed(frame: Frame, index: number): void | Promise<void> {
    const { cache, onFinding } = this.#options;
    onFinding((this.#leaf as LeafNode).key(this.#index), 'changed');
    this.#comparable = false;
    cache?.markDirty(frame.number, index);
    return this.#nextEntry();
  }

  /** First name of the group of a file with several names, itself included; also what the cache must know of it. */
  #groupOf(frame: Frame, index: number): Uint8Array | undefined {
    const { view } = frame;
    const at = index * statRecordBytes;
    const regular = (view.getUint32(at + statOffset.mode, true) & fileTypeMask) === fileType.regular;
    if (!regular || view.getUint32(at + statOffset.nlink, true) < 2) return undefined;
    const device = view.getBigUint64(at + statOffset.device, true);
    const inode = view.getBigUint64(at + statOffset.inode, true);
    const group = `${device.toString(36)}:${inode.toString(36)}`;
    const first = this.#groups.get(group);
    if (first === undefined) this.#groups.set(group, childKey(frame.key, recordName(frame.block, view, index)));
    this.#options.cache?.tag(frame.number, index, first === undefined ? firstTag : linkTag(first));
    return first;
  }

  /** At once inside a leaf. */
  #nextEntry(): void | Promise<void> {
    this.#index++;
    if (this.#index >= this.#end) return this.#nextLeaf();
  }

  async #nextLeaf(): Promise<void> {
    this.#leaf = undefined;
    for (;;) {
      const step = await this.#entries.next();
      if (step.done === true) return;
      if (step.value.leaf === undefined) {
        // Nobody knows what belongs there.
        this.#comparable = false;
        this.#cacheable = false;
        continue;
      }
      this.#leaf = step.value.leaf;
      this.#index = step.value.from;
      this.#end = step.value.to;
      return;
    }
  }
}

function metaAt(view: DataView, at: number): Omit<EntryMeta, 'xattrs'> {
  return {
    mode: view.getUint32(at + statOffset.mode, true) & 0o7777,
    uid: view.getUint32(at + statOffset.uid, true),
    gid: view.getUint32(at + statOffset.gid, true),
    mtimeSec: readI64(view, at + statOffset.mtimeSec),
    mtimeNsec: view.getUint32(at + statOffset.mtimeNsec, true),
  };
}
