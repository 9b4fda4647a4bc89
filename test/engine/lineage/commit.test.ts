import { emptyPackList } from '../../../src/engine/format/pack-table.ts';
import { describe, expect, it } from 'vitest';
import { setRoot } from '../../../src/engine/format/keys.ts';
import { toPackEntry } from '../../../src/engine/format/pack-entry.ts';
import { encodeRecord, inlinedBytesMax, type LogRecord } from '../../../src/engine/format/record.ts';
import { type CommitRequest, type LineageWriter, Rebased } from '../../../src/engine/lineage/lineage-writer.ts';
import { utf8Bytes } from '../../../src/engine/model/bytes.ts';
import { toContentId, toEpoch, toSlot, toVolumeName } from '../../../src/engine/model/ids.ts';
import { checkpoint, Killed, MemoryHolder, packFor, requestFor, volumeIn, World } from './fixture.ts';

async function writing(
  holder = new MemoryHolder('a'),
): Promise<{ world: World; writer: LineageWriter; holder: MemoryHolder }> {
  const world = await World.make();
  return { world, writer: await world.claim(holder), holder };
}

async function rebasedBy(work: Promise<unknown>): Promise<Rebased> {
  const error = await work.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(Rebased);
  return error as Rebased;
}

describe('a commit', () => {
  it('makes the checkpoint exist, and is the base of the next', async () => {
    const { world, writer } = await writing();
    const request = requestFor(writer, { labels: { zone: 'b', reason: 'test' }, newBytes: 77 });
    const committed = await writer.commit(request);
    const record = await world.recordAt(2);
    expect(record.header).toMatchObject({
      kind: 'CHECKPOINT',
      slot: 2,
      epoch: 1,
      predecessor: { slot: 1, digest: (await world.recordAt(1)).digest },
      labels: [
        { name: 'reason', value: 'test' },
        { name: 'zone', value: 'b' },
      ],
      totals: { files: 1, entries: 2, bytes: 1234, newBytes: 77, storedBytes: 100 },
      timeMs: world.clock.ms,
    });
    expect(committed).toMatchObject({ slot: 2, id: record.header.id, digest: record.digest, bytes: record.bytes });
    expect(committed.root).toEqual(
      setRoot(world.access.keys, [{ name: toVolumeName('data'), id: request.volumes[0]!.root.id }]),
    );
    expect(world.log.body(record)).toEqual({ setRoot: committed.root, volumes: request.volumes });
    expect(record.inlined).toEqual([
      { entry: toPackEntry(request.inlined[0]!.summary, true), bytes: request.inlined[0]!.bytes },
    ]);
    expect(writer).toMatchObject({ slot: 3, newest: { slot: 2, digest: record.digest } });
    expect(writer.base).toEqual({
      record,
      volumes: request.volumes,
      checkpoint: { record, volumes: request.volumes },
      good: { record, volumes: request.volumes, packs: record.header.packList.entries },
      packs: record.header.packList.entries,
      table: undefined,
    });
  });

  it('costs one create and neither LIST nor GET while nothing goes wrong', async () => {
    const { world, writer } = await writing();
    world.store.requests = { get: 0, list: 0, create: 0 };
    for (let i = 0; i < 20; i++) await checkpoint(writer, { content: `${i}` });
    expect(world.store.requests).toEqual({ get: 0, list: 0, create: 20 });
    expect(world.clock.waits).toEqual([]);
  });

  it('is a small object: one inlined pack of 100 bytes makes a record below 2,000 bytes', async () => {
    const { world, writer } = await writing();
    await checkpoint(writer);
    expect((await world.bytesAt(2))!.length).toBeLessThan(2000);
  });

  it('chains every record to the one before', async () => {
    const { world, writer } = await writing();
    for (let i = 0; i < 5; i++) await checkpoint(writer);
    await writer.seal();
    for (let slot = 2; slot <= 7; slot++) {
      const { digest } = await world.recordAt(slot - 1);
      expect((await world.recordAt(slot)).header.predecessor).toEqual({ slot: slot - 1, digest });
    }
  });

  it('of several volumes sorts them', async () => {
    const { world, writer } = await writing();
    const pack = packFor(writer);
    const volumes = [volumeIn(pack, 'logs'), volumeIn(pack, 'data'), volumeIn(pack, 'a-cache')];
    await checkpoint(writer, { volumes });
    const { volumes: stored } = world.log.body(await world.recordAt(2));
    expect(stored.map(({ name }) => String(name))).toEqual(['a-cache', 'data', 'logs']);
  });
});

