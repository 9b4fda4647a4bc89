import { createHmac, hkdfSync } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  contentId,
  deriveDomainKeys,
  deriveKey,
  hmac256,
  nodeId,
  publicKeyOf,
  setRoot,
  signMessage,
  toDataKey,
  verifySignature,
} from '../../../src/engine/format/keys.ts';
import { fromHex, toHex } from '../../../src/engine/model/bytes.ts';
import { toNodeId, toVolumeName } from '../../../src/engine/model/ids.ts';

const secret = Uint8Array.from({ length: 32 }, (_, i) => i);
const keys = deriveDomainKeys(secret);
const bytesOf = (hex: string): Uint8Array => fromHex(hex) as Uint8Array;

describe('domain keys', () => {
  it('are derived from the secret by HKDF-SHA-256 under the labels of the specification', () => {
    const expected = (label: string, bytes: number) =>
      Buffer.from(hkdfSync('sha256', secret, '', `holdfast/1/${label}`, bytes)).toString('hex');
    expect(toHex(keys.contentIdKey)).toBe(expected('content-id', 32));
    expect(toHex(keys.nodeIdKey)).toBe(expected('node-id', 32));
    expect(toHex(keys.setIdKey)).toBe(expected('set-id', 32));
    expect(toHex(keys.boundaryKey)).toBe(expected('boundary', 16));
    expect(toHex(keys.signingSeed)).toBe(expected('signing', 32));
    expect(toHex(keys.plainTagKey)).toBe(expected('plain-tag', 32));
    const table = Buffer.from(hkdfSync('sha256', secret, '', 'holdfast/1/chunker', 1024));
    expect([...keys.gearTable]).toEqual(Array.from({ length: 256 }, (_, i) => table.readUInt32LE(4 * i)));
  });

  it('keep their bytes for good', () => {
    expect(toHex(keys.contentIdKey)).toBe('7ce32d56541cc9dd6043b48a23a45790f2a4259a19e52a13389cff74b15bc752');
    expect(keys.gearTable[0]).toBe(2369316544);
  });

  it('survive a structured clone and then give the same ids', () => {
    const copy = structuredClone(keys);
    expect(copy).toEqual(keys);
    expect(contentId(copy, secret, 0, 32)).toEqual(contentId(keys, secret, 0, 32));
  });

  it('are refused for a secret of another length', () => {
    expect(() => deriveDomainKeys(secret.subarray(1))).toThrow(/32 bytes/);
  });

  it('use HKDF as in RFC 5869, test case 1', () => {
    const derived = deriveKey(
      bytesOf('0b'.repeat(22)),
      bytesOf('000102030405060708090a0b0c'),
      bytesOf('f0f1f2f3f4f5f6f7f8f9'),
      42,
    );
    expect(toHex(derived)).toBe('3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865');
  });
});

describe('ids', () => {
  it('are HMAC-SHA-256 over exactly the range, at every length', () => {
    const key = keys.contentIdKey;
    const check = (bytes: Uint8Array, start: number, end: number) => {
      const expected = createHmac('sha256', key).update(bytes.slice(start, end)).digest('hex');
      expect(toHex(contentId(keys, bytes, start, end))).toBe(expected);
    };
    const long = Uint8Array.from({ length: 40_000 }, (_, i) => (i * 31) % 251);
    for (const length of [0, 1, 55, 56, 63, 64, 65, 200, 4096, 16_383, 16_384, 16_385, 39_990])
      check(long, 10, 10 + length);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 3000 }), fc.nat(), fc.nat(), (bytes, a, b) => {
        const [start, end] = [a % (bytes.length + 1), b % (bytes.length + 1)].sort((x, y) => x - y) as [number, number];
        check(bytes, start, end);
      }),
    );
  });

  it('stay right when keys alternate, since prepared hashes are remembered per key', () => {
    const other = deriveDomainKeys(secret.map((byte) => byte ^ 0xff));
    const input = Uint8Array.of(1, 2, 3);
    for (let round = 0; round < 3; round++) {
      for (const one of [keys, other]) {
        expect(toHex(contentId(one, input, 0, 3))).toBe(
          createHmac('sha256', one.contentIdKey).update(input).digest('hex'),
        );
        expect(toHex(nodeId(one, input))).toBe(createHmac('sha256', one.nodeIdKey).update(input).digest('hex'));
      }
    }
    expect(contentId(keys, input, 0, 3)).not.toEqual(nodeId(keys, input));
  });

  it('own their memory, so that keeping one keeps 32 bytes alive', () => {
    expect(contentId(keys, secret, 0, 32).buffer.byteLength).toBe(32);
    expect(contentId(keys, new Uint8Array(20_000), 0, 20_000).buffer.byteLength).toBe(32);
  });

  it('refuse a range outside the buffer', () => {
    expect(() => hmac256(keys.contentIdKey, secret, 0, 33)).toThrow(/range/);
    expect(() => hmac256(keys.contentIdKey, secret, 5, 4)).toThrow(/range/);
  });
});

