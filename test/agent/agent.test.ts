import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { agentRoutes, agentSocketName } from '../../src/contract/agent-api.ts';
import { markerFile, parseMarker, printMarker } from '../../src/contract/state-directory.ts';
import { agentMetrics } from '../../src/contract/metrics.ts';
import { sealLabels } from '../../src/contract/seal-labels.ts';
import { fileSystemOfType } from '../../src/edge/host/file-system-type.ts';
import { askAgent } from '../../src/edge/host/agent-socket.ts';
import { errorCatalogue } from '../../src/engine/model/errors.ts';
import type { JsonObject } from '../cli/run-cli.ts';
import { freePort, type S3Server, serversForSuite, startServer } from '../servers/s3-server.ts';
import { samplesOf } from './metrics-of.ts';
import { AgentPlace } from './agent-process.ts';

const servers = new Map<string, Promise<S3Server>>();

async function placeOn(store: string): Promise<AgentPlace> {
  if (store === 'file') return await AgentPlace.make();
  const server = servers.get(store) ?? startServer(store as S3Server['name']);
  servers.set(store, server);
  return await AgentPlace.make(await server);
}

afterAll(async () => {
  for (const server of servers.values()) await (await server)[Symbol.asyncDispose]();
});

describe.each(['file', ...serversForSuite('minio')])('an agent on %s', (store) => {
  test('takes a checkpoint at once and of each change, none while nothing changes, and seals when told to stop', async () => {
    using place = await placeOn(store);
    writeFileSync(join(place.volume, 'first'), 'one');
    await using agent = place.agent(['--log-level', 'debug']);
    expect(await agent.until('committed')).toMatchObject({ reason: 'start', slot: 2, consistency: 'converged' });
    // Two looks at the least, and no checkpoint of either.
    await agent.until('unchanged', (line) => line['reason'] === 'schedule');
    await agent.until('unchanged', () => agent.events('unchanged').length >= 2);
    expect(agent.events('committed')).toHaveLength(1);
    writeFileSync(join(place.volume, 'second'), 'two');
    expect(await agent.until('committed', ({ slot }) => slot === 3)).toMatchObject({ reason: 'schedule' });
    expect(await place.status()).toMatchObject({
      live: true,
      phase: 'running',
      fenced: false,
      newest: { slot: 3, files: 2, consistency: 'converged' },
      unsaved: { bytes: 0, files: 0 },
      objective: { seconds: 60, met: true },
      storeReachable: true,
      problems: [],
      checkpoints: { committed: 2, failed: 0 },
    });
    writeFileSync(join(place.volume, 'third'), randomBytes(1_000_000));
    const told = performance.now();
    expect(await agent.stop()).toEqual({ code: 0, signal: null });
    // The mark of the issue is one second on a quiet machine; a busy one is given more.
    expect(performance.now() - told).toBeLessThan(5000);
    const [seal, last] = await place.log();
    expect(seal).toMatchObject({ kind: 'SEAL', labels: { [sealLabels.consistency]: 'quiesced' } });
    expect(last).toMatchObject({ kind: 'CHECKPOINT', consistency: 'quiesced', files: 3 });
    await place.restore('back');
    for (const name of ['first', 'second', 'third']) {
      expect(readFileSync(place.work.at('back', name))).toEqual(readFileSync(join(place.volume, name)));
    }
    expect(await place.status()).toMatchObject({ live: false, phase: 'ended', newest: { slot: last?.['slot'] } });
    expect(agent.stderr).toBe('');
  });

  test('that was told to stop though it was not the end goes on under the same claim, and reopens the seal', async () => {
    using place = await placeOn(store);
    writeFileSync(join(place.volume, 'file'), 'one');
    {
      await using agent = place.agent();
      await agent.until('committed');
      expect(await agent.stop()).toMatchObject({ code: 0 });
    }
    await using again = place.agent();
    expect(await again.until('claimed')).toMatchObject({ epoch: 1, new: false });
    await again.until('committed');
    const [newest, before] = await place.log();
    expect([newest?.['kind'], before?.['kind']]).toEqual(['CHECKPOINT', 'SEAL']);
    expect(await again.stop()).toMatchObject({ code: 0 });
  });

  test('is notified at once, and then looks again and again until it is told to stop', async () => {
    using place = await placeOn(store);
    await using agent = place.agent(['--schedule', '1h']);
    await agent.until('committed');
    expect(await place.work.run(['notify', '--state-dir', place.stateOf('pod-1')])).toMatchObject({
      code: 0,
      stdout: '',
      stderr: '',
    });
    await agent.until('notified');
    for (const content of ['one', 'two']) {
      const from = agent.lines.length;
      writeFileSync(join(place.volume, 'file'), content);
      expect(await agent.until('committed', () => true, { from })).toMatchObject({ reason: 'drain' });
    }
    expect(await place.status()).toMatchObject({ phase: 'draining' });
    expect(agent.child.exitCode).toBeNull();
    expect(await agent.stop()).toEqual({ code: 0, signal: null });
  });
});

