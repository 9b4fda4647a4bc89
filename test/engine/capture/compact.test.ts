/** Compaction changes where things lie and nothing else: equal roots, and every retained checkpoint restores. */
import { describe, expect, test } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { type CompactionLimits, defaultCompaction } from '../../../src/engine/capture/compaction-plan.ts';
import { isolatedLabel } from '../../../src/engine/capture/isolation.ts';
import { liveBytesDifference } from '../../../src/engine/capture/live-bytes.ts';
import type { PackEntry } from '../../../src/engine/format/pack-entry.ts';
import { isCommitted, type LogRecord } from '../../../src/engine/format/record.ts';
import { LineageLog } from '../../../src/engine/lineage/log.ts';
import { objectsOf } from '../../../src/engine/lineage/record-objects.ts';
import { logKey, packPrefix } from '../../../src/engine/format/object-keys.ts';
import { concatBytes, toHex, utf8Bytes } from '../../../src/engine/model/bytes.ts';
import { SegmentSource } from '../../../src/engine/tree/segment-source.ts';
import { chooseCompressor } from '../../../src/edge/host/choose-compressor.ts';
import { readCheckpoint } from '../../sim/oracle.ts';
import { Chance } from '../../sim/chance.ts';
import { ManualClock, Pod, seededRandom } from '../../support/capture-fixture.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';

const compressor = await chooseCompressor('zlib');

class Lineage {
  readonly clock = new ManualClock();
  readonly disk: MemoryFileSystem = new MemoryFileSystem({ clock: this.clock });
  readonly store: MemoryStore = new MemoryStore();
  pod!: Pod;

  static async begin(name: string): Promise<Lineage> {
    const lineage = new Lineage();
    const files = new MemoryFileTree(lineage.disk);
    lineage.pod = await Pod.start({ files, clock: lineage.clock, store: lineage.store, holder: name });
    return lineage;
  }

  get log(): LineageLog {
    return new LineageLog(this.store, this.pod.access, this.pod.lineage);
  }

  async capture(compaction: CompactionLimits | undefined, more: object = {}) {
    this.clock.ms += 60_000;
    return await this.pod.capture({ compaction, inlineBytesMax: 2000, metaSegmentBytes: 4096, ...more });
  }

  async checkpoints(): Promise<LogRecord[]> {
    const records: LogRecord[] = [];
    for await (const record of this.log.records()) if (isCommitted(record.header.kind)) records.unshift(record);
    return records;
  }

  source(packs: readonly PackEntry[]): SegmentSource {
    const { lineage, access } = this.pod;
    return new SegmentSource({ store: this.store, compressor, lineage, ...access, packs });
  }

  /** All that a checkpoint shows, read whole from the store. */
  async show(record: LogRecord): Promise<unknown> {
    const volume = this.log.body(record).volumes[0]!;
    const { packs } = await this.log.packs(record);
    const content = await readCheckpoint(volume.root, volume.rootMeta, this.source(packs), this.pod.access.keys);
    return [toHex(volume.root.id), ...content.description];
  }

  /** Deletes what no retained record needs, as a collector does. */
  async collect(retained: (record: LogRecord, newest: boolean) => boolean): Promise<LogRecord[]> {
    const all = await this.checkpoints();
    const kept = all.filter((record) => retained(record, record === all.at(-1)));
    const needed = new Set<string>();
    for (const record of kept) {
      for (const { key } of objectsOf(record.header, (await this.log.packs(record)).packs)) needed.add(key);
      needed.add(logKey(this.pod.lineage, record.header.slot));
    }
    for (const { key } of await this.store.list(packPrefix(this.pod.lineage))) {
      if (!needed.has(key)) await this.store.delete(key);
    }
    for (const record of all) {
      const key = logKey(this.pod.lineage, record.header.slot);
      if (!needed.has(key)) await this.store.delete(key);
    }
    return kept;
  }
}

function edit(disk: MemoryFileSystem, chance: Chance, step: number): void {
  const name = (): string => `d${chance.below(4)}/f${chance.below(30)}`;
  for (let count = 1 + chance.below(6); count > 0; count--) {
    const path = name();
    const there = disk.exists(path);
    const kind = chance.below(10);
    if (kind < 6 || !there) {
      if (there) disk.remove(path);
      const size = kind === 0 ? 60_000 : kind === 1 ? 9000 : 300;
      disk.writeFile(path, seededRandom(`${step} ${count} ${path}`).bytes(1 + chance.below(size)));
    } else if (kind < 8) disk.remove(path);
    else if (kind === 8) disk.setXattr(path, 'user.large', seededRandom(`${step}`).bytes(5000));
    else {
      const other = name();
      if (other !== path && !disk.exists(other)) disk.writeFile(other, disk.readFile(path));
    }
  }
}

