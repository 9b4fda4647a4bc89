/**
 * The ciphertext of a job's segments: few large reads instead of many small ones. Segments close to each other in an object come
 * in one range, the gap included; ranges are read side by side.
 */
import { isHoldfastError } from '../model/errors.ts';
import type { ObjectReader } from '../ports/object-store.ts';
import type { SegmentLocation } from '../tree/pack-directory.ts';
import type { SegmentBytes } from './restore-job.ts';

/** A gap below this costs less than another request. */
const gapBytesMax: number = 1024 * 1024;
const rangeBytesMax: number = 4 * 1024 * 1024;

export interface WantedSegment {
  readonly location: SegmentLocation;
  /** Number of the segment in its pack. */
  readonly number: number;
}

export interface FetchedSegments {
  /** In the order of what was wanted. */
  readonly segments: readonly SegmentBytes[];
  /** An empty one stands for bytes that the store does not have. Nobody else holds these. */
  readonly buffers: Uint8Array[];
}

interface Range {
  readonly key: string;
  readonly start: number;
  end: number;
  readonly members: number[];
}

/** The ranges that will be read, and their bytes altogether. */
export interface FetchPlan {
  readonly wanted: readonly WantedSegment[];
  readonly ranges: readonly Range[];
  readonly bytes: number;
}

export function planFetch(wanted: readonly WantedSegment[]): FetchPlan {
  const order = wanted.map((_, i) => i);
  order.sort((a, b) => compareLocations(locationOf(wanted, a), locationOf(wanted, b)));
  const ranges: Range[] = [];
  let bytes = 0;
  for (const i of order) {
    const { key, start, length, pack } = locationOf(wanted, i);
    const last = ranges[ranges.length - 1];
    const end = start + length;
    if (
      last !== undefined &&
      last.key === key &&
      // Several packs may lie in one record, and each is at hand by itself.
      locationOf(wanted, last.members[0] as number).pack.name === pack.name &&
      start - last.end < gapBytesMax &&
      Math.max(end, last.end) - last.start <= rangeBytesMax
    ) {
      bytes += Math.max(0, end - last.end);
      last.end = Math.max(last.end, end);
      last.members.push(i);
    } else {
      ranges.push({ key, start, end, members: [i] });
      bytes += length;
    }
  }
  return { wanted, ranges, bytes };
}

function locationOf(wanted: readonly WantedSegment[], index: number): SegmentLocation {
  return (wanted[index] as WantedSegment).location;
}

function compareLocations(a: SegmentLocation, b: SegmentLocation): number {
  if (a.key !== b.key) return a.key < b.key ? -1 : 1;
  return a.start - b.start;
}

/** Errors of the store but E_DAMAGED, which leaves the buffer of the bytes concerned empty. */
export async function fetchSegments(
  plan: FetchPlan,
  store: ObjectReader,
  signal: AbortSignal | undefined,
): Promise<FetchedSegments> {
  const segments: SegmentBytes[] = new Array(plan.wanted.length);
  const buffers: Uint8Array[] = [];
  const waiting = signal === undefined ? {} : { signal };

  const read = async (range: Range): Promise<void> => {
    const inlined = locationOf(plan.wanted, range.members[0] as number).pack;
    const { key, start, end, members } = range;
    const buffer = buffers.push(emptyBuffer) - 1;
    for (const i of members) {
      const { location, number } = plan.wanted[i] as WantedSegment;
      segments[i] = { location, number, buffer, start: location.start - start };
    }
    if (inlined.bytes !== undefined) {
      // A copy: the record's bytes stay here, the buffer goes to another thread.
      buffers[buffer] = inlined.bytes.slice(start - inlined.start, end - inlined.start);
      return;
    }
    try {
      buffers[buffer] = await store.getRange(key, start, end - start, waiting);
    } catch (error) {
      if (!isHoldfastError(error, 'E_DAMAGED')) throw error;
      if (members.length === 1) return;
      // The object is shorter than it should be, or gone: what is still there must not be lost with the rest.
      await Promise.all(
        members.map((i) => {
          const { location } = plan.wanted[i] as WantedSegment;
          return read({ key, start: location.start, end: location.start + location.length, members: [i] });
        }),
      );
    }
  };

  const reading = plan.ranges.map(read);
  const results = await Promise.allSettled(reading);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
  return { segments, buffers };
}

const emptyBuffer: Uint8Array = new Uint8Array(0);
