import { afterEach, describe, expect, it } from 'vitest';
import { toHex } from '../../../src/engine/model/bytes.ts';
import type { RehydrateOutcome, RestoredVolume } from '../../../src/engine/rehydrate/rehydrate-outcome.ts';
import { ManualClock, Pod } from '../../support/capture-fixture.ts';
import { MemoryCache } from '../../support/memory-cache.ts';
import { MemoryFileSystem, type MemoryFileSystemOptions, MemoryFileTree } from '../../support/memory-file-tree.ts';
import { lanesOf, MemoryMarker, type RestoreRequest, restore, sourceOf } from '../../support/restore-fixture.ts';

const old = 1_600_000_000;

/** Bytes that repeat nowhere near and differ by seed. */
function content(bytes: number, seed = 1): Uint8Array {
  let state = Math.imul(seed, 0x9e3779b1) | 1;
  return Uint8Array.from({ length: bytes }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state & 0xff;
  });
}

/** More than goes into one batch. */
const large = content(9_500_000);

/** A volume with one of everything. */
function fill(disk: MemoryFileSystem, path = 'src'): void {
  const at = (name: string): string => `${path}/${name}`;
  disk.mkdir(at('a/b/c'));
  disk.mkdir(at('empty'), { mode: 0o1777 });
  disk.mkdir(at('closed'));
  disk.writeFile(at('hello'), 'hello');
  disk.writeFile(at('nothing'), '');
  disk.writeFile(at('a/setuid'), 'run me', { mode: 0o6755 });
  disk.writeFile(at('a/b/large'), large);
  disk.writeFile(at('a/b/medium'), content(900_000, 2), { mode: 0o444 });
  disk.writeAt(at('a/sparse'), 5_000_000, 'in the middle');
  disk.resize(at('a/sparse'), 9_000_000);
  disk.writeAt(at('a/small-hole'), 70_000, content(10_000, 3));
  for (let i = 0; i < 40; i++) disk.writeFile(at(`a/b/c/file-${i}`), content(100 + 331 * i, 10 + i));
  disk.symlink(at('a/link'), '../../../etc/passwd');
  disk.symlink(at('dangling'), new Uint8Array([0xff, 0x2f, 0xfe]));
  disk.fifo(at('a/fifo'));
  disk.link(at('hello'), at('a/zz-hello'));
  disk.link(at('a/b/large'), at('z-large'));
  disk.writeFile(Buffer.concat([Buffer.from(`${path}/`), Buffer.of(0xff, 0x80)]), 'no UTF-8');
  disk.writeFile(at('closed/inside'), 'secret', { mode: 0 });
  disk.setXattr(at('hello'), 'user.mime_type', 'text/plain');
  disk.setXattr(at('a/b/medium'), 'user.large', content(4000, 4));
  disk.setXattr(at('a/b'), 'user.directory', 'yes');
  disk.chown(at('a/setuid'), 1000, 1001);
  disk.chown(at('a/link'), 7, 8);
  disk.chown(at('a/b'), 5, 6);
  disk.chmod(at('closed'), 0o000);
  for (const [i, name] of [
    'hello',
    'a/setuid',
    'a/b/c/file-3',
    'a/link',
    'a/fifo',
    'a/b/c',
    'a/b',
    'a',
    'empty',
  ].entries()) {
    disk.setMtime(at(name), old + i, 123_456_789 + i);
  }
  disk.setMtime(at('a/b/c/file-4'), -1_000_000, 1);
  disk.setMtime(at('a/b/c/file-5'), 10_000_000_000, 999_999_999);
}

interface Captured {
  readonly clock: ManualClock;
  readonly source: MemoryFileSystem;
  readonly pod: Pod;
  readonly root: string;
  restore(target: Target, request?: Partial<RestoreRequest>): Promise<RehydrateOutcome>;
}

interface Target {
  readonly disk: MemoryFileSystem;
  readonly files: MemoryFileTree;
  readonly marker: MemoryMarker;
}

const made: MemoryFileTree[] = [];

