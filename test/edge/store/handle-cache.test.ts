import { beforeEach, expect, test } from 'vitest';
import { HandleCache } from '../../../src/edge/store/handle-cache.ts';

/** Handles that note when they are opened and closed. */
class Handles {
  readonly log: string[] = [];

  open(key: string): () => Promise<{ key: string; close: () => Promise<void> }> {
    return async () => {
      this.log.push(`open ${key}`);
      return {
        key,
        close: async () => {
          this.log.push(`close ${key}`);
        },
      };
    };
  }
}

let handles: Handles;
let cache: HandleCache<{ key: string; close: () => Promise<void> }>;

beforeEach(() => {
  handles = new Handles();
  cache = new HandleCache(2);
});

const touch = (key: string): Promise<string> => cache.use(key, handles.open(key), async (handle) => handle.key);

test('opens once and closes what was used longest ago', async () => {
  for (const key of ['a', 'b', 'a', 'c', 'a', 'b']) expect(await touch(key)).toBe(key);
  expect(handles.log).toEqual(['open a', 'open b', 'open c', 'close b', 'open b', 'close c']);
});

test('never closes what is in use, and closes it afterwards', async () => {
  const gate = Promise.withResolvers<void>();
  const uses = ['a', 'b', 'c', 'd'].map((key) => cache.use(key, handles.open(key), () => gate.promise));
  await cache.drop('a');
  expect(await cache.closeIdle()).toBe(0);
  expect(handles.log).toEqual(['open a', 'open b', 'open c', 'open d']);
  gate.resolve();
  await Promise.all(uses);
  expect(handles.log.filter((line) => line.startsWith('close')).toSorted()).toEqual(['close a', 'close b']);
  await cache.close();
  expect(handles.log.filter((line) => line.startsWith('close')).toSorted()).toEqual([
    'close a',
    'close b',
    'close c',
    'close d',
  ]);
});

test('users at the same time share one handle', async () => {
  await Promise.all([touch('a'), touch('a'), touch('a')]);
  expect(handles.log).toEqual(['open a']);
});

test('what cannot be opened is tried again by the next user, and does not count', async () => {
  let tries = 0;
  const open = async (): Promise<never> => {
    tries += 1;
    throw new Error('no');
  };
  await expect(cache.use('a', open, async () => {})).rejects.toThrow('no');
  await expect(cache.use('a', open, async () => {})).rejects.toThrow('no');
  expect(tries).toBe(2);
  expect(await cache.closeIdle()).toBe(0);
  expect(await touch('a')).toBe('a');
});

test('a dropped handle is opened anew for the next user, while the last one still reads from the old', async () => {
  const gate = Promise.withResolvers<void>();
  const old = cache.use('a', handles.open('a'), () => gate.promise);
  await cache.drop('a');
  await touch('a');
  gate.resolve();
  await old;
  expect(handles.log).toEqual(['open a', 'open a', 'close a']);
});

test('after close nothing can be used', async () => {
  await touch('a');
  await cache.close();
  expect(handles.log).toEqual(['open a', 'close a']);
  await expect(touch('a')).rejects.toMatchObject({ code: 'E_INTERNAL' });
});
