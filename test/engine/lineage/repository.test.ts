import { describe, expect, it } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { domainKeyKey, repositoryObjectKey } from '../../../src/engine/format/object-keys.ts';
import {
  createRepository,
  domainOf,
  openRepository,
  type RepositorySettings,
} from '../../../src/engine/lineage/repository.ts';
import { utf8Bytes } from '../../../src/engine/model/bytes.ts';
import { toLineageName } from '../../../src/engine/model/ids.ts';
import type { KeyRing } from '../../../src/engine/ports/key-ring.ts';
import { keyRingOf, ScriptedStore, seededRandom, TestClock } from './fixture.ts';

const ring = await keyRingOf('ours');
const theirs = await keyRingOf('theirs');
const encrypted: RepositorySettings & { encryption: 'aes-256-gcm' } = { keyRing: ring, encryption: 'aes-256-gcm' };
const plain: RepositorySettings & { encryption: 'none' } = { keyRing: undefined, encryption: 'none' };

function making(store: ScriptedStore | MemoryStore = new ScriptedStore(), seed = 'a') {
  return { store, random: seededRandom(seed), clock: new TestClock() };
}

describe('a repository', () => {
  for (const settings of [encrypted, plain]) {
    it(`with encryption ${settings.encryption} is made once, and opened with what it was made with`, async () => {
      const options = making();
      const made = await createRepository(settings, options);
      expect(made.encryption).toBe(settings.encryption);
      await expect(createRepository(settings, making(options.store, 'b'))).rejects.toMatchObject({
        code: 'E_REPOSITORY_EXISTS',
      });
      for (const asked of [settings, { keyRing: settings.keyRing }]) {
        const opened = await openRepository(options.store, asked);
        expect(opened).toMatchObject({ id: made.id, encryption: settings.encryption, formatVersion: 1 });
      }
    });
  }

  it('is not a first boot when its object is missing', async () => {
    await expect(openRepository(new MemoryStore(), encrypted)).rejects.toMatchObject({ code: 'E_REPOSITORY_MISSING' });
  });

  it('with half-configured encryption is refused', async () => {
    const [a, b] = [making(), making()];
    await createRepository(encrypted, a);
    await createRepository(plain, b);
    const cases: [typeof a, RepositorySettings, string][] = [
      [a, { keyRing: undefined }, 'E_KEY_MISSING'],
      [a, { keyRing: undefined, encryption: 'aes-256-gcm' }, 'E_KEY_MISSING'],
      [a, { keyRing: undefined, encryption: 'none' }, 'E_ENCRYPTION_MISMATCH'],
      [a, { keyRing: ring, encryption: 'none' }, 'E_ENCRYPTION_MISMATCH'],
      [a, { keyRing: theirs }, 'E_KEY_WRONG'],
      [b, { keyRing: ring }, 'E_ENCRYPTION_MISMATCH'],
      [b, { keyRing: undefined, encryption: 'aes-256-gcm' }, 'E_ENCRYPTION_MISMATCH'],
    ];
    for (const [{ store }, settings, code] of cases) {
      await expect(openRepository(store, settings)).rejects.toMatchObject({ code });
    }
    for (const [settings, code] of [
      [{ keyRing: undefined, encryption: 'aes-256-gcm' }, 'E_KEY_MISSING'],
      [{ keyRing: ring, encryption: 'none' }, 'E_ENCRYPTION_MISMATCH'],
    ] as const) {
      const options = making();
      await expect(createRepository(settings, options)).rejects.toMatchObject({ code });
      expect(await options.store.list('v1/')).toEqual([]);
    }
  });

  it('whose object names our key but was signed by another is refused', async () => {
    const options = making();
    const underOurName: KeyRing = {
      keyId: ring.keyId,
      publicKey: theirs.publicKey,
      sign: (message) => theirs.sign(message),
      wrap: (secret, context) => theirs.wrap(secret, context),
      unwrap: (wrapped, context) => theirs.unwrap(wrapped, context),
    };
    await createRepository({ ...encrypted, keyRing: underOurName }, options);
    await expect(openRepository(options.store, encrypted)).rejects.toMatchObject({ code: 'E_DAMAGED' });
  });

  it('is made also when the reply is lost or the request comes late', async () => {
    for (const script of [['lostReply'], ['lostRequest', 'lostRequest', 'ok'], ['delayed', 'lostReply']] as const) {
      const store = new ScriptedStore();
      store.script = [...script];
      const { id } = await createRepository(encrypted, making(store));
      expect((await openRepository(store, encrypted)).id).toBe(id);
    }
  });

  it('is not made in a store that is full or read-only', async () => {
    for (const [fault, code] of [
      ['full', 'E_STORE_FULL'],
      ['readOnly', 'E_STORE_READ_ONLY'],
    ] as const) {
      const store = new ScriptedStore();
      store.script = [fault];
      const options = making(store);
      await expect(createRepository(encrypted, options)).rejects.toMatchObject({ code });
      expect(options.clock.waits).toEqual([]);
    }
  });

  it('gives up on a store that never answers', async () => {
    const store = new ScriptedStore();
    store.script = Array(100).fill('lostRequest');
    const options = making(store);
    await expect(createRepository(encrypted, options)).rejects.toMatchObject({ code: 'E_STORE_UNREACHABLE' });
    expect(options.clock.waits).toEqual([100, 200, 400, 800, 1600, 3200]);
  });
});

