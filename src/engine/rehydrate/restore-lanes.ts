/** Who decrypts and writes: the calling thread where there is little to do, worker lanes else. */
import { invariant } from '../model/errors.ts';
import { type Descriptor, FileTreeError } from '../ports/file-tree.ts';
import type { LanePool, LaneStarter } from '../ports/lanes.ts';
import { type RehydrateLanePorts, type RehydrateLaneSettings, RestoreJobRunner } from './rehydrate-lane.ts';
import { encodeSync, readReply } from './restore-job.ts';
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

  /** Has the lanes come up while the store is asked for the first bytes. */
  begin(): void {
    if (this.count === 0 || this.#pool !== undefined) return;
    const { starter, settings } = this.#options;
    this.#pool = starter.start('rehydrate', this.count, settings, { onPackPart: noParts });
    this.#pool.catch(() => undefined);
  }

  /**
   * Begins to write back the file system of a descriptor, beside the calling thread; undefined where there is no lane for it. The promise
   * is awaited, whatever it says: of two syncs of a descriptor only the first is told of an error. FileTreeError.
   */
  sync(descriptor: Descriptor): Promise<void> | undefined {
    if (this.#pool === undefined) return undefined;
    const syncing = this.#give(encodeSync(descriptor), [], 0).then((reply) => {
      for (const { text } of readReply(reply).notes) {
        const [errno = 'EIO', operation = 'syncFileSystem'] = text.split(' ');
        throw new FileTreeError(errno, operation);
      }
    });
    syncing.catch(() => undefined);
    return syncing;
  }

  async close(): Promise<void> {
    // Lanes that never came up have failed the jobs that wanted them, and there is nothing to close.
    const pool = await this.#pool?.catch(() => undefined);
    this.#pool = undefined;
    await pool?.close();
  }

  async #give(bytes: Uint8Array, buffers: readonly Uint8Array[], weight: number): Promise<Uint8Array> {
    this.begin();
    let lane = 0;
    for (let i = 1; i < this.count; i++) {
      if ((this.#load[i] as number) < (this.#load[lane] as number)) lane = i;
    }
    this.#load[lane] = (this.#load[lane] as number) + weight;
    try {
      const pool = await (this.#pool as Promise<LanePool>);
      return (await pool.run(lane, { bytes, buffers })).bytes;
    } finally {
      this.#load[lane] = (this.#load[lane] as number) - weight;
    }
  }
}

async function noParts(): Promise<void> {
  invariant(false, 'a restore makes no packs');
}