function target(options: MemoryFileSystemOptions = {}, clock = new ManualClock()): Target {
  const disk = new MemoryFileSystem({ clock, ...options });
  const files = new MemoryFileTree(disk);
  made.push(files);
  return { disk, files, marker: new MemoryMarker() };
}

async function captured(fillDisk: (disk: MemoryFileSystem) => void = fill): Promise<Captured> {
  const clock = new ManualClock();
  const source = new MemoryFileSystem({ clock });
  source.mkdir('src');
  fillDisk(source);
  clock.ms += 60_000;
  const pod = await Pod.start({ files: new MemoryFileTree(source), clock });
  const { root } = await pod.capture({ path: 'src' });
  clock.ms += 60_000;
  return {
    clock,
    source,
    pod,
    root: toHex(root),
    restore: async ({ files, marker }, request = {}) =>
      await restore({
        store: pod.store,
        access: pod.access,
        lineage: pod.lineage,
        files,
        marker,
        clock,
        path: 'out',
        ...request,
      }),
  };
}

/** For the tests that leave the source as it is. */
const everything: Promise<Captured> = captured();

const volumeOf = (outcome: RehydrateOutcome): RestoredVolume => outcome.volumes[0] as RestoredVolume;
const gotOf = (outcome: RehydrateOutcome): string | undefined =>
  outcome.rootGot === undefined ? undefined : toHex(outcome.rootGot);

async function codeOf(run: Promise<unknown>): Promise<string> {
  return await run.then(
    () => 'no error',
    (error: { code?: string }) => error.code ?? String(error),
  );
}

afterEach(() => {
  for (const files of made.splice(0)) expect(files.openDescriptors).toEqual([]);
});

