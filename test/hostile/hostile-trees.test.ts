/** Trees that somebody made who has the keys of the domain: authentic, and malicious. Restored by the real engine on a real disk. */
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { chooseFileTree } from '../../src/edge/host/choose-file-tree.ts';
import { LeafWriter } from '../../src/engine/format/tree-node.ts';
import { ByteWriter, emptyBytes, utf8Bytes } from '../../src/engine/model/bytes.ts';
import type { TreeRoot, VolumeCheckpoint } from '../../src/engine/model/checkpoint.ts';
import { HoldfastError } from '../../src/engine/model/errors.ts';
import type { VolumeName } from '../../src/engine/model/ids.ts';
import type { RehydrateOutcome } from '../../src/engine/rehydrate/rehydrate-outcome.ts';
import { restore } from '../support/restore-fixture.ts';
import { setLineage } from '../support/stored-set.ts';
import { encoded } from '../support/tree-model.ts';
import { snapshotTree } from '../support/tree-snapshot.ts';
import {
  access,
  type ForgedEntry,
  Forger,
  joined,
  type LyingCompressor,
  lyingCompressor,
  plainMeta,
  varint,
} from './forger.ts';

let base: string;
let compressor: LyingCompressor;

/** Beside the target lies what nobody may touch; hostile names aim at it. */
beforeEach(async () => {
  base = mkdtempSync(join(tmpdir(), 'holdfast-hostile-'));
  mkdirSync(join(base, 'canary', 'below'), { recursive: true });
  writeFileSync(join(base, 'canary', 'secret'), 'not yours');
  writeFileSync(join(base, 'canary', 'below', 'file'), 'nor this');
  compressor = await lyingCompressor();
});
afterEach(() => {
  compressor[Symbol.dispose]();
  rmSync(base, { recursive: true });
});

interface Attack {
  readonly result: RehydrateOutcome | undefined;
  readonly error: HoldfastError | undefined;
  readonly seconds: number;
  readonly grownBytes: number;
}

type Build = (forger: Forger) => TreeRoot | readonly ForgedEntry[] | Promise<TreeRoot>;

/** Restores what was forged into `base`/target, and looks whether anything outside has been touched. */
async function attack(build: Build, volume: Partial<VolumeCheckpoint> = {}): Promise<Attack> {
  rmSync(join(base, 'target'), { recursive: true, force: true });
  const forger = new Forger(compressor);
  const built = await build(forger);
  const root = Array.isArray(built) ? forger.leaf(built as readonly ForgedEntry[]) : (built as TreeRoot);
  compressor.plant = undefined;
  await forger.commit(root, volume);

  const outside = (): unknown => [
    snapshotTree(join(base, 'canary')),
    lstatSync(join(base, 'canary', 'secret')).nlink,
    readdirSync(base).filter((name) => name !== 'target'),
  ];
  const before = outside();
  const { tree: files } = chooseFileTree({ only: 'native' });
  const rss = process.memoryUsage.rss();
  const began = performance.now();
  let result: RehydrateOutcome | undefined;
  let error: HoldfastError | undefined;
  try {
    result = await restore({ store: forger.store, lineage: setLineage, access, files, path: join(base, 'target') });
  } catch (caught) {
    if (!(caught instanceof HoldfastError)) throw caught;
    error = caught;
  }
  const seconds = (performance.now() - began) / 1000;
  expect(outside(), 'something outside of the target was touched').toEqual(before);
  return { result, error, seconds, grownBytes: process.memoryUsage.rss() - rss };
}

/** Refused with one of the codes, soon and in little memory. */
async function refused(build: Build, volume: Partial<VolumeCheckpoint> = {}): Promise<HoldfastError> {
  const { error, result, seconds, grownBytes } = await attack(build, volume);
  expect(result, 'this should have been refused').toBeUndefined();
  expect(['E_HOSTILE', 'E_DAMAGED'], `${error?.code}: ${error?.message} ${error?.cause ?? ''}`).toContain(error?.code);
  expect(seconds).toBeLessThan(20);
  expect(grownBytes).toBeLessThan(200 * 1024 * 1024);
  return error as HoldfastError;
}

const targetNames = (): string[] => (existsSync(join(base, 'target')) ? readdirSync(join(base, 'target')) : []);

