/** The objects that everything else hangs on: the repository object, and the keys of a domain. They are copied first. */
import type { DataKey } from '../format/keys.ts';
import { domainKeyKey, domainKeyPrefix, parseDomainKeyKey, repositoryObjectKey } from '../format/object-keys.ts';
import {
  domainKeyObjectBytesMax,
  readDomainKeyObject,
  readRepositoryObject,
  type RepositoryObject,
  repositoryObjectBytesMax,
} from '../format/repository.ts';
import { createObject } from '../lineage/create-object.ts';
import type { DomainVerifier } from '../lineage/log.ts';
import { openRepository, type Repository } from '../lineage/repository.ts';
import { equalBytes } from '../model/bytes.ts';
import { HoldfastError, isHoldfastError } from '../model/errors.ts';
import type { KeyRing } from '../ports/key-ring.ts';
import type { PackProver } from './copy-pack.ts';
import { damagedTarget, vanished } from './copy-pack.ts';
import type { CopyParts, Waiting } from './copy-parts.ts';

/** The repository of both stores. `opened` when its contents can be read here: with its key, or without encryption. */
export interface CopiedRepository {
  readonly object: RepositoryObject;
  readonly opened: Repository | undefined;
}

/**
 * Makes sure that the second store holds the repository of the first. E_REPOSITORY_MISSING when one of them has none, unless `begin` is
 * given, which is called before the second store gets its first object; E_REPOSITORY_EXISTS when it holds another one; E_KEY_WRONG.
 */
export async function copyRepositoryObject(
  { source, target, clock }: Pick<CopyParts, 'source' | 'target' | 'clock'>,
  settings: { readonly keyRing: KeyRing | undefined; readonly begin: (() => Promise<void>) | undefined },
  options: Waiting = {},
): Promise<CopiedRepository> {
  const reading = { ...options, bytesMax: repositoryObjectBytesMax };
  const bytes = await source.get(repositoryObjectKey, reading);
  if (bytes === undefined) {
    throw new HoldfastError('E_REPOSITORY_MISSING', `there is no ${repositoryObjectKey} in the store to copy from`);
  }
  const object = readRepositoryObject(bytes);
  const { keyRing, begin } = settings;
  const readable = keyRing !== undefined || object.encryption === 'none';
  const opened = readable ? await openRepository(source, { keyRing }, options) : undefined;

  let standing = await target.get(repositoryObjectKey, reading).catch((error: unknown) => {
    if (isHoldfastError(error, 'E_DAMAGED')) throw another();
    throw error;
  });
  if (standing === undefined) {
    if (begin === undefined) {
      throw new HoldfastError('E_REPOSITORY_MISSING', 'the store to copy to holds no repository yet', {
        remedy:
          'If this is a new second store, run again with --init. Else look whether it is mounted, and its address.',
      });
    }
    await begin();
    const made = await createObject({ store: target, clock }, repositoryObjectKey, bytes, {
      bytesMax: repositoryObjectBytesMax,
      signal: options.signal,
    });
    if (made.outcome === 'vanished') throw vanished(repositoryObjectKey);
    standing = made.outcome === 'created' ? bytes : made.occupant;
  }
  if (standing === undefined || !equalBytes(standing, bytes)) throw another();
  return { object, opened };
}

function another(): HoldfastError {
  return new HoldfastError('E_REPOSITORY_EXISTS', 'the store to copy to holds another repository', {
    remedy: 'Copy to an empty store, or to one that was copied from the same repository before. Nothing was written.',
  });
}

/** The keys of one domain, in both stores. */
export class CopiedDomain {
  readonly domain: string;
  readonly #parts: CopyParts;
  readonly #repository: CopiedRepository;
  readonly #copied = new Set<number>();
  #publicKey: Uint8Array | undefined;
  #dataKeys: readonly DataKey[] | undefined;
  #refreshing: Promise<void> | undefined;

  private constructor(parts: CopyParts, repository: CopiedRepository, domain: string) {
    this.#parts = parts;
    this.#repository = repository;
    this.domain = domain;
  }

