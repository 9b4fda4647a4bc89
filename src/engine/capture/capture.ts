/**
 * A checkpoint: walk → read → chunk → seal → pack → store → commit.
 *
 * Passes over the volumes go on until one of them meets no change: the checkpoint then shows a point in time (`converged`),
 * namely the moment between the last two passes. When the bound is reached first, it is `fuzzy` and names what moved.
 *
 * Invariants: nothing is visible before commit; the scan cache of a checkpoint is bound to that checkpoint's record; a run
 * that is rebased or fails leaves packs without a record, which mean nothing to anybody.
 */
import { type DomainKeys, setRoot } from '../format/keys.ts';
import type { PackSummary } from '../format/pack.ts';
import { packName } from '../format/pack.ts';
import { mixSalt } from '../format/pack-seal.ts';
import { equalBytes } from '../model/bytes.ts';
import type { Consistency, SkipReason, TreeRoot, VolumeCheckpoint } from '../model/checkpoint.ts';
import type { EntryMeta, Place, Xattr } from '../model/entry.ts';
import { HoldfastError, invariant, isHoldfastError } from '../model/errors.ts';
import { type LineageName, nextSlot, type RecordId, type Slot, toSlot, type VolumeName } from '../model/ids.ts';
import { writeStat, viewOf } from '../model/stat-record.ts';
import {
  type CommitBase,
  type Committed,
  type LineageWriter,
  type PackReference,
  Rebased,
} from '../lineage/lineage-writer.ts';
import type { Clock } from '../ports/clock.ts';
import type { Compressor } from '../ports/compressor.ts';
import { type Descriptor, FileTreeError, type FileTreeReader } from '../ports/file-tree.ts';
import type { LaneStarter } from '../ports/lanes.ts';
import type { LocalCache } from '../ports/local-cache.ts';
import type { ObjectWriter } from '../ports/object-store.ts';
import type { RandomSource } from '../ports/random.ts';
import { emptyTree, type NodeSource } from '../tree/node-access.ts';
import { ScanCacheReader, ScanCacheWriter } from '../tree/scan-cache.ts';
import { bindScanCache, boundScanCache, scanCacheFile, scanCacheIdentity } from '../tree/scan-cache-binding.ts';
import { TreeEditor } from '../tree/tree-editor.ts';
import { PackSequence, type PackSettings, packSalt } from './capture-lane.ts';
import { statBytes } from './lane-job.ts';
import { type InlinePack, PackUploads } from './pack-uploads.ts';
import type { ChunkTarget } from './read-content.ts';
import { ReadLanes } from './read-lanes.ts';
import { keepXattrs, metaOf } from './read-name.ts';
import type { Selection } from './select.ts';
import { StagedNodes } from './staged-nodes.ts';
import type { ScanTotals } from './scan.ts';
import { type NameTally, runVolumePass, type VolumePassResult } from './volume-pass.ts';

export interface VolumeSource {
  readonly name: VolumeName;
  /** Path of its directory as the user gave it. */
  readonly path: string;
  readonly selection: Selection;
}

export interface CapturePorts {
  readonly files: FileTreeReader;
  readonly store: ObjectWriter;
  readonly compressor: Compressor;
  readonly clock: Clock;
  readonly random: RandomSource;
  /** Undefined: no cache, every capture reads everything. */
  readonly cache: LocalCache | undefined;
  readonly lanes: LaneStarter;
}

export interface CaptureSettings {
  readonly volumes: readonly VolumeSource[];
  /** Worker lanes for large captures; 0 keeps all in the calling thread. */
  readonly laneCount: number;
  readonly level: number;
  readonly dataSegmentBytes: number;
  readonly metaSegmentBytes: number;
  readonly packBytesTarget: number;
  /** All new bytes up to this travel inside the record. */
  readonly inlineBytesMax: number;
  /** Passes after the first that may look for a moment without change. */
  readonly extraPassesMax: number;
  /** No further pass begins after this. */
  readonly convergeMsMax: number;
  /** A PARTIAL anchors a first capture each time this much has been stored since the last anchor. */
  readonly partialBytes: number;
  /** The final capture of a holder: not inlined. */
  readonly final: boolean;
  /** The app has been proven stopped. */
  readonly quiesced: boolean;
  /** False reads everything, whatever the scan cache says. */
  readonly trustCache: boolean;
  /** Mixed into the salt of the packs: what another machine, process or run does not share, such as boot id and holder. */
  readonly saltContext?: readonly (string | number)[];
  readonly labels?: Readonly<Record<string, string>>;
}

