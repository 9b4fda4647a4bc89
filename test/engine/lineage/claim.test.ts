import { describe, expect, it } from 'vitest';
import { lookFirst, noteRestored } from '../../../src/engine/lineage/claim.ts';
import { Rebased } from '../../../src/engine/lineage/lineage-writer.ts';
import { utf8Bytes } from '../../../src/engine/model/bytes.ts';
import { toHolderId, toSlot } from '../../../src/engine/model/ids.ts';
import { checkpoint, Killed, MemoryHolder, World } from './fixture.ts';

describe('claiming a lineage', () => {
  it('of nobody makes the first CLAIM, and its writer has no base', async () => {
    const world = await World.make();
    const writer = await world.claim(new MemoryHolder('a'));
    expect(writer).toMatchObject({ epoch: 1, slot: 2, base: undefined });
    const { header } = await world.recordAt(1);
    expect(header).toMatchObject({
      kind: 'CLAIM',
      epoch: 1,
      holder: 'a',
      holderName: 'pod of a',
      previousClaim: 0,
      base: undefined,
      predecessor: undefined,
    });
  });

  it('again by the same holder reuses the claim, also after a SEAL', async () => {
    const world = await World.make();
    const holder = new MemoryHolder('a');
    const first = await world.claim(holder);
    const committed = await checkpoint(first);
    const second = await world.claim(holder);
    expect(second).toMatchObject({ epoch: 1, slot: 3, newest: { slot: 2, digest: committed.digest } });
    await second.seal();
    const third = await world.claim(holder);
    expect(third).toMatchObject({ epoch: 1, slot: 4 });
    await checkpoint(third);
    expect(await world.story()).toEqual(['1 CLAIM of a', '2 CHECKPOINT of a', '3 SEAL of a', '4 CHECKPOINT of a']);
  });

  it('costs few requests, however long the log is and however many held it before', async () => {
    const world = await World.make();
    const holder = new MemoryHolder('a');
    const writer = await world.claim(holder);
    for (let i = 0; i < 30; i++) await checkpoint(writer);
    world.store.requests = { get: 0, list: 0, create: 0 };
    await world.claim(holder);
    expect(world.store.requests).toEqual({ get: 1, list: 1, create: 0 });
    await writer.seal();
    world.store.requests = { get: 0, list: 0, create: 0 };
    await world.claim(new MemoryHolder('b'));
    // The head and its checkpoint, which is the base, and the log again once the CLAIM stands.
    expect(world.store.requests).toEqual({ get: 2, list: 2, create: 1 });
  });

  it('from a look at the log that is older than what this holder has done since looks again', async () => {
    const world = await World.make();
    const holder = new MemoryHolder('a');
    const before = await world.claim(holder);
    const look = lookFirst(world.store, world.lineage, {});
    await look.newest;
    const { slot, digest } = await checkpoint(before);
    world.store.requests = { get: 0, list: 0, create: 0 };
    expect(await world.claim(holder, { look })).toMatchObject({ epoch: 1, slot: 3, newest: { slot, digest } });
    expect(world.store.requests).toEqual({ get: 1, list: 1, create: 0 });
  });

  it('from a look at the log that is older than what others have done since takes the slot above theirs', async () => {
    const world = await World.make();
    const look = lookFirst(world.store, world.lineage, {});
    await look.newest;
    const other = await world.claim(new MemoryHolder('b'));
    await checkpoint(other);
    await other.seal();
    const writer = await world.claim(new MemoryHolder('a'), { look });
    expect(writer).toMatchObject({ epoch: 4, slot: 5, base: { record: { header: { slot: 2 } } } });
    expect(await world.story()).toEqual(['1 CLAIM of b', '2 CHECKPOINT of b', '3 SEAL of b', '4 CLAIM of a']);
  });

  it('of a sealed lineage names its newest good checkpoint as base, and takes its newest as the base of the writer', async () => {
    const world = await World.make();
    const writer = await world.claim(new MemoryHolder('a'));
    const good = await checkpoint(writer);
    const suspect = await checkpoint(writer, { suspect: true, content: 'shrunk' });
    await writer.seal();
    const next = await world.claim(new MemoryHolder('b'));
    expect(next.base?.record.header.id).toEqual(suspect.id);
    const { header } = await world.recordAt(5);
    expect(header).toMatchObject({
      kind: 'CLAIM',
      epoch: 5,
      previousClaim: 1,
      base: { slot: good.slot, digest: good.digest },
      predecessor: { slot: 4 },
    });
    await checkpoint(next);
    expect(await world.story()).toContain('6 CHECKPOINT of b');
  });

  it('over a chosen base tells a loss by that one until the epoch has a good checkpoint, also when the claim is used again', async () => {
    const world = await World.make();
    const writer = await world.claim(new MemoryHolder('a'));
    const chosen = await checkpoint(writer, { content: 'small' });
    await checkpoint(writer, { content: 'large' });
    await writer.seal();
    const holder = new MemoryHolder('b');
    const base = await world.recordAt(chosen.slot);
    const first = await world.claim(holder, { base });
    expect(first.base?.good?.record.header.slot).toBe(chosen.slot);
    await checkpoint(first, { suspect: true, content: 'torn' });
    const again = await world.claim(holder);
    expect(again).toMatchObject({ epoch: first.epoch, base: { good: { record: { header: { slot: chosen.slot } } } } });
    const good = await checkpoint(again, { content: 'whole' });
    await checkpoint(again, { suspect: true, content: 'empty' });
    expect((await world.claim(holder)).base?.good?.record.header.slot).toBe(good.slot);
  });

  it('that another holder has not sealed is refused without take, and with it the other is fenced', async () => {
    const world = await World.make();
    const a = await world.claim(new MemoryHolder('a'));
    await checkpoint(a);
    const b = new MemoryHolder('b');
    await expect(world.claim(b)).rejects.toMatchObject({
      code: 'E_LINEAGE_HELD',
      message: expect.stringContaining('pod of a'),
    });
    const taken = await world.claim(b, { take: true });
    expect(taken).toMatchObject({ epoch: 3, slot: 4 });
    await expect(checkpoint(a)).rejects.toMatchObject({ code: 'E_FENCED' });
    await expect(a.seal()).rejects.toMatchObject({ code: 'E_FENCED' });
    await checkpoint(taken);
    // The one that was fenced is told why it cannot go on, until it has restored what came after it.
    const again = new MemoryHolder('a');
    again.state = { ...again.state, claims: [{ slot: toSlot(1), id: (await world.recordAt(1)).header.id }] };
    await expect(world.claim(again)).rejects.toMatchObject({ code: 'E_LINEAGE_HELD' });
    await expect(world.claim(again, { take: true })).rejects.toMatchObject({ code: 'E_DIVERGED' });
    await noteRestored(again, toSlot(4));
    expect(await world.claim(again, { take: true })).toMatchObject({ epoch: 5 });
  });

  it('by a pod that never claimed takes over at once; the superseded one gets it back only over holders that are gone', async () => {
    const world = await World.make();
    const [a, b] = [new MemoryHolder('a'), new MemoryHolder('b')];
    const first = await world.claim(a, { policy: 'pod' });
    await checkpoint(first);
    await world.claim(b, { policy: 'pod', used: false });
    await expect(world.claim(a, { policy: 'pod' })).rejects.toMatchObject({ code: 'E_LINEAGE_HELD' });
    world.liveness.gone.add(toHolderId('b'));
    const back = await world.claim(a, { policy: 'pod' });
    expect(back).toMatchObject({ epoch: 4, base: { record: { header: { slot: 2 } } } });
  });

  it('asks whether a holder is gone only after reading its CLAIM, and no answer means alive', async () => {
    const world = await World.make();
    await world.claim(new MemoryHolder('a'));
    const order: string[] = [];
    const { store } = world;
    const get = store.get.bind(store);
    store.get = async (key, options) => {
      if (key.includes('/log/')) order.push('read');
      return await get(key, options);
    };
    world.liveness.isGone = async () => {
      order.push('asked');
      return 'unknown';
    };
    await expect(world.claim(new MemoryHolder('b'))).rejects.toMatchObject({ code: 'E_LINEAGE_HELD' });
    expect(order).toEqual(['read', 'asked']);
  });

  it('is diverged when a pod that is gone committed over an app of mine, however long ago', async () => {
    const world = await World.make();
    const [a, b, c] = [new MemoryHolder('a'), new MemoryHolder('b'), new MemoryHolder('c')];
    await checkpoint(await world.claim(a, { policy: 'pod' }));
    const second = await world.claim(b, { policy: 'pod' });
    await checkpoint(second);
    await second.seal();
    await world.claim(c, { policy: 'pod' });
    for (const holder of ['b', 'c']) world.liveness.gone.add(toHolderId(holder));
    await expect(world.claim(a, { policy: 'pod' })).rejects.toMatchObject({
      code: 'E_DIVERGED',
      details: { holder: 'b', epoch: 3, committed: 4 },
    });
    expect(await world.claim(a, { policy: 'pod', used: false })).toMatchObject({ epoch: 7 });
  });

  it('by a pod that lost its memory finds its own claim by walking the chain of claims', async () => {
    const world = await World.make();
    await checkpoint(await world.claim(new MemoryHolder('a'), { policy: 'pod' }));
    await world.claim(new MemoryHolder('b'), { policy: 'pod' });
    const forgetful = new MemoryHolder('a');
    await expect(world.claim(forgetful, { policy: 'pod' })).rejects.toMatchObject({ code: 'E_LINEAGE_HELD' });
    expect(await world.claim(forgetful, { policy: 'pod', used: false })).toMatchObject({ epoch: 4 });
  });

  it('remembers slot and record id before each request', async () => {
    const world = await World.make();
    const holder = new MemoryHolder('a');
    let seen = 0;
    world.store.beforeCreate = async (_, bytes) => {
      const slot = holder.state.last?.slot ?? toSlot(0);
      const reading = world.log.readBytes(slot, bytes);
      expect(reading.valid && holder.state.last?.ids.at(-1)).toEqual(reading.valid && reading.record.header.id);
      if (reading.valid && reading.record.header.kind === 'CLAIM') expect(holder.state.claims.at(-1)?.slot).toBe(slot);
      seen++;
    };
    const writer = await world.claim(holder);
    await checkpoint(writer);
    await writer.seal();
    expect(seen).toBe(3);
  });

  it('is not tried when the private directory cannot be written', async () => {
    const world = await World.make();
    const holder = new MemoryHolder('a');
    holder.save = () => Promise.reject(new Error('disk full'));
    await expect(world.claim(holder)).rejects.toThrow('disk full');
    expect(await world.story()).toEqual([]);
  });
});

