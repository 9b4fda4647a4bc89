/**
 * The part of a volume that may have changed, looked at by name: what a walk would report of it, without the walk. Names are
 * those that a watcher told of, those that the process remembers as doubtful, and what hangs together with them: parents,
 * whose times move with their names; whole files of several names; whole directories that came to a name.
 *
 * First everything is looked at, then operations are made of what was seen, in key order. So what is missing between both (a first
 * name of a file further up, entries below a directory that is another now) is known before anything is reported.
 *
 * Invariants: as of a walk, operations come in strictly ascending key order, and no symlink is followed. Memory and delta are
 * changed as the operations are made, so a name stands in the delta as it was looked at.
 */
import { decodeEntry } from '../format/entry-codec.ts';
import type { DomainKeys } from '../format/keys.ts';
import type { SkipReason, TreeRoot } from '../model/checkpoint.ts';
import { childKey, descendantsEnd, displayPath, keyOfText, keyText, parentKey } from '../model/rel-path.ts';
import {
  fileType,
  fileTypeMask,
  readI64,
  recordName,
  statOffset,
  statRecordBytes,
  viewOf,
} from '../model/stat-record.ts';
import { type Descriptor, FileTreeError, type FileTreeReader } from '../ports/file-tree.ts';
import { loadPaths } from '../tree/load-paths.ts';
import type { NodeSource } from '../tree/node-access.ts';
import { firstTag, isFresh, linkTag } from '../tree/scan-cache.ts';
import type { DeltaEntry } from '../tree/scan-delta.ts';
import { getEntry, scanTree } from '../tree/tree-reader.ts';
import { statBytes } from './lane-job.ts';
import {
  batchBytesMax,
  batchDirectoriesMax,
  batchOperationsMax,
  type DirectoryHandle,
  groupOf,
  releaseOperations,
  sameTag,
  type ScanBatch,
  type ScanOperation,
  type ScanTotals,
  storable,
  tooLarge,
  unstorable,
} from './scan.ts';
import type { Selection } from './select.ts';
import { OpenPath } from './open-path.ts';
import { TooManyChanges } from './too-many-changes.ts';
import { isBelowOne, type VolumeMemory } from './volume-memory.ts';
import { nameWith } from './walk-files.ts';

/** Names that one pass looks at in this way; a walk is faster for more, and nothing here is in blocks. */
const looksMax = 32_768;
/** Paths loaded at once. */
const pathsMax = 64;

export interface KnownScanRequest {
  readonly files: FileTreeReader;
  readonly root: Descriptor;
  readonly selection: Selection;
  /** The tree that is edited. */
  readonly base: TreeRoot;
  readonly source: NodeSource;
  readonly keys: DomainKeys;
  /** Key texts of what may have changed; true: a directory that came there with all that is below it. */
  readonly names: ReadonlyMap<string, boolean>;
  /** A copy that this pass brings up to date. */
  readonly memory: VolumeMemory;
  /** Adds what this pass has looked at, for the next one to look at again. */
  readonly lookedAt: Set<string>;
  readonly freshFromMs: number;
  readonly keepVolatile: ReadonlySet<string>;
  /** Key texts of names that the scan cache has with these inodes. */
  readonly namesOfInodes: (inodes: ReadonlySet<bigint>) => readonly string[];
}

export interface ScanListener {
  readonly onVolatile: (key: Uint8Array) => void;
  readonly onSkip: (key: Uint8Array, reason: SkipReason, errno: string) => void;
  readonly totals: ScanTotals;
}

interface Look {
  /** 64 stat bytes; undefined: there is no such name. */
  readonly stat: Uint8Array | undefined;
  /** A directory whose names were all looked at. */
  walked: boolean;
  /** Why the names of a directory could not be listed. */
  unlisted: string | undefined;
}

/** What was remembered of a name. */
interface Before {
  readonly entry: DeltaEntry | undefined;
  readonly dirty: boolean;
  readonly skipped: boolean;
  readonly held: boolean;
}

