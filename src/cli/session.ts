/** What most commands begin with: the store, its repository, the key, and one lineage's log. */
import { isAbsolute, relative } from 'node:path';
import { keyFile as grantFile } from '../contract/pod-layout.ts';
import type { PackEntry } from '../engine/format/pack-entry.ts';
import type { LogRecord } from '../engine/format/record.ts';
import { readEarly } from '../engine/lineage/early-reads.ts';
import type { CommitBase } from '../engine/lineage/lineage-writer.ts';
import type { LineageLog } from '../engine/lineage/log.ts';
import { openLog } from '../engine/lineage/open-log.ts';
import { type DomainAccess, openRepository, type Repository } from '../engine/lineage/repository.ts';
import { type CheckpointSelector, parseSelector, resolveCheckpoint } from '../engine/lineage/resolve.ts';
import { HoldfastError, isHoldfastError } from '../engine/model/errors.ts';
import { type LineageName, toLineageName } from '../engine/model/ids.ts';
import type { Compressor } from '../engine/ports/compressor.ts';
import { FileTreeError, type FileTreeReader } from '../engine/ports/file-tree.ts';
import type { KeyRing } from '../engine/ports/key-ring.ts';
import type { ObjectReader } from '../engine/ports/object-store.ts';
import type { NodeSource } from '../engine/tree/node-access.ts';
import { SegmentSource, type SegmentSourceOptions } from '../engine/tree/segment-source.ts';
import type { Counted, Host } from './host.ts';
import { type Parsed, usage } from './options.ts';
import { sayUnfenced } from './warnings.ts';

export async function keyRingOf(host: Host, parsed: Parsed): Promise<KeyRing | undefined> {
  const path = parsed.text('key-file');
  if (path === undefined) return undefined;
  try {
    return await host.openKey(path);
  } catch (error) {
    // The Secret of a pod is mounted where it exists, and the pod starts without it so that this can be said.
    if (path !== grantFile || !isHoldfastError(error, 'E_KEY_MISSING')) throw error;
    // In a pod a lineage is CLUSTER/NAMESPACE/KIND/NAME, with the slot behind it where that is known.
    const workload = toLineageName(parsed.required('lineage')).split('/').slice(0, 4).join('/');
    throw new HoldfastError('E_KEY_MISSING', `the keys of ${workload} are not in this namespace: ${error.message}`, {
      cause: error,
      remedy: `Whoever has the repository key grants them, then the pod is made anew: holdfast keys grant --workload ${workload} | kubectl apply -f -`,
    });
  }
}

export function encryptionOf(command: string, parsed: Parsed): 'aes-256-gcm' | 'none' | undefined {
  const text = parsed.text('encryption');
  if (text === undefined || text === 'aes-256-gcm' || text === 'none') return text;
  throw usage(command, `--encryption is ${JSON.stringify(text)}, not aes-256-gcm or none`);
}

export function formOf(command: string, parsed: Parsed): 'text' | 'json' {
  const text = parsed.text('output') ?? 'text';
  if (text === 'text' || text === 'json') return text;
  throw usage(command, `--output is ${JSON.stringify(text)}, not text or json`);
}

export function noArguments(command: string, parsed: Parsed): void {
  const [first] = parsed.positionals;
  if (first !== undefined) throw usage(command, `${command} takes no argument: ${first}`);
}

export async function repositoryOf(
  host: Host,
  command: string,
  parsed: Parsed,
  store: ObjectReader,
): Promise<Repository> {
  const repository = await openRepository(
    store,
    { keyRing: await keyRingOf(host, parsed), encryption: encryptionOf(command, parsed) },
    { signal: host.signal },
  );
  if (repository.unfenced && formOf(command, parsed) === 'text') sayUnfenced(host);
  return repository;
}

/** A lineage, opened for reading. */
export interface OpenedLineage extends AsyncDisposable {
  readonly store: Counted<ObjectReader>;
  readonly repository: Repository;
  readonly lineage: LineageName;
  readonly access: DomainAccess;
  readonly log: LineageLog;
}

export async function openLineage(host: Host, command: string, parsed: Parsed): Promise<OpenedLineage> {
  const lineage = toLineageName(parsed.required('lineage'));
  const store = await host.openReader(parsed.required('store'));
  using early = readEarly(store, lineage, { signal: host.signal });
  try {
    const repository = await repositoryOf(host, command, parsed, early);
    const { log, access } = await openLog(store, repository, lineage, { signal: host.signal });
    return { store, repository, lineage, access, log, [Symbol.asyncDispose]: () => store[Symbol.asyncDispose]() };
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
}

export function selectorOf(text: string | undefined): CheckpointSelector {
  return parseSelector(text ?? 'latest');
}

export async function recordAt(host: Host, { log }: OpenedLineage, text: string | undefined): Promise<LogRecord> {
  return await resolveCheckpoint(log, selectorOf(text), { signal: host.signal });
}

/** Reads the nodes and chunks that these packs hold. */
export function sourceOf(
  host: Host,
  store: ObjectReader,
  access: DomainAccess,
  lineage: LineageName,
  packs: readonly PackEntry[],
  compressor: Compressor,
  more: Pick<SegmentSourceOptions, 'origins' | 'record' | 'tailBytes'> = {},
): SegmentSource {
  return new SegmentSource({
    store,
    compressor,
    dataKeys: access.dataKeys,
    publicKey: access.publicKey,
    repository: access.repository,
    domain: access.domain,
    lineage,
    packs,
    ...more,
    signal: host.signal,
  });
}

/** Enough for the root of a tree and the nodes below it of a hundred thousand files. */
const baseTailBytes = 32 * 1024;

export function baseSource(
  host: Host,
  store: ObjectReader,
  access: DomainAccess,
  lineage: LineageName,
  compressor: Compressor,
): (base: Pick<CommitBase, 'record' | 'packs'> | undefined) => NodeSource {
  return (base) =>
    sourceOf(host, store, access, lineage, base?.packs ?? [], compressor, {
      origins: base?.record.header.origins ?? [],
      record: base?.record,
      tailBytes: baseTailBytes,
    });
}

/**
 * E_USAGE when one volume's directory lies in another's: its files would be stored twice, and a restore into the same places would
 * meet the one in the other. A file system of its own mounted there is no part of the outer volume.
 */
export function refuseNested(
  files: FileTreeReader,
  command: string,
  volumes: readonly { readonly name: string; readonly path: string }[],
): void {
  for (const inner of volumes) {
    for (const outer of volumes) {
      if (inner === outer || !isWithin(inner.path, outer.path)) continue;
      const [a, b] = [deviceOf(files, inner.path), deviceOf(files, outer.path)];
      if (a !== undefined && b !== undefined && a !== b) continue;
      throw usage(
        command,
        `volume ${inner.name} (${inner.path}) lies in volume ${outer.name} (${outer.path}): name directories that lie apart`,
      );
    }
  }
}

/** Undefined when there is no such directory. */
function deviceOf(files: FileTreeReader, path: string): bigint | undefined {
  try {
    const root = files.openRoot(path);
    try {
      return files.stat(root).device;
    } finally {
      files.close(root);
    }
  } catch (error) {
    if (error instanceof FileTreeError) return undefined;
    throw error;
  }
}

/** Whether a path is that directory or lies below it. Both absolute. */
export function isWithin(path: string, directory: string): boolean {
  const below = relative(directory, path);
  return below === '' || !(below === '..' || below.startsWith('../') || isAbsolute(below));
}
