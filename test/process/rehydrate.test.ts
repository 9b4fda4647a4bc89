/** The init container as a process, against a directory: who gets which data, and what is left alone. */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Workplace } from '../cli/run-cli.ts';
import { Pod } from './pod.ts';

let place: Workplace;
beforeEach(async () => {
  place = new Workplace();
  await place.json(['init']);
});
afterEach(() => place[Symbol.dispose]());

async function podWithData(uid: string, text: string): Promise<Pod> {
  const pod = new Pod(place, uid);
  expect(await pod.rehydrate()).toMatchObject({ code: 0 });
  pod.write('ledger', text);
  await pod.checkpoint();
  return pod;
}

describe('a pod that starts', () => {
  test('begins empty where nothing was ever stored, and holds the lineage', async () => {
    const pod = new Pod(place, 'pod-1');
    const { code, receipt } = await pod.rehydrate();
    expect(code).toBe(0);
    expect(receipt).toMatchObject({
      outcome: 'empty',
      epoch: 1,
      from: null,
      suspect: false,
      policy: { answer: 'first-boot', applied: 'empty' },
      volumes: { data: { outcome: 'empty' } },
    });
    expect(pod.marker()).toMatchObject({
      phase: 'done',
      volumes: { data: { from: { kind: 'empty', why: 'first-boot' } } },
    });
    // The claim is the pod's: what writes from its private directory goes on under it.
    pod.write('ledger', 'one');
    expect(await pod.checkpoint()).toMatchObject({ slot: 2 });
  });

  test('gets what its predecessor stored last, and says from where', async () => {
    const before = await podWithData('pod-1', 'one');
    before.write('ledger', 'two');
    const { slot, id, root, digest } = await before.checkpoint();
    const pod = new Pod(place, 'pod-2');
    const { code, receipt, stdout } = await pod.rehydrate();
    expect(code).toBe(0);
    expect(pod.read('ledger')).toBe('two');
    expect(receipt).toMatchObject({
      outcome: 'restored',
      verified: true,
      from: { slot, id, root, digest },
      epoch: slot + 1,
      volumes: { data: { outcome: 'restored', verified: true, files: 1, bytes: 3 } },
    });
    expect(JSON.parse(stdout)).toEqual(receipt);
  });

  test('fences its predecessor: what that stores later is refused, not lost in silence', async () => {
    const before = await podWithData('pod-1', 'one');
    await new Pod(place, 'pod-2').rehydrate();
    before.write('ledger', 'late');
    const ran = await place.error(['checkpoint', `data=${before.data}`, '--state-dir', before.state]);
    expect(['E_FENCED', 'E_LINEAGE_HELD', 'E_DIVERGED']).toContain(ran.code);
  });

  test('leaves the receipt as its termination message', async () => {
    await podWithData('pod-1', 'one');
    const pod = new Pod(place, 'pod-2');
    await pod.rehydrate(['--termination-message', place.at('note')]);
    const { readFileSync } = await import('node:fs');
    expect(JSON.parse(readFileSync(place.at('note'), 'utf8'))).toEqual(pod.receipt());
  });
});

describe('a container that runs again', () => {
  test('over data that is in use does nothing, and asks no store', async () => {
    const pod = await podWithData('pod-1', 'one');
    pod.write('ledger', 'newer than any checkpoint');
    const receipt = pod.receipt();
    rmSync(place.at('store'), { recursive: true });
    const again = await pod.rehydrate(['--termination-message', place.at('message')]);
    expect(again).toMatchObject({ code: 0, events: [{ event: 'rehydrate.live' }] });
    const { readFileSync } = await import('node:fs');
    expect(JSON.parse(readFileSync(place.at('message'), 'utf8'))).toMatchObject({ policy: { answer: 'live' } });
    expect(pod.read('ledger')).toBe('newer than any checkpoint');
    expect(pod.receipt()).toEqual(receipt);
  });

  test('after an interruption at its first boot is still at its first boot', async () => {
    const pod = new Pod(place, 'pod-1');
    await pod.rehydrate();
    // As if it had been killed between its claim and its last word.
    pod.writeState('rehydrate.json', (pod.stateText('rehydrate.json') as string).replaceAll('"done"', '"started"'));
    const again = await pod.rehydrate();
    expect(again).toMatchObject({ code: 0, receipt: { outcome: 'empty', epoch: 1, policy: { answer: 'first-boot' } } });
  });

  test('after an interruption writes over what it had begun, and over nothing else', async () => {
    const before = await podWithData('pod-1', 'one');
    before.write('ledger', 'two');
    const pod = new Pod(place, 'pod-2');
    await pod.rehydrate();
    const marker = (pod.stateText('rehydrate.json') as string).replaceAll('"done"', '"started"');
    pod.writeState('rehydrate.json', marker);
    pod.write('leftover', 'of the run that was killed');
    expect(await pod.rehydrate()).toMatchObject({ code: 0, receipt: { outcome: 'restored', verified: true } });
    expect(readdirSync(pod.data)).toEqual(['ledger']);
  });
});

