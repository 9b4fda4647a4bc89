/** Which paths a restore brings back, and which of them first. */
import { globExpression, globKeyPrefix, pathText } from '../model/glob.ts';
import { compareBytes } from '../model/bytes.ts';
import type { KeyRange } from './walk-tree.ts';

export interface PathGlobs {
  /** Stands in the marker: another selection is another restore. */
  readonly signature: string;
  /** True when there are no globs: then they match nothing by themselves. */
  readonly none: boolean;
  /** The path itself matches. Whoever asks knows whether one of its parents does. */
  matches(key: Uint8Array): boolean;
  /** The path or one of its parents matches. */
  matchesAtOrBelow(key: Uint8Array): boolean;
  /** Patterns that no path has matched yet of those that were asked about; a path below a match may never be asked about. */
  unmatched(): readonly string[];
  /** Ranges that hold every match, ascending, apart from each other; undefined when only a whole walk finds them all. */
  readonly ranges: readonly { readonly prefix: Uint8Array; readonly range: KeyRange }[] | undefined;
}

/** E_USAGE for a broken pattern. */
export function pathGlobs(patterns: readonly string[]): PathGlobs {
  const expressions = patterns.map(globExpression);
  const pending = new Map(patterns.map((pattern, i) => [pattern, expressions[i] as RegExp]));
  const matchesText = (path: string): boolean => {
    for (const [pattern, expression] of pending) if (expression.test(path)) pending.delete(pattern);
    return expressions.some((expression) => expression.test(path));
  };
  return {
    signature: patterns.length === 0 ? '' : JSON.stringify(patterns),
    none: patterns.length === 0,
    matches: (key) => matchesText(pathText(key)),
    matchesAtOrBelow: (key) => {
      const path = pathText(key);
      if (matchesText(path)) return true;
      for (let at = path.indexOf('/'); at >= 0; at = path.indexOf('/', at + 1)) {
        if (matchesText(path.slice(0, at))) return true;
      }
      return false;
    },
    unmatched: () => [...pending.keys()],
    ranges: rangesOf(patterns.map(globKeyPrefix)),
  };
}

function rangesOf(prefixes: readonly Uint8Array[]): PathGlobs['ranges'] {
  if (prefixes.length === 0 || prefixes.some((prefix) => prefix.length === 0)) return undefined;
  const ranges: { prefix: Uint8Array; range: KeyRange }[] = [];
  for (const prefix of [...prefixes].sort(compareBytes)) {
    const last = ranges[ranges.length - 1]?.prefix;
    const inside = last !== undefined && compareBytes(prefix.subarray(0, last.length), last) === 0;
    if (!inside) ranges.push({ prefix, range: { from: prefix, to: prefixEnd(prefix) } });
  }
  return ranges;
}

/** First key after all that begin with `prefix`; undefined when there is none. */
function prefixEnd(prefix: Uint8Array): Uint8Array | undefined {
  let length = prefix.length;
  while (length > 0 && prefix[length - 1] === 0xff) length--;
  if (length === 0) return undefined;
  const end = prefix.slice(0, length);
  end[length - 1] = (end[length - 1] as number) + 1;
  return end;
}
