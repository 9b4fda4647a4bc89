import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chooseCompressor } from '../../../src/edge/host/choose-compressor.ts';
import type { HostCompressor } from '../../../src/edge/host/host-compressor.ts';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { LineageLog } from '../../../src/engine/lineage/log.ts';
import { toHex } from '../../../src/engine/model/bytes.ts';
import { HoldfastError } from '../../../src/engine/model/errors.ts';
import { keyFromDisplay } from '../../../src/engine/model/rel-path.ts';
import type { DamageReport } from '../../../src/engine/rehydrate/damage.ts';
import { findEntry, readFile } from '../../../src/engine/rehydrate/read-file.ts';
import type { RehydrateOutcome } from '../../../src/engine/rehydrate/rehydrate-outcome.ts';
import { segmentsOf } from '../../../src/engine/rehydrate/restore-source.ts';
import { type VerifyOutcome, verifyCheckpoint, voidRecords } from '../../../src/engine/rehydrate/verify.ts';
import { ManualClock, Pod } from '../../support/capture-fixture.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';
import { lanesOf, MemoryMarker, restore, sourceOf } from '../../support/restore-fixture.ts';

let compressor: HostCompressor;
beforeAll(async () => {
  compressor = await chooseCompressor('zlib');
});
afterAll(() => compressor[Symbol.dispose]());

function content(bytes: number, seed: number): Uint8Array {
  let state = Math.imul(seed, 0x9e3779b1) | 1;
  return Uint8Array.from({ length: bytes }, () => {
    state = Math.imul(state, 0x01000193) ^ (state >>> 15);
    return state & 0xff;
  });
}

function fill(disk: MemoryFileSystem): void {
  for (let d = 0; d < 12; d++) {
    disk.mkdir(`src/d${d}`);
    for (let i = 0; i < 30; i++) disk.writeFile(`src/d${d}/f${i}`, content(3000 + 40 * i, d * 100 + i));
    disk.symlink(`src/d${d}/link`, 'f1');
  }
  disk.writeFile('src/large', content(1_500_000, 77));
  disk.writeFile('src/nothing', '');
  disk.setXattr('src/d3/f3', 'user.large', content(2000, 5));
  disk.link('src/d0/f0', 'src/d9/z');
}

interface World {
  readonly pod: Pod;
  readonly store: MemoryStore;
  readonly source: MemoryFileSystem;
  readonly root: string;
}

/** Packs of small segments, so that damage costs little of much; `inlined`: all of it in the record. */
async function world(options: { readonly inlined?: boolean } = {}): Promise<World> {
  const clock = new ManualClock();
  const source = new MemoryFileSystem({ clock });
  source.mkdir('src');
  if (options.inlined === true) {
    source.mkdir('src/d');
    for (let i = 0; i < 5; i++) source.writeFile(`src/d/f${i}`, content(2000, i));
  } else fill(source);
  clock.ms += 60_000;
  const store = new MemoryStore();
  const pod = await Pod.start({ files: new MemoryFileTree(source), clock, store });
  const { root } = await pod.capture({
    path: 'src',
    dataSegmentBytes: 32 * 1024,
    metaSegmentBytes: 8 * 1024,
    inlineBytesMax: options.inlined === true ? 256 * 1024 : 0,
  });
  return { pod, store, source, root: toHex(root) };
}

async function objectKeys(store: MemoryStore, part: string): Promise<string[]> {
  return (await store.list('v1/')).map(({ key }) => key).filter((key) => key.includes(part));
}

async function read(store: MemoryStore, key: string): Promise<Uint8Array> {
  return (await store.get(key, { bytesMax: 1e9 })) as Uint8Array;
}

async function replace(store: MemoryStore, key: string, bytes: Uint8Array | undefined): Promise<void> {
  await store.delete(key);
  if (bytes !== undefined) await store.create(key, bytes);
}

function flipped(bytes: Uint8Array, at: number): Uint8Array {
  const changed = bytes.slice();
  changed[at] = (changed[at] as number) ^ (1 << (at % 8));
  return changed;
}

interface Attempt {
  readonly outcome: RehydrateOutcome | undefined;
  readonly error: HoldfastError | undefined;
  readonly disk: MemoryFileSystem;
  readonly marker: MemoryMarker;
  readonly report: DamageReport | undefined;
}

async function attempt({ pod, store }: World, options: Partial<Parameters<typeof restore>[0]> = {}): Promise<Attempt> {
  const disk = new MemoryFileSystem();
  const files = new MemoryFileTree(disk);
  const marker = new MemoryMarker();
  let outcome: RehydrateOutcome | undefined;
  let error: HoldfastError | undefined;
  try {
    outcome = await restore({
      store,
      access: pod.access,
      lineage: pod.lineage,
      files,
      marker,
      path: 'out',
      laneCount: 2,
      lanes: lanesOf(files),
      ...options,
    });
  } catch (thrown) {
    if (!(thrown instanceof HoldfastError)) throw thrown;
    error = thrown;
  }
  expect(files.openDescriptors).toEqual([]);
  const report = (error?.details['damage'] ?? outcome?.volumes[0]?.damage) as DamageReport | undefined;
  return { outcome, error, disk, marker, report };
}