type PlannedOperation =
  | Exclude<ScanOperation, { readonly kind: 'read' }>
  | Omit<Extract<ScanOperation, { readonly kind: 'read' }>, 'directory'>;

const nowhere = { block: -1, index: -1 } as const;

/** The batches of operations, as `scanVolume` gives them. TooManyChanges comes before the first of them, or never. */
export async function* scanKnown(request: KnownScanRequest, listener: ScanListener): AsyncGenerator<ScanBatch> {
  const looks = new Looks(request);
  try {
    await looks.lookAtAll();
    for (const name of looks.names()) request.lookedAt.add(name);
    const plan = await new Plan(request, listener, looks).make();
    yield* give(plan, looks.path);
  } finally {
    looks.path.close();
  }
}

/** The state of all names that take part. */
class Looks {
  readonly path: OpenPath;
  readonly #request: KnownScanRequest;
  readonly #looks = new Map<string, Look>();
  /** Directories whose names were all looked at: what is below them and has no look is not there. */
  readonly #walked = new Set<string>();
  /** What stood below these names stands there no more, or is looked at anew. */
  readonly voided = new Set<string>();

  constructor(request: KnownScanRequest) {
    this.#request = request;
    this.path = new OpenPath(request.files, request.root, request.selection);
  }

  get(name: string): Look | undefined {
    return this.#looks.get(name);
  }

  names(): Iterable<string> {
    return this.#looks.keys();
  }

