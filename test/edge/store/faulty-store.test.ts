import { createHash } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import type { RandomSource } from '../../../src/engine/ports/random.ts';
import {
  Faults,
  type FaultSettings,
  FaultySweeper,
  FaultyWriter,
  type PendingEffect,
  type RequestPoint,
} from '../../support/faulty-store.ts';

/** Random bytes that follow from a seed. */
function seeded(seed: string): RandomSource {
  let count = 0;
  return {
    bytes: (length) => {
      count += 1;
      return new Uint8Array(createHash('shake256', { outputLength: length }).update(`${seed} ${count}`).digest());
    },
  };
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

let inner: MemoryStore;
let pending: PendingEffect[];
let points: RequestPoint[];
let waits: number[];

beforeEach(() => {
  inner = new MemoryStore();
  pending = [];
  points = [];
  waits = [];
});

function faultsOf(settings: Partial<FaultSettings> = {}): Faults {
  return new Faults({
    random: seeded('1'),
    scheduler: {
      wait: async (ms) => {
        waits.push(ms);
      },
      later: (effect) => {
        pending.push(effect);
      },
    },
    hook: (point) => {
      points.push(point);
    },
    ...settings,
  });
}

const writerWith = (settings: Partial<FaultSettings>): FaultyWriter => new FaultyWriter(inner, faultsOf(settings));
const inStore = async (): Promise<string[]> => (await inner.list('v1/')).map(({ key }) => key);
const last = (): RequestPoint => points.at(-1)!;

test('without faults it is the store it wraps', async () => {
  const writer = writerWith({});
  expect(await writer.create('v1/a', bytes('a'))).toBe('created');
  expect(await writer.create('v1/a', bytes('b'))).toBe('exists');
  const upload = await writer.beginUpload('v1/b');
  await upload.append(bytes('b'));
  expect(await upload.commit()).toBe('created');
  await upload.abort();
  expect(await writer.get('v1/b', { bytesMax: 9 })).toEqual(bytes('b'));
  expect(await writer.getRange('v1/a', 0, 1)).toEqual(bytes('a'));
  expect(await writer.list('v1/')).toEqual(await inner.list('v1/'));
  expect(await writer.stat('v1/a')).toEqual(await inner.stat('v1/a'));
  const sweeper = new FaultySweeper(inner, faultsOf());
  expect(await sweeper.delete('v1/a')).toBe(true);
  expect(await sweeper.delete('v1/a')).toBe(false);
});

describe('of a create', () => {
  test('a lost request has no effect', async () => {
    await expect(writerWith({ rates: { lostRequest: 1 } }).create('v1/a', bytes('a'))).rejects.toMatchObject({
      code: 'E_STORE_UNREACHABLE',
    });
    expect(await inStore()).toEqual([]);
    expect(last()).toMatchObject({ phase: 'after', effect: 'none', fault: 'lostRequest' });
  });

  test('a lost reply has its effect, and only the hook learns of it', async () => {
    await expect(writerWith({ rates: { lostReply: 1 } }).create('v1/a', bytes('a'))).rejects.toMatchObject({
      code: 'E_STORE_UNREACHABLE',
    });
    expect(await inStore()).toEqual(['v1/a']);
    expect(last()).toMatchObject({ phase: 'after', effect: 'done', outcome: 'created' });
  });

  test('a doubled request finds its own object', async () => {
    expect(await writerWith({ rates: { doubled: 1 } }).create('v1/a', bytes('a'))).toBe('exists');
    expect(last()).toMatchObject({ effect: 'done', outcome: 'created' });
  });

  test('an echoed request comes again, also after the object has gone', async () => {
    expect(await writerWith({ rates: { echoed: 1 } }).create('v1/a', bytes('a'))).toBe('created');
    await inner.delete('v1/a');
    expect(await pending[0]!.run()).toBe('created');
    expect(await inStore()).toEqual(['v1/a']);
  });

  test('a delayed one lands when the scheduler says, with the bytes of that moment, if the key is still free', async () => {
    const writer = writerWith({ rates: { delayed: 1 } });
    const buffer = bytes('first');
    await expect(writer.create('v1/a', buffer)).rejects.toMatchObject({ code: 'E_STORE_UNREACHABLE' });
    await expect(writer.create('v1/a', bytes('second'))).rejects.toMatchObject({ code: 'E_STORE_UNREACHABLE' });
    buffer.fill(0);
    expect(await inStore()).toEqual([]);
    expect(last()).toMatchObject({ effect: 'pending' });
    expect(await pending[0]!.run()).toBe('created');
    expect(await pending[1]!.run()).toBe('exists');
    expect(await inner.get('v1/a', { bytesMax: 9 })).toEqual(bytes('first'));
    await expect(pending[1]!.run()).rejects.toMatchObject({ code: 'E_INTERNAL' });
  });

  test('a full store takes nothing, and gives what it has', async () => {
    const faults = faultsOf();
    const writer = new FaultyWriter(inner, faults);
    await writer.create('v1/a', bytes('a'));
    const upload = await writer.beginUpload('v1/c');
    faults.full = true;
    await expect(writer.create('v1/b', bytes('b'))).rejects.toMatchObject({ code: 'E_STORE_FULL' });
    await expect(writer.beginUpload('v1/b')).rejects.toMatchObject({ code: 'E_STORE_FULL' });
    await expect(upload.append(bytes('c'))).rejects.toMatchObject({ code: 'E_STORE_FULL' });
    expect(await writer.get('v1/a', { bytesMax: 9 })).toEqual(bytes('a'));
    faults.full = false;
    expect(await writer.create('v1/b', bytes('b'))).toBe('created');
  });
});

describe('of an upload', () => {
  test('a torn append leaves a part that never becomes an object', async () => {
    const faults = faultsOf();
    const upload = await new FaultyWriter(inner, faults).beginUpload('v1/a');
    faults.rates = { torn: 1 };
    await expect(upload.append(bytes('abcdefgh'))).rejects.toMatchObject({ code: 'E_STORE_IO' });
    faults.rates = {};
    await expect(upload.append(bytes('x'))).rejects.toMatchObject({ code: 'E_ABORTED' });
    await expect(upload.commit()).rejects.toMatchObject({ code: 'E_ABORTED' });
    await upload.abort();
    expect(await inStore()).toEqual([]);
    expect(faults.leftovers).toBe(1);
  });

  test('a delayed commit lands although the upload was given up', async () => {
    const faults = faultsOf();
    const upload = await new FaultyWriter(inner, faults).beginUpload('v1/a');
    await upload.append(bytes('late'));
    faults.rates = { delayed: 1 };
    await expect(upload.commit()).rejects.toMatchObject({ code: 'E_STORE_UNREACHABLE' });
    await upload.abort();
    expect(await inStore()).toEqual([]);
    expect(await pending[0]!.run()).toBe('created');
    expect(await inner.get('v1/a', { bytesMax: 9 })).toEqual(bytes('late'));
  });

  test('a doubled commit finds its own object, a lost reply hides it, a lost request lets it be given up', async () => {
    for (const [kind, expected, there] of [
      ['doubled', 'exists', true],
      ['lostReply', 'E_STORE_UNREACHABLE', true],
      ['lostRequest', 'E_STORE_UNREACHABLE', false],
    ] as const) {
      const faults = faultsOf();
      const upload = await new FaultyWriter(inner, faults).beginUpload(`v1/${kind}`);
      faults.rates = { [kind]: 1 };
      expect(await upload.commit().catch((error: { code: string }) => error.code)).toBe(expected);
      await upload.abort();
      expect((await inStore()).includes(`v1/${kind}`)).toBe(there);
      expect(faults.leftovers).toBe(kind === 'lostRequest' ? 1 : 0);
    }
  });
});

test('of a delete: lost, doubled and delayed', async () => {
  await inner.create('v1/a', bytes('a'));
  const sweeperWith = (rates: FaultSettings['rates']) => new FaultySweeper(inner, faultsOf({ rates: rates! }));
  await expect(sweeperWith({ lostRequest: 1 }).delete('v1/a')).rejects.toThrow();
  await expect(sweeperWith({ delayed: 1 }).delete('v1/a')).rejects.toThrow();
  expect(await inStore()).toEqual(['v1/a']);
  expect(await sweeperWith({ doubled: 1 }).delete('v1/a')).toBe(false);
  expect(await inStore()).toEqual([]);
  expect(await pending[0]!.run()).toBe('false');
});

test('of reads: errors, and nothing else', async () => {
  await inner.create('v1/a', bytes('a'));
  for (const [kind, code] of [
    ['lostRequest', 'E_STORE_UNREACHABLE'],
    ['lostReply', 'E_STORE_UNREACHABLE'],
    ['failed', 'E_STORE_IO'],
  ] as const) {
    const writer = writerWith({ rates: { [kind]: 1 } });
    await expect(writer.get('v1/a', { bytesMax: 9 })).rejects.toMatchObject({ code });
    await expect(writer.getRange('v1/a', 0, 1)).rejects.toMatchObject({ code });
    await expect(writer.stat('v1/a')).rejects.toMatchObject({ code });
    await expect(writer.list('v1/')).rejects.toMatchObject({ code });
  }
});

describe('the hook', () => {
  test('is asked before and after each request', async () => {
    const writer = writerWith({});
    await writer.create('v1/a', bytes('a'));
    const upload = await writer.beginUpload('v1/b');
    await upload.append(bytes('b'));
    await upload.commit();
    await writer.list('v1/');
    expect(points.map(({ phase, request, operation, key }) => `${request} ${phase} ${operation} ${key}`)).toEqual(
      ['create v1/a', 'beginUpload v1/b', 'append v1/b', 'commit v1/b', 'list v1/'].flatMap((request, at) => [
        `${at + 1} before ${request}`,
        `${at + 1} after ${request}`,
      ]),
    );
  });

  test('can crash the caller on either side of the effect', async () => {
    class Crash extends Error {}
    for (const phase of ['before', 'after'] as const) {
      const writer = writerWith({
        hook: (point) => {
          if (point.phase === phase) throw new Crash();
        },
      });
      await expect(writer.create(`v1/${phase}`, bytes('a'))).rejects.toThrow(Crash);
    }
    expect(await inStore()).toEqual(['v1/after']);
  });
});

test('a slow request waits by the scheduler, and a signal ends it without effect', async () => {
  const writer = writerWith({ rates: { slow: 1 }, slowMsMax: 50 });
  for (let at = 0; at < 40; at += 1) await writer.create(`v1/${at}`, bytes(''));
  expect(waits).toHaveLength(40);
  expect(Math.min(...waits)).toBeGreaterThanOrEqual(1);
  expect(Math.max(...waits)).toBeLessThanOrEqual(50);
  expect(new Set(waits).size).toBeGreaterThan(10);

  const controller = new AbortController();
  const scheduler: FaultSettings['scheduler'] = { wait: async () => controller.abort(), later: () => {} };
  const aborted = writerWith({ rates: { slow: 1 }, scheduler }).create('v1/x', bytes(''), {
    signal: controller.signal,
  });
  await expect(aborted).rejects.toMatchObject({ code: 'E_ABORTED' });
  expect(await inner.stat('v1/x')).toBeUndefined();
});

describe('a seed', () => {
  const rates = {
    lostRequest: 0.1,
    lostReply: 0.1,
    doubled: 0.1,
    delayed: 0.1,
    echoed: 0.1,
    full: 0.1,
    torn: 0.1,
    slow: 0.3,
  };

  const run = async (seed: string): Promise<{ log: string[]; faults: Faults }> => {
    const faults = faultsOf({ random: seeded(seed), rates });
    const writer = new FaultyWriter(new MemoryStore(), faults);
    const log: string[] = [];
    for (let at = 0; at < 100; at += 1) {
      const outcome = await writer
        .create(`v1/${at % 40}`, bytes(`${at}`))
        .catch((error: { code: string }) => error.code);
      log.push(outcome);
      await writer
        .beginUpload(`v1/u${at}`)
        .then(async (upload) => {
          await upload.append(bytes('part'));
          log.push(await upload.commit());
        })
        .catch((error: { code: string }) => log.push(error.code));
    }
    return { log: [...log, ...waits.splice(0).map(String)], faults };
  };

  test('replays everything, another seed gives something else', async () => {
    const first = await run('7');
    expect((await run('7')).log).toEqual(first.log);
    expect((await run('8')).log).not.toEqual(first.log);
  });

  test('brings about every fault it was asked for, about as often', async () => {
    const { faults } = await run('7');
    for (const kind of Object.keys(rates) as (keyof typeof rates)[]) {
      expect(faults.injected.get(kind) ?? 0).toBeGreaterThan(3);
    }
    expect(faults.injected.get('slow')! / faults.requests).toBeCloseTo(0.3, 1);
  });

  test('does not depend on what the hook, the store or other requests do meanwhile', async () => {
    const faults = faultsOf({ random: seeded('7'), rates });
    const writer = new FaultyWriter(inner, faults);
    const kinds = (from: number) =>
      points
        .slice(from)
        .filter(({ phase }) => phase === 'before')
        .map(({ fault }) => fault);
    const keys = Array.from({ length: 50 }, (_, at) => `v1/${at}`);
    await Promise.allSettled(keys.map((key) => writer.create(key, bytes(''))));
    const together = kinds(0);
    const start = points.length;
    const serial = new FaultyWriter(new MemoryStore(), faultsOf({ random: seeded('7'), rates }));
    for (const key of keys) await serial.create(key, bytes('')).catch(() => {});
    expect(kinds(start)).toEqual(together);
  });
});
