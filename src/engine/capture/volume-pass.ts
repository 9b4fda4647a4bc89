/**
 * One pass over one volume: walk, have the changed names read by lanes, and apply the answers to the tree in key order.
 *
 * Invariants: at most `windowBatches` jobs are in flight; answers are applied in the order of the walk whatever lane was
 * faster; a descriptor handed to a job is released when its answer was applied.
 */
import { encodeEntry } from '../format/entry-codec.ts';
import type { DomainKeys } from '../format/keys.ts';
import { ByteReader, ByteWriter } from '../model/bytes.ts';
import type { Place } from '../model/entry.ts';
import type { SkipReason, TreeRoot } from '../model/checkpoint.ts';
import { HoldfastError } from '../model/errors.ts';
import { displayPath } from '../model/rel-path.ts';
import { fileType, fileTypeMask, viewOf } from '../model/stat-record.ts';
import type { Descriptor, FileTreeReader } from '../ports/file-tree.ts';
import { loadPaths } from '../tree/load-paths.ts';
import type { NodeSource } from '../tree/node-access.ts';
import type { ScanCacheReader, ScanCacheWriter } from '../tree/scan-cache.ts';
import type { TreeEditor } from '../tree/tree-editor.ts';
import { laneJobKind, ReadJobWriter, readFlag, readStatus } from './lane-job.ts';
import { BaseMerge } from './base-merge.ts';
import { hintsFor, noHints } from './base-hints.ts';
import { NameTally } from '../model/name-tally.ts';
import { metaOf } from './read-name.ts';
import {
  type CachePosition,
  releaseOperations,
  type ScanBatch,
  type ScanOperation,
  type ScanTotals,
  scanVolume,
} from './scan.ts';
import type { ScanListener } from './known-scan.ts';
import type { Selection } from './select.ts';
import { DoubtTally } from './torn-clusters.ts';
import type { VolumeMemory } from './volume-memory.ts';

/** Two for each of four lanes. What waits here outlives the nursery and makes the heap grow. */
const windowBatches = 8;
/** Changes here and there would wait for the store once for each node; many lie so close that reading ahead does better. */
const pathsLoadedMax = 64;
/** Changes of more bytes than this do not wait for others: they are worth reading beside the walk. */
const gatheredBytesMax: number = 4 * 1024 * 1024;

export interface PassProgress {
  /** Names read so far in this pass. */
  onRead(names: number, bytes: number, newBytes: number): void;
  onScan(totals: ScanTotals): void;
}

export interface VolumePassRequest {
  readonly files: FileTreeReader;
  readonly root: Descriptor;
  readonly selection: Selection;
  /** The tree that the editor edits; its entries give the hints. */
  readonly base: TreeRoot;
  readonly editor: TreeEditor;
  readonly source: NodeSource;
  readonly keys: DomainKeys;
  /** False for a place in a pack of this run: it cannot be read back yet. */
  readonly readable: (place: Place) => boolean;
  readonly previous: ScanCacheReader | undefined;
  readonly next: ScanCacheWriter | undefined;
  /** Of a process that captures the volume again: brought up to date. */
  readonly memory: VolumeMemory | undefined;
  /** Looks only where something may have changed, in place of a walk. */
  readonly known: ((listener: ScanListener) => AsyncGenerator<ScanBatch>) | undefined;
  /** Called for each name whose stat is not what it was. */
  readonly onMoved: ((key: Uint8Array) => void) | undefined;
  /** What the pass before could not read. */
  readonly unreadBefore: NameTally | undefined;
  /** What the pass before listed and did not find any more when it was read. */
  readonly vanishedBefore: NameTally | undefined;
  readonly freshFromMs: number;
  readonly distrustContent: boolean;
  /** As display text: wal-indexes that passes of this capture have stored. They are kept, and those of this pass are added. */
  readonly volatileStored: Set<string>;
  /** Gives a job to the least busy lane. */
  readonly read: (job: Uint8Array, bytes: number) => Promise<Uint8Array> | Uint8Array;
  /** Called when a batch has been applied; may anchor what there is so far. No job is in flight when `drained` is true. */
  readonly onApplied: (drain: () => Promise<void>) => Promise<void> | void;
  readonly progress: PassProgress;
  /** Lets other work of the process have its turn. */
  readonly breathe: () => Promise<void>;
  readonly signal: AbortSignal | undefined;
}

