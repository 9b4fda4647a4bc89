import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { constants, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type DataSet, databaseName, editDatabase, ensureDataSet, type SetName } from '../../bench/data-sets.ts';
import { applyEdits, changedFilesPerEdit, revertEdits } from '../../bench/edits.ts';
import { differences, treeSize } from '../../bench/trees.ts';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'holdfast-bench-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function make(name: SetName, cache: string, seed = 1, scale = 0.004): DataSet {
  return ensureDataSet(name, { cacheDir: join(directory, cache), seed, scale, say: () => {} });
}

function tarred(path: string): Buffer {
  return execFileSync('tar', ['-C', path, '-cf', '-', '.'], { maxBuffer: 1 << 28 });
}

describe('data sets', () => {
  it.each(['a', 'b', 'c', 'sqlite'] as const)('%s comes out equal from an equal seed, and only from that', (name) => {
    const one = make(name, 'one');
    expect(differences(one.path, make(name, 'two').path)).toEqual([]);
    expect(differences(one.path, make(name, 'other seed', 2).path)).not.toEqual([]);
    expect(treeSize(one.path)).toEqual({ files: one.files, bytes: one.bytes });
  });

  it.each([
    // The whole sets were measured: 0.44, 0.28, 0.44. Small ones are a little off.
    ['a', 0.36, 0.52],
    ['b', 0.23, 0.33],
    ['c', 0.42, 0.62],
  ] as const)('%s compresses like what it stands for', (name, ratioMin, ratioMax) => {
    const set = make(name, 'one');
    const compressed = zstdCompressSync(tarred(set.path), { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
    expect(compressed.length / set.bytes).toBeGreaterThan(ratioMin);
    expect(compressed.length / set.bytes).toBeLessThan(ratioMax);
  });

  it('edits scattered pages of the database', () => {
    const path = join(make('sqlite', 'edited', 1, 0.1).path, databaseName);
    const before = readFileSync(path);
    editDatabase(path, 0);
    const after = readFileSync(path);
    let changed = 0;
    for (let offset = 0; offset < before.length; offset += 4096) {
      if (!before.subarray(offset, offset + 4096).equals(after.subarray(offset, offset + 4096))) changed += 1;
    }
    // Of about 5900 pages.
    expect(changed).toBeGreaterThan(250);
    expect(changed).toBeLessThan(600);
    expect(after.length).toBeGreaterThan(before.length);
  });
});

describe('edits', () => {
  it.each(['a', 'b', 'c', 'sqlite'] as const)('of %s touch ten files and are taken back without a trace', (name) => {
    const set = make(name, 'edits');
    const pristine = make(name, 'one');
    applyEdits(set, 0);
    const changed = differences(pristine.path, set.path, 1000).map((line) => line.slice(0, line.lastIndexOf(':')));
    expect(new Set(changed).size).toBe(name === 'sqlite' ? 1 : changedFilesPerEdit);
    revertEdits(set);
    expect(differences(pristine.path, set.path)).toEqual([]);
  });

  it('differ from round to round', () => {
    const [one, other] = [make('b', 'round 0'), make('b', 'round 1')];
    applyEdits(one, 0);
    applyEdits(other, 1);
    expect(differences(one.path, other.path)).not.toEqual([]);
  });

  it('refuse to start over edits that were not taken back', () => {
    const set = make('c', 'twice');
    applyEdits(set, 0);
    expect(() => applyEdits(set, 1)).toThrow(/EEXIST/);
  });
});
