/** Looks at a bucket from outside of its objects. Every question is asked once: what a server does not know it says at once. */
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetBucketLifecycleConfigurationCommand,
  GetBucketVersioningCommand,
  GetObjectLockConfigurationCommand,
  type LifecycleRule,
  ListMultipartUploadsCommand,
  PutObjectCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import type { WaitOptions } from '../../../engine/ports/object-store.ts';
import type { Right, StoreFinding, StoreInspector, StoreRights } from '../../../engine/ports/store-inspector.ts';
import type { S3Connection } from './s3-connection.ts';
import { failureOf, toS3Error } from './s3-error.ts';
import { listUnfinished } from './unfinished-uploads.ts';

type Answer<T> =
  | { readonly kind: 'answer'; readonly value: T }
  /** refused: these credentials may not. unset: there is no such setting. unknown: the server does not know the question. */
  | { readonly kind: 'refused' | 'unset' | 'unknown'; readonly reason: string };

const unset: ReadonlySet<string> = new Set(['NoSuchLifecycleConfiguration', 'ObjectLockConfigurationNotFoundError']);
const packsPrefix = 'v1/l/';

export class S3Inspector implements StoreInspector {
  readonly policies: StoreInspector['policies'];
  readonly #connection: S3Connection;

  constructor(connection: S3Connection) {
    this.#connection = connection;
    const { bucket, prefix, endpoint } = connection.settings;
    this.policies = { bucket, prefix, dialect: endpoint === undefined ? 'aws' : 'other' };
  }

  async settings(options: WaitOptions = {}): Promise<readonly StoreFinding[]> {
    return [
      await this.#versioning(options),
      await this.#objectLock(options),
      ...(await this.#lifecycle(options)),
      await this.#unfinished(options),
    ];
  }

  async rights(
    { key, bytes, uploads }: Parameters<StoreInspector['rights']>[0],
    options: WaitOptions = {},
  ): Promise<StoreRights> {
    const { client } = this.#connection;
    const place = this.#connection.at(key);
    const never = this.#connection.at(`${key}-never`);
    const body = { ...this.#connection.objectFields(key), ...this.#connection.bodyFields(bytes) };
    const overwrite = await this.#ask('writing over an object', options, (signal) =>
      client.send(new PutObjectCommand({ ...place, ...body }), signal),
    );
    const remove = await this.#ask('deleting what is not there', options, (signal) =>
      client.send(new DeleteObjectCommand(never), signal),
    );
    const list = await this.#ask('listing uploads', options, (signal) =>
      client.send(new ListMultipartUploadsCommand({ ...this.#connection.bucket(), MaxUploads: 1 }), signal),
    );
    const abort = await this.#ask('giving up an upload', options, async (signal) => {
      const upload = this.#connection.at(`${uploads}never`);
      const { UploadId } = await client.send(new CreateMultipartUploadCommand(upload), signal);
      return await client.send(new AbortMultipartUploadCommand({ ...upload, UploadId }), signal);
    });
    const right = ({ kind }: Answer<unknown>): Right =>
      kind === 'answer' ? 'granted' : kind === 'refused' ? 'refused' : 'unknown';
    return { overwrite: right(overwrite), delete: right(remove), abortUpload: right(abort), listUploads: right(list) };
  }

  async completionRefused(key: string, options: WaitOptions = {}): Promise<Right> {
    const { client } = this.#connection;
    const place = this.#connection.at(key);
    const body = this.#connection.bodyFields(new Uint8Array([0]));
    const completed = await this.#ask('completing an upload over an object', options, async (signal) => {
      const { UploadId } = await client.send(
        new CreateMultipartUploadCommand({ ...place, ChecksumAlgorithm: this.#connection.settings.checksum }),
        signal,
      );
      try {
        const part = await client.send(new UploadPartCommand({ ...place, ...body, UploadId, PartNumber: 1 }), signal);
        const { ETag, ChecksumCRC32, ChecksumCRC32C, ChecksumSHA256 } = part;
        const sums = { ChecksumCRC32: ChecksumCRC32 ?? body.ChecksumCRC32, ChecksumCRC32C, ChecksumSHA256 };
        return await client.send(
          new CompleteMultipartUploadCommand({
            ...place,
            UploadId,
            MultipartUpload: { Parts: [{ PartNumber: 1, ETag, ...sums }] },
            IfNoneMatch: '*',
          }),
          signal,
        );
      } catch (error) {
        await client.send(new AbortMultipartUploadCommand({ ...place, UploadId }), signal).catch(() => undefined);
        throw error;
      }
    });
    if (completed.kind === 'answer') return 'granted';
    return completed.reason === 'PreconditionFailed' ? 'refused' : 'unknown';
  }

