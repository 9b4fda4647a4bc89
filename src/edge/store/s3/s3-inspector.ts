import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetBucketEncryptionCommand,
  GetBucketLifecycleConfigurationCommand,
  GetBucketVersioningCommand,
  GetObjectLockConfigurationCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  type LifecycleRule as SdkRule,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { HoldfastError, isHoldfastError } from '../../../engine/model/errors.ts';
import type { CreateOutcome, WaitOptions } from '../../../engine/ports/object-store.ts';
import type {
  Answer,
  BucketFacts,
  LifecycleRule,
  ObjectLockState,
  Remnant,
  StoreInspector,
  StoreRights,
} from '../../../engine/ports/store-inspector.ts';
import { S3Connection, type S3Parts } from './s3-connection.ts';
import { failureOf, isMissingHead, isPreconditionFailed } from './s3-error.ts';
import { S3Remnants } from './s3-remnants.ts';
import { S3Rights } from './s3-rights.ts';
import type { S3Settings } from './s3-settings.ts';
import { sending } from './s3-store.ts';
import { listUnfinished } from './unfinished-uploads.ts';

/** How one question is asked; what it throws is read by `answerOf`. */
type Ask<T> = (signal: AbortSignal | undefined) => Promise<T>;

/** Asks a bucket about itself: one request for each question, tried again like all others. */
export class S3Inspector implements StoreInspector, AsyncDisposable {
  readonly rights: StoreRights;
  readonly #connection: S3Connection;
  readonly #remnants = new S3Remnants();
  #server = '';
  #aheadMs: number | undefined;

  constructor(settings: S3Settings, parts: S3Parts) {
    this.#connection = new S3Connection(settings, parts);
    this.rights = new S3Rights(this.#connection, this.#remnants);
    this.#watchHeaders();
  }

  async facts(options: WaitOptions = {}): Promise<BucketFacts> {
    const { client, settings } = this.#connection;
    const { signal } = options;
    const Bucket = settings.bucket;
    // Any answer has the headers that are wanted, also one that refuses.
    await this.#ask(
      'looking at the bucket',
      (within) => client.send(new HeadBucketCommand({ Bucket }), sending(within)),
      signal,
    );
    const [versions, objectLock, rules, encryption, unfinished] = await Promise.all([
      this.#ask('asking for versions', () => this.#versions(Bucket), signal),
      this.#ask('asking for object lock', () => this.#objectLock(Bucket), signal),
      this.#ask('asking for lifecycle rules', () => this.#rules(Bucket), signal),
      this.#ask('asking for encryption', () => this.#encryption(Bucket), signal),
      this.#ask(
        'asking for unfinished uploads',
        async () => (await listUnfinished(this.#connection, 'v1/')).length,
        signal,
      ),
    ]);
    const region = settings.region ?? (await client.config.region().catch(() => ''));
    return {
      kind: 'bucket',
      bucket: Bucket,
      prefix: settings.prefix,
      server: this.#server,
      aheadMs: this.#aheadMs,
      versions,
      objectLock,
      rules,
      encryption,
      unfinished,
      tags: settings.tags,
      locksObjects: settings.objectLock !== undefined,
      kmsKey: settings.encryption?.kind === 'kms' ? (settings.encryption.keyId ?? '*') : undefined,
      partition: region.startsWith('cn-') ? 'aws-cn' : region.startsWith('us-gov-') ? 'aws-us-gov' : 'aws',
      isAws: settings.endpoint === undefined,
    };
  }

  /** With one part of a few bytes: the last part of an upload may be as small as it likes. */
  completeOver = async (key: string, options: WaitOptions = {}): Promise<CreateOutcome> => {
    const { client, policy } = this.#connection;
    const place = this.#connection.at(key);
    const body = new TextEncoder().encode('an upload in parts');
    const { signal } = options;
    const request = { doing: `trying an upload at ${key}`, intent: 'write', signal, details: { key } } as const;
    const begun = await policy.run(request, () =>
      client.send(
        new CreateMultipartUploadCommand({
          ...place,
          ...this.#connection.objectFields(key),
          ChecksumAlgorithm: this.#connection.settings.checksum,
        }),
        sending(signal),
      ),
    );
    const upload = { ...place, UploadId: begun.UploadId };
    try {
      const fields = this.#connection.bodyFields(body);
      const part = await policy.run(request, () =>
        client.send(new UploadPartCommand({ ...upload, ...fields, PartNumber: 1 }), sending(signal)),
      );
      const { ChecksumCRC32, ChecksumSHA256 } = fields;
      const checksums = {
        ...(ChecksumCRC32 === undefined ? {} : { ChecksumCRC32 }),
        ...(ChecksumSHA256 === undefined ? {} : { ChecksumSHA256 }),
        ...(part.ChecksumCRC32C === undefined ? {} : { ChecksumCRC32C: part.ChecksumCRC32C }),
      };
      const Parts = [{ PartNumber: 1, ETag: part.ETag, ...checksums }];
      return await policy.run(request, async () => {
        try {
          await client.send(
            new CompleteMultipartUploadCommand({ ...upload, MultipartUpload: { Parts }, IfNoneMatch: '*' }),
            sending(signal),
          );
          return 'created';
        } catch (error) {
          if (isPreconditionFailed(error)) return 'exists';
          throw error;
        }
      });
    } finally {
      // Completed or not: of an upload that has ended nothing is left to end.
      await this.#remnants.unless('upload', key, () => client.send(new AbortMultipartUploadCommand(upload)));
    }
  };

  async forget(keys: readonly string[]): Promise<void> {
    const { client } = this.#connection;
    await Promise.all(
      keys.map(async (key) => {
        const place = this.#connection.at(key);
        const head = await client.send(new HeadObjectCommand(place)).catch((error: unknown) => {
          return isMissingHead(error) ? undefined : 'untold';
        });
        if (head === undefined) return;
        // Whoever may not look can hardly have made it.
        if (head === 'untold') await client.send(new DeleteObjectCommand(place)).catch(() => undefined);
        else {
          // The version, where there are any: without, the object would only be hidden.
          const { VersionId } = head;
          await this.#remnants.unless('object', key, () =>
            client.send(new DeleteObjectCommand({ ...place, ...(VersionId === undefined ? {} : { VersionId }) })),
          );
        }
      }),
    );
  }

