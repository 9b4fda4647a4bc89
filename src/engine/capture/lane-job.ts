/**
 * What the coordinator asks of a capture lane and what it answers, as bytes: no object per file crosses a thread.
 *
 * Job: u8 kind. `read`, and `readForWatch`, which also tells of each file whether it may have a writer: varint count, then per item: varint directory descriptor, blob name, u8 zero (so that the name can be
 * used in place), u8 trust flags, 64 stat bytes, hints (varint count, then per hint: 32 B id, varint bytes, place),
 * node hints (the same, for chunk-list nodes). `finish`: varint slot that the following packs belong to.
 */
import { type ByteReader, ByteWriter } from '../model/bytes.ts';
import type { Place } from '../model/entry.ts';
import { readPlace, writePlace } from '../format/place-codec.ts';

export const laneJobKind = { read: 1, finish: 2, readForWatch: 3 } as const;

export const statBytes = 64;

/** A chunk (or chunk-list node) that the base is known to hold, so that it need not be stored again. */
export interface Hint {
  readonly id: Uint8Array;
  readonly bytes: number;
  readonly place: Place;
}

export interface ReadItem {
  readonly directory: number;
  readonly name: Uint8Array;
  /** 64 bytes of the stat record that made the coordinator ask. */
  readonly stat: Uint8Array;
  readonly hints: readonly Hint[];
  readonly nodeHints: readonly Hint[];
}

export class ReadJobWriter {
  readonly #writer: ByteWriter = new ByteWriter(64 * 1024);
  readonly #kind: number;
  #count = 0;

  constructor(kind: typeof laneJobKind.read | typeof laneJobKind.readForWatch = laneJobKind.read) {
    this.#kind = kind;
  }

  get count(): number {
    return this.#count;
  }

  add(item: ReadItem): void {
    const w = this.#writer;
    w.varint(item.directory);
    w.blob(item.name);
    w.u8(0);
    w.raw(item.stat);
    writeHints(w, item.hints);
    writeHints(w, item.nodeHints);
    this.#count++;
  }

  take(): Uint8Array {
    const head = new ByteWriter(16);
    head.u8(this.#kind);
    head.varint(this.#count);
    head.raw(this.#writer.view());
    this.#writer.reset();
    this.#count = 0;
    return head.take();
  }
}

function writeHints(w: ByteWriter, hints: readonly Hint[]): void {
  w.varint(hints.length);
  for (const hint of hints) {
    w.raw(hint.id);
    w.varint(hint.bytes);
    writePlace(w, hint.place);
  }
}

export function readHints(r: ByteReader): Hint[] {
  const hints: Hint[] = [];
  for (let count = r.varint(); count > 0; count--) {
    hints.push({ id: r.raw(32), bytes: r.varint(), place: readPlace(r) });
  }
  return hints;
}

/** How the reading of one name ended. */
export const readStatus = { stored: 0, vanished: 1, unreadable: 2, changedType: 3 } as const;

/** Bits of an answer. */
export const readFlag = {
  /** The stat at reading was not the one of the listing: the cache must not trust it. */
  moved: 1,
  /** Never held still while it was read: the entry may be torn. */
  fuzzy: 2,
  /** A writer or a writable mapping may exist and stats cannot tell: read again in every pass. */
  mapped: 4,
  /** A writer may exist, and stats can tell what it does, but no event need come of it. Only in answers to `readForWatch`. */
  writer: 8,
} as const;
