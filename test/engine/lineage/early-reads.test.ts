import { describe, expect, test } from 'vitest';
import { domainKeyKey, domainKeyPrefix, repositoryObjectKey } from '../../../src/engine/format/object-keys.ts';
import { readEarly } from '../../../src/engine/lineage/early-reads.ts';
import { domainOf, openRepository } from '../../../src/engine/lineage/repository.ts';
import { type ErrorCode, HoldfastError } from '../../../src/engine/model/errors.ts';
import type { ListOptions, ObjectInfo, ObjectReader, WaitOptions } from '../../../src/engine/ports/object-store.ts';
import { World } from './fixture.ts';

/** Notes what it is asked, and fails once where it is told to. */
class NotingReader implements ObjectReader {
  readonly asked: string[] = [];
  readonly failures = new Map<string, ErrorCode>();
  readonly signals: (AbortSignal | undefined)[] = [];
  readonly #store: ObjectReader;

  constructor(store: ObjectReader) {
    this.#store = store;
  }

  async get(key: string, options: WaitOptions & { readonly bytesMax: number }): Promise<Uint8Array | undefined> {
    this.#note(`get ${key}`, options.signal);
    return await this.#store.get(key, options);
  }

  async list(prefix: string, options?: ListOptions): Promise<readonly ObjectInfo[]> {
    this.#note(`list ${prefix}`, options?.signal);
    return await this.#store.list(prefix, options);
  }

  getRange(key: string, start: number, length: number): Promise<Uint8Array> {
    return this.#store.getRange(key, start, length);
  }

  stat(key: string): Promise<ObjectInfo | undefined> {
    return this.#store.stat(key);
  }

  #note(request: string, signal: AbortSignal | undefined): void {
    this.asked.push(request);
    this.signals.push(signal);
    const code = this.failures.get(request);
    this.failures.delete(request);
    if (code !== undefined) throw new HoldfastError(code, request);
  }
}

const plain = { keyRing: undefined, encryption: 'none' } as const;

async function setUp(lineage = 'team/app/0') {
  const world = await World.make({ encryption: 'none' });
  const domain = domainOf(world.lineage);
  const requests = [`get ${repositoryObjectKey}`, `list ${domainKeyPrefix(domain)}`, `get ${domainKeyKey(domain, 1)}`];
  expect(world.lineage).toBe(lineage);
  return { world, domain, requests, store: new NotingReader(world.store) };
}

describe('reads that begin before they are needed', () => {
  test('are all asked for at once, and not again', async () => {
    const { world, domain, requests, store } = await setUp();
    using early = readEarly(store, world.lineage);
    expect(store.asked).toEqual(requests);
    const access = await (await openRepository(early, plain)).openDomain(domain);
    expect(access.publicKey).toEqual(world.access.publicKey);
    expect(store.asked).toEqual(requests);
  });

  test('answer once: whoever asks again is told of now', async () => {
    const { world, domain, requests, store } = await setUp();
    using early = readEarly(store, world.lineage);
    const repository = await openRepository(early, plain);
    await repository.openDomain(domain);
    await repository.openDomain(domain);
    expect(store.asked).toEqual([...requests, ...requests.slice(1)]);
  });

  test('that were refused are asked for when they are needed', async () => {
    const { world, domain, requests, store } = await setUp();
    store.failures.set(requests[2] as string, 'E_STORE_CREDENTIALS');
    using early = readEarly(store, world.lineage);
    await (await openRepository(early, plain)).openDomain(domain);
    expect(store.asked).toEqual([...requests, requests[2]]);
  });

  test('of a store that cannot be reached fail once', async () => {
    const { world, requests, store } = await setUp();
    store.failures.set(requests[0] as string, 'E_STORE_UNREACHABLE');
    using early = readEarly(store, world.lineage);
    await expect(openRepository(early, plain)).rejects.toMatchObject({ code: 'E_STORE_UNREACHABLE' });
    expect(store.asked).toEqual(requests);
  });

  test('end with the command, and what was opened through them goes on', async () => {
    const { world, domain, requests, store } = await setUp();
    const early = readEarly(store, world.lineage);
    const repository = await openRepository(early, plain);
    early[Symbol.dispose]();
    expect(store.signals.map((signal) => signal?.aborted)).toEqual([true, true, true]);
    await repository.openDomain(domain);
    expect(store.asked).toEqual([...requests, ...requests.slice(1)]);
  });
});