describe('a private directory that says nothing', () => {
  const nothing: readonly (readonly [string, string])[] = [
    ['torn', '{"version":1,"podUid":"pod-1","linea'],
    ['of an earlier version', '{"version":0,"podUid":"pod-1","volumes":{}}'],
    ['of something else', '[1,2,3]'],
    ['without its volumes', '{"version":1,"podUid":"pod-1","lineage":"team/app/0","phase":"done"}'],
    ['empty', ''],
  ];

  test.each(nothing)(
    'a marker that is %s is none: data that is there is kept, and the next checkpoint suspect',
    async (_, text) => {
      const pod = await podWithData('pod-1', 'one');
      pod.write('ledger', 'newer');
      pod.writeState('rehydrate.json', text);
      const again = await pod.rehydrate();
      expect(again).toMatchObject({ code: 0, receipt: { outcome: 'kept', suspect: true, epoch: 1 } });
      expect(pod.read('ledger')).toBe('newer');
      expect(pod.marker()).toMatchObject({
        phase: 'done',
        suspect: true,
        volumes: { data: { from: { kind: 'kept' } } },
      });
    },
  );

  test('a marker of a newer Holdfast ends it, and nothing is touched', async () => {
    const pod = await podWithData('pod-1', 'one');
    pod.writeState('rehydrate.json', '{"version":2,"decisions":"unknown"}');
    expect(await pod.rehydrate()).toMatchObject({ code: 13, error: { code: 'E_FORMAT_NEWER' } });
    expect(pod.read('ledger')).toBe('one');
  });

  test('a marker of another pod is none', async () => {
    const before = await podWithData('pod-1', 'one');
    const pod = new Pod(place, 'pod-2');
    pod.writeState('rehydrate.json', before.stateText('rehydrate.json') as string);
    expect(await pod.rehydrate()).toMatchObject({ code: 0, receipt: { outcome: 'restored' } });
    expect(pod.read('ledger')).toBe('one');
  });

  test('a whole directory that is gone costs no data', async () => {
    const pod = await podWithData('pod-1', 'one');
    pod.write('ledger', 'newer');
    pod.forgetState();
    expect(await pod.rehydrate()).toMatchObject({ code: 0, receipt: { outcome: 'kept', suspect: true } });
    expect(pod.read('ledger')).toBe('newer');
  });

  test('data of nobody knows whom is not written over', async () => {
    await podWithData('pod-1', 'one');
    const pod = new Pod(place, 'pod-2');
    pod.write('foreign', 'data');
    expect(await pod.rehydrate()).toMatchObject({
      code: 20,
      error: { code: 'E_TARGET_NOT_EMPTY' },
      receipt: { outcome: 'failed' },
    });
    expect(readdirSync(pod.data)).toEqual(['foreign']);
  });
});

describe('several volumes', () => {
  test('are one set; one that the checkpoint does not have begins empty', async () => {
    const before = await podWithData('pod-1', 'one');
    expect(before.read('ledger')).toBe('one');
    const pod = new Pod(place, 'pod-2', ['data', 'logs']);
    const { receipt } = await pod.rehydrate();
    expect(receipt?.volumes).toMatchObject({ data: { outcome: 'restored' }, logs: { outcome: 'empty' } });
    writeFileSync(`${pod.volumes['logs']}/one`, 'line');
    await pod.checkpoint();
    const next = new Pod(place, 'pod-3', ['data', 'logs']);
    expect(await next.rehydrate()).toMatchObject({ code: 0, receipt: { verified: true } });
    expect(readdirSync(next.volumes['logs'] as string)).toEqual(['one']);
  });
});

describe('a volume that is too small', () => {
  test('is refused before the first byte', async () => {
    const before = await podWithData('pod-1', 'one');
    before.write('large', 'x'.repeat(300_000));
    await before.checkpoint();
    const pod = new Pod(place, 'pod-2');
    const { code, error, receipt } = await pod.rehydrate(['--size-limit', 'data=100KiB']);
    expect({ code, error }).toMatchObject({ code: 22, error: { code: 'E_TARGET_FULL' } });
    expect(receipt).toMatchObject({ outcome: 'failed', epoch: null, error: { code: 'E_TARGET_FULL' } });
    expect(readdirSync(pod.data)).toEqual([]);
    expect(await pod.rehydrate(['--size-limit', 'data=1MiB'])).toMatchObject({ code: 0 });
  });
});

describe('usage', () => {
  test.each([
    [['--on-first-boot', 'older:1h'], '--on-first-boot'],
    [['--on-missing', 'sometimes'], '--on-missing'],
    [['--on-unreachable', 'block:soon'], '--on-unreachable'],
    [['--size-limit', 'other=1Gi'], '--size-limit'],
    [['--expect', '12'], 'SLOT:DIGEST'],
  ])('%j is refused', async (args, named) => {
    const { code, stderr } = await new Pod(place, 'pod-1').rehydrate(args);
    expect(code).toBe(2);
    expect(stderr).toContain(named);
  });

  test('a volume and the state directory may not lie in each other', async () => {
    const pod = new Pod(place, 'pod-1');
    mkdirSync(`${pod.data}/state`);
    expect(await pod.rehydrate(['--state-dir', `${pod.data}/state`])).toMatchObject({ code: 2 });
  });
});
