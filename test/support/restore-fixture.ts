/** Restores what a pod has captured, with the real engine and without lanes of its own. */
import { chooseCompressor } from '../../src/edge/host/choose-compressor.ts';
import { LineageLog } from '../../src/engine/lineage/log.ts';
import type { DomainAccess } from '../../src/engine/lineage/repository.ts';
import type { CheckpointSelector } from '../../src/engine/lineage/resolve.ts';
import { type LineageName, toVolumeName } from '../../src/engine/model/ids.ts';
import type { Clock } from '../../src/engine/ports/clock.ts';
import type { FileTreeWriter } from '../../src/engine/ports/file-tree.ts';
import type { LaneStarter } from '../../src/engine/ports/lanes.ts';
import type { LocalCache } from '../../src/engine/ports/local-cache.ts';
import type { ObjectReader } from '../../src/engine/ports/object-store.ts';
import type { RandomSource } from '../../src/engine/ports/random.ts';
import type { RestoreMark, RestoreMarker } from '../../src/engine/ports/restore-marker.ts';
import { createRehydrateLane, type RehydrateLaneSettings } from '../../src/engine/rehydrate/rehydrate-lane.ts';
import { rehydrate } from '../../src/engine/rehydrate/rehydrate.ts';
import type { RehydrateOutcome } from '../../src/engine/rehydrate/rehydrate-outcome.ts';
import {
  type RehydrateOptions,
  type RehydrateSettings,
  restoreDefaults,
} from '../../src/engine/rehydrate/rehydrate-request.ts';
import { findCheckpoint, type RestoreSource } from '../../src/engine/rehydrate/restore-source.ts';
import { ManualClock, seededRandom } from './capture-fixture.ts';

/** A marker that survives whatever is done to the restore. */
export class MemoryMarker implements RestoreMarker {
  mark: RestoreMark | undefined;
  readonly saved: RestoreMark['state'][] = [];

  async load(): Promise<RestoreMark | undefined> {
    return this.mark;
  }

  async save(mark: RestoreMark): Promise<void> {
    this.mark = mark;
    this.saved.push(mark.state);
  }
}

export const noLanes: LaneStarter = {
  start: () => {
    throw new Error('these restores stay in the calling thread');
  },
};

export interface RestoreRequest extends Partial<Omit<RehydrateSettings, 'targets'>>, RehydrateOptions {
  readonly store: ObjectReader;
  readonly lineage: LineageName;
  readonly access: DomainAccess;
  readonly files: FileTreeWriter;
  readonly path?: string;
  readonly at?: CheckpointSelector;
  readonly source?: RestoreSource;
  readonly marker?: RestoreMarker;
  readonly clock?: Clock;
  readonly random?: RandomSource;
  readonly cache?: LocalCache | undefined;
  readonly lanes?: LaneStarter;
}

const compressor = await chooseCompressor('zlib');

export async function sourceOf(
  from: Pick<RestoreRequest, 'store' | 'lineage' | 'access'>,
  at: CheckpointSelector = { by: 'latest', back: 0 },
): Promise<RestoreSource> {
  const log = new LineageLog(from.store, from.access, from.lineage);
  return await findCheckpoint(log, from.access, at);
}

/** Restores the volume `data` into `path`. */
export async function restore(request: RestoreRequest): Promise<RehydrateOutcome> {
  const { store, files, signal, onProgress, onFirstComplete } = request;
  const {
    path = 'restored',
    marker = new MemoryMarker(),
    clock = new ManualClock(),
    random = seededRandom('restore'),
  } = request;
  const source = request.source ?? (await sourceOf(request, request.at));
  const { laneCount = 0 } = request;
  const settings: RehydrateSettings = {
    ...restoreDefaults,
    laneCount,
    ...pick(request, Object.keys(restoreDefaults) as (keyof typeof restoreDefaults)[]),
    targets: [{ volume: toVolumeName('data'), path, marker }],
  };
  return await rehydrate(
    { files, store, compressor, clock, random, lanes: request.lanes ?? noLanes, cache: request.cache },
    source,
    settings,
    {
      ...(signal === undefined ? {} : { signal }),
      ...(onProgress === undefined ? {} : { onProgress }),
      ...(onFirstComplete === undefined ? {} : { onFirstComplete }),
    },
  );
}

function pick<Source extends object, Key extends keyof Source>(
  source: Source,
  keys: readonly Key[],
): { [K in Key]?: Exclude<Source[K], undefined> } {
  const picked: { [K in Key]?: Exclude<Source[K], undefined> } = {};
  for (const key of keys) {
    if (source[key] !== undefined) picked[key] = source[key] as Exclude<Source[Key], undefined>;
  }
  return picked;
}

/** Real lanes in the calling thread: settings are cloned as for a worker, jobs of different lanes end in any order. */
export function lanesOf(files: FileTreeWriter): LaneStarter {
  return {
    start: async (kind, count, settings) => {
      if (kind !== 'rehydrate') throw new Error('lanes of a restore');
      const lanes = Array.from({ length: count }, () => ({
        lane: createRehydrateLane({ files, compressor }, structuredClone(settings) as RehydrateLaneSettings),
        last: Promise.resolve() as Promise<unknown>,
      }));
      let turn = 0;
      return {
        size: count,
        run: async (number, job) => {
          const chosen = lanes[number];
          if (chosen === undefined) throw new Error(`there is no lane ${number}`);
          const ready = chosen.last;
          const waits = (turn++ * 7) % 5;
          const reply = (async () => {
            await ready.catch(() => undefined);
            for (let i = 0; i < waits; i++) await new Promise((resolve) => setImmediate(resolve));
            return chosen.lane.run(job);
          })();
          chosen.last = reply;
          return await reply;
        },
        close: async () => {
          await Promise.allSettled(lanes.map(({ last }) => last));
        },
      };
    },
  };
}
