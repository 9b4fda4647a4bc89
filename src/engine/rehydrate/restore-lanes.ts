/** Who decrypts and writes: the calling thread where there is little to do, worker lanes else. */
import { invariant } from '../model/errors.ts';
import type { LanePool, LaneStarter } from '../ports/lanes.ts';
import { type RehydrateLanePorts, type RehydrateLaneSettings, RestoreJobRunner } from './rehydrate-lane.ts';
import { SharedMemory } from './shared-memory.ts';

/** Up to this much a thread costs more than it gives. */
const soloBytesMax: number = 12 * 1024 * 1024;
const soloFilesMax = 1000;

export interface RestoreLanesOptions extends RehydrateLanePorts {
  readonly settings: RehydrateLaneSettings;
  readonly starter: LaneStarter;
  /** Worker lanes; 0 keeps all in the calling thread. */
  readonly lanes: number;
  /** What there is to do. */
  readonly files: RehydrateLanePorts['files'];
  readonly fileCount: number;
  readonly bytes: number;
}

export class RestoreLanes {
  readonly #options: RestoreLanesOptions;
  readonly count: number;
  /** For buffers of jobs. */
  readonly memory: SharedMemory = new SharedMemory();
  readonly #load: number[];
  #runner: RestoreJobRunner | undefined;
  #pool: Promise<LanePool> | undefined;

  constructor(options: RestoreLanesOptions) {
    this.#options = options;
    const small = options.bytes <= soloBytesMax && options.fileCount <= soloFilesMax;
    this.count = small ? 0 : options.lanes;
    this.#load = Array.from({ length: this.count }, () => 0);
  }

  /** Runs a job now, or gives it to the least busy lane. `weight` is comparable with that of other jobs. */
  run(job: Uint8Array, buffers: readonly Uint8Array[], weight: number): Promise<Uint8Array> | Uint8Array {
    if (this.count > 0) return this.#give(job, buffers, weight);
    this.#runner ??= new RestoreJobRunner(this.#options, this.#options.settings);
    return this.#runner.run(job, buffers);
  }

  async close(): Promise<void> {
    const pool = this.#pool;
    this.#pool = undefined;
    if (pool !== undefined) await (await pool).close();
  }

  async #give(bytes: Uint8Array, buffers: readonly Uint8Array[], weight: number): Promise<Uint8Array> {
    const { starter, settings } = this.#options;
    if (this.#pool === undefined) {
      this.#pool = starter.start('rehydrate', this.count, settings, { onPackPart: noParts });
      this.#pool.catch(() => undefined);
    }
    let lane = 0;
    for (let i = 1; i < this.count; i++) {
      if ((this.#load[i] as number) < (this.#load[lane] as number)) lane = i;
    }
    this.#load[lane] = (this.#load[lane] as number) + weight;
    try {
      const pool = await this.#pool;
      return (await pool.run(lane, { bytes, buffers })).bytes;
    } finally {
      this.#load[lane] = (this.#load[lane] as number) - weight;
    }
  }
}

async function noParts(): Promise<void> {
  invariant(false, 'a restore makes no packs');
}
