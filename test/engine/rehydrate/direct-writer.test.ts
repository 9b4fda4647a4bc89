import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FileTreeError } from '../../../src/engine/ports/file-tree.ts';
import { DirectWriter } from '../../../src/engine/rehydrate/direct-writer.ts';
import { MemoryFileSystem, type MemoryFileSystemOptions, MemoryFileTree } from '../../support/memory-file-tree.ts';
import { nameAt } from '../../support/tree-names.ts';

const page = 4096;

interface Piece {
  /** Bytes left out before it. */
  readonly gap: number;
  readonly bytes: number;
}

/** Around the alignment and the size of the staging memory. */
const length = fc.oneof(
  fc.integer({ min: 1, max: 3 * page }),
  fc.constantFrom(page, 2 * page, 2 ** 20 - 1, 2 ** 20, 2 ** 20 + 1, 3 * 2 ** 20 + 17),
);
const pieces = fc.array(
  fc.record({ gap: fc.oneof(fc.constant(0), fc.constant(page), fc.integer({ min: 1, max: 3 * page })), bytes: length }),
  { minLength: 1, maxLength: 6 },
);

function makeTree(options: MemoryFileSystemOptions = {}): { tree: MemoryFileTree; writes: string[] } {
  const tree = new MemoryFileTree(new MemoryFileSystem(options));
  const writes: string[] = [];
  tree.beforeCall = ({ operation }) => writes.push(operation);
  return { tree, writes };
}

function pattern(bytes: number, from: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => ((from + i) * 31 + ((from + i) >> 8)) & 0xff);
}

/** Writes the pieces one after the other and gives the content of the file beside what it should be. */
function written(options: MemoryFileSystemOptions, start: number, list: readonly Piece[]) {
  const { tree, writes } = makeTree(options);
  const root = tree.makeRoot('/volume');
  const file = tree.createExclusive(root, nameAt('file'));
  const writer = new DirectWriter(tree);
  writer.begin(file);
  const wanted: { position: number; bytes: Uint8Array }[] = [];
  let position = start;
  for (const { gap, bytes } of list) {
    position += gap;
    const content = pattern(bytes, position);
    wanted.push({ position, bytes: content });
    const padded = new Uint8Array(bytes + 3);
    padded.set(content, 3);
    if (writer.active) writer.write(padded, 3, bytes, position);
    position += bytes;
  }
  writer.flush();
  writer.end();
  const got = new Uint8Array(position + 1);
  const end = tree.read(file, got, 0, got.length, 0);
  const expected = new Uint8Array(position + 1);
  for (const piece of wanted) expected.set(piece.bytes, piece.position);
  tree.close(file);
  return { end, position, equal: Buffer.compare(got, expected) === 0, writes, open: tree.openDescriptors.length };
}

describe('the direct writer', () => {
  it('writes what it was given where it belongs, with gaps, whatever the alignment', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 3 * page }), pieces, (start, list) => {
        const result = written({}, start, list);
        expect(result).toMatchObject({ end: result.position, equal: true, open: 1 });
      }),
      { numRuns: 60 },
    );
  });

  it('sends whole pages past the page cache and only the ends through it', () => {
    const { writes } = written({}, 100, [{ gap: 0, bytes: 3 * 2 ** 20 }]);
    expect(writes.filter((operation) => operation === 'writeDirect')).toHaveLength(3);
    // Head, three pieces, tail.
    expect(writes.filter((operation) => operation === 'write')).toHaveLength(5);
  });

  it('asks the device for nothing that is not aligned, which would end direct writes for good', () => {
    const { tree, writes } = makeTree();
    const root = tree.makeRoot('/volume');
    const writer = new DirectWriter(tree);
    for (const name of ['first', 'second']) {
      writer.begin(tree.createExclusive(root, nameAt(name)));
      writer.write(pattern(3 * page + 1, 0), 0, 3 * page + 1, 0);
      writer.flush();
      writer.end();
    }
    expect(writes.filter((operation) => operation === 'writeDirect')).toHaveLength(2);
  });

  it('goes on the usual way where the device wants a larger alignment, and does not ask again', () => {
    const result = written({ directAlignment: 64 * 1024 }, page, [{ gap: 0, bytes: 2 * 2 ** 20 + 5 }]);
    expect(result).toMatchObject({ end: result.position, equal: true });
    expect(result.writes.filter((operation) => operation === 'writeDirect')).toHaveLength(1);
  });

  it('is not active where the file system refuses', () => {
    const { tree } = makeTree({ directAlignment: 0 });
    const root = tree.makeRoot('/volume');
    const writer = new DirectWriter(tree);
    writer.begin(tree.createExclusive(root, nameAt('file')));
    expect(writer.active).toBe(false);
    writer.end();
  });

  it('passes on what fails, and can begin again', () => {
    const { tree } = makeTree();
    const root = tree.makeRoot('/volume');
    const file = tree.createExclusive(root, nameAt('file'));
    const writer = new DirectWriter(tree);
    tree.failCall('writeDirect', 'ENOSPC');
    writer.begin(file);
    expect(() => writer.write(pattern(2 ** 20, 0), 0, 2 ** 20, 0)).toThrow(FileTreeError);
    writer.end();
    writer.begin(file);
    writer.write(pattern(2 ** 20, 0), 0, 2 ** 20, 0);
    writer.flush();
    writer.end();
    expect(tree.stat(file).size).toBe(2 ** 20);
  });
});
