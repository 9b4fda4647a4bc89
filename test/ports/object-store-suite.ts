import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ErrorCode } from '../../src/engine/model/errors.ts';
import type { ObjectSweeper, ObjectWriter } from '../../src/engine/ports/object-store.ts';

/** One store, opened for both kinds of power. */
export interface Opened {
  readonly writer: ObjectWriter;
  readonly sweeper: ObjectSweeper;
  /** Whether a key may lie below another, as in a bucket; a directory cannot have that. Default false. */
  readonly flat?: boolean;
  /** Limited lists go by the order of names in each directory, in place of that of whole keys. Default false. */
  readonly ordersDirectories?: boolean;
  /** Races of eight that are run; default 100. */
  readonly races?: number;
  /** Bytes of the longest key: less than what is allowed where the store has a prefix. Default 1024. */
  readonly keyBytesMax?: number;
  close(): Promise<void>;
}

const bytesMax = 64 * 1024 * 1024;

/** Describes what every object store does. `open` gives an empty one each time. */
export function describeObjectStore(name: string, open: () => Promise<Opened>): void {
  describe(`object store: ${name}`, () => suite(open));
}

function suite(open: () => Promise<Opened>): void {
  let store: Opened;
  let writer: ObjectWriter;
  let sweeper: ObjectSweeper;

  beforeEach(async () => {
    store = await open();
    ({ writer, sweeper } = store);
  });
  afterEach(() => store.close());

  const get = (key: string) => writer.get(key, { bytesMax });
  const keys = async (prefix: string, options = {}) => (await writer.list(prefix, options)).map(({ key }) => key);

  describe('create', () => {
    test('makes an object that can be read back, and says so', async () => {
      expect(await writer.create('v1/a', bytesOf('one'))).toBe('created');
      expect(await get('v1/a')).toEqual(bytesOf('one'));
    });

    test('never overwrites, not even with the same bytes', async () => {
      await writer.create('v1/a', bytesOf('one'));
      expect(await writer.create('v1/a', bytesOf('two'))).toBe('exists');
      expect(await writer.create('v1/a', bytesOf('one'))).toBe('exists');
      expect(await get('v1/a')).toEqual(bytesOf('one'));
    });

    test('takes an object of no bytes', async () => {
      expect(await writer.create('v1/empty', bytesOf(''))).toBe('created');
      expect(await get('v1/empty')).toEqual(bytesOf(''));
      expect(await writer.getRange('v1/empty', 0, 0)).toEqual(bytesOf(''));
      expect(await writer.stat('v1/empty')).toMatchObject({ key: 'v1/empty', bytes: 0 });
      expect(await writer.create('v1/empty', bytesOf('late'))).toBe('exists');
    });

    test('keeps nothing of the memory it was given', async () => {
      const bytes = Buffer.from('kept');
      await writer.create('v1/a', bytes);
      bytes.fill(0);
      expect(await get('v1/a')).toEqual(bytesOf('kept'));
    });

    test('lets exactly one of eight at once win, in every race', async () => {
      for (let round = 0; round < (store.races ?? 100); round += 1) {
        const key = `v1/race/${round}`;
        const outcomes = await Promise.all(
          Array.from({ length: 8 }, (_, racer) => writer.create(key, bytesOf(`round ${round}, racer ${racer}`))),
        );
        const winners = outcomes.flatMap((outcome, racer) => (outcome === 'created' ? [racer] : []));
        expect(winners).toHaveLength(1);
        expect(await get(key)).toEqual(bytesOf(`round ${round}, racer ${winners[0]}`));
      }
    });

    test('refuses a key below an object, and one that others lie below, or has them all', async () => {
      await writer.create('v1/a', bytesOf('object'));
      if (store.flat === true) {
        const outcomes: unknown[] = [];
        for (const key of ['v1/a/b', 'v1/a/b/c', 'v1']) {
          outcomes.push(await writer.create(key, bytesOf(key)).catch((error: unknown) => error));
          if (outcomes.at(-1) === 'created') expect(await get(key)).toEqual(bytesOf(key));
          // Some answer as if there were an object, and then have none.
          else if (outcomes.at(-1) !== 'exists') expect(outcomes.at(-1)).toMatchObject(code('E_DAMAGED'));
        }
        expect(await get('v1/a')).toEqual(bytesOf('object'));
        return;
      }
      await expect(writer.create('v1/a/b', bytesOf(''))).rejects.toMatchObject(code('E_DAMAGED'));
      await expect(writer.create('v1/a/b/c', bytesOf(''))).rejects.toMatchObject(code('E_DAMAGED'));
      await expect(writer.create('v1', bytesOf(''))).rejects.toMatchObject(code('E_DAMAGED'));
      expect(await keys('v1/')).toEqual(['v1/a']);
    });
  });

  describe('get', () => {
    test('answers undefined for what is not there, at any depth, and for what only lies above objects', async () => {
      await writer.create('v1/a/b', bytesOf('x'));
      for (const key of ['v1/b', 'v2/a/b', 'v1/a', 'v1/a/b/c']) {
        expect(await get(key)).toBeUndefined();
        expect(await writer.stat(key)).toBeUndefined();
      }
    });

    test('refuses more than the bytes asked for at most, and gives exactly so many', async () => {
      await writer.create('v1/a', bytesOf('123456'));
      await expect(writer.get('v1/a', { bytesMax: 5 })).rejects.toMatchObject(code('E_DAMAGED'));
      expect(await writer.get('v1/a', { bytesMax: 6 })).toEqual(bytesOf('123456'));
    });

    test('gives a buffer that belongs to the caller', async () => {
      await writer.create('v1/a', bytesOf('123456'));
      for (const read of [() => get('v1/a'), () => writer.getRange('v1/a', 0, 6)]) {
        const bytes = (await read())!;
        expect(bytes.constructor).toBe(Uint8Array);
        expect(bytes.buffer.byteLength).toBe(6);
        bytes.fill(0);
        structuredClone(bytes, { transfer: [bytes.buffer as ArrayBuffer] });
        expect(await read()).toEqual(bytesOf('123456'));
      }
    });
  });

  describe('getRange', () => {
    test('gives any range inside, whole', async () => {
      const content = patternOf(1000, 7);
      await writer.create('v1/a', content);
      await fc.assert(
        fc.asyncProperty(fc.nat(1000), fc.nat(1000), async (a, b) => {
          const [start, end] = a < b ? [a, b] : [b, a];
          expect(await writer.getRange('v1/a', start, end - start)).toEqual(content.slice(start, end));
        }),
        { numRuns: 50 },
      );
    });

    test.each([
      ['of the caller', (bytes: number) => new ArrayBuffer(bytes)],
      ['that threads share', (bytes: number) => new SharedArrayBuffer(bytes)],
    ])('may read into memory %s, and no further than it was given', async (_, make) => {
      const content = patternOf(100_000, 9);
      await writer.create('v1/a', content);
      const memory = new Uint8Array(make(60_000)).fill(0xee);
      const into = memory.subarray(1000, 51_000);
      const got = await writer.getRange('v1/a', 20_000, 50_000, { into });
      expect(Buffer.compare(got, content.subarray(20_000, 70_000))).toBe(0);
      const outside = [...memory.subarray(0, 1000), ...memory.subarray(51_000)];
      expect(outside.every((byte) => byte === 0xee)).toBe(true);
    });

    test('refuses a range that ends outside as damage, however long it is', async () => {
      await writer.create('v1/a', patternOf(100, 1));
      for (const [start, length] of [
        [0, 101],
        [100, 1],
        [101, 0],
        [50, 51],
        [2 ** 52, 1],
        [0, 2 ** 52],
      ] as const) {
        await expect(writer.getRange('v1/a', start, length)).rejects.toMatchObject(code('E_DAMAGED'));
      }
      expect(await writer.getRange('v1/a', 100, 0)).toEqual(bytesOf(''));
    });

    test('refuses a missing object as damage that names it, and gives it once it is there', async () => {
      await expect(writer.getRange('v1/a', 0, 0)).rejects.toMatchObject({
        ...code('E_DAMAGED'),
        details: { key: 'v1/a' },
      });
      await writer.create('v1/a', bytesOf('x'));
      expect(await writer.getRange('v1/a', 0, 1)).toEqual(bytesOf('x'));
    });

    test('serves many ranges of many objects at once', async () => {
      const objects = Array.from({ length: 40 }, (_, at) => ({ key: `v1/p/${at}`, bytes: patternOf(5000, at) }));
      await Promise.all(objects.map(({ key, bytes }) => writer.create(key, bytes)));
      const reads = Array.from({ length: 400 }, (_, at) => ({ ...objects[(at * 7) % 40]!, start: (at * 11) % 4000 }));
      await Promise.all(
        reads.map(async ({ key, bytes, start }) => {
          expect(await writer.getRange(key, start, 1000)).toEqual(bytes.slice(start, start + 1000));
        }),
      );
    });
  });

  test('stat gives size and time of change', async () => {
    await writer.create('v1/a', bytesOf('123'));
    const info = await writer.stat('v1/a');
    expect(info).toEqual({ key: 'v1/a', bytes: 3, modifiedMs: expect.any(Number) });
    expect(Number.isSafeInteger(info!.modifiedMs)).toBe(true);
    expect(await writer.list('v1/')).toEqual([info]);
  });

  describe('list', () => {
    test('gives nothing for a prefix with nothing below', async () => {
      expect(await keys('v1/')).toEqual([]);
      await writer.create('v1/a', bytesOf(''));
      expect(await keys('v2/')).toEqual([]);
      expect(await keys('v1/a/')).toEqual([]);
    });

    test('gives all depths in the order of the keys as bytes, where a slash has its own place', async () => {
      // `-` and `.` come before the slash, digits and letters after it; capitals before small letters.
      const sorted = [
        'v1/a!',
        'v1/a-b',
        'v1/a.b',
        'v1/a/B',
        'v1/a/b/c',
        'v1/a/z',
        'v1/a0',
        'v1/aA',
        'v1/a_',
        'v1/aa',
        'v1/b',
      ];
      for (const key of sorted.toReversed()) await writer.create(key, bytesOf(key));
      expect(await keys('v1/')).toEqual(sorted);
      expect(await keys('v1/a/')).toEqual(['v1/a/B', 'v1/a/b/c', 'v1/a/z']);
      expect((await writer.list('v1/')).map(({ bytes }) => bytes)).toEqual(sorted.map((key) => key.length));
    });

    test('after and limit cut exactly that order, whatever the keys', async () => {
      const keyPart = fc.stringMatching(/^[ab.-]{1,2}$/).filter((part) => part !== '.' && part !== '..');
      const maxLength = store.ordersDirectories === true ? 1 : 3;
      const key = fc.array(keyPart, { minLength: 1, maxLength }).map((parts) => `v1/${parts.join('/')}`);
      await fc.assert(
        fc.asyncProperty(fc.uniqueArray(key, { maxLength: 12 }), key, fc.nat(14), async (wanted, after, limit) => {
          const fresh = await open();
          try {
            const made: string[] = [];
            for (const each of wanted) {
              // Some keys stand in the way of others: those are not made. A bucket may take them, and then not list them.
              if (store.flat === true && made.some((other) => isBelow(each, other) || isBelow(other, each))) continue;
              const outcome = await fresh.writer.create(each, bytesOf('')).catch(() => 'blocked');
              if (outcome === 'created') made.push(each);
            }
            const expected = made
              .filter((each) => each > after)
              .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
            const found = await fresh.writer.list('v1/', { after, limit });
            expect(found.map((info) => info.key)).toEqual(expected.slice(0, limit));
            expect((await fresh.writer.list('v1/', { after })).map((info) => info.key)).toEqual(expected);
          } finally {
            await fresh.close();
          }
        }),
        { numRuns: 40 },
      );
    });

    test('pages of any size give the whole', async () => {
      const all = Array.from({ length: 100 }, (_, at) => `v1/log/${String(at * 37).padStart(5, '0')}`).sort();
      await Promise.all(all.map((key) => writer.create(key, bytesOf('x'))));
      for (const limit of [1, 7, 33, 100, 101]) {
        const found: string[] = [];
        for (;;) {
          const page = await keys('v1/log/', { limit, ...(found.length > 0 ? { after: found.at(-1)! } : {}) });
          found.push(...page);
          if (page.length < limit) break;
        }
        expect(found).toEqual(all);
      }
      expect(await keys('v1/log/', { limit: 0 })).toEqual([]);
    });

    test('sees every write that was completed before it', async () => {
      await Promise.all(
        Array.from({ length: 4 }, async (_, lane) => {
          for (let at = 0; at < 20; at += 1) {
            const key = `v1/log/${lane}-${at}`;
            await writer.create(key, bytesOf('x'));
            expect(await keys('v1/log/')).toContain(key);
            expect(await keys('v1/')).toContain(key);
          }
        }),
      );
    });
  });

  describe('upload', () => {
    test('makes one object of all that was appended, invisible before the commit', async () => {
      const upload = await writer.beginUpload('v1/p/a');
      await upload.append(bytesOf('one '));
      await upload.append(bytesOf(''));
      await upload.append(bytesOf('two'));
      expect(await get('v1/p/a')).toBeUndefined();
      expect(await keys('v1/')).toEqual([]);
      expect(await upload.commit()).toBe('created');
      expect(await get('v1/p/a')).toEqual(bytesOf('one two'));
      expect(await keys('v1/')).toEqual(['v1/p/a']);
    });

    test('of nothing makes an object of no bytes', async () => {
      const upload = await writer.beginUpload('v1/p/a');
      expect(await upload.commit()).toBe('created');
      expect(await get('v1/p/a')).toEqual(bytesOf(''));
    });

    test('takes what it was given before append resolves: the buffer may be used again', async () => {
      const upload = await writer.beginUpload('v1/p/a');
      const buffer = Buffer.alloc(300_000);
      for (let at = 0; at < 100; at += 1) {
        buffer.fill(at);
        await upload.append(buffer);
      }
      buffer.fill(255);
      await upload.commit();
      for (let at = 0; at < 100; at += 1) {
        const part = await writer.getRange('v1/p/a', at * buffer.length, buffer.length);
        expect(Buffer.alloc(buffer.length, at).equals(part)).toBe(true);
      }
    });

    test('leaves an object that exists as it is, also one that came meanwhile', async () => {
      const first = await writer.beginUpload('v1/p/a');
      const second = await writer.beginUpload('v1/p/a');
      await first.append(bytesOf('first'));
      await second.append(bytesOf('second'));
      expect(await second.commit()).toBe('created');
      expect(await first.commit()).toBe('exists');
      expect(await writer.create('v1/p/a', bytesOf('third'))).toBe('exists');
      expect(await get('v1/p/a')).toEqual(bytesOf('second'));
    });

    test('given up leaves nothing, and can be given up again', async () => {
      const upload = await writer.beginUpload('v1/p/a');
      await upload.append(bytesOf('dropped'));
      await upload.abort();
      await upload.abort();
      await expect(upload.append(bytesOf('more'))).rejects.toMatchObject(code('E_ABORTED'));
      await expect(upload.commit()).rejects.toMatchObject(code('E_ABORTED'));
      expect(await keys('v1/')).toEqual([]);
      expect(await writer.create('v1/p/a', bytesOf('new'))).toBe('created');
    });

    test('given up while a part is under way leaves nothing', async () => {
      const upload = await writer.beginUpload('v1/p/a');
      const part = upload.append(patternOf(8_000_000, 1)).catch((error: unknown) => error);
      await upload.abort();
      await part;
      await expect(upload.commit()).rejects.toMatchObject(code('E_ABORTED'));
      expect(await keys('v1/')).toEqual([]);
    });

    test('given up after the commit changes nothing', async () => {
      const upload = await writer.beginUpload('v1/p/a');
      await upload.append(bytesOf('kept'));
      await upload.commit();
      await upload.abort();
      expect(await get('v1/p/a')).toEqual(bytesOf('kept'));
    });

    test('refuses steps after the commit as a defect', async () => {
      const upload = await writer.beginUpload('v1/p/a');
      await upload.commit();
      await expect(upload.append(bytesOf('more'))).rejects.toMatchObject(code('E_INTERNAL'));
      await expect(upload.commit()).rejects.toMatchObject(code('E_INTERNAL'));
    });

    test('carries more than one system call and one write-back take', async () => {
      const upload = await writer.beginUpload('v1/p/a');
      const part = patternOf(20_000_000, 3);
      await upload.append(part);
      await upload.append(part);
      await upload.append(part);
      await upload.commit();
      expect(await writer.stat('v1/p/a')).toMatchObject({ bytes: 60_000_000 });
      const whole = Buffer.from((await get('v1/p/a'))!.buffer);
      for (const at of [0, 1, 2])
        expect(whole.subarray(at * part.length, (at + 1) * part.length).equals(part)).toBe(true);
    });
  });

  describe('delete', () => {
    test('says whether an object was there, and frees its key', async () => {
      await writer.create('v1/a/b', bytesOf('old'));
      expect(await sweeper.delete('v1/a/b')).toBe(true);
      expect(await sweeper.delete('v1/a/b')).toBe(false);
      expect(await sweeper.delete('v1/never/there')).toBe(false);
      expect(await get('v1/a/b')).toBeUndefined();
      expect(await keys('v1/')).toEqual([]);
      expect(await writer.create('v1/a/b', bytesOf('new'))).toBe('created');
    });

    test('never takes what lies below a key', async () => {
      await writer.create('v1/a/b', bytesOf('x'));
      expect(await sweeper.delete('v1/a')).toBe(false);
      expect(await keys('v1/')).toEqual(['v1/a/b']);
    });

    test('a ranged read afterwards does not find the object in a cache', async () => {
      await writer.create('v1/a', bytesOf('x'));
      await sweeper.getRange('v1/a', 0, 1);
      await sweeper.delete('v1/a');
      await expect(sweeper.getRange('v1/a', 0, 1)).rejects.toMatchObject(code('E_DAMAGED'));
    });
  });

  describe('a signal', () => {
    test('that has fired ends every request before anything happens', async () => {
      const signal = AbortSignal.abort();
      await writer.create('v1/a', bytesOf('x'));
      const requests: readonly (() => Promise<unknown>)[] = [
        () => writer.get('v1/a', { bytesMax, signal }),
        () => writer.getRange('v1/a', 0, 1, { signal }),
        () => writer.stat('v1/a', { signal }),
        () => writer.list('v1/', { signal }),
        () => writer.create('v1/b', bytesOf('x'), { signal }),
        () => writer.beginUpload('v1/b', { signal }),
        () => sweeper.delete('v1/a', { signal }),
      ];
      for (const request of requests) await expect(request()).rejects.toMatchObject(code('E_ABORTED'));
      expect(await keys('v1/')).toEqual(['v1/a']);
    });

    test('that fires during an upload ends it at the next step, and nothing of it stays', async () => {
      for (const step of ['append', 'commit'] as const) {
        const controller = new AbortController();
        const upload = await writer.beginUpload('v1/b', { signal: controller.signal });
        await upload.append(bytesOf('begun'));
        controller.abort();
        await expect(step === 'append' ? upload.append(bytesOf('x')) : upload.commit()).rejects.toMatchObject(
          code('E_ABORTED'),
        );
        await expect(upload.commit()).rejects.toMatchObject(code('E_ABORTED'));
        await upload.abort();
        expect(await keys('v1/')).toEqual([]);
      }
    });

    test('that fires after the commit changes nothing', async () => {
      const controller = new AbortController();
      await writer.create('v1/a', bytesOf('x'), { signal: controller.signal });
      controller.abort();
      expect(await get('v1/a')).toEqual(bytesOf('x'));
    });
  });

  describe('keys', () => {
    const bad = [
      '',
      '/',
      '/v1',
      'v1/',
      'v1//a',
      '.',
      '..',
      '../a',
      'v1/..',
      'v1/../../a',
      'v1/./a',
      'v1/a\0',
      'v1/a\\b',
      'v1/a b',
      'v1/ä',
      'v1/a\n',
      `v1/${'a'.repeat(256)}`,
      `v1/${'a/'.repeat(600)}a`,
      'tmp',
      'tmp/a',
    ];

    test.each(bad)('%j is refused by every request', async (key) => {
      const requests: readonly (() => Promise<unknown>)[] = [
        () => get(key),
        () => writer.getRange(key, 0, 0),
        () => writer.stat(key),
        () => writer.create(key, bytesOf('x')),
        () => writer.beginUpload(key),
        () => sweeper.delete(key),
        () => writer.list(`${key}/`),
      ];
      for (const request of requests) await expect(request()).rejects.toMatchObject(code('E_HOSTILE'));
    });

    test('a prefix without its slash is refused', async () => {
      await expect(writer.list('v1')).rejects.toMatchObject(code('E_HOSTILE'));
      await expect(writer.list('')).rejects.toMatchObject(code('E_HOSTILE'));
    });

    test('the longest ones and every character that is allowed work', async () => {
      for (const key of [
        `v1/${'a'.repeat(255)}`,
        `v1/${'bc/'.repeat(341)}`
          .slice(0, (store.keyBytesMax ?? 1024) - 1)
          .replace(/[/b]?$/, 'zz')
          .slice(0, store.keyBytesMax ?? 1024),
        'v1/AZaz09._~%=@+,:!-',
        'v1/...',
        'v1/tmp/a',
      ]) {
        expect(await writer.create(key, bytesOf(key))).toBe('created');
        expect(await get(key)).toEqual(bytesOf(key));
        expect(await keys('v1/')).toContain(key);
      }
    });
  });
}

function isBelow(key: string, other: string): boolean {
  return key.startsWith(`${other}/`);
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Bytes that differ from place to place and from seed to seed. */
function patternOf(bytes: number, seed: number): Uint8Array {
  const pattern = new Uint8Array(bytes);
  for (let at = 0, state = seed + 1; at < bytes; at += 1) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    pattern[at] = state >>> 16;
  }
  return pattern;
}

function code(wanted: ErrorCode): { readonly code: ErrorCode } {
  return { code: wanted };
}
