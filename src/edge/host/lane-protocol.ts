/**
 * What the pool and its worker threads say to each other.
 *
 * Jobs and replies travel by messages, whose buffers are moved where they can be. Parts of packs travel through memory that
 * both share, one ring of slots for each lane: the lane fills a slot, marks it full and sends a few numbers; the pool hands
 * a view of it to its consumer and marks it free when the consumer is done. A lane that meets a full slot sleeps. So a part
 * is copied once, and a lane is never more than its ring ahead of the store.
 */
import { type ErrorCode, errorCatalogue, HoldfastError } from '../../engine/model/errors.ts';

export const slotState = { free: 0, full: 1 } as const;

/** Indices into `control`: first whether lanes shall stop, then the state of each slot. */
export const controlIndex = { stop: 0, firstSlot: 1 } as const;

export interface LaneMemory {
  readonly control: SharedArrayBuffer;
  readonly slots: SharedArrayBuffer;
  readonly slotBytes: number;
  readonly slotCount: number;
}

export function createLaneMemory(slotCount: number, slotBytes: number): LaneMemory {
  return {
    control: new SharedArrayBuffer((controlIndex.firstSlot + slotCount) * Int32Array.BYTES_PER_ELEMENT),
    slots: new SharedArrayBuffer(slotCount * slotBytes),
    slotBytes,
    slotCount,
  };
}

/** From the pool to a lane. */
export type LaneOrder =
  | {
      readonly type: 'start';
      readonly kind: 'capture' | 'rehydrate';
      readonly lane: number;
      readonly lanes: number;
      readonly settings: unknown;
      readonly memory: LaneMemory;
    }
  | { readonly type: 'job'; readonly bytes: Uint8Array; readonly buffers: readonly Uint8Array[] }
  | { readonly type: 'end' };

/** From a lane to the pool. Replies come in the order of the jobs. */
export type LaneMessage =
  /** `slot` is undefined for a part without bytes. */
  | {
      readonly type: 'part';
      readonly pack: number;
      readonly slot: number | undefined;
      readonly length: number;
      readonly end: boolean;
    }
  | { readonly type: 'reply'; readonly bytes: Uint8Array }
  | { readonly type: 'failure'; readonly failure: LaneFailure };

/** An error as it crosses a thread: structured cloning keeps no class and none of its fields. */
export interface LaneFailure {
  readonly code: ErrorCode;
  readonly message: string;
  readonly details: Readonly<Record<string, unknown>>;
  readonly remedy: string;
  readonly stack: string | undefined;
  readonly cause: string | undefined;
}

export function toLaneFailure(error: unknown): LaneFailure {
  if (error instanceof HoldfastError) {
    const { code, message, details, remedy, stack, cause } = error;
    return {
      code,
      message,
      details: cloneable(details),
      remedy,
      stack,
      cause: cause === undefined ? undefined : String(cause),
    };
  }
  return {
    code: 'E_INTERNAL',
    message: `a lane failed: ${error instanceof Error ? error.message : String(error)}`,
    details: {},
    remedy: errorCatalogue.E_INTERNAL.remedy,
    stack: error instanceof Error ? error.stack : undefined,
    cause: String(error),
  };
}

export function fromLaneFailure(failure: LaneFailure): HoldfastError {
  const { code, message, details, remedy, stack, cause } = failure;
  const error = new HoldfastError(code, message, {
    details,
    remedy,
    ...(cause === undefined ? {} : { cause: new Error(cause) }),
  });
  // Where it happened, not where it was unpacked.
  if (stack !== undefined) error.stack = stack;
  return error;
}

function cloneable(details: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  try {
    return structuredClone(details);
  } catch {
    return Object.fromEntries(Object.entries(details).map(([name, value]) => [name, String(value)]));
  }
}

/** `bytes` with a buffer that holds nothing else, so that it can be moved and no more than it is sent. */
export function detached(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer } = bytes;
  const whole = buffer instanceof ArrayBuffer && bytes.byteLength === buffer.byteLength;
  return whole ? (bytes as Uint8Array<ArrayBuffer>) : Uint8Array.from(bytes);
}
