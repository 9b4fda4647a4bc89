import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { envelopeHeadBytes, envelopeOf } from '../../../src/engine/format/envelope.ts';
import { deriveDomainKeys, publicKeyOf, signMessage, toDataKey } from '../../../src/engine/format/keys.ts';
import { logKey } from '../../../src/engine/format/object-keys.ts';
import { type PackEntry, packEntryName } from '../../../src/engine/format/pack-entry.ts';
import { emptyPackList, listWrittenOut } from '../../../src/engine/format/pack-table.ts';
import {
  digestOf,
  encodeRecord,
  type InlinedPack,
  inlinedBytesMax,
  openBody,
  readRecord,
  type RecordBody,
  recordBytesMax,
  type RecordHeader,
} from '../../../src/engine/format/record.ts';
import { objectType } from '../../../src/engine/format/versions.ts';
import { concatBytes, toHex, utf8Bytes } from '../../../src/engine/model/bytes.ts';
import type { VolumeCheckpoint } from '../../../src/engine/model/checkpoint.ts';
import { HoldfastError } from '../../../src/engine/model/errors.ts';
import {
  slotMax,
  toContentId,
  toEpoch,
  toHolderId,
  toLineageName,
  toNodeId,
  toRecordId,
  toSlot,
  toVolumeName,
} from '../../../src/engine/model/ids.ts';
import { runs } from '../../support/arbitraries.ts';

const lineage = toLineageName('team/app/0');
const domainKeys = deriveDomainKeys(new Uint8Array(32).fill(1));
const publicKey = publicKeyOf(domainKeys.signingSeed);
const encrypted = toDataKey(1, new Uint8Array(32).fill(2), domainKeys.plainTagKey);
const plain = toDataKey(1, undefined, domainKeys.plainTagKey);
const repository = '00112233445566778899aabbccddeeff';
const expected = { repository, domain: 'team/app', lineage, slot: toSlot(7), publicKey };

function keysWith(dataKey: typeof encrypted) {
  return { dataKey, signingSeed: domainKeys.signingSeed, publicKey };
}

const digest = new Uint8Array(32).fill(4);

const header: RecordHeader = {
  repository,
  domain: 'team/app',
  lineage,
  slot: toSlot(7),
  kind: 'CHECKPOINT',
  id: toRecordId(new Uint8Array(32).fill(3)),
  epoch: toEpoch(5),
  generation: 1,
  holder: toHolderId('0f3c'),
  holderName: 'app-0',
  previousClaim: toSlot(1),
  base: undefined,
  predecessor: { slot: toSlot(6), digest },
  timeMs: 1_767_225_600_000,
  suspect: false,
  consistency: 'converged',
  labels: [
    { name: 'reason', value: 'schedule' },
    { name: 'zone', value: 'a' },
  ],
  totals: { files: 3, entries: 5, bytes: 9_000_000_000, newBytes: 100, storedBytes: 90 },
  origins: [],
  packList: emptyPackList,
};

const claim: RecordHeader = {
  ...header,
  kind: 'CLAIM',
  epoch: toEpoch(7),
  base: { slot: toSlot(4), digest },
  consistency: undefined,
  labels: [],
};

const volume: VolumeCheckpoint = {
  name: toVolumeName('data'),
  root: {
    id: toNodeId(new Uint8Array(32).fill(8)),
    level: 2,
    nodeBytes: 4000,
    place: { origin: 0, slot: 7, pack: 0, segment: 3, offset: 17 },
    sums: { files: 3, entries: 5, bytes: 9_000_000_000 },
  },
  rootMeta: {
    mode: 0o1777,
    uid: 1000,
    gid: 2000,
    mtimeSec: -5,
    mtimeNsec: 999_999_999,
    xattrs: [
      { name: utf8Bytes('user.a'), value: { kind: 'inline', bytes: utf8Bytes('b') } },
      {
        name: utf8Bytes('user.large'),
        value: {
          kind: 'chunk',
          bytes: 5000,
          id: toContentId(new Uint8Array(32).fill(9)),
          place: { origin: 0, slot: 7, pack: 0, segment: 0, offset: 0 },
        },
      },
    ],
  },
  fuzzyCount: 12,
  fuzzyNames: ['a/b', 'c\\xff'],
  volatileCount: 3,
  volatileNames: ['db/app.db-shm'],
  skipped: [{ reason: 'socket', count: 2, names: ['run/sock'] }],
  incomplete: true,
};

