/** `holdfast checkpoint`: claim the lineage, capture, commit, say what happened. */
import { capture } from '../engine/capture/capture.ts';
import type { CaptureOutcome, Refutation } from '../engine/capture/capture-outcome.ts';
import type { CaptureSettings, CaptureTarget, VolumeSource } from '../engine/capture/capture-request.ts';
import { countFiles, type FileCount } from '../engine/capture/count-files.ts';
import { readBase } from '../engine/lineage/base.ts';
import { claimLineage, lookFirst, noteRestored } from '../engine/lineage/claim.ts';
import { readEarly } from '../engine/lineage/early-reads.ts';
import type { CommitBase, LineageWriter } from '../engine/lineage/lineage-writer.ts';
import { LineageLog } from '../engine/lineage/log.ts';
import { openLog } from '../engine/lineage/open-log.ts';
import { type DomainAccess, domainOf, type Repository, temporaryDomain } from '../engine/lineage/repository.ts';
import { toHex } from '../engine/model/bytes.ts';
import { errorCatalogue, type HoldfastError, isHoldfastError } from '../engine/model/errors.ts';
import { type LineageName, toEpoch, toLineageName, toSlot } from '../engine/model/ids.ts';
import type { Descriptor, FileTreeReader } from '../engine/ports/file-tree.ts';
import type { ObjectReader } from '../engine/ports/object-store.ts';
import { describeSuspicion } from './guard.ts';
import type { Host, RequestCounts } from './host.ts';
import { MatchedGlobs } from './matched-globs.ts';
import { namedDirectories, type Parsed, parseRate, usage } from './options.ts';
import { formatBytes, formatCount, formatFiles, formatSeconds, shortList, styled } from './print.ts';
import { showProgress } from './progress.ts';
import { fencingJson, Warnings } from './warnings.ts';
import { assertReadable, captureSettings, restoredUpTo, selectionOf, volumeSources } from './volume-sources.ts';
import { baseSource, formOf, isWithin, refuseNested, repositoryOf } from './session.ts';
import { stateDirectoryOf } from './state-directory.ts';

const mebibyte = 1024 * 1024;
const phaseNames = {
  scan: 'reading',
  read: 'reading',
  converge: 'looking for changes',
  store: 'storing',
  commit: 'committing',
} as const;

