import type { LogRecord, RecordReading } from '../format/record.ts';
import { isHoldfastError } from '../model/errors.ts';
import type { Epoch } from '../model/ids.ts';
import type { LineageWriter } from './lineage-writer.ts';

/**
 * The error to end with when something that a writer stands on is gone: E_FENCED when the lineage was taken over, because then it was
 * collected, not damaged, and uploads were ended by the successor, not lost. Never rejects; when the store does not answer, the error stays what it was.
 */
export async function fencedOr(
  error: unknown,
  writer: LineageWriter | undefined,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<unknown> {
  if (writer === undefined || !isHoldfastError(error, 'E_DAMAGED', 'E_STORE_IO')) return error;
  try {
    await writer.confirm(options);
  } catch (reason) {
    if (isHoldfastError(reason, 'E_FENCED')) return reason;
  }
  return error;
}

/**
 * What another object at the slot of a writer means for it. skip: junk, which fences nobody; the next slot is tried.
 * adopt: a record of its own epoch, which only a request of a killed process of the same holder can have left; it becomes the
 * base. fenced: somebody else claimed the lineage, and this writer ends.
 */
export type Occupation =
  | { readonly means: 'skip' }
  | { readonly means: 'adopt' | 'fenced'; readonly record: LogRecord };

export function judgeOccupant(reading: RecordReading, epoch: Epoch): Occupation {
  if (!reading.valid) return { means: 'skip' };
  const { record } = reading;
  return { means: record.header.epoch === epoch ? 'adopt' : 'fenced', record };
}
