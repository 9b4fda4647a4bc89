/** Which of the `--include` globs found nothing: mistyped ones would otherwise leave files out in silence. */
import type { Selection } from '../engine/capture/select.ts';
import { globExpression, matchesAtOrBelow } from '../engine/model/glob.ts';

export class MatchedGlobs {
  readonly #pending: Map<string, RegExp>;

  /** E_USAGE for a broken pattern. */
  constructor(patterns: readonly string[]) {
    this.#pending = new Map(patterns.map((pattern) => [pattern, globExpression(pattern)]));
  }

  /** The same selection, looked at while it is asked. */
  watch(selection: Selection): Selection {
    if (this.#pending.size === 0) return selection;
    return {
      ...selection,
      selects: (key, isDirectory) => {
        const selected = selection.selects(key, isDirectory);
        if (!selected) return false;
        for (const [pattern, expression] of this.#pending) {
          if (matchesAtOrBelow(expression, key)) this.#pending.delete(pattern);
        }
        return true;
      },
    };
  }

  get unmatched(): readonly string[] {
    return [...this.#pending.keys()];
  }
}
