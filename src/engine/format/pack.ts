/**
 * A pack: many chunks and tree nodes as one object. docs/format/packs.md specifies every byte.
 *
 *   header    8 B   "HFPK", version, flags
 *   segments        each a zstd frame or raw bytes, sealed, with its 16-byte tag
 *   footer          sealed table of the segments
 *   trailer  64 B   what a reader needs to open the footer: salt, first digest, generation, length
 *
 * A place names a segment by its number, not by its position. Numbers are given when a segment is opened, so that places
 * are final at once although a data and a metadata segment fill side by side; the footer maps numbers to positions.
 */
import { ByteWriter, equalBytes, toHex } from '../model/bytes.ts';
import type { Place } from '../model/entry.ts';
import { HoldfastError, invariant } from '../model/errors.ts';
import type { Epoch, LineageName, Slot } from '../model/ids.ts';
import type { DataKey } from './keys.ts';
import { toPackName } from './object-keys.ts';
import {
  firstDigestBytes,
  firstPlaintextDigest,
  PackSeal,
  partKind,
  saltBytes,
  storeMethod,
  tagBytes,
} from './pack-seal.ts';
import { paddedBytes } from './padding.ts';

/** Whose bytes a pack holds: all of it is bound into every part. */
export interface PackIdentity {
  /** Id of the repository, as text. */
  readonly repository: string;
  /** Name of the key domain. */
  readonly domain: string;
  readonly lineage: LineageName;
  /** The only log slot whose record may introduce the pack. */
  readonly slot: Slot;
  readonly epoch: Epoch;
  /** Number among the packs of its slot. */
  readonly pack: number;
}

/** `<slot>-<epoch>-<n>-<first 4 bytes of the salt in hexadecimal>`. */
export function packName(identity: PackIdentity, salt: Uint8Array): string {
  invariant(salt.length === saltBytes, 'a salt has 32 bytes');
  const { slot, epoch, pack } = identity;
  return toPackName({ slot, epoch, pack, salt8: toHex(salt.subarray(0, 4)) });
}

function packContext(identity: PackIdentity, generation: number): Uint8Array {
  const writer = new ByteWriter();
  writer.text('holdfast/1/pack');
  writer.text(identity.repository);
  writer.text(identity.domain);
  writer.text(identity.lineage);
  writer.varint(identity.slot);
  writer.varint(identity.epoch);
  writer.varint(identity.pack);
  writer.varint(generation);
  return writer.take();
}

/** The part of the compressor port that packs need; see ports/compressor.ts for its contract. */
export interface FrameCodec {
  boundBytes(inputBytes: number): number;
  compress(input: Uint8Array, output: Uint8Array, outputStart: number, level: number): number;
  decompress(input: Uint8Array, output: Uint8Array, plainBytes: number): void;
}

export const packVersion = 1;
/** Most plaintext of a compressed segment, and of a chunk. */
export const segmentPlainBytesMax: number = 1024 * 1024;
/** Most plaintext of a raw segment: a single tree node with entries of extreme length. */
export const rawSegmentPlainBytesMax: number = 8 * 1024 * 1024;
export const segmentsMax: number = 2 ** 22;
export const headerBytes = 8;
export const trailerBytes = 64;

const headMagic = [0x48, 0x46, 0x50, 0x4b] as const;
const tailMagic = [0x4b, 0x50, 0x46, 0x48] as const;
const flagEncrypted = 1;
/** Of the table's count of segments, and of one entry. */
const tableCountBytes = 4;
const tableEntryBytes = 12;
/** Nonce of the footer; segments have numbers below 2^22. */
const footerNumber = 0xffff_ffff;
/** The table is rounded up to this, so that its length does not tell the segments of a small pack, up to 21. */
const tableStepBytes = 256;
/** Packs from here on are not padded. */
const paddingBelowBytes = 1024 * 1024;

export type SegmentKind = 'data' | 'meta' | 'padding';
const kindNames: readonly SegmentKind[] = ['data', 'meta', 'padding'];

export interface PackSummary {
  readonly name: string;
  readonly slot: number;
  readonly epoch: number;
  readonly pack: number;
  /** Of the whole object. */
  readonly bytes: number;
  /** Padding included. */
  readonly segments: number;
  readonly dataPlainBytes: number;
  readonly metaPlainBytes: number;
  /** Footer and trailer: what `PackReader.open` takes. */
  readonly footerBytes: number;
}

