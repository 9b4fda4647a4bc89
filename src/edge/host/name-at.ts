/** What every implementation checks of a name before it reaches the operating system. */
import { FileTreeError, type NameAt } from '../../engine/ports/file-tree.ts';

const slash = 0x2f;
const dot = 0x2e;

/**
 * Where the name ends. EINVAL for what is no name of a directory entry: empty, not ended by a zero byte inside its buffer,
 * with a slash, `.` or `..`. With `path`, slashes may separate names.
 */
export function nameEnd({ names, start }: NameAt, operation: string, path: boolean): number {
  const length = names.length;
  let end = start;
  if (!(start >= 0)) throw new FileTreeError('EINVAL', operation);
  for (; end < length; end++) {
    const byte = names[end];
    if (byte === 0) break;
    if (byte === slash && !path) throw new FileTreeError('EINVAL', operation);
  }
  const bytes = end - start;
  if (end >= length || bytes === 0) throw new FileTreeError('EINVAL', operation);
  if (names[start] === dot && (bytes === 1 || (bytes === 2 && names[start + 1] === dot))) {
    throw new FileTreeError('EINVAL', operation);
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
