/**
 * A steady checkpoint of an agent: few changes among many files, with a watcher that tells which.
 *
 *     node bench/watched.ts DIRECTORY [FILES] [ROUNDS]
 *
 * Makes FILES small files in directories of 1000 below DIRECTORY, when they are not there yet, captures them once and once more (by then
 * the watcher is set), and then measures ROUNDS captures, each after 10 changes, against a store in a directory. Beside each stands
 * the walk that it saves: the same number of changes with the watcher's word set aside.
 */
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { chooseChangeSource } from '../src/edge/host/choose-change-source.ts';
import { chooseFileTree } from '../src/edge/host/choose-file-tree.ts';
import { DirectoryCache } from '../src/edge/host/directory-cache.ts';
import { systemClock } from '../src/edge/host/system-clock.ts';
import { systemRandom } from '../src/edge/host/system-random.ts';
import { openDirectoryWriter } from '../src/edge/store/directory-store.ts';
import type { CaptureOutcome } from '../src/engine/capture/capture-outcome.ts';
import { WatchedVolume } from '../src/engine/capture/watched-volume.ts';
import { Pod } from '../test/support/capture-fixture.ts';

const [directory, filesText = '1000000', roundsText = '7'] = process.argv.slice(2);
if (directory === undefined) throw new Error('which directory?');
const files = Number(filesText);
const rounds = Number(roundsText);
const changes = 10;
const inOne = 1000;

const volume = join(directory, 'volume');
const done = join(directory, 'made');
if (!existsSync(done)) {
  for (let i = 0; i < files; i++) {
    const parent = join(volume, `d${Math.floor(i / inOne)}`);
    if (i % inOne === 0) mkdirSync(parent, { recursive: true });
    writeFileSync(join(parent, `f${i % inOne}`), `record ${i} ${'x'.repeat(i % 400)}\n`);
  }
  writeFileSync(done, '');
}

const private_ = mkdtempSync(join(directory, 'run-'));
try {
  mkdirSync(join(private_, 'store'));
  const pod = await Pod.start({
    files: chooseFileTree().tree,
    clock: systemClock,
    random: systemRandom,
    store: await openDirectoryWriter(join(private_, 'store')),
    cache: new DirectoryCache(join(private_, 'cache')),
  });
  const source = chooseChangeSource(volume);
  const watched = new WatchedVolume(source);
  const capture = async (audit: boolean): Promise<{ readonly ms: number; readonly outcome: CaptureOutcome }> => {
    const begin = performance.now();
    const outcome = await pod.capture({ path: volume, watched, audit });
    return { ms: performance.now() - begin, outcome };
  };
  const change = async (): Promise<void> => {
    for (let i = 0; i < changes; i++) {
      const pick = Math.floor(Math.random() * files);
      appendFileSync(join(volume, `d${Math.floor(pick / inOne)}`, `f${pick % inOne}`), `${Math.random()}\n`);
    }
    // Younger stamps are looked at twice.
    await systemClock.wait(100);
  };
  const tell = (what: string, { ms, outcome }: Awaited<ReturnType<typeof capture>>): void =>
    console.log(
      `${what}: ${ms.toFixed(0)} ms, ${outcome.volumes[0]?.scan}, ${outcome.consistency} in ${outcome.passes} passes, ` +
        `${outcome.storedBytes} bytes stored, ${source.kind}`,
    );
  tell('first', await capture(false));
  while (source.kind === 'scan' && source.why !== undefined) await systemClock.wait(100);
  tell('second', await capture(false));
  const times: { readonly known: number[]; readonly walk: number[]; readonly stored: number[] } = {
    known: [],
    walk: [],
    stored: [],
  };
  for (let round = 0; round < rounds; round++) {
    await change();
    const known = await capture(false);
    tell('events known', known);
    times.known.push(known.ms);
    times.stored.push(known.outcome.storedBytes);
    if (round % 3 !== 0) continue;
    await change();
    const walk = await capture(true);
    tell('walk', walk);
    times.walk.push(walk.ms);
  }
  const median = (values: readonly number[]): string =>
    ([...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN).toFixed(0);
  console.log(
    `${files} files, ${changes} changes: events known ${median(times.known)} ms, ${median(times.stored)} bytes; walk ${median(times.walk)} ms; ` +
      `${Math.round(process.memoryUsage.rss() / 1e6)} MB resident`,
  );
  await source.close();
} finally {
  rmSync(private_, { recursive: true });
}
