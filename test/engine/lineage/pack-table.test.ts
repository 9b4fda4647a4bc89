/** A pack list that is long: a table of its own in the store, and what differs from it in each record. */
import { describe, expect, it } from 'vitest';
import { packKey } from '../../../src/engine/format/object-keys.ts';
import { packEntryName } from '../../../src/engine/format/pack-entry.ts';
import { encodePackTable, openPackTable, packTableName } from '../../../src/engine/format/pack-table.ts';
import type { LineageWriter } from '../../../src/engine/lineage/lineage-writer.ts';
import { LineageLog } from '../../../src/engine/lineage/log.ts';
import { objectsOf } from '../../../src/engine/lineage/record-objects.ts';
import { checkpoint, MemoryHolder, packFor, World } from './fixture.ts';

/** A lineage whose first checkpoint has many packs, and whose second has a table of them. */
async function long(packs = 400): Promise<{ world: World; writer: LineageWriter; holder: MemoryHolder }> {
  const world = await World.make();
  const holder = new MemoryHolder('a');
  const writer = await world.claim(holder);
  await checkpoint(writer, { uploaded: Array.from({ length: packs }, (_, i) => packFor(writer, 10 + i, 5000 + i)) });
  await checkpoint(writer);
  return { world, writer, holder };
}

async function tableKey(world: World, slot: number): Promise<string> {
  return packKey(world.lineage, packTableName((await world.recordAt(slot)).header.packList.table!));
}

