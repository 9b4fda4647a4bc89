import { expect, it } from 'vitest';
import { memoryBytes, SharedMemory } from '../../../src/engine/rehydrate/shared-memory.ts';
import { Chance } from '../../process/world.ts';

const mib = 1024 * 1024;

it('gives each range memory that no other has, and all of it again', () => {
  const memory = new SharedMemory();
  const chance = new Chance(7);
  const held: { readonly bytes: Uint8Array; readonly mark: number }[] = [];
  const buffers = new Set<ArrayBufferLike>();
  for (let mark = 0; mark < 600; mark++) {
    while (held.reduce((sum, { bytes }) => sum + memoryBytes(bytes.length), 0) > 10 * mib) {
      const [{ bytes, mark: own }] = held.splice(chance.below(held.length), 1) as [(typeof held)[number]];
      expect([bytes[0], bytes.at(-1)]).toEqual([own & 0xff, own & 0xff]);
      memory.give(bytes);
    }
    const bytes = memory.take(1 + chance.below(4 * mib));
    bytes[0] = mark & 0xff;
    bytes[bytes.length - 1] = mark & 0xff;
    held.push({ bytes, mark });
    buffers.add(bytes.buffer);
  }
  expect(buffers.size).toBeLessThanOrEqual(2);
  for (const { bytes } of held) memory.give(bytes);
  const whole = memory.take(16 * mib);
  expect(buffers.has(whole.buffer)).toBe(true);
});

it('takes the lowest place that fits, so that little is touched', () => {
  const memory = new SharedMemory();
  const [a, b, c] = [memory.take(mib), memory.take(100), memory.take(mib)] as const;
  expect([a, b, c].map(({ byteOffset }) => byteOffset)).toEqual([0, mib, mib + 64 * 1024]);
  memory.give(a);
  expect(memory.take(2 * mib).byteOffset).toBe(2 * mib + 64 * 1024);
  expect(memory.take(1000).byteOffset).toBe(0);
  memory.give(b);
  expect(memory.take(mib).byteOffset).toBe(64 * 1024);
});

it('has room for what is larger than all that it makes at once', () => {
  const memory = new SharedMemory();
  const large = memory.take(20 * mib);
  expect(large.length).toBe(20 * mib);
  expect(memory.take(mib).buffer).not.toBe(large.buffer);
  memory.give(large);
  expect(memory.take(20 * mib).buffer).toBe(large.buffer);
});
