/** Whether a checkpoint fits, before its first byte is written: a volume that grows beyond its limit has its pod evicted. */
import type { VolumeCheckpoint } from '../../engine/model/checkpoint.ts';
import { HoldfastError } from '../../engine/model/errors.ts';
import type { SurveyedVolume } from './survey.ts';

/** Most files end inside a block. */
const blockBytes = 4096;

/** Bytes that a volume will take, of a file system with blocks of 4 KiB. Holes count as if they were written. */
export function bytesNeeded({ root: { sums } }: Pick<VolumeCheckpoint, 'root'>): number {
  return sums.bytes + (sums.files * blockBytes) / 2;
}

/**
 * E_TARGET_FULL when it does not fit. `storedBytes`: plain bytes that the checkpoint's packs hold. Where the sizes of the
 * files add up to more than twice that, most of them are holes or the same content, and sizes prove nothing: then answers
 * false, and the restore itself will find out.
 */
export function assertRoom(
  volume: SurveyedVolume,
  checkpoint: Pick<VolumeCheckpoint, 'root'>,
  storedBytes: number,
  freeBytes: number | undefined,
): boolean {
  const bytes = checkpoint.root.sums.bytes;
  const limits = [
    { what: 'its size limit is', max: volume.bytesMax, needed: bytes },
    {
      what: 'there is room for',
      max: volume.state === 'fresh' ? freeBytes : undefined,
      needed: bytesNeeded(checkpoint),
    },
  ];
  const exceeded = limits.find(({ max, needed }) => max !== undefined && needed > max);
  if (exceeded === undefined) return true;
  if (bytes > storedBytes * 2) return false;
  const { what, max, needed } = exceeded;
  throw new HoldfastError(
    'E_TARGET_FULL',
    `volume ${volume.name} needs ${Math.ceil(needed)} bytes, and ${what} ${max}: nothing was written`,
    {
      details: { volume: volume.name, path: volume.path, bytes: Math.ceil(needed), max },
      remedy:
        'Give the volume a larger size limit or the node more space; or restore an older checkpoint (older:DURATION).',
    },
  );
}
