/**
 * Tells Holdfast's service in the cluster of each new record, in the background: a store that hides or has lost its newest records is
 * found by what was told here. Nothing waits for it but the very end, for a moment.
 *
 * Only the newest record is ever under way or waiting. The first is told at once, the next ones at an interval.
 */
import type { Anchor } from '../engine/model/anchor.ts';
import { isHoldfastError } from '../engine/model/errors.ts';
import type { LineageName } from '../engine/model/ids.ts';
import type { Anchors } from '../engine/ports/anchors.ts';
import type { Clock } from '../engine/ports/clock.ts';
import type { AgentLog } from './log.ts';

/** Thousands of agents share one API server. What is committed between two reports is not told apart from what never was. */
const intervalMs = 60_000;
const retryMsMin = 5000;
const retryMsMax = 300_000;

export class AnchorReports implements AsyncDisposable {
  readonly #anchors: Anchors;
  readonly #lineage: LineageName;
  readonly #clock: Clock;
  readonly #log: AgentLog;
  readonly #ended = new AbortController();
  /** Ends the wait for the next report. */
  readonly #hurry = new AbortController();
  #newest: Anchor | undefined;
  #kept: Anchor | undefined;
  #running: Promise<void> | undefined;
  #failures = 0;
  #nextMs = 0;
  #refused = false;

  constructor(anchors: Anchors, lineage: LineageName, clock: Clock, log: AgentLog) {
    this.#anchors = anchors;
    this.#lineage = lineage;
    this.#clock = clock;
    this.#log = log;
  }

  /** A record is durable. Returns at once. */
  committed(anchor: Anchor): void {
    this.#newest = anchor;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  /** The end: what is not told yet is told now, once, and nothing after that. At most until the signal. */
  async settle(signal: AbortSignal): Promise<void> {
    const cut = (): void => this.#ended.abort();
    if (signal.aborted) cut();
    else signal.addEventListener('abort', cut, { once: true });
    this.#hurry.abort();
    await this.#running;
    signal.removeEventListener('abort', cut);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    try {
      while (this.#newest !== this.#kept && !this.#refused) {
        await this.#waitForTurn();
        const hurried = this.#hurry.signal.aborted;
        const isKept = await this.#report(this.#newest as Anchor);
        if (hurried && !isKept) return;
      }
    } catch (error) {
      if (!isHoldfastError(error, 'E_ABORTED')) throw error;
    }
  }

  async #waitForTurn(): Promise<void> {
    const waitMs = this.#nextMs - this.#clock.monotonicMs();
    const hurry = this.#hurry.signal;
    if (waitMs <= 0 || hurry.aborted) return;
    try {
      await this.#clock.wait(waitMs, { signal: AbortSignal.any([this.#ended.signal, hurry]) });
    } catch (error) {
      if (this.#ended.signal.aborted || !hurry.aborted) throw error;
    }
  }

  async #report(anchor: Anchor): Promise<boolean> {
    const outcome = await this.#anchors.report(this.#lineage, anchor, { signal: this.#ended.signal });
    const nowMs = this.#clock.monotonicMs();
    if (outcome === 'kept') {
      this.#kept = anchor;
      this.#failures = 0;
      this.#nextMs = nowMs + intervalMs;
      return true;
    }
    this.#refused = outcome === 'refused';
    if (this.#failures++ === 0) this.#log.warn('anchor-unkept', { outcome, slot: anchor.slot });
    this.#nextMs = nowMs + Math.min(retryMsMax, retryMsMin * 2 ** (this.#failures - 1));
    return false;
  }
}
