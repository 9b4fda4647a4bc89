import { describe, expect, it } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { ObservedReader, ObservedWriter, StoreTraffic } from '../../../src/edge/store/observed-store.ts';
import { ackPrefix, decisionKey, logKey, packPrefix, receiptPrefix } from '../../../src/engine/format/object-keys.ts';
import { claimLineage } from '../../../src/engine/lineage/claim.ts';
import { createRepository } from '../../../src/engine/lineage/repository.ts';
import { utf8Bytes } from '../../../src/engine/model/bytes.ts';
import { toHolderId, toSlot } from '../../../src/engine/model/ids.ts';
import type { ObjectWriter, RangeOptions } from '../../../src/engine/ports/object-store.ts';
import { ManualClock, seededRandom } from '../../support/capture-fixture.ts';
import { Faults, FaultyReader, FaultyWriter, type PendingEffect } from '../../support/faulty-store.ts';
import { MemoryHolder } from '../lineage/fixture.ts';
import { contentsOf, copyOnce, flawsOf, lineage, onlyOf, openCopy, Origin } from './copy-fixture.ts';

async function packKeys(store: MemoryStore): Promise<string[]> {
  return (await store.list(packPrefix(lineage))).map(({ key }) => key);
}

/** A fail-over: somebody else claims the lineage in a store. */
async function claimIn(store: ObjectWriter, origin: Origin): Promise<void> {
  const holder = new MemoryHolder('somebody-else');
  await claimLineage({
    store,
    access: origin.pod.access,
    lineage,
    holder,
    holderName: 'elsewhere',
    clock: new ManualClock(),
    random: seededRandom('elsewhere'),
    liveness: { isGone: async (who) => (who === toHolderId('somebody-else') ? 'unknown' : 'gone') },
    policy: 'person',
  });
}

