/** First checkpoints that meet an outage half-way: they wait, say so, go on when it is over, and send little again. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Workplace } from '../cli/run-cli.ts';
import { setBucketQuota } from '../servers/bucket-quota.ts';
import { serversForSuite } from '../servers/s3-server.ts';
import type { ServerName } from '../servers/server-programs.ts';
import { snapshotTree } from '../support/tree-snapshot.ts';
import { S3Place } from './s3-place.ts';

const mebibyte = 1024 * 1024;
const sentAgainBytesMax = 32 * mebibyte;
const cutMs = 60_000;

interface Outage {
  /** Runs from half-way on; ends when the outage is over. `told` resolves when the process has said that it waits. */
  readonly happen: (place: S3Place, told: Promise<void>) => Promise<void>;
  /** What the process says that it waits for. */
  readonly reason: RegExp;
}

const cut: Outage = {
  happen: ({ proxy }) => proxy.cutFor(cutMs),
  reason: /ECONNRESET|ECONNREFUSED/,
};
const killed: Outage = {
  happen: ({ server }) => server.restart(4000),
  reason: /ECONNRESET|ECONNREFUSED|socket/,
};
const full: Outage = {
  async happen({ server, bucket }, told) {
    // Less than a part: MinIO counts what a bucket holds only once in a while, but holds each body against the bound.
    await setBucketQuota(server, bucket, mebibyte);
    await told;
    // As long as somebody takes to notice.
    await sleep(10_000);
    await setBucketQuota(server, bucket, 0);
  },
  reason: /XMinioAdminBucketQuotaExceeded/,
};

const cases: readonly (readonly [string, ServerName, Outage])[] = [
  ['a network that is cut for 60 s', 'minio', cut],
  ['a server that is killed and comes back', 'minio', killed],
  ['a server that is killed and comes back', 'versitygw', killed],
  ['a bucket whose quota is used up', 'minio', full],
];
const servers = serversForSuite('minio', 'versitygw');

// Side by side: they wait most of the time.
describe.concurrent('a first checkpoint', () => {
  test.each(cases.filter(([, name]) => servers.includes(name)))(
    'waits for %s, on %s, says so, goes on, and sends little again',
    async (what, name, { happen, reason }) => {
      await using place = await S3Place.start(name, '');
      using work = new Workplace(place.env);
      const source = work.at('data');
      mkdirSync(source);
      for (let i = 0; i < 12; i++) writeFileSync(join(source, `large-${i}`), randomBytes(8 * mebibyte));
      await work.json(['init']);

      const parts = (): number => place.proxy.count('PUT', /partNumber/);
      const before = place.proxy.receivedBytes;
      const told = Promise.withResolvers<void>();
      const happening = (async () => {
        while (parts() < 4) await sleep(5);
        await happen(place, told.promise);
        return parts();
      })();
      const ran = await work.run(['checkpoint', source, '--output', 'json'], {
        onStart: (child) =>
          child.stderr?.on('data', (text: Buffer) => {
            if (text.includes('waiting for the store')) told.resolve();
          }),
      });
      expect(parts(), 'parts after the outage').toBeGreaterThan(await happening);
      expect(ran.code, ran.stderr).toBe(0);
      const [, said = ''] = /^holdfast: waiting for the store \((.*) for \d+ s\) while /m.exec(ran.stderr) ?? [];
      expect(said, ran.stderr).toMatch(reason);
      const { storedBytes } = JSON.parse(ran.stdout) as { storedBytes: number };
      const sentAgain = place.proxy.receivedBytes - before - storedBytes;
      process.stdout.write(`${sentAgain} of ${storedBytes} bytes were sent again after ${what} (${name})\n`);
      expect(storedBytes).toBeGreaterThan(96 * mebibyte);
      expect(await place.leftovers()).toBe(0);
      const target = work.at('back');
      await work.json(['restore', '--target', target]);
      expect(snapshotTree(target)).toEqual(snapshotTree(source));
      expect(sentAgain).toBeLessThan(sentAgainBytesMax);
    },
  );
});
