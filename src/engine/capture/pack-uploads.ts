/**
 * Pack bytes on their way to the store. A pack of the coordinator stays in memory while all of it would fit into the record;
 * beyond that, and for packs of lanes, bytes are sent on as they are made.
 *
 * Invariants: nothing is visible in the store before a pack's end; every upload is committed or aborted; the number of bytes
 * waiting is bounded by the callers awaiting what `part` returns.
 */
import { packKey } from '../format/object-keys.ts';
import type { PackSummary } from '../format/pack.ts';
import { concatBytes } from '../model/bytes.ts';
import { HoldfastError, invariant } from '../model/errors.ts';
import type { LineageName } from '../model/ids.ts';
import type { ObjectUpload, ObjectWriter } from '../ports/object-store.ts';

interface PackInFlight {
  readonly number: number;
  /** Whole so far, while it may still be inlined. */
  held: Uint8Array[] | undefined;
  bytes: number;
  upload: Promise<ObjectUpload> | undefined;
  last: Promise<void>;
  committed: Promise<void> | undefined;
}

export interface InlinePack {
  readonly summary: PackSummary;
  readonly bytes: Uint8Array;
}

export class PackUploads {
  readonly #store: ObjectWriter;
  readonly #lineage: LineageName;
  readonly #inlineBytesMax: number;
  readonly #nameOf: (pack: number) => string;
  readonly #signal: AbortSignal | undefined;
  readonly #packs = new Map<number, PackInFlight>();
  #storedBytes = 0;

  /** `nameOf` gives the name of a pack: it follows from the run's salt, the slot and the number. */
  constructor(
    store: ObjectWriter,
    lineage: LineageName,
    inlineBytesMax: number,
    nameOf: (pack: number) => string,
    signal: AbortSignal | undefined,
  ) {
    this.#store = store;
    this.#lineage = lineage;
    this.#inlineBytesMax = inlineBytesMax;
    this.#nameOf = nameOf;
    this.#signal = signal;
  }

  /** Bytes of packs made since the start. */
  get storedBytes(): number {
    return this.#storedBytes;
  }

  /**
   * Takes bytes of a pack. `mayInline` for packs of the coordinator, who may reuse the bytes at once; a lane may when the
   * promise has resolved.
   */
  part(number: number, bytes: Uint8Array, end: boolean, mayInline: boolean): Promise<void> {
    let pack = this.#packs.get(number);
    if (pack === undefined) {
      pack = {
        number,
        held: mayInline ? [] : undefined,
        bytes: 0,
        upload: undefined,
        last: Promise.resolve(),
        committed: undefined,
      };
      this.#packs.set(number, pack);
    }
    pack.bytes += bytes.length;
    this.#storedBytes += bytes.length;
    const upload = this.#nameOf(number);
    if (pack.held !== undefined) {
      if (bytes.length > 0) pack.held.push(bytes.slice());
      if (pack.bytes <= this.#inlineBytesMax) return Promise.resolve();
      const held = pack.held;
      pack.held = undefined;
      for (const piece of held) this.#append(pack, upload, piece);
    } else if (bytes.length > 0) {
      // Who may not wait for each part gets its bytes back at once.
      this.#append(pack, upload, mayInline ? bytes.slice() : bytes);
    }
    if (end) this.#end(pack);
    return pack.last;
  }

  /** Resolves when all that was given has been taken by the store. */
  async drain(): Promise<void> {
    for (const pack of this.#packs.values()) await pack.last;
  }

  /**
   * Every pack is ended: waits until those sent are durable. What is left in memory is inlined when it fits together and
   * `inline` allows it, else it is sent now.
   */
  async settle(
    summaries: readonly PackSummary[],
    inline: boolean,
  ): Promise<{ readonly uploaded: readonly PackSummary[]; readonly inlined: readonly InlinePack[] }> {
    const held = [...this.#packs.values()].filter((pack) => pack.held !== undefined);
    const heldBytes = held.reduce((sum, pack) => sum + pack.bytes, 0);
    const fits = inline && heldBytes <= this.#inlineBytesMax && held.length === this.#packs.size;
    const inlined: InlinePack[] = [];
    const uploaded: PackSummary[] = [];
    for (const summary of summaries) {
      const pack = this.#packs.get(summary.pack);
      invariant(pack !== undefined, `pack ${summary.name} was given to the store`);
      invariant(
        pack.bytes === summary.bytes,
        `pack ${summary.name} has ${summary.bytes} bytes, ${pack.bytes} were given`,
      );
      if (pack.held !== undefined) {
        const bytes = concatBytes(pack.held);
        if (fits) {
          inlined.push({ summary, bytes });
          continue;
        }
        pack.held = undefined;
        this.#append(pack, summary.name, bytes);
        this.#end(pack);
      }
      uploaded.push(summary);
    }
    for (const pack of this.#packs.values()) {
      if (pack.held !== undefined) continue;
      await pack.last;
      invariant(pack.committed !== undefined, 'every pack is ended before it is settled');
      await pack.committed;
    }
    invariant(inlined.length + uploaded.length === this.#packs.size, 'every pack has its summary');
    this.#packs.clear();
    return { uploaded, inlined };
  }

  /** Drops what is not committed. */
  async abort(): Promise<void> {
    for (const pack of this.#packs.values()) {
      pack.last.catch(() => undefined);
      pack.committed?.catch(() => undefined);
      if (pack.upload === undefined) continue;
      try {
        await (await pack.upload).abort();
      } catch {
        // The first failure is what the caller reports; what an abort leaves behind is swept by the store.
      }
    }
    this.#packs.clear();
  }

  #append(pack: PackInFlight, name: string, bytes: Uint8Array): void {
    pack.upload ??= this.#store.beginUpload(
      packKey(this.#lineage, name),
      this.#signal === undefined ? {} : { signal: this.#signal },
    );
    const upload = pack.upload;
    pack.last = pack.last.then(async () => (await upload).append(bytes));
    pack.last.catch(() => undefined);
  }

  #end(pack: PackInFlight): void {
    const upload = pack.upload;
    invariant(upload !== undefined, 'an ended pack has bytes');
    // Becoming durable waits for the disk, so it runs beside the next pack and is awaited before the commit.
    pack.committed = pack.last.then(async () => {
      const outcome = await (await upload).commit();
      if (outcome === 'exists') {
        throw new HoldfastError('E_STORE_IO', `pack ${pack.number} exists already under a name with a fresh salt`);
      }
    });
    pack.committed.catch(() => undefined);
  }
}