const empty: VolumeCheckpoint = {
  ...volume,
  name: toVolumeName('empty'),
  root: { ...volume.root, nodeBytes: 0, place: undefined, level: 0, sums: { files: 0, entries: 0, bytes: 0 } },
  fuzzyCount: 0,
  fuzzyNames: [],
  volatileCount: 0,
  volatileNames: [],
  skipped: [],
  incomplete: false,
};

const body: RecordBody = { setRoot: new Uint8Array(32).fill(6), volumes: [volume, empty] };

function pack(slot: number, number: number, more: Partial<PackEntry> = {}): PackEntry {
  return {
    origin: 0,
    slot,
    epoch: 5,
    pack: number,
    salt8: '00aabbcc',
    bytes: 1000,
    footerBytes: 50,
    inlined: false,
    plainBytes: 2000,
    liveBytes: 2000,
    ...more,
  };
}

function inline(slot: number, number: number, bytes = 300): InlinedPack {
  const content = Uint8Array.from({ length: bytes }, (_, i) => (i * 7 + number) & 0xff);
  return { entry: pack(slot, number, { inlined: true, bytes }), bytes: content };
}

/** A record whose fields were not checked by the encoder: signed as it stands. */
function forge(change: (payload: Uint8Array) => Uint8Array, of: Uint8Array, tail = 0): Uint8Array {
  const payloadBytes = new DataView(of.buffer, of.byteOffset).getUint32(8, true);
  const payload = change(of.slice(envelopeHeadBytes, envelopeHeadBytes + payloadBytes));
  const sealed = envelopeOf(objectType.record, payload);
  return concatBytes([sealed, signMessage(domainKeys.signingSeed, sealed), of.subarray(of.length - tail)]);
}

function codeOf(run: () => unknown): string {
  try {
    run();
    return 'read';
  } catch (error) {
    return error instanceof HoldfastError ? error.code : `not a HoldfastError: ${error}`;
  }
}

