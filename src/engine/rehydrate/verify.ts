/**
 * Whether a checkpoint can be restored: every node of its trees, every entry, every place, the table of every pack it lists; and
 * on request every chunk of every file and every segment of every pack, so that each changed byte of a listed object is
 * found, whether a file needs it or not. Nothing is written; memory follows neither the files nor the packs.
 */
import { decodeEntry } from '../format/entry-codec.ts';
import { setRoot } from '../format/keys.ts';
import { logKey } from '../format/object-keys.ts';
import { checkPackHeader, headerBytes } from '../format/pack.ts';
import { type PackEntry, packEntryName } from '../format/pack-entry.ts';
import type { VoidReason } from '../format/record.ts';
import type { LeafNode } from '../format/tree-node.ts';
import { compareBytes, emptyBytes, equalBytes } from '../model/bytes.ts';
import type { VolumeCheckpoint } from '../model/checkpoint.ts';
import type { ContentItem } from '../model/entry.ts';
import { HoldfastError, isHoldfastError } from '../model/errors.ts';
import type { Slot } from '../model/ids.ts';
import { parentKey } from '../model/rel-path.ts';
import type { LineageLog } from '../lineage/log.ts';
import type { Compressor } from '../ports/compressor.ts';
import type { Descriptor, FileTreeWriter } from '../ports/file-tree.ts';
import type { LaneStarter } from '../ports/lanes.ts';
import { reread } from '../model/reread.ts';
import type { ObjectReader } from '../ports/object-store.ts';
import { readList } from '../tree/list.ts';
import { locationIn, named, type OpenedPack } from '../tree/pack-directory.ts';
import type { SegmentSource } from '../tree/segment-source.ts';
import { getEntry } from '../tree/tree-reader.ts';
import { type DamageReport, DamageTally, placeOf } from './damage.ts';
import { FilePlanner, type PlannedFile } from './file-planner.ts';
import { encodeJob, type JobReply, jobKind, readReply } from './restore-job.ts';
import { RestoreLanes } from './restore-lanes.ts';
import { type RestoreSource, segmentsOf } from './restore-source.ts';
import { type FetchedSegments, type SegmentClaim, SegmentRanges, type WantedSegment } from './segment-ranges.ts';
import { plainXattrs } from './volume-restore.ts';
import { walkTree } from './walk-tree.ts';

export interface VerifyPorts {
  readonly store: ObjectReader;
  readonly compressor: Compressor;
  readonly lanes: LaneStarter;
  /** Lanes are made with it; a verification touches no file. */
  readonly files: FileTreeWriter;
}

export interface VerifySettings {
  /** Decrypts and proves all content too, and every byte of every pack. */
  readonly readData: boolean;
  /** Worker lanes; 0 keeps all in the calling thread. */
  readonly laneCount: number;
  /** Ciphertext in memory at once. */
  readonly inFlightBytes: number;
  /** Names of packs that need not be proven again; those proven now are added. For checkpoints that share packs. */
  readonly proven?: Set<string>;
}

export interface VerifyProgress {
  readonly phase: 'packs' | 'tree';
  readonly packs: number;
  readonly files: number;
  readonly entries: number;
  readonly bytes: number;
  readonly packsTotal: number;
  readonly filesTotal: number;
  readonly bytesTotal: number;
}

export interface VerifyOutcome {
  readonly sound: boolean;
  readonly damage: DamageReport;
  /** Packs and segments that were opened, and bytes of the store that were read for it. */
  readonly packs: number;
  readonly segments: number;
  readonly storedBytes: number;
  readonly entries: number;
  /** Files whose content was proven (with `readData`), else whose places were. */
  readonly files: number;
  readonly bytes: number;
}

/** The walk reads every node once, in the order of the packs: what was read last is what helps. */
const metadataCacheBytes: number = 4 * 1024 * 1024;
const openJobBytes: number = 8 * 1024 * 1024;

/** Verifies one checkpoint. Damage is in the outcome; thrown are E_HOSTILE, E_FORMAT_NEWER, E_STORE_*, E_ABORTED. */
export async function verifyCheckpoint(
  ports: VerifyPorts,
  source: RestoreSource,
  settings: VerifySettings,
  options: { readonly signal?: AbortSignal; readonly onProgress?: (progress: VerifyProgress) => void } = {},
): Promise<VerifyOutcome> {
  const verification = new Verification(ports, source, settings, options);
  try {
    return await verification.run();
  } catch (error) {
    if (options.signal?.aborted === true && !isHoldfastError(error)) {
      throw new HoldfastError('E_ABORTED', 'the verification was interrupted', { cause: error });
    }
    throw error;
  } finally {
    await verification.close();
  }
}

