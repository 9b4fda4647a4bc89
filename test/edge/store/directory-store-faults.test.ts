import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { canMount, canTrace, lacking, operate, withFaults, withMounts } from './child-process.ts';
import type { StepResult } from './children/operate.ts';

let root: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'holdfast-faults-'));
});
afterEach(() => rm(root, { recursive: true }));

const MiB = 1024 * 1024;

describe('a full store', () => {
  test.skipIf(lacking(canMount))(
    'without space: the error says so, nothing of the object stays, what was there is whole',
    async () => {
      const results = await operate(
        root,
        [
          { do: 'create', key: 'v1/first', bytes: MiB },
          { do: 'create', key: 'v1/large', bytes: 8 * MiB },
          { do: 'upload', key: 'v1/upload', bytes: 8 * MiB, partBytes: MiB },
          { do: 'temps' },
          { do: 'list', prefix: 'v1/' },
          { do: 'get', key: 'v1/first', bytes: MiB },
          { do: 'create', key: 'v1/second', bytes: 2 * MiB },
          { do: 'get', key: 'v1/second', bytes: 2 * MiB },
        ],
        { under: withMounts(root, 'mount -t tmpfs -o size=4m tmpfs "$store"') },
      );
      expect(results).toMatchObject([
        { outcome: 'created' },
        { code: 'E_STORE_FULL' },
        { code: 'E_STORE_FULL' },
        { keys: [] },
        { keys: ['v1/first'] },
        { outcome: 'whole' },
        { outcome: 'created' },
        { outcome: 'whole' },
      ]);
    },
  );

  test.skipIf(lacking(canMount))(
    'without inodes: the error says so, and the objects made before are whole',
    async () => {
      const creates = Array.from({ length: 20 }, (_, at) => ({ do: 'create', key: `v1/${at}`, bytes: 1000 }) as const);
      const gets = creates.map(({ key, bytes }) => ({ do: 'get', key, bytes }) as const);
      const results = await operate(root, [...creates, ...gets, { do: 'temps' }], {
        under: withMounts(root, 'mount -t tmpfs -o size=4m,nr_inodes=12 tmpfs "$store"'),
      });
      const made = results.slice(0, 20).map(({ outcome, code }) => outcome ?? code);
      expect(new Set(made)).toEqual(new Set(['created', 'E_STORE_FULL']));
      const found = results.slice(20, 40).map(({ outcome }) => outcome);
      expect(found).toEqual(made.map((outcome) => (outcome === 'created' ? 'whole' : 'absent')));
      expect(results[40]).toEqual({ keys: [] });
    },
  );

  test.skipIf(lacking(canMount))('by what a killed writer left: the next writer makes room', async () => {
    const begin = Array.from({ length: 6 }, (_, at) => ({ do: 'begin', key: `v1/${at}`, bytes: 1000 }) as const);
    const killed = JSON.stringify([
      ...begin,
      { do: 'shell', command: `ls "$STORE/tmp" | wc -l > "$STORE/count"` },
      { do: 'die' },
    ]);
    const script = [
      'mount -t tmpfs -o size=4m,nr_inodes=9 tmpfs "$store"',
      // Nine inodes: the root, the directory, six files and the count. "$1" and "$2" are the program and its script; the one that is killed prints into the void.
      `(STORE="$store" "$1" "$2" "$store" '${killed}' >/dev/null || true) 2>/dev/null`,
      'test "$(cat "$store/count")" -eq 6',
    ].join('; ');
    const results = await operate(
      root,
      [{ do: 'create', key: 'v1/a', bytes: 1000 }, { do: 'create', key: 'v1/b', bytes: 1000 }, { do: 'temps' }],
      { under: withMounts(root, script) },
    );
    expect(results).toEqual([{ outcome: 'created' }, { outcome: 'created' }, { keys: [] }]);
  });

  test.skipIf(lacking(canTrace))('by quota counts as full', async () => {
    const steps = [{ do: 'create', key: 'v1/a', bytes: 1000 }, { do: 'temps' }] as const;
    const results = await operate(root, steps, withFaults('pwrite64:error=EDQUOT:when=1'));
    expect(results).toMatchObject([{ code: 'E_STORE_FULL' }, { keys: [] }]);
  });
});

