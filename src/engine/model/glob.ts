/**
 * Globs over paths inside a volume, matched byte by byte, so names that are not UTF-8 are matched too: `*` and `?` stay
 * inside a component, `**` crosses components, `[a-z]` is a class. A pattern without a slash matches the last component at
 * any depth; one with a slash is anchored at the volume's root.
 */
import { utf8Bytes } from './bytes.ts';
import { HoldfastError } from './errors.ts';

function toByteString(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));
  return text;
}

/** The path of a key, one character per byte, with slashes between components: what a glob's expression is tested on. */
export function pathText(key: Uint8Array): string {
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
 * First bytes of every key that the glob matches, or that lies below one; empty when nothing is known of them. Lets a walk
 * read a part of the tree only.
 */
export function globKeyPrefix(pattern: string): Uint8Array {
  const glob = pattern.replace(/^\.?\/+/, '/').replace(/\/+$/, '');
  if (!glob.includes('/')) return utf8Bytes('');
  const literal = /^[^*?[\\]*/.exec(glob.startsWith('/') ? glob.slice(1) : glob)?.[0] ?? '';
  return utf8Bytes(literal.replaceAll('/', '\0'));
}
