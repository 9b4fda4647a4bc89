import { describe, expect, test } from 'vitest';
import { deriveDomainKeys, publicKeyOf, toDataKey } from '../../../src/engine/format/keys.ts';
import { encodeStoredReceipt, openStoredReceipt, receiptTextMax } from '../../../src/engine/format/stored-receipt.ts';
import { toLineageName } from '../../../src/engine/model/ids.ts';

const keys = deriveDomainKeys(new Uint8Array(32).fill(7));
const encrypted = toDataKey(2, new Uint8Array(32).fill(9), keys.plainTagKey);
const plain = toDataKey(1, undefined, keys.plainTagKey);
const address = { repository: 'ab'.repeat(16), domain: 'team/app', lineage: toLineageName('team/app/0') };
const id = new Uint8Array(32).fill(3);
const reader = { ...address, publicKey: publicKeyOf(keys.signingSeed), dataKeys: [plain, encrypted] };
const text = JSON.stringify({ volumes: { accounts: { outcome: 'restored' } }, podName: 'päd-1' });

function stored(dataKey: typeof plain = encrypted, what: string = text): Uint8Array {
  return encodeStoredReceipt(address, what, id, { dataKey, signingSeed: keys.signingSeed });
}

describe('a stored receipt', () => {
  test.each([
    ['encrypted', encrypted],
    ['without encryption', plain],
  ])('is read back as it was written, %s', (_, dataKey) => {
    expect(openStoredReceipt(stored(dataKey), reader)).toBe(text);
  });

  test('shows neither its words nor, but roughly, its length to who has no key', () => {
    expect(Buffer.from(stored()).includes('accounts')).toBe(false);
    expect(stored(encrypted, 'x'.repeat(200)).length).toBe(stored(encrypted, 'x'.repeat(700)).length);
  });

  test('with any bit changed is damaged', () => {
    const bytes = stored();
    for (let at = 0; at < bytes.length; at++) {
      const changed = bytes.slice();
      changed[at] = (changed[at] as number) ^ (1 << (at % 8));
      expect(() => openStoredReceipt(changed, reader), `bit of byte ${at}`).toThrow(
        expect.objectContaining({ code: 'E_DAMAGED' }),
      );
    }
    for (const cut of [0, 11, 40, bytes.length - 1]) {
      expect(() => openStoredReceipt(bytes.subarray(0, cut), reader)).toThrow(
        expect.objectContaining({ code: 'E_DAMAGED' }),
      );
    }
  });

  test('of another lineage, domain, repository or signer is damaged', () => {
    const other = deriveDomainKeys(new Uint8Array(32).fill(8));
    for (const more of [
      { lineage: toLineageName('team/app/1') },
      { domain: 'team/other' },
      { repository: 'cd'.repeat(16) },
      { publicKey: publicKeyOf(other.signingSeed) },
    ]) {
      expect(() => openStoredReceipt(stored(), { ...reader, ...more })).toThrow(
        expect.objectContaining({ code: 'E_DAMAGED' }),
      );
    }
  });

  test('of a data key that is not known says so', () => {
    expect(() => openStoredReceipt(stored(), { ...reader, dataKeys: [plain] })).toThrow(
      expect.objectContaining({ code: 'E_KEY_MISSING' }),
    );
  });

  test('that is too long is refused before it is stored', () => {
    expect(() => stored(encrypted, 'x'.repeat(receiptTextMax + 1))).toThrow(
      expect.objectContaining({ code: 'E_LIMIT' }),
    );
    const most = 'x'.repeat(receiptTextMax);
    expect(openStoredReceipt(stored(encrypted, most), reader)).toBe(most);
  });
});
