import {
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { differences, readWholeTree, treeSize } from '../../bench/trees.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'holdfast-trees-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const files = ['file', 'sub/inner'];

function build(name: string): string {
  const root = join(directory, name);
  mkdirSync(join(root, 'sub'), { recursive: true });
  for (const file of files) writeFileSync(join(root, file), `content of ${file}`);
  linkSync(join(root, 'file'), join(root, 'hard'));
  symlinkSync('file', join(root, 'soft'));
  return root;
}

function settle(root: string): void {
  for (const path of [...files, 'sub', '.']) utimesSync(join(root, path), 1e9, 1e9);
}

/** Symlinks take a time that plain Node cannot set to the nanosecond: it is left out of these comparisons. */
function compare(change: (root: string) => void): string[] {
  const [one, other] = [build('one'), build('other')];
  change(other);
  settle(one);
  settle(other);
  return differences(one, other).filter((line) => !line.startsWith('soft: mtimeNs'));
}

it.each<[string, (root: string) => void, string[]]>([
  ['nothing', () => {}, []],
  [
    'content of equal length',
    (root) => writeFileSync(join(root, 'sub/inner'), 'content of sub/outer'),
    ['./sub/inner: other content'],
  ],
  [
    'a longer file',
    (root) => writeFileSync(join(root, 'sub/inner'), 'x'.repeat(50)),
    ['./sub/inner: 50 bytes instead of 20'],
  ],
  ['a mode', (root) => chmodSync(join(root, 'sub'), 0o700), ['./sub: mode 16832 instead of 16877']],
  ['a name too many', (root) => writeFileSync(join(root, 'sub/more'), ''), ['./sub/more: not expected']],
  ['a name too few', (root) => rmSync(join(root, 'soft')), ['./soft: missing']],
  [
    'a copy in place of a hard link',
    (root) => {
      unlinkSync(join(root, 'hard'));
      writeFileSync(join(root, 'hard'), 'content of file');
      utimesSync(join(root, 'hard'), 1e9, 1e9);
    },
    ['./hard: 1 names instead of 2', './file: 1 names instead of 2'],
  ],
  [
    'a link target',
    (root) => {
      unlinkSync(join(root, 'soft'));
      symlinkSync('sub', join(root, 'soft'));
    },
    ['./soft: another link target'],
  ],
])('finds %s', (_, change, expected) => {
  const found = compare(change).filter((line) => !line.startsWith('./soft: mtimeNs'));
  expect(found.sort()).toEqual([...expected].sort());
});

it('finds a time that is off by a microsecond', () => {
  const [one, other] = [build('one'), build('other')];
  settle(one);
  settle(other);
  utimesSync(join(other, 'sub'), 1e9, 1e9 + 1e-6);
  expect(differences(one, other).some((line) => line.startsWith('./sub: mtimeNs'))).toBe(true);
});

it('adds up files and reads them all', () => {
  const root = build('one');
  expect(treeSize(root)).toEqual({ files: 3, bytes: 15 + 15 + 20 });
  expect(treeSize(join(root, 'file'))).toEqual({ files: 1, bytes: 15 });
  readWholeTree(root);
});
