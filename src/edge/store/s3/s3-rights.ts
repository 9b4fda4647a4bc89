import {
  AbortMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { isHoldfastError } from '../../../engine/model/errors.ts';
import type { WaitOptions } from '../../../engine/ports/object-store.ts';
import type { Right, StoreRights } from '../../../engine/ports/store-inspector.ts';
import type { S3Connection } from './s3-connection.ts';
import type { S3Remnants } from './s3-remnants.ts';
import { sending } from './s3-store.ts';

/** Looks like an upload of most servers. */
const noUpload = '00000000-0000-4000-8000-000000000000';

/** The MD5 of nothing, sent with a body that is something. */
const wrongMd5 = '1B2M2Y8AsgTpgAmY7PhCfg==';
const body: Uint8Array = new TextEncoder().encode('never stored: its checksum is wrong');

/** What servers say of a write with a wrong checksum once they have let it in. */
const refusedBody: ReadonlySet<unknown> = new Set(['BadDigest', 'InvalidDigest', 'XAmzContentChecksumMismatch']);

/** Asks a bucket for what changes nothing, and reads from the answers what these credentials may do. */
export class S3Rights implements StoreRights {
  readonly #connection: S3Connection;
  readonly #remnants: S3Remnants;

  /** `remnants` gets what could not be removed again. */
  constructor(connection: S3Connection, remnants: S3Remnants) {
    this.#connection = connection;
    this.#remnants = remnants;
  }

  read(key: string, { signal }: WaitOptions = {}): Promise<Right> {
    return this.#try(`reading ${key}`, signal, async () => {
      const answer = await this.#connection.client.send(
        new GetObjectCommand({ ...this.#connection.at(key), Range: 'bytes=0-0' }),
        sending(signal),
      );
      await answer.Body?.transformToByteArray();
    });
  }

  list(prefix: string, { signal }: WaitOptions = {}): Promise<Right> {
    const Prefix = this.#prefix(prefix);
    return this.#try(`listing ${prefix}`, signal, () =>
      this.#connection.client.send(
        new ListObjectsV2Command({ ...this.#connection.bucket(), Prefix, MaxKeys: 1 }),
        sending(signal),
      ),
    );
  }

  create(key: string, { signal }: WaitOptions = {}): Promise<Right> {
    return this.#write(key, { IfNoneMatch: '*' }, signal);
  }

  overwrite(key: string, { signal }: WaitOptions = {}): Promise<Right> {
    return this.#write(key, {}, signal);
  }

  delete(key: string, { signal }: WaitOptions = {}): Promise<Right> {
    const place = this.#connection.at(key);
    return this.#try(`deleting ${key}, which does not exist`, signal, async () => {
      const { client } = this.#connection;
      const { DeleteMarker, VersionId } = await client.send(new DeleteObjectCommand(place), sending(signal));
      // In a bucket that keeps versions this has made a marker, at a key that nothing else has.
      if (DeleteMarker !== true || VersionId === undefined) return;
      await this.#remnants.unless('delete marker', key, () =>
        client.send(new DeleteObjectCommand({ ...place, VersionId })),
      );
    });
  }

  async endUploads(key: string, { signal }: WaitOptions = {}): Promise<Right> {
    const { client } = this.#connection;
    const place = this.#connection.at(key);
    let uploadId = noUpload;
    // Who may not begin one is asked about an upload that there is not.
    await this.#try(`beginning an upload of ${key}`, signal, async () => {
      const answer = await client.send(
        new CreateMultipartUploadCommand({ ...place, ...this.#connection.objectFields(key) }),
        sending(signal),
      );
      uploadId = answer.UploadId ?? noUpload;
    });
    const ended = await this.#try(`ending an upload of ${key}`, signal, () =>
      client.send(new AbortMultipartUploadCommand({ ...place, UploadId: uploadId }), sending(signal)),
    );
    if (ended === 'allowed' || (ended !== 'refused' && ended.unclear === 'NoSuchUpload')) return 'allowed';
    if (uploadId !== noUpload) {
      const reason = ended === 'refused' ? 'AccessDenied' : ended.unclear;
      this.#remnants.found.push({ kind: 'upload', key, reason });
    }
    return ended;
  }

  listUploads(prefix: string, { signal }: WaitOptions = {}): Promise<Right> {
    const Prefix = this.#prefix(prefix);
    return this.#try('listing unfinished uploads', signal, () =>
      this.#connection.client.send(
        new ListMultipartUploadsCommand({ ...this.#connection.bucket(), Prefix, MaxUploads: 1 }),
        sending(signal),
      ),
    );
  }

  #prefix(prefix: string): string {
    return `${this.#connection.settings.prefix}${prefix}`;
  }

  /** Rights are looked at before the body: whoever may not write is refused for that. Nothing must stand at the key. */
  #write(key: string, condition: { readonly IfNoneMatch?: string }, signal: AbortSignal | undefined): Promise<Right> {
    const input = {
      ...this.#connection.at(key),
      ...this.#connection.objectFields(key),
      ...condition,
      Body: body,
      ContentLength: body.length,
      ContentMD5: wrongMd5,
    };
    return this.#try(`trying a write at ${key}`, signal, async () => {
      const { client } = this.#connection;
      await client.send(new PutObjectCommand(input), sending(signal));
      // A server that does not check checksums has stored it.
      await this.#remnants.unless('object', key, () => client.send(new DeleteObjectCommand(this.#connection.at(key))));
    });
  }

  async #try(doing: string, signal: AbortSignal | undefined, attempt: () => Promise<unknown>): Promise<Right> {
    try {
      // A wrong checksum counts as transient, since bytes are damaged on their way: this one is wrong on purpose.
      return await this.#connection.policy.run({ doing, intent: 'write', signal }, async () => {
        try {
          await attempt();
          return 'allowed' as const;
        } catch (error) {
          if (error instanceof Error && refusedBody.has(error.name)) return 'allowed' as const;
          throw error;
        }
      });
    } catch (error) {
      if (!isHoldfastError(error) || error.code === 'E_ABORTED') throw error;
      const { status, reason } = error.details;
      // A 412 comes from a server that has let the write in and looked at the key.
      if (status === 412) return 'allowed';
      if (status === 403 || status === 401) return 'refused';
      return { unclear: String(reason ?? error.message) };
    }
  }
}
