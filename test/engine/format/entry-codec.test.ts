import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  chunkBytesMax,
  decodeEntry,
  encodeEntry,
  entrySums,
  holesMax,
  nodeBytesMax,
  passChunks,
} from '../../../src/engine/format/entry-codec.ts';
import { rawSegmentPlainBytesMax, segmentPlainBytesMax } from '../../../src/engine/format/pack.ts';
import { nowhere } from '../../../src/engine/format/place-codec.ts';
import { ByteReader, ByteWriter, emptyBytes, toHex, utf8Bytes } from '../../../src/engine/model/bytes.ts';
import {
  type ContentItem,
  type Entry,
  excludedXattrs,
  type Xattr,
  zeroBlockBytes,
} from '../../../src/engine/model/entry.ts';
import { HoldfastError } from '../../../src/engine/model/errors.ts';
import { toContentId, toNodeId } from '../../../src/engine/model/ids.ts';
import { entry, mutated, range, runs } from '../../support/arbitraries.ts';
import { encoded } from '../../support/tree-model.ts';

const meta = {
  mode: 0o644,
  uid: 1000,
  gid: 100,
  mtimeSec: 1_700_000_000,
  mtimeNsec: 123_456_789,
  xattrs: [] as Xattr[],
};
const place = { origin: 0, slot: 7, pack: 1, segment: 2, offset: 300 };
const id = toContentId(Uint8Array.from(range(0, 32)));
const chunk = (bytes: number, at = place): ContentItem => ({ kind: 'chunk', bytes, id, place: at });
const zeros = (blocks: number): ContentItem => ({ kind: 'zero', bytes: blocks * zeroBlockBytes });

function fileOf(items: readonly ContentItem[], more: Partial<Entry & { readonly type: 'file' }> = {}): Entry {
  const size = items.reduce((sum, item) => sum + item.bytes, 0);
  return { type: 'file', size, content: { kind: 'inline', items }, holes: [], ...meta, ...more };
}

function codeOf(work: () => unknown): string {
  try {
    work();
    return 'none';
  } catch (error) {
    if (error instanceof HoldfastError) return error.code;
    throw error;
  }
}