describe('a record', () => {
  for (const [name, dataKey] of [
    ['encrypted', encrypted],
    ['plain', plain],
  ] as const) {
    it(`reads back whole, ${name}`, () => {
      const inlined = [inline(7, 0), inline(7, 2, 77)];
      const packs = [
        pack(2, 0, { epoch: 1 }),
        pack(4, 1, { epoch: 1, inlined: true }),
        pack(6, 0),
        inlined[0]!.entry,
        pack(7, 1, { bytes: 17_000_000 }),
        inlined[1]!.entry,
      ];
      const { bytes, record } = encodeRecord(
        { ...header, packList: listWrittenOut(packs) },
        body,
        inlined,
        keysWith(dataKey),
      );
      const reading = readRecord(bytes, expected);
      expect(reading).toEqual({ valid: true, record });
      expect(record.header).toEqual({ ...header, packList: listWrittenOut(packs) });
      expect(record.inlined).toEqual(inlined);
      expect(record.digest).toEqual(digestOf(bytes));
      expect(record.bytes).toBe(bytes.length);
      expect(openBody(record, dataKey)).toEqual(body);
    });
  }

  it('of each kind reads back', () => {
    const seal: RecordHeader = { ...header, kind: 'SEAL', consistency: undefined };
    const partial: RecordHeader = { ...header, kind: 'PARTIAL', consistency: 'fuzzy', suspect: true };
    for (const [h, b] of [
      [claim, undefined],
      [seal, undefined],
      [partial, body],
    ] as const) {
      const { bytes } = encodeRecord(h, b, [], keysWith(encrypted));
      expect(readRecord(bytes, expected)).toMatchObject({ valid: true, record: { header: h } });
    }
    const first: RecordHeader = { ...claim, previousClaim: toSlot(0), base: undefined, predecessor: undefined };
    expect(encodeRecord(first, undefined, [], keysWith(encrypted)).record.header).toEqual(first);
  });

  it('lists packs of other lineages', () => {
    const origins = [toLineageName('team/app/1'), toLineageName('other/app/0')];
    const packs = [
      pack(3, 0, { epoch: 1 }),
      pack(900, 0, { origin: 1, epoch: 4 }),
      pack(2, 5, { origin: 2, epoch: 1 }),
    ];
    const { record } = encodeRecord(
      { ...header, origins, packList: listWrittenOut(packs) },
      body,
      [],
      keysWith(encrypted),
    );
    expect(record.header).toMatchObject({ origins, packList: { entries: packs } });
  });

  it('is small: a CLAIM below 450 bytes, and 13 to 17 bytes more for each pack it lists', () => {
    expect(encodeRecord(claim, undefined, [], keysWith(encrypted)).bytes.length).toBeLessThan(450);
    const sizes = [100, 1100].map((count) => {
      const packs = Array.from({ length: count }, (_, i) =>
        pack(i + 10, 0, { bytes: 16_000_000 + i, footerBytes: 900 }),
      );
      const at = { ...header, slot: toSlot(2000), packList: listWrittenOut(packs) };
      return encodeRecord(at, body, [], keysWith(encrypted)).bytes.length;
    });
    expect((sizes[1]! - sizes[0]!) / 1000).toBeGreaterThan(13);
    expect((sizes[1]! - sizes[0]!) / 1000).toBeLessThan(17);
  });

  it('hides names and roots, and shows what collection and retention need', () => {
    const { bytes } = encodeRecord(header, body, [], keysWith(encrypted));
    const text = Buffer.from(bytes);
    expect(text.includes('run/sock')).toBe(false);
    expect(text.includes(Buffer.from(body.setRoot))).toBe(false);
    expect(text.includes('user.large')).toBe(false);
    expect(text.includes('app-0')).toBe(true);
    // Bodies of different content have the same size.
    const other = { ...body, volumes: [{ ...volume, fuzzyNames: ['a'] }, empty] };
    expect(encodeRecord(header, other, [], keysWith(encrypted)).bytes.length).toBe(bytes.length);
  });

  it('keeps the counts, and as many names as fit', () => {
    const many = Array.from({ length: 5000 }, (_, i) => `${'long '.repeat(100)}${i}`);
    const volumes = [
      { ...volume, fuzzyCount: 5000, fuzzyNames: many },
      { ...empty, fuzzyNames: ['x'.repeat(5000), 'short'] },
    ];
    const { record } = encodeRecord(header, { ...body, volumes }, [], keysWith(encrypted));
    const [first, second] = openBody(record, encrypted).volumes;
    expect(first).toMatchObject({ fuzzyCount: 5000, fuzzyNames: many.slice(0, 100) });
    expect(second!.fuzzyNames).toEqual(['short']);
  });
});

