/** A worker thread of capture or rehydrate: one synchronous pipeline, fed by the process that started it. */
import { parentPort, workerData } from 'node:worker_threads';
import { chooseCompressor } from '../edge/host/choose-compressor.ts';
import { chooseFileTree, type FileTreeName } from '../edge/host/choose-file-tree.ts';
import { type LanePipeline, type LaneSetup, serveLane } from '../edge/host/lane-endpoint.ts';
import type { CaptureLaneSettings } from '../engine/capture/capture-lane.ts';
import { invariant } from '../engine/model/errors.ts';
import type { RehydrateLaneSettings } from '../engine/rehydrate/rehydrate-lane.ts';

invariant(parentPort !== null, 'a lane runs in a worker thread');
// The process that started the lane has tried both out, and says by its environment what it chose.
const only = process.env['HOLDFAST_FILE_TREE'] as FileTreeName | undefined;
const files = chooseFileTree(only === undefined ? { tried: true } : { only, tried: true }).tree;
const compressor = await chooseCompressor(process.env['HOLDFAST_COMPRESSOR']);
// Contexts of a native library are no garbage that a collector finds.
process.once('exit', () => compressor[Symbol.dispose]());

// Code takes memory in every thread: a lane loads its own half of the engine only.
const { kind } = workerData as Pick<LaneSetup, 'kind'>;
const rehydrate = kind === 'rehydrate' ? await import('../engine/rehydrate/rehydrate-lane.ts') : undefined;
const capture = kind === 'capture' ? await import('../engine/capture/capture-lane.ts') : undefined;

serveLane(parentPort, (setup: LaneSetup, emit): LanePipeline => {
  if (rehydrate !== undefined) {
    return rehydrate.createRehydrateLane({ files, compressor }, setup.settings as RehydrateLaneSettings);
  }
  invariant(capture !== undefined, 'a lane captures or rehydrates');
  const settings = setup.settings as CaptureLaneSettings;
  return capture.createCaptureLane(
    { files, compressor },
    { ...settings, firstPack: settings.firstPack + setup.lane },
    emit,
  );
});