  async #versioning(options: WaitOptions): Promise<StoreFinding> {
    const check = 'versioning';
    const found = await this.#ask('asking for the versioning of the bucket', options, (signal) =>
      this.#connection.client.send(new GetBucketVersioningCommand(this.#connection.bucket()), signal),
    );
    if (found.kind !== 'answer') return notTold(check, found);
    const state = found.value.Status;
    return state === 'Enabled'
      ? { check, state: 'ok', seen: 'on: what is overwritten or deleted by mistake or malice stays as a version' }
      : {
          check,
          state: 'warning',
          seen: state === 'Suspended' ? 'suspended' : 'off: who may write can overwrite for good',
          remedy: 'Turn versioning on, or use object lock, so that no holder of credentials can destroy checkpoints.',
        };
  }

  async #objectLock(options: WaitOptions): Promise<StoreFinding> {
    const check = 'object-lock';
    const { objectLock } = this.#connection.settings;
    const found = await this.#ask('asking for the object lock of the bucket', options, (signal) =>
      this.#connection.client.send(new GetObjectLockConfigurationCommand(this.#connection.bucket()), signal),
    );
    const on = found.kind === 'answer' && found.value.ObjectLockConfiguration?.ObjectLockEnabled === 'Enabled';
    if (on)
      return { check, state: 'ok', seen: objectLock === undefined ? 'on' : `on, ${objectLock.days} days asked for` };
    if (objectLock === undefined) {
      return found.kind === 'answer' || found.kind === 'unset'
        ? { check, state: 'ok', seen: 'off' }
        : notTold(check, found);
    }
    return {
      check,
      state: 'failed',
      seen: 'the address asks for object lock, and the bucket has none',
      remedy: 'Make a bucket with object lock, or leave object-lock out of the address.',
    };
  }

  async #lifecycle(options: WaitOptions): Promise<readonly StoreFinding[]> {
    const check = 'lifecycle';
    const found = await this.#ask('asking for the lifecycle rules of the bucket', options, (signal) =>
      this.#connection.client.send(new GetBucketLifecycleConfigurationCommand(this.#connection.bucket()), signal),
    );
    if (found.kind === 'refused' || found.kind === 'unknown') return [notTold(check, found)];
    const rules = found.kind === 'answer' ? (found.value.Rules ?? []) : [];
    const here = rules.filter((rule) => rule.Status === 'Enabled' && this.#touches(rule));
    const expiring = here.filter(({ Expiration, Transitions = [] }) => {
      const thawed = Transitions.some(({ StorageClass }) => /GLACIER$|DEEP_ARCHIVE/.test(StorageClass ?? ''));
      return Expiration?.Days !== undefined || Expiration?.Date !== undefined || thawed;
    });
    const ending = here.some(({ AbortIncompleteMultipartUpload: rule }) => rule?.DaysAfterInitiation !== undefined);
    return [
      expiring.length === 0
        ? { check, state: 'ok', seen: 'no rule takes checkpoints away' }
        : {
            check,
            state: 'failed',
            seen: `rules take objects away: ${expiring.map(({ ID }) => ID ?? 'one without a name').join(', ')}`,
            remedy:
              'Remove them for this prefix. Old packs belong to new checkpoints: by age alone nothing here may be deleted or archived.',
          },
      ending
        ? { check: 'upload-rule', state: 'ok', seen: 'unfinished uploads are ended by a rule' }
        : {
            check: 'upload-rule',
            state: 'warning',
            seen: 'no rule ends unfinished uploads',
            remedy:
              'Add a lifecycle rule AbortIncompleteMultipartUpload of 7 days: parts of killed uploads cost storage.',
          },
    ];
  }

  /** Whether a rule's prefix and that of the store's objects meet. */
  #touches({ Filter, Prefix }: LifecycleRule): boolean {
    const prefix = Filter?.Prefix ?? Filter?.And?.Prefix ?? Prefix ?? '';
    const ours = `${this.#connection.settings.prefix}v1/`;
    return ours.startsWith(prefix) || prefix.startsWith(ours);
  }

  async #unfinished(options: WaitOptions): Promise<StoreFinding> {
    const check = 'unfinished-uploads';
    try {
      const { length } = await listUnfinished(this.#connection, packsPrefix, options);
      const seen =
        length === 0
          ? 'none'
          : `${length}: of writers at work, or of killed ones; the next claim of a lineage ends its own`;
      return { check, state: 'ok', seen };
    } catch (error) {
      options.signal?.throwIfAborted();
      return { check, state: 'unknown', seen: `not told: ${error instanceof Error ? error.message : String(error)}` };
    }
  }

  /** One request. Throws only what says that the store cannot be asked at all. */
  async #ask<T>(
    doing: string,
    { signal }: WaitOptions,
    send: (options: { readonly abortSignal?: AbortSignal }) => Promise<T>,
  ): Promise<Answer<T>> {
    signal?.throwIfAborted();
    try {
      return { kind: 'answer', value: await send(signal === undefined ? {} : { abortSignal: signal }) };
    } catch (error) {
      signal?.throwIfAborted();
      const { reason, status } = failureOf(error);
      if (unset.has(reason)) return { kind: 'unset', reason };
      if (status === 403) return { kind: 'refused', reason };
      if (status === undefined) throw toS3Error(error, doing, 'read');
      return { kind: 'unknown', reason };
    }
  }
}

function notTold(check: string, answer: Answer<unknown>): StoreFinding {
  const why = answer.kind === 'refused' ? 'these credentials may not ask' : 'the server does not know the question';
  return { check, state: 'unknown', seen: `not told: ${why}` };
}
