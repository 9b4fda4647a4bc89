/** `holdfast verify`: whether what is stored can be restored, and what is lost if not. */
import type { LineageLog } from '../engine/lineage/log.ts';
import { listLineages, openLog } from '../engine/lineage/open-log.ts';
import type { DomainAccess, Repository } from '../engine/lineage/repository.ts';
import { toHex } from '../engine/model/bytes.ts';
import { errorCatalogue, HoldfastError } from '../engine/model/errors.ts';
import { type LineageName, toLineageName } from '../engine/model/ids.ts';
import { findCheckpoint, type RestoreSource } from '../engine/rehydrate/restore-source.ts';
import { verifyCheckpoint, type VerifyOutcome, type VoidRecord, voidRecords } from '../engine/rehydrate/verify.ts';
import { timeText } from './describe-record.ts';
import type { Counted, Host } from './host.ts';
import type { ObjectReader } from '../engine/ports/object-store.ts';
import { type Parsed, usage } from './options.ts';
import { formatBytes, formatCount, formatFiles, formatSeconds, shortList, styled } from './print.ts';
import { type Progress, showProgress } from './progress.ts';
import { formOf, noArguments, repositoryOf, selectorOf } from './session.ts';
import { fencingJson } from './warnings.ts';

interface CheckedCheckpoint {
  readonly source: RestoreSource;
  readonly outcome: VerifyOutcome;
}

interface CheckedLineage {
  readonly lineage: string;
  readonly voids: readonly VoidRecord[];
  readonly checkpoints: readonly CheckedCheckpoint[];
  readonly error: HoldfastError | undefined;
}

interface Run {
  readonly host: Host;
  readonly parsed: Parsed;
  readonly store: Counted<ObjectReader>;
  readonly repository: Repository;
  readonly progress: Progress;
  readonly readData: boolean;
  readonly laneCount: number;
  readonly ports: Parameters<typeof verifyCheckpoint>[0];
}

const inFlightBytes: number = 32 * 1024 * 1024;

export async function verify(host: Host, parsed: Parsed): Promise<number> {
  const started = host.clock.monotonicMs();
  const form = formOf('verify', parsed);
  noArguments('verify', parsed);
  const wanted = parsed.text('lineage');
  if (parsed.given('at') && wanted === undefined) throw usage('verify', '--at needs a --lineage');
  if (parsed.given('at') && parsed.flag('all'))
    throw usage('verify', '--at names one checkpoint, --all means every one');
  const lanesWanted = parsed.number('lanes', 0, 64, Math.min(host.parallelism, 4));
  await using store = await host.openReader(parsed.required('store'));
  const repository = await repositoryOf(host, 'verify', parsed, store);
  const fileTree = await host.fileTree();
  using compressor = await host.compressor();
  const laneCount = fileTree.sharedDescriptors ? lanesWanted : 0;
  const ports = { store, compressor, lanes: host.lanes(), files: fileTree.tree };
  const progress = showProgress(host, form === 'text');
  const readData = parsed.flag('read-data');
  const run: Run = { host, parsed, store, repository, progress, readData, laneCount, ports };
  const checked: CheckedLineage[] = [];
  try {
    if (wanted !== undefined) checked.push(await checkLineage(run, toLineageName(wanted)));
    else {
      for await (const { lineage, prefix } of listLineages(store, { signal: host.signal })) {
        checked.push(lineage === undefined ? unnamed(prefix) : await checkOneOfAll(run, lineage));
      }
    }
  } finally {
    progress.end();
  }
  const seconds = (host.clock.monotonicMs() - started) / 1000;
  const damaged = checked.some(isDamaged);
  const failed = checked.find(({ error }) => error !== undefined)?.error;
  if (form === 'json') {
    const lineages = checked.map(lineageJson);
    const facts = { sound: !damaged && failed === undefined, readData, seconds, requests: store.requests() };
    host.stdout.write(
      `${JSON.stringify({ repository: repository.id, ...fencingJson(repository), ...facts, lineages })}\n`,
    );
  } else printReport(host, checked, { readData, seconds, bytesRead: store.bytesRead() });
  return damaged ? errorCatalogue.E_DAMAGED.exit : (failed?.exit ?? 0);
}

function unnamed(prefix: string): CheckedLineage {
  const error = new HoldfastError('E_USAGE', 'the name is too long to be told by its key', {
    remedy: 'Verify it by itself: holdfast verify --lineage NAME.',
  });
  return { lineage: prefix, voids: [], checkpoints: [], error };
}

/** One lineage that cannot be read does not keep the others from being verified. */
async function checkOneOfAll(run: Run, lineage: LineageName): Promise<CheckedLineage> {
  try {
    return await checkLineage(run, lineage);
  } catch (error) {
    if (!(error instanceof HoldfastError) || run.host.signal.aborted) throw error;
    return { lineage, voids: [], checkpoints: [], error };
  }
}

async function checkLineage(run: Run, lineage: LineageName): Promise<CheckedLineage> {
  const { signal } = run.host;
  const { log, access } = await openLog(run.store, run.repository, lineage, { signal });
  const voids: VoidRecord[] = [];
  for await (const found of voidRecords(log, { signal })) voids.push(found);
  const checkpoints: CheckedCheckpoint[] = [];
  const proven = new Set<string>();
  let error: HoldfastError | undefined;
  try {
    for await (const source of sourcesOf(run, log, access)) {
      checkpoints.push({ source, outcome: await checkOne(run, source, proven) });
    }
  } catch (caught) {
    // With void records in the log it is they that are to be shown.
    if (!(caught instanceof HoldfastError) || signal.aborted || voids.length === 0) throw caught;
    error = caught;
  }
  return { lineage, voids, checkpoints, error };
}

