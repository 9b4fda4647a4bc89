import type {
  CreateOutcome,
  ListOptions,
  ObjectInfo,
  ObjectUpload,
  ObjectWriter,
  UnfinishedUpload,
  WaitOptions,
} from '../../src/engine/ports/object-store.ts';

/** Turns of the event loop in which nothing happens, until whoever could ask has asked. */
const quietTurns = 20;

/**
 * A store as far away as can be: every request travels until nothing else goes on in the process, and then all that are under way
 * arrive together. So `rounds` is how often somebody waited for the store, whatever time anything takes, and requests that do not
 * depend on each other share a round.
 */
export class RoundsStore implements ObjectWriter {
  readonly #store: ObjectWriter;
  /** What each round brought, in the order of asking: `get v1/repo`. */
  readonly rounds: string[][] = [];
  #travelling: { readonly request: string; readonly arrive: () => void }[] = [];

  constructor(store: ObjectWriter) {
    this.#store = store;
  }

  async get(key: string, options: WaitOptions & { readonly bytesMax: number }): Promise<Uint8Array | undefined> {
    await this.#travel(`get ${key}`);
    return await this.#store.get(key, options);
  }

  async getRange(key: string, start: number, length: number, options?: WaitOptions): Promise<Uint8Array> {
    await this.#travel(`range ${key}`);
    return await this.#store.getRange(key, start, length, options);
  }

  async stat(key: string, options?: WaitOptions): Promise<ObjectInfo | undefined> {
    await this.#travel(`stat ${key}`);
    return await this.#store.stat(key, options);
  }

  async list(prefix: string, options?: ListOptions): Promise<readonly ObjectInfo[]> {
    await this.#travel(`list ${prefix}`);
    return await this.#store.list(prefix, options);
  }

  async create(key: string, bytes: Uint8Array, options?: WaitOptions): Promise<CreateOutcome> {
    await this.#travel(`create ${key}`);
    return await this.#store.create(key, bytes, options);
  }

  /** As on S3: what stays small is one request, at its end. */
  async beginUpload(key: string, options?: WaitOptions): Promise<ObjectUpload> {
    const upload = await this.#store.beginUpload(key, options);
    return {
      append: (bytes) => upload.append(bytes),
      commit: async () => {
        await this.#travel(`upload ${key}`);
        return await upload.commit();
      },
      abort: () => upload.abort(),
    };
  }

  async unfinished(prefix: string, options?: WaitOptions): Promise<readonly UnfinishedUpload[]> {
    await this.#travel(`unfinished ${prefix}`);
    return await this.#store.unfinished(prefix, options);
  }

  #travel(request: string): Promise<void> {
    return new Promise((arrive) => {
      this.#travelling.push({ request, arrive });
      if (this.#travelling.length === 1) void this.#arriveWhenQuiet();
    });
  }

  async #arriveWhenQuiet(): Promise<void> {
    let asked = 0;
    for (let quiet = 0; quiet < quietTurns; quiet++) {
      if (this.#travelling.length > asked || isBusy()) quiet = 0;
      asked = this.#travelling.length;
      await new Promise((resolve) => setImmediate(resolve));
    }
    const arriving = this.#travelling;
    this.#travelling = [];
    this.rounds.push(arriving.map(({ request }) => request));
    for (const { arrive } of arriving) arrive();
  }
}

/** Files that are being read or written: whoever waits for them may ask for more. */
function isBusy(): boolean {
  return process.getActiveResourcesInfo().some((name) => /^(FSReq|FileHandle|CloseReq)/.test(name));
}
