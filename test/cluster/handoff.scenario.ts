/**
 * Ends of a pod that leave time for a last checkpoint. Whatever ends it, its successor begins with all that it had, down to what the
 * application wrote while it stopped.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { Site } from './harness/site.ts';
import { installHoldfast } from './scenario/holdfast.ts';
import { Scene, type ScenePod } from './scenario/scene.ts';
import type { Application, Kind } from './scenario/workloads.ts';

beforeAll(() => installHoldfast(Site.current()));

interface End {
  readonly name: string;
  readonly kind: Kind;
  readonly app?: Partial<Application>;
  /** Ends the pod, by whatever means. */
  readonly end: (pod: ScenePod, scene: Scene) => void | Promise<void>;
  readonly movesAway?: true;
  /** The successor begins before the predecessor ends, from what is durable then. */
  readonly overlaps?: true;
}

/** Changes the template, as any rollout does. */
function rollOut(kind: Kind, app?: Partial<Application>) {
  return (_pod: ScenePod, scene: Scene): void => scene.run(kind, { name: 'app', stopMs: 800, ...app });
}

const noSurge = { spec: { strategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } } } };
const surge = { annotations: { schedule: '1s', 'handoff-wait': '5s' } };
const recreate = { spec: { strategy: { type: 'Recreate' } } };

const ends: readonly End[] = [
  { name: 'a pod of a Deployment is deleted', kind: 'Deployment', end: (pod) => pod.delete() },
  { name: 'a pod of a StatefulSet is deleted', kind: 'StatefulSet', end: (pod) => pod.delete() },
  {
    name: 'a StatefulSet is scheduled anew, on the other node',
    kind: 'StatefulSet',
    movesAway: true,
    async end(pod, { site }) {
      site.kubectl(['cordon', pod.node]);
      await pod.delete();
      await pod.gone();
    },
  },
  {
    name: 'its node is drained',
    kind: 'Deployment',
    movesAway: true,
    end(pod, { site }) {
      const ours = ['--pod-selector=app=app', '--delete-emptydir-data', '--ignore-daemonsets', '--timeout=120s'];
      site.kubectl(['drain', pod.node, ...ours]);
    },
  },
  {
    name: 'it is evicted by the API',
    kind: 'StatefulSet',
    async end(pod, { site, namespace }) {
      const eviction = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name: pod.name, namespace } };
      await site.api.create(`${pod.path}/eviction`, eviction);
    },
  },
  {
    name: 'a Deployment rolls out, with surge',
    kind: 'Deployment',
    app: surge,
    end: rollOut('Deployment', surge),
    overlaps: true,
  },
  {
    name: 'a Deployment rolls out, without surge',
    kind: 'Deployment',
    app: noSurge,
    end: rollOut('Deployment', noSurge),
  },
  { name: 'a Deployment is made anew', kind: 'Deployment', app: recreate, end: rollOut('Deployment', recreate) },
  { name: 'a StatefulSet rolls out', kind: 'StatefulSet', end: rollOut('StatefulSet') },
];

describe.each(ends)('$name', ({ kind, app, end, movesAway, overlaps }) => {
  test('and the successor has all of its data', async () => {
    await using scene = Scene.open('handoff');
    scene.run(kind, { name: 'app', stopMs: 700, ...app });
    const first = await scene.only('app');
    expect(await first.receipt()).toMatchObject({ outcome: 'empty', policy: { answer: 'first-boot' } });
    // Nothing but the end of the pod makes a checkpoint of it: the schedule is an hour.
    const written = first.write('before');
    try {
      await end(first, scene);
      const second = await scene.only('app', [first]);
      expect(second.data()).toMatchObject({ digest: written.digest, stopped: overlaps ? [] : [first.name] });
      const receipt = await second.receipt();
      expect(receipt).toMatchObject({ outcome: 'restored', verified: true, policy: { answer: 'data' } });
      if (movesAway) expect(second.node).not.toBe(first.node);
    } finally {
      if (movesAway) scene.site.kubectl(['uncordon', first.node]);
    }
  });
});
