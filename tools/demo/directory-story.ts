/**
 * Checkpoints by hand: an application writes, checkpoints are made while it does, application and checkpoint are killed in the
 * middle, the directory is lost, brought back, and proven equal in ways that do not trust each other.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { snapshotTree } from '../../test/support/tree-snapshot.ts';
import { Application, isWhole, makeData, rowsOf } from './application.ts';
import { holdfast, holdfastRaw, type Settings, start, until } from './program.ts';
import { type Checks, megabytes, say, title } from './terminal.ts';

const mebibyte = 1024 * 1024;

interface CheckpointJson {
  readonly root: string;
  readonly slot: number;
  readonly files: number;
  readonly bytes: number;
  readonly newBytes: number;
  readonly storedBytes: number;
  readonly seconds: number;
  readonly consistency: string;
}

/** The whole story on a real directory. Applications that it started are in `applications`. */
export async function directoryStory(settings: Settings, applications: Application[], checks: Checks): Promise<void> {
  const { place } = settings;
  const check = checks.check.bind(checks);
  const data = join(place, 'data');
  const copy = join(place, 'copy');
  title('An application writes a log, a state file and a database');
  makeData(data);
  const application = new Application(data);
  applications.push(application);
  while (!fs.existsSync(join(data, 'state.json'))) await sleep(10);
  await holdfast<object>(settings, ['init']);
  say('  A repository was made: encrypted, in a directory.');

  title('Checkpoints while it writes');
  for (let n = 0; n < 5; n++) {
    describe(await holdfast<CheckpointJson>(settings, ['checkpoint', data]));
    await sleep(150);
  }

  title('A quiet moment: a plain copy to compare with later, and one more checkpoint');
  await application.pause();
  execFileSync('cp', ['-a', data, copy]);
  const last = await holdfast<CheckpointJson>(settings, ['checkpoint', data]);
  describe(last);
  check('nothing moved while it was made', last.consistency === 'converged');
  const rows = rowsOf(join(copy, 'orders.db'));
  application.go('burst');

  title('A burst of writes, the next checkpoint begins, and both processes are killed');
  await until('the burst is large enough', () => fs.readdirSync(join(data, 'cache')).length > 400 + 24);
  const killed = await killInTheMiddle(settings, data);
  await application.kill();
  check('the checkpoint was killed half-way', killed.signal === 'SIGKILL', `${killed.unfinished} of it in the store`);
  fs.rmSync(data, { recursive: true });
  say('  The directory is gone: rm -rf.');

  title('Brought back');
  const restored = await holdfast<CheckpointJson>(settings, ['restore', '--target', data]);
  say(
    `  Checkpoint ${restored.slot}: ${restored.files} files, ${megabytes(restored.bytes)} ` +
      `in ${restored.seconds.toFixed(2)} s, every byte proven while it was written.`,
  );

  title('Proven');
  check('it is the last checkpoint that was acknowledged', restored.slot === last.slot, `slot ${restored.slot}`);
  check('root of the restore = root of the checkpoint', restored.root === last.root, restored.root.slice(0, 16));
  const again = await holdfast<CheckpointJson>(settings, ['checkpoint', data, '--dry-run']);
  check(
    'root of the directory, computed anew = root of the checkpoint',
    again.root === last.root,
    again.root.slice(0, 16),
  );
  const [expected, got] = [snapshotTree(copy), snapshotTree(data)];
  const differing = expected.filter((line, i) => line !== got[i]).length + Math.abs(got.length - expected.length);
  check('equal to the plain copy: names, content, modes, owners, times, links', differing === 0, `${got.length} names`);
  const whole = isWhole(join(data, 'orders.db'));
  const found = rowsOf(join(data, 'orders.db'));
  check('the database is whole', whole && found === rows, `${found} rows`);
  const verified = await holdfastRaw(settings, ['verify', '--read-data']);
  check('verify --read-data finds no damage', verified.code === 0, 'every byte of the store was read');

  title('And it goes on');
  const successor = new Application(data);
  applications.push(successor);
  await until('the application works again', () => rowsOf(join(data, 'orders.db')) > rows);
  const next = await holdfast<CheckpointJson>(settings, ['checkpoint', data]);
  describe(next);
  check('the next checkpoint needed no repair', next.slot > last.slot);
  await successor.kill();
}

/** Starts a checkpoint and kills it when a part of it lies in the store already. */
async function killInTheMiddle(
  settings: Settings,
  data: string,
): Promise<{ readonly signal: NodeJS.Signals | null; readonly unfinished: string }> {
  const child = start(settings, ['checkpoint', data]);
  const ended = new Promise<NodeJS.Signals | null>((resolve) => child.once('exit', (_code, signal) => resolve(signal)));
  const temporary = join(settings.place, 'store', 'tmp');
  let bytes = 0;
  await until('a part of the checkpoint is in the store', () => {
    bytes = bytesIn(temporary);
    return bytes > mebibyte || child.exitCode !== null;
  });
  child.kill('SIGKILL');
  return { signal: await ended, unfinished: megabytes(bytes) };
}

function bytesIn(directory: string): number {
  let bytes = 0;
  for (const name of fs.existsSync(directory) ? fs.readdirSync(directory) : []) {
    bytes += fs.statSync(join(directory, name), { throwIfNoEntry: false })?.size ?? 0;
  }
  return bytes;
}

function describe({ slot, files, bytes, newBytes, storedBytes, seconds, consistency }: CheckpointJson): void {
  say(
    `  Checkpoint ${String(slot).padEnd(3)} ${String(files).padStart(4)} files ${megabytes(bytes).padStart(10)}` +
      `  new ${megabytes(newBytes).padStart(8)}  stored ${megabytes(storedBytes).padStart(8)}` +
      `  ${seconds.toFixed(2)} s  ${consistency}`,
  );
}
