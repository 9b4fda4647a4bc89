/**
 * What every file tree must do: one suite for the system calls, for Node's own functions in both of their ways to find a
 * name, and for the one in memory that the simulator uses. `abilities` decide what is asserted, never whether a test runs.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { chooseFileTree } from '../../src/edge/host/choose-file-tree.ts';
import { type LinuxCalls, loadLinuxCalls } from '../../src/edge/host/linux-calls.ts';
import { createNativeFileTree, NativeFileTree } from '../../src/edge/host/native-file-tree.ts';
import { NodeFileTree } from '../../src/edge/host/node-file-tree.ts';
import { compareBytes, utf8Bytes } from '../../src/engine/model/bytes.ts';
import {
  fileType,
  fileTypeMask,
  readStat,
  statOffset,
  statRecordBytes,
  viewOf,
} from '../../src/engine/model/stat-record.ts';
import {
  type Descriptor,
  directAlignment,
  FileTreeError,
  type FileTreeWriter,
  type TimesAt,
} from '../../src/engine/ports/file-tree.ts';
import { MemoryFileSystem, MemoryFileTree } from '../support/memory-file-tree.ts';
import { mapFile } from '../support/tree-mapping.ts';
import { listedNames, nameAt, nameTexts } from '../support/tree-names.ts';

const asRoot = process.getuid?.() === 0;
const onLinux = process.platform === 'linux';

interface Rig {
  readonly tree: FileTreeWriter;
  readonly root: Descriptor;
  /** Path of the root for the application's side; undefined in memory. */
  readonly path: string | undefined;
  readonly disk: MemoryFileSystem | undefined;
}

interface Place {
  readonly name: string;
  /** Undefined where this machine lacks it. */
  readonly make: (() => Rig) | undefined;
}

const made: string[] = [];

function onDisk(tree: () => FileTreeWriter, parent: string): () => Rig {
  return () => {
    const path = mkdtempSync(join(parent, 'holdfast-tree-'));
    made.push(path);
    const instance = tree();
    return { tree: instance, root: instance.openRoot(path), path, disk: undefined };
  };
}

function nativeTree(): FileTreeWriter {
  const native = createNativeFileTree();
  if (native.tree === undefined) throw new Error(native.why);
  return native.tree;
}

/**
 * The native tree where calls are missing: openat2, cachestat and fchmodat2 (older kernels, filters of container runtimes), O_TMPFILE
 * and RENAME_NOREPLACE (FUSE, NFS).
 */
function nativeTreeWithLess(): FileTreeWriter {
  const { calls } = loadLinuxCalls();
  if (calls === undefined) throw new Error('no system calls');
  const noSuchCall = 100_000;
  const noReplace = 1;
  const temporaryFile = 0o20000000;
  let refused: number | undefined;
  const refuse = (errno: number): number => {
    refused = errno;
    return -1;
  };
  const allow = (result: number): number => {
    refused = undefined;
    return result;
  };
  const less: LinuxCalls = {
    ...calls,
    numbers: { ...calls.numbers, openat2: noSuchCall, fchmodat2: noSuchCall, cachestat: noSuchCall },
    call1: (number, a) => allow(calls.call1(number, a)),
    call2: (number, a, b) => allow(calls.call2(number, a, b)),
    call3: (number, a, b, c) => allow(calls.call3(number, a, b, c)),
    call4: (number, a, b, c, d) =>
      number === calls.numbers.openat && (c & temporaryFile) !== 0
        ? refuse(constants.errno.EOPNOTSUPP)
        : allow(calls.call4(number, a, b, c, d)),
    call5: (number, a, b, c, d, e) =>
      number === calls.numbers.renameat2 && e === noReplace
        ? refuse(constants.errno.EINVAL)
        : allow(calls.call5(number, a, b, c, d, e)),
    errno: () => refused ?? calls.errno(),
  };
  return new NativeFileTree(less);
}

function inMemory(type: string): () => Rig {
  return () => {
    const disk = new MemoryFileSystem({ type, ...(type === 'tmpfs' ? { timeSecMax: 2 ** 40 } : {}) });
    const tree = new MemoryFileTree(disk);
    return { tree, root: tree.makeRoot('/volume'), path: undefined, disk };
  };
}

const shm = '/dev/shm';
const places: readonly Place[] = [
  { name: 'native', make: onLinux ? onDisk(nativeTree, tmpdir()) : undefined },
  { name: 'native on tmpfs', make: onLinux && existsSync(shm) ? onDisk(nativeTree, shm) : undefined },
  { name: 'native with calls missing', make: onLinux ? onDisk(nativeTreeWithLess, tmpdir()) : undefined },
  { name: 'node by /proc', make: onLinux ? onDisk(() => new NodeFileTree('proc'), tmpdir()) : undefined },
  { name: 'node by paths', make: onDisk(() => new NodeFileTree('paths'), tmpdir()) },
  { name: 'memory', make: inMemory('ext4') },
  { name: 'memory as tmpfs', make: inMemory('tmpfs') },
];

function errnoOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof FileTreeError) return error.errno;
    throw error;
  }
  return 'no error';
}

function createFile(tree: FileTreeWriter, directory: Descriptor, name: string | Uint8Array, content = ''): Descriptor {
  const file = tree.createExclusive(directory, nameAt(name));
  const bytes = utf8Bytes(content);
  tree.write(file, bytes, 0, bytes.length, 0);
  return file;
}

function putFile(tree: FileTreeWriter, directory: Descriptor, name: string | Uint8Array, content = ''): void {
  tree.close(createFile(tree, directory, name, content));
}

function readAll(tree: FileTreeWriter, file: Descriptor): string {
  const into = new Uint8Array(1000);
  let length = 0;
  for (;;) {
    const got = tree.read(file, into, length, into.length - length, length);
    if (got === 0) return new TextDecoder().decode(into.subarray(0, length));
    length += got;
  }
}

function readName(tree: FileTreeWriter, directory: Descriptor, name: string | Uint8Array): string {
  const file = tree.openFile(directory, nameAt(name));
  try {
    return readAll(tree, file);
  } finally {
    tree.close(file);
  }
}

function statName(tree: FileTreeWriter, directory: Descriptor, name: string) {
  const record = new Uint8Array(64);
  tree.statNameInto(directory, nameAt(name), record, 0);
  return readStat(viewOf(record), 0);
}

