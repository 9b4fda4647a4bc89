import { beforeEach, describe, expect, test } from 'vitest';
import { AnchorReports } from '../../src/agent/anchor-reports.ts';
import type { AgentLog } from '../../src/agent/log.ts';
import { type Anchor, parseAnchor } from '../../src/engine/model/anchor.ts';
import { HoldfastError } from '../../src/engine/model/errors.ts';
import { toLineageName } from '../../src/engine/model/ids.ts';
import type { Anchors } from '../../src/engine/ports/anchors.ts';
import type { Clock } from '../../src/engine/ports/clock.ts';

/** Time stands still until a test lets it pass. */
class HeldClock implements Clock {
  ms = 0;
  readonly #waits: { readonly untilMs: number; readonly end: () => void }[] = [];

  nowMs(): number {
    return this.ms;
  }
  monotonicMs(): number {
    return this.ms;
  }
  wait(ms: number, { signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    return new Promise((resolve, reject) => {
      const aborted = (): void => reject(new HoldfastError('E_ABORTED', 'ended'));
      if (signal?.aborted === true) aborted();
      else signal?.addEventListener('abort', aborted);
      this.#waits.push({ untilMs: this.ms + ms, end: resolve });
    });
  }
  async pass(ms: number): Promise<void> {
    this.ms += ms;
    for (const { untilMs, end } of this.#waits) if (untilMs <= this.ms) end();
    await turns();
  }
}

async function turns(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((next) => setImmediate(next));
}

function anchorAt(slot: number): Anchor {
  return parseAnchor(`${slot}:${'a'.repeat(64)}`);
}

let clock: HeldClock;
let told: number[];
let warned: object[];
/** What comes of each report; one that is not there is not answered until it is. */
let answer: (slot: number) => 'kept' | 'refused' | 'unanswered' | Promise<'kept'>;
let reports: AnchorReports;
beforeEach(() => {
  clock = new HeldClock();
  told = [];
  warned = [];
  answer = () => 'kept';
  const anchors: Anchors = {
    find: async () => undefined,
    async report(_, { slot }, { signal } = {}) {
      told.push(slot);
      const answered = answer(slot);
      if (typeof answered === 'string') return answered;
      const aborted = new Promise<never>((_, reject) => {
        signal?.addEventListener('abort', () => reject(new HoldfastError('E_ABORTED', 'ended')));
      });
      return await Promise.race([answered, aborted]);
    },
  };
  const nothing = (): void => undefined;
  const log: AgentLog = {
    debug: nothing,
    info: nothing,
    error: nothing,
    warn: (event, fields) => void warned.push({ event, ...fields }),
  };
  reports = new AnchorReports(anchors, toLineageName('prod/team-a/pod/app/app'), clock, log);
});

describe('a new record', () => {
  test('is told at once, and the next ones a minute later, of which only the newest', async () => {
    reports.committed(anchorAt(2));
    await turns();
    for (const slot of [3, 4, 5]) reports.committed(anchorAt(slot));
    await clock.pass(59_000);
    expect(told).toEqual([2]);
    await clock.pass(1000);
    expect(told).toEqual([2, 5]);
    await clock.pass(600_000);
    expect(told).toEqual([2, 5]);
  });

  test('is told again, ever more slowly, while nobody answers, and that is said once', async () => {
    answer = () => 'unanswered';
    reports.committed(anchorAt(2));
    await turns();
    for (const ms of [5000, 10_000, 20_000]) await clock.pass(ms);
    expect(told).toEqual([2, 2, 2, 2]);
    expect(warned).toEqual([{ event: 'anchor-unkept', outcome: 'unanswered', slot: 2 }]);
    answer = () => 'kept';
    await clock.pass(40_000);
    answer = () => 'unanswered';
    reports.committed(anchorAt(3));
    await clock.pass(60_000);
    expect(warned).toHaveLength(2);
  });

  test('is not told again once the service refuses what this pod says', async () => {
    answer = () => 'refused';
    reports.committed(anchorAt(2));
    await turns();
    reports.committed(anchorAt(3));
    await clock.pass(3_600_000);
    expect(told).toEqual([2]);
    expect(warned).toMatchObject([{ outcome: 'refused' }]);
  });

  test('holds nobody up, though no answer comes', async () => {
    answer = () => new Promise(() => undefined);
    reports.committed(anchorAt(2));
    await turns();
    reports.committed(anchorAt(3));
    expect(told).toEqual([2]);
    await reports[Symbol.asyncDispose]();
  });
});

describe('at the end', () => {
  test('what waits for its turn is told at once', async () => {
    reports.committed(anchorAt(2));
    await turns();
    reports.committed(anchorAt(3));
    reports.committed(anchorAt(4));
    await reports.settle(new AbortController().signal);
    expect(told).toEqual([2, 4]);
  });

  test('what is under way is waited for, and then the newest is told', async () => {
    let end: (outcome: 'kept') => void = () => undefined;
    answer = (slot) => (slot === 2 ? new Promise((resolve) => (end = resolve)) : 'kept');
    reports.committed(anchorAt(2));
    await turns();
    reports.committed(anchorAt(3));
    const settled = reports.settle(new AbortController().signal);
    end('kept');
    await settled;
    expect(told).toEqual([2, 3]);
  });

  test('nobody is asked twice who does not answer', async () => {
    answer = () => 'unanswered';
    reports.committed(anchorAt(2));
    await turns();
    reports.committed(anchorAt(3));
    await reports.settle(new AbortController().signal);
    expect(told).toEqual([2, 3]);
  });

  test('nobody is waited for longer than there is time', async () => {
    answer = () => new Promise(() => undefined);
    reports.committed(anchorAt(2));
    const over = new AbortController();
    const settled = reports.settle(over.signal);
    await turns();
    over.abort();
    await settled;
    expect(told).toEqual([2]);
  });

  test('nothing is told where nothing is new', async () => {
    await reports.settle(new AbortController().signal);
    expect(told).toEqual([]);
  });
});
