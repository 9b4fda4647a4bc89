import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { binary, cliEnvironment } from '../cli/run-cli.ts';
import { AgentPlace } from './agent-process.ts';

/** Root may read every process by a capability; without any it is a user like others. */
const asUser: readonly string[] = process.getuid?.() === 0 ? ['setpriv', '--bounding-set=-all', '--inh-caps=-all'] : [];

const secrets = { AWS_SECRET_ACCESS_KEY: 'a-secret' };

const read = `
  const { readFileSync, readdirSync, readlinkSync } = require('node:fs');
  const base = '/proc/' + process.argv[1] + '/';
  const attempt = (look) => { try { look(); return 'open'; } catch (error) { return error.code; } };
  process.stdout.write(JSON.stringify({
    environ: attempt(() => readFileSync(base + 'environ')),
    maps: attempt(() => readFileSync(base + 'maps')),
    root: attempt(() => readlinkSync(base + 'root')),
    descriptors: attempt(() => readdirSync(base + 'fd').map((fd) => readlinkSync(base + 'fd/' + fd))),
  }));`;

/** What another process of the same user gets to see of one. */
function seenOf(pid: number | undefined): unknown {
  const [command = process.execPath, ...args] = [...asUser, process.execPath, '-e', read, String(pid)];
  const { stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  return JSON.parse(stdout || JSON.stringify({ stderr }));
}

const open = { environ: 'open', maps: 'open', root: 'open', descriptors: 'open' };
const closed = { environ: 'EACCES', maps: 'EACCES', root: 'EACCES', descriptors: 'EACCES' };

/** A process of this user that does nothing for its protection. */
async function plainProcess(): Promise<ChildProcess> {
  const [command = '', ...args] = [
    ...asUser,
    process.execPath,
    '-e',
    "process.stdout.write('x'); setInterval(() => 0, 1e9)",
  ];
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  await once(child.stdout as NodeJS.ReadableStream, 'data');
  return child;
}

test('an application of the same user cannot look into the agent beside it, which works all the same', async () => {
  const plain = await plainProcess();
  expect(seenOf(plain.pid)).toEqual(open);
  plain.kill('SIGKILL');
  using place = await AgentPlace.make();
  writeFileSync(join(place.volume, 'file'), 'one');
  await using agent = place.agent([], { env: secrets, under: asUser });
  expect(await agent.until('started')).toMatchObject({ memoryClosed: true });
  expect(seenOf(agent.child.pid)).toEqual(closed);
  // With what it needs of /proc for itself: descriptors for restores and links, who uses the volumes.
  await agent.until('committed');
  expect(await agent.stop()).toMatchObject({ code: 0 });
});

test('nor into the init container, while it waits for its store', async () => {
  using place = await AgentPlace.make();
  const env = cliEnvironment({ ...place.work.env, ...secrets, HOLDFAST_STORE: `file:${place.work.at('no-store')}` });
  const [command = '', ...args] = [
    ...asUser,
    binary,
    ...['rehydrate', '--output', 'json', '--volume', `data=${place.work.at('back')}`, '--pod-uid', 'pod-2'],
    ...['--state-dir', place.stateOf('pod-2'), '--termination-message', ''],
  ];
  const child = spawn(command, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
  const [line] = await once(createInterface({ input: child.stderr as NodeJS.ReadableStream }), 'line');
  expect(JSON.parse(String(line))).toMatchObject({ event: 'rehydrate.no-data' });
  expect(seenOf(child.pid)).toEqual(closed);
  child.kill('SIGKILL');
  await once(child, 'close');
});
