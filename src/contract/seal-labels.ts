/** Labels of a SEAL, by which a holder says how its end was. */
export const sealLabels = {
  /** `quiesced`, `converged` or `fuzzy`: how the last checkpoint was found, or `none`. */
  consistency: 'holdfast.dev/end-consistency',
  /** What was in the volumes and in no checkpoint: decimal numbers. Absent where nothing was left. */
  unsavedBytes: 'holdfast.dev/unsaved-bytes',
  unsavedFiles: 'holdfast.dev/unsaved-files',
  /** The newest checkpoint holds everything up to so long before the end. */
  unsavedSeconds: 'holdfast.dev/unsaved-seconds',
} as const;
