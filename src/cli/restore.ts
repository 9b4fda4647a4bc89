/** `holdfast restore`: find the checkpoint, bring its volumes back, say whether they are equal. */
import { join } from 'node:path';
import { openLog } from '../engine/lineage/open-log.ts';
import type { PassedRecord } from '../engine/lineage/resolve.ts';
import { equalBytes, toHex } from '../engine/model/bytes.ts';
import { errorCatalogue, HoldfastError } from '../engine/model/errors.ts';
import { toLineageName, toVolumeName, type VolumeName } from '../engine/model/ids.ts';
import { keyFromDisplay } from '../engine/model/rel-path.ts';
import { rehydrate } from '../engine/rehydrate/rehydrate.ts';
import type {
  FirstComplete,
  RehydrateOutcome,
  RestoredVolume,
  RestoreProgress,
} from '../engine/rehydrate/rehydrate-outcome.ts';
import { restoreDefaults } from '../engine/rehydrate/rehydrate-request.ts';
import { findCheckpoint, type RestoreSource } from '../engine/rehydrate/restore-source.ts';
import { pathGlobs } from '../engine/rehydrate/selection.ts';
import { shortTime, timeText } from './describe-record.ts';
import type { Host, RequestCounts } from './host.ts';
import { namedDirectories, type Parsed, parseRate, usage } from './options.ts';
import { formatBytes, formatCount, formatFiles, formatSeconds, printable, shortList, styled } from './print.ts';
import { showProgress } from './progress.ts';
import { formOf, isWithin, noArguments, refuseNested, repositoryOf, selectorOf } from './session.ts';
import { stateDirectoryOf } from './state-directory.ts';
import { fencingJson, Warnings } from './warnings.ts';

const phaseNames: Readonly<Record<RestoreProgress['phase'], string>> = {
  first: 'first',
  restore: 'restoring',
  audit: 'comparing',
  sync: 'syncing',
};

export async function restore(host: Host, parsed: Parsed): Promise<number> {
  const started = host.clock.monotonicMs();
  const form = formOf('restore', parsed);
  noArguments('restore', parsed);
  const lineage = toLineageName(parsed.required('lineage'));
  const address = parsed.required('store');
  parsed.required('target');
  const at = selectorOf(parsed.text('at'));
  const onExisting = onExistingOf(parsed);
  const only = parsed.list('only');
  const stateDirectory = stateDirectoryOf(host, parsed);
  const lanesWanted = parsed.number('lanes', 0, 64, Math.min(host.parallelism, 4));
  const { signal } = host;
  await using store = await host.openReader(address, {
    bandwidth: { downloadBytesPerSecond: parseRate('restore', 'limit-download', parsed) },
  });
  const repository = await repositoryOf(host, 'restore', parsed, store);
  const { log, access } = await openLog(store, repository, lineage, { signal });
  const passed: PassedRecord[] = [];
  const source = await findCheckpoint(log, access, at, { signal, onPassed: (record) => passed.push(record) });
  const targets = targetsOf(host, parsed, source);
  const own = [await host.storePath(address), stateDirectory];
  for (const { path } of targets) refuseOwn(host, path, own);
  const fileTree = await host.fileTree();
  refuseNested(fileTree.tree, 'restore', targets);
  using compressor = await host.compressor();
  const laneCount = fileTree.sharedDescriptors ? lanesWanted : 0;
  const { slot } = source.record.header;
  const progress = showProgress(host, form === 'text');
  const volumeCount = targets.length;
  const warnings = new Warnings();
  warnOfPassed(passed, source, warnings);
  warnOfUnread(source, targets, warnings);
  const since = (): number => (host.clock.monotonicMs() - started) / 1000;
  const firsts = new Map<VolumeName, FirstComplete>();
  let outcome: RehydrateOutcome;
  try {
    outcome = await rehydrate(
      {
        files: fileTree.tree,
        store,
        compressor,
        clock: host.clock,
        random: host.random,
        lanes: host.lanes(),
        cache: await host.openCache({
          stateDirectory,
          repository: repository.id,
          lineage,
          volumes: targets,
          own: false,
          onFailure: (error) =>
            warnings.add('W_CACHE', `the next checkpoint will read everything: ${error.message}`, {
              cause: String(error.cause ?? ''),
            }),
        }),
      },
      source,
      {
        ...restoreDefaults,
        targets: await Promise.all(
          targets.map(async ({ name, path }) => ({
            volume: name,
            path,
            marker: await host.openMarker({ stateDirectory, repository: repository.id, lineage, path, slot }),
          })),
        ),
        only,
        first: parsed.list('first'),
        onExisting,
        continueOnDamage: parsed.flag('continue-on-damage'),
        laneCount,
      },
      {
        signal,
        onProgress: ({ phase, volume, files, bytes, filesTotal, bytesTotal }) =>
          progress.update({
            label: volumeCount > 1 ? `${volume}: ${phaseNames[phase]}` : phaseNames[phase],
            files,
            bytes,
            filesTotal,
            bytesTotal,
          }),
        onFirstComplete: (event) => {
          // As whoever waits for them counts: from the start of the command.
          const first = { ...event, seconds: since() };
          firsts.set(event.volume, first);
          progress.pause();
          sayFirst(host, form, first);
        },
      },
    );
  } finally {
    progress.end();
  }
  for (const option of ['only', 'first'] as const) {
    for (const glob of outcome.unmatched[option]) {
      warnings.add('W_NO_MATCH', `--${option} ${glob} matches nothing`, { option, glob });
    }
  }
  const seconds = since();
  const equal = outcome.rootGot === undefined ? undefined : equalBytes(outcome.rootGot, outcome.rootExpected);
  const incomplete = outcome.incomplete || outcome.volumes.some(({ degraded }) => degraded.length > 0);
  if (form === 'json') {
    const shared = { storedBytes: store.bytesRead(), requests: store.requests(), seconds };
    const json = {
      ...jsonOf(source, outcome, firsts, shared, equal, only),
      ...shared,
      compressor: compressor.name,
      fileTree: fileTree.name,
      lanes: laneCount,
    };
    host.stdout.write(
      `${JSON.stringify({ ...json, ...fencingJson(repository), incomplete, warnings: warnings.list })}\n`,
    );
  } else {
    warnings.print(host);
    printSummary(host, source, outcome, equal, only, seconds);
  }
  if (outcome.incomplete) return errorCatalogue.E_LOST.exit;
  return incomplete ? errorCatalogue.E_INCOMPLETE.exit : 0;
}

