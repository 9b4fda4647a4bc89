import { expect, it } from 'vitest';
import { requestKindOf, writesOf } from '../../bench/request-kind.ts';

it.each([
  ['PUT', '/bucket/some/key', 'PUT'],
  ['PUT', '/bucket', 'PUT'],
  ['PUT', '/bucket/key?partNumber=3&uploadId=x', 'PART'],
  ['POST', '/bucket/key?uploads', 'BEGIN'],
  ['POST', '/bucket/key?uploadId=x', 'COMPLETE'],
  ['POST', '/bucket/?delete=', 'DELETE'],
  ['DELETE', '/bucket/key', 'DELETE'],
  ['HEAD', '/bucket', 'HEAD'],
  ['GET', '/bucket/some/key', 'GET'],
  ['GET', '/bucket/?location=', 'GET'],
  ['GET', '/bucket?list-type=2&prefix=some%2F', 'LIST'],
  ['GET', '/bucket/?uploads', 'LIST'],
] as const)('takes %s %s for %s', (method, url, kind) => {
  expect(requestKindOf(method, url)).toBe(kind);
});

it('counts as writing what creates, changes or deletes', () => {
  expect(writesOf({ PUT: 1, PART: 2, BEGIN: 4, COMPLETE: 8, DELETE: 16, GET: 100, HEAD: 100, LIST: 100 })).toBe(31);
  expect(writesOf({})).toBe(0);
});
