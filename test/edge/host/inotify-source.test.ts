import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  constants,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { chooseFileTree } from '../../../src/edge/host/choose-file-tree.ts';
import { InotifySource } from '../../../src/edge/host/inotify-source.ts';
import { InotifyTree } from '../../../src/edge/host/inotify-tree.ts';
import { loadLinuxCalls } from '../../../src/edge/host/linux-calls.ts';
import { systemClock } from '../../../src/edge/host/system-clock.ts';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { WatchedVolume } from '../../../src/engine/capture/watched-volume.ts';
import { toHex } from '../../../src/engine/model/bytes.ts';
import { ChangeLog, type Changes } from '../../../src/engine/model/changes.ts';
import { Pod } from '../../support/capture-fixture.ts';
import { applyEdits, buildTree, editArbitrary, treeArbitrary } from '../../support/tree-spec.ts';

let scratch = '';
let volume = '';
const sources: InotifySource[] = [];

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'holdfast-inotify-'));
  volume = join(scratch, 'volume');
  mkdirSync(volume);
});

afterEach(async () => {
  await Promise.all(sources.splice(0).map((source) => source.close()));
  rmSync(scratch, { recursive: true });
});

/** A source that has told everything once. */
async function watch(path = volume, options: { readonly namesMax?: number } = {}): Promise<InotifySource> {
  const source = await InotifySource.start(path, options);
  sources.push(source);
  expect(await source.take()).toEqual({ kind: 'everything', reason: 'started' });
  return source;
}

function told(changes: Changes): string[] | string {
  if (changes.kind === 'everything') return changes.reason;
  return [...changes.names.entries()].map(([key, whole]) => key.replaceAll('\0', '/') + (whole ? '/**' : '')).sort();
}

const at = (path: string): string => join(volume, path);

test('each kind of change is told by its name, at once', async () => {
  mkdirSync(at('a/b'), { recursive: true });
  for (const name of ['a/f', 'a/g', 'a/b/h']) writeFileSync(at(name), name);
  const source = await watch();
  expect(told(await source.take())).toEqual([]);
  writeFileSync(at('a/f'), 'other');
  chmodSync(at('a/g'), 0o600);
  chmodSync(at('a/b'), 0o700);
  expect(told(await source.take())).toEqual(['a/b', 'a/f', 'a/g']);
  linkSync(at('a/f'), at('a/b/link'));
  symlinkSync('f', at('a/symlink'));
  renameSync(at('a/g'), at('a/b/g'));
  rmSync(at('a/b/h'));
  expect(told(await source.take())).toEqual(['a/b/g', 'a/b/h', 'a/b/link', 'a/g', 'a/symlink']);
  expect(told(await source.take())).toEqual([]);
});

test('directories that come, go and move keep being watched under the name they have', async () => {
  mkdirSync(at('a/deep/er'), { recursive: true });
  mkdirSync(at('b'));
  const outside = join(scratch, 'outside');
  mkdirSync(join(outside, 'in'), { recursive: true });
  const source = await watch();
  mkdirSync(at('new/er'), { recursive: true });
  renameSync(at('a'), at('b/moved'));
  renameSync(outside, at('came'));
  // What comes into a new directory before its watch is told with it, as a whole.
  const came = told(await source.take());
  expect(came).toEqual(expect.arrayContaining(['a', 'b/moved/**', 'came/**', 'new/**']));
  for (const name of ['new/er/1', 'b/moved/deep/er/2', 'came/in/3']) writeFileSync(at(name), '');
  expect(told(await source.take())).toEqual(['b/moved/deep/er/2', 'came/in/3', 'new/er/1']);
  renameSync(at('b'), outside);
  expect(told(await source.take())).toEqual(['b']);
  writeFileSync(join(outside, 'moved/deep/er/4'), '');
  rmSync(at('new'), { recursive: true });
  expect(told(await source.take())).toEqual(['new', 'new/er', 'new/er/1']);
  mkdirSync(at('new/er'), { recursive: true });
  writeFileSync(at('new/er/5'), '');
  renameSync(at('new'), at('came/in/new'));
  renameSync(at('came/in/new'), at('last'));
  const changes = await source.take();
  expect(told(changes)).toContain('last/**');
  writeFileSync(at('last/er/6'), '');
  expect(told(await source.take())).toEqual(['last/er/6']);
});

test('names that are not UTF-8 are told by their bytes', async () => {
  const source = await watch();
  writeFileSync(Buffer.concat([Buffer.from(`${volume}/`), Buffer.from([0xff, 0x80, 0x20])]), '');
  const changes = await source.take();
  expect(changes.kind === 'names' && changes.names.keys()).toEqual([Uint8Array.of(0xff, 0x80, 0x20)]);
});