export interface VoidRecord {
  readonly slot: Slot;
  /** Of its object. */
  readonly key: string;
  readonly reason: VoidReason;
  readonly detail: string;
}

/** Objects of a log that are no valid records: signatures, digests and the chain are checked of every one. */
export async function* voidRecords(
  log: LineageLog,
  options: { readonly signal?: AbortSignal } = {},
): AsyncGenerator<VoidRecord> {
  for await (const { slot, reading } of log.entries(options)) {
    if (reading.valid) continue;
    yield { slot, key: logKey(log.lineage, slot), reason: reading.reason, detail: reading.detail };
  }
}

class Verification {
  readonly #ports: VerifyPorts;
  readonly #source: RestoreSource;
  readonly #settings: VerifySettings;
  readonly #signal: AbortSignal | undefined;
  readonly #onProgress: ((progress: VerifyProgress) => void) | undefined;
  readonly #damage = new DamageTally();
  readonly #lanes: RestoreLanes;
  readonly #segments: SegmentSource;
  readonly #ranges: SegmentRanges;
  readonly #opening = new Set<Promise<void>>();
  #failed: { readonly error: unknown } | undefined;
  #packs = 0;
  #segmentCount = 0;
  #storedBytes = 0;
  #entries = 0;
  #files = 0;
  #bytes = 0;