describe('a copy', () => {
  it.each([
    ['aes-256-gcm', 'with the key'],
    ['aes-256-gcm', 'without the key'],
    ['none', 'without encryption'],
  ] as const)(
    'of a repository with encryption %s, %s, is equal and restores to the same root',
    async (encryption, how) => {
      const origin = await Origin.start({ encryption, largeBytes: 9_000_000 });
      await origin.checkpoint('third one', 700_000);
      await origin.store.create(`${ackPrefix(lineage)}2`, utf8Bytes('acknowledged'));
      await origin.store.create(`${receiptPrefix(lineage)}a`, utf8Bytes('received'));
      const target = new MemoryStore();
      const copy = await copyOnce(origin.store, target, how === 'with the key' ? { keyRing: origin.keyRing } : {});
      expect(onlyOf(copy)).toMatchObject({ error: undefined, copy: { records: 4, passed: [], lag: { records: 0 } } });
      expect(contentsOf(target)).toEqual(contentsOf(origin.store));
      expect(await origin.restoredRoot(target)).toBe(await origin.root());
    },
  );

  it('reads the pieces of a large pack into the same memory in turn, and sends each before that', async () => {
    const origin = await Origin.start({ largeBytes: 17_000_000 });
    const used = new Set<ArrayBufferLike>();
    let pieces = 0;
    class InPlace extends ObservedReader {
      override async getRange(
        key: string,
        start: number,
        length: number,
        options: RangeOptions = {},
      ): Promise<Uint8Array> {
        const { into } = options;
        // It is written bit by bit, as from a network.
        into?.fill(0);
        await new Promise((resolve) => setImmediate(resolve));
        const bytes = await super.getRange(key, start, length, options);
        if (into === undefined) return bytes;
        pieces += 1;
        used.add(into.buffer);
        into.set(bytes);
        return into;
      }
    }
    const target = new MemoryStore();
    const copy = await copyOnce(new InPlace(origin.store, new StoreTraffic()), target, { keyRing: origin.keyRing });
    expect(onlyOf(copy).error).toBeUndefined();
    expect(contentsOf(target)).toEqual(contentsOf(origin.store));
    expect(pieces).toBeGreaterThan(3);
    expect(used.size).toBe(2);
  });

  it('copies nothing twice, and takes up what is new', async () => {
    const origin = await Origin.start();
    const target = new MemoryStore();
    await copyOnce(origin.store, target);
    const traffic = new StoreTraffic();
    const nothing = onlyOf(await copyOnce(origin.store, new ObservedWriter(target, traffic)));
    expect(nothing.copy).toMatchObject({ records: 0, packs: 0, bytes: 0 });
    expect(traffic.requests).toMatchObject({ create: 0, upload: 0 });
    await origin.checkpoint('new', 400_000);
    const more = onlyOf(await copyOnce(origin.store, target));
    expect(more.copy).toMatchObject({ records: 1, head: { slot: 4 } });
    expect(contentsOf(target)).toEqual(contentsOf(origin.store));
  });

  it('asks for one LIST of a lineage when nothing is new, and nothing of the second store', async () => {
    const origin = await Origin.start();
    const [read, written] = [new StoreTraffic(), new StoreTraffic()];
    const target = new ObservedWriter(new MemoryStore(), written);
    const copy = await openCopy(new ObservedReader(origin.store, read), target);
    await copy.round({ notes: true });
    const before = { read: read.requests, written: written.requests };
    await copy.round({ notes: false });
    expect(read.requests).toEqual({ ...before.read, list: before.read.list + 1 });
    expect(written.requests).toEqual(before.written);
    await origin.checkpoint('inlined');
    await copy.round({ notes: false });
    expect(written.requests).toEqual({ ...before.written, create: before.written.create + 1 });
    expect(read.requests).toMatchObject({ list: before.read.list + 3, get: before.read.get + 1 });
  });

  it('copies a new data key before the first record that needs it', async () => {
    const origin = await Origin.start();
    const target = new MemoryStore();
    const copy = await copyOnce(origin.store, target, { keyRing: origin.keyRing });
    const { clock, store } = origin;
    const access = await origin.repository.rotateDataKey('team/app', { clock, store, random: seededRandom('rotate') });
    Object.assign(origin.pod, { access });
    origin.pod.restart();
    await origin.checkpoint('with a new key', 300_000);
    await copy.round({ notes: false });
    expect(onlyOf(copy)).toMatchObject({ error: undefined, copy: { passed: [] } });
    expect(contentsOf(target)).toEqual(contentsOf(origin.store));
    expect(await flawsOf(target, origin)).toEqual([]);
  });

  it('goes on while the source does', async () => {
    const origin = await Origin.start();
    const target = new MemoryStore();
    let more = 3;
    const faults = new Faults({
      random: seededRandom('source advances'),
      scheduler: { wait: async () => undefined, later: () => undefined },
      hook: async ({ operation, phase, key }) => {
        if (phase === 'after' && operation === 'create' && key.includes('/log/') && more-- > 0) {
          await origin.checkpoint(`meanwhile ${more}`, 300_000);
        }
      },
    });
    const copy = await openCopy(origin.store, new FaultyWriter(target, faults));
    for (let round = 0; round < 5; round++) {
      await copy.round({ notes: false });
      expect(await flawsOf(target, origin)).toEqual([]);
    }
    expect(contentsOf(target)).toEqual(contentsOf(origin.store));
  });

  it('can be made by two at once', async () => {
    const origin = await Origin.start();
    const target = new MemoryStore();
    const copies = await Promise.all([1, 2, 3].map(() => copyOnce(origin.store, target)));
    for (const copy of copies) expect(onlyOf(copy)).toMatchObject({ error: undefined, copy: { passed: [] } });
    expect(contentsOf(target)).toEqual(contentsOf(origin.store));
  });

  it('refuses a second store that is new, unless it is to begin it, and one that holds another repository', async () => {
    const origin = await Origin.start();
    const target = new MemoryStore();
    await expect(copyOnce(origin.store, target, { begin: undefined })).rejects.toMatchObject({
      code: 'E_REPOSITORY_MISSING',
      remedy: expect.stringContaining('--init'),
    });
    const making = { store: target, clock: origin.clock, random: seededRandom('another') };
    await createRepository({ keyRing: undefined, encryption: 'none' }, making);
    const before = contentsOf(target);
    await expect(copyOnce(origin.store, target)).rejects.toMatchObject({ code: 'E_REPOSITORY_EXISTS' });
    expect(contentsOf(target)).toEqual(before);
  });

  it('names a lineage that is not there', async () => {
    const origin = await Origin.start();
    const only = [lineage.replace('app', 'none') as typeof lineage];
    await expect(copyOnce(origin.store, new MemoryStore(), { only })).rejects.toMatchObject({ code: 'E_NOT_FOUND' });
  });
});

