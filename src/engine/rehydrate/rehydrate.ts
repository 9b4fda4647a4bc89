/**
 * The way back: resolve → plan → fetch → verify → write.
 *
 * The checkpoint was resolved by the caller (restore-source.ts). Each volume's tree is walked in key order and its files are planned
 * into batches by pack and segment (volume-restore.ts, file-planner.ts); their ciphertext is fetched in few large ranges
 * (batch-pipeline.ts); lanes prove every chunk and write whole files (rehydrate-lane.ts); an audit compares what stands there
 * with the tree (audit.ts). docs/decisions/0041-restore-order.md.
 *
 * Invariants: the marker says `started`, durably, before the first byte and `done` after everything is durable, never when something
 * was lost; a file has its name only when all of it is there; nothing outside of the target is touched; the store is only read.
 */
import { entrySums } from '../format/entry-codec.ts';
import { setRoot } from '../format/keys.ts';
import { equalBytes, toHex, utf8Bytes } from '../model/bytes.ts';
import type { TreeRoot, VolumeCheckpoint } from '../model/checkpoint.ts';
import { HoldfastError, isHoldfastError } from '../model/errors.ts';
import type { RecordId, Slot, VolumeName } from '../model/ids.ts';
import { fileType, fileTypeMask, recordName, statOffset, viewOf } from '../model/stat-record.ts';
import type { Clock } from '../ports/clock.ts';
import type { Compressor } from '../ports/compressor.ts';
import { type Descriptor, FileTreeError, type FileTreeWriter } from '../ports/file-tree.ts';
import type { LaneStarter } from '../ports/lanes.ts';
import type { LocalCache } from '../ports/local-cache.ts';
import type { ObjectReader } from '../ports/object-store.ts';
import type { RandomSource } from '../ports/random.ts';
import type { RestoreMark, RestoreMarker } from '../ports/restore-marker.ts';
import { ScanCacheWriter } from '../tree/scan-cache.ts';
import { bindScanCache, scanCacheFile, scanCacheIdentity } from '../tree/scan-cache-binding.ts';
import type { SegmentSource } from '../tree/segment-source.ts';
import { applyToDescriptor } from './apply-meta.ts';
import { type AuditFinding, type AuditOutcome, auditTarget, settleTime } from './audit.ts';
import { type DamageReport, DamageTally, describeDamage } from './damage.ts';
import type { ExistingPolicy } from './existing.ts';
import { FilePlanner } from './file-planner.ts';
import { RestoreLanes } from './restore-lanes.ts';
import { getVolume, type RestoreSource, segmentsOf } from './restore-source.ts';
import { type PathGlobs, pathGlobs } from './selection.ts';
import { type NameCount, NameTally, ReasonTally } from './tally.ts';
import { targetError } from './target-error.ts';
import { plainXattrs, VolumeRestore } from './volume-restore.ts';
import { walkTree } from './walk-tree.ts';

export interface RehydratePorts {
  readonly files: FileTreeWriter;
  readonly store: ObjectReader;
  readonly compressor: Compressor;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly lanes: LaneStarter;
  /** Where the first capture after the restore looks for its scan cache; undefined: it will read everything. */
  readonly cache: LocalCache | undefined;
}

export interface RestoreTarget {
  readonly volume: VolumeName;
  /** Directory to restore into; made when it is missing. */
  readonly path: string;
  readonly marker: RestoreMarker;
}

export interface RehydrateSettings {
  /** Volumes that are not named here are left out. */
  readonly targets: readonly RestoreTarget[];
  /** Globs of what to restore, with everything below; none: everything. */
  readonly only: readonly string[];
  /** Globs of what to restore before the rest begins. */
  readonly first: readonly string[];
  /** What becomes of a target that is not empty, unless an unfinished restore is resumed. */
  readonly onExisting: 'refuse' | 'keep' | 'replace';
  /** False leaves owner, mode, times and xattrs of the target's own directory as they are. */
  readonly rootMeta: boolean;
  /** Worker lanes for large restores; 0 keeps all in the calling thread. */
  readonly laneCount: number;
  /** Ciphertext in memory at once. */
  readonly inFlightBytes: number;
  /** Ends well although files are lost; they are reported. */
  readonly continueOnDamage: boolean;
  /** Of the selection that the next capture will have, so that its scan cache can be prepared; empty for everything. */
  readonly nextSelection: string;
}

