import { expect, test } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';

const bytes = (...values: number[]): Uint8Array => new Uint8Array(values);

test('a snapshot holds everything, and restore brings exactly that back', async () => {
  const store = new MemoryStore();
  await store.create('v1/a', bytes(1));
  await store.create('v1/b/c', bytes(2));
  const before = await store.list('v1/');
  const snapshot = store.snapshot();

  await store.delete('v1/a');
  await store.delete('v1/b/c');
  await store.create('v1/b', bytes(3));
  await store.create('v1/d', bytes(4));
  store.restore(snapshot);

  expect(await store.list('v1/')).toEqual(before);
  expect(await store.get('v1/b/c', { bytesMax: 9 })).toEqual(bytes(2));
  // What lies above and below is known again as well.
  await expect(store.create('v1/b', bytes(5))).rejects.toMatchObject({ code: 'E_DAMAGED' });
  await store.delete('v1/b/c');
  expect(await store.create('v1/b', bytes(5))).toBe('created');
});

test('equal runs give equal stores, and time comes from the clock that is handed in', async () => {
  const times = async (store: MemoryStore): Promise<number[]> => {
    await store.create('v1/b', bytes(1));
    await store.create('v1/a', bytes(1));
    return (await store.list('v1/')).map(({ modifiedMs }) => modifiedMs);
  };
  expect(await times(new MemoryStore())).toEqual(await times(new MemoryStore()));
  let now = 500;
  expect(await times(new MemoryStore({ nowMs: () => now++ }))).toEqual([501, 500]);
});

test('damage changes or removes an object, which no request can', async () => {
  const store = new MemoryStore();
  await store.create('v1/a', bytes(1, 2, 3));
  store.damage('v1/a', bytes(1, 9, 3));
  expect(await store.get('v1/a', { bytesMax: 9 })).toEqual(bytes(1, 9, 3));
  store.damage('v1/a', undefined);
  expect(await store.get('v1/a', { bytesMax: 9 })).toBeUndefined();
  expect(() => store.damage('v1/a', undefined)).toThrow('no object v1/a');
});