test('an honest tree made by the same hands is restored', async () => {
  const { result, error } = await attack((f) => [
    f.directory('a'),
    f.file('a\0b', 'below'),
    f.hardlink('a\0c', 'a\0b'),
    f.symlink('link', '../canary/secret'),
  ]);
  expect(error).toBeUndefined();
  expect(result?.rootGot).toEqual(result?.rootExpected);
  expect(snapshotTree(join(base, 'target')).map((line) => line.replace(/ .*(= |-> )/, ' $1'))).toEqual([
    expect.stringMatching(/^a 40755 /),
    expect.stringMatching(/^a\/b 100644 /),
    'a/c = a/b',
    'link -> ../canary/secret',
  ]);
});

describe('names that lead elsewhere are refused', () => {
  test.each([
    '..',
    '.',
    '',
    '../canary/secret',
    '/etc/holdfast-was-here',
    'a/b',
    '..\0canary\0secret',
    'a\0..\0..\0canary\0secret',
    'a\0.\0b',
    'a\0\0b',
    'a\0',
    '\0a',
    `a\0${'x'.repeat(256)}`,
  ])('%j', async (key) => {
    await refused((f) => [f.file(key)]);
    await refused((f) => [f.symlink(key, '/')]);
    await refused((f) => [f.directory(key)]);
    expect(existsSync('/etc/holdfast-was-here')).toBe(false);
    expect(targetNames()).toEqual([]);
  });

  test('names of more components than anybody has', async () => {
    await refused((f) => [f.file(Array.from({ length: 600_000 }, () => 'x').join('\0'))]);
  });
});

describe('nothing is written through what is not a directory', () => {
  test.each(['../canary', '../canary/below', '/', '.', 'nowhere'])(
    'a symlink to %s, and names below it',
    async (to) => {
      await refused((f) => [f.symlink('link', to), f.file('link\0secret', 'changed'), f.file('link\0new')]);
      await refused((f) => [f.symlink('link', to), f.directory('link\0below'), f.file('link\0below\0file', 'changed')]);
      await refused((f) => [f.symlink('link', to), f.hardlink('link\0new', 'link')]);
    },
  );

  test('a file, a FIFO or nothing at all, and names below it', async () => {
    const fifo = { key: 'a', ...encoded({ type: 'fifo', ...plainMeta }) };
    await refused((f) => [f.file('a'), f.file('a\0b')]);
    await refused(() => [fifo, { ...fifo, key: 'a\0b' }]);
    await refused((f) => [f.file('a\0b')]);
    await refused((f) => [f.file('a'), f.hardlink('b', 'a'), f.file('b\0c')]);
  });
});

describe('hardlinks lead to an earlier file of the tree or nowhere', () => {
  test.each([
    ['missing', 'missing'],
    ['itself', 'b'],
    ['a later name', 'c'],
    ['outside', '..\0canary\0secret'],
    ['an absolute path', '/etc/passwd'],
    ['nothing', ''],
    ['a directory', 'dir'],
  ])('%s', async (_, target) => {
    await refused((f) => [f.file('a'), f.hardlink('b', target), f.file('c'), f.directory('dir')]);
  });

  test('an earlier directory, and through a symlink', async () => {
    await refused((f) => [f.directory('a'), f.hardlink('b', 'a')]);
    await refused((f) => [f.symlink('a', '../canary'), f.hardlink('b', 'a\0secret')]);
  });

  test('another hardlink: each names the first name of its group', async () => {
    const { error } = await attack((f) => [f.file('a'), f.hardlink('b', 'a'), f.hardlink('c', 'b')]);
    expect(error?.code).toBe('E_HOSTILE');
  });

  test('a symlink is linked itself, never what it names', async () => {
    const { error } = await attack((f) => [f.symlink('a', '../canary/secret'), f.hardlink('b', 'a')]);
    if (error !== undefined) expect(['E_HOSTILE', 'E_DAMAGED']).toContain(error.code);
    else expect(lstatSync(join(base, 'target', 'b')).isSymbolicLink()).toBe(true);
  });
});