describe('the writer refuses to commit unless list(n) ⊆ list(base) ∪ packs(n) and every reachable placement is listed', () => {
  async function refused(change: (request: CommitRequest, writer: LineageWriter) => CommitRequest): Promise<string> {
    const { world, writer } = await writing();
    await checkpoint(writer);
    await checkpoint(writer);
    const request = change(requestFor(writer), writer);
    const before = world.store.requests.create;
    const error = await writer.commit(request).then(
      () => new Error('committed'),
      (e: Error) => e,
    );
    expect(world.store.requests.create).toBe(before);
    expect(error).toMatchObject({ code: 'E_INTERNAL' });
    return error.message;
  }

  it('a pack of another slot', async () => {
    const summary = { ...packFor({ slot: toSlot(3), epoch: 1 }, 5) };
    expect(await refused((request) => ({ ...request, uploaded: [summary] }))).toMatch('made for slot 4');
  });

  it('a pack of another epoch', async () => {
    const summary = packFor({ slot: toSlot(4), epoch: 2 }, 5);
    expect(await refused((request) => ({ ...request, uploaded: [summary] }))).toMatch('of epoch 1');
  });

  it('a kept pack that the base does not list', async () => {
    const stranger = { ...toPackEntry(packFor({ slot: toSlot(2), epoch: 1 }, 9), true) };
    expect(await refused((request) => ({ ...request, keep: [stranger] }))).toMatch('listed by the base');
  });

  it('a kept pack that is another than the base lists', async () => {
    expect(
      await refused((request, { base }) => ({
        ...request,
        keep: base!.packs.map((pack) => ({ ...pack, salt8: '00000000' })),
      })),
    ).toMatch('listed by the base');
  });

  it('a pack twice', async () => {
    expect(await refused((request) => ({ ...request, inlined: [...request.inlined, ...request.inlined] }))).toMatch(
      'once',
    );
  });

  it('a root in a pack that is not listed', async () => {
    expect(await refused((request) => ({ ...request, volumes: [volumeIn({ slot: 4, pack: 3 })] }))).toMatch(
      'root of a volume',
    );
    expect(await refused((request) => ({ ...request, keep: [], volumes: [volumeIn({ slot: 2, pack: 0 })] }))).toMatch(
      'root of a volume',
    );
  });

  it("an xattr of a volume's root in a pack that is not listed", async () => {
    const place = { origin: 0, slot: 1, pack: 0, segment: 0, offset: 0 };
    const xattr = { kind: 'chunk' as const, bytes: 999, id: toContentId(new Uint8Array(32)), place };
    expect(
      await refused((request) => {
        const [volume] = request.volumes;
        const rootMeta = { ...volume!.rootMeta, xattrs: [{ name: utf8Bytes('user.x'), value: xattr }] };
        return { ...request, volumes: [{ ...volume!, rootMeta }] };
      }),
    ).toMatch('root of a volume');
  });

  it('content that the capture put where nothing is listed', async () => {
    const referenced = [{ origin: 0, slot: 2, pack: 0 }];
    expect(await refused((request) => ({ ...request, keep: [], referenced }))).toMatch('what the capture wrote');
    const foreign = [{ origin: 1, slot: 4, pack: 0 }];
    expect(await refused((request) => ({ ...request, referenced: foreign }))).toMatch('what the capture wrote');
  });

  it('a PARTIAL that leaves packs out', async () => {
    expect(await refused((request) => ({ ...request, kind: 'PARTIAL', keep: [] }))).toMatch('cumulatively');
  });

  it('inlined bytes that are not those summed up, or too many', async () => {
    const cut = (request: CommitRequest) => ({
      ...request,
      inlined: request.inlined.map((pack) => ({ ...pack, bytes: pack.bytes.subarray(1) })),
    });
    expect(await refused(cut)).toMatch('summed up');
    expect(
      await refused((request, writer) => {
        const summary = packFor(writer, 1, inlinedBytesMax + 1);
        return { ...request, inlined: [{ summary, bytes: new Uint8Array(summary.bytes) }] };
      }),
    ).toMatch('small packs');
  });

  it('and takes what keeps the rule: the whole base by default, or a part of it', async () => {
    const { writer } = await writing();
    await checkpoint(writer);
    await checkpoint(writer);
    expect(writer.base?.packs.map(({ slot }) => slot)).toEqual([2, 3]);
    await checkpoint(writer, { keep: writer.base!.packs.slice(1), volumes: [volumeIn({ slot: 3, pack: 0 })] });
    expect(writer.base?.packs.map(({ slot }) => slot)).toEqual([3, 4]);
    await checkpoint(writer, { inlined: [], referenced: [], volumes: [volumeIn({ slot: 3, pack: 0 })] });
    expect(writer.base?.packs.map(({ slot }) => slot)).toEqual([3, 4]);
  });
});

