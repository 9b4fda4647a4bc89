/** Going back to an older checkpoint, as pods of a workload do it that all start with the same request. */
import { randomBytes } from 'node:crypto';
import { readdirSync, rmSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type JsonObject, Workplace } from '../cli/run-cli.ts';
import { Pod, type Rehydrated, said } from './pod.ts';

let place: Workplace;
beforeEach(async () => {
  place = new Workplace();
  await place.json(['init']);
});
afterEach(() => place[Symbol.dispose]());

/** A new pod of the workload, started with that request. */
async function started(uid: string, to: string, more: readonly string[] = []): Promise<{ pod: Pod; ran: Rehydrated }> {
  const pod = new Pod(place, uid);
  return { pod, ran: await pod.rehydrate(['--restore-at', to, ...more]) };
}

/** Three checkpoints of a pod, of which the last is the poison. */
async function poisoned(): Promise<{ readonly good: JsonObject; readonly poison: JsonObject }> {
  const pod = new Pod(place, 'pod-1');
  expect(await pod.rehydrate()).toMatchObject({ code: 0 });
  for (let i = 0; i < 30; i++) pod.write(`file-${i}`, 'x'.repeat(4000));
  pod.write('ledger', 'first');
  await pod.checkpoint();
  pod.write('ledger', 'good');
  // More than fits into a record.
  pod.write('large', randomBytes(400_000).toString('hex'));
  const good = await pod.checkpoint();
  for (let i = 0; i < 300; i++) pod.write(`more-${i}`, 'y'.repeat(4000));
  pod.write('ledger', 'poison');
  const poison = await pod.checkpoint(['--seal']);
  return { good, poison };
}

const idOf = (checkpoint: JsonObject): string => `id:${String(checkpoint['id']).slice(0, 12)}`;

