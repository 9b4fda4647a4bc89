import { describe, expect, test } from 'vitest';
import { systemClock } from '../../../src/edge/host/system-clock.ts';
import { BytePace } from '../../../src/edge/store/byte-pace.ts';
import { LimitedWriter } from '../../../src/edge/store/limited-store.ts';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { isHoldfastError } from '../../../src/engine/model/errors.ts';
import { ManualClock } from '../../support/capture-fixture.ts';

const kibibyte = 1024;
const mebibyte = 1024 * kibibyte;

/** A store to which and from which a mebibyte a second passes, by a clock that only waiting moves on. */
function make({ bytesPerSecond = mebibyte } = {}) {
  const clock = new ManualClock();
  const startedMs = clock.ms;
  const waits: number[] = [];
  const pace = (): BytePace => new BytePace({ clock, bytesPerSecond, onWaited: (ms) => waits.push(ms) });
  const store = new LimitedWriter(new MemoryStore(), { upload: pace(), download: pace() });
  return { clock, store, waits, seconds: () => (clock.ms - startedMs) / 1000 };
}

describe('a limit of bandwidth', () => {
  test('lets one second’s worth pass at once, and then so much a second', async () => {
    const { store, seconds } = make();
    await store.create('a', new Uint8Array(mebibyte));
    expect(seconds()).toBe(0);
    for (let i = 0; i < 8; i++) await store.create(`b${i}`, new Uint8Array(mebibyte / 2));
    expect(seconds()).toBeCloseTo(4);
  });

  test('holds back uploads in pieces, so that they flow', async () => {
    const { store, seconds, waits } = make();
    const upload = await store.beginUpload('a');
    await upload.append(new Uint8Array(11 * mebibyte));
    await upload.commit();
    expect(seconds()).toBeCloseTo(10);
    expect(Math.max(...waits)).toBeLessThanOrEqual(250);
    expect(await store.stat('a')).toMatchObject({ bytes: 11 * mebibyte });
  });

  test('keeps what was not used for one second, and no longer', async () => {
    const { clock, store, seconds } = make();
    await store.create('a', new Uint8Array(mebibyte));
    clock.ms += 3_600_000;
    const before = seconds();
    await store.create('b', new Uint8Array(2 * mebibyte));
    expect(seconds() - before).toBeCloseTo(1);
  });

  test('counts ranges before they are asked for, and whole objects when their size is known', async () => {
    const { store, seconds } = make();
    await store.create('a', new Uint8Array(mebibyte));
    await store.get('a', { bytesMax: mebibyte });
    expect(seconds()).toBe(0);
    await store.getRange('a', 0, mebibyte / 2);
    expect(seconds()).toBeCloseTo(0.5);
    await store.get('a', { bytesMax: mebibyte });
    await store.get('a', { bytesMax: mebibyte });
    expect(seconds()).toBeCloseTo(1.5);
  });

  test('ends a wait by its signal and by giving an upload up, and does not count what was not sent', async () => {
    const pace = new BytePace({ clock: systemClock, bytesPerSecond: 16 * kibibyte });
    const store = new LimitedWriter(new MemoryStore(), { upload: pace });
    const ending = new AbortController();
    const creating = store.create('a', new Uint8Array(64 * mebibyte), { signal: ending.signal });
    ending.abort();
    await expect(creating).rejects.toSatisfy((error) => isHoldfastError(error, 'E_ABORTED'));
    const upload = await store.beginUpload('b');
    const appending = upload.append(new Uint8Array(64 * mebibyte));
    await upload.abort();
    await expect(appending).rejects.toSatisfy((error) => isHoldfastError(error, 'E_ABORTED'));
    // Within the second that is free.
    expect(await store.create('c', new Uint8Array(kibibyte))).toBe('created');
  });

  test('holds nothing back from when it is lifted on, not even who waits then', async () => {
    const lifted = new AbortController();
    const pace = new BytePace({ clock: systemClock, bytesPerSecond: 16 * kibibyte, lifted: lifted.signal });
    const store = new LimitedWriter(new MemoryStore(), { upload: pace });
    const upload = await store.beginUpload('a');
    const appending = upload.append(new Uint8Array(64 * mebibyte));
    lifted.abort();
    await appending;
    await upload.commit();
    expect(await store.create('b', new Uint8Array(64 * mebibyte))).toBe('created');
  });
});
