import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { readBody } from '../../../../src/edge/store/s3/read-body.ts';
import { TruncatedBody } from '../../../../src/edge/store/s3/truncated-body.ts';

const pieces = (...sizes: number[]): Readable =>
  Readable.from(
    sizes.map((size, i) => Buffer.alloc(size, i + 1)),
    { objectMode: false },
  );

test('a body is read behind what is there already, and how far it has come is told', async () => {
  const target = new Uint8Array(6);
  const reached: number[] = [];
  await readBody(pieces(2, 3), target, 1, (at) => reached.push(at));
  expect([...target]).toEqual([0, 1, 1, 2, 2, 2]);
  expect(reached).toEqual([3, 6]);
});

test('a body that ends early, though in order, is truncated', async () => {
  const body = pieces(2, 3);
  await expect(readBody(body, new Uint8Array(6), 0, () => undefined)).rejects.toThrow(TruncatedBody);
  expect(body.destroyed).toBe(true);
});

test('a body that does not end where it should writes nothing beyond', async () => {
  const memory = new Uint8Array(8);
  const body = pieces(2, 3);
  await expect(readBody(body, memory.subarray(0, 4), 0, () => undefined)).rejects.toThrow(TruncatedBody);
  expect([...memory]).toEqual([1, 1, 0, 0, 0, 0, 0, 0]);
  expect(body.destroyed).toBe(true);
});
