import { describe, expect, test } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import type { GuardRule, Suspicion } from '../../../src/engine/capture/poison-guard.ts';
import { ackKey } from '../../../src/engine/format/object-keys.ts';
import { encodeRelease, openRelease } from '../../../src/engine/format/release.ts';
import type { LogRecord } from '../../../src/engine/format/record.ts';
import { readBase } from '../../../src/engine/lineage/base.ts';
import { LineageLog } from '../../../src/engine/lineage/log.ts';
import { releaseCheckpoint } from '../../../src/engine/lineage/releases.ts';
import { resolveCheckpoint } from '../../../src/engine/lineage/resolve.ts';
import { emptyBytes } from '../../../src/engine/model/bytes.ts';
import { toLineageName, toSlot, toVolumeName } from '../../../src/engine/model/ids.ts';
import { keyFromDisplay } from '../../../src/engine/model/rel-path.ts';
import { ManualClock, Pod, seededRandom } from '../../support/capture-fixture.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';

const whole: GuardRule = { volume: undefined, path: emptyBytes, percentMin: 20 };
const ofPath = (path: string, percentMin: number): GuardRule => ({
  volume: undefined,
  path: keyFromDisplay(path),
  percentMin,
});
const latest = { by: 'latest', back: 0 } as const;

async function withFiles(
  count: number,
  bytes = 1000,
): Promise<{
  disk: MemoryFileSystem;
  pod: Pod;
  store: MemoryStore;
  log: LineageLog;
}> {
  const clock = new ManualClock();
  const disk = new MemoryFileSystem({ clock });
  const store = new MemoryStore();
  const pod = await Pod.start({ files: new MemoryFileTree(disk), clock, store });
  disk.mkdir('db');
  disk.mkdir('logs');
  for (let i = 0; i < count; i++) disk.writeFile(`db/${i}`, seededRandom(`${i}`).bytes(bytes));
  for (let i = 0; i < 1000; i++) disk.writeFile(`logs/${i}`, `line ${i}`);
  clock.ms += 60_000;
  return { disk, pod, store, log: new LineageLog(store, pod.access, pod.lineage) };
}

function removeFiles(disk: MemoryFileSystem, directory: string, from: number, to: number): void {
  for (let i = from; i < to; i++) disk.remove(`${directory}/${i}`);
}

const slotOf = async (log: LineageLog): Promise<number> => (await resolveCheckpoint(log, latest)).header.slot;

