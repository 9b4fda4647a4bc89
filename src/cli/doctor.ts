/** `holdfast doctor`: whether a store can be relied on, and what these credentials may do with it. */
import { listLineages, openLog } from '../engine/lineage/open-log.ts';
import { type Proof, probeKeys, proveCreateOnly } from '../engine/lineage/prove-create-only.ts';
import { openRepository, type Repository } from '../engine/lineage/repository.ts';
import { toHex } from '../engine/model/bytes.ts';
import { errorCatalogue, type HoldfastError, isHoldfastError } from '../engine/model/errors.ts';
import { type LineageName, toLineageName } from '../engine/model/ids.ts';
import type { ObjectReader } from '../engine/ports/object-store.ts';
import type { StoreFacts, StoreInspector } from '../engine/ports/store-inspector.ts';
import { timeText } from './describe-record.ts';
import {
  bucketFindings,
  clockFinding,
  directoryFindings,
  type Finding,
  finding,
  remnantFindings,
  type State,
} from './findings.ts';
import type { Host } from './host.ts';
import type { Parsed } from './options.ts';
import { formatSeconds, printable, styled } from './print.ts';
import { encryptionOf, formOf, keyRingOf, noArguments } from './session.ts';
import { comparePolicies, type PolicyReport, printPolicies } from './policies.ts';
import { fencingJson } from './warnings.ts';

interface Opened {
  readonly repository: Repository | undefined;
  /** Also where it could not be opened. */
  readonly present: boolean;
  readonly findings: readonly Finding[];
}

export async function doctor(host: Host, parsed: Parsed): Promise<number> {
  const form = formOf('doctor', parsed);
  noArguments('doctor', parsed);
  const address = parsed.required('store');
  const lineage = parsed.text('lineage');
  const scope = lineage === undefined ? undefined : toLineageName(lineage);
  await using inspector = await host.openInspector(address);
  const { repository, present, findings: opened } = await openFindings(host, parsed, address);
  const reached = opened.every(({ check, state }) => check !== 'reachable' || state !== 'failed');
  const facts = reached ? await inspector.facts({ signal: host.signal }) : undefined;
  const findings = [...opened];
  if (facts !== undefined) {
    // A directory that is no store yet stays as it is.
    if (present || facts.kind === 'bucket') {
      findings.push(...(await createOnlyFindings(host, address, inspector, facts, repository)));
    }
    findings.push(
      ...(facts.kind === 'bucket'
        ? bucketFindings(facts, repository && repository.encryption !== 'none')
        : directoryFindings(facts)),
    );
  }
  findings.push(...(await hostFindings(host)));
  const policies =
    parsed.flag('policies') && facts !== undefined
      ? await comparePolicies(host, inspector, facts, scope, host.random)
      : undefined;
  findings.push(...remnantFindings(inspector.remnants));
  if (form === 'json') {
    const server = facts?.kind === 'bucket' ? facts.server : undefined;
    const healthy = !findings.some(({ state }) => state === 'failed');
    const about = { store: address, server, repository: repository?.id ?? null };
    const fencing = repository === undefined ? {} : fencingJson(repository);
    host.stdout.write(`${JSON.stringify({ ...about, ...fencing, healthy, findings, ...policies })}\n`);
  } else {
    printFindings(host, address, facts, findings);
    if (policies !== undefined) printPolicies(host, policies as PolicyReport);
  }
  return findings.some(({ state }) => state === 'failed') ? errorCatalogue.E_UNHEALTHY.exit : 0;
}

