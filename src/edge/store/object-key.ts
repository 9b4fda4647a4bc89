import { HoldfastError } from '../../engine/model/errors.ts';

/**
 * Keys as every store accepts them: parts of letters, digits and a few marks, joined by slashes. No part is `.` or `..` or
 * empty, so a key never leaves its store; 255 bytes a part is what file systems hold, 1024 bytes a key is what S3 holds.
 * The first part `tmp` belongs to the directory store, which keeps its unfinished objects there.
 */
const part = /^[A-Za-z0-9._~%=@+,:!-]{1,255}$/;
const keyBytesMax = 1024;

/** Where the directory store keeps what is not yet an object; refused as the first part of a key by every store. */
export const reservedPart = 'tmp';

/** True for what may stand between two slashes of a key. */
export function isKeyPart(name: string): boolean {
  return part.test(name) && name !== '.' && name !== '..';
}

/** Refuses, with E_HOSTILE, a key that Holdfast never makes: what asks for it has been built to escape. */
export function checkObjectKey(key: string): void {
  const parts = key.split('/');
  if (key.length <= keyBytesMax && parts[0] !== reservedPart && parts.every(isKeyPart)) return;
  throw new HoldfastError('E_HOSTILE', `not a key of a store object: ${JSON.stringify(key.slice(0, keyBytesMax))}`);
}

/** The same for the prefix of a list, which ends with a slash. */
export function checkKeyPrefix(prefix: string): void {
  if (!prefix.endsWith('/')) {
    throw new HoldfastError('E_HOSTILE', `the prefix of a list has to end with a slash: ${JSON.stringify(prefix)}`);
  }
  checkObjectKey(prefix.slice(0, -1));
}
