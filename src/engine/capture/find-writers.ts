/** Whether an application still has files of a volume open for writing: what refutes that it has stopped. */
import { FileTreeError, type FileTreeReader } from '../ports/file-tree.ts';
import type { NameTally } from '../model/name-tally.ts';
import { type FileWalk, nameWith, type WalkedFile, walkFiles } from './walk-files.ts';

/** Adds the files for which a writer cannot be ruled out: by a refused read lease, or because no lease can be had. */
export async function findWriters(walk: FileWalk, found: NameTally): Promise<void> {
  await walkFiles(walk, (file) => {
    if (mayHaveWriter(walk.files, file)) found.add(file.key);
  });
}

function mayHaveWriter(files: FileTreeReader, { directory, name }: WalkedFile): boolean {
  try {
    const file = files.openFile(directory.descriptor, nameWith(name));
    try {
      return files.mayHaveWriter(file);
    } finally {
      files.close(file);
    }
  } catch (error) {
    if (!(error instanceof FileTreeError)) throw error;
    // Gone meanwhile: the next pass sees the change.
    return error.errno !== 'ENOENT';
  }
}