export async function checkpoint(host: Host, parsed: Parsed): Promise<number> {
  const started = host.clock.monotonicMs();
  const form = formOf('checkpoint', parsed);
  const lineage = toLineageName(parsed.required('lineage'));
  const address = parsed.required('store');
  const dryRun = parsed.flag('dry-run');
  const stateDirectory = stateDirectoryOf(host, parsed);
  const includes = new MatchedGlobs(parsed.list('include'));
  if (parsed.positionals.length === 0) throw usage('checkpoint', 'no directory was given');
  const volumes = volumeSources(
    host,
    namedDirectories('checkpoint', parsed.positionals),
    includes.watch(selectionOf(parsed)),
    [await host.storePath(address), stateDirectory],
  );
  const settings: CaptureSettings = {
    ...captureSettings(host, 'checkpoint', parsed),
    volumes,
    final: parsed.flag('seal'),
    quiesced: parsed.flag('quiesced'),
    trustCache: !parsed.flag('no-cache') && !dryRun,
  };
  const fileTree = await host.fileTree();
  for (const volume of volumes) assertReadable(fileTree.tree, volume);
  refuseNested(fileTree.tree, 'checkpoint', volumes);
  const warnings = new Warnings();
  warnOfKey(host, parsed, volumes, warnings);
  await using store = await host.openWriter(address, {
    create: false,
    bandwidth: { uploadBytesPerSecond: parseRate('checkpoint', 'limit-upload', parsed) },
  });
  const { clock, random, signal } = host;
  using early = readEarly(store, lineage, { signal });
  const look = dryRun ? undefined : lookFirst(store, lineage, { signal: early.signal });
  const repository = await repositoryOf(host, 'checkpoint', parsed, early);
  const known = dryRun ? await knownDomain(host, store, repository, lineage) : undefined;
  const access = dryRun
    ? (known ?? temporaryDomain(repository, domainOf(lineage), random))
    : await repository.openOrMakeDomain(domainOf(lineage), { store, clock, random, signal });
  const rootKnown = !dryRun || known !== undefined;
  if (!rootKnown) {
    warnings.add(
      'W_ROOT_UNKNOWN',
      `nothing was ever stored for ${domainOf(lineage)}: roots are made with its keys, which its first checkpoint makes`,
      { lineage, domain: domainOf(lineage) },
    );
  }
  using compressor = await host.compressor();
  const laneCount = fileTree.sharedDescriptors ? settings.laneCount : 0;
  await using held = dryRun ? undefined : await host.openHolder({ stateDirectory, repository: repository.id, lineage });
  let writer: LineageWriter | undefined;
  let base: CommitBase | undefined;
  const restoredSlot = await restoredUpTo(host, fileTree.tree, volumes, (path) =>
    host.openMarker({ stateDirectory, repository: repository.id, lineage, path, slot: toSlot(0) }),
  );
  if (held !== undefined) {
    if (restoredSlot > 0) await noteRestored(held, restoredSlot);
    writer = await claimLineage({
      store,
      access,
      lineage,
      holder: held,
      holderName: host.hostName,
      clock,
      random,
      liveness: { isGone: async () => 'unknown' },
      policy: 'person',
      take: parsed.flag('take'),
      ...(look === undefined ? {} : { look }),
      signal,
    });
  } else {
    const log = new LineageLog(store, access, lineage);
    base = await readBase(log, (await log.head({ signal })).record, { signal });
  }
  // What another holder of the lock keeps is not for a dry run to touch.
  const onFailure = (error: HoldfastError): void =>
    warnings.add(
      'W_CACHE',
      `the cache is done without, so that no pass can show that nothing changed: ${error.message}`,
      { cause: String(error.cause ?? '') },
    );
  using temporary = dryRun ? await host.temporaryCache(stateDirectory, onFailure) : undefined;
  const cache = dryRun
    ? temporary
    : await host.openCache({ stateDirectory, repository: repository.id, lineage, volumes, own: true, onFailure });
  const before = (writer === undefined ? base : writer.base)?.checkpoint?.record.header.totals;
  const progress = showProgress(host, form === 'text');
  // Whoever looks on at a first checkpoint wants to know how much there is.
  const counting = new AbortController();
  let all: { readonly files: number; readonly bytes: number } = { files: before?.files ?? 0, bytes: 0 };
  const counted =
    before === undefined && progress.shown
      ? countVolumes(host, fileTree.tree, volumes, counting.signal).then(
          (count) => {
            all = count;
          },
          // The capture itself says what cannot be read.
          () => undefined,
        )
      : undefined;
  let outcome: CaptureOutcome;
  try {
    outcome = await capture(
      {
        files: fileTree.tree,
        store,
        compressor,
        clock,
        random,
        cache,
        lanes: host.lanes(),
        locks: fileTree.locks,
      },
      {
        ...settings,
        laneCount,
        packBytesTarget: packTarget(writer),
        saltContext: [host.bootId(), (await held?.load())?.holder ?? ''],
      },
      targetOf(host, access, lineage, writer, base, store, compressor),
      {
        signal,
        onProgress: ({ phase, pass, readBytes, files }) =>
          progress.update({
            label: phaseNames[phase],
            files,
            bytes: readBytes,
            // The passes after the first read next to nothing.
            filesTotal: pass === 1 ? all.files : 0,
            bytesTotal: pass === 1 ? all.bytes : 0,
          }),
      },
    );
    if (parsed.flag('seal')) await writer?.seal({ signal });
  } finally {
    progress.end();
    counting.abort();
    await counted;
  }
  for (const glob of includes.unmatched) {
    warnings.add('W_NO_MATCH', `--include ${glob} matches nothing`, { option: 'include', glob });
  }
  const seconds = (host.clock.monotonicMs() - started) / 1000;
  const facts = {
    lineage,
    rootKnown,
    dryRun,
    sealed: !dryRun && parsed.flag('seal'),
    seconds,
    requests: store.requests(),
    compressor: compressor.name,
    fileTree: fileTree.name,
    lanes: laneCount,
    encryption: repository.encryption,
    ...fencingJson(repository),
  };
  if (form === 'json') {
    host.stdout.write(`${JSON.stringify({ ...facts, ...jsonOf(outcome, facts), warnings: warnings.list })}\n`);
  } else {
    warnings.print(host);
    printSummary(host, outcome, facts);
  }
  if (outcome.incomplete) return errorCatalogue.E_INCOMPLETE.exit;
  return outcome.suspect ? errorCatalogue.E_SUSPECT.exit : 0;
}

