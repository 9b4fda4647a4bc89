import { randomUUID } from 'node:crypto';
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { HoldfastError, invariant } from '../../../engine/model/errors.ts';
import type { CreateOutcome, ObjectUpload } from '../../../engine/ports/object-store.ts';
import { throwIfAborted } from '../store-error.ts';
import { askFirst } from './ask-first.ts';
import type { S3Connection } from './s3-connection.ts';
import { failureOf, isMissingHead, isPreconditionFailed } from './s3-error.ts';
import { abortUpload, listUnfinished } from './unfinished-uploads.ts';

/** S3 takes 10,000 parts; each thousand parts are twice as large as those before, so 5 TiB fit. */
const partsOfOneSize = 1000;
/** Names the upload that made an object, to be recognised when the reply to its completion was lost. */
const uploadMark = 'holdfast-upload';

interface Part {
  readonly number: number;
  readonly etag: string;
  readonly checksums: Checksums;
}

interface Checksums {
  readonly ChecksumCRC32?: string;
  readonly ChecksumCRC32C?: string;
  readonly ChecksumSHA256?: string;
}

/**
 * An object sent while it is made. Nothing is asked of the server before the first part is full; what ends before that is
 * created by one request. As many parts are under way as the memory of all uploads allows; see UploadMemory.
 */
export class S3Upload implements ObjectUpload {
  readonly #connection: S3Connection;
  readonly #key: string;
  readonly #signal: AbortSignal | undefined;
  readonly #createWhole: (bytes: Uint8Array) => Promise<CreateOutcome>;
  readonly #mark = randomUUID();
  /** Fires when the upload is given up, by the signal or by abort(). */
  readonly #ended = new AbortController();
  readonly #parts: Part[] = [];
  readonly #underway = new Set<Promise<void>>();
  #state: 'open' | 'committed' | 'ended' = 'open';
  #begun: Promise<string> | undefined;
  /** A request to begin may have had its effect without telling the id. */
  #beginUnclear = false;
  #number = 0;
  /** The part that is being filled; undefined before its first byte. */
  #part: Uint8Array<ArrayBuffer> | undefined;
  #filled = 0;
  #failure: unknown;

  /** `createWhole` makes the object of an upload that has stayed below one part. */
  constructor(
    connection: S3Connection,
    key: string,
    signal: AbortSignal | undefined,
    createWhole: (bytes: Uint8Array) => Promise<CreateOutcome>,
  ) {
    this.#connection = connection;
    this.#key = key;
    this.#signal = signal;
    this.#createWhole = createWhole;
  }

