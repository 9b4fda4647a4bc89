/** What the file tree in memory can do beyond the port: faults, changes at exact moments, coarse clocks. */
import { describe, expect, test } from 'vitest';
import { utf8Bytes } from '../../../src/engine/model/bytes.ts';
import { FileTreeError } from '../../../src/engine/ports/file-tree.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';
import { nameAt, nameTexts } from '../../support/tree-names.ts';

function errnoOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof FileTreeError) return error.errno;
    throw error;
  }
  return 'no error';
}

describe('the file tree in memory', () => {
  test('fails the call that was named, once', () => {
    const disk = new MemoryFileSystem();
    disk.mkdir('volume');
    disk.writeFile('volume/a', 'A');
    disk.writeFile('volume/b', 'B');
    const tree = new MemoryFileTree(disk);
    const root = tree.openRoot('/volume');
    tree.failCall('openFile', 'EIO', { nth: 2 });
    tree.failCall('openFile', 'EACCES', { path: 'volume/b' });
    const outcomes = ['a', 'a', 'b', 'a', 'b'].map((name) => errnoOf(() => tree.openFile(root, nameAt(name))));
    expect(outcomes).toEqual(['no error', 'EIO', 'EACCES', 'no error', 'no error']);
    expect(tree.callCount('openFile')).toBe(5);
    tree.crash();
    expect(tree.openDescriptors).toEqual([]);
    expect(errnoOf(() => tree.list(root))).toBe('EBADF');
  });

  test('changes between two calls, and between two names of a listing', () => {
    const disk = new MemoryFileSystem();
    disk.mkdir('volume');
    for (const name of ['a', 'b', 'c']) disk.writeFile(`volume/${name}`, name);
    const tree = new MemoryFileTree(disk);
    const root = tree.openRoot('/volume');
    tree.failCall('listName', 'EIO', { path: 'volume/c' });
    tree.beforeCall = ({ operation, path }) => {
      if (operation === 'listName' && path === 'volume/a') disk.remove('volume/b');
      if (operation === 'read') disk.writeFile('volume/a', 'changed');
    };
    const block = tree.list(root);
    expect(nameTexts(block)).toEqual(['a', 'c']);
    expect([...block.records.subarray(80, 144)].every((byte) => byte === 0)).toBe(true);
    const file = tree.openFile(root, nameAt('a'));
    const into = new Uint8Array(7);
    expect(tree.read(file, into, 0, 7, 0)).toBe(7);
    expect(new TextDecoder().decode(into)).toBe('changed');
  });

  test('stamps with a coarse clock: two writes in one step look alike', () => {
    let now = 1_000_000;
    const disk = new MemoryFileSystem({ clock: { nowMs: () => now }, clockStepMs: 4 });
    disk.mkdir('volume');
    disk.writeFile('volume/a', 'one');
    const first = disk.stat('volume/a');
    now += 3;
    disk.writeFile('volume/a', 'two');
    expect(disk.stat('volume/a')).toEqual(first);
    now += 1;
    disk.writeFile('volume/a', 'six');
    expect(disk.stat('volume/a')).not.toEqual(first);
    expect(first).toMatchObject({ mtimeSec: 1000, mtimeNsec: 0 });
  });

  test.each([
    { type: 'ext4', flushed: true },
    { type: 'tmpfs', flushed: false },
  ])('hides writes to a mapped page until a flush, on $type', ({ type, flushed }) => {
    let now = 1_000_000;
    const disk = new MemoryFileSystem({ clock: { nowMs: () => (now += 100) }, type });
    disk.mkdir('volume');
    disk.writeFile('volume/a', 'original');
    const tree = new MemoryFileTree(disk);
    const file = tree.openFile(tree.openRoot('/volume'), nameAt('a'));
    const mapping = disk.openMapping('volume/a');
    const untouched = tree.stat(file);
    mapping.write(0, 'first');
    const faulted = tree.stat(file);
    expect(faulted.mtimeNsec).not.toBe(untouched.mtimeNsec);
    mapping.write(0, 'later');
    expect(tree.stat(file)).toEqual(faulted);
    expect(tree.flush(file)).toBe(flushed);
    mapping.write(0, 'again');
    expect(tree.stat(file).mtimeNsec === faulted.mtimeNsec).toBe(!flushed);
    expect(tree.mayHaveWriter(file)).toBe(true);
    mapping.close();
    expect(tree.mayHaveWriter(file)).toBe(false);
    expect(new TextDecoder().decode(disk.readFile('volume/a'))).toBe('againnal');
  });

  test('runs full, and gets its space back', () => {
    const disk = new MemoryFileSystem({ blocksMax: 2, inodesMax: 4 });
    const tree = new MemoryFileTree(disk);
    const root = tree.makeRoot('/volume');
    const file = tree.createNameless(root);
    if (file === undefined) throw new Error('no nameless file');
    tree.write(file, new Uint8Array(8192), 0, 8192, 0);
    expect(errnoOf(() => tree.write(file, utf8Bytes('x'), 0, 1, 8192))).toBe('ENOSPC');
    tree.makeDirectory(root, nameAt('directory'));
    expect(errnoOf(() => tree.makeDirectory(root, nameAt('other')))).toBe('ENOSPC');
    expect(disk.usedBlocks).toBe(2);
    tree.close(file);
    expect(disk.usedBlocks).toBe(0);
    tree.makeDirectory(root, nameAt('other'));
  });

  test('refuses what an unprivileged process may not do', () => {
    const disk = new MemoryFileSystem({ privileged: false, uid: 1000, gid: 1000 });
    disk.mkdir('volume');
    disk.writeFile('volume/secret', 'x', { mode: 0o200 });
    disk.writeFile('volume/own', 'x');
    const tree = new MemoryFileTree(disk);
    const root = tree.openRoot('/volume');
    expect(errnoOf(() => tree.openFile(root, nameAt('secret')))).toBe('EACCES');
    const own = tree.openFile(root, nameAt('own'));
    expect(errnoOf(() => tree.setOwner(own, 0, 0))).toBe('EPERM');
    expect(errnoOf(() => tree.setOwner(own, 1000, 1000))).toBe('no error');
  });

  test('describes equal trees in equal words, and different ones in different words', () => {
    const build = (change: (disk: MemoryFileSystem) => void) => {
      const disk = new MemoryFileSystem();
      disk.mkdir('volume/directory');
      disk.writeFile('volume/file', 'content');
      disk.link('volume/file', 'volume/directory/second');
      disk.symlink('volume/link', 'file');
      disk.setXattr('volume/file', 'user.note', 'kept');
      change(disk);
      return disk.describe('volume');
    };
    const same = build(() => {});
    expect(build((disk) => disk.resize('volume/file', 7))).toEqual(same);
    const changes: ((disk: MemoryFileSystem) => void)[] = [
      (disk) => disk.chmod('volume/file', 0o600),
      (disk) => disk.chown('volume/link', 5, 5),
      (disk) => disk.setMtime('volume/directory', 5, 5),
      (disk) => disk.writeAt('volume/file', 0, 'C'),
      (disk) => disk.setXattr('volume/file', 'user.note', 'other'),
      (disk) => {
        disk.remove('volume/directory/second');
        disk.writeFile('volume/directory/second', 'content');
      },
      (disk) => disk.fifo('volume/fifo'),
    ];
    for (const change of changes) expect(build(change)).not.toEqual(same);
  });
});
