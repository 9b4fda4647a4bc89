import { expect, test } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import {
  ObservedReader,
  ObservedSweeper,
  ObservedWriter,
  StoreTraffic,
} from '../../../src/edge/store/observed-store.ts';

test('counts requests by kind, failed ones too, and the bytes both ways', async () => {
  const store = new MemoryStore();
  const traffic = new StoreTraffic();
  const writer = new ObservedWriter(store, traffic);
  const reader = new ObservedReader(store, traffic);
  const sweeper = new ObservedSweeper(store, traffic);

  await writer.create('v1/a', new Uint8Array(100));
  await writer.create('v1/a', new Uint8Array(30));
  const upload = await writer.beginUpload('v1/b');
  await upload.append(new Uint8Array(5));
  await upload.append(new Uint8Array(6));
  await upload.commit();
  await (await writer.beginUpload('v1/c')).abort();
  await reader.get('v1/a', { bytesMax: 100 });
  await reader.get('v1/none', { bytesMax: 100 });
  await reader.getRange('v1/a', 10, 20);
  await expect(reader.getRange('v1/none', 10, 20)).rejects.toThrow();
  await reader.list('v1/');
  await writer.stat('v1/a');
  await sweeper.delete('v1/a');

  expect(traffic.requests).toEqual({ create: 2, delete: 1, get: 2, list: 1, range: 2, stat: 1, upload: 2 });
  expect(traffic.bytesWritten).toBe(141);
  expect(traffic.bytesRead).toBe(120);
  expect((await store.list('v1/')).map(({ key }) => key)).toEqual(['v1/b']);
});

test('what other threads counted can be added', () => {
  const [one, other] = [new StoreTraffic(), new StoreTraffic()];
  one.count('get');
  other.count('get');
  other.count('list');
  other.countRead(10);
  other.countWritten(20);
  const { requests, bytesRead, bytesWritten } = other;
  one.add(structuredClone({ requests, bytesRead, bytesWritten }));
  expect(one.requests).toMatchObject({ get: 2, list: 1, create: 0 });
  expect([one.bytesRead, one.bytesWritten]).toEqual([10, 20]);
});

test('the counts taken do not change afterwards', () => {
  const traffic = new StoreTraffic();
  const before = traffic.requests;
  traffic.count('get');
  expect(before.get).toBe(0);
});
