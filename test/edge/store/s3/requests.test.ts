/**
 * What each operation asks of a server, counted on the wire: requests.golden.json is the list, so that a change in the number of
 * requests is a visible diff. `npm test -- test/edge/store/s3/requests.test.ts -u` writes it anew.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openS3Writer } from '../../../../src/edge/store/s3/open-s3-store.ts';
import { Workplace } from '../../../cli/run-cli.ts';
import { serversForSuite, type S3Server, startServer } from '../../../servers/s3-server.ts';
import { freshBucket, partsFor, settingsFor } from '../../../servers/s3-store-of.ts';
import { ManualClock, Pod } from '../../../support/capture-fixture.ts';
import { FaultProxy, type ProxiedRequest } from '../../../support/fault-proxy.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../../support/memory-file-tree.ts';

/** Ranges of a large restore depend on how the lanes come along. */
const largeRangesMax = 18;
const prefix = 'some/prefix';

type Counts = Record<string, number | string>;

/** How often each kind of request was made: the method, or what it asks for, and the part of the repository. */
function countsOf(requests: readonly ProxiedRequest[]): Counts {
  const counts: Record<string, number> = {};
  for (const { method, url } of requests) {
    const kind = kindOf(method, new URL(url, 'http://server'));
    counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return Object.fromEntries(Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function kindOf(method: string, { pathname, searchParams }: URL): string {
  const listed = searchParams.get('prefix');
  const key = listed ?? pathname.slice(1).split('/').slice(1).join('/');
  const part = partOf(key.startsWith(`${prefix}/`) ? key.slice(prefix.length + 1) : '');
  if (method === 'GET' && searchParams.has('uploads')) return `LIST UPLOADS ${part}`;
  if (method === 'GET' && searchParams.has('list-type')) return `LIST ${part}`;
  if (method === 'POST' && searchParams.has('uploads')) return `BEGIN ${part}`;
  if (method === 'PUT' && searchParams.has('partNumber')) return `PART ${part}`;
  if (method === 'POST' && searchParams.has('uploadId')) return `COMPLETE ${part}`;
  return `${method} ${part}`;
}

/** `v1/l/<hh>/<lineage>/log/…` is `log`, `v1/key/…` is `key`. */
function partOf(key: string): string {
  const [, kind, , , below] = key.split('/');
  return kind === undefined ? 'bucket' : kind === 'l' ? (below ?? 'lineages') : kind;
}

describe.each(serversForSuite('minio', 'versitygw'))('requests to %s', (name) => {
  let server: S3Server;
  let proxy: FaultProxy;

  beforeAll(async () => {
    server = await startServer(name);
    proxy = await FaultProxy.start(server.port);
  });
  afterAll(async () => {
    await proxy[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });

  async function requestsOf(work: () => Promise<unknown>): Promise<Counts> {
    const before = proxy.requests.length;
    await work();
    return countsOf(proxy.requests.slice(before));
  }

  async function byCommands(): Promise<Record<string, Counts>> {
    using place = new Workplace({
      HOLDFAST_STORE: `s3://${freshBucket()}/${prefix}?endpoint=${proxy.endpoint}`,
      AWS_ACCESS_KEY_ID: server.accessKeyId,
      AWS_SECRET_ACCESS_KEY: server.secretAccessKey,
      AWS_EC2_METADATA_DISABLED: 'true',
    });
    const source = place.at('data');
    mkdirSync(source);
    const command = (...args: string[]) => requestsOf(() => place.json(args));
    const found: Record<string, Counts> = {};
    found['init'] = await command('init');
    writeFileSync(join(source, 'a'), 'small');
    found['checkpoint, the first, small'] = await command('checkpoint', source);
    writeFileSync(join(source, 'b'), 'small too');
    found['checkpoint, small'] = await command('checkpoint', source);
    found['checkpoint, nothing changed'] = await command('checkpoint', source);
    writeFileSync(join(source, 'c'), randomBytes(1_000_000));
    found['checkpoint, usual'] = await command('checkpoint', source);
    found['checkpoint --seal'] = await command('checkpoint', source, '--seal');
    found['restore, small'] = await command('restore', '--target', place.at('small'));
    writeFileSync(join(source, 'large'), randomBytes(20_000_000));
    for (let i = 0; i < 40; i++) writeFileSync(join(source, `medium-${i}`), randomBytes(60_000));
    found['checkpoint, large'] = await command('checkpoint', source, '--lanes', '0');
    const { 'GET pk': ranges, ...others } = await command('restore', '--target', place.at('large'));
    expect(ranges).toBeLessThanOrEqual(largeRangesMax);
    found['restore, large'] = { 'GET pk': `at most ${largeRangesMax}`, ...others };
    found['ls'] = await command('ls');
    found['verify'] = await command('verify');
    return found;
  }

  async function byRunningWriter(): Promise<Record<string, Counts>> {
    const settings = { ...settingsFor(proxy, freshBucket()), prefix: `${prefix}/` };
    await using store = await openS3Writer(settings, partsFor(server), { create: true });
    const clock = new ManualClock();
    const disk = new MemoryFileSystem({ clock });
    for (let i = 0; i < 40; i++) disk.writeFile(`file-${i}`, randomBytes(60_000));
    const pod = await Pod.start({ store, clock, files: new MemoryFileTree(disk) });
    const found: Record<string, Counts> = {};
    found['writer, claim'] = await requestsOf(() => pod.writer());
    const capture = () => {
      // What was written in the moment of a checkpoint is read again by the next.
      clock.ms += 60_000;
      return pod.capture();
    };
    found['writer, the first checkpoint'] = await requestsOf(capture);
    for (const time of ['', ' again']) {
      disk.writeFile('small', `content${time}`);
      found[`writer, small checkpoint${time}`] = await requestsOf(capture);
      disk.writeFile(`file${time}`, randomBytes(1_000_000));
      found[`writer, usual checkpoint${time}`] = await requestsOf(capture);
    }
    // Lists of chunks are made by lanes and not kept: that of the file is read for what it holds already.
    disk.writeFile('file', randomBytes(1_000_000));
    found['writer, a large file for the second time'] = await requestsOf(capture);
    found['writer, seal'] = await requestsOf(async () => (await pod.writer()).seal());
    return found;
  }

  test('are those of requests.golden.json', async () => {
    const found = { ...(await byCommands()), ...(await byRunningWriter()) };
    await expect(`${JSON.stringify(found, null, 2)}\n`).toMatchFileSnapshot('requests.golden.json');
    // What may never change without a decision: no LIST and no GET in the steady state.
    for (const time of ['', ' again']) {
      expect(found[`writer, small checkpoint${time}`]).toEqual({ 'PUT log': 1 });
      expect(found[`writer, usual checkpoint${time}`]).toEqual({ 'PUT log': 1, 'PUT pk': 1 });
    }
  });
});