describe('a CLAIM whose fate is unclear', () => {
  it('counts when only the reply was lost', async () => {
    const world = await World.make();
    world.store.script = ['lostReply'];
    expect(await world.claim(new MemoryHolder('a'))).toMatchObject({ epoch: 1, slot: 2 });
    expect(await world.story()).toEqual(['1 CLAIM of a']);
  });

  it('is sent again when it never arrived', async () => {
    const world = await World.make();
    world.store.script = ['lostRequest', 'lostRequest'];
    expect(await world.claim(new MemoryHolder('a'))).toMatchObject({ epoch: 1 });
    expect(world.clock.waits).toEqual([100, 200]);
  });

  it('of a killed process that lands later is found and reused, not fenced by', async () => {
    const world = await World.make();
    const holder = new MemoryHolder('a');
    world.store.script = ['killed'];
    await expect(world.claim(holder)).rejects.toThrow(Killed);
    world.store.beforeCreate = async () => {
      world.store.beforeCreate = undefined;
      await world.store.land();
    };
    const writer = await world.claim(holder);
    expect(writer).toMatchObject({ epoch: 1, slot: 2 });
    expect(await world.story()).toEqual(['1 CLAIM of a']);
  });
});

describe('two claimants', () => {
  it('at once: exactly one epoch survives, and the other can commit nothing', async () => {
    for (const take of [false, true]) {
      const world = await World.make();
      const first = await world.claim(new MemoryHolder('old'));
      await checkpoint(first);
      await first.seal();
      const [a, b] = [new MemoryHolder('a'), new MemoryHolder('b')];
      // b claims after a has looked at the log, and before a's own request.
      let other: Promise<unknown> | undefined;
      world.store.beforeCreate = async () => {
        world.store.beforeCreate = undefined;
        other = world.claim(b, { take });
        await other;
      };
      await expect(world.claim(a, { take })).rejects.toMatchObject({ code: 'E_LINEAGE_HELD' });
      await other;
      expect((await world.story()).slice(3)).toEqual(['4 CLAIM of b']);
    }
  });

  it('one right after the other: the earlier sees itself superseded by its second LIST', async () => {
    const world = await World.make();
    const [a, b] = [new MemoryHolder('a'), new MemoryHolder('b')];
    const { store } = world;
    const create = store.create.bind(store);
    store.create = async (key, bytes, options) => {
      store.create = create;
      const outcome = await create(key, bytes, options);
      await world.claim(b, { policy: 'pod' });
      return outcome;
    };
    await expect(world.claim(a, { policy: 'pod' })).rejects.toMatchObject({ code: 'E_LINEAGE_HELD' });
    expect(await world.story()).toEqual(['1 CLAIM of a', '2 CLAIM of b']);
  });

  it('both taking from a third: the one that the other did not know of wins, and they do not take turns for ever', async () => {
    const world = await World.make();
    await checkpoint(await world.claim(new MemoryHolder('old')));
    const [a, b] = [new MemoryHolder('a'), new MemoryHolder('b')];
    const { store } = world;
    const create = store.create.bind(store);
    store.create = async (key, bytes, options) => {
      store.create = create;
      const outcome = await create(key, bytes, options);
      await world.claim(b, { take: true });
      return outcome;
    };
    await expect(world.claim(a, { take: true })).rejects.toMatchObject({ code: 'E_LINEAGE_HELD' });
    expect((await world.story()).slice(2)).toEqual(['3 CLAIM of a', '4 CLAIM of b']);
  });
});

