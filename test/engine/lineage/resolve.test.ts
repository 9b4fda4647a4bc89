import { describe, expect, it, vi } from 'vitest';
import { logKey } from '../../../src/engine/format/object-keys.ts';
import { parseSelector, resolveCheckpoint } from '../../../src/engine/lineage/resolve.ts';
import { type Anchor, parseAnchor, printAnchor } from '../../../src/engine/model/anchor.ts';
import { toHex, utf8Bytes } from '../../../src/engine/model/bytes.ts';
import { recordIdText, toSlot } from '../../../src/engine/model/ids.ts';
import { checkpoint, MemoryHolder, World } from './fixture.ts';

/** 1 CLAIM, 2 good, 3 good, 4 suspect, 5 PARTIAL, 6 SEAL; a minute passes before each. */
async function storied(): Promise<World> {
  const world = await World.make();
  const writer = await world.claim(new MemoryHolder('a'));
  const minute = (): void => {
    world.clock.ms += 60_000;
  };
  for (const more of [{}, {}, { suspect: true }, { kind: 'PARTIAL' as const }]) {
    minute();
    await checkpoint(writer, more);
  }
  await writer.seal();
  return world;
}

async function slotAt(world: World, at: string, expect?: Anchor): Promise<number> {
  return (await resolveCheckpoint(world.log, parseSelector(at), expect ? { expect } : {})).header.slot;
}

function rejected(code: string, message: string | RegExp) {
  return { code, message: expect.stringMatching(message) };
}

describe('which checkpoint is meant', () => {
  it('latest is the newest good one, and counts back over good ones', async () => {
    const world = await storied();
    expect(await slotAt(world, 'latest')).toBe(3);
    expect(await slotAt(world, 'latest~1')).toBe(2);
    await expect(slotAt(world, 'latest~2')).rejects.toMatchObject(rejected('E_NOT_FOUND', 'only 2'));
  });

  it('latest is looked for again when what was listed has been trimmed before it was read', async () => {
    const world = await World.make();
    const writer = await world.claim(new MemoryHolder('a'));
    await checkpoint(writer);
    const read = vi.spyOn(world.store, 'get').mockImplementationOnce(async () => {
      // Meanwhile: a newer checkpoint, and a collector.
      await checkpoint(writer);
      await world.store.memory.delete(logKey(world.log.lineage, toSlot(2)));
      return undefined;
    });
    expect(await slotAt(world, 'latest')).toBe(3);
    // A store that lists it all the same is not asked for ever.
    read.mockImplementation(async () => undefined);
    await expect(slotAt(world, 'latest')).rejects.toMatchObject(rejected('E_NOT_FOUND', 'nothing was ever stored'));
  });

  it('a slot or an id names any checkpoint, suspect ones included, and nothing else', async () => {
    const world = await storied();
    expect(await slotAt(world, '4')).toBe(4);
    expect(await slotAt(world, 'slot:2')).toBe(2);
    for (const [slot, kind] of [
      [1, 'CLAIM'],
      [5, 'PARTIAL'],
      [6, 'SEAL'],
    ] as const) {
      await expect(slotAt(world, `${slot}`)).rejects.toMatchObject(rejected('E_NOT_FOUND', kind));
      const id = recordIdText((await world.recordAt(slot)).header.id);
      await expect(slotAt(world, `id:${id}`)).rejects.toMatchObject(rejected('E_NOT_FOUND', kind));
    }
    const id = recordIdText((await world.recordAt(4)).header.id);
    expect(await slotAt(world, `id:${id.slice(0, 8)}`)).toBe(4);
    expect(await slotAt(world, `id:${id}`)).toBe(4);
    await expect(slotAt(world, '7')).rejects.toMatchObject(rejected('E_NOT_FOUND', 'no record 7'));
    await expect(slotAt(world, 'id:ffffffffffff')).rejects.toMatchObject(rejected('E_NOT_FOUND', 'no record with id'));
  });

  it('a time names the newest good one made by then', async () => {
    const world = await storied();
    // The clock of the tests begins on 2026-01-01 at midnight.
    expect(await slotAt(world, '2026-01-01T00:01:00Z')).toBe(2);
    expect(await slotAt(world, '2026-01-01 00:01')).toBe(2);
    expect(await slotAt(world, '2026-01-01T01:02+01:00')).toBe(3);
    expect(await slotAt(world, 'time:2026-01-01')).toBe(3);
    await expect(slotAt(world, '2025-12-31')).rejects.toMatchObject(rejected('E_NOT_FOUND', 'that old'));
  });

  it('void records are never found, and said to be damaged when they are named', async () => {
    const world = await storied();
    world.store.memory.damage(
      (await world.store.memory.list('v1/l/')).find(({ key }) => key.endsWith('fc'))!.key,
      utf8Bytes('x'),
    );
    expect(await slotAt(world, 'latest')).toBe(2);
    await expect(slotAt(world, '3')).rejects.toMatchObject(rejected('E_DAMAGED', 'not-a-record'));
    const late = (await world.bytesAt(4))!;
    world.store.memory.damage(
      (await world.store.memory.list('v1/l/')).find(({ key }) => key.endsWith('fc'))!.key,
      late,
    );
    await expect(slotAt(world, '3')).rejects.toMatchObject(rejected('E_DAMAGED', 'moved'));
  });
});