function filled(disk: MemoryFileSystem): void {
  for (let d = 0; d < 4; d++) disk.mkdir(`d${d}`);
  disk.writeFile('large', seededRandom('large').bytes(1_500_000));
}

describe('compaction', () => {
  test('leaves few packs, the same roots, and the numbers that a count from nothing gives', async () => {
    const [on, off] = [await Lineage.begin('a'), await Lineage.begin('a')];
    for (const { disk } of [on, off]) filled(disk);
    let merges = 0;
    for (let step = 0; step < 60; step++) {
      for (const { disk } of [on, off]) edit(disk, new Chance(`few ${step}`), step);
      const a = await on.capture(defaultCompaction);
      const b = await off.capture(undefined);
      expect(toHex(a.root)).toBe(toHex(b.root));
      expect(b.compacted).toBeUndefined();
      if (a.compacted === undefined) continue;
      merges++;
      expect(a.compacted).toMatchObject({ stopped: undefined });
      expect(a.compacted.dropped).toBeGreaterThan(0);
    }
    expect(merges).toBeGreaterThan(2);
    const base = (await on.pod.writer()).base!;
    expect(base.packs.length).toBeLessThan(20);
    expect((await off.pod.writer()).base!.packs.length).toBeGreaterThan(50);
    const counted = await liveBytesDifference({
      before: [],
      after: base.volumes,
      source: on.source(base.packs),
      keys: on.pod.access.keys,
      mayGoOn: () => true,
    });
    for (const pack of base.packs) expect(pack.liveBytes, `${pack.slot}/${pack.pack}`).toBe(counted!.of(pack));
  });

  for (let seed = 1; seed <= 6; seed++) {
    test(`in history ${seed}, every retained checkpoint shows what it showed, with a collector and restarts`, async () => {
      const chance = new Chance(`history ${seed}`);
      const [on, off] = [await Lineage.begin('a'), await Lineage.begin('a')];
      for (const { disk } of [on, off]) filled(disk);
      const shown = new Map<number, unknown>();
      const limits = { ...defaultCompaction, movedBytesMax: chance.below(2) === 0 ? 60_000 : 4_000_000 };
      let retained: LogRecord[] = [];
      for (let step = 0; step < 45; step++) {
        for (const { disk } of [on, off]) edit(disk, new Chance(`${seed} ${step}`), step);
        const quiet = chance.below(3) > 0;
        const a = await on.capture(quiet ? limits : undefined);
        const b = await off.capture(undefined);
        expect(toHex(a.root)).toBe(toHex(b.root));
        const [record] = (await on.checkpoints()).slice(-1);
        shown.set(record!.header.slot, await on.show(record!));
        const [same] = (await off.checkpoints()).slice(-1);
        expect(shown.get(record!.header.slot)).toEqual(await off.show(same!));
        if (chance.below(4) === 0) retained = await on.collect(({ header }, newest) => newest || header.slot % 5 === 0);
        if (chance.below(6) === 0) on.pod.restart();
        if (chance.below(6) === 0) on.pod.cache = undefined;
      }
      retained = await on.collect(({ header }, newest) => newest || header.slot % 5 === 0);
      expect(retained.length).toBeGreaterThan(8);
      for (const record of retained) expect(await on.show(record)).toEqual(shown.get(record.header.slot));
    });
  }

  test('reads only nodes that can refer to what it moves, and finds all of them, in a tree of many nodes', async () => {
    const on = await Lineage.begin('a');
    for (let d = 0; d < 30; d++) {
      on.disk.mkdir(`d${d}`);
      for (let f = 0; f < 100; f++) on.disk.writeFile(`d${d}/f${f}`, `${d} ${f}`);
    }
    // Keeps the first pack, with most nodes, out of the class of those that are merged soon.
    on.disk.writeFile('large', seededRandom('large').bytes(1_500_000));
    const chance = new Chance('many');
    const walked: number[] = [];
    for (let step = 0; step < 40; step++) {
      for (let i = 0; i < 3; i++) on.disk.writeFile(`d${chance.below(30)}/f${chance.below(100)}`, `${step} ${i}`);
      const { compacted, volumes } = await on.capture(defaultCompaction);
      if (compacted === undefined) continue;
      expect(compacted.stopped).toBeUndefined();
      expect(compacted.dropped).toBeGreaterThan(5);
      walked.push(compacted.walkedBytes);
      const [record] = (await on.checkpoints()).slice(-1);
      await on.collect((_, newest) => newest);
      const shown = (await on.show(record!)) as string[];
      expect(shown[0]).toBe(toHex(volumes[0]!.root));
      expect(shown).toHaveLength(3000 + 30 + 3);
    }
    const { packs, volumes } = (await on.pod.writer()).base!;
    const nodeBytes = packs.reduce((sum, pack) => sum + pack.liveBytes, 0) - volumes[0]!.root.sums.bytes;
    expect(walked.length).toBeGreaterThan(1);
    expect(Math.min(...walked)).toBeLessThan(0.8 * nodeBytes);
  });

  test('moves packs out of records, so that these can be trimmed', async () => {
    const on = await Lineage.begin('a');
    filled(on.disk);
    const inside = async (): Promise<number> =>
      (await on.pod.writer()).base!.packs.filter(({ inlined }) => inlined).length;
    let most = 0;
    for (let step = 0; step < 40; step++) {
      on.disk.writeFile('d0/hot', `${step}`);
      await on.capture(defaultCompaction, { inlineBytesMax: 100_000 });
      most = Math.max(most, await inside());
    }
    expect(most).toBe(16);
  });

  test('keeps apart what was stored in frames of its own, also when that is asked for no longer', async () => {
    const secret = seededRandom('secret').bytes(10_000);
    const stored = async (isolated: boolean): Promise<number> => {
      const on = await Lineage.begin('a');
      filled(on.disk);
      // No chunk is equal to another, and nearly all of it is.
      for (let step = 0; step < 10; step++) {
        on.disk.writeFile(`d0/${step}`, concatBytes([utf8Bytes(`guess ${step}`), secret]));
        await on.capture(defaultCompaction, { isolated });
      }
      let compacted = false;
      for (let step = 0; step < 20 && !compacted; step++) {
        on.disk.writeFile('d1/hot', `${step}`);
        const outcome = await on.capture(defaultCompaction, { isolated: false });
        compacted = outcome.compacted !== undefined;
      }
      expect(compacted).toBe(true);
      const { record, packs } = (await on.pod.writer()).base!;
      expect(record.header.labels.some(({ name }) => name === isolatedLabel)).toBe(isolated);
      return packs.reduce((sum, { bytes }) => sum + bytes, 0);
    };
    expect(await stored(true)).toBeGreaterThan((await stored(false)) + 9 * 9000);
  });

  test('rewrites packs of which less than half is in use', async () => {
    const on = await Lineage.begin('a');
    filled(on.disk);
    for (let i = 0; i < 40; i++) on.disk.writeFile(`d1/${i}`, seededRandom(`${i}`).bytes(200_000));
    await on.capture(defaultCompaction);
    const first = (await on.pod.writer()).base!.packs.filter(({ slot }) => slot === 2);
    for (let i = 0; i < 30; i++) on.disk.remove(`d1/${i}`);
    const after = await on.capture(defaultCompaction);
    expect(after.compacted).toMatchObject({ kind: 'rewrite', stopped: undefined });
    const { packs } = (await on.pod.writer()).base!;
    const left = packs.filter(({ slot }) => slot === 2);
    expect(left.length).toBeLessThan(first.length);
    const plain = packs.reduce((sum, pack) => sum + pack.plainBytes, 0);
    expect(plain).toBeLessThan(2 * (1_500_000 + 10 * 200_000));
  });

  test('stops when its time is over, loses nothing, and goes on with the next checkpoint', async () => {
    const on = await Lineage.begin('a');
    filled(on.disk);
    for (let step = 0; step < 20; step++) {
      edit(on.disk, new Chance(`time ${step}`), step);
      await on.capture(undefined);
    }
    const before = (await on.pod.writer()).base!.packs.length;
    edit(on.disk, new Chance('time'), 20);
    const { compacted } = await on.capture({ ...defaultCompaction, durationMsMax: 0 });
    expect(compacted).toMatchObject({ dropped: 0, stopped: 'time' });
    expect((await on.pod.writer()).base!.packs.length).toBe(before + 1);
    const [record] = (await on.checkpoints()).slice(-1);
    await on.show(record!);
    edit(on.disk, new Chance('time on'), 21);
    expect((await on.capture(defaultCompaction)).compacted?.dropped).toBeGreaterThan(10);
  });

  test('leaves alone what cannot be read, and the checkpoint is made', async () => {
    const on = await Lineage.begin('a');
    filled(on.disk);
    for (let step = 0; step < 20; step++) {
      on.disk.writeFile(`d0/n${step}`, seededRandom(`${step}`).bytes(3000));
      await on.capture(undefined);
    }
    const damaged = (await on.pod.writer()).base!.packs.at(-10)!;
    const [key] = (await on.store.list(packPrefix(on.pod.lineage)))
      .map((info) => info.key)
      .filter((name) => name.includes(`/${damaged.slot}-`));
    await on.store.delete(key!);
    on.disk.writeFile('d0/last', 'last');
    const outcome = await on.capture(defaultCompaction);
    expect(outcome.compacted).toMatchObject({ dropped: 0, stopped: 'unreadable' });
    expect(outcome.committed).toBeDefined();
  });
});
