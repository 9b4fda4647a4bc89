/** Each kind of volume that is kept, once. */
import { beforeAll, describe, expect, test } from 'vitest';
import { Site } from './harness/site.ts';
import { installHoldfast } from './scenario/holdfast.ts';
import { Scene } from './scenario/scene.ts';
import type { Application } from './scenario/workloads.ts';

const site = Site.current();
const storageClass = 'test-local';

beforeAll(() => {
  installHoldfast(site);
  if (site.own === undefined) return;
  // Volumes on disks of nodes, made by hand: one for each pod that comes.
  const volumes = site.own.nodeNames().flatMap((node) =>
    [1, 2].map((number) => {
      const path = `/var/lib/test-volumes/${number}`;
      site.own?.runOn(node, ['mkdir', '-p', path]);
      return {
        apiVersion: 'v1',
        kind: 'PersistentVolume',
        metadata: { name: `${storageClass}-${node}-${number}` },
        spec: {
          capacity: { storage: '1Gi' },
          accessModes: ['ReadWriteOnce'],
          persistentVolumeReclaimPolicy: 'Retain',
          storageClassName: storageClass,
          local: { path },
          nodeAffinity: {
            required: {
              nodeSelectorTerms: [
                { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [node] }] },
              ],
            },
          },
        },
      };
    }),
  );
  const provisioner = 'kubernetes.io/no-provisioner';
  site.apply(
    {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'StorageClass',
      metadata: { name: storageClass },
      provisioner,
      volumeBindingMode: 'WaitForFirstConsumer',
    },
    ...volumes,
  );
});

const ephemeral = {
  volumeClaimTemplate: {
    spec: {
      accessModes: ['ReadWriteOnce'],
      storageClassName: storageClass,
      resources: { requests: { storage: '1Gi' } },
    },
  },
};

const kinds: readonly { readonly name: string; readonly app: Partial<Application>; readonly isOwn?: true }[] = [
  { name: 'an emptyDir on disk', app: {} },
  { name: 'an emptyDir in memory, beside one on disk', app: { withMemory: true } },
  { name: 'a generic ephemeral volume', app: { volume: { ephemeral } }, isOwn: true },
];

describe.each(kinds.filter(({ isOwn }) => !isOwn || site.own !== undefined))('$name', ({ app }) => {
  test('is brought back whole', async () => {
    await using scene = Scene.open('volume');
    scene.run('Deployment', { name: 'app', ...app });
    const first = await scene.only('app');
    const written = first.write('before', 300, 5000);
    await first.delete();
    const second = await scene.only('app', [first]);
    expect(second.data()).toMatchObject({ digest: written.digest, files: written.files });
    const receipt = await second.receipt();
    expect(receipt).toMatchObject({ outcome: 'restored', verified: true });
    for (const { degraded } of Object.values(receipt.volumes)) {
      // The volume itself belongs to the kubelet, and nobody else may change its owner, mode and times.
      expect(Math.max(0, ...Object.values(degraded))).toBeLessThanOrEqual(1);
    }
  });
});