export interface PackWriterOptions {
  readonly identity: PackIdentity;
  readonly dataKey: DataKey;
  /** 32 bytes, never used for another pack; see `mixSalt`. */
  readonly salt: Uint8Array;
  readonly compressor: FrameCodec;
  readonly level: number;
  /** Plaintext at which a segment is sealed, at most 1 MiB. */
  readonly dataSegmentBytes: number;
  readonly metaSegmentBytes: number;
  /** Gets the bytes of the pack in order; its argument is only valid during the call. */
  emit(bytes: Uint8Array): void;
  /** Gives every `addData` a frame of its own, so that no attacker's file shares one with a secret. */
  readonly isolated?: boolean;
}

interface OpenSegment {
  readonly number: number;
  used: number;
}

/**
 * Fills segments, seals them when they are full and emits them; synchronous, in constant memory: one plaintext buffer per
 * kind and one for output. Invariant: each segment number is sealed once. A writer that threw is not used again.
 */
export class PackWriter {
  readonly name: string;
  readonly #options: PackWriterOptions;
  readonly #data: SegmentBuffer;
  readonly #meta: SegmentBuffer;
  readonly #table: ByteWriter = new ByteWriter(1024);
  #output: Uint8Array = new Uint8Array(0);
  #seal: PackSeal | undefined;
  #firstDigest: Uint8Array = new Uint8Array(firstDigestBytes);
  #opened = 0;
  #sealed = 0;
  #position = 0;
  #dataPlainBytes = 0;
  #metaPlainBytes = 0;
  #finished = false;

  constructor(options: PackWriterOptions) {
    for (const target of [options.dataSegmentBytes, options.metaSegmentBytes]) {
      invariant(target >= 1 && target <= segmentPlainBytesMax, 'a segment target is at most 1 MiB');
    }
    this.#options = options;
    this.name = packName(options.identity, options.salt);
    this.#data = new SegmentBuffer(partKind.data, options.dataSegmentBytes);
    this.#meta = new SegmentBuffer(partKind.meta, options.metaSegmentBytes);
  }

  /** Bytes of the pack so far, with the table they will need: what a size target is compared with. */
  get emittedBytes(): number {
    return this.#position + (this.#finished ? 0 : tableEntryBytes * this.#opened);
  }