/** Waits until files are stamped with a later time than any before. */
async function nextClockTick(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-tick-'));
  made.push(directory);
  const stamp = (): bigint => {
    writeFileSync(join(directory, 'stamp'), 'stamp');
    return statSync(join(directory, 'stamp'), { bigint: true }).mtimeNs;
  };
  const before = stamp();
  await vi.waitUntil(() => stamp() > before, { interval: 1, timeout: 10_000 });
}

afterAll(() => {
  for (const path of made) rmSync(path, { recursive: true, force: true });
});

for (const { name: placeName, make } of places) {
  describe.skipIf(make === undefined)(placeName, () => {
    let rig: Rig;
    let tree: FileTreeWriter;
    let root: Descriptor;

    beforeEach(() => {
      rig = (make as () => Rig)();
      ({ tree, root } = rig);
    });

    afterEach(() => {
      tree.close(root);
      // What a test opened it has closed, in memory where that can be seen.
      if (tree instanceof MemoryFileTree) expect(tree.openDescriptors).toEqual([]);
    });

    describe('listing', () => {
      test('gives all names in byte order, packed and ended by zeros, whatever order they were made in', () => {
        const names = ['b', 'a', 'ab', 'a-', 'a\u{7f}', 'Z', '.hidden', '..double', 'ä', 'z'.repeat(255), 'aa', '~'];
        for (const name of names) putFile(tree, root, name);
        const block = tree.list(root);
        const sorted = names.map(utf8Bytes).sort(compareBytes);
        expect(block.count).toBe(names.length);
        expect(block.records.length).toBe(names.length * statRecordBytes);
        expect(listedNames(block).map(({ name }) => name)).toEqual(sorted);
        expect(block.names).toEqual(new Uint8Array(Buffer.concat(sorted.flatMap((name) => [name, Uint8Array.of(0)]))));
        const view = viewOf(block.records);
        let at = 0;
        for (const [i, name] of sorted.entries()) {
          expect(view.getUint32(i * statRecordBytes + statOffset.nameStart, true)).toBe(at);
          expect(view.getBigUint64(i * statRecordBytes + statOffset.tag, true)).toBe(0n);
          at += name.length + 1;
        }
      });

      test('gives the same bytes again, and an empty block for an empty directory', () => {
        expect(tree.list(root)).toMatchObject({ count: 0 });
        for (let i = 0; i < 40; i++) putFile(tree, root, `file-${i}`);
        expect(tree.list(root)).toEqual(tree.list(root));
        tree.removeFile(root, nameAt('file-7'));
        expect(nameTexts(tree.list(root))).not.toContain('file-7');
      });

      test('keeps names that are not UTF-8, and opens them', () => {
        const names = [Uint8Array.of(0xff), Uint8Array.of(0x80, 0x2e), Uint8Array.of(0xc3), Uint8Array.of(10, 1, 0xfe)];
        for (const name of names) putFile(tree, root, name, `content of ${name.join()}`);
        const block = tree.list(root);
        expect(listedNames(block).map(({ name }) => name)).toEqual([...names].sort(compareBytes));
        const view = viewOf(block.records);
        for (const [i, { name }] of listedNames(block).entries()) {
          const start = view.getUint32(i * statRecordBytes + statOffset.nameStart, true);
          const file = tree.openFile(root, { names: block.names, start });
          expect(readAll(tree, file)).toBe(`content of ${name.join()}`);
          tree.close(file);
        }
      });

      test('says what stat says, by name and by descriptor', () => {
        const file = createFile(tree, root, 'file', 'twelve bytes');
        tree.setMode(file, 0o640);
        tree.makeDirectory(root, nameAt('directory'));
        tree.makeSymlink(root, nameAt('symlink'), utf8Bytes('target'));
        tree.makeFifo(root, nameAt('fifo'));
        const listed = listedNames(tree.list(root));
        expect(listed.map(({ stat }) => stat.mode & fileTypeMask)).toEqual([
          fileType.directory,
          fileType.fifo,
          fileType.regular,
          fileType.symlink,
        ]);
        for (const { name, stat } of listed) expect(statName(tree, root, new TextDecoder().decode(name))).toEqual(stat);
        expect(tree.stat(file)).toEqual(listed[2]?.stat);
        expect(listed[2]?.stat).toMatchObject({ size: 12, mode: fileType.regular | 0o640, nlink: 1 });
        // At a place that is not aligned, and nothing beside the 64 bytes is touched.
        const record = new Uint8Array(80).fill(0xee);
        tree.statInto(file, record, 7);
        expect(readStat(viewOf(record), 7)).toEqual(listed[2]?.stat);
        expect([...record.subarray(0, 7), ...record.subarray(71)].every((byte) => byte === 0xee)).toBe(true);
        tree.close(file);
        if (rig.path === undefined) return;
        for (const { name, stat } of listed) {
          const seen = lstatSync(join(rig.path, new TextDecoder().decode(name)), { bigint: true });
          expect([seen.ino, seen.dev, Number(seen.size)]).toEqual([stat.inode, stat.device, stat.size]);
          expect(seen.mtimeNs).toBe(BigInt(stat.mtimeSec) * 1_000_000_000n + BigInt(stat.mtimeNsec));
          expect(seen.ctimeNs).toBe(BigInt(stat.ctimeSec) * 1_000_000_000n + BigInt(stat.ctimeNsec));
        }
      });

      test('sorts thousands of names with long common beginnings', () => {
        const names = Array.from(
          { length: 3000 },
          (_, i) => `${'common/'.replace('/', '-')}${(i * 7919) % 3001}.${i % 7}`,
        );
        for (const name of names) putFile(tree, root, name);
        const sorted = names.map(utf8Bytes).sort(compareBytes);
        expect(nameTexts(tree.list(root))).toEqual(sorted.map((name) => Buffer.from(name).toString('latin1')));
      });

      test('of what is no directory is refused', () => {
        const file = createFile(tree, root, 'file');
        expect(errnoOf(() => tree.list(file))).toBe('ENOTDIR');
        tree.close(file);
      });
    });

    describe('names', () => {
      test('that are no names of an entry are refused before the system sees them', () => {
        putFile(tree, root, 'file');
        for (const bad of ['', '.', '..', 'a/b', '/file', '../file']) {
          expect(errnoOf(() => tree.openFile(root, nameAt(bad)))).toBe('EINVAL');
          expect(errnoOf(() => tree.makeDirectory(root, nameAt(bad)))).toBe('EINVAL');
          expect(errnoOf(() => tree.removeFile(root, nameAt(bad)))).toBe('EINVAL');
          expect(errnoOf(() => tree.makeLink(root, nameAt('file'), root, nameAt(bad)))).toBe('EINVAL');
        }
        // Not ended by a zero inside its buffer: the system would read on beyond it.
        expect(errnoOf(() => tree.openFile(root, { names: utf8Bytes('file'), start: 0 }))).toBe('EINVAL');
        expect(errnoOf(() => tree.openFile(root, { names: utf8Bytes('file\0'), start: 6 }))).toBe('EINVAL');
        expect(nameTexts(tree.list(root))).toEqual(['file']);
      });

      test('go up only from a directory to the one above it', () => {
        tree.makeDirectory(root, nameAt('a'));
        const a = tree.openDirectory(root, nameAt('a'));
        tree.makeDirectory(a, nameAt('b'));
        const b = tree.openDirectory(a, nameAt('b'));
        const above = tree.openDirectory(b, nameAt('..'));
        expect(tree.stat(above)).toEqual(tree.stat(a));
        expect(nameTexts(tree.list(above))).toEqual(['b']);
        expect(errnoOf(() => tree.removeDirectory(b, nameAt('..')))).toBe('EINVAL');
        expect(errnoOf(() => tree.openFile(b, nameAt('..')))).toBe('EINVAL');
        for (const directory of [a, b, above]) tree.close(directory);
      });

      test('of 255 bytes work, longer ones are refused', () => {
        putFile(tree, root, 'n'.repeat(255));
        expect(errnoOf(() => tree.makeDirectory(root, nameAt('n'.repeat(256))))).toBe('ENAMETOOLONG');
      });

      test('that are absent, or taken', () => {
        expect(errnoOf(() => tree.openFile(root, nameAt('absent')))).toBe('ENOENT');
        expect(errnoOf(() => tree.removeFile(root, nameAt('absent')))).toBe('ENOENT');
        putFile(tree, root, 'taken', 'first');
        expect(errnoOf(() => tree.createExclusive(root, nameAt('taken')))).toBe('EEXIST');
        expect(errnoOf(() => tree.makeDirectory(root, nameAt('taken')))).toBe('EEXIST');
        expect(errnoOf(() => tree.makeSymlink(root, nameAt('taken'), utf8Bytes('x')))).toBe('EEXIST');
        expect(errnoOf(() => tree.makeFifo(root, nameAt('taken')))).toBe('EEXIST');
        expect(readName(tree, root, 'taken')).toBe('first');
      });
    });

    describe('depth', () => {
      test('is not limited where the abilities say so: paths longer than PATH_MAX', () => {
        const component = 'd'.repeat(200);
        const depth = tree.abilities.anyName ? 30 : 3;
        const chain: Descriptor[] = [root];
        for (let i = 0; i < depth; i++) {
          const parent = chain.at(-1) as Descriptor;
          tree.makeDirectory(parent, nameAt(component));
          chain.push(
            i % 2 === 0 ? tree.openDirectory(parent, nameAt(component)) : tree.openBeneath(parent, nameAt(component)),
          );
        }
        const deepest = chain.at(-1) as Descriptor;
        putFile(tree, deepest, 'file', 'deep');
        tree.makeSymlink(deepest, nameAt('link'), utf8Bytes('file'));
        tree.setTimesOfName(deepest, nameAt('link'), { mtimeSec: 5, mtimeNsec: 0 });
        expect(readName(tree, deepest, 'file')).toBe('deep');
        expect(tree.xattrsOfName(deepest, nameAt('link'))).toEqual([]);
        expect(nameTexts(tree.list(deepest))).toEqual(['file', 'link']);
        expect(statName(tree, deepest, 'link').mtimeSec).toBe(5);
        tree.removeFile(deepest, nameAt('file'));
        tree.removeFile(deepest, nameAt('link'));
        for (let i = depth; i > 0; i--) {
          tree.close(chain[i] as Descriptor);
          tree.removeDirectory(chain[i - 1] as Descriptor, nameAt(component));
        }
        expect(tree.list(root).count).toBe(0);
      });
    });

    describe('symlinks', () => {
      test('keep any target, and are never followed', () => {
        const targets = ['/etc/passwd', '.', 'x'.repeat(4000), 'a/../b'].map(utf8Bytes);
        targets.push(Uint8Array.of(0xff, 0xfe, 0x20, 0x0a));
        for (const [i, target] of targets.entries()) {
          tree.makeSymlink(root, nameAt(`link${i}`), target);
          expect(tree.readLink(root, nameAt(`link${i}`))).toEqual(target);
          expect(statName(tree, root, `link${i}`).mode & fileTypeMask).toBe(fileType.symlink);
        }
        expect(errnoOf(() => tree.readLink(root, nameAt('absent')))).toBe('ENOENT');
        putFile(tree, root, 'file');
        expect(errnoOf(() => tree.readLink(root, nameAt('file')))).toBe('EINVAL');
      });

      test('in the place of a file or directory are refused by every way in', () => {
        tree.makeDirectory(root, nameAt('outside'));
        const outside = tree.openDirectory(root, nameAt('outside'));
        putFile(tree, outside, 'file', 'outside');
        tree.makeDirectory(root, nameAt('inside'));
        const inside = tree.openDirectory(root, nameAt('inside'));
        tree.makeSymlink(inside, nameAt('to-directory'), utf8Bytes('../outside'));
        tree.makeSymlink(inside, nameAt('to-file'), utf8Bytes('../outside/file'));
        const refusals = ['ELOOP', 'ENOTDIR'];
        expect(errnoOf(() => tree.openFile(inside, nameAt('to-file')))).toBe('ELOOP');
        expect(refusals).toContain(errnoOf(() => tree.openDirectory(inside, nameAt('to-directory'))));
        expect(refusals).toContain(errnoOf(() => tree.openBeneath(inside, nameAt('to-directory'))));
        expect(refusals).toContain(errnoOf(() => tree.openBeneath(root, nameAt('inside/to-directory'))));
        expect(['EXDEV', 'EINVAL']).toContain(errnoOf(() => tree.openBeneath(inside, nameAt('../outside'))));
        // What changes a name changes the link, not what it leads to.
        const before = statName(tree, outside, 'file');
        expect(errnoOf(() => tree.setModeOfName(inside, nameAt('to-file'), 0o777))).toBe('ENOTSUP');
        tree.setTimesOfName(inside, nameAt('to-file'), { mtimeSec: 99, mtimeNsec: 0 });
        tree.rename(inside, nameAt('to-file'), nameAt('moved'), false);
        tree.removeFile(inside, nameAt('moved'));
        expect(statName(tree, outside, 'file')).toEqual(before);
        expect(readName(tree, outside, 'file')).toBe('outside');
        tree.close(inside);
        tree.close(outside);
      });

      test('swapped in for an open directory do not redirect what goes through its descriptor', () => {
        tree.makeDirectory(root, nameAt('elsewhere'));
        tree.makeDirectory(root, nameAt('held'));
        const held = tree.openDirectory(root, nameAt('held'));
        tree.rename(root, nameAt('held'), nameAt('moved'), true);
        tree.makeSymlink(root, nameAt('held'), utf8Bytes('elsewhere'));
        // By descriptor it goes where the directory went; by path it can only be refused.
        const outcome = errnoOf(() => putFile(tree, held, 'file', 'x'));
        expect(outcome).toBe(placeName === 'node by paths' ? 'ESTALE' : 'no error');
        tree.close(held);
        const elsewhere = tree.openDirectory(root, nameAt('elsewhere'));
        expect(tree.list(elsewhere).count).toBe(0);
        tree.close(elsewhere);
      });
    });

    describe('files', () => {
      test('are read and written at positions', () => {
        const file = createFile(tree, root, 'file', 'abcdefgh');
        tree.write(file, utf8Bytes('..XY..'), 2, 2, 3);
        const into = new Uint8Array(6).fill(0x2d);
        expect(tree.read(file, into, 1, 4, 2)).toBe(4);
        expect(new TextDecoder().decode(into)).toBe('-cXYf-');
        expect(tree.read(file, into, 0, 6, 6)).toBe(2);
        expect(tree.read(file, into, 0, 6, 8)).toBe(0);
        expect(tree.read(file, into, 0, 6, 1000)).toBe(0);
        tree.write(file, utf8Bytes('far'), 0, 3, 10_000);
        expect(tree.stat(file).size).toBe(10_003);
        tree.truncate(file, 3);
        expect(readAll(tree, file)).toBe('abc');
        tree.truncate(file, 5);
        expect(readAll(tree, file)).toBe('abc\0\0');
        tree.allocate(file, 0, 100_000);
        expect(tree.stat(file).size).toBe(5);
        tree.syncFileSystem(file);
        tree.close(file);
      });

      test('of which more is asked than fits the buffer are refused, not overrun', () => {
        const file = createFile(tree, root, 'file', 'abcdefgh');
        expect(['EFAULT', 'ERR_OUT_OF_RANGE']).toContain(errnoOf(() => tree.read(file, new Uint8Array(4), 2, 3, 0)));
        expect(['EFAULT', 'ERR_OUT_OF_RANGE']).toContain(errnoOf(() => tree.write(file, new Uint8Array(4), 2, 3, 0)));
        tree.close(file);
      });

      test('are open for reading only', () => {
        putFile(tree, root, 'file', 'kept');
        const file = tree.openFile(root, nameAt('file'));
        expect(errnoOf(() => tree.write(file, utf8Bytes('x'), 0, 1, 0))).toBe('EBADF');
        expect(errnoOf(() => tree.truncate(file, 0))).toBe('EINVAL');
        tree.close(file);
        expect(readName(tree, root, 'file')).toBe('kept');
      });

      test('closed once are closed', () => {
        const file = createFile(tree, root, 'file');
        tree.close(file);
        expect(errnoOf(() => tree.stat(file))).toBe('EBADF');
        expect(errnoOf(() => tree.close(file))).toBe('EBADF');
      });

      test('without a name get one at the end, or leave nothing', () => {
        const first = tree.createNameless(root);
        if (first === undefined) {
          expect(placeName).toMatch(/^node|calls missing/);
          return;
        }
        tree.write(first, utf8Bytes('whole'), 0, 5, 0);
        expect(tree.list(root).count).toBe(0);
        expect(tree.stat(first)).toMatchObject({ nlink: 0, mode: fileType.regular | 0o600 });
        tree.linkNameless(first, root, nameAt('file'));
        expect(tree.stat(first).nlink).toBe(1);
        tree.close(first);
        expect(readName(tree, root, 'file')).toBe('whole');

        const second = tree.createNameless(root) as Descriptor;
        expect(errnoOf(() => tree.linkNameless(second, root, nameAt('file')))).toBe('EEXIST');
        tree.close(second);
        expect(readName(tree, root, 'file')).toBe('whole');
        expect(nameTexts(tree.list(root))).toEqual(['file']);
      });

      test('take direct writes beside the usual ones, whole pages from memory made for it, where there is a disk', () => {
        const file = tree.createNameless(root) ?? tree.createExclusive(root, nameAt('file'));
        const direct = tree.openDirect(file);
        const native = placeName === 'native' || placeName === 'native with calls missing';
        if (direct === undefined) {
          expect(native && ['ext4', 'xfs'].includes(tree.fileSystem(root).type)).toBe(false);
          expect(placeName).not.toBe('memory');
          tree.close(file);
          return;
        }
        const memory = tree.directMemory(3 * directAlignment);
        expect(memory.length).toBe(3 * directAlignment);
        memory.forEach((_, i) => {
          memory[i] = (i * 7) & 0xff;
        });
        tree.write(direct, memory, directAlignment, 2 * directAlignment, directAlignment);
        expect(tree.stat(file).size).toBe(3 * directAlignment);
        expect(errnoOf(() => tree.write(direct, memory, 0, 100, 0))).toBe('EINVAL');
        tree.close(direct);
        // A head and a tail that are not whole pages, through the page cache.
        tree.write(file, memory, 0, directAlignment, 0);
        tree.write(file, memory, 0, 100, 3 * directAlignment);
        const back = new Uint8Array(4 * directAlignment);
        expect(tree.read(file, back, 0, back.length, 0)).toBe(3 * directAlignment + 100);
        const wanted = Buffer.concat([memory, memory.subarray(0, 100)]);
        expect(Buffer.compare(back.subarray(0, wanted.length), wanted)).toBe(0);
        tree.close(file);
      });

      test('are given back by the page cache, where there is a disk, and nothing of them is lost', () => {
        putFile(tree, root, 'file', 'x'.repeat(900));
        const file = tree.openFile(root, nameAt('file'));
        expect(tree.isUncached(file)).toBe(false);
        tree.syncFileSystem(root);
        tree.uncache(file);
        const native = placeName === 'native' || placeName === 'native with calls missing';
        const told = tree.isUncached(file);
        if (placeName === 'native' && ['ext4', 'xfs'].includes(tree.fileSystem(root).type)) expect(told).toBe(true);
        if (!native) expect(told).toBe(false);
        expect(readName(tree, root, 'file')).toBe('x'.repeat(900));
        expect(tree.isUncached(file)).toBe(false);
        tree.close(file);
      });

      test('are renamed without replacing, or replacing', () => {
        putFile(tree, root, 'a', 'A');
        putFile(tree, root, 'b', 'B');
        expect(errnoOf(() => tree.rename(root, nameAt('a'), nameAt('b'), false))).toBe('EEXIST');
        expect([readName(tree, root, 'a'), readName(tree, root, 'b')]).toEqual(['A', 'B']);
        tree.rename(root, nameAt('a'), nameAt('c'), false);
        expect(nameTexts(tree.list(root))).toEqual(['b', 'c']);
        expect(statName(tree, root, 'c').nlink).toBe(1);
        tree.rename(root, nameAt('c'), nameAt('b'), true);
        expect(nameTexts(tree.list(root))).toEqual(['b']);
        expect(readName(tree, root, 'b')).toBe('A');
        tree.makeDirectory(root, nameAt('d'));
        tree.makeDirectory(root, nameAt('e'));
        if (placeName === 'native with calls missing') {
          // A link stands in for it, and directories have none.
          expect(errnoOf(() => tree.rename(root, nameAt('d'), nameAt('f'), false))).toBe('EPERM');
          return;
        }
        expect(errnoOf(() => tree.rename(root, nameAt('d'), nameAt('e'), false))).toBe('EEXIST');
        tree.rename(root, nameAt('d'), nameAt('f'), false);
        expect(nameTexts(tree.list(root))).toEqual(['b', 'e', 'f']);
      });

      test('have further names', () => {
        const file = createFile(tree, root, 'first', 'shared');
        tree.makeDirectory(root, nameAt('directory'));
        const directory = tree.openDirectory(root, nameAt('directory'));
        tree.makeLink(root, nameAt('first'), directory, nameAt('second'));
        expect(statName(tree, directory, 'second')).toEqual(tree.stat(file));
        expect(tree.stat(file).nlink).toBe(2);
        expect(errnoOf(() => tree.makeLink(root, nameAt('first'), directory, nameAt('second')))).toBe('EEXIST');
        tree.makeSymlink(root, nameAt('symlink'), utf8Bytes('first'));
        tree.makeLink(root, nameAt('symlink'), directory, nameAt('link-to-symlink'));
        expect(statName(tree, directory, 'link-to-symlink').mode & fileTypeMask).toBe(fileType.symlink);
        tree.removeFile(root, nameAt('first'));
        expect(tree.stat(file).nlink).toBe(1);
        expect(readName(tree, directory, 'second')).toBe('shared');
        tree.close(file);
        tree.close(directory);
      });

      test('and directories are removed, full directories are not', () => {
        tree.makeDirectory(root, nameAt('directory'));
        const directory = tree.openDirectory(root, nameAt('directory'));
        putFile(tree, directory, 'file');
        expect(errnoOf(() => tree.removeDirectory(root, nameAt('directory')))).toBe('ENOTEMPTY');
        expect(['EISDIR', 'EPERM']).toContain(errnoOf(() => tree.removeFile(root, nameAt('directory'))));
        expect(errnoOf(() => tree.removeDirectory(directory, nameAt('file')))).toBe('ENOTDIR');
        tree.removeFile(directory, nameAt('file'));
        tree.removeDirectory(root, nameAt('directory'));
        tree.close(directory);
        expect(tree.list(root).count).toBe(0);
      });

      test('that are FIFOs open without a writer', () => {
        tree.makeFifo(root, nameAt('fifo'));
        expect(statName(tree, root, 'fifo').mode).toBe(fileType.fifo | 0o600);
        const fifo = tree.openFile(root, nameAt('fifo'));
        expect(tree.stat(fifo).mode & fileTypeMask).toBe(fileType.fifo);
        tree.close(fifo);
      });

      test('that are sockets are listed and cannot be opened', async () => {
        if (rig.path === undefined) rig.disk?.socket('volume/socket');
        const server = createServer();
        if (rig.path !== undefined) {
          await new Promise<void>((resolve) => server.listen(join(rig.path as string, 'socket'), resolve));
        }
        expect(listedNames(tree.list(root)).map(({ stat }) => stat.mode & fileTypeMask)).toEqual([fileType.socket]);
        // macOS says EOPNOTSUPP.
        expect(['ENXIO', 'ENOTSUP', 'EOPNOTSUPP']).toContain(errnoOf(() => tree.openFile(root, nameAt('socket'))));
        if (rig.path !== undefined) await new Promise((resolve) => server.close(resolve));
      });
    });

    describe('metadata', () => {
      test('keeps all mode bits, of files, directories and FIFOs', () => {
        const file = createFile(tree, root, 'file', 'x');
        tree.makeDirectory(root, nameAt('directory'));
        tree.makeFifo(root, nameAt('fifo'));
        for (const mode of [0o4755, 0o2711, 0o6777, 0o000, 0o644]) {
          tree.setMode(file, mode);
          expect(tree.stat(file).mode).toBe(fileType.regular | mode);
        }
        const directory = tree.openDirectory(root, nameAt('directory'));
        for (const mode of [0o1777, 0o2775, 0o3700]) {
          tree.setMode(directory, mode);
          expect(tree.stat(directory).mode).toBe(fileType.directory | mode);
        }
        tree.setModeOfName(root, nameAt('fifo'), 0o624);
        expect(statName(tree, root, 'fifo').mode).toBe(fileType.fifo | 0o624);
        expect(errnoOf(() => tree.setModeOfName(root, nameAt('absent'), 0o600))).toBe('ENOENT');
        tree.close(file);
        tree.close(directory);
      });

      test('keeps owners where the user may set them, and refuses otherwise', () => {
        const file = createFile(tree, root, 'file', 'x');
        tree.makeSymlink(root, nameAt('symlink'), utf8Bytes('file'));
        const own = tree.stat(file);
        if (asRoot || rig.disk !== undefined) {
          tree.setOwner(file, 1234, 2345);
          expect(tree.stat(file)).toMatchObject({ uid: 1234, gid: 2345 });
          tree.setOwnerOfName(root, nameAt('symlink'), 3456, 4567);
          expect(statName(tree, root, 'symlink')).toMatchObject({ uid: 3456, gid: 4567 });
          expect(tree.stat(file)).toMatchObject({ uid: 1234, gid: 2345 });
          // A large id is no sign.
          tree.setOwner(file, 4_294_967_290, 3_000_000_000);
          expect(tree.stat(file)).toMatchObject({ uid: 4_294_967_290, gid: 3_000_000_000 });
        } else {
          expect(errnoOf(() => tree.setOwner(file, own.uid + 1, own.gid))).toBe('EPERM');
          expect(errnoOf(() => tree.setOwnerOfName(root, nameAt('symlink'), own.uid + 1, own.gid))).toBe('EPERM');
        }
        tree.close(file);
      });

      const times: readonly TimesAt[] = [
        { mtimeSec: 1_700_000_000, mtimeNsec: 123_456_789 },
        { mtimeSec: 0, mtimeNsec: 0 },
        { mtimeSec: 1, mtimeNsec: 999_999_999 },
        { mtimeSec: -1, mtimeNsec: 999_999_999 },
        { mtimeSec: -1, mtimeNsec: 1 },
        { mtimeSec: -2_000_000_000, mtimeNsec: 500_000_000 },
        { mtimeSec: 4_294_967_296, mtimeNsec: 7 },
        { mtimeSec: 12_000_000_000, mtimeNsec: 0 },
      ];

      test('keeps times before 1970 and after 2106, of files, symlinks, directories and FIFOs', () => {
        const file = createFile(tree, root, 'file', 'x');
        tree.makeDirectory(root, nameAt('directory'));
        tree.makeSymlink(root, nameAt('symlink'), utf8Bytes('file'));
        tree.makeFifo(root, nameAt('fifo'));
        for (const time of times) {
          tree.setTimes(file, time);
          expectTime(tree, tree.stat(file), time);
          for (const name of ['directory', 'symlink', 'fifo']) {
            tree.setTimesOfName(root, nameAt(name), time);
            expectTime(tree, statName(tree, root, name), time);
          }
        }
        tree.close(file);
      });

      test('shows by a second stat what the file system clamped', () => {
        const file = createFile(tree, root, 'file', 'x');
        const { type } = tree.fileSystem(file);
        const far = { mtimeSec: 100_000_000_000, mtimeNsec: 0 };
        tree.setTimes(file, far);
        // ext4 keeps 34 bits of seconds from 1901; tmpfs keeps 64.
        const kept = type === 'ext4' ? 15_032_385_535 : 100_000_000_000;
        if (type === 'ext4' || type === 'tmpfs') expect(tree.stat(file).mtimeSec).toBe(kept);
        tree.setTimes(file, { mtimeSec: -3_000_000_000, mtimeNsec: 0 });
        if (type === 'ext4') expect(tree.stat(file).mtimeSec).toBe(-2_147_483_648);
        tree.close(file);
      });

      test('leaves atime alone, when times are set and when files are read', () => {
        if (rig.path === undefined) return;
        putFile(tree, root, 'file', 'content');
        const path = join(rig.path, 'file');
        // Older than mtime: a plain read would move it.
        utimesSync(path, 1_000_000, 2_000_000);
        expect(readName(tree, root, 'file')).toBe('content');
        tree.setTimesOfName(root, nameAt('file'), { mtimeSec: 3_000_000, mtimeNsec: 0 });
        expect(statSync(path).atimeMs).toBe(1_000_000_000);
      });

      test('has extended attributes, or says that it has none', () => {
        const file = createFile(tree, root, 'file', 'x');
        tree.makeDirectory(root, nameAt('directory'));
        const directory = tree.openDirectory(root, nameAt('directory'));
        expect(tree.xattrs(file)).toEqual([]);
        const large = new Uint8Array(3000).fill(0x61);
        const given: [string, Uint8Array][] = [
          ['user.zeta', utf8Bytes('last')],
          ['user.alpha', Uint8Array.of(0, 1, 0xff, 0)],
          ['user.empty', new Uint8Array(0)],
          ['user.large', large],
        ];
        if (!tree.abilities.xattrs) {
          expect(errnoOf(() => tree.setXattr(file, utf8Bytes('user.a'), utf8Bytes('1')))).toBe('ENOTSUP');
          expect(tree.xattrsOfName(root, nameAt('file'))).toEqual([]);
          tree.close(file);
          tree.close(directory);
          return;
        }
        for (const subject of [file, directory]) {
          for (const [name, value] of given) tree.setXattr(subject, utf8Bytes(name), value);
          const found = tree.xattrs(subject);
          expect(found.map(({ name }) => new TextDecoder().decode(name))).toEqual([
            'user.alpha',
            'user.empty',
            'user.large',
            'user.zeta',
          ]);
          expect(found.map(({ value }) => value)).toEqual([given[1]?.[1], given[2]?.[1], large, given[0]?.[1]]);
        }
        expect(tree.xattrsOfName(root, nameAt('file'))).toEqual(tree.xattrs(file));
        tree.setXattr(file, utf8Bytes('user.zeta'), utf8Bytes('changed'));
        expect(tree.xattrs(file).at(-1)?.value).toEqual(utf8Bytes('changed'));
        tree.removeXattr(file, utf8Bytes('user.zeta'));
        expect(tree.xattrs(file).length).toBe(3);
        expect(errnoOf(() => tree.removeXattr(file, utf8Bytes('user.zeta')))).toBe('ENODATA');
        tree.setXattrOfName(root, nameAt('file'), utf8Bytes('user.name'), utf8Bytes('by name'));
        expect(tree.xattrs(file).map(({ value }) => value)).toContainEqual(utf8Bytes('by name'));
        tree.makeSymlink(root, nameAt('symlink'), utf8Bytes('file'));
        // Never through the link: what belongs to it is refused by the kernel or kept beside it.
        expect(['EPERM', 'ENOTSUP', 'EACCES']).toContain(
          errnoOf(() => tree.setXattrOfName(root, nameAt('symlink'), utf8Bytes('user.x'), utf8Bytes('1'))),
        );
        expect(tree.xattrsOfName(root, nameAt('symlink'))).toEqual([]);
        tree.close(file);
        tree.close(directory);
      });
    });

    describe('holes', () => {
      test('are found in a sparse file of 4 GiB without reading it', () => {
        const size = 4 * 1024 ** 3;
        const file = createFile(tree, root, 'sparse');
        tree.write(file, utf8Bytes('begin'), 0, 5, 0);
        tree.write(file, utf8Bytes('middle'), 0, 6, 3 * 1024 ** 3);
        tree.truncate(file, size);
        expect(tree.stat(file).size).toBe(size);
        const into = new Uint8Array(6);
        tree.read(file, into, 0, 6, 3 * 1024 ** 3);
        expect(new TextDecoder().decode(into)).toBe('middle');
        if (!tree.abilities.holes) {
          expect(tree.nextData(file, 12_345, size)).toBe(12_345);
          expect(tree.nextHole(file, 12_345, size)).toBe(size);
        } else {
          const runs: [number, number][] = [];
          for (let at = tree.nextData(file, 0, size); at !== undefined; ) {
            const end = tree.nextHole(file, at, size);
            runs.push([at, end]);
            at = tree.nextData(file, end, size);
          }
          // Which blocks surround the data is the file system's choice, up to 2 MiB for a huge page.
          expect(runs.length).toBe(2);
          expect(runs[0]?.[0]).toBe(0);
          expect(runs[0]?.[1]).toBeLessThanOrEqual(2 * 1024 ** 2);
          expect(runs[1]?.[0]).toBeLessThanOrEqual(3 * 1024 ** 3);
          expect(runs[1]?.[0]).toBeGreaterThan(3 * 1024 ** 3 - 2 * 1024 ** 2);
        }
        expect(tree.nextData(file, size, size)).toBeUndefined();
        expect(tree.nextHole(file, size, size)).toBe(size);
        tree.close(file);
      });

      test('are told from data in full and empty files', () => {
        const full = createFile(tree, root, 'full', 'data');
        expect(tree.nextData(full, 0, 4)).toBe(0);
        expect(tree.nextHole(full, 0, 4)).toBe(4);
        const empty = createFile(tree, root, 'empty');
        expect(tree.nextData(empty, 0, 0)).toBeUndefined();
        expect(tree.nextHole(empty, 0, 0)).toBe(0);
        const only = createFile(tree, root, 'only-a-hole');
        tree.truncate(only, 1024 * 1024);
        if (tree.abilities.holes) expect(tree.nextData(only, 0, 1024 * 1024)).toBeUndefined();
        for (const file of [full, empty, only]) tree.close(file);
      });
    });

    describe('writers', () => {
      test('that hold a file open are seen, and not after they closed it', () => {
        const writing = createFile(tree, root, 'file', 'x');
        const file = tree.openFile(root, nameAt('file'));
        expect(tree.mayHaveWriter(file)).toBe(true);
        tree.close(writing);
        if (!tree.abilities.mappedWrites) {
          expect([tree.mayHaveWriter(file), tree.flush(file)]).toEqual([true, false]);
        } else {
          expect(tree.mayHaveWriter(file)).toBe(false);
          expect(tree.flush(file)).toBe(true);
          // The lease has been given back: nobody has to wait to write.
          if (rig.path !== undefined) writeFileSync(join(rig.path, 'file'), 'y');
        }
        tree.close(file);
      });

      test('through a mapping are found: after a flush by mtime, else because the file may have a writer', async () => {
        putFile(tree, root, 'mapped', 'm'.repeat(8192));
        const mapping = openMapping(rig, 'mapped');
        await nextClockTick();
        mapping.fill(0x61, 0, 10);
        const file = tree.openFile(root, nameAt('mapped'));
        expect(tree.mayHaveWriter(file)).toBe(true);
        const flushed = tree.flush(file);
        const before = tree.stat(file);
        await nextClockTick();
        mapping.fill(0x62, 0, 10);
        const after = tree.stat(file);
        expect(flushed).toBe(tree.abilities.mappedWrites && tree.fileSystem(root).writeback);
        if (flushed && rig.disk === undefined)
          expect(after.mtimeSec + after.mtimeNsec / 1e9).toBeGreaterThan(before.mtimeSec + before.mtimeNsec / 1e9);
        if (!flushed) expect(tree.mayHaveWriter(file)).toBe(true);
        const into = new Uint8Array(1);
        tree.read(file, into, 0, 1, 0);
        expect(into[0]).toBe(0x62);
        mapping.close();
        expect(tree.mayHaveWriter(file)).toBe(!tree.abilities.mappedWrites);
        tree.close(file);
      });
    });
  });
}