describe('a copy that is killed', () => {
  /** Stops for good at one point of a run, as a process does that is gone. */
  async function copyUntil(origin: Origin, target: MemoryStore, point: number): Promise<'done' | 'killed'> {
    let points = 0;
    let die: () => void = () => undefined;
    const dead = new Promise<'killed'>((resolve) => {
      die = () => resolve('killed');
    });
    const faults = new Faults({
      random: seededRandom('kill'),
      scheduler: { wait: async () => undefined, later: () => undefined },
      hook: async () => {
        points += 1;
        if (points < point) return;
        die();
        await new Promise(() => undefined);
      },
    });
    const source = new FaultyReader(origin.store, faults);
    const copying = copyOnce(source, new FaultyWriter(target, faults), { keyRing: origin.keyRing });
    return await Promise.race([copying.then(() => 'done' as const), dead]);
  }

  it('leaves a valid repository at every point, and the next one completes it', async () => {
    const origin = await Origin.start({ largeBytes: 8_500_000 });
    await origin.checkpoint('third', 300_000);
    const expected = contentsOf(origin.store);
    let killed = 0;
    for (let point = 1; ; point++) {
      const target = new MemoryStore();
      if ((await copyUntil(origin, target, point)) === 'done') break;
      killed += 1;
      expect(await flawsOf(target, origin), `killed at point ${point}`).toEqual([]);
      const copy = await copyOnce(origin.store, target);
      expect(onlyOf(copy), `resumed after point ${point}`).toMatchObject({ error: undefined, copy: { passed: [] } });
      const same = JSON.stringify(contentsOf(target)) === JSON.stringify(expected);
      expect(same, `equal after point ${point}`).toBe(true);
    }
    expect(killed).toBeGreaterThan(60);
  }, 240_000);
});

describe('a copy over stores that fail', () => {
  it('ends up equal, whatever replies are lost', async () => {
    const origin = await Origin.start();
    await origin.checkpoint('third', 300_000);
    const injected = new Set<string>();
    for (let seed = 0; seed < 40; seed++) {
      const target = new MemoryStore();
      const later: PendingEffect[] = [];
      const random = seededRandom(`failing ${seed}`);
      const faults = new Faults({
        random,
        scheduler: { wait: async () => undefined, later: (effect) => later.push(effect) },
        rates: {
          lostRequest: 0.04,
          lostReply: 0.08,
          doubled: 0.08,
          echoed: 0.05,
          delayed: 0.05,
          torn: 0.1,
          failed: 0.04,
        },
      });
      const [source, faulty] = [new FaultyReader(origin.store, faults), new FaultyWriter(target, faults)];
      let done = false;
      for (let attempt = 0; attempt < 200 && !done; attempt++) {
        try {
          const { error, copy } = onlyOf(await copyOnce(source, faulty));
          done = error === undefined;
          expect(copy?.passed, `seed ${seed}`).toEqual([]);
          if (error !== undefined) expect(error.code, `seed ${seed}: ${error.message}`).toMatch(/^E_STORE_/);
        } catch (error) {
          expect((error as { code?: string }).code, `seed ${seed}: ${error}`).toMatch(/^E_STORE_/);
        }
        while (later.length > 0 && (random.bytes(1)[0] as number) < 128) await later.shift()?.run();
        expect(await flawsOf(target, origin), `seed ${seed}`).toEqual([]);
      }
      for (const effect of later) await effect.run();
      expect(done, `seed ${seed}`).toBe(true);
      expect(contentsOf(target), `seed ${seed}`).toEqual(contentsOf(origin.store));
      for (const kind of faults.injected.keys()) injected.add(kind);
    }
    expect([...injected].sort()).toEqual(
      expect.arrayContaining(['delayed', 'doubled', 'echoed', 'failed', 'lostReply', 'lostRequest']),
    );
  });
});

