/**
 * Which names of a volume belong to the checkpoint: globs over the path inside the volume, see model/glob.ts.
 */
import { globExpression, matchesAtOrBelow, pathText } from '../model/glob.ts';

export interface Selection {
  /** Part of the identity of a scan's cache: another selection cannot use it. */
  readonly signature: string;
  /** True when everything is selected. */
  readonly all: boolean;
  /** False drops the name and, for a directory, everything below it. */
  selects(key: Uint8Array, isDirectory: boolean): boolean;
}

const everything: Selection = { signature: '', all: true, selects: () => true };

/**
 * Excluded names are dropped with what is below them. When includes are given, a file is kept only when it or one of its
 * parents matches one; directories are kept, so that the kept files have their places.
 */
export function makeSelection(include: readonly string[], exclude: readonly string[]): Selection {
  if (include.length === 0 && exclude.length === 0) return everything;
  const included = include.map(globExpression);
  const excluded = exclude.map(globExpression);
  return {
    signature: JSON.stringify([include, exclude]),
    all: false,
    selects(key: Uint8Array, isDirectory: boolean): boolean {
      const path = pathText(key);
      if (excluded.some((expression) => expression.test(path))) return false;
      if (included.length === 0 || isDirectory) return true;
      return included.some((expression) => matchesAtOrBelow(expression, key));
    },
  };
}
