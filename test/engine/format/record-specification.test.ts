/**
 * A second reader of repository object, domain keys and records, written from docs/format.md and the table of labels in
 * docs/format/packs.md. It shares no code with the engine, so that the page, and not the engine, says what stands in a store.
 */
import { createDecipheriv, createHash, createPublicKey, hkdfSync, verify } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { MemoryHolder, checkpoint, packFor, requestFor, volumeIn, World } from '../lineage/fixture.ts';

class Reader {
  readonly bytes: Buffer;
  at: number;
  constructor(bytes: Buffer, at = 0) {
    this.bytes = bytes;
    this.at = at;
  }
  raw(length: number): Buffer {
    const part = this.bytes.subarray(this.at, this.at + length);
    expect(part.length).toBe(length);
    this.at += length;
    return part;
  }
  u8(): number {
    return this.raw(1)[0]!;
  }
  varint(): number {
    let [value, scale] = [0, 1];
    for (;;) {
      const byte = this.u8();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
  }
  signed(): number {
    const value = this.varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }
  text(): string {
    return this.raw(this.varint()).toString('utf8');
  }
  times<T>(read: () => T): T[] {
    return Array.from({ length: this.varint() }, read);
  }
}

const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();
const hkdf = (key: Uint8Array, salt: Uint8Array, info: string): Buffer =>
  Buffer.from(hkdfSync('sha256', key, salt, info, 32));

function isSigned(publicKey: Uint8Array, message: Buffer, signature: Buffer): boolean {
  const der = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), publicKey]);
  return verify(null, message, createPublicKey({ key: der, format: 'der', type: 'spki' }), signature);
}

function envelope(bytes: Buffer, type: number): { sealed: Buffer; payload: Buffer; seal: Buffer; tail: Buffer } {
  expect(bytes.toString('latin1', 0, 4)).toBe('HFST');
  expect([...bytes.subarray(4, 8)]).toEqual([type, 1, 0, 0]);
  const end = 12 + bytes.readUInt32LE(8);
  return {
    sealed: bytes.subarray(0, end),
    payload: bytes.subarray(12, end),
    seal: bytes.subarray(end, end + 64),
    tail: bytes.subarray(end + 64),
  };
}

function droppedIn(r: Reader) {
  let before = { origin: 0, slot: 0 };
  return r.times(() => {
    const step = r.varint();
    before = { origin: before.origin + step, slot: r.varint() + (step === 0 ? before.slot : 0) };
    return { ...before, n: r.varint() };
  });
}

function packsIn(r: Reader) {
  let before: { origin: number; slot: number; epoch: number } | undefined;
  return r.times(() => {
    const flags = r.u8();
    const step = r.varint();
    const slot = r.varint() + (before !== undefined && step === 0 ? before.slot : 0);
    const epoch: number = flags & 1 ? r.varint() : before!.epoch;
    before = { origin: (before?.origin ?? 0) + step, slot, epoch };
    const pack = { ...before, n: r.varint(), salt8: r.raw(4).toString('hex') };
    const sizes = { bytes: r.varint(), footerBytes: r.varint(), plainBytes: r.varint() };
    const liveBytes = flags & 4 ? r.varint() : sizes.plainBytes;
    return { ...pack, ...sizes, liveBytes, inlined: (flags & 2) !== 0 };
  });
}