function openMapping({ path, disk }: Rig, name: string) {
  if (path !== undefined) return mapFile(join(path, name), 8192);
  const mapping = (disk as MemoryFileSystem).openMapping(`volume/${name}`);
  return {
    fill: (byte: number, start: number, end: number) => mapping.write(start, new Uint8Array(end - start).fill(byte)),
    close: () => mapping.close(),
  };
}

function expectTime(tree: FileTreeWriter, stat: { mtimeSec: number; mtimeNsec: number }, time: TimesAt): void {
  if (tree.abilities.nanosecondTimes) {
    expect([stat.mtimeSec, stat.mtimeNsec]).toEqual([time.mtimeSec, time.mtimeNsec]);
  } else {
    // A double of seconds: some microseconds at the far ends.
    const difference = stat.mtimeSec - time.mtimeSec + (stat.mtimeNsec - time.mtimeNsec) / 1e9;
    expect(Math.abs(difference)).toBeLessThan(1e-5);
  }
}

describe.skipIf(!onLinux)('in a process of its own', () => {
  const child = fileURLToPath(new URL('../support/tree-child.ts', import.meta.url));

  function runChild(task: string, implementation: string, limits = ''): unknown {
    const path = mkdtempSync(join(tmpdir(), 'holdfast-tree-'));
    made.push(path);
    const command = `${limits} exec "$0" "$@"`;
    const args = ['-c', command, process.execPath, child, task, implementation, path];
    const ended = spawnSync('sh', args, { encoding: 'utf8' });
    if (ended.status !== 0) throw new Error(`${task} failed: ${ended.stderr}`);
    return JSON.parse(ended.stdout);
  }

  test('memory can be closed to other processes', () => {
    expect(runChild('dumpable', 'native')).toEqual({ before: 1, forbidden: true, after: 0 });
  });

  for (const implementation of ['native', 'node']) {
    test(`${implementation}: the limit of open files is a typed error`, () => {
      const result = runChild('exhaust', implementation, 'ulimit -n 64;');
      expect(result).toMatchObject({ errno: 'EMFILE' });
      expect((result as { opened: number }).opened).toBeGreaterThan(10);
    });

    test(`${implementation}: no descriptor reaches a child process`, () => {
      expect(runChild('inherited', implementation)).toEqual([]);
    });

    test.skipIf(!asRoot)(
      `${implementation}: works without privileges, reads what belongs to others, says what is refused`,
      () => {
        expect(runChild('unprivileged', implementation)).toEqual({
          dumpable: implementation === 'native',
          read: 9,
          // No lease on a file of somebody else, so it is flushed instead.
          flushed: implementation === 'native',
          mayHaveWriter: true,
          nameless: implementation === 'native',
          chown: 'EPERM',
          chmodForeign: 'EPERM',
          names: ['foreign', 'mine'],
        });
      },
    );

    test.skipIf(!asRoot)(`${implementation}: a name that cannot be looked up is listed, with a record of zeros`, () => {
      expect(runChild('searchless', implementation)).toEqual([['foreign', 0, '0']]);
    });
  }
});