describe('a copy of what is damaged', () => {
  it('passes a record over whose pack was changed, with the key, and keeps what it has', async () => {
    const origin = await Origin.start();
    const target = new MemoryStore();
    await copyOnce(origin.store, target, { keyRing: origin.keyRing });
    const before = contentsOf(target);
    const old = await packKeys(origin.store);
    await origin.checkpoint('third', 400_000);
    const [added] = (await packKeys(origin.store)).filter((key) => !old.includes(key));
    const bytes = await origin.store.get(added as string, { bytesMax: 1e9 });
    bytes![1000] = (bytes![1000] as number) ^ 1;
    origin.store.damage(added as string, bytes);
    const { copy, error } = onlyOf(await copyOnce(origin.store, target, { keyRing: origin.keyRing }));
    expect(error).toBeUndefined();
    expect(copy).toMatchObject({ damaged: true, passed: [{ slot: 4, reason: 'damaged' }], head: { slot: 3 } });
    const after = contentsOf(target);
    for (const [key, content] of Object.entries(before)) expect(after[key]).toBe(content);
    expect(Object.keys(after)).not.toContain(added);
    expect(await flawsOf(target, origin)).toEqual([]);
  });

  it.each([
    ['cut off', (bytes: Uint8Array) => bytes.subarray(0, bytes.length - 10)],
    ['of another beginning', (bytes: Uint8Array) => bytes.with(0, 0)],
    ['of another end', (bytes: Uint8Array) => bytes.with(-1, 0)],
    ['of another salt', (bytes: Uint8Array) => bytes.with(-64, (bytes.at(-64) as number) ^ 1)],
    ['missing', () => undefined],
  ])('finds a pack that is %s without any key', async (_, change) => {
    const origin = await Origin.start();
    const [key] = await packKeys(origin.store);
    const bytes = (await origin.store.get(key as string, { bytesMax: 1e9 })) as Uint8Array;
    origin.store.damage(key as string, change(bytes));
    const target = new MemoryStore();
    const { copy } = onlyOf(await copyOnce(origin.store, target));
    expect(copy?.passed.map(({ reason }) => reason)).toEqual(['damaged', 'damaged']);
    expect(copy?.head.slot).toBe(1);
    expect(await flawsOf(target, origin)).toEqual([]);
  });

  it('tells a record that was changed from junk that never counted', async () => {
    const origin = await Origin.start();
    const key = logKey(lineage, toSlot(2));
    const bytes = (await origin.store.get(key, { bytesMax: 1e9 })) as Uint8Array;
    origin.store.damage(key, bytes.with(60, (bytes[60] as number) ^ 1));
    await origin.store.create(logKey(lineage, toSlot(4)), utf8Bytes('junk'));
    await origin.checkpoint('above junk');
    const target = new MemoryStore();
    const { copy } = onlyOf(await copyOnce(origin.store, target));
    expect(copy?.passed).toMatchObject([
      { slot: 2, reason: 'damaged' },
      { slot: 4, reason: 'void' },
    ]);
    expect(await flawsOf(target, origin)).toEqual([]);
  });

  it('does not build on a pack of the second store that is not whole', async () => {
    const origin = await Origin.start();
    const target = new MemoryStore();
    await copyOnce(origin.store, target);
    const [key] = await packKeys(target);
    const bytes = (await target.get(key as string, { bytesMax: 1e9 })) as Uint8Array;
    target.damage(key as string, bytes.subarray(0, 100));
    await origin.checkpoint('third');
    const { copy } = onlyOf(await copyOnce(origin.store, target));
    expect(copy).toMatchObject({ damaged: true, passed: [{ slot: 4, reason: 'target-damaged' }], head: { slot: 3 } });
  });

  it('says what junk in the place of a record costs', async () => {
    const origin = await Origin.start();
    const target = new MemoryStore();
    await copyOnce(origin.store, target);
    await target.create(logKey(lineage, toSlot(4)), utf8Bytes('junk'));
    await origin.checkpoint('third');
    await origin.checkpoint('fourth', 300_000);
    const { copy } = onlyOf(await copyOnce(origin.store, target));
    // The second one needs the pack inside the first.
    expect(copy?.passed).toMatchObject([
      { slot: 4, reason: 'target-damaged' },
      { slot: 5, reason: 'target-damaged' },
    ]);
    expect(copy?.head.slot).toBe(3);
  });
});

