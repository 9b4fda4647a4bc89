/**
 * One pod on one memory disk: captures its volumes into a store with the real engine, in the calling thread, without a
 * clock or chance of its own.
 */
import { createHash } from 'node:crypto';
import { ObservedWriter, StoreTraffic } from '../../src/edge/store/observed-store.ts';
import { MemoryStore } from '../../src/edge/store/memory-store.ts';
import { KeptNodes } from '../../src/engine/capture/kept-nodes.ts';
import { capture } from '../../src/engine/capture/capture.ts';
import type { WatchedVolume } from '../../src/engine/capture/watched-volume.ts';
import type { CaptureOutcome } from '../../src/engine/capture/capture-outcome.ts';
import type { ApplicationPause, CaptureOptions, CaptureSettings } from '../../src/engine/capture/capture-request.ts';
import { makeSelection } from '../../src/engine/capture/select.ts';
import { claimLineage } from '../../src/engine/lineage/claim.ts';
import type { CommitBase, LineageWriter } from '../../src/engine/lineage/lineage-writer.ts';
import { createRepository, type DomainAccess, domainOf } from '../../src/engine/lineage/repository.ts';
import { concatBytes } from '../../src/engine/model/bytes.ts';
import { type LineageName, toHolderId, toLineageName, toVolumeName } from '../../src/engine/model/ids.ts';
import type { Clock } from '../../src/engine/ports/clock.ts';
import type { Compressor } from '../../src/engine/ports/compressor.ts';
import type { FileTreeReader } from '../../src/engine/ports/file-tree.ts';
import type { HolderState } from '../../src/engine/ports/holder-store.ts';
import type { LocalCache } from '../../src/engine/ports/local-cache.ts';
import type { ObjectWriter } from '../../src/engine/ports/object-store.ts';
import type { RandomSource } from '../../src/engine/ports/random.ts';
import { SegmentSource } from '../../src/engine/tree/segment-source.ts';
import type { NodeSource } from '../../src/engine/tree/node-access.ts';
import { chooseCompressor } from '../../src/edge/host/choose-compressor.ts';
import { MemoryCache } from './memory-cache.ts';

export class ManualClock implements Clock {
  ms: number;

  /** Not a whole second: such stamps are those of a file system that keeps no finer ones. */
  constructor(ms: number = Date.UTC(2026, 0, 1, 0, 0, 0, 500)) {
    this.ms = ms;
  }

  nowMs(): number {
    return this.ms;
  }
  monotonicMs(): number {
    return this.ms;
  }
  async wait(ms: number): Promise<void> {
    this.ms += ms;
  }
}

export function seededRandom(seed: string): RandomSource {
  let count = 0;
  return {
    bytes(length: number): Uint8Array {
      const parts: Uint8Array[] = [];
      for (let made = 0; made < length; made += 32) {
        parts.push(new Uint8Array(createHash('sha256').update(`${seed}/${count++}`).digest()));
      }
      return concatBytes(parts).subarray(0, length);
    },
  };
}

const compressor: Compressor = await chooseCompressor('zlib');

export interface PodOptions {
  readonly store?: ObjectWriter;
  readonly files: FileTreeReader;
  readonly clock?: Clock;
  readonly random?: RandomSource;
  readonly lineage?: string;
  readonly holder?: string;
  readonly cache?: LocalCache | undefined;
  readonly access?: DomainAccess;
}

const defaults: Omit<CaptureSettings, 'volumes'> = {
  laneCount: 0,
  level: 1,
  dataSegmentBytes: 256 * 1024,
  metaSegmentBytes: 64 * 1024,
  packBytesTarget: 4 * 1024 * 1024,
  isolated: false,
  inlineBytesMax: 256 * 1024,
  extraPassesMax: 3,
  convergeMsMax: 60_000,
  partialBytes: Number.MAX_SAFE_INTEGER,
  final: false,
  quiesced: false,
  trustCache: true,
};

export class Pod {
  readonly files: FileTreeReader;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly traffic: StoreTraffic = new StoreTraffic();
  readonly store: ObjectWriter;
  readonly lineage: LineageName;
  readonly access: DomainAccess;
  readonly #holder: string;
  cache: LocalCache | undefined;
  #state: HolderState;
  #writer: LineageWriter | undefined;
  #kept: KeptNodes = new KeptNodes();

