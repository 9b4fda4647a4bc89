/**
 * `npm run golden`: writes the stored repositories anew. Only for a format under development, and only with a decision record
 * (docs/decisions/0050-golden-repositories.md): what is stored here is what older programs have left in people's stores.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openDirectoryWriter } from '../../src/edge/store/directory-store.ts';
import { type MutableStore, specimens } from './specimens.ts';

const folder = fileURLToPath(new URL('v1/', import.meta.url));

for (const specimen of specimens) {
  const path = join(folder, specimen.name);
  rmSync(path, { recursive: true, force: true });
  mkdirSync(path, { recursive: true });
  const root = join(path, 'store');
  await using writer = await openDirectoryWriter(root, { create: true });
  const store: MutableStore = Object.assign(writer, { remove: (key: string) => unlink(join(root, key)) });
  const expected = await specimen.make(store);
  rmSync(join(root, 'tmp'), { recursive: true, force: true });
  writeFileSync(join(path, 'expected.json'), `${JSON.stringify(expected, null, 1)}\n`);
  process.stdout.write(`${specimen.name}: ${expected.log.join(' ')}\n`);
}
