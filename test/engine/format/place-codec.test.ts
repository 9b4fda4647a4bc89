import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nowhere, readPlace, writePlace } from '../../../src/engine/format/place-codec.ts';
import { ByteReader, ByteWriter, toHex } from '../../../src/engine/model/bytes.ts';
import type { Place } from '../../../src/engine/model/entry.ts';
import { slotMax } from '../../../src/engine/model/ids.ts';
import { place, runs } from '../../support/arbitraries.ts';

function bytesOf(value: Place): Uint8Array {
  const writer = new ByteWriter();
  writePlace(writer, value);
  return writer.take();
}

describe('a place', () => {
  it('is read back as it was written', () => {
    fc.assert(
      fc.property(place, (value) => {
        const reader = new ByteReader(bytesOf(value), 'place');
        expect(readPlace(reader)).toEqual(value);
        reader.end();
      }),
      runs(200),
    );
  });

  it('is five varints: origin, slot, pack, segment, offset', () => {
    expect(toHex(bytesOf({ origin: 1, slot: 300, pack: 2, segment: 3, offset: 65_536 }))).toBe('01ac020203808004');
    expect(toHex(bytesOf(nowhere))).toBe('0000000000');
  });

  it('is refused with a number out of range', () => {
    const good: Place = { origin: 0, slot: 1, pack: 0, segment: 0, offset: 0 };
    const beyond: Place[] = [
      { ...good, origin: 0x1_0000 },
      { ...good, slot: slotMax + 1 },
      { ...good, pack: 2 ** 32 },
      { ...good, segment: 2 ** 32 },
      { ...good, offset: 1024 * 1024 + 1 },
      { ...good, offset: Number.MAX_SAFE_INTEGER },
    ];
    for (const value of beyond)
      expect(() => readPlace(new ByteReader(bytesOf(value), 'place'))).toThrow(/integer above/);
  });
});