function inClear(payload: Buffer) {
  const r = new Reader(payload);
  const link = () => (r.u8() === 0 ? undefined : { slot: r.varint(), digest: r.raw(32).toString('hex') });
  const fields = {
    repository: r.raw(16).toString('hex'),
    domain: r.text(),
    lineage: r.text(),
    slot: r.varint(),
    kind: r.u8(),
    id: r.raw(32),
    epoch: r.varint(),
    generation: r.varint(),
    holder: r.text(),
    holderName: r.text(),
    previousClaim: r.varint(),
    base: link(),
    predecessor: link(),
    timeMs: r.signed(),
    flags: r.u8(),
    consistency: r.u8(),
    labels: r.times(() => [r.text(), r.text()]),
    totals: [r.varint(), r.varint(), r.varint(), r.varint(), r.varint()],
    origins: r.times(() => r.text()),
    packs: packsIn(r),
    table:
      r.u8() === 0
        ? undefined
        : {
            slot: r.varint(),
            epoch: r.varint(),
            bytes: r.varint(),
            digest: r.raw(32).toString('hex'),
            dropped: droppedIn(r),
          },
  };
  const contextEnd = r.at;
  const bodyBytes = r.varint();
  const bodyDigest = bodyBytes > 0 ? r.raw(32) : Buffer.alloc(0);
  const inlinedDigests = r.times(() => r.raw(32));
  expect(r.at).toBe(payload.length);
  return { ...fields, contextEnd, bodyBytes, bodyDigest, inlinedDigests };
}

function body(plain: Buffer) {
  const whole = new Reader(plain);
  const r = new Reader(whole.raw(whole.varint()));
  expect(plain.subarray(whole.at).every((byte) => byte === 0)).toBe(true);
  const setRoot = r.raw(32).toString('hex');
  const volumes = r.times(() => {
    const name = r.text();
    const id = r.raw(32).toString('hex');
    const level = r.varint();
    const nodeBytes = r.varint();
    const place = nodeBytes > 0 ? [r.varint(), r.varint(), r.varint(), r.varint(), r.varint()] : undefined;
    const sums = [r.varint(), r.varint(), r.varint()];
    const value = r.raw(r.varint());
    r.raw(r.varint());
    expect(r.varint()).toBe(0);
    const fuzzy = { count: r.varint(), names: r.times(() => r.text()) };
    const skipped = r.times(() => ({ reason: r.u8(), count: r.varint(), names: r.times(() => r.text()) }));
    const volatile = { count: r.varint(), names: r.times(() => r.text()) };
    return { name, id, level, nodeBytes, place, sums, type: value[0], fuzzy, skipped, volatile, incomplete: r.u8() };
  });
  expect(r.varint()).toBe(0);
  expect(r.at).toBe(r.bytes.length);
  return { setRoot, volumes };
}

const prefix = `v1/l/${sha256(Buffer.from('team/my_app/0')).toString('hex').slice(0, 2)}/team_.my__app_.0/`;

async function story(encryption: 'aes-256-gcm' | 'none') {
  const world = await World.make({ encryption, lineage: 'team/my_app/0' });
  const writer = await world.claim(new MemoryHolder('a'), { holderName: 'host-ä' });
  await checkpoint(writer);
  const big = packFor(writer, 1, 70_000_000);
  const request = requestFor(writer, {
    kind: 'CHECKPOINT',
    consistency: 'fuzzy',
    suspect: true,
    labels: { b: '2', a: 'ä' },
  });
  const volume = { ...volumeIn(big, 'logs'), fuzzyCount: 9, fuzzyNames: ['x/ü'], incomplete: true };
  const skipped = [{ reason: 'unreadable' as const, count: 3, names: ['secret'] }];
  const volatile = { volatileCount: 2, volatileNames: ['app.db-shm', 'b.db-shm'] };
  await writer.commit({
    ...request,
    volumes: [{ ...volume, skipped, ...volatile }, ...request.volumes],
    uploaded: [big],
  });
  await writer.seal();
  const read = async (key: string): Promise<Buffer> =>
    Buffer.from((await world.store.memory.get(key, { bytesMax: 1e9 })) ?? []);
  return { world, request, read };
}

