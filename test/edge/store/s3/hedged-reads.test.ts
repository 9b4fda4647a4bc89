import { describe, expect, it } from 'vitest';
import { HedgedReads } from '../../../../src/edge/store/s3/hedged-reads.ts';
import { HoldfastError } from '../../../../src/engine/model/errors.ts';
import type { Clock } from '../../../../src/engine/ports/clock.ts';

/** Time that passes only when told; waits end in the order of their times. */
class SteppedClock implements Clock {
  #ms = 0;
  #waits: { readonly at: number; readonly end: () => void }[] = [];

  nowMs(): number {
    return this.#ms;
  }

  monotonicMs(): number {
    return this.#ms;
  }

  wait(ms: number, { signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(new HoldfastError('E_ABORTED', 'no longer needed'));
        return;
      }
      const wait = { at: this.#ms + ms, end: resolve };
      this.#waits.push(wait);
      signal?.addEventListener('abort', () => {
        this.#waits = this.#waits.filter((other) => other !== wait);
        reject(new HoldfastError('E_ABORTED', 'no longer needed'));
      });
    });
  }

  get waiting(): number {
    return this.#waits.length;
  }

  async pass(ms: number): Promise<void> {
    const until = this.#ms + ms;
    for (;;) {
      await turns();
      const next = this.#waits.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.#ms = next.at;
      this.#waits = this.#waits.filter((wait) => wait !== next);
      next.end();
    }
    this.#ms = until;
    await turns();
  }
}

/** Lets every promise that can go on do so. */
async function turns(): Promise<void> {
  for (let i = 0; i < 50; i++) await Promise.resolve();
}

const usualMs = 50;

/** A server that answers call number i after `delays[i]` ms, or fails; the usual time where nothing is said. */
function server(clock: SteppedClock, delays: readonly (number | 'fails')[] = []) {
  const calls: { aborted: boolean }[] = [];
  return {
    calls,
    read: async (signal: AbortSignal | undefined): Promise<number> => {
      const number = calls.length;
      const call = { aborted: false };
      calls.push(call);
      signal?.addEventListener('abort', () => {
        call.aborted = true;
      });
      const delay = delays[number] ?? usualMs;
      if (delay === 'fails') {
        await clock.wait(usualMs);
        throw new HoldfastError('E_STORE_IO', `call ${number} failed`);
      }
      await clock.wait(delay, signal === undefined ? {} : { signal });
      return number;
    },
  };
}

async function warmed(clock: SteppedClock): Promise<HedgedReads> {
  const reads = new HedgedReads(clock);
  const { read } = server(clock);
  for (let i = 0; i < 10; i++) {
    const running = reads.run(1000, undefined, read);
    await clock.pass(usualMs);
    await running;
  }
  return reads;
}

describe('hedged reads', () => {
  it('ask once while reads take their usual time', async () => {
    const clock = new SteppedClock();
    const reads = await warmed(clock);
    const { calls, read } = server(clock, [140]);
    const running = reads.run(1000, undefined, read);
    await clock.pass(140);
    expect(await running).toBe(0);
    expect(calls).toHaveLength(1);
    expect(clock.waiting).toBe(0);
  });

  it('ask again for what takes three times as long, take what comes first, and end the other', async () => {
    const clock = new SteppedClock();
    const reads = await warmed(clock);
    const { calls, read } = server(clock, [60_000, 50]);
    const running = reads.run(1000, undefined, read);
    await clock.pass(149);
    expect(calls).toHaveLength(1);
    await clock.pass(1);
    expect(calls).toHaveLength(2);
    await clock.pass(50);
    expect(await running).toBe(1);
    expect(calls.map(({ aborted }) => aborted)).toEqual([true, true]);
    expect(clock.waiting).toBe(0);
  });

  it('know nothing of a size that was not read before', async () => {
    const clock = new SteppedClock();
    const reads = await warmed(clock);
    const { calls, read } = server(clock, [60_000]);
    const running = reads.run(4_000_000, undefined, read);
    await clock.pass(60_000);
    expect(await running).toBe(0);
    expect(calls).toHaveLength(1);
  });

  it('survive the failure of one of two, and tell the failure of both', async () => {
    const clock = new SteppedClock();
    const reads = await warmed(clock);
    const one = server(clock, [1000, 'fails']);
    const running = reads.run(1000, undefined, one.read);
    await clock.pass(1000);
    expect(await running).toBe(0);
    const both = server(clock, [60_000, 'fails']);
    const failing = reads.run(1000, undefined, (signal) =>
      both.calls.length === 0
        ? both.read(signal).then(() => {
            throw new HoldfastError('E_STORE_IO', 'the first failed too');
          })
        : both.read(signal),
    );
    const outcome = failing.catch((error: unknown) => error);
    await clock.pass(60_000);
    expect(await outcome).toMatchObject({ code: 'E_STORE_IO' });
  });

  it('stay a small part of all reads, also when everything is slow', async () => {
    const clock = new SteppedClock();
    const reads = await warmed(clock);
    const { calls, read } = server(clock, Array(400).fill(1000));
    // The median follows what is usual; so it has to be slow each time anew.
    for (let i = 0; i < 100; i++) {
      const running = reads.run(1000, undefined, read);
      await clock.pass(2000);
      await running;
    }
    expect(calls.length - 100).toBeGreaterThan(0);
    expect(calls.length - 100).toBeLessThanOrEqual(4 + 0.05 * 110);
  });

  it('end with the signal, and pass on a failure at once', async () => {
    const clock = new SteppedClock();
    const reads = await warmed(clock);
    const stopping = new AbortController();
    const { calls, read } = server(clock, [60_000]);
    const outcome = reads.run(1000, stopping.signal, read).catch((error: unknown) => error);
    await clock.pass(10);
    stopping.abort();
    await turns();
    expect(await outcome).toMatchObject({ code: 'E_ABORTED' });
    expect(calls).toHaveLength(1);
    const failing = server(clock, ['fails']);
    const failed = reads.run(1000, undefined, failing.read).catch((error: unknown) => error);
    await clock.pass(usualMs);
    expect(await failed).toMatchObject({ code: 'E_STORE_IO' });
    expect(failing.calls).toHaveLength(1);
    expect(clock.waiting).toBe(0);
  });
});
