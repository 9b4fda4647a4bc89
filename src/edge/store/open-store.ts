import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HoldfastError } from '../../engine/model/errors.ts';
import type { ObjectReader, ObjectSweeper, ObjectWriter } from '../../engine/ports/object-store.ts';
import type { StoreInspector } from '../../engine/ports/store-inspector.ts';
import { systemClock } from '../host/system-clock.ts';
import { systemRandom } from '../host/system-random.ts';
import { DirectoryInspector } from './directory-inspector.ts';
import { openDirectoryReader, openDirectorySweeper, openDirectoryWriter } from './directory-store.ts';
import type { S3Parts } from './s3/s3-connection.ts';
import type { Ending, RetryNotice } from './s3/request-policy.ts';
import { type Environment, parseS3Settings, type S3Settings } from './s3/s3-settings.ts';

/** What the opener may do with the store, by power: a restore reads, an agent writes, garbage collection sweeps. */
export type StoreAccess = 'read' | 'write' | 'sweep';

export interface OpenStoreOptions {
  /** Makes a missing store; for `write` only, and only for a new repository. */
  readonly create?: boolean;
  /** What relative paths are relative to; default the working directory. */
  readonly workingDirectory?: string;
  /** Where settings that the address leaves out come from; default the environment of the process. */
  readonly env?: Environment;
  /** Called before a request to a store in the network is tried again. */
  readonly onRetry?: (notice: RetryNotice) => void;
  /** When the process comes to its end, and how long that may take. */
  readonly ending?: Ending;
}

/** An opened store holds file descriptors or connections until it is disposed of. */
export type OpenedReader = ObjectReader & AsyncDisposable;
export type OpenedWriter = ObjectWriter & AsyncDisposable;
export type OpenedSweeper = ObjectSweeper & AsyncDisposable;

/**
 * Opens the store at an address such as `file:/srv/checkpoints` or `s3://bucket/prefix`. E_USAGE for an address that is
 * none, and what opening that kind of store throws: E_STORE_UNREACHABLE for a directory that is not there, unless `create`
 * is asked for. A bucket is asked for by the first request, or at once to create it.
 */
export function openStore(address: string, access: 'read', options?: OpenStoreOptions): Promise<OpenedReader>;
export function openStore(address: string, access: 'write', options?: OpenStoreOptions): Promise<OpenedWriter>;
export function openStore(address: string, access: 'sweep', options?: OpenStoreOptions): Promise<OpenedSweeper>;
export async function openStore(
  address: string,
  access: StoreAccess,
  options: OpenStoreOptions = {},
): Promise<OpenedReader> {
  const parsed = parseStoreAddress(address, options.workingDirectory, options.env);
  if (parsed.kind === 's3') return openS3(parsed.settings, access, options);
  const { path } = parsed;
  if (access === 'write') return openDirectoryWriter(path, { create: options.create ?? false });
  return access === 'sweep' ? openDirectorySweeper(path) : openDirectoryReader(path);
}

/** Opens what looks at the store at an address from outside; errors as of openStore. */
export async function openInspector(
  address: string,
  options: OpenStoreOptions = {},
): Promise<StoreInspector & AsyncDisposable> {
  const parsed = parseStoreAddress(address, options.workingDirectory, options.env);
  if (parsed.kind === 'directory') return new DirectoryInspector(parsed.path);
  const { openS3Inspector } = await import('./s3/open-s3-store.ts');
  return openS3Inspector(parsed.settings, s3PartsOf(options));
}

/** The SDK takes 100 ms and 37 MB to load: only those pay who have a bucket. */
async function openS3(settings: S3Settings, access: StoreAccess, options: OpenStoreOptions): Promise<OpenedReader> {
  const { openS3Reader, openS3Sweeper, openS3Writer } = await import('./s3/open-s3-store.ts');
  const parts = s3PartsOf(options);
  if (access === 'write') return openS3Writer(settings, parts, { create: options.create ?? false });
  return access === 'sweep' ? openS3Sweeper(settings, parts) : openS3Reader(settings, parts);
}

function s3PartsOf({ onRetry, ending }: OpenStoreOptions): S3Parts {
  return {
    clock: systemClock,
    random: systemRandom,
    ...(onRetry === undefined ? {} : { onRetry }),
    ...(ending === undefined ? {} : { ending }),
  };
}

/** What an address names. */
export type StoreAddress =
  | {
      readonly kind: 'directory';
      /** Absolute. */
      readonly path: string;
    }
  | { readonly kind: 's3'; readonly settings: S3Settings };

/**
 * Reads a store address:
 * - `file:/path` and `file:relative/path`: the characters after the colon are the path as it is, nothing is decoded;
 * - `file:///path`: a file URL, percent-decoded, on this host only;
 * - `s3://bucket/prefix?setting=value`: a bucket, see parseS3Settings.
 */
export function parseStoreAddress(
  address: string,
  workingDirectory: string = process.cwd(),
  env: Environment = process.env,
): StoreAddress {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(address)?.[1]?.toLowerCase();
  if (scheme === 's3') return { kind: 's3', settings: parseS3Settings(address, env) };
  if (scheme !== 'file') {
    const written =
      scheme === undefined ? `${address} has no kind of store in front` : `${scheme}: is no kind of store`;
    throw refusal(
      address === '' ? 'the store address is empty' : written,
      `Write the kind of store and a colon before the path, such as ${scheme === undefined && address !== '' ? `file:${address}` : 'file:/path/to/store'}.`,
    );
  }
  const rest = address.slice('file:'.length);
  const path = rest.startsWith('//') ? pathOfUrl(address) : rest;
  if (path === '')
    throw refusal(`${address} names no directory`, 'Write the path after the colon: file:/path/to/store.');
  if (path.includes('\0')) throw refusal('the store address holds a zero byte', 'Write a path without zero bytes.');
  if (path === '~' || path.startsWith('~/')) {
    throw refusal(
      `${address}: no shell replaces a ~ after a colon`,
      'Write the whole path, or file:"$HOME"/path; for a directory that is really called ~ write file:./~.',
    );
  }
  const absolute = resolve(workingDirectory, path);
  if (absolute === '/') {
    throw refusal(`${address} names the root of the file system`, 'Give the store a directory: file:/path/to/store.');
  }
  return { kind: 'directory', path: absolute };
}

function pathOfUrl(address: string): string {
  const remedy = 'Write a local path: file:/path/to/store or file:///path/to/store. Mount a remote directory first.';
  let url: URL;
  try {
    url = new URL(address);
    if (url.search !== '' || url.hash !== '') throw new TypeError('a query or fragment');
    return fileURLToPath(url);
  } catch (cause) {
    throw new HoldfastError('E_USAGE', `${address} is no address of a local directory`, { cause, remedy });
  }
}

function refusal(message: string, remedy: string): HoldfastError {
  return new HoldfastError('E_USAGE', message, { remedy });
}
