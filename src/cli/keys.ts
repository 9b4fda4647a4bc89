/** `holdfast keys`: which key the repository has, and which generations of data keys its domains have; `make` and `rotate` make new ones, `grant` hands out one domain's. */
import { isWorkloadName } from '../contract/annotation-parsers.ts';
import { annotationPrefix } from '../contract/annotations.ts';
import { grantMember, grantSecretName } from '../contract/pod-layout.ts';
import { printKeyGrant } from '../engine/format/key-grant.ts';
import { listLineages } from '../engine/lineage/open-log.ts';
import { domainOf, openRepository } from '../engine/lineage/repository.ts';
import { HoldfastError } from '../engine/model/errors.ts';
import { toLineageName } from '../engine/model/ids.ts';
import type { KeyRing } from '../engine/ports/key-ring.ts';
import type { ObjectReader } from '../engine/ports/object-store.ts';
import type { Host } from './host.ts';
import { type Parsed, usage } from './options.ts';
import { formatCount, printTable } from './print.ts';
import { encryptionOf, formOf, keyRingOf, repositoryOf } from './session.ts';
import { fencingJson, sayUnfenced } from './warnings.ts';

interface DomainRow {
  readonly domain: string;
  readonly generations: readonly number[];
  readonly lineages: number;
  readonly error: HoldfastError | undefined;
}

