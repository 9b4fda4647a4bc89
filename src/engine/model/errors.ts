/**
 * The one error type of Holdfast. An error tells its reader what to do: decide on `code` and `kind`, never on the text.
 * The catalogue below is compared with docs/errors.md by a test.
 */

/** How the one who gets the error should react. */
export type ErrorKind = 'retry' | 'settings' | 'repair' | 'upgrade' | 'report' | 'decide';

export interface ErrorInfo {
  readonly kind: ErrorKind;
  /** Exit code of a process that ends with this error; distinct per reaction a script may want to take. */
  readonly exit: number;
  readonly remedy: string;
}

export type ErrorCode =
  | 'E_USAGE'
  | 'E_INCOMPLETE'
  | 'E_STORE_UNREACHABLE'
  | 'E_STORE_READ_ONLY'
  | 'E_STORE_FULL'
  | 'E_STORE_IO'
  | 'E_STORE_CREDENTIALS'
  | 'E_REPOSITORY_MISSING'
  | 'E_REPOSITORY_EXISTS'
  | 'E_KEY_MISSING'
  | 'E_KEY_WRONG'
  | 'E_ENCRYPTION_MISMATCH'
  | 'E_FORMAT_NEWER'
  | 'E_LINEAGE_HELD'
  | 'E_FENCED'
  | 'E_DIVERGED'
  | 'E_NOT_FOUND'
  | 'E_EXPECTED_MISSING'
  | 'E_DAMAGED'
  | 'E_TARGET_NOT_EMPTY'
  | 'E_TARGET_IO'
  | 'E_TARGET_FULL'
  | 'E_SOURCE_UNREADABLE'
  | 'E_LIMIT'
  | 'E_STATE_DIR'
  | 'E_HOSTILE'
  | 'E_UNFENCED'
  | 'E_LOST'
  | 'E_TARGET_NOT_DIRECTORY'
  | 'E_UNHEALTHY'
  | 'E_SUSPECT'
  | 'E_BLOCKED'
  | 'E_POD_GONE'
  | 'E_CLUSTER_UNREACHABLE'
  | 'E_CLUSTER_REFUSED'
  | 'E_ABORTED'
  | 'E_INTERNAL';

