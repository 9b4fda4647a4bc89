import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openS3Writer } from '../../../../src/edge/store/s3/open-s3-store.ts';
import type { S3Settings } from '../../../../src/edge/store/s3/s3-settings.ts';
import { type S3Server, serversForSuite, startServer } from '../../../servers/s3-server.ts';
import { freshBucket, openS3, type OpenedS3, partsFor, settingsFor } from '../../../servers/s3-store-of.ts';

const content = new Uint8Array(randomBytes(9 * 1024 * 1024));

describe.each(serversForSuite('minio', 'versitygw', 'seaweedfs'))('unfinished uploads on %s', (name) => {
  let server: S3Server;
  let settings: S3Settings;
  let opened: OpenedS3;

  beforeAll(async () => {
    server = await startServer(name);
  });
  afterAll(() => server[Symbol.asyncDispose]());
  beforeEach(async () => {
    settings = { ...settingsFor(server, freshBucket(), 'patience-seconds=5'), prefix: 'some/prefix/' };
    opened = await openS3(server, settings);
  });
  afterEach(() => opened.close());

  /** Sends part of an upload, and goes without a word. */
  async function leave(...keys: readonly string[]): Promise<void> {
    const gone = await openS3Writer(settings, partsFor(server));
    for (const key of keys) {
      const upload = await gone.beginUpload(key);
      await upload.append(content);
      await begun(key);
    }
    await gone[Symbol.asyncDispose]();
  }

  /** Appending does not wait for the server. */
  async function begun(key: string): Promise<void> {
    while (!(await keysOf('v1/')).includes(key)) await sleep(10);
  }

  /** Each once: a server that is slow to grow may have been asked twice to begin. */
  const keysOf = async (prefix: string): Promise<string[]> =>
    [...new Set((await opened.writer.unfinished(prefix)).map(({ key }) => key))].sort();

  test('of a process that is gone are told by their keys, below a prefix, and can be ended', async () => {
    expect(await keysOf('v1/pk/')).toEqual([]);
    await leave('v1/pk/a', 'v1/pk/b', 'v1/other/c');
    expect(await keysOf('v1/pk/')).toEqual(['v1/pk/a', 'v1/pk/b']);
    for (const upload of await opened.writer.unfinished('v1/pk/')) await upload.end();
    expect(await keysOf('v1/pk/')).toEqual([]);
    expect(await keysOf('v1/other/')).toEqual(['v1/other/c']);
    expect(await opened.writer.list('v1/')).toEqual([]);
  });

  test('that somebody else has ended fail for good, and can be ended again', async () => {
    const upload = await opened.writer.beginUpload('v1/pk/a');
    await upload.append(content);
    await begun('v1/pk/a');
    for (const found of await opened.writer.unfinished('v1/pk/')) await found.end();
    const ended = upload.append(content).then(() => upload.commit());
    // SeaweedFS may answer 500 to a part that was on its way, as often as it is asked.
    await expect(ended).rejects.toMatchObject({ code: expect.stringMatching(/^E_STORE_(IO|UNREACHABLE)$/) });
    await upload.abort();
    expect(await keysOf('v1/pk/')).toEqual([]);
    expect(await opened.writer.stat('v1/pk/a')).toBeUndefined();
  });
});
