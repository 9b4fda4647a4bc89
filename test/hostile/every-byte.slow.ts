/** Every byte of every object of a small repository, one after the other: found by verify, and never restored wrongly. */
import { describe, expect, test } from 'vitest';
import { damageCodes, flipped, SmallRepository } from './damaged-store.ts';

const kinds = [
  { encrypted: true, inlined: true },
  { encrypted: false, inlined: true },
  { encrypted: true, inlined: false },
  { encrypted: false, inlined: false },
];

describe.each(kinds)('encrypted: $encrypted, inlined: $inlined', (kind) => {
  test('every byte of every record', async () => {
    const repository = await SmallRepository.make(kind);
    for (const key of repository.logKeys) {
      const whole = await repository.bytesOf(key);
      for (let at = 0; at < whole.length; at++) {
        await repository.while(key, flipped(whole, at, (at * 5) % 8), async () => {
          const { verify, restore } = await repository.judge();
          if (!verify.includes(key)) expect.fail(`${key} byte ${at}: verify says ${verify || 'nothing'}`);
          if (typeof restore === 'string') expect(restore, `${key} byte ${at}`).toMatch(damageCodes);
        });
      }
    }
  });

  test('bytes of every part of every pack', async () => {
    const repository = await SmallRepository.make(kind);
    for (const key of repository.packKeys) {
      const whole = await repository.bytesOf(key);
      const tail = whole.length - 900;
      for (let at = 0; at < whole.length; at += at < 64 || at >= tail ? 1 : 41) {
        await repository.while(key, flipped(whole, at, (at * 5) % 8), async () => {
          const { verify, restore, error } = await repository.judge();
          if (!verify.includes(`damaged ${key}`)) expect.fail(`${key} byte ${at}: verify says ${verify || 'nothing'}`);
          if (typeof restore !== 'string') return;
          expect(restore, `${key} byte ${at}`).toBe('E_DAMAGED');
          expect(`${error?.message}`).toContain(key);
        });
      }
    }
  });
});