describe('an entry', () => {
  it('tells its chunks without being decoded, where that is all it refers to', () => {
    const told = (value: Entry): readonly (readonly [typeof place, number])[] | undefined => {
      const bytes = encoded(value);
      const chunks: (readonly [typeof place, number])[] = [];
      const readers = [new ByteReader(bytes.value, 'entry'), new ByteReader(bytes.placement, 'placement')] as const;
      return passChunks(...readers, (at, length) => chunks.push([at, length])) ? chunks : undefined;
    };
    const elsewhere = { ...place, pack: 900, segment: 70_000 };
    const items = [chunk(70_000), chunk(61_072, elsewhere), zeros(2), chunk(9)];
    expect(told(fileOf(items))).toEqual([
      [place, 70_000],
      [elsewhere, 61_072],
      [place, 9],
    ]);
    fc.assert(
      fc.property(entry, fc.boolean(), (any, bare) => {
        const value: Entry = bare && any.type === 'file' ? { ...any, xattrs: [] } : any;
        const plain = value.type === 'file' && value.content.kind === 'inline' && value.xattrs.length === 0;
        expect(told(value)).toEqual(
          plain
            ? value.content.items.flatMap((each) => (each.kind === 'chunk' ? [[each.place, each.bytes]] : []))
            : undefined,
        );
      }),
    );
  });

  it('is read back as it was written', () => {
    fc.assert(
      fc.property(entry, (value) => {
        const bytes = encoded(value);
        expect(decodeEntry(bytes.value, bytes.placement)).toEqual(value);
      }),
      runs(1000),
    );
  });

  it('has one value, so that equal entries give equal roots', () => {
    fc.assert(
      fc.property(entry, (value) => {
        const once = encoded(value);
        const again = encoded(decodeEntry(once.value, once.placement));
        expect([toHex(again.value), toHex(again.placement)]).toEqual([toHex(once.value), toHex(once.placement)]);
      }),
      runs(200),
    );
  });

  it('is byte for byte as the specification has it', () => {
    const file = encoded(fileOf([chunk(300)], { holes: [{ start: 100, bytes: 50 }] }));
    expect(toHex(file.value)).toBe(`01ac02a403e8076480c49fd50c959aef3a000101${toHex(id)}`);
    expect(toHex(file.placement)).toBe('00070102ac02016432');
    const sparse = encoded(fileOf([zeros(2), chunk(65_536), chunk(5)]));
    expect(toHex(sparse.value)).toBe(
      `0185800ca403e8076480c49fd50c959aef3a00030080800801808004${toHex(id)}01${toHex(id)}`,
    );
    expect(toHex(sparse.placement)).toBe('00070102ac0200070102ac0200');
    const link = encoded({ type: 'symlink', target: utf8Bytes('a/b'), ...meta, mtimeSec: -1, mtimeNsec: 0 });
    expect(toHex(link.value)).toBe('03a403e8076401000003612f62');
    expect(toHex(encoded({ type: 'hardlink', target: utf8Bytes('a\0b') }).value)).toBe('0503610062');
    const list = { kind: 'list', id: toNodeId(id), place, nodeBytes: 200, level: 1 } as const;
    const large = encoded(fileOf([], { size: 2 ** 30, content: list }));
    expect(toHex(large.value)).toBe(`018080808004a403e8076480c49fd50c959aef3a008001${toHex(id)}`);
    expect(toHex(large.placement)).toBe('00070102ac02c80100');
    const withXattrs = encoded({
      type: 'directory',
      ...meta,
      xattrs: [
        { name: utf8Bytes('user.a'), value: { kind: 'inline', bytes: utf8Bytes('v') } },
        { name: utf8Bytes('user.b'), value: { kind: 'chunk', bytes: 300, id, place } },
      ],
    });
    expect(toHex(withXattrs.value)).toBe(
      `02a403e8076480c49fd50c959aef3a0206757365722e6100017606757365722e6201ac02${toHex(id)}`,
    );
    expect(toHex(withXattrs.placement)).toBe('00070102ac02');
  });

  it('has the same value wherever its content lies: holes are not in the digest', () => {
    const dense = encoded(fileOf([chunk(5000)]));
    const sparse = encoded(fileOf([chunk(5000, nowhere)], { holes: [{ start: 0, bytes: 4096 }] }));
    expect(sparse.value).toEqual(dense.value);
    expect(sparse.placement).not.toEqual(dense.placement);
  });

  it('without its placement has all but places and holes', () => {
    const bytes = encoded(fileOf([chunk(10)], { holes: [{ start: 0, bytes: 10 }] }));
    expect(decodeEntry(bytes.value, undefined)).toEqual(fileOf([chunk(10, nowhere)]));
  });

  it('counts in sums as a file, as another name, or not', () => {
    expect(entrySums(encoded(fileOf([chunk(300)])).value)).toEqual({ files: 1, bytes: 300 });
    expect(entrySums(encoded({ type: 'hardlink', target: utf8Bytes('a') }).value)).toEqual({ files: 1, bytes: 0 });
    expect(entrySums(encoded({ type: 'directory', ...meta }).value)).toEqual({ files: 0, bytes: 0 });
    expect(entrySums(encoded({ type: 'fifo', ...meta }).value)).toEqual({ files: 0, bytes: 0 });
    for (const bytes of [[], [0], [6], [1], [1, 0x80], [1, ...new Array(9).fill(0xff)]]) {
      expect(codeOf(() => entrySums(Uint8Array.from(bytes)))).toBe('E_DAMAGED');
    }
  });

  it('keeps the first holes inside the file, when there are more or the file shrank', () => {
    const holes = range(0, holesMax + 10).map((i) => ({ start: i * 2, bytes: 1 }));
    const many = encoded(fileOf([chunk(1_000_000)], { holes }));
    expect(decodeEntry(many.value, many.placement)).toMatchObject({ holes: holes.slice(0, holesMax) });
    const shrunk = encoded(
      fileOf([chunk(100)], {
        holes: [
          { start: 50, bytes: 500 },
          { start: 600, bytes: 5 },
        ],
      }),
    );
    expect(decodeEntry(shrunk.value, shrunk.placement)).toMatchObject({ holes: [{ start: 50, bytes: 50 }] });
  });

  it('keeps any time a file system can hold, up to 142 million years from now', () => {
    const secondsOf = (mtimeSec: number) => {
      const { value, placement } = encoded({ type: 'fifo', ...meta, mtimeSec });
      return decodeEntry(value, placement);
    };
    for (const seconds of [0, -1, -(2 ** 40), 2 ** 52 - 1, 1 - 2 ** 52]) {
      expect(secondsOf(seconds)).toMatchObject({ mtimeSec: seconds });
    }
    expect(secondsOf(2 ** 63)).toMatchObject({ mtimeSec: 2 ** 52 - 1 });
    expect(secondsOf(-(2 ** 63))).toMatchObject({ mtimeSec: 1 - 2 ** 52 });
  });

  it('fits the limits of packs', () => {
    expect(chunkBytesMax).toBe(segmentPlainBytesMax);
    expect(nodeBytesMax).toBe(rawSegmentPlainBytesMax);
  });
});