async function countVolumes(
  { clock }: Host,
  files: FileTreeReader,
  volumes: readonly VolumeSource[],
  signal: AbortSignal,
): Promise<FileCount> {
  const roots = volumes.map(({ path }) => files.openRoot(path));
  try {
    return await countFiles(
      volumes.map(({ selection }, i) => ({
        files,
        root: roots[i] as Descriptor,
        selection,
        breathe: () => clock.wait(0),
        signal,
      })),
    );
  } finally {
    for (const root of roots) files.close(root);
  }
}

/** Roots are keyed: before its first checkpoint a workload has no keys, and a dry run makes none. */
async function knownDomain(
  { signal }: Host,
  store: ObjectReader,
  repository: Repository,
  lineage: LineageName,
): Promise<DomainAccess | undefined> {
  try {
    return (await openLog(store, repository, lineage, { signal })).access;
  } catch (error) {
    // Records without their keys are no first boot.
    if (!isHoldfastError(error, 'E_NOT_FOUND')) throw error;
    return undefined;
  }
}

function packTarget(writer: LineageWriter | undefined): number {
  return (writer?.base === undefined ? 64 : 16) * mebibyte;
}

function targetOf(
  host: Host,
  access: DomainAccess,
  lineage: LineageName,
  writer: LineageWriter | undefined,
  base: CommitBase | undefined,
  store: Parameters<typeof baseSource>[1],
  compressor: Parameters<typeof baseSource>[4],
): CaptureTarget {
  return {
    lineage,
    keys: access.keys,
    packs: {
      identity: {
        repository: access.repository,
        domain: access.domain,
        lineage,
        epoch: writer?.epoch ?? toEpoch(0),
      },
      dataKey: access.dataKey,
    },
    writer,
    base,
    sourceOf: baseSource(host, store, access, lineage, compressor),
  };
}

/** Lost together with what it opens, a key is of no use. */
function warnOfKey(host: Host, parsed: Parsed, volumes: readonly VolumeSource[], warnings: Warnings): void {
  const keyFile = parsed.text('key-file');
  if (keyFile === undefined) return;
  const real = host.realPath(keyFile);
  const around = volumes.find(({ path }) => isWithin(real, path));
  if (around === undefined) return;
  warnings.add(
    'W_KEY_INSIDE',
    `the key ${keyFile} lies in ${around.path}: keep a copy elsewhere, for when that directory is lost`,
    { keyFile: real, volume: around.name },
  );
}

/** `rootKnown` false: the roots were made with keys that are gone now, and are equal to no other. */
function jsonOf(outcome: CaptureOutcome, { rootKnown, requests, seconds }: Facts): object {
  const { committed, volumes, storedBytes } = outcome;
  const sum = (of: (volume: (typeof volumes)[number]) => number): number =>
    volumes.reduce((total, volume) => total + of(volume), 0);
  const checkpointed = { slot: committed?.slot ?? null, id: committed === undefined ? null : toHex(committed.id) };
  return {
    root: rootKnown ? toHex(outcome.root) : null,
    ...checkpointed,
    digest: committed === undefined ? null : toHex(committed.digest),
    files: sum(({ files }) => files),
    entries: sum(({ entries }) => entries),
    bytes: sum(({ bytes }) => bytes),
    newBytes: outcome.newBytes,
    storedBytes,
    consistency: outcome.consistency,
    ...(outcome.refuted === undefined ? {} : { refuted: outcome.refuted }),
    ...(outcome.databaseLockMs === undefined
      ? {}
      : {
          databases: volumes.flatMap(({ name, databases }) => databases.map((each) => ({ volume: name, ...each }))),
          databaseLockMs: outcome.databaseLockMs,
        }),
    passes: outcome.passes,
    partials: outcome.partials,
    skipped: volumes.flatMap(({ name, skipped }) => skipped.map((skip) => ({ volume: name, ...skip }))),
    incomplete: outcome.incomplete,
    suspect: outcome.suspect,
    suspicions: outcome.suspicions,
    compacted: outcome.compacted ?? null,
    // Volumes share packs and the record: what these cost is told of the set, the same for each.
    volumes: Object.fromEntries(
      volumes.map(({ root, name, databases: _, ...volume }) => [
        name,
        {
          root: rootKnown ? toHex(root) : null,
          ...checkpointed,
          ...volume,
          storedBytes,
          requests,
          seconds,
          consistency: outcome.consistency,
        },
      ]),
    ),
  };
}

interface Facts {
  readonly lineage: LineageName;
  readonly rootKnown: boolean;
  readonly dryRun: boolean;
  readonly sealed: boolean;
  readonly seconds: number;
  readonly requests: RequestCounts;
}