export const restoreDefaults: Omit<RehydrateSettings, 'targets' | 'laneCount'> = {
  only: [],
  first: [],
  onExisting: 'refuse',
  rootMeta: true,
  inFlightBytes: 32 * 1024 * 1024,
  continueOnDamage: false,
  nextSelection: '',
};

export interface RestoreProgress {
  readonly phase: 'first' | 'restore' | 'audit' | 'sync';
  readonly volume: VolumeName;
  /** Done so far, in this volume. */
  readonly entries: number;
  readonly files: number;
  readonly bytes: number;
  /** All that the volume has; with `only`, more than will be restored. */
  readonly entriesTotal: number;
  readonly filesTotal: number;
  readonly bytesTotal: number;
}

/** Everything that the `first` globs match is there, with its content; the rest begins. */
export interface FirstComplete {
  readonly volume: VolumeName;
  readonly files: number;
  readonly bytes: number;
  /** Since the restore began. */
  readonly seconds: number;
}

export interface Degraded extends NameCount {
  /** `owner EPERM`: could not be set. `times`: not kept by the file system. */
  readonly reason: string;
}

export interface RestoredVolume {
  readonly name: VolumeName;
  readonly path: string;
  /** What of the checkpoint is there now, whoever wrote it: hardlinks count once per name, their bytes once. */
  readonly files: number;
  readonly entries: number;
  readonly bytes: number;
  /** Files whose content was written by this run, and their sizes. */
  readonly newFiles: number;
  readonly newBytes: number;
  /** How existing names were met. complete: it was restored before, stands there as it was left, and nothing was written. */
  readonly existing: ExistingPolicy | 'complete';
  /** Paths that were left as they were (`keep`). */
  readonly kept: NameCount;
  /** Paths that were removed (`replace`). */
  readonly removed: NameCount;
  readonly degraded: readonly Degraded[];
  readonly damage: DamageReport | undefined;
  readonly firstComplete: FirstComplete | undefined;
  /** Id of the tree in the checkpoint. */
  readonly rootExpected: Uint8Array;
  /** What a capture of the target would give; undefined for a part of a volume, and beside what was kept. */
  readonly rootGot: Uint8Array | undefined;
  /** The scan cache of the next capture is ready. */
  readonly primed: boolean;
}

export interface RehydrateOutcome {
  readonly slot: Slot;
  readonly id: RecordId;
  /** Root of the set, as the record has it. */
  readonly rootExpected: Uint8Array;
  /** Of what was restored; undefined unless every volume was restored whole. */
  readonly rootGot: Uint8Array | undefined;
  readonly volumes: readonly RestoredVolume[];
  readonly files: number;
  readonly entries: number;
  readonly bytes: number;
  readonly newFiles: number;
  readonly newBytes: number;
  readonly seconds: number;
  /** Files are missing: there was damage and `continueOnDamage`. */
  readonly incomplete: boolean;
  /** Globs that match no name of any volume that was restored. */
  readonly unmatched: { readonly only: readonly string[]; readonly first: readonly string[] };
}

export interface RehydrateOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: RestoreProgress) => void;
  readonly onFirstComplete?: (event: FirstComplete) => void;
}

/** The walk reads every node once, in the order of the packs: what was read last is what helps. */
const metadataCacheBytes: number = 4 * 1024 * 1024;
/** Kernels stamp files with a coarse clock: what is this old by stat cannot change again with the same stamps. */
const coarseClockMs = 10;

/**
 * Restores the volumes named by the targets. One that was restored before and still stands there as it was left, by names, types,
 * sizes and times, is complete already and not touched: so a restore of several volumes, or one whose end was not seen, can
 * be repeated.
 *
 * Throws HoldfastError: E_TARGET_NOT_DIRECTORY, E_TARGET_NOT_EMPTY, E_TARGET_IO, E_TARGET_FULL; E_DAMAGED, naming objects and the files they cost, after
 * everything else was restored; E_HOSTILE; E_NOT_FOUND, E_USAGE, E_LIMIT, E_STORE_*, E_STATE_DIR, E_ABORTED. After an error the
 * same call resumes.
 */
