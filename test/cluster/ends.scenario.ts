/** Ends that leave no time, or too little: what was durable is there, and what is missing was written down. */
import { beforeAll, describe, expect, test } from 'vitest';
import { Site } from './harness/site.ts';
import { clusterName, installHoldfast } from './scenario/holdfast.ts';
import { Scene } from './scenario/scene.ts';

beforeAll(() => installHoldfast(Site.current()));

describe('a pod', () => {
  test('is deleted by force: the successor has what was durable, or more', async () => {
    await using scene = Scene.open('force');
    scene.run('StatefulSet', { name: 'app', stopMs: 10_000 });
    const first = await scene.ready('app-0');
    const durable = first.write('durable');
    await first.checkpoint();
    await first.delete({ gracePeriodSeconds: 0 });
    const second = await scene.only('app', [first]);
    expect(second.data()).toMatchObject({ digest: durable.digest });
    expect(await second.receipt()).toMatchObject({ outcome: 'restored', verified: true });
  });

  test('has too little grace: the successor has what was saved in time', async () => {
    await using scene = Scene.open('short');
    scene.run('StatefulSet', { name: 'app', stopMs: 60_000, graceSeconds: 6, lineMs: 100 });
    const first = await scene.ready('app-0');
    const written = first.write('before');
    await first.delete();
    const second = await scene.only('app', [first]);
    // Its preStop hook gave notice while the application still ran.
    expect(second.data()).toMatchObject({ digest: written.digest, stopped: [] });
    expect(second.data().lines).toBeGreaterThan(10);
    expect(await second.receipt()).toMatchObject({ outcome: 'restored', verified: true });
  });

  test('outgrows the sizeLimit of its volume: with a larger one, the successor has what was durable', async () => {
    await using scene = Scene.open('evicted');
    const app = (sizeLimit: string) => ({ name: 'app', volume: { emptyDir: { sizeLimit } } });
    scene.run('StatefulSet', app('32Mi'));
    const first = await scene.ready('app-0');
    const durable = first.write('durable');
    await first.checkpoint();
    first.exec('app', 'sh', '-c', 'head -c 48M /dev/urandom > /data/lines');
    await first.gone();
    // Whether the agent saved the large file too, in the seconds that it had: then nothing starts within the old limit.
    scene.run('StatefulSet', app('128Mi'));
    await scene.site.api.delete(scene.path('pods', 'app-0'));
    const second = await scene.only('app', [first]);
    expect(second.data().digest).toBe(durable.digest);
    expect(await second.receipt()).toMatchObject({ outcome: 'restored', verified: true });
  });
});

describe('a Job', () => {
  test('ends: its last state is sealed in the store', async () => {
    await using scene = Scene.open('job');
    scene.run('Job', { name: 'app', args: ['work', 'result', '1500', '0'] });
    await scene.site.api.until('the Job to complete', scene.path('jobs', 'app', 'apis/batch/v1'), 120, (job) =>
      job?.status.succeeded === 1 ? true : undefined,
    );
    const lineage = `${clusterName}/${scene.namespace}/job/app/0`;
    const listed = scene.site.run(['holdfast', 'ls', '--all', '--lineage', lineage, '--output', 'json']);
    const { sealed, checkpoints } = JSON.parse(listed);
    expect({ sealed, newest: checkpoints[0].kind }).toEqual({ sealed: true, newest: 'SEAL' });
  });

  test('fails and is tried again: the second pod goes on where the first one ended', async () => {
    await using scene = Scene.open('retry');
    // Fails unless there is data.
    scene.run('Job', { name: 'app', args: ['work', 'result', '1500', 'retry'], spec: { backoffLimit: 2 } });
    const done = await scene.site.api.until('the Job', scene.path('jobs', 'app', 'apis/batch/v1'), 180, (job) =>
      job?.status.succeeded === 1 ||
      (job?.status.conditions ?? []).some(({ type }: { type: string }) => type === 'Failed')
        ? job
        : undefined,
    );
    expect(done.status).toMatchObject({ succeeded: 1, failed: 1 });
  });
});
