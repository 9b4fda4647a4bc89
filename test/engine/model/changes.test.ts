import fc from 'fast-check';
import { expect, test } from 'vitest';
import { utf8Bytes } from '../../../src/engine/model/bytes.ts';
import { ChangeLog, type Changes, mayHaveChanged } from '../../../src/engine/model/changes.ts';
import { compareBytes } from '../../../src/engine/model/bytes.ts';
import { keyOfText, keyText } from '../../../src/engine/model/rel-path.ts';

const key = (path: string): Uint8Array => utf8Bytes(path.replaceAll('/', '\0'));

function keysOf(changes: Changes): readonly string[] | string {
  if (changes.kind === 'everything') return changes.reason;
  return changes.names.keys().map((name) => keyText(name).replaceAll('\0', '/'));
}

test('what was taken is told once, and again when it is put back, with what came since', () => {
  const log = new ChangeLog();
  log.add(key('b/1'));
  log.add(key('a'));
  const taken = log.take();
  expect(keysOf(taken)).toEqual(['a', 'b/1']);
  expect(keysOf(log.take())).toEqual([]);
  log.add(key('c'));
  log.putBack(taken);
  expect(log.count()).toEqual({ kind: 'names', count: 3 });
  expect(keysOf(log.take())).toEqual(['a', 'b/1', 'c']);
});

test('more names than are remembered are everything, also when they come by being put back', () => {
  const log = new ChangeLog({ namesMax: 2 });
  for (const name of ['a', 'b', 'a', 'b']) log.add(key(name));
  expect(log.count()).toEqual({ kind: 'names', count: 2 });
  const taken = log.take();
  log.add(key('c'));
  log.putBack(taken);
  expect(keysOf(log.take())).toBe('burst');
  expect(keysOf(log.take())).toEqual([]);
  log.everything('overflow');
  log.add(key('d'));
  log.everything('lost');
  expect(keysOf(log.take())).toBe('overflow');
  log.putBack({ kind: 'everything', reason: 'overflow' });
  expect(keysOf(log.take())).toBe('overflow');
});

test('a directory that came as a whole covers what is below it, until both are taken', () => {
  const log = new ChangeLog();
  log.add(key('dir/sub'), true);
  log.add(key('dir/sub'));
  log.add(key('dir/other'));
  const taken = log.take();
  const covered = ['dir/sub', 'dir/sub/x', 'dir/sub/x/y', 'dir/other', 'dir', 'dir/other/x', 'dir/subs'].map((path) =>
    mayHaveChanged(taken, key(path)),
  );
  // The times of `dir` move with its names.
  expect(covered).toEqual([true, true, true, true, true, false, false]);
  expect(mayHaveChanged({ kind: 'everything', reason: 'started' }, key('dir'))).toBe(true);
});

test('keys as text are ordered as their bytes are, and come back', () => {
  const bytes = fc.uint8Array({ maxLength: 40 });
  fc.assert(
    fc.property(bytes, bytes, (a, b) => {
      const [x, y] = [keyText(a), keyText(b)];
      expect(Math.sign(compareBytes(a, b))).toBe(x < y ? -1 : x > y ? 1 : 0);
      expect(keyOfText(x)).toEqual(a);
    }),
  );
  const long = new Uint8Array(100_000).map((_, i) => i);
  expect(keyOfText(keyText(long))).toEqual(long);
});
