/** What every implementation checks of a name before it reaches the operating system. */
import { FileTreeError, type NameAt } from '../../engine/ports/file-tree.ts';

const slash = 0x2f;
const dot = 0x2e;

/** What may be named: an entry of the directory, that or the directory above (`..`), or names separated by slashes. */
export type NameKind = 'entry' | 'entry-or-parent' | 'path';

/**
 * Where the name ends. EINVAL for what is no name: empty, not ended by a zero byte inside its buffer, `.` or, where the kind
 * does not allow them, `..` and slashes.
 */
export function nameEnd({ names, start }: NameAt, operation: string, kind: NameKind): number {
  const length = names.length;
  const slashes = kind === 'path';
  let end = start;
  if (!(start >= 0)) throw new FileTreeError('EINVAL', operation);
  for (; end < length; end++) {
    const byte = names[end];
    if (byte === 0) break;
    if (byte === slash && !slashes) throw new FileTreeError('EINVAL', operation);
  }
  const bytes = end - start;
  if (end >= length || bytes === 0) throw new FileTreeError('EINVAL', operation);
  if (names[start] === dot) {
    const parent = bytes === 2 && names[start + 1] === dot;
    if (bytes === 1 || (parent && kind !== 'entry-or-parent')) throw new FileTreeError('EINVAL', operation);
  }
  return end;
}

/** The components of a path, as views. */
export function splitPath(path: Uint8Array): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let start = 0; start <= path.length; ) {
    const next = path.indexOf(slash, start);
    const end = next < 0 ? path.length : next;
    parts.push(path.subarray(start, end));
    start = end + 1;
  }
  return parts;
}