describe('a store that cannot be written to', () => {
  test.skipIf(lacking(canMount))('can be read, and says what is missing for writing', async () => {
    await operate(root, [{ do: 'create', key: 'v1/a', bytes: 1000 }]);
    const results = await operate(
      root,
      [
        { do: 'get', key: 'v1/a', bytes: 1000 },
        { do: 'range', key: 'v1/a', length: 10 },
        { do: 'list', prefix: 'v1/' },
        { do: 'create', key: 'v1/b', bytes: 10 },
        { do: 'create', key: 'v1/a', bytes: 1000 },
      ],
      { under: withMounts(root, 'mount --bind "$store" "$store"; mount -o remount,bind,ro "$store"') },
    );
    expect(results).toMatchObject([
      { outcome: 'whole' },
      { outcome: '10 bytes' },
      { keys: ['v1/a'] },
      { code: 'E_STORE_READ_ONLY', remedy: expect.stringContaining('mount it read-write') },
      { code: 'E_STORE_READ_ONLY' },
    ]);
  });

  test.skipIf(lacking(canTrace))(
    'for lack of rights says so, and a lack of rights to read has a remedy of its own',
    async () => {
      const [created] = await operate(
        root,
        [{ do: 'create', key: 'v1/a', bytes: 10 }],
        withFaults('mkdir:error=EACCES:when=1'),
      );
      expect(created).toMatchObject({ code: 'E_STORE_READ_ONLY' });

      await operate(root, [{ do: 'create', key: 'v1/a', bytes: 10 }]);
      const traced = withFaults('openat:error=EACCES:when=1');
      const under = [...traced.under!, '-P', join(root, 'v1/a')];
      const steps = [
        { do: 'get', key: 'v1/a', bytes: 10 },
        { do: 'get', key: 'v1/a', bytes: 10 },
      ] as const;
      expect(await operate(root, steps, { ...traced, under })).toMatchObject([
        { code: 'E_STORE_UNREACHABLE', remedy: expect.stringContaining('right to read') },
        { outcome: 'whole' },
      ]);
    },
  );

  test.skipIf(lacking(canMount))(
    'because it was unmounted is unreachable, and nothing is written below the mount point',
    async () => {
      const results = await operate(
        root,
        [
          { do: 'create', key: 'v1/repo', bytes: 10 },
          { do: 'shell', command: `umount -l '${root}'` },
          { do: 'get', key: 'v1/repo', bytes: 10 },
          { do: 'list', prefix: 'v1/' },
          { do: 'create', key: 'v1/a', bytes: 10 },
        ],
        { under: withMounts(root, 'mount -t tmpfs tmpfs "$store"') },
      );
      const unreachable = { code: 'E_STORE_UNREACHABLE' };
      expect(results).toMatchObject([
        { outcome: 'created' },
        { outcome: 'done' },
        unreachable,
        unreachable,
        unreachable,
      ]);
      expect(await readdir(root)).toEqual([]);
    },
  );
});

describe('a process without descriptors', () => {
  const limited = { under: ['sh', '-ec', 'ulimit -n 60; exec "$@"', 'sh'] };

  test('is told of its limit, and can go on when some come free', async () => {
    const results = await operate(
      root,
      [
        { do: 'create', key: 'v1/a', bytes: 10 },
        { do: 'starve', spare: 0 },
        { do: 'create', key: 'v1/b', bytes: 10 },
        { do: 'get', key: 'v1/a', bytes: 10 },
        { do: 'list', prefix: 'v1/' },
        { do: 'starve', spare: 1 },
        // Enough for the object; for its directory only where the object's own descriptor is closed by then. It may exist,
        // and must be whole if it does.
        { do: 'create', key: 'v1/c', bytes: 10 },
        { do: 'feed' },
        { do: 'create', key: 'v1/b', bytes: 10 },
        { do: 'get', key: 'v1/b', bytes: 10 },
        { do: 'create', key: 'v1/c', bytes: 10 },
        { do: 'get', key: 'v1/c', bytes: 10 },
        { do: 'temps' },
      ],
      limited,
    );
    const limit = { code: 'E_LIMIT' };
    expect(results).toMatchObject([
      { outcome: 'created' },
      { outcome: 'starved' },
      limit,
      limit,
      limit,
      { outcome: 'starved' },
      expect.toSatisfy(({ code, outcome }: StepResult) => code === 'E_LIMIT' || outcome === 'created'),
      { outcome: 'fed' },
      { outcome: 'created' },
      { outcome: 'whole' },
      { outcome: expect.stringMatching(/^(created|exists)$/) },
      { outcome: 'whole' },
      { keys: [] },
    ]);
  });

  test('gives up the handles it keeps for reading before it fails', async () => {
    const objects = Array.from({ length: 10 }, (_, at) => `v1/p/${at}`);
    const results = await operate(
      root,
      [
        ...objects.map((key) => ({ do: 'create', key, bytes: 10 }) as const),
        ...objects.map((key) => ({ do: 'range', key, length: 10 }) as const),
        { do: 'starve', spare: 0 },
        { do: 'create', key: 'v1/p/new', bytes: 10 },
        { do: 'get', key: 'v1/p/new', bytes: 10 },
      ],
      limited,
    );
    expect(results.slice(-3)).toEqual([{ outcome: 'starved' }, { outcome: 'created' }, { outcome: 'whole' }]);
  });
});

