import { describe, expect, test } from 'vitest';
import { ScheduleTimer } from '../../src/agent/schedule.ts';
import { Timetable } from '../../src/agent/timetable.ts';
import type { AgentSettings, AgentVolume } from '../../src/agent/settings.ts';
import type { Schedule } from '../../src/contract/annotation-parsers.ts';
import { makeSelection } from '../../src/engine/capture/select.ts';
import { toVolumeName } from '../../src/engine/model/ids.ts';
import type { Clock } from '../../src/engine/ports/clock.ts';
import { seededRandom } from '../support/capture-fixture.ts';

/** A wall clock that may jump beside a monotonic one that may not. */
class TwoClocks implements Clock {
  wallMs: number = Date.UTC(2026, 2, 1, 11, 58, 0);
  ms = 1000;

  pass(ms: number): void {
    this.wallMs += ms;
    this.ms += ms;
  }
  nowMs(): number {
    return this.wallMs;
  }
  monotonicMs(): number {
    return this.ms;
  }
  async wait(ms: number): Promise<void> {
    this.pass(ms);
  }
}

describe('a schedule', () => {
  test('of an interval is due again and again, spread by a tenth, whatever the wall clock does', () => {
    const clock = new TwoClocks();
    const timer = new ScheduleTimer({ everyMs: 10_000 }, clock, seededRandom('a'));
    const waits = new Set<number>();
    for (let round = 0; round < 200; round++) {
      const wait = timer.dueInMs();
      expect(wait).toBeGreaterThanOrEqual(9000);
      expect(wait).toBeLessThanOrEqual(11_000);
      waits.add(wait);
      clock.wallMs += round % 2 === 0 ? 86_400_000 : -86_400_000;
      expect(timer.dueInMs()).toBe(wait);
      clock.pass(wait);
      expect(timer.dueInMs()).toBe(0);
      timer.restart();
    }
    expect(waits.size).toBeGreaterThan(150);
  });

  test('of a cron expression is never early, a little late, and follows the wall clock', () => {
    const clock = new TwoClocks();
    const timer = new ScheduleTimer({ cron: '0 12 * * *' }, clock, seededRandom('b'));
    const wait = timer.dueInMs();
    expect(wait).toBeGreaterThanOrEqual(120_000);
    expect(wait).toBeLessThanOrEqual(150_000);
    expect(timer.sleepMs()).toBe(60_000);
    // Set forward, past noon: it is due now. The monotonic clock knows nothing of it.
    clock.wallMs += 3_600_000;
    expect(timer.dueInMs()).toBe(0);
    timer.restart();
    expect(timer.dueInMs()).toBeGreaterThan(22 * 3_600_000);
  });

  test('of its own makes a volume due at other times than the set', () => {
    const clock = new TwoClocks();
    const volume = (name: string, schedule?: Schedule): AgentVolume => ({
      source: { name: toVolumeName(name), path: `/${name}`, selection: makeSelection([], []) },
      schedule,
      bytesMax: undefined,
    });
    const volumes = [volume('fast'), volume('slow', { everyMs: 60_000 })];
    const settings = { schedule: { everyMs: 10_000 }, volumes } as unknown as AgentSettings;
    const timetable = new Timetable(settings, clock, seededRandom('c'));
    expect(timetable.due()).toEqual([]);
    clock.pass(timetable.dueInMs());
    expect(timetable.due()).toEqual([volumes[0]]);
    timetable.taken(timetable.due());
    expect(timetable.due()).toEqual([]);
    clock.pass(66_000);
    expect(timetable.due()).toEqual(volumes);
    timetable.taken(volumes);
    expect(timetable.dueInMs()).toBeGreaterThan(8999);
  });
});
