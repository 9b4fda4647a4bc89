import { emptyPackList } from '../../../src/engine/format/pack-table.ts';
import { describe, expect, it } from 'vitest';
import { packEntryName } from '../../../src/engine/format/pack-entry.ts';
import { encodeRecord, recordBytesMax } from '../../../src/engine/format/record.ts';
import { LineageLog } from '../../../src/engine/lineage/log.ts';
import { listLineages, openLog } from '../../../src/engine/lineage/open-log.ts';
import { domainKeyKey, lineagePrefix, logPrefix } from '../../../src/engine/format/object-keys.ts';
import { utf8Bytes } from '../../../src/engine/model/bytes.ts';
import { toEpoch, toHolderId, toLineageName, toRecordId, toSlot } from '../../../src/engine/model/ids.ts';
import { checkpoint, MemoryHolder, World } from './fixture.ts';

async function slotsOf(log: LineageLog, below?: number): Promise<string[]> {
  const slots: string[] = [];
  for await (const { slot, reading } of log.entries(below === undefined ? {} : { below: toSlot(below) })) {
    slots.push(reading.valid ? `${slot} ${reading.record.header.kind}` : `${slot} ${reading.reason}`);
  }
  return slots;
}

async function withCheckpoints(count: number): Promise<World> {
  const world = await World.make();
  const writer = await world.claim(new MemoryHolder('a'));
  for (let i = 0; i < count; i++) await checkpoint(writer, { content: `${i}` });
  return world;
}

describe('a log', () => {
  it('is read newest first, from anywhere, and in pages', async () => {
    const world = await withCheckpoints(90);
    const all = await slotsOf(world.log);
    expect(all).toHaveLength(91);
    expect(all.slice(0, 2)).toEqual(['91 CHECKPOINT', '90 CHECKPOINT']);
    expect(all.at(-1)).toBe('1 CLAIM');
    expect(await slotsOf(world.log, 4)).toEqual(['3 CHECKPOINT', '2 CHECKPOINT', '1 CLAIM']);
    expect(await slotsOf(world.log, 1)).toEqual([]);
  });

  it('gives its head for one LIST and one GET, however long it is', async () => {
    const world = await withCheckpoints(90);
    world.store.requests = { get: 0, list: 0, create: 0 };
    expect(await world.log.head()).toMatchObject({ record: { header: { slot: 91 } }, empty: 92, junk: 0 });
    expect(world.store.requests).toEqual({ get: 1, list: 1, create: 0 });
  });

  it('shows void objects with their reason, and passes over names that are no slots', async () => {
    const world = await withCheckpoints(2);
    const sibling = await World.make({ lineage: 'team/app/1' });
    await checkpoint(await sibling.claim(new MemoryHolder('s')));
    await world.put(4, utf8Bytes('junk'));
    await world.put(5, (await sibling.bytesAt(2))!);
    await world.put(6, new Uint8Array(recordBytesMax + 1));
    await world.put(7, (await world.bytesAt(3))!.slice(0, -1));
    await world.store.memory.create(`${logPrefix(world.lineage)}0000`, utf8Bytes('junk'));
    expect(await slotsOf(world.log)).toEqual([
      '7 moved',
      '6 too-large',
      '5 moved',
      '4 not-a-record',
      '3 CHECKPOINT',
      '2 CHECKPOINT',
      '1 CLAIM',
    ]);
    expect(await world.log.head()).toMatchObject({ record: { header: { slot: 3 } }, empty: 8, junk: 4 });
  });

  it('leaves out what vanishes between LIST and GET', async () => {
    const world = await withCheckpoints(3);
    const { store } = world;
    const list = store.list.bind(store);
    store.list = async (prefix, options) => {
      const listed = await list(prefix, options);
      await world.trim(2, 3);
      return listed;
    };
    expect(await slotsOf(world.log)).toEqual(['4 CHECKPOINT', '1 CLAIM']);
  });

  it('is verified without any secret', async () => {
    const world = await withCheckpoints(2);
    const { repository, domain, publicKey } = world.access;
    const keyless = new LineageLog(world.store, { repository, domain, publicKey }, world.lineage);
    expect(await slotsOf(keyless)).toHaveLength(3);
    const { record } = await keyless.head();
    expect(record?.header.totals).toMatchObject({ files: 1, bytes: 1234 });
    expect(() => keyless.body(record!)).toThrow(expect.objectContaining({ code: 'E_KEY_MISSING' }));
  });

  it('gives the bytes of an inlined pack, or names what is missing', async () => {
    const world = await withCheckpoints(2);
    const [entry] = (await world.recordAt(3)).header.packList.entries;
    expect(await world.log.inlinedPack(entry!)).toEqual(new Uint8Array(100).fill(7));
    await expect(world.log.inlinedPack({ ...entry!, salt8: '00000000' })).rejects.toMatchObject({ code: 'E_DAMAGED' });
    await world.trim(2);
    await expect(world.log.inlinedPack(entry!)).rejects.toMatchObject({
      code: 'E_DAMAGED',
      message: expect.stringContaining(packEntryName(entry!)),
    });
  });
});

