import { createHash } from 'node:crypto';
import type { RandomSource } from '../../src/engine/ports/random.ts';

/** Chance that follows from a text: the same text, the same numbers, on every machine (generator sfc32). */
export class Chance implements RandomSource {
  readonly #text: string;
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(text: string) {
    this.#text = text;
    const seed = createHash('sha256').update(text).digest();
    this.#a = seed.readInt32LE(0);
    this.#b = seed.readInt32LE(4);
    this.#c = seed.readInt32LE(8);
  }

  /** Chance of its own for one purpose, so that what others draw does not change it. */
  of(purpose: string): Chance {
    return new Chance(`${this.#text}/${purpose}`);
  }

  /** A whole number from 0 up to, without, 2^32. */
  next(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (this.#c << 21) | (this.#c >>> 11);
    this.#c = (this.#c + sum) | 0;
    return sum >>> 0;
  }

  /** A whole number from 0 up to, without, `end`. */
  below(end: number): number {
    return Math.floor((this.next() / 2 ** 32) * end);
  }

  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  happens(share: number): boolean {
    return this.next() / 2 ** 32 < share;
  }

  pick<Item>(items: readonly Item[]): Item {
    if (items.length === 0) throw new Error('there is nothing to pick from');
    return items[this.below(items.length)] as Item;
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i += 4) {
      const word = this.next();
      for (let j = i; j < i + 4 && j < length; j++) bytes[j] = word >>> (8 * (j - i));
    }
    return bytes;
  }
}