describe('a record that is not genuine', () => {
  const inlined = [inline(7, 0)];
  const { bytes } = encodeRecord(
    { ...header, packList: listWrittenOut([inlined[0]!.entry]) },
    body,
    inlined,
    keysWith(encrypted),
  );

  it('is void after any changed bit, anywhere', () => {
    const step = bytes.length > 1500 ? 3 : 1;
    for (let at = 0; at < bytes.length * 8; at += step) {
      const changed = bytes.slice();
      changed[at >> 3]! ^= 1 << (at & 7);
      expect(readRecord(changed, expected).valid).toBe(false);
    }
  });

  it('is void when cut short or made longer', () => {
    for (let length = 0; length < bytes.length; length += 7) {
      expect(readRecord(bytes.subarray(0, length), expected).valid).toBe(false);
    }
    expect(readRecord(concatBytes([bytes, new Uint8Array(1)]), expected)).toMatchObject({
      valid: false,
      reason: 'tail',
    });
    expect(readRecord(new Uint8Array(recordBytesMax + 1), expected)).toMatchObject({
      valid: false,
      reason: 'too-large',
    });
    expect(readRecord(new Uint8Array(0), expected)).toMatchObject({ valid: false, reason: 'not-a-record' });
  });

  it('is void when another key signed it', () => {
    const other = deriveDomainKeys(new Uint8Array(32).fill(7));
    const keys = { dataKey: encrypted, signingSeed: other.signingSeed, publicKey: publicKeyOf(other.signingSeed) };
    const forged = encodeRecord(header, body, [], keys).bytes;
    expect(readRecord(forged, expected)).toMatchObject({ valid: false, reason: 'signature' });
  });

  it('is void at another slot, in another lineage, domain or repository', () => {
    const sibling = toLineageName('team/app/1');
    for (const place of [
      { slot: toSlot(8) },
      { lineage: sibling },
      { domain: 'team/other' },
      { repository: 'ff'.repeat(16) },
    ]) {
      expect(readRecord(bytes, { ...expected, ...place })).toMatchObject({ valid: false, reason: 'moved' });
    }
    expect(logKey(sibling, toSlot(7))).not.toBe(logKey(lineage, toSlot(7)));
  });

  it('is void without a key: validity depends on no secret, and a body that does not open is damage', () => {
    const { record } = encodeRecord(header, body, [], keysWith(encrypted));
    const wrong = toDataKey(1, new Uint8Array(32).fill(99), domainKeys.plainTagKey);
    expect(codeOf(() => openBody(record, wrong))).toBe('E_DAMAGED');
    expect(codeOf(() => openBody({ ...record, bodyContext: record.bodyContext.slice(1) }, encrypted))).toBe(
      'E_DAMAGED',
    );
    expect(codeOf(() => openBody({ ...record, sealedBody: new Uint8Array(3) }, encrypted))).toBe('E_DAMAGED');
  });
});

describe('a signed record that says what no record may say', () => {
  const inlined = inline(7, 0);
  // What the encoder itself refuses is an error of ours, so a broken invariant.
  const cases: [string, Partial<RecordHeader>][] = [
    ['an epoch above its slot', { epoch: toEpoch(8) }],
    ['an epoch that is its own slot', { epoch: toEpoch(7) }],
    ['a CLAIM with another epoch', { ...claim, epoch: toEpoch(5) }],
    ['a claim below that is not below', { previousClaim: toSlot(5) }],
    ['a predecessor above', { predecessor: { slot: toSlot(7), digest } }],
    ['no predecessor', { predecessor: undefined }],
    ['a base though it is no CLAIM', { base: { slot: toSlot(2), digest } }],
    ['no consistency', { consistency: undefined }],
    ['a pack of a later slot', { packList: listWrittenOut([pack(8, 0)]) }],
    ['an own pack of another epoch', { packList: listWrittenOut([pack(7, 0, { epoch: 2 })]) }],
    ['a pack whose epoch is not below its slot', { packList: listWrittenOut([pack(6, 0, { epoch: 6 })]) }],
    ['a footer larger than its pack', { packList: listWrittenOut([pack(6, 0, { footerBytes: 2000 })]) }],
    ['a pack of an unknown origin', { packList: listWrittenOut([pack(6, 0, { origin: 1 })]) }],
    ['an inlined pack of its own without bytes', { packList: listWrittenOut([inlined.entry]) }],
    ['itself as an origin', { origins: [lineage] }],
    ['one origin twice', { origins: [toLineageName('a'), toLineageName('a')] }],
    [
      'labels twice',
      {
        labels: [
          { name: 'a', value: '1' },
          { name: 'a', value: '2' },
        ],
      },
    ],
    [
      'too many inlined bytes',
      { packList: listWrittenOut([pack(7, 0, { inlined: true, bytes: inlinedBytesMax + 1 })]) },
    ],
  ];
  for (const [name, change] of cases) {
    it(`is void: ${name}`, () => {
      const changed = { ...header, ...change };
      const withBody = changed.kind === 'CLAIM' ? undefined : body;
      expect(() => encodeRecord(changed, withBody, [], keysWith(encrypted))).toThrow(/malformed|tail/);
    });
  }

  it('is void: key generation 0', () => {
    const keys = { ...keysWith(encrypted), dataKey: { ...encrypted, generation: 0 } };
    expect(() => encodeRecord({ ...header, generation: 0 }, body, [], keys)).toThrow(/malformed/);
  });

  it('is void: bytes after the last field, or too few', () => {
    const { bytes } = encodeRecord(claim, undefined, [], keysWith(encrypted));
    expect(
      readRecord(
        forge((p) => p, bytes),
        expected,
      ).valid,
    ).toBe(true);
    expect(
      readRecord(
        forge((p) => concatBytes([p, new Uint8Array(1)]), bytes),
        expected,
      ),
    ).toMatchObject({
      valid: false,
      reason: 'malformed',
    });
    expect(
      readRecord(
        forge((p) => p.subarray(0, p.length - 1), bytes),
        expected,
      ),
    ).toMatchObject({ reason: 'malformed' });
  });
});

