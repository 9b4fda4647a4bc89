/**
 * Making and opening a repository, and the keys of its domains. Everything is create-only: of two that begin the same domain at
 * once, the loser reads and uses what the winner wrote.
 */
import {
  deriveDomainKeys,
  type DataKey,
  type DomainKeys,
  publicKeyOf,
  secretBytes,
  toDataKey,
} from '../format/keys.ts';
import { domainKeyKey, domainKeyPrefix, parseDomainKeyKey, repositoryObjectKey } from '../format/object-keys.ts';
import {
  type DomainKeyObject,
  domainKeyObjectBytesMax,
  domainKeyObjectToSeal,
  type Encryption,
  plainSeal,
  readDomainKeyObject,
  readRepositoryObject,
  type RepositoryObject,
  repositoryObjectBytesMax,
  repositoryObjectToSeal,
  withSeal,
} from '../format/repository.ts';
import { formatVersion } from '../format/versions.ts';
import { emptyBytes, equalBytes, toHex } from '../model/bytes.ts';
import { HoldfastError, isHoldfastError } from '../model/errors.ts';
import { type LineageName, toLineageName } from '../model/ids.ts';
import { reread } from '../model/reread.ts';
import type { Clock } from '../ports/clock.ts';
import type { KeyRing } from '../ports/key-ring.ts';
import type { ObjectReader, ObjectWriter } from '../ports/object-store.ts';
import type { RandomSource } from '../ports/random.ts';
import { createObject } from './create-object.ts';

/** Everything a process needs to read and write one key domain; a pod is given this and never the repository key. */
export interface DomainAccess {
  /** Id of the repository. */
  readonly repository: string;
  readonly domain: string;
  readonly keys: DomainKeys;
  /** The newest generation: what is written now is encrypted with it. */
  readonly dataKey: DataKey;
  /** All generations, ascending. */
  readonly dataKeys: readonly DataKey[];
  /** Verifies the records of the domain. */
  readonly publicKey: Uint8Array;
}

export interface MakeOptions {
  readonly store: ObjectWriter;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly signal?: AbortSignal;
}

export interface Repository {
  /** 32 hexadecimal digits. */
  readonly id: string;
  readonly encryption: Encryption;
  readonly formatVersion: number;
  /** True when it was made, on purpose, in a store that does not refuse to overwrite: writers are not told apart there. */
  readonly unfenced: boolean;
  /** Ms since 1970. */
  readonly createdMs: number;
  /** E_NOT_FOUND when the domain has no keys; E_KEY_WRONG, E_DAMAGED. */
  openDomain(domain: string, options?: { readonly signal?: AbortSignal }): Promise<DomainAccess>;
  /** The same, making the domain's keys when there are none. */
  openOrMakeDomain(domain: string, options: MakeOptions): Promise<DomainAccess>;
  /**
   * Makes the next generation of a domain's data key, which encrypts what is written from then on; what is stored stays as it is and
   * readable. Of two at once one generation comes, for both. It cures no leak of the domain's secret, which never changes.
   * E_NOT_FOUND when the domain has no keys; E_ENCRYPTION_MISMATCH without encryption; E_STORE_*, E_DAMAGED.
   */
  rotateDataKey(domain: string, options: MakeOptions): Promise<DomainAccess>;
}

export interface RepositorySettings {
  readonly keyRing: KeyRing | undefined;
  /** What was asked for; undefined: whatever the repository says. */
  readonly encryption?: Encryption | undefined;
}

/** The workload: a lineage's name without its last part, the replica slot. A name of one part is its own domain. */
export function domainOf(lineage: LineageName): string {
  const at = lineage.lastIndexOf('/');
  return at < 0 ? lineage : lineage.slice(0, at);
}