  constructor(
    ports: VerifyPorts,
    source: RestoreSource,
    settings: VerifySettings,
    options: { readonly signal?: AbortSignal; readonly onProgress?: (progress: VerifyProgress) => void },
  ) {
    this.#ports = ports;
    this.#source = source;
    this.#settings = settings;
    this.#signal = options.signal;
    this.#onProgress = options.onProgress;
    const { access, record } = source;
    const { repository, domain, keys, dataKeys } = access;
    const { totals } = record.header;
    this.#segments = segmentsOf(source, ports, { cacheBytes: metadataCacheBytes, signal: options.signal });
    this.#lanes = new RestoreLanes({
      files: ports.files,
      compressor: ports.compressor,
      settings: { repository, domain, keys, dataKeys },
      starter: ports.lanes,
      lanes: settings.readData ? settings.laneCount : 0,
      fileCount: totals.files,
      bytes: totals.bytes,
    });
    this.#ranges = new SegmentRanges({ store: ports.store, memory: this.#lanes.memory, signal: options.signal });
  }

  async run(): Promise<VerifyOutcome> {
    const { body, access, packs } = this.#source;
    for (const entry of packs) await this.#pack(entry);
    await this.#opened();
    const roots = body.volumes.map(({ name, root }) => ({ name, id: root.id }));
    if (!equalBytes(setRoot(access.keys, roots), body.setRoot)) {
      throw new HoldfastError('E_HOSTILE', 'the root of the set is not that of its volumes');
    }
    for (const volume of body.volumes) await this.#volume(volume);
    return {
      sound: !this.#damage.any,
      damage: this.#damage.report(),
      packs: this.#packs,
      segments: this.#segmentCount,
      storedBytes: this.#storedBytes,
      entries: this.#entries,
      files: this.#files,
      bytes: this.#bytes,
    };
  }

  /** Never rejects. */
  async close(): Promise<void> {
    await Promise.all(this.#opening);
    await this.#lanes.close();
  }

  // ---- packs

  async #pack(entry: PackEntry): Promise<void> {
    this.#signal?.throwIfAborted();
    const { proven, readData } = this.#settings;
    const name = `${entry.origin}/${packEntryName(entry)}`;
    if (proven?.has(name) === true) return;
    this.#packs++;
    this.#report('packs');
    try {
      const pack = await this.#segments.packs.pack(entry);
      if (pack.bytes === undefined) await this.#object(pack);
      if (readData) await this.#openSegments(pack);
      proven?.add(name);
    } catch (error) {
      this.#orDamage(error, undefined);
    }
  }

  /** Length and first bytes, which nothing else covers. */
  async #object(pack: OpenedPack): Promise<void> {
    const { store } = this.#ports;
    const waiting = this.#signal === undefined ? {} : { signal: this.#signal };
    const info = await store.stat(pack.key, waiting);
    try {
      if (info?.bytes !== pack.entry.bytes) {
        throw new HoldfastError('E_DAMAGED', `has ${info?.bytes ?? 0} bytes, the record says ${pack.entry.bytes}`);
      }
      await reread(async () => {
        const head = await store.getRange(pack.key, 0, headerBytes, waiting);
        checkPackHeader(head, this.#segments.packs.dataKey(pack.generation, pack.name), `pack ${pack.name}`);
      });
    } catch (error) {
      throw named(error, pack.key, pack.name, undefined);
    }
  }

  /** Every segment in the order of the pack, padding too. */
  async #openSegments(pack: OpenedPack): Promise<void> {
    const wanted: WantedSegment[] = [];
    for (let number = 0; number < pack.reader.segments; number++) {
      wanted.push({ location: locationIn(pack, number), number });
    }
    wanted.sort((a, b) => a.location.start - b.location.start);
    let from = 0;
    let bytes = 0;
    for (let i = 0; i < wanted.length; i++) {
      bytes += (wanted[i] as WantedSegment).location.length;
      if (bytes < openJobBytes && i + 1 < wanted.length) continue;
      await this.#open(pack, wanted.slice(from, i + 1));
      from = i + 1;
      bytes = 0;
    }
  }

  async #open(pack: OpenedPack, wanted: readonly WantedSegment[]): Promise<void> {
    const ranges = this.#ranges;
    const claim = ranges.claim(wanted);
    try {
      const { inFlightBytes } = this.#settings;
      while (!ranges.makeRoom(claim.bytes, inFlightBytes) && this.#opening.size > 0) await Promise.race(this.#opening);
      this.#throwIfFailed();
      ranges.read(claim, inFlightBytes);
    } catch (error) {
      ranges.release(claim);
      throw error;
    }
    const opening = this.#openNow(pack, claim).finally(() => {
      ranges.release(claim);
      this.#opening.delete(opening);
    });
    this.#opening.add(opening);
  }

  /** Never rejects. */
  async #openNow(pack: OpenedPack, claim: SegmentClaim): Promise<void> {
    try {
      const bytes = claim.wanted.reduce((sum, { location }) => sum + location.length, 0);
      const opened = async ({ segments, buffers }: FetchedSegments): Promise<JobReply> => {
        const job = encodeJob(jobKind.open, [pack], segments, { prefix: emptyBytes, first: 0 }, 0, emptyBytes);
        return readReply(await this.#lanes.run(job, buffers, bytes));
      };
      let reply = await opened(await this.#ranges.segments(claim));
      // Damage is believed when it is read twice: bits change on their way too.
      if (reply.notes.length > 0) reply = await opened(await this.#ranges.again(claim));
      for (const { segment, text } of reply.notes) {
        const number = claim.wanted[segment]?.number;
        const place = { key: pack.key, pack: pack.name, segment: number, why: text };
        this.#damage.add(place, undefined);
      }
      this.#segmentCount += claim.wanted.length;
      this.#storedBytes += bytes;
      this.#report('packs');
    } catch (error) {
      this.#failed ??= { error };
    }
  }

  /** Waits until nothing is being opened any more, and gives up what was held for it. */
  async #opened(): Promise<void> {
    while (this.#opening.size > 0) await Promise.all(this.#opening);
    this.#ranges.makeRoom(0, 0);
    this.#throwIfFailed();
  }

  #throwIfFailed(): void {
    if (this.#failed !== undefined) throw this.#failed.error;
  }

  // ---- trees

  async #volume(volume: VolumeCheckpoint): Promise<void> {
    const { keys } = this.#source.access;
    const planner = new FilePlanner({
      kind: 'prove',
      files: this.#ports.files,
      source: this.#segments,
      keys,
      pipeline: {
        store: this.#ports.store,
        lanes: this.#lanes,
        bytesMax: this.#settings.inFlightBytes,
        tempPrefix: emptyBytes,
        signal: this.#signal,
      },
      damage: this.#damage,
      onDegraded: () => undefined,
      onFiles: (files, bytes) => {
        this.#files += files;
        this.#bytes += bytes;
        this.#report('tree');
      },
    });
    try {
      await this.#meta(emptyBytes, volume.rootMeta);
      /** Directories from the volume's root down to the last entry. */
      const directories: Uint8Array[] = [];
      for await (const { leaf, ...step } of walkTree(volume.root, this.#segments, keys)) {
        this.#signal?.throwIfAborted();
        if (leaf === undefined) {
          if (step.lost !== undefined) this.#damage.addSubtree(step.lost);
          continue;
        }
        for (let i = 0; i < leaf.count; i++) await this.#entry(volume, planner, directories, leaf, i);
      }
      await planner.drain();
    } finally {
      await planner.close();
    }
  }

  async #entry(
    volume: VolumeCheckpoint,
    planner: FilePlanner,
    directories: Uint8Array[],
    leaf: LeafNode,
    index: number,
  ): Promise<void> {
    const key = leaf.key(index);
    this.#entries++;
    const parent = parentKey(key);
    while (directories.length > 0 && compareBytes(directories[directories.length - 1] as Uint8Array, parent) !== 0) {
      directories.pop();
    }
    if (parent.length > 0 && directories.length === 0 && !this.#damage.any) {
      throw new HoldfastError('E_HOSTILE', 'an entry that no directory holds');
    }
    try {
      const entry = decodeEntry(leaf.value(index), leaf.placement(index));
      if (entry.type === 'hardlink') {
        await this.#hardlink(volume, key, entry.target);
        return;
      }
      if (entry.type === 'directory') directories.push(key);
      if (entry.type !== 'file') {
        await this.#meta(key, entry);
        return;
      }
      if (this.#settings.readData) {
        await planner.plan({ key, name: key, directory: nowhere, entry, replace: false, owner: false });
        return;
      }
      await this.#places(entry);
      this.#files++;
      this.#bytes += entry.size;
    } catch (error) {
      this.#orDamage(error, key);
    }
  }

  async #meta(key: Uint8Array, meta: VolumeCheckpoint['rootMeta']): Promise<void> {
    try {
      await plainXattrs(meta, this.#segments, this.#source.access.keys);
    } catch (error) {
      this.#orDamage(error, key);
    }
  }

  /** Every place of a file lies in a segment that there is. */
  async #places(entry: PlannedFile['entry']): Promise<void> {
    const { keys } = this.#source.access;
    for (const { value } of entry.xattrs) if (value.kind === 'chunk') await this.#place(value);
    for await (const items of readList(entry.content, this.#segments, keys, entry.size)) {
      for (const item of items) if (item.kind === 'chunk') await this.#place(item);
    }
  }

  async #place({ place, bytes }: Pick<Extract<ContentItem, { kind: 'chunk' }>, 'place' | 'bytes'>): Promise<void> {
    const found = this.#segments.locate(place);
    const { plainBytes, key, pack } = found instanceof Promise ? await found : found;
    if (place.offset + bytes <= plainBytes) return;
    throw named(new HoldfastError('E_DAMAGED', 'a chunk reaches beyond it'), key, pack.name, place.segment);
  }

  async #hardlink(volume: VolumeCheckpoint, key: Uint8Array, target: Uint8Array): Promise<void> {
    const item = await getEntry(volume.root, target, this.#segments, this.#source.access.keys);
    const isFile = item !== undefined && decodeEntry(item.value, item.placement).type === 'file';
    if (!isFile || compareBytes(target, key) >= 0) {
      throw new HoldfastError('E_HOSTILE', 'a hardlink to what is no earlier file of the tree');
    }
    this.#files++;
  }

  #orDamage(error: unknown, key: Uint8Array | undefined): void {
    if (!isHoldfastError(error, 'E_DAMAGED')) throw error;
    this.#damage.add(placeOf(error), key);
  }

  #report(phase: VerifyProgress['phase']): void {
    const { header } = this.#source.record;
    this.#onProgress?.({
      phase,
      packs: this.#packs,
      files: this.#files,
      entries: this.#entries,
      bytes: this.#bytes,
      packsTotal: this.#source.packs.length,
      filesTotal: header.totals.files,
      bytesTotal: header.totals.bytes,
    });
  }
}

/** Content that is only proven has no place in any directory. */
const nowhere: PlannedFile['directory'] = {
  descriptor: 0 as Descriptor,
  hold: () => undefined,
  release: () => undefined,
};
