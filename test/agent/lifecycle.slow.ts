/**
 * What becomes of a pod's data, whatever happens to its agent: for each way to end or to be disturbed, on a directory and on a bucket,
 * what can be restored, what the log of the lineage says, what status and exit code are.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { sealLabels } from '../../src/contract/seal-labels.ts';
import type { JsonObject } from '../cli/run-cli.ts';
import { serversForSuite } from '../servers/s3-server.ts';
import { Sites } from './site.ts';

const sites = new Sites();
afterAll(() => sites[Symbol.asyncDispose]());

interface Application extends AsyncDisposable {
  readonly child: ChildProcess;
  /** Sends a signal and waits for the end. */
  end(signal: NodeJS.Signals): Promise<void>;
}

async function application(file: string): Promise<Application> {
  const program = fileURLToPath(new URL('application.ts', import.meta.url));
  const child = spawn(process.execPath, [program, file], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    child.kill(signal);
    await ended;
  };
  return { child, end, [Symbol.asyncDispose]: () => end('SIGKILL') };
}

const text = (path: string): string => readFileSync(path, 'utf8');
const kindsOf = (log: readonly JsonObject[]): string[] => log.map(({ kind }) => kind as string);

describe.each(['file', ...serversForSuite('minio')])('on %s', (store) => {
  test('an application that stops in time is saved whole and quiesced, and one that still runs is waited for', async () => {
    await using site = await sites.on(store);
    const { place } = site;
    const file = join(place.volume, 'lines');
    await using app = await application(file);
    await using agent = place.agent(['--grace', '20s']);
    await agent.until('committed');
    await place.work.run(['notify', '--state-dir', place.stateOf('pod-1')]);
    agent.child.kill('SIGTERM');
    expect(await agent.until('still-used')).toMatchObject({ by: [{ pid: app.child.pid }] });
    // What is committed while it is waited for is not said to be quiesced.
    expect(await agent.until('committed', ({ reason }) => reason === 'final')).not.toMatchObject({
      consistency: 'quiesced',
    });
    await app.end('SIGTERM');
    expect(await agent.exit).toEqual({ code: 0, signal: null });
    const [seal, last] = await place.log();
    expect(seal).toMatchObject({ kind: 'SEAL', labels: { [sealLabels.consistency]: 'quiesced' } });
    expect(seal?.['labels']).not.toHaveProperty([sealLabels.unsavedBytes]);
    expect(last).toMatchObject({ kind: 'CHECKPOINT', consistency: 'quiesced' });
    await place.restore('back');
    expect(text(place.work.at('back', 'lines'))).toBe(text(file));
    expect(text(file)).toMatch(/the end\n$/);
    expect(text(place.work.at('message'))).toContain('nothing unsaved');
  });

  test('an application that was killed is gone, and is saved whole', async () => {
    await using site = await sites.on(store);
    const { place } = site;
    const file = join(place.volume, 'lines');
    await using app = await application(file);
    await using agent = place.agent();
    await agent.until('committed');
    await app.end('SIGKILL');
    expect(await agent.stop()).toEqual({ code: 0, signal: null });
    expect((await place.log())[1]).toMatchObject({ consistency: 'quiesced' });
    await place.restore('back');
    expect(text(place.work.at('back', 'lines'))).toBe(text(file));
  });

  test('an application that does not stop: what is restorable is of one moment or named, and the rest is counted', async () => {
    await using site = await sites.on(store);
    const { place } = site;
    const file = join(place.volume, 'lines');
    await using app = await application(file);
    await using agent = place.agent(['--grace', '3s']);
    await agent.until('committed');
    const told = performance.now();
    const { code } = await agent.stop();
    expect(performance.now() - told).toBeLessThan(10_000);
    expect([0, 3]).toContain(code);
    const [seal, last] = await place.log();
    expect(seal?.['kind']).toBe('SEAL');
    expect(last?.['consistency']).not.toBe('quiesced');
    await app.end('SIGKILL');
    await place.restore('back');
    expect(text(file).startsWith(text(place.work.at('back', 'lines')))).toBe(true);
  });

  test('a grace that is too short leaves the checkpoint before, and says how much is missing', async () => {
    await using site = await sites.on(store);
    const { place } = site;
    writeFileSync(join(place.volume, 'small'), 'one');
    // Level 19 takes many seconds for this.
    await using agent = place.agent(['--grace', '2s', '--schedule', '1h', '--level', '19', '--lanes', '1']);
    await agent.until('committed');
    const bytes = 80_000_000;
    writeFileSync(join(place.volume, 'large'), randomBytes(bytes / 2).toString('hex'));
    const told = performance.now();
    expect(await agent.stop()).toEqual({ code: 3, signal: null });
    // The kubelet gives two seconds in any case; beyond that the process would have been killed.
    expect(performance.now() - told).toBeLessThan(4000);
    const [seal, last] = await place.log();
    expect(seal).toMatchObject({ kind: 'SEAL', labels: { [sealLabels.unsavedBytes]: String(bytes) } });
    expect(Number(seal?.['labels'][sealLabels.unsavedSeconds])).toBeGreaterThan(0);
    expect(last).toMatchObject({ kind: 'CHECKPOINT', files: 1 });
    expect(agent.events('unsaved')).toMatchObject([{ bytes, seconds: expect.any(Number) }]);
    expect(text(place.work.at('message'))).toContain(`NOT SAVED: ${bytes} bytes`);
    expect(await place.status()).toMatchObject({ live: false, unsaved: { bytes } });
    expect(await place.restore('back')).toMatchObject({ files: 1 });
  });

  test('an agent that is killed goes on under its claim, and nothing acknowledged is lost', async () => {
    await using site = await sites.on(store);
    const { place } = site;
    for (let round = 0; round < 4; round++) {
      writeFileSync(join(place.volume, `file-${round}`), randomBytes(400_000));
      await using agent = place.agent();
      await agent.until('claimed', (line) => line['new'] === (round === 0));
      await agent.until('committed');
      writeFileSync(join(place.volume, `more-${round}`), randomBytes(400_000));
      await sleep(round * 250);
      await agent.stop('SIGKILL');
      const acknowledged = agent.events('committed').at(-1)?.['slot'] as number;
      expect(await place.status()).toMatchObject({ live: false });
      const log = await place.log();
      expect(log.some(({ slot, kind }) => slot === acknowledged && kind === 'CHECKPOINT')).toBe(true);
    }
    await using last = place.agent();
    await last.until('claimed');
    expect(await last.stop()).toEqual({ code: 0, signal: null });
    expect((await place.log()).filter(({ kind }) => kind === 'CLAIM')).toHaveLength(1);
    expect(await place.restore('back')).toMatchObject({ files: 8 });
  });

  test('a store that goes away in the middle is waited for, and then has everything', async () => {
    await using site = await sites.on(store);
    const { place } = site;
    writeFileSync(join(place.volume, 'file'), 'one');
    await using agent = place.agent(['--rpo', '2s']);
    await agent.until('committed');
    site.down();
    writeFileSync(join(place.volume, 'file'), 'two');
    // A bucket is asked again for a while, within one attempt.
    await agent.until(store === 'file' ? 'failed' : 'store-waiting');
    const status = await place.status();
    expect(status).toMatchObject({ phase: 'running', storeReachable: false, newest: { slot: 2 } });
    expect(status['problems'].map(({ code }: JsonObject) => code)).toContain('E_STORE_UNREACHABLE');
    await expect.poll(async () => (await place.status())['objective'].met, { timeout: 30_000 }).toBe(false);
    site.up();
    await agent.until('committed', ({ slot }) => slot > 2);
    await expect.poll(() => place.status(), { timeout: 30_000 }).toMatchObject({ storeReachable: true, problems: [] });
    await place.restore('back');
    expect(text(place.work.at('back', 'file'))).toBe('two');
    expect(await agent.stop()).toEqual({ code: 0, signal: null });
  });

  test('a store that is away at the start is waited for; told to stop meanwhile, the agent says what that costs', async () => {
    await using site = await sites.on(store);
    const { place } = site;
    writeFileSync(join(place.volume, 'file'), 'one');
    site.down();
    {
      await using agent = place.agent(['--grace', '2s']);
      await agent.until('store-waiting');
      expect(await place.status()).toMatchObject({ phase: 'starting', storeReachable: false, newest: null });
      expect(await agent.stop()).toEqual({ code: 4, signal: null });
      expect(agent.events('unsaved')).toMatchObject([{ bytes: null }]);
    }
    await using agent = place.agent();
    await agent.until('store-waiting');
    site.up();
    await agent.until('committed');
    expect(await agent.stop()).toEqual({ code: 0, signal: null });
  });

  test('a store that is away at the end leaves what was there, and the loss in log, message and status', async () => {
    await using site = await sites.on(store);
    const { place } = site;
    writeFileSync(join(place.volume, 'file'), 'one');
    await using agent = place.agent(['--grace', '3s', '--schedule', '1h']);
    await agent.until('committed');
    writeFileSync(join(place.volume, 'file'), 'two and more');
    site.down();
    const told = performance.now();
    expect(await agent.stop()).toEqual({ code: 4, signal: null });
    expect(performance.now() - told).toBeLessThan(6000);
    expect(agent.events('unsaved')).toMatchObject([{ bytes: 12, files: 1 }]);
    expect(text(place.work.at('message'))).toMatch(/not sealed; NOT SAVED: 12 bytes in 1 files; .*E_STORE_/);
    expect(await place.status()).toMatchObject({ live: false, unsaved: { bytes: 12 }, newest: { slot: 2 } });
    site.up();
    expect(kindsOf(await place.log())).toEqual(['CHECKPOINT', 'CLAIM']);
    // The same pod, started again, saves it.
    await using again = place.agent();
    await again.until('committed');
    expect(await again.stop()).toEqual({ code: 0, signal: null });
    await place.restore('back');
    expect(text(place.work.at('back', 'file'))).toBe('two and more');
  });

  test('a zombie that wakes after its successor publishes nothing', async () => {
    await using site = await sites.on(store);
    const { place } = site;
    writeFileSync(join(place.volume, 'file'), 'old');
    await using zombie = place.agent();
    await zombie.until('committed');
    zombie.child.kill('SIGSTOP');
    const fresh = place.work.at('fresh');
    await place.work.run(['restore', '--target', fresh], { env: { HOLDFAST_STATE_DIR: place.work.at('person') } });
    await using successor = place.agent([], { pod: 'pod-2', volume: fresh });
    // What it holds is in the newest checkpoint already, so its claim alone stands in the log.
    await successor.until('claimed');
    writeFileSync(join(fresh, 'file'), 'new');
    await successor.until('committed');
    writeFileSync(join(place.volume, 'file'), 'zombie');
    zombie.child.kill('SIGCONT');
    expect(await zombie.until('fenced')).toMatchObject({ code: 'E_FENCED' });
    expect(await place.status()).toMatchObject({ fenced: true });
    expect(await zombie.stop()).toEqual({ code: 15, signal: null });
    expect(await successor.stop()).toEqual({ code: 0, signal: null });
    await place.restore('back');
    expect(text(place.work.at('back', 'file'))).toBe('new');
    const epochs = (await place.log()).map(({ epoch }) => epoch as number);
    expect(epochs).toEqual([...epochs].sort((a, b) => b - a));
  });

  test('a volume that vanishes is said to be gone, and is not taken for an empty one', async () => {
    await using site = await sites.on(store);
    const { place } = site;
    writeFileSync(join(place.volume, 'file'), 'one');
    await using agent = place.agent();
    await agent.until('committed');
    const away = place.work.at('volume-away');
    renameSync(place.volume, away);
    expect(await agent.until('failed')).toMatchObject({ code: 'E_SOURCE_UNREADABLE' });
    expect(await place.status()).toMatchObject({
      newest: { slot: 2, files: 1 },
      problems: [{ code: 'E_SOURCE_UNREADABLE' }],
    });
    renameSync(away, place.volume);
    writeFileSync(join(place.volume, 'other'), 'two');
    expect(await agent.until('committed', ({ slot }) => slot > 2)).toMatchObject({ suspect: false });
    expect(await place.status()).toMatchObject({ problems: [] });
    expect(await agent.stop()).toEqual({ code: 0, signal: null });
  });

  test('a volume that is emptied makes a suspect checkpoint, and the one before stays the default', async () => {
    await using site = await sites.on(store);
    const { place } = site;
    for (let n = 0; n < 10; n++) writeFileSync(join(place.volume, `file-${n}`), 'content');
    await using agent = place.agent();
    await agent.until('committed');
    for (let n = 0; n < 10; n++) rmSync(join(place.volume, `file-${n}`));
    // While they go a checkpoint may show some of them.
    await agent.until('committed', (line) => line['suspect'] === true);
    expect(await place.status()).toMatchObject({ problems: [{ code: 'W_SUSPECT' }] });
    expect(await agent.stop()).toMatchObject({ code: 0 });
    expect((await place.restore('back'))['files']).toBeGreaterThan(0);
  });
});