describe('three answers to "no data"', () => {
  it('an empty log in a healthy repository is a first boot', async () => {
    const world = await World.make();
    await expect(slotAt(world, 'latest')).rejects.toMatchObject(rejected('E_NOT_FOUND', 'nothing was ever stored'));
  });

  it('a log with claims but no good checkpoint is expected but missing', async () => {
    const world = await World.make();
    const writer = await world.claim(new MemoryHolder('a'));
    await expect(slotAt(world, 'latest')).rejects.toMatchObject({ code: 'E_EXPECTED_MISSING' });
    await checkpoint(writer, { kind: 'PARTIAL' });
    await checkpoint(writer, { suspect: true });
    await expect(slotAt(world, 'latest')).rejects.toMatchObject({ code: 'E_EXPECTED_MISSING' });
    await expect(slotAt(world, '2026-01-01')).rejects.toMatchObject({ code: 'E_EXPECTED_MISSING' });
  });

  it('a log of nothing but junk is expected but missing: it may be all that is left', async () => {
    const world = await World.make();
    await world.put(1, utf8Bytes('junk'));
    await expect(slotAt(world, 'latest')).rejects.toMatchObject({ code: 'E_EXPECTED_MISSING' });
  });
});

describe('an anchor outside the store', () => {
  async function anchorOf(world: World, slot: number): Promise<Anchor> {
    return { slot: toSlot(slot), digest: (await world.recordAt(slot)).digest };
  }

  it('that the store agrees with changes nothing', async () => {
    const world = await storied();
    for (const slot of [2, 4, 6]) expect(await slotAt(world, 'latest', await anchorOf(world, slot))).toBe(3);
  });

  it('finds a store that hides the newest records', async () => {
    const world = await storied();
    const anchor = await anchorOf(world, 6);
    await world.trim(6);
    await expect(slotAt(world, 'latest', anchor)).rejects.toMatchObject(
      rejected('E_EXPECTED_MISSING', 'newest shown is 5'),
    );
    await world.trim(1, 2, 3, 4, 5);
    await expect(slotAt(world, 'latest', anchor)).rejects.toMatchObject(rejected('E_EXPECTED_MISSING', 'none'));
    await expect(slotAt(world, 'latest')).rejects.toMatchObject({ code: 'E_NOT_FOUND' });
  });

  it('finds another record at the slot, a damaged one, and a hole', async () => {
    const world = await storied();
    const anchor = await anchorOf(world, 3);
    const other = { ...anchor, digest: new Uint8Array(32) };
    await expect(slotAt(world, 'latest', other)).rejects.toMatchObject(rejected('E_EXPECTED_MISSING', 'another than'));
    await world.trim(3);
    await expect(slotAt(world, 'latest', anchor)).rejects.toMatchObject(rejected('E_EXPECTED_MISSING', 'gone'));
    await world.put(3, utf8Bytes('junk'));
    await expect(slotAt(world, 'latest', anchor)).rejects.toMatchObject(rejected('E_EXPECTED_MISSING', 'verified'));
  });

  it('is written SLOT:DIGEST', async () => {
    const world = await storied();
    const anchor = await anchorOf(world, 3);
    expect(printAnchor(anchor)).toBe(`3:${toHex(anchor.digest)}`);
    expect(parseAnchor(printAnchor(anchor))).toEqual(anchor);
    for (const text of ['', '3', '3:', `0:${'0'.repeat(64)}`, `3:${'0'.repeat(63)}`, `3:${'G'.repeat(64)}`]) {
      expect(() => parseAnchor(text)).toThrow(expect.objectContaining({ code: 'E_USAGE' }));
    }
  });
});

describe('a selector', () => {
  it('is what people type', () => {
    expect(parseSelector('latest')).toEqual({ by: 'latest', back: 0 });
    expect(parseSelector('latest~12')).toEqual({ by: 'latest', back: 12 });
    expect(parseSelector('120000')).toEqual({ by: 'slot', slot: 120_000 });
    expect(parseSelector('id:120000')).toEqual({ by: 'id', prefix: '120000' });
    expect(parseSelector('deadbeef')).toEqual({ by: 'id', prefix: 'deadbeef' });
    for (const text of [
      '',
      'latest~',
      'newest',
      '0',
      'abc',
      'slot:x',
      'id:abc',
      '2026-13-01',
      '2026-02-29',
      '2026-01-01T25:00',
    ]) {
      expect(() => parseSelector(text)).toThrow(expect.objectContaining({ code: 'E_USAGE' }));
    }
  });

  it('reads times as Date does, and fills up what is left out to its end', () => {
    const times = [
      '1970-01-01T00:00:00.000Z',
      '2000-02-29T12:34:56.789Z',
      '2026-12-31T23:59:59.999+05:30',
      '1969-07-20T20:17:40.000Z',
      '2100-03-01T00:00:00.250-11:00',
    ];
    for (const text of times) expect(parseSelector(text)).toEqual({ by: 'time', timeMs: Date.parse(text) });
    for (const [text, end] of [
      ['2024-02-29', '2024-02-29T23:59:59.999Z'],
      ['2024-02-29T10:00', '2024-02-29T10:00:59.999Z'],
      ['2024-02-29 10:00:05Z', '2024-02-29T10:00:05.999Z'],
      ['2024-02-29T10:00:05.5', '2024-02-29T10:00:05.500Z'],
    ] as const) {
      expect(parseSelector(text)).toEqual({ by: 'time', timeMs: Date.parse(end) });
    }
    for (let day = 0; day < 200_000; day += 97) {
      const date = new Date(day * 86_400_000).toISOString();
      expect(parseSelector(date)).toEqual({ by: 'time', timeMs: Date.parse(date) });
    }
  });
});
