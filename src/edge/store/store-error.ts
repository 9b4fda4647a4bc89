import { type ErrorCode, type ErrorOptions, HoldfastError } from '../../engine/model/errors.ts';

/** What failed: reading what is there, or changing the store. The same refusal of rights needs different remedies. */
export type StoreIntent = 'read' | 'write';

// Numbers for which libuv has no name on Linux.
const namesOfErrnos: Readonly<Record<number, string>> = { 116: 'ESTALE', 117: 'EUCLEAN', 122: 'EDQUOT' };

const codes: Readonly<Record<string, ErrorCode>> = {
  ENOSPC: 'E_STORE_FULL',
  EDQUOT: 'E_STORE_FULL',
  EROFS: 'E_STORE_READ_ONLY',
  EACCES: 'E_STORE_READ_ONLY',
  EPERM: 'E_STORE_READ_ONLY',
  EMFILE: 'E_LIMIT',
  ENFILE: 'E_LIMIT',
  ENOMEM: 'E_LIMIT',
  EFBIG: 'E_LIMIT',
  // Of network and user-space file systems whose server went away.
  ESTALE: 'E_STORE_UNREACHABLE',
  ENOTCONN: 'E_STORE_UNREACHABLE',
  EHOSTDOWN: 'E_STORE_UNREACHABLE',
  EHOSTUNREACH: 'E_STORE_UNREACHABLE',
  ETIMEDOUT: 'E_STORE_UNREACHABLE',
  ENODEV: 'E_STORE_UNREACHABLE',
};

/** Symbolic errno of a file system error, or undefined for any other error. */
export function errnoName(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return undefined;
  const errno = 'errno' in error && typeof error.errno === 'number' ? -error.errno : 0;
  return namesOfErrnos[errno] ?? error.code;
}

/**
 * The error of the store port for what a file system call threw; a HoldfastError passes as it is. `doing` completes the
 * sentence "the store failed while …".
 */
export function toStoreError(
  error: unknown,
  doing: string,
  intent: StoreIntent,
  details: Readonly<Record<string, unknown>>,
): HoldfastError {
  if (error instanceof HoldfastError) return error;
  const errno = errnoName(error);
  if (errno === undefined) {
    return new HoldfastError('E_INTERNAL', `unexpected failure while ${doing}`, { cause: error, details });
  }
  const options: ErrorOptions = { cause: error, details: { ...details, errno } };
  if (intent === 'read' && (errno === 'EACCES' || errno === 'EPERM')) {
    return new HoldfastError('E_STORE_UNREACHABLE', `no right to read the store while ${doing} (${errno})`, {
      ...options,
      remedy: 'Give this user the right to read the store (its directories and files), then run the command again.',
    });
  }
  return new HoldfastError(codes[errno] ?? 'E_STORE_IO', `the store failed while ${doing} (${errno})`, options);
}

/** Ends an operation whose caller has given up. */
export function throwIfAborted(signal: AbortSignal | undefined, doing: string): void {
  if (signal?.aborted) throw new HoldfastError('E_ABORTED', `interrupted while ${doing}`, { cause: signal.reason });
}

/** What is in the way of a key, or of the directory of a key, is no object: a directory, another object, a link, a pipe. */
export function notAnObject(key: string): HoldfastError {
  return new HoldfastError(
    'E_DAMAGED',
    `something else than an object stands at ${key} in the store, or on the way to it`,
    {
      details: { key },
      remedy: 'Something other than Holdfast has changed the store; move that file, link or directory out of it.',
    },
  );
}
