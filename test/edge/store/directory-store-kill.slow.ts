import { execFileSync, spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openDirectoryReader, openDirectoryWriter } from '../../../src/edge/store/directory-store.ts';
import { canCutPower, childProgram, lacking, withMounts } from './child-process.ts';
import { isWhole } from './content.ts';

let root: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'holdfast-kill-'));
});
afterEach(() => rm(root, { recursive: true }));

/** What a process acknowledged: object key → bytes. The last line counts only if it is whole. */
function acknowledgedIn(output: string): Map<string, number> {
  const lines = output.slice(0, output.lastIndexOf('\n') + 1).split('\n');
  const objects = lines.map((line) => line.split(' ')).filter((parts) => parts.length === 2);
  return new Map(objects.map(([key, bytes]) => [key!, Number(bytes)]));
}

/** Compares every object of a store with what its key says, and the acknowledged ones with the store. */
async function expectWhole(store: string, acknowledged: ReadonlyMap<string, number>): Promise<number> {
  await using reader = await openDirectoryReader(store);
  const found = new Map((await reader.list('v1/')).map(({ key, bytes }) => [key, bytes]));
  const lost = [...acknowledged].filter(([key, bytes]) => found.get(key) !== bytes);
  expect(lost, 'acknowledged, and gone or of another size').toEqual([]);
  const torn: string[] = [];
  for (const [key, bytes] of found) {
    // The size follows from the key as well, as in children/create-forever.ts.
    const at = Number(key.slice(key.lastIndexOf('/') + 1));
    const wanted = (at * 7919) % (at % 3 === 0 ? 2_000_000 : 5000);
    const content = await reader.get(key, { bytesMax: 10_000_000 });
    if (bytes !== wanted || !isWhole(key, content!, wanted)) torn.push(key);
  }
  expect(torn, 'visible, and not whole').toEqual([]);
  return found.size - acknowledged.size;
}

test('100 kills at any moment: what was acknowledged is there, what is there is whole', async () => {
  let acknowledgedOfAll = 0;
  let runsWithLeftovers = 0;
  for (let run = 0; run < 100; run += 1) {
    const store = join(root, String(run));
    await mkdir(store);
    const child = spawn(process.execPath, [childProgram('create-forever'), store, String(run)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    const ready = new Promise<void>((resolve) => {
      child.stdout.on('data', (chunk: Buffer) => {
        output += chunk.toString();
        resolve();
      });
    });
    const closed = new Promise<void>((resolve) => {
      child.on('close', () => resolve());
    });
    await Promise.race([ready, closed]);
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 150));
    child.kill('SIGKILL');
    await closed;
    const acknowledged = acknowledgedIn(output);
    acknowledgedOfAll += acknowledged.size;
    // Four at a time: of so many the process may not have told any more.
    expect(await expectWhole(store, acknowledged)).toBeLessThanOrEqual(4);

    const tempDirectory = join(store, 'tmp');
    const leftovers = await readdir(tempDirectory).catch(() => []);
    if (leftovers.length > 0) runsWithLeftovers += 1;
    await using next = await openDirectoryWriter(store);
    await next.create('v2/next', new Uint8Array(1));
    expect(await readdir(tempDirectory)).toEqual([]);
  }
  // Else the kills came too early or too late to mean anything.
  expect(acknowledgedOfAll).toBeGreaterThan(500);
  expect(runsWithLeftovers).toBeGreaterThan(20);
});

test.skipIf(lacking(canCutPower))('8 power cuts: what was acknowledged survives, what is there is whole', async () => {
  const image = join(root, 'disk');
  let acknowledgedOfAll = 0;
  for (let run = 0; run < 8; run += 1) {
    execFileSync('truncate', ['--size=0', image]);
    execFileSync('truncate', ['--size=320M', image]);
    execFileSync('mkfs.xfs', ['-q', '-f', image]);
    const mount = join(root, 'mount');
    const store = join(mount, 'store');
    await mkdir(mount, { recursive: true });
    // In namespaces of their own, so nothing stays mounted whatever happens. The cut discards all that is not on disk; the
    // second mount replays the journal as a machine does that comes up again, and the store is copied out for comparison.
    // Unlike in a power cut the process lives on for a moment, and XFS tells it that directories are synced that are not
    // (xfs_dir_fsync does not look whether the file system is shut down): what was acknowledged is kept from before the cut.
    const script = `
      mount -o loop '${image}' "$store"
      mkdir '${store}'; sync -f "$store"
      "$@" > '${root}/output' 2>/dev/null & pid=$!
      while ! test -s '${root}/output'; do kill -0 $pid; sleep 0.01; done
      sleep ${(0.1 + Math.random() * 0.6).toFixed(3)}
      cp '${root}/output' '${root}/before'
      xfs_io -x -c shutdown "$store"
      kill -KILL $pid; wait $pid || true
      umount "$store"
      mount -o loop '${image}' "$store"
      cp -a '${store}' '${root}/after'
      umount "$store"
      exit 0`;
    const [command, ...args] = withMounts(mount, script);
    execFileSync(command!, [...args, process.execPath, childProgram('create-forever'), store, String(run)], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const acknowledged = acknowledgedIn(await readFile(join(root, 'before'), 'utf8'));
    acknowledgedOfAll += acknowledged.size;
    const untold = acknowledgedIn(await readFile(join(root, 'output'), 'utf8')).size - acknowledged.size + 4;
    expect(await expectWhole(join(root, 'after'), acknowledged)).toBeLessThanOrEqual(untold);
    await rm(join(root, 'after'), { recursive: true });
    await rm(join(root, 'output'));
  }
  expect(acknowledgedOfAll).toBeGreaterThan(100);
  expect((await stat(image)).size).toBe(320 * 1024 * 1024);
});