function onExistingOf(parsed: Parsed): 'refuse' | 'keep' | 'replace' {
  const text = parsed.text('on-existing') ?? 'refuse';
  if (text === 'refuse' || text === 'keep' || text === 'replace') return text;
  throw usage('restore', `--on-existing is ${JSON.stringify(text)}, not refuse, keep or replace`);
}

interface Target {
  readonly name: VolumeName;
  readonly path: string;
}

/** A bare DIR is for the only volume; of several each gets its own directory below it. */
function targetsOf(host: Host, parsed: Parsed, { body }: RestoreSource): readonly Target[] {
  const texts = parsed.list('target');
  const wanted = parsed.text('volume');
  const names = body.volumes.map(({ name }) => name);
  const volumes = wanted === undefined ? names : [toVolumeName(wanted)];
  const known = `the checkpoint has ${names.length === 1 ? 'volume' : 'the volumes'} ${names.join(', ')}`;
  const real = (name: VolumeName, path: string): Target => ({ name, path: host.realPath(path) });
  for (const name of volumes) {
    if (!names.includes(name)) throw new HoldfastError('E_NOT_FOUND', `there is no volume ${name}: ${known}`);
  }
  const bare = texts.filter((text) => !/^[^/=]+=/.test(text));
  const [directory] = bare;
  if (directory === undefined) {
    const named = namedDirectories('restore', texts);
    const other = named.find(({ name }) => !volumes.includes(name));
    if (other !== undefined) throw new HoldfastError('E_NOT_FOUND', `there is no volume ${other.name}: ${known}`);
    return named.map(({ name, path }) => real(name, path));
  }
  if (texts.length > 1) {
    throw usage('restore', `of several targets each names its volume: --target ${volumes[0]}=${directory}; ${known}`);
  }
  const [only] = volumes;
  if (only !== undefined && volumes.length === 1) return [real(only, directory)];
  return volumes.map((name) => real(name, join(host.realPath(directory), name)));
}

