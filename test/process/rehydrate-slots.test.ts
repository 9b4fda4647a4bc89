/** Pods of a Deployment, as processes: each inherits exactly one replica slot, and what happens when all are held. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type JsonObject, Workplace } from '../cli/run-cli.ts';
import { GoneServer } from '../support/gone-server.ts';
import { Pod, type Rehydrated } from './pod.ts';

let place: Workplace;
beforeEach(async () => {
  place = new Workplace({ HOLDFAST_LINEAGE: 'team/app' });
  await place.json(['init']);
});
afterEach(() => place[Symbol.dispose]());

const claim = (replicas: number, ...more: readonly string[]): readonly string[] => [
  ...['--slots', 'claim', '--replicas', String(replicas), ...more],
];

function lineageOf(pod: Pod): string {
  return pod.marker()?.['lineage'] as string;
}

async function checkpoint(pod: Pod, ...more: readonly string[]): Promise<JsonObject> {
  return await pod.checkpoint(['--lineage', lineageOf(pod), ...more]);
}

/** A pod that runs, with data of its own. */
async function running(uid: string, replicas: number): Promise<Pod> {
  const pod = new Pod(place, uid);
  expect(await pod.rehydrate(claim(replicas))).toMatchObject({ code: 0 });
  pod.write('ledger', `of ${uid}`);
  await checkpoint(pod);
  return pod;
}

