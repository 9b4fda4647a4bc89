import { describe, expect, test } from 'vitest';
import { ConcurrencyWindow } from '../../../../src/edge/store/s3/concurrency-window.ts';
import { type Ending, RequestPolicy, type RetryNotice } from '../../../../src/edge/store/s3/request-policy.ts';
import { RetryBudget } from '../../../../src/edge/store/s3/retry-budget.ts';
import { HoldfastError } from '../../../../src/engine/model/errors.ts';
import type { Clock } from '../../../../src/engine/ports/clock.ts';

/** Time passes only by waiting. */
class SteppedClock implements Clock {
  ms = 0;
  readonly waits: number[] = [];

  nowMs(): number {
    return this.ms;
  }

  monotonicMs(): number {
    return this.ms;
  }

  async wait(ms: number, { signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    if (signal?.aborted) throw new HoldfastError('E_ABORTED', 'a wait was ended');
    this.ms += ms;
    this.waits.push(ms);
  }
}

/** An answer of a server, as the SDK throws it. */
function answer(status: number, name: string): Error {
  return Object.assign(new Error(name), { name, $metadata: { httpStatusCode: status } });
}

function make({ patienceMs = 60_000, chance = 0xff, renewCredentials, ending }: Making = {}) {
  const clock = new SteppedClock();
  const notices: RetryNotice[] = [];
  const random = { bytes: (length: number) => new Uint8Array(length).fill(chance) };
  const onRetry = (notice: RetryNotice): void => void notices.push(notice);
  const policy = new RequestPolicy({ clock, random, requestsMax: 32, patienceMs, onRetry, renewCredentials, ending });
  const request = { doing: 'trying', intent: 'read' } as const;
  return { clock, notices, policy, request };
}

interface Making {
  readonly patienceMs?: number;
  readonly chance?: number;
  readonly renewCredentials?: () => Promise<void>;
  readonly ending?: Ending;
}

/** Fails so many times, then succeeds. */
function failing(times: number, error: () => Error): { attempt: () => Promise<string>; count: () => number } {
  let count = 0;
  return {
    count: () => count,
    async attempt() {
      count += 1;
      if (count <= times) throw error();
      return 'done';
    },
  };
}

describe('credentials that have expired', () => {
  const expired = (): Error => answer(400, 'ExpiredToken');

  test('are renewed once for all requests that were refused with them, and the refusal is clear', async () => {
    let renewed = 0;
    const { policy, request } = make({
      async renewCredentials() {
        renewed += 1;
      },
    });
    const unclear: boolean[] = [];
    const results = await Promise.all(
      [1, 2, 3].map(() =>
        policy.run(request, async (attempt) => {
          const renewedBefore = renewed;
          await undefined;
          unclear.push(attempt.unclear);
          if (renewedBefore === 0) throw expired();
          return 'done';
        }),
      ),
    );
    expect(results).toEqual(['done', 'done', 'done']);
    expect(renewed).toBe(1);
    expect(unclear).toEqual(Array(6).fill(false));
  });

  test('are renewed so often and no more, with waits that double', async () => {
    let renewed = 0;
    const { clock, policy, request } = make({
      async renewCredentials() {
        renewed += 1;
      },
    });
    const { attempt, count } = failing(99, expired);
    await expect(policy.run(request, attempt)).rejects.toMatchObject({
      code: 'E_STORE_CREDENTIALS',
      details: { reason: 'ExpiredToken', renewals: 4 },
    });
    expect(renewed).toBe(4);
    expect(count()).toBe(5);
    expect(clock.waits.map((ms) => Math.round(ms / 100) * 100)).toEqual([100, 200, 400, 800]);
  });

  test('are asked for again when they could not be had', async () => {
    let asked = 0;
    const renewCredentials = async (): Promise<void> => {
      asked += 1;
      if (asked === 1) throw new Error('the token is being replaced');
    };
    const { policy, request } = make({ renewCredentials });
    const { attempt } = failing(2, expired);
    expect(await policy.run(request, attempt)).toBe('done');
    expect(asked).toBe(2);
  });
});

describe('a process that comes to its end', () => {
  const down = (): Error => answer(503, 'ServiceUnavailable');

  test('waits for no request longer than it has, and asks often', async () => {
    const ending = AbortSignal.abort();
    const { clock, policy, request } = make({ patienceMs: 300_000, ending: { signal: ending, msMax: 10_000 } });
    // The store has answered once.
    await policy.run(request, async () => 'done');
    await expect(policy.run(request, failing(9999, down).attempt)).rejects.toMatchObject({
      code: 'E_STORE_UNREACHABLE',
    });
    expect(clock.ms).toBeLessThan(11_000);
    expect(Math.max(...clock.waits)).toBeLessThanOrEqual(500);
  });

  test('asks again at once what was waiting when it was told', async () => {
    const ending = new AbortController();
    const { clock, policy, request } = make({ ending: { signal: ending.signal, msMax: 10_000 } });
    let waiting = (): void => undefined;
    const waits = new Promise<void>((resolve) => {
      waiting = resolve;
    });
    clock.wait = (_ms, { signal } = {}) =>
      new Promise((_resolve, reject) => {
        signal?.addEventListener('abort', () => reject(new HoldfastError('E_ABORTED', 'a wait was ended')));
        waiting();
      });
    const { attempt, count } = failing(1, down);
    const running = policy.run(request, attempt);
    await waits;
    expect(count()).toBe(1);
    ending.abort();
    expect(await running).toBe('done');
  });
});

test('requests keep to the bound of so many a second, after a second of them at once', async () => {
  const clock = new SteppedClock();
  const random = { bytes: (length: number) => new Uint8Array(length) };
  const policy = new RequestPolicy({ clock, random, requestsMax: 32, requestsPerSecond: 10, patienceMs: 1000 });
  const startedMs = clock.monotonicMs();
  for (let i = 0; i < 10; i++) await policy.run({ doing: 'trying', intent: 'read' }, async () => 'done');
  expect(clock.monotonicMs() - startedMs).toBe(0);
  for (let i = 0; i < 30; i++) await policy.run({ doing: 'trying', intent: 'read' }, async () => 'done');
  expect(clock.monotonicMs() - startedMs).toBeCloseTo(3000, -1);
});

describe('a request', () => {
  test('waits below a bound that doubles, up to 20 seconds', async () => {
    const { clock, policy, request } = make({ patienceMs: 600_000 });
    const { attempt } = failing(12, () => answer(500, 'InternalError'));
    expect(await policy.run(request, attempt)).toBe('done');
    expect(clock.waits.map((ms) => Math.round(ms / 100) * 100)).toEqual([
      100, 200, 400, 800, 1600, 3200, 6400, 12_800, 20_000, 20_000, 20_000, 20_000,
    ]);
  });

  test('waits by chance: anything below the bound', async () => {
    const { clock, policy, request } = make({ chance: 0 });
    const { attempt } = failing(3, () => answer(500, 'InternalError'));
    await policy.run(request, attempt);
    expect(clock.waits).toEqual([0, 0, 0]);
  });

  test('tells its next attempt that an earlier one may have had its effect', async () => {
    const { policy, request } = make();
    const seen: boolean[] = [];
    await policy.run(request, async ({ unclear }) => {
      seen.push(unclear);
      if (seen.length < 3) throw answer(503, 'ServiceUnavailable');
    });
    expect(seen).toEqual([false, true, true]);
  });

  test.each([
    [403, 'AccessDenied'],
    [400, 'InvalidArgument'],
    [404, 'NoSuchBucket'],
    [409, 'BucketAlreadyExists'],
    [501, 'NotImplemented'],
  ])('is not tried again after %d %s', async (status, name) => {
    const { policy, request } = make();
    const { attempt, count } = failing(9, () => answer(status, name));
    await expect(policy.run(request, attempt)).rejects.toBeInstanceOf(HoldfastError);
    expect(count()).toBe(1);
  });

  test('of a store that is full is tried until there is room, or the patience ends', async () => {
    const { clock, policy, request } = make({ patienceMs: 60_000 });
    const { attempt } = failing(5, () => answer(400, 'XMinioAdminBucketQuotaExceeded'));
    expect(await policy.run(request, attempt)).toBe('done');
    const startMs = clock.ms;
    const full = failing(999, () => answer(507, 'XMinioStorageFull'));
    await expect(policy.run(request, full.attempt)).rejects.toMatchObject({ code: 'E_STORE_FULL' });
    expect(clock.ms - startMs).toBeGreaterThan(60_000);
    expect(policy.window.limit).toBe(8);
  });

  /** What the SDK says of a refusal by a store whose clock is minutes from ours, and of one by a store whose clock is not. */
  const skewed = (name: string, apart = true): Error =>
    Object.assign(new Error(name), {
      name,
      $metadata: { httpStatusCode: 403, clockSkewCorrected: apart || undefined },
    });

  test.each(['RequestTimeTooSkewed', 'Unknown'])(
    'that may have been refused for its time, by %s, is sent once more with the time of the store',
    async (name) => {
      const { clock, policy, request } = make();
      const seen: unknown[] = [];
      const { attempt } = failing(1, () => skewed(name));
      const run = policy.run(request, async (told) => {
        seen.push(told);
        return await attempt();
      });
      expect(await run).toBe('done');
      expect(seen).toEqual([
        { unclear: false, corrected: false, again: false },
        { unclear: false, corrected: true, again: true },
      ]);
      expect(clock.ms).toBeLessThanOrEqual(100);
    },
  );

  test('that is refused without a reason with the time of the store too lacks a right, and with a reason the clock is said to be wrong', async () => {
    const { policy, request } = make();
    const silent = failing(9, () => skewed('Unknown'));
    await expect(policy.run(request, silent.attempt)).rejects.toMatchObject({
      remedy: expect.stringContaining('may not read'),
    });
    const told = failing(9, () => skewed('RequestTimeTooSkewed', false));
    await expect(policy.run(request, told.attempt)).rejects.toMatchObject({
      code: 'E_STORE_UNREACHABLE',
      remedy: expect.stringContaining('clock'),
    });
    const near = failing(9, () => skewed('Unknown', false));
    await expect(policy.run(request, near.attempt)).rejects.toBeInstanceOf(HoldfastError);
    expect([silent.count(), told.count(), near.count()]).toEqual([2, 2, 1]);
  });

  test.each(['TimeoutError', 'TruncatedBody', 'ECONNRESET'])(
    'is tried again after %s in the body of a refusal: what it refuses has not come',
    async (name) => {
      const { policy, request } = make();
      const refused = failing(1, () => answer(404, name));
      expect(await policy.run(request, refused.attempt)).toBe('done');
      const final = failing(1, () => answer(404, 'NoSuchBucket'));
      await expect(policy.run(request, final.attempt)).rejects.toMatchObject({ name: 'HoldfastError' });
      expect(final.count()).toBe(1);
    },
  );

  test('of a store that has never answered is given up after ten seconds, of one that has after the patience', async () => {
    const { clock, policy, request } = make({ patienceMs: 60_000 });
    const { attempt } = failing(1000, () => Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }));
    await expect(policy.run(request, attempt)).rejects.toMatchObject({ code: 'E_STORE_UNREACHABLE' });
    expect(clock.ms).toBeGreaterThan(10_000);
    expect(clock.ms).toBeLessThan(30_000);

    expect(await policy.run(request, async () => 'up')).toBe('up');
    let startMs = clock.ms;
    await expect(policy.run(request, attempt)).rejects.toMatchObject({ code: 'E_STORE_UNREACHABLE' });
    expect(clock.ms - startMs).toBeGreaterThan(60_000);
    // The next one, in the same outage, does not wait as long again.
    startMs = clock.ms;
    await expect(policy.run(request, attempt)).rejects.toMatchObject({ code: 'E_STORE_UNREACHABLE' });
    expect(clock.ms - startMs).toBeLessThan(30_000);
  });

