/** In containers as small as the webhook makes them: nothing is killed for its memory, however large the tree. */
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { freePort, installedServers, startServer } from '../servers/s3-server.ts';
import { MemoryGroup } from '../support/memory-group.ts';
import { AgentPlace } from './agent-process.ts';

const mebibyte = 1024 * 1024;
const limit = 256 * mebibyte;
const probe = MemoryGroup.make(limit);
await probe?.[Symbol.asyncDispose]();

/** Of an idle agent. */
const chargedMax = 85;
/** A million by hand; so many make their lists and caches larger than the group already. */
const files = Number(process.env['HOLDFAST_TEST_FILES'] ?? 100_000);

function makeFiles(directory: string): void {
  const content = Buffer.from('of a small file, the same but for a number: 0000');
  for (let n = 0; n < files; n++) {
    const parent = join(directory, `directory-${Math.floor(n / 1000)}`);
    if (n % 1000 === 0) mkdirSync(parent);
    const file = openSync(join(parent, `a-name-of-usual-length-${n}`), 'w');
    content.writeUInt32LE(n, 44);
    writeSync(file, content);
    closeSync(file);
  }
}

test.skipIf(probe === undefined)(
  'a first checkpoint of many files, idling, and the restore of it stay within 256 MiB',
  { timeout: 1_200_000 },
  async () => {
    using place = await AgentPlace.make();
    makeFiles(place.volume);
    await using group = MemoryGroup.make(limit) as MemoryGroup;
    await using agent = place.agent(['--schedule', '1h', '--log-level', 'debug'], { under: group.under });
    const { seconds } = await agent.until('committed', undefined, { waitMs: 900_000 });
    expect(group.kills).toBe(0);
    await expect.poll(() => group.anonymousBytes / mebibyte, { timeout: 60_000 }).toBeLessThan(125);
    const idle = { charged: group.bytes / mebibyte, anonymous: group.anonymousBytes / mebibyte };
    expect(await agent.stop()).toMatchObject({ code: 0 });

    await using restoring = MemoryGroup.make(limit) as MemoryGroup;
    const begun = performance.now();
    const ran = await place.work.run(
      [
        'rehydrate',
        ...['--volume', `data=${place.work.at('back')}`, '--pod-uid', 'pod-2', '--state-dir', place.stateOf('pod-2')],
        ...['--output', 'json', '--termination-message', ''],
      ],
      { under: restoring.under },
    );
    expect(ran).toMatchObject({ code: 0 });
    expect(JSON.parse(ran.stdout)).toMatchObject({ verified: true, volumes: { data: { files } } });
    expect(restoring.kills).toBe(0);
    process.stdout.write(
      `${files} files in 256 MiB: first checkpoint ${seconds} s, then ${JSON.stringify(idle)} MiB; ` +
        `restore ${((performance.now() - begun) / 1000).toFixed(1)} s\n`,
    );
  },
);

describe.each(installedServers('minio'))('on %s', (name) => {
  test.skipIf(probe === undefined)('an idle agent with a bucket and its API takes little of its group', async () => {
    await using server = await startServer(name);
    using place = await AgentPlace.make(server);
    for (let n = 0; n < 300; n++) writeFileSync(join(place.volume, `${n}`), `content ${n}`);
    const token = place.work.at('token');
    writeFileSync(token, 'a-token\n', { mode: 0o600 });
    await using group = MemoryGroup.make(limit) as MemoryGroup;
    const port = ['--port', String(await freePort()), '--token-file', token];
    await using agent = place.agent(['--schedule', '1s', '--log-level', 'debug', ...port], { under: group.under });
    await agent.until('committed');
    // Looks that find nothing, and what the first checkpoint has left behind goes.
    await agent.until('unchanged', () => agent.events('unchanged').length === 10);
    const [charged, anonymous] = [group.bytes / mebibyte, group.anonymousBytes / mebibyte];
    process.stdout.write(`idle: ${charged.toFixed(1)} MiB charged, ${anonymous.toFixed(1)} MiB of them its own\n`);
    expect(charged).toBeLessThan(chargedMax);
    expect(await agent.stop()).toMatchObject({ code: 0 });
  });
});