/** Keys that no store ever sees, for computing what a first checkpoint would hold. Their roots are equal to no other. */
export function temporaryDomain(
  { id, encryption }: Pick<Repository, 'id' | 'encryption'>,
  domain: string,
  random: RandomSource,
): DomainAccess {
  const keys = deriveDomainKeys(random.bytes(secretBytes));
  const dataKey = toDataKey(1, encryption === 'none' ? undefined : random.bytes(secretBytes), keys.plainTagKey);
  return { repository: id, domain, keys, dataKey, dataKeys: [dataKey], publicKey: publicKeyOf(keys.signingSeed) };
}

/**
 * Makes the repository of an empty store. E_REPOSITORY_EXISTS when there is one; E_KEY_MISSING or E_ENCRYPTION_MISMATCH unless
 * it is either encrypted and has a key, or neither.
 */
export async function createRepository(
  settings: RepositorySettings & {
    readonly encryption: Encryption;
    /** The store was seen to overwrite, and is to be used in spite of that. */
    readonly unfenced?: boolean;
  },
  options: MakeOptions,
): Promise<Repository> {
  const { keyRing, encryption } = settings;
  refuseHalfConfigured(settings, encryption);
  const repository: RepositoryObject = {
    id: toHex(options.random.bytes(16)),
    formatVersion,
    encryption,
    createdMs: Math.floor(options.clock.nowMs()),
    keyId: keyRing?.keyId ?? '',
    publicKey: keyRing?.publicKey ?? emptyBytes,
    createOnly: settings.unfenced !== true,
  };
  const bytes = await sealed(repositoryObjectToSeal(repository), keyRing);
  readRepositoryObject(bytes);
  const made = await createObject(options, repositoryObjectKey, bytes, {
    bytesMax: repositoryObjectBytesMax,
    signal: options.signal,
  });
  if (made.outcome !== 'created') {
    throw new HoldfastError('E_REPOSITORY_EXISTS', `${repositoryObjectKey} exists in this store`);
  }
  return new StoredRepository(options.store, repository, keyRing);
}

/**
 * Opens the repository of a store. E_REPOSITORY_MISSING, which is never a first boot; E_KEY_MISSING, E_KEY_WRONG,
 * E_ENCRYPTION_MISMATCH, E_FORMAT_NEWER, E_DAMAGED.
 */