describe('keys stand once and in order', () => {
  test.each([[['b', 'a']], [['a', 'a']], [['a', 'a\0b', 'a']], [['a0', 'a\0b']]])('%j', async (keys) => {
    await refused((f) => keys.map((key) => f.file(key)));
  });

  test('a name twice in two leaves', async () => {
    await refused((f) => {
      const leaf = (names: readonly string[]) => {
        const writer = new LeafWriter();
        for (const name of names) writer.add(utf8Bytes(name), f.directory(name).value, emptyBytes);
        return writer.encode();
      };
      const sums = { files: 0, entries: 2, bytes: 0 };
      const children = [f.child(leaf(['a', 'b']), sums), f.child(leaf(['b', 'c']), sums, utf8Bytes('b'))];
      return f.interior(1, children, { files: 0, entries: 4, bytes: 0 });
    });
  });
});

/** The value of a file entry with numbers as they are given. */
function fileValue(
  size: Uint8Array,
  content: Uint8Array,
  meta: Uint8Array = joined([0x24, 0, 0, 0, 0, 0]),
): Uint8Array {
  return joined([1], size, meta, content);
}

const huge = varint(1n << 60n);
const large = varint((1n << 53n) - 1n);
const noHoles = Uint8Array.of(0);

describe('numbers that no file has', () => {
  test.each<[string, Uint8Array]>([
    ['a size of 2^60', fileValue(huge, Uint8Array.of(0))],
    ['a size of 2^53 without content', fileValue(large, Uint8Array.of(0))],
    ['more chunks than fit', fileValue(Uint8Array.of(5), Uint8Array.of(200))],
    ['an item of 2^60 zeros', fileValue(large, joined([2, 0], huge, [0]))],
    ['runs of zeros side by side', fileValue(varint(131_072n), joined([2, 0], varint(65_536n), [0]))],
    ['a list of level 2^60', fileValue(large, joined([0x80], huge))],
    ['2^60 xattrs', fileValue(Uint8Array.of(0), Uint8Array.of(0), joined([0x24, 0, 0, 0, 0], huge))],
    [
      'an xattr of 2^60 bytes',
      fileValue(Uint8Array.of(0), Uint8Array.of(0), joined([0, 0, 0, 0, 0, 1, 6], 'user.a', [0], huge)),
    ],
    [
      'an xattr chunk of 2^52 bytes',
      fileValue(
        Uint8Array.of(0),
        Uint8Array.of(0),
        joined([0, 0, 0, 0, 0, 1, 6], 'user.a', [1], varint(1n << 52n), new Uint8Array(32)),
      ),
    ],
    [
      'a mode beyond permissions',
      fileValue(Uint8Array.of(0), Uint8Array.of(0), joined(varint(0o100644n), [0, 0, 0, 0, 0])),
    ],
    [
      'an owner of 2^40',
      fileValue(Uint8Array.of(0), Uint8Array.of(0), joined([0x24], varint(1n << 40n), [0, 0, 0, 0])),
    ],
    ['a time before all times', fileValue(Uint8Array.of(0), Uint8Array.of(0), joined([0x24, 0, 0], large, [0, 0]))],
    [
      'nanoseconds beyond a second',
      fileValue(Uint8Array.of(0), Uint8Array.of(0), joined([0x24, 0, 0, 0], varint(2_000_000_000n), [0])),
    ],
    ['an unknown type', Uint8Array.of(77)],
    ['no bytes', emptyBytes],
    ['bytes behind its end', joined(fileValue(Uint8Array.of(0), Uint8Array.of(0)), [0])],
    ['a symlink to nothing', joined([3, 0x24, 0, 0, 0, 0, 0, 0])],
    ['a symlink with a zero byte', joined([3, 0x24, 0, 0, 0, 0, 0, 3], 'a\0b')],
    ['a symlink of 5,000 bytes', joined([3, 0x24, 0, 0, 0, 0, 0], varint(5000n), 'x'.repeat(5000))],
  ])('%s', async (_, value) => {
    await refused((f) => [{ key: 'a', value, placement: value[0] === 1 ? noHoles : emptyBytes }]);
  });

  test.each([
    ['files', { files: 2 ** 50 }],
    ['entries', { entries: 2 ** 50 }],
    ['bytes', { bytes: 2 ** 52 }],
    ['no files', { files: 0 }],
    ['no entries', { entries: 0 }],
  ])('sums that do not add up: %s', async (_, sums) => {
    await refused((f) => f.leaf([f.file('a'), f.file('b')], sums));
  });

  test('more holes than are kept, holes beyond the end, holes of 2^60 bytes', async () => {
    const withHoles = (placement: Uint8Array) => (f: Forger) => {
      const { value, placement: honest = emptyBytes } = f.file('a');
      return [{ key: 'a', value, placement: joined(honest.subarray(0, -1), placement) }];
    };
    await refused(withHoles(joined(varint(1n << 40n))));
    await refused(withHoles(joined([1, 3], huge)));
    await refused(withHoles(joined([1, 100, 1])));
    await refused(withHoles(joined([1, 0, 0])));
  });

  test('a sparse file larger than any disk ends with a typed error and no space used', async () => {
    const blocks = BigInt(2 ** 53) - 65_536n;
    const { error, seconds } = await attack(() => [
      { key: 'a', value: fileValue(varint(blocks), Uint8Array.of(1, 0)), placement: noHoles },
    ]);
    // Nothing about it is wrong but that no file system can keep it.
    if (error !== undefined) expect(error.code).toMatch(/^E_(TARGET_IO|TARGET_FULL|HOSTILE|DAMAGED|LIMIT)$/);
    expect(seconds).toBeLessThan(20);
  });
});

