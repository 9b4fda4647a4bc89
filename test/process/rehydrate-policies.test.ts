/** Each policy under each of the three answers to "no data", with real processes on a directory. */
import { hash } from 'node:crypto';
import { cpSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Workplace } from '../cli/run-cli.ts';
import { Pod, said } from './pod.ts';

/** Stores that were made once: a repository, and one in which a pod has left two checkpoints. */
const made = { empty: new Workplace(), used: new Workplace() };
let slots: { readonly older: number; readonly newest: number };
let place: Workplace;
beforeAll(async () => {
  await made.empty.json(['init']);
  copyStore(made.empty, made.used);
  slots = await usedBy(new Pod(made.used, 'pod-1'));
});
afterAll(() => {
  for (const each of Object.values(made)) each[Symbol.dispose]();
});
beforeEach(() => {
  place = new Workplace();
  copyStore(made.empty, place);
});
afterEach(() => place[Symbol.dispose]());

function copyStore(from: Workplace, to: Workplace): void {
  rmSync(to.at('store'), { recursive: true, force: true });
  for (const name of ['store', 'key'])
    cpSync(from.at(name), to.at(name), { recursive: true, preserveTimestamps: true });
}

/** Too large for a record: its pack is an object of its own, which can get lost. */
const large = (letter: string): string =>
  Array.from({ length: 15_000 }, (_, i) => hash('sha256', `${letter}${i}`)).join('\n');

async function usedBy(pod: Pod): Promise<typeof slots> {
  expect(await pod.rehydrate()).toMatchObject({ code: 0 });
  pod.write('ledger', 'one');
  pod.write('rest', large('a'));
  const older = (await pod.checkpoint())['slot'] as number;
  pod.write('ledger', large('b'));
  const newest = (await pod.checkpoint())['slot'] as number;
  return { older, newest };
}

function predecessor(): typeof slots {
  copyStore(made.used, place);
  return slots;
}

