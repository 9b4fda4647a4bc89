/** How much of what its container may have this process takes. */

export interface Limits {
  /** Undefined: no limit. */
  readonly cpus: number | undefined;
  readonly memoryBytes: number | undefined;
}

const mebibyte = 1024 * 1024;
/** What an agent takes without lanes, and what one adds: measured, with some room. An init container takes less. */
const [memoryAlone, memoryOfLane] = [160 * mebibyte, 48 * mebibyte];
const lanesMax = 4;
const [bufferShare, bufferBytesMin] = [8, 8 * mebibyte];

/** As many worker threads as processors and memory of the container allow. */
export function lanesWithin({ cpus, memoryBytes }: Limits, parallelism: number): number {
  const byTime = Math.ceil(Math.min(cpus ?? parallelism, parallelism, lanesMax));
  if (memoryBytes === undefined) return byTime;
  return Math.max(0, Math.min(byTime, Math.floor((memoryBytes - memoryAlone) / memoryOfLane)));
}

/** Of a buffer that usually takes so many bytes: an eighth of the container's memory at most, and enough to go on in any case. */
export function bufferBytesWithin({ memoryBytes }: Limits, usualBytes: number): number {
  if (memoryBytes === undefined) return usualBytes;
  return Math.min(usualBytes, Math.max(bufferBytesMin, Math.floor(memoryBytes / bufferShare)));
}
