import { expect, test } from 'vitest';
import { errnoName, type StoreIntent, throwIfAborted, toStoreError } from '../../../src/edge/store/store-error.ts';
import { type ErrorCode, HoldfastError } from '../../../src/engine/model/errors.ts';

/** As libuv makes them; for some numbers it has no name. */
function systemError(code: string, errno: number): Error {
  return Object.assign(new Error(code), { code, errno: -errno, syscall: 'write' });
}

test.each<[string, number, StoreIntent, ErrorCode]>([
  ['ENOSPC', 28, 'write', 'E_STORE_FULL'],
  ['Unknown system error -122', 122, 'write', 'E_STORE_FULL'],
  ['EROFS', 30, 'write', 'E_STORE_READ_ONLY'],
  ['EACCES', 13, 'write', 'E_STORE_READ_ONLY'],
  ['EPERM', 1, 'write', 'E_STORE_READ_ONLY'],
  ['EACCES', 13, 'read', 'E_STORE_UNREACHABLE'],
  ['EMFILE', 24, 'read', 'E_LIMIT'],
  ['ENFILE', 23, 'write', 'E_LIMIT'],
  ['EIO', 5, 'read', 'E_STORE_IO'],
  ['Unknown system error -117', 117, 'read', 'E_STORE_IO'],
  ['ENOTDIR', 20, 'read', 'E_STORE_IO'],
  ['Unknown system error -116', 116, 'read', 'E_STORE_UNREACHABLE'],
  ['ENOTCONN', 107, 'read', 'E_STORE_UNREACHABLE'],
])('%s (%i) of a %s is %s', (name, errno, intent, code) => {
  const cause = systemError(name, errno);
  const error = toStoreError(cause, 'doing it', intent, { key: 'v1/a' });
  expect(error).toMatchObject({ code, cause, details: { key: 'v1/a' } });
  expect(error.message).toContain('doing it');
  expect(error.message).not.toContain('Unknown');
});

test('an error of our own passes as it is, any other is a defect', () => {
  const own = new HoldfastError('E_DAMAGED', 'x');
  expect(toStoreError(own, 'doing it', 'read', {})).toBe(own);
  expect(toStoreError(new TypeError('x'), 'doing it', 'read', {})).toMatchObject({ code: 'E_INTERNAL' });
});

test('errors that are none of the system have no errno', () => {
  expect(errnoName(new Error('x'))).toBeUndefined();
  expect(errnoName('ENOENT')).toBeUndefined();
  expect(errnoName(systemError('ENOENT', 2))).toBe('ENOENT');
});

test('the reason of an abort is kept', () => {
  throwIfAborted(undefined, 'doing it');
  throwIfAborted(new AbortController().signal, 'doing it');
  expect(() => throwIfAborted(AbortSignal.abort('stopped'), 'doing it')).toThrow(
    expect.objectContaining({ code: 'E_ABORTED', cause: 'stopped' }),
  );
});
