/** The image, built from the Dockerfile and run as Kubernetes runs it: any user, no capability, a root file system that is read-only. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { baseImage, Podman } from './podman.ts';
import { agentMemoryMebibytes, PodOfContainers } from './two-containers.ts';

const image = 'localhost/holdfast-test:latest';
const podman = new Podman();
let place: string;

beforeAll(() => {
  podman.build(image);
  place = mkdtempSync(join(tmpdir(), 'holdfast-image-'));
  for (const name of ['volume', 'private']) {
    mkdirSync(join(place, name));
    // Of whichever user the container is.
    chmodSync(join(place, name), 0o777);
  }
  writeFileSync(join(place, 'volume', 'greeting'), 'hello');
  podman.must(...restricted(), 'init');
});
afterAll(() => {
  podman.run('image', 'rm', '--force', image);
  podman[Symbol.dispose]();
  if (place !== undefined) rmSync(place, { recursive: true, force: true });
});

const restricted = (): string[] => [
  ...['run', '--rm', '--network=none', '--read-only', '--cap-drop=ALL', '--security-opt', 'no-new-privileges'],
  ...['--user', '4242:4242', '--volume', `${place}/volume:/volume:ro`, '--volume', `${place}/private:/private`],
  ...['--env', 'HOLDFAST_STORE=file:/private/store', '--env', 'HOLDFAST_KEY_FILE=/private/key'],
  ...['--env', 'HOLDFAST_LINEAGE=team/app/0', '--env', 'HOLDFAST_STATE_DIR=/private/state', image],
];

describe('the image', () => {
  test('says its version and, without a command, its help', () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
    expect(podman.must(...restricted(), 'version')).toBe(`holdfast ${version}`);
    expect(podman.must('run', '--rm', '--network=none', image)).toContain('Usage: holdfast COMMAND');
  });

  test('checkpoints as fast as a checkout: with the native parts', () => {
    const made = JSON.parse(podman.must(...restricted(), 'checkpoint', '/volume', '--seal', '--output', 'json'));
    expect(made).toMatchObject({ fileTree: 'native', compressor: 'libzstd', files: 1, incomplete: false });
  });

  test('runs the agent, which hears the signals of its container, seals and ends with 0', async () => {
    const args = ['agent', '--volume', 'data=/volume', '--pod-uid', 'pod-1', '--schedule', '1s', '--grace', '20s'];
    const child = podman.start(...restricted().toSpliced(1, 0, '--name', 'holdfast-test-agent'), ...args);
    const ended = once(child, 'close');
    const events: string[] = [];
    let stopped = false;
    for await (const line of createInterface(child.stdout)) {
      const { event } = JSON.parse(line) as { event: string };
      events.push(event);
      if (stopped || !['committed', 'unchanged', 'claimed'].includes(event)) continue;
      stopped = true;
      podman.must('kill', '--signal', 'TERM', 'holdfast-test-agent');
    }
    expect(await ended).toEqual([0, null]);
    expect(events).toEqual(expect.arrayContaining(['started', 'claimed', 'terminating', 'sealed', 'ended']));
  });

  test('holds what runs and no more: compiled files and packages of production, which nobody may write', () => {
    const find = (...args: string[]): string[] =>
      podman.must('run', '--rm', '--network=none', '--entrypoint', 'find', image, '/opt/holdfast', ...args).split('\n');
    const files = find('-type', 'f').map((path) => path.replace('/opt/holdfast/', ''));
    expect(files).toContain('dist/cli/main.js');
    expect(
      files.filter((path) => /\.(ts|map)$|^src\/|node_modules\/(typescript|vitest|@biomejs)\//.test(path)),
    ).toEqual([]);
    expect(find('-perm', '/022', '-not', '-type', 'l').filter((path) => path !== '')).toEqual([]);
    expect(podman.must('image', 'inspect', '--format', '{{.Config.User}}', image)).toBe('65532:65532');
    // Everything but the base. What is compressed on the way to a registry is about a quarter of it.
    const bytesOf = (name: string): number => Number(podman.must('image', 'inspect', '--format', '{{.Size}}', name));
    expect(bytesOf(image) - bytesOf(baseImage)).toBeLessThan(60_000_000);
  });
});

/** As many lines as are whole, each of which has the number of its place. */
function wholeLines(directory: string): number {
  const lines = readFileSync(join(directory, 'lines'), 'utf8').split('\n').slice(0, -1);
  expect(lines.filter((line) => line !== 'the end')).toEqual(
    lines.filter((line) => line !== 'the end').map((_, i) => String(i)),
  );
  return lines.length;
}

describe('an application and an agent in two containers with limits of memory and processor, which share a volume', () => {
  test('killed, the next pod gets back what was acknowledged', async () => {
    using pod = new PodOfContainers(podman, image, place, 'pair-1');
    expect(pod.rehydrate()).toMatchObject({ outcome: 'empty', policy: { answer: 'first-boot' } });
    // A first checkpoint that takes more memory than a small one.
    for (let n = 0; n < 4000; n++) pod.write(`file-${n}`, randomBytes(4000));
    pod.write('large', randomBytes(48 * 1024 * 1024));
    pod.startApplication();
    const agent = pod.startAgent();
    await agent.said('committed', 2);
    const floor = wholeLines(pod.volume);
    await agent.said('committed', 4);
    const peak = agent.memoryPeakBytes();
    // Charged is the page cache too, up to the limit; that nothing was killed is the proof.
    if (peak !== undefined) expect(peak).toBeLessThanOrEqual(agentMemoryMebibytes * 1024 * 1024);
    expect(await agent.end('KILL')).toBe(137);
    pod.signalApplication('KILL');
    const [acknowledged] = agent.lines.filter(({ event }) => event === 'committed').slice(-1);
    using next = new PodOfContainers(podman, image, place, 'pair-2');
    const receipt = next.rehydrate();
    expect(receipt).toMatchObject({ outcome: 'restored', verified: true, handoff: { outcome: 'timeout' } });
    expect(receipt.from?.slot).toBeGreaterThanOrEqual(acknowledged?.['slot'] as number);
    expect(wholeLines(next.volume)).toBeGreaterThanOrEqual(floor);
    expect(readFileSync(join(next.volume, 'large'))).toEqual(readFileSync(join(pod.volume, 'large')));
  });

  test('stopped one after the other, all is saved as it stood, though neither sees the processes of the other', async () => {
    using pod = new PodOfContainers(podman, image, place, 'pair-3');
    expect(pod.rehydrate()).toMatchObject({ outcome: 'restored', verified: true });
    rmSync(join(pod.volume, 'lines'));
    pod.startApplication();
    const agent = pod.startAgent();
    await agent.said('committed', 2);
    pod.signalApplication('TERM');
    expect(await agent.end('TERM')).toBe(0);
    const [sealed] = agent.lines.filter(({ event }) => event === 'sealed');
    expect(['quiesced', 'converged']).toContain(sealed?.['consistency']);
    using next = new PodOfContainers(podman, image, place, 'pair-4');
    expect(next.rehydrate()).toMatchObject({ outcome: 'restored', verified: true, handoff: null });
    expect(readFileSync(join(next.volume, 'lines'), 'utf8')).toBe(readFileSync(join(pod.volume, 'lines'), 'utf8'));
    expect(readFileSync(join(next.volume, 'lines'), 'utf8')).toMatch(/the end\n$/);
  });
});
