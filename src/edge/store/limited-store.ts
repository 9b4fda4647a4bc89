import { HoldfastError } from '../../engine/model/errors.ts';
import type {
  CreateOutcome,
  ListOptions,
  ObjectInfo,
  ObjectReader,
  ObjectUpload,
  ObjectWriter,
  RangeOptions,
  UnfinishedUpload,
  WaitOptions,
} from '../../engine/ports/object-store.ts';
import type { BytePace } from './byte-pace.ts';

/** Each pace for what it is called for; without one nothing is held back. */
export interface StorePaces {
  readonly upload?: BytePace | undefined;
  readonly download?: BytePace | undefined;
}

/**
 * A store of which so many bytes a second are asked. Ranges wait before they are asked for; of a whole object the size is known only when
 * it is there, so those that come after it wait.
 */
export class LimitedReader<S extends ObjectReader = ObjectReader> implements ObjectReader {
  protected readonly store: S;
  protected readonly paces: StorePaces;

  constructor(store: S, paces: StorePaces) {
    this.store = store;
    this.paces = paces;
  }

  async get(key: string, options: WaitOptions & { readonly bytesMax: number }): Promise<Uint8Array | undefined> {
    const { download } = this.paces;
    await download?.take(0, options.signal);
    const bytes = await this.store.get(key, options);
    download?.owe(bytes?.length ?? 0);
    return bytes;
  }

  async getRange(key: string, start: number, length: number, options: RangeOptions = {}): Promise<Uint8Array> {
    await this.paces.download?.take(length, options.signal);
    return await this.store.getRange(key, start, length, options);
  }

  stat(key: string, options?: WaitOptions): Promise<ObjectInfo | undefined> {
    return this.store.stat(key, options);
  }

  list(prefix: string, options?: ListOptions): Promise<readonly ObjectInfo[]> {
    return this.store.list(prefix, options);
  }
}

/** A writer to which so many bytes a second are sent, in pieces of a quarter of a second where it takes pieces. */
export class LimitedWriter extends LimitedReader<ObjectWriter> implements ObjectWriter {
  async create(key: string, bytes: Uint8Array, options: WaitOptions = {}): Promise<CreateOutcome> {
    await this.paces.upload?.take(bytes.length, options.signal);
    return await this.store.create(key, bytes, options);
  }

  async beginUpload(key: string, options: WaitOptions = {}): Promise<ObjectUpload> {
    const upload = await this.store.beginUpload(key, options);
    const pace = this.paces.upload;
    if (pace === undefined) return upload;
    const { signal } = options;
    const ended = new AbortController();
    const waiting = signal === undefined ? ended.signal : AbortSignal.any([signal, ended.signal]);
    return {
      async append(bytes) {
        for (let at = 0; at < bytes.length; ) {
          const piece = pace.isLifted ? bytes.subarray(at) : bytes.subarray(at, at + pace.bytesAtOnce);
          await pace.take(piece.length, waiting);
          await upload.append(piece);
          at += piece.length;
        }
      },
      async commit() {
        if (ended.signal.aborted) throw new HoldfastError('E_ABORTED', `the upload of ${key} was given up`);
        return await upload.commit();
      },
      async abort() {
        ended.abort();
        await upload.abort();
      },
    };
  }

  unfinished(prefix: string, options?: WaitOptions): Promise<readonly UnfinishedUpload[]> {
    return this.store.unfinished(prefix, options);
  }
}
