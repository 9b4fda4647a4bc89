/**
 * The names of one directory, collected as bytes and put in order without one JavaScript string: a directory of a million
 * names costs its bytes and 20 bytes more for each name while it is being sorted.
 *
 * Order: four bytes of each name, past what all names of the range share, stand in the upper half of a 64-bit integer and
 * the number of the name in the lower half; the engine's own sort of plain integers orders them (15 to 60 ns a name against
 * 300 for a comparison function), and only runs of equal integers are looked at again, four bytes further on.
 */

/** Up to this many names an insertion sort is faster than filling keys. */
const insertionMax = 12;
/** Scratch memory above this is given back after a large directory. */
const keptNamesBytes: number = 1024 * 1024;

export class DirectoryNames {
  #names: Uint8Array = new Uint8Array(16 * 1024);
  #length = 0;
  /** Start of name i in `#names`; one more entry than names, for the end of the last. */
  #starts: Uint32Array = new Uint32Array(1024);
  #count = 0;
  #keys: BigUint64Array = new BigUint64Array(1024);
  /** The same memory: low half (number of the name), high half (key). */
  #halves: Uint32Array = new Uint32Array(this.#keys.buffer);

  /** Names so far, duplicates included. */
  get count(): number {
    return this.#count;
  }

  reset(): void {
    this.#count = 0;
    this.#length = 0;
    if (this.#names.length > keptNamesBytes) {
      this.#names = new Uint8Array(16 * 1024);
      this.#starts = new Uint32Array(1024);
      this.#keys = new BigUint64Array(1024);
      this.#halves = new Uint32Array(this.#keys.buffer);
    }
  }

  /** Adds the name at `start`, which must be ended by a zero byte before the end of `source`. */
  add(source: Uint8Array, start: number): void {
    // A name has at most 255 bytes on Linux; FUSE allows 1024.
    if (this.#length + 1100 > this.#names.length) this.#growNames();
    if (this.#count + 2 > this.#starts.length) this.#growStarts();
    const names = this.#names;
    let at = this.#length;
    this.#starts[this.#count++] = at;
    let byte = source[start] as number;
    for (let from = start; byte !== 0; byte = source[++from] as number) names[at++] = byte;
    names[at++] = 0;
    this.#length = at;
    this.#starts[this.#count] = at;
  }

  /**
   * Sorts, drops duplicates (a directory that changes while it is read may give a name twice), and writes the names one
   * after the other, each with its zero byte, to `into` from `intoStart`, where there must be room for `bytes`. Position
   * (from `intoStart`) and length without the zero of name i go to `records[i * recordWords + startWord]` and the word
   * after it. Returns the number of names.
   */
  pack(into: Uint8Array, intoStart: number, records: Uint32Array, recordWords: number, startWord: number): number {
    const count = this.#count;
    const names = this.#names;
    const starts = this.#starts;
    this.#sort();
    const halves = this.#halves;
    let packed = 0;
    let at = intoStart;
    let previousStart = 0;
    let previousBytes = -1;
    for (let i = 0; i < count; i++) {
      const index = halves[2 * i] as number;
      const start = starts[index] as number;
      const bytes = (starts[index + 1] as number) - start - 1;
      if (bytes === previousBytes && sameBytes(names, previousStart, start, bytes)) continue;
      previousStart = start;
      previousBytes = bytes;
      const word = packed * recordWords + startWord;
      records[word] = at - intoStart;
      records[word + 1] = bytes;
      for (let from = start; from <= start + bytes; from++) into[at++] = names[from] as number;
      packed++;
    }
    return packed;
  }

  /** Bytes of all names with their zeros, duplicates included. */
  get bytes(): number {
    return this.#length;
  }

  #sort(): void {
    const count = this.#count;
    if (this.#keys.length < count) {
      this.#keys = new BigUint64Array(Math.max(count, this.#keys.length * 2));
      this.#halves = new Uint32Array(this.#keys.buffer);
    }
    const halves = this.#halves;
    for (let i = 0; i < count; i++) halves[2 * i] = i;
    this.#sortRange(0, count, 0);
  }

  /** Sorts the names at [from, to) of the order; all share their first `depth` bytes, none of them zero. */
  #sortRange(from: number, to: number, depth: number): void {
    if (to - from <= insertionMax) {
      this.#insertionSort(from, to, depth);
      return;
    }
    const names = this.#names;
    const starts = this.#starts;
    const halves = this.#halves;
    const first = starts[halves[2 * from] as number] as number;
    let shared = (starts[(halves[2 * from] as number) + 1] as number) - first - 1;
    for (let i = from + 1; i < to && shared > depth; i++) {
      const other = starts[halves[2 * i] as number] as number;
      let same = depth;
      // The zero at the end of the shorter name ends this too.
      while (same < shared && names[first + same] === names[other + same]) same++;
      shared = same;
    }
    for (let i = from; i < to; i++) {
      let at = (starts[halves[2 * i] as number] as number) + shared;
      let key = 0;
      let byte = names[at] as number;
      if (byte !== 0) {
        key = byte << 24;
        byte = names[++at] as number;
        if (byte !== 0) {
          key |= byte << 16;
          byte = names[++at] as number;
          if (byte !== 0) key |= (byte << 8) | (names[at + 1] as number);
        }
      }
      halves[2 * i + 1] = key;
    }
    this.#keys.subarray(from, to).sort();
    let runStart = from;
    let runKey = halves[2 * from + 1] as number;
    for (let i = from + 1; i <= to; i++) {
      const key = i < to ? (halves[2 * i + 1] as number) : -1;
      if (key === runKey) continue;
      // A key that ends with zero has the end of the name in it: such names are equal.
      if (i - runStart > 1 && (runKey & 0xff) !== 0) this.#sortRange(runStart, i, shared + 4);
      runStart = i;
      runKey = key;
    }
  }

  #insertionSort(from: number, to: number, depth: number): void {
    const names = this.#names;
    const starts = this.#starts;
    const halves = this.#halves;
    for (let i = from + 1; i < to; i++) {
      const index = halves[2 * i] as number;
      const start = (starts[index] as number) + depth;
      let hole = i;
      for (; hole > from; hole--) {
        const other = halves[2 * hole - 2] as number;
        let a = (starts[other] as number) + depth;
        let b = start;
        while (names[a] === names[b] && names[b] !== 0) {
          a++;
          b++;
        }
        if ((names[a] as number) <= (names[b] as number)) break;
        halves[2 * hole] = other;
      }
      halves[2 * hole] = index;
    }
  }

  #growNames(): void {
    const grown = new Uint8Array(this.#names.length * 2);
    grown.set(this.#names.subarray(0, this.#length));
    this.#names = grown;
  }

  #growStarts(): void {
    const grown = new Uint32Array(this.#starts.length * 2);
    grown.set(this.#starts);
    this.#starts = grown;
  }
}

function sameBytes(names: Uint8Array, a: number, b: number, length: number): boolean {
  for (let i = length - 1; i >= 0; i--) if (names[a + i] !== names[b + i]) return false;
  return true;
}
