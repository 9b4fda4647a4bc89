/** Labels of a CLAIM, by which a pod says what its volumes began with by request. */
export const claimLabels = {
  /** The value of `--restore-at` whose checkpoint they were restored from; the CLAIM names that one as its base. */
  restoreAt: 'holdfast.dev/restore-at',
  /** A value that had been honoured before, so that they were restored from the newest one. */
  restoreAtHonoured: 'holdfast.dev/restore-at-honoured',
  /** Of the first CLAIM of a fork: number of the replica slot that it was made from. */
  forkedFrom: 'holdfast.dev/forked-from',
} as const;
