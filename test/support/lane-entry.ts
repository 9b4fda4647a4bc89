/** Entry module of worker threads in tests of lanes. */
import { parentPort } from 'node:worker_threads';
import { serveLane } from '../../src/edge/host/lane-endpoint.ts';
import { createToyPipeline } from './lane-pipeline.ts';

if (parentPort === null) throw new Error('this module runs in a worker thread');
serveLane(parentPort, createToyPipeline);
