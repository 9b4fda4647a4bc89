/**
 * One run of a capture towards one commit: its volumes, its packs, its caches, and what it has counted.
 * `capture.ts` says in which order its steps are taken.
 */
import { setRoot } from '../format/keys.ts';
import { comparePacks, findPack, type PackEntry, type PackReference } from '../format/pack-entry.ts';
import type { CommitBase, Committed } from '../lineage/lineage-writer.ts';
import type { Changes } from '../model/changes.ts';
import type { LocalCache } from '../ports/local-cache.ts';
import { atLeast, type Consistency, type VolumeCheckpoint } from '../model/checkpoint.ts';
import { equalBytes } from '../model/bytes.ts';
import type { EntryMeta, Place } from '../model/entry.ts';
import { HoldfastError, invariant, isHoldfastError } from '../model/errors.ts';
import { nextSlot, type RecordId } from '../model/ids.ts';
import { writeStat, viewOf } from '../model/stat-record.ts';
import { type Descriptor, FileTreeError } from '../ports/file-tree.ts';
import { emptyTree } from '../tree/node-access.ts';
import { ScanCacheReader, ScanCacheWriter } from '../tree/scan-cache.ts';
import { namesOfInodes } from '../tree/scan-delta.ts';
import { merge, openBoundScanCache, openMerged } from '../tree/open-scan-cache.ts';
import {
  bindScanCache,
  boundScanCache,
  type BoundScanCache,
  scanCacheFile,
  scanCacheIdentity,
} from '../tree/scan-cache-binding.ts';
import { TreeEditor } from '../tree/tree-editor.ts';
import type { CaptureOutcome, CaptureProgress, Refutation } from './capture-outcome.ts';
import type { CaptureOptions, CapturePorts, CaptureSettings, CaptureTarget, VolumeSource } from './capture-request.ts';
import { compact, type Compacted } from './compact.ts';
import { DatabaseLocks } from './database-locks.ts';
import { type BytesByPack, liveBytesDifference } from './live-bytes.ts';
import { findWriters } from './find-writers.ts';
import { scanKnown, type ScanListener } from './known-scan.ts';
import { statBytes } from './lane-job.ts';
import { NameTally } from '../model/name-tally.ts';
import { keepXattrs, metaOf } from './read-name.ts';
import { findSuspicions, type Suspicion } from './poison-guard.ts';
import { RunPacks } from './run-packs.ts';
import type { ScanBatch, ScanTotals } from './scan.ts';
import { StagedNodes } from './staged-nodes.ts';
import { TooManyChanges } from './too-many-changes.ts';
import { VolumeMemory } from './volume-memory.ts';
import { runVolumePass, type VolumePassRequest, type VolumePassResult } from './volume-pass.ts';
import type { FileWalk } from './walk-files.ts';
import { WatchState } from './watch-state.ts';
import type { WatchedVolume } from './watched-volume.ts';
import { checkpointOf, noMeta, outcomeOf, sameMeta, type VolumeState } from './volume-state.ts';

/** Clocks of kernels tick coarsely: what was changed this shortly before a pass may change again with equal stamps. */
const coarseClockMs = 10;
/** More than this, found by looking at names, is merged into the scan cache: it is written again with each checkpoint. */
const deltaNamesMax = 8192;
/** Counting what is in use of each pack ends after this: numbers that only say what is worth compacting may be old. */
const countMsMax = 1000;

export class CaptureRun {
  readonly #ports: CapturePorts;
  readonly #settings: CaptureSettings;
  readonly #target: CaptureTarget;
  readonly #signal: AbortSignal | undefined;
  readonly #onProgress: ((progress: CaptureProgress) => void) | undefined;
  readonly #base: CommitBase | undefined;
  readonly #basePacks: ReadonlySet<string>;
  readonly #packs: RunPacks;
  readonly #nodes: StagedNodes;
  readonly #volumes: VolumeState[] = [];
  /** Of the base, as they are there. */
  readonly #carried: readonly VolumeCheckpoint[];
  readonly #databases: DatabaseLocks | undefined;
  readonly #started: number;
  #pass = 0;
  #newBytes = 0;
  /** Of the pass that is running. */
  #passNewBytes = 0;
  #anchoredBytes = 0;
  #partials = 0;