const refutations: Readonly<Record<Refutation['reason'], string>> = {
  changed: 'changed while it was read',
  writer: 'a writer cannot be ruled out',
};

function printDatabases(host: Host, { volumes }: CaptureOutcome, heldMs: number): void {
  const { stdout } = host;
  const path = (volume: string, database: string): string => (volumes.length > 1 ? `${volume}: ${database}` : database);
  const all = volumes.flatMap(({ name, databases }) =>
    databases.map((database) => ({ ...database, path: path(name, database.path) })),
  );
  if (all.length === 0) {
    stdout.write('  sqlite  no database found\n');
    return;
  }
  const held = all.filter(({ locked }) => locked).map((database) => database.path);
  const within = held.length === 0 ? '' : `, for ${formatSeconds(heldMs / 1000)}`;
  stdout.write(`  sqlite  held still ${formatCount(held.length)}${within}  ${shortList(held, held.length)}\n`);
  const free = all.filter(({ locked }) => !locked).map((database) => `${database.path} (${database.reason})`);
  if (free.length === 0) return;
  const what = styled(stdout, 'yellow', `sqlite, not held still ${formatCount(free.length)}`);
  stdout.write(`  ${what}  ${shortList(free, free.length)}\n`);
}

function printSummary(host: Host, outcome: CaptureOutcome, facts: Facts): void {
  const { stdout } = host;
  const { committed, volumes } = outcome;
  const files = volumes.reduce((total, volume) => total + volume.files, 0);
  const bytes = volumes.reduce((total, volume) => total + volume.bytes, 0);
  const head = committed === undefined ? 'Dry run' : `Checkpoint ${committed.slot}`;
  stdout.write(
    `${styled(stdout, 'bold', head)} of ${facts.lineage}: ${formatFiles(files)}, ${formatBytes(bytes)}, ` +
      `${outcome.consistency}, in ${formatSeconds(facts.seconds)}\n`,
  );
  if (facts.rootKnown) stdout.write(`  root    ${toHex(outcome.root)}\n`);
  if (committed !== undefined) {
    stdout.write(`  id      ${toHex(committed.id)}\n`);
    stdout.write(`  new     ${formatBytes(outcome.newBytes)}, stored as ${formatBytes(outcome.storedBytes)}\n`);
  }
  for (const suspicion of outcome.suspicions) {
    const what = committed === undefined ? 'would be suspect' : 'suspect';
    stdout.write(`  ${styled(stdout, ['red', 'bold'], what)}  ${describeSuspicion(suspicion)}\n`);
  }
  if (outcome.suspicions.length > 0 && committed !== undefined) {
    stdout.write(`          not restored by default. If it was meant: holdfast ack --lineage ${facts.lineage}\n`);
  }
  if (outcome.compacted !== undefined) {
    const { dropped, movedBytes, stopped } = outcome.compacted;
    const why = stopped === undefined ? '' : `, stopped: ${stopped}`;
    stdout.write(`  packs   ${formatCount(dropped)} emptied, ${formatBytes(movedBytes)} moved${why}\n`);
  }
  for (const { volume, reason, count, names } of outcome.refuted ?? []) {
    const what = `not quiesced: ${volumes.length > 1 ? `${volume}: ` : ''}${refutations[reason]} ${formatCount(count)}`;
    stdout.write(`  ${styled(stdout, 'yellow', what)}  ${shortList(names, count)}\n`);
  }
  if (outcome.databaseLockMs !== undefined) printDatabases(host, outcome, outcome.databaseLockMs);
  if (facts.sealed) stdout.write('  sealed  another holder may go on with this lineage\n');
  for (const volume of volumes) {
    const where = volumes.length > 1 ? `${volume.name}: ` : '';
    for (const { reason, count, names } of volume.skipped) {
      const colour = reason === 'unreadable' ? 'red' : 'yellow';
      stdout.write(
        `  ${styled(stdout, colour, `${where}${reason} ${formatCount(count)}`)}  ${shortList(names, count)}\n`,
      );
    }
    if (volume.volatileCount > 0) {
      const names = shortList(volume.volatileNames, volume.volatileCount);
      stdout.write(`  ${where}volatile ${formatCount(volume.volatileCount)}  ${names}\n`);
    }
    if (outcome.consistency === 'fuzzy' && volume.fuzzyCount > 0) {
      stdout.write(
        `  ${styled(stdout, 'yellow', `${where}moved while read ${formatCount(volume.fuzzyCount)}`)}  ` +
          `${shortList(volume.fuzzyNames, volume.fuzzyCount)}\n`,
      );
    }
  }
}