describe('a genuine record of a newer Holdfast', () => {
  const { bytes } = encodeRecord(claim, undefined, [], keysWith(encrypted));
  const addressBytes = 16 + 1 + 8 + 1 + 10 + 1;

  function signed(change: (sealed: Uint8Array) => void): Uint8Array {
    const sealed = bytes.slice(0, bytes.length - 64);
    change(sealed);
    return concatBytes([sealed, signMessage(domainKeys.signingSeed, sealed)]);
  }

  it('stops the reader instead of being skipped', () => {
    for (const at of [5, 6]) {
      const later = signed((sealed) => {
        sealed[at]! += 1;
      });
      expect(codeOf(() => readRecord(later, expected))).toBe('E_FORMAT_NEWER');
    }
    const unknownKind = signed((sealed) => {
      sealed[envelopeHeadBytes + addressBytes] = 9;
    });
    expect(codeOf(() => readRecord(unknownKind, expected))).toBe('E_FORMAT_NEWER');
  });

  it('stops nobody when it is junk or was moved here', () => {
    const later = bytes.slice();
    later[5] = 2;
    expect(readRecord(later, expected)).toMatchObject({ valid: false, reason: 'signature' });
    const moved = signed((sealed) => {
      sealed[5] = 2;
    });
    expect(readRecord(moved, { ...expected, slot: toSlot(8) })).toMatchObject({ valid: false, reason: 'moved' });
  });

  it('may carry flags that can be ignored', () => {
    const flagged = signed((sealed) => {
      sealed[7] = 0x80;
    });
    expect(readRecord(flagged, expected).valid).toBe(true);
  });
});

describe('limits', () => {
  it('are errors of the writer with a code of their own', () => {
    const labels = Array.from({ length: 65 }, (_, i) => ({ name: `l${String(i).padStart(3, '0')}`, value: '' }));
    expect(codeOf(() => encodeRecord({ ...header, labels }, body, [], keysWith(encrypted)))).toBe('E_LIMIT');
    const long = [{ name: 'a', value: 'x'.repeat(257) }];
    expect(codeOf(() => encodeRecord({ ...header, labels: long }, body, [], keysWith(encrypted)))).toBe('E_LIMIT');
    const volumes = Array.from({ length: 65 }, (_, i) => ({
      ...empty,
      name: toVolumeName(`v${String(i).padStart(3, '0')}`),
    }));
    expect(codeOf(() => encodeRecord(header, { ...body, volumes }, [], keysWith(encrypted)))).toBe('E_LIMIT');
    const packs = Array.from({ length: 65_537 }, (_, i) => pack(i + 6, 0));
    const high = { ...header, slot: toSlot(100_000), packList: listWrittenOut(packs) };
    expect(codeOf(() => encodeRecord(high, body, [], keysWith(encrypted)))).toBe('E_LIMIT');
  });

  it('hold a list of 50,000 packs in a record itself', () => {
    const packs = Array.from({ length: 50_000 }, (_, i) => pack(i + 6, 0, { bytes: 67_000_000, footerBytes: 9000 }));
    const { record } = encodeRecord(
      { ...header, slot: toSlot(100_000), packList: listWrittenOut(packs) },
      body,
      [],
      keysWith(encrypted),
    );
    expect(record.header.packList.entries.length).toBe(50_000);
    expect(record.bytes).toBeLessThan(recordBytesMax);
  });
});

