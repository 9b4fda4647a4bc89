/**
 * Copies lineages of a repository to a second store: the repository object, the keys of a domain, then each lineage's records in the
 * order of their slots, each after all that it lists. docs/decisions/0065-copy.md.
 */
import { lineagePrefix, logPrefix } from '../format/object-keys.ts';
import { listLineages } from '../lineage/open-log.ts';
import { domainOf } from '../lineage/repository.ts';
import { HoldfastError, isHoldfastError } from '../model/errors.ts';
import type { LineageName } from '../model/ids.ts';
import { CopiedDomain, type CopiedRepository } from './copy-keys.ts';
import { LineageCopy } from './copy-lineage.ts';
import type { CopyParts, Waiting } from './copy-parts.ts';

export interface CopiedLineage {
  /** Its name, or the prefix of its keys where those do not tell it. */
  readonly name: string;
  readonly copy: LineageCopy | undefined;
  /** What ended its last round; undefined: all that was found was copied. */
  error: HoldfastError | undefined;
  /** No further round would change it: somebody has to decide or mend first. */
  stopped: boolean;
}

const lineagesAtOnce = 4;

export class RepositoryCopy {
  readonly lineages: Map<string, CopiedLineage> = new Map();
  readonly #parts: CopyParts;
  readonly #repository: CopiedRepository;
  readonly #only: readonly LineageName[];
  readonly #domains = new Map<string, Promise<CopiedDomain>>();

  /** `only`: these lineages; empty: every one there is, also those that begin later. */
  constructor(parts: CopyParts, repository: CopiedRepository, only: readonly LineageName[]) {
    this.#parts = parts;
    this.#repository = repository;
    this.#only = only;
  }

  /** Finds lineages: one short LIST each. E_NOT_FOUND for one that was named and was never stored. */
  async discover(options: Waiting = {}): Promise<void> {
    if (this.#only.length > 0) {
      for (const lineage of this.#only) if (!this.lineages.has(lineage)) await this.#add(lineage, true, options);
      return;
    }
    for await (const { lineage, prefix } of listLineages(this.#parts.source, options)) {
      if (lineage === undefined) this.#addUnnamed(prefix);
      else if (!this.lineages.has(lineage)) await this.#add(lineage, false, options);
    }
  }

  /**
   * One round over all lineages. What ends the round of one does not end that of the others: it stands in its `error`. Thrown is E_ABORTED
   * alone, and what is a defect. `notes`: also what lies beside the logs, which takes two LISTs each.
   */
  async round(settings: { readonly notes: boolean }, options: Waiting = {}): Promise<void> {
    const waiting = [...this.lineages.values()].filter(({ copy, stopped }) => copy !== undefined && !stopped);
    const worker = async (): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift())
        await copyOne(next, settings, options);
    };
    const done = await Promise.allSettled(Array.from({ length: lineagesAtOnce }, worker));
    const failed = done.find(({ status }) => status === 'rejected');
    if (failed?.status === 'rejected') throw failed.reason;
  }

  async #add(lineage: LineageName, named: boolean, options: Waiting): Promise<void> {
    let domain: CopiedDomain;
    try {
      domain = await this.#domainOf(domainOf(lineage), options);
    } catch (error) {
      if (!isHoldfastError(error) || error.code === 'E_ABORTED' || isOutage(error)) throw error;
      const failure = error.code === 'E_NOT_FOUND' ? await this.#withoutKeys(lineage, named, options) : error;
      if (failure !== undefined) this.lineages.set(lineage, stoppedBy(lineage, failure));
      return;
    }
    if (named && (await this.#parts.source.list(logPrefix(lineage), { ...options, limit: 1 })).length === 0) {
      throw new HoldfastError('E_NOT_FOUND', `nothing was ever stored under ${lineage} in the store to copy from`);
    }
    const copy = new LineageCopy(this.#parts, domain, lineage);
    this.lineages.set(lineage, { name: lineage, copy, error: undefined, stopped: false });
  }

  async #withoutKeys(lineage: LineageName, named: boolean, options: Waiting): Promise<HoldfastError | undefined> {
    const [record] = await this.#parts.source.list(logPrefix(lineage), { ...options, limit: 1 });
    if (record !== undefined) {
      return new HoldfastError('E_EXPECTED_MISSING', `${lineage} has records, but the keys of its domain are missing`);
    }
    if (named)
      throw new HoldfastError('E_NOT_FOUND', `nothing was ever stored under ${lineage} in the store to copy from`);
    return undefined;
  }

  #addUnnamed(prefix: string): void {
    if (this.lineages.has(prefix) || [...this.#only].some((lineage) => lineagePrefix(lineage) === prefix)) return;
    const error = new HoldfastError('E_USAGE', 'the name is too long to be told by its key', {
      remedy: 'Copy it by itself: holdfast copy --lineage NAME.',
    });
    this.lineages.set(prefix, stoppedBy(prefix, error));
  }

  async #domainOf(domain: string, options: Waiting): Promise<CopiedDomain> {
    let opening = this.#domains.get(domain);
    if (opening === undefined) {
      opening = CopiedDomain.open(this.#parts, this.#repository, domain, options);
      this.#domains.set(domain, opening);
      opening.catch(() => this.#domains.delete(domain));
    }
    return await opening;
  }
}

function stoppedBy(name: string, error: HoldfastError): CopiedLineage {
  return { name, copy: undefined, error, stopped: true };
}

async function copyOne(entry: CopiedLineage, { notes }: { readonly notes: boolean }, options: Waiting): Promise<void> {
  const { copy } = entry;
  if (copy === undefined) return;
  try {
    await copy.look(options);
    await copy.copy(options);
    if (notes) await copy.copyNotes(options);
    entry.error = undefined;
  } catch (error) {
    if (!isHoldfastError(error) || error.code === 'E_INTERNAL') throw error;
    if (options.signal?.aborted) throw new HoldfastError('E_ABORTED', 'the copy was interrupted', { cause: error });
    entry.error = error;
    entry.stopped = !isOutage(error);
  }
}

/** What may pass by itself, or when somebody mends a store: worth another round. */
export function isOutage(error: HoldfastError): boolean {
  return error.code.startsWith('E_STORE_') || error.code === 'E_LIMIT';
}
