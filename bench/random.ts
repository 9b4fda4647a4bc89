/**
 * Repeatable chance for the data sets: sfc32 (Chris Doty-Humphrey's Small Fast Counter), seeded by words.
 *
 * The engine's own random port is not used, because the data sets must stay byte-equal whatever the engine does.
 */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #count = 1;

  /** @param seeds any number of integers; each one changes the whole sequence */
  constructor(...seeds: readonly number[]) {
    this.#a = 0x9e3779b9 | 0;
    this.#b = 0x243f6a88 | 0;
    this.#c = 0xb7e15162 | 0;
    for (const seed of seeds) {
      this.#a ^= seed | 0;
      this.#b ^= Math.floor(seed / 2 ** 32) | 0;
      // Twelve rounds mix one seed word into all of the state; fewer leave neighbouring seeds correlated.
      for (let round = 0; round < 12; round += 1) this.word();
    }
  }

  /** @returns the next 32 bits, as an unsigned integer */
  word(): number {
    const sum = (this.#a + this.#b + this.#count) | 0;
    this.#count = (this.#count + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** @returns an integer in 0 … bound - 1; the bias of the multiplication is below 2^-20 for the bounds used here */
  below(bound: number): number {
    return Math.floor((this.word() / 2 ** 32) * bound);
  }

  /** @returns true with the probability given (0 … 1) */
  chance(probability: number): boolean {
    return this.word() < probability * 2 ** 32;
  }

  /** @returns a length whose logarithm is uniform, so that small ones are common and large ones happen */
  logUniform(min: number, max: number): number {
    return Math.round(min * (max / min) ** (this.word() / 2 ** 32));
  }

  /** @returns an approximately log-normal length with this median; `spread` is the standard deviation of the logarithm */
  logNormal(median: number, spread: number): number {
    // Sum of four uniforms: near enough to a normal distribution for file sizes.
    const sum = (this.word() + this.word() + this.word() + this.word()) / 2 ** 32 - 2;
    return Math.max(1, Math.round(median * Math.exp((sum / 0.5774) * spread)));
  }

  /** @returns one of the items; @throws RangeError when there is none */
  pick<Item>(items: readonly Item[]): Item {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new RangeError('nothing to pick from');
    return item;
  }
}
