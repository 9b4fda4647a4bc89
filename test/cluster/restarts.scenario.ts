/** What ends and starts again inside of a pod: the data stays, and nothing is restored over it. */
import { beforeAll, describe, expect, test } from 'vitest';
import { agentContainer, rehydrateContainer } from '../../src/contract/pod-layout.ts';
import { Site } from './harness/site.ts';
import { installHoldfast } from './scenario/holdfast.ts';
import { Scene } from './scenario/scene.ts';

beforeAll(() => installHoldfast(Site.current()));

describe('the application', () => {
  test.each([
    { name: 'crashes', signal: 'USR2', reason: 'Error' },
    { name: 'is killed for its memory', signal: 'HUP', reason: 'OOMKilled' },
  ] as const)('$name: it goes on with its data, and the agent with its work', async ({ signal, reason }) => {
    await using scene = Scene.open('crash');
    scene.run('StatefulSet', { name: 'app', withMemory: true, memoryLimit: '160Mi' });
    const pod = await scene.ready('app-0');
    const written = pod.write('before');
    pod.signal(signal);
    await pod.container(
      'app',
      `to start again after ${reason}`,
      (status) => status.lastState.terminated?.reason === reason,
    );
    const same = await scene.ready('app-0');
    expect(same.uid).toBe(pod.uid);
    expect(same.data().digest).toBe(written.digest);
    expect(await same.restarts(agentContainer)).toBe(0);
    expect(await same.restarts(rehydrateContainer)).toBe(0);
    await same.delete();
    const next = await scene.only('app', [pod]);
    expect(next.data().digest).toBe(written.digest);
    expect(await next.receipt()).toMatchObject({ outcome: 'restored', verified: true });
  });
});

const cluster = Site.current().own;

describe.runIf(cluster)('the agent', () => {
  test.each(['killed', 'killed for its memory'] as const)(
    'is %s: the application goes on, and so does the lineage',
    async (how) => {
      await using scene = Scene.open('agent');
      scene.run('StatefulSet', { name: 'app', annotations: { 'memory-limit': '192Mi' } });
      const pod = await scene.ready('app-0');
      const written = pod.write('before');
      await pod.checkpoint();
      if (how === 'killed') {
        cluster?.runOn(pod.node, ['kill', '-KILL', await pod.process(agentContainer)]);
      } else {
        // Beside it, under its limit: many, each smaller than the agent, which is thus what the kernel takes.
        const one = '(head -c 24M /dev/zero; sleep 60) | tail -c 24M > /dev/null';
        const many = `for each in 1 2 3 4 5 6 7 8 9; do ${one} & sleep 0.3; done; wait`;
        expect(() => pod.exec(agentContainer, 'sh', '-c', many)).toThrow();
      }
      await pod.container(
        agentContainer,
        'to start again',
        ({ restartCount, state }) => restartCount > 0 && state.running,
      );
      await pod.statusSays('that it runs', (status) => status.phase === 'running');
      expect(await pod.restarts('app')).toBe(0);
      const more = pod.write('after');
      expect(more.files).toBe(written.files * 2);
      await pod.delete();
      const next = await scene.only('app', [pod]);
      expect(next.data().digest).toBe(more.digest);
      expect(await next.receipt()).toMatchObject({ outcome: 'restored', verified: true });
    },
  );
});

describe.runIf(cluster)('the sandbox of a pod', () => {
  test('is killed: the containers start again, and what is there is left alone', async () => {
    await using scene = Scene.open('sandbox');
    scene.run('StatefulSet', { name: 'app', withMemory: true });
    const pod = await scene.ready('app-0');
    pod.write('durable');
    await pod.checkpoint();
    const newer = pod.write('newer');
    cluster?.killSandbox(pod.node, pod.uid);
    await pod.container('app', 'to start again', ({ restartCount, ready }) => restartCount > 0 && ready);
    const same = await scene.ready('app-0');
    expect(same.uid).toBe(pod.uid);
    expect(same.data().digest).toBe(newer.digest);
    expect(same.log(rehydrateContainer)).toContain('Left as they are');
    await same.delete();
    const next = await scene.only('app', [pod]);
    expect(next.data().digest).toBe(newer.digest);
  });
});
