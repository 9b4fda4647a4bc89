/** A pod that keeps checkpoints in one store, and copies of that store. */
import { createHash } from 'node:crypto';
import { chooseCompressor } from '../../../src/edge/host/choose-compressor.ts';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { parseLogKey } from '../../../src/engine/format/object-keys.ts';
import { LineageLog } from '../../../src/engine/lineage/log.ts';
import { createRepository, domainOf, type Repository } from '../../../src/engine/lineage/repository.ts';
import { toHex } from '../../../src/engine/model/bytes.ts';
import { type LineageName, toLineageName } from '../../../src/engine/model/ids.ts';
import type { Clock } from '../../../src/engine/ports/clock.ts';
import type { KeyRing } from '../../../src/engine/ports/key-ring.ts';
import type { ObjectReader, ObjectWriter } from '../../../src/engine/ports/object-store.ts';
import { ByteBudget } from '../../../src/engine/replicate/byte-budget.ts';
import { copyRepositoryObject } from '../../../src/engine/replicate/copy-keys.ts';
import type { CopyParts } from '../../../src/engine/replicate/copy-parts.ts';
import { RepositoryCopy } from '../../../src/engine/replicate/copy-repository.ts';
import { listedObjects } from '../../../src/engine/replicate/listed-objects.ts';
import { ManualClock, Pod, seededRandom } from '../../support/capture-fixture.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';
import { restore } from '../../support/restore-fixture.ts';
import { keyRingOf } from '../lineage/fixture.ts';

const codec: Awaited<ReturnType<typeof chooseCompressor>> = await chooseCompressor('zlib');
export const lineage: LineageName = toLineageName('team/app/0');

/** Bytes that do not compress, the same for one seed. */
export function noise(bytes: number, seed: number): Uint8Array {
  let state = Math.imul(seed, 0x9e3779b1) | 1;
  return Uint8Array.from({ length: bytes }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state & 0xff;
  });
}

export class Origin {
  readonly store: MemoryStore = new MemoryStore();
  readonly disk: MemoryFileSystem = new MemoryFileSystem();
  readonly clock: ManualClock = new ManualClock();
  readonly repository: Repository;
  readonly keyRing: KeyRing | undefined;
  readonly pod: Pod;

  private constructor(
    repository: Repository,
    keyRing: KeyRing | undefined,
    store: MemoryStore,
    pod: (o: Origin) => Pod,
  ) {
    this.repository = repository;
    this.keyRing = keyRing;
    this.store = store;
    this.pod = pod(this);
  }

  /** A repository with a claim, a checkpoint in packs, and one that is inlined. */
  static async start(
    options: { readonly encryption?: 'aes-256-gcm' | 'none'; readonly largeBytes?: number } = {},
  ): Promise<Origin> {
    const { encryption = 'aes-256-gcm', largeBytes = 600_000 } = options;
    const store = new MemoryStore();
    const disk = new MemoryFileSystem();
    const clock = new ManualClock();
    const keyRing = encryption === 'none' ? undefined : await keyRingOf('copy');
    const making = { store, clock, random: seededRandom('repository') };
    const repository = await createRepository({ keyRing, encryption }, making);
    const access = await repository.openOrMakeDomain(domainOf(lineage), making);
    const pod = await Pod.start({ store, files: new MemoryFileTree(disk), clock, access });
    const origin = new Origin(repository, keyRing, store, () => pod);
    Object.assign(origin, { disk, clock });
    disk.mkdir('src');
    disk.writeFile('src/large', noise(largeBytes, 1));
    await origin.checkpoint('first');
    await origin.checkpoint('second');
    return origin;
  }

  /** One checkpoint more; a large one does not fit into its record. */
  async checkpoint(text: string, largeBytes = 0): Promise<void> {
    this.clock.ms += 60_000;
    this.disk.writeFile('src/text', text);
    if (largeBytes > 0) this.disk.writeFile(`src/large-${text}`, noise(largeBytes, text.length));
    await this.pod.capture({ path: 'src', packBytesTarget: 64 * 1024 * 1024 });
  }

  async root(store: ObjectReader = this.store): Promise<string> {
    const log = new LineageLog(store, this.pod.access, lineage);
    const record = await log.newest({ wanted: ({ header }) => header.kind === 'CHECKPOINT' });
    return record === undefined ? '' : toHex(log.body(record).setRoot);
  }