function refuseOwn(host: Host, path: string, own: readonly (string | undefined)[]): void {
  for (const directory of own) {
    if (directory === undefined) continue;
    const real = host.realPath(directory);
    if (!isWithin(path, real) && !isWithin(real, path)) continue;
    throw new HoldfastError(
      'E_USAGE',
      `the target ${path} and the store or state directory ${real} lie in each other`,
      {
        remedy: 'Restore into a directory of its own.',
      },
    );
  }
}

const passedNamed = 100;

/** What was restored is perhaps not the newest that was ever stored. */
function warnOfPassed(passed: readonly PassedRecord[], { lineage, record }: RestoreSource, warnings: Warnings): void {
  const [newest] = passed;
  if (newest === undefined) return;
  const others = passed.length > 1 ? ` and ${formatCount(passed.length - 1)} more` : '';
  warnings.add(
    'W_RECORDS_PASSED',
    `checkpoint ${record.header.slot} is not the newest record of ${lineage}: record ${newest.slot} does not count ` +
      `(${newest.reason}: ${newest.detail})${others}; see holdfast ls --lineage ${lineage}`,
    { count: passed.length, records: passed.slice(0, passedNamed) },
  );
}

/** Equal to the checkpoint is not equal to what the application had, when parts of that could not be read. */
function warnOfUnread({ body, record }: RestoreSource, targets: readonly Target[], warnings: Warnings): void {
  for (const { name, skipped } of body.volumes) {
    const unread = skipped.find(({ reason }) => reason === 'unreadable');
    if (unread === undefined || !targets.some((target) => target.name === name)) continue;
    const { count, names } = unread;
    warnings.add(
      'W_CHECKPOINT_INCOMPLETE',
      `checkpoint ${record.header.slot} lacks what could not be read when it was made, in volume ${name}: ` +
        shortList(names, count),
      { volume: name, count, names },
    );
  }
}

function sayFirst(host: Host, form: 'text' | 'json', { volume, files, bytes, seconds }: FirstComplete): void {
  if (form === 'json') {
    host.stderr.write(`${JSON.stringify({ event: 'first-complete', volume, files, bytes, seconds })}\n`);
    return;
  }
  host.stdout.write(
    `${styled(host.stdout, 'green', 'First')} of ${volume}: ${formatFiles(files)}, ${formatBytes(bytes)} ` +
      `are complete after ${formatSeconds(seconds)}\n`,
  );
}

/**
 * Of a volume, the names whose content is no part of the checkpoint's moment, as far as they were asked for. With `only` those that the
 * record names; else their count is exact.
 */
function volatileOf(
  source: RestoreSource,
  name: VolumeName,
  only: readonly string[],
): { readonly count: number; readonly names: readonly string[] } {
  const recorded = source.body.volumes.find((volume) => volume.name === name);
  const names = recorded?.volatileNames ?? [];
  if (only.length === 0) return { count: recorded?.volatileCount ?? 0, names };
  const globs = pathGlobs(only);
  const asked = names.filter((path) => globs.matchesAtOrBelow(keyFromDisplay(path)));
  return { count: asked.length, names: asked };
}

/** What the volumes of a set share is told of the set, the same for each. */
interface Shared {
  /** Bytes read from the store. */
  readonly storedBytes: number;
  readonly requests: RequestCounts;
  readonly seconds: number;
}

function volumeJson(
  source: RestoreSource,
  volume: RestoredVolume,
  firstComplete: FirstComplete | undefined,
  shared: Shared,
  only: readonly string[],
): object {
  const { name, rootExpected, rootGot, damage, firstComplete: _, ...rest } = volume;
  const recorded = source.body.volumes.find((other) => other.name === name);
  const volatile = volatileOf(source, name, only);
  const differs = rootGot !== undefined && !equalBytes(rootGot, rootExpected);
  return {
    ...rest,
    root: toHex(rootExpected),
    slot: source.record.header.slot,
    id: toHex(source.record.header.id),
    ...shared,
    ...(differs ? { rootExpected: toHex(rootExpected), rootGot: toHex(rootGot) } : {}),
    verified: rootGot !== undefined,
    consistency: source.record.header.consistency,
    skipped: recorded?.skipped ?? [],
    volatileCount: volatile.count,
    volatileNames: volatile.names,
    incomplete: damage !== undefined || volume.degraded.length > 0,
    ...(firstComplete === undefined ? {} : { firstComplete }),
    ...(damage === undefined ? {} : { damage }),
  };
}

