import { AbortMultipartUploadCommand, ListMultipartUploadsCommand } from '@aws-sdk/client-s3';
import type { Clock } from '../../../engine/ports/clock.ts';
import type { UnfinishedUpload, WaitOptions } from '../../../engine/ports/object-store.ts';
import type { S3Connection } from './s3-connection.ts';

/** Tidying up must not keep a process that wants to work, or to end. */
const tidyMsMax = 5000;
/** Each has up to 1000 uploads. What lies beyond them is found by a later look. */
const pagesMax = 10;

/** Multipart uploads below `prefix`. Throws what requests throw, E_ABORTED when it takes more than a few seconds. */
export async function listUnfinished(
  connection: S3Connection,
  prefix: string,
  options: WaitOptions = {},
): Promise<readonly UnfinishedUpload[]> {
  const { Key: whole } = connection.at(prefix);
  const found = await shortly(connection.clock, options.signal, async (signal) => {
    const below = await listBelow(connection, whole, signal);
    // MinIO takes a prefix for the key of an object, and tells all uploads only where none is given.
    const perhapsMinio = below.length === 0 && connection.settings.endpoint !== undefined;
    return perhapsMinio ? await listBelow(connection, undefined, signal) : below;
  });
  return found
    .filter(({ key }) => key.startsWith(whole))
    .map(({ key, id }) => {
      const inStore = key.slice(connection.settings.prefix.length);
      return { key: inStore, end: () => abortUpload(connection, inStore, id) };
    });
}

/** Ends an upload on the server, and with it the parts that it has. */
export async function abortUpload(connection: S3Connection, key: string, id: string): Promise<void> {
  const doing = `giving up the upload of ${key}`;
  await shortly(connection.clock, undefined, (signal) =>
    connection.policy.run({ doing, intent: 'write', signal }, () =>
      connection.client.send(new AbortMultipartUploadCommand({ ...connection.at(key), UploadId: id }), {
        abortSignal: signal,
      }),
    ),
  );
}

interface Listed {
  /** In the bucket. */
  readonly key: string;
  readonly id: string;
}

async function listBelow(
  connection: S3Connection,
  prefix: string | undefined,
  signal: AbortSignal,
): Promise<readonly Listed[]> {
  const { client, policy } = connection;
  const found: Listed[] = [];
  let next: { readonly KeyMarker?: string; readonly UploadIdMarker?: string } = {};
  for (let pages = 0; pages < pagesMax; pages += 1) {
    const request = { doing: 'looking for unfinished uploads', intent: 'read', signal } as const;
    const page = await policy.run(request, () =>
      client.send(
        new ListMultipartUploadsCommand({
          ...connection.bucket(),
          ...(prefix === undefined ? {} : { Prefix: prefix }),
          ...next,
        }),
        { abortSignal: signal },
      ),
    );
    for (const { Key, UploadId } of page.Uploads ?? []) {
      if (Key !== undefined && UploadId !== undefined) found.push({ key: Key, id: UploadId });
    }
    const { IsTruncated, NextKeyMarker, NextUploadIdMarker } = page;
    if (IsTruncated !== true || NextKeyMarker === undefined || NextKeyMarker === '') break;
    next = {
      KeyMarker: NextKeyMarker,
      ...(NextUploadIdMarker === undefined ? {} : { UploadIdMarker: NextUploadIdMarker }),
    };
  }
  return found;
}

/** Gives work a signal that fires within a few seconds, or when the caller's does. */
async function shortly<Result>(
  clock: Clock,
  outer: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const late = new AbortController();
  const done = new AbortController();
  clock.wait(tidyMsMax, { signal: done.signal }).then(
    () => late.abort(),
    () => undefined,
  );
  try {
    return await work(outer === undefined ? late.signal : AbortSignal.any([outer, late.signal]));
  } finally {
    done.abort();
  }
}