export async function rehydrate(
  ports: RehydratePorts,
  source: RestoreSource,
  settings: RehydrateSettings,
  options: RehydrateOptions = {},
): Promise<RehydrateOutcome> {
  const { signal } = options;
  const started = ports.clock.monotonicMs();
  const volumes = settings.targets.map((target) => ({ target, volume: getVolume(source, target.volume) }));
  const only = pathGlobs(settings.only);
  const first = pathGlobs(settings.first);
  const { access } = source;
  const lanes = new RestoreLanes({
    files: ports.files,
    compressor: ports.compressor,
    settings: {
      repository: access.repository,
      domain: access.domain,
      keys: access.keys,
      dataKeys: access.dataKeys,
    },
    starter: ports.lanes,
    lanes: settings.laneCount,
    fileCount: volumes.reduce((sum, { volume }) => sum + volume.root.sums.files, 0),
    bytes: volumes.reduce((sum, { volume }) => sum + volume.root.sums.bytes, 0),
  });
  const restored: RestoredVolume[] = [];
  let unmatched: RehydrateOutcome['unmatched'];
  try {
    for (const { target, volume } of volumes) {
      const segments = segmentsOf(source, ports, { cacheBytes: metadataCacheBytes, signal });
      const run = new VolumeRun(ports, source, settings, options, {
        target,
        volume,
        only,
        first,
        lanes,
        segments,
        started,
      });
      restored.push(await run.run());
    }
    const roots = volumes.map(({ volume }) => volume.root);
    unmatched = {
      only: await unmatchedIn(ports, source, roots, only, signal),
      first: await unmatchedIn(ports, source, roots, first, signal),
    };
  } catch (error) {
    if (signal?.aborted === true && !isHoldfastError(error)) {
      throw new HoldfastError('E_ABORTED', 'the restore was interrupted', { cause: error });
    }
    throw error;
  } finally {
    await lanes.close();
  }
  const whole = restored.length === source.body.volumes.length;
  const { record, body } = source;
  return {
    slot: record.header.slot,
    id: record.header.id,
    rootExpected: body.setRoot,
    rootGot: whole ? rootOfSet(source, restored) : undefined,
    volumes: restored,
    files: sum(restored, ({ files }) => files),
    entries: sum(restored, ({ entries }) => entries),
    bytes: sum(restored, ({ bytes }) => bytes),
    newFiles: sum(restored, ({ newFiles }) => newFiles),
    newBytes: sum(restored, ({ newBytes }) => newBytes),
    seconds: (ports.clock.monotonicMs() - started) / 1000,
    incomplete: restored.some(({ damage }) => damage !== undefined),
    unmatched,
  };
}

/** Those of the globs that match nothing: looked for by themselves, since below a match of another they were not asked about. */
async function unmatchedIn(
  ports: RehydratePorts,
  source: RestoreSource,
  roots: readonly TreeRoot[],
  globs: PathGlobs,
  signal: AbortSignal | undefined,
): Promise<readonly string[]> {
  const left = globs.unmatched();
  if (left.length === 0) return left;
  const again = pathGlobs(left);
  const ranges = again.ranges ?? [{ range: {} }];
  for (const root of roots) {
    const segments = segmentsOf(source, ports, { cacheBytes: metadataCacheBytes, signal });
    for (const { range } of ranges) {
      for await (const { leaf, ...step } of walkTree(root, segments, source.access.keys, range)) {
        signal?.throwIfAborted();
        if (leaf === undefined || !('from' in step)) continue;
        for (let i = step.from; i < step.to; i++) again.matches(leaf.key(i));
        if (again.unmatched().length === 0) return [];
      }
    }
  }
  return again.unmatched();
}

function rootOfSet({ access }: RestoreSource, volumes: readonly RestoredVolume[]): Uint8Array | undefined {
  const roots: { name: VolumeName; id: TreeRoot['id'] }[] = [];
  for (const { name, rootGot } of volumes) {
    if (rootGot === undefined) return undefined;
    roots.push({ name, id: rootGot as TreeRoot['id'] });
  }
  return setRoot(access.keys, roots);
}

