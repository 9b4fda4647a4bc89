import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { chooseFileTree } from '../../src/edge/host/choose-file-tree.ts';
import { nameAt } from '../support/tree-names.ts';
import { Workplace } from './run-cli.ts';

/** On a disk: in memory there is nothing to give back. */
test('a checkpoint leaves the page cache as it was: what was in it stays, what it has read itself goes', async () => {
  using place = new Workplace();
  const volume = place.at('vol');
  mkdirSync(volume);
  const { tree } = chooseFileTree({ only: 'native' });
  const root = tree.openRoot(volume);
  const cached = (name: string): boolean => {
    const file = tree.openFile(root, nameAt(name));
    const uncached = tree.isUncached(file);
    tree.close(file);
    return !uncached;
  };
  for (const name of ['used', 'unused', 'small']) {
    writeFileSync(join(volume, name), randomBytes(name === 'small' ? 100 : 8_000_000));
    const descriptor = openSync(join(volume, name), 'r+');
    fsyncSync(descriptor);
    closeSync(descriptor);
    const file = tree.openFile(root, nameAt(name));
    tree.uncache(file);
    tree.close(file);
    expect(cached(name), name).toBe(false);
  }
  readFileSync(join(volume, 'used'));
  await place.json(['init']);
  expect(await place.json(['checkpoint', volume])).toMatchObject({ newBytes: 16_000_100 });
  expect({ used: cached('used'), unused: cached('unused'), small: cached('small') }).toEqual({
    used: true,
    unused: false,
    small: false,
  });
  tree.close(root);
});
