/**
 * Which names of a volume belong to the checkpoint. Globs over the path inside the volume, matched byte by byte, so names
 * that are not UTF-8 are matched too: `*` and `?` stay inside a component, `**` crosses components, `[a-z]` is a class.
 * A pattern without a slash matches the last component at any depth; one with a slash is anchored at the volume's root.
 */
import { utf8Bytes } from '../model/bytes.ts';
import { HoldfastError } from '../model/errors.ts';

export interface Selection {
  /** Part of the identity of a scan's cache: another selection cannot use it. */
  readonly signature: string;
  /** True when everything is selected. */
  readonly all: boolean;
  /** False drops the name and, for a directory, everything below it. */
  selects(key: Uint8Array, isDirectory: boolean): boolean;
}

const everything: Selection = { signature: '', all: true, selects: () => true };

function toByteString(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));
  return text;
}

function pathText(key: Uint8Array): string {
  return toByteString(key).replaceAll('\0', '/');
}

/** A regular expression over byte strings with slashes, for one glob. E_USAGE for a broken pattern. */
export function globExpression(pattern: string): RegExp {
  const glob = toByteString(utf8Bytes(pattern.replace(/^\.?\/+/, '/').replace(/\/+$/, '')));
  if (glob === '' || glob === '/') {
    throw new HoldfastError('E_USAGE', `pattern ${JSON.stringify(pattern)} is empty`, {
      remedy: 'Give a glob over paths inside the volume, such as "*.tmp" or "cache/**".',
    });
  }
  const anchored = glob.includes('/');
  const body = glob.startsWith('/') ? glob.slice(1) : glob;
  let source = '';
  for (let i = 0; i < body.length; ) {
    const c = body[i] as string;
    if (c === '*') {
      let stars = 0;
      while (body[i] === '*') {
        stars++;
        i++;
      }
      if (stars === 1) source += '[^/]*';
      else if (body[i] === '/') {
        source += '(?:.*/)?';
        i++;
      } else source += '.*';
    } else if (c === '?') {
      source += '[^/]';
      i++;
    } else if (c === '[') {
      const end = body.indexOf(']', i + 2);
      if (end < 0) {
        throw new HoldfastError('E_USAGE', `pattern ${JSON.stringify(pattern)} has an unclosed [`, {
          remedy: 'Close the class with ], or write \\[ for the character itself.',
        });
      }
      const inside = body
        .slice(i + 1, end)
        .replace(/\\/g, '\\\\')
        .replace(/\[/g, '\\[');
      source += `(?!/)[${inside.startsWith('!') ? `^${inside.slice(1)}` : inside.replace(/^\^/, '\\^')}]`;
      i = end + 1;
    } else if (c === '\\' && i + 1 < body.length) {
      source += (body[i + 1] as string).replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
      i += 2;
    } else {
      source += c.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
      i++;
    }
  }
  try {
    return new RegExp(anchored ? `^${source}$` : `(?:^|/)${source}$`, 's');
  } catch (cause) {
    throw new HoldfastError('E_USAGE', `pattern ${JSON.stringify(pattern)} is not a glob`, { cause });
  }
}

/** True when the path or one of its parents matches. */
export function matchesAtOrBelow(expression: RegExp, key: Uint8Array): boolean {
  const path = pathText(key);
  if (expression.test(path)) return true;
  for (let at = path.indexOf('/'); at >= 0; at = path.indexOf('/', at + 1)) {
    if (expression.test(path.slice(0, at))) return true;
  }
  return false;
}

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
