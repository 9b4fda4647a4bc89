/**
 * One run of a capture towards one commit: its volumes, its packs, and what it has found. `capture.ts` says in which order its steps are
 * taken; volume-passes.ts makes the passes, run-caches.ts keeps what they saw, commit-parts.ts has what a commit says beyond them.
 */
import { setRoot } from '../format/keys.ts';
import type { CommitBase, Committed } from '../lineage/lineage-writer.ts';
import { equalBytes } from '../model/bytes.ts';
import { atLeast, type Consistency, type VolumeCheckpoint } from '../model/checkpoint.ts';
import { HoldfastError, invariant } from '../model/errors.ts';
import { nextSlot, type RecordId, type VolumeName } from '../model/ids.ts';
import { NameTally } from '../model/name-tally.ts';
import { type Descriptor, FileTreeError } from '../ports/file-tree.ts';
import { emptyTree } from '../tree/node-access.ts';
import type { TreeEditor } from '../tree/tree-editor.ts';
import type { CaptureOutcome, Refutation } from './capture-outcome.ts';
import type { CaptureOptions, CapturePorts, CaptureSettings, CaptureTarget, VolumeSource } from './capture-request.ts';
import { type CommitParts, commitPartsOf, type CommitPartsOptions, suspicionsOf } from './commit-parts.ts';
import { DatabaseLocks } from './database-locks.ts';
import { findWriters } from './find-writers.ts';
import { holdsIsolated, isolatedLabel } from './isolation.ts';
import { RunCaches } from './run-caches.ts';
import { RunPacks } from './run-packs.ts';
import { RunProgress } from './run-progress.ts';
import { StagedNodes } from './staged-nodes.ts';
import type { VolumeMemory } from './volume-memory.ts';
import { VolumePasses } from './volume-passes.ts';
import type { DoubtTally } from './torn-clusters.ts';
import { checkpointOf, namesInDoubt, noMeta, outcomeOf, sameMeta, type VolumeState } from './volume-state.ts';
import type { FileWalk } from './walk-files.ts';
import { WatchState } from './watch-state.ts';
import type { WatchedVolume } from './watched-volume.ts';

/** Passes that read less cost little, and the more of them there are the likelier is one that meets no change. */
const passBytesCheap: number = 64 * 1024 * 1024;
/** And so does what holds little that is new. */
const newBytesCheap: number = 16 * 1024 * 1024;
/** Of what the pass before had to read: above it passes do not get smaller. */
const passShareMax = 0.75;