describe('places outside of what the record lists', () => {
  test.each([
    ['another slot', { slot: 1 }],
    ['another pack', { pack: 9 }],
    ['a later slot', { slot: 3 }],
    ['another lineage', { origin: 1 }],
    ['no such segment', { segment: 1 << 21 }],
    ['beyond the segment', { offset: 1 << 20 }],
  ])('%s', async (_, change) => {
    await refused((f) => {
      const item = f.chunk(utf8Bytes('content'));
      if (item.kind !== 'chunk') throw new Error('a chunk was made');
      const items = [{ ...item, place: { ...item.place, ...change } }];
      const entry = encoded({ type: 'file', size: 7, content: { kind: 'inline', items }, holes: [], ...plainMeta });
      return [{ key: 'a', ...entry }];
    });
    await refused((f) => {
      const root = f.leaf([f.file('a')]);
      return { ...root, place: { ...(root.place as NonNullable<TreeRoot['place']>), ...change } };
    });
  });

  test('a chunk that is another one than its id says', async () => {
    const error = await refused((f) => {
      const [one, other] = [f.chunk(utf8Bytes('one')), f.chunk(utf8Bytes('two'))];
      if (one.kind !== 'chunk' || other.kind !== 'chunk') throw new Error('chunks were made');
      const items = [{ ...one, place: other.place }];
      const entry = encoded({ type: 'file', size: 3, content: { kind: 'inline', items }, holes: [], ...plainMeta });
      return [{ key: 'the-file', ...entry }];
    });
    expect(JSON.stringify(error.details)).toContain('the-file');
  });
});

