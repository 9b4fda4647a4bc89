/** What every pool of lanes must do: worker threads, and the calling thread that small runs and the simulator use. */
import { createHash } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { createLaneStarter, type WorkerLanesOptions } from '../../src/edge/host/worker-lanes.ts';
import { utf8Bytes } from '../../src/engine/model/bytes.ts';
import { HoldfastError } from '../../src/engine/model/errors.ts';
import type { LaneHooks, LanePool, PackPart } from '../../src/engine/ports/lanes.ts';
import { createToyPipeline, type ToyJob, type ToyReply, toyByte } from '../support/lane-pipeline.ts';

const entry = new URL('../support/lane-entry.ts', import.meta.url);
const pools: LanePool[] = [];

afterEach(async () => {
  await Promise.all(pools.splice(0).map((pool) => pool.close()));
});

async function start(
  lanes: number,
  hooks: LaneHooks,
  settings: unknown = {},
  options: Partial<WorkerLanesOptions> = {},
): Promise<LanePool> {
  const starter = createLaneStarter({ entry, createPipeline: createToyPipeline, ...options });
  const pool = await starter.start('capture', lanes, settings, hooks);
  pools.push(pool);
  return pool;
}

async function run(pool: LanePool, lane: number, job: ToyJob, buffers: Uint8Array[] = []): Promise<ToyReply> {
  const reply = await pool.run(lane, { bytes: utf8Bytes(JSON.stringify(job)), buffers });
  return JSON.parse(new TextDecoder().decode(reply.bytes)) as ToyReply;
}

const noParts: LaneHooks = { onPackPart: async () => {} };

/** Keeps what came, in copies, and finishes each part when told. */
function collector() {
  const parts: (Omit<PackPart, 'bytes'> & { readonly bytes: Uint8Array })[] = [];
  return {
    parts,
    hooks: {
      onPackPart: async (part: PackPart) => {
        parts.push({ ...part, bytes: part.bytes.slice() });
      },
    },
    packBytes: (pack: number) => Buffer.concat(parts.filter((part) => part.pack === pack).map(({ bytes }) => bytes)),
  };
}

function toyBytes(pack: number, lengths: readonly number[]): Buffer {
  return Buffer.concat(lengths.map((length, part) => Uint8Array.from({ length }, (_, i) => toyByte(pack, part, i))));
}

