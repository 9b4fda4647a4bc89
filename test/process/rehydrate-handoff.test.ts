/** Two pods of one lineage, as processes: who waits for whom, who goes on, and what a reboot leaves. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { hostname } from 'node:os';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Workplace } from '../cli/run-cli.ts';
import { GoneServer } from '../support/gone-server.ts';
import { Pod, said } from './pod.ts';

let place: Workplace;
beforeEach(async () => {
  place = new Workplace();
  await place.json(['init']);
});
afterEach(() => place[Symbol.dispose]());

async function started(uid: string): Promise<Pod> {
  const pod = new Pod(place, uid);
  expect(await pod.rehydrate()).toMatchObject({ code: 0 });
  return pod;
}

/** Records of `checkpoint` name the host, as those of an agent name its pod. */
describe('the handoff', () => {
  test('a successor waits for the final checkpoint of its predecessor, and gets it', async () => {
    const before = await started('pod-1');
    before.write('ledger', 'one');
    await before.checkpoint();
    const pod = new Pod(place, 'pod-2');
    let sealed: number | undefined;
    const { code, receipt, events } = await pod.rehydrate(['--handoff-wait', '60s'], {
      onStart: async (child) => {
        await said(child, 'rehydrate.handoff');
        before.write('ledger', 'the last');
        sealed = (await before.checkpoint(['--seal']))['slot'] as number;
      },
    });
    expect(code).toBe(0);
    expect(events[0]).toMatchObject({ event: 'rehydrate.handoff', message: expect.stringContaining(hostname()) });
    expect(receipt).toMatchObject({
      from: { slot: sealed },
      handoff: { predecessor: hostname(), outcome: 'sealed' },
    });
    expect(pod.read('ledger')).toBe('the last');
  });

  test('is bounded: a predecessor that never seals is not waited for for ever', async () => {
    const before = await started('pod-1');
    before.write('ledger', 'one');
    await before.checkpoint();
    const { code, receipt } = await new Pod(place, 'pod-2').rehydrate(['--handoff-wait', '1s']);
    expect({ code, receipt }).toMatchObject({
      code: 0,
      receipt: { handoff: { predecessor: hostname(), outcome: 'timeout' }, outcome: 'restored' },
    });
    expect(receipt?.handoff?.seconds).toBeGreaterThanOrEqual(1);
  });

  test('ends at once when the predecessor is known to be gone', async () => {
    await using server = await GoneServer.start();
    server.pods.set('pod-1', 'gone');
    const before = await started('pod-1');
    before.write('ledger', 'one');
    await before.checkpoint();
    const { receipt } = await new Pod(place, 'pod-2').rehydrate([
      ...['--handoff-wait', '60s', '--service', server.address],
    ]);
    expect(receipt).toMatchObject({ handoff: { outcome: 'gone' }, outcome: 'restored' });
    expect(receipt?.handoff?.seconds).toBeLessThan(5);
    expect(server.asked[0]?.pod).toEqual({ uid: 'pod-1', name: hostname() });
  });

  test('a checkpoint that comes between restore and claim is applied, too', async () => {
    const before = await started('pod-1');
    for (let i = 0; i < 400; i++) before.write(`file-${i}`, `content ${i}`);
    await before.checkpoint();
    const pod = new Pod(place, 'pod-2');
    // Commits all the time: one of them falls between, or the claim comes first and refuses the rest.
    let over = false;
    let committed: number | undefined;
    const committing = (async () => {
      for (let i = 0; !over; i++) {
        before.write('ledger', String(i));
        const ran = await place.run([
          'checkpoint',
          `data=${before.data}`,
          '--state-dir',
          before.state,
          '--output',
          'json',
        ]);
        if (ran.code === 0) committed = i;
        else break;
      }
    })();
    const { code, receipt } = await pod.rehydrate();
    over = true;
    await committing;
    expect(code).toBe(0);
    // Whatever was acknowledged to the predecessor, the successor has.
    expect(pod.read('ledger')).toBe(committed === undefined ? undefined : String(committed));
    expect(receipt).toMatchObject({ verified: true });
  });
});