describe('nodes that no writer makes', () => {
  const header = (kind: number, level: number, count: Uint8Array): Uint8Array => joined([1, kind, level], count);

  test.each<[string, Uint8Array]>([
    ['2^60 items', header(0, 0, huge)],
    ['2^31 items', header(0, 0, varint(1n << 31n))],
    ['4,096 items and no bytes', joined(header(0, 0, varint(4096n)), [0])],
    ['a prefix of 2^60 bytes', joined(header(0, 0, varint(2n)), huge)],
    ['keys of 2^60 bytes', joined(header(0, 0, varint(2n)), [0], huge)],
    ['a leaf of level 3', header(0, 3, varint(1n))],
    ['another kind', joined([1, 9, 0, 1])],
    ['a chunk list', joined(header(2, 0, varint(1n)), [0], varint(65_536n))],
    ['no bytes', emptyBytes],
  ])('a root of %s', async (_, logical) => {
    await refused((f) => ({ ...f.rawNode(logical), level: 0, sums: { files: 1, entries: 2, bytes: 0 } }));
  });

  test('a root of another format asks for a newer Holdfast', async () => {
    const { error } = await attack((f) => ({
      ...f.rawNode(joined([9, 0, 0, 1])),
      level: 0,
      sums: { files: 1, entries: 2, bytes: 0 },
    }));
    expect(error?.code).toBe('E_FORMAT_NEWER');
  });

  test('a root that claims more bytes than there are, or more than any node has', async () => {
    await refused((f) => ({ ...f.leaf([f.file('a')]), nodeBytes: 8 * 1024 * 1024 }));
    await refused((f) => ({ ...f.leaf([f.file('a')]), nodeBytes: 1 }));
  });

  test('levels that do not end', async () => {
    await refused((f) => ({ ...f.leaf([f.file('a')]), level: 24 }));
    await refused((f) => {
      let root = f.leaf([f.file('a')]);
      for (let level = 1; level <= 24; level++) {
        const child = {
          separator: emptyBytes,
          id: root.id,
          nodeBytes: root.nodeBytes,
          place: root.place as never,
          sums: root.sums,
        };
        root = f.interior(level, [child], root.sums);
      }
      return root;
    });
  });

  test('a tree that unfolds into 4^20 times what is stored', async () => {
    await refused((f) => {
      let root = f.leaf([f.directory('a'), f.directory('b')]);
      for (let level = 1; level <= 20; level++) {
        const one = { id: root.id, nodeBytes: root.nodeBytes, place: root.place as never, sums: root.sums };
        const children = ['', 'c', 'd', 'e'].map((separator) => ({ separator: utf8Bytes(separator), ...one }));
        const { files, entries, bytes } = root.sums;
        root = f.interior(level, children, { files, entries: entries * 4, bytes });
      }
      return root;
    });
  });

  test('a chunk list that unfolds into more than its file says, or less', async () => {
    for (const size of [1_000_000, 65_536, 2 ** 52]) {
      await refused((f) => {
        const leaf = f.nodes.listLeaf([f.chunk(new Uint8Array(65_536).fill(7))]);
        const node = f.node(leaf.bytes, leaf.logical);
        const children = Array.from({ length: 1000 }, () => ({ ...node, items: 1, bytes: 65_536 }));
        const list = f.nodes.listInterior(1, children);
        const content = { kind: 'list' as const, ...f.node(list.bytes, list.logical), level: 1 };
        return [{ key: 'a', ...encoded({ type: 'file', size, content, holes: [], ...plainMeta }) }];
      });
    }
  });

  test('a chunk list that is a tree, of another level, or of 2^60 items', async () => {
    const listed = (make: (f: Forger) => { bytes: Uint8Array; logical: Uint8Array }, level: number) => (f: Forger) => {
      const { bytes, logical } = make(f);
      const content = { kind: 'list' as const, ...f.node(bytes, logical), level };
      return [{ key: 'a', ...encoded({ type: 'file' as const, size: 65_536, content, holes: [], ...plainMeta }) }];
    };
    const zeros = (f: Forger) => f.nodes.listLeaf([{ kind: 'zero', bytes: 65_536 }]);
    await refused(listed(zeros, 1));
    await refused(listed(zeros, 24));
    const leaf = (f: Forger) => {
      const writer = new LeafWriter();
      writer.add(utf8Bytes('x'), f.directory('x').value, emptyBytes);
      return writer.encode();
    };
    await refused(listed(leaf, 0));
    const raw = (logical: Uint8Array) => () => {
      const w = new ByteWriter();
      w.blob(logical);
      return { bytes: w.take(), logical };
    };
    await refused(listed(raw(header(2, 0, huge)), 0));
    await refused(listed(raw(joined(header(2, 0, varint(4096n)), [0])), 0));
    await refused(listed(raw(joined(header(3, 1, varint(1n)), new Uint8Array(32), large, large)), 1));
  });

  test('a node of 7 MB of one name is refused or restored as it is, in bounded memory', async () => {
    const { error, seconds, grownBytes } = await attack((f) => {
      const w = new ByteWriter();
      w.u8(3);
      for (const number of [0o644, 0, 0, 0, 0]) w.varint(number);
      const names = 20_000;
      w.varint(names);
      for (let i = 0; i < names; i++) {
        w.blob(utf8Bytes(`user.${String(i).padStart(6, '0')}`));
        w.u8(0);
        w.blob(new Uint8Array(250));
      }
      w.blob(utf8Bytes('target'));
      return [{ key: 'a', value: w.take(), placement: emptyBytes }];
    });
    if (error !== undefined) expect(error.code).toMatch(/^E_(HOSTILE|DAMAGED|LIMIT|TARGET_IO|TARGET_FULL)$/);
    expect(seconds).toBeLessThan(20);
    expect(grownBytes).toBeLessThan(200 * 1024 * 1024);
  });
});