describe('a disk that fails', () => {
  const failed = { code: 'E_STORE_IO' };
  const first = { do: 'create', key: 'v1/l/a', bytes: 5000 } as const;
  const look = [{ do: 'temps' }, { do: 'list', prefix: 'v1/' }] as const;
  const again = [first, { do: 'get', key: 'v1/l/a', bytes: 5000 }] as const;

  test.skipIf(lacking(canTrace)).each([
    ['while writing', 'pwrite64'],
    ['while syncing the object', 'fsync'],
    ['while giving it its name', '?link,?linkat'],
  ])('%s: nothing of the object stays, and the next try succeeds', async (_when, call) => {
    const results = await operate(root, [first, ...look, ...again], withFaults(`${call}:error=EIO:when=1`));
    expect(results).toMatchObject([failed, { keys: [] }, { keys: [] }, { outcome: 'created' }, { outcome: 'whole' }]);
  });

  test.skipIf(lacking(canTrace))(
    'while syncing the directory: the object stays, whole, and is not said to be created',
    async () => {
      const results = await operate(root, [first, ...look, ...again], withFaults('fsync:error=EIO:when=2'));
      expect(results).toMatchObject([
        failed,
        { keys: [] },
        { keys: ['v1/l/a'] },
        { outcome: 'exists' },
        { outcome: 'whole' },
      ]);
    },
  );

  test.skipIf(lacking(canTrace))(
    'while writing back in the background: the error is kept until somebody is told',
    async () => {
      const upload = { do: 'upload', key: 'v1/p', bytes: 80 * MiB, partBytes: 4 * MiB } as const;
      const results = await operate(root, [upload, ...look], withFaults('fdatasync:error=EIO:when=1'));
      expect(results).toMatchObject([failed, { keys: [] }, { keys: [] }]);
    },
  );

  test.skipIf(lacking(canTrace))(
    'while removing the unfinished file: the object is there, and that is what counts',
    async () => {
      const results = await operate(
        root,
        [first, { do: 'get', key: 'v1/l/a', bytes: 5000 }],
        withFaults('?unlink,?unlinkat:error=EIO:when=1'),
      );
      expect(results).toMatchObject([{ outcome: 'created' }, { outcome: 'whole' }]);
      expect(await readdir(join(root, 'tmp'))).toHaveLength(1);
      await operate(root, [{ do: 'create', key: 'v1/l/b', bytes: 1 }]);
      expect(await readdir(join(root, 'tmp'))).toEqual([]);
    },
  );

  test.skipIf(lacking(canTrace))('while reading: an error, never other bytes', async () => {
    const steps = [
      first,
      { do: 'get', key: 'v1/l/a', bytes: 5000 },
      { do: 'range', key: 'v1/l/a', length: 10 },
    ] as const;
    const traced = withFaults('pread64:error=EIO');
    const under = [...traced.under!, '-P', join(root, 'v1/l/a')];
    expect(await operate(root, steps, { ...traced, under })).toMatchObject([{ outcome: 'created' }, failed, failed]);
  });
});

describe('a file system that cannot create safely', () => {
  const steps = [{ do: 'create', key: 'v1/a', bytes: 10 }, { do: 'temps' }, { do: 'list', prefix: 'v1/' }] as const;
  const nothing = [{ keys: [] }, { keys: [] }];

  test.skipIf(lacking(canTrace)).each(['EPERM', 'EOPNOTSUPP', 'ENOSYS'])(
    'for lack of hard links (%s) is refused',
    async (errno) => {
      const results = await operate(root, steps, withFaults(`?link,?linkat:error=${errno}`));
      expect(results).toMatchObject([
        { code: 'E_UNFENCED', remedy: expect.stringContaining('hard links') },
        ...nothing,
      ]);
    },
  );

  test.skipIf(lacking(canTrace))('in one place only is a lack of rights, not of hard links', async () => {
    // The first link is the object's, the second the trial beside the unfinished file. The directory is there already.
    await mkdir(join(root, 'v1'));
    const results = await operate(root, steps, withFaults('?link,?linkat:error=EPERM:when=1'));
    expect(results).toMatchObject([{ code: 'E_STORE_READ_ONLY' }, ...nothing]);
  });

  test.skipIf(lacking(canMount))('because it is two file systems is refused', async () => {
    const results = await operate(root, steps, {
      under: withMounts(root, 'mkdir "$store/v1"; mount -t tmpfs tmpfs "$store/v1"'),
    });
    expect(results).toMatchObject([
      { code: 'E_UNFENCED', remedy: expect.stringContaining('one file system') },
      ...nothing,
    ]);
  });
});

