/** A network that is gone for a minute in the middle of a first checkpoint. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Workplace } from '../cli/run-cli.ts';
import { serversForSuite } from '../servers/s3-server.ts';
import { snapshotTree } from '../support/tree-snapshot.ts';
import { S3Place } from './s3-place.ts';

const mebibyte = 1024 * 1024;
const cutMs = 60_000;

describe.each(serversForSuite('minio', 'versitygw').slice(0, 1))('on %s', (name) => {
  test('a first checkpoint waits for a network that is cut for 60 s, says so, goes on, and sends little again', async () => {
    await using place = await S3Place.start(name, '');
    using work = new Workplace(place.env);
    const source = work.at('data');
    mkdirSync(source);
    for (let i = 0; i < 12; i++) writeFileSync(join(source, `large-${i}`), randomBytes(8 * mebibyte));
    await work.json(['init']);

    const parts = (): number => place.proxy.count('PUT', /partNumber/);
    const before = place.proxy.receivedBytes;
    const cutting = (async () => {
      while (parts() < 4) await sleep(5);
      await place.proxy.cutFor(cutMs);
      return parts();
    })();
    const ran = await work.run(['checkpoint', source, '--output', 'json']);
    expect(parts(), 'parts after the cut').toBeGreaterThan(await cutting);
    expect(ran.code, ran.stderr).toBe(0);
    expect(ran.stderr).toMatch(/^holdfast: waiting for the store \(\w+ for \d+ s\) while /m);
    const { storedBytes } = JSON.parse(ran.stdout) as { storedBytes: number };
    const sentAgain = place.proxy.receivedBytes - before - storedBytes;
    process.stdout.write(`${sentAgain} of ${storedBytes} bytes were sent again after a cut of ${cutMs} ms\n`);
    expect(storedBytes).toBeGreaterThan(96 * mebibyte);
    expect(await place.leftovers()).toBe(0);
    const target = work.at('back');
    await work.json(['restore', '--target', target]);
    expect(snapshotTree(target)).toEqual(snapshotTree(source));
    expect(sentAgain).toBeLessThan(32 * mebibyte);
  });
});
