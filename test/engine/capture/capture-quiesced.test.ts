import { describe, expect, test } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { FileTreeError } from '../../../src/engine/ports/file-tree.ts';
import { ManualClock, Pod } from '../../support/capture-fixture.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';

async function onDisk(): Promise<{ clock: ManualClock; disk: MemoryFileSystem; files: MemoryFileTree; pod: Pod }> {
  const clock = new ManualClock();
  const disk = new MemoryFileSystem({ clock });
  const files = new MemoryFileTree(disk);
  const pod = await Pod.start({ files, clock, store: new MemoryStore() });
  disk.mkdir('sub');
  disk.writeFile('sub/data', 'content');
  disk.writeFile('log', 'line\n');
  clock.ms += 60_000;
  return { clock, disk, files, pod };
}

/** Each time. */
function refuseToOpen(files: MemoryFileTree, path: string): void {
  files.beforeCall = (call) => {
    if (call.operation === 'openFile' && call.path === path) throw new FileTreeError('EACCES', 'openFile');
  };
}

// "quiesced (the app had stopped and that was *checked* ...)"
describe('that the application has stopped', () => {
  test('is believed when nothing changes and nobody can write', async () => {
    const { pod, files } = await onDisk();
    const outcome = await pod.capture({ quiesced: true, extraPassesMax: 0 });
    expect(outcome).toMatchObject({ consistency: 'quiesced', passes: 2, refuted: [] });
    expect(outcome.committed).toBeDefined();
    expect(files.openDescriptors).toEqual([]);
    const unasked = await pod.capture();
    expect(unasked).toMatchObject({ consistency: 'converged', refuted: undefined });
  });

  test('is refuted by a change between two passes, though a later pass is still', async () => {
    const { disk, files, pod } = await onDisk();
    let lists = 0;
    files.beforeCall = (call) => {
      // The first pass, the look for writers, the second pass.
      if (call.operation === 'list' && call.path === '' && ++lists === 3) disk.writeFile('log', 'another line\n');
    };
    const outcome = await pod.capture({ quiesced: true });
    expect(outcome).toMatchObject({
      consistency: 'converged',
      refuted: [{ volume: 'data', reason: 'changed', count: 1, names: ['log'] }],
    });
  });

  test("is refuted by a change of the volume's own directory", async () => {
    const { disk, files, pod } = await onDisk();
    let lists = 0;
    files.beforeCall = (call) => {
      if (call.operation === 'list' && call.path === 'sub' && ++lists === 2) disk.chmod('', 0o700);
    };
    const outcome = await pod.capture({ quiesced: true });
    expect(outcome.refuted).toMatchObject([{ reason: 'changed', count: 1, names: ['.'] }]);
    expect(outcome.consistency).toBe('converged');
  });

  test('is refuted by a file that is open for writing, though nobody writes', async () => {
    const { disk, files, pod } = await onDisk();
    const writer = disk.openForWriting('sub/data');
    const outcome = await pod.capture({ quiesced: true });
    expect(outcome).toMatchObject({
      consistency: 'converged',
      refuted: [{ volume: 'data', reason: 'writer', count: 1, names: ['sub/data'] }],
    });
    writer.close();
    expect((await pod.capture({ quiesced: true })).consistency).toBe('quiesced');
    expect(files.openDescriptors).toEqual([]);
  });

  test('is refuted by a file that cannot be looked at', async () => {
    const { files, pod } = await onDisk();
    refuseToOpen(files, 'log');
    const outcome = await pod.capture({ quiesced: true });
    expect(outcome.refuted).toMatchObject([{ reason: 'writer', names: ['log'] }]);
    expect(outcome.consistency).toBe('converged');
  });
});

describe('wal-indexes', () => {
  test.each([0, 3])(
    'are named by every checkpoint that holds them, also when they are as they were: %i passes',
    async (extraPassesMax) => {
      const { clock, disk, pod } = await onDisk();
      for (const ending of ['', '-wal', '-shm']) disk.writeFile(`sub/app.db${ending}`, `state ${ending}`);
      clock.ms += 60_000;
      for (let round = 0; round < 3; round++) {
        clock.ms += 60_000;
        const outcome = await pod.capture({ extraPassesMax });
        expect(outcome.volumes[0]).toMatchObject({ volatileCount: 1, volatileNames: ['sub/app.db-shm'] });
      }
      disk.remove('sub/app.db-wal');
      clock.ms += 60_000;
      expect((await pod.capture()).volumes[0]).toMatchObject({ volatileCount: 0, volatileNames: [] });
    },
  );

  test('are ordinary files without their database, or without its WAL', async () => {
    const { clock, disk, pod } = await onDisk();
    for (const name of ['a.db', 'a.db-shm', 'b.db-wal', 'b.db-shm', 'c.db', 'c.db-wal', 'c.db-shm'])
      disk.writeFile(name, name);
    clock.ms += 60_000;
    expect((await pod.capture()).volumes[0]).toMatchObject({ volatileCount: 1, volatileNames: ['c.db-shm'] });
  });

  test('that cannot be read are missing, and not said to be stored', async () => {
    const { clock, disk, files, pod } = await onDisk();
    for (const ending of ['', '-wal', '-shm']) disk.writeFile(`app.db${ending}`, `state ${ending}`);
    clock.ms += 60_000;
    refuseToOpen(files, 'app.db-shm');
    const outcome = await pod.capture();
    expect(outcome.volumes[0]).toMatchObject({
      volatileCount: 0,
      skipped: [{ reason: 'unreadable', count: 1, names: ['app.db-shm'] }],
      incomplete: true,
    });
  });
});