test('more names than are remembered are everything, and the one after that is told again', async () => {
  const source = await watch(volume, { namesMax: 10 });
  for (let i = 0; i < 11; i++) writeFileSync(at(`f${i}`), '');
  mkdirSync(at('sub'));
  expect(await source.count()).toEqual({ kind: 'everything', reason: 'burst' });
  expect(told(await source.take())).toBe('burst');
  writeFileSync(at('sub/f'), '');
  expect(told(await source.take())).toEqual(['sub/f']);
});

test('when the queue of the kernel runs over, everything is told and all is watched anew', () => {
  const { calls } = loadLinuxCalls();
  if (calls === undefined) throw new Error('no system calls');
  const limit = Number(readFileSync('/proc/sys/fs/inotify/max_queued_events', 'utf8'));
  mkdirSync(at('old'));
  mkdirSync(at('gone'));
  const log = new ChangeLog();
  const root = openSync(volume, constants.O_RDONLY | constants.O_DIRECTORY);
  const tree = new InotifyTree(calls, root, root, log);
  try {
    writeFileSync(at('old/f'), '');
    tree.drain();
    expect(told(log.take())).toEqual(['old/f']);
    // Nobody reads meanwhile.
    for (let i = 0; i <= limit; i++) chmodSync(at(i % 2 === 0 ? 'old' : 'gone'), 0o700 + (i % 8));
    mkdirSync(at('new'));
    rmSync(at('gone'), { recursive: true });
    tree.drain();
    expect(log.count()).toEqual({ kind: 'everything', reason: 'overflow' });
    tree.recover();
    tree.drain();
    expect(told(log.take())).toBe('overflow');
    expect(tree.directories).toBe(3);
    writeFileSync(at('new/f'), '');
    tree.drain();
    expect(told(log.take())).toEqual(['new/f']);
  } finally {
    tree.close();
    closeSync(root);
  }
});

test('a process ends although its watcher sleeps', () => {
  const code = `const { InotifySource } = await import(${JSON.stringify(new URL('../../../src/edge/host/inotify-source.ts', import.meta.url).href)});
    const source = await InotifySource.start(${JSON.stringify(volume)});
    await source.take();
    console.log('watching');
    if (process.argv[2] === 'exit') process.exit(3);
    if (process.argv[2] === 'close') {
      await source.close();
      console.log('closed');
    }`;
  const script = join(scratch, 'script.mjs');
  writeFileSync(script, code);
  const run = (...args: string[]): string =>
    execFileSync(process.execPath, [script, ...args], { encoding: 'utf8', timeout: 20_000 });
  expect(run()).toBe('watching\n');
  expect(run('close')).toBe('watching\nclosed\n');
  expect(() => run('exit')).toThrow(expect.objectContaining({ status: 3, stdout: 'watching\n' }));
}, 60_000);

test('what cannot be watched is said', async () => {
  await expect(InotifySource.start(at('missing'))).rejects.toThrow('ENOENT');
  writeFileSync(at('file'), '');
  await expect(InotifySource.start(at('file'))).rejects.toThrow('ENOTDIR');
});

test('captures by what is told have the root of captures of everything, on a real disk', async () => {
  const { tree: files } = chooseFileTree();
  const options = { fileBytesMax: 30_000, owners: process.getuid?.() === 0 };
  let known = 0;
  let number = 0;
  await fc.assert(
    fc.asyncProperty(
      treeArbitrary(options),
      fc.array(fc.array(editArbitrary(options), { minLength: 1, maxLength: 8 }), { minLength: 1, maxLength: 3 }),
      async (tree, rounds) => {
        const path = at(`${number++}`);
        const root = files.makeRoot(path);
        buildTree(files, root, tree);
        const pod = await Pod.start({ files, clock: systemClock, store: new MemoryStore() });
        const source = await InotifySource.start(path);
        try {
          const watched = new WatchedVolume(source);
          await pod.capture({ path, watched });
          for (const edits of rounds) {
            applyEdits(files, root, edits);
            const outcome = await pod.capture({ path, watched });
            if (outcome.volumes[0]?.scan === 'known') known++;
            const other = await Pod.start({
              files,
              clock: systemClock,
              store: new MemoryStore(),
              access: pod.access,
              holder: 'fresh',
            });
            expect(toHex(outcome.root)).toBe(toHex((await other.capture({ path })).root));
          }
        } finally {
          await source.close();
          files.close(root);
        }
      },
    ),
    { numRuns: 10, endOnFailure: true },
  );
  expect(known).toBeGreaterThan(5);
}, 120_000);