describe('a restore', () => {
  it('brings back everything, in one thread and in several lanes', async () => {
    const { source, restore, root } = await everything;
    for (const laneCount of [0, 1, 3]) {
      const back = target();
      const outcome = await restore(back, { laneCount, lanes: lanesOf(back.files) });
      expect(back.disk.describe('out')).toEqual(source.describe('src'));
      expect(gotOf(outcome)).toBe(root);
      expect(volumeOf(outcome).degraded).toEqual([]);
      expect(back.marker.saved).toEqual(['started', 'done']);
    }
  });

  it('says how much there is and how much is done', async () => {
    const { restore, source } = await everything;
    const back = target();
    const seen: { files: number; bytes: number; filesTotal: number; bytesTotal: number; entries: number }[] = [];
    const outcome = await restore(back, { onProgress: (progress) => seen.push(progress) });
    const last = seen.at(-1);
    const files = source.describe('src').filter((line) => / 10\d{4} | = /.test(line)).length;
    expect(outcome.files).toBe(files);
    expect(outcome.entries).toBe(source.describe('src').length);
    expect(last).toMatchObject({ files, filesTotal: files, bytes: outcome.bytes, bytesTotal: outcome.bytes });
    for (let i = 1; i < seen.length; i++) {
      expect(seen[i]?.bytes).toBeGreaterThanOrEqual(seen[i - 1]?.bytes as number);
      expect(seen[i]?.files).toBeGreaterThanOrEqual(seen[i - 1]?.files as number);
    }
  });

  it('keeps holes, and takes no more space than the source', async () => {
    const { restore, source } = await captured((disk) => {
      disk.writeAt('src/sparse', 3_000_000, 'x');
      disk.resize('src/sparse', 40_000_000);
      disk.writeAt('src/small-holes', 12_288, content(4096));
      disk.writeAt('src/small-holes', 40_960, content(4096));
      disk.writeFile('src/zeros', new Uint8Array(300_000));
    });
    const back = target();
    await restore(back);
    expect(back.disk.describe('out')).toEqual(source.describe('src'));
    expect(back.disk.usedBlocks).toBe(source.usedBlocks);
  });

  it('gives the target the owner, mode, time and xattrs of the volume, or leaves them', async () => {
    const { restore } = await captured((disk) => {
      disk.writeFile('src/x', 'x');
      disk.chown('src', 12, 34);
      disk.chmod('src', 0o2750);
      disk.setXattr('src', 'user.root', 'yes');
      disk.setMtime('src', old, 5);
    });
    const back = target();
    await restore(back);
    expect(back.disk.stat('out')).toMatchObject({ uid: 12, gid: 34, mtimeSec: old, mtimeNsec: 5 });
    expect(back.disk.stat('out').mode & 0o7777).toBe(0o2750);
    const left = target();
    left.disk.mkdir('out', { mode: 0o711 });
    await restore(left, { rootMeta: false });
    expect(left.disk.stat('out').mode & 0o7777).toBe(0o711);
    expect(left.disk.stat('out').uid).toBe(0);
  });

  it('of an empty volume is an empty directory', async () => {
    const { restore, root } = await captured(() => undefined);
    const back = target();
    expect(gotOf(await restore(back))).toBe(root);
    expect(back.disk.describe('out')).toEqual([]);
  });

  it('reaches any depth with few descriptors', async () => {
    const deep = Array.from({ length: 700 }, (_, i) => `d${i % 7}`).join('/');
    const { restore, source } = await captured((disk) => {
      disk.mkdir(`src/${deep}`);
      for (const levels of [1, 65, 130, 699]) {
        const at = `src/${deep.split('/').slice(0, levels).join('/')}`;
        disk.writeFile(`${at}/zz-file`, `${levels}`);
        disk.setMtime(at, old + levels, levels);
      }
    });
    const back = target();
    back.files.openFilesMax = 200;
    await restore(back);
    expect(back.disk.describe('out')).toEqual(source.describe('src'));
  });

  it('holds few descriptors however wide the tree is', async () => {
    const { restore, source } = await captured((disk) => {
      for (let i = 0; i < 3000; i++) {
        disk.mkdir(`src/d${i}`);
        disk.writeFile(`src/d${i}/f`, `${i}`);
        if (i % 3 === 0) disk.link(`src/d${i}/f`, `src/d${i}/g`);
        if (i % 5 === 1) disk.link('src/d0/f', `src/d${i}/zero`);
      }
    });
    const back = target();
    back.files.openFilesMax = 900;
    await restore(back, { laneCount: 2, lanes: lanesOf(back.files) });
    expect(back.disk.describe('out')).toEqual(source.describe('src'));
  });

  it('works where files cannot be made without a name', async () => {
    const { restore, source, root } = await everything;
    const back = target({ namelessFiles: false });
    expect(gotOf(await restore(back))).toBe(root);
    expect(back.disk.describe('out')).toEqual(source.describe('src'));
  });

  it('leaves a directory that a fresh file system has in its root', async () => {
    const { restore } = await captured((disk) => disk.writeFile('src/x', 'x'));
    const back = target();
    back.disk.mkdir('out/lost+found', { mode: 0o700 });
    await restore(back);
    expect(back.disk.exists('out/lost+found')).toBe(true);
    expect(back.disk.readFile('out/x')).toEqual(new Uint8Array([0x78]));
  });

  it('of one of several checkpoints brings back that one', async () => {
    const { pod, source, clock, restore } = await captured((disk) => disk.writeFile('src/x', 'one'));
    const first = source.describe('src');
    source.writeFile('src/x', 'two');
    source.writeFile('src/y', content(300_000));
    clock.ms += 60_000;
    await pod.capture({ path: 'src' });
    source.remove('src/y');
    clock.ms += 60_000;
    await pod.capture({ path: 'src' });
    const back = target();
    await restore(back, { at: { by: 'latest', back: 2 } });
    expect(back.disk.describe('out')).toEqual(first);
  });
});

