/** What an agent costs that lives long: requests, memory, descriptors. */
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { agentRoutes, agentSocketName } from '../../src/contract/agent-api.ts';
import { askAgent } from '../../src/edge/host/agent-socket.ts';
import { installedServers, type S3Server, startServer } from '../servers/s3-server.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { AgentPlace } from './agent-process.ts';

const mebibyte = 1024 * 1024;
/** The mark of issue 5 for an idle agent with a bucket and its API. */
const residentMax = 125 * mebibyte;

function residentBytes(pid: number): number {
  const [, kib] = /^Rss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1')) ?? [];
  return Number(kib) * 1024;
}

describe.each(installedServers('minio'))('on %s', (name) => {
  let server: S3Server;
  beforeAll(async () => {
    server = await startServer(name);
  });
  afterAll(() => server[Symbol.asyncDispose]());

  test('a checkpoint of few changes is one PUT, a look without changes nothing, and memory and descriptors stay', async () => {
    await using proxy = await FaultProxy.start(server.port);
    using place = await AgentPlace.make({ ...server, endpoint: proxy.endpoint });
    for (let n = 0; n < 300; n++) writeFileSync(join(place.volume, `${n}`), randomBytes(2000));
    await using agent = place.agent(['--schedule', '1h']);
    await agent.until('committed');
    const pid = agent.child.pid as number;
    const socket = join(place.stateOf('pod-1'), agentSocketName);
    const checkpoint = async (): Promise<string> => {
      const { body } = await askAgent(socket, agentRoutes.checkpoint, { waitMs: 60_000, body: '{"wait":true}' });
      return (JSON.parse(body) as { outcome: string }).outcome;
    };
    const change = (round: number): void => {
      for (let n = 0; n < 10; n++) writeFileSync(join(place.volume, `${(round * 10 + n) % 300}`), randomBytes(2000));
    };
    // The first ones load what they need.
    for (let round = 0; round < 5; round++) {
      change(round);
      expect(await checkpoint()).toBe('committed');
    }
    expect(await checkpoint()).toBe('unchanged');
    const descriptors = readdirSync(`/proc/${pid}/fd`).length;
    const sent = proxy.requests.length;
    // Below what merges packs, which reads them.
    for (let round = 0; round < 8; round++) {
      change(round + 5);
      expect(await checkpoint()).toBe('committed');
      expect(await checkpoint()).toBe('unchanged');
    }
    expect(proxy.requests.slice(sent).map(({ method }) => method)).toEqual(Array(8).fill('PUT'));
    for (let round = 0; round < 60; round++) {
      change(round);
      expect(await checkpoint()).toBe('committed');
    }
    expect(proxy.requests.slice(sent).filter(({ url }) => url.includes('list-type'))).toEqual([]);
    expect(readdirSync(`/proc/${pid}/fd`).length).toBeLessThanOrEqual(descriptors + 2);
    expect(residentBytes(pid) / mebibyte).toBeLessThan(residentMax / mebibyte);
    expect(await agent.stop()).toMatchObject({ code: 0 });
  });
});
