/** What every watcher of a volume must do. Names may be told that did not change; none may be missing without "everything". */
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ScanOnlySource } from '../../src/edge/host/scan-only-source.ts';
import { utf8Bytes } from '../../src/engine/model/bytes.ts';
import { type Changes, mayHaveChanged } from '../../src/engine/model/changes.ts';
import type { ChangeSource } from '../../src/engine/ports/change-source.ts';

interface Kind {
  readonly name: string;
  readonly start: (directory: string) => Promise<ChangeSource>;
}

const kinds: readonly Kind[] = [{ name: 'scan only', start: async () => new ScanOnlySource() }];

const key = (path: string): Uint8Array => utf8Bytes(path.replaceAll('/', '\0'));

describe.each(kinds)('$name', ({ start }) => {
  let scratch = '';
  let directory = '';
  let source: ChangeSource;

  beforeEach(async () => {
    scratch = mkdtempSync(join(tmpdir(), 'holdfast-changes-'));
    directory = join(scratch, 'volume');
    mkdirSync(join(directory, 'old/deep'), { recursive: true });
    for (const name of ['kept', 'old/1', 'old/deep/2']) writeFileSync(join(directory, name), name);
    source = await start(directory);
  });

  afterEach(async () => {
    await source.close();
    rmSync(scratch, { recursive: true });
  });

  /** Takes until all are told: a watcher that is not prompt may need some time. */
  async function told(paths: readonly string[]): Promise<Changes[]> {
    const taken: Changes[] = [];
    const missing = (): string[] =>
      paths.filter((path) => !taken.some((changes) => mayHaveChanged(changes, key(path))));
    do taken.push(await source.take());
    while (!source.prompt && missing().length > 0);
    expect(missing()).toEqual([]);
    return taken;
  }

  test('begins with everything, and tells each change from then on', async () => {
    expect(await source.count()).toMatchObject({ kind: 'everything' });
    expect(await source.take()).toMatchObject({ kind: 'everything' });
    writeFileSync(join(directory, 'new'), '1');
    writeFileSync(join(directory, 'old/1'), 'changed');
    await told(['new', 'old/1']);
    renameSync(join(directory, 'new'), join(directory, 'old/deep/moved'));
    rmSync(join(directory, 'kept'));
    await told(['new', 'kept', 'old/deep/moved']);
  });

  test('tells again what was put back, together with what came since', async () => {
    await source.take();
    writeFileSync(join(directory, 'old/1'), 'changed');
    for (const changes of await told(['old/1'])) source.putBack(changes);
    writeFileSync(join(directory, 'old/deep/2'), 'changed');
    await told(['old/1', 'old/deep/2']);
  });

  test('says everything once it is closed', async () => {
    await source.take();
    await source.close();
    expect(await source.take()).toMatchObject({ kind: 'everything' });
  });
});