describe('the guard against losses', () => {
  test('an empty volume is committed as suspect and is not the default restore point', async () => {
    const { disk, pod, log } = await withFiles(20);
    const guard = [whole];
    const first = await pod.capture({ guard });
    expect(first).toMatchObject({ suspect: false, suspicions: [] });
    removeFiles(disk, 'db', 0, 20);
    removeFiles(disk, 'logs', 0, 1000);
    const second = await pod.capture({ guard });
    expect(second.suspect).toBe(true);
    expect(second.suspicions).toEqual<Suspicion[]>([
      {
        volume: toVolumeName('data'),
        path: '.',
        reason: 'empty',
        before: { files: 1020, bytes: first.volumes[0]!.bytes },
        now: { files: 0, bytes: 0 },
      },
    ]);
    expect(await slotOf(log)).toBe(first.committed!.slot);
    const named = await resolveCheckpoint(log, { by: 'slot', slot: second.committed!.slot });
    expect(named.header).toMatchObject({ suspect: true });
  });

  test('it compares with the last good one, so that a loss that lasts or goes on does not become normal', async () => {
    const { disk, pod, log } = await withFiles(20);
    const guard = [whole];
    const first = await pod.capture({ guard });
    removeFiles(disk, 'logs', 0, 900);
    for (let i = 0; i < 3; i++) {
      disk.writeFile('logs/new', `${i}`);
      expect((await pod.capture({ guard })).suspicions).toMatchObject([{ reason: 'fewer-files', now: { files: 121 } }]);
    }
    // A new process knows it from the log.
    pod.restart();
    expect(await pod.capture({ guard })).toMatchObject({ suspect: true });
    expect(await slotOf(log)).toBe(first.committed!.slot);
    for (let i = 0; i < 200; i++) disk.writeFile(`logs/${i}`, 'back');
    const good = await pod.capture({ guard });
    expect(good.suspect).toBe(false);
    expect(await slotOf(log)).toBe(good.committed!.slot);
  });

  test.each([
    ['as many as the rule asks for are left', 800, false],
    ['one fewer', 801, true],
  ])('%s', async (_, removed, suspect) => {
    const { disk, pod } = await withFiles(0);
    const guard = [whole];
    await pod.capture({ guard });
    removeFiles(disk, 'logs', 0, removed);
    expect((await pod.capture({ guard })).suspect).toBe(suspect);
  });

  test('bytes count by themselves, and little of either is not judged', async () => {
    const { disk, pod } = await withFiles(5, 100_000);
    const guard = [whole, ofPath('db', 100)];
    await pod.capture({ guard });
    for (let i = 0; i < 5; i++) disk.writeFile(`db/${i}`, 'x');
    const shrunk = await pod.capture({ guard });
    expect(shrunk.suspicions).toMatchObject([
      { path: '.', reason: 'fewer-bytes' },
      { path: 'db', reason: 'fewer-bytes', before: { files: 5, bytes: 500_000 }, now: { files: 5, bytes: 5 } },
    ]);
    const few = await withFiles(5, 100);
    await few.pod.capture({ guard });
    removeFiles(few.disk, 'db', 0, 4);
    expect(await few.pod.capture({ guard })).toMatchObject({ suspect: false });
    few.disk.remove('db/4');
    expect((await few.pod.capture({ guard })).suspicions).toMatchObject([{ path: 'db', reason: 'empty' }]);
  });

  test('a path is summed up from the tree, also where it spans many nodes', async () => {
    const { disk, pod } = await withFiles(4000, 20);
    disk.mkdir('db2');
    for (let i = 0; i < 50; i++) disk.writeFile(`db2/${i}`, 'beside');
    const guard = [ofPath('db', 90)];
    const first = await pod.capture({ guard });
    expect(first.suspect).toBe(false);
    removeFiles(disk, 'db', 1000, 1401);
    pod.restart();
    expect((await pod.capture({ guard })).suspicions).toMatchObject([
      {
        path: 'db',
        reason: 'fewer-files',
        before: { files: 4000, bytes: 80_000 },
        now: { files: 3599, bytes: 71_980 },
      },
    ]);
  });

  test('a dry run tells it and commits nothing', async () => {
    const { disk, pod, log } = await withFiles(20);
    await pod.capture({ guard: [whole] });
    const slot = await slotOf(log);
    removeFiles(disk, 'logs', 0, 1000);
    expect(await pod.capture({ guard: [whole, ofPath('logs', 50)], dryRun: true })).toMatchObject({
      suspect: true,
      committed: undefined,
      suspicions: [{ path: '.', reason: 'fewer-files' }],
    });
    expect(await slotOf(log)).toBe(slot);
  });

  test('without rules nothing is suspect, and a caller may have a reason of its own', async () => {
    const { disk, pod } = await withFiles(20);
    await pod.capture();
    removeFiles(disk, 'logs', 0, 1000);
    expect(await pod.capture()).toMatchObject({ suspect: false });
    expect(await pod.capture({ suspect: true })).toMatchObject({ suspect: true, suspicions: [] });
  });
});

