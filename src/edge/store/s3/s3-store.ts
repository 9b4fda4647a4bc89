import type { Readable } from 'node:stream';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  type GetObjectCommandOutput,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { equalBytes } from '../../../engine/model/bytes.ts';
import { HoldfastError, invariant, isHoldfastError } from '../../../engine/model/errors.ts';
import type {
  CreateOutcome,
  ListOptions,
  ObjectInfo,
  ObjectReader,
  ObjectSweeper,
  ObjectUpload,
  ObjectWriter,
  RangeOptions,
  UnfinishedUpload,
  WaitOptions,
} from '../../../engine/ports/object-store.ts';
import { checkKeyPrefix, checkObjectKey } from '../object-key.ts';
import { throwIfAborted } from '../store-error.ts';
import { askFirst } from './ask-first.ts';
import { HedgedReads } from './hedged-reads.ts';
import { readBody } from './read-body.ts';
import type { S3Connection } from './s3-connection.ts';
import { isBadRange, isMissingHead, isMissingObject, isPreconditionFailed } from './s3-error.ts';
import { S3Upload } from './s3-upload.ts';
import { listUnfinished } from './unfinished-uploads.ts';

/**
 * A store in a bucket of an S3 server. A key of the store is a key of the bucket, behind the prefix.
 *
 * Invariants:
 * - Every write carries `If-None-Match: *`, so the server refuses it where an object stands. Whether it honours that is
 *   proved when a repository is made (prove-create-only.ts); nothing here takes it on trust beyond that proof.
 * - A write whose reply was lost is sent again; when that is refused because an object stands there, the object is read and
 *   compared: our own bytes mean that the lost reply was `created`.
 * - An object is read into memory of its own size, and only after its size has been seen.
 * - No request waits for ever: an attempt without progress ends, and a signal ends every wait.
 */

/** What the protocol allows in one answer. */
const keysPerPageMax = 1000;

export class S3Reader implements ObjectReader, AsyncDisposable {
  protected readonly connection: S3Connection;
  readonly #hedged: HedgedReads;

  constructor(connection: S3Connection) {
    this.connection = connection;
    this.#hedged = new HedgedReads(connection.clock);
  }

