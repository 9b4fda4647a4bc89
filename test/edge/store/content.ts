import { createHash } from 'node:crypto';

/**
 * The content of a test object follows from its key and its size alone, so anybody can tell whether an object is whole
 * without having been told what was written. It differs at every place, so a shifted or repeated part shows.
 */
export function contentOf(key: string, bytes: number): Uint8Array {
  const content = new Uint8Array(bytes);
  const seed = createHash('sha256').update(`${key} ${bytes}`).digest();
  let state = seed.readUInt32LE(0) | 1;
  for (let at = 0; at < bytes; at += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    content[at] = state;
  }
  return content;
}

export function isWhole(key: string, content: Uint8Array, bytes: number): boolean {
  return content.length === bytes && Buffer.from(contentOf(key, bytes)).equals(content);
}
