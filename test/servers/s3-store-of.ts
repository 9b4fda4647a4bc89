import { randomBytes } from 'node:crypto';
import { systemClock } from '../../src/edge/host/system-clock.ts';
import { systemRandom } from '../../src/edge/host/system-random.ts';
import { openS3Sweeper, openS3Writer } from '../../src/edge/store/s3/open-s3-store.ts';
import type { S3Parts } from '../../src/edge/store/s3/s3-connection.ts';
import { type Environment, parseS3Settings, type S3Settings } from '../../src/edge/store/s3/s3-settings.ts';
import type { S3Sweeper, S3Writer } from '../../src/edge/store/s3/s3-store.ts';
import type { S3Server } from './s3-server.ts';

/** A name that no bucket has yet. */
export function freshBucket(): string {
  return `test-${randomBytes(6).toString('hex')}`;
}

/** Settings for a bucket on a test server; `query` as in an address, without the question mark. */
export function settingsFor(
  server: Pick<S3Server, 'endpoint'>,
  bucket: string = freshBucket(),
  query = '',
  env: Environment = {},
): S3Settings {
  return parseS3Settings(`s3://${bucket}?endpoint=${server.endpoint}&${query}`, env);
}

/** Real clock and chance, and the server's credentials. */
export function partsFor(
  server: Pick<S3Server, 'accessKeyId' | 'secretAccessKey'> & { readonly sessionToken?: string },
): S3Parts {
  const { accessKeyId, secretAccessKey, sessionToken = '' } = server;
  const token = sessionToken === '' ? {} : { sessionToken };
  return { clock: systemClock, random: systemRandom, credentials: { accessKeyId, secretAccessKey, ...token } };
}

export interface OpenedS3 {
  readonly writer: S3Writer;
  readonly sweeper: S3Sweeper;
  close(): Promise<void>;
}

/** An empty store, opened for both kinds of power. */
export async function openS3(server: S3Server, settings: S3Settings = settingsFor(server)): Promise<OpenedS3> {
  const writer = await openS3Writer(settings, partsFor(server), { create: true });
  const sweeper = await openS3Sweeper(settings, partsFor(server));
  return {
    writer,
    sweeper,
    async close() {
      await writer[Symbol.asyncDispose]();
      await sweeper[Symbol.asyncDispose]();
    },
  };
}