describe('no CHECKPOINT is written before the restore is complete', () => {
  it('an assertion of the writer, which lets PARTIAL and SEAL through', async () => {
    const world = await World.make();
    const writer = await world.claim(new MemoryHolder('a'), { restorePending: true });
    await expect(checkpoint(writer)).rejects.toMatchObject({ code: 'E_INTERNAL' });
    expect(world.store.requests.create).toBe(3);
    await checkpoint(writer, { kind: 'PARTIAL' });
    writer.restoreCompleted();
    await checkpoint(writer);
    expect(await world.story()).toEqual(['1 CLAIM of a', '2 PARTIAL of a', '3 CHECKPOINT of a']);
  });
});

describe('a commit whose fate is unclear', () => {
  it('counts when only the reply was lost', async () => {
    const { world, writer } = await writing();
    world.store.script = ['lostReply'];
    const committed = await checkpoint(writer);
    expect(committed.slot).toBe(2);
    expect((await world.recordAt(2)).header.id).toEqual(committed.id);
    expect(world.clock.waits).toEqual([]);
  });

  it('is sent again, the same bytes, when it never arrived', async () => {
    const { world, writer } = await writing();
    world.store.script = ['lostRequest', 'lostRequest', 'lostReply'];
    const committed = await checkpoint(writer);
    expect((await world.recordAt(2)).header.id).toEqual(committed.id);
    expect(world.clock.waits).toEqual([100, 200]);
    await checkpoint(writer);
    expect(await world.story()).toEqual(['1 CLAIM of a', '2 CHECKPOINT of a', '3 CHECKPOINT of a']);
  });

  it('counts when a delayed request and its repetition both arrive', async () => {
    const { world, writer } = await writing();
    world.store.script = ['delayed', 'ok'];
    const committed = await checkpoint(writer);
    expect(await world.store.land()).toBe('exists');
    expect((await world.recordAt(2)).header.id).toEqual(committed.id);
  });

  it('that stays unclear fails, and the next commit settles it: adopted when it had landed', async () => {
    const { world, writer } = await writing();
    world.store.script = ['delayed', ...Array(6).fill('lostRequest')];
    await expect(checkpoint(writer, { content: 'first' })).rejects.toMatchObject({ code: 'E_STORE_UNREACHABLE' });
    expect(writer.slot).toBe(2);
    await world.store.land();
    const rebased = await rebasedBy(checkpoint(writer, { content: 'second' }));
    expect(rebased.adopted?.header.slot).toBe(2);
    await checkpoint(writer, { content: 'second' });
    expect(await world.story()).toEqual(['1 CLAIM of a', '2 CHECKPOINT of a', '3 CHECKPOINT of a']);
  });

  it('that stays unclear fails, and the next commit takes the slot when it had not landed', async () => {
    const { world, writer } = await writing();
    world.store.script = ['delayed', ...Array(6).fill('lostRequest')];
    await expect(checkpoint(writer)).rejects.toMatchObject({ code: 'E_STORE_UNREACHABLE' });
    const committed = await checkpoint(writer);
    expect(await world.store.land()).toBe('exists');
    expect((await world.recordAt(2)).header.id).toEqual(committed.id);
  });

  it('in a full store fails at once, and goes on when there is space', async () => {
    const { world, writer } = await writing();
    await checkpoint(writer);
    world.store.script = ['full'];
    await expect(checkpoint(writer)).rejects.toMatchObject({ code: 'E_STORE_FULL' });
    world.store.script = ['readOnly'];
    await expect(checkpoint(writer)).rejects.toMatchObject({ code: 'E_STORE_READ_ONLY' });
    expect(world.clock.waits).toEqual([]);
    expect(await checkpoint(writer)).toMatchObject({ slot: 3 });
  });

  it('ends with its signal', async () => {
    const { world, writer } = await writing();
    const controller = new AbortController();
    controller.abort();
    await expect(checkpoint(writer, { signal: controller.signal })).rejects.toMatchObject({ code: 'E_ABORTED' });
    expect(await checkpoint(writer)).toMatchObject({ slot: 2 });
    expect(await world.story()).toHaveLength(2);
  });
});

