/** What every watcher of a volume must do. Names may be told that did not change; none may be missing without "everything". */
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ChokidarSource } from '../../src/edge/host/chokidar-source.ts';
import { InotifySource } from '../../src/edge/host/inotify-source.ts';
import { ScanOnlySource } from '../../src/edge/host/scan-only-source.ts';
import { utf8Bytes } from '../../src/engine/model/bytes.ts';
import { type Changes, mayHaveChanged } from '../../src/engine/model/changes.ts';
import type { ChangeSource } from '../../src/engine/ports/change-source.ts';

interface Kind {
  readonly name: string;
  readonly start: (directory: string) => Promise<ChangeSource>;
}

const kinds: readonly Kind[] = [
  { name: 'scan only', start: async () => new ScanOnlySource() },
  { name: 'inotify', start: (directory) => InotifySource.start(directory) },
  { name: 'chokidar', start: (directory) => ChokidarSource.start(directory) },
];

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
    const look = async (): Promise<void> => {
      taken.push(await source.take());
      const missing = paths.filter((path) => !taken.some((changes) => mayHaveChanged(changes, key(path))));
      expect(missing).toEqual([]);
    };
    if (source.prompt) await look();
    else await vi.waitFor(look, { timeout: 10_000 });
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