describe('an entry that is not canonical', () => {
  const wrong: readonly (readonly [string, Entry])[] = [
    ['content of another size', fileOf([chunk(10)], { size: 11 })],
    ['an item without bytes', fileOf([chunk(0), chunk(5)])],
    ['two runs of zeros side by side', fileOf([zeros(1), zeros(1), chunk(3)])],
    ['a run of zeros that begins anywhere', fileOf([chunk(5), zeros(1)])],
    ['a run of zeros of any length', fileOf([{ kind: 'zero', bytes: 4096 }])],
    ['a chunk larger than a segment', fileOf([chunk(chunkBytesMax + 1)])],
    ['nine items', fileOf(range(0, 9).map(() => chunk(1)))],
    ['unsorted xattrs', { type: 'fifo', ...meta, xattrs: ['user.b', 'user.a'].map(inlineXattr) }],
    ['an xattr twice', { type: 'fifo', ...meta, xattrs: ['user.a', 'user.a'].map(inlineXattr) }],
    ['an xattr without a name', { type: 'fifo', ...meta, xattrs: [inlineXattr('')] }],
    [
      'a large xattr inline',
      {
        type: 'fifo',
        ...meta,
        xattrs: [{ name: utf8Bytes('user.a'), value: { kind: 'inline', bytes: new Uint8Array(257) } }],
      },
    ],
    [
      'a small xattr out of line',
      {
        type: 'fifo',
        ...meta,
        xattrs: [{ name: utf8Bytes('user.a'), value: { kind: 'chunk', bytes: 256, id, place } }],
      },
    ],
    ...excludedXattrs.map((name): [string, Entry] => [
      `the xattr ${name}`,
      { type: 'fifo', ...meta, xattrs: [inlineXattr(name)] },
    ]),
    ['a type in its mode', { type: 'fifo', ...meta, mode: 0o100644 }],
    ['a whole second of nanoseconds', { type: 'fifo', ...meta, mtimeNsec: 1_000_000_000 }],
    ['a symlink without a target', { type: 'symlink', ...meta, target: emptyBytes }],
  ];

  it.each(wrong)('is not written: %s', (_, value) => {
    expect(codeOf(() => encodeEntry(value, new ByteWriter(), new ByteWriter()))).toBe('E_INTERNAL');
  });

  const header = 'a403e807640000';
  const readings: readonly (readonly [string, string, string])[] = [
    ['no bytes', '', ''],
    ['an unknown type', `06${header}00`, ''],
    ['a padded integer', `028000${header}00`, ''],
    ['bytes after its end', `02${header}0000`, ''],
    ['bytes after its placement', `02${header}00`, '00'],
    ['more nanoseconds than a second has', '02a403e807640080a8d6b90700', ''],
    ['a type in its mode', '0280800400000000', ''],
    ['a time below what is kept', '02a403e80764ffffffffffffff0f0000', ''],
    ['a size of 2^60', '01808080808080808010', ''],
    ['a number of xattrs beyond reason', `02${header}ffffffff0f`, ''],
    ['more xattrs than bytes', `02${header}05`, ''],
    ['an xattr longer than what is there', `02${header}01016100ff01`, ''],
    ['unsorted xattrs', `02${header}020162000001610000`, ''],
    ['an xattr twice', `02${header}020161000001610000`, ''],
    ['an xattr with a zero byte in its name', `02${header}010200610000`, ''],
    ['an xattr of the machine', `02${header}01${hexBlob('security.ima')}0000`, ''],
    ['a small xattr out of line', `02${header}0101610105${toHex(id)}`, '0001000000'],
    ['nine items', `0109${header}0009${`0101${toHex(id)}`.repeat(8)}01${toHex(id)}`, `${'0001000000'.repeat(9)}00`],
    ['a file with bytes but without items', `0105${header}0000`, '00'],
    ['an unknown kind of item', `0105${header}000102${toHex(id)}`, '000100000000'],
    ['an item without bytes', `0100${header}000101${toHex(id)}`, '000100000000'],
    ['items beyond the size', `0105${header}00020106${toHex(id)}01${toHex(id)}`, '0001000000000100000000'],
    ['a run of zeros that is not aligned', `0105${header}000100`, '00'],
    ['a chunk larger than a segment', `01818040${header}000101${toHex(id)}`, '000100000000'],
    ['a list deeper than any', `0105${header}008019${toHex(id)}`, '00010000000500'],
    ['a hole beyond the size', `0105${header}000101${toHex(id)}`, '0001000000010303'],
    ['a hole without bytes', `0105${header}000101${toHex(id)}`, '0001000000010300'],
    ['a number of holes beyond reason', `0105${header}000101${toHex(id)}`, '0001000000ffffffff0f'],
    ['a symlink without a target', `03${header}0000`, ''],
    ['a symlink with a zero byte', `03${header}00026100`, ''],
    ['a symlink longer than Linux allows', `03${header}00ff1f`, ''],
    ['a hardlink out of the volume', `05${hexBlob('..\0..\0etc\0passwd')}`, ''],
    ['a hardlink with an absolute target', `05${hexBlob('/etc/passwd')}`, ''],
    ['a hardlink without a target', '0500', ''],
  ];

  it.each(readings)('is not read: %s', (_, value, placement) => {
    const bytes = Buffer.from(value, 'hex');
    expect(['E_DAMAGED', 'E_HOSTILE']).toContain(codeOf(() => decodeEntry(bytes, Buffer.from(placement, 'hex'))));
  });

  it('would be read were it right', () => {
    expect(decodeEntry(Buffer.from(`02${header}00`, 'hex'), emptyBytes)).toMatchObject({
      type: 'directory',
      uid: 1000,
    });
    const file = Buffer.from(`0105${header}000101${toHex(id)}`, 'hex');
    const eight = Buffer.from(`0108${header}0008${`0101${toHex(id)}`.repeat(7)}01${toHex(id)}`, 'hex');
    expect(decodeEntry(eight, Buffer.from(`${'0001000000'.repeat(8)}00`, 'hex'))).toMatchObject({ size: 8 });
    expect(decodeEntry(Buffer.from(`0100${header}0000`, 'hex'), Uint8Array.of(0))).toMatchObject({ size: 0 });
    expect(decodeEntry(file, Buffer.from('0001000000010302', 'hex'))).toMatchObject({
      holes: [{ start: 3, bytes: 2 }],
    });
  });
});