describe('the first capture after a restore', () => {
  it('reads no content and finds the equal root', async () => {
    const { pod, restore, clock, root } = await captured((disk) => {
      fill(disk);
      // A stamp that is still to come proves nothing.
      disk.setMtime('src/a/b/c/file-5', old);
    });
    const back = target({}, clock);
    const cache = new MemoryCache();
    const outcome = await restore(back, { cache });
    expect(volumeOf(outcome).primed).toBe(true);
    clock.ms += 60_000;
    const files = new MemoryFileTree(back.disk);
    const after = await Pod.start({ files, clock, store: pod.store, access: pod.access, cache });
    const capture = await after.capture({ path: 'out', dryRun: true });
    expect(toHex(capture.root)).toBe(root);
    expect(files.callCount('read')).toBe(0);
    expect(capture.volumes[0]?.scan).toBe('cached');
  });

  it('reads what was changed since, and nothing else', async () => {
    const { pod, restore, clock, root } = await captured();
    const back = target({}, clock);
    const cache = new MemoryCache();
    await restore(back, { cache });
    clock.ms += 60_000;
    back.disk.writeFile('out/hello', 'HELLO');
    back.disk.remove('out/a/b/c/file-7');
    clock.ms += 60_000;
    const files = new MemoryFileTree(back.disk);
    const after = await Pod.start({ files, clock, store: pod.store, access: pod.access, cache });
    const cached = await after.capture({ path: 'out', dryRun: true });
    const opened = files.callCount('openFile');
    const plain = await Pod.start({ files, clock, store: pod.store, access: pod.access, cache: undefined });
    const full = await plain.capture({ path: 'out', dryRun: true });
    expect(toHex(cached.root)).toBe(toHex(full.root));
    expect(toHex(cached.root)).not.toBe(root);
    expect(opened).toBeLessThan(8);
  });

  it('keeps the entries of what a weak target could not keep', async () => {
    const { pod, restore, clock, root } = await captured((disk) => {
      fill(disk);
      disk.chmod('src/closed', 0o755);
      disk.chmod('src/closed/inside', 0o644);
      disk.setMtime('src/a/b/c/file-5', old);
    });
    const back = target({ timeStepNs: 1e9, privileged: false, uid: 99, gid: 99 }, clock);
    const cache = new MemoryCache();
    const outcome = await restore(back, { cache, rootMeta: false });
    expect(gotOf(outcome)).not.toBe(root);
    expect(volumeOf(outcome).primed).toBe(true);
    clock.ms += 60_000;
    const files = new MemoryFileTree(back.disk);
    const after = await Pod.start({ files, clock, store: pod.store, access: pod.access, cache });
    expect(toHex((await after.capture({ path: 'out', dryRun: true })).root)).toBe(root);
  });
});

describe('what a target cannot keep', () => {
  const weak: readonly (readonly [string, MemoryFileSystemOptions, { xattrs?: boolean }, RegExp])[] = [
    ['owners', { privileged: false, uid: 99, gid: 99 }, {}, /owner EPERM/],
    ['nanoseconds', { timeStepNs: 1e9 }, {}, /times not kept/],
    ['early and late times', { timeSecMin: 0, timeSecMax: 4_000_000_000 }, {}, /times not kept/],
    ['xattrs', {}, { xattrs: false }, /xattr ENOTSUP/],
  ];
  for (const [what, options, abilities, reason] of weak) {
    it(`is named: ${what}; and the root of what is there is told`, async () => {
      const { restore, root, pod, clock } = await captured((disk) => {
        fill(disk);
        // The unprivileged read back what they restored.
        disk.chmod('src/closed', 0o755);
        disk.chmod('src/closed/inside', 0o644);
      });
      const disk = new MemoryFileSystem({ clock, ...options });
      const files = new MemoryFileTree(disk, abilities);
      const back = { disk, files, marker: new MemoryMarker() };
      const outcome = await restore(back);
      const { degraded } = volumeOf(outcome);
      expect(degraded.map((entry) => entry.reason).join('; ')).toMatch(reason);
      expect(degraded.every(({ count, names }) => count > 0 && names.length > 0)).toBe(true);
      expect(gotOf(outcome)).not.toBe(root);
      clock.ms += 60_000;
      const fresh = await Pod.start({ files, clock, store: pod.store, access: pod.access, cache: undefined });
      expect(gotOf(outcome)).toBe(toHex((await fresh.capture({ path: 'out', dryRun: true })).root));
    });
  }

  it('never lends the rights of who restores: a setuid file without its owner loses the bit', async () => {
    const { restore } = await captured((disk) => {
      disk.writeFile('src/su', 'x', { mode: 0o4755 });
      disk.chown('src/su', 1000, 1000);
    });
    const back = target({ privileged: false, uid: 99, gid: 99 });
    await restore(back);
    expect(back.disk.stat('out/su').mode & 0o7777).toBe(0o755);
  });
});