  /** Plain bytes that wait in open segments. */
  get bufferedBytes(): number {
    return (this.#data.open?.used ?? 0) + (this.#meta.open?.used ?? 0);
  }

  /** True when no further segment may be opened; only many tiny isolated chunks get there. */
  get full(): boolean {
    return this.#opened >= segmentsMax - 3;
  }

  /** Copies a chunk of 1 byte to 1 MiB. */
  addData(bytes: Uint8Array, start: number, end: number): Place {
    invariant(end - start <= segmentPlainBytesMax, 'a chunk is at most 1 MiB');
    const place = this.#add(this.#data, bytes, start, end);
    this.#dataPlainBytes += end - start;
    if (this.#options.isolated === true) this.#sealOpen(this.#data);
    return place;
  }

  /** Copies a tree node of 1 byte to 8 MiB. */
  addMetadata(bytes: Uint8Array): Place {
    invariant(bytes.length <= rawSegmentPlainBytesMax, 'a node is at most 8 MiB');
    this.#metaPlainBytes += bytes.length;
    if (bytes.length <= segmentPlainBytesMax) return this.#add(this.#meta, bytes, 0, bytes.length);
    const { number } = this.#openSegment();
    this.#emitSegment(number, partKind.meta, bytes);
    return this.#place(number, 0);
  }

  /** The next `addData` begins a frame. */
  endFrame(): void {
    this.#sealOpen(this.#data);
  }

  /** Seals and emits what is buffered: what was added so far can then be resumed from. */
  flush(): void {
    invariant(!this.#finished, 'pack is not finished');
    this.#sealOpen(this.#data);
    this.#sealOpen(this.#meta);
  }

  /** Seals the rest, pads, and emits footer and trailer. */
  finish(): PackSummary {
    this.flush();
    this.#finished = true;
    this.#pad();
    const { identity } = this.#options;
    const segments = this.#sealed;
    const footerBytes = tableBytes(segments) + tagBytes;
    const bytes = this.#position + footerBytes + trailerBytes;
    const table = new Uint8Array(tableBytes(segments));
    new DataView(table.buffer).setUint32(0, segments, true);
    table.set(this.#table.view(), tableCountBytes);
    const tail = new Uint8Array(footerBytes + trailerBytes);
    this.#sealWith(table).seal(footerLabel(bytes), table, tail);
    tail.set(this.#trailer(footerBytes), footerBytes);
    this.#send(tail);
    this.#data.drop();
    this.#meta.drop();
    this.#output = new Uint8Array(0);
    return {
      name: this.name,
      slot: identity.slot,
      epoch: identity.epoch,
      pack: identity.pack,
      bytes,
      segments,
      dataPlainBytes: this.#dataPlainBytes,
      metaPlainBytes: this.#metaPlainBytes,
      footerBytes: tail.length,
    };
  }

  #add(target: SegmentBuffer, bytes: Uint8Array, start: number, end: number): Place {
    invariant(!this.#finished, 'pack is not finished');
    const length = end - start;
    invariant(start >= 0 && length > 0 && end <= bytes.length, 'bytes to add lie inside their buffer');
    if (target.open !== undefined && target.open.used + length > target.targetBytes) this.#sealOpen(target);
    target.open ??= this.#openSegment();
    const { open } = target;
    const offset = open.used;
    target.append(bytes, start, end);
    const place = this.#place(open.number, offset);
    if (open.used >= target.targetBytes) this.#sealOpen(target);
    return place;
  }

  #openSegment(): OpenSegment {
    invariant(this.#opened < segmentsMax - 2, 'a pack has room for another segment');
    return { number: this.#opened++, used: 0 };
  }

  #place(segment: number, offset: number): Place {
    const { slot, pack } = this.#options.identity;
    return { origin: 0, slot, pack, segment, offset };
  }

  #sealOpen(target: SegmentBuffer): void {
    const { open } = target;
    if (open === undefined) return;
    target.open = undefined;
    this.#emitSegment(open.number, target.kind, target.bytes.subarray(0, open.used));
  }

  #emitSegment(number: number, kind: 0 | 1 | 2, plain: Uint8Array): void {
    const { compressor, level } = this.#options;
    const seal = this.#sealWith(plain);
    const mayCompress = kind !== partKind.padding && plain.length <= segmentPlainBytesMax;
    const room = Math.max(mayCompress ? compressor.boundBytes(plain.length) : 0, plain.length) + tagBytes;
    if (this.#output.length < room) this.#output = new Uint8Array(room);
    const output = this.#output;
    const packed = mayCompress ? compressor.compress(plain, output, 0, level) : plain.length;
    const shrunk = packed < plain.length;
    const method = shrunk ? storeMethod.zstd : storeMethod.raw;
    const payload = shrunk ? output.subarray(0, packed) : plain;
    const stored = seal.seal({ number, kind, method, plainBytes: plain.length }, payload, output);
    this.#table.u32(number);
    this.#table.u32(stored);
    this.#table.u32(plain.length | (kind << 24) | (method << 26));
    this.#sealed++;
    this.#send(output.subarray(0, stored));
  }

  /** The pack's key follows from the first plaintext too, so it exists only from the first seal on. */
  #sealWith(plain: Uint8Array): PackSeal {
    if (this.#seal === undefined) {
      const { identity, dataKey, salt } = this.#options;
      this.#firstDigest = firstPlaintextDigest(dataKey, this.name, salt, plain);
      this.#seal = new PackSeal(packContext(identity, dataKey.generation), this.name, dataKey, salt, this.#firstDigest);
    }
    return this.#seal;
  }

  #pad(): void {
    const rest = tableBytes(this.#sealed + 1) + tagBytes + trailerBytes;
    const bytes = Math.max(this.#position, headerBytes) + tagBytes + rest;
    if (bytes >= paddingBelowBytes) return;
    const { number } = this.#openSegment();
    this.#emitSegment(number, partKind.padding, new Uint8Array(paddedBytes(bytes) - bytes));
  }

  #send(bytes: Uint8Array): void {
    if (this.#position === 0) {
      const header = packHeader(this.#options.dataKey.key !== undefined);
      this.#options.emit(header);
      this.#position += header.length;
    }
    this.#options.emit(bytes);
    this.#position += bytes.length;
  }

  #trailer(footerBytes: number): Uint8Array {
    const { salt, dataKey } = this.#options;
    const writer = new ByteWriter(trailerBytes);
    writer.raw(salt);
    writer.raw(this.#firstDigest);
    writer.u32(dataKey.generation);
    writer.u32(footerBytes);
    writer.u8(packVersion);
    writer.u8(flagsOf(dataKey));
    writer.u8(0);
    writer.u8(0);
    writer.raw(Uint8Array.from(tailMagic));
    return writer.take();
  }
}

/** The plaintext of the open segment of one kind; its memory is taken when it is first needed. */
class SegmentBuffer {
  readonly kind: 0 | 1;
  readonly targetBytes: number;
  open: OpenSegment | undefined;
  bytes: Uint8Array = new Uint8Array(0);

  constructor(kind: 0 | 1, targetBytes: number) {
    this.kind = kind;
    this.targetBytes = targetBytes;
  }

  append(bytes: Uint8Array, start: number, end: number): void {
    const { open } = this;
    invariant(open !== undefined, 'a segment is open');
    const used = open.used + end - start;
    if (this.bytes.length < used) {
      // Small packs stay small; a single item above the target gets the room it needs.
      const grown = new Uint8Array(Math.max(used, Math.min(this.targetBytes, Math.max(4096, 2 * used))));
      grown.set(this.bytes.subarray(0, open.used));
      this.bytes = grown;
    }
    this.bytes.set(start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end), open.used);
    open.used = used;
  }

  drop(): void {
    this.bytes = new Uint8Array(0);
  }
}

function packHeader(encrypted: boolean): Uint8Array {
  return Uint8Array.of(...headMagic, packVersion, encrypted ? flagEncrypted : 0, 0, 0);
}

function flagsOf(dataKey: DataKey): number {
  return dataKey.key === undefined ? 0 : flagEncrypted;
}

function tableBytes(segments: number): number {
  return Math.ceil((tableCountBytes + segments * tableEntryBytes) / tableStepBytes) * tableStepBytes;
}

function footerLabel(packBytes: number) {
  return { number: footerNumber, kind: partKind.footer, method: storeMethod.raw, plainBytes: packBytes } as const;
}

export interface PackTrailer {
  /** Footer and trailer together: how much of the pack's end `PackReader.open` wants. */
  readonly footerBytes: number;
  /** Which data key opens the pack; a hint until the footer was opened with it. */
  readonly generation: number;
}

/** Reads the last 64 bytes of a pack, or more. E_DAMAGED when they are not the end of a pack. */
export function readTrailer(end: Uint8Array, what: string): PackTrailer {
  const { footerBytes, generation } = parseTrailer(end, what);
  return { footerBytes: footerBytes + trailerBytes, generation };
}

function parseTrailer(end: Uint8Array, what: string) {
  const fail = (why: string) => new HoldfastError('E_DAMAGED', `${what}: ${why}`, { details: { pack: what } });
  if (end.length < trailerBytes) throw fail(`${end.length} bytes are too few for a trailer`);
  const at = end.length - trailerBytes;
  for (const [i, byte] of tailMagic.entries()) {
    if (end[at + 60 + i] !== byte) throw fail('does not end like a pack; it may be cut off');
  }
  const view = new DataView(end.buffer, end.byteOffset + at, trailerBytes);
  const version = view.getUint8(56);
  if (version !== packVersion)
    throw fail(`has version ${version}, and a record this old lists only version ${packVersion}`);
  if (view.getUint16(58, true) !== 0) throw fail('has unknown bits in its trailer');
  return {
    salt: end.slice(at, at + saltBytes),
    firstDigest: end.slice(at + saltBytes, at + saltBytes + firstDigestBytes),
    generation: view.getUint32(48, true),
    footerBytes: view.getUint32(52, true),
    flags: view.getUint8(57),
  };
}

/** E_DAMAGED unless a pack may begin like that; the first 8 bytes are the only ones that no tag covers. */
export function checkPackHeader(start: Uint8Array, dataKey: DataKey, what: string): void {
  const expected = packHeader(dataKey.key !== undefined);
  for (const [i, byte] of expected.entries()) {
    if (start[i] !== byte) {
      throw new HoldfastError('E_DAMAGED', `${what}: does not begin like a pack`, { details: { pack: what } });
    }
  }
}

/**
 * What can be told of a pack without any key. E_DAMAGED unless its first bytes, its trailer, its name and the lengths that the record
 * lists belong together: it is whole then, though any of its bytes may have been changed.
 *
 * @param name as the record lists it; it ends with the beginning of the salt
 * @param start the first bytes of the pack
 * @param footer the last bytes, as many as the record says
 */
export function checkPackFrame(
  name: string,
  encrypted: boolean,
  start: Uint8Array,
  footer: Uint8Array,
  what: string,
): void {
  const fail = (why: string) => new HoldfastError('E_DAMAGED', `${what}: ${why}`, { details: { pack: name } });
  if (!equalBytes(start.subarray(0, headerBytes), packHeader(encrypted))) throw fail('does not begin like a pack');
  const trailer = parseTrailer(footer, what);
  if (trailer.flags !== (encrypted ? flagEncrypted : 0)) throw fail('is not encrypted as its repository says');
  if (trailer.footerBytes + trailerBytes !== footer.length) throw fail('has a footer of another length');
  if (!name.endsWith(`-${toHex(trailer.salt.subarray(0, 4))}`)) throw fail('has another name inside');
}

export interface SegmentRange {
  /** Position in the pack, bytes. */
  readonly start: number;
  /** Bytes there, tag included. */
  readonly length: number;
  readonly plainBytes: number;
  readonly kind: SegmentKind;
}

/**
 * The table of one pack and its key. Everything read is untrusted until its tag was checked, and bounded even then: who has
 * the keys of one pod can seal what he likes.
 */
export class PackReader {
  readonly name: string;
  readonly segments: number;
  readonly #seal: PackSeal;
  /** By segment number. */
  readonly #starts: Float64Array;
  readonly #stored: Uint32Array;
  readonly #info: Uint32Array;

  private constructor(
    name: string,
    seal: PackSeal,
    table: { readonly starts: Float64Array; readonly stored: Uint32Array; readonly info: Uint32Array },
  ) {
    this.name = name;
    this.segments = table.stored.length;
    this.#seal = seal;
    this.#starts = table.starts;
    this.#stored = table.stored;
    this.#info = table.info;
  }

  /**
   * @param name as the record lists it, below the lineage of `identity`
   * @param dataKey of the generation that `readTrailer` or the record names
   * @param footerBytes the end of the pack, from the start of its footer or from earlier on
   * @param packBytes of the whole object, as the record lists it
   * @throws E_DAMAGED for anything that is not this pack, unchanged and of this length
   */
  static open(
    name: string,
    identity: PackIdentity,
    dataKey: DataKey,
    footerBytes: Uint8Array,
    packBytes: number,
  ): PackReader {
    const what = `pack ${name} of ${identity.lineage}`;
    const fail = (why: string) => new HoldfastError('E_DAMAGED', `${what}: ${why}`, { details: { pack: name } });
    const trailer = parseTrailer(footerBytes, what);
    if (trailer.flags !== flagsOf(dataKey)) throw fail('is not encrypted as its repository says');
    if (trailer.generation !== dataKey.generation) {
      throw fail(`is sealed with generation ${trailer.generation} of the key, not ${dataKey.generation}`);
    }
    if (packName(identity, trailer.salt) !== name) throw fail('has another name inside');
    const footerStart = footerBytes.length - trailerBytes - trailer.footerBytes;
    if (trailer.footerBytes < tableStepBytes + tagBytes || footerStart < 0) throw fail('has no whole footer');
    const seal = new PackSeal(
      packContext(identity, dataKey.generation),
      name,
      dataKey,
      trailer.salt,
      trailer.firstDigest,
    );
    const footer = footerBytes.subarray(footerStart, footerBytes.length - trailerBytes);
    const bodyBytes = packBytes - headerBytes - trailer.footerBytes - trailerBytes;
    let table: ReturnType<typeof parseTable> | undefined;
    const authentic = seal.open(footerLabel(packBytes), footer, (plain) => {
      table = parseTable(plain, bodyBytes, fail);
    });
    if (!authentic || table === undefined) throw fail('its footer was changed, or belongs to another pack or key');
    return new PackReader(name, seal, table);
  }

  /** E_DAMAGED when there is no such segment. */
  segmentRange(number: number): SegmentRange {
    this.#check(number);
    const info = this.#info[number] as number;
    return {
      start: this.#starts[number] as number,
      length: this.#stored[number] as number,
      plainBytes: info & 0xff_ffff,
      kind: kindNames[(info >>> 24) & 3] as SegmentKind,
    };
  }

  /**
   * Writes the plaintext of a segment to `into` and returns its length. `sealed` holds exactly the bytes of its range;
   * `into` has room for its plain bytes. E_DAMAGED names pack and segment, and then nothing of `into` means anything.
   */
  openSegment(number: number, sealed: Uint8Array, compressor: FrameCodec, into: Uint8Array): number {
    this.#check(number);
    const info = this.#info[number] as number;
    const plainBytes = info & 0xff_ffff;
    const kind = ((info >>> 24) & 3) as 0 | 1 | 2;
    const method = ((info >>> 26) & 1) as 0 | 1;
    invariant(into.length >= plainBytes, 'a segment is opened into enough room');
    if (sealed.length !== this.#stored[number]) throw this.#damaged(number, `${sealed.length} bytes are not all of it`);
    let cause: unknown;
    const authentic = this.#seal.open({ number, kind, method, plainBytes }, sealed, (payload) => {
      if (method === storeMethod.raw) {
        into.set(payload, 0);
        return;
      }
      try {
        compressor.decompress(payload, into, plainBytes);
      } catch (error) {
        cause = error;
      }
    });
    if (!authentic) throw this.#damaged(number, 'its bytes were changed');
    if (cause !== undefined) throw this.#damaged(number, 'its content does not decompress', cause);
    return plainBytes;
  }

  #check(number: number): void {
    if (!Number.isInteger(number) || number < 0 || number >= this.segments) {
      throw this.#damaged(number, `there are only ${this.segments}`);
    }
  }

  #damaged(segment: number, why: string, cause?: unknown): HoldfastError {
    return new HoldfastError('E_DAMAGED', `pack ${this.name}, segment ${segment}: ${why}`, {
      cause,
      details: { pack: this.name, segment },
    });
  }
}

