/** What stands in the volumes when the init container begins, by the marker and by looking. It asks no store. */
import type { MarkedVolume, RehydrateMarker } from '../../contract/state-directory.ts';
import type { VolumeName } from '../../engine/model/ids.ts';
import { FileTreeError } from '../../engine/ports/file-tree.ts';
import { contentOf } from '../../engine/rehydrate/target-content.ts';
import { targetError } from '../../engine/rehydrate/target-error.ts';
import type { ContainerPorts, ContainerVolume } from './rehydrate-ports.ts';

/**
 * live: an application may have run on it, so it is left alone. unfinished: an earlier run of this container has begun to write it,
 * and no application has seen it. fresh: nothing is there. found: something is there that no marker tells of.
 */
export type VolumeState = 'live' | 'unfinished' | 'fresh' | 'found';

export interface SurveyedVolume extends ContainerVolume {
  readonly state: VolumeState;
  /** Its data does not survive a reboot. */
  readonly memory: boolean;
  readonly marked: MarkedVolume | undefined;
}

const inMemory: ReadonlySet<string> = new Set(['tmpfs', 'ramfs']);

/** `marker`: this pod's own, if it has one. Makes directories that are missing. E_TARGET_*. */
export function surveyVolumes(
  { files, bootId }: Pick<ContainerPorts, 'files' | 'bootId'>,
  volumes: readonly ContainerVolume[],
  marker: RehydrateMarker | undefined,
): readonly SurveyedVolume[] {
  return volumes.map((volume) => {
    const marked = marker?.volumes.get(volume.name as VolumeName);
    try {
      const root = files.makeRoot(volume.path);
      try {
        const memory = inMemory.has(files.fileSystem(root).type);
        const empty = contentOf(files, root) !== 'more';
        return { ...volume, marked, memory, state: stateOf(marked, memory && marked?.bootId !== bootId, empty) };
      } finally {
        files.close(root);
      }
    } catch (error) {
      throw error instanceof FileTreeError ? targetError(error, undefined) : error;
    }
  });
}

/** `wiped`: since the mark was made, the machine has lost what memory held. */
function stateOf(marked: MarkedVolume | undefined, wiped: boolean, empty: boolean): VolumeState {
  if (marked !== undefined && !wiped) return marked.phase === 'done' ? 'live' : 'unfinished';
  return empty ? 'fresh' : 'found';
}