describe('an agent', () => {
  test('waits for a store that is not there, says so, and goes on when it comes', async () => {
    using place = await AgentPlace.make();
    const here = place.work.at('store');
    const there = place.work.at('elsewhere');
    renameSync(here, there);
    await using agent = place.agent();
    expect(await agent.until('store-waiting')).toMatchObject({ code: 'E_STORE_UNREACHABLE' });
    expect(await place.status()).toMatchObject({
      phase: 'starting',
      storeReachable: false,
      newest: null,
      objective: { met: false },
      problems: [{ code: 'E_STORE_UNREACHABLE', remedy: expect.stringContaining('mounted') }],
    });
    renameSync(there, here);
    await agent.until('committed');
    expect(await place.status()).toMatchObject({ phase: 'running', storeReachable: true, problems: [] });
    expect(await agent.stop()).toMatchObject({ code: 0 });
  });

  test('ends over settings that are wrong, and says which', async () => {
    using place = await AgentPlace.make();
    for (const [args, code, said] of [
      [['--schedule', 'often'], 'E_USAGE', '--schedule'],
      [['--volume-schedule', 'other=1m'], 'E_USAGE', 'no --volume'],
      [['--pod-uid', '../..'], 'E_USAGE', '--pod-uid'],
      [['--grace', '0s'], 'E_USAGE', '--grace'],
      [['--rpo', 'soon'], 'E_USAGE', '--rpo'],
      [['--log-level', 'loud'], 'E_USAGE', '--log-level'],
      [['--volume', 'data=/nonexistent/directory'], 'E_SOURCE_UNREADABLE', '/nonexistent/directory'],
      [['--key-file', '/nonexistent/key'], 'E_KEY_MISSING', '/nonexistent/key'],
    ] as const) {
      const settings = new Map([
        ['--volume', `data=${place.volume}`],
        ['--pod-uid', 'a'],
        ['--schedule', '1s'],
        [args[0], args[1]],
      ]);
      const ran = await place.work.run(['agent', ...[...settings].flat()], { env: { HOLDFAST_OUTPUT: 'json' } });
      // What the agent finds before it runs is told as by any command, what it finds afterwards in its log.
      const lines = `${ran.stderr}${ran.stdout}`.trim().split('\n');
      const errors = lines.map((line) => JSON.parse(line) as JsonObject).map((line) => line['error'] ?? line);
      const error = errors.find((line) => line['code'] !== undefined);
      expect(error, `${args.join(' ')}: ${lines.join('\n')}`).toMatchObject({ code });
      expect(error?.['message'], args.join(' ')).toContain(said);
      expect(ran.code, args.join(' ')).toBe(errorCatalogue[code].exit);
    }
  });

  test('refuses a state directory where another agent runs', async () => {
    using place = await AgentPlace.make();
    await using agent = place.agent();
    await agent.until('committed');
    await using other = place.agent();
    expect(await other.exit).toEqual({ code: 25, signal: null });
    expect(other.stderr).toContain('another agent');
    expect(await place.status()).toMatchObject({ live: true });
    expect(await agent.stop()).toMatchObject({ code: 0 });
  });

  test('goes on under the claim of the init container, once that has finished', async () => {
    using place = await AgentPlace.make();
    const state = place.stateOf('pod-1');
    const init = ['rehydrate', '--volume', `data=${place.volume}`, '--pod-uid', 'pod-1', '--state-dir', state];
    expect(await place.work.run(init)).toMatchObject({ code: 0 });
    const marker = join(state, markerFile);
    const done = parseMarker(readFileSync(marker, 'utf8'));
    if (done === undefined) throw new Error('the init container left no marker');
    // As after a reboot in the middle of it, and with the doubt of a policy that let it begin with less.
    writeFileSync(marker, printMarker({ ...done, phase: 'started' }));
    writeFileSync(join(place.volume, 'file'), 'one');
    await using agent = place.agent();
    await agent.until('restore-waiting');
    expect(await place.status()).toMatchObject({ phase: 'starting', problems: [{ code: 'W_RESTORING' }] });
    writeFileSync(marker, printMarker({ ...done, suspect: true }));
    expect(await agent.until('claimed')).toMatchObject({ new: false });
    expect(await agent.until('committed')).toMatchObject({ slot: 2, suspect: true });
    expect(await place.status()).toMatchObject({
      problems: [{ code: 'W_SUSPECT' }],
      receipt: { outcome: 'empty' },
    });
    writeFileSync(join(place.volume, 'file'), 'two');
    expect(await agent.until('committed', ({ slot }) => slot === 3)).toMatchObject({ suspect: false });
    expect(await place.status()).toMatchObject({ problems: [] });
    expect(await agent.stop()).toMatchObject({ code: 0 });
  });

  test('has a watcher tell where its volume changes, and nothing that changed is left out', async () => {
    using place = await AgentPlace.make();
    const { writeback } = fileSystemOfType(statfsSync(place.volume).type);
    for (let n = 0; n < 50; n++) writeFileSync(join(place.volume, `file-${n}`), `${n}`);
    await using agent = place.agent(['--log-level', 'debug']);
    await agent.until('committed');
    const kind = async (): Promise<unknown> => (await place.status())['volumes'][0].watcher.kind;
    await expect.poll(kind, { timeout: 20_000 }).toBe(writeback ? 'chokidar' : 'scan');
    for (let round = 0; round < 4; round++) {
      const slot = agent.events('committed').at(-1)?.['slot'] as number;
      mkdirSync(join(place.volume, `new-${round}`, 'deep'), { recursive: true });
      writeFileSync(join(place.volume, `new-${round}`, 'deep', 'file'), `${round}`);
      writeFileSync(join(place.volume, `file-${round}`), `changed ${round}`);
      rmSync(join(place.volume, `file-${40 + round}`));
      await agent.until('committed', (line) => line['slot'] > slot);
      const from = agent.lines.length;
      await agent.until('unchanged', () => true, { from });
    }
    expect(agent.events('watcher-missed')).toEqual([]);
    expect(await agent.stop()).toMatchObject({ code: 0 });
    await place.restore('back');
    expect(spawnSync('diff', ['-r', place.volume, place.work.at('back')], { encoding: 'utf8' })).toMatchObject({
      status: 0,
      stdout: '',
    });
  });

  test('is fenced by a successor, says so, and leaves the lineage to it', async () => {
    using place = await AgentPlace.make();
    const other = place.work.at('other');
    mkdirSync(other);
    writeFileSync(join(place.volume, 'file'), 'one');
    await using agent = place.agent();
    await agent.until('committed');
    await using successor = place.agent([], { pod: 'pod-2', volume: other });
    expect(await successor.until('committed')).toMatchObject({ slot: 4 });
    writeFileSync(join(place.volume, 'file'), 'two');
    expect(await agent.until('fenced')).toMatchObject({ code: 'E_FENCED', remedy: expect.any(String) });
    expect(await place.status()).toMatchObject({ phase: 'fenced', fenced: true, newest: { slot: 2 } });
    expect(await agent.stop()).toEqual({ code: 15, signal: null });
    expect(await successor.stop()).toMatchObject({ code: 0 });
    expect((await place.log()).map(({ kind, epoch }) => `${kind} ${epoch}`)).toEqual([
      'SEAL 3',
      'CHECKPOINT 3',
      'CHECKPOINT 3',
      'CLAIM 3',
      'CHECKPOINT 1',
      'CLAIM 1',
    ]);
  });

  test('carries a volume with a slower schedule forward', async () => {
    using place = await AgentPlace.make();
    const slow = place.work.at('slow');
    mkdirSync(slow);
    writeFileSync(join(slow, 'file'), 'one');
    writeFileSync(join(place.volume, 'file'), 'one');
    await using agent = place.agent(['--volume', `slow=${slow}`, '--volume-schedule', 'slow=1h']);
    await agent.until('committed');
    writeFileSync(join(slow, 'file'), 'two');
    writeFileSync(join(place.volume, 'file'), 'two');
    await agent.until('committed', ({ slot }) => slot === 3);
    await place.restore('back');
    expect(readFileSync(place.work.at('back', 'data', 'file'), 'utf8')).toBe('two');
    expect(readFileSync(place.work.at('back', 'slow', 'file'), 'utf8')).toBe('one');
    // The last checkpoint is of all.
    expect(await agent.stop()).toMatchObject({ code: 0 });
    rmSync(place.work.at('back'), { recursive: true });
    await place.restore('back');
    expect(readFileSync(place.work.at('back', 'slow', 'file'), 'utf8')).toBe('two');
  });

  test('is triggered, paused and resumed, and refuses what is no request', async () => {
    using place = await AgentPlace.make();
    await using agent = place.agent(['--schedule', '1h']);
    await agent.until('committed');
    const socket = join(place.stateOf('pod-1'), agentSocketName);
    const ask = async (route: keyof typeof agentRoutes, body?: unknown): Promise<{ code: number; json: unknown }> => {
      const { code, body: text } = await askAgent(socket, agentRoutes[route], {
        waitMs: 20_000,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      return { code, json: JSON.parse(text) };
    };
    writeFileSync(join(place.volume, 'file'), 'one');
    expect(await ask('checkpoint', { wait: true })).toMatchObject({
      code: 200,
      json: { outcome: 'committed', newest: { slot: 3 } },
    });
    expect(await ask('checkpoint', { wait: true })).toMatchObject({
      json: { outcome: 'unchanged', newest: { slot: 3 } },
    });
    expect(await ask('checkpoint')).toMatchObject({ code: 202 });
    expect(await ask('pause', { seconds: 3600 })).toMatchObject({
      code: 200,
      json: { phase: 'paused', nextSeconds: null },
    });
    expect(await ask('resume')).toMatchObject({
      code: 200,
      json: { phase: 'running', nextSeconds: expect.any(Number) },
    });
    expect(await ask('progress')).toEqual({ code: 200, json: null });
    expect(await ask('receipt')).toMatchObject({ code: 404 });
    for (const [route, body] of [
      ['pause', { seconds: -1 }],
      ['pause', { seconds: '10' }],
      ['pause', { minutes: 1 }],
      ['checkpoint', { wait: 'yes' }],
      ['checkpoint', []],
      ['notify', { now: true }],
    ] as const) {
      expect(await ask(route, body), JSON.stringify(body)).toMatchObject({ code: 400 });
    }
    expect(await ask('pause', { seconds: 1, padding: 'x'.repeat(5000) })).toMatchObject({ code: 413 });
    expect(await place.status()).toMatchObject({ phase: 'running' });
    expect(await agent.stop()).toMatchObject({ code: 0 });
  });
});

describe('what an agent measures', () => {
  test('is what it knows, under the names of the catalogue, and its health is its progress', async () => {
    using place = await AgentPlace.make();
    writeFileSync(join(place.volume, 'file'), 'content');
    await using agent = place.agent(['--schedule', '1h', '--rpo', '3s', '--size-limit', 'data=1GiB']);
    await agent.until('committed');
    const ask = async (route: 'metrics' | 'health'): Promise<{ code: number; body: string }> =>
      await askAgent(join(place.stateOf('pod-1'), agentSocketName), agentRoutes[route], { waitMs: 20_000 });
    const { code, body } = await ask('metrics');
    expect(code).toBe(200);
    const samples = samplesOf(body);
    const names = new Set([...samples.keys()].map((key) => key.replace(/\{.*/, '')));
    // Nothing has been saved that would tell how fast, and nothing is wrong.
    const silent = ['holdfast_grace_needed_seconds', 'holdfast_problem'];
    expect([...names].sort()).toEqual(
      Object.keys(agentMetrics)
        .filter((name) => !silent.includes(name))
        .sort(),
    );
    for (const [key, value] of [
      ['holdfast_checkpoint_slot', 2],
      ['holdfast_checkpoint_files', 1],
      ['holdfast_checkpoint_bytes', 7],
      ['holdfast_captures_total{outcome="committed"}', 1],
      ['holdfast_captures_total{outcome="failed"}', 0],
      ['holdfast_phase{phase="running"}', 1],
      ['holdfast_phase{phase="fenced"}', 0],
      ['holdfast_new_bytes_total', 7],
      ['holdfast_objective_seconds', 3],
      ['holdfast_grace_seconds', 10],
      ['holdfast_fenced', 0],
      ['holdfast_store_reachable', 1],
    ] as const) {
      expect(samples.get(key), key).toBe(value);
    }
    expect(samples.get('holdfast_process_resident_bytes')).toBeGreaterThan(1e7);
    // Scraped again, a counter is not counted again.
    expect(samplesOf((await ask('metrics')).body).get('holdfast_captures_total{outcome="committed"}')).toBe(1);
    expect(await ask('health')).toMatchObject({ code: 200 });
    // No checkpoint comes any more, whatever the reason: time alone makes it unhealthy.
    await askAgent(join(place.stateOf('pod-1'), agentSocketName), agentRoutes.pause, { waitMs: 20_000 });
    await expect.poll(async () => (await ask('health')).code, { timeout: 30_000 }).toBe(503);
    expect(JSON.parse((await ask('health')).body)).toMatchObject({
      healthy: false,
      objectiveSeconds: 3,
      problems: [{ code: 'W_OBJECTIVE_MISSED' }],
    });
    expect(samplesOf((await ask('metrics')).body).get('holdfast_objective_met')).toBe(0);
    expect(await agent.stop()).toMatchObject({ code: 0 });
  });

  test('is told at a port of the loopback interface to those who have the token', async () => {
    using place = await AgentPlace.make();
    const tokenFile = place.work.at('token');
    writeFileSync(tokenFile, 'a-secret-token\n', { mode: 0o600 });
    const port = await freePort();
    await using agent = place.agent(['--port', String(port), '--token-file', tokenFile]);
    await agent.until('committed');
    const ask = async (token?: string): Promise<number> => {
      const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
      return (await fetch(`http://127.0.0.1:${port}/v1/status`, { headers })).status;
    };
    expect(await ask()).toBe(401);
    expect(await ask('a-secret-tokem')).toBe(401);
    expect(await ask('a-secret-token-and-more')).toBe(401);
    expect(await ask('a-secret-token')).toBe(200);
    writeFileSync(tokenFile, 'another');
    expect(await ask('a-secret-token')).toBe(401);
    expect(await ask('another')).toBe(200);
    rmSync(tokenFile);
    expect(await ask('another')).toBe(401);
    expect(await agent.stop()).toMatchObject({ code: 0 });
    expect(JSON.stringify(agent.lines)).not.toContain('secret');
  });
});

test('notify and status say that no agent runs', async () => {
  using place = await AgentPlace.make();
  const directory = place.work.at('nothing');
  for (const command of ['notify', 'status']) {
    const error = await place.work.error([command, '--state-dir', directory], { env: { HOLDFAST_OUTPUT: 'json' } });
    expect(error).toMatchObject({ code: 'E_STATE_DIR', remedy: expect.stringContaining('agent runs') });
  }
});