  sorted(): string[] {
    return [...this.#looks.keys()].sort((a, b) => (a < b ? -1 : 1));
  }

  async lookAtAll(): Promise<void> {
    const { names, memory, base, source, keys } = this.#request;
    const all = new Map<string, boolean>();
    const add = (name: string, whole: boolean): void => {
      if (name !== '') all.set(name, whole || all.get(name) === true);
    };
    for (const name of memory.always()) add(name, false);
    for (const [name, whole] of names) {
      add(name, whole);
      // Its times move when a name comes or goes.
      add(parentText(name), false);
      // Whether a file is a wal-index depends on its neighbours.
      const database = name.endsWith('-wal') ? name.slice(0, -4) : name;
      if (this.exists(`${database}-shm`)) add(`${database}-shm`, false);
    }
    if (all.size > looksMax) throw new TooManyChanges();
    const sorted = [...all.keys()].sort((a, b) => (a < b ? -1 : 1));
    for (let i = 0; i < sorted.length; i += pathsMax) {
      await loadPaths(base, sorted.slice(i, i + pathsMax).map(keyOfText), source, keys);
    }
    for (const name of sorted) await this.#lookAt(name, all.get(name) === true);
    await this.#lookAtGroups();
    for (const directory of this.#walked) await this.#lookBelowInBase(directory);
  }

  /** The kind of entry that the tree has at the name. */
  async typeInTree(name: string): Promise<string | undefined> {
    const { base, source, keys } = this.#request;
    const item = await getEntry(base, keyOfText(name), source, keys);
    return item === undefined ? undefined : decodeEntry(item.value, item.placement).type;
  }

  exists(name: string): boolean {
    const look = this.#looks.get(name);
    return (look === undefined ? this.#statAt(name) : look.stat) !== undefined;
  }

  /** 64 stat bytes, all zero when they cannot be had; undefined when there is no such name, or none that is looked at. */
  #statAt(name: string): Uint8Array | undefined {
    const directory = this.path.open(parentText(name));
    if (directory === undefined) return undefined;
    const stat = new Uint8Array(statBytes);
    const own = nameWith(keyOfText(name.slice(name.lastIndexOf('\0') + 1)));
    try {
      this.#request.files.statNameInto(directory.descriptor, own, stat, 0);
      return stat;
    } catch (error) {
      if (!(error instanceof FileTreeError)) throw error;
      return error.errno === 'ENOENT' || error.errno === 'ENOTDIR' ? undefined : stat.fill(0);
    }
  }

  async #lookAt(name: string, whole: boolean): Promise<void> {
    const known = this.#looks.get(name);
    if (known !== undefined && !(whole && !known.walked)) return;
    if (isBelowOne(name, this.#walked)) {
      // It was not in a listing of this pass.
      if (known === undefined) this.#add(name, undefined);
      return;
    }
    const parent = parentText(name);
    // What stands in the way is looked at too: the name is gone with it, or left out.
    if (this.path.open(parent) === undefined) await this.#lookAt(parent, false);
    const stat = this.#statAt(name);
    const look = this.#add(name, stat);
    if (stat === undefined || !isDirectoryStat(stat) || !this.#enters(name, stat)) {
      this.voided.add(name);
      return;
    }
    if (whole || !(await this.#wasListed(name, stat))) this.#walk(name, look);
    else if (this.path.open(name) === undefined) this.#cannotList(name, look, this.path.errno);
  }

  /** Whether a walk would list the directory. */
  #enters(name: string, stat: Uint8Array): boolean {
    if (viewOf(stat).getBigUint64(statOffset.device, true) !== this.path.device) return false;
    return this.#request.selection.selects(keyOfText(name), true);
  }

  /** Whether what stands below the name in the tree is of this very directory, as far as is known. */
  async #wasListed(name: string, stat: Uint8Array): Promise<boolean> {
    const { memory } = this.#request;
    if (memory.skipped.has(name)) return false;
    const before = memory.delta.get(name);
    if (before !== undefined) {
      if (before.stat === undefined || !isDirectoryStat(before.stat)) return false;
      return (
        viewOf(before.stat).getBigUint64(statOffset.inode, true) === viewOf(stat).getBigUint64(statOffset.inode, true)
      );
    }
    return (await this.typeInTree(name)) === 'directory';
  }

  #add(name: string, stat: Uint8Array | undefined): Look {
    if (this.#looks.size >= looksMax) throw new TooManyChanges();
    const look: Look = { stat, walked: false, unlisted: undefined };
    this.#looks.set(name, look);
    return look;
  }

  #cannotList(name: string, look: Look, errno: string): void {
    look.unlisted = errno;
    this.voided.add(name);
  }

  /** Looks at all names below the directory. */
  #walk(top: string, topLook: Look): void {
    const { files } = this.#request;
    this.voided.add(top);
    const waiting: (readonly [string, Look])[] = [[top, topLook]];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const [name, look] = next;
      const directory = this.path.open(name);
      if (directory === undefined) {
        this.#cannotList(name, look, this.path.errno);
        continue;
      }
      let block: ReturnType<FileTreeReader['list']>;
      try {
        block = files.list(directory.descriptor);
      } catch (error) {
        if (!(error instanceof FileTreeError)) throw error;
        this.#cannotList(name, look, error.errno);
        continue;
      }
      look.walked = true;
      this.#walked.add(name);
      const view = viewOf(block.records);
      for (let i = block.count - 1; i >= 0; i--) {
        const start = i * statRecordBytes;
        const stat = block.records.slice(start, start + statBytes);
        const child = `${name}\0${keyText(recordName(block, view, i))}`;
        const childLook = this.#add(child, stat);
        if (isDirectoryStat(stat) && this.#enters(child, stat)) waiting.push([child, childLook]);
      }
    }
  }

