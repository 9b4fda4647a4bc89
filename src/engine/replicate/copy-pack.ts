/**
 * Moves one pack from store to store, in pieces, proven before it is created. Without keys its frame is checked: first bytes,
 * trailer, name and lengths. With keys every byte is: each segment is opened, and what was changed is not copied.
 */
import type { DataKey } from '../format/keys.ts';
import { checkPackFrame, checkPackHeader, PackReader, readTrailer, type SegmentRange } from '../format/pack.ts';
import { type PackEntry, packEntryName } from '../format/pack-entry.ts';
import { openPackTable, packTableBytesMax } from '../format/pack-table.ts';
import { HoldfastError, isHoldfastError } from '../model/errors.ts';
import { toEpoch, toSlot } from '../model/ids.ts';
import { createObject } from '../lineage/create-object.ts';
import type { CopyParts, Waiting } from './copy-parts.ts';
import type { ListedPack, ListedTable } from './listed-objects.ts';

/** What has to be known of a domain to prove its packs. */
export interface PackProver {
  readonly repository: string;
  readonly domain: string;
  readonly encrypted: boolean;
  /** Undefined: no key was given, and only the frame is checked. */
  readonly dataKeys: readonly DataKey[] | undefined;
}

/** A pack up to this size is read by one request and created by another. */
const wholeBytesMax: number = 8 * 1024 * 1024;
const pieceBytes: number = 4 * 1024 * 1024;
/** A larger one: two pieces and a footer here, and what the upload of a store keeps, which is four parts of 8 MiB in S3. */
const largeShareBytes: number = 40 * 1024 * 1024;
/** As tree/pack-directory.ts: the table of the most segments that a pack can have. */
const footerBytesMax: number = 2 ** 22 * 12 + 4096;

interface Piece {
  readonly start: number;
  readonly length: number;
  check(bytes: Uint8Array): void;
}

/** E_DAMAGED with `details.store` as `source` or `target`; E_STORE_*, E_ABORTED. Whatever is thrown, nothing partial can be seen. */
export async function copyPack(
  parts: CopyParts,
  pack: ListedPack,
  prover: PackProver,
  options: Waiting = {},
): Promise<void> {
  const { entry } = pack;
  if (entry.footerBytes > footerBytesMax || entry.footerBytes > entry.bytes) {
    throw damagedSource(pack, new HoldfastError('E_DAMAGED', 'its record lists it with impossible lengths'));
  }
  const large = entry.bytes > wholeBytesMax;
  using _share = await parts.budget.take(large ? largeShareBytes : 2 * entry.bytes, options.signal);
  await (large ? copyInPieces(parts, pack, prover, options) : copyWhole(parts, pack, prover, options));
}

async function copyWhole(parts: CopyParts, pack: ListedPack, prover: PackProver, options: Waiting): Promise<void> {
  const { key, entry } = pack;
  const bytes = await fromSource(pack, async () => {
    const read = await parts.source.getRange(key, 0, entry.bytes, options);
    provePack(pack, prover, read, parts);
    return read;
  });
  const made = await createObject({ store: parts.target, clock: parts.clock }, key, bytes, {
    bytesMax: entry.bytes,
    signal: options.signal,
  });
  if (made.outcome === 'exists') throw damagedTarget(key, 'another object stands in the place of this pack');
  if (made.outcome === 'vanished') throw vanished(key);
  count(parts, bytes.length);
}

/** A table is signed, so it is proven without a secret. Errors as of `copyPack`. */
export async function copyTable(
  parts: CopyParts,
  table: ListedTable,
  publicKey: Uint8Array,
  options: Waiting = {},
): Promise<void> {
  const { key } = table;
  using _share = await parts.budget.take(2 * table.bytes, options.signal);
  const bytes = await fromSource(table, async () => {
    const read = await parts.source.get(key, { ...options, bytesMax: packTableBytesMax });
    if (read === undefined) throw new HoldfastError('E_DAMAGED', `${key} is missing in the store`);
    openPackTable(read, table.link, { ...table.header, publicKey });
    return read;
  });
  const made = await createObject({ store: parts.target, clock: parts.clock }, key, bytes, {
    bytesMax: packTableBytesMax,
    signal: options.signal,
  });
  if (made.outcome === 'exists') throw damagedTarget(key, 'another object stands in the place of this table');
  if (made.outcome === 'vanished') throw vanished(key);
  count(parts, bytes.length);
}

/** A pack that is in memory already: one that was read whole, or one that lies inside a record. */
export function provePack(
  pack: { readonly entry: PackEntry; readonly lineage: ListedPack['lineage'] },
  prover: PackProver,
  bytes: Uint8Array,
  { codec }: Pick<CopyParts, 'codec'>,
): void {
  const footer = bytes.subarray(bytes.length - pack.entry.footerBytes);
  checkStart(pack.entry, prover, bytes, footer);
  for (const piece of piecesOf(pack, prover, footer, codec)) {
    piece.check(bytes.subarray(piece.start, piece.start + piece.length));
  }
}