export async function openRepository(
  store: ObjectReader,
  settings: RepositorySettings,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Repository> {
  const repository = await reread(async () => {
    const bytes = await store.get(repositoryObjectKey, { ...options, bytesMax: repositoryObjectBytesMax });
    if (bytes === undefined) {
      throw new HoldfastError('E_REPOSITORY_MISSING', `there is no ${repositoryObjectKey} in this store`);
    }
    return readRepositoryObject(bytes);
  });
  refuseHalfConfigured(settings, repository.encryption);
  const { keyRing } = settings;
  if (keyRing !== undefined && keyRing.keyId !== repository.keyId) {
    throw new HoldfastError('E_KEY_WRONG', `the repository uses key ${repository.keyId}, this is ${keyRing.keyId}`);
  }
  if (keyRing !== undefined && !equalBytes(keyRing.publicKey, repository.publicKey)) {
    throw new HoldfastError('E_DAMAGED', 'the repository object names the key but was not signed by it');
  }
  return new StoredRepository(store, repository, keyRing);
}

function refuseHalfConfigured(settings: RepositorySettings, actual: Encryption): void {
  const { keyRing, encryption } = settings;
  if (encryption !== undefined && encryption !== actual) {
    throw new HoldfastError(
      'E_ENCRYPTION_MISMATCH',
      `encryption ${encryption} was asked for, the repository has ${actual}`,
    );
  }
  if (actual === 'none' && keyRing !== undefined) {
    throw new HoldfastError('E_ENCRYPTION_MISMATCH', 'a key was given for a repository without encryption');
  }
  if (actual !== 'none' && keyRing === undefined) {
    throw new HoldfastError('E_KEY_MISSING', `a repository with encryption ${actual} needs its key`);
  }
}

async function sealed(bytes: Uint8Array, keyRing: KeyRing | undefined): Promise<Uint8Array> {
  return withSeal(bytes, keyRing === undefined ? plainSeal(bytes) : await keyRing.sign(bytes));
}

const generationsTriedMax = 64;
/** Keys asked for at once. */
const readsTogether = 8;

class StoredRepository implements Repository {
  readonly id: string;
  readonly encryption: Encryption;
  readonly formatVersion: number;
  readonly unfenced: boolean;
  readonly createdMs: number;
  readonly #store: ObjectReader;
  readonly #object: RepositoryObject;
  readonly #keyRing: KeyRing | undefined;

  constructor(store: ObjectReader, object: RepositoryObject, keyRing: KeyRing | undefined) {
    this.id = object.id;
    this.encryption = object.encryption;
    this.formatVersion = object.formatVersion;
    this.unfenced = !object.createOnly;
    this.createdMs = object.createdMs;
    this.#store = store;
    this.#object = object;
    this.#keyRing = keyRing;
  }

  async openDomain(domain: string, options: { readonly signal?: AbortSignal } = {}): Promise<DomainAccess> {
    const access = await this.#findDomain(domain, options);
    if (access === undefined) {
      throw new HoldfastError('E_NOT_FOUND', `nothing was ever stored for ${domain} in this repository`);
    }
    return access;
  }

  async openOrMakeDomain(domain: string, options: MakeOptions): Promise<DomainAccess> {
    toLineageName(domain);
    const found = await this.#findDomain(domain, options);
    if (found !== undefined) return found;
    const made = await this.#newDomain(domain, options);
    const bytes = await sealed(domainKeyObjectToSeal(made), this.#keyRing);
    this.#readKey(bytes, domain, made.generation);
    const { outcome } = await createObject(options, domainKeyKey(domain, made.generation), bytes, {
      bytesMax: domainKeyObjectBytesMax,
      signal: options.signal,
    });
    // Later generations are made from an earlier one, so there are none yet.
    if (outcome === 'created') return await this.#openKeys(domain, [made], made);
    // What stands there now is what both use.
    return await this.openDomain(domain, options);
  }

  async rotateDataKey(domain: string, options: MakeOptions): Promise<DomainAccess> {
    const keyRing = this.#keyRing;
    if (keyRing === undefined) {
      throw new HoldfastError('E_ENCRYPTION_MISMATCH', 'a repository without encryption has no data keys', {
        remedy: 'There is nothing to rotate.',
      });
    }
    const newest = (await this.#genuineKeys(domain, options)).at(-1);
    if (newest === undefined) {
      throw new HoldfastError('E_NOT_FOUND', `nothing was ever stored for ${domain} in this repository`);
    }
    const secret = await keyRing.unwrap(newest.domainSecret, this.#secretContext(domain));
    // Numbers that hold junk are passed over, as readers do.
    for (let next = newest.generation + 1; next <= newest.generation + generationsTriedMax; next++) {
      const made = await this.#keysOf(domain, next, secret, options);
      const bytes = await sealed(domainKeyObjectToSeal(made), keyRing);
      this.#readKey(bytes, domain, next);
      await createObject(options, domainKeyKey(domain, next), bytes, {
        bytesMax: domainKeyObjectBytesMax,
        signal: options.signal,
      });
      const access = await this.openDomain(domain, options);
      if (access.dataKey.generation > newest.generation) return access;
    }
    throw new HoldfastError('E_DAMAGED', `${generationsTriedMax} objects beside the keys of ${domain} are not ours`);
  }

  async #newDomain(domain: string, options: MakeOptions): Promise<DomainKeyObject> {
    return await this.#keysOf(domain, 1, options.random.bytes(secretBytes), options);
  }

  async #keysOf(
    domain: string,
    generation: number,
    secret: Uint8Array,
    options: MakeOptions,
  ): Promise<DomainKeyObject> {
    const wrapped = this.#keyRing;
    return {
      repository: this.id,
      domain,
      generation,
      createdMs: Math.floor(options.clock.nowMs()),
      publicKey: publicKeyOf(deriveDomainKeys(secret).signingSeed),
      domainSecret: wrapped === undefined ? secret : await wrapped.wrap(secret, this.#secretContext(domain)),
      dataKey:
        wrapped === undefined
          ? emptyBytes
          : await wrapped.wrap(options.random.bytes(secretBytes), this.#dataKeyContext(domain, generation)),
    };
  }

  #secretContext(domain: string): string {
    return `holdfast/1/domain-secret ${this.id} ${domain}`;
  }

  #dataKeyContext(domain: string, generation: number): string {
    return `holdfast/1/data-key ${this.id} ${domain} ${generation}`;
  }

  #readKey(bytes: Uint8Array, domain: string, generation: number): DomainKeyObject {
    return readDomainKeyObject(bytes, { repository: this.#object, domain, generation });
  }

  async #findDomain(domain: string, options: { readonly signal?: AbortSignal }): Promise<DomainAccess | undefined> {
    const genuine = await this.#genuineKeys(domain, options);
    const newest = genuine.at(-1);
    return newest === undefined ? undefined : await this.#openKeys(domain, genuine, newest);
  }

  /**
   * All generations, ascending. Junk beside genuine ones is passed over, since whoever can create objects could otherwise lock
   * everybody out; when nothing genuine is left the domain counts as damaged, not as new.
   */
  async #genuineKeys(domain: string, options: { readonly signal?: AbortSignal }): Promise<readonly DomainKeyObject[]> {
    const waiting = options.signal === undefined ? {} : { signal: options.signal };
    const listed = await this.#store.list(domainKeyPrefix(domain), waiting);
    const generations = listed
      .map(({ key }) => parseDomainKeyKey(domain, key))
      .filter((generation) => generation !== undefined)
      .sort((a, b) => a - b);
    const genuine: DomainKeyObject[] = [];
    let damage: HoldfastError | undefined;
    for (let at = 0; at < generations.length; at += readsTogether) {
      const some = generations.slice(at, at + readsTogether);
      const reads = some.map((generation) =>
        reread(async () => {
          const key = domainKeyKey(domain, generation);
          const bytes = await this.#store.get(key, { ...waiting, bytesMax: domainKeyObjectBytesMax });
          return bytes === undefined ? undefined : this.#readKey(bytes, domain, generation);
        }),
      );
      for (const read of await Promise.allSettled(reads)) {
        if (read.status === 'fulfilled') {
          if (read.value !== undefined) genuine.push(read.value);
        } else if (isHoldfastError(read.reason, 'E_DAMAGED')) damage = read.reason;
        else throw read.reason;
      }
    }
    if (genuine.length === 0 && damage !== undefined) throw damage;
    return genuine;
  }

  async #openKeys(
    domain: string,
    generations: readonly DomainKeyObject[],
    newest: DomainKeyObject,
  ): Promise<DomainAccess> {
    const secret = await this.#unwrap(newest.domainSecret, this.#secretContext(domain));
    if (secret.length !== secretBytes)
      throw new HoldfastError('E_DAMAGED', `the secret of domain ${domain} has a wrong length`);
    const keys = deriveDomainKeys(secret);
    const publicKey = publicKeyOf(keys.signingSeed);
    if (!generations.every((generation) => equalBytes(generation.publicKey, publicKey))) {
      throw new HoldfastError('E_DAMAGED', `the keys of domain ${domain} do not belong together`);
    }
    const dataKeys: DataKey[] = [];
    for (const { generation, dataKey } of generations) {
      const key =
        this.#keyRing === undefined ? undefined : await this.#unwrap(dataKey, this.#dataKeyContext(domain, generation));
      dataKeys.push(toDataKey(generation, key, keys.plainTagKey));
    }
    return { repository: this.id, domain, keys, dataKey: dataKeys.at(-1) as DataKey, dataKeys, publicKey };
  }

  async #unwrap(wrapped: Uint8Array, context: string): Promise<Uint8Array> {
    return this.#keyRing === undefined ? wrapped : await this.#keyRing.unwrap(wrapped, context);
  }
}
