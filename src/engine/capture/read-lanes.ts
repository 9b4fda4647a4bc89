/**
 * Who reads: the calling thread while there is little to do, worker lanes once there is more. Small captures so cost no
 * thread, and all their bytes share one pack.
 */
import type { DomainKeys } from '../format/keys.ts';
import type { PackSummary } from '../format/pack.ts';
import { ByteWriter } from '../model/bytes.ts';
import type { PackReference } from '../format/pack-entry.ts';
import type { FileTreeReader } from '../ports/file-tree.ts';
import type { LanePool, LaneStarter } from '../ports/lanes.ts';
import { type CaptureLaneSettings, type FinishedLane, type PackSettings, ReadJobRunner } from './capture-lane.ts';
import { laneJobKind } from './lane-job.ts';
import type { ChunkTarget } from './read-content.ts';
import { SessionIndex } from './session-index.ts';

/** More than this to read, in bytes or names, starts the worker lanes. */
const soloBytesMax: number = 12 * 1024 * 1024;
const soloJobsMax = 8;
/** 2^17 chunks, 7 MiB, of which only what is used is ever touched; two gigabytes of mixed files need half of it. */
const sessionBuckets: number = 1 << 17;

export interface ReadLanesOptions {
  readonly files: FileTreeReader;
  readonly keys: DomainKeys;
  /** Undefined for a dry run, which makes no packs and so needs no lanes of its own. */
  readonly starter: LaneStarter | undefined;
  readonly lanes: number;
  readonly packs: PackSettings;
  /** Packs of the calling thread. */
  readonly own: () => ChunkTarget;
  /** Whose number 0 is the calling thread's first pack; lanes number theirs from here. */
  readonly firstPack: number;
  readonly onPackPart: (pack: number, bytes: Uint8Array, end: boolean) => Promise<void>;
}

export class ReadLanes {
  readonly #options: ReadLanesOptions;
  #slot: number;
  readonly #session: SessionIndex;
  readonly #runner: ReadJobRunner;
  #pool: Promise<LanePool> | undefined;
  #laneCount = 0;
  #load: number[] = [];
  #soloBytes = 0;
  #soloJobs = 0;

  constructor(options: ReadLanesOptions, slot: number) {
    this.#options = options;
    this.#slot = slot;
    this.#session = new SessionIndex({ buckets: sessionBuckets });
    this.#runner = new ReadJobRunner(options.files, options.keys, this.#session);
  }

  /** Runs a read job now, or gives it to the least busy lane. */
  read(job: Uint8Array, bytes: number): Promise<Uint8Array> | Uint8Array {
    if (this.#pool === undefined) {
      this.#soloBytes += bytes;
      this.#soloJobs++;
      const small = this.#soloBytes <= soloBytesMax && this.#soloJobs <= soloJobsMax;
      if (small || this.#options.starter === undefined || this.#options.lanes === 0) {
        return this.#runner.run(job, this.#options.own());
      }
      this.#start(this.#options.starter);
    }
    return this.#give(job, bytes);
  }

  /** Ends the packs of all lanes; following packs belong to `slot`. */
  async finish(
    slot: number,
  ): Promise<{ readonly packs: readonly PackSummary[]; readonly references: readonly PackReference[] }> {
    this.#slot = slot;
    if (this.#pool === undefined) return { packs: [], references: [] };
    const pool = await this.#pool;
    const job = new ByteWriter(16);
    job.u8(laneJobKind.finish);
    job.varint(slot);
    const replies = await Promise.all(
      Array.from({ length: pool.size }, (_, lane) => pool.run(lane, { bytes: job.take() })),
    );
    const packs: PackSummary[] = [];
    const references: PackReference[] = [];
    for (const reply of replies) {
      const finished = JSON.parse(new TextDecoder().decode(reply.bytes)) as FinishedLane;
      packs.push(...finished.packs);
      references.push(...finished.references);
    }
    return { packs, references };
  }

  async close(): Promise<void> {
    // Lanes that never came up have failed the reads that wanted them, and there is nothing to close.
    const pool = await this.#pool?.catch(() => undefined);
    this.#pool = undefined;
    await pool?.close();
  }

  #start(starter: LaneStarter): void {
    const { keys, packs, lanes, firstPack, onPackPart } = this.#options;
    this.#laneCount = lanes;
    this.#load = Array.from({ length: lanes }, () => 0);
    const settings: CaptureLaneSettings = {
      keys,
      packs,
      slot: this.#slot,
      firstPack,
      packStep: lanes,
      sessionMemory: this.#session.memory,
    };
    this.#pool = starter.start('capture', lanes, settings, {
      onPackPart: (part) => onPackPart(part.pack, part.bytes, part.end),
    });
    this.#pool.catch(() => undefined);
  }

  async #give(job: Uint8Array, bytes: number): Promise<Uint8Array> {
    let lane = 0;
    for (let i = 1; i < this.#laneCount; i++) {
      if ((this.#load[i] as number) < (this.#load[lane] as number)) lane = i;
    }
    const weight = bytes + 64 * 1024;
    this.#load[lane] = (this.#load[lane] as number) + weight;
    try {
      const pool = await (this.#pool as Promise<LanePool>);
      return (await pool.run(lane, { bytes: job })).bytes;
    } finally {
      this.#load[lane] = (this.#load[lane] as number) - weight;
    }
  }
}