function jsonOf(
  source: RestoreSource,
  outcome: RehydrateOutcome,
  firsts: ReadonlyMap<VolumeName, FirstComplete>,
  shared: Shared,
  equal: boolean | undefined,
  only: readonly string[],
): Record<string, unknown> {
  const { header } = source.record;
  const { rootExpected, rootGot, volumes } = outcome;
  return {
    lineage: source.lineage,
    // Of the checkpoint. What the target would be captured with stands beside it when it differs.
    root: toHex(rootExpected),
    ...(equal === false && rootGot !== undefined ? { rootExpected: toHex(rootExpected), rootGot: toHex(rootGot) } : {}),
    verified: equal !== undefined,
    slot: header.slot,
    id: toHex(header.id),
    time: timeText(header.timeMs),
    files: outcome.files,
    entries: outcome.entries,
    bytes: outcome.bytes,
    newFiles: outcome.newFiles,
    newBytes: outcome.newBytes,
    consistency: header.consistency,
    skipped: source.body.volumes.flatMap(({ name, skipped }) => skipped.map((skip) => ({ volume: name, ...skip }))),
    damage: volumes.flatMap(({ name, damage }) => (damage === undefined ? [] : [{ volume: name, ...damage }])),
    degraded: volumes.flatMap(({ name, degraded }) => degraded.map((part) => ({ volume: name, ...part }))),
    volumes: Object.fromEntries(
      volumes.map((volume) => [volume.name, volumeJson(source, volume, firsts.get(volume.name), shared, only)]),
    ),
  };
}

function printSummary(
  host: Host,
  source: RestoreSource,
  outcome: RehydrateOutcome,
  equal: boolean | undefined,
  only: readonly string[],
  seconds: number,
): void {
  const { stdout } = host;
  const { header } = source.record;
  const written =
    outcome.newBytes === outcome.bytes
      ? ''
      : ` (${formatFiles(outcome.newFiles)}, ${formatBytes(outcome.newBytes)} written now)`;
  const before = outcome.volumes.every(({ existing }) => existing === 'complete');
  stdout.write(
    `${styled(stdout, 'bold', `${before ? 'Already restored: ' : 'Restored '}checkpoint ${header.slot}`)} of ${source.lineage} (${shortTime(header.timeMs)}, ` +
      `${header.consistency}): ${formatFiles(outcome.files)}, ${formatBytes(outcome.bytes)}${written}, ` +
      `in ${formatSeconds(seconds)}\n`,
  );
  for (const volume of outcome.volumes) {
    const { name, path, kept, removed, degraded, damage } = volume;
    stdout.write(`  ${name}  ${printable(path)}\n`);
    const note = (colour: 'yellow' | 'red', what: string, count: number, names: readonly string[]): void => {
      if (count === 0) return;
      stdout.write(`    ${styled(stdout, colour, `${what} ${formatCount(count)}`)}  ${shortList(names, count)}\n`);
    };
    note('yellow', 'kept as they were', kept.count, kept.names);
    note('yellow', 'removed', removed.count, removed.names);
    const volatile = volatileOf(source, name, only);
    if (volatile.count > 0) {
      stdout.write(`    volatile ${formatCount(volatile.count)}  ${shortList(volatile.names, volatile.count)}\n`);
    }
    for (const { reason, count, names } of degraded) note('yellow', `not as stored: ${reason}`, count, names);
    if (damage !== undefined) {
      note(
        'red',
        'lost',
        damage.files,
        damage.objects.flatMap((object) => object.names),
      );
    }
  }
  const { rootExpected, rootGot } = outcome;
  if (equal === true) stdout.write(`  root    ${toHex(rootExpected)}, ${styled(stdout, 'green', 'equal')}\n`);
  else {
    const compared = rootGot === undefined ? ', not compared as a whole' : '';
    stdout.write(`  root    ${toHex(rootExpected)}${compared}\n`);
    if (rootGot !== undefined) stdout.write(`  ${styled(stdout, 'red', 'is now')}  ${toHex(rootGot)}\n`);
  }
}