describe('a valid record of my own epoch with another id', () => {
  it('left in flight by a killed process of this holder is adopted as the base, and the slot after it is next', async () => {
    const { world, writer, holder } = await writing();
    await checkpoint(writer, { content: 'one' });
    world.store.script = ['killed'];
    await expect(checkpoint(writer, { content: 'two' })).rejects.toThrow(Killed);

    const successor = await world.claim(holder);
    expect(successor).toMatchObject({ epoch: 1, slot: 3 });
    await world.store.land();
    const own = requestFor(successor, { content: 'three' });
    const rebased = await rebasedBy(successor.commit(own));
    expect(rebased).toMatchObject({ slot: 4, adopted: { header: { slot: 3, kind: 'CHECKPOINT' } } });
    expect(successor).toMatchObject({ slot: 4, newest: { slot: 3 } });
    expect(successor.base?.volumes).toEqual([volumeIn({ slot: 3, pack: 0 }, 'data', 'two')]);
    // What was made for slot 3 is of no use for slot 4.
    await expect(successor.commit(own)).rejects.toMatchObject({ code: 'E_INTERNAL' });
    await checkpoint(successor, { content: 'three' });
    expect(successor.base?.packs.map(({ slot }) => slot)).toEqual([2, 3, 4]);
    expect(await world.story()).toHaveLength(4);
  });

  it('of a PARTIAL goes on from what it holds', async () => {
    const { world, writer, holder } = await writing();
    await checkpoint(writer, { content: 'whole' });
    world.store.script = ['killed'];
    await expect(checkpoint(writer, { kind: 'PARTIAL', content: 'part' })).rejects.toThrow(Killed);
    const successor = await world.claim(holder);
    await world.store.land();
    await rebasedBy(checkpoint(successor));
    expect(successor.base).toMatchObject({
      record: { header: { slot: 3, kind: 'PARTIAL' } },
      checkpoint: { record: { header: { slot: 2 } } },
    });
    expect(successor.base?.packs.map(({ slot }) => slot)).toEqual([2, 3]);
  });

  it('of a SEAL leaves the base as it is', async () => {
    const { world, writer, holder } = await writing();
    await checkpoint(writer);
    world.store.script = ['killed'];
    await expect(writer.seal()).rejects.toThrow(Killed);
    const successor = await world.claim(holder);
    await world.store.land();
    const rebased = await rebasedBy(checkpoint(successor));
    expect(rebased.adopted?.header.kind).toBe('SEAL');
    expect(successor).toMatchObject({ slot: 4, newest: { slot: 3 }, base: { record: { header: { slot: 2 } } } });
    await checkpoint(successor);
    expect(await world.story()).toHaveLength(4);
  });

  it('that does not follow what this writer knows is refused: nobody but a forger makes it', async () => {
    const { world, writer } = await writing();
    await checkpoint(writer);
    const { header } = await world.recordAt(2);
    const forged = encodeRecord(
      {
        ...header,
        slot: toSlot(3),
        predecessor: { slot: toSlot(1), digest: new Uint8Array(32) },
        packList: emptyPackList,
      },
      world.log.body(await world.recordAt(2)),
      [],
      { ...world.access, signingSeed: world.access.keys.signingSeed },
    );
    await world.put(3, forged.bytes);
    await expect(checkpoint(writer)).rejects.toMatchObject({ code: 'E_DAMAGED' });
  });
});