  async append(bytes: Uint8Array): Promise<void> {
    this.#check(`writing ${this.#key}`);
    for (let at = 0; at < bytes.length; ) {
      if (this.#part !== undefined && this.#filled === this.#part.length) this.#sendPart(this.#part);
      this.#part ??= await this.#takePart();
      const taken = Math.min(bytes.length - at, this.#part.length - this.#filled);
      this.#part.set(bytes.subarray(at, at + taken), this.#filled);
      this.#filled += taken;
      at += taken;
    }
  }

  async commit(): Promise<CreateOutcome> {
    this.#check(`creating ${this.#key}`);
    if (this.#begun === undefined) {
      this.#state = 'ended';
      const part = this.#part ?? new Uint8Array();
      try {
        const outcome = await this.#createWhole(part.subarray(0, this.#filled));
        this.#state = 'committed';
        return outcome;
      } finally {
        this.#dropPart();
      }
    }
    if (this.#part !== undefined) this.#sendPart(this.#part);
    await Promise.all(this.#underway);
    this.#check(`creating ${this.#key}`);
    this.#state = 'ended';
    const outcome = await this.#complete(await this.#begun);
    this.#state = 'committed';
    if (outcome === 'exists') await this.#drop(this.#begun);
    if (this.#beginUnclear) await this.#dropOthers();
    return outcome;
  }

  async abort(): Promise<void> {
    if (this.#state === 'committed') return;
    this.#state = 'ended';
    this.#ended.abort();
    this.#dropPart();
    await Promise.all(this.#underway);
    const begun = this.#begun;
    if (begun === undefined) return;
    this.#begun = undefined;
    await this.#drop(begun);
    if (this.#beginUnclear) await this.#dropOthers();
  }

  #check(doing: string): void {
    if (this.#signal?.aborted) this.#state = 'ended';
    throwIfAborted(this.#signal, doing);
    if (this.#state === 'ended') throw new HoldfastError('E_ABORTED', `the upload of ${this.#key} was given up`);
    invariant(this.#state === 'open', `steps of an upload come one after the other: ${this.#state}, then ${doing}`);
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Memory for the next part, once there is room for it; without waiting where nothing of this upload is under way. */
  async #takePart(): Promise<Uint8Array<ArrayBuffer>> {
    const { uploadMemory, partBytes } = this.#connection;
    const bytes = partBytes * 2 ** Math.floor(this.#number / partsOfOneSize);
    while (!uploadMemory.hasRoom(bytes) && this.#underway.size > 0) await uploadMemory.freed();
    this.#check(`writing ${this.#key}`);
    return uploadMemory.take(bytes);
  }

  #dropPart(): void {
    if (this.#part !== undefined) this.#connection.uploadMemory.give(this.#part);
    this.#part = undefined;
    this.#filled = 0;
  }

  /** Sends the part that was filled, beside the ones under way. */
  #sendPart(part: Uint8Array<ArrayBuffer>): void {
    this.#begun ??= this.#begin();
    this.#number += 1;
    const number = this.#number;
    const body = part.subarray(0, this.#filled);
    this.#part = undefined;
    this.#filled = 0;
    const sent: Promise<void> = this.#begun
      .then((id) => this.#connection.sending.use(this.#waitSignal(), () => this.#uploadPart(id, number, body)))
      .then((done) => {
        this.#parts.push(done);
      })
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => {
        this.#underway.delete(sent);
        this.#connection.uploadMemory.give(part);
      });
    this.#underway.add(sent);
  }

  async #begin(): Promise<string> {
    const { client, policy, settings } = this.#connection;
    const doing = `beginning the upload of ${this.#key}`;
    const signal = this.#waitSignal();
    const { UploadId } = await policy.run(
      { doing, intent: 'write', signal, details: { key: this.#key } },
      (attempt) => {
        this.#beginUnclear ||= attempt.unclear;
        return client.send(
          new CreateMultipartUploadCommand({
            ...this.#connection.at(this.#key),
            ...this.#connection.objectFields(this.#key),
            ChecksumAlgorithm: settings.checksum,
            Metadata: { [uploadMark]: this.#mark },
          }),
          { abortSignal: signal },
        );
      },
    );
    if (UploadId !== undefined) return UploadId;
    throw new HoldfastError('E_STORE_IO', `the S3 store named no upload while ${doing}`);
  }

  async #uploadPart(id: string, number: number, body: Uint8Array): Promise<Part> {
    const { client, policy } = this.#connection;
    const doing = `sending part ${number} of ${this.#key}`;
    const signal = this.#waitSignal();
    const fields = this.#connection.bodyFields(body);
    // A part that was sent twice replaces itself.
    const place = { ...this.#connection.at(this.#key), UploadId: id, PartNumber: number };
    const reply = await policy.run({ doing, intent: 'write', signal, details: { key: this.#key } }, ({ again }) => {
      const command = new UploadPartCommand({ ...place, ...fields });
      return client.send(again ? askFirst(command) : command, { abortSignal: signal });
    });
    if (reply.ETag === undefined) throw new HoldfastError('E_STORE_IO', `the S3 store gave no ETag while ${doing}`);
    const { ChecksumCRC32, ChecksumSHA256 } = fields;
    const { ChecksumCRC32C } = reply;
    const checksums = {
      ...(ChecksumCRC32 === undefined ? {} : { ChecksumCRC32 }),
      ...(ChecksumCRC32C === undefined ? {} : { ChecksumCRC32C }),
      ...(ChecksumSHA256 === undefined ? {} : { ChecksumSHA256 }),
    };
    return { number, etag: reply.ETag, checksums };
  }

  async #complete(id: string): Promise<CreateOutcome> {
    const { client, policy } = this.#connection;
    const doing = `completing the upload of ${this.#key}`;
    const signal = this.#waitSignal();
    const place = this.#connection.at(this.#key);
    const parts = this.#parts.toSorted((a, b) => a.number - b.number);
    const Parts = parts.map(({ number, etag, checksums }) => ({ PartNumber: number, ETag: etag, ...checksums }));
    const request = { doing, intent: 'write', signal, details: { key: this.#key } } as const;
    const reply = await policy.run(request, async ({ unclear }) => {
      try {
        await client.send(
          new CompleteMultipartUploadCommand({
            ...place,
            UploadId: id,
            MultipartUpload: { Parts },
            IfNoneMatch: '*',
          }),
          { abortSignal: signal },
        );
        return 'created';
      } catch (error) {
        // Also of a first attempt: something on the way may have sent it twice.
        if (isPreconditionFailed(error)) return 'perhaps ours';
        // An upload ends with its completion: this may be the echo of our own.
        if (failureOf(error).reason === 'NoSuchUpload' && unclear) return 'perhaps ours';
        throw error;
      }
    });
    if (reply !== 'perhaps ours') return reply;
    const head = await policy.run(request, () =>
      client.send(new HeadObjectCommand(place), { abortSignal: signal }).catch((error: unknown) => {
        if (isMissingHead(error)) return undefined;
        throw error;
      }),
    );
    if (head !== undefined) return head.Metadata?.[uploadMark] === this.#mark ? 'created' : 'exists';
    throw new HoldfastError('E_STORE_IO', `the upload of ${this.#key} has vanished from the S3 store`, {
      details: { key: this.#key },
      remedy: 'A rule of the bucket may end unfinished uploads too early; then run the command again.',
    });
  }

  /** Ends an upload on the server; what cannot be ended is left to the bucket's own rule for unfinished uploads. */
  async #drop(begun: Promise<string>): Promise<void> {
    try {
      await abortUpload(this.#connection, this.#key, await begun);
    } catch {
      // Whoever gives up has a reason, and that is what is reported.
    }
  }

  /** Uploads of this key that a lost reply to the beginning has left. Keys of uploads are made once, so all are ours. */
  async #dropOthers(): Promise<void> {
    try {
      const others = await listUnfinished(this.#connection, this.#key);
      for (const other of others) if (other.key === this.#key) await other.end();
    } catch {
      // As above.
    }
  }

  #waitSignal(): AbortSignal {
    return this.#signal === undefined ? this.#ended.signal : AbortSignal.any([this.#signal, this.#ended.signal]);
  }
}