  private constructor(options: PodOptions, store: ObjectWriter, access: DomainAccess) {
    this.files = options.files;
    this.clock = options.clock ?? new ManualClock();
    this.random = options.random ?? seededRandom(options.holder ?? 'pod');
    this.store = new ObservedWriter(store, this.traffic);
    this.lineage = toLineageName(options.lineage ?? 'team/app/0');
    this.access = access;
    this.#holder = options.holder ?? 'pod-1';
    this.cache = 'cache' in options ? options.cache : new MemoryCache();
    this.#state = { holder: toHolderId(this.#holder), claims: [], last: undefined, includes: 0 as never };
  }

  static async start(options: PodOptions): Promise<Pod> {
    const store = options.store ?? new MemoryStore();
    if (options.access !== undefined) return new Pod(options, store, options.access);
    const random = seededRandom('repository');
    const clock = new ManualClock();
    const repository = await createRepository({ keyRing: undefined, encryption: 'none' }, { store, clock, random });
    const lineage = toLineageName(options.lineage ?? 'team/app/0');
    return new Pod(options, store, await repository.openOrMakeDomain(domainOf(lineage), { store, clock, random }));
  }

  /** The process is gone; what it kept on disk and its holder's state stay. */
  restart(): void {
    this.forgetNodes();
    this.#writer = undefined;
  }

  /** The next capture reads what it needs of the base from the store. */
  forgetNodes(): void {
    this.#kept = new KeptNodes();
  }

  async writer(): Promise<LineageWriter> {
    if (this.#writer === undefined) {
      this.#writer = await claimLineage({
        store: this.store,
        access: this.access,
        lineage: this.lineage,
        holder: {
          load: async () => this.#state,
          save: async (state) => {
            this.#state = state;
          },
        },
        holderName: this.#holder,
        clock: this.clock,
        random: this.random,
        liveness: { isGone: async () => 'unknown' },
        policy: 'person',
      });
      this.#writer.restoreCompleted();
    }
    return this.#writer;
  }

  sourceOf(base: Pick<CommitBase, 'packs'> | undefined): NodeSource {
    return new SegmentSource({
      store: this.store,
      compressor,
      lineage: this.lineage,
      repository: this.access.repository,
      domain: this.access.domain,
      dataKeys: this.access.dataKeys,
      publicKey: this.access.publicKey,
      packs: base?.packs ?? [],
    });
  }

  /** One checkpoint of the directory `path` as the volume `data`, or of several volumes. */
  async capture(
    settings: Partial<CaptureSettings> & {
      readonly path?: string;
      readonly include?: readonly string[];
      readonly exclude?: readonly string[];
      readonly dryRun?: boolean;
      readonly watched?: WatchedVolume;
      readonly signal?: AbortSignal;
      readonly application?: ApplicationPause;
      readonly onProgress?: CaptureOptions['onProgress'];
    } = {},
  ): Promise<CaptureOutcome> {
    const { path = '', include = [], exclude = [], dryRun = false, watched, signal, application, ...others } = settings;
    const { onProgress, ...rest } = others;
    const writer = await this.writer();
    return await capture(
      {
        files: this.files,
        store: this.store,
        compressor,
        clock: this.clock,
        random: this.random,
        cache: this.cache,
        lanes: {
          start: () => {
            throw new Error('these captures stay in the calling thread');
          },
        },
      },
      {
        volumes: [{ name: toVolumeName('data'), path, selection: makeSelection(include, exclude), watched }],
        ...defaults,
        ...rest,
      },
      {
        lineage: this.lineage,
        keys: this.access.keys,
        packs: {
          identity: {
            repository: this.access.repository,
            domain: this.access.domain,
            lineage: this.lineage,
            epoch: writer.epoch,
          },
          dataKey: this.access.dataKey,
        },
        writer: dryRun ? undefined : writer,
        base: writer.base,
        sourceOf: (base) => this.sourceOf(base),
        kept: this.#kept,
      },
      {
        application,
        ...(signal === undefined ? {} : { signal }),
        ...(onProgress === undefined ? {} : { onProgress }),
      },
    );
  }
}
