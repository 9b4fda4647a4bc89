/**
 * The content of one open file as chunks and runs of zeros.
 *
 * The result follows from the bytes alone: an aligned 64 KiB block of zeros is one canonical zero block whether it is a hole
 * or not, and each run of other blocks is cut by the keyed chunker from a fresh start. Holes only save reading.
 */
import { contentId, type DomainKeys } from '../format/keys.ts';
import { type Content, type ContentItem, type Hole, type Place, zeroBlockBytes } from '../model/entry.ts';
import type { Descriptor, FileTreeReader } from '../ports/file-tree.ts';
import { idText, ListBuilder, type StoredListNode } from '../tree/list.ts';
import { type Chunker, chunkProfile, chunkProfiles, createChunker } from './chunker.ts';
import type { Hint } from './lane-job.ts';
import type { SessionIndex } from './session-index.ts';

/** Where new chunks and chunk-list nodes go, and who keeps count of the packs that entries come to name. */
export interface ChunkTarget {
  addData(bytes: Uint8Array, start: number, end: number): Place;
  addMetadata(node: Uint8Array): Place;
  /** What was added so far shares no frame with what follows. */
  endFrame(): void;
  /** An entry names this place. */
  refer(place: Place): void;
}

export interface ReadContent {
  readonly content: Content;
  readonly holes: readonly Hole[];
  /** Bytes that were there to read; another value than the size asked for means that the file moved. */
  readonly bytes: number;
  /** Bytes of chunks that had to be stored. */
  readonly newBytes: number;
}

const windowBytes: number = 1024 * 1024;
const holesMax = 4096;
/** Below this a hole saves nothing and looking for one costs a system call per file. */
const holeCheckBytesMin = 8192;

export class ContentReader {
  readonly #files: FileTreeReader;
  readonly #keys: DomainKeys;
  readonly #session: SessionIndex;
  readonly #window: Uint8Array = new Uint8Array(windowBytes);
  readonly #zeros: Uint8Array = new Uint8Array(zeroBlockBytes);
  readonly #chunkers: { readonly pages: Chunker; readonly general: Chunker };