describe('frames that hold more than they say', () => {
  test.each([2 * 1024 * 1024, 64 * 1024 * 1024, 512 * 1024 * 1024])('%i bytes for 7', async (bytes) => {
    const inData = await refused((f) => {
      compressor.plant = new Uint8Array(bytes);
      const entry = f.file('a', new Uint8Array(60_000).fill(65));
      f.seal();
      compressor.plant = undefined;
      return [entry];
    });
    expect(inData.details).toMatchObject({ damage: { files: 1, objects: [{ names: ['a'] }] } });
    await refused((f) => {
      const root = f.leaf(
        [...Array(200).keys()].map((i) => f.directory(`${'x'.repeat(50)}-${String(i).padStart(3, '0')}`)),
      );
      compressor.plant = new Uint8Array(bytes);
      f.seal();
      compressor.plant = undefined;
      return root;
    });
  });

  test('and frames that hold less', async () => {
    await refused((f) => {
      compressor.plant = new Uint8Array(100);
      const entry = f.file('a', new Uint8Array(60_000).fill(65));
      f.seal();
      compressor.plant = undefined;
      return [entry];
    });
  });
});

describe('xattrs with odd names', () => {
  const withXattr = (name: Uint8Array, value: Uint8Array = utf8Bytes('v')) =>
    joined(
      [1, 0, 0x24, 0, 0, 0, 0, 1],
      varint(BigInt(name.length)),
      name,
      [0],
      varint(BigInt(value.length)),
      value,
      [0],
    );

  test.each(['', 'user.a\0b', 'security.selinux', 'security.ima', 'security.evm'])('%j is refused', async (name) => {
    await refused(() => [{ key: 'a', value: withXattr(utf8Bytes(name)), placement: noHoles }]);
  });

  test('a name longer than any is refused, one twice, and those out of order', async () => {
    await refused(() => [{ key: 'a', value: withXattr(utf8Bytes(`user.${'x'.repeat(300)}`)), placement: noHoles }]);
    const two = (a: string, b: string) =>
      joined([1, 0, 0x24, 0, 0, 0, 0, 2, a.length], a, [0, 1, 65, b.length], b, [0, 1, 65, 0]);
    await refused(() => [{ key: 'a', value: two('user.a', 'user.a'), placement: noHoles }]);
    await refused(() => [{ key: 'a', value: two('user.b', 'user.a'), placement: noHoles }]);
  });

  test.each(['nonamespace', 'unknown.namespace', 'system.posix_acl_access', '../../x', 'user.\n', 'user.'])(
    '%j is set or reported, and the rest is restored',
    async (name) => {
      const { result, error } = await attack((f) => [
        { key: 'a', value: withXattr(utf8Bytes(name)), placement: noHoles },
        f.file('b', 'the rest'),
      ]);
      if (error !== undefined) expect(['E_HOSTILE', 'E_DAMAGED']).toContain(error.code);
      else {
        expect(targetNames()).toEqual(['a', 'b']);
        if (!snapshotTree(join(base, 'target'))[0]?.includes('=v')) {
          expect(result?.volumes[0]?.degraded.map(({ reason }) => reason).join()).toContain('xattr');
        }
      }
    },
  );
});

describe('records', () => {
  test('a volume whose name is a path is refused by whoever reads the record, and its writer is the first', async () => {
    for (const name of ['..', '../canary', '/etc', 'a/b', '.', '']) {
      const forger = new Forger(compressor);
      const root = forger.leaf([forger.file('a')]);
      const committing = forger.commit(root, { name: name as VolumeName });
      await expect(committing, name).rejects.toMatchObject({ code: 'E_HOSTILE' });
    }
  });

  test('an empty tree that claims to hold something', async () => {
    await refused((f) => ({ ...f.leaf([]), sums: { files: 5, entries: 5, bytes: 5 } }));
    await refused((f) => ({ ...f.leaf([f.file('a')]), nodeBytes: 0, place: undefined }));
  });
});
