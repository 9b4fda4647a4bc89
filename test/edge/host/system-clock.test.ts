import { expect, test } from 'vitest';
import { systemClock } from '../../../src/edge/host/system-clock.ts';
import { systemRandom } from '../../../src/edge/host/system-random.ts';

test('the wall clock is the system clock, and the monotonic clock measures a wait', async () => {
  expect(Math.abs(systemClock.nowMs() - Date.now())).toBeLessThan(1000);
  const before = systemClock.monotonicMs();
  await systemClock.wait(15);
  // Timers may fire up to one millisecond early.
  expect(systemClock.monotonicMs() - before).toBeGreaterThanOrEqual(14);
});

test('a wait ends when its signal fires, also when it has fired before', async () => {
  const controller = new AbortController();
  const waiting = systemClock.wait(600_000, { signal: controller.signal });
  controller.abort();
  await expect(waiting).rejects.toMatchObject({ code: 'E_ABORTED' });
  await expect(systemClock.wait(600_000, { signal: controller.signal })).rejects.toMatchObject({ code: 'E_ABORTED' });
});

test('random bytes have the length asked for, and memory of their own', () => {
  for (const length of [0, 1, 32, 100_000]) {
    const bytes = systemRandom.bytes(length);
    expect(bytes.length).toBe(length);
    expect(bytes.buffer.byteLength).toBe(length);
  }
  expect(systemRandom.bytes(32)).not.toEqual(systemRandom.bytes(32));
});