describe('a part of a volume', () => {
  it('is what the globs match, with the directories above', async () => {
    const { restore, source } = await everything;
    const back = target();
    const outcome = await restore(back, { only: ['a/b/c/**', '*.none', 'hello'] });
    const lines = source.describe('src');
    const expected = lines.filter((line) => /^(a|a\/b|a\/b\/c|a\/b\/c\/\S+) \d/.test(line));
    // Its first name is not wanted.
    expected.push((lines.find((line) => line.startsWith('a/zz-hello ')) as string).replace('a/zz-hello', 'hello'));
    expect(back.disk.describe('out')).toEqual(expected);
    expect(outcome.rootGot).toBeUndefined();
    expect(volumeOf(outcome).degraded).toEqual([]);
  });

  it('has all below a directory that matches, and nothing of what does not', async () => {
    const { restore, source } = await everything;
    const back = target();
    await restore(back, { only: ['b'] });
    const names = back.disk.describe('out').map((line) => line.split(' ')[0]);
    const expected = source.describe('src').map((line) => line.split(' ')[0] as string);
    expect(names).toEqual(expected.filter((name) => name === 'a' || name === 'a/b' || name.startsWith('a/b/')));
  });

  it('gives a further name its content when the first name stays away, and links the ones after it', async () => {
    const { restore } = await captured((disk) => {
      disk.writeFile('src/a', content(5000));
      disk.mkdir('src/z');
      disk.link('src/a', 'src/z/one');
      disk.link('src/a', 'src/z/two');
    });
    const back = target();
    await restore(back, { only: ['z'] });
    expect(back.disk.readFile('out/z/one')).toEqual(content(5000));
    expect(back.disk.stat('out/z/two').inode).toBe(back.disk.stat('out/z/one').inode);
    expect(back.disk.exists('out/a')).toBe(false);
  });
});

describe('what is wanted first', () => {
  for (const first of [['a/b/c/*'], ['file-1*', 'hello'], ['z-large']]) {
    it(`is complete before the rest begins: ${first.join(' ')}`, async () => {
      const { restore, source, root } = await everything;
      const back = target();
      let atFirst: string[] = [];
      const outcome = await restore(back, {
        first,
        onFirstComplete: ({ files, bytes }) => {
          atFirst = back.disk.describe('out').filter((line) => / 10\d{4} /.test(line));
          expect(files).toBe(atFirst.length);
          expect(bytes).toBeGreaterThan(0);
        },
      });
      const lines = source.describe('src');
      const wanted = lines.filter((line) => /^a\/b\/c\/\S+ 10/.test(line));
      if (first[0] === 'a/b/c/*') expect(atFirst).toEqual(wanted);
      expect(atFirst.length).toBeGreaterThan(0);
      expect(atFirst.length).toBeLessThan(lines.length);
      expect(back.disk.describe('out')).toEqual(lines);
      expect(gotOf(outcome)).toBe(root);
      expect(volumeOf(outcome).firstComplete?.files).toBe(atFirst.length);
    });
  }
});