function sum<Item>(items: readonly Item[], of: (item: Item) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}

interface VolumeParts {
  readonly target: RestoreTarget;
  readonly volume: VolumeCheckpoint;
  readonly only: PathGlobs;
  readonly first: PathGlobs;
  readonly lanes: RestoreLanes;
  readonly segments: SegmentSource;
  /** Monotonic, ms. */
  readonly started: number;
}

class VolumeRun {
  readonly #ports: RehydratePorts;
  readonly #source: RestoreSource;
  readonly #settings: RehydrateSettings;
  readonly #options: RehydrateOptions;
  readonly #parts: VolumeParts;
  readonly #damage = new DamageTally();
  readonly #kept = new NameTally();
  readonly #removed = new NameTally();
  readonly #degraded = new ReasonTally();
  #phase: RestoreProgress['phase'] = 'restore';
  #xattrsRefused = false;
  #entries = 0;
  #files = 0;
  #bytes = 0;
  #newFiles = 0;
  #newBytes = 0;

  constructor(
    ports: RehydratePorts,
    source: RestoreSource,
    settings: RehydrateSettings,
    options: RehydrateOptions,
    parts: VolumeParts,
  ) {
    this.#ports = ports;
    this.#source = source;
    this.#settings = settings;
    this.#options = options;
    this.#parts = parts;
  }

