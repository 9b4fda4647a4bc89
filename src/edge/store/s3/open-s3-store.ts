import { CreateBucketCommand, HeadBucketCommand } from '@aws-sdk/client-s3';
import { S3Connection, type S3Parts } from './s3-connection.ts';
import { failureOf } from './s3-error.ts';
import { S3Inspector } from './s3-inspector.ts';
import type { S3Settings } from './s3-settings.ts';
import { S3Reader, S3Sweeper, S3Writer } from './s3-store.ts';

/** Opens the store in a bucket for reading. Nothing is asked of the server before the first request. */
export async function openS3Reader(settings: S3Settings, parts: S3Parts): Promise<S3Reader> {
  return new S3Reader(new S3Connection(settings, parts));
}

/** Opens it for reading and creating; `create` makes the bucket when it is missing. */
export async function openS3Writer(
  settings: S3Settings,
  parts: S3Parts,
  options: { readonly create?: boolean } = {},
): Promise<S3Writer> {
  const connection = new S3Connection(settings, parts);
  try {
    if (options.create === true) await ensureBucket(connection);
  } catch (error) {
    await connection[Symbol.asyncDispose]();
    throw error;
  }
  return new S3Writer(connection);
}

/** Opens it for reading and deleting. */
export async function openS3Sweeper(settings: S3Settings, parts: S3Parts): Promise<S3Sweeper> {
  return new S3Sweeper(new S3Connection(settings, parts));
}

/** Opens it for people who set it up; see StoreInspector. */
export function openS3Inspector(settings: S3Settings, parts: S3Parts): S3Inspector {
  return new S3Inspector(settings, parts);
}

async function ensureBucket({ client, policy, settings }: S3Connection): Promise<void> {
  const Bucket = settings.bucket;
  const details = { bucket: Bucket };
  const looking = { doing: `looking for the bucket ${Bucket}`, intent: 'read', details } as const;
  const missing = await policy.run(looking, async ({ corrected }) => {
    try {
      await client.send(new HeadBucketCommand({ Bucket }));
      return false;
    } catch (error) {
      const { status, retry } = failureOf(error);
      if (retry === 'skewed' && !corrected) throw error;
      // 403 and redirects say that it is there; what may be done in it shows at the first request.
      if (status === 403 || status === 301) return false;
      if (status === 404) return true;
      throw error;
    }
  });
  if (!missing) return;
  // AWS wants to be told of every region but this one.
  const region = await client.config.region();
  const elsewhere = settings.endpoint === undefined && region !== 'us-east-1';
  await policy.run({ doing: `making the bucket ${Bucket}`, intent: 'write', details }, async () => {
    try {
      await client.send(
        new CreateBucketCommand({
          Bucket,
          ...(elsewhere ? { CreateBucketConfiguration: { LocationConstraint: region as 'eu-central-1' } } : {}),
          ...(settings.objectLock === undefined ? {} : { ObjectLockEnabledForBucket: true }),
        }),
      );
    } catch (error) {
      // Made meanwhile, or by an attempt whose reply was lost.
      if (failureOf(error).reason !== 'BucketAlreadyOwnedByYou') throw error;
    }
  });
}