describe('changed bytes of an entry', () => {
  it('give another entry or a typed error', () => {
    fc.assert(
      fc.property(
        entry.chain((value) => {
          const bytes = encoded(value);
          return fc.tuple(
            fc.oneof(mutated(bytes.value), fc.constant(bytes.value)),
            fc.oneof(mutated(bytes.placement), fc.constant(undefined)),
          );
        }),
        ([value, placement]) => {
          const code = codeOf(() => decodeEntry(value, placement));
          expect(['none', 'E_DAMAGED', 'E_HOSTILE']).toContain(code);
          // What is read is written back the same: there is no second form of anything.
          if (code === 'none') expect(toHex(encoded(decodeEntry(value, undefined)).value)).toBe(toHex(value));
        },
      ),
      runs(2000),
    );
  });

  it('as random bytes, too', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 6 }), fc.uint8Array({ maxLength: 60 }), (type, rest) => {
        expect(['none', 'E_DAMAGED', 'E_HOSTILE']).toContain(
          codeOf(() => decodeEntry(Uint8Array.of(type, ...rest), undefined)),
        );
      }),
      runs(1000),
    );
  });
});

function inlineXattr(name: string): Xattr {
  return { name: utf8Bytes(name), value: { kind: 'inline', bytes: emptyBytes } };
}

function hexBlob(text: string): string {
  const bytes = utf8Bytes(text);
  return toHex(Uint8Array.of(bytes.length)) + toHex(bytes);
}
