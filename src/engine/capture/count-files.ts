/** How much a first capture has before it. */
import { type FileWalk, walkFiles } from './walk-files.ts';

export interface FileCount {
  readonly files: number;
  /** Sum of their sizes; holes count. */
  readonly bytes: number;
}

/**
 * Walks the volumes beside a capture, which only learns what there is while it reads it. For people who look on: the answer may
 * be outdated when it comes. Throws what walkFiles throws.
 */
export async function countFiles(walks: readonly FileWalk[]): Promise<FileCount> {
  let [files, bytes] = [0, 0];
  for (const walk of walks) {
    await walkFiles(walk, ({ size }) => {
      files += 1;
      bytes += size;
    });
  }
  return { files, bytes };
}
