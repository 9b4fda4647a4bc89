import { describe, expect, it } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { proveCreateOnly } from '../../../src/engine/lineage/prove-create-only.ts';
import type { CreateOutcome, ListOptions, ObjectInfo } from '../../../src/engine/ports/object-store.ts';
import { seededRandom, TestClock } from './fixture.ts';

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
