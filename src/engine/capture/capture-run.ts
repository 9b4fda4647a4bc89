/**
 * One run of a capture towards one commit: its volumes, its packs, its caches, and what it has counted.
 * `capture.ts` says in which order its steps are taken.
 */
import { setRoot } from '../format/keys.ts';
import { comparePacks, findPack, type PackEntry, type PackReference } from '../format/pack-entry.ts';
import type { CommitBase, Committed } from '../lineage/lineage-writer.ts';
import { atLeast, type Consistency, type VolumeCheckpoint } from '../model/checkpoint.ts';
import { equalBytes } from '../model/bytes.ts';
import type { EntryMeta, Place } from '../model/entry.ts';
import { HoldfastError, invariant, isHoldfastError } from '../model/errors.ts';
import { nextSlot, type RecordId } from '../model/ids.ts';
import { writeStat, viewOf } from '../model/stat-record.ts';
import { type Descriptor, FileTreeError } from '../ports/file-tree.ts';
import { emptyTree } from '../tree/node-access.ts';
import { ScanCacheReader, ScanCacheWriter } from '../tree/scan-cache.ts';
import { bindScanCache, boundScanCache, scanCacheFile, scanCacheIdentity } from '../tree/scan-cache-binding.ts';
import { TreeEditor } from '../tree/tree-editor.ts';
import type { CaptureOutcome, CaptureProgress, Refutation } from './capture-outcome.ts';
import type { CaptureOptions, CapturePorts, CaptureSettings, CaptureTarget, VolumeSource } from './capture-request.ts';
import { compact, type Compacted } from './compact.ts';
import { DatabaseLocks } from './database-locks.ts';
import { type BytesByPack, liveBytesDifference } from './live-bytes.ts';
import { findWriters } from './find-writers.ts';
import { statBytes } from './lane-job.ts';
import { NameTally } from '../model/name-tally.ts';
import { keepXattrs, metaOf } from './read-name.ts';
import { findSuspicions, type Suspicion } from './poison-guard.ts';
import { RunPacks } from './run-packs.ts';
import type { ScanTotals } from './scan.ts';
import { StagedNodes } from './staged-nodes.ts';
import { runVolumePass } from './volume-pass.ts';
import type { FileWalk } from './walk-files.ts';
import { checkpointOf, noMeta, outcomeOf, sameMeta, type VolumeState } from './volume-state.ts';

/** Clocks of kernels tick coarsely: what was changed this shortly before a pass may change again with equal stamps. */
const coarseClockMs = 10;
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

  /** False when the bounds of passes or of time are reached. What a second pass must prove has that one whatever the bounds. */
  mayPassAgain(): boolean {
    const { quiesced, databaseLocks, convergeMsMax, extraPassesMax } = this.#settings;
    if (this.#pass === 1 && (quiesced || databaseLocks !== undefined)) return true;
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

  async #passOver(volume: VolumeState): Promise<boolean> {
    const { files, cache, clock } = this.#ports;
    const { source } = volume;
    const before = volume.tree;
    const rootMeta = this.#readRootMeta(volume);
    const sameRoot = sameMeta(volume.rootMeta, rootMeta);
    volume.rootMeta = rootMeta;
    const previousFile = volume.cacheFile ?? this.#boundCache(volume);
    const previous =
      cache === undefined || previousFile === undefined
        ? undefined
        : ScanCacheReader.open(cache, previousFile, this.#cacheIdentity(volume));
    if (this.#pass === 1) volume.scan = previous === undefined ? 'full' : 'cached';
    const nextFile = scanCacheFile(source.name, this.#ports.random.bytes(8));
    const next = cache === undefined ? undefined : new ScanCacheWriter(cache, nextFile, previous?.source);
    const editor = new TreeEditor({
      base: before,
      source: this.#nodes,
      sink: this.#nodes,
      keys: this.#target.keys,
    });
    const writeback = files.fileSystem(volume.root).writeback;
    let scanned: ScanTotals | undefined;
    try {
      const result = await runVolumePass({
        files,
        root: volume.root,
        selection: source.selection,
        base: before,
        editor,
        source: this.#nodes,
        keys: this.#target.keys,
        readable: (place) => this.#basePacks.has(`${place.origin}/${place.slot}/${place.pack}`),
        previous,
        next,
        unreadBefore: volume.last?.skipped.get('unreadable'),
        freshFromMs: clock.nowMs() - coarseClockMs,
        distrustContent: previous !== undefined && !writeback,
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
        breathe: () => clock.wait(0),
        signal: this.#signal,
      });
      volume.tree = await editor.finish();
      volume.last = result;
      volume.newBytes += result.newBytes;
      this.#newBytes += result.newBytes;
      this.#passNewBytes = 0;
      volume.complete = true;
      next?.commit(this.#cacheIdentity(volume));
      previous?.close();
      if (next !== undefined) {
        if (volume.cacheFile !== undefined) cache?.remove(volume.cacheFile);
        volume.cacheFile = nextFile;
      }
      volume.rootMoved = !sameRoot;
      const sameTree = equalBytes(before.id, volume.tree.id);
      return this.#pass > 1 && sameTree && sameRoot && result.moved.count === 0 && result.fuzzy.count === 0;
    } catch (error) {
      next?.abort();
      previous?.close();
      throw error;
    }
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
    const outcomes = this.#volumes.map((volume, i) =>
      outcomeOf(volume, checkpointOf(volume, volume.tree, this.#pass, consistency), this.#databases?.outcomes(i) ?? []),
    );
    await this.#packs.abandon();
    // What was seen of the volumes is as good for the next capture as what the checkpoint itself left.
    this.#tryToBindCaches(base.record.header.id);
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
    await this.#packs.abandon();
    this.#release();
  }

  #release(): void {
    this.#databases?.release();
    this.#nodes.close();
    for (const volume of this.#volumes.splice(0)) this.#ports.files.close(volume.root);
  }

  #cacheIdentity({ source }: VolumeState): string {
    const { name, path, selection } = source;
    return scanCacheIdentity({ lineage: this.#target.lineage, volume: name, path, selection: selection.signature });
  }

  /** The cache that was bound to the base's record, if that is still the base. */
  #boundCache(volume: VolumeState): string | undefined {
    const { cache } = this.#ports;
    if (cache === undefined || this.#base === undefined || !this.#settings.trustCache) return undefined;
    return boundScanCache(cache, volume.source.name, this.#base.record.header.id);
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
      const file = boundScanCache(cache, name, base as RecordId);
      if (file !== undefined) bindScanCache(cache, name, record, file);
    }
    for (const volume of this.#volumes) {
      if (volume.cacheFile !== undefined) bindScanCache(cache, volume.source.name, record, volume.cacheFile);
    }
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
