import { describe, expect, it } from 'vitest';
import { toHex } from '../../../src/engine/model/bytes.ts';
import { FileTreeError } from '../../../src/engine/ports/file-tree.ts';
import { ManualClock, Pod } from '../../support/capture-fixture.ts';
import { MemoryFileSystem, type MemoryFileSystemOptions, MemoryFileTree } from '../../support/memory-file-tree.ts';
import { lanesOf, MemoryMarker, type RestoreRequest, restore } from '../../support/restore-fixture.ts';

function content(bytes: number, seed: number): Uint8Array {
  let state = Math.imul(seed, 0x9e3779b1) | 1;
  return Uint8Array.from({ length: bytes }, () => {
    state = Math.imul(state, 0x01000193) ^ (state >>> 15);
    return state & 0xff;
  });
}

const old = 1_600_000_000;

function fill(disk: MemoryFileSystem): void {
  for (const directory of ['a', 'a/b', 'c', 'c/d/e']) {
    disk.mkdir(`src/${directory}`);
    for (let i = 0; i < 4; i++) disk.writeFile(`src/${directory}/f${i}`, content(50 + 700 * i, i));
  }
  disk.writeFile('src/a/list', content(1_200_000, 9), { mode: 0o4755 });
  disk.writeFile('src/c/large', new Uint8Array(9_000_000).fill(7));
  disk.writeAt('src/c/large', 4_000_000, content(300_000, 11));
  disk.symlink('src/a/link', 'f0');
  disk.fifo('src/c/fifo');
  disk.link('src/a/f1', 'src/c/again');
  disk.link('src/a/f1', 'src/zz');
  disk.setXattr('src/a/f2', 'user.x', 'y');
  disk.chown('src/c/f3', 11, 12);
  for (const name of ['a', 'a/b', 'c/d/e', 'c', 'a/f0', 'a/link', 'c/fifo', 'c/large'])
    disk.setMtime(`src/${name}`, old, 9);
  disk.chmod('src/a/b', 0o2711);
}

interface World {
  readonly pod: Pod;
  readonly source: MemoryFileSystem;
  readonly clock: ManualClock;
  readonly root: string;
}

const world: Promise<World> = (async () => {
  const clock = new ManualClock();
  const source = new MemoryFileSystem({ clock });
  source.mkdir('src');
  fill(source);
  clock.ms += 60_000;
  const pod = await Pod.start({ files: new MemoryFileTree(source), clock });
  const { root } = await pod.capture({ path: 'src' });
  clock.ms += 60_000;
  return { pod, source, clock, root: toHex(root) };
})();

async function run(
  { pod, clock }: World,
  files: MemoryFileTree,
  marker: MemoryMarker,
  request: Partial<RestoreRequest> = {},
): ReturnType<typeof restore> {
  const { store, access, lineage } = pod;
  return await restore({ store, access, lineage, files, marker, clock, path: 'out', ...request });
}

/** Ends the process at one of its calls: nothing that it still tries has any effect. */
function killAt(files: MemoryFileTree, call: number): { readonly calls: () => number } {
  let calls = 0;
  files.beforeCall = () => {
    calls++;
    if (calls >= call) throw new FileTreeError('EIO', 'killed');
  };
  return { calls: () => calls };
}

/** Regular files, without what shows only that a name is a further one. */
const filesOf = (lines: readonly string[]): string[] => lines.filter((line) => / 10\d{4} /.test(line));

interface Case {
  readonly what: string;
  readonly disk: MemoryFileSystemOptions;
  readonly request: Partial<RestoreRequest>;
  readonly before: ((disk: MemoryFileSystem) => void) | undefined;
}

const cases: readonly Case[] = [
  { what: 'into an empty target', disk: {}, request: {}, before: undefined },
  { what: 'where nameless files are refused', disk: { namelessFiles: false }, request: {}, before: undefined },
  { what: 'with something wanted first', disk: {}, request: { first: ['c/**', 'zz'] }, before: undefined },
  {
    what: 'over what is replaced',
    disk: {},
    request: { onExisting: 'replace' },
    before: (disk) => {
      disk.mkdir('out/a/f0/sub');
      disk.mkdir('out/c/d');
      disk.writeFile('out/a/f1', 'other');
      disk.writeFile('out/c/d/e', 'no directory');
      disk.symlink('out/c/large', '/etc/passwd');
      disk.mkdir('out/gone/with/all');
      disk.writeFile('out/gone/with/file', 'x');
    },
  },
];