describe('a claim that falls into a gap left by trimming', () => {
  it('is void, and is made again above the real head', async () => {
    const world = await World.make();
    const old = await world.claim(new MemoryHolder('a'));
    await checkpoint(old);
    const { store } = world;
    const create = store.create.bind(store);
    // While b sleeps between its LIST and its CLAIM at slot 3, a commits 3 to 6, seals, and 3 to 5 are trimmed.
    store.create = async (key, bytes, options) => {
      store.create = create;
      for (let i = 0; i < 4; i++) await checkpoint(old);
      await old.seal();
      await world.trim(3, 4, 5);
      return await create(key, bytes, options);
    };
    const b = new MemoryHolder('b');
    const writer = await world.claim(b, { policy: 'pod' });
    expect(writer).toMatchObject({ epoch: 8, slot: 9, base: { record: { header: { slot: 6 } } } });
    expect(await world.story()).toEqual([
      '1 CLAIM of a',
      '2 CHECKPOINT of a',
      '6 CHECKPOINT of a',
      '7 SEAL of a',
      '8 CLAIM of b',
    ]);
    expect(b.state.claims.map(({ slot }) => Number(slot))).toContain(8);
    await checkpoint(writer);
    expect(b.state.claims.map(({ slot }) => Number(slot))).toEqual([8]);
  });
});

