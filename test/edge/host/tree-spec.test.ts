/** The random trees of other tests: equal on every implementation, and told apart by the comparison. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { chooseFileTree } from '../../../src/edge/host/choose-file-tree.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';
import { snapshotTree } from '../../support/tree-snapshot.ts';
import {
  applyEdits,
  buildTree,
  editArbitrary,
  sampleTree,
  type TreeSpecOptions,
  treeArbitrary,
} from '../../support/tree-spec.ts';

const onLinux = process.platform === 'linux';
const asRoot = process.getuid?.() === 0;
const made: string[] = [];

afterAll(() => {
  for (const path of made) fs.rmSync(path, { recursive: true, force: true });
});

function newDirectory(): string {
  const path = fs.mkdtempSync(join(tmpdir(), 'holdfast-spec-'));
  made.push(path);
  return path;
}

describe.skipIf(!onLinux)('random trees', () => {
  const native = chooseFileTree().tree;
  const { xattrs } = native.abilities;
  const options: TreeSpecOptions = { owners: asRoot, xattrs, fileBytesMax: 100_000 };

  test('are the same on disk and in memory, and so are their edits', () => {
    fc.assert(
      fc.property(treeArbitrary(options), fc.array(editArbitrary(options), { maxLength: 10 }), (entries, edits) => {
        const path = newDirectory();
        const root = native.openRoot(path);
        const disk = new MemoryFileSystem({ uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 });
        const memory = new MemoryFileTree(disk);
        const memoryRoot = memory.makeRoot('/volume');
        buildTree(native, root, entries);
        buildTree(memory, memoryRoot, entries);
        expect(disk.describe('volume')).toEqual(snapshotTree(path));
        applyEdits(native, root, edits);
        applyEdits(memory, memoryRoot, edits);
        // Edits stamp with the clock of each.
        expect(withoutTimes(disk.describe('volume'))).toEqual(withoutTimes(snapshotTree(path)));
        native.close(root);
        memory.close(memoryRoot);
        expect(memory.openDescriptors).toEqual([]);
      }),
      { numRuns: 40 },
    );
  });

  test('follow from their seed', () => {
    expect(sampleTree(7)).toEqual(sampleTree(7));
    expect(sampleTree(7)).not.toEqual(sampleTree(8));
    expect(sampleTree(7).length).toBeGreaterThan(0);
  });

  test('are equal to copies by cp -a, and to no copy that differs in anything', () => {
    const path = newDirectory();
    const root = native.openRoot(path);
    buildTree(native, root, sampleTree(11, options));
    native.close(root);
    fs.writeFileSync(join(path, 'file'), 'content');
    fs.linkSync(join(path, 'file'), join(path, 'file-2'));
    fs.symlinkSync('file', join(path, 'link'));
    const before = snapshotTree(path, { root: true });
    const copy = join(newDirectory(), 'copy');
    execFileSync('cp', ['-a', path, copy]);
    expect(snapshotTree(copy)).toEqual(snapshotTree(path));
    const changes: (() => void)[] = [
      () => fs.chmodSync(join(copy, 'file'), 0o600),
      () => fs.utimesSync(join(copy, 'file'), 1, 1),
      () => fs.lutimesSync(join(copy, 'link'), 1, 1),
      () => fs.writeFileSync(join(copy, 'file'), 'Content'),
      () => fs.rmSync(join(copy, 'file-2')),
      () => fs.mkdirSync(join(copy, 'new')),
    ];
    let last = snapshotTree(copy);
    for (const change of changes) {
      change();
      const now = snapshotTree(copy);
      expect(now).not.toEqual(last);
      last = now;
    }
    expect(snapshotTree(path, { root: true })).toEqual(before);
  });
});

function withoutTimes(lines: readonly string[]): string[] {
  return lines.map((line) => line.replace(/( \d+:\d+) @-?\d+/, '$1'));
}