export interface CaptureTarget {
  readonly lineage: LineageName;
  readonly keys: DomainKeys;
  readonly packs: Omit<PackSettings, 'level' | 'dataSegmentBytes' | 'metaSegmentBytes' | 'packBytesTarget' | 'runSalt'>;
  /** Undefined for a dry run: roots are computed and nothing is stored. */
  readonly writer: LineageWriter | undefined;
  /** What a dry run compares with; the writer's base else. */
  readonly base: CommitBase | undefined;
  /** Nodes of the base; made anew for each base. */
  readonly sourceOf: (base: CommitBase | undefined) => NodeSource;
}

export interface CaptureProgress {
  readonly phase: 'scan' | 'read' | 'converge' | 'store' | 'commit';
  readonly pass: number;
  readonly entries: number;
  readonly files: number;
  readonly bytes: number;
  readonly readBytes: number;
  readonly newBytes: number;
  readonly storedBytes: number;
}

export interface VolumeOutcome {
  readonly name: VolumeName;
  readonly root: Uint8Array;
  readonly files: number;
  readonly entries: number;
  readonly bytes: number;
  readonly newBytes: number;
  readonly skipped: readonly {
    readonly reason: SkipReason;
    readonly count: number;
    readonly names: readonly string[];
  }[];
  readonly fuzzyCount: number;
  readonly fuzzyNames: readonly string[];
  /** Stored as read and no part of the consistency: wal-indexes of SQLite that changed since the last checkpoint. */
  readonly volatileNames: readonly string[];
  readonly incomplete: boolean;
  /** How the scan found what changed: compared with its cache, or by reading everything. */
  readonly scan: 'cached' | 'full';
}

export interface CaptureOutcome {
  readonly root: Uint8Array;
  readonly committed: Committed | undefined;
  readonly consistency: Consistency;
  readonly passes: number;
  readonly volumes: readonly VolumeOutcome[];
  readonly newBytes: number;
  readonly storedBytes: number;
  readonly incomplete: boolean;
  readonly suspect: boolean;
  /** PARTIAL records written on the way. */
  readonly partials: number;
}

/** Clocks of kernels tick coarsely: what was changed this shortly before a pass may change again with equal stamps. */
const coarseClockMs = 10;
const rebasesMax = 8;
/** Skips that mean data is missing; a socket or an excluded name is not data. */
const incompleteReasons: ReadonlySet<SkipReason> = new Set<SkipReason>(['unreadable']);

/**
 * Captures the volumes and commits them as one checkpoint.
 *
 * Throws HoldfastError: E_SOURCE_UNREADABLE when a volume's directory cannot be opened, E_FENCED, E_STORE_*, E_LIMIT, E_ABORTED.
 */
export async function capture(
  ports: CapturePorts,
  settings: CaptureSettings,
  target: CaptureTarget,
  options: { readonly signal?: AbortSignal; readonly onProgress?: (progress: CaptureProgress) => void } = {},
): Promise<CaptureOutcome> {
  const writer = target.writer;
  invariant(writer === undefined || !writer.restorePending, 'no checkpoint before the restore is complete');
  for (let attempt = 1; ; attempt++) {
    const run = new CaptureRun(ports, settings, target, options, attempt);
    try {
      return await run.run();
    } catch (error) {
      await run.abandon();
      if (error instanceof Rebased && attempt < rebasesMax) continue;
      if (error instanceof Rebased) {
        throw new HoldfastError('E_STORE_IO', `the log's next slot was taken ${attempt} times without a successor`, {
          cause: error,
        });
      }
      if (error instanceof FileTreeError) {
        const limit = error.errno === 'EMFILE' || error.errno === 'ENFILE';
        throw new HoldfastError(
          limit ? 'E_LIMIT' : 'E_SOURCE_UNREADABLE',
          limit ? 'too many open files' : `a volume cannot be read: ${error.message}`,
          { cause: error },
        );
      }
      if (options.signal?.aborted === true && !(error instanceof HoldfastError)) {
        throw new HoldfastError('E_ABORTED', 'the checkpoint was interrupted', { cause: error });
      }
      throw error;
    }
  }
}

interface VolumeState {
  readonly source: VolumeSource;
  readonly root: Descriptor;
  tree: TreeRoot;
  rootMeta: EntryMeta;
  last: VolumePassResult | undefined;
  volatileNames: readonly string[];
  newBytes: number;
  scan: 'cached' | 'full';
  /** File name of the scan cache that describes `tree`. */
  cacheFile: string | undefined;
  complete: boolean;
}

