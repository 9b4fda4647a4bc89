/**
 * The memory of all uploads to one store: the parts that are being filled and those under way, under one budget. Whoever makes bytes
 * waits in `append` until there is room, so a slow network slows down reading and never fills memory.
 *
 * Invariants:
 * - An upload that has nothing under way gets the part that it wants to fill, whatever the budget says. So no upload waits for
 *   another to go on, which may be waiting for bytes that come only after this one has gone on.
 * - What parts leave is used again. Memory that is taken anew for each part would stay until the collector runs, which sees little
 *   reason to: its own heap is small. When nothing is held any more, all of it is let go.
 */
export class UploadMemory {
  readonly #bytesMax: number;
  #heldBytes = 0;
  #free: Uint8Array<ArrayBuffer>[] = [];
  #waiting: (() => void)[] = [];

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Bytes of parts that are held now. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Whether another part of so many bytes fits into the budget. */
  hasRoom(bytes: number): boolean {
    return this.#heldBytes + bytes <= this.#bytesMax;
  }

  /** Memory for a part, to be given back. Whoever has something under way looks for room first. */
  take(bytes: number): Uint8Array<ArrayBuffer> {
    this.#heldBytes += bytes;
    const at = this.#free.findIndex(({ length }) => length === bytes);
    // Fresh memory is not resident before it is written to, so small objects take little of it.
    return this.#free.splice(at, at < 0 ? 0 : 1)[0] ?? new Uint8Array(bytes);
  }

  /** Gives back what `take` gave. */
  give(memory: Uint8Array<ArrayBuffer>): void {
    this.#heldBytes -= memory.length;
    if (this.#heldBytes === 0) this.#free = [];
    else this.#free.push(memory);
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const go of waiting) go();
  }

  /** Resolves when something is given back. */
  freed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
