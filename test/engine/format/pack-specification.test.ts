/**
 * A second reader of packs, written from docs/format/packs.md alone: it shares no code with the engine, and zstd is node's.
 * When it fails, either the specification or the format has changed.
 */
import { createDecipheriv, createHmac, hkdfSync } from 'node:crypto';
import { zstdDecompressSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { chooseCompressor } from '../../../src/edge/host/choose-compressor.ts';
import type { HostCompressor } from '../../../src/edge/host/host-compressor.ts';
import { deriveDomainKeys, toDataKey } from '../../../src/engine/format/keys.ts';
import { PackWriter } from '../../../src/engine/format/pack.ts';
import type { Place } from '../../../src/engine/model/entry.ts';
import { toEpoch, toLineageName, toSlot } from '../../../src/engine/model/ids.ts';

interface Facts {
  readonly repository: string;
  readonly domain: string;
  readonly lineage: string;
  readonly slot: number;
  readonly epoch: number;
  readonly pack: number;
  readonly name: string;
  readonly domainSecret: Buffer;
  readonly dataKey: Buffer | undefined;
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt(value);
  for (; rest >= 128n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return Buffer.from([...bytes, Number(rest)]);
}

const text = (value: string) => Buffer.concat([varint(Buffer.byteLength(value)), Buffer.from(value)]);

function readPack(file: Buffer, facts: Facts): Map<number, { readonly kind: number; readonly plain: Buffer }> {
  expect(file.subarray(0, 5)).toEqual(Buffer.from('HFPK\x01'));
  const trailer = file.subarray(-64);
  expect(trailer.subarray(60).toString()).toBe('KPFH');
  expect(trailer.readUInt8(56)).toBe(1);
  const encrypted = trailer.readUInt8(57) === 1;
  expect(file.subarray(5, 8)).toEqual(Buffer.of(encrypted ? 1 : 0, 0, 0));
  const saltAndDigest = trailer.subarray(0, 48);
  expect(facts.name.endsWith(saltAndDigest.toString('hex', 0, 4))).toBe(true);
  const generation = trailer.readUInt32LE(48);
  const footerLength = trailer.readUInt32LE(52);

  const input = facts.dataKey ?? Buffer.from(hkdfSync('sha256', facts.domainSecret, '', 'holdfast/1/plain-tag', 32));
  const label = encrypted ? `holdfast/1/pack/${facts.name}` : `holdfast/1/plain-pack/${facts.name}`;
  const key = Buffer.from(hkdfSync('sha256', input, saltAndDigest, label, 32));
  const context = Buffer.concat([
    text('holdfast/1/pack'),
    text(facts.repository),
    text(facts.domain),
    text(facts.lineage),
    varint(facts.slot),
    varint(facts.epoch),
    varint(facts.pack),
    varint(generation),
  ]);
  const open = (number: number, kind: number, method: number, plainBytes: number, part: Buffer): Buffer => {
    const aad = Buffer.alloc(14);
    aad.writeUInt32LE(number, 0);
    aad.writeUInt8(kind, 4);
    aad.writeUInt8(method, 5);
    aad.writeBigUInt64LE(BigInt(plainBytes), 6);
    const all = Buffer.concat([context, aad]);
    const [body, tag] = [part.subarray(0, -16), part.subarray(-16)];
    if (!encrypted) {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(all.length);
      const mac = createHmac('sha256', key)
        .update(Buffer.concat([length, all, body]))
        .digest();
      expect(tag).toEqual(mac.subarray(0, 16));
      return body;
    }
    const nonce = Buffer.alloc(12);
    nonce.writeUInt32BE(number, 8);
    const decipher = createDecipheriv('aes-256-gcm', key, nonce);
    decipher.setAAD(all);
    decipher.setAuthTag(tag);
    return Buffer.concat([decipher.update(body), decipher.final()]);
  };

  const footerStart = file.length - 64 - footerLength;
  const table = open(0xffff_ffff, 3, 0, file.length, file.subarray(footerStart, file.length - 64));
  const count = table.readUInt32LE(0);
  expect(table.length).toBe(Math.ceil((4 + 12 * count) / 256) * 256);
  const segments = new Map<number, { readonly kind: number; readonly plain: Buffer }>();
  let position = 8;
  for (let i = 0; i < count; i++) {
    const number = table.readUInt32LE(4 + 12 * i);
    const stored = table.readUInt32LE(8 + 12 * i);
    const info = table.readUInt32LE(12 + 12 * i);
    const [plainBytes, kind, method] = [info & 0xff_ffff, (info >>> 24) & 3, info >>> 26];
    const payload = open(number, kind, method, plainBytes, file.subarray(position, position + stored));
    const plain = method === 1 ? zstdDecompressSync(payload) : payload;
    expect(plain.length).toBe(plainBytes);
    segments.set(number, { kind, plain });
    position += stored;
  }
  expect(position).toBe(footerStart);
  expect(table.subarray(4 + 12 * count).every((byte) => byte === 0)).toBe(true);

  const firstKey = hkdfSync('sha256', input, saltAndDigest.subarray(0, 32), `holdfast/1/pack-first/${facts.name}`, 32);
  const first = segments.get(table.readUInt32LE(4))?.plain ?? Buffer.alloc(0);
  const digest = createHmac('sha256', Buffer.from(firstKey)).update(first).digest();
  expect(saltAndDigest.subarray(32)).toEqual(digest.subarray(0, 16));
  return segments;
}

let compressor: HostCompressor;

beforeAll(async () => {
  compressor = await chooseCompressor();
});

afterAll(() => compressor[Symbol.dispose]());

it.each([
  ['encrypted', Buffer.alloc(32, 7)],
  ['without encryption', undefined],
])('a reader written from the specification reads a pack %s', (_, dataKey) => {
  const domainSecret = Buffer.alloc(32, 5);
  const identity = { repository: 'repo-1', domain: 'team/app', lineage: toLineageName('team/app/0') };
  const numbers = { slot: toSlot(300), epoch: toEpoch(129), pack: 2 };
  const parts: Buffer[] = [];
  const writer = new PackWriter({
    identity: { ...identity, ...numbers },
    dataKey: toDataKey(200, dataKey, deriveDomainKeys(domainSecret).plainTagKey),
    salt: Uint8Array.from({ length: 32 }, (_value, i) => 3 * i),
    compressor,
    level: 3,
    dataSegmentBytes: 3000,
    metaSegmentBytes: 800,
    emit: (bytes) => parts.push(Buffer.from(bytes)),
  });
  const added: { readonly bytes: Buffer; readonly place: Place; readonly kind: number }[] = [];
  for (let i = 1; i <= 30; i++) {
    const data = Buffer.alloc(40 * i, `data ${i} `);
    const node = Buffer.from(Array.from({ length: 9 * i }, (_value, j) => (i * j * j) >>> 3));
    added.push({ bytes: data, place: writer.addData(data, 0, data.length), kind: 0 });
    added.push({ bytes: node, place: writer.addMetadata(node), kind: 1 });
  }
  const summary = writer.finish();
  const file = Buffer.concat(parts);
  const segments = readPack(file, { ...identity, ...numbers, name: summary.name, domainSecret, dataKey });
  for (const { bytes, place, kind } of added) {
    const segment = segments.get(place.segment);
    expect(segment?.kind).toBe(kind);
    expect(segment?.plain.subarray(place.offset, place.offset + bytes.length)).toEqual(bytes);
  }
  expect([...segments.values()].filter(({ kind }) => kind === 2)).toHaveLength(1);
});