describe('numbered slots', () => {
  test('pods that start at once get one each', async () => {
    const pods = ['pod-1', 'pod-2', 'pod-3'].map((uid) => new Pod(place, uid));
    const ran: Rehydrated[] = await Promise.all(pods.map((pod) => pod.rehydrate(claim(3))));
    expect(ran.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect(pods.map(lineageOf).sort()).toEqual(['team/app/0', 'team/app/1', 'team/app/2']);
  });

  test('each new pod inherits exactly one predecessor, by its seal', async () => {
    const before = [await running('pod-1', 2), await running('pod-2', 2)];
    expect(before.map(lineageOf)).toEqual(['team/app/0', 'team/app/1']);
    for (const pod of before) await checkpoint(pod, '--seal');
    const after = ['pod-3', 'pod-4'].map((uid) => new Pod(place, uid));
    const ran = await Promise.all(after.map((pod) => pod.rehydrate(claim(2))));
    expect(ran.map(({ receipt }) => receipt?.outcome)).toEqual(['restored', 'restored']);
    expect(after.map((pod) => pod.read('ledger')).sort()).toEqual(['of pod-1', 'of pod-2']);
  });

  test('a slot whose holder is known to be gone is free, one whose holder may be alive is not', async () => {
    await using server = await GoneServer.start();
    await running('pod-1', 2);
    await running('pod-2', 2);
    server.pods.set('pod-2', 'gone');
    const pod = new Pod(place, 'pod-3');
    const { receipt } = await pod.rehydrate(claim(2, '--service', server.address));
    expect(receipt).toMatchObject({ outcome: 'restored', lineage: 'team/app/1', handoff: null });
    expect(pod.read('ledger')).toBe('of pod-2');
    expect(server.asked.map(({ pod: { uid } }) => uid)).toContain('pod-1');
  });

  test('a container that runs again stays with its slot, also when a lower one has got free', async () => {
    const first = await running('pod-1', 2);
    const pod = await running('pod-2', 2);
    await checkpoint(first, '--seal');
    const marker = (pod.stateText('rehydrate.json') as string).replaceAll('"done"', '"started"');
    pod.writeState('rehydrate.json', marker);
    expect(await pod.rehydrate(claim(2))).toMatchObject({ code: 0, receipt: { lineage: 'team/app/1' } });
  });
});

describe('when all slots are held', () => {
  test('that of the oldest claim is taken, and its holder can store nothing more', async () => {
    const first = await running('pod-1', 2);
    const second = await running('pod-2', 2);
    const pod = new Pod(place, 'pod-3');
    const { code, receipt } = await pod.rehydrate(claim(2, '--handoff-wait', '1s'));
    expect({ code, receipt }).toMatchObject({
      code: 0,
      receipt: { outcome: 'restored', lineage: 'team/app/0', handoff: { outcome: 'timeout' } },
    });
    expect(pod.read('ledger')).toBe('of pod-1');
    first.write('ledger', 'too late');
    const args = ['checkpoint', `data=${first.data}`, '--state-dir', first.state, '--lineage', 'team/app/0'];
    expect(await place.error(args)).toMatchObject({ code: 'E_LINEAGE_HELD' });
    // The other goes on.
    second.write('ledger', 'in time');
    expect(await checkpoint(second)).toMatchObject({ consistency: 'converged' });
  });

  test('that of a pod that is ending goes first', async () => {
    await using server = await GoneServer.start();
    await running('pod-1', 2);
    await running('pod-2', 2);
    server.pods.set('pod-2', 'terminating');
    const pod = new Pod(place, 'pod-3');
    const { receipt } = await pod.rehydrate(claim(2, '--service', server.address));
    expect(receipt).toMatchObject({ lineage: 'team/app/1', outcome: 'restored' });
  });

  test('one that is sealed while it waits is inherited instead', async () => {
    await running('pod-1', 2);
    const second = await running('pod-2', 2);
    const pod = new Pod(place, 'pod-3');
    const { receipt } = await pod.rehydrate(claim(2, '--handoff-wait', '60s'), {
      onStart: async (child) => {
        let said = '';
        child.stderr?.on('data', (chunk) => {
          said += String(chunk);
        });
        for (let i = 0; i < 400 && !said.includes('rehydrate.handoff'); i++) {
          await new Promise((resolve) => setTimeout(resolve, 25));
        }
        second.write('ledger', 'the last of pod-2');
        await checkpoint(second, '--seal');
      },
    });
    expect(receipt).toMatchObject({ lineage: 'team/app/1', outcome: 'restored', handoff: { outcome: 'sealed' } });
    expect(pod.read('ledger')).toBe('the last of pod-2');
  });

  test('two that take at once take from two', async () => {
    await running('pod-1', 2);
    await running('pod-2', 2);
    const pods = ['pod-3', 'pod-4'].map((uid) => new Pod(place, uid));
    const ran = await Promise.all(pods.map((pod) => pod.rehydrate(claim(2))));
    expect(ran.map(({ code }) => code)).toEqual([0, 0]);
    expect(pods.map((pod) => pod.read('ledger')).sort()).toEqual(['of pod-1', 'of pod-2']);
  });
});

describe('a fork', () => {
  const fork = (...more: readonly string[]): readonly string[] => claim(1, '--when-held', 'fork', ...more);

  test('begins a slot of its own with what the held one has stored, whose holder goes on', async () => {
    const first = await running('pod-1', 1);
    const pod = new Pod(place, 'pod-2');
    const { code, receipt } = await pod.rehydrate(fork('--handoff-wait', '1s'));
    expect({ code, receipt }).toMatchObject({
      code: 0,
      receipt: {
        outcome: 'restored',
        verified: true,
        lineage: 'team/app/1',
        from: { lineage: 'team/app/0' },
        handoff: { outcome: 'timeout' },
        epoch: 1,
      },
    });
    expect(pod.read('ledger')).toBe('of pod-1');
    first.write('ledger', 'more of pod-1');
    expect(await checkpoint(first)).toMatchObject({ slot: 3 });
    pod.write('ledger', 'of pod-2');
    expect(await checkpoint(pod)).toMatchObject({ slot: 2 });
    // Each has what its own pod wrote.
    expect(await place.run(['cat', 'ledger', '--lineage', 'team/app/0'])).toMatchObject({ stdout: 'more of pod-1' });
    expect(await place.run(['cat', 'ledger', '--lineage', 'team/app/1'])).toMatchObject({ stdout: 'of pod-2' });
  });

  test('is what the next pod inherits, not the slot that it was made from', async () => {
    const first = await running('pod-1', 1);
    const second = new Pod(place, 'pod-2');
    expect(await second.rehydrate(fork())).toMatchObject({ code: 0 });
    second.write('ledger', 'of pod-2');
    await checkpoint(second);
    await checkpoint(first, '--seal');
    await checkpoint(second, '--seal');
    const third = new Pod(place, 'pod-3');
    expect(await third.rehydrate(claim(1))).toMatchObject({
      code: 0,
      receipt: { lineage: 'team/app/1', handoff: null },
    });
    expect(third.read('ledger')).toBe('of pod-2');
  });

  test('whose pod is gone before it stored anything begins with the slot that it was made from once more', async () => {
    await using server = await GoneServer.start();
    const first = await running('pod-1', 1);
    expect(await new Pod(place, 'pod-2').rehydrate(fork())).toMatchObject({ code: 0 });
    first.write('ledger', 'newer of pod-1');
    await checkpoint(first);
    server.pods.set('pod-2', 'gone');
    const third = new Pod(place, 'pod-3');
    expect(await third.rehydrate(fork('--service', server.address))).toMatchObject({
      code: 0,
      receipt: { outcome: 'restored', lineage: 'team/app/1', from: { lineage: 'team/app/0' } },
    });
    expect(third.read('ledger')).toBe('newer of pod-1');
    third.write('ledger', 'of pod-3');
    expect(await checkpoint(third)).toMatchObject({ consistency: 'converged' });
  });

  test('that was given up while the first pod went on is not inherited, whether that has ended or not', async () => {
    const first = await running('pod-1', 1);
    const second = new Pod(place, 'pod-2');
    expect(await second.rehydrate(fork())).toMatchObject({ code: 0 });
    second.write('ledger', 'of pod-2');
    await checkpoint(second, '--seal');
    first.write('ledger', 'weeks later');
    await checkpoint(first);
    // Surged once more: from what the living one has stored, not from the fork that is free.
    const third = new Pod(place, 'pod-3');
    expect(await third.rehydrate(fork())).toMatchObject({ code: 0, receipt: { lineage: 'team/app/2' } });
    expect(third.read('ledger')).toBe('weeks later');
    await checkpoint(third, '--seal');
    first.write('ledger', 'the last of pod-1');
    await checkpoint(first, '--seal');
    const last = new Pod(place, 'pod-4');
    expect(await last.rehydrate(fork())).toMatchObject({ code: 0, receipt: { lineage: 'team/app/0' } });
    expect(last.read('ledger')).toBe('the last of pod-1');
  });

  test('is kept by a container that runs again, with what it began with', async () => {
    await running('pod-1', 1);
    const pod = new Pod(place, 'pod-2');
    expect(await pod.rehydrate(fork())).toMatchObject({ code: 0 });
    pod.writeState('rehydrate.json', (pod.stateText('rehydrate.json') as string).replaceAll('"done"', '"started"'));
    expect(await pod.rehydrate(fork())).toMatchObject({
      code: 0,
      receipt: { lineage: 'team/app/1', from: { lineage: 'team/app/0' }, epoch: 1 },
    });
    expect(pod.read('ledger')).toBe('of pod-1');
  });

  test('of two pods at once is one for each', async () => {
    await running('pod-1', 1);
    const pods = ['pod-2', 'pod-3'].map((uid) => new Pod(place, uid));
    const ran = await Promise.all(pods.map((pod) => pod.rehydrate(fork())));
    expect(ran.map(({ code }) => code)).toEqual([0, 0]);
    expect(pods.map(lineageOf).sort()).toEqual(['team/app/1', 'team/app/2']);
    expect(pods.map((pod) => pod.read('ledger'))).toEqual(['of pod-1', 'of pod-1']);
  });
});

describe('one slot', () => {
  test('refuse: a second pod waits for the first to end, and says so', async () => {
    const first = new Pod(place, 'pod-1');
    const refuse = ['--slots', 'refuse'];
    expect(await first.rehydrate(refuse)).toMatchObject({ code: 0, receipt: { lineage: 'team/app/0' } });
    first.write('ledger', 'one');
    await checkpoint(first);
    const pod = new Pod(place, 'pod-2');
    const held = await pod.rehydrate([...refuse, '--claim-wait', '1s']);
    expect(held).toMatchObject({ code: 14, error: { code: 'E_LINEAGE_HELD' }, receipt: { outcome: 'failed' } });
    first.write('ledger', 'two');
    await checkpoint(first, '--seal');
    expect(await pod.rehydrate(refuse)).toMatchObject({ code: 0, receipt: { outcome: 'restored' } });
    expect(pod.read('ledger')).toBe('two');
  });

  test('seed: all begin from it, and none claims it', async () => {
    const person = new Pod(place, 'person');
    person.write('ledger', 'seed');
    const { slot } = await person.checkpoint(['--lineage', 'team/app/0', '--seal']);
    const pods = ['pod-1', 'pod-2'].map((uid) => new Pod(place, uid));
    const ran = await Promise.all(pods.map((pod) => pod.rehydrate(['--slots', 'seed'])));
    expect(ran.map(({ receipt }) => receipt)).toMatchObject([
      { outcome: 'restored', epoch: null, from: { slot } },
      { outcome: 'restored', epoch: null, from: { slot } },
    ]);
    expect(pods.map((pod) => pod.read('ledger'))).toEqual(['seed', 'seed']);
    expect(pods.map((pod) => pod.marker()?.['writes'])).toEqual([false, false]);
    const listed = await place.json(['ls', '--lineage', 'team/app/0', '--all']);
    expect(JSON.stringify(listed)).not.toContain('pod-1');
  });
});

test.each([
  [['--slots', 'claim'], '--replicas'],
  [['--slots', 'some'], '--slots'],
  [['--replicas', '3'], '--replicas'],
  [['--when-held', 'fork'], '--when-held'],
  [['--slots', 'claim', '--replicas', '1', '--when-held', 'split'], '--when-held'],
  [['--slots', 'claim', '--replicas', '0'], '--replicas'],
])('%j is refused', async (args, named) => {
  const { code, stderr } = await new Pod(place, 'pod-1').rehydrate(args);
  expect(code).toBe(2);
  expect(stderr).toContain(named);
});
