import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { chooseCompressor } from '../../src/edge/host/choose-compressor.ts';
import { openDirectoryReader, openDirectoryWriter } from '../../src/edge/store/directory-store.ts';
import type { LogRecord } from '../../src/engine/format/record.ts';
import { openLog } from '../../src/engine/lineage/open-log.ts';
import { openRepository } from '../../src/engine/lineage/repository.ts';
import { parseSelector, resolveCheckpoint } from '../../src/engine/lineage/resolve.ts';
import { toHex } from '../../src/engine/model/bytes.ts';
import { toLineageName, toVolumeName } from '../../src/engine/model/ids.ts';
import type { ObjectReader } from '../../src/engine/ports/object-store.ts';
import { rehydrate } from '../../src/engine/rehydrate/rehydrate.ts';
import { restoreDefaults } from '../../src/engine/rehydrate/rehydrate-request.ts';
import { findCheckpoint } from '../../src/engine/rehydrate/restore-source.ts';
import { SegmentSource } from '../../src/engine/tree/segment-source.ts';
import { ManualClock, Pod, seededRandom } from '../support/capture-fixture.ts';
import { MemoryFileSystem, MemoryFileTree } from '../support/memory-file-tree.ts';
import { MemoryMarker, noLanes } from '../support/restore-fixture.ts';
import { storedLines } from './read-tree.ts';
import {
  anchoredSettings,
  type Expected,
  type ExpectedCheckpoint,
  fillLarge,
  goldenHolder,
  goldenKeyRing,
  goldenLineage,
  specimens,
} from './specimens.ts';

const folder = fileURLToPath(new URL('v1/', import.meta.url));
const compressor = await chooseCompressor('zlib');

let scratch: string;

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'holdfast-golden-'));
});
afterEach(() => rmSync(scratch, { recursive: true }));

function expectedOf(name: string): Expected {
  return JSON.parse(readFileSync(join(folder, name, 'expected.json'), 'utf8')) as Expected;
}

async function openStored(store: ObjectReader, expected: Expected): ReturnType<typeof openLog> {
  const keyRing = expected.encryption === 'none' ? undefined : goldenKeyRing();
  const repository = await openRepository(store, { keyRing, encryption: expected.encryption });
  return openLog(store, repository, toLineageName(goldenLineage));
}

async function contentOf(
  store: ObjectReader,
  { log, access }: Awaited<ReturnType<typeof openLog>>,
  record: LogRecord,
): Promise<ExpectedCheckpoint> {
  const { origins, slot } = record.header;
  const { packs } = await log.packs(record);
  const { setRoot, volumes } = log.body(record);
  const lineage = toLineageName(goldenLineage);
  const { dataKeys, publicKey, repository, domain } = access;
  const source = new SegmentSource({
    store,
    compressor,
    dataKeys,
    publicKey,
    repository,
    domain,
    lineage,
    origins,
    packs,
  });
  const lines: Record<string, readonly string[]> = {};
  for (const { name, root } of volumes) lines[name] = await storedLines(root, source, access);
  const volatile = Object.fromEntries(volumes.map(({ name, volatileNames }) => [name, volatileNames]));
  return { slot, root: toHex(setRoot), volumes: lines, volatile };
}

describe('every stored repository', () => {
  test.each(specimens.map(({ name }) => name))('%s is read: its log, and each checkpoint whole', async (name) => {
    const expected = expectedOf(name);
    await using store = await openDirectoryReader(join(folder, name, 'store'));
    const opened = await openStored(store, expected);
    const records: LogRecord[] = [];
    for await (const { reading } of opened.log.entries()) {
      expect(reading).toMatchObject({ valid: true });
      if (reading.valid) records.unshift(reading.record);
    }
    expect(records.map(({ header }) => header.kind)).toEqual(expected.log);
    expect(expected.sealed).toBe(records.at(-1)?.header.kind === 'SEAL');

    const checkpoints = records.filter(({ header }) => header.kind === 'CHECKPOINT');
    const found: ExpectedCheckpoint[] = [];
    for (const record of checkpoints) found.push(await contentOf(store, opened, record));
    expect(found).toEqual(expected.checkpoints);

    const latest = resolveCheckpoint(opened.log, parseSelector('latest'));
    const last = expected.checkpoints.at(-1);
    if (last === undefined) await expect(latest).rejects.toMatchObject({ code: 'E_EXPECTED_MISSING' });
    else expect((await latest).header.slot).toBe(last.slot);
  });
});