describe('a foreign record at the slot', () => {
  it('fences for good: nothing of the old epoch becomes visible, however often it tries', async () => {
    const { world, writer } = await writing();
    await checkpoint(writer);
    const successor = await world.claim(new MemoryHolder('b'), { take: true });
    await checkpoint(successor);
    const before = await world.story();
    const requests = world.store.requests.create;
    await expect(checkpoint(writer)).rejects.toMatchObject({
      code: 'E_FENCED',
      details: { slot: 3, kind: 'CLAIM', holder: 'b', holderName: 'pod of b' },
    });
    await expect(checkpoint(writer)).rejects.toMatchObject({ code: 'E_FENCED' });
    await expect(writer.seal()).rejects.toMatchObject({ code: 'E_FENCED' });
    expect(world.store.requests.create).toBe(requests + 1);
    expect(await world.story()).toEqual(before);
  });

  it('fences a zombie that wakes after a takeover, a commit and a SEAL of its successor', async () => {
    const { world, writer } = await writing();
    await checkpoint(writer);
    const successor = await world.claim(new MemoryHolder('b'), { take: true });
    await checkpoint(successor);
    await successor.seal();
    const third = await world.claim(new MemoryHolder('c'));
    await checkpoint(third);
    await expect(checkpoint(writer)).rejects.toMatchObject({ code: 'E_FENCED' });
    await expect(checkpoint(successor)).rejects.toMatchObject({ code: 'E_FENCED' });
    expect((await world.story()).at(-1)).toBe('7 CHECKPOINT of c');
  });

  it('fences also when the request of the zombie was under way: it finds the slot taken', async () => {
    const { world, writer } = await writing();
    await checkpoint(writer);
    world.store.script = ['killed'];
    await expect(checkpoint(writer)).rejects.toThrow(Killed);
    await checkpoint(await world.claim(new MemoryHolder('b'), { take: true }));
    expect(await world.store.land()).toBe('exists');
    expect(await world.story()).toEqual(['1 CLAIM of a', '2 CHECKPOINT of a', '3 CLAIM of b', '4 CHECKPOINT of b']);
  });

  it('and a slot that was taken and is empty again fences too, when somebody is far ahead', async () => {
    const { world, writer, holder } = await writing();
    await checkpoint(writer);
    // Another process of the same holder went on, and collection trimmed what it wrote first.
    const other = await world.claim(holder);
    for (let i = 0; i < 3; i++) await checkpoint(other);
    const { store } = world;
    const get = store.get.bind(store);
    store.get = async (key, options) => {
      store.get = get;
      await world.trim(3);
      return await get(key, options);
    };
    await expect(checkpoint(writer)).rejects.toMatchObject({ code: 'E_FENCED' });
  });
});

describe('junk at the slot', () => {
  it('is passed over: packs are made anew for the next slot, and nobody is fenced', async () => {
    const { world, writer } = await writing();
    await checkpoint(writer);
    await world.put(3, utf8Bytes('junk'));
    await world.put(4, (await world.bytesAt(2))!);
    await world.put(5, new Uint8Array(3_000_000));
    for (const slot of [4, 5, 6]) {
      const rebased = await rebasedBy(checkpoint(writer));
      expect(rebased).toMatchObject({ adopted: undefined, slot });
    }
    expect(await checkpoint(writer)).toMatchObject({ slot: 6 });
    expect((await world.recordAt(6)).header.predecessor?.slot).toBe(2);
    expect(await world.story()).toEqual(['1 CLAIM of a', '2 CHECKPOINT of a', '6 CHECKPOINT of a']);
  });
});