describe('a target that is not empty', () => {
  const foreign = (disk: MemoryFileSystem): void => {
    disk.mkdir('out/a/b');
    disk.mkdir('out/foreign/deep/er');
    disk.writeFile('out/foreign/deep/er/file', 'mine');
    disk.writeFile('out/hello', 'other');
    disk.writeFile('out/a/b/c', 'a file where a directory comes');
    disk.mkdir('out/a/b/medium/sub');
    disk.symlink('out/a/setuid', '/outside/victim');
    disk.symlink('out/empty', '/outside');
    disk.mkdir('outside');
    disk.writeFile('outside/victim', 'untouched');
    disk.chmod('out/a', 0o555);
  };

  it('is refused, and nothing in it is touched', async () => {
    const { restore } = await everything;
    const back = target();
    foreign(back.disk);
    const before = back.disk.describe();
    await expect(restore(back)).rejects.toMatchObject({ code: 'E_TARGET_NOT_EMPTY' });
    expect(back.disk.describe()).toEqual(before);
    expect(back.marker.saved).toEqual([]);
  });

  it('is not overwritten when its marker is gone, and its holder goes on writing the lineage from it', async () => {
    const { pod, restore, clock } = await captured();
    const back = target({}, clock);
    await restore(back);
    // A reboot took the private directory, not the data that the application had written.
    back.disk.writeFile('out/hello', 'what the application wrote');
    back.marker.mark = undefined;
    const before = back.disk.describe('out');
    const saved = back.marker.saved.length;
    expect(await codeOf(restore(back))).toBe('E_TARGET_NOT_EMPTY');
    expect(back.disk.describe('out')).toEqual(before);
    expect(back.marker.saved.length).toBe(saved);

    const { store, access } = pod;
    clock.ms += 60_000;
    const again = await Pod.start({ files: back.files, clock, store, access, cache: undefined });
    const { committed } = await again.capture({ path: 'out' });
    const log = await sourceOf(pod);
    expect(committed?.slot).toBe(log.record.header.slot);
    const copy = target({}, clock);
    await restore(copy);
    expect(copy.disk.readFile('out/hello')).toEqual(new TextEncoder().encode('what the application wrote'));
  });

  it('becomes equal with replace, and nothing outside is touched', async () => {
    const { restore, source, root } = await everything;
    const back = target();
    foreign(back.disk);
    const outcome = await restore(back, { onExisting: 'replace' });
    expect(back.disk.describe('out')).toEqual(source.describe('src'));
    expect(back.disk.readFile('outside/victim')).toEqual(new TextEncoder().encode('untouched'));
    expect(gotOf(outcome)).toBe(root);
    expect(volumeOf(outcome).removed.names).toContain('foreign');
  });

  it('is compared by content with replace: an equal stamp alone proves nothing', async () => {
    const { restore, source } = await everything;
    const back = target();
    await restore(back);
    const inode = back.disk.stat('out/a/b/medium').inode;
    const large = back.disk.stat('out/a/b/large').inode;
    const { mtimeSec, mtimeNsec } = back.disk.stat('out/a/b/c/file-9');
    back.disk.writeAt('out/a/b/c/file-9', 10, 'CHANGED');
    back.disk.setMtime('out/a/b/c/file-9', mtimeSec, mtimeNsec);
    back.disk.setXattr('out/a/b/c/file-8', 'user.extra', 'x');
    back.disk.setXattr('out/a/b', 'user.extra', 'x');
    const again = await restore(back, { onExisting: 'replace', laneCount: 2, lanes: lanesOf(back.files) });
    expect(back.disk.describe('out')).toEqual(source.describe('src'));
    expect(back.disk.stat('out/a/b/medium').inode).toBe(inode);
    // Of a file with several names nobody knows who else holds one.
    expect(back.disk.stat('out/a/b/large').inode).not.toBe(large);
    const { files, bytes, entries } = await restore(target());
    // The one with another content, the one with another xattr, and the two with several names.
    expect(again).toMatchObject({ files, bytes, entries, newFiles: 4 });
  });

  it('keeps every existing path with keep, and gets what is missing', async () => {
    const { restore, source } = await everything;
    const back = target();
    foreign(back.disk);
    const before = back.disk.describe('out');
    const outcome = await restore(back, { onExisting: 'keep' });
    const after = back.disk.describe('out');
    const stamp = (line: string): string => (/ 40\d{4} /.test(line) ? line.replace(/ \d+\.\d{9} /, ' ') : line);
    for (const line of before) expect(after.map(stamp)).toContain(stamp(line));
    const missing = source.describe('src').filter((line) => /^a\/(sparse|small-hole|fifo|link) /.test(line));
    expect(missing.length).toBe(4);
    for (const line of missing) expect(after).toContain(line);
    expect(back.disk.exists('outside/x')).toBe(false);
    expect(volumeOf(outcome).kept.names).toEqual(expect.arrayContaining(['hello', 'a/setuid', 'empty', 'a/b/c']));
    expect(outcome.rootGot).toBeUndefined();
    const { files, entries, bytes } = await restore(target());
    expect(outcome).toMatchObject({ files, entries, bytes });
    expect(outcome.newFiles).toBeLessThan(files);
    const part = target();
    part.disk.mkdir('out/a/b/c');
    part.disk.writeFile('out/a/b/c/file-3', 'mine');
    const some = await restore(part, { onExisting: 'keep', only: ['file-3', 'file-4'] });
    expect(some).toMatchObject({ files: 2, entries: 2, bytes: 200 + 331 * 7, newFiles: 1, newBytes: 100 + 331 * 4 });
    // The group's first name is somebody else's file: the further name got the tree's content.
    expect(back.disk.readFile('out/a/zz-hello')).toEqual(new TextEncoder().encode('hello'));
    expect(back.disk.readFile('out/hello')).toEqual(new TextEncoder().encode('other'));
  });

  it('loses nothing outside of the part with replace', async () => {
    const { restore } = await everything;
    const back = target();
    back.disk.mkdir('out/a/b/c');
    back.disk.writeFile('out/mine', 'mine');
    back.disk.writeFile('out/a/mine', 'mine');
    back.disk.writeFile('out/a/b/c/extra', 'gone');
    await restore(back, { onExisting: 'replace', only: ['a/b/c'] });
    expect(back.disk.exists('out/mine')).toBe(true);
    expect(back.disk.exists('out/a/mine')).toBe(true);
    expect(back.disk.exists('out/a/b/c/extra')).toBe(false);
    expect(back.disk.exists('out/a/b/c/file-3')).toBe(true);
  });

  it('is refused when another checkpoint is half restored in it', async () => {
    const { restore, source, pod, clock } = await captured();
    const back = target();
    back.files.failCall('createNameless', 'EIO', { nth: 20 });
    await expect(restore(back)).rejects.toMatchObject({ code: 'E_TARGET_IO' });
    source.writeFile('src/hello', 'newer');
    clock.ms += 60_000;
    await pod.capture({ path: 'src' });
    const error = await restore(back).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'E_TARGET_NOT_EMPTY' });
    expect(String(error)).toMatch(/unfinished/);
    await restore(back, { onExisting: 'replace' });
    expect(back.disk.describe('out')).toEqual(source.describe('src'));
  });

  it('is complete already after a restore that nobody saw end, and is not touched', async () => {
    const { restore, root } = await everything;
    const back = target();
    await restore(back);
    const before = back.disk.describe();
    const saved = back.marker.saved.length;
    const again = await restore(back);
    expect(volumeOf(again)).toMatchObject({ existing: 'complete', damage: undefined, degraded: [] });
    expect(gotOf(again)).toBe(root);
    expect(back.disk.describe()).toEqual(before);
    expect(back.marker.saved.length).toBe(saved);
  });

  it('is refused after the restore was complete and an application has run', async () => {
    const { restore } = await everything;
    const changes: ((disk: MemoryFileSystem) => void)[] = [
      (disk) => disk.writeFile('out/new', 'new'),
      (disk) => disk.remove('out/a/b/c/file-7'),
      (disk) => disk.writeAt('out/a/b/c/file-7', 3, 'x'),
      (disk) => disk.resize('out/a/b/c/file-7', 5),
    ];
    for (const change of changes) {
      const clock = new ManualClock();
      clock.ms += 3_600_000;
      const back = target({}, clock);
      await restore(back);
      change(back.disk);
      const before = back.disk.describe();
      expect(await codeOf(restore(back))).toBe('E_TARGET_NOT_EMPTY');
      expect(back.disk.describe()).toEqual(before);
      expect(back.marker.mark?.state).toBe('done');
    }
  });

  it('is not complete for another part, nor beside what was kept', async () => {
    const { restore } = await everything;
    const back = target();
    await restore(back, { only: ['a/b'] });
    expect(volumeOf(await restore(back, { only: ['a/b'] })).existing).toBe('complete');
    expect(await codeOf(restore(back))).toBe('E_TARGET_NOT_EMPTY');
    const kept = target();
    kept.disk.mkdir('out');
    kept.disk.writeFile('out/hello', 'mine');
    await restore(kept, { onExisting: 'keep' });
    expect(await codeOf(restore(kept))).toBe('E_TARGET_NOT_EMPTY');
  });
});

