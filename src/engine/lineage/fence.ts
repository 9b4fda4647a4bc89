import type { LogRecord, RecordReading } from '../format/record.ts';
import type { Epoch } from '../model/ids.ts';

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