describe('a request by id', () => {
  test('is carried out, recorded, and what is newer stays in the log', async () => {
    const { good, poison } = await poisoned();
    const { pod, ran } = await started('pod-2', idOf(good));
    expect(ran).toMatchObject({
      code: 0,
      receipt: {
        outcome: 'restored',
        verified: true,
        restoreAt: { value: idOf(good), outcome: 'restored' },
        from: { slot: good['slot'] },
        suspect: false,
      },
    });
    expect(pod.read('ledger')).toBe('good');
    const kept = await place.json(['show', '--at', String(poison['slot'])]);
    expect(kept['id']).toBe(poison['id']);
  });

  test('is honoured once: as soon as a checkpoint was made of it, pods go on from there', async () => {
    const { good } = await poisoned();
    const first = await started('pod-2', idOf(good));
    first.pod.write('ledger', 'after');
    const after = await first.pod.checkpoint(['--seal']);
    // Much less than the poison held, and yet nothing that was lost.
    expect(after).toMatchObject({ suspect: false });
    for (const uid of ['pod-3', 'pod-4']) {
      const { pod, ran } = await started(uid, idOf(good));
      expect(ran.receipt).toMatchObject({
        restoreAt: { outcome: 'honoured-before' },
        from: { slot: after['slot'] },
      });
      expect(pod.read('ledger')).toBe('after');
      // So the next one looks no further than this.
      const claim = await place.json(['ls', '--all']);
      expect((claim['checkpoints'] as JsonObject[])[0]).toMatchObject({
        kind: 'CLAIM',
        labels: { 'holdfast.dev/restore-at-honoured': idOf(good) },
      });
    }
  });

  test('is carried out again where the pod died before it stored anything', async () => {
    const { good } = await poisoned();
    await started('pod-2', idOf(good));
    const { pod, ran } = await started('pod-3', idOf(good));
    expect(ran.receipt).toMatchObject({ restoreAt: { outcome: 'restored' }, from: { slot: good['slot'] } });
    expect(pod.read('ledger')).toBe('good');
  });

  test('another value is another request, and the first one again is none', async () => {
    const { good, poison } = await poisoned();
    const first = await started('pod-2', idOf(good));
    first.pod.write('ledger', 'after');
    await first.pod.checkpoint(['--seal']);
    const second = await started('pod-3', idOf(poison));
    expect(second.pod.read('ledger')).toBe('poison');
    second.pod.write('ledger', 'after the poison');
    await second.pod.checkpoint(['--seal']);
    const third = await started('pod-4', idOf(good));
    expect(third.ran.receipt).toMatchObject({ restoreAt: { outcome: 'honoured-before' } });
    expect(third.pod.read('ledger')).toBe('after the poison');
  });

  test('run again in the pod that has its data does nothing', async () => {
    const { good } = await poisoned();
    const { pod } = await started('pod-2', idOf(good));
    pod.write('ledger', 'after');
    expect(await pod.rehydrate(['--restore-at', idOf(good)])).toMatchObject({ code: 0 });
    expect(pod.read('ledger')).toBe('after');
  });

  test('that names nothing lets nothing start, whatever the policies say, and says what to do', async () => {
    await poisoned();
    const policies = ['--on-missing', 'empty', '--on-first-boot', 'empty'];
    const { pod, ran } = await started('pod-2', 'id:0123456789ab', policies);
    expect(ran).toMatchObject({ code: 33, error: { code: 'E_BLOCKED' }, receipt: { outcome: 'failed' } });
    expect(ran.error?.remedy).toContain('holdfast.dev/restore-at');
    expect(pod.read('ledger')).toBeUndefined();
  });

  test('of a checkpoint that is damaged is not answered with another one', async () => {
    const { good } = await poisoned();
    const files = readdirSync(place.at('store'), { recursive: true, encoding: 'utf8' });
    const packs = files.filter((path) => path.includes(`/pk/${good['slot']}-`));
    expect(packs.length).toBeGreaterThan(0);
    for (const path of packs) rmSync(place.at('store', path));
    const more = ['--on-missing', 'block:1s'];
    const { pod, ran } = await started('pod-2', idOf(good), more);
    expect(ran).toMatchObject({ code: 33, error: { code: 'E_BLOCKED' } });
    expect(pod.read('ledger')).toBeUndefined();
    // Nor with nothing; it waits, as it would for ever.
    const waited = await new Pod(place, 'pod-3').rehydrate(['--restore-at', idOf(good), '--on-missing', 'older:1h'], {
      onStart: (child) => void said(child, 'rehydrate.no-data').then(() => child.kill('SIGTERM')),
    });
    expect(waited).toMatchObject({ code: 130, receipt: { outcome: 'failed', error: { code: 'E_ABORTED' } } });
  });
});

describe('a request by time', () => {
  test('goes back to the newest made until then, once', async () => {
    const { good } = await poisoned();
    const to = String((await place.json(['show', '--at', idOf(good)]))['time']);
    const first = await started('pod-2', to);
    expect(first.pod.read('ledger')).toBe('good');
    first.pod.write('ledger', 'after');
    await first.pod.checkpoint(['--seal']);
    const second = await started('pod-3', to);
    expect(second.ran.receipt).toMatchObject({ restoreAt: { value: to, outcome: 'honoured-before' } });
    expect(second.pod.read('ledger')).toBe('after');
  });

  test.each([
    ['before everything', '2020-01-01', 'E_BLOCKED'],
    ['that is not over', '2999-01-01T00:00Z', 'E_USAGE'],
  ])('%s is refused', async (_, to, code) => {
    await poisoned();
    expect((await started('pod-2', to)).ran).toMatchObject({ error: { code } });
  });

  test.each(['yesterday', 'latest~1', '12'])('that is %s is none', async (to) => {
    expect((await started('pod-2', to)).ran).toMatchObject({ code: 2, error: { code: 'E_USAGE' } });
  });

  test('means nothing for a pod of which nothing was ever stored', async () => {
    const { ran } = await started('pod-1', '2020-01-01');
    expect(ran).toMatchObject({
      code: 0,
      receipt: { outcome: 'empty', restoreAt: { outcome: 'not-applied' }, policy: { answer: 'first-boot' } },
    });
  });
});