describe('PARTIAL', () => {
  it('anchors a long capture: a restart resumes from it, and it ends with the next CHECKPOINT', async () => {
    const { world, writer, holder } = await writing();
    const kind = 'PARTIAL' as const;
    await checkpoint(writer, { kind, content: 'p1' });
    await checkpoint(writer, { kind, content: 'p2' });
    const resumed = await world.claim(holder);
    expect(resumed.base).toMatchObject({ record: { header: { slot: 3, kind } }, checkpoint: undefined });
    expect(resumed.base?.packs.map(({ slot }) => slot)).toEqual([2, 3]);
    expect(resumed.base?.volumes).toEqual([volumeIn({ slot: 3, pack: 0 }, 'data', 'p2')]);
    await checkpoint(resumed, { content: 'whole' });
    expect(resumed.base).toMatchObject({
      record: { header: { slot: 4 } },
      checkpoint: { record: { header: { slot: 4 } } },
    });
    expect((await world.recordAt(4)).header.packList.entries.map(({ slot }) => slot)).toEqual([2, 3, 4]);
  });

  it('above a CHECKPOINT keeps both as base, in memory and from the log', async () => {
    const { world, writer, holder } = await writing();
    await checkpoint(writer, { content: 'whole' });
    await checkpoint(writer, { kind: 'PARTIAL', content: 'part' });
    const again = await world.claim(holder);
    expect(again.base).toEqual(writer.base);
    expect(again.base).toMatchObject({
      record: { header: { slot: 3 } },
      checkpoint: { record: { header: { slot: 2 } } },
    });
  });
});

describe('SEAL', () => {
  it('is written once, carries nothing, and is reopened by the next commit', async () => {
    const { world, writer } = await writing();
    await checkpoint(writer);
    expect(writer.sealed).toBe(false);
    const sealed = await writer.seal();
    expect(writer.sealed).toBe(true);
    expect(await writer.seal()).toEqual(sealed);
    const record: LogRecord = await world.recordAt(3);
    expect(record.header).toMatchObject({ kind: 'SEAL', epoch: 1, packList: emptyPackList, consistency: undefined });
    expect(record.sealedBody).toHaveLength(0);
    await checkpoint(writer);
    expect((await writer.seal()).slot).toBe(5);
  });

  it('of an epoch that committed nothing is allowed', async () => {
    const { world, writer } = await writing();
    expect(await writer.seal({ labels: { unsaved: '7', consistency: 'fuzzy' } })).toMatchObject({ slot: 2 });
    expect((await world.recordAt(2)).header.labels).toEqual([
      { name: 'consistency', value: 'fuzzy' },
      { name: 'unsaved', value: '7' },
    ]);
    expect(await world.claim(new MemoryHolder('b'))).toMatchObject({ epoch: toEpoch(3) });
  });

  it('is known to the next process of the holder', async () => {
    const { world, writer, holder } = await writing();
    const sealed = await writer.seal();
    const next = await world.claim(holder);
    expect(await next.seal()).toEqual(sealed);
  });

  it('goes past junk, and takes an own SEAL that a killed process left', async () => {
    const { world, writer, holder } = await writing();
    await world.put(2, utf8Bytes('junk'));
    expect(await writer.seal()).toMatchObject({ slot: 3 });
    await checkpoint(writer);
    world.store.script = ['killed'];
    await expect(writer.seal()).rejects.toThrow(Killed);
    const next = await world.claim(holder);
    await world.store.land();
    expect(await next.seal()).toMatchObject({ slot: 5, digest: (await world.recordAt(5)).digest });
    expect(await world.story()).toHaveLength(4);
  });

  it('meeting a checkpoint of its own epoch hands it to the capture first', async () => {
    const { world, writer, holder } = await writing();
    world.store.script = ['killed'];
    await expect(checkpoint(writer)).rejects.toThrow(Killed);
    const next = await world.claim(holder);
    await world.store.land();
    expect((await rebasedBy(next.seal())).adopted?.header.kind).toBe('CHECKPOINT');
    expect(await next.seal()).toMatchObject({ slot: 3 });
  });
});

describe('two commits at once', () => {
  it('are a defect of the caller', async () => {
    const { writer } = await writing();
    const first = checkpoint(writer);
    await expect(checkpoint(writer)).rejects.toMatchObject({ code: 'E_INTERNAL' });
    expect(await first).toMatchObject({ slot: 2 });
  });
});
