/** What others ask of a running agent. Requests mark, the loop works: nothing is done where it is asked for. */
import type { TriggerAnswer } from '../contract/agent-api.ts';
import type { Clock } from '../engine/ports/clock.ts';
import type { AgentLog } from './log.ts';
import type { AgentState } from './state.ts';
import { Wake } from './wake.ts';

/** A pod that was to end and still runs so long after its grace was over has not ended: its schedule goes on. */
const graceOverMs = 30_000;

export class Control {
  readonly wake: Wake;
  readonly #clock: Clock;
  readonly #state: AgentState;
  readonly #log: AgentLog;
  #waiters: ((answer: TriggerAnswer) => void)[] = [];
  #triggered = false;

  constructor(clock: Clock, state: AgentState, log: AgentLog) {
    this.#clock = clock;
    this.#state = state;
    this.#log = log;
    this.wake = new Wake(clock);
  }

  /** The end of the pod is announced; repeated for the same end it changes nothing. */
  notify(): void {
    const state = this.#state;
    if (this.draining) return;
    state.notifiedMs = this.#clock.monotonicMs();
    state.counts.notified++;
    this.#log.info('notified', { graceSeconds: state.settings.graceMs / 1000 });
    this.wake.call();
  }

  /** Whether the end was announced and may still come. */
  get draining(): boolean {
    const { notifiedMs, settings } = this.#state;
    return notifiedMs !== undefined && this.#clock.monotonicMs() - notifiedMs < settings.graceMs + graceOverMs;
  }

  /** Takes a checkpoint soon. */
  trigger(): void {
    this.#triggered = true;
    this.wake.call();
  }

  /** The same, and how it ended: of a capture that begins after the question. */
  triggered(): Promise<TriggerAnswer> {
    return new Promise((resolve) => {
      this.#waiters.push(resolve);
      this.trigger();
    });
  }

  /** Whether a checkpoint was asked for since the last one began; asked for no longer. */
  takeTrigger(): ((answer: TriggerAnswer) => void) | undefined {
    if (!this.#triggered) return undefined;
    this.#triggered = false;
    const waiters = this.#waiters;
    this.#waiters = [];
    return (answer) => {
      for (const resolve of waiters) resolve(answer);
    };
  }

  get isTriggered(): boolean {
    return this.#triggered;
  }

  /** `seconds` undefined: until resumed. */
  pause(seconds: number | undefined): void {
    const ms = seconds === undefined ? Number.POSITIVE_INFINITY : seconds * 1000;
    this.#state.pausedUntilMs = this.#clock.monotonicMs() + ms;
    this.#log.info('paused', seconds === undefined ? {} : { seconds });
    this.wake.call();
  }

  resume(): void {
    if (!this.#state.paused) return;
    this.#state.pausedUntilMs = 0;
    this.#log.info('resumed');
    this.wake.call();
  }
}