describe.skipIf(!asRoot || !onLinux)('a file system of its own', () => {
  let mounted: string | undefined;

  afterEach(() => {
    if (mounted !== undefined) execFileSync('umount', [mounted]);
    mounted = undefined;
  });

  test('that is full gives ENOSPC, for blocks and for inodes', (context) => {
    const path = mkdtempSync(join(tmpdir(), 'holdfast-tree-'));
    made.push(path);
    mkdirSync(join(path, 'mount'));
    const target = join(path, 'mount');
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m,nr_inodes=8', 'none', target]).status !== 0) {
      context.skip('this container may not mount');
    }
    mounted = target;
    for (const tree of [nativeTree(), new NodeFileTree('proc')]) {
      const root = tree.openRoot(target);
      const file = tree.createExclusive(root, nameAt('file'));
      expect(errnoOf(() => tree.write(file, new Uint8Array(2 * 1024 ** 2), 0, 2 * 1024 ** 2, 0))).toBe('ENOSPC');
      if (tree.abilities.name === 'native') expect(errnoOf(() => tree.allocate(file, 0, 2 * 1024 ** 2))).toBe('ENOSPC');
      tree.truncate(file, 0);
      const names = Array.from({ length: 8 }, (_, i) => `d${i}`);
      const outcomes = names.map((name) => errnoOf(() => tree.makeDirectory(root, nameAt(name))));
      expect(outcomes).toContain('ENOSPC');
      for (const [i, name] of names.entries()) {
        if (outcomes[i] === 'no error') tree.removeDirectory(root, nameAt(name));
      }
      tree.removeFile(root, nameAt('file'));
      tree.close(file);
      tree.close(root);
    }
  });
});

