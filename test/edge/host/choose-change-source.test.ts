import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { changeSourceLimits, chooseChangeSource, kindFor } from '../../../src/edge/host/choose-change-source.ts';
import { chooseFileTree } from '../../../src/edge/host/choose-file-tree.ts';
import { systemClock } from '../../../src/edge/host/system-clock.ts';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { WatchedVolume } from '../../../src/engine/capture/watched-volume.ts';
import type { ChangeSource, ChangeSourceKind } from '../../../src/engine/ports/change-source.ts';
import { Pod } from '../../support/capture-fixture.ts';

let volume = '';
let source: ChangeSource | undefined;

beforeEach(() => {
  volume = mkdtempSync(join(tmpdir(), 'holdfast-choice-'));
});

afterEach(async () => {
  await source?.close();
  rmSync(volume, { recursive: true });
});

test('small trees are watched by chokidar, larger ones by inotify, and without system calls not at all', () => {
  const kind = (directories: number, entries: number, native = true): ChangeSourceKind =>
    kindFor({ directories, entries }, native, changeSourceLimits);
  expect([kind(1, 0), kind(2000, 20_000), kind(2001, 2001), kind(1, 20_001)]).toEqual([
    'chokidar',
    'chokidar',
    'inotify',
    'inotify',
  ]);
  expect([kind(10, 10, false), kind(2001, 2001, false)]).toEqual(['chokidar', 'scan']);
});

test('where mapped writes leave no trace nobody watches, and it is said why', async () => {
  const onTmpfs = chooseChangeSource('/dev/shm');
  expect([onTmpfs.kind, onTmpfs.why]).toEqual(['scan', 'writes through a mapping leave no trace on tmpfs']);
  expect(chooseChangeSource(join(volume, 'missing')).why).toContain('ENOENT');
});

describe('a watcher', () => {
  test('begins after the first walk, is another when the tree has grown, and tells everything in between', async () => {
    const switched: ChangeSourceKind[] = [];
    const limits = { smallDirectoriesMax: 3, smallEntriesMax: 100 };
    source = chooseChangeSource(volume, { limits, onSwitch: (kind) => switched.push(kind) });
    const watched = new WatchedVolume(source);
    const { tree: files } = chooseFileTree();
    const pod = await Pod.start({ files, clock: systemClock, store: new MemoryStore() });
    const scans: (string | undefined)[] = [];
    const capture = async (name: string): Promise<void> => {
      writeFileSync(join(volume, name), name);
      if (source?.kind === 'chokidar') {
        await vi.waitFor(async () => expect(await source?.count()).not.toEqual({ kind: 'names', count: 0 }), 10_000);
      }
      scans.push((await pod.capture({ path: volume, watched })).volumes[0]?.scan);
    };
    await capture('1');
    await vi.waitFor(() => expect(switched).toEqual(['chokidar']), 10_000);
    await capture('2');
    await capture('3');
    for (const name of ['a', 'b', 'c', 'd']) mkdirSync(join(volume, name));
    await capture('4');
    await vi.waitFor(() => expect(switched).toEqual(['chokidar', 'inotify']), 10_000);
    await capture('a/5');
    await capture('a/6');
    expect(scans).toEqual(['full', 'cached', 'known', 'known', 'cached', 'known']);
    expect([source.kind, source.why]).toEqual(['inotify', undefined]);
  }, 60_000);

  test('that cannot be had is done without, with the reason', async () => {
    const switched: (string | undefined)[] = [];
    source = chooseChangeSource(volume, {
      limits: { smallDirectoriesMax: 0, smallEntriesMax: 0 },
      onSwitch: (_kind, why) => switched.push(why),
    });
    rmSync(volume, { recursive: true });
    source.scanned({ directories: 10, entries: 10 });
    await vi.waitFor(() => expect(switched).toHaveLength(1), 10_000);
    expect([source.kind, source.why]).toEqual(['scan', switched[0]]);
    expect(source.why).toContain('ENOENT');
    mkdirSync(volume);
    source.putBack({ kind: 'everything', reason: 'burst' });
    expect(await source.take()).toMatchObject({ kind: 'everything' });
  });
});