  /** Restores the newest checkpoint of a store, and captures what came of it in a dry run: its root. */
  async restoredRoot(store: ObjectReader): Promise<string> {
    const disk = new MemoryFileSystem();
    const files = new MemoryFileTree(disk);
    const outcome = await restore({ store, lineage, access: this.pod.access, files, path: 'src' });
    const [restored] = outcome.volumes;
    if (restored === undefined || restored.damage !== undefined) throw new Error('the restore is not whole');
    const pod = await Pod.start({
      store: new MemoryStore(),
      files,
      access: this.pod.access,
      holder: 'looker',
      cache: undefined,
    });
    const again = await pod.capture({ path: 'src', dryRun: true });
    return toHex(again.root);
  }
}

export interface CopyOptions {
  readonly keyRing?: KeyRing | undefined;
  readonly only?: readonly LineageName[];
  readonly clock?: Clock;
  readonly signal?: AbortSignal;
  readonly begin?: (() => Promise<void>) | undefined;
}

export async function openCopy(
  source: ObjectReader,
  target: ObjectWriter,
  options: CopyOptions = {},
): Promise<RepositoryCopy> {
  const clock = options.clock ?? new ManualClock();
  const waiting = options.signal === undefined ? {} : { signal: options.signal };
  const begin = 'begin' in options ? options.begin : async (): Promise<void> => undefined;
  const repository = await copyRepositoryObject(
    { source, target, clock },
    { keyRing: options.keyRing, begin },
    waiting,
  );
  const parts: CopyParts = {
    source,
    target,
    clock,
    codec,
    budget: new ByteBudget(160 * 1024 * 1024, 16),
    progress: { objects: 0, objectsTotal: 0, bytes: 0, bytesTotal: 0 },
    onProgress: () => undefined,
  };
  const copy = new RepositoryCopy(parts, repository, options.only ?? []);
  await copy.discover(waiting);
  return copy;
}

/** All that there is, once. */
export async function copyOnce(
  source: ObjectReader,
  target: ObjectWriter,
  options: CopyOptions = {},
): Promise<RepositoryCopy> {
  const copy = await openCopy(source, target, options);
  await copy.round({ notes: true }, options.signal === undefined ? {} : { signal: options.signal });
  return copy;
}

/** The one lineage of these tests. */
export function onlyOf(copy: RepositoryCopy): NonNullable<ReturnType<RepositoryCopy['lineages']['get']>> {
  const found = copy.lineages.get(lineage);
  if (found === undefined) throw new Error('the lineage was found');
  return found;
}

/** Keys, and digests of what is there. */
export function contentsOf(store: MemoryStore): Readonly<Record<string, string>> {
  const contents: Record<string, string> = {};
  for (const [key, { bytes }] of [...store.snapshot()].sort(([a], [b]) => (a < b ? -1 : 1)))
    contents[key] = createHash('sha256').update(bytes).digest('hex');
  return contents;
}

/** What is wrong with a store as a repository: a record without what it lists, or that is not valid. */
export async function flawsOf(store: MemoryStore, origin: Origin): Promise<readonly string[]> {
  const flaws: string[] = [];
  const objects = store.snapshot();
  const keys = [...objects.keys()];
  if (!keys.includes('v1/repo') && keys.length > 0) flaws.push('objects without a repository');
  const log = new LineageLog(store, origin.pod.access, lineage);
  for await (const { slot, reading } of log.entries()) {
    if (!reading.valid) {
      flaws.push(`record ${slot} is void: ${reading.detail}`);
      continue;
    }
    for (const object of await listedObjects(log, reading.record)) {
      const bytes = objects.get(object.key)?.bytes.length;
      if (bytes === undefined) flaws.push(`record ${slot} without ${object.key}`);
      else if (object.kind !== 'record' && bytes !== object.bytes) flaws.push(`${object.key} is partial`);
    }
  }
  if (keys.some((key) => parseLogKey(lineage, key) !== undefined) && !keys.some((key) => key.startsWith('v1/key/'))) {
    flaws.push('records without keys');
  }
  return flaws;
}
