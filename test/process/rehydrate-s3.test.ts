/** The init container on real S3 servers: from a first boot over a handoff to a store that is gone. */
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { Workplace } from '../cli/run-cli.ts';
import { serversForSuite, startServer } from '../servers/s3-server.ts';
import { freshBucket } from '../servers/s3-store-of.ts';
import { Pod } from './pod.ts';

const places: Workplace[] = [];
afterEach(() => {
  for (const place of places.splice(0)) place[Symbol.dispose]();
});

describe.each(serversForSuite('minio', 'versitygw', 'seaweedfs'))('rehydrate on %s', (name) => {
  test('hands a lineage from pod to pod, and tells a store that is gone from one that is empty', async () => {
    await using server = await startServer(name);
    const bucket = freshBucket();
    const address = (port: number): string => `s3://${bucket}/some/prefix?endpoint=http://127.0.0.1:${port}`;
    const place = new Workplace({
      AWS_ACCESS_KEY_ID: server.accessKeyId,
      AWS_SECRET_ACCESS_KEY: server.secretAccessKey,
      AWS_EC2_METADATA_DISABLED: 'true',
      HOLDFAST_STORE: address(server.port),
    });
    places.push(place);
    await place.json(['init']);

    const first = new Pod(place, 'pod-1');
    expect(await first.rehydrate()).toMatchObject({ code: 0, receipt: { outcome: 'empty', epoch: 1 } });
    for (let i = 0; i < 60; i++) first.write(`file-${i}`, `content ${i} `.repeat(2000));
    await first.checkpoint();
    first.write('ledger', 'the last');
    const { slot, root } = await first.checkpoint(['--seal']);

    const second = new Pod(place, 'pod-2');
    const ran = await second.rehydrate(['--handoff-wait', '30s', '--restore-first', 'ledger']);
    expect(ran).toMatchObject({
      code: 0,
      receipt: { outcome: 'restored', verified: true, from: { slot, root }, handoff: null },
    });
    expect(second.read('ledger')).toBe('the last');
    expect(second.read('file-59')).toBe('content 59 '.repeat(2000));

    // Two at once for one lineage: both restore, one holds it in the end.
    const both = [new Pod(place, 'pod-3'), new Pod(place, 'pod-4')];
    const codes = (await Promise.all(both.map((pod) => pod.rehydrate(['--claim-wait', '1s'])))).map(({ code }) => code);
    expect(codes.filter((code) => code === 0).length).toBeGreaterThanOrEqual(1);
    for (const code of codes) expect([0, 14]).toContain(code);

    // Nobody listens there: neither a first boot nor for ever.
    const free = createServer();
    await new Promise<void>((resolve) => free.listen(0, '127.0.0.1', resolve));
    const { port } = free.address() as AddressInfo;
    await new Promise((resolve) => free.close(resolve));
    const last = new Pod(place, 'pod-5');
    const started = performance.now();
    const gone = await last.rehydrate(['--on-unreachable', 'block:2s'], { env: { HOLDFAST_STORE: address(port) } });
    expect(gone).toMatchObject({ code: 33, error: { code: 'E_BLOCKED' } });
    expect(gone.receipt).toMatchObject({ outcome: 'failed', policy: { answer: 'unreachable', applied: 'block:2s' } });
    // The deadline is kept, whatever the patience of the store is.
    expect(performance.now() - started).toBeLessThan(20_000);
  });
});
