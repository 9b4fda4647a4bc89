/** When the next look at a volume is due. */
import { Cron } from 'croner';
import type { Schedule } from '../contract/annotation-parsers.ts';
import type { Clock } from '../engine/ports/clock.ts';
import type { RandomSource } from '../engine/ports/random.ts';

/** Of an interval, either way: many pods that were started at once do not ask the store at once for ever. */
const intervalJitter = 0.1;
/** Of a cron expression, later only: what is to be at midnight is never before. */
const cronJitterMsMax = 30_000;
/** The wall clock may jump while a cron time is waited for, so it is looked at again this often. */
const cronLookMsMax = 60_000;

export class ScheduleTimer {
  readonly #clock: Clock;
  readonly #random: RandomSource;
  readonly #schedule: Schedule;
  readonly #cron: Cron | undefined;
  /** Of an interval, by the monotonic clock: no jump of the wall clock moves it. */
  #dueMs = 0;
  /** Of a cron expression, by the wall clock. */
  #dueWallMs = 0;

  /** E_USAGE is for whoever parsed the schedule: an expression that croner does not take is a defect here. Times are UTC. */
  constructor(schedule: Schedule, clock: Clock, random: RandomSource) {
    this.#schedule = schedule;
    this.#clock = clock;
    this.#random = random;
    this.#cron = 'cron' in schedule ? new Cron(schedule.cron, { paused: true, timezone: 'UTC' }) : undefined;
    this.restart();
  }

  /** Counts from now on. */
  restart(): void {
    if (this.#cron !== undefined) {
      const next = this.#cron.nextRun(new Date(this.#clock.nowMs()))?.getTime() ?? Number.POSITIVE_INFINITY;
      const following = this.#cron.nextRun(new Date(next))?.getTime() ?? next + 86_400_000;
      this.#dueWallMs = next + this.#chance() * Math.min(cronJitterMsMax, (following - next) * intervalJitter);
      return;
    }
    if (!('everyMs' in this.#schedule)) return;
    const { everyMs } = this.#schedule;
    this.#dueMs = this.#clock.monotonicMs() + everyMs * (1 + intervalJitter * (2 * this.#chance() - 1));
  }

  /** How long until it is due, in ms; 0: now. */
  dueInMs(): number {
    if (this.#cron !== undefined) return Math.max(0, this.#dueWallMs - this.#clock.nowMs());
    return Math.max(0, this.#dueMs - this.#clock.monotonicMs());
  }

  /** How long may be slept before `dueInMs` is to be asked again. */
  sleepMs(): number {
    const due = this.dueInMs();
    return this.#cron === undefined ? due : Math.min(due, cronLookMsMax);
  }

  #chance(): number {
    const [a = 0, b = 0] = this.#random.bytes(2);
    return (a * 256 + b) / 65_536;
  }
}
