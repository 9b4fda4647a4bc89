import fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runContent } from '../support/tree-spec.ts';
import { Workplace } from './run-cli.ts';

describe('holdfast copy', () => {
  let work: Workplace;
  let second: string;
  const copy = (...more: readonly string[]): string[] => ['copy', '--from', work.store, '--to', second, ...more];
  const whole = { HOLDFAST_LINEAGE: '', HOLDFAST_KEY_FILE: '' };

  beforeAll(async () => {
    work = new Workplace();
    second = `file:${work.at('second')}`;
    fs.mkdirSync(work.at('data', 'sub'), { recursive: true });
    fs.writeFileSync(work.at('data', 'large'), runContent({ at: 0, bytes: 9_000_000, seed: 1 }));
    for (let i = 0; i < 20; i++) fs.writeFileSync(work.at('data', 'sub', `${i}`), `file ${i}`);
    await work.json(['init']);
    await work.json(['checkpoint', work.at('data')]);
    await work.json(['checkpoint', work.at('data', 'sub')], { env: { HOLDFAST_LINEAGE: 'team/app/1' } });
  });
  afterAll(() => work[Symbol.dispose]());

  it('refuses a second store that is not there, until it is asked to make it', async () => {
    expect(await work.error(copy())).toMatchObject({
      code: 'E_STORE_UNREACHABLE',
      remedy: expect.stringContaining('--init'),
    });
    fs.mkdirSync(work.at('second'));
    expect(await work.error(copy())).toMatchObject({
      code: 'E_REPOSITORY_MISSING',
      remedy: expect.stringContaining('--init'),
    });
    expect(fs.readdirSync(work.at('second'))).toEqual([]);
  });

  it('copies the lineages that are named, then all, without a key; both stores restore to the same root', async () => {
    const one = await work.json(copy('--init', '--lineage', 'team/app/1'), { env: whole });
    expect(one['lineages']).toMatchObject([
      { lineage: 'team/app/1', head: { slot: 2 }, behind: 0, records: 2, passed: [] },
    ]);
    const all = await work.json(copy(), { env: whole });
    expect(all).toMatchObject({
      records: 2,
      lineages: [
        { lineage: 'team/app/0', records: 2 },
        { lineage: 'team/app/1', records: 0 },
      ],
      requests: { from: { create: 0, upload: 0, delete: 0 }, to: { delete: 0, create: 2 + Number(all['packs']) } },
    });
    const again = await work.run(copy(), { env: whole });
    expect(again).toMatchObject({ code: 0, stderr: '' });
    expect(again.stdout).toMatch(/^team\/app\/0: up to date at slot 2\nteam\/app\/1: up to date at slot 2\n0 records/);

    const roots: unknown[] = [];
    for (const [name, store] of [
      ['a', work.store],
      ['b', second],
    ] as const) {
      const env = { HOLDFAST_STORE: store };
      expect(await work.json(['verify', '--read-data'], { env })).toMatchObject({ sound: true });
      await work.json(['restore', '--target', work.at(name)], { env });
      roots.push((await work.json(['checkpoint', work.at(name), '--dry-run', '--no-cache'], { env }))['root']);
    }
    expect(roots[0]).toMatch(/^[0-9a-f]{64}$/);
    expect(roots[1]).toBe(roots[0]);
  });

  it('proves every byte with the key, and names what it passed over', async () => {
    const damaged = work.at('damaged');
    fs.cpSync(work.at('store'), damaged, { recursive: true });
    const [pack] = fs.globSync(`${damaged}/v1/l/*/team_.app_.0/pk/*`);
    const bytes = fs.readFileSync(pack as string);
    bytes[500] = (bytes[500] as number) ^ 1;
    fs.writeFileSync(pack as string, bytes);
    const args = ['copy', '--from', `file:${damaged}`, '--to', `file:${work.at('third')}`, '--init'];
    const ran = await work.json(args, { env: { HOLDFAST_LINEAGE: '' }, code: 19 });
    expect(ran['lineages']).toMatchObject([
      { lineage: 'team/app/0', head: { slot: 1 }, passed: [{ slot: 2, reason: 'damaged' }] },
      { lineage: 'team/app/1', head: { slot: 2 }, passed: [] },
    ]);
    const text = await work.run(args, { env: { HOLDFAST_LINEAGE: '' } });
    expect(text).toMatchObject({ code: 19, stdout: expect.stringMatching(/2: damaged, passed over: .*\n/) });
  });

  it('follows until it is told to end, and then ends well', async () => {
    const env = { ...whole, HOLDFAST_FROM: work.store, HOLDFAST_TO: second };
    let lines = '';
    let ending = false;
    const ran = await work.run(['copy', '--follow', '--every', '200ms', '--output', 'json'], {
      env,
      onStart: (child) => {
        child.stdout?.on('data', (chunk: Buffer) => {
          const first = lines === '';
          lines += chunk.toString();
          if (first) void work.json(['checkpoint', work.at('data'), '--label', 'new=yes']);
          if (ending || !lines.includes('"slot":3')) return;
          ending = true;
          child.kill('SIGTERM');
        });
      },
    });
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    const events = ran.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(events.slice(0, -1).every(({ event }) => event === 'status')).toBe(true);
    expect(events.at(-1)).toMatchObject({ records: 1, lineages: [{ head: { slot: 3 }, behind: 0 }, {}] });
  });

  it('writes nothing into a lineage that somebody has gone on with in the second store', async () => {
    const env = { HOLDFAST_STORE: second, HOLDFAST_STATE_DIR: work.at('elsewhere') };
    await work.json(['checkpoint', work.at('data'), '--take'], { env });
    await work.json(['checkpoint', work.at('data')]);
    const before = fs.globSync(`${work.at('second')}/v1/l/*/team_.app_.0/log/*`).sort();
    const ran = await work.json(copy(), { env: whole, code: 16 });
    expect(ran['lineages']).toMatchObject([{ error: { code: 'E_DIVERGED' }, stopped: true }, { behind: 0 }]);
    expect(fs.globSync(`${work.at('second')}/v1/l/*/team_.app_.0/log/*`).sort()).toEqual(before);
  });

  it('says what is wrong with its options', async () => {
    const bad: readonly (readonly [readonly string[], RegExp])[] = [
      [['copy', '--to', second], /--from is missing/],
      [['copy', '--from', second, '--to', second], /same store/],
      [copy('--every', '5s'), /--every needs --follow/],
      [copy('--follow', '--every', '1ms'), /less than 100ms/],
      [copy('--lineage', 'team/none/0'), /team\/none/],
    ];
    for (const [args, message] of bad) expect((await work.error(args))['message']).toMatch(message);
  });
});
