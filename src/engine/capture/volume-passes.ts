/** A pass over one volume: by the names that its watcher told of, where that is enough, else by a walk. */
import type { Changes } from '../model/changes.ts';
import { equalBytes } from '../model/bytes.ts';
import type { EntryMeta, Place } from '../model/entry.ts';
import { writeStat, viewOf } from '../model/stat-record.ts';
import type { CommitBase } from '../lineage/lineage-writer.ts';
import { ScanCacheWriter } from '../tree/scan-cache.ts';
import { TreeEditor } from '../tree/tree-editor.ts';
import type { CapturePorts, CaptureSettings, CaptureTarget } from './capture-request.ts';
import { scanKnown, type ScanListener } from './known-scan.ts';
import { statBytes } from './lane-job.ts';
import { keepXattrs, metaOf } from './read-name.ts';
import type { RunCaches } from './run-caches.ts';
import type { RunPacks } from './run-packs.ts';
import type { RunProgress } from './run-progress.ts';
import type { ScanBatch, ScanTotals } from './scan.ts';
import type { StagedNodes } from './staged-nodes.ts';
import { TooManyChanges } from './too-many-changes.ts';
import { VolumeMemory } from './volume-memory.ts';
import { runVolumePass, type VolumePassRequest, type VolumePassResult } from './volume-pass.ts';
import { sameMeta, type VolumeState } from './volume-state.ts';
import type { WatchState } from './watch-state.ts';

/** Clocks of kernels tick coarsely: what was changed this shortly before a pass may change again with equal stamps. */
const coarseClockMs = 10;

export interface VolumePassesOptions {
  readonly ports: CapturePorts;
  readonly settings: CaptureSettings;
  readonly target: CaptureTarget;
  readonly signal: AbortSignal | undefined;
  readonly base: CommitBase | undefined;
  readonly packs: RunPacks;
  readonly nodes: StagedNodes;
  readonly caches: RunCaches;
  readonly progress: RunProgress;
  /** After each batch that has gone into the tree; `drain` ends what is still being read. */
  readonly onBatch: (volume: VolumeState, editor: TreeEditor, drain: () => Promise<void>) => Promise<void>;
}

export class VolumePasses {
  readonly #run: VolumePassesOptions;
  readonly #basePacks: ReadonlySet<string>;

  constructor(options: VolumePassesOptions) {
    this.#run = options;
    this.#basePacks = new Set(options.base?.packs.map(({ origin, slot, pack }) => `${origin}/${slot}/${pack}`));
  }

  /** True when it showed no change since the pass before. */
  async passOver(volume: VolumeState): Promise<boolean> {
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
    this.#run.progress.newBytes += result.newBytes;
    this.#run.progress.passNewBytes = 0;
    volume.complete = true;
    volume.rootMoved = !sameRoot;
    const sameTree = equalBytes(before.id, volume.tree.id);
    return this.#run.progress.pass > 1 && sameTree && sameRoot && result.moved.count === 0 && result.fuzzy.count === 0;
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
    if (this.#run.settings.audit === true || watch.walked || !memory.complete) return undefined;
    if (this.#run.progress.pass > 1 && !watch.watched.source.prompt) return undefined;
    if (!this.#run.ports.files.fileSystem(root).writeback) return undefined;
    const names = new Map<string, boolean>();
    for (const name of watch.lookedAt) names.set(name, false);
    for (const [name, whole] of changes.names.entries()) names.set(name, whole);
    return names;
  }

  /** A pass over these names alone; undefined when they are too many, or lie too deep, for that. */
  async #lookOver(volume: VolumeState, names: ReadonlyMap<string, boolean>): Promise<VolumePassResult | undefined> {
    const { files, clock } = this.#run.ports;
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
          source: this.#run.nodes,
          keys: this.#run.target.keys,
          names,
          memory,
          lookedAt: watch.lookedAt,
          freshFromMs,
          keepVolatile: volume.volatileStored,
          namesOfInodes: (inodes) => this.#run.caches.namesOfInodes(volume, memory, inodes),
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
      if (this.#run.progress.pass === 1) volume.scan = 'known';
      return result;
    } catch (error) {
      if (error instanceof TooManyChanges) return undefined;
      throw error;
    }
  }

  /** A pass over all of the volume. */
  async #walkOver(volume: VolumeState): Promise<VolumePassResult> {
    const { files, cache, clock } = this.#run.ports;
    const { source, watch } = volume;
    const identity = this.#run.caches.identityOf(source);
    const previous = this.#run.caches.openPrevious(volume);
    if (this.#run.progress.pass === 1) volume.scan = previous === undefined ? 'full' : 'cached';
    const nextFile = this.#run.caches.newFile(source);
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

  #editorOf(volume: VolumeState): TreeEditor {
    return new TreeEditor({
      base: volume.tree,
      source: this.#run.nodes,
      sink: this.#run.nodes,
      keys: this.#run.target.keys,
    });
  }

  #passRequest(
    volume: VolumeState,
    editor: TreeEditor,
  ): Omit<VolumePassRequest, 'previous' | 'next' | 'memory' | 'known' | 'onMoved' | 'freshFromMs' | 'distrustContent'> {
    let scanned: ScanTotals | undefined;
    return {
      files: this.#run.ports.files,
      root: volume.root,
      selection: volume.source.selection,
      base: volume.tree,
      editor,
      source: this.#run.nodes,
      keys: this.#run.target.keys,
      readable: (place) => this.#basePacks.has(`${place.origin}/${place.slot}/${place.pack}`),
      unreadBefore: volume.last?.skipped.get('unreadable'),
      vanishedBefore: volume.last?.skipped.get('vanished'),
      volatileStored: volume.volatileStored,
      read: (job, bytes) => this.#run.packs.read(job, bytes),
      onApplied: (drain) => this.#run.onBatch(volume, editor, drain),
      progress: {
        onRead: (_names, bytes, newBytes) => {
          this.#run.progress.passNewBytes = newBytes;
          this.#run.progress.report('read', scanned, bytes, newBytes);
        },
        onScan: (totals) => {
          scanned = totals;
          this.#run.progress.report(this.#run.progress.pass === 1 ? 'scan' : 'converge', totals, 0, 0);
        },
      },
      breathe: () => this.#run.ports.clock.wait(0),
      signal: this.#run.signal,
    };
  }

  #readRootMeta(volume: VolumeState): EntryMeta {
    const { files } = this.#run.ports;
    const bytes = new Uint8Array(statBytes);
    writeStat(viewOf(bytes), 0, files.stat(volume.root));
    const xattrs = keepXattrs(files.xattrs(volume.root), this.#run.target.keys, (id, value) => {
      const target = this.#run.packs.own;
      let place: Place | undefined;
      for (const { value: known } of volume.rootMeta.xattrs) {
        if (known.kind === 'chunk' && equalBytes(known.id, id)) place = known.place;
      }
      if (place === undefined) {
        place = target.addData(value, 0, value.length);
        volume.newBytes += value.length;
        this.#run.progress.newBytes += value.length;
      }
      target.refer(place);
      return place;
    });
    return metaOf(bytes, xattrs);
  }
}