  async get(key: string, options: WaitOptions & { readonly bytesMax: number }): Promise<Uint8Array | undefined> {
    checkObjectKey(key);
    const { signal, bytesMax } = options;
    const found = await this.#read(key, `reading ${key}`, signal, undefined, (bytes) => {
      if (bytes <= bytesMax) return;
      throw new HoldfastError('E_DAMAGED', `${key} has ${bytes} bytes, at most ${bytesMax} can be`, {
        details: { key, bytes, bytesMax },
      });
    });
    return found;
  }

  async getRange(key: string, start: number, length: number, options: RangeOptions = {}): Promise<Uint8Array> {
    invariant(isCount(start) && isCount(length), 'a range is two whole numbers that are not negative');
    checkObjectKey(key);
    const { signal, into } = options;
    if (length === 0) {
      // HTTP has no empty ranges.
      const info = await this.stat(key, options);
      if (info === undefined) throw missing(key);
      if (start > info.bytes) throw tooShort(key, start, length, info.bytes);
      return new Uint8Array();
    }
    const doing = `reading ${length} bytes of ${key}`;
    const found = await this.#hedged.run(length, signal, (within, again) =>
      // What is asked for twice may be written twice.
      this.#read(key, doing, within, { start, length, into: again ? undefined : into }, () => {}),
    );
    if (found === undefined) throw missing(key);
    return found;
  }

  async stat(key: string, options: WaitOptions = {}): Promise<ObjectInfo | undefined> {
    checkObjectKey(key);
    const head = await this.head(key, `looking at ${key}`, options.signal);
    if (head === undefined) return undefined;
    return { key, bytes: head.ContentLength ?? 0, modifiedMs: wholeSeconds(head.LastModified) };
  }

  async list(prefix: string, options: ListOptions = {}): Promise<readonly ObjectInfo[]> {
    checkKeyPrefix(prefix);
    const { after = '', limit = Number.POSITIVE_INFINITY, signal } = options;
    invariant(limit >= 0, 'the limit of a list is not negative');
    const doing = `listing ${prefix}`;
    throwIfAborted(signal, doing);
    const { client, policy, settings } = this.connection;
    const found: ObjectInfo[] = [];
    const place = this.connection.at(prefix);
    let token: string | undefined;
    let last = after;
    let sorted = true;
    while (found.length < limit) {
      const page = await policy.run({ doing, intent: 'read', signal, details: { prefix } }, () =>
        client.send(
          new ListObjectsV2Command({
            ...this.connection.bucket(),
            Prefix: place.Key,
            MaxKeys: Math.min(keysPerPageMax, limit - found.length),
            ...(token !== undefined
              ? { ContinuationToken: token }
              : after === ''
                ? {}
                : { StartAfter: `${settings.prefix}${after}` }),
          }),
          sending(signal),
        ),
      );
      for (const { Key = '', Size, LastModified } of page.Contents ?? []) {
        const key = Key.slice(settings.prefix.length);
        if (!Key.startsWith(place.Key) || !isObjectKey(key) || key <= after) continue;
        if (key <= last) {
          // Of a list that is cut nobody knows what is missing; a whole one can be sorted.
          if (after !== '' || limit !== Number.POSITIVE_INFINITY) throw disordered(prefix, last, key);
          sorted = false;
        }
        last = key;
        found.push({ key, bytes: Size ?? 0, modifiedMs: wholeSeconds(LastModified) });
      }
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
      if (token === undefined) break;
    }
    if (!sorted) found.sort((a, b) => (a.key < b.key ? -1 : 1));
    return found.length > limit ? found.slice(0, limit) : found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.connection[Symbol.asyncDispose]();
  }

  /** The head of an object, or undefined where there is none. */
  protected async head(
    key: string,
    doing: string,
    signal: AbortSignal | undefined,
  ): Promise<HeadObjectCommandOutput | undefined> {
    throwIfAborted(signal, doing);
    const { client, policy } = this.connection;
    const head = await policy.run({ doing, intent: 'read', signal, details: { key } }, () =>
      client.send(new HeadObjectCommand(this.connection.at(key)), sending(signal)).catch((error: unknown) => {
        if (isMissingHead(error)) return undefined;
        throw error;
      }),
    );
    // A read has a body that names what is missing: the object, the bucket, or whoever asks.
    if (head === undefined) await this.#read(key, doing, signal, { start: 0, length: 1 }, () => {}).catch(ifDamaged);
    return head;
  }

  /**
   * Reads an object or a range of it, undefined where there is none. `check` sees the size of the whole object, before memory
   * is taken. An attempt that breaks off is followed by one for what is left: objects never change.
   */
  async #read(
    key: string,
    doing: string,
    signal: AbortSignal | undefined,
    range: { readonly start: number; readonly length: number; readonly into?: Uint8Array | undefined } | undefined,
    check: (bytes: number) => void,
  ): Promise<Uint8Array | undefined> {
    throwIfAborted(signal, doing);
    const { client, policy } = this.connection;
    const place = this.connection.at(key);
    const start = range?.start ?? 0;
    let target = range?.into;
    let at = 0;
    return await policy.run({ doing, intent: 'read', signal, details: { key } }, async () => {
      if (target !== undefined && at > 0 && at === target.length) return target;
      // `start + length` may be beyond what a number holds exactly; servers cut the end at the object's.
      const end = range === undefined ? '' : String(BigInt(range.start) + BigInt(range.length) - 1n);
      const ranged = range !== undefined || at > 0;
      const answer = await client
        .send(
          new GetObjectCommand({ ...place, ...(ranged ? { Range: `bytes=${start + at}-${end}` } : {}) }),
          sending(signal),
        )
        .catch((error: unknown) => {
          if (isBadRange(error) && range !== undefined) throw tooShort(key, range.start, range.length, undefined);
          return undefinedIfMissing(error);
        });
      if (answer === undefined) return undefined;
      const body = answer.Body as Readable;
      try {
        const { from, whole, sent } = partOf(answer);
        if (from !== start + at) {
          throw new HoldfastError(
            'E_STORE_IO',
            `the S3 store answered with another part of ${key} than was asked for`,
            {
              details: { key, from, asked: start + at },
            },
          );
        }
        check(whole);
        const wanted = range?.length ?? whole;
        if (start + wanted > whole) throw tooShort(key, start, wanted, whole);
        target ??= new Uint8Array(wanted);
        if (sent !== target.length - at) {
          throw new HoldfastError('E_STORE_IO', `the S3 store answered with ${sent} bytes of ${key}`, {
            details: { key, sent, wanted: target.length - at },
          });
        }
        await readBody(body, target, at, (reached) => {
          at = reached;
        });
        return target;
      } finally {
        body.destroy();
      }
    });
  }
}

export class S3Writer extends S3Reader implements ObjectWriter {
  create(key: string, bytes: Uint8Array, options: WaitOptions = {}): Promise<CreateOutcome> {
    return this.#create(key, bytes, options.signal, false);
  }