async function verify({ pod, store }: World, readData: boolean): Promise<VerifyOutcome> {
  const files = new MemoryFileTree(new MemoryFileSystem());
  const from = { store, access: pod.access, lineage: pod.lineage };
  return await verifyCheckpoint({ store, compressor, files, lanes: lanesOf(files) }, await sourceOf(from), {
    readData,
    laneCount: 2,
    inFlightBytes: 8e6,
  });
}

const nameOf = (line: string): string => line.split(' ')[0] as string;

describe('a damaged pack', () => {
  it('costs the files that need its bytes and no others; nothing is half-written, and the marker stays', async () => {
    const made = await world();
    const [key] = await objectKeys(made.store, '/pk/');
    const bytes = await read(made.store, key as string);
    await replace(made.store, key as string, flipped(bytes, Math.floor(bytes.length * 0.4)));
    const { error, disk, marker, report } = await attempt(made);
    expect(error?.code).toBe('E_DAMAGED');
    expect(error?.message).toContain(key);
    expect(marker.saved).toEqual(['started']);
    expect(report?.files).toBeGreaterThan(0);
    expect(report?.files).toBeLessThan(60);
    expect(report?.objects[0]).toMatchObject({ key, segments: 1, files: report?.files });
    const lost = new Set(report?.objects[0]?.names);
    const there = new Set(disk.describe('out'));
    for (const line of made.source.describe('src')) {
      const costs = lost.has(nameOf(line)) || (line.includes(' = ') && lost.has(line.split(' = ')[1] as string));
      expect([nameOf(line), there.has(line)]).toEqual([nameOf(line), !costs]);
    }
    expect([...there].filter((line) => line.includes('.holdfast-'))).toEqual([]);
    // With the bytes back, the same call completes it.
    await replace(made.store, key as string, bytes);
    const again = await restore({
      ...made.pod,
      store: made.store,
      access: made.pod.access,
      lineage: made.pod.lineage,
      files: new MemoryFileTree(disk),
      marker,
      path: 'out',
    });
    expect(disk.describe('out')).toEqual(made.source.describe('src'));
    expect(toHex(again.rootGot ?? new Uint8Array(0))).toBe(made.root);
  });

  it('ends well on request, and says that something is missing', async () => {
    const made = await world();
    const [key] = await objectKeys(made.store, '/pk/');
    const bytes = await read(made.store, key as string);
    await replace(made.store, key as string, flipped(bytes, Math.floor(bytes.length * 0.5)));
    const { outcome, marker, report } = await attempt(made, { continueOnDamage: true });
    expect(outcome?.incomplete).toBe(true);
    expect(outcome?.rootGot).toBeUndefined();
    expect(report?.files).toBeGreaterThan(0);
    expect(marker.saved).toEqual(['started', 'damaged']);
  });

  it('that is gone altogether costs what was in it', async () => {
    const made = await world();
    const { source, pod, store } = made;
    source.writeFile('src/new', content(300_000, 4));
    await pod.capture({ path: 'src', inlineBytesMax: 0 });
    const keys = await objectKeys(store, '/pk/');
    const first = keys.find((key) => /pk\/2-/.test(key)) as string;
    await replace(store, first, undefined);
    const { error, report, disk } = await attempt(made);
    expect(error?.code).toBe('E_DAMAGED');
    expect(report?.files).toBeGreaterThan(300);
    // What the other pack holds is there, if the tree could still say where.
    expect(disk.exists('out')).toBe(true);
  });

  it('that is cut off keeps what is still there', async () => {
    const made = await world();
    const [key] = await objectKeys(made.store, '/pk/');
    const bytes = await read(made.store, key as string);
    await replace(made.store, key as string, bytes.subarray(0, bytes.length - 1));
    const { error, report } = await attempt(made);
    expect(error?.code).toBe('E_DAMAGED');
    expect(report?.objects[0]?.key).toBe(key);
    const found = await verify(made, false);
    expect(found.sound).toBe(false);
  });
});