/** Every code with its reaction, exit code and remedy; docs/errors.md lists the same. */
export const errorCatalogue: Readonly<Record<ErrorCode, ErrorInfo>> = {
  E_USAGE: { kind: 'settings', exit: 2, remedy: 'Read the help of the command: holdfast help COMMAND.' },
  E_INCOMPLETE: {
    kind: 'decide',
    exit: 3,
    remedy: 'The result was stored or restored as far as possible; read the listed names and reasons.',
  },
  E_STORE_UNREACHABLE: {
    kind: 'retry',
    exit: 4,
    remedy: 'Check that the store exists, is mounted and reachable, then run the command again; nothing was lost.',
  },
  E_STORE_READ_ONLY: {
    kind: 'settings',
    exit: 5,
    remedy: 'Give this user the right to create objects in the store, or mount it read-write.',
  },
  E_STORE_FULL: {
    kind: 'retry',
    exit: 6,
    remedy: 'Free or add space in the store, then run the command again; committed checkpoints are untouched.',
  },
  E_STORE_IO: {
    kind: 'retry',
    exit: 7,
    remedy: 'The store failed while reading or writing; check its disk or network, then run the command again.',
  },
  E_STORE_CREDENTIALS: {
    kind: 'settings',
    exit: 29,
    remedy: 'The store does not accept the credentials: check that they are those of this store and have not expired.',
  },
  E_REPOSITORY_MISSING: {
    kind: 'settings',
    exit: 8,
    remedy: 'Check the store address; make a new repository with: holdfast init --store STORE --key-file FILE.',
  },
  E_REPOSITORY_EXISTS: {
    kind: 'settings',
    exit: 9,
    remedy: 'This store already holds a repository; use it, or choose another store address.',
  },
  E_KEY_MISSING: {
    kind: 'settings',
    exit: 10,
    remedy: 'Give the repository key with --key-file FILE or HOLDFAST_KEY_FILE; without it nothing can be read.',
  },
  E_KEY_WRONG: {
    kind: 'settings',
    exit: 11,
    remedy: 'This key does not open this repository; find the key file made by holdfast init for it.',
  },
  E_ENCRYPTION_MISMATCH: {
    kind: 'settings',
    exit: 12,
    remedy:
      'A repository is encrypted or it is not: give --key-file for an encrypted one, and leave it out for one without encryption.',
  },
  E_FORMAT_NEWER: {
    kind: 'upgrade',
    exit: 13,
    remedy: 'This repository or object was written by a newer Holdfast; upgrade this one.',
  },
  E_LINEAGE_HELD: {
    kind: 'decide',
    exit: 14,
    remedy: 'Another holder has not sealed this lineage. If it is gone for good, run again with --take.',
  },
  E_FENCED: {
    kind: 'decide',
    exit: 15,
    remedy: 'A successor took over this lineage; nothing of this run became visible. Check which writer should go on.',
  },
  E_DIVERGED: {
    kind: 'decide',
    exit: 16,
    remedy:
      'Another holder committed after this one. Restore the newest checkpoint, or keep both histories by using a new --lineage.',
  },
  E_NOT_FOUND: {
    kind: 'settings',
    exit: 17,
    remedy: 'Look up what exists with: holdfast ls.',
  },
  E_EXPECTED_MISSING: {
    kind: 'decide',
    exit: 18,
    remedy:
      'The lineage has been claimed but holds no good checkpoint; look at it with holdfast ls before starting empty.',
  },
  E_DAMAGED: {
    kind: 'repair',
    exit: 19,
    remedy:
      'Restore from another checkpoint or a second copy; find the whole damage with: holdfast verify --read-data.',
  },
  E_TARGET_NOT_EMPTY: {
    kind: 'decide',
    exit: 20,
    remedy: 'Choose an empty target, or say --on-existing keep or --on-existing replace.',
  },
  E_TARGET_IO: {
    kind: 'retry',
    exit: 21,
    remedy: 'The target could not be written; mend the cause and run the same command again, it resumes.',
  },
  E_TARGET_FULL: {
    kind: 'retry',
    exit: 22,
    remedy: 'The target has no space or inodes left; free some and run the same command again, it resumes.',
  },
  E_SOURCE_UNREADABLE: {
    kind: 'settings',
    exit: 23,
    remedy: 'The directory to checkpoint is missing or cannot be opened; check the path and the rights.',
  },
  E_LIMIT: {
    kind: 'settings',
    exit: 24,
    remedy: 'A limit of the process was met (open files, memory, size); raise it and run again.',
  },
  E_STATE_DIR: {
    kind: 'settings',
    exit: 25,
    remedy: 'The state directory cannot be used; give a writable one with --state-dir.',
  },
  E_HOSTILE: {
    kind: 'repair',
    exit: 26,
    remedy:
      'The checkpoint holds content that no Holdfast writes (paths, counts or lengths); nothing outside the target was touched.',
  },
  E_UNFENCED: {
    kind: 'settings',
    exit: 27,
    remedy:
      'This store does not honour create-only writes, so two writers could overwrite each other; use another store.',
  },
  E_LOST: {
    kind: 'repair',
    exit: 28,
    remedy:
      'All but what the store has lost was restored; take what is named from another checkpoint or a second copy.',
  },
  E_TARGET_NOT_DIRECTORY: {
    kind: 'settings',
    exit: 30,
    remedy: 'Name a directory, or a path that does not exist yet; nothing was touched.',
  },
  E_UNHEALTHY: {
    kind: 'settings',
    exit: 31,
    remedy: 'A check of holdfast doctor has failed; each failed line says what to do.',
  },
  E_SUSPECT: {
    kind: 'decide',
    exit: 32,
    remedy:
      'The checkpoint is complete, but holds much less than the last good one: bring back what is lost, or release it with holdfast ack.',
  },
  E_BLOCKED: {
    kind: 'decide',
    exit: 33,
    remedy: 'Bring the data back, or choose what to start with; until then nothing starts.',
  },
  E_POD_GONE: {
    kind: 'decide',
    exit: 36,
    remedy:
      'The pod of this process was deleted from the cluster and does not write any more; its successor goes on. Nothing has to be done.',
  },
  E_CLUSTER_UNREACHABLE: {
    kind: 'retry',
    exit: 34,
    remedy: 'Check the way to the API server (address, network policy, proxy), then run the command again.',
  },
  E_CLUSTER_REFUSED: {
    kind: 'settings',
    exit: 35,
    remedy: 'The API server refuses it: give this identity the right that is named, or make what is missing.',
  },
  E_ABORTED: {
    kind: 'retry',
    exit: 130,
    remedy: 'The run was interrupted; run it again, it goes on from what was kept.',
  },
  E_INTERNAL: {
    kind: 'report',
    exit: 70,
    remedy: 'This is a defect of Holdfast; please report it with the output of the command.',
  },
};

export interface ErrorOptions {
  readonly cause?: unknown;
  /** Machine-readable facts: object keys, paths, counts. Never secrets, never file contents. */
  readonly details?: Readonly<Record<string, unknown>>;
  /** Replaces the catalogue's remedy where the place of failure knows a better one. */
  readonly remedy?: string;
}

export class HoldfastError extends Error {
  override readonly name = 'HoldfastError';
  readonly code: ErrorCode;
  readonly kind: ErrorKind;
  readonly exit: number;
  readonly remedy: string;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    const info: ErrorInfo = errorCatalogue[code];
    this.code = code;
    this.kind = info.kind;
    this.exit = info.exit;
    this.remedy = options.remedy ?? info.remedy;
    this.details = options.details ?? {};
  }
}

/** True when `error` is a HoldfastError, of one of `codes` when any are given. */
export function isHoldfastError(error: unknown, ...codes: ErrorCode[]): error is HoldfastError {
  return error instanceof HoldfastError && (codes.length === 0 || codes.includes(error.code));
}

/** Ends the operation on a defect of our own; always on. Never used for what the world does wrong. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new HoldfastError('E_INTERNAL', `invariant broken: ${message}`);
}