/** Whether the store answers, what repository is in it, and whether the key opens it. */
async function openFindings(host: Host, parsed: Parsed, address: string): Promise<Opened> {
  const { signal } = host;
  const findings: Finding[] = [];
  let repository: Repository | undefined;
  const startedMs = host.clock.monotonicMs();
  try {
    await using store = await host.openReader(address);
    const keyRing = await keyRingOf(host, parsed);
    try {
      repository = await openRepository(store, { keyRing, encryption: encryptionOf('doctor', parsed) }, { signal });
    } finally {
      findings.push(finding('reachable', 'ok', `answered in ${Math.round(host.clock.monotonicMs() - startedMs)} ms`));
    }
    const { id, formatVersion, encryption, createdMs, unfenced } = repository;
    findings.push(finding('repository', 'ok', `${id}, format ${formatVersion}, made ${timeText(createdMs)}`));
    if (unfenced) {
      findings.push(
        finding(
          'fencing',
          'warning',
          'UNFENCED: the repository was made in a store that overwrites; two writers are not told apart',
          'Keep to one writer for each lineage, and move to another store: holdfast copy.',
        ),
      );
    }
    findings.push(...(await lineageFindings(host, store, repository, encryption, parsed.text('lineage'))));
  } catch (error) {
    if (!isHoldfastError(error) || signal.aborted) throw error;
    return {
      repository: undefined,
      present: error.code !== 'E_REPOSITORY_MISSING',
      findings: failureFindings(findings, error),
    };
  }
  return { repository, present: true, findings };
}

const keyCodes: ReadonlySet<string> = new Set(['E_KEY_MISSING', 'E_KEY_WRONG', 'E_ENCRYPTION_MISMATCH']);

function failureFindings(before: readonly Finding[], error: HoldfastError): readonly Finding[] {
  const { code, message, remedy } = error;
  const seen = `${code}: ${message}`;
  const unreachable = code.startsWith('E_STORE_') || code === 'E_USAGE' || code === 'E_INTERNAL';
  if (unreachable) return [finding('reachable', 'failed', seen, remedy)];
  return [...before, finding(keyCodes.has(code) ? 'key' : 'repository', 'failed', seen, remedy)];
}

/** The repository object names its key; that the keys of workloads can be opened with it is seen by opening one. */
async function lineageFindings(
  host: Host,
  store: ObjectReader,
  repository: Repository,
  encryption: string,
  named: string | undefined,
): Promise<readonly Finding[]> {
  const { signal, clock } = host;
  const key =
    encryption === 'none' ? 'the repository has no encryption, and needs no key' : 'it is that of the repository';
  const lineage = named === undefined ? await anyLineage(store, signal) : toLineageName(named);
  if (lineage === undefined) return [finding('key', 'ok', key)];
  try {
    const { log, access } = await openLog(store, repository, lineage, { signal });
    const opens = encryption === 'none' ? key : `it opens the keys of ${access.domain}`;
    if (named === undefined) return [finding('key', 'ok', opens)];
    const { record } = await log.head({ signal });
    const seen =
      record === undefined
        ? 'it has no record yet'
        : `newest record ${record.header.slot}, ${record.header.kind}, ` +
          `${formatSeconds(Math.max(0, clock.nowMs() - record.header.timeMs) / 1000)} old`;
    return [finding('key', 'ok', opens), finding('lineage', 'ok', seen)];
  } catch (error) {
    if (!isHoldfastError(error) || signal.aborted) throw error;
    if (error.code === 'E_NOT_FOUND') {
      return [finding('key', 'ok', key), finding('lineage', 'ok', `nothing is stored of ${lineage} yet`)];
    }
    return [finding('lineage', 'failed', `${error.code}: ${error.message}`, error.remedy)];
  }
}

/** A lineage that is there, where names may be listed. */
async function anyLineage(store: ObjectReader, signal: AbortSignal): Promise<LineageName | undefined> {
  try {
    for await (const { lineage } of listLineages(store, { signal })) if (lineage !== undefined) return lineage;
  } catch (error) {
    if (!isHoldfastError(error) || signal.aborted) throw error;
  }
  return undefined;
}

