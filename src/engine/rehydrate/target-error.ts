import { HoldfastError } from '../model/errors.ts';
import { displayPath } from '../model/rel-path.ts';
import { FileTreeError } from '../ports/file-tree.ts';

/** What a failure of the target's file system means to the one who restores. */
export function targetError(error: unknown, key: Uint8Array | undefined): unknown {
  return error instanceof FileTreeError ? targetFailure(error.errno, error.operation, key, error) : error;
}

export function targetFailure(
  errno: string,
  operation: string,
  key: Uint8Array | undefined,
  cause?: unknown,
): HoldfastError {
  const path = key === undefined || key.length === 0 ? 'the target' : displayPath(key);
  const options = { cause, details: { path, errno, operation } };
  if (errno === 'ENOSPC' || errno === 'EDQUOT') {
    return new HoldfastError('E_TARGET_FULL', `no space left for ${path} (${errno})`, options);
  }
  if (errno === 'EMFILE' || errno === 'ENFILE') {
    return new HoldfastError('E_LIMIT', `too many open files at ${path}`, options);
  }
  if (errno === 'EEXIST') {
    return new HoldfastError('E_TARGET_IO', `${path} appeared in the target while it was restored`, {
      ...options,
      remedy:
        'Nothing else may write into the target meanwhile, and its file system must tell names apart as the source did (upper and lower case).',
    });
  }
  return new HoldfastError('E_TARGET_IO', `cannot write ${path}: ${operation} ${errno}`, options);
}
