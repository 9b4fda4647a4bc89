import { lineagesPrefix, logPrefix, parseLineageKey } from '../format/object-keys.ts';
import { HoldfastError, isHoldfastError } from '../model/errors.ts';
import type { LineageName } from '../model/ids.ts';
import type { ObjectReader } from '../ports/object-store.ts';
import { LineageLog } from './log.ts';
import { type DomainAccess, domainOf, type Repository } from './repository.ts';

interface Waiting {
  readonly signal?: AbortSignal;
}

/**
 * The log of a lineage, for reading. E_NOT_FOUND when nothing was ever stored there; E_EXPECTED_MISSING when it has records but
 * the keys of its domain are gone.
 */
export async function openLog(
  store: ObjectReader,
  repository: Repository,
  lineage: LineageName,
  options: Waiting = {},
): Promise<{ readonly log: LineageLog; readonly access: DomainAccess }> {
  const domain = domainOf(lineage);
  try {
    const access = await repository.openDomain(domain, options);
    return { log: new LineageLog(store, access, lineage), access };
  } catch (error) {
    if (!isHoldfastError(error, 'E_NOT_FOUND')) throw error;
    const records = await store.list(logPrefix(lineage), { ...options, limit: 1 });
    if (records.length === 0) throw new HoldfastError('E_NOT_FOUND', `nothing was ever stored under ${lineage}`);
    throw new HoldfastError(
      'E_EXPECTED_MISSING',
      `${lineage} has records, but the keys of domain ${domain} are missing`,
    );
  }
}

/**
 * Lineages of a repository in the order of their keys: one short LIST each, however many objects they have. A very long name is not
 * told by its key; its prefix still is.
 */
export async function* listLineages(
  store: ObjectReader,
  options: Waiting = {},
): AsyncGenerator<{ readonly prefix: string; readonly lineage: LineageName | undefined }> {
  let after = '';
  for (;;) {
    const [next] = await store.list(lineagesPrefix, { ...options, limit: 1, ...(after ? { after } : {}) });
    if (next === undefined) return;
    const found = parseLineageKey(next.key);
    if (found === undefined) {
      after = next.key;
      continue;
    }
    yield { prefix: found.prefix, lineage: found.lineage };
    // '0' is the character after '/': the first key that is not below the prefix.
    after = `${found.prefix.slice(0, -1)}0`;
  }
}