/** A dry run puts nothing anywhere; places only have to differ. */
class NullTarget implements ChunkTarget {
  #offset = 0;

  addData(_bytes: Uint8Array, start: number, end: number): Place {
    this.#offset += end - start;
    return { origin: 0, slot: 0, pack: 0, segment: 0, offset: this.#offset };
  }

  addMetadata(node: Uint8Array): Place {
    return this.addData(node, 0, node.length);
  }

  refer(): void {}
}

class CaptureRun {
  readonly #ports: CapturePorts;
  readonly #settings: CaptureSettings;
  readonly #target: CaptureTarget;
  readonly #signal: AbortSignal | undefined;
  readonly #onProgress: ((progress: CaptureProgress) => void) | undefined;
  readonly #base: CommitBase | undefined;
  readonly #basePacks: ReadonlySet<string>;
  readonly #packs: PackSettings;
  readonly #laneReferences: PackReference[] = [];
  #slot: Slot;
  #own: PackSequence | undefined;
  readonly #null = new NullTarget();
  #uploads: PackUploads | undefined;
  readonly #nodes: StagedNodes;
  readonly #lanes: ReadLanes;
  readonly #volumes: VolumeState[] = [];
  #pass = 1;
  #newBytes = 0;
  /** Of the pass that is running. */
  #passNewBytes = 0;
  #storedBytes = 0;
  #anchoredBytes = 0;
  #partials = 0;

  constructor(
    ports: CapturePorts,
    settings: CaptureSettings,
    target: CaptureTarget,
    options: { readonly signal?: AbortSignal; readonly onProgress?: (progress: CaptureProgress) => void },
    attempt: number,
  ) {
    this.#ports = ports;
    this.#settings = settings;
    this.#target = target;
    this.#signal = options.signal;
    this.#onProgress = options.onProgress;
    this.#base = target.writer === undefined ? target.base : target.writer.base;
    this.#basePacks = new Set(this.#base?.packs.map(({ origin, slot, pack }) => `${origin}/${slot}/${pack}`));
    this.#slot = target.writer?.slot ?? toSlot(0);
    this.#packs = {
      ...target.packs,
      level: settings.level,
      dataSegmentBytes: settings.dataSegmentBytes,
      metaSegmentBytes: settings.metaSegmentBytes,
      packBytesTarget: settings.packBytesTarget,
      runSalt: mixSalt(ports.random.bytes(32), [
        ...(settings.saltContext ?? []),
        this.#slot,
        ports.clock.nowMs(),
        ports.clock.monotonicMs(),
        attempt,
      ]),
    };
    this.#openSlot(this.#slot);
    this.#nodes = new StagedNodes(() => this.#ownTarget(), target.sourceOf(this.#base), ports.cache);
    this.#lanes = new ReadLanes(
      {
        files: ports.files,
        keys: target.keys,
        starter: target.writer === undefined ? undefined : ports.lanes,
        lanes: settings.laneCount,
        packs: this.#packs,
        own: () => this.#ownTarget(),
        firstPack: ownPacks,
        onPackPart: (pack, bytes, end) => (this.#uploads as PackUploads).part(pack, bytes, end, false),
      },
      this.#slot,
    );
  }

  async run(): Promise<CaptureOutcome> {
    const { clock } = this.#ports;
    const started = clock.monotonicMs();
    await this.#openVolumes();
    await this.#passOverAll();
    let converged = false;
    for (;;) {
      const late = clock.monotonicMs() - started > this.#settings.convergeMsMax;
      if (this.#settings.quiesced || late || this.#pass > this.#settings.extraPassesMax) break;
      this.#pass++;
      if (await this.#passOverAll()) {
        converged = true;
        break;
      }
    }
    const consistency: Consistency = this.#settings.quiesced ? 'quiesced' : converged ? 'converged' : 'fuzzy';
    return this.#commit(consistency);
  }

  /** Leaves nothing open and nothing half-stored. Safe after success too. */
  async abandon(): Promise<void> {
    await this.#lanes.close();
    await this.#uploads?.abort();
    this.#release();
  }

  #release(): void {
    this.#nodes.close();
    for (const volume of this.#volumes.splice(0)) this.#ports.files.close(volume.root);
  }

  #ownTarget(): ChunkTarget {
    return this.#own ?? this.#null;
  }

