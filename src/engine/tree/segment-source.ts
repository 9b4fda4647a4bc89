/**
 * Reads the committed bytes of a lineage, segment by segment; segments read last stay decrypted, within a budget. This is where
 * trees get their nodes from, and small files their content.
 */
import type { FrameCodec } from '../format/pack.ts';
import type { Place } from '../model/entry.ts';
import { HoldfastError } from '../model/errors.ts';
import { reread } from '../model/reread.ts';
import { MetadataRanges } from './metadata-ranges.ts';
import type { NodeSource } from './node-access.ts';
import {
  locationIn,
  named,
  naming,
  type OpenedPack,
  type PackAccess,
  PackDirectory,
  type SegmentLocation,
} from './pack-directory.ts';
import { WeightedCache } from './weighted-cache.ts';

export interface SegmentSourceOptions extends PackAccess {
  readonly compressor: FrameCodec;
  /** Budget of decrypted segments, default 16 MiB. */
  readonly cacheBytes?: number;
}

const defaultCacheBytes: number = 16 * 1024 * 1024;

/**
 * Errors of all methods: E_DAMAGED naming object, pack and segment when they are missing or changed, or when a place lies outside;
 * E_STORE_*; E_ABORTED. What a segment holds is authentic, but only a content or node id proves that it is what was asked for.
 */
export class SegmentSource implements NodeSource {
  readonly packs: PackDirectory;
  readonly #compressor: FrameCodec;
  readonly #segments: WeightedCache<Uint8Array>;
  readonly #reading = new Map<string, Promise<Uint8Array>>();
  readonly #metadata: MetadataRanges;

  constructor(options: SegmentSourceOptions) {
    this.packs = new PackDirectory(options);
    this.#compressor = options.compressor;
    this.#segments = new WeightedCache(options.cacheBytes ?? defaultCacheBytes);
    const { store, signal } = options;
    const waiting = signal === undefined ? {} : { signal };
    this.#metadata = new MetadataRanges((key, start, length) => store.getRange(key, start, length, waiting));
  }

  /** The `nodeBytes` bytes at `place`: a view of the segment, at once when that is at hand. */
  load(place: Place, nodeBytes: number): Uint8Array | Promise<Uint8Array> {
    const segment = this.segment(place);
    return segment instanceof Promise
      ? segment.then((plain) => this.#part(plain, place, nodeBytes))
      : this.#part(segment, place, nodeBytes);
  }

  /** The whole plaintext of the segment of `place`; nobody writes into it. */
  segment(place: Place): Uint8Array | Promise<Uint8Array> {
    const name = `${place.origin}/${place.slot}/${place.pack}/${place.segment}`;
    const known = this.#segments.get(name) ?? this.#reading.get(name);
    if (known !== undefined) return known;
    const reading = this.#read(name, place).finally(() => this.#reading.delete(name));
    this.#reading.set(name, reading);
    return reading;
  }

  /** Where the segment of `place` lies in the store; opens the pack's footer when it is not known yet. */
  locate(place: Place): SegmentLocation | Promise<SegmentLocation> {
    return this.packs.locate(place);
  }

  async #read(name: string, place: Place): Promise<Uint8Array> {
    const pack = await this.packs.pack(place);
    const plain = await this.#open(pack, place.segment);
    this.#segments.keep(name, plain, plain.length);
    return plain;
  }

  async #open(pack: OpenedPack, segment: number): Promise<Uint8Array> {
    return await naming(pack.key, pack.name, segment, async () => {
      const { plainBytes } = locationIn(pack, segment);
      const plain = new Uint8Array(plainBytes);
      let held = true;
      return await reread(async () => {
        const sealed = await this.#sealed(pack, segment, held);
        held = false;
        pack.reader.openSegment(segment, sealed, this.#compressor, plain);
        return plain;
      });
    });
  }

  /** With `held` also from what was read with something else before. */
  async #sealed(pack: OpenedPack, segment: number, held: boolean): Promise<Uint8Array> {
    const { start, length, kind } = locationIn(pack, segment);
    const from = start - pack.start;
    if (pack.bytes !== undefined) return pack.bytes.subarray(from, from + length);
    const { store, signal } = this.packs.access;
    const waiting = signal === undefined ? {} : { signal };
    if (!held) return await store.getRange(pack.key, start, length, waiting);
    const inTail = start - (pack.entry.bytes - pack.footer.length - pack.tail.length);
    if (inTail >= 0) return pack.tail.subarray(inTail, inTail + length);
    if (kind === 'meta') return await this.#metadata.segment(pack, segment);
    return await store.getRange(pack.key, start, length, waiting);
  }

  #part(plain: Uint8Array, place: Place, bytes: number): Uint8Array {
    if (place.offset + bytes <= plain.length) return plain.subarray(place.offset, place.offset + bytes);
    const { origin, slot, pack, segment, offset } = place;
    const why = `${bytes} bytes at ${offset} are not in a segment of ${plain.length}`;
    throw named(new HoldfastError('E_DAMAGED', why), '', `${origin}/${slot}/${pack}`, segment);
  }
}
