import { expect, test } from 'vitest';
import type { GuardRule } from '../../../src/engine/capture/poison-guard.ts';
import { LineageLog } from '../../../src/engine/lineage/log.ts';
import { resolveCheckpoint } from '../../../src/engine/lineage/resolve.ts';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { emptyBytes } from '../../../src/engine/model/bytes.ts';
import { ManualClock, Pod } from '../../support/capture-fixture.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';

const guard: readonly GuardRule[] = [{ volume: undefined, path: emptyBytes, percentMin: 20 }];

/** A cluster of PostgreSQL, and a file of it that changes whenever it is read while `busy`. */
async function clusterIn(directory: string, files: readonly string[]) {
  const clock = new ManualClock();
  const disk = new MemoryFileSystem({ clock });
  const tree = new MemoryFileTree(disk);
  const store = new MemoryStore();
  const pod = await Pod.start({ files: tree, clock, store });
  const below = (path: string): string => (directory === '' ? path : `${directory}/${path}`);
  const made = new Set<string>();
  for (const path of files.map(below)) {
    const parts = path.split('/').slice(0, -1);
    for (let i = 1; i <= parts.length; i++) {
      const parent = parts.slice(0, i).join('/');
      if (!made.has(parent)) disk.mkdir(parent);
      made.add(parent);
    }
    disk.writeFile(path, 'content');
  }
  clock.ms += 60_000;
  let busy: readonly string[] = [];
  let written = 0;
  tree.beforeCall = (call) => {
    const path = busy.find((each) => call.path.endsWith(each));
    if (path === undefined || call.operation !== 'read') return;
    clock.ms += 20;
    disk.writeAt(below(path), 0, `${written++}`);
  };
  return {
    pod,
    log: new LineageLog(store, pod.access, pod.lineage),
    /** From now on this file moves, or, with `all`, this one too. */
    move: (path: string | undefined, others?: 'all'): void => {
      if (path !== undefined) disk.writeAt(below(path), 0, 'x');
      busy = [...(others === undefined ? [] : busy), ...(path === undefined ? [] : [path])];
      clock.ms += 60_000;
    },
  };
}

const cluster = ['PG_VERSION', 'base/5/1249', 'global/pg_control', 'pg_wal/000000010000000000000001'];
const latest = { by: 'latest', back: 0 } as const;

test.each(['', 'deep/pgdata'])(
  'a cluster of PostgreSQL in %j that moves while it is read is suspect until it is read whole',
  async (directory) => {
    const { pod, log, move } = await clusterIn(directory, cluster);
    const good = await pod.capture({ guard });
    expect(good).toMatchObject({ consistency: 'converged', suspect: false });
    move('base/5/1249');
    const torn = await pod.capture({ guard });
    expect(torn).toMatchObject({
      consistency: 'fuzzy',
      suspect: true,
      suspicions: [{ reason: 'torn', path: directory === '' ? '.' : directory, now: { files: 4 } }],
    });
    expect((await resolveCheckpoint(log, latest)).header.slot).toBe(good.committed?.slot);
    move(undefined);
    const calm = await pod.capture({ guard });
    expect(calm).toMatchObject({ consistency: 'converged', suspect: false, suspicions: [] });
    expect((await resolveCheckpoint(log, latest)).header.slot).toBe(calm.committed?.slot);
  },
);

test('one of which more moves than a record keeps names of is suspect, wherever it stands among them', async () => {
  const before = Array.from({ length: 120 }, (_, i) => `app/busy-${i}`);
  const { pod, move } = await clusterIn('', [...before, ...cluster.map((path) => `pgdata/${path}`)]);
  expect(await pod.capture({ guard })).toMatchObject({ consistency: 'converged', suspect: false });
  for (const path of [...before, 'pgdata/base/5/1249']) move(path, 'all');
  const torn = await pod.capture({ guard });
  expect(torn.volumes[0]?.fuzzyNames).toHaveLength(20);
  expect(torn).toMatchObject({ suspect: true, suspicions: [{ reason: 'torn', path: 'pgdata' }] });
});

test('one that moves in the first checkpoint is suspect as well, and none is without a guard', async () => {
  const first = await clusterIn('', cluster);
  first.move('pg_wal/000000010000000000000001');
  expect(await first.pod.capture({ guard })).toMatchObject({ suspect: true, suspicions: [{ reason: 'torn' }] });
  const unguarded = await clusterIn('', cluster);
  unguarded.move('base/5/1249');
  expect(await unguarded.pod.capture()).toMatchObject({ consistency: 'fuzzy', suspect: false });
});

test('names as a cluster has them, without its control file, are files like others', async () => {
  const { pod, move } = await clusterIn('app', ['base/5/1249', 'log']);
  await pod.capture({ guard });
  move('base/5/1249');
  expect(await pod.capture({ guard })).toMatchObject({ consistency: 'fuzzy', suspect: false });
});
