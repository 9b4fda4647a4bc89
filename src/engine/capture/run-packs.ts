/**
 * The packs of one run: those of the calling thread, those of its lanes, and their way to the store, slot by slot.
 *
 * A dry run makes none: its bytes get places that differ, and go nowhere.
 */
import type { PackSummary } from '../format/pack.ts';
import { packName } from '../format/pack.ts';
import { mixSalt } from '../format/pack-seal.ts';
import type { PackReference } from '../format/pack-entry.ts';
import { nextSlot, type Slot, toSlot } from '../model/ids.ts';
import { PackSequence, type PackSettings, packSalt } from './capture-lane.ts';
import type { CapturePorts, CaptureSettings, CaptureTarget } from './capture-request.ts';
import { NullTarget } from './null-target.ts';
import { type InlinePack, PackUploads } from './pack-uploads.ts';
import type { ChunkTarget } from './read-content.ts';
import { ReadLanes } from './read-lanes.ts';

/** Pack numbers below this are the calling thread's; lanes count from here. */
const ownPacks = 4096;

/** What became of the packs of a slot. */
export interface EndedPacks {
  readonly uploaded: readonly PackSummary[];
  readonly inlined: readonly InlinePack[];
}

export class RunPacks {
  readonly #ports: CapturePorts;
  readonly #settings: CaptureSettings;
  readonly #target: CaptureTarget;
  readonly #signal: AbortSignal | undefined;
  readonly #packs: PackSettings;
  readonly #lanes: ReadLanes;
  readonly #null = new NullTarget();
  readonly #laneReferences: PackReference[] = [];
  /** Of this slot: packs that were ended before its end. */
  #ahead: Promise<readonly PackSummary[]> | undefined;
  #slot: Slot;
  #own: PackSequence | undefined;
  #uploads: PackUploads | undefined;
  /** Of slots that ended. */
  #endedBytes = 0;

  constructor(
    ports: CapturePorts,
    settings: CaptureSettings,
    target: CaptureTarget,
    attempt: number,
    signal: AbortSignal | undefined,
  ) {
    this.#ports = ports;
    this.#settings = settings;
    this.#target = target;
    this.#signal = signal;
    this.#slot = target.writer?.slot ?? toSlot(0);
    this.#packs = {
      ...target.packs,
      level: settings.level,
      dataSegmentBytes: settings.dataSegmentBytes,
      metaSegmentBytes: settings.metaSegmentBytes,
      packBytesTarget: settings.packBytesTarget,
      isolated: settings.isolated,
      runSalt: mixSalt(ports.random.bytes(32), [
        ...(settings.saltContext ?? []),
        this.#slot,
        ports.clock.nowMs(),
        ports.clock.monotonicMs(),
        attempt,
      ]),
    };
    this.openSlot(this.#slot);
    this.#lanes = new ReadLanes(
      {
        files: ports.files,
        keys: target.keys,
        starter: target.writer === undefined ? undefined : ports.lanes,
        lanes: settings.laneCount,
        packs: this.#packs,
        own: () => this.own,
        firstPack: ownPacks,
        onPackPart: (pack, bytes, end) => (this.#uploads as PackUploads).part(pack, bytes, end, false),
      },
      this.#slot,
    );
  }

  /** Where the calling thread puts chunks and nodes. */
  get own(): ChunkTarget {
    return this.#own ?? this.#null;
  }

  /** Bytes of packs made so far. */
  get storedBytes(): number {
    return this.#endedBytes + (this.#uploads?.storedBytes ?? 0);
  }

  /** Packs that entries name, each once. */
  references(): PackReference[] {
    return [...(this.#own?.references.list() ?? []), ...this.#laneReferences];
  }

  /** Runs a read job now, or gives it to the least busy lane. */
  read(job: Uint8Array, bytes: number): Promise<Uint8Array> | Uint8Array {
    return this.#lanes.read(job, bytes);
  }

  /** Resolves when the store has taken all that the calling thread gave it. */
  async drain(): Promise<void> {
    await this.#uploads?.drain();
  }

  /** Following packs belong to `slot`. */
  openSlot(slot: Slot): void {
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

  /** Ends every open pack although more may come, which then goes into further ones: they become durable while the caller does something else. */
  endAhead(): void {
    if (this.#own === undefined || this.#ahead !== undefined) return;
    this.#ahead = this.#finish(this.#own, this.#slot);
    this.#ahead.catch(() => undefined);
  }

  /** Ends every open pack of a run that is no dry run; they are durable, or handed back to be inlined. */
  async end(inline: boolean): Promise<EndedPacks> {
    const uploads = this.#uploads as PackUploads;
    const ahead = await this.#ahead;
    this.#ahead = undefined;
    const ended = await this.#finish(this.#own as PackSequence, nextSlot(this.#slot));
    const settled = await uploads.settle([...(ahead ?? []), ...ended], inline);
    this.#endedBytes += uploads.storedBytes;
    this.#uploads = undefined;
    return settled;
  }

  /** Ends the open packs; following ones belong to `slot`. */
  async #finish(own: PackSequence, slot: Slot): Promise<readonly PackSummary[]> {
    const ended = own.finish(slot);
    const { packs, references } = await this.#lanes.finish(slot);
    this.#laneReferences.push(...references);
    return [...ended, ...packs];
  }

  /** Ends the lanes. */
  async close(): Promise<void> {
    await this.#lanes.close();
  }

  /** Ends the lanes and drops what is not stored. Safe after everything else. */
  async abandon(): Promise<void> {
    await this.#lanes.close();
    await this.#uploads?.abort();
  }
}