async function* sourcesOf({ host, parsed }: Run, log: LineageLog, access: DomainAccess): AsyncGenerator<RestoreSource> {
  const { signal } = host;
  if (!parsed.flag('all')) {
    yield await findCheckpoint(log, access, selectorOf(parsed.text('at')), { signal });
    return;
  }
  let any = false;
  for await (const record of log.records({ signal })) {
    if (record.header.kind !== 'CHECKPOINT') continue;
    any = true;
    const { packs } = await log.packs(record, { signal });
    yield { lineage: log.lineage, access, record, body: log.body(record), packs };
  }
  if (!any) await findCheckpoint(log, access, selectorOf(undefined), { signal });
}

async function checkOne(run: Run, source: RestoreSource, proven: Set<string>): Promise<VerifyOutcome> {
  const { host, progress, readData, laneCount, ports } = run;
  const { lineage, record } = source;
  return await verifyCheckpoint(
    ports,
    source,
    { readData, laneCount, inFlightBytes, proven },
    {
      signal: host.signal,
      onProgress: ({ phase, packs, files, bytes, packsTotal, filesTotal, bytesTotal }) =>
        progress.update({
          label: `${lineage} ${record.header.slot}: ${phase === 'packs' ? 'packs' : 'files'}`,
          files,
          bytes,
          filesTotal: phase === 'packs' ? 0 : filesTotal,
          bytesTotal: phase === 'packs' || !readData ? 0 : bytesTotal,
          steps: phase === 'packs' ? { done: packs, total: packsTotal } : undefined,
        }),
    },
  );
}

function isDamaged({ voids, checkpoints }: CheckedLineage): boolean {
  return voids.length > 0 || checkpoints.some(({ outcome }) => !outcome.sound);
}

function lineageJson({ lineage, voids, checkpoints, error }: CheckedLineage): object {
  return {
    lineage,
    void: voids,
    checkpoints: checkpoints.map(({ source, outcome }) => {
      const { slot, id, timeMs } = source.record.header;
      return { slot, id: toHex(id), time: timeText(timeMs), root: toHex(source.body.setRoot), ...outcome };
    }),
    ...(error === undefined
      ? {}
      : { error: { code: error.code, kind: error.kind, message: error.message, remedy: error.remedy } }),
  };
}

function printReport(
  host: Host,
  checked: readonly CheckedLineage[],
  {
    readData,
    seconds,
    bytesRead,
  }: { readonly readData: boolean; readonly seconds: number; readonly bytesRead: number },
): void {
  const { stdout } = host;
  if (checked.length === 0) stdout.write('Nothing has been stored here yet.\n');
  for (const { lineage, voids, checkpoints, error } of checked) {
    for (const { source, outcome } of checkpoints) {
      const { slot } = source.record.header;
      const state = outcome.sound ? styled(stdout, 'green', 'sound') : styled(stdout, 'red', 'DAMAGED');
      const what = readData ? 'read and proven' : 'found in their places';
      stdout.write(
        `${lineage} ${slot}: ${state}, ${formatFiles(outcome.files)}, ${formatBytes(outcome.bytes)} ${what}\n`,
      );
      const { objects, objectCount, subtrees, files } = outcome.damage;
      for (const { key, pack, why, names, files: cost } of objects) {
        stdout.write(`  ${styled(stdout, 'red', key === '' ? (pack ?? 'unknown object') : key)}\n`);
        for (const line of why) stdout.write(`    ${line}\n`);
        if (cost > 0) stdout.write(`    costs ${formatCount(cost)}  ${shortList(names, cost)}\n`);
      }
      if (objectCount > objects.length)
        stdout.write(`  and ${formatCount(objectCount - objects.length)} objects more\n`);
      for (const { from, to, files: cost, why } of subtrees) {
        stdout.write(`  ${styled(stdout, 'red', `names from ${from || 'the first'} to ${to ?? 'the last'}`)}\n`);
        stdout.write(`    ${why}, costs ${formatFiles(cost)}\n`);
      }
      if (!outcome.sound) {
        const lost = files > 0 ? `${formatFiles(files)}` : 'no file of this checkpoint; an older one may need it';
        stdout.write(`  lost: ${lost}\n`);
      }
    }
    for (const { slot, key, reason, detail } of voids) {
      stdout.write(`${lineage} ${slot}: ${styled(stdout, 'red', 'void')}, ${reason} (${detail})\n  ${key}\n`);
    }
    if (error !== undefined) {
      stdout.write(`${lineage}: ${styled(stdout, 'red', error.code)}, ${error.message}\n  ${error.remedy}\n`);
    }
  }
  stdout.write(styled(stdout, 'dim', `${formatBytes(bytesRead)} of the store read in ${formatSeconds(seconds)}\n`));
  if (!readData && checked.length > 0) {
    stdout.write(styled(stdout, 'dim', 'Content was not read: --read-data proves every byte.\n'));
  }
}