  async run(): Promise<RestoredVolume> {
    const { files } = this.#ports;
    const { target } = this.#parts;
    let root: Descriptor;
    try {
      root = files.makeRoot(target.path);
    } catch (error) {
      const known = error instanceof FileTreeError && ['EEXIST', 'ENOTDIR', 'ELOOP'].includes(error.errno);
      if (!known) throw targetError(error, undefined);
      throw new HoldfastError(
        'E_TARGET_NOT_DIRECTORY',
        `the target ${target.path} is no directory and cannot become one: ${error.errno}`,
        { cause: error, details: { path: target.path, errno: error.errno } },
      );
    }
    try {
      const complete = await this.#alreadyRestored(root);
      if (complete !== undefined) return complete;
      const { policy, mark } = await this.#begin(root);
      if (policy !== 'keep' && this.#settings.rootMeta) dropDefaultAcl(files, root);
      const firstComplete = await this.#restore(root, policy, mark);
      const damage = this.#damage.any ? this.#damage.report() : undefined;
      if (damage !== undefined && !this.#settings.continueOnDamage) throw this.#damaged(damage);
      const audit = await this.#audit(root, policy);
      await this.#finishRoot(root, policy);
      this.#report('sync');
      files.syncFileSystem(root);
      await target.marker.save({ ...mark, state: damage === undefined ? 'done' : 'damaged' });
      return this.#outcome(policy, firstComplete, damage, audit?.found ?? (await this.#beside()), audit);
    } catch (error) {
      throw targetError(error, undefined);
    } finally {
      files.close(root);
    }
  }

  /**
   * The outcome of a restore that had ended before, though perhaps nobody was told. E_TARGET_NOT_EMPTY when the target was changed
   * since: by an application, most likely, whose data must not be lost.
   */
  async #alreadyRestored(root: Descriptor): Promise<RestoredVolume | undefined> {
    const { files } = this.#ports;
    const { target, volume, first } = this.#parts;
    const before = await target.marker.load();
    if (this.#settings.onExisting !== 'refuse' || before?.state !== 'done' || before.onExisting === 'keep')
      return undefined;
    if (!this.#isSame(before, root) || contentOf(files, root) !== 'more') return undefined;
    let changed = 0;
    const audit = await this.#look(root, undefined, (key, finding) => {
      this.#degraded.add(`${finding} not kept`, key);
      // What a file system or a missing right refused is as it was left; a time that moved says that somebody wrote.
      if (finding === 'times' || finding === 'changed' || finding === 'missing') changed++;
    });
    if (changed > 0 || audit.others > 0) {
      throw new HoldfastError(
        'E_TARGET_NOT_EMPTY',
        `the target ${target.path} holds this checkpoint already, changed since it was restored`,
        { details: { path: target.path, changed, others: audit.others } },
      );
    }
    let complete: FirstComplete | undefined;
    if (!first.none) {
      const seconds = (this.#ports.clock.monotonicMs() - this.#parts.started) / 1000;
      complete = { volume: volume.name, files: 0, bytes: 0, seconds };
      this.#options.onFirstComplete?.(complete);
    }
    return this.#outcome('complete', complete, undefined, audit.found, { ...audit, primed: false });
  }

  /** Whether a mark is about the same part of the same checkpoint in the same directory. */
  #isSame(mark: RestoreMark, root: Descriptor): boolean {
    return (
      mark.target === identityOf(this.#ports.files, root) &&
      mark.checkpoint === toHex(this.#source.record.header.id) &&
      mark.volume === this.#parts.volume.name &&
      mark.selection === this.#parts.only.signature
    );
  }

  /** Decides how existing names are met, and says durably that the restore has begun. */
  async #begin(root: Descriptor): Promise<{ readonly policy: ExistingPolicy; readonly mark: RestoreMark }> {
    const { files, random } = this.#ports;
    const { target, volume, only } = this.#parts;
    const { onExisting } = this.#settings;
    const checkpoint = toHex(this.#source.record.header.id);
    const identity = identityOf(files, root);
    const before = await target.marker.load();
    const unfinished =
      before !== undefined && before.state !== 'done' && before.target === identity ? before : undefined;
    const same = unfinished !== undefined && this.#isSame(unfinished, root);
    let policy: ExistingPolicy;
    const content = contentOf(files, root);
    if (content === 'nothing') policy = 'fresh';
    else if (content === 'lost+found') policy = 'resume';
    else if (onExisting !== 'refuse') policy = onExisting;
    else if (same) policy = unfinished.onExisting === 'refuse' ? 'resume' : unfinished.onExisting;
    else throw this.#notEmpty(unfinished);
    const mark: RestoreMark = {
      state: 'started',
      checkpoint,
      volume: volume.name,
      target: identity,
      selection: only.signature,
      onExisting: policy === 'keep' || policy === 'replace' ? policy : 'refuse',
      // Leftovers of whatever restore was here before are recognised by this.
      tempPrefix: unfinished?.tempPrefix ?? `.holdfast-${toHex(random.bytes(16))}-`,
    };
    await target.marker.save(mark);
    return { policy, mark };
  }

  #notEmpty(unfinished: RestoreMark | undefined): HoldfastError {
    const { path } = this.#parts.target;
    const details = { path };
    if (unfinished === undefined) {
      return new HoldfastError('E_TARGET_NOT_EMPTY', `the target ${path} is not empty`, { details });
    }
    return new HoldfastError(
      'E_TARGET_NOT_EMPTY',
      `the target ${path} holds an unfinished restore of another checkpoint or selection (${unfinished.checkpoint.slice(0, 12)})`,
      {
        details: { ...details, unfinished: unfinished.checkpoint },
        remedy:
          'Finish that restore by naming its checkpoint again (--at ID), choose an empty target, or say --on-existing replace.',
      },
    );
  }

  async #restore(root: Descriptor, policy: ExistingPolicy, mark: RestoreMark): Promise<FirstComplete | undefined> {
    const { files, store, random } = this.#ports;
    const { volume, only, first, lanes, segments } = this.#parts;
    const { signal } = this.#options;
    const keys = this.#source.access.keys;
    const planner = new FilePlanner({
      kind: 'write',
      files,
      source: segments,
      keys,
      pipeline: {
        store,
        lanes,
        bytesMax: this.#settings.inFlightBytes,
        tempPrefix: utf8Bytes(`${mark.tempPrefix}${toHex(random.bytes(4))}-`),
        signal,
      },
      damage: this.#damage,
      onDegraded: (key, part, errno) => this.#onDegraded(key, part, errno),
      onFiles: (count, bytes, written) => {
        if (written) {
          this.#newFiles += count;
          this.#newBytes += bytes;
        }
        this.#count(count, count, bytes);
      },
    });
    const restore = new VolumeRestore({
      files,
      source: segments,
      keys,
      tree: volume.root,
      root,
      planner,
      only,
      first,
      tempPrefix: utf8Bytes(mark.tempPrefix),
      usualOwner: usualOwner(files, root),
      damage: this.#damage,
      kept: this.#kept,
      removed: this.#removed,
      onDegraded: (key, part, errno) => this.#onDegraded(key, part, errno),
      onEntries: (entries, count) => this.#count(entries, count, 0),
      signal,
    });
    try {
      let complete: FirstComplete | undefined;
      if (!first.none) {
        this.#phase = 'first';
        await restore.run('first', policy);
        const seconds = (this.#ports.clock.monotonicMs() - this.#parts.started) / 1000;
        complete = { volume: volume.name, files: this.#files, bytes: this.#bytes, seconds };
        this.#options.onFirstComplete?.(complete);
      }
      this.#phase = 'restore';
      // What the first pass made is met again by the second.
      await restore.run('rest', policy === 'fresh' && !first.none ? 'resume' : policy);
      return complete;
    } finally {
      await planner.close();
      await restore.close();
    }
  }

  async #audit(
    root: Descriptor,
    policy: ExistingPolicy,
  ): Promise<(AuditOutcome & { readonly primed: boolean }) | undefined> {
    if (policy === 'keep') return undefined;
    const { files, clock, cache, random } = this.#ports;
    const { target, volume, only } = this.#parts;
    const { signal } = this.#options;
    const whole = only.none && !this.#damage.any;
    const name = scanCacheFile(volume.name, random.bytes(8));
    const writer = whole && cache !== undefined ? new ScanCacheWriter(cache, name, undefined) : undefined;
    try {
      if (writer !== undefined) await clock.wait(settleTime(files, root), signal === undefined ? {} : { signal });
      const outcome = await this.#look(root, writer, (key, finding) => this.#degraded.add(`${finding} not kept`, key));
      const primed = writer !== undefined && outcome.cacheable && cache !== undefined;
      if (primed) {
        const { lineage, record } = this.#source;
        const selection = this.#settings.nextSelection;
        writer.commit(scanCacheIdentity({ lineage, volume: volume.name, path: target.path, selection }));
        bindScanCache(cache, volume.name, record.header.id, name);
      } else {
        writer?.abort();
      }
      return { ...outcome, primed };
    } catch (error) {
      writer?.abort();
      throw error;
    }
  }

  /** What is there beside and with what was kept: every name that was asked for, but what damage took. */
  async #beside(): Promise<AuditOutcome['found']> {
    const { volume, only, segments } = this.#parts;
    if (this.#damage.any) return { entries: this.#entries, files: this.#files, bytes: this.#bytes };
    if (only.none) return volume.root.sums;
    const found = { entries: 0, files: 0, bytes: 0 };
    for await (const { leaf, ...step } of walkTree(volume.root, segments, this.#source.access.keys)) {
      if (leaf === undefined || !('from' in step)) continue;
      for (let i = step.from; i < step.to; i++) {
        if (!only.matchesAtOrBelow(leaf.key(i))) continue;
        const sums = entrySums(leaf.value(i));
        found.entries++;
        found.files += sums.files;
        found.bytes += sums.bytes;
      }
    }
    return found;
  }

  /** Compares what stands in the target with the tree. */
  async #look(
    root: Descriptor,
    cache: ScanCacheWriter | undefined,
    onFinding: (key: Uint8Array, finding: AuditFinding) => void,
  ): Promise<AuditOutcome> {
    const { files, clock } = this.#ports;
    const { volume, only, segments } = this.#parts;
    this.#report('audit');
    return await auditTarget({
      files,
      root,
      tree: volume.root,
      source: segments,
      keys: this.#source.access.keys,
      selects: only.none ? undefined : (key) => only.matchesAtOrBelow(key),
      xattrs: hasDefaultAcl(files, root) ? 'all' : this.#xattrsRefused ? 'expected' : 'none',
      cache,
      freshFromMs: clock.nowMs() - coarseClockMs,
      onFinding,
      signal: this.#options.signal,
    });
  }

  async #finishRoot(root: Descriptor, policy: ExistingPolicy): Promise<void> {
    const { files } = this.#ports;
    const { volume, segments } = this.#parts;
    if (!this.#settings.rootMeta || policy === 'keep') return;
    const xattrs = await plainXattrs(volume.rootMeta, segments, this.#source.access.keys);
    applyToDescriptor(files, root, volume.rootMeta, xattrs, true, (part, errno) =>
      this.#onDegraded(new Uint8Array(0), part, errno),
    );
  }

  #onDegraded(key: Uint8Array, part: string, errno: string): void {
    if (part === 'xattr') this.#xattrsRefused = true;
    this.#degraded.add(`${part} ${errno}`, key);
  }

  #count(entries: number, files: number, bytes: number): void {
    this.#entries += entries;
    this.#files += files;
    this.#bytes += bytes;
    this.#report(this.#phase);
  }

  #report(phase: RestoreProgress['phase']): void {
    const { sums } = this.#parts.volume.root;
    this.#options.onProgress?.({
      phase,
      volume: this.#parts.volume.name,
      entries: this.#entries,
      files: this.#files,
      bytes: this.#bytes,
      entriesTotal: sums.entries,
      filesTotal: sums.files,
      bytesTotal: sums.bytes,
    });
  }

  #damaged(damage: DamageReport): HoldfastError {
    const { volume } = this.#parts;
    return new HoldfastError('E_DAMAGED', `volume ${volume.name}: ${describeDamage(damage)}`, {
      details: { volume: volume.name, damage },
    });
  }

  #outcome(
    policy: RestoredVolume['existing'],
    firstComplete: FirstComplete | undefined,
    damage: DamageReport | undefined,
    { files, entries, bytes }: AuditOutcome['found'],
    audit: (AuditOutcome & { readonly primed: boolean }) | undefined,
  ): RestoredVolume {
    const { target, volume, only } = this.#parts;
    return {
      name: volume.name,
      path: target.path,
      files,
      entries,
      bytes,
      newFiles: this.#newFiles,
      newBytes: this.#newBytes,
      existing: policy,
      kept: this.#kept.plain(),
      removed: this.#removed.plain(),
      degraded: this.#degraded.list(),
      damage,
      firstComplete,
      rootExpected: volume.root.id,
      rootGot: only.none ? audit?.root?.id : undefined,
      primed: audit?.primed ?? false,
    };
  }
}

