/** `holdfast copy`: a second store that holds what the first one holds. */
import { proveCreateOnly } from '../engine/lineage/prove-create-only.ts';
import { errorCatalogue, HoldfastError, isHoldfastError } from '../engine/model/errors.ts';
import { toLineageName } from '../engine/model/ids.ts';
import type { ObjectReader, ObjectWriter } from '../engine/ports/object-store.ts';
import { ByteBudget } from '../engine/replicate/byte-budget.ts';
import { copyRepositoryObject } from '../engine/replicate/copy-keys.ts';
import type { PassedRecord } from '../engine/replicate/copy-lineage.ts';
import type { CopyParts, CopyProgress } from '../engine/replicate/copy-parts.ts';
import { type CopiedLineage, RepositoryCopy } from '../engine/replicate/copy-repository.ts';
import { follow } from '../engine/replicate/follow.ts';
import type { Counted, Host } from './host.ts';
import { type Parsed, parseDuration, usage } from './options.ts';
import { formatBytes, formatCount, formatSeconds, printable, styled } from './print.ts';
import { type Progress, showProgress } from './progress.ts';
import { formOf, keyRingOf, noArguments } from './session.ts';
import { fencingJson, sayUnfenced } from './warnings.ts';

/** Of all objects under way together, what the uploads of a store keep included. */
const memoryBytesMax: number = 160 * 1024 * 1024;
const objectsAtOnce = 16;

interface Run {
  readonly host: Host;
  readonly form: 'text' | 'json';
  readonly repository: string;
  readonly unfenced: boolean;
  readonly from: Counted<ObjectReader>;
  readonly to: Counted<ObjectWriter>;
  readonly copied: RepositoryCopy;
  readonly startedMs: number;
}

export async function copy(host: Host, parsed: Parsed): Promise<number> {
  const form = formOf('copy', parsed);
  noArguments('copy', parsed);
  const [source, target] = [parsed.required('from'), parsed.required('to')];
  if (source === target) throw usage('copy', '--from and --to are the same store');
  const only = parsed.list('lineage').map(toLineageName);
  const everyText = parsed.text('every');
  if (parsed.given('every') && !parsed.flag('follow')) throw usage('copy', '--every needs --follow');
  const everyMs = parseDuration('copy', 'every', everyText ?? '10s');
  if (everyMs < 100) throw usage('copy', `--every is ${JSON.stringify(everyText)}, less than 100ms`);
  const init = parsed.flag('init');
  const { clock, signal } = host;
  const startedMs = clock.monotonicMs();

  await using from = await host.openReader(source);
  const keyRing = await keyRingOf(host, parsed);
  await using to = await openTarget(host, target, init);
  using codec = await host.compressor();
  const begin = async (): Promise<void> => {
    // A directory decides by link(), and refuses where it cannot. What a server does with a condition has to be seen.
    if ((await host.storePath(target)) === undefined) {
      await using inspector = await host.openInspector(target);
      await proveCreateOnly({ store: to, random: host.random, clock, signal, completeOver: inspector.completeOver });
    }
  };
  const repository = await copyRepositoryObject(
    { source: from, target: to, clock },
    { keyRing, begin: init ? begin : undefined },
    { signal },
  );
  const unfenced = !repository.object.createOnly;
  if (unfenced && form === 'text') sayUnfenced(host);
  const line = showProgress(host, form === 'text');
  const progress: CopyProgress = { objects: 0, objectsTotal: 0, bytes: 0, bytesTotal: 0 };
  const parts: CopyParts = {
    source: from,
    target: to,
    clock,
    codec,
    budget: new ByteBudget(memoryBytesMax, objectsAtOnce),
    progress,
    onProgress: () => draw(line, progress),
  };
  const copied = new RepositoryCopy(parts, repository, only);
  const run: Run = { host, form, repository: repository.object.id, unfenced, from, to, copied, startedMs };
  try {
    // Names that are wrong and rights that are missing show at once, also of a copy that is to go on for months.
    await copied.discover({ signal });
    if (parsed.flag('follow')) await followLoudly(run, everyMs, line);
    else await copied.round({ notes: true }, { signal });
  } finally {
    line.end();
  }
  printSummary(run);
  return exitOf(copied);
}

async function openTarget(host: Host, target: string, create: boolean): Promise<Counted<ObjectWriter>> {
  try {
    return await host.openWriter(target, { create });
  } catch (error) {
    const path = await host.storePath(target);
    if (create || path === undefined || host.exists(path) || !isHoldfastError(error, 'E_STORE_UNREACHABLE'))
      throw error;
    const remedy =
      'If this is a new second store, run again with --init. Else look whether it is mounted, and its address.';
    throw new HoldfastError('E_STORE_UNREACHABLE', error.message, { cause: error, details: error.details, remedy });
  }
}

function draw(line: Progress, { objects, objectsTotal, bytes, bytesTotal }: CopyProgress): void {
  line.update({ label: 'copying', files: objects, noun: 'objects', filesTotal: objectsTotal, bytes, bytesTotal });
}