describe('a copy while the source is collected', () => {
  it('passes over a record that went meanwhile, and copies its successor', async () => {
    const origin = await Origin.start();
    await origin.checkpoint('third', 300_000);
    const target = new MemoryStore();
    const copy = await openCopy(origin.store, target);
    // Found, and trimmed before its turn.
    await onlyOf(copy).copy?.look();
    await origin.store.delete(logKey(lineage, toSlot(2)));
    await copy.round({ notes: false });
    expect(onlyOf(copy)).toMatchObject({ error: undefined, copy: { head: { slot: 4 }, damaged: false } });
    expect(await origin.restoredRoot(target)).toBe(await origin.root());
  });

  it('takes a record whose packs collection has taken as expired, and one of the newest checkpoint as damaged', async () => {
    const origin = await Origin.start();
    origin.disk.remove('src/large');
    await origin.checkpoint('without it', 500_000);
    const [large] = (await packKeys(origin.store)).filter((key) => key.includes('/pk/2-'));
    const missing = async (): Promise<readonly string[]> => {
      const { copy } = onlyOf(await copyOnce(origin.store, new MemoryStore()));
      return copy?.passed.map(({ slot, reason }) => `${slot} ${reason}`) ?? [];
    };
    origin.store.damage(large as string, undefined);
    expect(await missing()).toEqual(['2 damaged', '3 damaged', '4 damaged']);
    await origin.store.create(decisionKey(lineage, toSlot(1)), utf8Bytes('a decision'));
    expect(await missing()).toEqual(['2 expired', '3 expired', '4 damaged']);
  });

  it('goes on from a head that was trimmed in the source', async () => {
    const origin = await Origin.start();
    const target = new MemoryStore();
    await copyOnce(origin.store, target);
    await origin.checkpoint('third');
    await origin.checkpoint('fourth');
    await origin.store.delete(logKey(lineage, toSlot(3)));
    await origin.store.delete(logKey(lineage, toSlot(4)));
    const { error, copy } = onlyOf(await copyOnce(origin.store, target));
    expect(error).toBeUndefined();
    // What was inlined in them went with them.
    expect(copy?.head.slot === 5 || copy?.damaged).toBe(true);
  });
});

describe('a second store that somebody goes on in', () => {
  it('is not written over, by a copy that runs and by one that begins', async () => {
    const origin = await Origin.start();
    const target = new MemoryStore();
    const running = await copyOnce(origin.store, target);
    await claimIn(target, origin);
    const before = contentsOf(target);
    await running.round({ notes: false });
    expect(onlyOf(running).error).toBeUndefined();
    await origin.checkpoint('third', 300_000);
    await running.round({ notes: false });
    expect(onlyOf(running)).toMatchObject({ stopped: true, error: { code: 'E_DIVERGED', details: { slot: 4 } } });
    const beginning = await copyOnce(origin.store, target);
    expect(onlyOf(beginning)).toMatchObject({ stopped: true, error: { code: 'E_DIVERGED', details: { slot: 4 } } });
    const after = contentsOf(target);
    const logOf = (contents: Readonly<Record<string, string>>) =>
      Object.entries(contents).filter(([key]) => key.includes('/log/'));
    expect(logOf(after)).toEqual(logOf(before));
  });

  it('is told by one that begins although the source has nothing new', async () => {
    const origin = await Origin.start();
    const target = new MemoryStore();
    await copyOnce(origin.store, target);
    await claimIn(target, origin);
    const copy = await copyOnce(origin.store, target);
    expect(onlyOf(copy).error).toMatchObject({ code: 'E_DIVERGED', remedy: expect.stringContaining('other way') });
  });

  it('is met in a slot that the source has passed over', async () => {
    const origin = await Origin.start();
    const target = new MemoryStore();
    const copy = await copyOnce(origin.store, target);
    await origin.store.create(logKey(lineage, toSlot(4)), utf8Bytes('junk'));
    await origin.checkpoint('above junk');
    await claimIn(target, origin);
    await copy.round({ notes: false });
    expect(onlyOf(copy)).toMatchObject({ stopped: true, error: { code: 'E_DIVERGED', details: { slot: 4 } } });
    expect(await flawsOf(target, origin)).toEqual([]);
  });

  it('is told by a data key of its own', async () => {
    const origin = await Origin.start();
    const target = new MemoryStore();
    await copyOnce(origin.store, target);
    const { clock, store, repository, keyRing } = origin;
    const { openRepository } = await import('../../../src/engine/lineage/repository.ts');
    const elsewhere = await openRepository(target, { keyRing });
    await elsewhere.rotateDataKey('team/app', { clock, store: target, random: seededRandom('there') });
    await repository.rotateDataKey('team/app', { clock, store, random: seededRandom('here') });
    const copy = await copyOnce(store, target);
    expect(onlyOf(copy)).toMatchObject({ stopped: true, error: { code: 'E_DIVERGED' } });
  });

  it('leaves other lineages alone', async () => {
    const origin = await Origin.start();
    const target = new MemoryStore();
    await copyOnce(origin.store, target);
    await target.create('v1/l/00/other/log/fffffffffe', utf8Bytes('theirs'));
    await origin.checkpoint('third');
    expect(onlyOf(await copyOnce(origin.store, target)).error).toBeUndefined();
    expect(contentsOf(target)['v1/l/00/other/log/fffffffffe']).toBeDefined();
  });
});