describe('the chain of records', () => {
  it('goes over what was trimmed', async () => {
    const world = await withCheckpoints(6);
    await world.trim(3, 4, 5);
    expect(await slotsOf(world.log)).toEqual(['7 CHECKPOINT', '6 CHECKPOINT', '2 CHECKPOINT', '1 CLAIM']);
    const six = await world.recordAt(6);
    expect((await world.log.before(six))?.header.slot).toBe(2);
    expect(await world.log.before(await world.recordAt(1))).toBeUndefined();
  });

  it('does not count a genuine record whose successor names another at its slot', async () => {
    const world = await withCheckpoints(3);
    const { header } = await world.recordAt(3);
    const late = { ...header, id: toRecordId(world.random.bytes(32)), packList: emptyPackList };
    const { bytes } = encodeRecord(late, world.log.body(await world.recordAt(3)), [], {
      ...world.access,
      signingSeed: world.access.keys.signingSeed,
    });
    await world.trim(3);
    await world.put(3, bytes);
    expect(await slotsOf(world.log)).toEqual(['4 CHECKPOINT', '3 replaced', '2 CHECKPOINT', '1 CLAIM']);
    expect((await world.log.before(await world.recordAt(4)))?.header.slot).toBe(2);
  });

  it('does not count a record that its successor did not know of', async () => {
    const world = await World.make();
    const writer = await world.claim(new MemoryHolder('a'));
    await world.put(2, utf8Bytes('junk'));
    await expect(checkpoint(writer)).rejects.toThrow();
    await checkpoint(writer);
    await world.trim(2);
    const { header } = await world.recordAt(3);
    const { bytes } = encodeRecord(
      { ...header, slot: toSlot(2), packList: emptyPackList },
      world.log.body(await world.recordAt(3)),
      [],
      { ...world.access, signingSeed: world.access.keys.signingSeed },
    );
    await world.put(2, bytes);
    expect(await slotsOf(world.log)).toEqual(['3 CHECKPOINT', '2 replaced', '1 CLAIM']);
  });

  it('does not count a claim, nor anything under it, in a gap inside an epoch', async () => {
    const world = await withCheckpoints(6);
    await world.trim(3, 4, 5);
    const one = await world.recordAt(1);
    const keys = { ...world.access, signingSeed: world.access.keys.signingSeed };
    const claim = encodeRecord(
      {
        ...one.header,
        slot: toSlot(3),
        epoch: toEpoch(3),
        previousClaim: toSlot(1),
        holder: toHolderId('z'),
        predecessor: { slot: toSlot(2), digest: (await world.recordAt(2)).digest },
      },
      undefined,
      [],
      keys,
    );
    await world.put(3, claim.bytes);
    const { header } = await world.recordAt(2);
    const commit = encodeRecord(
      {
        ...header,
        slot: toSlot(4),
        epoch: toEpoch(3),
        packList: emptyPackList,
        predecessor: { slot: toSlot(3), digest: claim.record.digest },
      },
      world.log.body(await world.recordAt(2)),
      [],
      keys,
    );
    await world.put(4, commit.bytes);
    expect(await slotsOf(world.log)).toEqual([
      '7 CHECKPOINT',
      '6 CHECKPOINT',
      '4 replaced',
      '3 replaced',
      '2 CHECKPOINT',
      '1 CLAIM',
    ]);
    expect((await world.log.before(await world.recordAt(6)))?.header.slot).toBe(2);
  });
});

describe('opening a log', () => {
  it('tells a lineage that never was from one whose keys are gone', async () => {
    const world = await withCheckpoints(1);
    const { access } = await openLog(world.store, world.repository, world.lineage);
    expect(access).toEqual(world.access);
    for (const name of ['team/other/0', 'nowhere']) {
      const never = openLog(world.store, world.repository, toLineageName(name));
      await expect(never).rejects.toMatchObject({ code: 'E_NOT_FOUND' });
    }
    await world.store.memory.delete(domainKeyKey('team/app', 1));
    const keyless = openLog(world.store, world.repository, world.lineage);
    await expect(keyless).rejects.toMatchObject({ code: 'E_EXPECTED_MISSING' });
  });

  it('lists lineages with one LIST each', async () => {
    const world = await World.make();
    const long = toLineageName(`${'n'.repeat(200)}/0`);
    for (const name of ['team/app/0', 'team/app/1', 'team/app', 'b', long]) {
      const prefix = lineagePrefix(toLineageName(name));
      for (const key of ['log/fffffffffe', 'pk/2-1-0-00000000', 'pk/3-1-0-00000000']) {
        await world.store.memory.create(prefix + key, utf8Bytes('x'));
      }
    }
    await world.store.memory.create('v1/l/zz', utf8Bytes('junk'));
    world.store.requests.list = 0;
    const found: string[] = [];
    for await (const { lineage, prefix } of listLineages(world.store)) found.push(lineage ?? prefix);
    expect(found.sort()).toEqual(['b', 'team/app', 'team/app/0', 'team/app/1', lineagePrefix(long)]);
    expect(world.store.requests.list).toBe(7);
  });
});