async function followLoudly(run: Run, everyMs: number, line: Progress): Promise<void> {
  const { host, form, copied } = run;
  const { clock, signal, stdout, stderr } = host;
  const json = (event: string, facts: object): void => {
    stdout.write(`${JSON.stringify({ event, time: new Date(clock.nowMs()).toISOString(), ...facts })}\n`);
  };
  await follow(
    copied,
    clock,
    { everyMs, signal },
    {
      onStatus: () => {
        line.pause();
        if (form === 'json') json('status', { lineages: byName(copied).map((each) => lagJson(run, each)) });
        else for (const each of byName(copied)) stdout.write(`${lagText(run, each)}\n`);
      },
      onOutage: (error, retryMs) => {
        line.pause();
        const { code, message } = error;
        if (form === 'json') json('outage', { error: { code, message }, retrySeconds: retryMs / 1000 });
        else {
          const again = `trying again in ${formatSeconds(retryMs / 1000)}`;
          stderr.write(`${styled(stderr, 'yellow', 'waiting')} ${code}: ${printable(message)}; ${again}\n`);
        }
      },
      onRecovered: () => {
        line.pause();
        if (form === 'json') json('recovered', {});
        else stderr.write('the stores answer again\n');
      },
    },
  );
}

function byName({ lineages }: RepositoryCopy): readonly CopiedLineage[] {
  return [...lineages.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

function ageSeconds({ host }: Run, oldestMs: number | undefined): number | null {
  return oldestMs === undefined ? null : Math.max(0, host.clock.nowMs() - oldestMs) / 1000;
}

function lagJson(run: Run, { name, copy, error, stopped }: CopiedLineage): object {
  return {
    lineage: name,
    head: copy === undefined ? null : headJson(copy.head),
    behind: copy?.lag === undefined ? null : copy.lag.records,
    oldestSeconds: ageSeconds(run, copy?.lag?.oldestMs),
    ...(error === undefined ? {} : { stopped, error: errorJson(error) }),
  };
}

function lagText(run: Run, { name, copy, error, stopped }: CopiedLineage): string {
  const { stdout } = run.host;
  if (stopped)
    return `${name}: ${styled(stdout, 'red', 'stopped')}, ${error?.code}: ${printable(error?.message ?? '')}`;
  const lag = copy?.lag;
  if (lag === undefined) return `${name}: not known yet`;
  const at = `at slot ${copy?.head.slot}`;
  if (lag.records === 0) return `${name}: up to date ${at}`;
  const age = formatSeconds(ageSeconds(run, lag.oldestMs) ?? 0);
  return `${name}: ${recordsText(lag.records)} behind ${at}, the oldest made ${age} ago`;
}

function recordsText(count: number): string {
  return `${formatCount(count)} ${count === 1 ? 'record' : 'records'}`;
}

function headJson({ slot, id }: { readonly slot: number; readonly id: string | undefined }): object | null {
  return id === undefined ? null : { slot, id };
}

function errorJson({ code, kind, message, remedy }: HoldfastError): object {
  return { code, kind, message, remedy };
}

function printSummary(run: Run): void {
  const { host, form, from, to, copied, startedMs, repository } = run;
  const { stdout } = host;
  const lineages = byName(copied);
  const sum = (of: 'records' | 'packs' | 'bytes'): number =>
    lineages.reduce((total, { copy }) => total + (copy?.[of] ?? 0), 0);
  const [records, packs, bytes] = [sum('records'), sum('packs'), sum('bytes')];
  const seconds = (host.clock.monotonicMs() - startedMs) / 1000;
  if (form === 'json') {
    const requests = { from: from.requests(), to: to.requests() };
    const rows = lineages.map((each) => ({
      ...lagJson(run, each),
      records: each.copy?.records ?? 0,
      packs: each.copy?.packs ?? 0,
      bytes: each.copy?.bytes ?? 0,
      passed: each.copy?.passed ?? [],
    }));
    stdout.write(
      `${JSON.stringify({ repository, ...fencingJson(run), lineages: rows, records, packs, bytes, seconds, requests })}\n`,
    );
    return;
  }
  if (lineages.length === 0) stdout.write('Nothing has been stored here yet.\n');
  for (const each of lineages) {
    stdout.write(`${lagText(run, each)}\n`);
    if (each.error !== undefined) stdout.write(`  ${printable(each.error.remedy)}\n`);
    for (const record of each.copy?.passed ?? []) stdout.write(`${passedText(run, record)}\n`);
  }
  const what = `${recordsText(records)}, ${formatCount(packs)} ${packs === 1 ? 'pack' : 'packs'}, ${formatBytes(bytes)}`;
  stdout.write(styled(stdout, 'dim', `${what} copied in ${formatSeconds(seconds)}\n`));
}

function passedText({ host }: Run, { slot, reason, detail }: PassedRecord): string {
  const colour = reason === 'damaged' || reason === 'target-damaged' ? 'red' : 'yellow';
  return `  ${slot}: ${styled(host.stdout, colour, reason)}, passed over: ${printable(detail)}`;
}

/** What needs a person first: a lineage that ended, then damage, then a store that failed. */
function exitOf({ lineages }: RepositoryCopy): number {
  const all = [...lineages.values()];
  const ended = all.find(({ stopped }) => stopped)?.error;
  if (ended !== undefined) return ended.exit;
  if (all.some(({ copy }) => copy?.damaged)) return errorCatalogue.E_DAMAGED.exit;
  return all.find(({ error }) => error !== undefined)?.error?.exit ?? 0;
}