  /** `attempt` counts the runs of one capture: none shares a salt with another. */
  constructor(
    ports: CapturePorts,
    settings: CaptureSettings,
    target: CaptureTarget,
    options: CaptureOptions,
    attempt: number,
  ) {
    this.#ports = ports;
    this.#settings = settings;
    this.#target = target;
    this.#signal = options.signal;
    this.#onProgress = options.onProgress;
    this.#started = ports.clock.monotonicMs();
    this.#base = target.writer === undefined ? target.base : target.writer.base;
    this.#basePacks = new Set(this.#base?.packs.map(({ origin, slot, pack }) => `${origin}/${slot}/${pack}`));
    this.#carried = (settings.carried ?? []).map((name) => {
      const volume = this.#base?.volumes.find((candidate) => candidate.name === name);
      invariant(volume !== undefined, `volume ${name} is carried forward from a base that has it`);
      return volume;
    });
    this.#packs = new RunPacks(ports, settings, target, attempt, options.signal);
    const { databaseLocks } = settings;
    if (databaseLocks !== undefined) {
      const { files, locks, clock } = ports;
      this.#databases = new DatabaseLocks({
        files,
        locks,
        clock,
        waitMs: databaseLocks.waitMs,
        signal: options.signal,
      });
    }
    this.#nodes = new StagedNodes(() => this.#packs.own, target.sourceOf(this.#base), ports.cache, target.kept);
  }

  /** Opens the directories of the volumes. E_SOURCE_UNREADABLE and E_LIMIT when one cannot be opened. */
  openVolumes(): void {
    for (const source of this.#settings.volumes) {
      let root: Descriptor;
      try {
        root = this.#ports.files.openRoot(source.path);
      } catch (error) {
        throw unreadableSource(source, error);
      }
      const inBase = this.#base?.volumes.find((volume) => volume.name === source.name);
      this.#volumes.push({
        source,
        root,
        tree: inBase?.root ?? emptyTree(this.#target.keys),
        rootMeta: inBase?.rootMeta ?? noMeta,
        last: undefined,
        newBytes: 0,
        volatileStored: new Set(),
        scan: 'full',
        cacheFile: undefined,
        memory: this.#recall(source),
        watch: this.#watches(source) ? new WatchState(source.watched) : undefined,
        complete: false,
        rootMoved: false,
      });
    }
  }

  /** Passes over all volumes. True when none showed any change since the pass before. */
  async pass(): Promise<boolean> {
    this.#pass++;
    let still = true;
    for (const volume of this.#volumes) {
      if (!(await this.#passOver(volume))) still = false;
    }
    return still;
  }

  /** Whether what was seen of a volume so far is a watcher's word that may come too late, and a walk has to show it. */
  get mayBeLate(): boolean {
    return this.#volumes.some(({ watch }) => watch?.mayBeLate === true);
  }

  /** `must`: there is a reason beyond the bounds. False when the bounds of passes or of time are reached. What a second pass must prove has that one whatever the bounds. */
  mayPassAgain(must: boolean): boolean {
    const { quiesced, databaseLocks, convergeMsMax, extraPassesMax } = this.#settings;
    if (must || (this.#pass === 1 && (quiesced || databaseLocks !== undefined))) return true;
    const late = this.#ports.clock.monotonicMs() - this.#started > convergeMsMax;
    return !late && this.#pass <= extraPassesMax;
  }

  /** Between the first pass and the second: the files of which it cannot be said that nobody writes them. */
  async findWriters(): Promise<Refutation[]> {
    const refuted: Refutation[] = [];
    for (const volume of this.#volumes) {
      const found = new NameTally();
      await findWriters(this.#walkOf(volume), found);
      const { count, names } = found;
      if (count > 0) refuted.push({ volume: volume.source.name, reason: 'writer', count, names: names.slice(0, 20) });
    }
    return refuted;
  }

  /** After a pass: what it found otherwise than the pass before. */
  changes(): Refutation[] {
    return this.#volumes.flatMap(({ source: { name }, last, rootMoved }): Refutation[] => {
      const { count = 0, names = [] } = last?.unsettled ?? {};
      const all = rootMoved ? ['.', ...names] : names;
      const total = count + (rootMoved ? 1 : 0);
      return total === 0 ? [] : [{ volume: name, reason: 'changed', count: total, names: all.slice(0, 20) }];
    });
  }

  /** Before a pass: no database changes until `releaseDatabases`. Does nothing unless that was asked for. */
  async holdDatabases(): Promise<void> {
    await this.#databases?.hold(this.#walks());
  }

  /** After the last pass: says which databases were still, and lets their writers go on. */
  async releaseDatabases(): Promise<void> {
    await this.#databases?.settle(this.#walks());
  }

  #walks(): FileWalk[] {
    return this.#volumes.map((volume) => this.#walkOf(volume));
  }

  #walkOf({ root, source }: VolumeState): FileWalk {
    const { files, clock } = this.#ports;
    return { files, root, selection: source.selection, breathe: () => clock.wait(0), signal: this.#signal };
  }

  /** What this process remembers of the volume as the base has it. */
  #recall(source: VolumeSource): VolumeMemory | undefined {
    if (!this.#watches(source) || this.#base === undefined || !this.#settings.trustCache) return undefined;
    const volume = this.#base.volumes.find(({ name }) => name === source.name);
    return volume === undefined ? undefined : source.watched.recall(volume.root.id, this.#cacheIdentity(source));
  }

  /** A dry run takes nothing from a watcher. */
  #watches(source: VolumeSource): source is VolumeSource & { readonly watched: WatchedVolume } {
    return source.watched !== undefined && this.#target.writer !== undefined && this.#ports.cache !== undefined;
  }

  async #passOver(volume: VolumeState): Promise<boolean> {
    const before = volume.tree;
    const changes = await volume.watch?.take();
    const rootMeta = this.#readRootMeta(volume);
    const sameRoot = sameMeta(volume.rootMeta, rootMeta);
    volume.rootMeta = rootMeta;
    const names = this.#namesToLookAt(volume, changes);
    const looked = names === undefined ? undefined : await this.#lookOver(volume, names);
    const result = looked ?? (await this.#walkOver(volume));
    volume.last = result;
    volume.newBytes += result.newBytes;
    this.#newBytes += result.newBytes;
    this.#passNewBytes = 0;
    volume.complete = true;
    volume.rootMoved = !sameRoot;
    const sameTree = equalBytes(before.id, volume.tree.id);
    return this.#pass > 1 && sameTree && sameRoot && result.moved.count === 0 && result.fuzzy.count === 0;
  }

  /**
   * Key texts of what the pass must look at, when that is known. Not so where mapped writes leave no trace; and a watcher that may
   * tell too late can say where to look first, but not that nothing else moved meanwhile.
   */
  #namesToLookAt(
    { root, memory, watch }: VolumeState,
    changes: Changes | undefined,
  ): ReadonlyMap<string, boolean> | undefined {
    if (watch === undefined || memory === undefined || changes?.kind !== 'names') return undefined;
    if (this.#settings.audit === true || watch.walked || !memory.complete) return undefined;
    if (this.#pass > 1 && !watch.watched.source.prompt) return undefined;
    if (!this.#ports.files.fileSystem(root).writeback) return undefined;
    const names = new Map<string, boolean>();
    for (const name of watch.lookedAt) names.set(name, false);
    for (const [name, whole] of changes.names.entries()) names.set(name, whole);
    return names;
  }

  /** A pass over these names alone; undefined when they are too many, or lie too deep, for that. */
  async #lookOver(volume: VolumeState, names: ReadonlyMap<string, boolean>): Promise<VolumePassResult | undefined> {
    const { files, clock } = this.#ports;
    const watch = volume.watch as WatchState;
    const memory = new VolumeMemory(volume.memory);
    const editor = this.#editorOf(volume);
    const freshFromMs = clock.nowMs() - coarseClockMs;
    const scan = (listener: ScanListener): AsyncGenerator<ScanBatch> =>
      scanKnown(
        {
          files,
          root: volume.root,
          selection: volume.source.selection,
          base: volume.tree,
          source: this.#nodes,
          keys: this.#target.keys,
          names,
          memory,
          lookedAt: watch.lookedAt,
          freshFromMs,
          keepVolatile: volume.volatileStored,
          namesOfInodes: (inodes) => this.#namesOfInodes(volume, memory, inodes),
        },
        listener,
      );
    try {
      const result = await runVolumePass({
        ...this.#passRequest(volume, editor),
        previous: undefined,
        next: undefined,
        memory,
        known: scan,
        onMoved: undefined,
        freshFromMs,
        distrustContent: false,
      });
      volume.tree = await editor.finish();
      volume.memory = memory;
      if (this.#pass === 1) volume.scan = 'known';
      return result;
    } catch (error) {
      if (error instanceof TooManyChanges) return undefined;
      throw error;
    }
  }

  #namesOfInodes(volume: VolumeState, memory: VolumeMemory, inodes: ReadonlySet<bigint>): readonly string[] {
    const { cache } = this.#ports;
    const reader =
      cache === undefined || memory.cacheFile === undefined
        ? undefined
        : ScanCacheReader.open(cache, memory.cacheFile, this.#cacheIdentity(volume.source));
    if (reader === undefined) throw new TooManyChanges();
    try {
      return namesOfInodes(reader, memory.delta, inodes);
    } finally {
      reader.close();
    }
  }

  /** A pass over all of the volume. */
  async #walkOver(volume: VolumeState): Promise<VolumePassResult> {
    const { files, cache, clock } = this.#ports;
    const { source, watch } = volume;
    const identity = this.#cacheIdentity(source);
    const previous = this.#openPrevious(volume);
    if (this.#pass === 1) volume.scan = previous === undefined ? 'full' : 'cached';
    const nextFile = this.#newCacheFile(source);
    const next = cache === undefined ? undefined : new ScanCacheWriter(cache, nextFile, previous?.source);
    const memory = watch === undefined ? undefined : new VolumeMemory();
    // What is not read now is not asked for its writers either.
    for (const name of volume.memory?.held ?? []) memory?.held.add(name);
    const onMoved = previous === undefined ? undefined : watch?.listen(volume.memory);
    const editor = this.#editorOf(volume);
    try {
      const result = await runVolumePass({
        ...this.#passRequest(volume, editor),
        previous,
        next,
        memory,
        known: undefined,
        onMoved,
        freshFromMs: clock.nowMs() - coarseClockMs,
        distrustContent: previous !== undefined && !files.fileSystem(volume.root).writeback,
      });
      volume.tree = await editor.finish();
      next?.commit(identity);
      previous?.close();
      if (next !== undefined) {
        if (volume.cacheFile !== undefined) cache?.remove(volume.cacheFile);
        volume.cacheFile = nextFile;
      }
      if (watch !== undefined && memory !== undefined) {
        memory.cacheFile = nextFile;
        volume.memory = memory;
        watch.walked = true;
        const { entries, directories } = result.totals;
        watch.watched.source.scanned({ entries, directories });
      }
      return result;
    } catch (error) {
      next?.abort();
      previous?.close();
      throw error;
    }
  }

  /** What the last pass, of this capture or the one before, saw of the volume. */
  #openPrevious({ source, cacheFile, memory }: VolumeState): ScanCacheReader | undefined {
    const { cache } = this.#ports;
    if (cache === undefined) return undefined;
    const identity = this.#cacheIdentity(source);
    if (memory !== undefined) {
      const { cacheFile: file, delta, dirty } = memory;
      return file === undefined
        ? undefined
        : openMerged(cache, { file, delta, dirty, identity }, this.#newCacheFile(source));
    }
    if (cacheFile !== undefined) return ScanCacheReader.open(cache, cacheFile, identity);
    const bound = this.#boundCache(source);
    return bound === undefined ? undefined : openBoundScanCache(cache, bound, identity);
  }

  #newCacheFile({ name }: VolumeSource): string {
    return scanCacheFile(name, this.#ports.random.bytes(8));
  }

  #editorOf(volume: VolumeState): TreeEditor {
    return new TreeEditor({ base: volume.tree, source: this.#nodes, sink: this.#nodes, keys: this.#target.keys });
  }

  #passRequest(
    volume: VolumeState,
    editor: TreeEditor,
  ): Omit<VolumePassRequest, 'previous' | 'next' | 'memory' | 'known' | 'onMoved' | 'freshFromMs' | 'distrustContent'> {
    let scanned: ScanTotals | undefined;
    return {
      files: this.#ports.files,
      root: volume.root,
      selection: volume.source.selection,
      base: volume.tree,
      editor,
      source: this.#nodes,
      keys: this.#target.keys,
      readable: (place) => this.#basePacks.has(`${place.origin}/${place.slot}/${place.pack}`),
      unreadBefore: volume.last?.skipped.get('unreadable'),
      volatileStored: volume.volatileStored,
      read: (job, bytes) => this.#packs.read(job, bytes),
      onApplied: (drain) => this.#afterBatch(volume, editor, drain),
      progress: {
        onRead: (_names, bytes, newBytes) => {
          this.#passNewBytes = newBytes;
          this.#report('read', scanned, bytes, newBytes);
        },
        onScan: (totals) => {
          scanned = totals;
          this.#report(this.#pass === 1 ? 'scan' : 'converge', totals, 0, 0);
        },
      },
      breathe: () => this.#ports.clock.wait(0),
      signal: this.#signal,
    };
  }

  #readRootMeta(volume: VolumeState): EntryMeta {
    const { files } = this.#ports;
    const bytes = new Uint8Array(statBytes);
    writeStat(viewOf(bytes), 0, files.stat(volume.root));
    const xattrs = keepXattrs(files.xattrs(volume.root), this.#target.keys, (id, value) => {
      const target = this.#packs.own;
      let place: Place | undefined;
      for (const { value: known } of volume.rootMeta.xattrs) {
        if (known.kind === 'chunk' && equalBytes(known.id, id)) place = known.place;
      }
      if (place === undefined) {
        place = target.addData(value, 0, value.length);
        volume.newBytes += value.length;
        this.#newBytes += value.length;
      }
      target.refer(place);
      return place;
    });
    return metaOf(bytes, xattrs);
  }

  /** Waits for the store when it lags behind; anchors a long first capture. */
  async #afterBatch(volume: VolumeState, editor: TreeEditor, drain: () => Promise<void>): Promise<void> {
    const writer = this.#target.writer;
    if (writer === undefined) return;
    await this.#packs.drain();
    const stored = this.#packs.storedBytes;
    const first = this.#base === undefined || this.#base.record.header.kind === 'PARTIAL';
    if (!first || this.#pass > 1 || stored - this.#anchoredBytes < this.#settings.partialBytes) return;
    await drain();
    const snapshot = await editor.snapshot();
    const volumes = this.#volumes
      .filter((other) => other.complete || other === volume)
      .map((other) => checkpointOf(other, other === volume ? snapshot : other.tree, this.#pass, 'fuzzy'))
      .concat(this.#carried);
    const { uploaded, inlined } = await this.#packs.end(false);
    const committed = await writer.commit({
      kind: 'PARTIAL',
      volumes,
      consistency: 'fuzzy',
      suspect: false,
      newBytes: this.#newBytes + this.#passNewBytes,
      uploaded,
      inlined,
      referenced: this.#packs.references(),
      ...(this.#signal === undefined ? {} : { signal: this.#signal }),
    });
    invariant(writer.slot === nextSlot(committed.slot), 'after a PARTIAL the next slot follows');
    this.#partials++;
    this.#packs.openSlot(writer.slot);
    this.#anchoredBytes = this.#packs.storedBytes;
  }

  /** Whether a checkpoint of what was found would say nothing beyond the newest one, which is all that may then be left out. */
  showsNothingNew(consistency: Consistency): boolean {
    const base = this.#base?.record.header;
    if (this.#settings.commitUnchanged !== false || this.#target.writer === undefined) return false;
    if (base?.kind !== 'CHECKPOINT' || base.consistency === undefined) return false;
    const before = this.#base?.volumes ?? [];
    // Where a watcher may be late, only a walk can say that nothing moved.
    if (this.mayBeLate) return false;
    return (
      atLeast(base.consistency, consistency) &&
      before.length === this.#volumes.length + this.#carried.length &&
      this.#volumes.every((volume) => {
        const old = before.find(({ name }) => name === volume.source.name);
        const now = checkpointOf(volume, volume.tree, this.#pass, consistency);
        return (
          old !== undefined &&
          equalBytes(old.root.id, now.root.id) &&
          sameMeta(old.rootMeta, now.rootMeta) &&
          old.incomplete === now.incomplete
        );
      })
    );
  }

  /** Ends without a checkpoint, because the newest one shows the same. Nothing stays open. */
  async leave(consistency: Consistency, refuted?: readonly Refutation[]): Promise<CaptureOutcome> {
    const base = this.#base as CommitBase;
    // One that is suspect stays so, and there is nothing to say of it twice.
    const suspicions = await this.#findSuspicions(base.volumes);
    for (const { watch } of this.#volumes) await watch?.judge();
    const outcomes = this.#volumes.map((volume, i) =>
      outcomeOf(volume, checkpointOf(volume, volume.tree, this.#pass, consistency), this.#databases?.outcomes(i) ?? []),
    );
    await this.#packs.abandon();
    // What was seen of the volumes is as good for the next capture as what the checkpoint itself left.
    this.#tryToBindCaches(base.record.header.id);
    for (const { watch } of this.#volumes) watch?.committed();
    this.#release();
    return {
      root: this.#setRoot(base.volumes),
      committed: undefined,
      consistency,
      passes: this.#pass,
      volumes: outcomes,
      newBytes: 0,
      storedBytes: 0,
      incomplete: base.volumes.some(({ incomplete }) => incomplete),
      suspect: base.good?.record !== base.record,
      suspicions,
      partials: this.#partials,
      databaseLockMs: this.#databases?.heldMs,
      refuted,
    };
  }

  /** Commits what the passes found as one checkpoint; a dry run only tells it. Nothing stays open. */
  async commit(consistency: Consistency, refuted?: readonly Refutation[]): Promise<CaptureOutcome> {
    const writer = this.#target.writer;
    for (const { watch } of this.#volumes) await watch?.judge();
    const captured = this.#volumes.map((volume) => checkpointOf(volume, volume.tree, this.#pass, consistency));
    const outcomes = this.#volumes.map((volume, i) =>
      outcomeOf(volume, captured[i] as VolumeCheckpoint, this.#databases?.outcomes(i) ?? []),
    );
    let volumes: readonly VolumeCheckpoint[] = [...captured, ...this.#carried];
    const incomplete = volumes.some((volume) => volume.incomplete);
    const root = this.#setRoot(volumes);
    const suspicions = await this.#findSuspicions(volumes);
    const suspect = suspicions.length > 0 || this.#settings.suspect === true;
    let committed: Committed | undefined;
    let recordBytes = 0;
    let compacted: Compacted | undefined;
    if (writer !== undefined) {
      this.#report('store', undefined, 0, 0);
      const growth = await this.#liveBytesSince(volumes);
      compacted = await this.#compact(volumes, growth);
      const compactedGrowth = compacted === undefined ? growth : await this.#liveBytesSince(compacted.volumes);
      volumes = compacted?.volumes ?? volumes;
      const isDropped = (pack: PackReference): boolean =>
        compacted?.dropped.some((dropped) => comparePacks(dropped, pack) === 0) ?? false;
      const { uploaded, inlined } = await this.#packs.end(!this.#settings.final);
      this.#report('commit', undefined, 0, 0);
      committed = await writer.commit({
        kind: 'CHECKPOINT',
        volumes,
        consistency,
        suspect,
        newBytes: this.#newBytes,
        uploaded,
        inlined,
        // What an earlier pass took from them was moved as well.
        referenced: this.#packs.references().filter((pack) => !isDropped(pack)),
        ...(compacted === undefined ? {} : { keep: (writer.base?.packs ?? []).filter((pack) => !isDropped(pack)) }),
        ...(compactedGrowth === undefined ? {} : { inUse: (pack) => this.#inUse(pack, compactedGrowth) }),
        ...(this.#settings.labels === undefined ? {} : { labels: this.#settings.labels }),
        ...(this.#signal === undefined ? {} : { signal: this.#signal }),
      });
      invariant(equalBytes(committed.root, root), 'the committed root is the captured one');
      this.#nodes.committed();
      for (const { watch } of this.#volumes) watch?.committed();
      recordBytes = committed.bytes - inlined.reduce((sum, pack) => sum + pack.bytes.length, 0);
      this.#tryToBindCaches(committed.id);
    } else {
      this.#dropCaches();
    }
    await this.#packs.close();
    this.#release();
    return {
      root,
      committed,
      consistency,
      passes: this.#pass,
      volumes: outcomes,
      newBytes: this.#newBytes,
      storedBytes: this.#packs.storedBytes + recordBytes,
      incomplete,
      suspect,
      suspicions,
      compacted: compacted?.outcome,
      partials: this.#partials,
      databaseLockMs: this.#databases?.heldMs,
      refuted,
    };
  }

  #setRoot(volumes: readonly VolumeCheckpoint[]): Uint8Array {
    return setRoot(
      this.#target.keys,
      volumes.map(({ name, root: tree }) => ({ name, id: tree.id })),
    );
  }

  /** By how much more is in use of each pack than in the base; undefined when counting it takes too long. */
  async #liveBytesSince(volumes: readonly VolumeCheckpoint[]): Promise<BytesByPack | undefined> {
    const { clock } = this.#ports;
    const until = clock.monotonicMs() + countMsMax;
    try {
      return await liveBytesDifference({
        before: this.#base?.volumes ?? [],
        after: volumes,
        source: this.#nodes,
        keys: this.#target.keys,
        mayGoOn: () => {
          this.#signal?.throwIfAborted();
          return clock.monotonicMs() < until;
        },
      });
    } catch (error) {
      // Nodes that are being replaced need not be readable for a checkpoint to be made.
      if (!isHoldfastError(error, 'E_DAMAGED', 'E_HOSTILE', 'E_STORE_IO', 'E_STORE_UNREACHABLE')) throw error;
      return undefined;
    }
  }

  async #findSuspicions(volumes: readonly VolumeCheckpoint[]): Promise<readonly Suspicion[]> {
    const good = this.#base?.good;
    const { guard = [] } = this.#settings;
    if (good === undefined || guard.length === 0) return [];
    // The trees of a dry run are stored nowhere: of those only the whole is known.
    const rules = this.#target.writer === undefined ? guard.filter(({ path }) => path.length === 0) : guard;
    // Packs that only a suspect base has done without are listed by the good one.
    const source = good.record === this.#base?.record ? this.#nodes : this.#target.sourceOf(good);
    return await findSuspicions(
      { volumes: good.volumes, source },
      { volumes, source: this.#nodes },
      rules,
      this.#target.keys,
    );
  }

  #inUse(pack: PackEntry, growth: BytesByPack): number {
    const before = this.#base === undefined ? undefined : findPack(this.#base.packs, pack);
    return Math.max(0, (before?.liveBytes ?? 0) + growth.of(pack));
  }

  async #compact(
    volumes: readonly VolumeCheckpoint[],
    growth: BytesByPack | undefined,
  ): Promise<Compacted | undefined> {
    const limits = this.#settings.compaction;
    const base = this.#base;
    if (limits === undefined || growth === undefined || base === undefined) return undefined;
    // Packs of PARTIALs stay until a CHECKPOINT takes their place as the base.
    if (base.record.header.kind !== 'CHECKPOINT') return undefined;
    return await compact({
      packs: base.packs.map((pack) => ({ ...pack, liveBytes: this.#inUse(pack, growth) })),
      volumes,
      limits,
      source: this.#nodes,
      sink: this.#nodes,
      target: this.#packs.own,
      keys: this.#target.keys,
      clock: this.#ports.clock,
      drain: () => this.#packs.drain(),
      signal: this.#signal,
    });
  }

  /** Leaves nothing open and nothing half-stored. Safe after success too. */
  async abandon(): Promise<void> {
    for (const { watch } of this.#volumes) watch?.putBack();
    await this.#packs.abandon();
    this.#release();
  }

  #release(): void {
    this.#databases?.release();
    this.#nodes.close();
    for (const volume of this.#volumes.splice(0)) this.#ports.files.close(volume.root);
  }

  #cacheIdentity({ name, path, selection }: VolumeSource): string {
    return scanCacheIdentity({ lineage: this.#target.lineage, volume: name, path, selection: selection.signature });
  }

  /** The cache that was bound to the base's record, if that is still the base. */
  #boundCache({ name }: VolumeSource): BoundScanCache | undefined {
    const { cache } = this.#ports;
    if (cache === undefined || this.#base === undefined || !this.#settings.trustCache) return undefined;
    return boundScanCache(cache, name, this.#base.record.header.id);
  }

  /** The checkpoint exists; without its cache the next one reads everything, which is slower and never wrong. */
  #tryToBindCaches(record: RecordId): void {
    try {
      this.#bindCaches(record);
    } catch (error) {
      if (!isHoldfastError(error, 'E_STATE_DIR')) throw error;
    }
  }

  #bindCaches(record: RecordId): void {
    const { cache } = this.#ports;
    if (cache === undefined) return;
    const base = this.#base?.record.header.id;
    for (const { name } of base === undefined ? [] : this.#carried) {
      const bound = boundScanCache(cache, name, base as RecordId);
      if (bound !== undefined) bindScanCache(cache, name, record, bound.file, bound.delta);
    }
    for (const volume of this.#volumes) {
      const { source, memory } = volume;
      if (memory === undefined) {
        if (volume.cacheFile !== undefined) bindScanCache(cache, source.name, record, volume.cacheFile);
        continue;
      }
      this.#bindMemory(cache, source, record, memory);
      source.watched?.remember(volume.tree.id, this.#cacheIdentity(source), memory);
    }
  }

  /** What was found by looking at names stands beside the cache until it is much, and then in it. */
  #bindMemory(cache: LocalCache, source: VolumeSource, record: RecordId, memory: VolumeMemory): void {
    const identity = this.#cacheIdentity(source);
    const { cacheFile: file, delta: found, dirty } = memory;
    if (found.size > deltaNamesMax && file !== undefined) {
      const merged = this.#newCacheFile(source);
      memory.cacheFile = merge(cache, { file, delta: found, dirty, identity }, merged) ? merged : undefined;
      found.entries.clear();
    }
    if (memory.cacheFile === undefined) return;
    let delta: string | undefined;
    if (found.size > 0) {
      delta = this.#newCacheFile(source);
      cache.create(delta).commit(found.encode(identity, dirty));
    }
    bindScanCache(cache, source.name, record, memory.cacheFile, delta);
  }

  #dropCaches(): void {
    for (const volume of this.#volumes) {
      if (volume.cacheFile !== undefined) this.#ports.cache?.remove(volume.cacheFile);
    }
  }

  #report(phase: CaptureProgress['phase'], totals: ScanTotals | undefined, readBytes: number, newBytes: number): void {
    if (this.#onProgress === undefined) return;
    this.#onProgress({
      phase,
      pass: this.#pass,
      entries: totals?.entries ?? 0,
      files: totals?.files ?? 0,
      bytes: totals?.bytes ?? 0,
      readBytes,
      newBytes: this.#newBytes + newBytes,
      storedBytes: this.#packs.storedBytes,
    });
  }
}

function unreadableSource(source: VolumeSource, cause: unknown): unknown {
  if (!(cause instanceof FileTreeError)) return cause;
  if (cause.errno === 'EMFILE' || cause.errno === 'ENFILE')
    return new HoldfastError('E_LIMIT', 'too many open files', { cause });
  return new HoldfastError(
    'E_SOURCE_UNREADABLE',
    `cannot open ${source.path} for volume ${source.name}: ${cause.errno}`,
    {
      cause,
    },
  );
}
