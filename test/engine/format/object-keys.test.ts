import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isKeyPart } from '../../../src/edge/store/object-key.ts';
import {
  decisionKey,
  decisionPrefix,
  domainKeyKey,
  fromKeyPart,
  lineagePrefix,
  logKey,
  logPrefix,
  packKey,
  parseDecisionKey,
  parseDomainKeyKey,
  parseLineageKey,
  parseLogKey,
  parsePackKey,
  parsePackName,
  parsePinKey,
  pinKey,
  toKeyPart,
  toPackName,
} from '../../../src/engine/format/object-keys.ts';
import { slotMax, toLineageName, toSlot } from '../../../src/engine/model/ids.ts';
import { runs } from '../../support/arbitraries.ts';

const name = fc
  .array(fc.stringMatching(/^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,30}[A-Za-z0-9])?$/), { minLength: 1, maxLength: 8 })
  .map((parts) => toLineageName(parts.join('/')));
const slot = fc.integer({ min: 1, max: slotMax }).map(toSlot);
const lineage = toLineageName('team/app/0');

describe('a name as one part of a key', () => {
  it('reads back, is never the same for two names, and is a part that every store takes', () => {
    fc.assert(
      fc.property(name, name, (a, b) => {
        const part = toKeyPart(a);
        expect(isKeyPart(part)).toBe(true);
        expect(fromKeyPart(part)).toBe(part.length > 160 ? undefined : a);
        expect(part === toKeyPart(b)).toBe(a === b);
      }),
      runs(200),
    );
  });

  it('keeps underscores and slashes apart', () => {
    expect(toKeyPart('a_b/c')).toBe('a__b_.c');
    expect(fromKeyPart('a__b_.c')).toBe('a_b/c');
    expect(toKeyPart('a_.b')).not.toBe(toKeyPart('a/b'));
    for (const part of ['', 'a_', 'a_x', 'a_.', '_.a', 'a b', '..', 'a/b', `a_-${'0'.repeat(64)}`]) {
      expect(fromKeyPart(part)).toBeUndefined();
    }
  });

  it('is cut when it is very long, and still tells two names apart', () => {
    const long = toLineageName(`${'n'.repeat(250)}/${'p'.repeat(250)}/0`);
    const other = toLineageName(`${'n'.repeat(250)}/${'p'.repeat(250)}/1`);
    expect(isKeyPart(toKeyPart(long))).toBe(true);
    expect(toKeyPart(long)).not.toBe(toKeyPart(other));
    expect(parseLineageKey(logKey(long, toSlot(1)))).toEqual({ prefix: lineagePrefix(long) });
  });
});

describe('object keys', () => {
  it('look like this', () => {
    expect(logKey(lineage, toSlot(1))).toBe('v1/l/93/team_.app_.0/log/fffffffffe');
    expect(packKey(lineage, '7-3-0-0a1b2c3d')).toBe('v1/l/93/team_.app_.0/pk/7-3-0-0a1b2c3d');
    expect(domainKeyKey('team/app', 2)).toBe('v1/key/team_.app/2');
    expect(pinKey(lineage, toSlot(9), '00'.repeat(16))).toBe(`v1/pin/team_.app_.0/9/${'00'.repeat(16)}`);
    expect(decisionKey(lineage, toSlot(2))).toBe('v1/l/93/team_.app_.0/gc/fffffffffd');
  });

  it('of a log list the newest first', () => {
    fc.assert(
      fc.property(slot, slot, (a, b) => {
        expect(logKey(lineage, a) < logKey(lineage, b)).toBe(a > b);
      }),
      runs(200),
    );
  });

  it('read back', () => {
    fc.assert(
      fc.property(name, slot, fc.nat(), (of, at, pack) => {
        expect(parseLogKey(of, logKey(of, at))).toBe(at);
        expect(parseDecisionKey(of, decisionKey(of, at))).toBe(at);
        const parts = { slot: at, epoch: 1, pack, salt8: '0011aabb' };
        expect(parsePackName(toPackName(parts))).toEqual(parts);
        expect(parsePackKey(of, packKey(of, toPackName(parts)))).toEqual(parts);
        expect(parseDomainKeyKey(of, domainKeyKey(of, pack + 1))).toBe(pack + 1);
        expect(parsePinKey(of, pinKey(of, at, 'ab'.repeat(16)))).toEqual({ slot: at, id: 'ab'.repeat(16) });
        const parsed = parseLineageKey(logKey(of, at));
        expect(parsed?.prefix).toBe(lineagePrefix(of));
        if (parsed?.lineage !== undefined) expect(parsed.lineage).toBe(of);
      }),
      runs(200),
    );
  });

  it('of another lineage, or that nobody makes, are not taken', () => {
    expect(parseLogKey(lineage, logKey(toLineageName('team/app/1'), toSlot(1)))).toBeUndefined();
    for (const last of ['', 'ffffffffff', 'FFFFFFFFFE', 'fffffffffe0', 'ffffffffe', 'fffffffffe/x']) {
      expect(parseLogKey(lineage, logPrefix(lineage) + last)).toBeUndefined();
      expect(parseDecisionKey(lineage, decisionPrefix(lineage) + last)).toBeUndefined();
    }
    for (const bad of [
      '0-1-0-00000000',
      '2-3-0-00000000',
      '01-1-0-00000000',
      '2-1-0-0000000g',
      '2-1-00-00000000',
      '2-1-0',
    ]) {
      expect(parsePackName(bad)).toBeUndefined();
    }
    expect(parseLineageKey('v1/l/00/team_.app_.0/log/fffffffffe')).toBeUndefined();
    expect(parseLineageKey('v1/l/93/team_.app_.0')).toBeUndefined();
    for (const generation of ['0', '01', '-1', '4294967296', 'x']) {
      expect(parseDomainKeyKey('team/app', `v1/key/team_.app/${generation}`)).toBeUndefined();
    }
  });
});