describe('a release', () => {
  async function emptied(): Promise<Awaited<ReturnType<typeof withFiles>> & { readonly suspect: LogRecord }> {
    const made = await withFiles(20);
    await made.pod.capture({ guard: [whole] });
    removeFiles(made.disk, 'logs', 0, 1000);
    const { committed } = await made.pod.capture({ guard: [whole] });
    const suspect = await resolveCheckpoint(made.log, { by: 'slot', slot: committed!.slot });
    return { ...made, suspect };
  }

  test('makes a suspect checkpoint the default restore point, and what later ones are compared with', async () => {
    const { disk, pod, store, suspect } = await emptied();
    const parts = { store, access: pod.access, clock: pod.clock, random: seededRandom('release') };
    await releaseCheckpoint(parts, suspect, { by: 'somebody', reason: 'it was meant' });
    const log = new LineageLog(store, pod.access, pod.lineage);
    expect((await resolveCheckpoint(log, latest)).header.slot).toBe(suspect.header.slot);
    expect(await log.release(suspect)).toMatchObject({ by: 'somebody', reason: 'it was meant' });
    // The process that has run all along sees it, and one that starts now too.
    disk.writeFile('logs/new', 'x');
    expect(await pod.capture({ guard: [whole] })).toMatchObject({ suspect: false });
    const base = await readBase(log, suspect);
    expect(base?.good?.record.header.slot).toBe(suspect.header.slot);
  });

  test('is looked for only while the newest checkpoint is suspect', async () => {
    const { disk, pod } = await emptied();
    const lists = (): number => pod.traffic.requests['list'] ?? 0;
    let before = lists();
    await pod.capture({ guard: [whole] });
    expect(lists() - before).toBe(1);
    for (let i = 0; i < 1000; i++) disk.writeFile(`logs/${i}`, 'back');
    await pod.capture({ guard: [whole] });
    before = lists();
    disk.writeFile('logs/1', 'changed');
    await pod.capture({ guard: [whole] });
    expect(lists()).toBe(before);
  });

  test.each([
    ['another record of that slot', { digest: new Uint8Array(32) }],
    ['another slot', { slot: toSlot(1) }],
  ])('counts for the record that it names alone: not for %s', async (_, other) => {
    const { pod, store, suspect } = await emptied();
    const release = { slot: suspect.header.slot, digest: suspect.digest, timeMs: 1, by: '', reason: '', ...other };
    const address = { ...pod.access, lineage: pod.lineage };
    const bytes = encodeRelease(address, release, pod.access.keys.signingSeed);
    await store.create(ackKey(pod.lineage, suspect.header.slot, '0'.repeat(32)), bytes);
    const log = new LineageLog(store, pod.access, pod.lineage);
    expect(await log.isGood(suspect)).toBe(false);
  });

  test('that nobody with the keys has made counts for nothing, and hides none that is genuine', async () => {
    const { pod, store, suspect } = await emptied();
    const address = { ...pod.access, lineage: pod.lineage };
    const release = { slot: suspect.header.slot, digest: suspect.digest, timeMs: 1, by: 'x', reason: '' };
    const genuine = encodeRelease(address, release, pod.access.keys.signingSeed);
    for (let at = 0; at < genuine.length; at += 7) {
      const forged = genuine.slice();
      forged[at]! ^= 1;
      expect(() => openRelease(forged, { ...address, publicKey: pod.access.publicKey }), `byte ${at}`).toThrow();
      await store.create(ackKey(pod.lineage, suspect.header.slot, at.toString(16).padStart(32, '0')), forged);
    }
    const moved = encodeRelease(
      { ...address, lineage: toLineageName('team/other/0') },
      release,
      pod.access.keys.signingSeed,
    );
    await store.create(ackKey(pod.lineage, suspect.header.slot, 'a'.repeat(32)), moved);
    const junk = new LineageLog(store, pod.access, pod.lineage);
    expect(await junk.isGood(suspect)).toBe(false);
    await store.create(ackKey(pod.lineage, suspect.header.slot, 'f'.repeat(32)), genuine);
    junk.forgetReleases();
    expect(await junk.isGood(suspect)).toBe(true);
  });
});

test('a suspect checkpoint that nothing was added to is not made again', async () => {
  const { disk, pod } = await withFiles(20);
  const settings = { guard: [whole], commitUnchanged: false };
  await pod.capture(settings);
  removeFiles(disk, 'logs', 0, 1000);
  expect((await pod.capture(settings)).committed).toBeDefined();
  expect(await pod.capture(settings)).toMatchObject({
    committed: undefined,
    suspect: true,
    suspicions: [{ reason: 'fewer-files' }],
  });
});
