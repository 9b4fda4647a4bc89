import { describe, expect, it } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { probeKeys, proveCreateOnly, proveOnClaim } from '../../../src/engine/lineage/prove-create-only.ts';
import type { CreateOutcome, ListOptions, ObjectInfo } from '../../../src/engine/ports/object-store.ts';
import { MemoryHolder, seededRandom, TestClock, World } from './fixture.ts';

const prove = (store: MemoryStore) => proveCreateOnly({ store, random: seededRandom('a'), clock: new TestClock() });

/** Overwrites, from the given write to one key on. */
class Overwriting extends MemoryStore {
  readonly #writes = new Map<string, number>();
  readonly #from: number;

  constructor(from: number) {
    super();
    this.#from = from;
  }

  override async create(key: string, bytes: Uint8Array): Promise<CreateOutcome> {
    const writes = (this.#writes.get(key) ?? 0) + 1;
    this.#writes.set(key, writes);
    if (writes < this.#from) return await super.create(key, bytes);
    await this.delete(key);
    return await super.create(key, bytes);
  }
}

class Forgetful extends MemoryStore {
  override async list(_prefix: string, _options?: ListOptions): Promise<readonly ObjectInfo[]> {
    return [];
  }
}

class Refusing extends MemoryStore {
  override async create(): Promise<CreateOutcome> {
    return 'exists';
  }
}

describe('the proof that a store is create-only', () => {
  it('is given by a store that is', async () => {
    const store = new MemoryStore();
    await prove(store);
    expect([...store.snapshot().keys()].map((key) => key.split('/').at(-1))).toEqual(['twice', 'race', 'verdict']);
  });

  it('asks of a store with uploads in parts that their completion is refused too', async () => {
    const parts = () => ({ store: new MemoryStore(), random: seededRandom('a'), clock: new TestClock() });
    const asked: string[] = [];
    await proveCreateOnly({
      ...parts(),
      id: 'trial',
      completeOver: async (key) => {
        asked.push(key);
        return 'exists';
      },
    });
    expect(asked).toEqual([probeKeys('trial')[0]]);
    await expect(proveCreateOnly({ ...parts(), completeOver: async () => 'created' })).rejects.toMatchObject({
      code: 'E_UNFENCED',
      details: { seen: expect.stringContaining('upload in parts') },
    });
  });

  it.each([
    ['overwrites', new Overwriting(2), 'overwritten'],
    ['overwrites when many write at once', new Overwriting(3), 'were told that they had'],
    ['does not list what was written', new Forgetful(), 'a list does not show'],
    ['says of every key that it is taken', new Refusing(), 'a fresh key was answered'],
  ])('fails on a store that %s', async (_how, store, seen) => {
    await expect(prove(store)).rejects.toMatchObject({
      code: 'E_UNFENCED',
      details: { seen: expect.stringContaining(seen) },
    });
  });
});

describe('the proof on the own CLAIM of a writer', () => {
  it('is given by a store that is create-only, costs one read and one refused write, and changes nothing', async () => {
    const world = await World.make();
    const { epoch } = await world.claim(new MemoryHolder('a'));
    const before = world.store.memory.snapshot();
    world.store.requests = { get: 0, list: 0, create: 0 };
    await proveOnClaim(world.store, world.lineage, epoch);
    expect(world.store.requests).toEqual({ get: 1, list: 0, create: 1 });
    expect(world.store.memory.snapshot()).toEqual(before);
  });

  it('fails on a store that has become one that overwrites, and leaves the CLAIM as it was', async () => {
    const world = await World.make();
    const { epoch } = await world.claim(new MemoryHolder('a'));
    const before = await world.bytesAt(epoch);
    world.store.beforeCreate = async (key) => {
      await world.store.memory.delete(key);
    };
    await expect(proveOnClaim(world.store, world.lineage, epoch)).rejects.toMatchObject({ code: 'E_UNFENCED' });
    expect(await world.bytesAt(epoch)).toEqual(before);
  });

  it('is not thrown off by a lost reply, after which the store finds our own bytes', async () => {
    const world = await World.make();
    const { epoch } = await world.claim(new MemoryHolder('a'));
    let creates = 0;
    const store = Object.assign(new MemoryStore(), {
      get: () => world.bytesAt(epoch),
      create: async (): Promise<CreateOutcome> => (++creates === 1 ? 'created' : 'exists'),
    });
    await proveOnClaim(store, world.lineage, epoch);
    expect(creates).toBe(2);
  });

  it('takes a CLAIM that is gone for damage', async () => {
    const world = await World.make();
    const { epoch } = await world.claim(new MemoryHolder('a'));
    await world.trim(epoch);
    await expect(proveOnClaim(world.store, world.lineage, epoch)).rejects.toMatchObject({ code: 'E_DAMAGED' });
  });
});
