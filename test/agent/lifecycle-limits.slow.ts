/**
 * The rest of what can happen to a pod's agent: disks that are full, volumes that are read-only or gone, clocks that jump. On a directory
 * and on a bucket: what can be restored, what receipt and status say, which exit code.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { JsonObject } from '../cli/run-cli.ts';
import { serversForSuite } from '../servers/s3-server.ts';
import { canMount, Tmpfs } from '../support/tmpfs.ts';
import type { AgentPlace } from './agent-process.ts';
import { Sites } from './site.ts';

const sites = new Sites();
afterAll(() => sites[Symbol.asyncDispose]());

const text = (path: string): string => readFileSync(path, 'utf8');
const codesOf = (status: JsonObject): string[] => (status['problems'] as JsonObject[]).map(({ code }) => code);

interface Rehydrated {
  readonly code: number | null;
  readonly receipt: JsonObject;
}

/** The init container of the next pod. */
async function rehydrate(place: AgentPlace, volume: string, more: readonly string[] = []): Promise<Rehydrated> {
  const state = place.stateOf('pod-2');
  const args = ['--volume', `data=${volume}`, '--pod-uid', 'pod-2', '--state-dir', state, '--handoff-wait', '0s'];
  const { code } = await place.work.run(['rehydrate', ...args, ...more, '--output', 'json']);
  return { code, receipt: JSON.parse(text(join(state, 'receipt.json'))) as JsonObject };
}

/** For NODE_OPTIONS: a process whose clock is ahead by as many milliseconds as a file says, from one moment to the next. */
function movedBy(file: string): string {
  const program = `import { readFileSync } from 'node:fs';
    const real = Date; let ms = 0, readMs = -1000;
    const now = () => {
      const at = performance.now();
      if (at - readMs > 50) { readMs = at; ms = Number(readFileSync(${JSON.stringify(file)}, 'utf8')); }
      return real.now() + ms;
    };
    globalThis.Date = class Date extends real {
      constructor(...given) { given.length === 0 ? super(now()) : super(...given); }
      static now() { return now(); }
    };`;
  return `--import data:text/javascript,${encodeURIComponent(program)}`;
}