describe('what is durable when', () => {
  /** What a process did to the store, in order, as `call path`, with the root and the random names left out. */
  const traceOf = async (steps: Parameters<typeof operate>[1]): Promise<string[]> => {
    const log = join(root, 'trace');
    const calls = '?mkdir,?mkdirat,?link,?linkat,?unlink,?unlinkat,fsync,fdatasync,pwrite64';
    const store = join(root, 'store');
    await mkdir(store, { recursive: true });
    const under = ['strace', '-f', '-qq', '-y', '-o', log, '-e', `trace=${calls}`];
    const results = await operate(store, steps, { under, env: { UV_THREADPOOL_SIZE: '1' } });
    for (const result of results) expect(result).not.toHaveProperty('code');
    const lines = (await readFile(log, 'latin1')).split('\n').filter((line) => line.includes(store));
    return lines
      .filter((line) => !line.includes('ENOENT') && !line.includes('EEXIST'))
      .map((line) => {
        const call = /(\w+)\(/.exec(line)![1]!.replace(/at$/, '');
        const paths = [...line.matchAll(/[<"](\/[^">]*)[">]/g)].map((match) => match[1]!);
        const names = paths.map((path) => path.slice(store.length + 1).replace(/^tmp\/.*/, 'TEMP') || 'ROOT');
        return `${call} ${names.join(' ')}`;
      });
  };

  test.skipIf(lacking(canTrace))(
    'an object is synced before it has its name, then its directory and each new parent',
    async () => {
      const trace = await traceOf([
        { do: 'create', key: 'v1/l/log/a', bytes: 10 },
        { do: 'create', key: 'v1/l/log/b', bytes: 10 },
      ]);
      const order = trace.filter((line) => line !== 'unlink TEMP');
      expect(order).toEqual([
        'mkdir tmp',
        'pwrite64 TEMP',
        'fsync TEMP',
        'mkdir v1',
        'mkdir v1/l',
        'mkdir v1/l/log',
        'link TEMP v1/l/log/a',
        'fsync v1/l/log',
        'fsync v1/l',
        'fsync v1',
        'fsync ROOT',
        'pwrite64 TEMP',
        'fsync TEMP',
        'link TEMP v1/l/log/b',
        'fsync v1/l/log',
      ]);
      expect(trace.length - order.length).toBe(2);
    },
  );

  test.skipIf(lacking(canTrace))(
    'directories of another process are synced once, up to the root: it may have died before',
    async () => {
      await mkdir(join(root, 'store/v1/l/log'), { recursive: true });
      const trace = await traceOf([
        { do: 'create', key: 'v1/l/log/a', bytes: 10 },
        { do: 'create', key: 'v1/l/pk/a', bytes: 10 },
      ]);
      expect(trace.filter((line) => line.startsWith('fsync'))).toEqual([
        'fsync TEMP',
        'fsync v1/l/log',
        'fsync v1/l',
        'fsync v1',
        'fsync ROOT',
        'fsync TEMP',
        'fsync v1/l/pk',
        'fsync v1/l',
      ]);
    },
  );

  test.skipIf(lacking(canTrace))('an object of another process is durable before it is said to exist', async () => {
    await mkdir(join(root, 'store'), { recursive: true });
    await operate(join(root, 'store'), [{ do: 'create', key: 'v1/a', bytes: 10 }]);
    const trace = await traceOf([{ do: 'create', key: 'v1/a', bytes: 10 }]);
    expect(trace.filter((line) => line.startsWith('fsync'))).toEqual(['fsync TEMP', 'fsync v1', 'fsync ROOT']);
  });

  test.skipIf(lacking(canTrace))(
    'what a sweeper is shown is durable, so that nothing is deleted because of what a power cut takes',
    async () => {
      await mkdir(join(root, 'store'), { recursive: true });
      await operate(join(root, 'store'), [{ do: 'create', key: 'v1/l/a', bytes: 10 }]);
      expect(await traceOf([{ do: 'list', prefix: 'v1/' }])).toEqual([]);
      const trace = await traceOf([{ do: 'sweep', prefix: 'v1/' }]);
      expect(trace).toEqual(['fsync v1', 'fsync ROOT', 'fsync v1/l', 'fsync v1']);
    },
  );
});
