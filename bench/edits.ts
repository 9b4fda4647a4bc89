import {
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type DataSet, databaseName, editDatabase } from './data-sets.ts';
import { Random } from './random.ts';
import { TextModel } from './text-model.ts';

/**
 * Changes to a cached data set that are always taken back.
 *
 * Invariant: a file is changed only after its original lies in the journal directory beside the set and the list there
 * names it. So a benchmark that was killed leaves a set that the next one mends before it uses it.
 */

export const changedFilesPerEdit = 10;
const changedBytes = 1024;

interface Journal {
  readonly files: readonly { readonly path: string; readonly mtimeSeconds: number }[];
}

function journalDirectory(set: DataSet): string {
  return `${set.path}.journal`;
}

/**
 * Changes ten files: 1 KB of fresh text goes into the middle of a file of the sets `a` and `b`, and takes the place of the
 * whole content in `c`. In `sqlite` it is 200 updates and 1000 inserts.
 * @param round each round changes other files
 */
export function applyEdits(set: DataSet, round: number): void {
  const random = new Random(0xed17, round);
  const paths = new Set<string>();
  if (set.name === 'sqlite') paths.add(databaseName);
  else while (paths.size < Math.min(changedFilesPerEdit, set.editable.length)) paths.add(random.pick(set.editable));
  keepOriginals(set, [...paths]);
  if (set.name === 'sqlite') {
    editDatabase(join(set.path, databaseName), round);
    return;
  }
  const text = new TextModel(0xed17);
  const style = text.packageStyle(0xed17, round);
  for (const path of paths) {
    const fresh = text.source(random, style, changedBytes);
    const absolute = join(set.path, path);
    const content = readFileSync(absolute);
    const middle = content.length >> 1;
    writeFileSync(
      absolute,
      set.name === 'c' ? fresh : Buffer.concat([content.subarray(0, middle), fresh, content.subarray(middle)]),
    );
  }
}

function keepOriginals(set: DataSet, paths: readonly string[]): void {
  const directory = journalDirectory(set);
  mkdirSync(directory);
  const files = paths.map((path, index) => {
    const absolute = join(set.path, path);
    copyFileSync(absolute, join(directory, String(index)));
    // The generator set the time from a double, and this is that double again; as one Number of nanoseconds it would lose 100 ns.
    const { mtimeNs } = lstatSync(absolute, { bigint: true });
    return { path, mtimeSeconds: Number(mtimeNs / 1_000_000_000n) + Number(mtimeNs % 1_000_000_000n) / 1e9 };
  });
  const journal: Journal = { files };
  writeFileSync(join(directory, 'journal.json'), JSON.stringify(journal));
}

/** Takes back the edits of this run or of one that was killed. Does nothing when there are none. */
export function revertEdits(set: DataSet): void {
  const directory = journalDirectory(set);
  const list = join(directory, 'journal.json');
  if (existsSync(list)) {
    const { files }: Journal = JSON.parse(readFileSync(list, 'utf8'));
    files.forEach(({ path, mtimeSeconds }, index) => {
      const absolute = join(set.path, path);
      // Written over in place: file and directory keep everything but the content.
      writeFileSync(absolute, readFileSync(join(directory, String(index))));
      utimesSync(absolute, mtimeSeconds, mtimeSeconds);
    });
  }
  rmSync(directory, { recursive: true, force: true });
}
