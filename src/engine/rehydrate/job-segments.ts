/**
 * The segments of one job, opened when they are first needed. A bounded number of plaintexts stays, in memory that is reused
 * from job to job; files of a job come in the order of their segments, so each is opened about once.
 */
import type { DataKey, DomainKeys } from '../format/keys.ts';
import { contentId } from '../format/keys.ts';
import { type FrameCodec, PackReader } from '../format/pack.ts';
import { HoldfastError, invariant } from '../model/errors.ts';
import type { JobChunk, JobPack, JobSegment } from './restore-job.ts';

/** Plaintexts kept open: 3 MiB at the largest segments. */
const openMax = 3;
/** A pack's table stays for the jobs that follow. */
const readersMax = 16;

interface OpenSegment {
  readonly number: number;
  readonly plain: Uint8Array;
  readonly bytes: number;
}

/** The bytes of a segment of this job are not what they should be. */
export class DamagedSegment extends Error {
  override readonly name = 'DamagedSegment';
  readonly segment: number;

  constructor(segment: number, why: string) {
    super(why);
    this.segment = segment;
  }
}

export class JobSegments {
  readonly #keys: DomainKeys;
  readonly #dataKeys: readonly DataKey[];
  readonly #compressor: FrameCodec;
  readonly #readers = new Map<string, PackReader>();
  #segments: readonly JobSegment[] = [];
  #buffers: readonly (Uint8Array | undefined)[] = [];
  /** The one used last comes last. */
  #open: OpenSegment[] = [];
  /** Memory of closed segments. */
  #free: Uint8Array[] = [];

  constructor(keys: DomainKeys, dataKeys: readonly DataKey[], compressor: FrameCodec) {
    this.#keys = keys;
    this.#dataKeys = dataKeys;
    this.#compressor = compressor;
  }

  /** `buffers`: ciphertext by number; undefined where it could not be had. */
  begin(segments: readonly JobSegment[], buffers: readonly (Uint8Array | undefined)[]): void {
    this.#segments = segments;
    this.#buffers = buffers;
    this.#closeAll();
  }

  end(): void {
    this.#segments = [];
    this.#buffers = [];
    this.#closeAll();
  }

  get count(): number {
    return this.#segments.length;
  }

  /** The plaintext of segment `number` of the job, valid until the next call. DamagedSegment. */
  plain(number: number): Uint8Array {
    const open = this.#open;
    const last = open[open.length - 1];
    if (last?.number === number) return last.plain;
    for (let i = open.length - 2; i >= 0; i--) {
      const found = open[i] as OpenSegment;
      if (found.number !== number) continue;
      open.splice(i, 1);
      open.push(found);
      return found.plain;
    }
    return this.#openSegment(number);
  }

  /** The plaintext of the chunk's segment, in which the chunk was proven to be what its id says. DamagedSegment. */
  proven(chunk: JobChunk): Uint8Array {
    const plain = this.plain(chunk.segment);
    const end = chunk.offset + chunk.bytes;
    if (end > plain.length) throw new DamagedSegment(chunk.segment, 'a chunk reaches beyond its segment');
    const id = contentId(this.#keys, plain, chunk.offset, end);
    for (let i = 0; i < 32; i++) {
      if (id[i] !== chunk.id[i]) throw new DamagedSegment(chunk.segment, 'a chunk does not match its id');
    }
    return plain;
  }

  #openSegment(number: number): Uint8Array {
    const segment = this.#segments[number];
    invariant(segment !== undefined, 'a job names its own segments');
    const buffer = this.#buffers[segment.buffer];
    if (buffer === undefined) throw new DamagedSegment(number, 'it could not be read');
    try {
      const reader = this.#reader(segment.pack);
      const { plainBytes } = reader.segmentRange(segment.number);
      const into = this.#memory(plainBytes);
      const sealed = buffer.subarray(segment.start, segment.start + segment.length);
      const bytes = reader.openSegment(segment.number, sealed, this.#compressor, into);
      const plain = into.subarray(0, bytes);
      this.#open.push({ number, plain, bytes });
      return plain;
    } catch (error) {
      if (error instanceof HoldfastError && error.code === 'E_DAMAGED') throw new DamagedSegment(number, error.message);
      throw error;
    }
  }

  #reader(pack: JobPack): PackReader {
    const name = `${pack.identity.lineage}/${pack.name}`;
    const known = this.#readers.get(name);
    if (known !== undefined) return known;
    const dataKey = this.#dataKeys.find((key) => key.generation === pack.generation);
    invariant(dataKey !== undefined, 'the coordinator opened the pack with the same keys');
    const reader = PackReader.open(pack.name, pack.identity, dataKey, pack.footer, pack.bytes);
    if (this.#readers.size >= readersMax) {
      for (const oldest of this.#readers.keys()) {
        this.#readers.delete(oldest);
        break;
      }
    }
    this.#readers.set(name, reader);
    return reader;
  }

  #memory(bytes: number): Uint8Array {
    if (this.#open.length >= openMax) this.#free.push(whole((this.#open.shift() as OpenSegment).plain));
    for (let i = this.#free.length - 1; i >= 0; i--) {
      const memory = this.#free[i] as Uint8Array;
      if (memory.length < bytes) continue;
      this.#free.splice(i, 1);
      return memory;
    }
    this.#free.pop();
    return new Uint8Array(bytes);
  }

  #closeAll(): void {
    for (const { plain } of this.#open) {
      if (this.#free.length < openMax) this.#free.push(whole(plain));
    }
    this.#open = [];
  }
}

function whole(view: Uint8Array): Uint8Array {
  return new Uint8Array(view.buffer);
}