describe('the reader of records', () => {
  const sizes = [0, 3, 20].map((count) => {
    const packs = Array.from({ length: count }, (_, i) => pack(6, i));
    return encodeRecord({ ...header, packList: listWrittenOut(packs) }, body, [], keysWith(plain)).bytes;
  });
  const claimBytes = encodeRecord(claim, undefined, [], keysWith(encrypted)).bytes;

  it('answers signed junk with a void reading or with E_FORMAT_NEWER, and nothing else', () => {
    const seen = new Map<string, number>();
    fc.assert(
      fc.property(
        fc.constantFrom(...sizes, claimBytes),
        fc.array(fc.tuple(fc.nat(), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff)), { minLength: 1, maxLength: 6 }),
        fc.option(fc.tuple(fc.nat(), fc.uint8Array({ maxLength: 40 })), { nil: undefined }),
        (of, edits, splice) => {
          const tail = of === claimBytes ? 0 : of.length - tailStart(of);
          const forged = forge(
            (payload) => {
              for (const [at, byte] of edits) payload[at % payload.length] = byte;
              if (splice === undefined) return payload;
              const at = splice[0] % payload.length;
              return concatBytes([payload.subarray(0, at), splice[1], payload.subarray(at)]);
            },
            of,
            tail,
          );
          let outcome: string;
          try {
            const reading = readRecord(forged, expected);
            outcome = reading.valid ? 'valid' : reading.reason;
            if (reading.valid && reading.record.sealedBody.length > 0) {
              outcome += ` ${codeOf(() => openBody(reading.record, { ...plain, generation: reading.record.header.generation }))}`;
            }
          } catch (error) {
            outcome = error instanceof HoldfastError ? error.code : `${error}`;
          }
          seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
          expect(outcome).toMatch(/^(moved|malformed|tail|E_FORMAT_NEWER|valid.*)$/);
          expect(outcome).not.toMatch(/E_INTERNAL|Error/);
        },
      ),
      runs(3000),
    );
    for (const outcome of ['moved', 'malformed', 'tail', 'E_FORMAT_NEWER', 'valid read']) {
      expect([...seen.keys()]).toContain(outcome);
    }
  });

  it('answers any body with the body or one error', () => {
    const { record } = encodeRecord(header, body, [], keysWith(plain));
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 8 }),
        fc.nat(record.sealedBody.length),
        (edits, cut) => {
          const sealedBody = record.sealedBody.slice(0, cut % 3 === 0 ? cut : undefined);
          for (const [at, byte] of edits) if (sealedBody.length > 0) sealedBody[at % sealedBody.length] = byte;
          expect(codeOf(() => openBody({ ...record, sealedBody }, plain))).toMatch(
            /^(read|E_DAMAGED|E_HOSTILE|E_FORMAT_NEWER)$/,
          );
        },
      ),
      runs(3000),
    );
  });

  it('does not allocate by counts and lengths it has not checked', () => {
    const before = process.memoryUsage().arrayBuffers;
    const huge = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f);
    const fieldsEnd = readRecord(claimBytes, expected);
    expect(fieldsEnd.valid).toBe(true);
    for (let at = 0; at < claimBytes.length - 64 - envelopeHeadBytes; at++) {
      const forged = forge((p) => concatBytes([p.subarray(0, at), huge, p.subarray(at)]), claimBytes);
      codeOf(() => readRecord(forged, expected));
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 1024 * 1024);
    const giant = claimBytes.slice(0, 12);
    new DataView(giant.buffer).setUint32(8, 0xffff_ffff, true);
    expect(readRecord(giant, expected)).toMatchObject({ valid: false, reason: 'not-a-record' });
  });
});

describe('names of packs', () => {
  it('follow from their entries', () => {
    expect(packEntryName(pack(6, 2))).toBe('6-5-2-00aabbcc');
    expect(toSlot(slotMax)).toBe(slotMax);
    expect(toHex(digest)).toHaveLength(64);
  });
});

function tailStart(bytes: Uint8Array): number {
  return envelopeHeadBytes + new DataView(bytes.buffer, bytes.byteOffset).getUint32(8, true) + 64;
}
