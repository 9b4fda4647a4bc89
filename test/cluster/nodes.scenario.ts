/** Nodes that lose their power, boot again, or are cut off: with clusters whose nodes these tests may do that to. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { agentContainer, rehydrateContainer } from '../../src/contract/pod-layout.ts';
import { until } from './harness/processes.ts';
import { Site } from './harness/site.ts';
import type { TestCluster } from './harness/test-cluster.ts';
import { installHoldfast } from './scenario/holdfast.ts';
import { Scene, type ScenePod } from './scenario/scene.ts';

const site = Site.current();
const cluster = site.own as TestCluster;

beforeAll(() => installHoldfast(site));

/** As an operator does it who knows that the node is gone, or only believes it. */
async function forceAway(pod: ScenePod): Promise<void> {
  await site.api.until(`${pod.name} to be given up`, pod.path, 60, (found) =>
    found?.metadata.deletionTimestamp === undefined ? undefined : true,
  );
  await pod.delete({ gracePeriodSeconds: 0 });
}

describe.runIf(cluster)('a node', () => {
  test('loses its power for good: the pod that is forced away has what was durable, on the other node', async () => {
    await using scene = Scene.open('power');
    scene.run('StatefulSet', { name: 'app' });
    const first = await scene.ready('app-0');
    const durable = first.write('durable');
    await first.checkpoint();
    first.write('lost');
    await cluster.cutPower(first.node);
    try {
      await forceAway(first);
      const second = await scene.only('app', [first]);
      expect(second.node).not.toBe(first.node);
      expect(second.data()).toMatchObject({ digest: durable.digest, stopped: [] });
      const receipt = await second.receipt();
      expect(receipt).toMatchObject({ outcome: 'restored', verified: true, handoff: { predecessor: first.name } });
      // Nobody sealed: it waited in vain, or the service in the cluster knew that there is nobody to wait for.
      expect(receipt.handoff?.outcome).not.toBe('sealed');
    } finally {
      await cluster.boot(first.node);
      await cluster.isReady(first.node);
    }
  });

  // What was in memory cannot be shown here: by the kernel's own boot id, which containers see, this machine has not booted.
  test('boots again: what is on disk is newer than any checkpoint, and is left alone', async () => {
    await using scene = Scene.open('reboot');
    scene.run('StatefulSet', { name: 'app' });
    const pod = await scene.ready('app-0');
    pod.write('durable');
    await pod.checkpoint();
    const newer = pod.write('newer');
    await cluster.cutPower(pod.node);
    await cluster.boot(pod.node);
    await cluster.isReady(pod.node);
    await pod.container('app', 'to start again', (status) => status.restartCount > 0 && status.ready);
    const same = await scene.ready('app-0');
    expect(same.uid).toBe(pod.uid);
    expect(same.data().digest).toBe(newer.digest);
    expect(same.log(rehydrateContainer)).toContain('Left as they are');
    await same.delete();
    const next = await scene.only('app', [same]);
    expect(next.data().digest).toBe(newer.digest);
  });

  test('is cut off: both pods of one ordinal write, the old one is fenced, and its lines go nowhere', async () => {
    await using scene = Scene.open('partition');
    scene.run('StatefulSet', { name: 'app', lineMs: 200, annotations: { schedule: '1s' } });
    const old = await scene.ready('app-0');
    const durable = old.write('durable');
    await old.checkpoint();
    cluster.cutNetwork(old.node);
    let young: ScenePod;
    try {
      await forceAway(old);
      young = await scene.only('app', [old]);
      expect(young.node).not.toBe(old.node);
      expect(young.data().digest).toBe(durable.digest);
      // Both run, and both write.
      const [before, beforeYoung] = [linesOn(old), young.data().lines];
      await until('both to write', 30, () => (linesOn(old) > before && young.data().lines > beforeYoung) || undefined);
    } finally {
      cluster.mendNetwork(old.node);
    }
    await until('the old agent to say that it is fenced', 90, () => /"event":"fenced"/.test(logOf(old)) || undefined);
    await young.statusSays('that it runs', ({ phase, storeReachable }) => phase === 'running' && storeReachable);
    expect(young.status().fenced).toBe(false);
    await young.delete();
    const next = await scene.only('app', [old, young]);
    const text = next.exec('app', 'cat', '/data/lines');
    // Nothing that the old one wrote after its last checkpoint came between: numbers never go back but at a new start.
    const numbers = text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => Number(line.split(' ')[1]));
    const starts = numbers.filter((number, index) => index > 0 && number <= (numbers[index - 1] as number)).length;
    expect(starts).toBeLessThanOrEqual(2);
    expect(next.data().digest).toBe(durable.digest);
  });

  test.each(['kubelet', 'containerd'] as const)('loses its %s for a moment: nothing runs again', async (service) => {
    await using scene = Scene.open(service);
    scene.run('StatefulSet', { name: 'app' });
    const pod = await scene.ready('app-0');
    const written = pod.write('before');
    await cluster.endService(pod.node, service);
    await cluster.startService(pod.node, service);
    await cluster.isReady(pod.node);
    await until('the node to answer', 60, () => {
      try {
        return pod.data();
      } catch {
        return undefined;
      }
    });
    expect(pod.data().digest).toBe(written.digest);
    expect([await pod.restarts('app'), await pod.restarts(agentContainer)]).toEqual([0, 0]);
    await pod.delete();
    const next = await scene.only('app', [pod]);
    expect(next.data().digest).toBe(written.digest);
  });
});

/** How many lines a pod has written, as its node's disk has them, whoever can reach the node. */
function linesOn(pod: ScenePod): number {
  const path = `lib/kubelet/pods/${pod.uid}/volumes/kubernetes.io~empty-dir/data/lines`;
  return readFileSync(join(cluster.directory, 'nodes', pod.node, path), 'utf8').split('\n').length;
}

/** What an agent has said, from its node's disk. */
function logOf(pod: ScenePod): string {
  const pods = join(cluster.directory, 'nodes', pod.node, 'log/pods');
  const name = readdirSync(pods).find((each) => each.endsWith(pod.uid));
  const path = join(pods, name ?? '', agentContainer, '0.log');
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}