describe('a long pack list', () => {
  it('stands in the first record that introduces it, then in a table that later records link to', async () => {
    const { world, writer } = await long();
    const [first, second] = [await world.recordAt(2), await world.recordAt(3)];
    expect([first.header.packList.table, first.header.packList.entries.length]).toEqual([undefined, 401]);
    expect([second.header.packList.table?.slot, second.header.packList.entries.length]).toEqual([3, 1]);
    const before = world.store.requests.create;
    await checkpoint(writer);
    expect(world.store.requests.create - before).toBe(1);
    const third = await world.recordAt(4);
    expect(third.header.packList.table).toEqual(second.header.packList.table);
    expect(third.bytes).toBeLessThan(2000);
    expect((await world.log.packs(third)).packs).toEqual(writer.base?.packs);
    expect(writer.base?.packs).toHaveLength(403);
  });

  it('is written out while it is short', async () => {
    const { world } = await long(150);
    expect((await world.recordAt(3)).header.packList.table).toBeUndefined();
  });

  it('tells beside the table what is alive now and what is dropped, and gets another table when that is long', async () => {
    const { world, writer } = await long();
    const first = writer.base!.table!;
    const keep = writer.base!.packs.slice(5).map((pack, i) => (i < 3 ? { ...pack, liveBytes: i } : pack));
    await checkpoint(writer, { keep });
    const { packList } = (await world.recordAt(4)).header;
    expect(packList.table).toEqual(first.link);
    expect(packList.dropped).toHaveLength(5);
    expect(packList.entries.map(({ liveBytes }) => liveBytes)).toEqual([0, 1, 2, 300, 300]);
    expect((await world.log.packs(await world.recordAt(4))).packs).toEqual(writer.base!.packs);

    await checkpoint(writer, { keep: writer.base!.packs.map((pack) => ({ ...pack, liveBytes: 1 })) });
    const { table, dropped, entries } = (await world.recordAt(5)).header.packList;
    expect([table?.slot, dropped.length, entries.length]).toEqual([5, 0, 1]);
    expect((await world.log.packs(await world.recordAt(5))).packs).toEqual(writer.base!.packs);
  });

  it('is read by who has no key, with all objects that the record needs', async () => {
    const { world, writer } = await long();
    await checkpoint(writer);
    const { repository, domain, publicKey } = world.access;
    const keyless = new LineageLog(world.store, { repository, domain, publicKey }, world.lineage);
    const { record } = await keyless.head();
    const { packs } = await keyless.packs(record!);
    expect(packs).toEqual(writer.base?.packs);
    const objects = objectsOf(record!.header, packs);
    expect(objects.filter(({ kind }) => kind === 'pack')).toHaveLength(400);
    expect(objects.filter(({ kind }) => kind === 'record').map(({ key }) => key.slice(-10))).toEqual([
      'fffffffffd',
      'fffffffffc',
    ]);
    expect(objects.filter(({ kind }) => kind === 'packTable').map(({ key }) => key)).toEqual([
      await tableKey(world, 4),
    ]);
  });

  it('goes on with the next process of the holder', async () => {
    const { world, holder, writer } = await long();
    const again = await world.claim(holder);
    expect(again.base?.packs).toEqual(writer.base?.packs);
    await checkpoint(again);
    expect((await world.recordAt(4)).header.packList.table?.slot).toBe(3);
  });

  it('names a table that is missing or was changed', async () => {
    const { world } = await long();
    const key = await tableKey(world, 3);
    const record = await world.recordAt(3);
    const bytes = (await world.store.memory.get(key, { bytesMax: 1e6 }))!;
    await world.store.memory.delete(key);
    const damaged = { code: 'E_DAMAGED', message: expect.stringContaining('3-1-4294967295-') };
    await expect(world.log.packs(record)).rejects.toMatchObject(damaged);
    for (const at of [0, 20, 100, bytes.length - 1]) {
      const changed = bytes.slice();
      changed[at] = (changed[at] as number) ^ 1;
      await world.store.memory.create(key, changed);
      await expect(world.log.packs(record)).rejects.toMatchObject(damaged);
      await world.store.memory.delete(key);
    }
    await world.store.memory.create(key, bytes);
    expect((await world.log.packs(record)).packs).toHaveLength(402);
  });

  it('has a table only of its own lineage, made for the record that it names', async () => {
    const { world, writer } = await long();
    const { access, lineage } = world;
    const packs = writer.base!.packs.filter(({ slot }) => slot < 3);
    const record = { ...access, lineage, slot: 4, origins: [] };
    const address = { ...access, lineage, slot: 3, epoch: 1, origins: [] };
    const { bytes, table } = encodePackTable(address, packs, access.keys.signingSeed);
    expect(openPackTable(bytes, table.link, record).packs).toEqual(packs);
    const forms: [object, string][] = [
      [{ lineage: 'team/app/1' }, 'another lineage'],
      [{ domain: 'team/other' }, 'another lineage'],
      [{ slot: 4 }, 'another record'],
      [{ epoch: 2 }, 'another record'],
      [{ origins: ['team/app/9'] }, 'other origins'],
    ];
    for (const [change, why] of forms) {
      const other = encodePackTable({ ...address, ...change } as typeof address, packs, access.keys.signingSeed);
      const link = { ...other.table.link, slot: 3, epoch: 1 };
      expect(() => openPackTable(other.bytes, link, record)).toThrow(why);
    }
    const stranger = encodePackTable(address, packs, new Uint8Array(32).fill(1));
    expect(() => openPackTable(stranger.bytes, stranger.table.link, record)).toThrow('not signed by this domain');
    const late = packs.map((pack, i) => (i === 400 ? { ...pack, slot: 9 } : pack));
    const wrong = encodePackTable(address, late, access.keys.signingSeed);
    expect(() => openPackTable(wrong.bytes, wrong.table.link, record)).toThrow(packEntryName(late[400]!));
  });

  it('holds 65,536 packs', async () => {
    const { world, writer } = await long();
    const [pack] = writer.base!.packs;
    const packs = Array.from({ length: 65_536 }, (_, i) => ({
      ...pack!,
      slot: 2 + i,
      bytes: 2 ** 30,
      plainBytes: 2 ** 31,
    }));
    const address = { ...world.access, lineage: world.lineage, slot: 70_000, epoch: 1, origins: [] };
    const { bytes, table } = encodePackTable(address, packs, world.access.keys.signingSeed);
    expect(openPackTable(bytes, table.link, { ...address, publicKey: world.access.publicKey }).packs).toHaveLength(
      65_536,
    );
  });
});
