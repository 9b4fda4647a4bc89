import type { HolderId } from '../model/ids.ts';

/** Whether another holder of a lineage still exists. */
export interface Liveness {
  /**
   * `ending`: it is alive and was told to end. `gone` only when something that cannot be mistaken said so *after* this question was asked; no answer, or an answer
   * of unknown age, is `unknown` and counts as alive.
   */
  isGone(
    holder: HolderId,
    options?: {
      /** As its records name it: of a pod its name. */ readonly name?: string;
      readonly signal?: AbortSignal;
    },
  ): Promise<'gone' | 'ending' | 'unknown'>;
}
