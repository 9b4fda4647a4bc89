import type { Anchor } from '../model/anchor.ts';
import type { LineageName } from '../model/ids.ts';

/**
 * What keeps the newest known record of each lineage outside of the store. Nobody depends on it: where nothing answers, nothing is
 * expected, and what is reported is lost. Only E_ABORTED is thrown.
 */
export interface Anchors {
  /** Undefined where nothing is kept, or nobody says. A record that is committed after the question may be older news than the answer. */
  find(lineage: LineageName, options?: { readonly signal?: AbortSignal }): Promise<Anchor | undefined>;
  /**
   * kept: it, or a newer one, is kept now. refused: it does not go with what is kept, or this pod may not say it, and asking again
   * changes nothing. unanswered: nobody said anything.
   */
  report(
    lineage: LineageName,
    anchor: Anchor,
    options?: { readonly signal?: AbortSignal },
  ): Promise<'kept' | 'refused' | 'unanswered'>;
}