describe('a failing target', () => {
  it('without space is E_TARGET_FULL, and with more of it the restore goes on', async () => {
    const { restore, source } = await everything;
    const options = { blocksMax: 2000 };
    const back = target(options);
    await expect(restore(back)).rejects.toMatchObject({ code: 'E_TARGET_FULL' });
    const disk = back.disk;
    (options as { blocksMax: number }).blocksMax = 1e9;
    Object.assign(disk.options, { blocksMax: 1e9 });
    await restore({ ...back });
    expect(disk.describe('out')).toEqual(source.describe('src'));
  });

  for (const [errno, code] of [
    ['EIO', 'E_TARGET_IO'],
    ['EROFS', 'E_TARGET_IO'],
    ['ENOSPC', 'E_TARGET_FULL'],
    ['EDQUOT', 'E_TARGET_FULL'],
    ['EMFILE', 'E_LIMIT'],
  ] as const) {
    it(`gives ${code} for ${errno} wherever it strikes`, async () => {
      const { restore } = await everything;
      for (const operation of [
        'makeRoot',
        'makeDirectory',
        'openBeneath',
        'createNameless',
        'write',
        'truncate',
        'linkNameless',
        'makeSymlink',
        'makeFifo',
        'makeLink',
        'list',
        'syncFileSystem',
      ]) {
        const back = target();
        back.files.failCall(operation, errno);
        const result = await codeOf(restore(back));
        // Whether nameless files can be made is only asked at first.
        if (operation === 'createNameless') expect(['no error', code]).toContain(result);
        else expect([operation, result]).toEqual([operation, code]);
        expect(back.files.openDescriptors).toEqual([]);
        expect(back.marker.saved.includes('done')).toBe(result === 'no error');
      }
    });
  }
});

