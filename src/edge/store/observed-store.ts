import type {
  CreateOutcome,
  ListOptions,
  ObjectInfo,
  ObjectReader,
  ObjectSweeper,
  ObjectUpload,
  ObjectWriter,
  UnfinishedUpload,
  RangeOptions,
  WaitOptions,
} from '../../engine/ports/object-store.ts';

export type RequestKind = 'create' | 'delete' | 'get' | 'list' | 'range' | 'stat' | 'upload';

/** Requests by kind, failed ones included; an upload is one however many parts it has. Tidying up is not counted. */
export type RequestCounts = Readonly<Record<RequestKind, number>>;

/** What passed between a process and its store. One may be shared by several stores. */
export class StoreTraffic {
  readonly #requests: Record<RequestKind, number> = {
    create: 0,
    delete: 0,
    get: 0,
    list: 0,
    range: 0,
    stat: 0,
    upload: 0,
  };
  #bytesRead = 0;
  #bytesWritten = 0;

  /** The counts up to now. */
  get requests(): RequestCounts {
    return { ...this.#requests };
  }

  /** Bytes that came from the store. */
  get bytesRead(): number {
    return this.#bytesRead;
  }

  /** Bytes that the store took, also those of uploads that were given up and of objects that existed. */
  get bytesWritten(): number {
    return this.#bytesWritten;
  }

  /** Counts a request. */
  count(kind: RequestKind): void {
    this.#requests[kind] += 1;
  }

  /** Counts bytes that came from the store. */
  countRead(bytes: number): void {
    this.#bytesRead += bytes;
  }

  /** Counts bytes that the store took. */
  countWritten(bytes: number): void {
    this.#bytesWritten += bytes;
  }

  /** Adds what passed in another process or thread. */
  add(other: { readonly requests: RequestCounts; readonly bytesRead: number; readonly bytesWritten: number }): void {
    for (const kind of Object.keys(this.#requests) as RequestKind[]) this.#requests[kind] += other.requests[kind];
    this.#bytesRead += other.bytesRead;
    this.#bytesWritten += other.bytesWritten;
  }
}

/** A reader that counts into `traffic` what passes through it. */
export class ObservedReader<S extends ObjectReader = ObjectReader> implements ObjectReader {
  protected readonly store: S;
  protected readonly traffic: StoreTraffic;

  constructor(store: S, traffic: StoreTraffic) {
    this.store = store;
    this.traffic = traffic;
  }

  async get(key: string, options: WaitOptions & { readonly bytesMax: number }): Promise<Uint8Array | undefined> {
    this.traffic.count('get');
    const bytes = await this.store.get(key, options);
    this.traffic.countRead(bytes?.length ?? 0);
    return bytes;
  }

  async getRange(key: string, start: number, length: number, options?: RangeOptions): Promise<Uint8Array> {
    this.traffic.count('range');
    const bytes = await this.store.getRange(key, start, length, options);
    this.traffic.countRead(bytes.length);
    return bytes;
  }

  stat(key: string, options?: WaitOptions): Promise<ObjectInfo | undefined> {
    this.traffic.count('stat');
    return this.store.stat(key, options);
  }

  list(prefix: string, options?: ListOptions): Promise<readonly ObjectInfo[]> {
    this.traffic.count('list');
    return this.store.list(prefix, options);
  }
}

/** A writer that counts. */
export class ObservedWriter extends ObservedReader<ObjectWriter> implements ObjectWriter {
  async create(key: string, bytes: Uint8Array, options?: WaitOptions): Promise<CreateOutcome> {
    this.traffic.count('create');
    const outcome = await this.store.create(key, bytes, options);
    this.traffic.countWritten(bytes.length);
    return outcome;
  }

  async beginUpload(key: string, options?: WaitOptions): Promise<ObjectUpload> {
    this.traffic.count('upload');
    const upload = await this.store.beginUpload(key, options);
    return {
      append: async (bytes) => {
        await upload.append(bytes);
        this.traffic.countWritten(bytes.length);
      },
      commit: () => upload.commit(),
      abort: () => upload.abort(),
    };
  }

  unfinished(prefix: string, options?: WaitOptions): Promise<readonly UnfinishedUpload[]> {
    return this.store.unfinished(prefix, options);
  }
}

/** A sweeper that counts. */
export class ObservedSweeper extends ObservedReader<ObjectSweeper> implements ObjectSweeper {
  delete(key: string, options?: WaitOptions): Promise<boolean> {
    this.traffic.count('delete');
    return this.store.delete(key, options);
  }
}