describe('a pod that lost its lineage', () => {
  /** The successor claims while the init container of the first pod is interrupted; then that one runs again. */
  async function overtaken(): Promise<{ readonly pod: Pod; readonly successor: Pod }> {
    const pod = await started('pod-1');
    const marker = (pod.stateText('rehydrate.json') as string).replaceAll('"done"', '"started"');
    pod.writeState('rehydrate.json', marker);
    const successor = await new Pod(place, 'pod-2');
    expect(await successor.rehydrate(['--on-missing', 'empty'])).toMatchObject({ code: 0 });
    return { pod, successor };
  }

  test('waits while the other may be alive, and says whom for; ends with a code of its own', async () => {
    const { pod } = await overtaken();
    const { code, error, receipt } = await pod.rehydrate(['--claim-wait', '1s', '--on-missing', 'empty']);
    expect({ code, error }).toMatchObject({ code: 14, error: { code: 'E_LINEAGE_HELD' } });
    expect(error?.remedy).toContain('--service');
    expect(receipt).toMatchObject({ outcome: 'failed', epoch: null, error: { code: 'E_LINEAGE_HELD', exit: 14 } });
    expect(pod.marker()).toMatchObject({ phase: 'started' });
  });

  test('goes on when the other is known to be gone, with what that stored', async () => {
    await using server = await GoneServer.start();
    const { pod, successor } = await overtaken();
    successor.write('ledger', 'of the successor');
    const { slot } = await successor.checkpoint();
    const { code, receipt } = await pod.rehydrate(['--claim-wait', '60s', '--service', server.address], {
      onStart: async (child) => {
        await said(child, 'rehydrate.held');
        expect(pod.receipt()).toMatchObject({ outcome: 'waiting', waitsFor: expect.stringContaining('pod-2') });
        server.pods.set('pod-2', 'gone');
      },
    });
    expect({ code, receipt }).toMatchObject({ code: 0, receipt: { outcome: 'restored', from: { slot } } });
    expect(pod.read('ledger')).toBe('of the successor');
  });

  test('whose application has data that the other committed over is diverged: a person decides, nothing is touched', async () => {
    await using server = await GoneServer.start();
    const pod = await started('pod-1');
    pod.write('ledger', 'of the first');
    await pod.checkpoint();
    const successor = await started('pod-2');
    successor.write('ledger', 'of the successor');
    await successor.checkpoint();
    server.pods.set('pod-2', 'gone');
    // Its marker is gone, its data is not.
    pod.writeState('rehydrate.json', '');
    const { code, error, receipt } = await pod.rehydrate(['--service', server.address]);
    expect({ code, error }).toMatchObject({ code: 16, error: { code: 'E_DIVERGED' } });
    expect(receipt).toMatchObject({ outcome: 'failed', error: { code: 'E_DIVERGED' } });
    expect(pod.read('ledger')).toBe('of the first');
  });
});

test('a pod that is gone itself, as after a deletion by force, claims nothing', async () => {
  await using server = await GoneServer.start();
  const before = await started('pod-1');
  before.write('ledger', 'one');
  const { slot } = await before.checkpoint(['--seal']);
  server.pods.set('pod-2', 'gone');
  const pod = new Pod(place, 'pod-2');
  const { code, error, receipt } = await pod.rehydrate(['--service', server.address]);
  expect({ code, error }).toMatchObject({ code: 36, error: { code: 'E_POD_GONE' } });
  expect(receipt).toMatchObject({ outcome: 'failed', epoch: null, from: { slot } });
  expect(pod.marker()).toMatchObject({ phase: 'started' });
  const { checkpoints } = await place.json(['ls', '--lineage', 'team/app/0', '--all']);
  expect((checkpoints as { holder: string }[]).some(({ holder }) => holder === 'pod-2')).toBe(false);
  // Once the lineage is its own it is asked no more.
  server.pods.delete('pod-2');
  expect(await pod.rehydrate(['--service', server.address])).toMatchObject({ code: 0 });
  server.pods.set('pod-2', 'gone');
  pod.writeState('rehydrate.json', (pod.stateText('rehydrate.json') as string).replaceAll('"done"', '"started"'));
  expect(await pod.rehydrate(['--service', server.address])).toMatchObject({ code: 0 });
});

/** Mounts, which only root may make here; elsewhere the machine says so. */
const mounts = process.getuid?.() === 0;

describe.skipIf(!mounts)('a reboot', () => {
  const mounted: string[] = [];
  afterEach(() => {
    for (const path of mounted.splice(0)) execFileSync('umount', [path]);
  });

  test('empties what is in memory, which is restored again; what is on disk stays as the application left it', async () => {
    const mount = (path: string): void => {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', path]);
      mounted.push(path);
    };
    const pod = new Pod(place, 'pod-1', ['data', 'cache']);
    const cache = pod.volumes['cache'] as string;
    mount(cache);
    expect(await pod.rehydrate()).toMatchObject({ code: 0 });
    pod.write('ledger', 'one');
    mkdirSync(`${cache}/warm`);
    await pod.checkpoint();
    pod.write('ledger', 'newer than the checkpoint');
    // What is left of the marker is of another boot.
    expect(pod.marker()?.['volumes']['cache']).toMatchObject({ memory: true });
    execFileSync('umount', [mounted.pop() as string]);
    mount(cache);
    const bootId = pod.marker()?.['volumes']['cache']['bootId'] as string;
    pod.writeState('rehydrate.json', (pod.stateText('rehydrate.json') as string).replaceAll(bootId, 'an earlier boot'));
    const { code, receipt } = await pod.rehydrate();
    expect({ code, receipt }).toMatchObject({
      code: 0,
      receipt: { volumes: { data: { outcome: 'kept' }, cache: { outcome: 'restored', verified: true } } },
    });
    expect(pod.read('ledger')).toBe('newer than the checkpoint');
    expect(readdirSync(cache)).toEqual(['warm']);
    // In the same boot it runs once more, and does nothing.
    expect(await pod.rehydrate()).toMatchObject({ code: 0, events: [{ event: 'rehydrate.live' }] });
  });
});
