/** Answers of a real server of which a bit changes on its way back. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type S3Server, serversForSuite, startServer } from '../servers/s3-server.ts';
import { freshBucket } from '../servers/s3-store-of.ts';
import { FaultProxy, type ProxiedRequest } from '../support/fault-proxy.ts';
import { snapshotTree } from '../support/tree-snapshot.ts';
import { Workplace } from './run-cli.ts';

/** Of lists nothing can be proven: over plain HTTP they are as good as the network is. */
const isContent = ({ method, url }: ProxiedRequest): boolean => method === 'GET' && /\/some\/prefix\/v1\//.test(url);

describe.each(serversForSuite('minio'))('a bit that changes on the way from %s', { timeout: 300_000 }, (name) => {
  let server: S3Server;
  let proxy: FaultProxy;
  let work: Workplace;
  let source: string;

  beforeAll(async () => {
    server = await startServer(name);
    proxy = await FaultProxy.start(server.port);
    work = new Workplace({
      HOLDFAST_STORE: `s3://${freshBucket()}/some/prefix?endpoint=${proxy.endpoint}`,
      AWS_ACCESS_KEY_ID: server.accessKeyId,
      AWS_SECRET_ACCESS_KEY: server.secretAccessKey,
      AWS_EC2_METADATA_DISABLED: 'true',
    });
    source = work.at('data');
    mkdirSync(`${source}/many`, { recursive: true });
    for (let i = 0; i < 400; i++) writeFileSync(`${source}/many/${i}`, randomBytes(3000 + i));
    // Of several parts, so that the lane that finds the damage does so in the middle of a file.
    writeFileSync(`${source}/large`, randomBytes(12_000_000));
    await work.json(['init']);
    await work.json(['checkpoint', source]);
    // Inside of its record.
    writeFileSync(`${source}/many/7`, 'changed');
    await work.json(['checkpoint', source]);
  });
  afterAll(async () => {
    work[Symbol.dispose]();
    await proxy[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });

  /** Runs a command once for each answer that it reads, or each so many, with one bit of that changed; how many it reads. */
  async function eachTime(run: (time: number) => Promise<void>, step = 1): Promise<number> {
    for (let time = 1; ; time += step) {
      let seen = 0;
      proxy.rule = (request) => {
        if (!isContent(request)) return undefined;
        seen += 1;
        return seen === time ? { kind: 'corrupt-answer' } : undefined;
      };
      await run(time);
      if (seen < time) return seen;
    }
  }

  test('is seen, and what was read is read again: a restore is whole, of the newest checkpoint', async () => {
    const times = await eachTime(async (time) => {
      const target = work.at(`back-${time}`);
      const ran = await work.run(['restore', '--target', target, '--output', 'json']);
      expect(ran, `answer ${time}`).toMatchObject({ code: 0, stderr: '' });
      expect(snapshotTree(target)).toEqual(snapshotTree(source));
    });
    expect(times).toBeGreaterThan(6);
  });

  test('makes no checkpoint another than it is, and does not hide the newest one', async () => {
    const before = await work.json(['show']);
    const times = await eachTime(async (time) => {
      writeFileSync(`${source}/many/9`, `changed ${time}`);
      const ran = await work.run(['checkpoint', source, '--output', 'json']);
      expect(ran, `answer ${time}`).toMatchObject({ code: 0, stderr: '' });
    });
    expect(times).toBeGreaterThan(2);
    proxy.rule = () => undefined;
    const after = await work.json(['show']);
    expect(after['slot'] - before['slot']).toBeGreaterThanOrEqual(times);
    await work.json(['verify', '--read-data']);
    const target = work.at('back');
    await work.json(['restore', '--target', target]);
    expect(snapshotTree(target)).toEqual(snapshotTree(source));
  });

  test('is no damage to verify', async () => {
    const times = await eachTime(async (time) => {
      const ran = await work.run(['verify', '--read-data', '--output', 'json']);
      expect(ran, `answer ${time}`).toMatchObject({ code: 0, stderr: '' });
    }, 4);
    expect(times).toBeGreaterThan(6);
  });
});