describe('the root of a set', () => {
  const data = { name: toVolumeName('data'), id: toNodeId(new Uint8Array(32).fill(1)) };
  const logs = { name: toVolumeName('logs'), id: toNodeId(new Uint8Array(32).fill(2)) };

  it('does not depend on the order of volumes, but on each name and id', () => {
    const root = toHex(setRoot(keys, [data, logs]));
    expect(toHex(setRoot(keys, [logs, data]))).toBe(root);
    const others = [
      [data],
      [logs],
      [],
      [{ ...data, id: logs.id }, logs],
      [{ ...data, name: toVolumeName('dat') }, logs],
    ];
    const roots = others.map((volumes) => toHex(setRoot(keys, volumes)));
    expect(new Set([root, ...roots]).size).toBe(6);
  });

  it('is the HMAC of the written list', () => {
    const list = Buffer.concat([
      Uint8Array.of(2, 4),
      Buffer.from('data'),
      data.id,
      Uint8Array.of(4),
      Buffer.from('logs'),
      logs.id,
    ]);
    expect(toHex(setRoot(keys, [logs, data]))).toBe(createHmac('sha256', keys.setIdKey).update(list).digest('hex'));
  });

  it('refuses a volume named twice', () => {
    expect(() => setRoot(keys, [data, data])).toThrow(/once/);
  });
});

describe('signatures', () => {
  // RFC 8032, section 7.1, test 2.
  const seed = bytesOf('4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb');
  const publicKey = bytesOf('3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c');
  const signature =
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00';

  it('are Ed25519 as in RFC 8032', () => {
    expect(publicKeyOf(seed)).toEqual(publicKey);
    expect(toHex(signMessage(seed, Uint8Array.of(0x72)))).toBe(signature);
    expect(verifySignature(publicKey, Uint8Array.of(0x72), bytesOf(signature))).toBe(true);
  });

  it('fail for each changed byte of message, signature and key, without throwing', () => {
    const good = bytesOf(signature);
    expect(verifySignature(publicKey, Uint8Array.of(0x73), good)).toBe(false);
    for (let i = 0; i < good.length; i++) {
      const bad = good.slice();
      bad[i] = (bad[i] as number) ^ 1;
      expect(verifySignature(publicKey, Uint8Array.of(0x72), bad)).toBe(false);
    }
    for (let i = 0; i < 32; i++) {
      const bad = publicKey.slice();
      bad[i] = (bad[i] as number) ^ 1;
      expect(verifySignature(bad, Uint8Array.of(0x72), good)).toBe(false);
    }
    expect(verifySignature(publicKey.subarray(1), Uint8Array.of(0x72), good)).toBe(false);
    expect(verifySignature(publicKey, Uint8Array.of(0x72), good.subarray(1))).toBe(false);
  });
});

describe('toDataKey', () => {
  it('checks generation and length', () => {
    expect(toDataKey(1, secret, keys.plainTagKey).key).toBe(secret);
    expect(toDataKey(7, undefined, keys.plainTagKey).key).toBeUndefined();
    for (const generation of [0, -1, 1.5, 2 ** 32])
      expect(() => toDataKey(generation, secret, secret)).toThrow(/generation/);
    expect(() => toDataKey(1, secret.subarray(1), secret)).toThrow(/32 bytes/);
  });
});
