import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';

const root = dirname(dirname(import.meta.dirname));

/** `path/of.test.ts` "name", "name of another": names that go on or begin elsewhere are cut at `...`. */
test('every test that docs/testing.md names is there', () => {
  const page = readFileSync(join(root, 'docs/testing.md'), 'utf8');
  const cells = page.split('## Which test holds what')[1]?.match(/`[\w/-]+\.(test|slow)\.ts`[^|`;]*/g) ?? [];
  let names = 0;
  for (const cell of cells) {
    const path = join(root, 'test', (/`(.*)`/.exec(cell) as RegExpExecArray)[1] as string);
    expect(existsSync(path), path).toBe(true);
    const source = readFileSync(path, 'utf8');
    for (const [, name] of cell.matchAll(/"([^"]+)"/g)) {
      names++;
      for (const part of (name as string).split('...')) expect(source, path).toContain(part.trim());
    }
  }
  expect(names).toBeGreaterThan(20);
});
