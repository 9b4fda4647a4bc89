import { describe, expect, test } from 'vitest';
import { logKey, packKey, parseLogKey } from '../../src/engine/format/object-keys.ts';
import { concatBytes } from '../../src/engine/model/bytes.ts';
import { toLineageName, toSlot } from '../../src/engine/model/ids.ts';
import { damageCodes, flipped, SmallRepository } from './damaged-store.ts';

const kinds = [
  { encrypted: true, inlined: true },
  { encrypted: true, inlined: false },
  { encrypted: false, inlined: true },
  { encrypted: false, inlined: false },
];

describe.each(kinds)('encrypted: $encrypted, inlined: $inlined', (kind) => {
  test('whole, it verifies, and both checkpoints restore', async () => {
    const repository = await SmallRepository.make(kind);
    expect(repository.packKeys.length).toBe(kind.inlined ? 0 : 2);
    for (const slot of repository.trees.keys()) {
      expect(await repository.judge({ by: 'slot', slot: toSlot(slot) })).toEqual({ verify: '', restore: slot });
    }
  });

  test('a byte changed in a record: verify names it, restore is exact or refuses', async () => {
    const repository = await SmallRepository.make(kind);
    for (const key of repository.logKeys) {
      const whole = await repository.bytesOf(key);
      // Every offset is tried by the slow suite.
      for (let at = 0; at < whole.length; at += 1 + Math.floor(whole.length / 40)) {
        await repository.while(key, flipped(whole, at, at % 8), async () => {
          const { verify, restore } = await repository.judge();
          expect(verify, `${key} byte ${at}`).toContain(key);
          if (typeof restore === 'string') expect(restore).toMatch(damageCodes);
        });
      }
    }
  });

  test('a byte changed in a pack: verify names it, restore is exact or names object and files', async () => {
    const repository = await SmallRepository.make(kind);
    for (const key of repository.packKeys) {
      const whole = await repository.bytesOf(key);
      const edges = [
        ...Array(16).keys(),
        ...Array(64)
          .keys()
          .map((i) => whole.length - 1 - i),
      ];
      const spread = Array.from({ length: 60 }, (_, i) => Math.floor((i * whole.length) / 60));
      for (const at of [...edges, ...spread]) {
        await repository.while(key, flipped(whole, at, at % 8), async () => {
          const { verify, restore, error } = await repository.judge();
          expect(verify, `${key} byte ${at}`).toContain(`damaged ${key}`);
          if (typeof restore !== 'string') return;
          expect(restore).toBe('E_DAMAGED');
          const told = `${error?.message} ${JSON.stringify(error?.details)}`;
          expect(told).toContain(key);
          expect(told).toMatch(/"files":[1-9]/);
        });
      }
    }
  });

  test('a byte changed in the repository object or the keys: nothing opens, and the reason is typed', async () => {
    const repository = await SmallRepository.make(kind);
    for (const key of repository.keys.filter((each) => /^v1\/(repo|key\/)/.test(each))) {
      const whole = await repository.bytesOf(key);
      for (let at = 0; at < whole.length; at += 3) {
        await repository.while(key, flipped(whole, at, at % 8), async () => {
          const { verify, restore } = await repository.judge();
          expect(verify, `${key} byte ${at}`).toMatch(/^E_/);
          expect(restore).toMatch(damageCodes);
        });
      }
    }
  });

  test('objects that are missing, cut, empty, doubled or longer', async () => {
    const repository = await SmallRepository.make(kind);
    const newestLog = repository.logKeys[0];
    for (const key of repository.keys) {
      const whole = await repository.bytesOf(key);
      const forms: Record<string, Uint8Array | undefined> = {
        missing: undefined,
        empty: new Uint8Array(0),
        'one byte': whole.slice(0, 1),
        'cut in half': whole.slice(0, whole.length / 2),
        'one byte short': whole.slice(0, -1),
        'one byte longer': concatBytes([whole, Uint8Array.of(0)]),
        doubled: concatBytes([whole, whole]),
        zeros: new Uint8Array(whole.length),
      };
      for (const [form, bytes] of Object.entries(forms)) {
        await repository.while(key, bytes, async () => {
          const { verify, restore } = await repository.judge();
          if (typeof restore === 'string') expect(restore, `${key} ${form}`).toMatch(damageCodes);
          // The newest record leaves no trace in those before it: only an anchor outside the store can tell. A CLAIM or an
          // older record that is gone may have been trimmed.
          const mayBeGone = form === 'missing' && key.includes('/log/');
          if (!mayBeGone) expect(verify, `${key} ${form}`).not.toBe('');
          if (key === newestLog && typeof restore === 'number') expect(restore).toBeLessThan(repository.newestSlot);
        });
      }
    }
  });

  test('objects in the place of others', async () => {
    const repository = await SmallRepository.make(kind);
    const groups = [repository.logKeys, repository.packKeys];
    for (const keys of groups) {
      for (const key of keys) {
        for (const other of keys) {
          if (other === key) continue;
          await repository.while(key, await repository.bytesOf(other), async () => {
            const { verify, restore } = await repository.judge();
            expect(verify, `${other} at ${key}`).toContain(key);
            if (typeof restore === 'string') expect(restore).toMatch(damageCodes);
          });
        }
      }
    }
  });

  test('objects of another lineage of the same domain, whose keys are the same', async () => {
    const repository = await SmallRepository.make(kind);
    const other = toLineageName('team/app/1');
    for (const key of repository.logKeys) {
      await repository.store.create(
        logKey(other, parseLogKey(repository.lineage, key)!),
        await repository.bytesOf(key),
      );
    }
    for (const key of repository.packKeys) {
      await repository.store.create(packKey(other, key.slice(key.lastIndexOf('/') + 1)), await repository.bytesOf(key));
    }
    const { verify, restore } = await repository.judge(undefined, other);
    expect(verify.match(/void/g)).toHaveLength(repository.logKeys.length);
    expect(restore).toBe('E_EXPECTED_MISSING');
    expect(await repository.judge()).toMatchObject({ verify: '', restore: repository.newestSlot });
  });

  test('both checkpoints damaged: each by its slot refuses', async () => {
    if (kind.inlined) return;
    const repository = await SmallRepository.make(kind);
    for (const [i, key] of repository.packKeys.entries()) {
      const whole = await repository.bytesOf(key);
      repository.store.damage(key, flipped(whole, 8 + i, 0));
    }
    for (const slot of repository.trees.keys()) {
      const { restore } = await repository.judge({ by: 'slot', slot: toSlot(slot) });
      if (typeof restore === 'string') expect(restore).toBe('E_DAMAGED');
    }
  });
});