describe('junk at the head', () => {
  it('is skipped by a claim, fences nobody and is never counted', async () => {
    const world = await World.make();
    const other = await World.make({ lineage: 'team/app/1' });
    const sibling = await other.claim(new MemoryHolder('s'));
    await checkpoint(sibling);
    const a = await world.claim(new MemoryHolder('a'));
    await checkpoint(a);
    await a.seal();
    await world.put(4, utf8Bytes('junk'));
    await world.put(5, (await world.bytesAt(2))!.subarray(0, 100));
    await world.put(6, (await other.bytesAt(2))!);
    await world.put(7, (await world.bytesAt(2))!);
    await world.put(9, new Uint8Array(3_000_000));
    const b = await world.claim(new MemoryHolder('b'));
    expect(b).toMatchObject({ epoch: 8, slot: 9, base: { record: { header: { slot: 2 } } } });
    expect((await world.recordAt(8)).header).toMatchObject({ previousClaim: 1, predecessor: { slot: 3 } });
    await expect(checkpoint(b)).rejects.toThrow(Rebased);
    expect(b.slot).toBe(10);
    await checkpoint(b);
    expect((await world.story()).slice(3)).toEqual(['8 CLAIM of b', '10 CHECKPOINT of b']);
  });

  it('in an empty log does not keep anybody from claiming', async () => {
    const world = await World.make();
    await world.put(1, utf8Bytes('junk'));
    await world.put(2, utf8Bytes('junk'));
    expect(await world.claim(new MemoryHolder('a'))).toMatchObject({ epoch: 3, slot: 4 });
  });
});
