/** A worker thread of capture or rehydrate: one synchronous pipeline, fed by the process that started it. */
import { parentPort } from 'node:worker_threads';
import { chooseCompressor } from '../edge/host/choose-compressor.ts';
import { chooseFileTree, type FileTreeName } from '../edge/host/choose-file-tree.ts';
import { type LanePipeline, type LaneSetup, serveLane } from '../edge/host/lane-endpoint.ts';
import { type CaptureLaneSettings, createCaptureLane } from '../engine/capture/capture-lane.ts';
import { invariant } from '../engine/model/errors.ts';
import { createRehydrateLane, type RehydrateLaneSettings } from '../engine/rehydrate/rehydrate-lane.ts';

invariant(parentPort !== null, 'a lane runs in a worker thread');
// The process that started the lane has tried both out, and says by its environment what it chose.
const only = process.env['HOLDFAST_FILE_TREE'] as FileTreeName | undefined;
const files = chooseFileTree(only === undefined ? { tried: true } : { only, tried: true }).tree;
const compressor = await chooseCompressor(process.env['HOLDFAST_COMPRESSOR']);
// Contexts of a native library are no garbage that a collector finds.
process.once('exit', () => compressor[Symbol.dispose]());

serveLane(parentPort, (setup: LaneSetup, emit): LanePipeline => {
  if (setup.kind === 'rehydrate') {
    return createRehydrateLane({ files, compressor }, setup.settings as RehydrateLaneSettings);
  }
  const settings = setup.settings as CaptureLaneSettings;
  return createCaptureLane({ files, compressor }, { ...settings, firstPack: settings.firstPack + setup.lane }, emit);
});