/** Tries out what everything rests on, with objects that are removed again where that is allowed. */
async function createOnlyFindings(
  host: Host,
  address: string,
  inspector: StoreInspector,
  facts: StoreFacts,
  repository: Repository | undefined,
): Promise<readonly Finding[]> {
  const { random, clock, signal } = host;
  const id = toHex(random.bytes(8));
  if (facts.kind === 'directory' && !facts.write.known) {
    return [finding('create-only', 'unknown', 'not tried: nothing can be written')];
  }
  try {
    await using store = await host.openWriter(address, { create: false });
    const { clock: times } = await proveCreateOnly({
      store,
      random,
      clock,
      id,
      signal,
      completeOver: inspector.completeOver,
    });
    const parts = inspector.completeOver === undefined ? '' : '; completing an upload over an object is refused too';
    return [
      finding('create-only', 'ok', `a second write is refused, of 8 at once one wins${parts}`),
      finding('lists', 'ok', 'in order, and show at once what was written'),
      // A bucket's answers tell its time, also to those who may not write.
      ...(facts.kind === 'directory' ? [clockFinding(aheadOf(times))] : []),
    ];
  } catch (error) {
    if (!isHoldfastError(error) || signal.aborted) throw error;
    if (error.code === 'E_UNFENCED') {
      const chosen = repository?.unfenced === true;
      return [
        finding(
          'create-only',
          chosen ? 'warning' : 'failed',
          chosen ? `${error.message} (as it was chosen by init --unfenced)` : error.message,
          chosen ? undefined : error.remedy,
        ),
      ];
    }
    if (error.code === 'E_STORE_READ_ONLY' || error.code === 'E_STORE_UNREACHABLE') {
      const said = repository === undefined ? '' : `; init saw that it ${repository.unfenced ? 'OVERWRITES' : 'holds'}`;
      return [finding('create-only', 'unknown', `not tried: these credentials may not write below v1/probe/${said}`)];
    }
    return [finding('create-only', 'failed', `${error.code}: ${error.message}`, error.remedy)];
  } finally {
    await inspector.forget(probeKeys(id));
  }
}

/** By how much the store's clock was outside of the time in which it must have been, in ms; stores tell whole seconds. */
function aheadOf({ storeMs, beforeMs, afterMs }: Proof['clock']): number {
  if (storeMs > afterMs + 1000) return storeMs - afterMs;
  return storeMs < beforeMs - 1000 ? storeMs - beforeMs : 0;
}

async function hostFindings(host: Host): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  const { name, sharedDescriptors } = await host.fileTree();
  findings.push(
    name === 'native'
      ? finding('file tree', 'ok', 'native: everything is kept')
      : finding(
          'file tree',
          'warning',
          `${name}: in pure Node, without what it cannot see or set${sharedDescriptors ? '' : ', in one thread'}`,
          'Run on Linux (x64 or arm64) where native calls work; checkpoint and restore name what they could not keep.',
        ),
  );
  using compressor = await host.compressor();
  findings.push(
    compressor.name === 'zstd-codec'
      ? finding('compressor', 'warning', `${compressor.name}: slow`, 'Use a Node with zstd, or install libzstd.')
      : finding('compressor', 'ok', compressor.name),
  );
  return findings;
}

const colours = { ok: 'green', warning: 'yellow', failed: 'red', unknown: 'dim' } as const satisfies Record<
  State,
  string
>;

function printFindings(
  { stdout }: Host,
  address: string,
  facts: StoreFacts | undefined,
  findings: readonly Finding[],
): void {
  const server = facts?.kind === 'bucket' && facts.server !== '' ? `, on ${facts.server}` : '';
  stdout.write(`${styled(stdout, 'bold', printable(address.replace(/\?.*$/s, '')))}${printable(server)}\n`);
  const width = Math.max(...findings.map(({ check }) => check.length));
  for (const { check, state, seen, remedy } of findings) {
    const mark = styled(stdout, colours[state], state.padEnd(7));
    stdout.write(`  ${mark}  ${check.padEnd(width)}  ${printable(seen)}\n`);
    if (remedy !== undefined && state !== 'ok') stdout.write(`${' '.repeat(width + 13)}${printable(remedy)}\n`);
  }
}
