/** Machines whose clocks are wrong by more than servers take. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type S3Server, serversForSuite, startServer } from '../servers/s3-server.ts';
import { freshBucket } from '../servers/s3-store-of.ts';
import { snapshotTree } from '../support/tree-snapshot.ts';
import { type JsonObject, Workplace } from './run-cli.ts';

/** For NODE_OPTIONS: a process whose clock is so many minutes ahead. */
function ahead(minutes: number): string {
  const shift = `const real = Date, ms = ${minutes * 60_000};
    globalThis.Date = class Date extends real {
      constructor(...given) { given.length === 0 ? super(real.now() + ms) : super(...given); }
      static now() { return real.now() + ms; }
    };`;
  return `--import data:text/javascript,${encodeURIComponent(shift)}`;
}

describe.each(serversForSuite('minio', 'versitygw', 'seaweedfs'))('on %s, with a clock that is', (name) => {
  let server: S3Server;
  beforeAll(async () => {
    server = await startServer(name);
  });
  afterAll(() => server[Symbol.asyncDispose]());

  test.each([
    ['20 minutes ahead', 20],
    ['20 minutes behind', -20],
  ])('%s, requests are signed with the time of the store, and doctor says what is wrong', async (_how, minutes) => {
    using work = new Workplace({
      HOLDFAST_STORE: `s3://${freshBucket()}/some/prefix?endpoint=${server.endpoint}`,
      AWS_ACCESS_KEY_ID: server.accessKeyId,
      AWS_SECRET_ACCESS_KEY: server.secretAccessKey,
      AWS_EC2_METADATA_DISABLED: 'true',
      NODE_OPTIONS: ahead(minutes),
    });
    const source = work.at('data');
    mkdirSync(source);
    writeFileSync(`${source}/large`, randomBytes(12_000_000));
    writeFileSync(`${source}/small`, 'a few bytes');
    // The bucket is missing: that a HEAD is refused must not count as a bucket that is there.
    await work.json(['init']);
    await work.json(['checkpoint', source]);
    const target = work.at('back');
    await work.json(['restore', '--target', target]);
    expect(snapshotTree(target)).toEqual(snapshotTree(source));
    const { findings } = await work.json(['doctor'], { code: 31 });
    expect((findings as JsonObject[]).find(({ check }) => check === 'clock')).toEqual({
      check: 'clock',
      state: 'failed',
      seen: expect.stringMatching(minutes > 0 ? /1\d\d\d s behind/ : /1\d\d\d s ahead of/),
      remedy: expect.stringContaining('NTP'),
    });
    expect((findings as JsonObject[]).filter(({ state }) => state === 'failed')).toHaveLength(1);
  });
});
