import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { envelopeHeadBytes, envelopeOf } from '../../../src/engine/format/envelope.ts';
import { publicKeyOf, signMessage } from '../../../src/engine/format/keys.ts';
import {
  type DomainKeyObject,
  domainKeyObjectToSeal,
  plainSeal,
  readDomainKeyObject,
  readRepositoryObject,
  type RepositoryObject,
  repositoryObjectToSeal,
  withSeal,
} from '../../../src/engine/format/repository.ts';
import { objectType } from '../../../src/engine/format/versions.ts';
import { HoldfastError } from '../../../src/engine/model/errors.ts';
import { runs } from '../../support/arbitraries.ts';

const seed = new Uint8Array(32).fill(9);
const repository: RepositoryObject = {
  id: '00112233445566778899aabbccddeeff',
  formatVersion: 1,
  encryption: 'aes-256-gcm',
  createdMs: 1_767_225_600_000,
  keyId: 'a key',
  publicKey: publicKeyOf(seed),
  createOnly: true,
};
const plain: RepositoryObject = { ...repository, encryption: 'none', keyId: '', publicKey: new Uint8Array(0) };
const domainKey: DomainKeyObject = {
  repository: repository.id,
  domain: 'team/app',
  generation: 3,
  createdMs: 5,
  publicKey: publicKeyOf(new Uint8Array(32).fill(1)),
  domainSecret: new Uint8Array(60).fill(2),
  dataKey: new Uint8Array(60).fill(3),
};

function sign(sealed: Uint8Array): Uint8Array {
  return withSeal(sealed, signMessage(seed, sealed));
}

function sealPlainly(sealed: Uint8Array): Uint8Array {
  return withSeal(sealed, plainSeal(sealed));
}

function codeOf(run: () => unknown): string {
  try {
    run();
    return 'read';
  } catch (error) {
    return error instanceof HoldfastError ? error.code : `not a HoldfastError: ${error}`;
  }
}

describe('the repository object', () => {
  it('reads back, encrypted or not', () => {
    expect(readRepositoryObject(sign(repositoryObjectToSeal(repository)))).toEqual(repository);
    expect(readRepositoryObject(sealPlainly(repositoryObjectToSeal(plain)))).toEqual(plain);
  });

  it('is refused when any bit was changed, or bytes are missing or added', () => {
    for (const bytes of [sign(repositoryObjectToSeal(repository)), sealPlainly(repositoryObjectToSeal(plain))]) {
      for (let at = 0; at < bytes.length * 8; at++) {
        const changed = bytes.slice();
        changed[at >> 3]! ^= 1 << (at & 7);
        // Flags that a reader may ignore are sealed like all the rest.
        expect(codeOf(() => readRepositoryObject(changed))).toMatch(/E_DAMAGED|E_FORMAT_NEWER/);
      }
      for (let length = 0; length < bytes.length; length++) {
        expect(codeOf(() => readRepositoryObject(bytes.subarray(0, length)))).toBe('E_DAMAGED');
      }
      expect(codeOf(() => readRepositoryObject(withSeal(bytes, new Uint8Array(1))))).toBe('E_DAMAGED');
    }
  });

  it('of a newer format is refused as newer', () => {
    expect(codeOf(() => readRepositoryObject(sign(repositoryObjectToSeal({ ...repository, formatVersion: 2 }))))).toBe(
      'E_FORMAT_NEWER',
    );
    const version = sealPlainly(repositoryObjectToSeal(plain));
    version[5] = 2;
    expect(codeOf(() => readRepositoryObject(version))).toBe('E_FORMAT_NEWER');
    const flags = repositoryObjectToSeal(repository);
    flags[6] = 1;
    expect(codeOf(() => readRepositoryObject(sign(flags)))).toBe('E_FORMAT_NEWER');
  });

  it('may carry flags that can be ignored', () => {
    const flags = repositoryObjectToSeal(repository);
    flags[7] = 0xff;
    expect(readRepositoryObject(sign(flags))).toEqual(repository);
  });
});

describe('a domain key object', () => {
  const expected = { repository, domain: 'team/app', generation: 3 };
  let bytes: Uint8Array;
  beforeAll(() => {
    bytes = sign(domainKeyObjectToSeal(domainKey));
  });

  it('reads back', () => {
    expect(readDomainKeyObject(bytes, expected)).toEqual(domainKey);
  });

  it('is refused under another name, another repository, another signature', () => {
    expect(codeOf(() => readDomainKeyObject(bytes, { ...expected, domain: 'team/other' }))).toBe('E_DAMAGED');
    expect(codeOf(() => readDomainKeyObject(bytes, { ...expected, generation: 4 }))).toBe('E_DAMAGED');
    const elsewhere = { ...repository, id: 'ff'.repeat(16) };
    expect(codeOf(() => readDomainKeyObject(bytes, { ...expected, repository: elsewhere }))).toBe('E_DAMAGED');
    const otherKey = { ...repository, publicKey: publicKeyOf(new Uint8Array(32).fill(8)) };
    expect(codeOf(() => readDomainKeyObject(bytes, { ...expected, repository: otherKey }))).toBe('E_DAMAGED');
    const unsigned = sealPlainly(domainKeyObjectToSeal(domainKey));
    expect(codeOf(() => readDomainKeyObject(unsigned, expected))).toBe('E_DAMAGED');
  });
});

describe('the readers', () => {
  it('answer any bytes with one error, and never with another', () => {
    const genuine = repositoryObjectToSeal(plain).subarray(envelopeHeadBytes);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(genuine.length - 1), (junk, cut) => {
        const payload = withSeal(genuine.subarray(0, cut), junk);
        fc.pre(codeOf(() => readRepositoryObject(sealPlainly(envelopeOf(objectType.repository, payload)))) !== 'read');
        const expected = { repository: plain, domain: 'a', generation: 1 };
        for (const bytes of [
          junk,
          payload,
          sealPlainly(envelopeOf(objectType.repository, payload)),
          sealPlainly(envelopeOf(objectType.domainKey, payload)),
        ]) {
          expect(codeOf(() => readRepositoryObject(bytes))).toMatch(/E_DAMAGED|E_FORMAT_NEWER/);
          expect(codeOf(() => readDomainKeyObject(bytes, expected))).toMatch(/E_DAMAGED|E_FORMAT_NEWER/);
        }
      }),
      runs(300),
    );
  });
});