export class CaptureRun {
  readonly #ports: CapturePorts;
  readonly #settings: CaptureSettings;
  readonly #target: CaptureTarget;
  readonly #signal: AbortSignal | undefined;
  readonly #base: CommitBase | undefined;
  readonly #packs: RunPacks;
  readonly #nodes: StagedNodes;
  readonly #caches: RunCaches;
  readonly #progress: RunProgress;
  readonly #passes: VolumePasses;
  readonly #volumes: VolumeState[] = [];
  /** Of the base, as they are there. */
  readonly #carried: readonly VolumeCheckpoint[];
  readonly #databases: DatabaseLocks | undefined;
  /** What the last pass and the one before it had to read. */
  #readBytes: { readonly before: number; readonly last: number; readonly lastNew: number } = {
    before: 0,
    last: 0,
    lastNew: 0,
  };
  readonly #started: number;
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
    this.#started = ports.clock.monotonicMs();
    this.#base = target.writer === undefined ? target.base : target.writer.base;
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
    this.#caches = new RunCaches({ ports, settings, target, base: this.#base });
    this.#progress = new RunProgress(this.#packs, options.onProgress);
    this.#passes = new VolumePasses({
      ...this.#parts,
      caches: this.#caches,
      progress: this.#progress,
      onBatch: (volume, editor, drain) => this.#afterBatch(volume, editor, drain),
    });
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
    this.#progress.pass++;
    let still = true;
    for (const volume of this.#volumes) {
      if (!(await this.#passes.passOver(volume))) still = false;
    }
    // Nearly all of a first capture is read by now: it becomes durable while the next pass looks whether something has moved.
    if (this.#progress.pass === 1 && this.#isFirst) this.#packs.endAhead();
    const sumOf = (of: 'readBytes' | 'newBytes'): number =>
      this.#volumes.reduce((sum, { last }) => sum + (last?.[of] ?? 0), 0);
    this.#readBytes = { before: this.#readBytes.last, last: sumOf('readBytes'), lastNew: sumOf('newBytes') };
    return still;
  }

  /** There is no checkpoint to begin from. */
  get #isFirst(): boolean {
    return this.#base === undefined || this.#base.record.header.kind === 'PARTIAL';
  }

  /**
   * A pass that had to read much, and hardly less than the one before: what is written all over, as the tables of a database under load,
   * holds no stiller for the next one. Beside pgbench four passes converged as rarely as two.
   */
  get #goesNowhere(): boolean {
    const { before, last, lastNew } = this.#readBytes;
    // In memory every pass reads everything, whether it has moved or not.
    return (
      this.#progress.pass > 1 && last >= passBytesCheap && last > before * passShareMax && lastNew >= newBytesCheap
    );
  }

  /** Whether what was seen of a volume so far is a watcher's word that may come too late, and a walk has to show it. */
  get mayBeLate(): boolean {
    return this.#volumes.some(({ watch }) => watch?.mayBeLate === true);
  }

  /** `must`: there is a reason beyond the bounds. `held`: the application holds still, so a pass will show it. False when the bounds of passes or of time are reached. What a second pass must prove has that one whatever the bounds. */
  mayPassAgain(must: boolean, held: boolean): boolean {
    const { quiesced, final, databaseLocks, convergeMsMax, extraPassesMax } = this.#settings;
    if (must || (this.#progress.pass === 1 && (quiesced || databaseLocks !== undefined))) return true;
    const mayEnd = !held && !quiesced && !final && databaseLocks === undefined;
    if (mayEnd && this.#goesNowhere) return false;
    const late = this.#ports.clock.monotonicMs() - this.#started > convergeMsMax;
    return !late && this.#progress.pass <= extraPassesMax;
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
    return volume === undefined ? undefined : source.watched.recall(volume.root.id, this.#caches.identityOf(source));
  }

  /** A dry run takes nothing from a watcher. */
  #watches(source: VolumeSource): source is VolumeSource & { readonly watched: WatchedVolume } {
    return source.watched !== undefined && this.#target.writer !== undefined && this.#ports.cache !== undefined;
  }

  /** Waits for the store when it lags behind; anchors a long first capture. */
  async #afterBatch(volume: VolumeState, editor: TreeEditor, drain: () => Promise<void>): Promise<void> {
    const writer = this.#target.writer;
    if (writer === undefined) return;
    await this.#packs.drain();
    const stored = this.#packs.storedBytes;
    if (!this.#isFirst || this.#progress.pass > 1 || stored - this.#anchoredBytes < this.#settings.partialBytes) return;
    await drain();
    const snapshot = await editor.snapshot();
    const volumes = this.#volumes
      .filter((other) => other.complete || other === volume)
      .map((other) => checkpointOf(other, other === volume ? snapshot : other.tree, this.#progress.pass, 'fuzzy'))
      .concat(this.#carried);
    const { uploaded, inlined } = await this.#packs.end(false);
    const committed = await writer.commit({
      kind: 'PARTIAL',
      volumes,
      consistency: 'fuzzy',
      suspect: false,
      newBytes: this.#progress.newBytes + this.#progress.passNewBytes,
      uploaded,
      inlined,
      referenced: this.#packs.references(),
      labels: this.#isolation(),
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
        const now = checkpointOf(volume, volume.tree, this.#progress.pass, consistency);
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
    const suspicions = await suspicionsOf(this.#parts, base.volumes, new Map());
    for (const { watch } of this.#volumes) await watch?.judge();
    const outcomes = this.#volumes.map((volume, i) =>
      outcomeOf(
        volume,
        checkpointOf(volume, volume.tree, this.#progress.pass, consistency),
        this.#databases?.outcomes(i) ?? [],
      ),
    );
    await this.#packs.abandon();
    // What was seen of the volumes is as good for the next capture as what the checkpoint itself left.
    this.#bindCaches(base.record.header.id);
    for (const { watch } of this.#volumes) watch?.committed();
    this.#release();
    return {
      root: this.#setRoot(base.volumes),
      committed: undefined,
      consistency,
      passes: this.#progress.pass,
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

  #doubts(consistency: Consistency): Map<VolumeName, DoubtTally> {
    const doubts = new Map<VolumeName, DoubtTally>();
    for (const { source, last } of this.#volumes) {
      const doubt = last === undefined ? undefined : namesInDoubt(last, this.#progress.pass, consistency);
      if (doubt !== undefined) doubts.set(source.name, doubt);
    }
    return doubts;
  }

  /** Commits what the passes found as one checkpoint; a dry run only tells it. Nothing stays open. */
  async commit(consistency: Consistency, refuted?: readonly Refutation[]): Promise<CaptureOutcome> {
    const writer = this.#target.writer;
    for (const { watch } of this.#volumes) await watch?.judge();
    const captured = this.#volumes.map((volume) => checkpointOf(volume, volume.tree, this.#progress.pass, consistency));
    const outcomes = this.#volumes.map((volume, i) =>
      outcomeOf(volume, captured[i] as VolumeCheckpoint, this.#databases?.outcomes(i) ?? []),
    );
    let volumes: readonly VolumeCheckpoint[] = [...captured, ...this.#carried];
    const incomplete = volumes.some((volume) => volume.incomplete);
    const root = this.#setRoot(volumes);
    const suspicions = await suspicionsOf(this.#parts, volumes, this.#doubts(consistency));
    const suspect = suspicions.length > 0 || this.#settings.suspect === true;
    let committed: Committed | undefined;
    let recordBytes = 0;
    let parts: CommitParts | undefined;
    if (writer !== undefined) {
      this.#progress.report('store', undefined, 0, 0);
      parts = await commitPartsOf(this.#parts, volumes);
      const { compacted, isDropped, inUse } = parts;
      volumes = parts.volumes;
      const { uploaded, inlined } = await this.#packs.end(!this.#settings.final);
      this.#progress.report('commit', undefined, 0, 0);
      committed = await writer.commit({
        kind: 'CHECKPOINT',
        volumes,
        consistency,
        suspect,
        newBytes: this.#progress.newBytes,
        uploaded,
        inlined,
        // What an earlier pass took from them was moved as well.
        referenced: this.#packs.references().filter((pack) => !isDropped(pack)),
        ...(compacted === undefined ? {} : { keep: (writer.base?.packs ?? []).filter((pack) => !isDropped(pack)) }),
        ...(inUse === undefined ? {} : { inUse }),
        labels: { ...this.#settings.labels, ...this.#isolation() },
        ...(this.#signal === undefined ? {} : { signal: this.#signal }),
      });
      invariant(equalBytes(committed.root, root), 'the committed root is the captured one');
      this.#nodes.committed();
      for (const { watch } of this.#volumes) watch?.committed();
      recordBytes = committed.bytes - inlined.reduce((sum, pack) => sum + pack.bytes.length, 0);
      this.#bindCaches(committed.id);
    } else {
      this.#caches.drop(this.#volumes);
    }
    await this.#packs.close();
    this.#release();
    return {
      root,
      committed,
      consistency,
      passes: this.#progress.pass,
      volumes: outcomes,
      newBytes: this.#progress.newBytes,
      storedBytes: this.#packs.storedBytes + recordBytes,
      incomplete,
      suspect,
      suspicions,
      compacted: parts?.compacted?.outcome,
      partials: this.#partials,
      databaseLockMs: this.#databases?.heldMs,
      refuted,
    };
  }

  get #parts(): CommitPartsOptions {
    return {
      ports: this.#ports,
      settings: this.#settings,
      target: this.#target,
      signal: this.#signal,
      base: this.#base,
      packs: this.#packs,
      nodes: this.#nodes,
    };
  }

  /** Said by every record from the first isolated one on. */
  #isolation(): Readonly<Record<string, string>> {
    return this.#settings.isolated || holdsIsolated(this.#base) ? { [isolatedLabel]: 'true' } : {};
  }

  #bindCaches(record: RecordId): void {
    this.#caches.tryToBind(
      record,
      this.#volumes,
      this.#carried.map(({ name }) => name),
    );
  }

  #setRoot(volumes: readonly VolumeCheckpoint[]): Uint8Array {
    return setRoot(
      this.#target.keys,
      volumes.map(({ name, root: tree }) => ({ name, id: tree.id })),
    );
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
