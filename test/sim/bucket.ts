/**
 * A bucket as an S3 server keeps it: objects are the world's, and beside them are unfinished uploads and the marks of those that were
 * finished. What a command of the SDK asks for happens at once or not at all; network and time are somebody else's (s3-client.ts).
 */
import type { Chance } from './chance.ts';
import type { World } from './world.ts';

// biome-ignore lint/suspicious/noExplicitAny: the inputs and outputs of commands are as the SDK has them, and not typed again.
type Fields = Record<string, any>;

export interface Command {
  readonly name: string;
  readonly input: Fields;
}

/** A refusal, as the SDK throws it. */
export function s3Error(name: string, status: number): Error {
  return Object.assign(new Error(name), { name, $metadata: { httpStatusCode: status } });
}

interface Upload {
  readonly id: string;
  readonly key: string;
  readonly metadata: Fields;
  readonly parts: Map<number, { readonly bytes: Uint8Array; readonly etag: string }>;
}

const uploadsPerPage = 3;

export class Bucket {
  readonly uploads: Map<string, Upload> = new Map();
  readonly #world: World;
  readonly #chance: Chance;
  readonly #metadata = new Map<string, Fields>();
  readonly #tellsUploadsByKeyOnly: boolean;
  #made = 0;

  constructor(world: World, chance: Chance) {
    this.#world = world;
    this.#chance = chance;
    this.#tellsUploadsByKeyOnly = chance.happens(0.4);
  }

  async apply({ name, input }: Command): Promise<Fields> {
    switch (name) {
      case 'PutObjectCommand':
        return await this.#put(input);
      case 'GetObjectCommand':
        return await this.#get(input);
      case 'HeadObjectCommand':
        return await this.#head(input);
      case 'ListObjectsV2Command':
        return await this.#list(input);
      case 'CreateMultipartUploadCommand':
        return this.#begin(input);
      case 'UploadPartCommand':
        return this.#part(input);
      case 'CompleteMultipartUploadCommand':
        return await this.#complete(input);
      case 'AbortMultipartUploadCommand':
        if (!this.uploads.delete(input['UploadId'])) throw s3Error('NoSuchUpload', 404);
        return {};
      case 'ListMultipartUploadsCommand':
        return this.#listUploads(input);
      default:
        throw new Error(`nobody has sent a ${name} before`);
    }
  }

  async #put({ Key, Body, IfNoneMatch }: Fields): Promise<Fields> {
    if (IfNoneMatch !== '*') throw new Error(`a write of ${Key} without a condition`);
    if ((await this.#world.create(Key, Body)) === 'exists') throw s3Error('PreconditionFailed', 412);
    return { ETag: 'whole' };
  }

  async #get({ Key, Range }: Fields): Promise<Fields> {
    const bytes = await this.#world.get(Key, { bytesMax: Number.MAX_SAFE_INTEGER });
    if (bytes === undefined) throw s3Error('NoSuchKey', 404);
    const [, from = '0', to = ''] = /^bytes=(\d+)-(\d*)$/.exec(Range ?? 'bytes=0-') ?? [];
    const start = Number(from);
    if (Range !== undefined && start >= bytes.length) throw s3Error('InvalidRange', 416);
    const end = Math.min(bytes.length, to === '' ? bytes.length : Number(to) + 1);
    const body = bytes.slice(start, end);
    return {
      ContentLength: body.length,
      ...(Range === undefined ? {} : { ContentRange: `bytes ${start}-${end - 1}/${bytes.length}` }),
      Body: body,
    };
  }

  async #head({ Key }: Fields): Promise<Fields> {
    const info = await this.#world.stat(Key);
    if (info === undefined) throw s3Error('NotFound', 404);
    return { ContentLength: info.bytes, LastModified: new Date(info.modifiedMs), Metadata: this.#metadata.get(Key) };
  }

  async #list({ Prefix, StartAfter, ContinuationToken, MaxKeys }: Fields): Promise<Fields> {
    const after = ContinuationToken ?? StartAfter;
    // Servers may give fewer than were asked for.
    const count = Math.min(MaxKeys, this.#chance.pick([1, 2, 3, 7]));
    const found = await this.#world.list(Prefix, { limit: count + 1, ...(after === undefined ? {} : { after }) });
    const page = found.slice(0, count);
    const isTruncated = found.length > count && !this.#world.broken.has('pages');
    return {
      Contents: page.map(({ key, bytes, modifiedMs }) => ({
        Key: key,
        Size: bytes,
        LastModified: new Date(modifiedMs),
      })),
      IsTruncated: isTruncated,
      ...(isTruncated ? { NextContinuationToken: page.at(-1)?.key } : {}),
    };
  }

  #begin({ Key, Metadata }: Fields): Fields {
    const id = `upload-${++this.#made}`;
    this.uploads.set(id, { id, key: Key, metadata: Metadata, parts: new Map() });
    return { UploadId: id };
  }

  #part({ Key, UploadId, PartNumber, Body }: Fields): Fields {
    const upload = this.uploads.get(UploadId);
    if (upload?.key !== Key) throw s3Error('NoSuchUpload', 404);
    const etag = `part-${++this.#made}`;
    upload?.parts.set(PartNumber, { bytes: Body, etag });
    return { ETag: etag };
  }

  async #complete({ Key, UploadId, MultipartUpload }: Fields): Promise<Fields> {
    const upload = this.uploads.get(UploadId);
    if (upload === undefined) throw s3Error('NoSuchUpload', 404);
    const parts = (MultipartUpload.Parts as Fields[]).map(({ PartNumber, ETag }) => {
      const part = upload.parts.get(PartNumber);
      if (part?.etag !== ETag) throw s3Error('InvalidPart', 400);
      return part as { readonly bytes: Uint8Array };
    });
    if (this.#world.broken.has('parts')) parts.pop();
    const object = await this.#world.beginUpload(Key);
    for (const { bytes } of parts) await object.append(bytes);
    if ((await object.commit()) === 'exists') throw s3Error('PreconditionFailed', 412);
    this.#metadata.set(Key, upload.metadata);
    this.uploads.delete(UploadId);
    return {};
  }

  #listUploads({ Prefix, KeyMarker, UploadIdMarker }: Fields): Fields {
    if (this.#world.broken.has('leftovers')) return {};
    if (Prefix !== undefined && this.#tellsUploadsByKeyOnly) {
      return { Uploads: [...this.uploads.values()].filter(({ key }) => key === Prefix).map(listed) };
    }
    const place = ({ key, id }: Upload): string => `${key} ${id}`;
    const after = KeyMarker === undefined ? '' : `${KeyMarker} ${UploadIdMarker}`;
    const found = [...this.uploads.values()]
      .filter((upload) => (Prefix === undefined || upload.key.startsWith(Prefix)) && place(upload) > after)
      .sort((a, b) => (place(a) < place(b) ? -1 : 1));
    const page = found.slice(0, uploadsPerPage);
    const last = page.at(-1);
    if (found.length === page.length || last === undefined) return { Uploads: page.map(listed) };
    return { Uploads: page.map(listed), IsTruncated: true, NextKeyMarker: last.key, NextUploadIdMarker: last.id };
  }
}

function listed({ key, id }: Upload): Fields {
  return { Key: key, UploadId: id };
}
