/** Which volumes are to be looked at, and when the next time is. */
import type { Clock } from '../engine/ports/clock.ts';
import type { RandomSource } from '../engine/ports/random.ts';
import { ScheduleTimer } from './schedule.ts';
import type { AgentSettings, AgentVolume } from './settings.ts';

export class Timetable {
  readonly #set: ScheduleTimer;
  readonly #own: ReadonlyMap<AgentVolume, ScheduleTimer>;
  readonly #volumes: readonly AgentVolume[];

  constructor({ schedule, volumes }: AgentSettings, clock: Clock, random: RandomSource) {
    this.#volumes = volumes;
    this.#set = new ScheduleTimer(schedule, clock, random);
    this.#own = new Map(
      volumes.flatMap((volume) =>
        volume.schedule === undefined ? [] : [[volume, new ScheduleTimer(volume.schedule, clock, random)]],
      ),
    );
  }

  /** Those whose time has come. */
  due(): readonly AgentVolume[] {
    return this.#volumes.filter((volume) => this.#timerOf(volume).dueInMs() === 0);
  }

  /** They were looked at: their next times count from now. */
  taken(volumes: readonly AgentVolume[]): void {
    for (const timer of new Set(volumes.map((volume) => this.#timerOf(volume)))) timer.restart();
  }

  /** Until the next is due. */
  dueInMs(): number {
    return Math.min(...this.#volumes.map((volume) => this.#timerOf(volume).dueInMs()));
  }

  sleepMs(): number {
    return Math.min(...this.#volumes.map((volume) => this.#timerOf(volume).sleepMs()));
  }

  #timerOf(volume: AgentVolume): ScheduleTimer {
    return this.#own.get(volume) ?? this.#set;
  }
}