export interface VolumePassResult {
  readonly totals: ScanTotals;
  /** Names whose state differed from what was known before: zero in a pass that met no change. */
  readonly moved: NameTally;
  /** Names that never held still while they were read. */
  readonly fuzzy: NameTally;
  /** All wal-indexes in the tree: stored as read, whatever happened meanwhile. */
  readonly volatile: NameTally;
  /** These, and names that may have moved without a trace while they were read: only an equal second read proves otherwise. */
  readonly unproven: DoubtTally;
  /** What moved or is unproven, each name once. */
  readonly unsettled: DoubtTally;
  readonly skipped: ReadonlyMap<SkipReason, NameTally>;
  /** Names whose writers stats cannot show. */
  readonly mapped: number;
  readonly readNames: number;
  readonly readBytes: number;
  readonly newBytes: number;
}

interface Pending {
  readonly operations: readonly ScanOperation[];
  readonly reply: Promise<Uint8Array> | Uint8Array | undefined;
}

function keyOf(operation: ScanOperation): Uint8Array {
  return operation.kind === 'delete-range' ? operation.from : operation.key;
}

export async function runVolumePass(request: VolumePassRequest): Promise<VolumePassResult> {
  const { editor, keys, source, base, next, memory } = request;
  const totals: ScanTotals = { entries: 0, directories: 0, files: 0, bytes: 0 };
  const moved = new NameTally();
  const fuzzy = new NameTally();
  const volatile = new NameTally();
  const unproven = new DoubtTally();
  const unsettled = new DoubtTally();
  const skipped = new Map<SkipReason, NameTally>();
  const failedGroups = new Set<string>();
  let mapped = 0;
  let readNames = 0;
  let readBytes = 0;
  let newBytes = 0;

  const skip = (key: Uint8Array, reason: SkipReason): void => {
    let tally = skipped.get(reason);
    if (tally === undefined) {
      tally = new NameTally();
      skipped.set(reason, tally);
    }
    tally.add(key);
    memory?.skip(key, reason);
  };
  const move = (key: Uint8Array): void => {
    moved.add(key);
    unsettled.add(key);
  };
  const markDirty = ({ key, position }: { readonly key: Uint8Array; readonly position: CachePosition }): void => {
    next?.markDirty(position.block, position.index);
    memory?.markDirty(key);
  };
  const keepVolatile = (key: Uint8Array): void => {
    volatile.add(key);
    memory?.markVolatile(key);
  };

  const readsAll = request.previous === undefined && request.known === undefined;
  const nothingBefore = base.nodeBytes === 0;
  const merge = readsAll && base.nodeBytes > 0 ? new BaseMerge(base, source, keys) : undefined;
  const job = new ReadJobWriter(memory === undefined ? laneJobKind.read : laneJobKind.readForWatch);
  const madeValue = new ByteWriter(512);
  const madePlacement = new ByteWriter(16);

  /** A promise only where the editor has to wait: one for each file would be garbage, and a turn. */
  const applyRead = (operation: Extract<ScanOperation, { kind: 'read' }>, r: ByteReader): void | Promise<void> => {
    const { key, group } = operation;
    const status = r.u8();
    const flags = r.u8();
    newBytes += r.varint();
    readBytes += r.varint();
    readNames++;
    const isVolatile = operation.volatile && status === readStatus.stored;
    // What cannot be read is missing, and said to be; it does not move as long as it stays so.
    const moves =
      !isVolatile && (operation.changed || ((flags & readFlag.moved) !== 0 && status !== readStatus.unreadable));
    const doubtful =
      !isVolatile && (operation.fresh || (flags & (readFlag.mapped | readFlag.fuzzy | readFlag.moved)) !== 0);
    if (isVolatile) {
      keepVolatile(key);
      request.volatileStored.add(displayPath(key));
    }
    if (moves) moved.add(key);
    if (operation.changed && group === '') request.onMoved?.(key);
    if (doubtful && status === readStatus.stored) unproven.add(key);
    if (moves || (doubtful && status === readStatus.stored)) unsettled.add(key);
    if ((flags & ~readFlag.writer) !== 0) markDirty(operation);
    memory?.hold(key, (flags & readFlag.writer) !== 0);
    if (status === readStatus.stored) {
      const value = r.blob();
      const placement = r.blob();
      if ((flags & readFlag.fuzzy) !== 0 && !isVolatile) fuzzy.add(key);
      if ((flags & readFlag.mapped) !== 0) mapped++;
      return editor.put(key, value, placement);
    }
    const errno = r.text();
    markDirty(operation);
    if (group !== '') failedGroups.add(group);
    if (status === readStatus.unreadable) {
      if (errno === 'EMFILE' || errno === 'ENFILE') {
        throw new HoldfastError('E_LIMIT', `too many open files while reading ${displayPath(key)}`);
      }
      skip(key, 'unreadable');
    } else {
      skip(key, 'vanished');
    }
    if ((viewOf(operation.stat).getUint32(0, true) & fileTypeMask) === fileType.directory) {
      // What it holds may be in the tree already, or come yet: it stands there as it was listed, and is looked at again.
      madeValue.reset();
      madePlacement.reset();
      encodeEntry({ type: 'directory', ...metaOf(operation.stat, []) }, madeValue, madePlacement);
      return editor.put(key, madeValue.take(), madePlacement.take());
    }
    return editor.delete(key);
  };

  const apply = async (pending: Pending): Promise<void> => {
    let done = 0;
    try {
      const reply = pending.reply === undefined ? undefined : new ByteReader(await pending.reply, 'lane reply');
      for (const operation of pending.operations) {
        done++;
        if (operation.kind === 'read') {
          operation.directory.release();
          const applied = applyRead(operation, reply as ByteReader);
          if (applied !== undefined) await applied;
          continue;
        }
        let wait: void | Promise<void>;
        if (operation.kind === 'hardlink') {
          if (operation.changed) move(operation.key);
          if (failedGroups.has(operation.group)) {
            markDirty(operation);
            skip(operation.key, 'unreadable');
            wait = editor.delete(operation.key);
          } else {
            madeValue.reset();
            madePlacement.reset();
            encodeEntry({ type: 'hardlink', target: operation.target }, madeValue, madePlacement);
            wait = editor.put(operation.key, madeValue.take(), madePlacement.take());
          }
        } else if (operation.kind === 'delete') {
          move(operation.key);
          request.onMoved?.(operation.key);
          wait = editor.delete(operation.key);
        } else {
          wait = editor.deleteRange(operation.from, operation.to);
        }
        if (wait !== undefined) await wait;
      }
    } finally {
      releaseOperations(pending.operations.slice(done));
    }
    request.progress.onRead(readNames, readBytes, newBytes);
  };

  const window: Pending[] = [];
  const drain = async (): Promise<void> => {
    while (window.length > 0) await apply(window.shift() as Pending);
  };

  const submit = async (batch: ScanBatch): Promise<void> => {
    let operations: readonly ScanOperation[] = batch.operations;
    try {
      request.signal?.throwIfAborted();
      if (merge !== undefined) operations = await merge.align(operations);
      else if (operations.length <= pathsLoadedMax) await loadPaths(base, operations.map(keyOf), source, keys);
      for (const operation of operations) {
        if (operation.kind !== 'read') continue;
        const found = merge === undefined ? undefined : merge.entryOf(operation.key);
        // A promise for each file of a first capture is garbage, and a turn.
        const hints = nothingBefore
          ? noHints
          : await hintsFor(operation, request, merge === undefined ? 'look-up' : found);
        job.add({
          directory: operation.directory.descriptor,
          name: operation.name,
          stat: operation.stat,
          hints: hints.chunks,
          nodeHints: hints.nodes,
        });
      }
      const reply = job.count > 0 ? request.read(job.take(), batch.readBytes) : undefined;
      if (reply instanceof Promise) reply.catch(() => undefined);
      window.push({ operations, reply });
    } catch (error) {
      releaseOperations(operations);
      throw error;
    }
  };

  /** A few changes among many names: those that come later are on other paths, and all of them together are waited for once. */
  let gathered: ScanOperation[] = [];
  let gatheredBytes = 0;
  const mayGather = !readsAll && base.nodeBytes > 0;
  const gather = ({ operations, readBytes: bytes }: ScanBatch): boolean => {
    if (!mayGather || gathered.length + operations.length > pathsLoadedMax) return false;
    if (gatheredBytes + bytes > gatheredBytesMax) return false;
    gathered.push(...operations);
    gatheredBytes += bytes;
    // The walk goes on meanwhile. Whatever fails here fails again where it is waited for.
    loadPaths(base, operations.map(keyOf), source, keys).catch(() => undefined);
    return true;
  };
  const submitGathered = async (): Promise<void> => {
    const batch: ScanBatch = { operations: gathered, readBytes: gatheredBytes };
    gathered = [];
    gatheredBytes = 0;
    if (batch.operations.length > 0) await submit(batch);
  };

  const listener: ScanListener = { onVolatile: keepVolatile, onSkip: skip, totals };
  const scan =
    request.known?.(listener) ??
    scanVolume({
      files: request.files,
      root: request.root,
      selection: request.selection,
      previous: request.previous,
      next,
      memory,
      freshFromMs: request.freshFromMs,
      distrustContent: request.distrustContent,
      keepVolatile: request.volatileStored,
      ...listener,
    });
  try {
    for await (const batch of scan) {
      if (batch.operations.length === 0) {
        request.signal?.throwIfAborted();
        request.progress.onScan(totals);
        // Without anything to read nothing else lets timers, signals and uploads have their turn.
        await request.breathe();
        continue;
      }
      if (gather(batch)) {
        request.signal?.throwIfAborted();
        request.progress.onScan(totals);
        await request.breathe();
        continue;
      }
      await submitGathered();
      await submit(batch);
      while (window.length > windowBatches || (window[0] !== undefined && !(window[0].reply instanceof Promise))) {
        await apply(window.shift() as Pending);
      }
      request.progress.onScan(totals);
      const anchored = request.onApplied(drain);
      if (anchored !== undefined) await anchored;
    }
    await submitGathered();
    await drain();
    if (merge !== undefined) {
      for await (const key of merge.rest()) {
        const wait = editor.delete(key);
        if (wait !== undefined) await wait;
        move(key);
      }
    }
  } finally {
    await scan.return(undefined);
    releaseOperations(gathered);
    for (const pending of window) releaseOperations(pending.operations);
  }
  request.progress.onScan(totals);
  if (request.vanishedBefore !== undefined) {
    // Something else may have stood there between the two passes, and be gone now: no pass has seen the name twice as it is.
    moved.addMissing(request.vanishedBefore, undefined);
    unsettled.addMissing(request.vanishedBefore, undefined);
  }
  if (request.unreadBefore !== undefined) {
    // A directory that could not be listed then was compared with nothing now: what left it since its stat was not seen to go.
    const unread = skipped.get('unreadable');
    moved.addMissing(request.unreadBefore, unread);
    unsettled.addMissing(request.unreadBefore, unread);
  }
  return { totals, moved, fuzzy, volatile, unproven, unsettled, skipped, mapped, readNames, readBytes, newBytes };
}
