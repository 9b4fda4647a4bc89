/**
 * Lanes run the engine's synchronous pipelines: worker threads in production, the same thread in small runs and in the
 * simulator. A lane handles its jobs one after the other; jobs and replies are plain bytes.
 */

/** `kind` and the settings select which pipeline a lane runs; both are structured-cloneable. */
export interface LaneJob {
  readonly bytes: Uint8Array;
  /** Further buffers of the job, such as ciphertext to restore from; transferred, or shared where their memory is shared. */
  readonly buffers?: readonly Uint8Array[];
}

export interface LaneReply {
  readonly bytes: Uint8Array;
}

/** A part of a pack made by a lane, in the order of the pack's bytes; `end` comes with the last. */
export interface PackPart {
  readonly lane: number;
  readonly pack: number;
  readonly bytes: Uint8Array;
  readonly end: boolean;
}

export interface LanePool {
  readonly size: number;
  /** Runs one job on the lane; jobs of one lane run in the order given. Rejects with the lane's HoldfastError. */
  run(lane: number, job: LaneJob): Promise<LaneReply>;
  close(): Promise<void>;
}

export interface LaneHooks {
  /**
   * Called for each part. A lane that is more than its budget ahead of the resolved calls waits: that is the
   * back-pressure from store to capture.
   */
  onPackPart(part: PackPart): Promise<void>;
}

/** Starts lanes; `settings` reaches the pipeline of every lane. */
export interface LaneStarter {
  /** `lanes` 0 asks for one lane in the calling thread. */
  start(kind: 'capture' | 'rehydrate', lanes: number, settings: unknown, hooks: LaneHooks): Promise<LanePool>;
}
