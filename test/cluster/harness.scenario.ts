/** The clusters that these tests make: real, and gone without a trace. */
import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Site } from './harness/site.ts';
import { TestCluster } from './harness/test-cluster.ts';
import { newTraces, traces } from './harness/traces.ts';

// A second one beside the one that runs: what they share would show.
test.runIf(Site.current().own)('a cluster leaves nothing behind, and the other one goes on', async () => {
  const before = traces();
  const cluster = await TestCluster.start({ nodes: 1, endWithMe: true });
  const { directory } = cluster;
  try {
    expect(JSON.parse(cluster.kubectl(['version', '--output=json'])).serverVersion.gitVersion).toBe('v1.36.3');
    expect(newTraces(before).join('\n')).toContain('kubelet of holdfast-cluster-');
  } finally {
    await cluster.end();
  }
  expect(newTraces(before)).toEqual([]);
  expect(existsSync(directory)).toBe(false);
  expect(Site.current().kubectl(['get', '--raw', '/readyz'])).toBe('ok');
});

test.runIf(Site.current().own)('a node whose power was cut boots again with its disk', async () => {
  const cluster = Site.current().own as TestCluster;
  const name = cluster.nodeNames()[1] as string;
  const bootOf = (): string =>
    JSON.parse(cluster.kubectl(['get', 'node', name, '--output=json'])).status.nodeInfo.bootID;
  const before = bootOf();
  cluster.runOn(name, ['sh', '-c', 'echo kept > /var/lib/on-disk; echo lost > /run/in-memory']);
  await cluster.cutPower(name);
  await cluster.boot(name);
  await cluster.isReady(name);
  expect(cluster.runOn(name, ['cat', '/var/lib/on-disk'])).toBe('kept\n');
  expect(() => cluster.runOn(name, ['cat', '/run/in-memory'])).toThrow('No such file');
  await expect.poll(bootOf, { timeout: 60_000 }).not.toBe(before);
});