describe.each(['file', ...serversForSuite('minio')])('on %s', (store) => {
  describe.runIf(canMount || store !== 'file')('a store that is full', () => {
    test('keeps what it has, is said to be full, and gets the rest when there is room', async () => {
      await using site = await sites.on(store);
      const { place } = site;
      writeFileSync(join(place.volume, 'file'), 'one');
      await using agent = place.agent();
      await agent.until('committed');
      site.full();
      writeFileSync(join(place.volume, 'file'), 'two');
      await agent.until(
        store === 'file' ? 'failed' : 'store-waiting',
        ({ code }) => code === 'E_STORE_FULL' || store !== 'file',
      );
      await expect.poll(async () => (await place.status())['storeReachable'], { timeout: 30_000 }).toBe(false);
      expect(await place.status()).toMatchObject({ phase: 'running', newest: { slot: 2 } });
      await place.restore('meanwhile');
      expect(text(place.work.at('meanwhile', 'file'))).toBe('one');
      site.up();
      await agent.until('committed', ({ slot }) => slot > 2);
      expect(await agent.stop()).toEqual({ code: 0, signal: null });
      await place.restore('back');
      expect(text(place.work.at('back', 'file'))).toBe('two');
    });

    test('at the end leaves what was there, and the loss in log, message and status', async () => {
      await using site = await sites.on(store);
      const { place } = site;
      writeFileSync(join(place.volume, 'file'), 'one');
      await using agent = place.agent(['--grace', '3s', '--schedule', '1h']);
      await agent.until('committed');
      writeFileSync(join(place.volume, 'file'), 'two and more');
      site.full();
      const { code } = await agent.stop();
      expect([4, 6]).toContain(code);
      expect(agent.events('unsaved')).toMatchObject([{ bytes: 12, files: 1 }]);
      expect(text(place.work.at('message'))).toMatch(/not sealed; NOT SAVED: 12 bytes in 1 files; .*E_STORE_/);
      expect(await place.status()).toMatchObject({ live: false, unsaved: { bytes: 12 }, newest: { slot: 2 } });
      site.up();
      const volume = place.work.at('next');
      mkdirSync(volume);
      expect(await rehydrate(place, volume)).toMatchObject({
        code: 0,
        receipt: { outcome: 'restored', verified: true, from: { slot: 2 } },
      });
      expect(text(join(volume, 'file'))).toBe('one');
    });
  });

  test.runIf(canMount)(
    'a state directory that is full costs no checkpoint that was acknowledged, and none when there is room again',
    async () => {
      await using site = await sites.on(store);
      const { place } = site;
      const state = place.stateOf('pod-1');
      mkdirSync(state, { recursive: true });
      using disk = Tmpfs.on(state, 8);
      writeFileSync(join(place.volume, 'file'), 'one');
      await using agent = place.agent();
      await agent.until('committed');
      disk.fill();
      writeFileSync(join(place.volume, 'file'), 'two');
      expect(await agent.until('failed')).toMatchObject({ code: 'E_STATE_DIR' });
      expect(codesOf(await place.status())).toContain('E_STATE_DIR');
      await place.restore('meanwhile');
      expect(text(place.work.at('meanwhile', 'file'))).toBe('one');
      disk.makeRoom();
      await agent.until('committed', ({ slot }) => slot > 2);
      expect(await agent.stop()).toEqual({ code: 0, signal: null });
      await place.restore('back');
      expect(text(place.work.at('back', 'file'))).toBe('two');
    },
  );

  test.runIf(canMount)(
    'a volume that becomes read-only is saved and sealed as it is, and one that cannot be written is not restored into',
    async () => {
      await using site = await sites.on(store);
      const { place } = site;
      using disk = Tmpfs.on(place.volume, 8);
      writeFileSync(join(place.volume, 'file'), 'one');
      await using agent = place.agent(['--schedule', '1h']);
      await agent.until('committed');
      writeFileSync(join(place.volume, 'file'), 'two');
      disk.readOnly();
      expect(await agent.stop()).toEqual({ code: 0, signal: null });
      expect((await place.log())[1]).toMatchObject({ kind: 'CHECKPOINT', consistency: 'quiesced' });
      const volume = place.work.at('next');
      mkdirSync(volume);
      using next = Tmpfs.on(volume, 8);
      next.readOnly();
      const refused = await rehydrate(place, volume);
      expect(refused).toMatchObject({
        code: 21,
        receipt: { outcome: 'failed', error: { code: 'E_TARGET_IO', exit: 21 } },
      });
      next.writable();
      expect(await rehydrate(place, volume)).toMatchObject({
        code: 0,
        receipt: { outcome: 'restored', verified: true },
      });
      expect(text(join(volume, 'file'))).toBe('two');
    },
  );

  test.runIf(canMount)(
    'a volume that is too small for what was stored is left as it is, and the receipt says so',
    async () => {
      await using site = await sites.on(store);
      const { place } = site;
      for (let i = 0; i < 4; i++) writeFileSync(join(place.volume, `file-${i}`), randomBytes(1_000_000));
      await using agent = place.agent();
      await agent.until('committed');
      expect(await agent.stop()).toEqual({ code: 0, signal: null });
      const volume = place.work.at('next');
      mkdirSync(volume);
      {
        using _small = Tmpfs.on(volume, 2);
        expect(await rehydrate(place, volume)).toMatchObject({
          code: 22,
          receipt: { outcome: 'failed', error: { code: 'E_TARGET_FULL', exit: 22 }, epoch: null },
        });
      }
      expect(await rehydrate(place, volume)).toMatchObject({
        code: 0,
        receipt: { outcome: 'restored', verified: true },
      });
      expect(readFileSync(join(volume, 'file-3'))).toEqual(readFileSync(join(place.volume, 'file-3')));
    },
  );

  test('a volume that is gone at the end is said to be, and what was stored of it stays the newest', async () => {
    await using site = await sites.on(store);
    const { place } = site;
    writeFileSync(join(place.volume, 'file'), 'one');
    await using agent = place.agent(['--grace', '3s', '--schedule', '1h']);
    await agent.until('committed');
    renameSync(place.volume, place.work.at('volume-away'));
    const { code } = await agent.stop();
    expect(code).toBe(3);
    expect(agent.events('unsaved')).toMatchObject([{ bytes: null, files: null }]);
    expect(text(place.work.at('message'))).toMatch(/NOT SAVED: an unknown amount/);
    const volume = place.work.at('next');
    mkdirSync(volume);
    expect(await rehydrate(place, volume)).toMatchObject({
      code: 0,
      receipt: { outcome: 'restored', verified: true, from: { slot: 2 } },
    });
    expect(text(join(volume, 'file'))).toBe('one');
  });

  test.each([
    ['forward', 30],
    ['back', -30],
  ])(
    'a clock that jumps %s by a month changes neither when checkpoints are taken nor which is the newest',
    async (_way, days) => {
      await using site = await sites.on(store);
      const { place } = site;
      const shift = place.work.at('shift');
      writeFileSync(shift, '0');
      writeFileSync(join(place.volume, 'file'), 'before');
      await using agent = place.agent([], { env: { NODE_OPTIONS: movedBy(shift) } });
      await agent.until('committed');
      writeFileSync(`${shift}.new`, String(days * 86_400_000));
      renameSync(`${shift}.new`, shift);
      writeFileSync(join(place.volume, 'file'), 'after');
      const jumped = performance.now();
      const { slot } = await agent.until('committed', (line) => line['slot'] > 2);
      expect(performance.now() - jumped).toBeLessThan(15_000);
      const status = await place.status();
      expect(status).toMatchObject({ newest: { slot }, objective: { met: true }, problems: [], fenced: false });
      expect(status['newest']['ageSeconds']).toBeGreaterThanOrEqual(0);
      expect(status['newest']['ageSeconds']).toBeLessThan(20);
      expect(agent.events('failed')).toEqual([]);
      expect(await agent.stop()).toEqual({ code: 0, signal: null });
      const [seal, last] = await place.log();
      expect([seal?.['kind'], last?.['kind']]).toEqual(['SEAL', 'CHECKPOINT']);
      const volume = place.work.at('next');
      mkdirSync(volume);
      const { code, receipt } = await rehydrate(place, volume);
      expect({ code, receipt }).toMatchObject({
        code: 0,
        receipt: { outcome: 'restored', from: { slot: last?.['slot'] } },
      });
      expect(receipt['from']['ageSeconds']).toBeGreaterThanOrEqual(0);
      expect(text(join(volume, 'file'))).toBe('after');
    },
  );
});
