/** The image, built from the Dockerfile and run as Kubernetes runs it: any user, no capability, a root file system that is read-only. */
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { baseImage, Podman } from './podman.ts';

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
    podman.must(...restricted(), 'init');
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
