/** A certificate and its key as files, PEM: what a server needs, and until when it is valid. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { HoldfastError } from '../../engine/model/errors.ts';

export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  /** End of the certificate's validity, ms since 1970. */
  readonly validUntilMs: number;
}

/**
 * E_USAGE when a file is missing, or they are not a certificate and the key that belongs to it: also in the moment in which one of
 * them has been replaced and the other has not.
 */
export async function readTlsFiles(paths: { readonly cert: string; readonly key: string }): Promise<TlsFiles> {
  const [cert, key] = await Promise.all([read(paths.cert, 'certificate'), read(paths.key, 'key')]);
  try {
    const certificate = new X509Certificate(cert);
    if (!certificate.checkPrivateKey(createPrivateKey(key))) throw new Error('the key belongs to another certificate');
    return { cert, key, validUntilMs: certificate.validToDate.getTime() };
  } catch (cause) {
    throw new HoldfastError('E_USAGE', `${paths.cert} and ${paths.key} cannot be used: ${messageOf(cause)}`, {
      cause,
      remedy: 'Give a certificate with its chain, and the key that belongs to it, both as PEM.',
    });
  }
}

/** The certificates of a file as text, without what may stand between them. E_USAGE when it cannot be read or holds none. */
export async function readAuthorities(path: string): Promise<string> {
  const text = await read(path, 'CA');
  const found = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  try {
    if (found.length === 0) throw new Error('it holds no certificate');
    for (const each of found) new X509Certificate(each);
  } catch (cause) {
    throw new HoldfastError('E_USAGE', `the CA in ${path} cannot be used: ${messageOf(cause)}`, {
      cause,
      remedy: 'Give one or more certificates as PEM.',
    });
  }
  return `${found.join('\n')}\n`;
}

async function read(path: string, what: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new HoldfastError('E_USAGE', `the ${what} cannot be read: ${messageOf(cause)}`, {
      cause,
      remedy: `Name the file of the ${what}; this user has to be able to read it.`,
    });
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
