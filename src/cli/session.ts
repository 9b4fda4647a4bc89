/** What most commands begin with: the store, its repository, the key, and one lineage's log. */
import { join } from 'node:path';
import { domainOf, openRepository, type DomainAccess, type Repository } from '../engine/lineage/repository.ts';
import type { CommitBase } from '../engine/lineage/lineage-writer.ts';
import { HoldfastError } from '../engine/model/errors.ts';
import type { LineageName } from '../engine/model/ids.ts';
import type { Compressor } from '../engine/ports/compressor.ts';
import type { KeyRing } from '../engine/ports/key-ring.ts';
import type { ObjectReader } from '../engine/ports/object-store.ts';
import type { NodeSource } from '../engine/tree/node-access.ts';
import { SegmentSource } from '../engine/tree/segment-source.ts';
import { toKeyPart } from '../engine/format/object-keys.ts';
import type { PackEntry } from '../engine/format/record.ts';
import type { Host } from './host.ts';
import { type OptionName, type Parsed, usage } from './options.ts';

export const storeOptions: readonly OptionName[] = ['store', 'key-file', 'encryption', 'output', 'state-dir'];

export async function keyRingOf(host: Host, parsed: Parsed): Promise<KeyRing | undefined> {
  const path = parsed.text('key-file');
  return path === undefined ? undefined : await host.openKey(path);
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

export async function repositoryOf(
  host: Host,
  command: string,
  parsed: Parsed,
  store: ObjectReader,
): Promise<Repository> {
  return await openRepository(
    store,
    { keyRing: await keyRingOf(host, parsed), encryption: encryptionOf(command, parsed) },
    { signal: host.signal },
  );
}

export async function accessOf(host: Host, repository: Repository, lineage: LineageName): Promise<DomainAccess> {
  return await repository.openDomain(domainOf(lineage), { signal: host.signal });
}

/** Reads the nodes and chunks that these packs hold. */
export function sourceOf(
  host: Host,
  store: ObjectReader,
  access: DomainAccess,
  lineage: LineageName,
  packs: readonly PackEntry[],
  compressor: Compressor,
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
    signal: host.signal,
  });
}

export function baseSource(
  host: Host,
  store: ObjectReader,
  access: DomainAccess,
  lineage: LineageName,
  compressor: Compressor,
): (base: CommitBase | undefined) => NodeSource {
  return (base) => sourceOf(host, store, access, lineage, base?.packs ?? [], compressor);
}

/** The user's private state. */
export function stateDirectoryOf(host: Host, parsed: Parsed): string {
  const given = parsed.text('state-dir');
  if (given !== undefined) return host.realPath(given);
  const { XDG_STATE_HOME: state, HOME: home } = host.env;
  if (state?.startsWith('/')) return join(state, 'holdfast');
  if (home !== undefined && home !== '') return join(home, '.local', 'state', 'holdfast');
  throw new HoldfastError('E_STATE_DIR', 'there is no home directory to keep state in', {
    remedy: 'Give a writable directory with --state-dir DIR.',
  });
}

export function cacheDirectory(stateDirectory: string, repository: string, lineage: LineageName): string {
  return join(stateDirectory, 'caches', repository, toKeyPart(lineage));
}