for (const encryption of ['aes-256-gcm', 'none'] as const) {
  describe(`a second reader, encryption ${encryption}`, () => {
    it('reads a pack table, and the list of a record that differs from it', async () => {
      const world = await World.make({ encryption, lineage: 'team/my_app/0' });
      const writer = await world.claim(new MemoryHolder('a'));
      const packs = Array.from({ length: 400 }, (_, i) => packFor(writer, 10 + i, 5000 + i));
      await checkpoint(writer, { uploaded: packs });
      await checkpoint(writer);
      const keep = writer.base!.packs.slice(2).map((pack, i) => (i === 0 ? { ...pack, liveBytes: 7 } : pack));
      await checkpoint(writer, { keep });
      const read = async (key: string): Promise<Buffer> =>
        Buffer.from((await world.store.memory.get(key, { bytesMax: 1e9 })) ?? []);

      const { packs: here, table } = inClear(envelope(await read(`${prefix}log/fffffffffb`), 3).payload);
      const name = `3-1-4294967295-${table!.digest.slice(0, 8)}`;
      expect(table).toMatchObject({ slot: 3, epoch: 1, dropped: [{ n: 0 }, { n: 10 }] });
      const stored = await read(`${prefix}pk/${name}`);
      expect([stored.length, sha256(stored).toString('hex')]).toEqual([table!.bytes, table!.digest]);
      const object = envelope(stored, 4);
      expect(isSigned(world.access.publicKey, object.sealed, object.seal)).toBe(true);
      expect(object.tail).toHaveLength(0);
      const r = new Reader(object.payload);
      expect([r.raw(16).toString('hex'), r.text(), r.text()]).toEqual([
        world.access.repository,
        'team/my_app',
        'team/my_app/0',
      ]);
      expect([r.varint(), r.varint(), r.varint()]).toEqual([3, 1, 0]);
      const listed = packsIn(r);
      expect(r.at).toBe(object.payload.length);
      expect(listed.map(({ n }) => n)).toEqual([0, ...packs.map(({ pack }) => pack)]);
      expect(here.map(({ slot, n, liveBytes }) => [slot, n, liveBytes])).toEqual([
        [2, 11, 7],
        [3, 0, 300],
        [4, 0, 300],
      ]);
    });

    it('reads the repository object and the domain key', async () => {
      const { world, read } = await story(encryption);
      const repo = envelope(await read('v1/repo'), 1);
      const r = new Reader(repo.payload);
      expect(r.raw(16).toString('hex')).toBe(world.repository.id);
      expect(r.varint()).toBe(1);
      expect(r.u8()).toBe(encryption === 'none' ? 2 : 1);
      expect(r.signed()).toBe(world.clock.ms);
      expect(r.text() === '').toBe(encryption === 'none');
      const repositoryKey = r.raw(r.varint());
      // Made in a store that was seen to be create-only.
      expect(r.u8()).toBe(1);
      expect(r.at).toBe(repo.payload.length);

      const key = envelope(await read('v1/key/team_.my__app/1'), 2);
      const sealOf = ({ sealed, seal }: typeof repo): boolean =>
        encryption === 'none'
          ? createHash('sha512').update(sealed).digest().equals(seal)
          : isSigned(repositoryKey, sealed, seal);
      expect([sealOf(repo), sealOf(key), repo.tail.length, key.tail.length]).toEqual([true, true, 0, 0]);
      const k = new Reader(key.payload);
      expect([k.raw(16).toString('hex'), k.text(), k.varint()]).toEqual([world.repository.id, 'team/my_app', 1]);
      k.signed();
      expect(k.raw(32)).toEqual(Buffer.from(world.access.publicKey));
      const [secret, dataKey] = [k.raw(k.varint()), k.raw(k.varint())];
      expect(k.at).toBe(key.payload.length);
      expect([secret.length, dataKey.length]).toEqual(encryption === 'none' ? [32, 0] : [89, 89]);
    });

    it('reads a CLAIM and a SEAL', async () => {
      const { read } = await story(encryption);
      const claim = envelope(await read(`${prefix}log/fffffffffe`), 3);
      expect(inClear(claim.payload)).toMatchObject({
        domain: 'team/my_app',
        lineage: 'team/my_app/0',
        slot: 1,
        kind: 1,
        epoch: 1,
        holder: 'a',
        holderName: 'host-ä',
        previousClaim: 0,
        base: undefined,
        predecessor: undefined,
        bodyBytes: 0,
        packs: [],
      });
      expect(claim.tail).toHaveLength(0);
      expect(inClear(envelope(await read(`${prefix}log/fffffffffb`), 3).payload)).toMatchObject({
        slot: 4,
        kind: 4,
        epoch: 1,
      });
    });

    it('reads a CHECKPOINT: its seal, its chain, its packs, its body', async () => {
      const { world, request, read } = await story(encryption);
      const before = envelope(await read(`${prefix}log/fffffffffd`), 3);
      const record = envelope(await read(`${prefix}log/fffffffffc`), 3);
      expect(isSigned(world.access.publicKey, record.sealed, record.seal)).toBe(true);
      const header = inClear(record.payload);
      const inlined = request.inlined[0]!;
      expect(header).toMatchObject({
        slot: 3,
        kind: 2,
        epoch: 1,
        generation: 1,
        predecessor: { slot: 2, digest: sha256(Buffer.concat([before.sealed, before.seal])).toString('hex') },
        timeMs: world.clock.ms,
        flags: 1,
        consistency: 3,
        labels: [
          ['a', 'ä'],
          ['b', '2'],
        ],
        totals: [2, 4, 2468, 1234, 70_000_100],
        origins: [],
      });
      const names = header.packs.map(({ slot, epoch, n, salt8 }) => `${slot}-${epoch}-${n}-${salt8}`);
      expect(names.slice(1)).toEqual([
        inlined.summary.name,
        packFor({ slot: request.inlined[0]!.summary.slot as never, epoch: 1 }, 1, 70_000_000).name,
      ]);
      expect(header.packs.map(({ slot, bytes, footerBytes, inlined: own }) => [slot, bytes, footerBytes, own])).toEqual(
        [
          [2, 100, 20, true],
          [3, 100, 20, true],
          [3, 70_000_000, 20, false],
        ],
      );

      const sealedBody = record.tail.subarray(0, header.bodyBytes);
      expect(sha256(sealedBody)).toEqual(header.bodyDigest);
      const pack = record.tail.subarray(header.bodyBytes);
      expect(pack).toEqual(Buffer.from(inlined.bytes));
      expect(header.inlinedDigests).toEqual([sha256(pack)]);

      const { key } = world.access.dataKey;
      let plain = sealedBody;
      if (key !== undefined) {
        const decipher = createDecipheriv(
          'aes-256-gcm',
          hkdf(key, header.id, 'holdfast/1/record-body'),
          Buffer.alloc(12),
        );
        decipher.setAAD(Buffer.concat([record.sealed.subarray(0, 8), record.payload.subarray(0, header.contextEnd)]));
        decipher.setAuthTag(sealedBody.subarray(-16));
        plain = Buffer.concat([decipher.update(sealedBody.subarray(0, -16)), decipher.final()]);
        expect(plain.length).toBe(1024);
      }
      const { setRoot, volumes } = body(plain);
      expect(setRoot).toMatch(/^[0-9a-f]{64}$/);
      expect(volumes).toMatchObject([
        { name: 'data', nodeBytes: 300, place: [0, 3, 0, 0, 0], sums: [1, 2, 1234], type: 2, incomplete: 0 },
        {
          name: 'logs',
          place: [0, 3, 1, 0, 0],
          fuzzy: { count: 9, names: ['x/ü'] },
          skipped: [{ reason: 3, count: 3, names: ['secret'] }],
          volatile: { count: 2, names: ['app.db-shm', 'b.db-shm'] },
          incomplete: 1,
        },
      ]);
    });
  });
}
