/** Time comes in through the front door. */
export interface Clock {
  /** Wall clock, ms since 1970; may jump either way. */
  nowMs(): number;
  /** Never goes back; only differences mean anything, in ms. */
  monotonicMs(): number;
  /** Ends after `ms`, or rejects with E_ABORTED when the signal fires. */
  wait(ms: number, options?: { readonly signal?: AbortSignal }): Promise<void>;
}
