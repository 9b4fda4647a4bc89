/** A store that is away when a pod starts: each policy does what it says, and never takes that for a first boot. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { rehydrateContainer } from '../../src/contract/pod-layout.ts';
import { Site } from './harness/site.ts';
import { endStore, startStore } from './harness/store.ts';
import { installHoldfast } from './scenario/holdfast.ts';
import { Scene } from './scenario/scene.ts';

const site = Site.current();

beforeAll(() => installHoldfast(site));

describe.runIf(site.own)('while the store is away', () => {
  afterAll(async () => {
    await endStore(site);
    await startStore(site);
  });

  test('a pod starts empty, fails, or waits, as on-unreachable says; and who waits gets its data', async () => {
    await using scene = Scene.open('away');
    const app = (policy: string) => ({ name: policy.replaceAll(':', '-'), annotations: { 'on-unreachable': policy } });
    const policies = ['empty', 'block:5s', 'block'];
    for (const policy of policies) scene.run('StatefulSet', app(policy));
    const firsts = await Promise.all(policies.map((policy) => scene.only(app(policy).name)));
    const written = firsts.map((pod) => pod.write('before'));
    for (const pod of firsts) await pod.checkpoint();
    await endStore(site);
    for (const pod of firsts) await pod.delete({ gracePeriodSeconds: 1 });

    const [emptied] = firsts;
    const started = await scene.only('empty', emptied === undefined ? [] : [emptied]);
    expect(started.data().files).toBe(0);
    expect(await started.receipt()).toMatchObject({
      outcome: 'empty',
      suspect: true,
      policy: { answer: 'unreachable', applied: 'empty' },
    });

    const failing = await scene.site.api.until('block:5s to fail', scene.path('pods', 'block-5s-0'), 120, (pod) =>
      [pod?.status.initContainerStatuses?.[0]].find(
        (status) => (status?.state.terminated ?? status?.lastState.terminated)?.exitCode === 33,
      ),
    );
    expect(failing.name).toBe(rehydrateContainer);

    const waiting = await scene.site.api.get(scene.path('pods', 'block-0'));
    expect(waiting.status.initContainerStatuses[0]).toMatchObject({ name: rehydrateContainer, restartCount: 0 });
    await startStore(site);
    const blocked = await scene.only('block');
    expect(blocked.data().digest).toBe(written[2]?.digest);
    expect(await blocked.receipt()).toMatchObject({ outcome: 'restored', verified: true });
  });
});
