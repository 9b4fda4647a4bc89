/**
 * The restore of one volume: how its target is met, the marker around everything, the audit at the end, and what is told.
 * volume-restore.ts is what is done to the directory between.
 */
import { entrySums } from '../format/entry-codec.ts';
import { equalBytes, toHex, utf8Bytes } from '../model/bytes.ts';
import type { VolumeCheckpoint } from '../model/checkpoint.ts';
import { HoldfastError } from '../model/errors.ts';
import { NameTally } from '../model/name-tally.ts';
import { type Descriptor, FileTreeError, type FileTreeWriter } from '../ports/file-tree.ts';
import type { RestoreMark } from '../ports/restore-marker.ts';
import { ScanCacheWriter } from '../tree/scan-cache.ts';
import { bindScanCache, scanCacheFile, scanCacheIdentity } from '../tree/scan-cache-binding.ts';
import type { SegmentSource } from '../tree/segment-source.ts';
import { applyToDescriptor } from './apply-meta.ts';
import { type AuditFinding, type AuditOutcome, auditTarget, settleTime } from './audit.ts';
import { type DamageReport, DamageTally, describeDamage } from './damage.ts';
import type { ExistingPolicy } from './existing.ts';
import { FilePlanner } from './file-planner.ts';
import { ReasonTally } from './reason-tally.ts';
import type { FirstComplete, RestoredVolume, RestoreProgress } from './rehydrate-outcome.ts';
import type { RehydrateOptions, RehydratePorts, RehydrateSettings, RestoreTarget } from './rehydrate-request.ts';
import type { RestoreLanes } from './restore-lanes.ts';
import type { RestoreSource } from './restore-source.ts';
import type { PathGlobs } from './selection.ts';
import { contentOf } from './target-content.ts';
import { targetError } from './target-error.ts';
import { plainXattrs, VolumeRestore } from './volume-restore.ts';
import { walkTree } from './walk-tree.ts';

/** Kernels stamp files with a coarse clock: what is this old by stat cannot change again with the same stamps. */
const coarseClockMs = 10;

/** What is restored, and what all volumes of a restore share. */
export interface VolumeParts {
  readonly target: RestoreTarget;
  readonly volume: VolumeCheckpoint;
  readonly only: PathGlobs;
  readonly first: PathGlobs;
  readonly lanes: RestoreLanes;
  readonly segments: SegmentSource;
  /** Monotonic, ms. */
  readonly started: number;
}

export class VolumeRun {
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
      // Nearly all of it is written back while the audit looks at it.
      const synced = this.#parts.lanes.sync(root);
      const audit = await this.#audit(root, policy);
      await this.#finishRoot(root, policy);
      this.#report('sync');
      await synced;
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
      this.#degraded.add(reasonOf(finding), key);
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
    if (only.none) {
      lanes.begin();
      segments.packs.openAhead();
    }
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
      const outcome = await this.#look(root, writer, (key, finding) => this.#degraded.add(reasonOf(finding), key));
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

/** Of what was set and is not there, the file system is to blame; of what is gone or another thing, nobody knows who is. */
function reasonOf(finding: AuditFinding): string {
  return finding === 'missing' || finding === 'changed' ? finding : `${finding} not kept`;
}

/** The directory gets the volume's own xattrs in the end; where this one stays, the audit finds what it did. */
function dropDefaultAcl(files: FileTreeWriter, root: Descriptor): void {
  try {
    if (hasDefaultAcl(files, root)) files.removeXattr(root, defaultAcl);
  } catch (error) {
    if (!(error instanceof FileTreeError)) throw error;
  }
}