  test('names what it waits for', async () => {
    const { notices, policy, request } = make();
    const { attempt } = failing(2, () => answer(503, 'SlowDown'));
    await policy.run(request, attempt);
    expect(notices).toMatchObject([
      { doing: 'trying', reason: 'SlowDown', failingMs: 0 },
      { doing: 'trying', reason: 'SlowDown' },
    ]);
  });
});

describe('the window of requests under way', () => {
  const never = (): Promise<never> => new Promise(() => {});

  test('begins with a quarter, is halved by SlowDown once a second, and grows back by one for each window', async () => {
    const { clock, policy, request } = make();
    expect(policy.window.limit).toBe(8);
    const slow = (): Promise<string> => policy.run(request, failing(1, () => answer(503, 'SlowDown')).attempt);
    await Promise.all([slow(), slow(), slow()]);
    expect(policy.window.limit).toBe(4);
    clock.ms += 1000;
    await slow();
    expect(policy.window.limit).toBe(2);
    for (let round = 0; round < 400; round += 1) {
      await Promise.all(Array.from({ length: policy.window.limit }, () => policy.run(request, async () => 'ok')));
    }
    expect(policy.window.limit).toBe(32);
  });

  test('does not grow while it is not in use', async () => {
    const window = new ConcurrencyWindow(new SteppedClock(), 32);
    for (let round = 0; round < 100; round += 1) {
      await window.use(undefined, async () => window.grow());
    }
    expect(window.limit).toBe(8);
  });

  test('holds back what does not fit, in order, and lets a signal end the wait', async () => {
    const window = new ConcurrencyWindow(new SteppedClock(), 4);
    expect(window.limit).toBe(1);
    const started: string[] = [];
    let end = (): void => {};
    const first = window.use(undefined, async () => {
      started.push('first');
      await new Promise<void>((resolve) => {
        end = resolve;
      });
    });
    const controller = new AbortController();
    const given = window.use(controller.signal, async () => void started.push('given up'));
    const last = window.use(undefined, async () => void started.push('last'));
    controller.abort();
    await expect(given).rejects.toMatchObject({ code: 'E_ABORTED' });
    expect(started).toEqual(['first']);
    end();
    await Promise.all([first, last]);
    expect(started).toEqual(['first', 'last']);
  });

  test('gives its place back when a request fails', async () => {
    const window = new ConcurrencyWindow(new SteppedClock(), 1);
    await expect(window.use(undefined, () => Promise.reject(new Error('x')))).rejects.toThrow('x');
    void window.use(undefined, never);
    await expect(window.use(AbortSignal.abort(), async () => 'never')).rejects.toMatchObject({ code: 'E_ABORTED' });
  });
});

describe('the budget of retries', () => {
  test('slows many retries down, and lets them all go on', () => {
    const clock = new SteppedClock();
    const budget = new RetryBudget(clock);
    const delays = Array.from({ length: 84 }, () => budget.take());
    expect(delays.slice(0, 64)).toEqual(Array.from({ length: 64 }, () => 0));
    expect(delays.at(-1)).toBe(5000);
    clock.ms += 5000;
    expect(budget.take()).toBe(250);
    clock.ms += 60_000;
    expect(budget.take()).toBe(0);
  });
});
