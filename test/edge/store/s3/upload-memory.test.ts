import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { S3Connection } from '../../../../src/edge/store/s3/s3-connection.ts';
import { S3Writer } from '../../../../src/edge/store/s3/s3-store.ts';
import { UploadMemory } from '../../../../src/edge/store/s3/upload-memory.ts';
import { type S3Server, serversForSuite, startServer } from '../../../servers/s3-server.ts';
import { freshBucket, openS3, partsFor, settingsFor } from '../../../servers/s3-store-of.ts';
import { FaultProxy } from '../../../support/fault-proxy.ts';

const MiB = 1024 * 1024;

describe('the memory of uploads', () => {
  test('has room until its budget is held, and again when something is given back', async () => {
    const memory = new UploadMemory(20);
    const first = memory.take(8);
    memory.take(8);
    expect([memory.hasRoom(4), memory.hasRoom(5)]).toEqual([true, false]);
    const freed = memory.freed();
    memory.give(first);
    await freed;
    expect([memory.heldBytes, memory.hasRoom(8)]).toEqual([8, true]);
  });

  test('gives out again what came back, as long as anything is held', () => {
    const memory = new UploadMemory(20);
    const [first, second] = [memory.take(8), memory.take(8)];
    memory.give(first);
    expect(memory.take(8)).toBe(first);
    memory.give(first);
    expect(memory.take(4)).not.toBe(first);
    memory.give(second);
    expect([memory.take(8), memory.take(8)]).toEqual([first, second]);
  });

  test('lets go of all of it when nothing is held', () => {
    const memory = new UploadMemory(20);
    const first = memory.take(8);
    memory.give(first);
    expect(memory.take(8)).not.toBe(first);
  });
});

describe.each(serversForSuite('minio', 'versitygw'))('uploads to %s', (name) => {
  let server: S3Server;

  beforeAll(async () => {
    server = await startServer(name);
  });
  afterAll(() => server[Symbol.asyncDispose]());

  test('share one budget on a slow network, and each of them goes on', async () => {
    await using proxy = await FaultProxy.start(server.port);
    const settings = { ...settingsFor(proxy, freshBucket()), uploadBytesMax: 20 * MiB };
    await (await openS3(server, { ...settings, endpoint: server.endpoint })).close();
    proxy.rule = ({ url }) => (url.includes('partNumber') ? { kind: 'delay', ms: 100 } : undefined);
    const connection = new S3Connection(settings, { ...partsFor(server), partBytes: 5 * MiB });
    await using writer = new S3Writer(connection);
    const content = new Uint8Array(randomBytes(MiB));
    let heldMax = 0;
    const upload = async (key: string, mebibytes: number): Promise<void> => {
      const begun = await writer.beginUpload(key);
      for (let i = 0; i < mebibytes; i++) {
        await begun.append(content);
        heldMax = Math.max(heldMax, connection.uploadMemory.heldBytes);
      }
      expect(await begun.commit()).toBe('created');
    };
    await Promise.all([upload('v1/a', 26), upload('v1/b', 31), upload('v1/c', 3)]);
    // Two are being filled and two are under way.
    expect(heldMax).toBe(20 * MiB);
    expect(connection.uploadMemory.heldBytes).toBe(0);
    const sizes = (await writer.list('v1/')).map(({ key, bytes }) => [key, bytes / MiB]);
    expect(sizes).toEqual([
      ['v1/a', 26],
      ['v1/b', 31],
      ['v1/c', 3],
    ]);
  });

  test('more at once than the budget has parts fill one each, and give it back when they are given up', async () => {
    const settings = { ...settingsFor(server), uploadBytesMax: 5 * MiB };
    await (await openS3(server, settings)).close();
    const connection = new S3Connection(settings, { ...partsFor(server), partBytes: 5 * MiB });
    await using writer = new S3Writer(connection);
    const content = new Uint8Array(6 * MiB);
    const uploads = await Promise.all(['a', 'b', 'c'].map((key) => writer.beginUpload(`v1/${key}`)));
    // Each waits for its own first part, and for none of another.
    await Promise.all(uploads.map((upload) => upload.append(content)));
    expect(connection.uploadMemory.heldBytes).toBe(15 * MiB);
    await Promise.all(uploads.map((upload) => upload.abort()));
    expect(connection.uploadMemory.heldBytes).toBe(0);
    expect(await writer.list('v1/')).toEqual([]);
  });
});
