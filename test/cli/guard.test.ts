/** A loss on the command line: said, not restored by default, and released by `ack`. */
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Workplace } from './run-cli.ts';

let work: Workplace;

beforeEach(async () => {
  work = new Workplace();
  mkdirSync(work.at('data', 'db'), { recursive: true });
  for (let i = 0; i < 40; i++) writeFileSync(work.at('data', 'db', `${i}`), `row ${i}\n`.repeat(1000));
  writeFileSync(work.at('data', 'other'), 'x');
  await work.json(['init']);
});
afterEach(() => work[Symbol.dispose]());

const lose = (from: number): void => {
  for (let i = from; i < 40; i++) rmSync(work.at('data', 'db', `${i}`), { force: true });
};
const restored = async (name: string): Promise<number> => {
  await work.json(['restore', '--target', work.at(name)]);
  return readdirSync(work.at(name, 'db')).length;
};

describe('a volume that lost most of its files', () => {
  test('is suspect, is not restored by default, and is once somebody has said that it was meant', async () => {
    await work.json(['checkpoint', work.at('data')]);
    lose(4);
    const lost = await work.json(['checkpoint', work.at('data')], { code: 32 });
    expect(lost).toMatchObject({
      suspect: true,
      incomplete: false,
      suspicions: [{ volume: 'data', path: '.', reason: 'fewer-files', before: { files: 41 }, now: { files: 5 } }],
    });
    expect(await work.json(['ls'])).toMatchObject({ checkpoints: [{ slot: 3, suspect: true }, { suspect: false }] });
    expect(await work.json(['ls'], { env: { HOLDFAST_LINEAGE: '' } })).toMatchObject({
      lineages: [{ newest: { slot: 2 }, suspects: 1 }],
    });
    expect(await restored('before')).toBe(40);

    const text = await work.run(['checkpoint', work.at('data')]);
    expect(text).toMatchObject({ code: 32, stderr: '' });
    expect(text.stdout).toMatch(
      /suspect {2}data: 5 files of 41 files, .* of .*\n.*holdfast ack --lineage team\/app\/0\n/,
    );

    expect(await work.json(['ack', '--reason', 'tenants have left'])).toMatchObject({ slot: 4, already: false });
    expect(await work.json(['ack'])).toMatchObject({ slot: 4, already: true, reason: 'tenants have left' });
    expect(await work.json(['show'])).toMatchObject({
      slot: 4,
      suspect: true,
      released: { reason: 'tenants have left' },
    });
    expect(await work.json(['ls'])).toMatchObject({ checkpoints: [{ slot: 4, released: true }, { slot: 3 }, {}] });
    expect(await restored('after')).toBe(4);
    expect(await work.json(['checkpoint', work.at('data')])).toMatchObject({ suspect: false });
  });

  test('is what --guard says', async () => {
    const checkpoint = ['checkpoint', work.at('data'), '--dry-run', '--guard'];
    await work.json(['checkpoint', work.at('data')]);
    lose(20);
    expect(await work.json([...checkpoint, '60%'], { code: 32 })).toMatchObject({ suspect: true });
    expect(await work.json([...checkpoint, '48%'])).toMatchObject({ suspect: false });
    expect(await work.json([...checkpoint, 'data:=60%'], { code: 32 })).toMatchObject({ suspect: true });
    expect(await work.json([...checkpoint, 'logs:=60%'])).toMatchObject({ suspect: false });
    lose(0);
    rmSync(work.at('data', 'other'));
    expect(await work.json([...checkpoint, '0%'], { code: 32 })).toMatchObject({ suspicions: [{ reason: 'empty' }] });
    expect(await work.json([...checkpoint, 'off'])).toMatchObject({ suspect: false });
    const stored = ['checkpoint', work.at('data'), '--guard', 'db/=60%', '--guard', '0%'];
    writeFileSync(work.at('data', 'other'), 'y');
    expect(await work.json(stored, { code: 32 })).toMatchObject({
      suspicions: [{ path: 'db', reason: 'empty', before: { files: 40 }, now: { files: 0 } }],
    });
  });

  test.each(['120%', '20', 'db', '../x=20%', 'db=%', ''])('--guard %j is refused', async (rule) => {
    expect(await work.error(['checkpoint', work.at('data'), '--guard', rule])).toMatchObject({ code: 'E_USAGE' });
  });
});

describe('ack', () => {
  test('releases nothing that is not suspect', async () => {
    expect(await work.error(['ack'])).toMatchObject({ code: 'E_NOT_FOUND' });
    await work.json(['checkpoint', work.at('data')]);
    expect(await work.error(['ack'])).toMatchObject({ code: 'E_NOT_FOUND' });
    expect(await work.error(['ack', '2'])).toMatchObject({ code: 'E_USAGE' });
    expect(await work.error(['ack', 'latest'])).toMatchObject({ code: 'E_USAGE' });
    expect(existsSync(work.at('store', 'v1', 'l'))).toBe(true);
  });

  test('takes an older one by its slot', async () => {
    await work.json(['checkpoint', work.at('data')]);
    lose(4);
    const { slot } = await work.json(['checkpoint', work.at('data')], { code: 32 });
    lose(3);
    await work.json(['checkpoint', work.at('data')], { code: 32 });
    expect(await work.json(['ack', String(slot)])).toMatchObject({ slot });
    expect(await restored('older')).toBe(4);
    // Compared with what was released.
    expect(await work.json(['checkpoint', work.at('data')])).toMatchObject({ suspect: false });
  });
});
