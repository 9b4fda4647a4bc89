import { describe, expect, it } from 'vitest';
import { bufferBytesWithin, lanesWithin } from '../../src/cli/within-limits.ts';

const mebibyte = 1024 * 1024;
const none = { cpus: undefined, memoryBytes: undefined };

describe('what a process takes of its container', () => {
  it.each([
    ['no limit', none, 8, 4],
    ['no limit on two processors', none, 2, 2],
    ['half a processor', { ...none, cpus: 0.5 }, 8, 1],
    ['256 MiB', { ...none, memoryBytes: 256 * mebibyte }, 8, 2],
    ['207 MiB', { ...none, memoryBytes: 207 * mebibyte }, 8, 0],
    ['64 MiB', { ...none, memoryBytes: 64 * mebibyte }, 8, 0],
  ])('are so many lanes with %s', (_name, limits, parallelism, lanes) => {
    expect(lanesWithin(limits, parallelism)).toBe(lanes);
  });

  it.each([
    [undefined, 32],
    [1024, 32],
    [256, 32],
    [128, 16],
    [32, 8],
  ])('is of a buffer, with %s MiB of memory, %s MiB', (memory, buffer) => {
    const limits = { ...none, memoryBytes: memory === undefined ? undefined : memory * mebibyte };
    expect(bufferBytesWithin(limits, 32 * mebibyte)).toBe(buffer * mebibyte);
  });
});