function files(below: string): readonly string[] {
  return readdirSync(below, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** What brings each answer about. */
const ways: Readonly<Record<string, { readonly answer: string; make(): Promise<readonly string[]> }>> = {
  'nothing was ever stored': { answer: 'first-boot', make: async () => [] },
  'a pack of the newest checkpoint is gone': {
    answer: 'missing',
    async make() {
      const { newest } = predecessor();
      const packs = files(place.at('store')).filter((path) => path.includes(`/pk/${newest}-`));
      expect(packs.length).toBeGreaterThan(0);
      for (const path of packs) rmSync(path);
      return [];
    },
  },
  'the log has a claim and no checkpoint': {
    answer: 'missing',
    async make() {
      await new Pod(place, 'pod-1').rehydrate();
      return [];
    },
  },
  'the newest record is not the one that is expected': {
    answer: 'missing',
    async make() {
      const { newest } = predecessor();
      return ['--expect', `${newest}:${'0'.repeat(64)}`];
    },
  },
  'the store shows less than is expected': {
    answer: 'missing',
    make: async () => ['--expect', `7:${'a'.repeat(64)}`],
  },
  'the store is not there': {
    answer: 'unreachable',
    async make() {
      predecessor();
      renameSync(place.at('store'), place.at('elsewhere'));
      return [];
    },
  },
  'the store holds no repository': {
    answer: 'unreachable',
    async make() {
      renameSync(place.at('store'), place.at('elsewhere'));
      mkdirSync(place.at('store'));
      return [];
    },
  },
};

const rows = Object.entries(ways).map(([name, way]) => ({ name, ...way }));

describe.each(rows)('when $name', ({ answer, make }) => {
  test('empty begins with nothing, and says that it did', async () => {
    const args = await make();
    const pod = new Pod(place, 'pod-2');
    const { code, receipt, error } = await pod.rehydrate([`--on-${answer}`, 'empty', ...args]);
    expect({ code, error }).toEqual({ code: 0, error: undefined });
    expect(receipt).toMatchObject({
      outcome: 'empty',
      from: null,
      verified: false,
      // What begins empty though there was data must not push that data out.
      suspect: answer !== 'first-boot',
      policy: { answer, applied: 'empty' },
    });
    expect(receipt?.epoch === null).toBe(answer === 'unreachable');
    expect(readdirSync(pod.data)).toEqual([]);
    expect(pod.marker()).toMatchObject({ phase: 'done', volumes: { data: { from: { kind: 'empty', why: answer } } } });
    // Run again, the application's data is not touched.
    pod.write('ledger', 'of the application');
    expect(await pod.rehydrate()).toMatchObject({ code: 0, events: [{ event: 'rehydrate.live' }] });
    expect(pod.read('ledger')).toBe('of the application');
  });

  test('block past its deadline ends with a code of its own, and nothing starts', async () => {
    const args = await make();
    const pod = new Pod(place, 'pod-2');
    const { code, receipt, error } = await pod.rehydrate([`--on-${answer}`, 'block:200ms', ...args]);
    expect({ code, error }).toMatchObject({ code: 33, error: { code: 'E_BLOCKED' } });
    expect(receipt).toMatchObject({
      outcome: 'failed',
      policy: { answer, applied: 'block:200ms' },
      error: { code: 'E_BLOCKED', exit: 33 },
    });
    expect(pod.marker()?.['phase'] ?? 'started').toBe('started');
    // And the second try does not begin empty either.
    expect(await pod.rehydrate([`--on-${answer}`, 'block:200ms', ...args])).toMatchObject({ code: 33 });
  });
});

describe('older data', () => {
  test('is taken when the newest is damaged, if it is young enough, and the claim names it', async () => {
    const { newest, older } = predecessor();
    for (const path of files(place.at('store'))) if (path.includes(`/pk/${newest}-`)) rmSync(path);
    const pod = new Pod(place, 'pod-2');
    const { code, receipt } = await pod.rehydrate(['--on-missing', 'older:1h']);
    expect(code).toBe(0);
    expect(receipt).toMatchObject({
      outcome: 'restored',
      verified: true,
      from: { slot: older },
      policy: { answer: 'missing', applied: 'older:1h' },
    });
    expect(pod.read('ledger')).toBe('one');
    expect(readdirSync(pod.data).sort()).toEqual(['ledger', 'rest']);
  });

  test('that is too old is not taken', async () => {
    const { newest } = predecessor();
    for (const path of files(place.at('store'))) if (path.includes(`/pk/${newest}-`)) rmSync(path);
    const pod = new Pod(place, 'pod-2');
    const { code, receipt } = await pod.rehydrate(['--on-missing', 'older:1ms'], {
      onStart: async (child) => {
        await said(child, 'rehydrate.no-data');
        child.kill('SIGTERM');
      },
    });
    // It would wait for ever.
    expect(code).toBe(130);
    expect(receipt).toMatchObject({ outcome: 'failed', policy: { answer: 'missing', applied: 'older:1ms' } });
  });
});

describe('a container that is blocked', () => {
  test('goes on by itself when the store is back, and what it waits for stands in the receipt', async () => {
    const { newest } = predecessor();
    renameSync(place.at('store'), place.at('elsewhere'));
    const pod = new Pod(place, 'pod-2');
    const { code, receipt } = await pod.rehydrate(['--on-unreachable', 'block:60s'], {
      onStart: async (child) => {
        await said(child, 'rehydrate.no-data');
        expect(pod.receipt()).toMatchObject({
          outcome: 'waiting',
          waitsFor: expect.stringContaining('E_STORE_UNREACHABLE'),
        });
        renameSync(place.at('elsewhere'), place.at('store'));
      },
    });
    expect(code).toBe(0);
    expect(receipt).toMatchObject({ outcome: 'restored', from: { slot: newest }, waitsFor: null });
  });

  test('goes on when a lost pack is back', async () => {
    const { newest } = predecessor();
    const packs = files(place.at('store')).filter((path) => path.includes(`/pk/${newest}-`));
    for (const path of packs) renameSync(path, `${place.at('kept')}-${packs.indexOf(path)}`);
    const pod = new Pod(place, 'pod-2');
    const { code, receipt } = await pod.rehydrate(['--on-missing', 'block:60s'], {
      onStart: async (child) => {
        await said(child, 'rehydrate.no-data');
        for (const [i, path] of packs.entries()) renameSync(`${place.at('kept')}-${i}`, path);
      },
    });
    expect(code).toBe(0);
    expect(receipt).toMatchObject({ outcome: 'restored', verified: true, from: { slot: newest } });
    expect(pod.read('rest')).toBe(large('a'));
  });
});

test('a wrong key is no missing data: no policy begins empty with it', async () => {
  predecessor();
  const other = new Workplace();
  try {
    await other.json(['init']);
    const pod = new Pod(place, 'pod-2');
    const ran = await pod.rehydrate(
      ['--on-missing', 'empty', '--on-unreachable', 'empty', '--on-first-boot', 'empty'],
      {
        env: { HOLDFAST_KEY_FILE: other.at('key') },
      },
    );
    expect(ran).toMatchObject({ code: 11, error: { code: 'E_KEY_WRONG' } });
    expect(pod.marker()).toBeUndefined();
  } finally {
    other[Symbol.dispose]();
  }
});

test('a first boot that is told to wait goes on when a checkpoint appears', async () => {
  const pod = new Pod(place, 'pod-2');
  const { code, receipt } = await pod.rehydrate(['--on-first-boot', 'block:60s'], {
    onStart: async (child) => {
      mkdirSync(place.at('seed'));
      writeFileSync(place.at('seed', 'ledger'), 'seeded');
      await said(child, 'rehydrate.no-data');
      await place.json(['checkpoint', place.at('seed'), '--seal']);
    },
  });
  expect({ code, receipt }).toMatchObject({ code: 0, receipt: { outcome: 'restored' } });
  expect(pod.read('ledger')).toBe('seeded');
});
