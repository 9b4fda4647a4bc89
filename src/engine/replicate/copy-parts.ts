import type { FrameCodec } from '../format/pack.ts';
import type { Clock } from '../ports/clock.ts';
import type { ObjectReader, ObjectWriter } from '../ports/object-store.ts';
import type { ByteBudget } from './byte-budget.ts';

/** What is moved, counted as it goes. Totals grow while records are read. */
export interface CopyProgress {
  objects: number;
  objectsTotal: number;
  bytes: number;
  bytesTotal: number;
}

/** What all of a copy shares. It reads the one store and creates in the other; it can delete in neither. */
export interface CopyParts {
  readonly source: ObjectReader;
  readonly target: ObjectWriter;
  readonly clock: Clock;
  /** Opens segments where keys are known. */
  readonly codec: FrameCodec;
  readonly budget: ByteBudget;
  readonly progress: CopyProgress;
  readonly onProgress: () => void;
}

export interface Waiting {
  readonly signal?: AbortSignal;
}