describe('a restore that is killed', () => {
  for (const { what, disk: options, request, before } of cases) {
    it(`at any call resumes to the equal tree, and shows no half file: ${what}`, async () => {
      const made = await world;
      const expected = made.source.describe('src');
      const whole = new Set(filesOf(expected));
      const whileRestoring = async (call: number): Promise<number> => {
        const disk = new MemoryFileSystem({ clock: made.clock, ...options });
        before?.(disk);
        const was = new Set(before === undefined ? [] : filesOf(disk.describe('out')));
        const marker = new MemoryMarker();
        const files = new MemoryFileTree(disk);
        const { calls } = killAt(files, call);
        const outcome = await run(made, files, marker, request).catch(() => undefined);
        files.beforeCall = undefined;
        files.crash();
        if (outcome !== undefined || marker.mark?.state === 'done') {
          expect(disk.describe('out')).toEqual(expected);
          return calls();
        }
        if (disk.exists('out')) {
          for (const line of filesOf(disk.describe('out'))) {
            const temporary = line.includes('.holdfast-');
            // Any name of the group may be the first one that stands there.
            const alike = line.replace(/^\S+/, '');
            const complete = whole.has(line) || [...whole].some((one) => one.endsWith(alike));
            expect(temporary || complete || was.has(line), line).toBe(true);
          }
        }
        const again = new MemoryFileTree(disk);
        // Without saying again what was said: the marker knows.
        const resumed = await run(made, again, marker, marker.mark === undefined ? request : {});
        expect(disk.describe('out')).toEqual(expected);
        expect(toHex(resumed.rootGot ?? new Uint8Array(0))).toBe(made.root);
        expect(again.openDescriptors).toEqual([]);
        expect(marker.mark?.state).toBe('done');
        return calls();
      };
      const total = await whileRestoring(Number.POSITIVE_INFINITY);
      expect(total).toBeGreaterThan(150);
      const step = Math.max(1, Math.floor(total / 30));
      for (let call = 1; call <= total; call += step) await whileRestoring(call);
    });
  }

  it('writes nothing again that was complete', async () => {
    const made = await world;
    const disk = new MemoryFileSystem({ clock: made.clock });
    const marker = new MemoryMarker();
    const files = new MemoryFileTree(disk);
    files.failCall('makeLink', 'EIO');
    await expect(run(made, files, marker)).rejects.toMatchObject({ code: 'E_TARGET_IO' });
    const inode = disk.stat('out/c/large').inode;
    const again = new MemoryFileTree(disk);
    const outcome = await run(made, again, marker);
    expect(disk.stat('out/c/large').inode).toBe(inode);
    expect(again.callCount('write')).toBe(0);
    expect(outcome.volumes[0]?.existing).toBe('resume');
    // What is there, and what of it this run wrote.
    const fresh = await run(made, new MemoryFileTree(new MemoryFileSystem({ clock: made.clock })), new MemoryMarker());
    expect(fresh.bytes).toBeGreaterThan(100_000);
    expect(fresh).toMatchObject({ newBytes: fresh.bytes });
    expect(outcome).toMatchObject({ files: fresh.files, entries: fresh.entries, bytes: fresh.bytes });
    expect(outcome).toMatchObject({ newFiles: 0, newBytes: 0 });
  });

  it('writes again what was changed since', async () => {
    const made = await world;
    const disk = new MemoryFileSystem({ clock: made.clock });
    const marker = new MemoryMarker();
    const files = new MemoryFileTree(disk);
    files.failCall('makeLink', 'EIO');
    await expect(run(made, files, marker)).rejects.toMatchObject({ code: 'E_TARGET_IO' });
    disk.writeFile('out/a/f3', 'scribble');
    disk.remove('out/c/f0');
    disk.chmod('out/a/f2', 0o600);
    await run(made, new MemoryFileTree(disk), marker);
    expect(disk.describe('out')).toEqual(made.source.describe('src'));
  });

  it('does not take another directory at the same path for its own', async () => {
    const made = await world;
    const disk = new MemoryFileSystem({ clock: made.clock });
    const marker = new MemoryMarker();
    const files = new MemoryFileTree(disk);
    files.failCall('makeLink', 'EIO');
    await expect(run(made, files, marker)).rejects.toMatchObject({ code: 'E_TARGET_IO' });
    disk.remove('out');
    disk.mkdir('out');
    disk.writeFile('out/mine', 'mine');
    await expect(run(made, new MemoryFileTree(disk), marker)).rejects.toMatchObject({ code: 'E_TARGET_NOT_EMPTY' });
    expect(disk.describe('out').length).toBe(1);
  });
});

describe('a restore that is interrupted', () => {
  it('at any step ends with E_ABORTED, holds nothing, and goes on later', async () => {
    const made = await world;
    let steps = 0;
    await run(made, new MemoryFileTree(new MemoryFileSystem()), new MemoryMarker(), { onProgress: () => steps++ });
    for (let stop = 1; stop <= steps; stop += 3) {
      const disk = new MemoryFileSystem({ clock: made.clock });
      const marker = new MemoryMarker();
      const files = new MemoryFileTree(disk);
      const control = new AbortController();
      let seen = 0;
      const interrupted = await run(made, files, marker, {
        signal: control.signal,
        laneCount: 2,
        lanes: lanesOf(files),
        onProgress: () => {
          if (++seen === stop) control.abort();
        },
      }).then(
        () => 'finished',
        (error: { code?: string }) => error.code,
      );
      // After the last step there is nothing left to interrupt.
      if (interrupted !== 'finished') expect(interrupted).toBe('E_ABORTED');
      expect(files.openDescriptors).toEqual([]);
      if (interrupted === 'finished') continue;
      await run(made, new MemoryFileTree(disk), marker);
      expect(disk.describe('out')).toEqual(made.source.describe('src'));
    }
  });
});
