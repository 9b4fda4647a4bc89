import { beforeEach, describe, expect, test } from 'vitest';
import { type AgentSettings, defaultObjectiveMs } from '../../src/agent/settings.ts';
import { AgentState } from '../../src/agent/state.ts';
import { UploadRate } from '../../src/agent/upload-rate.ts';
import { urgencyOf, urgentInMs } from '../../src/agent/urgency.ts';
import type { CaptureOutcome } from '../../src/engine/capture/capture-outcome.ts';
import { makeSelection } from '../../src/engine/capture/select.ts';
import { toVolumeName } from '../../src/engine/model/ids.ts';
import { ManualClock } from '../support/capture-fixture.ts';

const data = toVolumeName('data');
const mebibyte = 1024 * 1024;

let clock: ManualClock;
let state: AgentState;
beforeEach(() => {
  clock = new ManualClock();
  const settings = {
    volumes: [
      {
        source: { name: data, path: '/vol', selection: makeSelection([], []) },
        schedule: undefined,
        bytesMax: 1000 * mebibyte,
      },
    ],
    schedule: { everyMs: 3_600_000 },
    objectiveMs: 60_000,
    graceMs: 20_000,
  } as unknown as AgentSettings;
  state = new AgentState(settings, clock);
});

/** A capture that stored so much in so many seconds. */
function captured(newBytes: number, seconds: number, bytes = newBytes): void {
  state.captureBegins('start');
  clock.ms += seconds * 1000;
  const volumes = [{ name: data, bytes }];
  state.captureEnds(
    { committed: undefined, newBytes, storedBytes: newBytes, volumes } as unknown as CaptureOutcome,
    undefined,
  );
}

const unsaved = (bytes: number, files = 1, all = bytes): void =>
  state.measured({ bytes, files, volumeBytes: new Map([[data, all]]) });

describe('a checkpoint before its time', () => {
  test('comes when what is unsaved would not fit the grace at the measured rate', () => {
    captured(100 * mebibyte, 10);
    // 10 MiB a second, and half of 20 seconds.
    unsaved(99 * mebibyte);
    expect(urgencyOf(state)).toBeUndefined();
    unsaved(101 * mebibyte);
    expect(urgencyOf(state)).toBe('grace');
    // The store has got slower, and is believed at once.
    captured(10 * mebibyte, 10);
    unsaved(11 * mebibyte);
    expect(urgencyOf(state)).toBe('grace');
  });

  test('comes when the objective would be missed, and not before', () => {
    captured(mebibyte, 1);
    unsaved(1);
    expect(urgentInMs(state)).toBe(47_000);
    clock.ms += 46_999;
    expect(urgencyOf(state)).toBeUndefined();
    clock.ms += 1;
    expect(urgencyOf(state)).toBe('objective');
    expect(urgentInMs(state)).toBe(0);
  });

  test('comes when a volume nears its limit with something unsaved in it, and is said then', () => {
    captured(mebibyte, 1);
    unsaved(mebibyte, 1, 790 * mebibyte);
    expect(urgencyOf(state)).toBeUndefined();
    expect(state.problems).toEqual([]);
    unsaved(mebibyte, 1, 810 * mebibyte);
    expect(urgencyOf(state)).toBe('fill');
    expect(state.problems).toMatchObject([{ code: 'W_FILL', message: expect.stringContaining('data holds') }]);
    // Saved, it is no reason for another one, but it still is said.
    captured(mebibyte, 1, 810 * mebibyte);
    expect(urgencyOf(state)).toBeUndefined();
    expect(state.problems).toMatchObject([{ code: 'W_FILL' }]);
    unsaved(0, 0, 100 * mebibyte);
    expect(state.problems).toEqual([]);
  });
});

describe('the rate', () => {
  test('is learnt from captures that had something to do, falls at once and rises slowly', () => {
    const rate = new UploadRate();
    rate.note(1000, 1);
    expect(rate.bytesPerSecond).toBeUndefined();
    rate.note(10 * mebibyte, 1);
    expect(rate.bytesPerSecond).toBe(10 * mebibyte);
    rate.note(2 * mebibyte, 1);
    expect(rate.bytesPerSecond).toBe(2 * mebibyte);
    rate.note(10 * mebibyte, 1);
    expect(rate.bytesPerSecond).toBeGreaterThan(4 * mebibyte);
    expect(rate.bytesPerSecond).toBeLessThan(5 * mebibyte);
    expect(rate.secondsFor(9 * mebibyte)).toBeCloseTo(9 / 4.4);
  });
});

test('an objective that nobody gave leaves room for three attempts, a minute at least', () => {
  expect(defaultObjectiveMs({ everyMs: 1000 })).toBe(60_000);
  expect(defaultObjectiveMs({ everyMs: 600_000 })).toBe(1_800_000);
});