  /** All names of each file that has several, or had. */
  async #lookAtGroups(): Promise<void> {
    const { memory, namesOfInodes, selection } = this.#request;
    const whole = new Set<string>();
    const searched = new Set<string>();
    for (;;) {
      const more = new Set<string>();
      for (const name of memory.linkedNames()) {
        if (!this.#looks.has(name) && isBelowOne(name, this.voided)) more.add(name);
      }
      for (const [name, { stat }] of this.#looks) {
        for (const id of [memory.groupOf(name), stat === undefined ? undefined : groupOfStat(stat)]) {
          if (id === undefined || whole.has(id)) continue;
          whole.add(id);
          for (const other of memory.groups.get(id)?.names ?? []) if (!this.#looks.has(other)) more.add(other);
        }
      }
      if (more.size === 0) {
        const wanted = this.#groupsWithUnknownNames(searched);
        if (wanted.size === 0) return;
        for (const name of namesOfInodes(wanted)) {
          if (!this.#looks.has(name) && selection.selects(keyOfText(name), false)) more.add(name);
        }
        if (more.size === 0) return;
      }
      for (const name of more) await this.#lookAt(name, false);
    }
  }

  /** Inodes with more names than are known, where there were not as many unknown ones before. Each is asked for once. */
  #groupsWithUnknownNames(searched: Set<string>): Set<bigint> {
    const { memory } = this.#request;
    const found = new Map<string, { inode: bigint; nlink: number; names: number }>();
    for (const { stat } of this.#looks.values()) {
      const id = stat === undefined ? undefined : groupOfStat(stat);
      if (id === undefined || searched.has(id)) continue;
      const view = viewOf(stat as Uint8Array);
      const group = found.get(id);
      if (group === undefined) {
        const inode = view.getBigUint64(statOffset.inode, true);
        found.set(id, { inode, nlink: view.getUint32(statOffset.nlink, true), names: 1 });
      } else group.names++;
    }
    const wanted = new Set<bigint>();
    for (const [id, { inode, nlink, names }] of found) {
      const before = memory.groups.get(id);
      const outsideBefore = before === undefined ? 0 : before.nlink - before.names.size;
      if (nlink - names <= outsideBefore) continue;
      searched.add(id);
      wanted.add(inode);
    }
    return wanted;
  }

  /** What the tree has below a directory that was walked is gone when the walk has not met it. */
  async #lookBelowInBase(directory: string): Promise<void> {
    const { base, source, keys } = this.#request;
    if (base.nodeBytes === 0 || isBelowOne(directory, this.#walked)) return;
    const key = keyOfText(directory);
    const range = { from: childKey(key, new Uint8Array(0)), to: descendantsEnd(key) };
    for await (const items of scanTree(base, source, keys, range)) {
      for (const item of items) {
        const name = keyText(item.key);
        if (!this.#looks.has(name)) this.#add(name, undefined);
      }
    }
  }
}

/** Makes operations of what was looked at, and brings memory and delta up to date. */
class Plan {
  readonly #request: KnownScanRequest;
  readonly #listener: ScanListener;
  readonly #looks: Looks;
  readonly #operations: PlannedOperation[] = [];
  /** Below these nothing is reported: their range is gone. */
  readonly #closed = new Set<string>();
  readonly #firsts = new Map<string, Uint8Array>();
  readonly #groupsRead = new Set<string>();

  constructor(request: KnownScanRequest, listener: ScanListener, looks: Looks) {
    this.#request = request;
    this.#listener = listener;
    this.#looks = looks;
  }

  async make(): Promise<readonly PlannedOperation[]> {
    const { memory } = this.#request;
    for (const [name, reason] of memory.skipped) {
      const left = this.#looks.get(name) === undefined && !isBelowOne(name, this.#looks.voided);
      if (left) this.#listener.onSkip(keyOfText(name), reason, '');
    }
    const before = new Map<string, Before>();
    for (const name of this.#looks.names()) {
      const { dirty, skipped, held, delta } = memory;
      before.set(name, {
        entry: delta.get(name),
        dirty: dirty.has(name),
        skipped: skipped.has(name),
        held: held.has(name),
      });
      memory.forget(name);
    }
    memory.forgetBelow(this.#looks.voided);
    for (const name of this.#looks.sorted()) {
      if (isBelowOne(name, this.#closed)) continue;
      const look = this.#looks.get(name) as Look;
      const known = before.get(name) as Before;
      if (look.stat === undefined) await this.#gone(name, known);
      else await this.#present(name, look, look.stat, known);
    }
    return this.#operations;
  }

  async #gone(name: string, { entry: before, skipped }: Before): Promise<void> {
    this.#closed.add(name);
    const gone = { stat: undefined, whole: false, tag: undefined };
    if (before !== undefined) this.#remember(name, gone);
    if (before !== undefined && before.stat === undefined) return;
    const dropped = await this.#drop(name, keyOfText(name));
    // Names that come and go between two captures leave nothing behind.
    if (dropped || skipped) this.#remember(name, gone);
  }

  /** Removes what the tree has at the name and below it; false when there is nothing. */
  async #drop(name: string, key: Uint8Array): Promise<boolean> {
    const type = await this.#looks.typeInTree(name);
    if (type === undefined) return false;
    this.#operations.push({ kind: 'delete', key });
    if (type === 'directory') this.#dropBelow(key);
    return true;
  }

  #dropBelow(key: Uint8Array): void {
    this.#operations.push({ kind: 'delete-range', from: childKey(key, new Uint8Array(0)), to: descendantsEnd(key) });
  }

  #remember(name: string, entry: DeltaEntry): void {
    this.#request.memory.delta.set(name, entry);
  }

  async #present(name: string, look: Look, stat: Uint8Array, { entry: before, dirty, held }: Before): Promise<void> {
    const { selection, memory, freshFromMs, keepVolatile } = this.#request;
    const { onSkip, onVolatile, totals } = this.#listener;
    const key = keyOfText(name);
    const view = viewOf(stat);
    const type = view.getUint32(statOffset.mode, true) & fileTypeMask;
    const isDirectory = type === fileType.directory;
    // What was below a directory of that name goes as one range.
    if (!isDirectory) this.#closed.add(name);
    const skip = this.#skipReason(key, type, view, selection);
    if (skip !== undefined) {
      this.#remember(name, { stat, whole: isDirectory, tag: undefined });
      if (isDirectory) this.#closed.add(name);
      onSkip(key, skip, '');
      await this.#drop(name, key);
      return;
    }
    totals.entries++;
    const fresh = isFresh(view, 0, freshFromMs);
    if (fresh) memory.markDirty(key);
    const nlink = view.getUint32(statOffset.nlink, true);
    const multiple = type === fileType.regular && nlink > 1;
    let group = '';
    let tag: Uint8Array | undefined;
    let changed = before?.stat === undefined || !sameStatBytes(before.stat, stat);
    let first: Uint8Array | undefined;
    if (multiple) {
      group = groupOfStat(stat) as string;
      first = this.#firsts.get(group);
      if (first === undefined) this.#firsts.set(group, key);
      tag = first === undefined ? firstTag : linkTag(first);
      if (before?.tag === undefined || !sameTag(tag, before.tag)) changed = true;
      memory.link(name, group, nlink);
    }
    const whole = look.walked || look.unlisted !== undefined || (isDirectory && before?.whole === true);
    this.#remember(name, { stat, whole, tag });
    const leaves = !isDirectory && (await this.#wasDirectory(name, before));
    if (type === fileType.regular) totals.files++;
    // When it is read that is asked anew.
    if (held && type === fileType.regular) memory.hold(key, true);
    if (first !== undefined) {
      if (changed || dirty || this.#groupsRead.has(group)) {
        this.#operations.push({ kind: 'hardlink', key, target: first, group, position: nowhere, changed });
      }
      if (leaves) this.#dropBelow(key);
      return;
    }
    const size = type === fileType.regular ? readI64(view, statOffset.size) : 0;
    totals.bytes += size;
    const volatile = type === fileType.regular && !multiple && this.#isWalIndex(name);
    if (volatile) memory.markVolatile(key);
    if (volatile && isRegular(before?.stat) && keepVolatile.has(displayPath(key))) {
      onVolatile(key);
      memory.markDirty(key);
      return;
    }
    if (changed || dirty || fresh) {
      if (size > Number.MAX_SAFE_INTEGER) throw tooLarge(key);
      if (group !== '') this.#groupsRead.add(group);
      const own = key.slice(name.lastIndexOf('\0') + 1);
      this.#operations.push({
        kind: 'read',
        key,
        name: own,
        stat,
        size,
        position: nowhere,
        group,
        changed,
        fresh,
        volatile,
      });
    } else if (volatile) onVolatile(key);
    if (look.unlisted !== undefined) {
      this.#closed.add(name);
      memory.markDirty(key);
      onSkip(key, look.unlisted === 'ENOENT' ? 'vanished' : 'unreadable', look.unlisted);
      this.#dropBelow(key);
    }
    if (leaves) this.#dropBelow(key);
  }

