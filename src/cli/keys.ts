/** `holdfast keys`: which key the repository has, and which generations of data keys its domains have. */
import { listLineages } from '../engine/lineage/open-log.ts';
import { domainOf, openRepository } from '../engine/lineage/repository.ts';
import { HoldfastError } from '../engine/model/errors.ts';
import type { Host } from './host.ts';
import type { Parsed } from './options.ts';
import { formatCount, printTable } from './print.ts';
import { encryptionOf, formOf, keyRingOf, noArguments } from './session.ts';

interface DomainRow {
  readonly domain: string;
  readonly generations: readonly number[];
  readonly lineages: number;
  readonly error: HoldfastError | undefined;
}

export async function keys(host: Host, parsed: Parsed): Promise<number> {
  const form = formOf('keys', parsed);
  noArguments('keys', parsed);
  await using store = await host.openReader(parsed.required('store'));
  const keyRing = await keyRingOf(host, parsed);
  const { signal } = host;
  const repository = await openRepository(store, { keyRing, encryption: encryptionOf('keys', parsed) }, { signal });
  const lineages = new Map<string, number>();
  for await (const { lineage } of listLineages(store, { signal })) {
    if (lineage !== undefined) lineages.set(domainOf(lineage), (lineages.get(domainOf(lineage)) ?? 0) + 1);
  }
  const rows: DomainRow[] = [];
  for (const [domain, count] of lineages) {
    try {
      const { dataKeys } = await repository.openDomain(domain, { signal });
      const generations = dataKeys.map(({ generation }) => generation);
      rows.push({ domain, generations, lineages: count, error: undefined });
    } catch (error) {
      if (!(error instanceof HoldfastError) || signal.aborted) throw error;
      rows.push({ domain, generations: [], lineages: count, error });
    }
  }
  const failed = rows.find(({ error }) => error !== undefined)?.error;
  const { id, encryption, formatVersion } = repository;
  if (form === 'json') {
    const domains = rows.map(({ error, ...row }) => ({
      ...row,
      ...(error === undefined ? {} : { error: { code: error.code, message: error.message } }),
    }));
    const keyId = keyRing?.keyId ?? null;
    host.stdout.write(`${JSON.stringify({ repository: id, encryption, formatVersion, keyId, domains })}\n`);
    return failed?.exit ?? 0;
  }
  host.stdout.write(`repository  ${id}\nencryption  ${encryption}\n`);
  if (keyRing !== undefined) host.stdout.write(`key         ${keyRing.keyId}\n`);
  if (rows.length > 0) {
    host.stdout.write('\n');
    printTable(host.stdout, [
      ['DOMAIN', 'DATA KEYS', 'LINEAGES'],
      ...rows.map(({ domain, generations, lineages: count, error }) => [
        domain,
        error === undefined ? generations.join(', ') : `${error.code}: ${error.message}`,
        formatCount(count),
      ]),
    ]);
  }
  return failed?.exit ?? 0;
}