describe.each([
  { name: 'worker threads', lanes: 2 },
  { name: 'the calling thread', lanes: 0 },
])('$name', ({ lanes }) => {
  const last = Math.max(lanes, 1) - 1;

  test('runs the jobs of a lane in order, with its settings', async () => {
    const pool = await start(lanes, noParts, { level: 3 });
    expect(pool.size).toBe(Math.max(lanes, 1));
    const replies = await Promise.all([1, 2, 3].map((echo) => run(pool, last, { echo })));
    expect(replies.map(({ jobs, echo }) => [jobs, echo])).toEqual([
      [1, 1],
      [2, 2],
      [3, 3],
    ]);
    expect(replies[0]).toMatchObject({ kind: 'capture', lane: last, lanes: pool.size, settings: { level: 3 } });
  });

  test('takes further buffers, whole and parts of larger ones', async () => {
    const pool = await start(lanes, noParts);
    const large = new Uint8Array(1000).fill(5);
    const { buffers } = await run(pool, last, {}, [
      new Uint8Array(70).fill(9),
      large.subarray(10, 14),
      large.subarray(0, 0),
    ]);
    expect(buffers).toEqual([
      [70, 9],
      [4, 5],
      [0, null],
    ]);
    // What was only part of a buffer is still whole here.
    expect(large.length).toBe(1000);
  });

  test('hands on the parts of a pack in order and before the reply, also those larger than a slot', async () => {
    const { parts, hooks, packBytes } = collector();
    const pool = await start(lanes, hooks, {}, { slotBytes: 1000, slotCount: 2 });
    const lengths = [10, 2500, 1000, 1, 999, 4001];
    await run(pool, last, { pack: 4, parts: lengths, end: true });
    expect(packBytes(4).equals(toyBytes(4, lengths))).toBe(true);
    expect(parts.map(({ end }) => end)).toEqual(parts.map((_, i) => i === parts.length - 1));
    expect(parts.every(({ lane }) => lane === last)).toBe(true);
    await run(pool, last, { pack: 5, parts: [3] });
    await run(pool, last, { pack: 5, parts: [0], end: true });
    expect(parts.at(-1)).toMatchObject({ pack: 5, end: true, bytes: new Uint8Array(0) });
    expect(packBytes(5).equals(toyBytes(5, [3]))).toBe(true);
  });

  test('leaves the bytes of a part alone until its consumer is done', async () => {
    const sums: string[] = [];
    const lengths = Array.from({ length: 12 }, () => 500);
    const slotCount = 3;
    let arrived = 0;
    let checked = 0;
    const pool = await start(
      lanes,
      {
        onPackPart: async ({ bytes }) => {
          const before = createHash('sha256').update(bytes).digest('hex');
          // As many more as there are slots for: the lane has been on.
          const part = arrived++;
          const filled = Math.min(lengths.length, part + slotCount);
          await vi.waitUntil(() => arrived >= filled, { interval: 1, timeout: 10_000 });
          expect(createHash('sha256').update(bytes).digest('hex')).toBe(before);
          sums[part] = before;
          checked++;
        },
      },
      {},
      { slotBytes: 500, slotCount },
    );
    await run(pool, last, { parts: lengths });
    await expect.poll(() => checked).toBe(12);
    const expected = lengths.map((length, part) =>
      createHash('sha256')
        .update(Uint8Array.from({ length }, (_, i) => toyByte(0, part, i)))
        .digest('hex'),
    );
    expect(sums).toEqual(expected);
  });

  test('gives parts that a file can be written from', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'holdfast-lanes-'));
    const file = openSync(join(directory, 'pack'), 'w');
    try {
      const pool = await start(lanes, { onPackPart: async ({ bytes }) => void writeSync(file, bytes) });
      await run(pool, last, { pack: 9, parts: [1000, 2000] });
      expect(readFileSync(join(directory, 'pack')).equals(toyBytes(9, [1000, 2000]))).toBe(true);
    } finally {
      closeSync(file);
      rmSync(directory, { recursive: true });
    }
  });

  test('rejects with an error equal to the one thrown, and goes on', async () => {
    const pool = await start(lanes, noParts);
    const error = await run(pool, last, { fail: 'typed' }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(HoldfastError);
    expect(error).toMatchObject({
      code: 'E_TARGET_FULL',
      kind: 'retry',
      exit: 22,
      message: 'the disk of the test is full',
      details: { path: 'a/b', left: 12 },
      remedy: 'Nothing: this is a test.',
    });
    expect(String((error as HoldfastError).cause)).toContain('ENOSPC');
    expect((error as HoldfastError).stack).toContain('lane-pipeline');
    expect((await run(pool, last, {})).jobs).toBe(2);
  });

  test('fails all that follows when the consumer of parts fails', async () => {
    const full = new HoldfastError('E_STORE_FULL', 'no space in the store');
    let calls = 0;
    const pool = await start(
      lanes,
      {
        onPackPart: async () => {
          calls++;
          throw full;
        },
      },
      {},
      { slotBytes: 100, slotCount: 2 },
    );
    // More than the ring holds: a lane must not wait for slots that nobody frees.
    const first = run(pool, 0, { parts: Array.from({ length: 20 }, () => 100) });
    await expect(first).rejects.toMatchObject({ code: 'E_STORE_FULL' });
    await expect(run(pool, 0, {})).rejects.toMatchObject({ code: 'E_STORE_FULL' });
    expect(calls).toBeGreaterThan(0);
  });

  test('is closed once all is said, and takes nothing more', async () => {
    const pool = await start(lanes, noParts);
    await run(pool, 0, {});
    await pool.close();
    await pool.close();
    await expect(run(pool, 0, {})).rejects.toMatchObject({ code: 'E_ABORTED' });
  });
});