  constructor(files: FileTreeReader, keys: DomainKeys, session: SessionIndex) {
    this.#files = files;
    this.#keys = keys;
    this.#session = session;
    this.#chunkers = {
      pages: createChunker(keys.gearTable, chunkProfiles.pages),
      general: createChunker(keys.gearTable, chunkProfiles.general),
    };
  }

  /** Reads up to `size` bytes. Chunks found in `hints` or stored earlier in this capture are not stored again. */
  read(
    file: Descriptor,
    size: number,
    target: ChunkTarget,
    hints: readonly Hint[],
    nodeHints: readonly Hint[],
  ): ReadContent {
    const holes = size >= holeCheckBytesMin ? this.#findHoles(file, size) : [];
    const known = hints.length > 0 ? hintMap(hints) : undefined;
    const list = new ListBuilder({
      sink: { store: (node) => target.addMetadata(node) },
      keys: this.#keys,
      ...(nodeHints.length > 0 ? { known: knownNodes(nodeHints) } : {}),
    });
    for (const hint of nodeHints) target.refer(hint.place);
    const window = this.#window;
    let chunker: Chunker | undefined;
    let newBytes = 0;
    let zeroBytes = 0;
    /** The pending run is window[runStart, runEnd). */
    let runStart = 0;
    let runEnd = 0;

    const cutRun = (atEnd: boolean): void => {
      while (runStart < runEnd) {
        chunker ??= this.#chunkers[chunkProfile(window.subarray(runStart, Math.min(runEnd, runStart + 64)))];
        const cut = chunker.cut(window, runStart, runEnd, atEnd);
        if (cut < 0) return;
        const id = contentId(this.#keys, window, runStart, cut);
        const bytes = cut - runStart;
        let place = this.#session.find(id, bytes);
        if (place === undefined) {
          place = known?.get(idText(id));
          if (place === undefined) {
            place = target.addData(window, runStart, cut);
            newBytes += bytes;
          }
          // Also what the base holds: a later pass over this file may not be able to look it up any more.
          this.#session.add(id, bytes, place);
        }
        target.refer(place);
        list.add({ kind: 'chunk', bytes, id, place });
        runStart = cut;
      }
    };
    const endZeros = (): void => {
      if (zeroBytes > 0) list.add({ kind: 'zero', bytes: zeroBytes } satisfies ContentItem);
      zeroBytes = 0;
    };

    let position = 0;
    let hole = 0;
    while (position < size) {
      while (hole < holes.length && holeEnd(holes[hole] as Hole) <= position) hole++;
      const nextHole = holes[hole];
      if (nextHole !== undefined && nextHole.start <= position) {
        const wholeBlocksEnd = Math.floor(Math.min(holeEnd(nextHole), size) / zeroBlockBytes) * zeroBlockBytes;
        if (wholeBlocksEnd > position) {
          // `position` is always at a block's start, so whole blocks of the hole are zero blocks without reading.
          cutRun(true);
          zeroBytes += wholeBlocksEnd - position;
          position = wholeBlocksEnd;
          continue;
        }
      }
      if (runStart === runEnd) {
        runStart = 0;
        runEnd = 0;
      } else if (windowBytes - runEnd < zeroBlockBytes) {
        window.copyWithin(0, runStart, runEnd);
        runEnd -= runStart;
        runStart = 0;
      }
      const room = Math.floor((windowBytes - runEnd) / zeroBlockBytes) * zeroBlockBytes;
      const readEnd =
        nextHole !== undefined && nextHole.start > position
          ? Math.min(size, position + room, Math.ceil(nextHole.start / zeroBlockBytes) * zeroBlockBytes)
          : Math.min(size, position + (nextHole === undefined ? room : zeroBlockBytes));
      const wanted = readEnd - position;
      const got = this.#fill(file, runEnd, wanted, position);
      // Block by block: zeros end the run, everything else joins it.
      let from = runEnd;
      const readTo = runEnd + got;
      while (from < readTo) {
        const to = Math.min(from + zeroBlockBytes, readTo);
        if (to - from === zeroBlockBytes && this.#isZeroBlock(from)) {
          runEnd = from;
          cutRun(true);
          zeroBytes += zeroBlockBytes;
          runStart = to;
          runEnd = to;
        } else {
          if (zeroBytes > 0) endZeros();
          runEnd = to;
        }
        from = to;
      }
      position += got;
      if (got < wanted) break;
      cutRun(false);
    }
    cutRun(true);
    endZeros();
    return { content: list.finish(), holes, bytes: position, newBytes };
  }

  #fill(file: Descriptor, into: number, wanted: number, position: number): number {
    let got = 0;
    while (got < wanted) {
      const bytes = this.#files.read(file, this.#window, into + got, wanted - got, position + got);
      if (bytes === 0) break;
      got += bytes;
    }
    return got;
  }

  #isZeroBlock(start: number): boolean {
    const window = this.#window;
    if (window[start] !== 0 || window[start + zeroBlockBytes - 1] !== 0) return false;
    const zeros = this.#zeros;
    for (let i = 0; i < zeroBlockBytes; i++) if (window[start + i] !== zeros[i]) return false;
    return true;
  }

  #findHoles(file: Descriptor, size: number): Hole[] {
    const holes: Hole[] = [];
    let position = 0;
    while (position < size) {
      const data = this.#files.nextData(file, position, size);
      if (data === undefined || data > position) {
        const end = Math.min(data ?? size, size);
        if (holes.length === holesMax) break;
        holes.push({ start: position, bytes: end - position });
        position = end;
        if (data === undefined) break;
      }
      if (position >= size) break;
      position = Math.min(this.#files.nextHole(file, position, size), size);
    }
    return holes;
  }
}

function holeEnd(hole: Hole): number {
  return hole.start + hole.bytes;
}

function hintMap(hints: readonly Hint[]): Map<string, Place> {
  const known = new Map<string, Place>();
  for (const hint of hints) known.set(idText(hint.id), hint.place);
  return known;
}

function knownNodes(hints: readonly Hint[]): Map<string, StoredListNode> {
  return new Map(hints.map((hint) => [idText(hint.id), { place: hint.place, nodeBytes: hint.bytes }]));
}