describe('every byte of a store', () => {
  it('when changed gives an equal restore or E_DAMAGED, and is found by verification', async () => {
    for (const inlined of [false, true]) {
      const made = await world({ inlined });
      const expected = made.source.describe('src');
      const keys = [...(await objectKeys(made.store, '/pk/')), ...(await objectKeys(made.store, '/log/'))];
      for (const key of keys) {
        const bytes = await read(made.store, key);
        const tail = key.includes('/pk/') ? 700 : bytes.length;
        const sample = new Set<number>();
        for (let at = 0; at < 10; at++) sample.add(at);
        for (let at = bytes.length - tail; at < bytes.length; at += inlined ? 41 : 13) sample.add(at);
        for (let at = 0; at < bytes.length; at += Math.ceil(bytes.length / 30)) sample.add(at);
        for (const at of sample) {
          await replace(made.store, key, flipped(bytes, at));
          const { outcome, error, disk } = await attempt(made);
          const what = `${key} byte ${at} of ${bytes.length}`;
          if (outcome !== undefined) {
            expect(disk.describe('out'), what).toEqual(expected);
            expect(toHex(outcome.rootGot ?? new Uint8Array(0))).toBe(made.root);
          } else {
            expect(['E_DAMAGED', 'E_EXPECTED_MISSING', 'E_NOT_FOUND'], what).toContain(error?.code);
          }
          if (key.includes('/pk/')) {
            const { sound, damage } = await verify(made, true);
            expect([what, sound]).toEqual([what, false]);
            expect(damage.objects.some((object) => object.key === key)).toBe(true);
          } else {
            const log = new LineageLog(made.store, made.pod.access, made.pod.lineage);
            const found: string[] = [];
            for await (const record of voidRecords(log)) found.push(record.key);
            expect(found, what).toEqual([key]);
          }
        }
        await replace(made.store, key, bytes);
      }
      expect((await verify(made, true)).sound).toBe(true);
    }
  }, 60_000);
});

describe('a verification', () => {
  it('opens every segment and proves every file', async () => {
    const made = await world();
    const outcome = await verify(made, true);
    const { sums } = (
      await sourceOf({ ...made.pod, store: made.store, access: made.pod.access, lineage: made.pod.lineage })
    ).body.volumes[0]?.root ?? { sums: undefined };
    expect(outcome).toMatchObject({ sound: true, packs: 1, entries: sums?.entries });
    // Further names have no content of their own.
    expect(outcome.files).toBe(sums?.files);
    expect(outcome.bytes).toBe(sums?.bytes);
    const packed = await read(made.store, (await objectKeys(made.store, '/pk/'))[0] as string);
    expect(outcome.storedBytes).toBeGreaterThan(packed.length * 0.95);
  });

  it('without data reads tables and trees only', async () => {
    const made = await world();
    const outcome = await verify(made, false);
    expect(outcome.sound).toBe(true);
    expect(outcome.storedBytes).toBe(0);
    const [key] = await objectKeys(made.store, '/pk/');
    const bytes = await read(made.store, key as string);
    // A changed byte of content is not met, a changed length is.
    await replace(made.store, key as string, flipped(bytes, 20_000));
    expect((await verify(made, false)).sound).toBe(true);
    await replace(made.store, key as string, undefined);
    const found = await verify(made, false);
    expect(found.sound).toBe(false);
    expect(found.damage.objects[0]?.key).toBe(key);
  });

  it('names the files that damage costs', async () => {
    const made = await world();
    const [key] = await objectKeys(made.store, '/pk/');
    const bytes = await read(made.store, key as string);
    await replace(made.store, key as string, flipped(bytes, Math.floor(bytes.length * 0.4)));
    const { damage } = await verify(made, true);
    const { report } = await attempt(made);
    expect(damage.objects.map(({ key: object, names }) => [object, names])).toEqual(
      report?.objects.map(({ key: object, names }) => [object, names]),
    );
  });
});

describe('a single file', () => {
  const text = async (parts: AsyncIterable<Uint8Array>): Promise<Uint8Array> => {
    const all: number[] = [];
    for await (const part of parts) for (const byte of part) all.push(byte);
    return Uint8Array.from(all);
  };

  it('is read by any of its names, proven', async () => {
    const made = await world();
    const from = { store: made.store, access: made.pod.access, lineage: made.pod.lineage };
    const source = await sourceOf(from);
    const volume = source.body.volumes[0];
    if (volume === undefined) throw new Error('there is a volume');
    const segments = segmentsOf(source, { store: made.store, compressor });
    for (const name of ['d3/f3', 'large', 'nothing', 'd9/z']) {
      expect(await text(readFile(source, volume, segments, keyFromDisplay(name)))).toEqual(
        made.source.readFile(`src/${name}`),
      );
    }
    await expect(text(readFile(source, volume, segments, keyFromDisplay('d3')))).rejects.toMatchObject({
      code: 'E_USAGE',
    });
    await expect(findEntry(source, volume, segments, keyFromDisplay('d3/none'))).rejects.toMatchObject({
      code: 'E_NOT_FOUND',
    });
    const [key] = await objectKeys(made.store, '/pk/');
    await replace(made.store, key as string, flipped(await read(made.store, key as string), 100));
    const damaged = segmentsOf(source, { store: made.store, compressor });
    const names = made.source
      .describe('src')
      .filter((line) => / 10\d{4} /.test(line))
      .map(nameOf);
    const results = new Set<string>();
    for (const name of names) {
      const outcome = await text(readFile(source, volume, damaged, keyFromDisplay(name))).then(
        (bytes) => {
          expect(bytes).toEqual(made.source.readFile(`src/${name}`));
          return 'equal';
        },
        (error: HoldfastError) => error.code,
      );
      results.add(outcome);
    }
    expect([...results].sort()).toEqual(['E_DAMAGED', 'equal']);
  });
});