describe('worker threads', () => {
  test('wait for the store: never more parts ahead than slots', async () => {
    const release: (() => void)[] = [];
    let done = 0;
    let aheadMax = 0;
    const onPackPart = (): Promise<void> =>
      new Promise((resolve) => {
        release.push(resolve);
        aheadMax = Math.max(aheadMax, release.length - done);
      });
    const pool = await start(1, { onPackPart }, {}, { slotBytes: 10, slotCount: 3 });
    let replied = false;
    const reply = run(pool, 0, { parts: Array.from({ length: 10 }, () => 10) }).then(() => {
      replied = true;
    });
    while (done + 3 < 10) {
      await vi.waitUntil(() => release.length >= done + 3, { interval: 1, timeout: 10_000 });
      expect(replied).toBe(false);
      release[done++]?.();
    }
    await expect.poll(() => release.length).toBe(10);
    for (const finish of release.slice(done)) finish();
    await reply;
    expect(aheadMax).toBe(3);
  });

  test('run beside each other and beside the caller', async () => {
    const pool = await start(2, noParts, {}, { slotBytes: 10, slotCount: 1 });
    const replies = await Promise.all([0, 1, 0, 1].map((lane) => run(pool, lane, {})));
    expect(replies.map(({ lane, jobs }) => [lane, jobs])).toEqual([
      [0, 1],
      [1, 1],
      [0, 2],
      [1, 2],
    ]);
  });

  test('that die fail everything with E_INTERNAL', async () => {
    const pool = await start(2, noParts);
    const other = run(pool, 1, { parts: [] });
    const dying = run(pool, 0, { fail: 'exit' });
    const behind = run(pool, 0, {});
    await expect(dying).rejects.toMatchObject({ code: 'E_INTERNAL', message: expect.stringContaining('exit code 7') });
    await expect(behind).rejects.toMatchObject({ code: 'E_INTERNAL' });
    await other.catch(() => undefined);
    await expect(run(pool, 1, {})).rejects.toMatchObject({ code: 'E_INTERNAL' });
  });

  test('that throw what is no HoldfastError reject with E_INTERNAL and live on', async () => {
    const pool = await start(1, noParts);
    await expect(run(pool, 0, { fail: 'plain' })).rejects.toMatchObject({
      code: 'E_INTERNAL',
      message: expect.stringContaining('a defect'),
    });
    expect((await run(pool, 0, {})).jobs).toBe(2);
  });

  test('whose pipeline cannot be made fail every job with the reason', async () => {
    const pool = await start(1, noParts, { broken: true });
    await expect(run(pool, 0, {})).rejects.toMatchObject({ code: 'E_KEY_WRONG' });
    await expect(run(pool, 0, {})).rejects.toMatchObject({ code: 'E_KEY_WRONG' });
  });

  test('whose module is missing fail every job', async () => {
    const missing = new URL('../support/there-is-no-such-module.ts', import.meta.url);
    const pool = await start(1, noParts, {}, { entry: missing });
    await expect(run(pool, 0, {})).rejects.toMatchObject({ code: 'E_INTERNAL' });
  });

  test('cannot be started with settings that do not cross a thread', async () => {
    await expect(start(2, noParts, { callback: () => {} })).rejects.toThrow('could not be cloned');
  });

  test('end on close while they wait for a slot, and their jobs with E_ABORTED', async () => {
    let arrived = 0;
    const onPackPart = (): Promise<void> => {
      arrived++;
      return new Promise(() => {});
    };
    const pool = await start(1, { onPackPart }, {}, { slotBytes: 10, slotCount: 2 });
    const job = run(pool, 0, { parts: Array.from({ length: 10 }, () => 10) });
    const outcome = expect(job).rejects.toMatchObject({ code: 'E_ABORTED' });
    await expect.poll(() => arrived).toBe(2);
    const before = performance.now();
    await pool.close();
    await outcome;
    // Woken, not terminated after the grace period of ten seconds.
    expect(performance.now() - before).toBeLessThan(5000);
  });
});