/** Positions by number, from the table, which is in the order of the pack's bytes. */
function parseTable(table: Uint8Array, bodyBytes: number, fail: (why: string) => HoldfastError) {
  const view = new DataView(table.buffer, table.byteOffset, table.length);
  const segments = view.getUint32(0, true);
  if (segments > segmentsMax || tableBytes(segments) !== table.length) throw fail('has a table of another length');
  const starts = new Float64Array(segments);
  const stored = new Uint32Array(segments);
  const info = new Uint32Array(segments);
  let position = headerBytes;
  for (let i = 0; i < segments; i++) {
    const at = tableCountBytes + i * tableEntryBytes;
    const number = view.getUint32(at, true);
    const bytes = view.getUint32(at + 4, true);
    const facts = view.getUint32(at + 8, true);
    if (number >= segments || stored[number] !== 0) throw fail(`lists segment ${number} wrongly`);
    if (!isSegment(bytes, facts)) throw fail(`lists segment ${number} with impossible lengths`);
    starts[number] = position;
    stored[number] = bytes;
    info[number] = facts;
    position += bytes;
  }
  if (position - headerBytes !== bodyBytes) throw fail('its segments do not add up to its length');
  for (let i = tableCountBytes + segments * tableEntryBytes; i < table.length; i++) {
    if (table[i] !== 0) throw fail('has unknown content in its footer');
  }
  return { starts, stored, info };
}

function isSegment(stored: number, facts: number): boolean {
  const plainBytes = facts & 0xff_ffff;
  const kind = (facts >>> 24) & 3;
  const method = (facts >>> 26) & 1;
  if (facts >>> 27 !== 0 || kind === partKind.footer || stored < tagBytes) return false;
  if (method === storeMethod.zstd) {
    return kind !== partKind.padding && plainBytes <= segmentPlainBytesMax && stored - tagBytes < plainBytes;
  }
  const most = kind === partKind.meta ? rawSegmentPlainBytesMax : segmentPlainBytesMax;
  return plainBytes <= most && stored - tagBytes === plainBytes && (plainBytes > 0 || kind === partKind.padding);
}