/** Another directory at the same path is another target. */
function identityOf(files: FileTreeWriter, root: Descriptor): string {
  const { device, inode } = files.stat(root);
  return `${device}:${inode}`;
}

const lostAndFound = utf8Bytes('lost+found');

/** What stands in the target: nothing, only what a fresh ext4 volume has, or more. */
function contentOf(files: FileTreeWriter, root: Descriptor): 'nothing' | 'lost+found' | 'more' {
  const block = files.list(root);
  if (block.count === 0) return 'nothing';
  const view = viewOf(block.records);
  const isDirectory = (view.getUint32(statOffset.mode, true) & fileTypeMask) === fileType.directory;
  return block.count === 1 && isDirectory && equalBytes(recordName(block, view, 0), lostAndFound)
    ? 'lost+found'
    : 'more';
}

/** Owner of what is made in the target's directory; undefined when that cannot be told without leaving traces. */
function usualOwner(
  files: FileTreeWriter,
  root: Descriptor,
): { readonly uid: number; readonly gid: number } | undefined {
  let file: Descriptor | undefined;
  try {
    file = files.createNameless(root);
    if (file === undefined) return undefined;
    const { uid, gid } = files.stat(file);
    return { uid, gid };
  } catch (error) {
    if (error instanceof FileTreeError) return undefined;
    throw error;
  } finally {
    if (file !== undefined) files.close(file);
  }
}

const defaultAcl = utf8Bytes('system.posix_acl_default');

/** With one, everything made below inherits an ACL that no entry may have. */
function hasDefaultAcl(files: FileTreeWriter, root: Descriptor): boolean {
  return files.xattrs(root).some((xattr) => equalBytes(xattr.name, defaultAcl));
}

/** The directory gets the volume's own xattrs in the end; where this one stays, the audit finds what it did. */
function dropDefaultAcl(files: FileTreeWriter, root: Descriptor): void {
  try {
    if (hasDefaultAcl(files, root)) files.removeXattr(root, defaultAcl);
  } catch (error) {
    if (!(error instanceof FileTreeError)) throw error;
  }
}
