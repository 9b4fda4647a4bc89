import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { utf8Bytes } from '../../../src/engine/model/bytes.ts';
import { globExpression, globKeyPrefix, matchesAtOrBelow, pathText } from '../../../src/engine/model/glob.ts';

const key = (path: string): Uint8Array => utf8Bytes(path.replaceAll('/', '\0'));
const matches = (pattern: string, path: string): boolean => globExpression(pattern).test(pathText(key(path)));

describe('globs', () => {
  it('match the last component at any depth when they have no slash', () => {
    expect(matches('*.db', 'a/b/app.db')).toBe(true);
    expect(matches('*.db', 'a.db/b')).toBe(false);
    expect(matchesAtOrBelow(globExpression('*.db'), key('a.db/b'))).toBe(true);
  });

  it('are anchored at the root when they have one', () => {
    expect(matches('etc/*.conf', 'etc/x.conf')).toBe(true);
    expect(matches('/x.conf', 'etc/x.conf')).toBe(false);
    expect(matches('etc/**/x', 'etc/x')).toBe(true);
    expect(matches('etc/**/x', 'etc/a/b/x')).toBe(true);
    expect(matches('./etc/x', 'etc/x')).toBe(true);
  });

  it('have classes, and refuse an open one', () => {
    expect(matches('a[0-9]', 'a7')).toBe(true);
    expect(matches('a[!0-9]', 'a7')).toBe(false);
    expect(() => globExpression('a[0')).toThrow(expect.objectContaining({ code: 'E_USAGE' }));
    expect(() => globExpression('/')).toThrow(expect.objectContaining({ code: 'E_USAGE' }));
  });

  it('match bytes that are no UTF-8', () => {
    const expression = globExpression('a?c');
    expect(expression.test(pathText(Uint8Array.of(0x61, 0xff, 0x63)))).toBe(true);
  });
});

describe('the key prefix of a glob', () => {
  it('is what stands before its first wildcard', () => {
    expect(globKeyPrefix('/etc/nginx/*.conf')).toEqual(key('etc/nginx/'));
    expect(globKeyPrefix('data/hot')).toEqual(key('data/hot'));
    expect(globKeyPrefix('*.db')).toEqual(key(''));
    expect(globKeyPrefix('app.db')).toEqual(key(''));
    expect(globKeyPrefix('d/\\*x')).toEqual(key('d/'));
  });

  it('begins every key that matches', () => {
    const part = fc.constantFrom('a', 'b', 'ab', '*', '**', '?', '[ab]');
    const pattern = fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'));
    const path = fc.array(fc.constantFrom('a', 'b', 'ab', 'c'), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(pattern, path, (glob, parts) => {
        const at = key(parts.join('/'));
        if (!matchesAtOrBelow(globExpression(glob), at)) return;
        const prefix = globKeyPrefix(glob);
        expect(at.subarray(0, prefix.length)).toEqual(prefix);
      }),
      { numRuns: 2000 },
    );
  });
});