test.each(specimens.map(({ name }) => name))('%s is restored: equal trees, equal roots', async (name) => {
  const expected = expectedOf(name);
  await using store = await openDirectoryReader(join(folder, name, 'store'));
  const { log, access } = await openStored(store, expected);
  for (const { slot, root, volumes } of expected.checkpoints) {
    const source = await findCheckpoint(log, access, parseSelector(String(slot)));
    const disk = new MemoryFileSystem();
    const files = new MemoryFileTree(disk);
    const outcome = await rehydrate(
      {
        files,
        store,
        compressor,
        clock: new ManualClock(),
        random: seededRandom('restore'),
        lanes: noLanes,
        cache: undefined,
      },
      source,
      {
        ...restoreDefaults,
        laneCount: 0,
        targets: Object.keys(volumes).map((volume) => ({
          volume: toVolumeName(volume),
          path: volume,
          marker: new MemoryMarker(),
        })),
      },
    );
    expect(toHex(outcome.rootGot ?? new Uint8Array(0))).toBe(root);
    const restored = Object.fromEntries(Object.keys(volumes).map((volume) => [volume, disk.describe(volume)]));
    expect(restored).toEqual(volumes);
    expect(files.openDescriptors).toEqual([]);
  }
});

test('together they hold what a format can get wrong', () => {
  const all = specimens.map(({ name }) => expectedOf(name));
  expect(new Set(all.map(({ encryption }) => encryption))).toEqual(new Set(['none', 'aes-256-gcm']));
  expect(new Set(all.flatMap(({ log }) => log))).toEqual(new Set(['CLAIM', 'CHECKPOINT', 'PARTIAL', 'SEAL']));
  expect(all.some(({ log }) => log.at(-1) === 'PARTIAL')).toBe(true);
  expect(all.some(({ log }) => log.filter((kind) => kind === 'PARTIAL').length > 1)).toBe(true);
  const volumes = all.flatMap(({ checkpoints }) => checkpoints.map((checkpoint) => checkpoint.volumes));
  expect(Math.max(...volumes.map((each) => Object.keys(each).length))).toBe(3);
  const lines = volumes.flatMap((each) => Object.values(each).flat());
  for (const form of [
    / = first$/,
    /\\xff\\xfe\\x80/,
    / user\.large=/,
    /^sparse .* 41000000 /,
    /^pipe /,
    / -> conf\.d$/,
    /@-86399/,
  ]) {
    expect(lines.filter((line) => form.test(line)).length, String(form)).toBeGreaterThan(1);
  }
  const files = execFileSync('find', [folder, '-type', 'f', '-path', '*/pk/*'], { encoding: 'utf8' });
  expect(files).toContain('plain-packs');
  expect(files).toContain('encrypted-packs');
  expect(files).not.toContain('inlined');
});

test('npm run golden would write the same roots today', async () => {
  for (const specimen of specimens) {
    const root = join(scratch, specimen.name);
    await using writer = await openDirectoryWriter(root, { create: true });
    const remove = async (key: string): Promise<void> => rmSync(join(root, key));
    const made = await specimen.make(Object.assign(writer, { remove }));
    expect(rootsOf(made), specimen.name).toEqual(rootsOf(expectedOf(specimen.name)));
  }
});

function rootsOf({ checkpoints, unfinished }: Expected): unknown {
  return [...checkpoints.map(({ root }) => root), unfinished?.root];
}

test('a capture that was cut off goes on from its anchors', async () => {
  const name = 'plain-cut-off';
  cpSync(join(folder, name, 'store'), join(scratch, 'store'), { recursive: true });
  const expected = expectedOf(name);
  await using store = await openDirectoryWriter(join(scratch, 'store'));
  const { log, access } = await openStored(store, expected);
  const head = await log.head();
  expect(head.record?.header.kind).toBe('PARTIAL');
  const listed = new Set(head.record?.header.packList.entries.map(({ slot }) => slot));
  expect(listed.size).toBe(expected.log.filter((kind) => kind === 'PARTIAL').length);

  const clock = new ManualClock(Date.UTC(2026, 0, 1));
  const disk = new MemoryFileSystem({ clock });
  fillLarge(disk);
  clock.ms += 2 * 3_600_000;
  const files = new MemoryFileTree(disk);
  const random = seededRandom('the next process');
  const pod = await Pod.start({ store, access, clock, random, files, lineage: goldenLineage, holder: goldenHolder });
  const { root, newBytes, volumes } = await pod.capture({ ...anchoredSettings, path: 'data' });
  expect(toHex(root)).toBe(expected.unfinished?.root);
  // Only what came after the last anchor is stored once more.
  expect(newBytes).toBeLessThan((volumes[0]?.bytes ?? 0) / 2);
});