  /** E_NOT_FOUND when the source has no keys of that domain; E_DIVERGED when the second store has made some of its own. */
  static async open(
    parts: CopyParts,
    repository: CopiedRepository,
    domain: string,
    options: Waiting = {},
  ): Promise<CopiedDomain> {
    const copied = new CopiedDomain(parts, repository, domain);
    await copied.#refresh(options);
    return copied;
  }

  /** Verifies records; no secret is needed for it. */
  get verifier(): DomainVerifier & { readonly dataKeys?: readonly DataKey[] } {
    const dataKeys = this.#dataKeys;
    const publicKey = this.#publicKey as Uint8Array;
    const { id: repository } = this.#repository.object;
    return { repository, domain: this.domain, publicKey, ...(dataKeys === undefined ? {} : { dataKeys }) };
  }

  get prover(): PackProver {
    const { id: repository, encryption } = this.#repository.object;
    return { repository, domain: this.domain, encrypted: encryption !== 'none', dataKeys: this.#dataKeys };
  }

  /** Before a record that was encrypted with that generation is copied, its key is. */
  async ensure(generation: number, options: Waiting = {}): Promise<void> {
    if (this.#copied.has(generation)) return;
    this.#refreshing ??= this.#refresh(options).finally(() => {
      this.#refreshing = undefined;
    });
    await this.#refreshing;
    if (this.#copied.has(generation)) return;
    throw new HoldfastError('E_DAMAGED', `data key ${generation} of domain ${this.domain} is missing`, {
      details: { key: domainKeyKey(this.domain, generation), store: 'source' },
    });
  }

  async #refresh(options: Waiting): Promise<void> {
    const { source } = this.#parts;
    const { object, opened } = this.#repository;
    const listed = await source.list(domainKeyPrefix(this.domain), options);
    let damage: HoldfastError | undefined;
    for (const { key } of listed) {
      const generation = parseDomainKeyKey(this.domain, key);
      if (generation === undefined || this.#copied.has(generation)) continue;
      try {
        const bytes = await source.get(key, { ...options, bytesMax: domainKeyObjectBytesMax });
        if (bytes === undefined) continue;
        const found = readDomainKeyObject(bytes, { repository: object, domain: this.domain, generation });
        this.#publicKey ??= found.publicKey;
        if (!equalBytes(this.#publicKey, found.publicKey)) {
          throw new HoldfastError('E_DAMAGED', `the keys of domain ${this.domain} do not belong together`);
        }
        await this.#copyKey(key, bytes, generation, options);
      } catch (error) {
        // Junk beside genuine keys is passed over, as everybody who opens a domain does.
        if (!isHoldfastError(error, 'E_DAMAGED') || error.details['store'] === 'target') throw error;
        damage = error;
      }
    }
    if (this.#publicKey === undefined) {
      throw damage ?? new HoldfastError('E_NOT_FOUND', `nothing was ever stored for ${this.domain} in this repository`);
    }
    if (opened !== undefined) this.#dataKeys = (await opened.openDomain(this.domain, options)).dataKeys;
  }

  async #copyKey(key: string, bytes: Uint8Array, generation: number, options: Waiting): Promise<void> {
    const { target, clock } = this.#parts;
    let standing: Uint8Array | undefined;
    try {
      standing = await target.get(key, { ...options, bytesMax: domainKeyObjectBytesMax });
    } catch (error) {
      if (isHoldfastError(error, 'E_DAMAGED')) throw damagedTarget(key, 'another object stands in the place of a key');
      throw error;
    }
    if (standing === undefined) {
      const made = await createObject({ store: target, clock }, key, bytes, {
        bytesMax: domainKeyObjectBytesMax,
        signal: options.signal,
      });
      if (made.outcome === 'vanished') throw vanished(key);
      standing = made.outcome === 'created' ? bytes : made.occupant;
    }
    if (standing === undefined || !equalBytes(standing, bytes)) {
      throw new HoldfastError(
        'E_DIVERGED',
        `the second store has a data key ${generation} of its own for domain ${this.domain}`,
        {
          details: { domain: this.domain, generation },
          remedy: 'Somebody went on in the second store. Copy to an empty store, or back from the second one.',
        },
      );
    }
    this.#copied.add(generation);
  }
}