  #openSlot(slot: Slot): void {
    this.#slot = slot;
    if (this.#target.writer === undefined) return;
    const { lineage } = this.#target;
    const uploads = new PackUploads(
      this.#ports.store,
      lineage,
      this.#settings.inlineBytesMax,
      (pack) => packName({ ...this.#packs.identity, slot, pack }, packSalt(this.#packs.runSalt, slot, pack)),
      this.#signal,
    );
    this.#uploads = uploads;
    this.#own = new PackSequence(
      this.#packs,
      this.#ports.compressor,
      (pack, bytes, end) => {
        // Back-pressure is applied between batches, where waiting is possible.
        void uploads.part(pack, bytes, end, true);
      },
      slot,
      0,
      1,
    );
  }

  async #openVolumes(): Promise<void> {
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
        volatileNames: [],
        scan: 'full',
        cacheFile: undefined,
        complete: false,
      });
    }
  }

  /** True when no volume showed any change since the pass before. */
  async #passOverAll(): Promise<boolean> {
    let still = true;
    for (const volume of this.#volumes) {
      if (!(await this.#passOver(volume))) still = false;
    }
    return still;
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
        freshFromMs: clock.nowMs() - coarseClockMs,
        distrustContent: this.#pass === 1 && previous !== undefined && !writeback,
        keepVolatile: this.#pass > 1,
        read: (job, bytes) => this.#lanes.read(job, bytes),
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
      if (this.#pass === 1) volume.volatileNames = result.volatile.names;
      this.#newBytes += result.newBytes;
      this.#passNewBytes = 0;
      volume.complete = true;
      next?.commit(this.#cacheIdentity(volume));
      previous?.close();
      if (next !== undefined) {
        if (volume.cacheFile !== undefined) cache?.remove(volume.cacheFile);
        volume.cacheFile = nextFile;
      }
      const sameTree = equalIds(before.id, volume.tree.id);
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
      const target = this.#ownTarget();
      let place: Place | undefined;
      for (const { value: known } of volume.rootMeta.xattrs) {
        if (known.kind === 'chunk' && equalIds(known.id, id)) place = known.place;
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
    const uploads = this.#uploads;
    const writer = this.#target.writer;
    if (uploads === undefined || writer === undefined) return;
    await uploads.drain();
    const stored = this.#storedBytes + uploads.storedBytes;
    const first = this.#base === undefined || this.#base.record.header.kind === 'PARTIAL';
    if (!first || this.#pass > 1 || stored - this.#anchoredBytes < this.#settings.partialBytes) return;
    await drain();
    const snapshot = await editor.snapshot();
    const volumes = this.#volumes
      .filter((other) => other.complete || other === volume)
      .map((other) => this.#volumeCheckpoint(other, other === volume ? snapshot : other.tree, 'fuzzy'));
    const { uploaded, inlined } = await this.#endPacks(false);
    const committed = await writer.commit({
      kind: 'PARTIAL',
      volumes,
      consistency: 'fuzzy',
      suspect: false,
      newBytes: this.#newBytes + this.#passNewBytes,
      uploaded,
      inlined,
      referenced: this.#allReferences(),
      ...(this.#signal === undefined ? {} : { signal: this.#signal }),
    });
    invariant(writer.slot === nextSlot(committed.slot), 'after a PARTIAL the next slot follows');
    this.#partials++;
    this.#openSlot(writer.slot);
    this.#anchoredBytes = this.#storedBytes;
  }

  /** Ends every open pack; they are durable, or handed back to be inlined. */
  async #endPacks(
    inline: boolean,
  ): Promise<{ readonly uploaded: readonly PackSummary[]; readonly inlined: readonly InlinePack[] }> {
    const uploads = this.#uploads as PackUploads;
    const slot = nextSlot(this.#slot);
    const lanes = await this.#lanes.finish(slot);
    this.#laneReferences.push(...lanes.references);
    const own = (this.#own as PackSequence).finish(slot);
    const settled = await uploads.settle([...own, ...lanes.packs], inline);
    this.#storedBytes += uploads.storedBytes;
    return settled;
  }

  #allReferences(): PackReference[] {
    return [...(this.#own?.references.list() ?? []), ...this.#laneReferences];
  }

  async #commit(consistency: Consistency): Promise<CaptureOutcome> {
    const writer = this.#target.writer;
    const volumes = this.#volumes.map((volume) => this.#volumeCheckpoint(volume, volume.tree, consistency));
    const outcomes = this.#volumes.map((volume, i) => outcomeOf(volume, volumes[i] as VolumeCheckpoint));
    const incomplete = volumes.some((volume) => volume.incomplete);
    const root = setRoot(
      this.#target.keys,
      volumes.map(({ name, root: tree }) => ({ name, id: tree.id })),
    );
    let committed: Committed | undefined;
    if (writer !== undefined) {
      this.#report('store', undefined, 0, 0);
      const { uploaded, inlined } = await this.#endPacks(!this.#settings.final);
      this.#report('commit', undefined, 0, 0);
      committed = await writer.commit({
        kind: 'CHECKPOINT',
        volumes,
        consistency,
        suspect: false,
        newBytes: this.#newBytes,
        uploaded,
        inlined,
        referenced: this.#allReferences(),
        ...(this.#settings.labels === undefined ? {} : { labels: this.#settings.labels }),
        ...(this.#signal === undefined ? {} : { signal: this.#signal }),
      });
      invariant(equalIds(committed.root, root), 'the committed root is the captured one');
      this.#storedBytes += committed.bytes - inlined.reduce((sum, pack) => sum + pack.bytes.length, 0);
      try {
        this.#bindCaches(committed.id);
      } catch (error) {
        // The checkpoint exists; without its cache the next one reads everything, which is slower and never wrong.
        if (!isHoldfastError(error, 'E_STATE_DIR')) throw error;
      }
    } else {
      this.#dropCaches();
    }
    await this.#lanes.close();
    this.#release();
    return {
      root,
      committed,
      consistency,
      passes: this.#pass,
      volumes: outcomes,
      newBytes: this.#newBytes,
      storedBytes: this.#storedBytes,
      incomplete,
      suspect: false,
      partials: this.#partials,
    };
  }

  #volumeCheckpoint(volume: VolumeState, root: TreeRoot, consistency: Consistency): VolumeCheckpoint {
    const last = volume.last;
    const skipped = [...(last?.skipped ?? [])].map(([reason, tally]) => ({
      reason,
      count: tally.count,
      names: tally.names.slice(0, 20),
    }));
    const fuzzy = last === undefined ? undefined : namesInDoubt(last, this.#pass, consistency);
    return {
      name: volume.source.name,
      root,
      rootMeta: volume.rootMeta,
      fuzzyCount: fuzzy?.count ?? 0,
      fuzzyNames: (fuzzy?.names ?? []).slice(0, 20),
      skipped,
      incomplete: skipped.some(({ reason }) => incompleteReasons.has(reason)),
    };
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

  #bindCaches(record: RecordId): void {
    const { cache } = this.#ports;
    if (cache === undefined) return;
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
      storedBytes: this.#storedBytes + (this.#uploads?.storedBytes ?? 0),
    });
  }
}

/** Pack numbers below this are the calling thread's; lanes count from here. */
const ownPacks = 4096;

const noMeta: EntryMeta = { mode: -1, uid: 0, gid: 0, mtimeSec: 0, mtimeNsec: 0, xattrs: [] };

/** Names that the checkpoint may show otherwise than they were at its moment. */
function namesInDoubt(last: VolumePassResult, pass: number, consistency: Consistency): NameTally | undefined {
  if (consistency === 'converged') return undefined;
  if (consistency === 'quiesced') return last.fuzzy;
  // In a first pass moved is what differs from the checkpoint before.
  return pass === 1 ? last.unproven : last.unsettled;
}

function outcomeOf(volume: VolumeState, checkpoint: VolumeCheckpoint): VolumeOutcome {
  const { sums } = checkpoint.root;
  return {
    name: checkpoint.name,
    root: checkpoint.root.id,
    files: sums.files,
    entries: sums.entries,
    bytes: sums.bytes,
    newBytes: volume.newBytes,
    skipped: checkpoint.skipped,
    fuzzyCount: checkpoint.fuzzyCount,
    fuzzyNames: checkpoint.fuzzyNames,
    volatileNames: volume.volatileNames,
    incomplete: checkpoint.incomplete,
    scan: volume.scan,
  };
}

function sameMeta(a: EntryMeta, b: EntryMeta): boolean {
  return (
    a.mode === b.mode &&
    a.uid === b.uid &&
    a.gid === b.gid &&
    a.mtimeSec === b.mtimeSec &&
    a.mtimeNsec === b.mtimeNsec &&
    a.xattrs.length === b.xattrs.length &&
    a.xattrs.every((xattr, i) => sameXattr(xattr, b.xattrs[i] as Xattr))
  );
}

function sameXattr(a: Xattr, b: Xattr): boolean {
  if (!equalBytes(a.name, b.name)) return false;
  if (a.value.kind === 'inline') return b.value.kind === 'inline' && equalBytes(a.value.bytes, b.value.bytes);
  return b.value.kind === 'chunk' && equalIds(a.value.id, b.value.id);
}

function equalIds(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < 32; i++) if (a[i] !== b[i]) return false;
  return true;
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