  #skipReason(key: Uint8Array, type: number, view: DataView, selection: Selection): SkipReason | undefined {
    const isDirectory = type === fileType.directory;
    if (!selection.selects(key, isDirectory)) return 'excluded';
    if (!storable.has(type)) return unstorable(type);
    const elsewhere = isDirectory && view.getBigUint64(statOffset.device, true) !== this.#looks.path.device;
    return elsewhere ? 'other-filesystem' : undefined;
  }

  async #wasDirectory(name: string, before: DeltaEntry | undefined): Promise<boolean> {
    if (before !== undefined) return before.stat !== undefined && isDirectoryStat(before.stat);
    return (await this.#looks.typeInTree(name)) === 'directory';
  }

  /** As `isWalIndex` has it, by looks or by asking anew. */
  #isWalIndex(name: string): boolean {
    const own = name.slice(name.lastIndexOf('\0') + 1);
    if (!own.endsWith('-shm') || own.length <= 4) return false;
    const database = name.slice(0, -4);
    return this.#looks.exists(database) && this.#looks.exists(`${database}-wal`);
  }
}

/** Opens the directories again, in order, as the operations are taken. */
function* give(plan: readonly PlannedOperation[], path: OpenPath): Generator<ScanBatch> {
  let operations: ScanOperation[] = [];
  let readBytes = 0;
  let directories = 0;
  let last: DirectoryHandle | undefined;
  try {
    for (const planned of plan) {
      if (planned.kind !== 'read') operations.push(planned);
      else {
        const key = planned.key;
        const directory = path.open(keyText(parentKey(key)));
        if (directory === undefined) {
          // Its directory went away since it was looked at: that is a change, and the next pass is told of it.
          operations.push({ kind: 'delete', key });
        } else {
          directory.hold();
          if (directory !== last) directories++;
          last = directory;
          operations.push({ ...planned, directory });
          readBytes += planned.size;
        }
      }
      if (operations.length < batchOperationsMax && readBytes < batchBytesMax && directories < batchDirectoriesMax)
        continue;
      const batch = { operations, readBytes };
      operations = [];
      readBytes = 0;
      directories = 0;
      last = undefined;
      yield batch;
    }
    const batch = { operations, readBytes };
    operations = [];
    yield batch;
  } finally {
    releaseOperations(operations);
  }
}

function parentText(name: string): string {
  return name.slice(0, Math.max(0, name.lastIndexOf('\0')));
}

function isDirectoryStat(stat: Uint8Array): boolean {
  return (viewOf(stat).getUint32(statOffset.mode, true) & fileTypeMask) === fileType.directory;
}

function isRegular(stat: Uint8Array | undefined): boolean {
  return stat !== undefined && (viewOf(stat).getUint32(statOffset.mode, true) & fileTypeMask) === fileType.regular;
}

/** Device and inode of a file with several names. */
function groupOfStat(stat: Uint8Array): string | undefined {
  const view = viewOf(stat);
  if (!isRegular(stat) || view.getUint32(statOffset.nlink, true) < 2) return undefined;
  return groupOf(view, 0);
}

function sameStatBytes(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < statBytes; i++) if (a[i] !== b[i]) return false;
  return true;
}