async function copyInPieces(parts: CopyParts, pack: ListedPack, prover: PackProver, options: Waiting): Promise<void> {
  const { key, entry } = pack;
  const { source, target } = parts;
  const footerStart = entry.bytes - entry.footerBytes;
  const { footer, pieces } = await fromSource(pack, async () => {
    const end = await source.getRange(key, footerStart, entry.footerBytes, options);
    return { footer: end, pieces: piecesOf(pack, prover, end, parts.codec) };
  });
  const longest = pieces.reduce((most, { length }) => Math.max(most, length), 0);
  // One is read into while the other is sent. Memory of its own for each piece has the collector mark everything every few of them.
  const memory = [new Uint8Array(longest), new Uint8Array(pieces.length > 1 ? longest : 0)] as const;
  const read = (at: number): Promise<Uint8Array> | undefined => {
    const piece = pieces[at];
    if (piece === undefined) return undefined;
    const reading = fromSource(pack, async () => {
      const into = (memory[at % 2] as Uint8Array).subarray(0, piece.length);
      const bytes = await source.getRange(key, piece.start, piece.length, { ...options, into });
      if (at === 0) checkStart(entry, prover, bytes, footer);
      piece.check(bytes);
      return bytes;
    });
    // Read ahead: it may fail before anybody waits for it.
    reading.catch(() => undefined);
    return reading;
  };
  const upload = await target.beginUpload(key, options);
  let ahead = read(0);
  try {
    for (let at = 0; ahead !== undefined; at++) {
      const bytes = await ahead;
      ahead = read(at + 1);
      await upload.append(bytes);
      parts.progress.bytes += bytes.length;
      parts.onProgress();
    }
    await upload.append(footer);
  } catch (error) {
    await ahead?.catch(() => undefined);
    await upload.abort();
    throw error;
  }
  await settle(parts, pack, () => upload.commit(), options);
  parts.progress.bytes += footer.length;
  parts.progress.objects += 1;
  parts.onProgress();
}

/** An object appears whole or not at all, and names of packs are never given twice: of this length it is this pack. */
async function settle(
  { target }: CopyParts,
  { key, entry }: ListedPack,
  commit: () => Promise<'created' | 'exists'>,
  options: Waiting,
): Promise<void> {
  let failure: unknown;
  try {
    if ((await commit()) === 'created') return;
  } catch (error) {
    if (!isHoldfastError(error) || error.code === 'E_ABORTED') throw error;
    failure = error;
  }
  const found = await target.stat(key, options);
  if (found === undefined) throw failure ?? vanished(key);
  if (found.bytes !== entry.bytes) throw damagedTarget(key, 'another object stands in the place of this pack');
}

function count(parts: CopyParts, bytes: number): void {
  parts.progress.bytes += bytes;
  parts.progress.objects += 1;
  parts.onProgress();
}

function checkStart(entry: PackEntry, prover: PackProver, start: Uint8Array, footer: Uint8Array): void {
  const name = packEntryName(entry);
  checkPackFrame(name, prover.encrypted, start, footer, `pack ${name}`);
}

/** The pack up to its footer, cut where segments end when they can be proven. */
function piecesOf(
  pack: { readonly entry: PackEntry; readonly lineage: ListedPack['lineage'] },
  prover: PackProver,
  footer: Uint8Array,
  codec: CopyParts['codec'],
): readonly Piece[] {
  const { entry, lineage } = pack;
  const { repository, domain, dataKeys } = prover;
  const end = entry.bytes - entry.footerBytes;
  const name = packEntryName(entry);
  const { generation } = readTrailer(footer, `pack ${name}`);
  if (dataKeys === undefined) {
    const pieces: Piece[] = [];
    for (let start = 0; start < end; start += pieceBytes) {
      pieces.push({ start, length: Math.min(pieceBytes, end - start), check: () => undefined });
    }
    return pieces;
  }
  const dataKey = dataKeys.find((key) => key.generation === generation);
  if (dataKey === undefined) {
    throw new HoldfastError('E_DAMAGED', `pack ${name} names data key ${generation}, which is not known here`);
  }
  const identity = {
    repository,
    domain,
    lineage,
    slot: toSlot(entry.slot),
    epoch: toEpoch(entry.epoch),
    pack: entry.pack,
  };
  const reader = PackReader.open(name, identity, dataKey, footer, entry.bytes);
  const order = Array.from({ length: reader.segments }, (_, number) => ({
    number,
    ...reader.segmentRange(number),
  })).sort((a, b) => a.start - b.start);
  const pieces: Piece[] = [];
  let scratch = new Uint8Array();
  const add = (
    start: number,
    until: number,
    segments: readonly ({ readonly number: number } & SegmentRange)[],
  ): void => {
    pieces.push({
      start,
      length: until - start,
      check: (bytes) => {
        if (start === 0) checkPackHeader(bytes, dataKey, `pack ${name}`);
        for (const { number, start: from, length, plainBytes } of segments) {
          if (scratch.length < plainBytes) scratch = new Uint8Array(plainBytes);
          reader.openSegment(number, bytes.subarray(from - start, from - start + length), codec, scratch);
        }
      },
    });
  };
  let [first, start] = [0, 0];
  for (const [at, { start: from, length }] of order.entries()) {
    if (from + length - start < pieceBytes) continue;
    add(start, from + length, order.slice(first, at + 1));
    [first, start] = [at + 1, from + length];
  }
  if (start < end) add(start, end, order.slice(first));
  return pieces;
}

async function fromSource<Result>(pack: { readonly key: string }, read: () => Promise<Result>): Promise<Result> {
  try {
    return await read();
  } catch (error) {
    if (isHoldfastError(error, 'E_DAMAGED')) throw damagedSource(pack, error);
    throw error;
  }
}

function damagedSource({ key }: { readonly key: string }, cause: HoldfastError): HoldfastError {
  return new HoldfastError('E_DAMAGED', cause.message, { cause, details: { ...cause.details, key, store: 'source' } });
}

export function damagedTarget(key: string, why: string): HoldfastError {
  return new HoldfastError('E_DAMAGED', `${key} in the second store: ${why}`, { details: { key, store: 'target' } });
}

export function vanished(key: string): HoldfastError {
  return new HoldfastError('E_STORE_IO', `${key} was there in the second store and then was not`, { details: { key } });
}