describe('a key domain', () => {
  it('is the workload: a lineage without its replica slot', () => {
    expect(domainOf(toLineageName('team/app/0'))).toBe('team/app');
    expect(domainOf(toLineageName('cluster/ns/StatefulSet/db/2'))).toBe('cluster/ns/StatefulSet/db');
    expect(domainOf(toLineageName('notes'))).toBe('notes');
  });

  for (const settings of [encrypted, plain]) {
    it(`with encryption ${settings.encryption} gives everybody the same keys`, async () => {
      const options = making();
      const repository = await createRepository(settings, options);
      await expect(repository.openDomain('team/app')).rejects.toMatchObject({ code: 'E_NOT_FOUND' });
      const made = await repository.openOrMakeDomain('team/app', options);
      const again = await (await openRepository(options.store, settings)).openDomain('team/app');
      expect(again).toEqual(made);
      expect(made.dataKey).toBe(made.dataKeys.at(-1));
      expect(made.dataKey.generation).toBe(1);
      expect(made.dataKey.key === undefined).toBe(settings.encryption === 'none');
      const other = await repository.openOrMakeDomain('team/other', options);
      expect(other.publicKey).not.toEqual(made.publicKey);
      expect(other.keys.contentIdKey).not.toEqual(made.keys.contentIdKey);
    });
  }

  it('keeps its secrets out of the store, unless encryption is off', async () => {
    const options = making();
    const repository = await createRepository(encrypted, options);
    const { dataKey } = await repository.openOrMakeDomain('team/app', options);
    const bytes = await options.store.get(domainKeyKey('team/app', 1), { bytesMax: 10_000 });
    expect(Buffer.from(bytes!).includes(Buffer.from(dataKey.key!))).toBe(false);
  });

  it('begun twice at once: the loser reads and uses what the winner wrote', async () => {
    const options = making();
    const repository = await createRepository(encrypted, options);
    const [store] = [options.store as ScriptedStore];
    let winner: Promise<unknown> | undefined;
    store.beforeCreate = async () => {
      store.beforeCreate = undefined;
      winner = (await openRepository(store, encrypted)).openOrMakeDomain('team/app', making(store, 'winner'));
      await winner;
    };
    const loser = await repository.openOrMakeDomain('team/app', options);
    expect(loser).toEqual(await winner);
  });

  it('passes over junk beside its keys, and is damaged, not new, when nothing else is left', async () => {
    const options = making();
    const repository = await createRepository(encrypted, options);
    const made = await repository.openOrMakeDomain('team/app', options);
    const store = (options.store as ScriptedStore).memory;
    const genuine = (await store.get(domainKeyKey('team/app', 1), { bytesMax: 10_000 }))!;
    await store.create(domainKeyKey('team/app', 2), genuine);
    await store.create(domainKeyKey('team/app', 3), utf8Bytes('junk'));
    await store.create(domainKeyKey('team/app', 4), new Uint8Array(100_000));
    await store.create('v1/key/team_.app/latest', utf8Bytes('junk'));
    expect(await repository.openDomain('team/app')).toEqual(made);
    store.damage(domainKeyKey('team/app', 1), utf8Bytes('junk'));
    await expect(repository.openDomain('team/app')).rejects.toMatchObject({ code: 'E_DAMAGED' });
    await expect(repository.openOrMakeDomain('team/app', options)).rejects.toMatchObject({ code: 'E_DAMAGED' });
  });

  it('rotates: a new data key encrypts, all old ones decrypt, and the secret stays', async () => {
    const options = making();
    const repository = await createRepository(encrypted, options);
    await expect(repository.rotateDataKey('team/app', options)).rejects.toMatchObject({ code: 'E_NOT_FOUND' });
    const before = await repository.openOrMakeDomain('team/app', options);
    const first = await options.store.get(domainKeyKey('team/app', 1), { bytesMax: 10_000 });
    const after = await repository.rotateDataKey('team/app', options);
    expect(after.dataKeys.map(({ generation }) => generation)).toEqual([1, 2]);
    expect(after.dataKeys[0]).toEqual(before.dataKey);
    expect(after.dataKey.key).not.toEqual(before.dataKey.key);
    expect(after.keys).toEqual(before.keys);
    expect(await (await openRepository(options.store, encrypted)).openDomain('team/app')).toEqual(after);
    expect(await options.store.get(domainKeyKey('team/app', 1), { bytesMax: 10_000 })).toEqual(first);
    expect((await repository.rotateDataKey('team/app', options)).dataKey.generation).toBe(3);
  });

  it('rotated twice at once has one new data key; and junk is passed over', async () => {
    const options = making();
    const repository = await createRepository(encrypted, options);
    await repository.openOrMakeDomain('team/app', options);
    const store = options.store as ScriptedStore;
    await store.memory.create(domainKeyKey('team/app', 2), utf8Bytes('junk'));
    let winner: Promise<unknown> | undefined;
    let creates = 0;
    store.beforeCreate = async () => {
      if (++creates < 2) return;
      store.beforeCreate = undefined;
      winner = (await openRepository(store, encrypted)).rotateDataKey('team/app', making(store, 'winner'));
      await winner;
    };
    const loser = await repository.rotateDataKey('team/app', options);
    expect(loser).toEqual(await winner);
    expect(loser.dataKeys.map(({ generation }) => generation)).toEqual([1, 3]);
    const plainly = making(undefined, 'plain');
    const without = await createRepository(plain, plainly);
    await without.openOrMakeDomain('team/app', plainly);
    await expect(without.rotateDataKey('team/app', plainly)).rejects.toMatchObject({ code: 'E_ENCRYPTION_MISMATCH' });
  });

  it('of another repository with the same key is not taken', async () => {
    const [a, b] = [making(undefined, 'a'), making(undefined, 'b')];
    await (await createRepository(encrypted, a)).openOrMakeDomain('team/app', a);
    const second = await createRepository(encrypted, b);
    const bytes = await a.store.get(domainKeyKey('team/app', 1), { bytesMax: 10_000 });
    await b.store.create(domainKeyKey('team/app', 1), bytes!);
    await expect(second.openDomain('team/app')).rejects.toMatchObject({ code: 'E_DAMAGED' });
  });
});

describe('the repository object', () => {
  it('changed by one bit is never opened', async () => {
    const options = making();
    await createRepository(encrypted, options);
    const store = (options.store as ScriptedStore).memory;
    const bytes = (await store.get(repositoryObjectKey, { bytesMax: 10_000 }))!;
    for (let at = 0; at < bytes.length; at++) {
      const changed = bytes.slice();
      changed[at]! ^= 0x10;
      store.damage(repositoryObjectKey, changed);
      await expect(openRepository(store, encrypted)).rejects.toMatchObject({
        code: expect.stringMatching(/E_DAMAGED|E_FORMAT_NEWER|E_KEY_WRONG/),
      });
    }
  });
});