describe('an attacker in the target', () => {
  it('cannot lead a restore outside by putting a symlink where a directory was just made', async () => {
    const { restore } = await everything;
    for (const nth of [1, 2, 3, 4]) {
      const back = target();
      back.disk.mkdir('outside');
      let made = 0;
      back.files.beforeCall = ({ operation, path }) => {
        if (operation !== 'openBeneath' || ++made !== nth) return;
        back.disk.remove(path);
        back.disk.symlink(path, '/outside');
      };
      expect(await codeOf(restore(back))).toBe('E_TARGET_IO');
      expect(back.disk.describe('outside')).toEqual([]);
    }
  });

  it('cannot have a name followed that it takes first', async () => {
    const { restore } = await everything;
    const takes = [
      ['linkNameless', 'out/a/zz-hello', 'out/a/zz-hello'],
      ['linkNameless', 'out/a/b/large', 'out/a/b/large'],
      ['makeSymlink', 'out/a/link', 'out/a/link'],
      ['makeFifo', 'out/a/fifo', 'out/a/fifo'],
      ['makeDirectory', 'out/a/b', 'out/a/b'],
      // Of a link the name that it is made from is what a call tells.
      ['makeLink', 'out/a/zz-hello', 'out/hello'],
    ] as const;
    for (const [call, at, name] of takes) {
      const back = target();
      back.disk.writeFile('victim', 'untouched');
      back.files.beforeCall = ({ operation, path }) => {
        if (operation !== call || path !== at) return;
        if (!back.disk.exists(name)) back.disk.symlink(name, '/victim');
      };
      expect(await codeOf(restore(back))).toBe('E_TARGET_IO');
      expect(back.disk.readFile('victim')).toEqual(new TextEncoder().encode('untouched'));
      expect(back.disk.stat('victim').mode & 0o7777).toBe(0o644);
    }
  });
});