export async function keys(host: Host, parsed: Parsed): Promise<number> {
  const [action, more] = parsed.positionals;
  if (more !== undefined) throw usage('keys', `keys takes one argument: ${more}`);
  if (action === 'make') return await make(host, parsed);
  if (action === 'rotate') return await rotate(host, parsed);
  if (action === 'grant') return await grant(host, parsed);
  if (action !== undefined)
    throw usage('keys', `${JSON.stringify(action)} is not what keys can do: make, rotate, grant`);
  const form = formOf('keys', parsed);
  await using store = await host.openReader(parsed.required('store'));
  const keyRing = await keyRingOf(host, parsed);
  const { signal } = host;
  const repository = await openRepository(store, { keyRing, encryption: encryptionOf('keys', parsed) }, { signal });
  if (repository.unfenced && form === 'text') sayUnfenced(host);
  const lineages = await domainsOf(store, signal);
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
    host.stdout.write(
      `${JSON.stringify({ repository: id, encryption, ...fencingJson(repository), formatVersion, keyId, domains })}\n`,
    );
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

/** The domains that lineages were stored in, each with how many. */
async function domainsOf(store: ObjectReader, signal: AbortSignal): Promise<ReadonlyMap<string, number>> {
  const lineages = new Map<string, number>();
  for await (const { lineage } of listLineages(store, { signal })) {
    if (lineage !== undefined) lineages.set(domainOf(lineage), (lineages.get(domainOf(lineage)) ?? 0) + 1);
  }
  return lineages;
}

/** The keys of a lineage's workload before its first checkpoint, for writers that may not make keys. */
async function make(host: Host, parsed: Parsed): Promise<number> {
  const form = formOf('keys', parsed);
  const { clock, random, signal, stdout } = host;
  const domain = domainOf(toLineageName(parsed.required('lineage')));
  await using store = await host.openWriter(parsed.required('store'), { create: false });
  const repository = await repositoryOf(host, 'keys', parsed, store);
  const { dataKey } = await repository.openOrMakeDomain(domain, { store, clock, random, signal });
  const { generation } = dataKey;
  if (form === 'text') stdout.write(`${domain}  data key ${generation}\n`);
  else
    stdout.write(`${JSON.stringify({ repository: repository.id, ...fencingJson(repository), domain, generation })}\n`);
  return 0;
}

/** The key ring of a repository, which keeps what it has unwrapped: what it takes to open one domain. */
class RecordingKeyRing implements KeyRing {
  readonly keyId: string;
  readonly publicKey: Uint8Array;
  readonly opened: Map<string, Uint8Array> = new Map();
  readonly #inner: KeyRing;

  constructor(inner: KeyRing) {
    this.keyId = inner.keyId;
    this.publicKey = inner.publicKey;
    this.#inner = inner;
  }

  wrap(secret: Uint8Array, context: string): Promise<Uint8Array> {
    return this.#inner.wrap(secret, context);
  }

  async unwrap(wrapped: Uint8Array, context: string): Promise<Uint8Array> {
    const secret = await this.#inner.unwrap(wrapped, context);
    this.opened.set(context, secret);
    return secret;
  }

  sign(message: Uint8Array): Promise<Uint8Array> {
    return this.#inner.sign(message);
  }
}

/** A Secret of Kubernetes with the keys of one workload and no others, for `kubectl apply -f -`. */
async function grant(host: Host, parsed: Parsed): Promise<number> {
  const { clock, random, signal, stdout } = host;
  const workload = parsed.required('workload');
  const [, namespace, kind, name, more] = workload.split('/');
  if (
    namespace === undefined ||
    kind === undefined ||
    name === undefined ||
    more !== undefined ||
    !isWorkloadName({ kind, name })
  ) {
    throw usage('keys', `--workload is ${JSON.stringify(workload.slice(0, 200))}, not CLUSTER/NAMESPACE/KIND/NAME`);
  }
  if (stdout.isTerminal) {
    throw new HoldfastError('E_USAGE', 'keys grant prints keys, which do not belong on a terminal', {
      remedy: `Send them where they belong: holdfast keys grant --workload ${workload} | kubectl apply -f -`,
    });
  }
  const keyRing = await keyRingOf(host, parsed);
  if (keyRing === undefined) {
    throw new HoldfastError('E_KEY_MISSING', 'a grant is made from the repository key');
  }
  const recording = new RecordingKeyRing(keyRing);
  await using store = await host.openWriter(parsed.required('store'), { create: false });
  const settings = { keyRing: recording, encryption: encryptionOf('keys', parsed) };
  const repository = await openRepository(store, settings, { signal });
  await repository.openOrMakeDomain(toLineageName(workload), { store, clock, random, signal });
  const { keyId, publicKey, opened } = recording;
  const text = printKeyGrant({ keyId, publicKey, domain: workload, secrets: opened });
  const secret = {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      name: grantSecretName({ kind, name }),
      namespace,
      labels: { 'app.kubernetes.io/part-of': 'holdfast' },
      annotations: { [`${annotationPrefix}workload`]: workload },
    },
    type: 'Opaque',
    stringData: { [grantMember]: text },
  };
  stdout.write(`${JSON.stringify(secret)}\n`);
  return 0;
}

async function rotate(host: Host, parsed: Parsed): Promise<number> {
  const form = formOf('keys', parsed);
  const { clock, random, signal, stdout } = host;
  const only = parsed.text('lineage');
  await using store = await host.openWriter(parsed.required('store'), { create: false });
  const repository = await repositoryOf(host, 'keys', parsed, store);
  const domains =
    only === undefined ? [...(await domainsOf(store, signal)).keys()].sort() : [domainOf(toLineageName(only))];
  const rotated: { readonly domain: string; readonly generation: number }[] = [];
  try {
    for (const domain of domains) {
      const { dataKey } = await repository.rotateDataKey(domain, { store, clock, random, signal });
      rotated.push({ domain, generation: dataKey.generation });
    }
  } finally {
    // Also of those before one that failed: they have new keys.
    if (form === 'text') {
      for (const { domain, generation } of rotated) stdout.write(`${domain}  data key ${generation}\n`);
    }
  }
  if (form === 'json')
    stdout.write(`${JSON.stringify({ repository: repository.id, ...fencingJson(repository), rotated })}\n`);
  else if (rotated.length === 0) stdout.write('Nothing has been stored here yet: there are no data keys.\n');
  return 0;
}
