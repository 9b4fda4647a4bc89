import { describe, expect, it } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { HoldfastError } from '../../../src/engine/model/errors.ts';
import type { Clock } from '../../../src/engine/ports/clock.ts';
import { follow } from '../../../src/engine/replicate/follow.ts';
import type { RepositoryCopy } from '../../../src/engine/replicate/copy-repository.ts';
import { ManualClock, seededRandom } from '../../support/capture-fixture.ts';
import { Faults, FaultyReader, FaultyWriter } from '../../support/faulty-store.ts';
import { contentsOf, onlyOf, openCopy, Origin } from './copy-fixture.ts';

/** Follows until the steps are over: each is done in the wait after a round. What was said, and the waits. */
async function followed(
  copy: RepositoryCopy,
  steps: readonly (() => void | Promise<void>)[],
): Promise<{ readonly said: readonly string[]; readonly waits: readonly number[] }> {
  const stop = new AbortController();
  const said: string[] = [];
  const waits: number[] = [];
  const left = [...steps];
  const time = new ManualClock();
  const clock: Clock = {
    nowMs: () => time.nowMs(),
    monotonicMs: () => time.monotonicMs(),
    wait: async (ms) => {
      waits.push(ms);
      time.ms += ms;
      const step = left.shift();
      if (step !== undefined) return await step();
      stop.abort();
      throw new HoldfastError('E_ABORTED', 'ended');
    },
  };
  await follow(
    copy,
    clock,
    { everyMs: 5000, signal: stop.signal },
    {
      onStatus: () => {
        const { copy: each, error } = onlyOf(copy);
        const lag = `${each?.head.slot}, ${each?.lag?.records} behind`;
        said.push(error === undefined ? lag : `${lag}, ${error.code}`);
      },
      onOutage: ({ code }, retryMs) => said.push(`${code}, again in ${retryMs}`),
      onRecovered: () => said.push('recovered'),
    },
  );
  return { said, waits };
}

const nothing = (): void => undefined;
const noRates = { random: seededRandom('follow'), scheduler: { wait: async () => undefined, later: () => undefined } };

describe('following', () => {
  it('copies what comes, says what changes, and says once a minute that nothing does', async () => {
    const origin = await Origin.start();
    const target = new MemoryStore();
    const copy = await openCopy(origin.store, target);
    const more = () => origin.checkpoint('more', 300_000);
    const { said, waits } = await followed(copy, [more, ...Array.from({ length: 14 }, () => nothing)]);
    expect(said).toEqual(['3, 0 behind', '4, 0 behind', '4, 0 behind']);
    expect(new Set(waits)).toEqual(new Set([5000]));
    expect(contentsOf(target)).toEqual(contentsOf(origin.store));
  });

  it('outlasts a second store that does not answer, with longer and longer waits, and says how far behind it is', async () => {
    const origin = await Origin.start();
    const target = new MemoryStore();
    const faults = new Faults(noRates);
    const copy = await openCopy(origin.store, new FaultyWriter(target, faults));
    const fail = async (): Promise<void> => {
      await origin.checkpoint('more');
      faults.full = true;
    };
    const mend = (): void => {
      faults.full = false;
    };
    const { said } = await followed(copy, [fail, nothing, () => origin.checkpoint('again'), nothing, mend, nothing]);
    expect(said).toEqual([
      '3, 0 behind',
      '3, 1 behind, E_STORE_FULL',
      'E_STORE_FULL, again in 1000',
      'E_STORE_FULL, again in 2000',
      '3, 2 behind, E_STORE_FULL',
      'E_STORE_FULL, again in 4000',
      'E_STORE_FULL, again in 8000',
      'recovered',
      '5, 0 behind',
    ]);
    expect(contentsOf(target)).toEqual(contentsOf(origin.store));
  });

  // Once a minute lineages are looked for, and then that is what fails first.
  it.each([
    ['', 0, '3, 0 behind, E_STORE_UNREACHABLE'],
    [' when new lineages are looked for', 11, '3, 0 behind'],
  ])('outlasts a first store that does not answer%s', async (_when, roundsBefore, status) => {
    const origin = await Origin.start();
    const faults = new Faults(noRates);
    const copy = await openCopy(new FaultyReader(origin.store, faults), new MemoryStore());
    const fail = (): void => {
      faults.rates = { lostRequest: 1 };
    };
    const mend = async (): Promise<void> => {
      faults.rates = {};
      await origin.checkpoint('more');
    };
    const before = Array.from({ length: roundsBefore }, () => nothing);
    const { said } = await followed(copy, [...before, fail, mend, nothing]);
    expect(said).toEqual(['3, 0 behind', status, 'E_STORE_UNREACHABLE, again in 1000', 'recovered', '4, 0 behind']);
  });

  it('ends when no lineage can go on', async () => {
    const origin = await Origin.start();
    const target = new MemoryStore();
    const copy = await openCopy(origin.store, target);
    // What is made here after this moment takes the same slot with another record.
    const fork = origin.store.snapshot();
    const diverge = async (): Promise<void> => {
      await origin.checkpoint('theirs');
      const [theirs] = [...origin.store.snapshot()].filter(([key]) => !fork.has(key) && key.includes('/log/'));
      await target.create((theirs as [string, unknown])[0], (theirs as [string, { bytes: Uint8Array }])[1].bytes);
      origin.store.restore(fork);
      origin.pod.restart();
      await origin.checkpoint('ours');
    };
    const { said, waits } = await followed(copy, [diverge, nothing, nothing]);
    expect(said).toEqual(['3, 0 behind', '3, 1 behind, E_DIVERGED']);
    expect(waits).toHaveLength(1);
  });
});