  async beginUpload(key: string, options: WaitOptions = {}): Promise<ObjectUpload> {
    const { signal } = options;
    checkObjectKey(key);
    throwIfAborted(signal, `creating ${key}`);
    return new S3Upload(this.connection, key, signal, (bytes) => this.#create(key, bytes, signal, true));
  }

  unfinished(prefix: string, options: WaitOptions = {}): Promise<readonly UnfinishedUpload[]> {
    checkKeyPrefix(prefix);
    return listUnfinished(this.connection, prefix, options);
  }

  /** `unique`: nobody else makes these bytes, so where they stand already, something on the way has sent ours twice. */
  async #create(
    key: string,
    bytes: Uint8Array,
    signal: AbortSignal | undefined,
    unique: boolean,
  ): Promise<CreateOutcome> {
    checkObjectKey(key);
    const doing = `creating ${key}`;
    throwIfAborted(signal, doing);
    const { client, policy } = this.connection;
    const input = {
      ...this.connection.at(key),
      ...this.connection.objectFields(key),
      ...this.connection.bodyFields(bytes),
      IfNoneMatch: '*',
    };
    const reply = await policy.run({ doing, intent: 'write', signal, details: { key } }, async ({ unclear, again }) => {
      const command = new PutObjectCommand(input);
      try {
        await client.send(again ? askFirst(command) : command, sending(signal));
        return 'created';
      } catch (error) {
        if (isPreconditionFailed(error)) return unclear || unique ? 'perhaps ours' : 'exists';
        throw error;
      }
    });
    if (reply !== 'perhaps ours') return reply;
    return (await this.#holds(key, bytes, signal)) ? 'created' : 'exists';
  }

  /** Whether the object at a key is exactly these bytes. */
  async #holds(key: string, bytes: Uint8Array, signal: AbortSignal | undefined): Promise<boolean> {
    try {
      const found = await this.get(key, { bytesMax: bytes.length, ...(signal === undefined ? {} : { signal }) });
      return found !== undefined && equalBytes(found, bytes);
    } catch (error) {
      // Larger than ours.
      if (isHoldfastError(error, 'E_DAMAGED')) return false;
      throw error;
    }
  }
}

export class S3Sweeper extends S3Reader implements ObjectSweeper {
  /**
   * Where the bucket keeps versions, the version is deleted: a delete marker would hide the object from `If-None-Match`, and
   * the key of a log record could then be taken a second time.
   */
  async delete(key: string, options: WaitOptions = {}): Promise<boolean> {
    checkObjectKey(key);
    const { signal } = options;
    const doing = `deleting ${key}`;
    const head = await this.head(key, doing, signal);
    if (head === undefined) return false;
    const { client, policy } = this.connection;
    const version = head.VersionId === undefined ? {} : { VersionId: head.VersionId };
    await policy.run({ doing, intent: 'write', signal, details: { key } }, () =>
      client
        .send(new DeleteObjectCommand({ ...this.connection.at(key), ...version }), sending(signal))
        .catch(undefinedIfMissing),
    );
    return true;
  }
}

/** Options of the SDK's `send`. */
export function sending(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal === undefined ? {} : { abortSignal: signal };
}

/** Which part of an object an answer holds. */
function partOf(answer: GetObjectCommandOutput): { from: number; whole: number; sent: number } {
  const sent = answer.ContentLength ?? Number.NaN;
  const match = /^bytes (\d+)-\d+\/(\d+)$/.exec(answer.ContentRange ?? '');
  // A server that knows no ranges sends the whole.
  if (match === null) return { from: 0, whole: sent, sent };
  return { from: Number(match[1]), whole: Number(match[2]), sent };
}

function undefinedIfMissing(error: unknown): undefined {
  if (isMissingObject(error)) return undefined;
  throw error;
}

function ifDamaged(error: unknown): undefined {
  if (isHoldfastError(error, 'E_DAMAGED')) return undefined;
  throw error;
}

function isObjectKey(key: string): boolean {
  try {
    checkObjectKey(key);
    return true;
  } catch {
    return false;
  }
}

/** Heads of objects give their time in seconds, lists in ms: the same object is to have one time. */
function wholeSeconds(time: Date | undefined): number {
  return time === undefined ? 0 : Math.floor(time.getTime() / 1000) * 1000;
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function missing(key: string): HoldfastError {
  return new HoldfastError('E_DAMAGED', `${key} is missing in the store`, { details: { key } });
}

function tooShort(key: string, start: number, length: number, bytes: number | undefined): HoldfastError {
  const end = bytes === undefined ? `before byte ${start}` : `at byte ${bytes}`;
  return new HoldfastError('E_DAMAGED', `${key} ends ${end}, ${length} bytes from ${start} on were expected`, {
    details: { key, start, length, ...(bytes === undefined ? {} : { bytes }) },
  });
}

/** Heads of logs are the first keys of their lists: in another order the wrong record would count as newest. */
function disordered(prefix: string, before: string, key: string): HoldfastError {
  return new HoldfastError('E_UNFENCED', `the S3 store lists ${prefix} out of order: ${key} after ${before}`, {
    details: { prefix, before, key },
    remedy:
      'Directory buckets and some servers list in no order, and cannot tell which record is newest; use another store.',
  });
}