  get remnants(): readonly Remnant[] {
    return this.#remnants.found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection[Symbol.asyncDispose]();
  }

  /** What every answer says of its server: its name, and its clock half a round trip ago. */
  #watchHeaders(): void {
    const { client, clock } = this.#connection;
    client.middlewareStack.add(
      (next) => async (args) => {
        const sentMs = clock.nowMs();
        const result = await next(args);
        const { headers = {} } = (result.response ?? {}) as { headers?: Record<string, string | undefined> };
        this.#server = headers['server'] ?? this.#server;
        const dateMs = Date.parse(headers['date'] ?? '');
        // The header has whole seconds: the time was that or up to a second later.
        if (!Number.isNaN(dateMs)) this.#aheadMs = dateMs + 500 - (sentMs + clock.nowMs()) / 2;
        return result;
      },
      { step: 'deserialize', priority: 'low', name: 'watchHeaders' },
    );
  }

  async #ask<T>(doing: string, ask: Ask<T>, signal: AbortSignal | undefined): Promise<Answer<T>> {
    try {
      const value = await this.#connection.policy.run({ doing, intent: 'read', signal }, () => ask(signal));
      return { known: true, value };
    } catch (error) {
      if (isHoldfastError(error, 'E_ABORTED')) throw error;
      return answerOf(error);
    }
  }

  async #versions(Bucket: string): Promise<'kept' | 'suspended' | 'none'> {
    const { Status } = await this.#connection.client.send(new GetBucketVersioningCommand({ Bucket }));
    return Status === 'Enabled' ? 'kept' : Status === 'Suspended' ? 'suspended' : 'none';
  }

  async #objectLock(Bucket: string): Promise<ObjectLockState> {
    const none = { enabled: false, byDefault: undefined };
    const answer = await this.#connection.client
      .send(new GetObjectLockConfigurationCommand({ Bucket }))
      .catch(orNone('ObjectLockConfigurationNotFoundError', 'NoSuchObjectLockConfiguration'));
    const found = answer?.ObjectLockConfiguration;
    if (found?.ObjectLockEnabled !== 'Enabled') return none;
    const { Mode, Days, Years } = found.Rule?.DefaultRetention ?? {};
    const lasts = Days === undefined ? `${Years} years` : `${Days} days`;
    return { enabled: true, byDefault: Mode === undefined ? undefined : `${Mode}, ${lasts}` };
  }

  async #rules(Bucket: string): Promise<readonly LifecycleRule[]> {
    const answer = await this.#connection.client
      .send(new GetBucketLifecycleConfigurationCommand({ Bucket }))
      .catch(orNone('NoSuchLifecycleConfiguration'));
    return (answer?.Rules ?? []).filter(({ Status }) => Status === 'Enabled').map(ruleOf);
  }

  async #encryption(Bucket: string): Promise<string | undefined> {
    const answer = await this.#connection.client
      .send(new GetBucketEncryptionCommand({ Bucket }))
      .catch(orNone('ServerSideEncryptionConfigurationNotFoundError', 'NoSuchServerSideEncryptionConfiguration'));
    return answer?.ServerSideEncryptionConfiguration?.Rules?.[0]?.ApplyServerSideEncryptionByDefault?.SSEAlgorithm;
  }
}

/** Some settings are answered by an error where there are none. */
function orNone(...reasons: readonly string[]): (error: unknown) => undefined {
  return (error) => {
    if (reasons.includes(failureOf(error).reason)) return undefined;
    throw error;
  };
}

const archives: ReadonlySet<string | undefined> = new Set(['GLACIER', 'DEEP_ARCHIVE']);

function ruleOf(rule: SdkRule): LifecycleRule {
  const { Filter: filter, Expiration: expiration } = rule;
  const tags = [...(filter?.And?.Tags ?? []), ...(filter?.Tag === undefined ? [] : [filter.Tag])];
  return {
    id: rule.ID ?? '',
    prefix: filter?.Prefix ?? filter?.And?.Prefix ?? rule.Prefix ?? '',
    tags: Object.fromEntries(tags.map(({ Key = '', Value = '' }) => [Key, Value])),
    // Taking away markers that hide nothing deletes no object.
    expires: expiration?.Days !== undefined || expiration?.Date !== undefined,
    archives: (rule.Transitions ?? []).some(({ StorageClass }) => archives.has(StorageClass)),
    endsUploadsDays: rule.AbortIncompleteMultipartUpload?.DaysAfterInitiation,
  };
}

const unknownRequests: ReadonlySet<unknown> = new Set(['NotImplemented', 'MethodNotAllowed', 'XNotImplemented']);

function answerOf(error: unknown): Extract<Answer<never>, { readonly known: false }> {
  const { reason = 'unknown', status } = (error instanceof HoldfastError ? error.details : {}) as {
    readonly reason?: string;
    readonly status?: number;
  };
  const why =
    unknownRequests.has(reason) || status === 501 || status === 405
      ? 'not-implemented'
      : status === 403 || status === 401
        ? 'not-allowed'
        : 'failed';
  return { known: false, why, reason };
}
