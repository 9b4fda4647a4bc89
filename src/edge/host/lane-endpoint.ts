/** The worker's side of a lane: takes jobs from the pool one after the other and runs them through a pipeline. */
import type { MessagePort } from 'node:worker_threads';
import { HoldfastError } from '../../engine/model/errors.ts';
import type { LaneJob, LaneReply } from '../../engine/ports/lanes.ts';
import {
  controlIndex,
  detached,
  type LaneMemory,
  type LaneMessage,
  type LaneOrder,
  slotState,
  toLaneFailure,
} from './lane-protocol.ts';

/** Hands on the next bytes of a pack, valid only during the call; waits while the store is behind. */
export type EmitPackPart = (pack: number, bytes: Uint8Array, end: boolean) => void;

export interface LaneSetup {
  readonly kind: 'capture' | 'rehydrate';
  /** Number of this lane, from 0. */
  readonly lane: number;
  /** How many lanes the pool has; 1 for the calling thread. */
  readonly lanes: number;
  /** What was given to LaneStarter.start. */
  readonly settings: unknown;
}

export interface LanePipeline {
  /** Runs one job to its end, synchronously. */
  run(job: LaneJob): LaneReply;
}

export type CreatePipeline = (setup: LaneSetup, emit: EmitPackPart) => LanePipeline;

/**
 * Serves the pool at the other end of `port` until it says to end. Called by the entry module of the worker thread:
 * `serveLane(parentPort, createPipeline)`.
 */
export function serveLane(port: MessagePort, createPipeline: CreatePipeline): void {
  let pipeline: LanePipeline | undefined;
  // A pipeline that cannot be made fails every job in the same way.
  let broken: unknown;
  const send = (message: LaneMessage, moved: ArrayBuffer[] = []): void => port.postMessage(message, moved);

  port.on('message', (order: LaneOrder) => {
    if (order.type === 'end') {
      port.close();
    } else if (order.type === 'start') {
      try {
        pipeline = createPipeline(order, partSender(order.memory, send));
      } catch (error) {
        broken = error;
      }
    } else {
      try {
        if (pipeline === undefined) throw broken;
        const bytes = detached(pipeline.run(order).bytes);
        send({ type: 'reply', bytes }, [bytes.buffer]);
      } catch (error) {
        send({ type: 'failure', failure: toLaneFailure(error) });
      }
    }
  });
}

/** Writes parts into the ring; those larger than a slot are split. */
function partSender(memory: LaneMemory, send: (message: LaneMessage) => void): EmitPackPart {
  const control = new Int32Array(memory.control);
  const slots = new Uint8Array(memory.slots);
  let next = 0;

  const waitForSlot = (): number => {
    const slot = next;
    next = (next + 1) % memory.slotCount;
    const index = controlIndex.firstSlot + slot;
    for (;;) {
      if (Atomics.load(control, controlIndex.stop) !== 0) {
        throw new HoldfastError('E_ABORTED', 'the lanes were closed while a pack was being made');
      }
      if (Atomics.load(control, index) === slotState.free) return slot;
      Atomics.wait(control, index, slotState.full);
    }
  };

  return (pack, bytes, end) => {
    if (bytes.length === 0) {
      if (end) send({ type: 'part', pack, slot: undefined, length: 0, end });
      return;
    }
    for (let done = 0; done < bytes.length; ) {
      const length = Math.min(memory.slotBytes, bytes.length - done);
      const slot = waitForSlot();
      slots.set(bytes.subarray(done, done + length), slot * memory.slotBytes);
      done += length;
      Atomics.store(control, controlIndex.firstSlot + slot, slotState.full);
      send({ type: 'part', pack, slot, length, end: end && done === bytes.length });
    }
  };
}