describe.skipIf(!asRoot || !onLinux)('an overlay', () => {
  let mounted: string | undefined;

  afterEach(() => {
    if (mounted !== undefined) execFileSync('umount', [mounted]);
    mounted = undefined;
  });

  // The mapping belongs to the file below: neither a lease nor the overlay's page cache shows it.
  test('never vouches for a file that may be mapped', (context) => {
    const path = mkdtempSync(join(tmpdir(), 'holdfast-tree-'));
    made.push(path);
    for (const part of ['lower', 'upper', 'work', 'mount']) mkdirSync(join(path, part));
    const target = join(path, 'mount');
    const options = `lowerdir=${path}/lower,upperdir=${path}/upper,workdir=${path}/work`;
    if (spawnSync('mount', ['-t', 'overlay', 'overlay', '-o', options, target]).status !== 0) {
      context.skip('this container may not mount overlays');
    }
    mounted = target;
    writeFileSync(join(target, 'mapped'), 'm'.repeat(8192));
    const mapping = mapFile(join(target, 'mapped'), 8192);
    const tree = nativeTree();
    const root = tree.openRoot(target);
    const file = tree.openFile(root, nameAt('mapped'));
    mapping.fill(0x61, 0, 10);
    expect(tree.fileSystem(root)).toEqual({ type: 'overlayfs', writeback: false });
    expect([tree.flush(file), tree.mayHaveWriter(file)]).toEqual([false, true]);
    mapping.close();
    tree.close(file);
    tree.close(root);
  });
});

describe('the choice', () => {
  test('is the native tree where it works, and the other on request', () => {
    expect(chooseFileTree().name).toBe(onLinux ? 'native' : 'node');
    expect(chooseFileTree({ only: 'node' })).toMatchObject({ name: 'node', why: undefined });
    expect(chooseFileTree({ only: 'node' }).tree.abilities.name).toBe('node');
  });

  test.skipIf(!onLinux)('does not need to write anywhere', () => {
    expect(chooseFileTree({ temporary: '/there/is/no/such/directory' })).toMatchObject({
      name: 'native',
      why: undefined,
      sharedDescriptors: true,
    });
  });

  test.skipIf(!onLinux)('leaves nothing behind', () => {
    const path = mkdtempSync(join(tmpdir(), 'holdfast-tree-'));
    made.push(path);
    expect(chooseFileTree({ temporary: path, only: 'native' }).name).toBe('native');
    expect(readdirSync(path)).toEqual([]);
  });
});
