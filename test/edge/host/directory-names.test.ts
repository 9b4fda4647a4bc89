import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { blockOfRecords } from '../../../src/edge/host/directory-block.ts';
import { DirectoryNames } from '../../../src/edge/host/directory-names.ts';
import { compareBytes, utf8Bytes } from '../../../src/engine/model/bytes.ts';
import { statOffset, statRecordBytes } from '../../../src/engine/model/stat-record.ts';
import { nameTexts } from '../../support/tree-names.ts';

const recordWords = statRecordBytes / 4;
const nameStartWord = statOffset.nameStart / 4;

/** The names packed as a listing packs them. */
function packed(collector: DirectoryNames, names: readonly Uint8Array[], vanished: readonly number[] = []) {
  collector.reset();
  for (const name of names) collector.add(Uint8Array.of(0x78, ...name, 0, 0x79), 1);
  const recordsBytes = collector.count * statRecordBytes;
  const buffer = new ArrayBuffer(recordsBytes + collector.bytes);
  const words = new Uint32Array(buffer, 0, recordsBytes / 4);
  const count = collector.pack(new Uint8Array(buffer), recordsBytes, words, recordWords, nameStartWord);
  return blockOfRecords(buffer, recordsBytes, count, vanished);
}

function sortedTexts(names: readonly Uint8Array[]): string[] {
  const sorted = [...names].sort(compareBytes).map((name) => Buffer.from(name).toString('latin1'));
  return sorted.filter((name, i) => name !== sorted[i - 1]);
}

/** Names that collide: few letters, common beginnings, one inside the other. */
const nameArbitrary = fc
  .tuple(
    fc.constantFrom('', 'common-', 'common-prefix-of-many-names-', 'x'.repeat(200)),
    fc.array(fc.constantFrom(1, 0x61, 0x62, 0x7f, 0x80, 0xff), { minLength: 1, maxLength: 20 }),
  )
  .map(([prefix, rest]) => Uint8Array.of(...utf8Bytes(prefix), ...rest));

describe('names of a directory', () => {
  test('come out in the order of their bytes, without duplicates, whatever they are', () => {
    const collector = new DirectoryNames();
    fc.assert(
      fc.property(fc.array(nameArbitrary, { maxLength: 300 }), (names) => {
        expect(nameTexts(packed(collector, names))).toEqual(sortedTexts(names));
      }),
      { numRuns: 300 },
    );
  });

  test('are left out with their records where they vanished', () => {
    const collector = new DirectoryNames();
    fc.assert(
      fc.property(
        fc.array(nameArbitrary, { minLength: 1, maxLength: 40 }),
        fc.infiniteStream(fc.boolean()),
        (names, gone) => {
          const sorted = sortedTexts(names);
          const vanished = sorted.map((_, i) => i).filter(() => gone.next().value === true);
          const block = packed(collector, names, vanished);
          const kept = sorted.filter((_, i) => !vanished.includes(i));
          expect(nameTexts(block)).toEqual(kept);
          // As if they had never been there.
          expect(block).toEqual(
            packed(
              collector,
              kept.map((name) => Uint8Array.from(Buffer.from(name, 'latin1'))),
            ),
          );
        },
      ),
    );
  });

  test('are sorted by the hundred thousand', () => {
    const collector = new DirectoryNames();
    const names = Array.from({ length: 100_000 }, (_, i) => utf8Bytes(`object-${(i * 7919) % 100_003}.json`));
    const block = packed(collector, names);
    expect(block.count).toBe(100_000);
    expect(nameTexts(block)).toEqual(sortedTexts(names));
  });
});
